"""The collector's panels about polls, and about how many requests they take."""

from collections.abc import Sequence

from helm.dashboards.grafana import Panel, Query, graph
from helm.dashboards.limits import POLLS_MISSED
from helm.dashboards.promql import SOURCE, chosen, newest, quantile, rate

_BAD_RESULTS = 'result!~"ok|paused"'


def panels() -> Sequence[Panel]:
    polls = chosen("lineage_poll_total", SOURCE)
    success = newest(chosen("lineage_poll_last_success_timestamp_seconds", SOURCE), SOURCE)
    interval = newest(chosen("lineage_poll_interval_seconds", SOURCE), SOURCE)
    reachable = newest(chosen("lineage_source_interval_reachable_seconds", SOURCE), SOURCE)
    duration = chosen("lineage_poll_duration_seconds_bucket", SOURCE)
    return (
        graph(
            "Polls by result",
            "`auth`: the credentials were refused; `throttled`: the platform asked for a pause; `paused`: the ledger is at"
            " its limit.",
            "opm",
            Query(f"60 * sum by (source, result) ({rate(polls)})", "{{source}} {{result}}"),
            stacked=True,
            runbooks=["LineagePollFailing"],
        ),
        graph(
            "Polls that failed",
            "Share of the polls that ended with anything but `ok` or `paused`.",
            "percentunit",
            Query(
                f"sum by (source) ({rate(chosen('lineage_poll_total', SOURCE, _BAD_RESULTS))})"
                f" / sum by (source) ({rate(polls)})",
                "{{source}}",
            ),
            fields={"max": 1},
            runbooks=["LineagePollFailing"],
        ),
        graph(
            "Time since the last successful poll",
            f"Dashed: {POLLS_MISSED} intervals, the limit of the alert.",
            "s",
            Query(f"time() - {success}", "{{source}}"),
            Query(f"{POLLS_MISSED} * {interval}", "{{source}} limit"),
            overrides=[
                {
                    "matcher": {"id": "byRegexp", "options": "/ limit$/"},
                    "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}}],
                }
            ],
            runbooks=["LineagePollFailing"],
        ),
        graph(
            "Poll duration",
            "Half and 95 % of the polls took no longer than this.",
            "s",
            Query(quantile(0.5, duration, SOURCE), "{{source}} 50 %"),
            Query(quantile(0.95, duration, SOURCE), "{{source}} 95 %"),
        ),
        graph(
            "Interval: present and reachable",
            "From one poll to the next, and from one look at a run to the next as the limit of requests allows it. A"
            " reachable interval above the configured one means that more runs are open than the limit can watch.",
            "s",
            Query(interval, "{{source}} polls"),
            Query(reachable, "{{source}} reachable"),
        ),
        graph(
            "Requests: needed and allowed",
            "Requests a minute that it takes to watch the open runs at the configured interval, and the configured limit.",
            "reqpm",
            Query(newest(chosen("lineage_source_requests_needed_per_minute", SOURCE), SOURCE), "{{source}} needed"),
            Query(newest(chosen("lineage_source_requests_allowed_per_minute", SOURCE), SOURCE), "{{source}} allowed"),
        ),
    )
