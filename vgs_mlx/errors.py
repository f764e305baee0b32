"""How a command ends that does not finish: refused, or asked to stop. Both messages are meant to be read."""


class Refusal(Exception):
    """The input can't be used. The message says what is wrong, where, and the fix, in a few lines.

    The command line prints the message alone and exits with code 2; `--debug` shows the traceback.
    """


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the message says what is saved and how to go on."""
