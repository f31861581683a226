"""Together's fine-tuning API (https://docs.together.ai/reference/post-fine-tunes). Its SDK is no test dependency, since
it holds rich below the version that kurabe uses."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.errors import BadRequestError, ProviderError
from kurabe.models.codecs.base import HttpRequest, json_body, read_json
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Ask, Event, Limits, Metric, Row, Service, Snapshot, Start, State, Steps, state_in
from kurabe.tuning.hosted.multipart import multipart
from kurabe.tuning.hosted.rows import chat_row, jsonl

RANK = 16

_STATES: Final = {
    "pending": State.QUEUED, "queued": State.QUEUED, "running": State.RUNNING, "compressing": State.RUNNING,
    "uploading": State.RUNNING, "cancel_requested": State.RUNNING, "cancelled": State.CANCELLED, "error": State.FAILED,
    "user_error": State.FAILED, "completed": State.SUCCEEDED,
}  # fmt: skip


class _File(msgspec.Struct):
    id: str
    filename: str = ""
    processing_status: str | None = None


class _Files(msgspec.Struct):
    data: list[_File]


class _Job(msgspec.Struct):
    id: str
    status: str
    training_file: str = ""
    output_name: str | None = msgspec.field(default=None, name="model_output_name")
    object_name: str | None = msgspec.field(default=None, name="model_object_name")
    token_count: int | None = None


class _Jobs(msgspec.Struct):
    data: list[_Job]


class _Event(msgspec.Struct):
    created_at: str = ""
    message: str = ""
    level: str | None = None


class _Events(msgspec.Struct):
    data: list[_Event]


class _Metrics(msgspec.Struct):
    metrics: list[dict[str, Any]] | None = None


class TogetherTuning(Service):
    """LoRA tuning of the open models that Together tunes."""

    limits = Limits(rows=1, tokens=32_768, size=5_000_000_000)
    settings: ClassVar[frozenset[str]] = frozenset({"batch_size", "learning_rate", "rank", "seed"})

    def write(self, rows: Sequence[Row]) -> bytes:
        return jsonl([chat_row(row) for row in rows])

    def upload(self, name: str, data: bytes) -> Steps[str]:
        fields = {"purpose": "fine-tune", "file_name": name, "file_type": "jsonl"}
        content_type, body = multipart(fields, {"file": (name, data)})
        request = HttpRequest("/files/upload", body, headers={"content-type": content_type})
        try:
            return read_json((yield Ask(request, again=False)), _File).id
        except ProviderError as error:
            if error.status == 409 and (there := (yield from self.find_upload(name))) is not None:
                return there  # the same file is there already
            raise

    def find_upload(self, name: str) -> Steps[str | None]:
        listed = read_json((yield Ask(HttpRequest("/files", method="GET"))), _Files)
        return next((file.id for file in listed.data if file.filename == name), None)

    def ready(self, file: str) -> Steps[bool]:
        found = read_json((yield Ask(HttpRequest(f"/files/{quote(file, safe='')}", method="GET"))), _File)
        if found.processing_status in ("FAILED", "INVALID_FORMAT"):
            raise BadRequestError(f"the uploaded file was refused: {found.processing_status}")
        return found.processing_status in (None, "COMPLETED")

    def start(self, job: Start) -> Steps[str]:
        rank = job.settings.rank or RANK
        body: dict[str, Any] = {
            "training_file": job.file,
            "model": job.model,
            "n_epochs": job.settings.epochs,
            "batch_size": job.settings.batch_size or "max",
            "suffix": job.name,
            "training_method": {"method": "sft", "train_on_inputs": False},
            "training_type": {
                "type": "Lora", "lora_r": rank, "lora_alpha": 2 * rank, "lora_trainable_modules": "all-linear",
            },
        }  # fmt: skip
        if job.settings.learning_rate is not None:
            body["learning_rate"] = job.settings.learning_rate
        if job.settings.seed is not None:
            body["random_seed"] = job.settings.seed
        return read_json((yield Ask(HttpRequest("/fine-tunes", json_body(body)), again=False)), _Job).id

    def find_job(self, job: Start) -> Steps[str | None]:
        listed = read_json((yield Ask(HttpRequest("/fine-tunes", method="GET"))), _Jobs)
        return next((found.id for found in listed.data if found.training_file == job.file), None)

    def look(self, job: str) -> Steps[Snapshot]:
        path = f"/fine-tunes/{quote(job, safe='')}"
        found = read_json((yield Ask(HttpRequest(path, method="GET"))), _Job)
        events = read_json((yield Ask(HttpRequest(f"{path}/events", method="GET"))), _Events).data
        metrics = read_json((yield Ask(HttpRequest(f"{path}/metrics", method="GET"))), _Metrics).metrics or []
        state = state_in(_STATES, found.status)
        events.sort(key=lambda event: event.created_at)
        return Snapshot(
            state,
            found.output_name or found.object_name,
            events[-1].message if events and state is State.FAILED else "",
            found.token_count,
            tuple(Event(event.created_at, event.message) for event in events),
            tuple(metric for one in metrics if (metric := _metric(one)) is not None),
        )

    def cancel(self, job: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/fine-tunes/{quote(job, safe='')}/cancel"))

    def delete_upload(self, file: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/files/{quote(file, safe='')}", method="DELETE"))

    def note(self, base: Reference, model: str) -> str:
        return (
            f"The tuned model {model!r} answers once an endpoint runs it: create one at https://api.together.ai/endpoints"
            " and name it with the setting deployment:"
        )


def _metric(one: dict[str, Any]) -> Metric | None:
    step = next((one[name] for name in ("global_step", "train/global_step", "step") if name in one), None)
    loss = next((one[name] for name in ("train/loss", "train_loss", "loss") if name in one), None)
    return Metric(int(step), float(loss)) if isinstance(step, int | float) and isinstance(loss, int | float) else None
