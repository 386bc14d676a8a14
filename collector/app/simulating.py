"""`simulate`: one simulator on loopback, until interrupted."""

import asyncio
import sys
from datetime import UTC, datetime

from collector.errors import ConfigurationError
from collector.simulators.server import Served, Simulator


def make(platform: str, seed: int) -> Simulator:
    """The simulator of a platform (or of Marquez) on the system's clock, with the demo's definitions and no runs yet."""

    def now() -> datetime:
        return datetime.now(UTC)

    if platform == "cdf":
        from collector.simulators import cdf  # noqa: PLC0415 - only the one that is asked for

        project = cdf.CdfSimulator(now=now, seed=seed)
        cdf.populate(project)
        return project
    if platform == "wetransform":
        from collector.simulators import wetransform  # noqa: PLC0415

        account = wetransform.WetransformSimulator(now=now, seed=seed, transformations=0)
        wetransform.populate(account)
        return account
    if platform == "dataprep":
        from collector.simulators import dataprep  # noqa: PLC0415

        deployment = dataprep.DataprepSimulator(now=now, seed=seed, flows=0)
        dataprep.populate(deployment.workspace)
        return deployment
    from collector.simulators.marquez import MarquezSimulator  # noqa: PLC0415

    return MarquezSimulator(now=now, seed=seed)


def run(platform: str, port: int, seed: int) -> int:
    try:
        asyncio.run(_serve(make(platform, seed), platform, port))
    except OSError as error:
        raise ConfigurationError([f"port {port} of 127.0.0.1 cannot be listened on: {error.strerror}"]) from error
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


async def _serve(simulator: Simulator, platform: str, port: int) -> None:
    async with Served(simulator, port=port) as served:
        print(f"{platform} simulator on {served.url} (control: {served.url}/_control/truth)", flush=True)
        await asyncio.Event().wait()
