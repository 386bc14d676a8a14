"""Errors of PostgreSQL and libpq as messages for people: no values of rows, no passwords, and what to do."""

from sqlalchemy.exc import DBAPIError

from collector.errors import LedgerError, LedgerUnreachable
from collector.reports import WriteFailure

REPEATABLE = frozenset({"40001", "40P01"})
"""A transaction that PostgreSQL ended in favour of another one: it may succeed if it is repeated."""

_CREDENTIALS = "check the user in ledger.url and ledger.password or ledger.password_file"
_TLS = "check sslmode, sslrootcert, sslcert and sslkey in ledger.url"
_MORE = "raise max_connections, or put pgbouncer in front of it"
_REMEDIES = (
    ("no password supplied", "set ledger.password_file or ledger.password"),
    ("password authentication failed", _CREDENTIALS),
    ("SASL authentication failed", _CREDENTIALS),
    ("pg_hba.conf", "allow this user, host and encryption for the database in the server's pg_hba.conf"),
    ("too many connections for", "raise the connection limit of the user or the database"),
    ("too many clients", _MORE),
    ("remaining connection slots", _MORE),
    ("max_client_conn", "raise max_client_conn of pgbouncer"),
    ("permission denied for database", "GRANT CONNECT on the database to the user in ledger.url"),
    ("not currently accepting connections", "let it: ALTER DATABASE with ALLOW_CONNECTIONS true"),
    ("not permitted to log in", "ALTER ROLE with LOGIN, or check the user in ledger.url"),
    ("the database system is", "wait until it has started, or see in its log what prevents that"),
    ("role", "check the user in ledger.url"),
    ("database", "create the database, or check its name in ledger.url"),
    (
        "certificate verify failed",
        "the server's certificate has expired or is not from an authority in sslrootcert of ledger.url",
    ),
    ("does not match host name", "write that name of the server in ledger.url, or give the server another certificate"),
    ("private key file", "check the file in sslkey of ledger.url"),
    ("certificate", _TLS),
    ("SSL", _TLS),
    ("invalid URI query parameter", "check the parameters in ledger.url"),
    ("unsupported startup parameter", "check the parameters in ledger.url"),
    ("", "check that it runs, and the host and port in ledger.url"),
)
"""By a part of the message, the first that fits."""
_NO_PRIMARY = "none of the hosts in ledger.url takes writes: promote a standby, or add the primary's host"
_FAILURES = {
    "53100": WriteFailure.FULL,
    "25006": WriteFailure.READ_ONLY,
    "53300": WriteFailure.UNREACHABLE,
    "55P03": WriteFailure.LOCKED,
    "57014": WriteFailure.LOCKED,
    "58030": WriteFailure.IO,
}
_DENIED = "42501"
GRANT = (
    "the user in ledger.url must own the schema with all that is in it, or be granted CREATE on the database to make it"
)
_INTEGRITY, _CONNECTION, _SHUTDOWN = "23", "08", "57P"
READ_ONLY = "25006"
_UNABLE = (READ_ONLY, "53", "57014", "55P03", "58")
"""A standby; out of disk, memory or connections; a time-out, a lock; errors of its disk. Only the server can mend these."""


def explained(name: str, error: Exception) -> Exception:
    """An error of the database as `LedgerError`; any other error unchanged."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    if is_away(error):
        return LedgerUnreachable(f"{name} does not answer: {said(error.orig)}; nothing was committed")
    if code(error).startswith(_UNABLE):
        return LedgerUnreachable(f"{name} cannot be used now: {said(error.orig)}; nothing was committed")
    if code(error) == _DENIED:
        return LedgerError(f"{name}: {said(error.orig)}; {GRANT}; nothing was committed")
    return LedgerError(f"{name}: {said(error.orig)}; nothing was committed")


def refused(name: str, error: BaseException) -> LedgerUnreachable:
    """A connection could not be made."""
    words = said(error)
    remedy = next(remedy for sign, remedy in _REMEDIES if sign in words)
    if "session is read-only" in str(error):  # of one host, while the others may be down
        remedy = _NO_PRIMARY
    return LedgerUnreachable(f"{name} cannot be reached: {words}; {remedy}")


def said(error: BaseException) -> str:
    """The first line of the message: the details may repeat the values of rows."""
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    if primary:
        return str(primary)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith(("Is the server", "Multiple connection", "HINT", "DETAIL"))]
    return (causes[0] if causes else type(error).__name__).rstrip(":")


def code(error: BaseException) -> str:
    """The SQLSTATE, empty where there is none."""
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


def is_away(error: DBAPIError) -> bool:
    """The server is stopping, or the connection is lost: another try may find it back."""
    return error.connection_invalidated or code(error).startswith((_CONNECTION, _SHUTDOWN))


def failure(error: BaseException) -> WriteFailure | None:
    """Why it could not be written; None for invalid values, and for errors that do not come from the database."""
    if isinstance(error, LedgerUnreachable):
        return WriteFailure.UNREACHABLE
    if not isinstance(error, DBAPIError) or code(error).startswith(_INTEGRITY):
        return None
    return WriteFailure.UNREACHABLE if is_away(error) else _FAILURES.get(code(error), WriteFailure.OTHER)
