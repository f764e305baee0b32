"""The exceptions that end a command early: refused, or asked to stop. Their messages are for the user."""


class Refusal(Exception):
    """The input can't be used. The message says what is wrong, where, and the fix, in a few lines.

    The command line prints the message alone and exits with code 2; `--debug` shows the traceback.
    """


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the message says what is saved and how to go on."""
