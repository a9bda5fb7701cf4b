"""What can go wrong with a tokenizer.

    TokenizerError
    ├── TokenizerConfigError   an option has a value that cannot work         (exit code 2)
    ├── TokenizerDataError     the text cannot fill what was asked of it      (exit code 3)
    └── TokenizerFileError     a file is missing or is no tokenizer of ours   (exit code 4)

A message says what was wrong, where, and how to mend it, in one line.
"""

__all__ = ["TokenizerConfigError", "TokenizerDataError", "TokenizerError", "TokenizerFileError"]


class TokenizerError(Exception):
    """Any fault that a user of the package can mend."""


class TokenizerConfigError(TokenizerError):
    """An option has a value that cannot work."""


class TokenizerDataError(TokenizerError):
    """The text cannot fill what was asked of it."""


class TokenizerFileError(TokenizerError):
    """A file is missing, unreadable, or not a tokenizer written by this package."""
