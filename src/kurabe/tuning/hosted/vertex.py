"""Vertex AI's supervised tuning of Gemini, with the file in a bucket of one's own
(https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-use-supervised-tuning)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.errors import NotFoundError
from kurabe.models.codecs.base import HttpRequest, json_body, read_json
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Ask, Limits, Row, Service, Snapshot, Start, State, Steps, state_in
from kurabe.tuning.hosted.rows import jsonl

PAGES = 100

_STATES: Final = {
    "UNSPECIFIED": State.QUEUED, "QUEUED": State.QUEUED, "PENDING": State.QUEUED, "RUNNING": State.RUNNING,
    "PAUSED": State.RUNNING, "UPDATING": State.RUNNING, "CANCELLING": State.RUNNING, "SUCCEEDED": State.SUCCEEDED,
    "PARTIALLY_SUCCEEDED": State.SUCCEEDED, "FAILED": State.FAILED, "EXPIRED": State.FAILED,
    "CANCELLED": State.CANCELLED,
}  # fmt: skip


class _Error(msgspec.Struct):
    message: str = ""


class _Tuned(msgspec.Struct):
    model: str | None = None
    endpoint: str | None = None


class _Job(msgspec.Struct, rename="camel"):
    name: str
    state: str = "JOB_STATE_UNSPECIFIED"
    error: _Error | None = None
    tuned_model: _Tuned | None = None
    tuned_model_display_name: str | None = None


class _Jobs(msgspec.Struct, rename="camel"):
    tuning_jobs: list[_Job] = []
    next_page_token: str = ""


class VertexTuning(Service):
    """Supervised tuning of Gemini models. `bucket` is gs://NAME or gs://NAME/FOLDER."""

    limits = Limits(rows=10, tokens=131_072, size=1_000_000_000)
    settings: ClassVar[frozenset[str]] = frozenset({"learning_rate_multiplier", "rank"})
    needs = ("bucket",)
    speaks = False
    places: ClassVar[dict[str, tuple[str, str]]] = {"storage": ("https://storage.googleapis.com", "")}

    @property
    def _bucket(self) -> tuple[str, str]:
        """(bucket, folder with a '/' behind it or '')."""
        bucket, _, folder = self.options.get("bucket", "").removeprefix("gs://").strip("/").partition("/")
        return bucket, f"{folder}/" if folder else ""

    def write(self, rows: Sequence[Row]) -> bytes:
        return jsonl([_contents(row) for row in rows])

    def upload(self, name: str, data: bytes) -> Steps[str]:
        bucket, folder = self._bucket
        request = HttpRequest(
            f"/upload/storage/v1/b/{quote(bucket, safe='')}/o", data,
            query={"uploadType": "media", "name": folder + name}, headers={"content-type": "application/jsonl"},
        )  # fmt: skip
        yield Ask(request, "storage")
        return f"{bucket}/{folder}{name}"

    def find_upload(self, name: str) -> Steps[str | None]:
        bucket, folder = self._bucket
        try:
            yield self._object("GET", f"{bucket}/{folder}{name}")
        except NotFoundError:
            return None
        return f"{bucket}/{folder}{name}"

    def start(self, job: Start) -> Steps[str]:
        hyperparameters: dict[str, Any] = {"epochCount": job.settings.epochs}
        if job.settings.learning_rate_multiplier is not None:
            hyperparameters["learningRateMultiplier"] = job.settings.learning_rate_multiplier
        if job.settings.rank is not None:
            hyperparameters["adapterSize"] = _adapter(job.settings.rank)
        body = {
            "baseModel": job.model,
            "supervisedTuningSpec": {
                "trainingDatasetUri": f"gs://{job.file}", "hyperParameters": hyperparameters,
            },
            "tunedModelDisplayName": job.name,
        }  # fmt: skip
        return read_json((yield Ask(HttpRequest("/tuningJobs", json_body(body)), again=False)), _Job).name

    def find_job(self, job: Start) -> Steps[str | None]:
        token: dict[str, str] = {}
        for _ in range(PAGES):
            query = {"pageSize": "100", **token}
            listed = read_json((yield Ask(HttpRequest("/tuningJobs", method="GET", query=query))), _Jobs)
            for found in listed.tuning_jobs:
                if found.tuned_model_display_name == job.name:
                    return found.name
            if not listed.next_page_token:
                return None
            token = {"pageToken": listed.next_page_token}
        return None

    def look(self, job: str) -> Steps[Snapshot]:
        found = read_json((yield Ask(HttpRequest(_path(job), method="GET"))), _Job)
        state = state_in(_STATES, found.state.removeprefix("JOB_STATE_"))
        tuned = found.tuned_model.endpoint if found.tuned_model is not None else None
        return Snapshot(state, tuned, found.error.message if found.error is not None else "")

    def cancel(self, job: str) -> Steps[None]:
        yield Ask(HttpRequest(f"{_path(job)}:cancel"))

    def delete_upload(self, file: str) -> Steps[None]:
        yield self._object("DELETE", file)

    def reference(self, base: Reference, model: str) -> str:
        """Tuned models are endpoints below the project and location."""
        endpoint = "endpoints/" + model.rpartition("/")[2]
        return str(msgspec.structs.replace(base, name=endpoint))

    def _object(self, method: str, place: str) -> Ask:
        bucket, _, name = place.partition("/")
        path = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        return Ask(HttpRequest(path, method=method), "storage")


def _path(job: str) -> str:
    """A job's path below the project and location, of its whole name."""
    return "/tuningJobs/" + quote(job.rpartition("/")[2], safe="")


def _adapter(rank: int) -> str:
    """The adapter size of Vertex with this rank; what it does not offer, it refuses by name."""
    words = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN", 32: "THIRTY_TWO"}
    return f"ADAPTER_SIZE_{words.get(rank, rank)}"


def _contents(row: Row) -> dict[str, Any]:
    turns = [*((m.role, m.text) for m in row.messages if m.role != "system"), ("assistant", row.answer)]
    roles = {"user": "user", "assistant": "model"}
    value: dict[str, Any] = {"contents": [{"role": roles[role], "parts": [{"text": text}]} for role, text in turns]}
    system = [{"text": message.text} for message in row.messages if message.role == "system"]
    return {"systemInstruction": {"role": "system", "parts": system}, **value} if system else value
