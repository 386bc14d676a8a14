"""`trigger`, `watch`, `parked retry|drop` and `forget`: sent to the running service, or done here when none runs."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from collector.app import configuration, control, ledgers
from collector.app.control import RequestResult
from collector.app.removal import Removal
from collector.app.status import source_id
from collector.app.tables import printable, show_json
from collector.clock import SystemClock
from collector.errors import ConfigurationError, LedgerLocked, LineageError
from collector.ledger import replicas, requests, runs
from collector.ledger.parked import Choice
from collector.ledger.port import Ledger, OwnedLedger
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.logs import set_up
from collector.model import Run, RunState
from collector.numerals import counted
from config.quantities import parse_duration
from config.settings import Settings

if TYPE_CHECKING:
    from collector.app.service import Service

LOOK = 1.0
TURN_LOOK = 0.2
TURN_WITHIN = 30.0
"""Seconds that a service, or another command, may take until it listens or has ended."""
DRAINED_WITHIN = 30
"""Seconds that the events of a run that was followed may take to their sinks."""

Followed = TypeVar("Followed")


class _Left(Exception):
    """No process follows this run any more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Follow the run to its end, for so many seconds at the most (None: without limit)."""

    seconds: float | None

    @classmethod
    def given(cls, wait: bool, timeout: str | None) -> "Wait | None":
        """From the command's options. Raises `ConfigurationError`."""
        if timeout is None:
            return cls(None) if wait else None
        if not wait:
            raise ConfigurationError(["--timeout limits how long --wait follows the run: add --wait"])
        try:
            return cls(parse_duration(timeout).total_seconds())
        except ValueError as error:
            raise ConfigurationError([f"--timeout: {error}"]) from error


def trigger(
    config: Path,
    source: str,
    job: str,
    options: Mapping[str, str],
    *,
    execution: str | None = None,
    wait: Wait | None,
    as_json: bool,
) -> int:
    """0 done (with `wait`: the run succeeded), 1 not done, ended otherwise, or unknown. `execution` is the id of an
    earlier trigger that is repeated.
    """
    body: dict[str, Any] = {"job": job, "options": dict(options)}
    body |= {"execution": execution} if execution else {}
    return asyncio.run(_of_source(config, source, RequestKind.TRIGGER, body, wait=wait, as_json=as_json))


def watch(config: Path, source: str, key: str, options: Mapping[str, str], *, wait: Wait | None, as_json: bool) -> int:
    """As `trigger`, for a run that exists already."""
    body = {"key": key, "options": dict(options)}
    return asyncio.run(_of_source(config, source, RequestKind.WATCH, body, wait=wait, as_json=as_json))


def parked(settings: Settings, kind: RequestKind, sink: str, choice: Choice, *, as_json: bool) -> int:
    """Do this with the chosen parked events. 0 done, 1 when nothing is parked there or it could not be done."""
    configuration.refuse_unknown("sink", sink, [each.name for each in settings.sinks])
    result = asyncio.run(submitted(settings, f"sink:{sink}", kind, asdict(choice)))
    words = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in result.answer.items())
    return _report(result, words, {}, as_json=as_json)


def forget(settings: Settings, target: str, *, drop_undelivered: bool, as_json: bool) -> int:
    """Remove `source:NAME` or `sink:NAME`, which left the configuration, from the ledger. 0 done, 1 when it failed."""
    result = asyncio.run(_removed(settings, target, drop_undelivered=drop_undelivered))
    done = result.state is RequestState.DONE
    words = f"removed {target.replace(':', ' ', 1)}: {_removed_words(result.answer)}" if done else ""
    rest = "" if result.answer.get("removed") else "; the rest is removed within the hour"
    return _report(result, words + rest, {}, as_json=as_json)


def _removed_words(counts: Mapping[str, int]) -> str:
    runs, events = counted(counts["runs"], "run"), counted(counts["undelivered"], "undelivered event")
    requests = counted(counts["requests"], "request")
    return f"{runs} ({counts['open_runs']:,} open), {events}, {counts['parked']:,} parked, {requests}"


async def _of_source(
    config: Path, source: str, kind: RequestKind, body: Mapping[str, Any], *, wait: Wait | None, as_json: bool
) -> int:
    settings = configuration.load(config)
    configuration.refuse_unknown("source", source, [each.name for each in settings.sources])
    alone = False

    async def follow(service: "Service", result: RequestResult) -> Run | None:
        nonlocal alone
        alone = True
        return await _followed_alone(service, source, result, wait) if wait else None

    result, run = await _done(settings, f"source:{source}", kind, body, follow)
    if wait and run is None:
        run = await _followed_beside(settings, source, result, wait)
    state = run.state.value if run is not None else result.answer.get("state")
    words = _run_words({**_NO_RUN, **result.answer, "state": state})
    failed = _report(result, words, {"state": state}, as_json=as_json)
    if alone and not wait and not failed:
        print(_NOT_FOLLOWED, file=sys.stderr)
    return failed or int(run is not None and run.state is not RunState.SUCCEEDED)


