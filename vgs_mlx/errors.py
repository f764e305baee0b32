"""The one exception that users are meant to read."""


class Refusal(Exception):
    """The input can't be used. The message says what is wrong, where, and the mend, in a few lines.

    The command line prints the message alone and exits with code 2; `--debug` shows the traceback.
    """
