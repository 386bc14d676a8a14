"""The paths of a deployment, and the OpenAPI document that lists them."""

import re
from typing import Any

from simulators.dataprep import definitions_api as d
from simulators.dataprep import runs_api as r
from simulators.dataprep.answers import route_not_found
from simulators.dataprep.calls import Answer, Call, Endpoint
from simulators.dataprep.switches import Feature

VERSION = "10.1.0+2986503.20230707151310.f990a1da"


def get_spec(call: Call) -> Answer:
    """By switch: the features' paths, an empty object, every known path, or no such path."""
    if call.moment.switches.spec == "missing":
        raise route_not_found(call.moment.switches, "/v4/open-api-spec")
    if call.moment.switches.spec == "empty":
        return Answer({})
    shown = frozenset(Feature) if call.moment.switches.spec == "all" else call.features
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        if endpoint.feature in shown:
            about = {"operationId": endpoint.name, "responses": {}}
            paths.setdefault(f"/v4/{endpoint.path}", {})[endpoint.method.lower()] = about
    info = {"title": "Dataprep Standard API", "version": VERSION}
    return Answer({"openapi": "3.0.0", "info": info, "servers": [{"url": "/"}], "paths": paths})


ENDPOINTS = (
    Endpoint("GET", "open-api-spec", Feature.STANDARD, "getOpenApiSpec", get_spec),
    Endpoint("POST", "jobGroups", Feature.STANDARD, "runJobGroup", r.run_job_group, quota=True),
    Endpoint("GET", "jobGroups", Feature.LIST, "listJobGroups", r.list_job_groups),
    Endpoint("GET", "jobGroups/{id}", Feature.STANDARD, "getJobGroup", r.get_job_group),
    Endpoint("GET", "jobGroups/{id}/status", Feature.STANDARD, "getJobGroupStatus", r.get_status),
    Endpoint("GET", "jobGroups/{id}/jobs", Feature.STANDARD, "getJobsForJobGroup", r.get_jobs),
    Endpoint("GET", "jobLibrary", Feature.LIBRARY, "getJobLibrary", r.get_job_library),
    Endpoint("GET", "jobLibrary/count", Feature.LIBRARY, "countJobLibrary", r.count_job_library),
    Endpoint("POST", "jobGroups/{id}/cancel", Feature.CANCEL, "cancelJobGroup", r.cancel_job_group),
    Endpoint("GET", "jobGroups/{id}/inputs", Feature.LINEAGE, "getJobGroupInputs", r.get_inputs),
    Endpoint("GET", "jobGroups/{id}/outputs", Feature.LINEAGE, "getJobGroupOutputs", r.get_outputs),
    Endpoint("GET", "jobGroups/{id}/publications", Feature.LINEAGE, "getPublicationsForJobGroup", r.get_publications),
    Endpoint("GET", "jobGroups/{id}/profile", Feature.PROFILE, "getProfilingInformationForJobGroup", r.get_profile),
    Endpoint("GET", "jobs/{id}/status", Feature.JOB_STATUS, "getJobStatus", r.get_job_status),
    Endpoint("GET", "outputObjects", Feature.STANDARD, "listOutputObjects", d.list_outputs),
    Endpoint("POST", "outputObjects", Feature.STANDARD, "createOutputObject", d.create_output),
    Endpoint("GET", "outputObjects/count", Feature.STANDARD, "countOutputObjects", d.count_outputs),
    Endpoint("GET", "outputObjects/{id}", Feature.STANDARD, "getOutputObject", d.get_output),
    Endpoint("PATCH", "outputObjects/{id}", Feature.STANDARD, "patchOutputObject", d.patch_output),
    Endpoint("DELETE", "outputObjects/{id}", Feature.STANDARD, "deleteOutputObject", d.delete_output),
    Endpoint("GET", "outputObjects/{id}/inputs", Feature.STANDARD, "getInputsForOutputObject", d.get_output_inputs),
    Endpoint("GET", "wrangledDatasets/{id}", Feature.DEFINITIONS, "getWrangledDataset", d.get_recipe),
    Endpoint(
        "GET", "wrangledDatasets/{id}/primaryInputDataset", Feature.DEFINITIONS, "getInputDataset", d.get_primary_input
    ),
    Endpoint("GET", "importedDatasets/{id}", Feature.DEFINITIONS, "getImportedDataset", d.get_imported_dataset),
    Endpoint("GET", "writeSettings/{id}", Feature.DEFINITIONS, "getWriteSetting", d.get_write_setting),
    Endpoint("GET", "publications/{id}", Feature.DEFINITIONS, "getPublication", d.get_publication),
    Endpoint("GET", "connections/{id}", Feature.DEFINITIONS, "getConnection", d.get_connection),
    Endpoint("GET", "flows/{id}", Feature.FLOWS, "getFlow", d.get_flow),
    Endpoint("GET", "flows/{id}/inputs", Feature.FLOWS, "getFlowInputs", d.get_flow_inputs),
    Endpoint("GET", "flows/{id}/outputs", Feature.FLOWS, "getFlowOutputs", d.get_flow_outputs),
    Endpoint("GET", "flowsLibrary", Feature.FLOWS, "listFlowsLibrary", d.list_flows),
    Endpoint("POST", "flows/{id}/run", Feature.FLOW_RUNS, "runFlow", r.run_flow, quota=True),
    Endpoint("GET", "flowRuns/{id}", Feature.FLOW_RUNS, "getFlowRun", r.get_flow_run),
    Endpoint("GET", "flowRuns/{id}/status", Feature.FLOW_RUNS, "getFlowRunStatus", r.get_flow_run_status),
    Endpoint("GET", "flowRuns/{id}/jobGroups", Feature.FLOW_RUNS, "getFlowRunJobGroups", r.get_flow_run_job_groups),
    Endpoint("GET", "people/current", Feature.PEOPLE, "getCurrentPerson", d.get_current_person),
)


def find(
    method: str, path: str, features: frozenset[Feature], *, case_sensitive: bool
) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint for a path below /v4/ and the values in it. A fixed word wins over `{id}`."""
    flags = 0 if case_sensitive else re.IGNORECASE
    for endpoint in sorted(ENDPOINTS, key=lambda known: "{" in known.path):
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", endpoint.path)
        found = re.fullmatch(pattern, path, flags)
        if found and endpoint.method == method and endpoint.feature in features:
            return endpoint, found.groupdict()
    return None
