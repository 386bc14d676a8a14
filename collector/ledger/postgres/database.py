"""Where the ledger is in PostgreSQL, and connections to it.

Nothing is set for a session: each transaction begins with what it needs, so that a pooler may give the next one another
connection (pgbouncer in transaction mode). It begins with one round trip, which also shows whether the connection is still good: `is_stale`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from collector.errors import ConfigurationError, LedgerUnreachable
from collector.ledger.postgres import faults

if TYPE_CHECKING:
    import psycopg

    Connected = psycopg.Connection[Any]

_DEFAULTS = {
    "application_name": "lineage-collector",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""Unless the address says otherwise: a peer that is gone is noticed within half a minute."""
_IDLE_WITHIN = "10s"
"""A process that was stopped inside a transaction keeps its locks no longer than that."""
_LONGEST = "60s"
_BEGIN = "BEGIN"
_NO_DRIVER = (
    "ledger.url: the package psycopg is not installed, so PostgreSQL cannot be reached; "
    "install it by: pip install 'psycopg[binary]', or leave the ledger in a file (ledger.path)"
)


def is_stale(error: DBAPIError) -> bool:
    """Whether a connection of the pool was lost before the transaction began, as after a restart of the server: nothing was done,
    and the next attempt gets a new one.
    """
    return error.connection_invalidated and (error.statement or "").startswith(_BEGIN)


@dataclass(frozen=True, slots=True)
class Database:
    """`url` is a libpq address without a password. `password` is called for each connection, as it may rotate."""

    url: str
    schema: str
    password: Callable[[], str | None] = field(repr=False, default=lambda: None)
    notify: bool = False
    """Whether commits are notified to other processes."""

    @property
    def name(self) -> str:
        """For people."""
        return f"ledger {self.url.partition('?')[0]}, schema {self.schema}"

    def engine(
        self,
        connections: int,
        *,
        writes: bool,
        longest: str = _LONGEST,
        connect: "Callable[[], Connected] | None" = None,
    ) -> Engine:
        """For up to so many threads. `longest` is what a statement may take, `0` for any time. `connect` is called in place
        of ours. Raises `ConfigurationError` where the driver is not installed.
        """
        if find_spec("psycopg") is None:
            raise ConfigurationError([_NO_DRIVER])
        made = create_engine(
            "postgresql+psycopg://",
            creator=connect or self.connect,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_use_lifo=True,
            pool_recycle=1800,
            hide_parameters=True,
            use_native_hstore=False,
        )
        begin = self._begin(_BEGIN if writes else f"{_BEGIN} READ ONLY", longest)

        @event.listens_for(made, "begin")
        def _begin(conn: Connection) -> None:
            conn.exec_driver_sql(begin, execution_options={"no_parameters": True})

        return made

    def _begin(self, begin: str, longest: str) -> str:
        """Of each transaction, in one round trip as it has no parameters. The schema's name was checked."""
        return (
            f"{begin}; SET LOCAL search_path = \"{self.schema}\"; SET LOCAL statement_timeout = '{longest}'; "
            f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_WITHIN}'"
        )

    @staticmethod
    def error() -> type[Exception]:
        """Of the driver, which is loaded for a ledger in PostgreSQL alone."""
        import psycopg  # noqa: PLC0415

        return psycopg.Error

    @staticmethod
    def is_silent(error: LedgerUnreachable) -> bool:
        """Whether the server did not answer to who would connect, until it was too late."""
        import psycopg  # noqa: PLC0415

        return isinstance(error.__cause__, psycopg.errors.ConnectionTimeout)

    def connect(self) -> "Connected":
        """Raises `LedgerUnreachable`."""
        import psycopg  # noqa: PLC0415 - for a ledger in PostgreSQL alone
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

        try:
            words = {**_DEFAULTS, **conninfo_to_dict(self.url)}
            if (password := self.password()) is not None:
                words["password"] = password
            # the engine begins each transaction by itself
            return psycopg.connect(**words, prepare_threshold=None, autocommit=True)  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise faults.refused(self.name, error) from error
