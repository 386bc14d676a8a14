"""`check`: the configuration, then each source and sink once; a table of what works and what to do."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from collector.app import configuration, factory, ledgers
from collector.app.control import refuse_unusable
from collector.app.status import divisions
from collector.app.tables import Column, Kind, show
from collector.clock import Clock, SystemClock, duration
from collector.errors import LedgerError, LedgerForeign, LedgerMissing, LedgerTooNew, LedgerUnmigrated, SourceError
from collector.ledger import configured_sources, job_queries, jobs, migration, queries
from collector.ledger.port import Ledger
from collector.lineage.job_aliases import JobAliases, Renaming, renamings
from collector.logs import set_up
from collector.model import Job, RunState, SkipKind
from collector.platforms.base import MEND_PLUGIN, Finding, Listing, Planning, Platform, load_finding
from collector.redaction import redacted
from collector.reports import RequestReport
from collector.secret_registry import secret_registry
from config.advice import advice
from config.settings import Settings
from config.web import Access

PATIENCE = 90.0
LARGEST_SKEW = 60.0
"""Seconds between a platform's clock and ours; the alert LineageClockSkew has the same."""
COLUMNS = (
    Column("part", Kind.NAME, 90),
    Column("subject", Kind.NAME, 95),
    Column("ok", weight=99),
    Column("detail", Kind.NOTE),
    Column("remedy", Kind.NOTE),
)

Row = dict[str, Any]
Check = Callable[[], Awaitable[Sequence[Any]]]
Close = Callable[[], Awaitable[None]]


def run(config: Path, *, offline: bool, as_json: bool) -> int:
    """0: all works, 1: something does not, 2: the configuration is wrong (raised)."""
    settings = configuration.load(config)
    access = configuration.access(settings)
    refuse_unusable(settings.control_path)
    set_up("critical", "auto")
    rows = _of_configuration(config, settings, access.get() if access else None)
    rows += asyncio.run(_of_ledger(settings))
    if offline:
        rows += [_row(part, "plug-in", False, cause, MEND_PLUGIN) for part, cause in factory.unusable(settings)]
    else:
        rows += asyncio.run(_all(settings, SystemClock()))
    show(rows, COLUMNS, as_json=as_json, nothing="nothing to check")
    bad = sum(not row["ok"] for row in rows)
    if bad and not as_json:
        print(f"{bad} of {len(rows)} checks failed", file=sys.stderr)
    return 1 if bad else 0


def _of_configuration(config: Path, settings: Settings, access: Access | None) -> list[Row]:
    """Rows of the configuration, which is valid; risky settings are reported."""
    counted = f"valid; sources: {len(settings.sources)}, sinks: {len(settings.sinks)}"
    rows = [_row("configuration", str(config), True, counted)]
    if access is not None:
        counted = f"valid; TLS: {'on' if access.tls else 'off'}, users: {len(access.users)}"
        rows.append(_row("configuration", str(settings.http.web_config_file), True, counted))
    return [*rows, *(_row("configuration", "advice", True, words) for words in advice(settings, access))]


async def _of_ledger(settings: Settings) -> list[Row]:
    """Whether `run` can use the present ledger, and which sinks refuse everything; empty before the first start."""
    path = settings.ledger.place
    try:
        if not ledgers.exists(settings.ledger):
            return []
    except LedgerError as error:
        return [_row("ledger", path, False, str(error))]
    try:
        store = await asyncio.to_thread(ledgers.opened_readonly, settings.ledger)
    except LedgerError as error:
        return [_unopened(settings, error)]
    try:
        await store.read(ledgers.check_writable, settings.ledger)
        schema = _schema_row(settings, await store.read(migration.version), await store.read(ledgers.host))
        risks = await store.read(ledgers.risks)
        advice_rows = [_row("ledger", "advice", True, words) for words in risks]
        return [schema, *advice_rows, *await _of_accounts(store, settings)]
    except LedgerError as error:
        return [_unopened(settings, error)]
    finally:
        await store.close()


