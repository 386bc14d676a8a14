"""The bodies of the wetransform simulator, shaped and written as the vendor's page shows them."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from simulators.wetransform.scenarios import SUBMITTED, TERMINAL
from simulators.wetransform.state import Run, State, Transformation

_FILE_SECRET = b"the simulator's file host"
_DOWNLOADED = frozenset({"downloaded"})
_PROCESSED = frozenset({"processed"})

_MESSAGES = {
    "en": {
        "pending": "Process execution queued.",
        "to_review": "Waiting for review.",
        "to_select": "Waiting for a selection.",
        "processed": "The file was processed.",
        "failed": "The process failed.",
    },
    "fr": {
        "pending": "Exécution du processus en file d'attente.",
        "to_review": "En attente de relecture.",
        "to_select": "En attente d'une sélection.",
        "processed": "Le fichier a été traité.",
        "failed": "Le processus a échoué.",
    },
}
_OTHER_STEP = {"en": "Step: {step}.", "fr": "Étape : {step}."}
_DETAILS = {"en": "The transformation is {step}.", "fr": "La transformation est {step}."}

SAMPLE_PRODUCT: dict[str, Any] = {
    "requirement": "permission",
    "permission": {"name": "X_SOURCE_FORMAT_XML", "description": "Can import XML files"},
    "limitation_type": None,
    "limitation_needed_value": None,
    "limitation_current_value": None,
    "limitation_object": None,
    "is_cta": False,
}
RUN_PRODUCT: dict[str, Any] = SAMPLE_PRODUCT | {
    "permission": {"name": "X_API_RUN", "description": "Can run transformations over the API"}
}


def envelope(
    payload: Any,
    *,
    success: bool = True,
    product: dict[str, Any] | None = None,
    template_handle: str | None = None,
    source_id: str | None = None,
) -> dict[str, Any]:
    return {
        "success": success,
        "payload": payload,
        "product": product,
        "template_handle": template_handle,
        "source_id": source_id,
        "debug": [],
    }


def dump(body: Any) -> str:
    """JSON as the vendor's PHP writes it: every slash escaped."""
    return json.dumps(body, ensure_ascii=True).replace("/", "\\/")


def moment(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat()


@dataclass(frozen=True, slots=True)
class Answers:
    """Bodies as `state` stands now, in one language, with file addresses at `file_host`."""

    state: State
    file_host: str
    language: str = "en"

    def automation(self, run: Run) -> dict[str, Any]:
        now = self.state.now()
        step = run.step(now)
        return {
            "automation_id": run.key,
            "type": "schedule",
            "step": step,
            "step_for_humans": None if step is None else self.step_for_humans(step),
            "details": run.details or self.details(run, step),
            "original_file": self.file_url("original", run),
            "transformed_file": self.transformed_file(run),
            "error_report_file": self.file_url("error-report", run) if step == "failed" else None,
            "created_at": moment(run.created_at),
        }

    def untracked(self) -> dict[str, Any]:
        """A start of which no run came: the id and nearly all else is null."""
        return {
            "automation_id": None,
            "type": None,
            "step": None,
            "step_for_humans": None,
            "details": "The source could not be refreshed: the remote server closed the connection.",
            "original_file": None,
            "transformed_file": None,
            "error_report_file": None,
            "created_at": moment(self.state.now()),
        }

    def step_for_humans(self, step: str) -> dict[str, str]:
        messages = _MESSAGES.get(self.language, _MESSAGES["en"])
        other = _OTHER_STEP.get(self.language, _OTHER_STEP["en"])
        return {"code": f"source.event.{step}", "message": messages.get(step) or other.format(step=step)}

    def details(self, run: Run, step: str | None) -> str | None:
        if step == "failed":
            return run.failure
        return None if step is None else _DETAILS.get(self.language, _DETAILS["en"]).format(step=step)

    def transformed_file(self, run: Run) -> str | None:
        is_done = run.first(_PROCESSED, self.state.now()) is not None
        return self.file_url("transformed", run) if is_done or self.state.behaviour.transformed_file_early else None

    def file_url(self, kind: str, run: Run) -> str:
        path = f"/files/{run.key}/{kind}-file.csv"
        return f"{self.file_host}{path}?signature={file_signature(path)}" if self.is_signed else self.file_host + path

    @property
    def is_signed(self) -> bool:
        return self.state.behaviour.signed_files

    def transformation(self, it: Transformation) -> dict[str, Any]:
        template = f"{self.file_host}/pictures/{it.template_handle}.png" if it.template_handle else None
        return {
            "transformation_id": it.key,
            "source_id": it.source_id,
            "source_name": it.source_name,
            "source_file_url": self._source_file(it),
            "imported_at": moment(self._imported_at(it)),
            "template_name": it.template_name,
            "template_handle": it.template_handle,
            "template_picture_url": template,
            "has_schedule": it.has_schedule,
            "column_names": list(it.columns),
            "custom_field_names": list(it.custom_fields),
            "deleted_at": None if it.deleted_at is None else moment(it.deleted_at),
            "download_url": self._download_url(it),
        }

    def list_entry(self, it: Transformation) -> dict[str, Any]:
        whole = self.transformation(it)
        if self.state.behaviour.full_list_entries:
            return whole
        return {name: whole[name] for name in ("transformation_id", "source_id", "source_name", "imported_at")}

    def _imported_at(self, it: Transformation) -> datetime:
        latest = self.state.latest(it, _DOWNLOADED | SUBMITTED)
        return latest[1] if latest and self.state.behaviour.changes_imported_at else it.imported_at

    def _download_url(self, it: Transformation) -> str | None:
        latest = self.state.latest(it, _PROCESSED)
        return self.file_url("transformed", latest[0]) if latest and self.state.behaviour.changes_download_url else None

    def _source_file(self, it: Transformation) -> str | None:
        latest = self.state.latest(it, _DOWNLOADED | SUBMITTED)
        if latest is None or not self.state.behaviour.changes_source_file_url:
            return None
        return self.file_url("original", latest[0]) if is_file_alive(self.state, latest[0]) else None


def is_file_alive(state: State, run: Run) -> bool:
    ended = run.first(TERMINAL, state.now())
    return ended is None or state.now() - ended <= timedelta(seconds=state.behaviour.file_lifetime_seconds)


def file_signature(path: str) -> str:
    return hmac.new(_FILE_SECRET, path.encode(), hashlib.sha256).hexdigest()


def template(it: Transformation) -> dict[str, Any]:
    return {
        "template_handle": it.template_handle,
        "is_enabled": True,
        "name": it.template_name,
        "description": f"Files of the kind {it.template_name}",
        "item": "row",
        "access_type": "private",
        "accept_errors": False,
        "max_file_size": 52_428_800,
    }
