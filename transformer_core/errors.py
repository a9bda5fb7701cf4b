"""What can go wrong in the core.

    TransduceError
    ├── ConfigError        an option has a value that cannot work, alone or beside another   (exit code 2)
    ├── DataError          input text or data files are missing, malformed or do not match   (exit code 3)
    │   └── LineError      one line of the input, though those before it are as they should be
    ├── ModelError         a model or checkpoint is missing, damaged or incompatible         (exit code 4)
    ├── OutOfMemoryError   the smallest piece of work does not fit into memory               (exit code 5)
    ├── TrainingError      training cannot go on (diverged, for example)                     (exit code 1)
    └── Interrupted        a signal ended the work after everything was saved                (exit code 128 + signal)

A message says what was wrong, where (file:line where there is one), and how to mend it, in one line.
"""

__all__ = [
    "ConfigError",
    "DataError",
    "Interrupted",
    "LineError",
    "ModelError",
    "OutOfMemoryError",
    "TrainingError",
    "TransduceError",
]


class TransduceError(Exception):
    """Any fault that a user can mend."""


class ConfigError(TransduceError):
    """An option has a value that cannot work."""


class DataError(TransduceError):
    """Input is missing, malformed, or does not match its partner."""


class LineError(DataError):
    """One line of the input cannot be worked on.

    Attributes:
        line_number: its place in the whole input, from 1.
    """

    def __init__(self, line_number: int, message: str) -> None:
        super().__init__(message)
        self.line_number = line_number


class ModelError(TransduceError):
    """A model or checkpoint is missing, damaged, or incompatible."""


class OutOfMemoryError(TransduceError):
    """The smallest piece of work does not fit into memory."""


class TrainingError(TransduceError):
    """Training cannot go on."""


class Interrupted(TransduceError):
    """A signal ended the work after everything was saved.

    Attributes:
        signal_number: the signal (2 SIGINT, 15 SIGTERM); the exit code is 128 + this.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number
