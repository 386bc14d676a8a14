"""What can go wrong, in one tree.

LineageError
├── ConfigurationError     the user's mistake: exit code 2, no traceback
├── SourceError            a platform could not be read; the next cycle tries again
│   ├── AuthFailed         401 or 403, or the identity provider refused: slow retry, shown in `wrong`
│   ├── Throttled          429 or a quota used up: wait `after` seconds
│   ├── Unavailable        no connection, a time-out, a 5xx: back off
│   ├── BadAnswer          an answer that cannot be read: HTML, broken JSON, wrong shape
│   └── NotFound           the requested object does not exist (or is hidden from this token)
├── TriggerError           a run could not be started, or it is unknown whether it was
└── LedgerError            the store
    ├── LeaseLost          another process holds the lease: nothing was committed
    ├── ShardsChanged      the sink is divided into another number of shards: the lease was not taken
    ├── LeaseLapsed        the lease was not renewed in time: another process may hold it
    ├── LedgerLocked       another process writes this ledger
    ├── LedgerCorrupt      the file is not a usable ledger
    ├── LedgerLost         the file was deleted or replaced while it was open
    ├── LedgerForeign      the file is another program's
    ├── LedgerMissing      there is no ledger yet
    ├── LedgerUnmigrated   an older version of this program wrote it, and the service was not started since
    ├── LedgerUnreachable  PostgreSQL does not answer: trying again may help
    └── LedgerTooNew       a newer version of this program wrote it

Every message says what was tried, on what and what came back; none contains the program's secrets. Pass a vendor's text
through `collector.redaction` before you repeat it.
"""


class LineageError(Exception):
    """Base of all errors that this program raises on purpose."""

    def __init__(self, message: str) -> None:
        from collector.secret_registry import secret_registry  # noqa: PLC0415 - the command line's --help needs no more than the names

        super().__init__(secret_registry.hidden(message))


class ConfigurationError(LineageError):
    """One or more mistakes in the configuration, a message each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class SourceError(LineageError):
    """A platform could not be read."""


class AuthFailed(SourceError):
    """The platform or its identity provider refused the credentials."""


class Throttled(SourceError):
    """The platform limits requests. `after` is in seconds, None where it gave no number."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Unavailable(SourceError):
    """No usable answer, and trying again may help. `sent` says whether the request may have had an effect."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswer(SourceError):
    """An answer came that this program cannot read."""


class NotFound(SourceError):
    """The platform does not have the requested object."""


class TriggerError(LineageError):
    """A run could not be started. `doubtful` when it may have been started all the same."""

    def __init__(self, message: str, *, doubtful: bool = False) -> None:
        super().__init__(message)
        self.doubtful = doubtful


class LedgerError(LineageError):
    """An operation of the store failed."""


class LeaseLost(LedgerError):
    """The lease went to another holder; the commit was rolled back."""


class LeaseGivenBack(LeaseLost):
    """The lease was given back for another replica, as this one held more than its share."""


class ShardsChanged(LedgerError):
    """The sink has, or is to have, another number of shards; the lease was not taken."""


class LeaseLapsed(LedgerError):
    """The lease could not be renewed in time. Work under it was stopped; it may still be renewed."""


class LedgerLocked(LedgerError):
    """Another process has the ledger open for writing: a service, or a command that will end."""

    def __init__(self, message: str, *, by_command: bool = False) -> None:
        super().__init__(message)
        self.by_command = by_command


class LedgerCorrupt(LedgerError):
    """The ledger's file cannot be used."""


class LedgerLost(LedgerError):
    """The ledger's file, its log or its lock was deleted or replaced while it was open: nothing is acknowledged any more."""


class LedgerMissing(LedgerError):
    """There is no ledger yet: it is created at the first start of the service."""


class LedgerUnmigrated(LedgerError):
    """The ledger was written by an older version of this program: the service migrates it when it starts."""


class LedgerUnreachable(LedgerError):
    """The database that holds the ledger cannot be reached, or cannot be used now; it may come back."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version of this program."""


class LedgerForeign(LedgerError):
    """The file is one of another program."""
