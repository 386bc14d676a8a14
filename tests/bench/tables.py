"""What the benchmarks found as tables of docs/performance.md, and beside what we reach for. Pure."""

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = dict[str, list[dict[str, Any]]]
"""What each entrant printed, round by round."""

HTTP = ("peer_http", "peer_async_http", "ours_http", "ours_batch")
KAFKA = ("peer_kafka", "raw_aiokafka", "ours_kafka")
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
STARTS = {
    "help": "`--help`",
    "small": "ready with one platform and a file",
    "full": "ready with three platforms, Marquez, Kafka and a file",
}
_IDS = re.compile(r"(?<=/(?:runs|jobs)/)[^?]+|(?<=/datasets/)[^?]+|(?<=(?:job|run)=).+")


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured beside its goal, if it has one: at least that, or at `most` that."""

    what: str
    measured: float
    goal: float | None = None
    unit: str = ""
    most: bool = False

    @property
    def ratio(self) -> float | None:
        """To the goal: 1 or more is there."""
        if self.goal is None:
            return None
        return (self.goal / self.measured if self.most else self.measured / self.goal) if self.measured else 0


def figures_table(figures: Iterable[Figure], failed: Sequence[str] = ()) -> str:
    """`failed` are the benchmarks whose figures are missing."""
    rows = (f"| {each.what} | {_number(each.measured)}{each.unit} | {_goal(each)} |" for each in figures)
    lines = ["| figure | measured | we reach for | ratio |", "|---|---|---|---|", *rows]
    if failed:
        lines += ["", f"**Failed, so not among these, and their tables are of a former run: {', '.join(failed)}.**"]
    return "\n".join(lines)


def _goal(figure: Figure) -> str:
    if figure.goal is None or figure.ratio is None:
        return "| "
    return f"{'at most' if figure.most else 'at least'} {_number(figure.goal)}{figure.unit} | {figure.ratio:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def middle(results: list[dict[str, Any]], what: str) -> float:
    return float(statistics.median(each[what] for each in results))


def rate(results: list[dict[str, Any]]) -> float:
    return float(statistics.median(each["events"] / each["seconds"] for each in results))


def delivery_table(results: Results) -> str:
    lines = ["| entrant | events/s | ratio | CPU s per 1,000 | peak MiB |", "|---|---|---|---|---|"]
    for names in (HTTP, KAFKA):
        there = [name for name in names if name in results]
        best = _best_peer(results, there)
        for name in there:
            speed, cpu = rate(results[name]), middle(results[name], "cpu") / results[name][0]["events"] * 1000
            size = middle(results[name], "rss")
            lines.append(f"| {name} | {speed:,.0f} | {speed / best:.2f} | {cpu:.3f} | {size:.0f} |")
    return "\n".join(lines)


def _best_peer(results: Results, names: Sequence[str]) -> float:
    return max(rate(results[name]) for name in names if name.startswith("peer")) if names else 1.0


def delivery_figures(results: Results) -> Iterator[Figure]:
    best = _best_peer(results, HTTP[:2])
    yield Figure("HTTP, events/s to those of the better peer", rate(results["ours_http"]) / best, 2.5)
    yield Figure("HTTP in batches, events/s", rate(results["ours_batch"]), 10_000)
    if "ours_kafka" in results:
        ours = rate(results["ours_kafka"])
        yield Figure("Kafka, events/s to those of the peer", ours / rate(results["peer_kafka"]), 4)
        yield Figure("Kafka, events/s to those of raw aiokafka", ours / rate(results["raw_aiokafka"]), 0.4)
    yield Figure("commit to acknowledged, p50", middle(results["live_http"], "p50") * 1000, 20, " ms", most=True)
    yield Figure("commit to acknowledged, p99", middle(results["live_http"], "p99") * 1000, unit=" ms")


def latency_line(results: Results) -> str:
    p50, p99 = (middle(results["live_http"], name) * 1000 for name in ("p50", "p99"))
    return f"From commit to acknowledged, 100 events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms."


def end_to_end_table(result: Mapping[str, Any]) -> str:
    lines = ["| jobs | events | CPU ms an event | peak MiB |", "|---|---|---|---|"]
    row = f"| {result['jobs']:,} | {result['events']:,} | {result['cpu_ms']:.1f} | {result['rss']:.0f} |"
    return "\n".join([*lines, row])


def end_to_end_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    name = f"from poll to acknowledged, {result['jobs']:,} jobs"
    yield Figure(f"{name}, CPU an event", result["cpu_ms"], 4, " ms", most=True)
    yield Figure(f"{name}, peak memory", result["rss"], 200, " MiB", most=True)


def ledger_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| ledger | backlog | commit of 1, ms | commit of 500, µs an event | claim of 500, µs an event | settle of 500, µs an event |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = " | ".join(f"{row[what] * 2:.0f}" for what in ("page", "claim", "settle"))
        lines.append(f"| {STORES[row['store']]} | {row['events']:,} | {row['commit']:.1f} | {each} |")
    return "\n".join(lines)


def shards_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| ledger | backlog of the other shards | claim of a shard, ms | look at all, ms |", "|---|---|---|---|"]
    of_shards = (
        f"| {STORES[row['store']]} | {row['events']:,} | {row['shard']:.1f} | {row['all_shards']:.1f} |" for row in rows
    )
    return "\n".join([*lines, *of_shards])


def ledger_figures(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    for store, name in STORES.items():
        small, *_, large = (row for row in rows if row["store"] == store)
        for what, of in (("commit of 500", "page"), ("claim", "claim"), ("settle", "settle")):
            behind = f"{what} behind {large['events']:,} events to one behind {small['events']:,}, {name}"
            yield Figure(behind, large[of] / small[of], 1.5, most=True)


def replicas_table(result: Mapping[str, Any]) -> str:
    """Rates in a table, times in sentences."""
    rates: Mapping[str, Mapping[str, float]] = result["rates"]
    rows = {
        "file": "SQLite",
        "1": "PostgreSQL, 1 replica",
        "2": "PostgreSQL, 2 replicas",
        "3": "PostgreSQL, 3 replicas",
    }
    lines = ["| ledger | " + " | ".join(f"{sink}, events/s" for sink in rates) + " |", "|---|" + "---|" * len(rates)]
    for key, name in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{rates[sink][key]:,.0f}" for sink in rates) + " |")
    look, notify = (result["latency"][way] for way in ("look", "notify"))
    latency = (
        f"From a commit to the acknowledged event at another replica: p50 {look['p50']:.0f} ms, p99 {look['p99']:.0f} ms;"
        f" with `ledger.notify` p50 {notify['p50']:.0f} ms, p99 {notify['p99']:.0f} ms."
    )
    stops = result["stops"]
    ends = (
        f"Until others hold all leases of a replica: after SIGTERM {min(stops):.2f} to {max(stops):.2f} s, median"
        f" {statistics.median(stops):.2f} s (of {len(stops)}); after SIGKILL {result['kill']:.0f} s."
    )
    wakes = f"{result['standby_wakes']:.1f} wake-ups of threads a second"
    shares = f"{result['standby']:.2f} % of a core, {result['standby_asleep']:.2f} % where the cores sleep"
    standby = f"A replica that stands by for everything: {shares}, {wakes}."
    return "\n".join([*lines, "", latency, "", ends, "", standby])


def replicas_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    for sink, rates in result["rates"].items():
        yield Figure(f"{sink}, events/s with PostgreSQL to those with SQLite", rates["1"] / rates["file"], 0.5)
        for count in ("2", "3"):
            yield Figure(f"{sink}, events/s by {count} replicas to those by one", rates[count] / rates["1"])
    for way, name in (("look", "at another replica"), ("notify", "there with `ledger.notify`")):
        for quantile in ("p50", "p99"):
            yield Figure(f"commit to acknowledged {name}, {quantile}", result["latency"][way][quantile], unit=" ms")
    yield Figure("take-over after SIGTERM, the longest", max(result["stops"]), 1, " s", most=True)
    yield Figure("take-over after SIGKILL", result["kill"], unit=" s")
    yield Figure("a replica that stands by, share of a core", result["standby"], 0.3, " %", most=True)
    yield Figure("a replica that stands by, where the cores sleep", result["standby_asleep"], unit=" %")


def beside_table(result: Mapping[str, Any]) -> str:
    """Claims and settles while long pages are committed and 10,000 open runs are polled."""
    lines = ["| beside | claim p50, ms | claim p99, ms | settle p50, ms | settle p99, ms |", "|---|---|---|---|---|"]
    for what, name in (("page", "pages of 1,000 runs, 40 columns"), ("again", "polls of 10,000 open runs")):
        row = result[what]
        times = (row[f"{part}_{quantile}_ms"] for part in ("claim", "settle") for quantile in ("p50", "p99"))
        lines.append(f"| {name} | " + " | ".join(f"{each:.1f}" for each in times) + " |")
    return "\n".join(lines)


def beside_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    for what in ("claim", "settle"):
        longest = max(result[beside][f"{what}_p99_ms"] for beside in ("page", "again"))
        yield Figure(f"{what} beside polls, p99", longest, 50, " ms", most=True)


def scrape_line(result: Mapping[str, Any]) -> str:
    return f"{result['series']:,} series, {result['bytes'] / 2**20:.1f} MiB: {result['cpu']:.2f} s of CPU."


def scrape_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    yield Figure(f"a scrape of {result['series']:,} series, CPU", result["cpu"], 0.5, " s", most=True)


def polling_line(result: Mapping[str, Any]) -> str:
    return (
        f"A poll of {result['runs']:,} open runs of CDF in which nothing changed: {result['requests']:.1f} requests,"
        f" {result['cpu_ms']:.0f} ms of CPU; the program has {result['rss']:.0f} MiB."
    )


def polling_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    name = f"a poll of {result['runs']:,} open runs of CDF"
    yield Figure(f"{name}, requests", result["requests"], 2, most=True)
    yield Figure(f"{name}, CPU", result["cpu_ms"], 60, " ms", most=True)


def hints_table(result: Mapping[str, Any]) -> str:
    lines = ["| store | p50, ms | p99, ms |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {result[key]['p50']:.0f} | {result[key]['p99']:.0f} |" for key, name in STORES.items())]
    )


def hints_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    for key, name in STORES.items():
        for quantile in ("p50", "p99"):
            yield Figure(f"hint to acknowledged, {name}, {quantile}", result[key][quantile], unit=" ms")


def hour_line(result: Mapping[str, Any]) -> str:
    """Memory as it was in each sixth of the hour."""
    memory = ", ".join(f"{each:.0f}" for each in result["mib"])
    return (
        f"{result['minutes']:.0f} minutes with {result['jobs']:,} jobs on three platforms: {result['cpu_percent']:.1f} % of a core;"
        f" {result['runs']:,} runs began, {result['events']:,} events were delivered; memory {memory} MiB."
    )


def hour_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    name = f"an hour of {result['jobs']:,} jobs"
    yield Figure(f"{name}, share of a core", result["cpu_percent"], 5, " %", most=True)
    yield Figure(f"{name}, memory", max(result["mib"]), 200, " MiB", most=True)


def pages_table(result: Mapping[str, Any]) -> str:
    lines = ["| page | p50, ms | longest, ms |", "|---|---|---|"]
    rows = (f"| `{_shown(page)}` | {row['p50']:.0f} | {row['max']:.0f} |" for page, row in result["pages"].items())
    return "\n".join([*lines, *rows])


def _shown(page: str) -> str:
    """Without names and ids."""
    return _IDS.sub("…", page)


def pages_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    pages: Mapping[str, Mapping[str, float]] = result["pages"]
    for what, name in (("p50", "p50"), ("max", "the longest")):
        slowest = max(pages, key=lambda page: pages[page][what])
        behind = f"the slowest page with {result['runs']:,} runs (`{_shown(slowest)}`), {name}"
        yield Figure(behind, pages[slowest][what], 200, " ms", most=True)


def idle_line(result: Mapping[str, Any]) -> str:
    """CPU share and memory of the program with three sources at 30 s and two sinks, where nothing happens."""
    wakes = f"{result['wakes']:.1f} wake-ups of threads a second"
    shares = f"{result['cpu_percent']:.2f} % of a core, {result['asleep_percent']:.2f} % where the cores sleep"
    polls = f"one poll of each source in each half minute, {result['requests']} requests in all"
    return f"Idle: {shares}, {wakes}, {result['rss']:.0f} MiB without Kafka; {polls}."


def idle_figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    yield Figure("idle, share of a core", result["cpu_percent"], 0.42, " %", most=True)
    yield Figure("idle, where the cores sleep", result["asleep_percent"], unit=" %")
    yield Figure("idle, switches of its threads a second", result["wakes"])
    yield Figure("idle, memory", result["rss"], 106, " MiB", most=True)


def start_table(result: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| | CPU, s | seconds |", "|---|---|---|"]
    return "\n".join(
        [
            *lines,
            *(f"| {name} | {result[key]['cpu']:.2f} | {result[key]['seconds']:.2f} |" for key, name in STARTS.items()),
        ]
    )


def start_figures(result: Mapping[str, Mapping[str, float]]) -> Iterator[Figure]:
    yield Figure("`--help`", result["help"]["seconds"], 0.3, " s", most=True)
    for key in ("small", "full"):
        yield Figure(STARTS[key], result[key]["seconds"], 2, " s", most=True)
    yield Figure("memory when it is ready, Kafka among the sinks", result["full"]["mib"], 140, " MiB", most=True)


def written(page: str, tables: Mapping[str, str]) -> str:
    """The page with these tables, each in place of what is between its marks. KeyError for one that has none."""
    for name, text in tables.items():
        begin, end = f"<!-- bench: {name} -->\n", f"\n<!-- /bench: {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise KeyError(name)
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}{text}{end}{rest.partition(end)[2]}"
    return page
