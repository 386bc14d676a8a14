"""The events that every entrant delivers: a realistic COMPLETE of about 2.4 kB, all runs different."""

from datetime import UTC, datetime
from uuid import UUID

from collector.lineage.events import EventMaker
from collector.model import Dataset, EventKind, Facts, Field, Job, Run, RunState, Transition

AT = datetime(2026, 11, 22, 6, tzinfo=UTC)
COLUMNS = tuple(Field(f"column_{number}", "string") for number in range(10))
HERE = "cdf://westeurope-1.cognitedata.com/plant-a"


def run(number: int) -> Run:
    job = Job(
        str(number % 50),
        HERE,
        f"transformation/job-{number % 50}",
        "QUERY",
        "CDF",
        description="Pumps from SAP",
        sql="select `key` as externalId, name from `sap`.`pumps` where is_new('pumps', lastUpdatedTime)",
        dialect="spark",
    )
    source, target = (Dataset(HERE, name, uri=HERE, fields=COLUMNS) for name in ("raw/sap/pumps", "assets"))
    facts = Facts(inputs=(source,), outputs=(target,), engine="spark", external_id=str(number))
    return Run(
        str(number),
        UUID(int=number, version=4),
        job,
        RunState.SUCCEEDED,
        "Completed",
        AT,
        AT,
        began_at=AT,
        finished_at=AT,
        started_at=AT,
        ended_at=AT,
        last_event_at=AT,
        facts=facts,
    )


def bodies(count: int) -> list[bytes]:
    maker = EventMaker("plant-a")
    return [maker.event(run(number), Transition(EventKind.COMPLETE, AT)) for number in range(count)]