_NOT_FOLLOWED = (
    "no service runs, so this run is not followed: start one with `lineage-collector run`, or add --wait next time"
)
_NO_RUN = dict.fromkeys(("key", "run_id", "job"), "-")


def _run_words(run: Mapping[str, Any]) -> str:
    """With both ids, where the platform's own is not the run's."""
    ids = run["key"] if run["key"] == run["run_id"] else f"{run['key']} ({run['run_id']})"
    return f"run {ids} of {run['job']}: {run['state']}"


async def submitted(settings: Settings, target: str, kind: RequestKind, body: Mapping[str, Any]) -> RequestResult:
    """Done by the running service, or here when none runs."""

    async def nothing(_: "Service", __: RequestResult) -> None: ...

    result, _ = await _done(settings, target, kind, body, nothing)
    return result


async def backfill(
    settings: Settings, target: str, body: Mapping[str, Any], look: Callable[[Request], None]
) -> RequestResult:
    """Begin a backfill, or follow the one that is under way, and `look` at it now and then until it is done. Raises `LineageError`
    when no process works on it any more.
    """

    async def alone(service: "Service", begun: RequestResult) -> RequestResult:
        done = await _until_done(service.store, begun, partial(_nobody_else, service), look)
        await _is_drained(service)
        return done

    begun, done = await _done(settings, target, RequestKind.BACKFILL, body, alone)
    if done is not None or begun.state is not RequestState.NEW:
        return done or begun
    async with ledgers.reading(settings.ledger) as store:
        await _until_alive(settings, store)
        return await _until_done(store, begun, partial(_is_served, settings, store), look)


async def stop_backfill(settings: Settings, target: str) -> RequestResult:
    """End the one that is under way, also while no service runs."""

    async def alone() -> tuple[RequestResult, None]:
        set_up("warning", "auto")
        store = await asyncio.to_thread(ledgers.opened, settings.ledger, SystemClock(), command=True)
        return await _left(store, target, RequestKind.STOP, {}), None

    result, _ = await _in_turn(settings, target, RequestKind.STOP, {}, alone)
    return result


async def _until_done(
    store: Ledger, begun: RequestResult, alive: Callable[[], Awaitable[bool]], look: Callable[[Request], None]
) -> RequestResult:
    if begun.state is not RequestState.NEW:
        return begun
    while True:
        request = await store.read_shown(requests.get, int(begun.answer["request"]))
        if request is not None:
            look(request)
        if request is None or request.done_at is not None:
            return control.result_of(request)
        if not await alive():
            raise LineageError("the process that did the backfill ends; it goes on when the service runs")
        await asyncio.sleep(LOOK)


async def _removed(settings: Settings, target: str, *, drop_undelivered: bool) -> RequestResult:

    async def alone() -> tuple[RequestResult, None]:
        clock = SystemClock()
        set_up("warning", "auto")
        store = await asyncio.to_thread(ledgers.opened, settings.ledger, clock, command=True)
        try:
            return await Removal(store, clock).forget(target, drop_undelivered=drop_undelivered), None
        finally:
            await store.close()

    result, _ = await _in_turn(settings, target, RequestKind.FORGET, {"drop_undelivered": drop_undelivered}, alone)
    return result


async def _done(
    settings: Settings,
    target: str,
    kind: RequestKind,
    body: Mapping[str, Any],
    follow: Callable[["Service", RequestResult], Awaitable[Followed]],
) -> tuple[RequestResult, Followed | None]:
    """Done by the running service; without one by this process, then `follow` while it has the ledger."""

    async def alone() -> tuple[RequestResult, Followed]:
        async with _alone(settings) as service:
            result = await service.submit(target, kind, body)
            return result, await follow(service, result)

    return await _in_turn(settings, target, kind, body, alone)


async def _in_turn(
    settings: Settings,
    target: str,
    kind: RequestKind,
    body: Mapping[str, Any],
    alone: Callable[[], Awaitable[tuple[RequestResult, Followed]]],
) -> tuple[RequestResult, Followed | None]:
    """Done by the running service; without one `alone`, which takes the ledger's lock. A service that starts goes first."""
    end = time.monotonic() + TURN_WITHIN
    while True:
        if (result := await control.submit(settings.control_path, target, kind, body)) is not None:
            return result, None
        store = await asyncio.to_thread(ledgers.opened_beside, settings.ledger)
        if store is not None and kind is RequestKind.FORGET:  # nobody's lease is needed for that
            await store.close()
            return await alone()
        if store is not None:
            return await _left(store, target, kind, body), None
        late = time.monotonic() > end
        if late or not ledgers.is_reserved(settings.ledger):
            try:
                return await alone()
            except LedgerLocked:
                if late:
                    raise
        await asyncio.sleep(TURN_LOOK)


