"""The dashboard of the platforms' runs, for data engineers."""

from collections.abc import Mapping, Sequence

from helm.dashboards.grafana import Column, Dashboard, Json, Panel, Query, Variable, bars, graph, stat, table
from helm.dashboards.limits import WAITING_SECONDS
from helm.dashboards.promql import (
    INSTANCE,
    JOB,
    NAMESPACE,
    SOURCE,
    chosen,
    newest,
    of_collectors,
    or_zero,
    over_range,
    quantile,
    rate,
)

_COLORS = {
    "succeeded": "green",
    "failed": "red",
    "canceled": "purple",
    "running": "blue",
    "waiting": "yellow",
    "queued": "text",
    "unknown": "orange",
}
_ROW = "namespace, source, job"


def _of_jobs(metric: str, *matchers: str) -> str:
    return chosen(metric, SOURCE, JOB, *matchers)


def _ended(*outcomes: str) -> str:
    return _of_jobs("lineage_runs_total", *([f'outcome=~"{"|".join(outcomes)}"'] if outcomes else []))


def _last(metric: str) -> str:
    return newest(_of_jobs(metric), SOURCE, JOB)


def _in_state(state: str) -> str:
    matcher = f'state="{state}"'
    return f"{newest(_of_jobs('lineage_run_last_state', matcher), SOURCE, JOB)} == 1"


def _ratio(succeeded: str, all_that_count: str) -> str:
    """Nothing, rather than not a number, where no run ended."""
    return f"{succeeded} / ({all_that_count} > 0)"


_SUCCESS_IN_RANGE = _ratio(
    f"sum({over_range(_ended('succeeded'))})", f"sum({over_range(_ended('succeeded', 'failed'))})"
)


def _now() -> Sequence[Panel]:
    return (
        stat(
            "Active runs",
            "Runs that have not ended and are watched.",
            "short",
            f"sum({newest(chosen('lineage_runs_active', SOURCE), SOURCE)})",
        ),
        stat(
            "Waiting for a person",
            "Runs that go on only when a person decides something on the platform.",
            "short",
            f"sum({newest(chosen('lineage_runs_waiting', SOURCE), SOURCE)})",
            limits=[(1, "yellow")],
        ),
        stat(
            "Longest wait",
            "How long the first of them has waited for a person.",
            "s",
            f"max({chosen('lineage_run_waiting_oldest_seconds', SOURCE)})",
            limits=[(WAITING_SECONDS / 2, "yellow"), (WAITING_SECONDS, "red")],
            runbooks=["LineageRunWaitingLong"],
        ),
        stat(
            "Stale runs",
            "Runs that are open for longer than the source's `stale_after`.",
            "short",
            or_zero(f"sum({_of_jobs('lineage_run_stale')})"),
            limits=[(1, "red")],
            runbooks=["LineageRunStale"],
        ),
        stat(
            "Given up",
            "Runs that have not ended as far as is known and are no longer watched.",
            "short",
            f"sum({newest(chosen('lineage_runs_abandoned', SOURCE), SOURCE)})",
            limits=[(1, "yellow")],
            runbooks=["LineageRunsAbandoned"],
        ),
        stat(
            "Jobs that fail",
            "Jobs whose last run failed.",
            "short",
            or_zero(f"count({_in_state('failed')})"),
            limits=[(1, "red")],
            runbooks=["LineageRunFailing"],
        ),
        stat(
            "Failed runs",
            "Runs that failed in the shown time.",
            "short",
            f"sum(round({over_range(_ended('failed'))}))",
            instant=True,
            limits=[(1, "yellow")],
            fields={"decimals": 0},
            runbooks=["LineageRunFailing"],
        ),
        stat(
            "Success",
            "Share of the runs that succeeded in the shown time; canceled ones do not count.",
            "percentunit",
            _SUCCESS_IN_RANGE,
            instant=True,
            fields={
                "noValue": "no runs",
                "thresholds": {
                    "mode": "absolute",
                    "steps": [
                        {"color": "red", "value": None},
                        {"color": "yellow", "value": 0.9},
                        {"color": "green", "value": 0.99},
                    ],
                },
            },
        ),
    )


def _over_time() -> Sequence[Panel]:
    each = f"sum by (source) ({rate(_ended('succeeded'))})"
    counted = f"sum by (source) ({rate(_ended('succeeded', 'failed'))})"
    return (
        graph(
            "Runs that ended, by outcome",
            "Per hour. A job's very first run is missing here if it was over before the first scrape saw the job.",
            "suffix: /h",
            Query(f"3600 * sum by (outcome) ({rate(_ended())})", "{{outcome}}"),
            stacked=True,
            overrides=[_colored(outcome) for outcome in ("succeeded", "failed", "canceled")],
        ),
        graph(
            "Runs that ended, by source",
            "Per hour.",
            "suffix: /h",
            Query(f"3600 * sum by (source) ({rate(_ended())})", "{{source}}"),
            stacked=True,
        ),
        graph(
            "Success by source",
            "Share of the runs that succeeded; canceled ones do not count. A gap: no run ended.",
            "percentunit",
            Query(_ratio(each, counted), "{{source}}"),
            fields={"max": 1, "custom": {"drawStyle": "points", "showPoints": "always", "pointSize": 5}},
        ),
        graph(
            "Active runs",
            "Runs that have not ended and are watched.",
            "short",
            Query(newest(chosen("lineage_runs_active", SOURCE), SOURCE), "{{source}}"),
            stacked=True,
        ),
        graph(
            "Runs that wait for a person",
            "They go on only when a person decides something on the platform.",
            "short",
            Query(newest(chosen("lineage_runs_waiting", SOURCE), SOURCE), "{{source}}"),
            stacked=True,
        ),
        graph(
            "Longest wait for a person",
            "How long the first of the waiting runs has waited.",
            "s",
            Query(newest(chosen("lineage_run_waiting_oldest_seconds", SOURCE), SOURCE), "{{source}}"),
            runbooks=["LineageRunWaitingLong"],
        ),
    )


