"""Mistral's fine-tuning API (https://docs.mistral.ai/api, fine tuning), as the mistralai SDK had it up to 1.9; later
ones have the files alone."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.models.codecs.base import HttpRequest, json_body, read_json
from kurabe.tuning.hosted.base import Ask, Event, Limits, Metric, Row, Service, Snapshot, Start, State, Steps, state_in
from kurabe.tuning.hosted.multipart import multipart
from kurabe.tuning.hosted.openai import moment
from kurabe.tuning.hosted.rows import chat_row, jsonl

PAGE = 100
PAGES = 100

_STATES: Final = {
    "QUEUED": State.QUEUED, "STARTED": State.VALIDATING, "VALIDATING": State.VALIDATING, "VALIDATED": State.QUEUED,
    "RUNNING": State.RUNNING, "FAILED_VALIDATION": State.FAILED, "FAILED": State.FAILED, "SUCCESS": State.SUCCEEDED,
    "CANCELLED": State.CANCELLED, "CANCELLATION_REQUESTED": State.RUNNING,
}  # fmt: skip


class _File(msgspec.Struct):
    id: str
    filename: str = ""


class _Files(msgspec.Struct):
    data: list[_File]


class _Event(msgspec.Struct):
    name: str
    created_at: int = 0
    data: Any = None


class _Metrics(msgspec.Struct):
    train_loss: float | None = None


class _Checkpoint(msgspec.Struct):
    step_number: int
    metrics: _Metrics


class _TrainingFile(msgspec.Struct):
    file_id: str = ""


class _Job(msgspec.Struct):
    id: str
    status: str
    training_files: list[str | _TrainingFile] = []
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    events: list[_Event] = []
    checkpoints: list[_Checkpoint] = []


class _Jobs(msgspec.Struct):
    data: list[_Job] = []


class MistralTuning(Service):
    """Supervised fine-tuning of Mistral's models."""

    limits = Limits(rows=1, tokens=32_768, size=512_000_000)
    settings: ClassVar[frozenset[str]] = frozenset({"learning_rate"})

    def write(self, rows: Sequence[Row]) -> bytes:
        return jsonl([chat_row(row) for row in rows])

    def upload(self, name: str, data: bytes) -> Steps[str]:
        content_type, body = multipart({"purpose": "fine-tune"}, {"file": (name, data)})
        request = HttpRequest("/files", body, headers={"content-type": content_type})
        return read_json((yield Ask(request, again=False)), _File).id

    def find_upload(self, name: str) -> Steps[str | None]:
        for page in range(PAGES):
            query = {"page": str(page), "page_size": str(PAGE), "purpose": "fine-tune"}
            listed = read_json((yield Ask(HttpRequest("/files", method="GET", query=query))), _Files)
            for file in listed.data:
                if file.filename == name:
                    return file.id
            if len(listed.data) < PAGE:
                return None
        return None

    def start(self, job: Start) -> Steps[str]:
        hyperparameters: dict[str, Any] = {"epochs": job.settings.epochs}
        if job.settings.learning_rate is not None:
            hyperparameters["learning_rate"] = job.settings.learning_rate
        body = {
            "model": job.model,
            "training_files": [{"file_id": job.file, "weight": 1}],
            "hyperparameters": hyperparameters,
            "suffix": job.name,
            "auto_start": True,
        }
        return read_json((yield Ask(HttpRequest("/fine_tuning/jobs", json_body(body)), again=False)), _Job).id

    def find_job(self, job: Start) -> Steps[str | None]:
        for page in range(PAGES):
            query = {"page": str(page), "page_size": str(PAGE)}
            listed = read_json((yield Ask(HttpRequest("/fine_tuning/jobs", method="GET", query=query))), _Jobs)
            for found in listed.data:
                if any(job.file == (file if isinstance(file, str) else file.file_id) for file in found.training_files):
                    return found.id
            if len(listed.data) < PAGE:
                return None
        return None

    def look(self, job: str) -> Steps[Snapshot]:
        found = read_json((yield Ask(HttpRequest(f"/fine_tuning/jobs/{quote(job, safe='')}", method="GET"))), _Job)
        state = state_in(_STATES, found.status)
        events = sorted(found.events, key=lambda event: event.created_at)
        said = [_said(event) for event in events]
        points = sorted(found.checkpoints, key=lambda point: point.step_number)
        return Snapshot(
            state,
            found.fine_tuned_model,
            said[-1] if said and state is State.FAILED else "",
            found.trained_tokens,
            tuple(Event(moment(event.created_at), text) for event, text in zip(events, said, strict=True)),
            tuple(Metric(p.step_number, p.metrics.train_loss) for p in points if p.metrics.train_loss is not None),
        )

    def cancel(self, job: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/fine_tuning/jobs/{quote(job, safe='')}/cancel"))

    def delete_upload(self, file: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/files/{quote(file, safe='')}", method="DELETE"))


def _said(event: _Event) -> str:
    """An event's name with what it holds of text: an error's message, a status."""
    data = event.data if isinstance(event.data, dict) else {}
    return ": ".join([event.name, *(str(data[name]) for name in ("status", "error", "message") if data.get(name))])
