"""The collector's panels about the delivery of events to the sinks."""

from collections.abc import Sequence

from helm.dashboards.grafana import Panel, Query, graph, timeline
from helm.dashboards.limits import BEHIND_SECONDS
from helm.dashboards.promql import SINK, SOURCE, chosen, newest, quantile, rate


def panels() -> Sequence[Panel]:
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
            limits=[(BEHIND_SECONDS, "red")],
            runbooks=["LineageDeliveryBehind"],
        ),
        graph(
            "Freshness by source and sink",
            "95 % of the events were acknowledged within this time after their eventTime, by the platform's clock.",
            "s",
            Query(quantile(0.95, fresh, SOURCE, SINK), "{{source}} → {{sink}}", exemplars=True),
            limits=[(BEHIND_SECONDS, "yellow")],
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
            "Events that a sink refused for good and that were neither sent again nor dropped yet.",
            "short",
            Query(newest(chosen("lineage_events_parked", SINK), SINK), "{{sink}}"),
            limits=[(1, "yellow")],
            runbooks=["LineageEventsParked", "LineageEventsLeftParked"],
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
            "Rechecks of runs one of whose attempts had no answer: `again` ones needed their last event once more.",
            "suffix: /h",
            Query(
                f"3600 * sum by (sink, result) ({rate(chosen('lineage_rechecks_total', SINK))})", "{{sink}} {{result}}"
            ),
        ),
        timeline(
            "Circuits",
            "Open: the sink gets nothing but probes for a while after failures; its events wait in the ledger.",
            Query(newest(chosen("lineage_sink_circuit_open", SINK), SINK), "{{sink}}"),
            {0: ("closed", "green"), 1: ("open", "red")},
            width=12,
            runbooks=["LineageDeliveryBehind"],
        ),
        timeline(
            "Leases",
            "The process that polls a source or feeds a sink holds its lease: one process at a time.",
            Query(f"sum by (namespace, lease) ({chosen('lineage_lease_held')})", "{{lease}}"),
            {0: ("nobody", "red"), 1: ("held", "green"), 2: ("held twice", "dark-red")},
            width=12,
            runbooks=["LineageLeaseUnheld", "LineageLeaseHeldTwice"],
        ),
    )
