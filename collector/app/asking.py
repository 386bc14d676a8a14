"""`trigger`, `watch` and `parked retry|drop`: asked of the running service, or done here when none runs."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from collector.app import control, loading
from collector.app.control import Told
from collector.app.looking import source_id
from collector.app.showing import printable
from collector.errors import ConfigurationError, LineageError
from collector.ledger import runs
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.store import Store
from collector.logs import set_up
from collector.model import Run, RunState
from config.settings import Settings

if TYPE_CHECKING:
    from collector.app.service import Service

LOOK = 1.0


def trigger(config: Path, source: str, job: str, options: Mapping[str, str], *, wait: bool, as_json: bool) -> int:
    """0 done (with `wait`: the run succeeded), 1 not done, ended otherwise, or nobody knows."""
    body = {"job": job, "options": dict(options)}
    return asyncio.run(_of_source(config, source, RequestKind.TRIGGER, body, wait=wait, as_json=as_json))


def watch(config: Path, source: str, key: str, options: Mapping[str, str], *, wait: bool, as_json: bool) -> int:
    """As `trigger`, for a run that exists already."""
    body = {"key": key, "options": dict(options)}
    return asyncio.run(_of_source(config, source, RequestKind.WATCH, body, wait=wait, as_json=as_json))


def parked(config: Path, kind: RequestKind, sink: str, run_id: str | None, *, as_json: bool) -> int:
    """0 done, 1 when nothing is parked there or it could not be done."""
    settings = loading.load(config)
    if settings.sink(sink) is None:
        raise ConfigurationError([_unknown("sink", sink, [each.name for each in settings.sinks])])
    told = asyncio.run(_asked(settings, f"sink:{sink}", kind, {"run_id": run_id}))
    words = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in told.answer.items())
    return _report(told, words, {}, as_json=as_json)


async def _of_source(
    config: Path, source: str, kind: RequestKind, body: Mapping[str, Any], *, wait: bool, as_json: bool
) -> int:
    settings = loading.load(config)
    if settings.source(source) is None:
        raise ConfigurationError([_unknown("source", source, [each.name for each in settings.sources])])
    target = f"source:{source}"
    told = await control.ask(settings.control_path, target, kind, body)
    if told is not None:
        run = await _followed_beside(settings, source, told) if wait else None
    else:
        async with _alone(settings) as service:
            told = await service.ask(target, kind, body)
            run = await _followed(service.store, source, told, lambda: True) if wait else None
            if wait and not await service.drained():
                print("some events wait in the ledger: they are sent when the service runs", file=sys.stderr)
    state = run.state.value if run is not None else told.answer.get("state")
    words = "run {key} ({run_id}) of {job}: {state}".format_map({**_NO_RUN, **told.answer, "state": state})
    failed = _report(told, words, {"state": state}, as_json=as_json)
    return failed or int(run is not None and run.state is not RunState.SUCCEEDED)


_NO_RUN = dict.fromkeys(("key", "run_id", "job"), "-")


async def _asked(settings: Settings, target: str, kind: RequestKind, body: Mapping[str, Any]) -> Told:
    told = await control.ask(settings.control_path, target, kind, body)
    if told is not None:
        return told
    async with _alone(settings) as service:
        return await service.ask(target, kind, body)


def _alone(settings: Settings) -> "Service":
    """The whole service for a moment, on a free port, with only its errors told."""
    from collector.app.service import Service  # noqa: PLC0415 - most of a second that asking another needs not

    set_up("error", "auto")
    http = settings.http.model_copy(update={"listen": "127.0.0.1:0"})
    return Service(settings.model_copy(update={"http": http}))


async def _followed_beside(settings: Settings, source: str, told: Told) -> Run | None:
    store = await asyncio.to_thread(Store.open_readonly, settings.ledger.path)
    try:
        return await _followed(store, source, told, lambda: control.is_alive(settings.control_path))
    finally:
        await store.close()


async def _followed(store: Store, source: str, told: Told, alive: Callable[[], bool]) -> Run | None:
    """The run once it ended or was given up; None when there is no run to follow. Raises `LineageError` when nobody is
    `alive` who could see it end.
    """
    if told.state is not RequestState.DONE:
        return None
    key, number = told.answer["key"], await store.read(source_id, source)
    shown = None
    while True:
        run = (await store.read(runs.by_keys, number, [key])).get(key)
        if run is not None and run.raw_state != shown:
            shown = run.raw_state
            words = f"{run.seen_at.strftime('%H:%M:%S')} {run.state.value} ({shown})"
            print(printable(words), file=sys.stderr)
        if run is not None and not run.open:
            return run
        if not alive():
            raise LineageError(f"the service stopped while run {key} was followed; it goes on when the service runs")
        await asyncio.sleep(LOOK)


def _report(told: Told, words: str, more: Mapping[str, Any], *, as_json: bool) -> int:
    """Say what became of the request; the exit code."""
    done = told.state is RequestState.DONE
    if as_json:
        body = {"request": told.state.value, **told.answer, **more}
        print(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    elif done:
        print(printable(words))
    else:
        print(f"error: {printable(str(told.answer.get('error') or told.state.value))}", file=sys.stderr)
    return 0 if done else 1


def _unknown(kind: str, name: str, known: list[str]) -> str:
    return f"there is no {kind} named {name!r} in the configuration; there is {', '.join(known) or 'none'}"