async def _left(store: OwnedLedger, target: str, kind: RequestKind, body: Mapping[str, Any]) -> RequestResult:
    """Left in the ledger for the services that have it, which run elsewhere, and the answer of one of them."""
    try:
        late = "no service took it up in time; the ledger keeps it, and it may be done yet"
        return await control.answered(store, SystemClock(), target, kind, body, late, TURN_LOOK)
    finally:
        await store.close()


def _alone(settings: Settings) -> "Service":
    """The whole service for a moment, on a free port, logging only errors."""
    from collector.app.service import Service  # noqa: PLC0415 - most of a second that asking another needs not

    set_up("error", "auto")
    http = settings.http.model_copy(update={"listen": "127.0.0.1:0"})
    return Service(settings.model_copy(update={"http": http}), command=True)


async def _followed_alone(service: "Service", source: str, result: RequestResult, wait: Wait) -> Run | None:
    """The run once it ended and its events are delivered; None when there is no run, or a service that starts follows it."""
    try:
        run = await _followed(service.store, source, result, partial(_nobody_else, service), wait, _UNSERVED)
    except _Left:
        print("a service starts, which follows the run from now on", file=sys.stderr)
        return None
    if not await _is_drained(service):
        print("some events wait in the ledger: they are sent when the service runs", file=sys.stderr)
    return run


async def _nobody_else(service: "Service") -> bool:
    return not await ledgers.is_wanted(service.settings.ledger, service.store)


async def _is_drained(service: "Service") -> bool:
    """Whether all events were sent in time, or another service sends the rest."""
    for _ in range(DRAINED_WITHIN):
        if not await _nobody_else(service) or await service.drained(1.0):
            return True
    return False


async def _followed_beside(settings: Settings, source: str, result: RequestResult, wait: Wait) -> Run | None:
    async with ledgers.reading(settings.ledger) as store:
        try:
            await _until_alive(settings, store)
            return await _followed(store, source, result, partial(_is_served, settings, store), wait, _SERVED)
        except _Left as left:
            words = f"the service stopped while {left} was followed; it is followed again when the service runs"
            raise LineageError(words) from left


_SERVED = "the service follows it; `lineage-collector runs show {run_id}` shows its state"
_UNSERVED = "it is not followed until a service runs: `lineage-collector run`"


async def _is_served(settings: Settings, store: Ledger) -> bool:
    """Whether a service follows the run: on this machine, or wherever the database is used."""
    if settings.ledger.url is not None:
        return bool(await store.read_shown(replicas.services))
    return control.is_alive(settings.control_path)


async def _until_alive(settings: Settings, store: Ledger) -> None:
    """A service that has just got the ledger needs a moment until it listens."""
    end = time.monotonic() + TURN_WITHIN
    while not await _is_served(settings, store) and time.monotonic() < end:
        await asyncio.sleep(TURN_LOOK)


async def _followed(
    store: Ledger, source: str, result: RequestResult, alive: Callable[[], Awaitable[bool]], wait: Wait, afterwards: str
) -> Run | None:
    """The run once it ended or was given up; None when there is no run to follow. Raises `_Left` when no service is
    `alive` that could see it end, and `LineageError` when it takes longer than `wait`. An interruption prints
    `afterwards`: who follows the run then.
    """
    if result.state is not RequestState.DONE:
        return None
    goes_on = f"run {result.answer['key']} goes on, and {afterwards.format_map(result.answer)}"
    try:
        async with asyncio.timeout(wait.seconds):
            return await _until_closed(store, await store.read(source_id, source), str(result.answer["key"]), alive)
    except TimeoutError as error:
        raise LineageError(f"not ended within the {wait.seconds:g} s of --timeout: {goes_on}") from error
    except asyncio.CancelledError:
        print(goes_on, file=sys.stderr)
        raise


async def _until_closed(store: Ledger, number: int, key: str, alive: Callable[[], Awaitable[bool]]) -> Run:
    shown = None
    while True:
        run = (await store.read(runs.by_keys, number, [key])).get(key)
        if run is not None and run.raw_state != shown:
            shown = run.raw_state
            words = f"{run.seen_at.strftime('%H:%M:%S')} {run.state.value} ({shown})"
            print(printable(words), file=sys.stderr)
        if run is not None and not run.open:
            return run
        if not await alive():
            raise _Left(f"run {key}")
        await asyncio.sleep(LOOK)


def _report(result: RequestResult, words: str, more: Mapping[str, Any], *, as_json: bool) -> int:
    """Print the result of the request; returns the exit code."""
    done = result.state is RequestState.DONE
    if as_json:
        show_json({"request": result.state.value, **result.answer, **more})
    elif done:
        print(printable(words))
    else:
        print(f"error: {printable(str(result.answer.get('error') or result.state.value))}", file=sys.stderr)
    return 0 if done else 1
