"""Is the collector itself well? From asking the platforms to what the sinks acknowledged."""

from collections.abc import Mapping, Sequence

from helm.dashboards.grafana import (
    RUNBOOKS,
    Column,
    Dashboard,
    Panel,
    Query,
    Variable,
    bars,
    graph,
    stat,
    table,
    timeline,
)
from helm.dashboards.selecting import INSTANCE, NAMESPACE, SINK, SOURCE, chosen, newest, of_us, or_zero, quantile, rate

BEHIND = 120
"""Seconds; this and the limits below are those at which the chart's alerts fire by default."""
LEDGER_FULL, THROTTLED, SKEW, POLLS_MISSED = 0.8, 0.2, 60, 5

_BAD_RESULTS = 'result!~"ok|paused"'
_OURS = 'alertname=~"Lineage.+", namespace=~"$namespace|"'
_OVERDUE = (
    f"time() - {newest(chosen('lineage_poll_last_success_timestamp_seconds', SOURCE), SOURCE)}"
    f" > {POLLS_MISSED} * {newest(chosen('lineage_poll_interval_seconds', SOURCE), SOURCE)}"
)
_LEDGER_SHARE = f"{newest(chosen('lineage_ledger_bytes'))} / {newest(chosen('lineage_ledger_limit_bytes'))}"


def _overview() -> Sequence[Panel]:
    fresh = quantile(0.95, chosen("lineage_freshness_seconds_bucket", SOURCE, SINK), window="$__range")
    return (
        stat(
            "Collectors",
            "Processes that are scraped.",
            "short",
            or_zero(f"count({chosen('lineage_build_info')})"),
            fields={
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}],
                }
            },
            runbooks=["LineageCollectorDown"],
        ),
        stat(
            "Alerts firing",
            "Alerts of the chart's rules that fire now; the table at the bottom names them.",
            "short",
            or_zero(f'count(ALERTS{{{_OURS}, alertstate="firing"}})'),
            limits=[(1, "red")],
        ),
        stat(
            "Sources behind",
            f"Sources whose last good poll is more than {POLLS_MISSED} intervals ago.",
            "short",
            or_zero(f"count({_OVERDUE})"),
            limits=[(1, "red")],
            runbooks=["LineagePollFailing"],
        ),
        stat(
            "Oldest waiting event",
            "How long the oldest event that a sink has not got yet has waited, over all sinks.",
            "s",
            f"max({chosen('lineage_delivery_oldest_seconds', SINK)})",
            limits=[(BEHIND / 2, "yellow"), (BEHIND, "red")],
            runbooks=["LineageDeliveryBehind"],
        ),
        stat(
            "Freshness, 95 %",
            "In the shown time, 95 % of the events were acknowledged within this time of the moment they speak of, by the"
            " platform's clock.",
            "s",
            fresh,
            instant=True,
            limits=[(BEHIND, "yellow"), (5 * BEHIND, "red")],
            fields={"noValue": "no events"},
        ),
        stat(
            "Parked events",
            "Events that a sink refused for good. They are kept: `lineage-collector parked list` names the causes.",
            "short",
            f"sum({newest(chosen('lineage_events_parked', SINK), SINK)})",
            limits=[(1, "yellow")],
            runbooks=["LineageEventsParked"],
        ),
        stat(
            "Open circuits",
            "Sinks that are left alone for a while after failures.",
            "short",
            f"sum({newest(chosen('lineage_sink_circuit_open', SINK), SINK)})",
            limits=[(1, "red")],
            runbooks=["LineageDeliveryBehind"],
        ),
        stat(
            "Ledger",
            "Share of the ledger's limit that is used. Polling pauses at 100 %; nothing is lost, as the platforms keep"
            " their history.",
            "percentunit",
            f"max({_LEDGER_SHARE})",
            limits=[(0.6, "yellow"), (LEDGER_FULL, "red")],
            runbooks=["LineageLedgerFilling"],
            fields={"min": 0, "max": 1},
        ),
    )


def _polling() -> Sequence[Panel]:
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
            "Time since the last good poll",
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
            " reachable interval above the wished one means that more runs are open than the limit can watch.",
            "s",
            Query(interval, "{{source}} polls"),
            Query(reachable, "{{source}} reachable"),
        ),
        graph(
            "Requests: needed and allowed",
            "Requests a minute that it takes to watch the open runs at the wished interval, and the limit that was set.",
            "reqpm",
            Query(newest(chosen("lineage_source_requests_needed_per_minute", SOURCE), SOURCE), "{{source}} needed"),
            Query(newest(chosen("lineage_source_requests_allowed_per_minute", SOURCE), SOURCE), "{{source}} allowed"),
        ),
    )


