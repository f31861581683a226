"""Tuning on Bedrock beside boto3, on Vertex beside google-genai, and Mistral's files beside mistralai.

Habits of the SDKs that we do not follow: boto3 adds checksums to an object of S3, and an empty body where there is
none; google-genai names the tuned model's endpoint with its project and location, which our addresses hold already;
mistralai says of a file that the workspace sees it, which is the default. Its version 3 has no fine-tuning jobs any
more, so those are held against what 1.9 sent, written down here.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from typing import Any

import boto3
import msgspec
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials as GoogleCredentials
from mistralai.client import Mistral

from kurabe.messages import Request, User
from kurabe.models.codecs._gemini import Vertex
from kurabe.models.codecs.base import HttpRequest, Profile
from kurabe.models.hosted.sigv4 import sign
from kurabe.models.reference import parse_reference
from kurabe.tuning.hosted.base import Ask, Metric, Settings, Start, State, Steps
from kurabe.tuning.hosted.bedrock import BedrockTuning
from kurabe.tuning.hosted.mistral import MistralTuning
from kurabe.tuning.hosted.vertex import VertexTuning

ROLE = "arn:aws:iam::123456789012:role/tune"
BEDROCK = BedrockTuning({"bucket": "s3://mine/rows", "role": ROLE})
VERTEX = VertexTuning({"bucket": "gs://mine/rows"})
MISTRAL = MistralTuning()
DATA = b'{"messages": []}\n'
FILE = "mine/rows/kurabe-1.jsonl"


def asked(steps: Steps[Any], *answers: Any) -> tuple[list[HttpRequest], Any]:
    """(the requests of an act, what it returns) where it is answered so."""
    sent: list[HttpRequest] = []
    left = list(answers)
    try:
        ask: Ask = next(steps)
        while True:
            sent.append(ask.request)
            ask = steps.send(msgspec.json.encode(left.pop(0)))
    except StopIteration as done:
        return sent, done.value


# ── Bedrock ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def clients(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    session = boto3.Session("AKID", "secret", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, s3={"addressing_style": "path"})
    made = {name: session.client(name, endpoint_url=recorder.url, config=config) for name in ("bedrock", "s3")}
    yield made
    for client in made.values():
        client.close()


def test_a_bedrock_job(clients: dict[str, Any], recorder: Any, same: Any) -> None:
    settings = Settings(epochs=2, batch_size=1, learning_rate=1e-5)
    (ours,), name = asked(BEDROCK.start(Start("amazon.nova-micro-v1:0:128k", FILE, "kurabe-1", settings)), {})
    recorder.answer({"jobArn": "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/x"}, status=201)
    clients["bedrock"].create_model_customization_job(
        jobName="kurabe-1", customModelName="kurabe-1", roleArn=ROLE, clientRequestToken="kurabe-1",
        baseModelIdentifier="amazon.nova-micro-v1:0:128k", customizationType="FINE_TUNING",
        trainingDataConfig={"s3Uri": f"s3://{FILE}"}, outputDataConfig={"s3Uri": "s3://mine/rows/kurabe-1/"},
        hyperParameters={"epochCount": "2", "batchSize": "1", "learningRate": "1e-05"},
    )  # fmt: skip
    same(ours, recorder.last)

    job = {
        "jobArn": "a", "jobName": "kurabe-1", "outputModelName": "kurabe-1", "roleArn": ROLE, "status": "Completed",
        "outputModelArn": "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-micro-v1:0:128k/abc",
        "creationTime": "2026-11-01T00:00:00Z", "baseModelArn": "b", "trainingDataConfig": {"s3Uri": f"s3://{FILE}"},
        "outputDataConfig": {"s3Uri": "s3://mine/rows/"}, "trainingMetrics": {"trainingLoss": 0.5},
    }  # fmt: skip
    recorder.answer(job)
    theirs = clients["bedrock"].get_model_customization_job(jobIdentifier=name)
    (ours,), seen = asked(BEDROCK.look(name), job)
    same(ours, recorder.last)
    assert (seen.state, seen.model) == (State.SUCCEEDED, theirs["outputModelArn"])
    assert seen.metrics == (Metric(0, theirs["trainingMetrics"]["trainingLoss"]),)

    recorder.answer({})
    clients["bedrock"].stop_model_customization_job(jobIdentifier=name)
    (ours,), _ = asked(BEDROCK.cancel(name), {})
    same(ours, recorder.last)


def test_every_state_of_boto3_is_known(clients: dict[str, Any]) -> None:
    shape = clients["bedrock"].meta.service_model.shape_for("ModelCustomizationJobStatus")
    for status in shape.enum:
        assert asked(BEDROCK.look("x"), {"status": status})[1].state in State


def test_an_object_of_s3(clients: dict[str, Any], recorder: Any) -> None:
    recorder.answer(b"", headers={"etag": '"x"'})
    clients["s3"].put_object(Bucket="mine", Key="rows/kurabe-1.jsonl", Body=DATA)
    theirs = recorder.last
    (ours,), name = asked(BEDROCK.upload("kurabe-1.jsonl", DATA), {})
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body)
    assert name == FILE
    recorder.answer(b"", status=204)
    clients["s3"].delete_object(Bucket="mine", Key="rows/kurabe-1.jsonl")
    (gone,), _ = asked(BEDROCK.delete_upload(FILE), {})
    assert (gone.method, gone.path) == (recorder.last.method, recorder.last.path)


def test_the_signature_of_s3_is_botocores() -> None:
    (ours,), _ = asked(BEDROCK.upload("kurabe-1.jsonl", DATA), {})
    url, now = f"https://s3.us-east-1.amazonaws.com{ours.path}", datetime.now(UTC)
    headers = {"content-type": "application/json", **ours.headers}
    signed = sign("PUT", url, headers, DATA, "AKID", "secret", "", "us-east-1", "s3", now)
    request = AWSRequest("PUT", url, headers=dict(headers), data=DATA)
    auth = S3SigV4Auth(Credentials("AKID", "secret"), "s3", "us-east-1")
    request.context["timestamp"] = signed["x-amz-date"]
    request.headers["X-Amz-Date"] = signed["x-amz-date"]
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert signed["authorization"].endswith(signature)


# ── Vertex ───────────────────────────────────────────────────────────────────────────────────────────────────────────
PLACE = "projects/test-project/locations/us-central1"
JOB = {
    "name": f"{PLACE}/tuningJobs/7", "state": "JOB_STATE_SUCCEEDED", "baseModel": "gemini-2.5-flash",
    "tunedModelDisplayName": "kurabe-1", "createTime": "2026-11-01T00:00:00Z",
    "tunedModel": {"model": f"{PLACE}/models/1@1", "endpoint": f"{PLACE}/endpoints/123"},
}  # fmt: skip


@pytest.fixture
def vertex(recorder: Any) -> Iterator[genai.Client]:
    credentials = GoogleCredentials(token="test-token")  # type: ignore[no-untyped-call]
    options = types.HttpOptions(base_url=recorder.url)
    place: Any = {"project": "test-project", "location": "us-central1", "credentials": credentials}
    with genai.Client(vertexai=True, **place, http_options=options) as client:
        yield client


@pytest.mark.filterwarnings("ignore:The SDK's tuning implementation is experimental")
def test_a_vertex_job(vertex: genai.Client, recorder: Any, same: Any) -> None:
    prefix = f"/v1beta1/{PLACE}"
    settings = Settings(epochs=2, learning_rate_multiplier=0.5, rank=4)
    (ours,), name = asked(VERTEX.start(Start("gemini-2.5-flash", FILE, "kurabe-1", settings)), JOB)
    recorder.answer(JOB)
    vertex.tunings.tune(
        base_model="gemini-2.5-flash",
        training_dataset=types.TuningDataset(gcs_uri=f"gs://{FILE}"),
        config=types.CreateTuningJobConfig(
            epoch_count=2, learning_rate_multiplier=0.5, adapter_size=types.AdapterSize.ADAPTER_SIZE_FOUR,
            tuned_model_display_name="kurabe-1",
        ),
    )  # fmt: skip
    posted = next(request for request in recorder.requests if request.method == "POST")
    same(ours, posted, prefix)

    theirs = vertex.tunings.get(name=name)
    (ours,), seen = asked(VERTEX.look(name), JOB)
    same(ours, recorder.last, prefix)
    assert theirs.tuned_model is not None
    assert (seen.state, seen.model) == (State.SUCCEEDED, theirs.tuned_model.endpoint)

    recorder.answer({"tuningJobs": [JOB]})
    list(vertex.tunings.list(config={"page_size": 100}))
    (ours,), found = asked(
        VERTEX.find_job(Start("gemini-2.5-flash", FILE, "kurabe-1", settings)), {"tuningJobs": [JOB]}
    )
    same(ours, recorder.last, prefix)
    assert found == name

    recorder.answer({})
    vertex.tunings.cancel(name=name)
    (ours,), _ = asked(VERTEX.cancel(name), {})
    assert (ours.method, prefix + ours.path) == (recorder.last.method, recorder.last.path)


def test_a_tuned_model_of_vertex_is_asked(vertex: genai.Client, recorder: Any, same: Any) -> None:
    base = parse_reference("vertex:gemini-2.5-flash?project=test-project&location=us-central1")
    tuned = parse_reference(VERTEX.reference(base, f"{PLACE}/endpoints/123"))
    recorder.answer({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]})
    vertex.models.generate_content(model=f"{PLACE}/endpoints/123", contents="Hello")
    ours = Vertex().chat(tuned.name, Request((User("Hello"),)), Profile(), stream=False)
    same(ours, recorder.last, f"/v1beta1/{PLACE}")


@pytest.mark.parametrize("state", [state.value for state in types.JobState])
def test_every_state_of_google_is_known(state: str) -> None:
    assert asked(VERTEX.look("x"), {**JOB, "state": state})[1].state in State


# ── Mistral ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_files_of_mistral(recorder: Any, same: Any) -> None:
    file = {
        "id": "f", "object": "file", "bytes": 9, "created_at": 1, "filename": "kurabe-1.jsonl", "purpose": "fine-tune",
        "sample_type": "instruct", "source": "upload",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Mistral(api_key="test-key", server_url=recorder.url))
        recorder.answer(file)
        client.files.upload(file={"file_name": "kurabe-1.jsonl", "content": DATA}, purpose="fine-tune")
        (ours,), id = asked(MISTRAL.upload("kurabe-1.jsonl", DATA), file)
        assert (ours.method, "/v1" + ours.path) == (recorder.last.method, recorder.last.path)
        theirs = form(recorder.last.headers, recorder.last.body)
        assert theirs.pop("visibility") == b"workspace"
        assert form(ours.headers, ours.body) == theirs
        assert id == "f"
        recorder.answer({"id": "f", "object": "file", "deleted": True})
        client.files.delete(file_id="f")
        (ours,), _ = asked(MISTRAL.delete_upload("f"), {})
        same(ours, recorder.last, "/v1")


def form(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    message = message_from_bytes(f"content-type: {headers['content-type']}\r\n\r\n".encode() + body)
    parts: list[Any] = list(message.get_payload())
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}


def test_a_job_of_mistral() -> None:
    """What mistralai 1.9.11 sends for the same job, without its defaults."""
    (ours,), _ = asked(
        MISTRAL.start(Start("open-mistral-7b", "f", "kurabe-1", Settings(learning_rate=2e-4))),
        {"id": "j", "status": "QUEUED"},
    )
    assert (ours.method, ours.path) == ("POST", "/fine_tuning/jobs")
    assert msgspec.json.decode(ours.body) == {
        "model": "open-mistral-7b",
        "hyperparameters": {"epochs": 3, "learning_rate": 2e-4},
        "training_files": [{"file_id": "f", "weight": 1}],
        "suffix": "kurabe-1",
        "auto_start": True,
    }
