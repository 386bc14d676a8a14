"""The series of jobs: ten each, so that there are thousands. The library writes one of each family, the pattern of all others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from collector.model import RunState

OUTCOMES = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)
Encode = Callable[[Collector], bytes]
"""Of the library: one of its text formats."""
_LONGEST_NAME = 120
_number: Callable[[float], str] = floatToGoString
"""The library leaves it without types."""


@dataclass(frozen=True, slots=True)
class JobState:
    """The last run of a job and the number of runs by outcome; times in epoch seconds. `name` is the display name, `stale`
    counts its open runs that take too long, `schedule` is a cron expression, empty where none is known.
    `duration_bounded`: the platform did not report when the run started, or ended, or did out of order.
    """

    source: str
    job: str
    name: str
    state: RunState
    started_at: float | None
    ended_at: float | None
    outcomes: Mapping[RunState, int]
    stale: int = 0
    schedule: str = ""
    duration_bounded: bool = False


@dataclass(frozen=True, slots=True)
class _Family:
    """`labels` are those beside source and job, sorted."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily

    def made(self) -> GaugeMetricFamily | CounterMetricFamily:
        return self.kind(self.name, self.text, labels=["source", "job", *self.labels])


_STATE, _DURATION, _BOUNDED, _START, _END, _STALE, _INFO, _RUNS = range(8)
_FAMILIES = (
    _Family("lineage_run_last_state", "1 for the state of a job's last run.", ("state",)),
    _Family("lineage_run_last_duration_seconds", "Time a job's last run took."),
    _Family(
        "lineage_run_last_duration_bounded",
        "1 where the platform did not report when that run started, or ended, or did out of order.",
    ),
    _Family("lineage_run_last_start_timestamp_seconds", "When a job's last run started."),
    _Family("lineage_run_last_end_timestamp_seconds", "When a job's last run ended."),
    _Family("lineage_run_stale", "Runs that run for longer than stale_after of their source."),
    _Family(
        "lineage_job_info", "A job with its display name and its schedule (cron expression).", ("name", "schedule")
    ),
    _Family("lineage_runs", "Runs that ended, by outcome.", ("outcome",), CounterMetricFamily),
)


def families(jobs: Sequence[JobState]) -> Iterable[Metric]:
    """As the library has them."""
    made = [family.made() for family in _FAMILIES]
    for job in jobs:
        for number, labels, value in _series(job):
            made[number].add_metric([job.source, job.job, *labels], value)
    return made


def encoded(jobs: Sequence[JobState], encode: Encode) -> bytes:
    """What `encode` makes of `families`, without its end, in a tenth of the time."""
    lines = [["".join(_lines(family.made(), encode))] for family in _FAMILIES]
    patterns = {source: _patterns(source, encode) for source in {job.source for job in jobs}}
    for job in jobs:
        of_source, name = patterns[job.source], _escaped(job.job)
        for number, labels, value in _series(job):
            lines[number].append(of_source[number] % (name, *map(_escaped, labels), _number(value)))
    return b"".join("".join(of_family).encode() for of_family in lines)


def _series(job: JobState) -> Iterator[tuple[int, tuple[str, ...], float]]:
    """Number of the family, its own labels and the value."""
    yield _STATE, (job.state.value,), 1
    yield _STALE, (), job.stale
    yield _INFO, (_short(job.name), _short(job.schedule)), 1
    if job.started_at is not None:
        yield _START, (), job.started_at
    if job.ended_at is not None:
        yield _END, (), job.ended_at
    if job.started_at is not None and job.ended_at is not None:
        yield _DURATION, (), job.ended_at - job.started_at
        yield _BOUNDED, (), job.duration_bounded
    for outcome in OUTCOMES:
        yield _RUNS, (outcome.value,), job.outcomes.get(outcome, 0)


def _patterns(source: str, encode: Encode) -> list[str]:
    """A line of each family for a job of this source, with `%s` for the job's name, the labels of the family and the value."""
    found = list[str]()
    for family in _FAMILIES:
        made = family.made()
        made.add_metric([source.replace("%", "%%"), "%s", *("%s" for _ in family.labels)], 1)
        [line] = (line for line in _lines(made, encode) if not line.startswith("#"))
        found.append(f"{line.rpartition(' ')[0]} %s\n")
    return found


def _lines(metric: Metric, encode: Encode) -> list[str]:
    lines = encode(_Alone(metric)).decode().splitlines(keepends=True)
    return [line for line in lines if line != END]


END = "# EOF\n"
"""Of a page in OpenMetrics."""


@dataclass(frozen=True, slots=True)
class _Alone(Collector):
    metric: Metric

    def collect(self) -> Iterable[Metric]:
        yield self.metric


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
