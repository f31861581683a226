"""Fireworks' supervised fine-tuning (https://docs.fireworks.ai/api-reference/create-supervised-fine-tuning-job).

Data sets and jobs have names of ours there, so what was lost is found by its name.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.errors import BadRequestError, NotFoundError, ProviderError
from kurabe.models.codecs.base import HttpRequest, json_body, read_json
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Ask, Limits, Row, Service, Snapshot, Start, State, Steps, state_in
from kurabe.tuning.hosted.multipart import multipart
from kurabe.tuning.hosted.rows import chat_row, jsonl

_STATES: Final = {
    "CREATING": State.VALIDATING, "VALIDATING": State.VALIDATING, "CREATING_INPUT_DATASET": State.VALIDATING,
    "PENDING": State.QUEUED, "RE_QUEUEING": State.QUEUED, "IDLE": State.QUEUED, "PAUSED": State.QUEUED,
    "UNSPECIFIED": State.QUEUED, "RUNNING": State.RUNNING, "WRITING_RESULTS": State.RUNNING,
    "CANCELLING": State.RUNNING, "COMPLETED": State.SUCCEEDED, "EARLY_STOPPED": State.SUCCEEDED,
    "FAILED": State.FAILED, "EXPIRED": State.FAILED, "CANCELLED": State.CANCELLED, "DELETING": State.CANCELLED,
    "DELETING_CLEANING_UP": State.CANCELLED,
}  # fmt: skip


class _Status(msgspec.Struct):
    message: str | None = None


class _Dataset(msgspec.Struct):
    state: str = ""
    status: _Status | None = None


class _Job(msgspec.Struct, rename="camel"):
    state: str = "JOB_STATE_UNSPECIFIED"
    status: _Status | None = None
    output_model: str | None = None


class FireworksTuning(Service):
    """LoRA tuning of the open models that Fireworks tunes."""

    limits = Limits(rows=3, most_rows=3_000_000, tokens=32_768, size=150_000_000)
    settings: ClassVar[frozenset[str]] = frozenset({"learning_rate", "rank", "batch_size"})
    needs = ("account",)
    speaks = False
    base_url = "https://api.fireworks.ai/v1"

    @property
    def _account(self) -> str:
        return f"/accounts/{quote(self.options.get('account', ''), safe='')}"

    def write(self, rows: Sequence[Row]) -> bytes:
        return jsonl([chat_row(row) for row in rows])

    def upload(self, name: str, data: bytes) -> Steps[str]:
        dataset = name.removesuffix(".jsonl")
        described = {"userUploaded": {}, "exampleCount": str(data.count(b"\n")), "format": "CHAT"}
        body = {"dataset": described, "datasetId": dataset}
        try:
            yield Ask(HttpRequest(f"{self._account}/datasets", json_body(body)), again=False)
        except ProviderError as error:
            if error.status != 409:  # it is there, from a try that was cut off; the same file goes into it again
                raise
        content_type, form = multipart({}, {"file": (name, data)})
        path = f"{self._account}/datasets/{dataset}:upload"
        yield Ask(HttpRequest(path, form, headers={"content-type": content_type}))
        return dataset

    def find_upload(self, name: str) -> Steps[str | None]:
        dataset = name.removesuffix(".jsonl")
        try:
            found = read_json((yield self._get(f"/datasets/{dataset}")), _Dataset)
        except NotFoundError:
            return None
        return dataset if found.state == "READY" else None

    def ready(self, file: str) -> Steps[bool]:
        found = read_json((yield self._get(f"/datasets/{file}")), _Dataset)
        if found.status is not None and found.status.message and found.state != "READY":
            raise BadRequestError(f"the uploaded file was refused: {found.status.message}")
        return found.state == "READY"

    def start(self, job: Start) -> Steps[str]:
        settings = job.settings
        body: dict[str, Any] = {
            "dataset": f"{self._account[1:]}/datasets/{job.file}",
            "baseModel": job.model,
            "displayName": job.name,
            "outputModel": f"{self._account[1:]}/models/{job.name}",
            "epochs": settings.epochs,
        }
        given = {
            "learningRate": settings.learning_rate,
            "loraRank": settings.rank,
            "batchSizeSamples": settings.batch_size,
        }
        body |= {name: value for name, value in given.items() if value is not None}
        query = {"supervisedFineTuningJobId": job.name}
        path = f"{self._account}/supervisedFineTuningJobs"
        yield Ask(HttpRequest(path, json_body(body), query=query), again=False)
        return job.name

    def find_job(self, job: Start) -> Steps[str | None]:
        try:
            yield self._get(f"/supervisedFineTuningJobs/{job.name}")
        except NotFoundError:
            return None
        return job.name

    def look(self, job: str) -> Steps[Snapshot]:
        found = read_json((yield self._get(f"/supervisedFineTuningJobs/{job}")), _Job)
        state = state_in(_STATES, found.state.removeprefix("JOB_STATE_"))
        said = (found.status.message or "") if found.status is not None else ""
        return Snapshot(state, found.output_model, said if state is State.FAILED else "")

    def cancel(self, job: str) -> Steps[None]:
        yield Ask(HttpRequest(f"{self._account}/supervisedFineTuningJobs/{job}:cancel", b"{}"))

    def delete_upload(self, file: str) -> Steps[None]:
        yield Ask(HttpRequest(f"{self._account}/datasets/{file}", method="DELETE"))

    def note(self, base: Reference, model: str) -> str:
        return (
            f"The tuned model {model!r} answers once it is deployed: `firectl deployment create {model}`; then name it"
            " (or MODEL#DEPLOYMENT) with the setting deployment:"
        )

    def _get(self, path: str) -> Ask:
        return Ask(HttpRequest(self._account + path, method="GET"))
