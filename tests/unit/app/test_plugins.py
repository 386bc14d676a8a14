"""Packages of others: their options are checked, their secrets hidden, and what they break stays theirs."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from prometheus_client import generate_latest

from collector import api_version, oldest_api_version
from collector.app import check, factory
from collector.app.service import Service
from collector.clock import SystemClock
from collector.errors import ConfigurationError, SourceError, TriggerError
from collector.model import Enrichment, EventKind
from collector.platforms.base import BrokenPlatform, Finding
from collector.secret_registry import HIDDEN, secret_registry
from config import loader, sinks, sources
from config.loader import ConfigurationMistakes
from exporters.sinks.base import BrokenSink
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now
from tests.unit.ledger.ledgers import a_run

SECRET = "planted-plug-in-secret"

PLUGIN = """
    from typing import Annotated
    from pydantic import Field
    from collector.errors import ConfigurationError
    from config.base import Count, Model, Text
    from config.secret import SecretFile, SecretText, either

    class Bucket(Model):
        region: Text

    class Options(Model):
        queue: Text
        retries: Count = 3
        bucket: Bucket | None = None
        token: SecretText | None = None
        token_file: Annotated[SecretFile | None, either("token", required=False)] = Field(
            default=None, validate_default=True
        )

    made = []

    def create(settings, context):
        made.append(settings)
        if settings.options.queue == "mistaken":
            raise ConfigurationError(["the queue is mistaken"])
        if settings.options.queue == "empty":
            return object()
        raise RuntimeError(f"no such queue: {settings.options.token.get() if settings.options.token else '?'}")
