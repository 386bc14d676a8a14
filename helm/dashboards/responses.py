"""The collector's panels about the responses of the platforms."""

from collections.abc import Sequence

from helm.dashboards.grafana import Panel, Query, graph
from helm.dashboards.limits import SKEW_SECONDS, THROTTLED
from helm.dashboards.promql import SOURCE, chosen, newest, rate


def panels() -> Sequence[Panel]:
    requests = chosen("lineage_source_requests_total", SOURCE)
    throttled = chosen("lineage_source_requests_total", SOURCE, 'code_class="429"')
    refused = chosen("lineage_source_requests_total", SOURCE, 'code_class=~"401|403"')
    return (
        graph(
            "Requests by answer",
            "Requests to the platforms by class of status; `none` is no answer at all.",
            "reqpm",
            Query(f"60 * sum by (source, code_class) ({rate(requests)})", "{{source}} {{code_class}}"),
            stacked=True,
        ),
        graph(
            "Refused credentials",
            "Answers 401 and 403. They stop by themselves once the secret is valid: secrets are read again.",
            "reqpm",
            Query(f"60 * sum by (source) ({rate(refused)})", "{{source}}"),
            runbooks=["LineageSourceAuthFailing"],
        ),
        graph(
            "Throttled requests",
            "Share of the requests that were answered 429.",
            "percentunit",
            Query(f"sum by (source) ({rate(throttled)}) / sum by (source) ({rate(requests)})", "{{source}}"),
            limits=[(THROTTLED, "red")],
            runbooks=["LineageSourceThrottled"],
        ),
        graph(
            "Quota left",
            "Requests left in the platform's quota, by its last answer. Platforms that report none have no line.",
            "short",
            Query(
                f"min by (namespace, source) ({chosen('lineage_source_rate_limit_remaining', SOURCE)})", "{{source}}"
            ),
            runbooks=["LineageSourceThrottled"],
        ),
        graph(
            "Clock of the platform against the collector's",
            "How far the platform's clock is ahead; negative: behind.",
            "s",
            Query(newest(chosen("lineage_clock_skew_seconds", SOURCE), SOURCE), "{{source}}"),
            limits=[(SKEW_SECONDS, "red")],
            fields={"min": None},
            runbooks=["LineageClockSkew"],
        ),
        graph(
            "Left out or not understood",
            "Per hour and kind, unknown statuses among them; `lineage-collector skipped` lists them.",
            "suffix: /h",
            Query(
                f"3600 * sum by (source, kind) ({rate(chosen('lineage_skipped_total', SOURCE))})", "{{source}} {{kind}}"
            ),
            Query(
                f"3600 * sum by (source) ({rate(chosen('lineage_source_unknown_status_total', SOURCE))})",
                "{{source}} unknown status",
            ),
            runbooks=[
                "LineageUnknownStatus",
                "LineageRunsLost",
                "LineageRowsUnreadable",
                "LineageEnrichmentFailing",
            ],
        ),
        graph(
            "Hints",
            "Messages from outside that something changed, by result: `refused` ones had no valid signature.",
            "suffix: /h",
            Query(
                f"3600 * sum by (source, result) ({rate(chosen('lineage_hints_total', SOURCE))})",
                "{{source}} {{result}}",
            ),
            width=12,
            stacked=True,
        ),
        graph(
            "Jobs without series",
            "Jobs that the metrics leave out, as there are too many; their runs are delivered like all others.",
            "short",
            Query(newest(chosen("lineage_jobs_left_out", SOURCE), SOURCE), "{{source}}"),
            limits=[(1, "yellow")],
            width=12,
            runbooks=["LineageJobsLeftOut"],
        ),
    )
