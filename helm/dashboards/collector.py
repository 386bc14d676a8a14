"""The dashboard of the collector itself: from the polls of the platforms to what the sinks acknowledged."""

from collections.abc import Mapping, Sequence

from helm.dashboards import delivery, polling, responses
from helm.dashboards.grafana import RUNBOOKS, Column, Dashboard, Panel, Query, Variable, bars, graph, stat, table
from helm.dashboards.limits import BEHIND_SECONDS, LEDGER_FULL, POLLS_MISSED
from helm.dashboards.promql import (
    INSTANCE,
    NAMESPACE,
    SINK,
    SOURCE,
    chosen,
    newest,
    of_collectors,
    or_zero,
    quantile,
    rate,
)

_OURS = 'alertname=~"Lineage.+", namespace=~"$namespace|"'
_SUCCESS = newest(chosen("lineage_poll_last_success_timestamp_seconds", SOURCE), SOURCE)
_INTERVAL = newest(chosen("lineage_poll_interval_seconds", SOURCE), SOURCE)
_OVERDUE = f"time() - {_SUCCESS} > {POLLS_MISSED} * {_INTERVAL} or {_INTERVAL} unless {_SUCCESS}"
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
            runbooks=["LineageCollectorDown", "LineageCollectorRestarting"],
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
            f"Sources whose last good poll is more than {POLLS_MISSED} intervals ago, or that have none yet.",
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
            limits=[(BEHIND_SECONDS / 2, "yellow"), (BEHIND_SECONDS, "red")],
            runbooks=["LineageDeliveryBehind"],
        ),
        stat(
            "Freshness, 95 %",
            "In the shown time, 95 % of the events were acknowledged within this time after their eventTime, by the"
            " platform's clock.",
            "s",
            fresh,
            instant=True,
            limits=[(BEHIND_SECONDS, "yellow"), (5 * BEHIND_SECONDS, "red")],
            fields={"noValue": "no events"},
        ),
        stat(
            "Parked events",
            "Events that a sink refused for good. The ledger keeps them: `lineage-collector parked list` shows the causes.",
            "short",
            f"sum({newest(chosen('lineage_events_parked', SINK), SINK)})",
            limits=[(1, "yellow")],
            runbooks=["LineageEventsParked", "LineageEventsLeftParked"],
        ),
        stat(
            "Open circuits",
            "Sinks that get nothing but probes for a while after failures.",
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
            runbooks=["LineageLedgerFilling", "LineagePollingPaused"],
            fields={"min": 0, "max": 1},
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
            runbooks=["LineageLedgerFilling", "LineagePollingPaused"],
        ),
        graph(
            "Ledger failures",
            "Ledgers set aside as they could not be used, and scrapes that could not read it, within the hour before.",
            "short",
            Query(f"sum by (namespace) (increase({chosen('lineage_ledger_resets_total')}[1h]))", "set aside"),
            Query(f"sum by (namespace) (increase({chosen('lineage_ledger_read_failures_total')}[1h]))", "not read"),
            limits=[(1, "red")],
            runbooks=["LineageLedgerReset", "LineageLedgerUnreadable"],
        ),
        graph(
            "Processor",
            "Cores in use.",
            "short",
            Query(of_collectors(rate("process_cpu_seconds_total")), "{{instance}}"),
        ),
        graph(
            "Memory",
            "Resident memory of the process.",
            "bytes",
            Query(of_collectors("process_resident_memory_bytes"), "{{instance}}"),
        ),
        graph(
            "Open files",
            "File descriptors, sockets among them, as a share of what the process may open.",
            "percentunit",
            Query(of_collectors("process_open_fds / process_max_fds"), "{{instance}}"),
            limits=[(LEDGER_FULL, "red")],
        ),
        bars(
            "Running since",
            "Time since each process started.",
            "s",
            Query(of_collectors("time() - process_start_time_seconds"), "{{instance}}", instant=True),
            width=4,
        ),
        bars(
            "Configuration read",
            "Time since each process last read its configuration successfully.",
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
            "Versions and instances that run.",
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
        description="The state of the lineage collector: polling, delivery, ledger and process.",
        span="6h",
        variables=(
            Variable(NAMESPACE, "Namespace", "label_values(lineage_build_info, namespace)"),
            Variable(INSTANCE, "Instance", f"label_values({within}, instance)"),
            Variable(SOURCE, "Source", f"label_values({chosen('lineage_poll_total')}, source)"),
            Variable(SINK, "Sink", f"label_values({chosen('lineage_sends_total')}, sink)"),
        ),
        rows={
            "Overview": _overview(),
            "Polling": polling.panels(),
            "The platforms' answers": responses.panels(),
            "Delivery": delivery.panels(),
            "Ledger and process": _process(),
            "Alerts and versions": _tables(),
        },
        siblings=siblings,
        restarts=of_collectors("1000 * process_start_time_seconds"),
    )
