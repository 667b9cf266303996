"""Every error that Ada raises on purpose.

AdaError
├── BadInput            the caller sent something that cannot be used (HTTP 4xx)
│   ├── NotFound        the thing named does not exist (HTTP 404)
│   └── Conflict        the thing cannot be done in this state (HTTP 409)
├── BadSetting          a key or value in the settings cannot be used
├── BadModel            a model or adapter folder cannot be used
├── JournalError        the journal cannot be read or written
│   └── BadIndex        the index over the vectors is damaged; it can be filled anew from the journal
├── WorkerDied          a child process ended in the middle of a request
└── Unavailable         the daemon cannot be reached, or cannot serve just now (HTTP 503)
"""


class AdaError(Exception):
    """Something went wrong. `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field


class BadInput(AdaError):
    """The caller sent something that cannot be used."""


class NotFound(BadInput):
    """The thing named does not exist."""


class Conflict(BadInput):
    """The thing cannot be done in this state."""


class BadSetting(AdaError):
    """A key or value in the settings cannot be used."""


class BadModel(AdaError):
    """A model or adapter folder cannot be used."""


class JournalError(AdaError):
    """The journal cannot be read or written."""


class BadIndex(JournalError):
    """The index over the vectors is damaged; it can be filled anew from the journal."""


class WorkerDied(AdaError):
    """A child process ended in the middle of a request."""


class Unavailable(AdaError):
    """The daemon cannot be reached, or cannot serve just now."""