"""

Install = Callable[[str, str], None]
Load = Callable[[dict[str, Any]], Any]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes an installed package of one module: its entry points are `create` as a platform and as a sink of its name."""
    site = tmp_path / "site"
    names: list[str] = []
    monkeypatch.syspath_prepend(site)

    def act(name: str, source: str) -> None:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = ("lineage_collector.sinks", "lineage_collector.platforms")
        (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {name}:create\n" for group in groups))
        (site / f"{name}.py").write_text(dedent(source))
        names.append(name)
        sinks.known_sinks.cache_clear()
        sources.known_platforms.cache_clear()

    yield act
    for name in names:
        sys.modules.pop(name, None)
    sinks.known_sinks.cache_clear()
    sources.known_platforms.cache_clear()


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def act(given: dict[str, Any]) -> Any:
        source = {"platform": "wetransform", "name": "source", "tenant": "acme", "token": "wetransform-token"}
        path = tmp_path / "c.yaml"
        path.write_text(
            json.dumps({"ledger": {"path": str(tmp_path / "ledger.db")}, "sources": [source], **given}, indent=1)
        )
        return loader.load(path)

    return act


def sink(**options: Any) -> dict[str, Any]:
    return {"sinks": [{"type": "queues", "name": "queue", "options": options}]}


def mistakes(load: Load, given: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationMistakes) as caught:
        load(given)
    assert all(mistake.line for mistake in caught.value.mistakes)
    return [f"{mistake.key}: {mistake.problem} ({mistake.suggestion})" for mistake in caught.value.mistakes]


def test_options_are_checked_with_the_nearest_key(install: Install, load: Load) -> None:
    install("queues", PLUGIN)
    assert sorted(mistakes(load, sink(queu="x", retries=0, bucket={"regoin": "eu", "region": "eu"}))) == [
        "sinks[0].options.bucket.regoin: unknown key (region)",
        "sinks[0].options.queu: unknown key (queue)",
        "sinks[0].options.queue: is missing (None)",
        "sinks[0].options.retries: must be at least 1, not 0 (None)",
    ]
    source = {"platform": "queues", "name": "queue", "namespace": "queues", "options": {"queu": "x", "queue": "y"}}
    assert mistakes(load, {"sources": [source]}) == ["sources[0].options.queu: unknown key (queue)"]
    without = {"sinks": [{"type": "queues", "name": "queue"}]}
    assert mistakes(load, without) == ["sinks[0].options.queue: is missing (None)"]


def test_a_model_that_cannot_check_anything_is_a_mistake(install: Install, load: Load) -> None:
    install("queues", "class Options: pass\ndef create(settings, context): raise AssertionError\n")
    [said] = mistakes(load, sink(queue="x"))
    assert said.startswith("sinks[0].options: cannot be checked: queues.Options is not a subclass of config.base.Model")


def test_without_a_model_options_arrive_as_they_are_written(install: Install, load: Load) -> None:
    install("queues", "def create(settings, context): raise AssertionError\n")
    assert load(sink(queue="x", more=[1])).sinks[0].options == {"queue": "x", "more": [1]}
    assert mistakes(load, {"sinks": [{"type": "queues", "name": "q", "options": "x"}]}) == [
        "sinks[0].options: must be a mapping (key: value) (None)"
    ]


def test_secrets_of_options_are_resolved_and_hidden(
    install: Install, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("queues", PLUGIN)
    monkeypatch.setenv("QUEUE_TOKEN", SECRET)
    settings = load(sink(queue="x", token="${env:QUEUE_TOKEN}"))
    assert settings.sinks[0].options.token.get() == SECRET
    assert SECRET not in str(settings.public()) + repr(settings)
    made = factory.sink(settings.sinks[0], SystemClock())
    assert isinstance(made, BrokenSink)
    assert made.outcome.cause == f"queues:create could not create queue: RuntimeError: no such queue: {HIDDEN}"
    (tmp_path / "token").write_text("another-planted-secret")
    factory.sink(load(sink(queue="x", token_file=str(tmp_path / "token"))).sinks[0], SystemClock())
    assert secret_registry.hidden("the token another-planted-secret") == f"the token {HIDDEN}"
    assert "sinks[0].options.token_file: give either token or token_file, not both (None)" in mistakes(
        load, sink(queue="x", token=SECRET, token_file=str(tmp_path / "token"))
    )


def test_a_mistake_that_the_package_finds_is_the_users(install: Install, load: Load) -> None:
    install("queues", PLUGIN)
    with pytest.raises(ConfigurationError, match="the queue is mistaken"):
        factory.sink(load(sink(queue="mistaken")).sinks[0], SystemClock())


@pytest.mark.parametrize(
    ("source", "queue", "cause"),
    [
        (PLUGIN, "x", "RuntimeError: no such queue"),
        (PLUGIN, "empty", "TypeError: the object that it returned has no wants, capacity"),
        ("import nowhere_to_be_found\n", "x", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemError('at import')\n", "x", "SystemError: at import"),
        ("", "x", "AttributeError: module 'queues' has no attribute 'create'"),
    ],
)
async def test_a_sink_that_cannot_be_made_says_why_and_takes_nothing(
    install: Install, load: Load, source: str, queue: str, cause: str
) -> None:
    install("queues", source)
    made = factory.sink(load(sink(queue=queue)).sinks[0], SystemClock())
    [finding] = await made.check()
    assert not finding.ok
    assert f"queues:create could not create queue: {cause}" in finding.detail


async def test_a_platform_that_cannot_be_made_says_why(install: Install, load: Load) -> None:
    install("queues", PLUGIN)
    source = {"platform": "queues", "name": "queue", "namespace": "queues", "options": {"queue": "x"}}
    made = factory.platform(load({"sources": [source]}).sources[0], SystemClock(), lambda _: None)
    assert isinstance(made, BrokenPlatform)
    with pytest.raises(SourceError, match="queues:create could not create queue: RuntimeError: no such queue"):
        await anext(aiter(made.poll([], None)))
    with pytest.raises(TriggerError, match="RuntimeError"):
        await made.trigger("job", {}, "token")
    with pytest.raises(SourceError, match="RuntimeError"):
        await made.watch("run", {})


async def test_what_a_package_breaks_is_shown_and_all_else_runs(
    install: Install, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install("queues", PLUGIN)
    simulator = WetransformSimulator(seed=1, now=now)
    async with Served(simulator) as served:
        well = {"platform": "wetransform", "name": "well", "tenant": "acme", "token": "wetransform-token"}
        settings = load(
            {
                "http": {"listen": "127.0.0.1:0"},
                "sources": [
                    {"platform": "queues", "name": "ill", "namespace": "queues", "options": {"queue": "x"}},
                    well | {"base_url": served.url},
                ],
                "sinks": [
                    {"type": "queues", "name": "broken", "options": {"queue": "x"}},
                    {"type": "file", "name": "file", "path": str(tmp_path / "events")},
                ],
            }
        )
        async with Service(settings) as service:
            async with asyncio.timeout(30):
                while not (wrong := await _wrong(service)).keys() >= {"ill", "broken"} or service.unready():
                    await asyncio.sleep(0.05)
            families = generate_latest(await service._parts.metrics.scrape()).decode()
            rows = {row["source"]: row for row in (await service.status())["sources"]}
        checks = await check._all(settings, SystemClock())
    assert all("RuntimeError: no such queue" in str(why) for why in wrong.values())
    assert rows["well"]["state"] == "ok"
    assert 'lineage_sink_circuit_open{sink="broken"} 1.0' in families
    assert 'lineage_sink_circuit_open{sink="file"} 0.0' in families
    assert [record.getMessage() for record in caplog.records].count("plugin.broken") == 4, "twice here, twice in check"
    ill = {row["part"] for row in checks if not row["ok"] and "no such queue" in row["detail"]}
    assert ill == {"source ill", "sink broken"}


async def _wrong(service: Service) -> dict[str, Any]:
    status = await service.status()
    return {
        row[part]: row["wrong"] for part in ("source", "sink") for row in status[f"{part}s"] if row["wrong"] is not None
    }


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            api_version + 1,
            f"is written for version {api_version + 1} of the plug-in API, this collector .* update the collector",
        ),
        (oldest_api_version - 1, "is written for version 0 of the plug-in API, .* update that package"),
        ("'1.0'", "api_version must be an integer such as 1, not '1.0'"),
    ],
)
async def test_a_package_for_another_version_of_the_api_is_refused_in_words(
    install: Install, load: Load, caplog: pytest.LogCaptureFixture, version: object, said: str
) -> None:
    install("queues", f"api_version = {version}\ndef create(settings, context): raise AssertionError\n")
    made = factory.sink(load(sink()).sinks[0], SystemClock())
    assert isinstance(made, BrokenSink)
    assert re.search(said, made.outcome.cause)
    [record] = [record for record in caplog.records if record.getMessage() == "plugin.refused"]
    assert record.exc_info is None
    source = {"platform": "queues", "name": "queue", "namespace": "queues"}
    platform = factory.platform(load({"sources": [source]}).sources[0], SystemClock(), lambda _: None)
    with pytest.raises(SourceError, match=said):
        await anext(aiter(platform.poll([], None)))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            f"api_version = {api_version + 1}\ncreate = print\n",
            f"is written for version {api_version + 1} of the plug-in",
        ),
        ("import nowhere_at_all\n", "queues:create cannot be loaded: ModuleNotFoundError: No module named"),
    ],
)
def test_a_package_that_cannot_be_used_is_found_without_a_request(
    install: Install, load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    install("queues", source)
    queue = {"platform": "queues", "name": "queue", "namespace": "queues"}
    load(
        {"sources": [queue], "sinks": [{"type": "queues", "name": "queue"}, {"type": "file", "name": "f", "path": "-"}]}
    )
    assert check.run(tmp_path / "c.yaml", offline=True, as_json=True) == 1
    wrong = [row for row in json.loads(capsys.readouterr().out) if not row["ok"]]
    assert [(row["part"], row["subject"]) for row in wrong] == [("source queue", "plug-in"), ("sink queue", "plug-in")]
    assert all(said in row["detail"] and "update the package" in row["remedy"] for row in wrong)


@pytest.mark.parametrize("version", ["", f"api_version = {oldest_api_version}", f"api_version = {api_version}"])
async def test_a_platform_and_a_sink_need_little(install: Install, load: Load, version: str) -> None:
    """What the base classes do in place of what is missing."""
    install("queues", version + dedent(LEAST))
    settings = load({**sink(), "sources": [{"platform": "queues", "name": "queue", "namespace": "queues"}]})
    platform = factory.platform(settings.sources[0], SystemClock(), lambda _: None)
    assert not isinstance(platform, BrokenPlatform)
    assert await platform.enrich(a_run("1")) == Enrichment()
    with pytest.raises(
        TriggerError, match="source queue cannot start runs: start nightly on the platform itself"
    ) as caught:
        await platform.trigger("nightly", {}, "token")
    assert not caught.value.doubtful
    with pytest.raises(SourceError, match="source queue cannot read a run by its id"):
        await platform.watch("1", {})
    await platform.close()
    made = factory.sink(settings.sinks[0], SystemClock())
    assert not isinstance(made, BrokenSink)
    assert (made.wants, made.rechecks) == (frozenset(EventKind), False)
    await made.close(1)


def test_a_sink_that_wants_one_writer_at_a_time_is_not_divided(install: Install, load: Load) -> None:
    install("queues", dedent(LEAST))
    [settings] = load({"sinks": [{**sink()["sinks"][0], "shards": 2}]}).sinks
    with pytest.raises(ConfigurationError, match="sink queue: shards: a sink of type queues has one writer at a time"):
        factory.sink(settings, SystemClock())
    install("queues2", dedent(LEAST).replace("class Sink(SinkBase):", "class Sink(SinkBase):\n    parallel = True\n"))
    [settings] = load({"sinks": [{**sink()["sinks"][0], "type": "queues2", "shards": 2}]}).sinks
    assert settings.shards == 2
    assert not isinstance(factory.sink(settings, SystemClock()), BrokenSink)


LEAST = """
    from collector.model import Poll
    from collector.platforms.base import PlatformBase
    from exporters.sinks.base import SinkBase

    class Platform(PlatformBase):
        async def poll(self, tracked, cursor):
            yield Poll()

        async def check(self):
            return []

    class Sink(SinkBase):
        async def send(self, batch):
            for event in batch:
                yield event, None

        async def check(self):
            return []

    def create(settings, context):
        return Sink(context) if hasattr(context, "sink") else Platform(context)
"""


async def test_a_part_that_closes_badly_leaves_the_checks_of_the_others() -> None:
    async def works() -> list[Finding]:
        return [Finding("endpoint", ok=True, detail="it answers")]

    async def closes() -> None:
        raise RuntimeError("was not open")

    [row] = await check._one("sink odd", works, closes)
    assert (row["ok"], row["detail"]) == (False, "RuntimeError: was not open")
