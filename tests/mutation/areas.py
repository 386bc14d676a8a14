"""What is mutated, and which tests are asked about it: quick ones that run in one process, those that concern the module most first."""

from collections.abc import Iterator
from pathlib import Path

from tests.mutation.mutants import ROOT

UNIT, LEDGER, POLLING, EXPORTERS = "tests/unit", "tests/unit/ledger", "tests/unit/polling", "tests/unit/exporters"
PLATFORMS = "tests/unit/platforms"

_LEDGER = tuple(f"{LEDGER}/test_{name}.py" for name in ("lanes", "runs", "parked"))
_POLLING = tuple(f"{POLLING}/test_{name}.py" for name in ("commits", "source"))
_DELIVERY = tuple(f"{EXPORTERS}/test_{name}.py" for name in ("claimer", "delivery"))
_WATERMARKS = tuple(f"{PLATFORMS}/test_{name}.py" for name in ("answers", "watermark", "future_times"))
_CDF = tuple(
    f"{PLATFORMS}/test_{name}.py"
    for name in (
        "cdf_answers",
        "cdf_odd_answers",
        "cdf_sql",
        "cdf_workflows",
        "cdf_access",
        "load",
        "cdf_poll",
        "future_times",
    )
)
_DATAPREP = (
    *(f"{PLATFORMS}/test_dataprep_{name}.py" for name in ("run_lists", "odd_answers", "cursor", "names", "budget")),
    *(f"{PLATFORMS}/test_dataprep_{name}.py" for name in ("definitions", "lineage", "documented", "access", "poll")),
    *(f"{PLATFORMS}/test_{name}.py" for name in ("load", "future_times")),
)
_WETRANSFORM = (
    *(f"{PLATFORMS}/test_wetransform{name}.py" for name in ("_steps", "_envelope", "_hints", "_discovery", "")),
    f"{PLATFORMS}/test_load.py",
)
_HTTP_SINKS = tuple(f"{EXPORTERS}/test_{name}.py" for name in ("http_answers", "openlineage", "openlineage_batch"))
_KAFKA = tuple(f"{EXPORTERS}/test_kafka_{name}.py" for name in ("errors", "key", "settings", "flow", "internals"))
_MARQUEZ = tuple(f"{EXPORTERS}/test_marquez{name}.py" for name in ("_comparison", "_lookup", ""))

