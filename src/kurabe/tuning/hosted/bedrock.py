"""Amazon Bedrock's model customisation, with the file in a bucket of one's own
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelCustomizationJob.html).

Jobs have names of ours there, so what was lost is found by its name.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.errors import NotFoundError, PermissionDeniedError, ProviderError
from kurabe.models.codecs.base import HttpRequest, json_body, read_json
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Ask, Limits, Metric, Row, Service, Snapshot, Start, State, Steps, state_in
from kurabe.tuning.hosted.rows import jsonl

_STATES: Final = {
    "InProgress": State.RUNNING, "Completed": State.SUCCEEDED, "Failed": State.FAILED, "Stopping": State.RUNNING,
    "Stopped": State.CANCELLED,
}  # fmt: skip


class _Metrics(msgspec.Struct, rename="camel"):
    training_loss: float | None = None


class _Job(msgspec.Struct, rename="camel"):
    status: str
    failure_message: str | None = None
    output_model_arn: str | None = None
    training_metrics: _Metrics | None = None


class BedrockTuning(Service):
    """Supervised fine-tuning of Amazon Nova models. `bucket` is s3://NAME or s3://NAME/FOLDER, `role` the ARN of the
    role that Bedrock reads and writes it with."""

    limits = Limits(rows=8, most_rows=20_000, tokens=32_000, size=1_000_000_000)
    settings: ClassVar[frozenset[str]] = frozenset({"batch_size", "learning_rate"})
    needs = ("bucket", "role")
    speaks = False
    base_url = "https://bedrock.{region}.amazonaws.com"
    places: ClassVar[dict[str, tuple[str, str]]] = {"s3": ("https://s3.{region}.amazonaws.com", "s3")}

    @property
    def _folder(self) -> str:
        return self.options.get("bucket", "").removeprefix("s3://").rstrip("/")

    def write(self, rows: Sequence[Row]) -> bytes:
        return jsonl([_conversation(row) for row in rows])

    def upload(self, name: str, data: bytes) -> Steps[str]:
        yield self._object("PUT", f"{self._folder}/{name}", data)
        return f"{self._folder}/{name}"

    def find_upload(self, name: str) -> Steps[str | None]:
        try:
            yield self._object("HEAD", f"{self._folder}/{name}")
        except (NotFoundError, PermissionDeniedError):  # the latter where the key may not list the bucket
            return None
        return f"{self._folder}/{name}"

    def start(self, job: Start) -> Steps[str]:
        settings = job.settings
        given = {
            "epochCount": settings.epochs,
            "batchSize": settings.batch_size,
            "learningRate": settings.learning_rate,
        }
        body = {
            "jobName": job.name,
            "customModelName": job.name,
            "roleArn": self.options.get("role", ""),
            "clientRequestToken": job.name,
            "baseModelIdentifier": job.model,
            "customizationType": "FINE_TUNING",
            "trainingDataConfig": {"s3Uri": f"s3://{job.file}"},
            "outputDataConfig": {"s3Uri": f"s3://{self._folder}/{job.name}/"},
            "hyperParameters": {name: f"{value:.10g}" for name, value in given.items() if value is not None},
        }
        yield Ask(HttpRequest("/model-customization-jobs", json_body(body)))  # its token makes a second one the same
        return job.name

    def find_job(self, job: Start) -> Steps[str | None]:
        try:
            yield Ask(HttpRequest(f"/model-customization-jobs/{job.name}", method="GET"))
        except NotFoundError:
            return None
        except ProviderError as error:
            if error.status == 400:  # how a name that nothing has is answered too
                return None
            raise
        return job.name

    def look(self, job: str) -> Steps[Snapshot]:
        path = f"/model-customization-jobs/{quote(job, safe='')}"
        found = read_json((yield Ask(HttpRequest(path, method="GET"))), _Job)
        loss = found.training_metrics.training_loss if found.training_metrics is not None else None
        return Snapshot(
            state_in(_STATES, found.status), found.output_model_arn, found.failure_message or "",
            metrics=() if loss is None else (Metric(0, loss),),
        )  # fmt: skip

    def cancel(self, job: str) -> Steps[None]:
        yield Ask(HttpRequest(f"/model-customization-jobs/{quote(job, safe='')}/stop"))

    def delete_upload(self, file: str) -> Steps[None]:
        yield self._object("DELETE", file)

    def note(self, base: Reference, model: str) -> str:
        return (
            f"The tuned model {model} answers once it is deployed: `aws bedrock create-custom-model-deployment"
            f" --model-deployment-name NAME --model-arn {model}`; then name the deployment's ARN with the setting"
            " deployment:"
        )

    def _object(self, method: str, place: str, data: bytes = b"") -> Ask:
        headers = {"x-amz-content-sha256": sha256(data).hexdigest()}
        return Ask(HttpRequest(f"/{quote(place)}", data, method, headers=headers), "s3")


def _conversation(row: Row) -> dict[str, Any]:
    turns = [*((m.role, m.text) for m in row.messages if m.role != "system"), ("assistant", row.answer)]
    value: dict[str, Any] = {
        "schemaVersion": "bedrock-conversation-2024",
        "messages": [{"role": role, "content": [{"text": text}]} for role, text in turns],
    }
    system = [{"text": message.text} for message in row.messages if message.role == "system"]
    return {**value, "system": system} if system else value
