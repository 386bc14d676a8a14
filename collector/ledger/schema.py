"""The tables, for SQLite and PostgreSQL, and the few expressions that the two spell differently.

Times are epoch milliseconds. A change here needs a migration in `migrations/versions` and its number in `REVISIONS`. Indexes of
some rows have the same condition in PostgreSQL; the migrations, which make each ledger there, say so. To say it here, too, would
load SQLAlchemy's dialect for it at each start: 0.1 s and 5 MiB.
"""

from typing import Any

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    TypeDecorator,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

REVISIONS = tuple(f"{number:04}" for number in range(1, 20))
"""Every migration, oldest first."""

APPLICATION_ID = 0x4C6E6721
"""In the file's header, so that a ledger can be distinguished from another program's SQLite file."""

metadata = MetaData()

_Id = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite makes only an INTEGER PRIMARY KEY the row id."""


class Text(TypeDecorator[str]):
    """Any text, as both databases can store it, and in what is compared with it."""

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def storable(words: str) -> str:
    """Without NUL, which PostgreSQL refuses, and with a question mark for half a surrogate pair, which both refuse."""
    if "\0" not in words and words.isascii():
        return words
    return words.encode("utf-8", "replace").decode().replace("\0", "")


def _numbered() -> Column[int]:
    """A key of our own making; with `sqlite_autoincrement` a number never comes back."""
    return Column("id", _Id, Identity(), primary_key=True)


source = Table(
    "source",
    metadata,
    _numbered(),
    Column("name", Text, nullable=False, unique=True),
    Column("cursor", Text),
    Column("polled_at", BigInteger),
    Column("hinted_at", BigInteger),
    Column("account", Text),  # fingerprint of the account on its platform; NULL until a start that knows it
    Column("lookback_ms", BigInteger),  # how far it looked back when it was last configured
    Column("retired_at", BigInteger),  # it left the configuration
    Column("event_bytes", BigInteger, nullable=False, server_default=text("0")),  # of the events of its runs
)

sink = Table(
    "sink",
    metadata,
    _numbered(),
    Column("name", Text, nullable=False, unique=True),
    Column("filter", Text, nullable=False),  # the kinds of event it wants, sorted, with commas
    Column("since_event", BigInteger, nullable=False),  # the first event it was there for
    Column("until_event", BigInteger),  # the first event it was not there for, while retired
    Column("unclean_at", BigInteger),  # its lease was taken over from a holder that had not given it back
    Column("retired_at", BigInteger),  # it left the configuration
    Column("refused", Integer, nullable=False, server_default=text("0")),  # events since it last took one
    Column("refused_cause", Text),  # of the last of them
    Column("shards", Integer, nullable=False, server_default=text("1")),  # how many leases share its strands
    Column("shards_next", Integer),  # how many there will be once nobody holds one of these
)

memory = Table(
    "memory",
    metadata,
    Column("source_id", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),  # the platform's adapter makes it
    Column("value", Text, nullable=False),
    Column("noted_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # 0 once given back
    Column("since", BigInteger),  # when its holder took it
)

replica = Table(
    "replica",
    metadata,
    Column("id", Text, primary_key=True),  # the holder's name in its leases
    Column("version", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),  # of its configuration, without secrets
    Column("leases", Text, nullable=False),  # those it could hold, as JSON: what is in its configuration
    Column("started", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),  # by the database's clock
    Column("shards", Text),  # as JSON, how many its sinks have, of those with several; NULL where it knows none
    sqlite_with_rowid=False,
)

run = Table(
    "run",
    metadata,
    _numbered(),
    Column("source_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("run_uuid", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("strand_id", BigInteger, nullable=False),  # id of the root run, fixed at the first commit
    Column("parent_id", BigInteger),
    Column("depth", Integer, nullable=False),  # 0 for a root
    Column("last_seq", Integer, nullable=False),  # of its strand, kept on the root
    Column("state", Text, nullable=False),
    Column("raw_state", Text),
    Column("started_at", BigInteger),  # eventTime of the START that was made
    Column("ended_at", BigInteger),  # eventTime of the terminal event that was made
    Column("last_event_time", BigInteger),
    Column("seen_at", BigInteger, nullable=False),  # at the last writing of this row; for open runs see `watch`
    Column("updated_at", BigInteger, nullable=False),  # rises with every writing of this row
    Column("poll_due_at", BigInteger),  # unused since `watch`
    Column("misses", Integer, nullable=False, server_default=text("0")),  # as `seen_at`
    Column("enrich_until", BigInteger),
    Column("abandoned_at", BigInteger),
    Column("detail", Text, nullable=False),  # versioned JSON of the whole run
    Column("only_sinks", Text),  # on a root: names of the sinks that alone get its strand, as JSON; see `restriction`
    UniqueConstraint("source_id", "key"),
    sqlite_autoincrement=True,
)
_open = text("ended_at IS NULL")
Index(
    "run_open",
    run.c.source_id,
    run.c.state,
    run.c.abandoned_at,
    run.c.ended_at,
    sqlite_where=_open,
)
_child = text("parent_id IS NOT NULL")
Index("run_id", run.c.run_uuid, unique=True)
BEGAN = func.coalesce(run.c.started_at, run.c.last_event_time, run.c.seen_at)
"""When a run started; one that has not started yet: when it was queued, as far as that is known."""
Index("run_began", BEGAN, run.c.id)
Index("run_job", run.c.source_id, run.c.job, BEGAN, run.c.id)
Index("run_child", run.c.parent_id, sqlite_where=_child)

watch = Table(  # what each look at an open run moves, in rows so short that hundreds of them are one page
    "watch",
    metadata,
    Column("run_id", _Id, ForeignKey("run.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("source_id", Integer, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),  # when to look again; when last seen, if it wants every cycle; null once it ended
    Column("misses", Integer, nullable=False),
)
_due = text("due_at IS NOT NULL")
Index("watch_due", watch.c.source_id, watch.c.due_at, sqlite_where=_due)

event = Table(
    "event",
    metadata,
    _numbered(),
    Column("strand_id", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # when it was committed
    Column("happened_at", BigInteger, nullable=False),  # its eventTime
    Column("fault", Text),  # why it is not valid: it is parked for every sink, and sent only on a person's request
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("strand_id", "seq"),
    sqlite_autoincrement=True,
)

lane = Table(
    "lane",
    metadata,
    Column("sink_id", Integer, primary_key=True, autoincrement=False),
    Column("strand_id", BigInteger, primary_key=True, autoincrement=False),
    Column("source_id", Integer, nullable=False),
    Column("next_seq", Integer, nullable=False),  # the head: what is sent next
    Column("last_seq", Integer, nullable=False),
    Column("resume_seq", Integer),  # the head is a parked event sent again; then it goes on here
    Column("due_at", BigInteger, nullable=False),  # commit time of the head, or time of its next attempt
    Column("since", BigInteger, nullable=False),  # commit time of the head
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("cause", Text),
    sqlite_with_rowid=False,
)
Index("lane_due", lane.c.sink_id, lane.c.due_at, lane.c.strand_id)
_retried = text("attempts > 0")
Index("lane_retry", lane.c.sink_id, lane.c.since, sqlite_where=_retried)

parked = Table(
    "parked",
    metadata,
    Column("sink_id", Integer, primary_key=True, autoincrement=False),
    Column("strand_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("run_id", BigInteger, nullable=False),
    Column("source_id", Integer, nullable=False),
    Column("parked_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("superseded_at", BigInteger),  # a later event of its run was acknowledged: never sent again
    Column("retry_at", BigInteger),  # a person requested that it be sent again
    sqlite_with_rowid=False,
)

doubt = Table(
    "doubt",
    metadata,
    Column("sink_id", Integer, primary_key=True, autoincrement=False),
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("since", BigInteger, nullable=False),
    Column("check_at", BigInteger),  # when to look, once the terminal event was acknowledged
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)
_checked = text("check_at IS NOT NULL")
Index("doubt_due", doubt.c.sink_id, doubt.c.check_at, sqlite_where=_checked)

acknowledgement = Table(  # when a sink acknowledged an event, the last time if it was sent again
    "acknowledgement",
    metadata,
    Column("sink_id", Integer, primary_key=True, autoincrement=False),
    Column("strand_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

request = Table(
    "request",
    metadata,
    _numbered(),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),  # name of the lease whose holder does it
    Column("body", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("answer", Text),
    Column("done_at", BigInteger),
    Column("part_of", BigInteger),  # the request to a whole sink of which this is the part of one shard
    sqlite_autoincrement=True,
)
_undone = text("done_at IS NULL")
_part = text("part_of IS NOT NULL")
Index("request_part", request.c.part_of, sqlite_where=_part)
_backfill = text("kind = 'backfill'")
Index("request_backfill", request.c.target, request.c.id, sqlite_where=_backfill)
Index("request_open", request.c.target, request.c.id, sqlite_where=_undone)

tally = Table(
    "tally",
    metadata,
    Column("source_id", Integer, primary_key=True, autoincrement=False),
    Column("sink_id", Integer, primary_key=True, autoincrement=False),
    Column("pending", BigInteger, nullable=False),
    Column("parked", BigInteger, nullable=False),
    Column("pending_bytes", BigInteger, nullable=False, server_default=text("0")),  # of the events that are pending
    sqlite_with_rowid=False,
)

job = Table(
    "job",
    metadata,
    Column("source_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("run_key", Text, nullable=False),  # its last run, the one that began last
    Column("run_uuid", Text, nullable=False),
    Column("run_at", BigInteger, nullable=False),  # when that one began, or was queued
    Column("state", Text, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("succeeded", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("canceled", BigInteger, nullable=False),
    Column("duration_ms_sum", BigInteger, nullable=False),
    Column("description", Text),
    Column("updated_at", BigInteger, nullable=False),
    Column("schedule", Text),
    Column("inputs", Text),  # datasets of its last run that succeeded, as JSON, for those that do not name them
    Column("outputs", Text),
    Column("duration_bounded", Boolean, nullable=False, server_default=false()),  # of its last run
    sqlite_with_rowid=False,
)

dataset_use = Table(  # as `job.inputs` and `job.outputs` say, by dataset
    "dataset_use",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("source_id", Integer, primary_key=True, autoincrement=False),
    Column("job", Text, primary_key=True),
    Column("is_output", Boolean, primary_key=True),
    sqlite_with_rowid=False,
)
Index("dataset_use_job", dataset_use.c.source_id, dataset_use.c.job)

skip = Table(
    "skip",
    metadata,
    Column("source_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("cause", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


activity = Table(  # what a source or sink did in a minute; as its lease is named, so that it needs no row elsewhere
    "activity",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("ok", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("took_ms", BigInteger, nullable=False),
    Column("longest_ms", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("parked", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("throttled", BigInteger, nullable=False),
    Column("remaining", Integer),
    Column("needed", Integer),
    Column("allowed", Integer),
    sqlite_with_rowid=False,
)


class db_now(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock in epoch milliseconds: one clock for all who share a ledger."""

    type = BigInteger()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "(extract(epoch from clock_timestamp()) * 1000)::bigint"


def clean(words: str, limit: int = 2000) -> str:
    """Foreign text, `storable` and cut to a length."""
    return storable(words[:limit])
