"""`trigger`, `watch` and `parked retry|drop`: asked of the running service, or done here when none runs."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from collector.app import control, loading
from collector.app.control import Told
from collector.app.looking import source_id
from collector.app.service import Service
from collector.errors import ConfigurationError
from collector.ledger import runs
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.store import Store
from collector.logs import set_up
from collector.model import Run, RunState
from config.settings import Settings

LOOK = 1.0


def trigger(config: Path, source: str, job: str, options: Mapping[str, str], *, wait: bool, as_json: bool) -> int:
    """0 done (with `wait`: the run succeeded), 1 not done, ended otherwise, or nobody knows."""
    body = {"job": job, "options": dict(options)}
    return asyncio.run(_of_source(config, source, RequestKind.TRIGGER, body, wait=wait, as_json=as_json))


def watch(config: Path, source: str, key: str, options: Mapping[str, str], *, wait: bool, as_json: bool) -> int:
    """As `trigger`, for a run that exists already."""
    body = {"key": key, "options": dict(options)}
    return asyncio.run(_of_source(config, source, RequestKind.WATCH, body, wait=wait, as_json=as_json))


def parked(config: Path, what: str, sink: str, run_id: str | None) -> int:
    settings = loading.load(config)
    if settings.sink(sink) is None:
        raise ConfigurationError([_unknown("sink", sink, [each.name for each in settings.sinks])])
    kind = RequestKind.RETRY if what == "retry" else RequestKind.DROP
    told = asyncio.run(_asked(settings, f"sink:{sink}", kind, {"run_id": run_id}))
    print(_sentence(told))
    return 0 if told.state is RequestState.DONE else 1


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
            run = await _followed(service.store, source, told) if wait else None
            if wait:
                await service.drained()
    _report(told, run, as_json=as_json)
    if told.state is not RequestState.DONE:
        return 1
    return 0 if run is None or run.state is RunState.SUCCEEDED else 1


async def _asked(settings: Settings, target: str, kind: RequestKind, body: Mapping[str, Any]) -> Told:
    told = await control.ask(settings.control_path, target, kind, body)
    if told is not None:
        return told
    async with _alone(settings) as service:
        return await service.ask(target, kind, body)


def _alone(settings: Settings) -> Service:
    """The whole service for a moment, on a free port, with only its errors told."""
    set_up("error", "auto")
    http = settings.http.model_copy(update={"listen": "127.0.0.1:0"})
    return Service(settings.model_copy(update={"http": http}))


async def _followed_beside(settings: Settings, source: str, told: Told) -> Run | None:
    store = await asyncio.to_thread(Store.open_readonly, settings.ledger.path)
    try:
        return await _followed(store, source, told)
    finally:
        await store.close()


async def _followed(store: Store, source: str, told: Told) -> Run | None:
    """The run once it ended or was given up; None when there is no run to follow."""
    if told.state is not RequestState.DONE:
        return None
    key, number = told.answer["key"], await store.read(source_id, source)
    shown = None
    while True:
        run = (await store.read(runs.by_keys, number, [key])).get(key)
        if run is not None and run.raw_state != shown:
            shown = run.raw_state
            print(f"{run.seen_at.strftime('%H:%M:%S')} {run.state.value} ({run.raw_state})", file=sys.stderr)
        if run is not None and not run.open:
            return run
        await asyncio.sleep(LOOK)


def _report(told: Told, run: Run | None, *, as_json: bool) -> None:
    state = run.state.value if run is not None else told.answer.get("state")
    if as_json:
        body = {"request": told.state.value, **told.answer, "state": state}
        print(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    elif told.state is RequestState.DONE:
        print(f"run {told.answer['key']} ({told.answer['run_id']}) of {told.answer['job']}: {state}")
    else:
        print(f"error: {_sentence(told)}", file=sys.stderr)


def _sentence(told: Told) -> str:
    return str(told.answer.get("error") or told.answer.get("done") or told.state.value)


def _unknown(kind: str, name: str, known: list[str]) -> str:
    return f"there is no {kind} named {name!r} in the configuration; there is {', '.join(known) or 'none'}"