def _schema_row(settings: Settings, version: migration.Version | None, host: str | None) -> Row:
    words = "this version supports its schema" if host is None else f"{host} answers; this version supports its schema"
    if version is not None and version.is_newer:
        words += f" {version.revision}, which a newer version made"
    return _row("ledger", settings.ledger.place, True, words)


def _unopened(settings: Settings, error: LedgerError) -> Row:
    path = settings.ledger.place
    match error:
        case LedgerTooNew():
            return _row("ledger", path, False, str(error), "install the newer version, or restore a backup")
        case LedgerForeign():
            return _row("ledger", path, False, str(error), "set ledger.path to another file")
        case LedgerMissing() | LedgerUnmigrated():
            return _row("ledger", path, True, str(error))
    return _row("ledger", path, settings.ledger.url is None, str(error))


# what the ledger knows, a line each
async def _of_accounts(store: Ledger, settings: Settings) -> list[Row]:
    sinks = await store.read(queries.sinks)
    refused = await store.read(configured_sources.refusals, factory.configured(settings, SystemClock()))
    chosen = [source.name for source in settings.sources if source.include]
    idle = [name for name in chosen if await store.read(_nothing_fits, name)]
    divided = await store.read(divisions, {sink.name: sink.shards for sink in settings.sinks})
    renamed = [row for source in settings.sources for row in await store.read(_renamed, settings, source.name)]
    globs = "correct the globs of include and exclude"
    remedy = "repair the sink, then `lineage-collector parked retry` sends them again"
    return [
        *(_row("ledger", "accounts", False, words, "until then `run` refuses to start") for words in refused),
        *(_row(f"source {name}", "include", False, _NO_JOB, globs) for name in idle),
        *renamed,
        *(_row(f"sink {name}", "shards", True, words) for name, words in divided.items()),
        *(_row(f"sink {name}", "refusals", False, words, remedy) for name, words in _refusing(sinks)),
    ]


def _refusing(sinks: Iterable[queries.SinkRow]) -> list[tuple[str, str]]:
    """The sinks that refuse events, each with what it refuses."""
    return [(row.name, row.refusing) for row in sinks if row.refusing and row.retired_at is None]


def _renamed(conn: Connection, settings: Settings, source: str) -> list[Row]:
    """A row for each job that ran and gets another name, or would get the name of another one."""
    found = renamings(factory.job_aliases(settings.jobs), _jobs_that_ran(conn, source)) if settings.jobs else ()
    return [_of_finding(f"source {source}", each) for each in _names(found)]


def _jobs_that_ran(conn: Connection, source: str) -> list[Job]:
    number = queries.source_names(conn).get(source)
    return jobs.latest(conn, number, _JOBS) if number is not None else []


def _names(found: Sequence[Renaming], addition: str = "") -> list[Finding]:
    taken, free = [one for one in found if one.taken_by], [one for one in found if not one.taken_by]
    named = [Finding("job name", True, f"{one.old} is called {one.new}{addition}") for one in free[:_SHOWN]]
    if len(free) > _SHOWN:
        named.append(Finding("job name", True, f"and {len(free) - _SHOWN} more jobs get another name"))
    clash = "{0.old} keeps its name, for {0.taken_by} is called {0.new} already"
    remedy = "change `jobs` so that each job gets a name of its own: leave a * or the id in it"
    return [*named, *(Finding("job name", False, clash.format(one), remedy) for one in taken[:_SHOWN])]


async def _names_to_come(platform: Listing, aliases: JobAliases, ran: Sequence[Job]) -> list[Finding]:
    """Of the jobs that the platform lists and that never ran here."""
    keys = {job.key for job in ran}
    try:
        listed = [job for job in await platform.jobs() if job.key not in keys]
    except SourceError as error:
        return [Finding("job name", True, f"the jobs cannot be listed, so only those that ran are here: {error}")]
    to_come = {job.name for job in listed}
    found = [one for one in renamings(aliases, [*ran, *listed]) if one.old in to_come]
    return _names(found, " once it runs")


_JOBS = 10_000
_SHOWN = 100

_NO_JOB = "all jobs that ran so far were left out by include and exclude: no run is reported"