def _requests() -> Sequence[Panel]:
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
            "Answers 401 and 403. They stop by themselves once the secret is right: secrets are read anew.",
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
            "Requests left in the platform's quota, as it last said. Platforms that say nothing have no line.",
            "short",
            Query(
                f"min by (namespace, source) ({chosen('lineage_source_rate_limit_remaining', SOURCE)})", "{{source}}"
            ),
            runbooks=["LineageSourceThrottled"],
        ),
        graph(
            "Clock of the platform against ours",
            "How far the platform's clock is ahead; negative: behind.",
            "s",
            Query(newest(chosen("lineage_clock_skew_seconds", SOURCE), SOURCE), "{{source}}"),
            limits=[(SKEW, "red")],
            fields={"min": None},
            runbooks=["LineageClockSkew"],
        ),
        graph(
            "Left out or not understood",
            "Per hour and kind, statuses that are not known here among them; `lineage-collector skipped` lists what it was.",
            "suffix: /h",
            Query(
                f"3600 * sum by (source, kind) ({rate(chosen('lineage_skipped_total', SOURCE))})", "{{source}} {{kind}}"
            ),
            Query(
                f"3600 * sum by (source) ({rate(chosen('lineage_source_unknown_status_total', SOURCE))})",
                "{{source}} unknown status",
            ),
        ),
        graph(
            "Hints",
            "Messages from outside that something changed, by what became of them: `refused` ones were not signed as agreed.",
            "suffix: /h",
            Query(
                f"3600 * sum by (source, result) ({rate(chosen('lineage_hints_total', SOURCE))})",
                "{{source}} {{result}}",
            ),
            width=12,
            stacked=True,
        ),
        graph(
            "Jobs without series of their own",
            "Jobs that the metrics leave out, as there are too many; their runs are delivered all the same.",
            "short",
            Query(newest(chosen("lineage_jobs_left_out", SOURCE), SOURCE), "{{source}}"),
            limits=[(1, "yellow")],
            width=12,
        ),
    )


def _delivery() -> Sequence[Panel]:
    sends = chosen("lineage_send_duration_seconds_bucket", SINK)
    fresh = chosen("lineage_freshness_seconds_bucket", SOURCE, SINK)
    return (
        graph(
            "Events made",
            "Events committed to the ledger, by type.",
            "suffix: /min",
            Query(
                f"60 * sum by (source, type) ({rate(chosen('lineage_events_total', SOURCE))})", "{{source}} {{type}}"
            ),
            stacked=True,
        ),
        graph(
            "Events that wait",
            "Events that a sink has not got yet.",
            "short",
            Query(newest(chosen("lineage_deliveries_pending", SINK), SINK), "{{sink}}"),
            runbooks=["LineageDeliveryBehind"],
        ),
        graph(
            "Oldest event that waits",
            "Since its commit to the ledger.",
            "s",
            Query(newest(chosen("lineage_delivery_oldest_seconds", SINK), SINK), "{{sink}}"),
            limits=[(BEHIND, "red")],
            runbooks=["LineageDeliveryBehind"],
        ),
        graph(
            "Freshness by source and sink",
            "95 % of the events were acknowledged within this time of the moment they speak of, by the platform's clock.",
            "s",
            Query(quantile(0.95, fresh, SOURCE, SINK), "{{source}} → {{sink}}", exemplars=True),
            limits=[(BEHIND, "yellow")],
        ),
        graph(
            "Freshness of all",
            "Half, 95 % and 99 % of all events were acknowledged within this time.",
            "s",
            Query(quantile(0.5, fresh), "50 %"),
            Query(quantile(0.95, fresh), "95 %"),
            Query(quantile(0.99, fresh), "99 %"),
        ),
        graph(
            "Parked events",
            "Events that a sink refused for good and that nobody has sent again or dropped yet.",
            "short",
            Query(newest(chosen("lineage_events_parked", SINK), SINK), "{{sink}}"),
            limits=[(1, "yellow")],
            runbooks=["LineageEventsParked"],
        ),
        graph(
            "Sends by result",
            "`retry`: will be sent again; `parked`: refused for good; `in_flight`: handed over, the answer is to come.",
            "suffix: /min",
            Query(f"60 * sum by (sink, result) ({rate(chosen('lineage_sends_total', SINK))})", "{{sink}} {{result}}"),
            stacked=True,
            runbooks=["LineageDeliveryBehind"],
        ),
        graph(
            "Send duration",
            "Half and 95 % of the attempts took no longer than this.",
            "s",
            Query(quantile(0.5, sends, SINK), "{{sink}} 50 %"),
            Query(quantile(0.95, sends, SINK), "{{sink}} 95 %"),
        ),
        graph(
            "Runs in doubt",
            "Looks at runs one of whose attempts went unanswered: `again` ones needed their last event once more.",
            "suffix: /h",
            Query(
                f"3600 * sum by (sink, result) ({rate(chosen('lineage_rechecks_total', SINK))})", "{{sink}} {{result}}"
            ),
        ),
        timeline(
            "Circuits",
            "Open: the sink is left alone for a while after failures; its events wait in the ledger.",
            Query(newest(chosen("lineage_sink_circuit_open", SINK), SINK), "{{sink}}"),
            {0: ("closed", "green"), 1: ("open", "red")},
            width=12,
            runbooks=["LineageDeliveryBehind"],
        ),
        timeline(
            "Leases",
            "Who polls a source or feeds a sink holds its lease: one process at a time.",
            Query(f"sum by (namespace, lease) ({chosen('lineage_lease_held')})", "{{lease}}"),
            {0: ("nobody", "red"), 1: ("held", "green"), 2: ("held twice", "dark-red")},
            width=12,
            runbooks=["LineageLeaseUnheld", "LineageLeaseHeldTwice"],
        ),
    )


