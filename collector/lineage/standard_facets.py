"""Schema URLs of the standard facets that events have, by the class in openlineage-python; a test compares them.

To import its classes costs a start 0.6 s and 30 MiB, for these texts alone.
"""

_BASE = "https://openlineage.io/spec"
RUN_EVENT = f"{_BASE}/2-0-2/OpenLineage.json#/$defs/RunEvent"


def _schemas(**versions: str) -> dict[str, str]:
    return {name: f"{_BASE}/facets/{version}/{name}.json#/$defs/{name}" for name, version in versions.items()}


FACETS = _schemas(
    ColumnLineageDatasetFacet="1-2-0",
    DatasetVersionDatasetFacet="1-0-1",
    DatasourceDatasetFacet="1-0-1",
    DocumentationDatasetFacet="1-1-0",
    DocumentationJobFacet="1-1-0",
    ErrorMessageRunFacet="1-0-1",
    ExecutionParametersRunFacet="1-0-0",
    ExternalQueryRunFacet="1-0-2",
    ExtractionErrorRunFacet="1-1-2",
    InputStatisticsInputDatasetFacet="1-0-0",
    JobTypeJobFacet="2-0-4",
    LifecycleStateChangeDatasetFacet="1-0-1",
    NominalTimeRunFacet="1-0-1",
    OutputStatisticsOutputDatasetFacet="1-0-2",
    OwnershipJobFacet="1-0-1",
    ParentRunFacet="1-2-0",
    ProcessingEngineRunFacet="1-1-1",
    SQLJobFacet="1-1-0",
    SchemaDatasetFacet="1-2-0",
    StorageDatasetFacet="1-0-1",
    SymlinksDatasetFacet="1-0-1",
    TagsJobFacet="1-0-0",
    TagsRunFacet="1-0-0",
)

LIFECYCLE_CHANGES: frozenset[str] = frozenset({"ALTER", "CREATE", "DROP", "OVERWRITE", "RENAME", "TRUNCATE"})