def _nothing_fits(conn: Connection, source: str) -> bool:
    """Whether jobs of this source were seen, and all of them left out."""
    number = queries.source_names(conn).get(source)
    if number is None or job_queries.jobs(conn, 1, source_id=number):
        return False
    return any(skip.kind == SkipKind.FILTERED for skip in queries.skips(conn, _SKIPS, source_id=number))


_SKIPS = 1000


async def _all(settings: Settings, clock: Clock) -> list[Row]:
    parts: list[tuple[str, Check, Close]] = []
    known = await _known(settings)
    aliases = factory.job_aliases(settings.jobs)
    for source in settings.sources:
        requests = list[RequestReport]()
        platform = factory.platform(source, clock, requests.append)
        check = partial(_of_source, platform, known.get(source.name, _Known()), aliases, requests)
        parts.append((f"source {source.name}", check, platform.close))
    for each in settings.sinks:
        sink = factory.sink(each, clock)
        parts.append((f"sink {each.name}", sink.check, partial(sink.close, 5.0)))
    if settings.hints is not None:
        topic = factory.hint_subscriber(settings.hints, _take_nothing, clock, lambda _: None)
        parts.append(("hints", topic.check, topic.close))
    return [row for rows in await asyncio.gather(*(_one(*part) for part in parts)) for row in rows]


async def _take_nothing(_: Sequence[bytes]) -> None:
    """A check takes no messages."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the ledger has of a source: open runs by state, and jobs."""

    watched: Mapping[RunState, int] = field(default_factory=dict)
    jobs: Sequence[Job] = ()


async def _known(settings: Settings) -> dict[str, _Known]:
    """By source; empty if the ledger cannot be read, as before the first start."""
    try:
        async with ledgers.reading(settings.ledger) as store:
            return {
                row.name: _Known(
                    await store.read(queries.watched, row.id),
                    await store.read(_jobs_that_ran, row.name) if settings.jobs else (),
                )
                for row in await store.read(queries.sources)
            }
    except LedgerError:
        return {}


async def _of_source(
    platform: Platform, known: _Known, aliases: JobAliases, requests: Sequence[RequestReport]
) -> list[Finding]:
    """The checks of the platform, whether its clock is ours, and, if all passed, whether its limit allows to watch the open runs,
    and the names of jobs that never ran. `requests` are those that the checks made.
    """
    found = list(await platform.check())
    works = all(each.ok for each in found)
    found += _clocks(requests)
    if not works:
        return found
    load = platform.load(known.watched) if isinstance(platform, Planning) else None
    loads = [load_finding(load)] if load is not None else []
    if not aliases.rules or not isinstance(platform, Listing):
        return [*found, *loads]
    return [*found, *loads, *await _names_to_come(platform, aliases, known.jobs)]


def _clocks(requests: Sequence[RequestReport]) -> list[Finding]:
    """That the platform's clock and ours differ, if they do; the least of the differences, as answers may be late."""
    ahead = min((each.ahead for each in requests if each.ahead is not None), key=abs, default=0.0)
    if abs(ahead) <= LARGEST_SKEW:
        return []
    detail = (
        f"the platform's clock is {duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} that of this machine"
    )
    return [
        Finding(
            "clock",
            False,
            detail,
            "correct the one that is wrong; with several sources, all differ from yours if it is yours",
        )
    ]


async def _one(part: str, check: Check, close: Close) -> list[Row]:
    try:
        try:
            async with asyncio.timeout(PATIENCE):
                found = [_of_finding(part, each) for each in await check()]
        finally:
            await close()
    except TimeoutError:
        found = [_row(part, "check", False, f"no answer within {PATIENCE:.0f} s", "check the network to it")]
    except Exception as error:  # noqa: BLE001 - the boundary of one part: the others are still checked
        words = f"{type(error).__name__}: {redacted(str(error))}"
        found = [_row(part, "check", False, words, "this is a bug in the collector: please report it")]
    return found


def _of_finding(part: str, found: Finding) -> Row:
    return _row(part, found.subject, found.ok, found.detail, found.remedy)


def _row(part: str, subject: str, ok: bool, detail: str, remedy: str | None = None) -> Row:
    return {"part": part, "subject": subject, "ok": ok, "detail": secret_registry.hidden(detail), "remedy": remedy}
