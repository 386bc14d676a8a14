"""`simulate`: one simulator, or all platforms with something going on, until interrupted."""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from collector.errors import ConfigurationError
from simulators.configuration import printed
from simulators.server import Served, Simulator

PAUSE = 3.0
"""Seconds from the start of one run to that of the next, where they go on and on."""


def make(platform: str, seed: int) -> Simulator:
    """The simulator of a platform (or of Marquez) on the system's clock, with the demo's definitions and no runs yet."""

    def now() -> datetime:
        return datetime.now(UTC)

    if platform == "cdf":
        from simulators import cdf  # noqa: PLC0415 - only the one that is asked for

        project = cdf.CdfSimulator(now=now, seed=seed)
        cdf.populate(project)
        return project
    if platform == "wetransform":
        from simulators import wetransform  # noqa: PLC0415

        account = wetransform.WetransformSimulator(now=now, seed=seed, transformations=0)
        wetransform.populate(account)
        return account
    if platform == "dataprep":
        from simulators import dataprep  # noqa: PLC0415

        deployment = dataprep.DataprepSimulator(now=now, seed=seed, flows=0)
        dataprep.populate(deployment.workspace)
        return deployment
    from simulators.marquez import MarquezSimulator  # noqa: PLC0415

    return MarquezSimulator(now=now, seed=seed)


def run(platform: str, host: str, port: int, seed: int) -> int:
    """`all` are the three platforms, on this port and the next two, with runs that go on and on."""
    try:
        asyncio.run(_play(host, port) if platform == "all" else _serve(make(platform, seed), platform, host, port))
    except OSError as error:
        cause = str(error.strerror).rpartition("): ")[2]  # asyncio says the address before it, too
        raise ConfigurationError([f"cannot listen on {host}:{port}: {cause}"]) from error
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


async def _serve(simulator: Simulator, platform: str, host: str, port: int) -> None:
    async with Served(simulator, host=host, port=port) as served:
        print(printed({platform: _reachable(served)}), flush=True)
        await asyncio.Event().wait()


async def _play(host: str, port: int) -> None:
    from simulators.demo.scenario import Cast, play  # noqa: PLC0415 - all simulators

    cast = Cast.made()

    async def watch(_: str) -> None:
        """The collector finds these runs by itself, with `discover: true`."""

    async def trigger(recipe: str) -> None:
        """Nobody asks the collector to start a run."""
        cast.dataprep.start_run("quick", int(recipe))

    async with AsyncExitStack() as stack:
        simulators: dict[str, Simulator] = {
            "cdf": cast.cdf,
            "wetransform": cast.wetransform,
            "dataprep": cast.dataprep,
        }
        urls = {}
        for number, (platform, simulator) in enumerate(simulators.items()):
            served = Served(simulator, host=host, port=port + number if port else 0)
            urls[platform] = _reachable(await stack.enter_async_context(served))
        print(printed(urls), flush=True)
        await play(cast, watch, trigger, runs=None, pause=PAUSE)


def _reachable(served: Served) -> str:
    """Nobody connects to the address that stands for all."""
    return served.url.replace("//0.0.0.0:", "//127.0.0.1:")
