"""Rows by the names in a path, or the 404 that Marquez answers."""

from uuid import UUID

from simulators.marquez import names
from simulators.marquez.answers import missing, not_found
from simulators.marquez.tables import Job, Namespace, Run, Tables
from simulators.marquez.wire import Call


def namespace(tables: Tables, space: str) -> Namespace:
    if space not in tables.namespaces:
        raise missing("Namespace", space)
    return tables.namespaces[space]


def job(tables: Tables, space: str, name: str) -> Job:
    namespace(tables, space)
    found = tables.job(space, name)
    if found is None:
        raise missing("Job", name)
    return found


def job_name(tables: Tables, call: Call) -> str:
    """The job's name; a blank one is not found, or found and unspeakable."""
    name = call.parts["job"]
    if not name.strip() and tables.job(call.parts["namespace"], name) is None:
        raise not_found()
    return names.name(name)


def run(tables: Tables, run_id: UUID) -> Run:
    if run_id not in tables.runs:
        raise missing("Run", run_id)
    return tables.runs[run_id]