TESTS: dict[str, tuple[str, ...]] = {
    "collector/lifecycle.py": (f"{UNIT}/test_lifecycle.py", "tests/property/test_lifecycle.py"),
    "collector/redaction.py": (f"{UNIT}/test_redaction.py", f"{UNIT}/test_secret_registry.py"),
    "collector/polling/backfill.py": (f"{POLLING}/test_backfill.py",),
    "collector/polling/commits.py": (
        f"{POLLING}/test_commits.py",
        f"{POLLING}/test_repeats.py",
        *_POLLING,
        f"{POLLING}/test_backfill_for_one_sink.py",
        f"{POLLING}/test_dataset_names.py",
        f"{POLLING}/test_families.py",
        f"{POLLING}/test_execution_ids.py",
    ),
    "collector/polling/decision.py": (f"{POLLING}/test_decide.py", f"{POLLING}/test_families.py", *_POLLING),
    "collector/polling/definitions.py": (f"{POLLING}/test_definitions.py", *_POLLING),
    "collector/polling/enrichment.py": (f"{POLLING}/test_enrichment.py", *_POLLING),
    "collector/polling/job_names.py": (f"{POLLING}/test_job_names.py",),
    "collector/polling/load.py": (f"{POLLING}/test_load.py", f"{UNIT}/platforms/test_load.py"),
    "collector/polling/outages.py": (f"{POLLING}/test_source.py", f"{LEDGER}/test_outages.py"),
    "collector/polling/past_runs.py": (f"{POLLING}/test_backfill.py", f"{POLLING}/test_backfill_for_one_sink.py"),
    "collector/polling/redaction.py": (f"{POLLING}/test_observation_redaction.py", f"{POLLING}/test_source.py"),
    "collector/polling/repeats.py": (f"{POLLING}/test_repeats.py",),
    "collector/polling/requests.py": (f"{POLLING}/test_source_requests.py", f"{UNIT}/app/test_hints.py"),
    "collector/polling/schedule.py": (f"{POLLING}/test_schedule.py", f"{POLLING}/test_source.py"),
    "collector/polling/source.py": (f"{POLLING}/test_source.py", *_POLLING),
    "exporters/delivery/backfill.py": (f"{EXPORTERS}/test_backfill.py",),
    "exporters/delivery/circuit.py": (f"{EXPORTERS}/test_circuit.py", f"{EXPORTERS}/test_delivery.py"),
    "exporters/delivery/health.py": (f"{EXPORTERS}/test_health.py", *_DELIVERY),
    "exporters/delivery/requests.py": (
        f"{EXPORTERS}/test_backfill.py",
        f"{EXPORTERS}/test_sink_delivery.py",
        f"{EXPORTERS}/test_delivery.py",
    ),
    "exporters/delivery/session.py": (*_DELIVERY, f"{EXPORTERS}/test_backfill.py"),
    "exporters/delivery/in_flight.py": (f"{EXPORTERS}/test_in_flight.py", *_DELIVERY),
    "collector/ledger/acknowledged.py": (f"{LEDGER}/test_acknowledged.py", *_LEDGER),
    "collector/ledger/activity.py": (f"{LEDGER}/test_activity.py", f"{UNIT}/app/test_activity.py"),
    "collector/ledger/backlog.py": (f"{LEDGER}/test_queries.py", *_LEDGER),
    "collector/ledger/claims.py": (
        f"{LEDGER}/test_parked.py",
        f"{LEDGER}/test_lanes.py",
        f"{LEDGER}/test_fair_share.py",
        f"{LEDGER}/test_refusals.py",
        f"{EXPORTERS}/test_claimer.py",
        *_LEDGER,
    ),
    "collector/ledger/queries.py": (
        f"{LEDGER}/test_queries.py",
        f"{LEDGER}/test_leases.py",
        f"{LEDGER}/test_retention.py",
    ),
    "collector/ledger/job_queries.py": (f"{LEDGER}/test_queries.py", f"{LEDGER}/test_runs.py"),
    "collector/ledger/run_queries.py": (f"{LEDGER}/test_queries.py", f"{UNIT}/app/test_run_listing.py"),
    "collector/ledger/acknowledgements.py": (f"{LEDGER}/test_history.py", f"{LEDGER}/test_retention.py"),
    "collector/ledger/fair_share.py": (f"{LEDGER}/test_fair_share.py", f"{LEDGER}/test_held_lease.py"),
    "collector/ledger/held_lease.py": (f"{LEDGER}/test_held_lease.py", f"{UNIT}/test_tenures.py"),
    "collector/ledger/history.py": (f"{LEDGER}/test_history.py", f"{UNIT}/app/test_explain.py"),
    "collector/ledger/run_rows.py": (f"{LEDGER}/test_runs.py", f"{LEDGER}/test_stored.py", *_LEDGER),
    "collector/ledger/skips.py": (f"{LEDGER}/test_inventory.py", *_POLLING, *_LEDGER),
    "collector/ledger/strands.py": (f"{LEDGER}/test_lanes.py", f"{LEDGER}/test_runs.py", f"{POLLING}/test_families.py"),
    "collector/ledger/tallies.py": (
        f"{LEDGER}/test_queries.py",
        f"{LEDGER}/test_parked.py",
        "tests/property/test_ledger_counts.py",
        *_LEDGER,
    ),
    "collector/ledger/backfill.py": (
        f"{LEDGER}/test_configured_sinks.py",
        f"{EXPORTERS}/test_backfill.py",
        f"{POLLING}/test_backfill.py",
        *_LEDGER,
    ),
    "collector/ledger/requests.py": (
        f"{LEDGER}/test_requests.py",
        f"{LEDGER}/test_shards.py",
        f"{POLLING}/test_backfill.py",
        f"{EXPORTERS}/test_backfill.py",
    ),
    "collector/ledger/leases.py": (f"{LEDGER}/test_leases.py", f"{LEDGER}/test_held_lease.py"),
    "collector/ledger/runs.py": (f"{LEDGER}/test_runs.py", f"{LEDGER}/test_stored.py", *_LEDGER),
    "collector/ledger/parked.py": (
        f"{LEDGER}/test_parked.py",
        f"{LEDGER}/test_overflow.py",
        f"{LEDGER}/test_resend.py",
    ),
    "collector/ledger/lanes.py": (
        f"{LEDGER}/test_parked.py",
        f"{LEDGER}/test_lanes.py",
        f"{LEDGER}/test_configured_sinks.py",
    ),
    "collector/ledger/listeners.py": (f"{LEDGER}/test_notices.py", f"{LEDGER}/test_store.py"),
    "collector/ledger/worker.py": (f"{LEDGER}/test_store.py",),
    "collector/ledger/migration.py": (f"{LEDGER}/test_schema.py",),
    "collector/ledger/schema.py": (f"{LEDGER}/test_schema.py", *_LEDGER),
    "collector/ledger/sqlite/backup.py": (f"{LEDGER}/test_backup.py",),
    "collector/ledger/sqlite/file.py": (
        f"{LEDGER}/test_lost_file.py",
        f"{LEDGER}/test_schema.py",
        f"{LEDGER}/test_store.py",
    ),
    "collector/ledger/sqlite/lock.py": (f"{LEDGER}/test_lock.py", f"{LEDGER}/test_store.py"),
    "collector/ledger/sqlite/presence.py": (f"{LEDGER}/test_store.py", f"{LEDGER}/test_lost_file.py"),
    "collector/ledger/sqlite/store.py": (f"{LEDGER}/test_store.py", f"{LEDGER}/test_lost_file.py"),
    "collector/ledger/sqlite/transfer.py": (f"{LEDGER}/test_transfer.py",),
    "collector/platforms/cdf/": _CDF,
    "collector/platforms/dataprep/": _DATAPREP,
    "collector/platforms/wetransform/": _WETRANSFORM,
    "exporters/sinks/base.py": (*_HTTP_SINKS, f"{EXPORTERS}/test_file.py"),
    "exporters/sinks/file.py": (f"{EXPORTERS}/test_file.py", f"{EXPORTERS}/test_journal.py"),
    "exporters/sinks/journal.py": (f"{EXPORTERS}/test_journal.py", f"{EXPORTERS}/test_file.py"),
    "exporters/sinks/kafka/": _KAFKA,
    "exporters/sinks/marquez/": _MARQUEZ,
}
"""By module, or by folder for all that is in it. Modules that are not here have the tests of the same name, and then those of their area."""

AREAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "collector/lifecycle.py": (UNIT, ()),
    "collector/redaction.py": (UNIT, ()),
    "collector/polling": (POLLING, _POLLING),
    "exporters/delivery": (EXPORTERS, _DELIVERY),
    "collector/ledger": (LEDGER, _LEDGER),
    "collector/platforms": (PLATFORMS, _WATERMARKS),
    "exporters/sinks": (EXPORTERS, _HTTP_SINKS),
    "exporters/metrics": (EXPORTERS, (f"{EXPORTERS}/test_metrics.py",)),
}
_WITHOUT = "collector/ledger/postgres/", "collector/ledger/migrations/"
"""They need a server, or ledgers of old versions, for each mutant."""


def modules(area: str) -> list[str]:
    if area.endswith(".py"):
        return [area]
    found = sorted(str(each.relative_to(ROOT)) for each in (ROOT / area).rglob("*.py"))
    return [each for each in found if not each.startswith(_WITHOUT)]


def asked(module: str) -> list[str]:
    """Each once, in the order in which they are asked."""
    return list(dict.fromkeys(_tests(module)))


def _tests(module: str) -> Iterator[str]:
    listed = next((TESTS[each] for each in (module, f"{Path(module).parent}/") if each in TESTS), None)
    if listed is not None:
        yield from listed
        return
    folder, wide = next(found for area, found in AREAS.items() if module.startswith(area))
    own = f"{folder}/test_{Path(module).stem}.py"
    if (ROOT / own).exists():
        yield own
    yield from wide