def _durations() -> Sequence[Panel]:
    took = chosen("lineage_run_duration_seconds_bucket", SOURCE, 'outcome="succeeded"')
    return (
        graph(
            "Duration of runs that succeeded",
            "Half and 95 % took no longer than this. For a source as a whole, whatever job is chosen; the points are"
            " single runs, by id.",
            "s",
            Query(quantile(0.5, took, SOURCE), "{{source}} 50 %"),
            Query(quantile(0.95, took, SOURCE), "{{source}} 95 %", exemplars=True),
            width=12,
        ),
        bars(
            "Slowest jobs",
            "The jobs whose last run took longest.",
            "s",
            Query(f"topk(15, {_last('lineage_run_last_duration_seconds')})", "{{source}} {{job}}", instant=True),
            width=12,
        ),
    )


def _jobs() -> Sequence[Panel]:
    ended, failed = _of_jobs("lineage_run_last_end_timestamp_seconds"), _in_state("failed")
    states = chosen("lineage_run_last_state", SOURCE, JOB, 'state="succeeded"')
    successes = f"({ended} and on ({_ROW}) ({states} == 1))[$__range:$__interval]"
    since = f"time() - max by ({_ROW}) (max_over_time({successes}))"
    never = f"$__range_s * group by ({_ROW}) ({_of_jobs('lineage_run_last_state')})"
    stale = f"sum by ({_ROW}) ({_of_jobs('lineage_run_stale')}) > 0"
    return (
        table(
            "Jobs",
            "The last run of each job, and the outcomes of its runs in the shown time.",
            "short",
            [
                f"max by ({_ROW}, state) ({_of_jobs('lineage_run_last_state')} == 1)",
                f"max by ({_ROW}, name, schedule) ({_of_jobs('lineage_job_info')})",
                f"1000 * {_last('lineage_run_last_start_timestamp_seconds')}",
                f"1000 * {_last('lineage_run_last_end_timestamp_seconds')}",
                _last("lineage_run_last_duration_seconds"),
                f"sum by ({_ROW}) (round({over_range(_ended('succeeded'))}))",
                f"sum by ({_ROW}) (round({over_range(_ended('failed'))}))",
            ],
            [
                Column("namespace", "Namespace"),
                Column("source", "Source"),
                Column("job", "Job"),
                Column("name", "Name"),
                Column("schedule", "Schedule"),
                Column("state", "Last state", mappings=[_state_colors()]),
                Column("Value #C", "Started", "dateTimeAsIso"),
                Column("Value #D", "Ended", "dateTimeAsIso"),
                Column("Value #E", "Took", "s"),
                Column("Value #F", "Succeeded"),
                Column("Value #G", "Failed"),
            ],
            by="Started",
            width=24,
            height=12,
        ),
        table(
            "Jobs that fail",
            "Jobs whose last run failed, the newest failure first.",
            "dateTimeFromNow",
            [f"1000 * ({_last('lineage_run_last_end_timestamp_seconds')} and on ({_ROW}) ({failed}))"],
            [Column("source", "Source"), Column("job", "Job"), Column("Value", "Ended")],
            by="Ended",
            runbooks=["LineageRunFailing"],
            fields={"noValue": "No job's last run failed"},
        ),
        bars(
            "Longest without success",
            "Time since a run of the job last succeeded, within the shown time: a job none of whose runs succeeded in it"
            " has the whole of it.",
            "s",
            Query(f"topk(15, {since} or {never})", "{{source}} {{job}}", instant=True),
            runbooks=["LineageRunFailing"],
        ),
        table(
            "Jobs with stale runs",
            "Jobs with runs that are open for longer than the source's `stale_after`.",
            "short",
            [f'{stale} or label_replace(vector(0), "job", "none", "", "")'],
            [Column("source", "Source"), Column("job", "Job"), Column("Value", "Stale runs")],
            by="Stale runs",
            runbooks=["LineageRunStale"],
        ),
    )


def _colored(outcome: str) -> Json:
    color = {"mode": "fixed", "fixedColor": _COLORS[outcome]}
    return {"matcher": {"id": "byName", "options": outcome}, "properties": [{"id": "color", "value": color}]}


def _state_colors() -> Json:
    options = {state: {"text": state, "color": color, "index": i} for i, (state, color) in enumerate(_COLORS.items())}
    return {"type": "value", "options": options}


def dashboard(siblings: Mapping[str, str]) -> Dashboard:
    within = 'lineage_build_info{namespace=~"$namespace"}'
    return Dashboard(
        uid="lineage-platform-runs",
        title="Platform runs",
        description="The runs on the platforms that the lineage collector watches: states, durations, failures.",
        span="24h",
        variables=(
            Variable(NAMESPACE, "Namespace", "label_values(lineage_build_info, namespace)"),
            Variable(INSTANCE, "Instance", f"label_values({within}, instance)"),
            Variable(SOURCE, "Source", f"label_values({chosen('lineage_runs_active')}, source)"),
            Variable(JOB, "Job", f"label_values({chosen('lineage_job_info', SOURCE)}, job)"),
        ),
        rows={"Now": _now(), "Over time": _over_time(), "Durations": _durations(), "Jobs": _jobs()},
        siblings=siblings,
        restarts=of_collectors("1000 * process_start_time_seconds"),
    )
