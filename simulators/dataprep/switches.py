"""What a simulated Dataprep deployment has and how it behaves where the vendor's text leaves it open."""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How far a deployment lets its runs be seen."""

    L0 = "L0"
    """The paths documented for Dataprep Standard 10.1."""
    L1 = "L1"
    """Those, and the list of jobGroups."""
    L2 = "L2"
    """All run paths of the later OpenAPI document (2025.23), with jobLibrary."""


class Feature(StrEnum):
    """A group of paths that a deployment has or lacks as one."""

    STANDARD = "standard"
    LIST = "list"
    LIBRARY = "library"
    LINEAGE = "lineage"
    PROFILE = "profile"
    CANCEL = "cancel"
    JOB_STATUS = "jobStatus"
    DEFINITIONS = "definitions"
    FLOWS = "flows"
    FLOW_RUNS = "flowRuns"
    PEOPLE = "people"


FEATURES: dict[Level, frozenset[Feature]] = {
    Level.L0: frozenset({Feature.STANDARD}),
    Level.L1: frozenset({Feature.STANDARD, Feature.LIST}),
    Level.L2: frozenset(Feature),
}


@dataclass(frozen=True, slots=True)
class Switches:
    """Each default is the likelier reading; the other values are what a deployment may do instead."""

    spec: str = "true"
    """`GET /v4/open-api-spec`: `true` to the features, `empty` (the documented sample), `all` (claims what is not there), `missing` (404)."""
    absent_status: int = 404
    """Answer of a path that the deployment lacks: 404 RouteNotFoundException, 403 or 400."""
    missing_status: int = 404
    """Answer for an id that never existed: 404, or 400 with a text that says so."""
    deleted_status: int = 410
    """Answer for a deleted run: 410, 404 or 400."""
    hidden_status: int = 403
    """Answer for a run that the token's owner may not see: 403 or 404."""
    expired_status: int = 401
    """Answer for a missing, unknown or expired token."""
    details: str = "text"
    """Form of `exception.details`: `text` or `object`."""
    reset_unit: str = "ms"
    """Unit of `x-rate-limit-*-reset`: `ms` as in the vendor's examples, `s` as in the vendor's table."""
    dates: str = "milliseconds"
    """ISO dates in answers carry `milliseconds` or whole `seconds`."""
    string_ids: bool = False
    """Ids in answers are strings."""
    case_sensitive: bool = False
    """`/v4/jobgroups` is not `/v4/jobGroups`."""
    stage_times: bool = False
    """Stages carry `startedAt` and `finishedAt`."""
    error_text: str = "none"
    """Where the text of a failure is: `none` (only an id), `workloadError` on the group, or `embed` (jobs.errorMessage)."""
    flow_embed: bool = True
    """`embed=wrangledDataset.flow` is a valid association."""
    null_embedded_jobs: bool = False
    """Embedded jobs come as `{"data": null}` for a run without stages."""
    mixed_inputs_refused: bool = False
    """`/inputs` of a run with files and tables answers 400 DataServiceInvalidRequest."""
    outputs: str = "written"
    """`/outputs` names what was `written`, or all that was `planned` whatever became of the stages."""
    run_answer: str = "full"
    """Answer of a started run: `full` with graph and stages, or `short` (id and reason)."""
    overrides_refused: bool = False
    """A run with overrides is refused with 400, as Google's older page has it."""
    failed_validation_has_stages: bool = False
    """A run that fails in validation has stages without an engine; else it has none."""
    late_publish_reopens: bool = False
    """Publishing after the end sets the group back to InProgress for its time."""
    stages_touch_group: bool = False
    """Each change of a stage moves the group's `updatedAt`."""
    order: str = "newest"
    """Order of lists without `sort`: `newest`, `oldest` or `shuffled`."""
    sort: str = "both"
    """Directions of `sort` that work: `both`, `descending`, `none` (ignored)."""
    max_limit: int = 1000
    """A higher `limit` is cut to this without a word."""
    several_statuses: bool = False
    """`status` of jobLibrary may be repeated; else only the first value counts."""
    fields_strip_creator: bool = False
    """`fields` removes the creator's personal record from list rows."""
    creator_bytes: int = 2_000
    """Size of the personal record in each jobLibrary row (14 KB was seen)."""
    strict_query: bool = True
    """`embed` on jobLibrary is a 400; else it is ignored."""
    read_quota: int = 0
    """Reads allowed per user and minute, refused with 429 beyond; 0 means no limit."""

    def changed(self, changes: dict[str, Any]) -> "Switches":
        """Raises ValueError for a switch that does not exist."""
        unknown = set(changes) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"no such switch: {', '.join(sorted(unknown))}")
        return replace(self, **changes)
