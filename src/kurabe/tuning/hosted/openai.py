"""OpenAI's fine-tuning API (https://platform.openai.com/docs/api-reference/fine-tuning), and Azure's, which is the same
behind another address (https://learn.microsoft.com/azure/ai-foundry/openai/reference#fine-tuning)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.errors import BadRequestError
from kurabe.models.codecs.base import HttpRequest, json_body, read_json
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import (
    Ask,
    Event,
    Limits,
    Metric,
    Row,
    Service,
    Settings,
    Snapshot,
    Start,
    State,
    Steps,
    state_in,
)
from kurabe.tuning.hosted.multipart import multipart
from kurabe.tuning.hosted.rows import chat_row, jsonl

PAGE = 100
PAGES = 100
"""Pages that are read at most."""

_STATES: Final = {
    "validating_files": State.VALIDATING, "queued": State.QUEUED, "running": State.RUNNING, "paused": State.RUNNING,
    "succeeded": State.SUCCEEDED, "failed": State.FAILED, "cancelled": State.CANCELLED,
    # Azure's
    "created": State.VALIDATING, "pending": State.QUEUED, "notRunning": State.QUEUED, "resuming": State.QUEUED,
    "pausing": State.RUNNING, "cancelling": State.RUNNING, "canceled": State.CANCELLED, "deleted": State.CANCELLED,
}  # fmt: skip


class _File(msgspec.Struct):
    id: str
    filename: str = ""
    status: str = ""
    status_details: str | None = None


class _Files(msgspec.Struct):
    data: list[_File]
    has_more: bool = False


class _Error(msgspec.Struct):
    message: str | None = None
    code: str | None = None


class _Job(msgspec.Struct):
    id: str
    status: str
    training_file: str = ""
    fine_tuned_model: str | None = None
    error: _Error | None = None
    trained_tokens: int | None = None


class _Jobs(msgspec.Struct):
    data: list[_Job]
    has_more: bool = False


class _Event(msgspec.Struct):
    id: str
    created_at: int
    message: str = ""
    type: str | None = None
    data: Any = None


class _Events(msgspec.Struct):
    data: list[_Event]
    has_more: bool = False


class OpenAITuning(Service):
    """Supervised fine-tuning of OpenAI's models."""

    limits = Limits(rows=10, tokens=65_536, size=512_000_000)
    settings: ClassVar[frozenset[str]] = frozenset({"batch_size", "learning_rate_multiplier", "seed"})

    def row_limit(self, model: str) -> int:
        return 16_385 if model.startswith("gpt-3.5") else self.limits.tokens

    def write(self, rows: Sequence[Row]) -> bytes:
        return jsonl([chat_row(row) for row in rows])

    def upload(self, name: str, data: bytes) -> Steps[str]:
        content_type, body = multipart({"purpose": "fine-tune"}, {"file": (name, data)})
        request = HttpRequest("/files", body, headers={"content-type": content_type})
        return read_json((yield Ask(request, again=False)), _File).id

    def find_upload(self, name: str) -> Steps[str | None]:
        after: dict[str, str] = {}
        for _ in range(PAGES):
            query = {"purpose": "fine-tune", "limit": str(PAGE), **after}
            listed = read_json((yield Ask(HttpRequest("/files", method="GET", query=query))), _Files)
            for file in listed.data:
                if file.filename == name and file.status != "deleted":
                    return file.id
            if not listed.has_more or not listed.data:
                return None
            after = {"after": listed.data[-1].id}
        return None

    def ready(self, file: str) -> Steps[bool]:
        found = read_json((yield Ask(HttpRequest(f"/files/{_safe(file)}", method="GET"))), _File)
        if found.status in ("error", "failed", "deleted"):
            raise BadRequestError(f"the uploaded file was refused: {found.status_details or found.status}")
        return found.status not in ("pending", "uploaded", "running", "notRunning") or self._usable(found.status)

    def _usable(self, status: str) -> bool:
        return status == "uploaded"  # OpenAI checks the file when the job begins

    def start(self, job: Start) -> Steps[str]:
        body: dict[str, Any] = {
            "model": job.model,
            "training_file": job.file,
            "suffix": job.name,
            "method": {"type": "supervised", "supervised": {"hyperparameters": _hyperparameters(job.settings)}},
        }
        if job.settings.seed is not None:
            body["seed"] = job.settings.seed
        request = HttpRequest("/fine_tuning/jobs", json_body(body))
        return read_json((yield Ask(request, again=False)), _Job).id

    def find_job(self, job: Start) -> Steps[str | None]:
        """A file is uploaded for one job, so the job that learns from it is the one."""
        after: dict[str, str] = {}
        for _ in range(PAGES):
            query = {"limit": str(PAGE), **after}
            listed = read_json((yield Ask(HttpRequest("/fine_tuning/jobs", method="GET", query=query))), _Jobs)
            for found in listed.data:
                if found.training_file == job.file:
                    return found.id
            if not listed.has_more or not listed.data:
                return None
            after = {"after": listed.data[-1].id}
        return None

    def look(self, job: str) -> Steps[Snapshot]:
        path = f"/fine_tuning/jobs/{_safe(job)}"
        found = read_json((yield Ask(HttpRequest(path, method="GET"))), _Job)
        events: list[_Event] = []
        after: dict[str, str] = {}
        for _ in range(PAGES):
            query = {"limit": str(PAGE), **after}
            listed = read_json((yield Ask(HttpRequest(f"{path}/events", method="GET", query=query))), _Events)
            events += listed.data
            if not listed.has_more or not listed.data:
                break
            after = {"after": listed.data[-1].id}
        events.reverse()  # they come the newest first
        return Snapshot(
            state_in(_STATES, found.status),
            found.fine_tuned_model,
            (found.error.message or found.error.code or "") if found.error else "",
            found.trained_tokens,
            tuple(Event(moment(event.created_at), event.message) for event in events if event.type != "metrics"),
            tuple(metric for event in events if (metric := _metric(event)) is not None),
        )

    def cancel(self, job: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/fine_tuning/jobs/{_safe(job)}/cancel"))

    def delete_upload(self, file: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/files/{_safe(file)}", method="DELETE"))

    def tuned_name(self, base: str) -> str:
        return base if base.startswith("ft:") else f"ft:{base}:kurabe::kurabe"


class AzureTuning(OpenAITuning):
    """The same on Azure: a file is checked before a job can use it, and a tuned model answers once it is deployed."""

    def _usable(self, status: str) -> bool:
        return False

    def note(self, base: Reference, model: str) -> str:
        return (
            f"The tuned model {model!r} answers once it is deployed: deploy it in the Foundry portal or with `az"
            " cognitiveservices account deployment create`, and name the deployment with the setting deployment:"
        )


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _hyperparameters(settings: Settings) -> dict[str, Any]:
    named = {
        "n_epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "learning_rate_multiplier": settings.learning_rate_multiplier,
    }
    return {name: value for name, value in named.items() if value is not None}


def _metric(event: _Event) -> Metric | None:
    data = event.data
    if event.type != "metrics" or not isinstance(data, dict):
        return None
    step, loss = data.get("step"), data.get("train_loss")
    return Metric(int(step), float(loss)) if isinstance(step, int | float) and isinstance(loss, int | float) else None


def _safe(name: str) -> str:
    return quote(name, safe="")