def _process() -> Sequence[Panel]:
    size, limit = newest(chosen("lineage_ledger_bytes")), newest(chosen("lineage_ledger_limit_bytes"))
    ahead = f"max by (namespace) (predict_linear({chosen('lineage_ledger_bytes')}[1h], 4 * 3600))"
    return (
        graph(
            "Ledger size",
            "Against its limit, and where it will be in four hours if it grows as in the last one.",
            "bytes",
            Query(size, "used"),
            Query(limit, "limit"),
            Query(ahead, "in 4 h"),
            runbooks=["LineageLedgerFilling"],
        ),
        graph(
            "Ledger trouble",
            "Ledgers set aside as they could not be used, and scrapes that could not read it, within the hour before.",
            "short",
            Query(f"sum by (namespace) (increase({chosen('lineage_ledger_resets_total')}[1h]))", "set aside"),
            Query(f"sum by (namespace) (increase({chosen('lineage_ledger_read_failures_total')}[1h]))", "not read"),
            limits=[(1, "red")],
            runbooks=["LineageLedgerReset"],
        ),
        graph(
            "Processor",
            "Cores in use.",
            "short",
            Query(of_us(rate("process_cpu_seconds_total")), "{{instance}}"),
        ),
        graph(
            "Memory",
            "Resident memory of the process.",
            "bytes",
            Query(of_us("process_resident_memory_bytes"), "{{instance}}"),
        ),
        graph(
            "Open files",
            "File descriptors, sockets among them, as a share of what the process may open.",
            "percentunit",
            Query(of_us("process_open_fds / process_max_fds"), "{{instance}}"),
            limits=[(LEDGER_FULL, "red")],
        ),
        bars(
            "Running since",
            "Time since each process started.",
            "s",
            Query(of_us("time() - process_start_time_seconds"), "{{instance}}", instant=True),
            width=4,
        ),
        bars(
            "Configuration read",
            "Time since each process last read its configuration well.",
            "s",
            Query(
                f"time() - {chosen('lineage_config_last_reload_success_timestamp_seconds')}",
                "{{instance}}",
                instant=True,
            ),
            width=4,
        ),
    )


def _tables() -> Sequence[Panel]:
    runbook = {"title": "Runbook", "url": f"{RUNBOOKS}/${{__data.fields.Alert}}.md", "targetBlank": True}
    none = 'label_replace(vector(0), "alertname", "none", "", "")'
    alerts = f"sum by (alertname, alertstate, severity, namespace, source, sink, job) (ALERTS{{{_OURS}}}) or {none}"
    return (
        table(
            "Alerts",
            "Alerts of the chart's rules, pending and firing. A click on a name opens its runbook.",
            "short",
            [alerts],
            [
                Column("alertname", "Alert", links=[runbook]),
                Column("alertstate", "State"),
                Column("severity", "Severity"),
                Column("namespace", "Namespace"),
                Column("source", "Source"),
                Column("sink", "Sink"),
                Column("job", "Job"),
                Column("Value", "Count"),
            ],
            by="State",
            width=14,
        ),
        table(
            "Versions",
            "What runs where.",
            "short",
            [f"max by (namespace, instance, version, revision, python) ({chosen('lineage_build_info')})"],
            [
                Column("namespace", "Namespace"),
                Column("instance", "Instance"),
                Column("version", "Version"),
                Column("revision", "Revision"),
                Column("python", "Python"),
                Column("Value", "Processes"),
            ],
            by="Instance",
            width=10,
        ),
    )


def dashboard(siblings: Mapping[str, str]) -> Dashboard:
    within = 'lineage_build_info{namespace=~"$namespace"}'
    return Dashboard(
        uid="lineage-collector",
        title="Lineage collector",
        description="Whether the collector of lineage is well: polling, delivery, ledger and process.",
        span="6h",
        variables=(
            Variable(NAMESPACE, "Namespace", "label_values(lineage_build_info, namespace)"),
            Variable(INSTANCE, "Instance", f"label_values({within}, instance)"),
            Variable(SOURCE, "Source", f"label_values({chosen('lineage_poll_total')}, source)"),
            Variable(SINK, "Sink", f"label_values({chosen('lineage_sends_total')}, sink)"),
        ),
        rows={
            "Overview": _overview(),
            "Polling": _polling(),
            "The platforms' answers": _requests(),
            "Delivery": _delivery(),
            "Ledger and process": _process(),
            "Alerts and versions": _tables(),
        },
        siblings=siblings,
        restarts=of_us("1000 * process_start_time_seconds"),
    )
