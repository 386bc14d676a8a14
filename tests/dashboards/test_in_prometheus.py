"""The demo under the eyes of a real Prometheus: what each panel would draw of it."""

import asyncio
import math
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.dashboards.dashboard_files import FILES, PanelQuery, annotations, queries, variables, with_everything_chosen
from tests.servers.prometheus import Prometheus, Sample, StartPrometheus

NOT_ZERO_IN_THE_DEMO = {
    "Active runs",
    "Events made",
    "Failed runs",
    "Freshness by source and sink",
    "Jobs that fail",
    "Leases",
    "Longest wait",
    "Longest without success",
    "Polls by result",
    "Quota left",
    "Requests by answer",
    "Runs that ended, by outcome",
    "Runs that wait for a person",
    "Send duration",
    "Slowest jobs",
    "Success",
}
"""Panels whose zero would mean that they ask for the wrong thing."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What Prometheus kept of the demo, from its first scrape to the last before it gave a lease back.

    Gauges leave with the lease of their source or of the metrics, so a scrape while the demo stops has none of them.
    """

    prometheus: Prometheus
    start: float
    end: float

    async def drawn(self, query: PanelQuery) -> list[Sample]:
        """What the panel gets; what is not a number does not count as data."""
        expr = with_everything_chosen(query.expr, self._times())
        if query.instant:
            found = await self.prometheus.query(expr, at=self.end)
        else:
            found = await self.prometheus.query_range(expr, self.start, self.end)
        return [sample for sample in found if not math.isnan(sample.value)]

    async def now(self, expr: str) -> list[Sample]:
        return await self.prometheus.query(with_everything_chosen(expr, self._times()), at=self.end)

    def _times(self) -> Mapping[str, str]:
        """As Grafana computes them for this stretch, with a scrape each second."""
        length = math.ceil(self.end - self.start)
        return {"__rate_interval": "4s", "__interval": "1s", "__range": f"{length}s", "__range_s": str(length)}


async def test_no_panel_is_empty_in_the_demo(start_prometheus: StartPrometheus, tmp_path: Path) -> None:
    watched = await scraped_demo(start_prometheus, tmp_path)
    empty, unlabelled, values = [], [], dict.fromkeys(NOT_ZERO_IN_THE_DEMO, 0.0)
    for file in FILES:
        for query in queries(file):
            found = await watched.drawn(query)
            if not found:
                empty.append(f"{query.panel}: {query.expr}")
            unlabelled += [query.panel for sample in found if query.labels - sample.labels.keys()]
            values[query.panel] = max([values.get(query.panel, 0.0), *(sample.value for sample in found)])
        for name, choices in variables(file).items():
            values_of = [sample.labels.get(name) for sample in await watched.now(choices)]
            assert values_of, f"{file.name}: nothing to choose from for {name}"
            assert all(values_of), f"{file.name}: {choices}"
        for annotation in annotations(file):
            assert [sample.value > 1e12 for sample in await watched.now(annotation)] == [True], "milliseconds"
    zero = [panel for panel in sorted(NOT_ZERO_IN_THE_DEMO) if not values[panel]]
    assert (empty, unlabelled, zero) == ([], [], [])


async def scraped_demo(start_prometheus: StartPrometheus, folder: Path) -> Watched:
    """The demo from its beginning to its end, scraped each second as in a cluster."""
    async with demo(folder) as process:
        assert process.stdout is not None
        output = ""
        while (address := re.search(r"http://(127\.0\.0\.1:\d+)", output)) is None and not process.stdout.at_eof():
            output += (await process.stdout.readline()).decode()
        assert address is not None, output + (await process.communicate())[1].decode()
        prometheus = start_prometheus(address[1], labels={"namespace": "lineage", "pod": "lineage-collector-0"})
        out, err = await process.communicate()
    assert process.returncode == 0, out.decode()[-2000:] + err.decode()
    first = await prometheus.query("min_over_time(timestamp(lineage_build_info)[10m:1s])")
    held = 'lineage_lease_held{lease=~"source:.*|sink:.*|metrics"} == 1'
    last = await prometheus.query(f"min(max_over_time(timestamp({held})[10m:1s]))")
    return Watched(prometheus, first[0].value, last[0].value)


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[Process]:
    words = ("-m", "collector", "demo", "--events", str(folder / "events.ndjson"))
    with TemporaryDirectory(prefix="demo-") as short:  # its control socket's name must fit into 100 bytes
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": short}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=environment, stdout=PIPE, stderr=PIPE
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
