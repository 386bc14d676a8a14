"""Runs as Marquez has them, from the answers of its API, and where its web pages show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from collector.clock import to_ms
from collector.errors import LineageError
from collector.model import EventKind

Name = tuple[str, str]
"""Namespace and name of a dataset."""
STATES = {
    EventKind.OTHER: "NEW",
    EventKind.START: "RUNNING",
    EventKind.RUNNING: "RUNNING",
    EventKind.COMPLETE: "COMPLETED",
    EventKind.FAIL: "FAILED",
    EventKind.ABORT: "ABORTED",
}
"""Marquez' word for the state of a run after an event."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """`state` is Marquez's word. Times in epoch milliseconds, None where Marquez has none."""

    run_id: str
    state: str
    started_at: int | None
    ended_at: int | None
    inputs: frozenset[Name] = frozenset()
    outputs: frozenset[Name] = frozenset()


class UnreadRun(LineageError):
    """Marquez did not answer what it has. `lasting` if it would not help to ask again; `after` is the wait that it asked for."""

    def __init__(self, cause: str, after: timedelta | None = None, *, lasting: bool = False) -> None:
        super().__init__(cause)
        self.after, self.lasting = after, lasting


def parse(content: Mapping[str, Any]) -> StoredRun:
    """Raises `ValueError` for what is not a run of Marquez."""
    try:
        return StoredRun(
            run_id=str(content["id"]),
            state=str(content["state"]),
            started_at=_ms(content.get("startedAt")),
            ended_at=_ms(content.get("endedAt")),
            inputs=_names(content.get("inputDatasetVersions")),
            outputs=_names(content.get("outputDatasetVersions")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not a run of Marquez: {type(error).__name__} {error}") from error


def _ms(words: str | None) -> int | None:
    if words is None:
        return None
    at = datetime.fromisoformat(words)
    return to_ms(at if at.tzinfo is not None else at.replace(tzinfo=UTC))


def _names(versions: Sequence[Mapping[str, Any]] | None) -> frozenset[Name]:
    ids = (version["datasetVersionId"] for version in versions or ())
    return frozenset((each["namespace"], each["name"]) for each in ids)


def web_address(base: str, kind: str, namespace: str, name: str) -> str:
    """The page with the graph around a `job` or `dataset`, and its runs. `base` is where Marquez' web pages are."""
    return f"{base}/lineage/{kind}/{quote(namespace, safe='')}/{quote(name, safe='')}"
