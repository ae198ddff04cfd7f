"""What a user can correct: an error that is told in one sentence, without a traceback, and its exit status.

Every other exception is a fault of the program, a `ValueError` of our own included, and keeps its traceback.
"""


class UserError(ValueError):
    """Bad input: a flag, a config, a file. The message says what was expected, what came, and what to do."""

    exit_status = 2


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder of the user that is not there; the message says which stage or command makes it."""


class CannotWriteError(UserError, OSError):
    """A full or read-only disk, or a file that another process holds; what was finished before is intact."""

    exit_status = 4
