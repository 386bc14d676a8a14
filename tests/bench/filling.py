"""Runs with events of the benchmark, committed to a ledger as a poll commits them."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Connection,
    Insert,
    String,
    Table,
    bindparam,
    cast,
    func,
    insert,
    select,
    text,
    update,
)

from collector.ledger import configured_sources, leases, schema
from collector.ledger.configured_sources import Configured
from collector.ledger.leases import Lease
from collector.ledger.port import OwnedLedger
from collector.ledger.runs import NewEvent, PollCommit, RunChange, commit_poll
from collector.model import EventKind, Facts
from tests.bench import payload

_HAPPENED = int(payload.AT.timestamp() * 1000)


class Filling:
    """Commits new runs with one event each, of a source that nothing polls."""

    def __init__(self, store: OwnedLedger, lease: Lease, source: int) -> None:
        self._store, self._lease, self._source = store, lease, source
        self._run = replace(payload.run(0), facts=Facts())
        [self._body] = payload.bodies(1)
        self._next = 1

    @classmethod
    async def into(cls, store: OwnedLedger) -> "Filling":
        """A replica's own source, `plant-a`, stays as it is."""
        sync = partial(configured_sources.sync_sources, spared={"plant-a"})
        [source] = (await store.write(sync, [Configured("bench")], 0)).values()
        lease = await store.write(leases.take, "source:bench", "bench", 10**9)
        assert lease is not None
        return cls(store, lease, source)

    async def commit(self, count: int) -> None:
        page = PollCommit(self._lease, self._source, self._page(count))
        await self._store.write(commit_poll, page, int(time.time() * 1000))

    def _page(self, count: int) -> tuple[RunChange, ...]:
        numbers = range(self._next, self._next + count)
        self._next += count
        return tuple(
            RunChange(
                replace(self._run, key=str(number), run_id=UUID(int=number)),
                (NewEvent(EventKind.COMPLETE, self._body, _HAPPENED),),
            )
            for number in numbers
        )


async def repeat(store: OwnedLedger, times: int) -> None:
    """So many times the runs, events and lanes that are there: a large backlog in less time than polls take to commit it."""
    span = await store.read(lambda conn: conn.scalar(select(func.max(schema.run.c.id))))
    for first in range(1, times, _COPIES):
        await store.write(_copy, span, range(first, min(times, first + _COPIES)))
    await store.write(_bring_up_to_date, times)


_COPIES = 100
"""In one transaction."""


def _copy(conn: Connection, span: int, numbers: Sequence[int]) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(
            text("SET LOCAL enable_seqscan TO off")
        )  # without statistics it reads all that is there for each copy
    for number in numbers:
        for statement in _COPY:
            conn.execute(statement, {"step": number * span, "span": span})


def _copying(table: Table, number: str, *moved: str) -> Insert:
    """Rows whose `number` is at most :span once more, with these columns :step higher."""
    step, columns = bindparam("step", type_=BigInteger), dict[str, Any](table.c)
    values = {**columns, **{name: columns[name] + step for name in (number, *moved)}}
    for name in {"key", "run_uuid"} & {*values}:  # each is there once
        values[name] = cast(step, String) + "+" + columns[name]  # in front: neighbours in the index, too
    return insert(table).from_select(list(values), select(*values.values()).where(columns[number] <= bindparam("span")))


_COPY = (
    _copying(schema.run, "id", "strand_id"),
    _copying(schema.event, "id", "strand_id", "run_id"),
    _copying(schema.lane, "strand_id"),
)


def _bring_up_to_date(conn: Connection, times: int) -> None:
    """What polls and PostgreSQL by itself would have done meanwhile."""
    tally = schema.tally.c
    conn.execute(update(schema.tally).values(pending=tally.pending * times, pending_bytes=tally.pending_bytes * times))
    if conn.dialect.name == "postgresql":
        for table in ("run", "event"):
            conn.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"))
        conn.execute(text("ANALYZE"))
