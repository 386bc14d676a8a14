"""Sources as configured, each with its past: a source is identified by the account that it watches, not by its name.

Each platform run is tracked once. So a renamed source continues with the cursor and the runs of its account, and a
name that now belongs to another account does not get the runs of the former one.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection, insert, select, update

from collector.errors import ConfigurationError
from collector.ledger import leases, schema
from collector.ledger.leases import Lease
from collector.logs import fields

log = logging.getLogger("lineage.ledger")


@dataclass(frozen=True, slots=True)
class Configured:
    """A source of the configuration. `account` names the account on its platform, None where it is not known.
    `former_name` is what the source was called when the account cannot say so. `lookback_ms` is how far a first start
    looks back.
    """

    name: str
    account: str | None = None
    former_name: str | None = None
    lookback_ms: int = 0

    @property
    def fingerprint(self) -> str | None:
        """Digest of the account, as stored in the ledger: the account itself may contain a customer's e-mail address."""
        return None if self.account is None else sha256(self.account.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source as the ledger knows it; `account` is its fingerprint."""

    id: int
    name: str
    account: str | None
    polled_at: int | None


def sync_sources(
    conn: Connection, sources: Iterable[Configured], now_ms: int, *, spared: Collection[str] = ()
) -> dict[str, int]:
    """Numbers of the configured sources. New ones are added, renamed ones go on under their number, those that left are
    kept with all they have until retention removes them; the `spared` are not even retired. Raises `ConfigurationError`, see `matched`.
    """
    sources = sorted(sources, key=lambda source: source.name)
    table, known = schema.source, _known(conn)
    past = matched(sources, known)
    _say_unmerged(sources, past, known)
    _rename(conn, past, known)
    numbers = {source.name: _written(conn, source, past.get(source.name)) for source in sources}
    retire(conn, set(conn.scalars(select(table.c.name))) - numbers.keys() - set(spared), now_ms)
    return numbers


def retire(conn: Connection, names: Collection[str], now_ms: int) -> None:
    """They are no longer configured; those that are retired already stay as they are."""
    table = schema.source
    left = table.c.name.in_(sorted(names)), table.c.retired_at.is_(None)
    for name in conn.scalars(update(table).where(*left).values(retired_at=now_ms).returning(table.c.name)).all():
        log.warning("source.retired", extra=fields(source=name, cause="no longer configured; its runs are kept"))


def refusals(conn: Connection, sources: Sequence[Configured]) -> list[str]:
    """Why `sync_sources` would refuse these sources, a message each."""
    try:
        matched(sources, _known(conn))
    except ConfigurationError as error:
        return error.mistakes
    return []


def new_names(conn: Connection, sources: Sequence[Configured]) -> dict[str, str]:
    """Of sources of the ledger that go on under another name once `sync_sources` is given these: that name, by the present one."""
    try:
        past = matched(sources, _known(conn))
    except ConfigurationError:  # the start says it
        return {}
    return {one.name: name for name, one in past.items() if one.name != name}


def take(conn: Connection, lease: str, holder: str, ttl_ms: int, *, source_id: int) -> Lease | None:
    """The lease of this source, as `leases.take`; None also where another replica has renamed the source, for then the
    right to poll its account has another name.
    """
    name = conn.scalar(select(schema.source.c.name).where(schema.source.c.id == source_id))
    return leases.take(conn, lease, holder, ttl_ms) if lease == f"source:{name}" else None


def matched(sources: Sequence[Configured], known: Sequence[KnownSource]) -> dict[str, KnownSource]:
    """The past of each source that has one: by its name and account, else by its former name, else by its account.

    Raises `ConfigurationError` for a name that the ledger knows with another account: its runs are not those of the
    new account, unless `former_name` says so.
    """
    found = {source.name: own for source in sources if (own := _own(source, known)) is not None}
    taken = {past.id for past in found.values()}
    for source in sources:
        if source.name not in found and (past := _former(source, known, taken)) is not None:
            found[source.name] = past
            taken.add(past.id)
    _refuse_moved(sources, found, {past.name for past in known if past.id not in taken})
    return found


def _refuse_moved(sources: Sequence[Configured], found: Mapping[str, KnownSource], names: set[str]) -> None:
    """Raises `ConfigurationError` where a source without a past has a name that the ledger knows with another account."""
    if mistakes := [_moved(source.name) for source in sources if source.name not in found and source.name in names]:
        raise ConfigurationError(mistakes)


def _known(conn: Connection) -> list[KnownSource]:
    table = schema.source
    return [
        KnownSource(*row) for row in conn.execute(select(table.c.id, table.c.name, table.c.account, table.c.polled_at))
    ]


def _own(source: Configured, known: Sequence[KnownSource]) -> KnownSource | None:
    """The stored source of the same name, if it can belong to the same account."""
    own = next((past for past in known if past.name == source.name), None)
    if own is None or source.former_name == source.name:
        return own
    return own if None in {own.account, source.account} or own.account == source.fingerprint else None


def _former(source: Configured, known: Sequence[KnownSource], taken: set[int]) -> KnownSource | None:
    free = [past for past in known if past.id not in taken]
    named = next((past for past in free if past.name == source.former_name), None)
    same = [past for past in free if past.account is not None and past.account == source.fingerprint]
    return named or max(same, key=lambda past: (past.polled_at or 0, past.id), default=None)


def _moved(name: str) -> str:
    return (
        f"source {name!r} watches another account than the ledger knows under this name, whose runs are not this "
        "account's: give it a new name; or, if it is the same account with another address or spelling, "
        f"set `former_name: {name}`"
    )


def _say_unmerged(sources: Sequence[Configured], past: Mapping[str, KnownSource], known: Sequence[KnownSource]) -> None:
    taken = {one.id for one in past.values()}
    left = {one.name for one in known if one.id not in taken}
    for source in sources:
        if source.former_name in left:
            cause = (
                "the ledger has runs under both names: they are not merged, the source continues under its present name"
            )
            log.warning(
                "source.unmerged", extra=fields(source=source.name, former_name=source.former_name, cause=cause)
            )


def _rename(conn: Connection, past: Mapping[str, KnownSource], known: Sequence[KnownSource]) -> None:
    """Two steps, by way of temporary names: two sources may have swapped their names."""
    table = schema.source
    renamed = {name: one for name, one in past.items() if one.name != name}
    kept = {one.id for one in past.values()}
    away = [one for one in known if one.name in past and one.id not in kept]
    for one in (*renamed.values(), *away):
        conn.execute(update(table).where(table.c.id == one.id).values(name=f"{one.name}~{one.id}"))
        leases.rename(conn, f"source:{one.name}", f"source:{one.name}~{one.id}")
    for name, one in renamed.items():
        conn.execute(update(table).where(table.c.id == one.id).values(name=name))
        leases.rename(conn, f"source:{one.name}~{one.id}", f"source:{name}")
        log.warning(
            "source.renamed",
            extra=fields(source=name, former_name=one.name, cause="continues with its former cursor and runs"),
        )
    request = schema.request
    for name, one in renamed.items():
        asked = request.c.target == f"source:{one.name}", request.c.done_at.is_(None)
        conn.execute(update(request).where(*asked).values(target=f"source:{name}"))


def _written(conn: Connection, source: Configured, past: KnownSource | None) -> int:
    table = schema.source
    account = source.fingerprint or (past.account if past is not None else None)
    row = {"name": source.name, "account": account, "lookback_ms": source.lookback_ms, "retired_at": None}
    if past is None:
        number: int = conn.execute(insert(table).returning(table.c.id), row).scalar_one()
        return number
    conn.execute(update(table).where(table.c.id == past.id).values(row))
    return past.id
