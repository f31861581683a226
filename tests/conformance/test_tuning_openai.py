"""OpenAI's fine-tuning beside its SDK, and Azure's beside AzureOpenAI: for the same act, the same on the wire.

The SDK's habits that we do not follow: its multipart boundary and the order of a part's headers (the parts are
compared); a part's guessed content type; `metadata`, which we leave out. It sends no limit where none is asked for; we
ask for pages of 100.
"""

import contextlib
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import msgspec
import openai
import pytest

from kurabe.errors import BadRequestError, UnreadableAnswerError
from kurabe.messages import Message
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.providers import providers
from kurabe.tuning.hosted.base import Ask, Metric, Row, Settings, Start, State, Steps
from kurabe.tuning.hosted.openai import AzureTuning, OpenAITuning

SERVICE = OpenAITuning()
FILE = {
    "id": "file-1", "object": "file", "bytes": 9, "created_at": 1, "filename": "kurabe-1.jsonl", "purpose": "fine-tune",
    "status": "processed",
}  # fmt: skip
JOB = {
    "id": "ftjob-1", "object": "fine_tuning.job", "created_at": 1, "model": "gpt-4.1-mini-2025-04-14",
    "status": "succeeded", "training_file": "file-1", "validation_file": None, "organization_id": "o", "seed": 7,
    "result_files": [], "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 1.8},
    "fine_tuned_model": "ft:gpt-4.1-mini-2025-04-14:o:kurabe:abc", "trained_tokens": 99, "finished_at": 2,
    "error": None,
}  # fmt: skip
EVENTS = {
    "object": "list",
    "data": [
        {
            "id": "ftevent-2", "object": "fine_tuning.job.event", "created_at": 1_700_000_060, "level": "info",
            "message": "Step 10: training loss=0.42", "type": "metrics",
            "data": {"step": 10, "train_loss": 0.42, "total_steps": 30, "train_mean_token_accuracy": 0.9},
        },
        {
            "id": "ftevent-1", "object": "fine_tuning.job.event", "created_at": 1_700_000_000, "level": "info",
            "message": "Created fine-tuning job", "type": "message", "data": {},
        },
    ],
    "has_more": False,
}  # fmt: skip


@pytest.fixture
def client(recorder: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="test-key", base_url=recorder.url + "/v1", max_retries=0) as made:
        yield made


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


def parts(headers: dict[str, str], body: bytes) -> dict[str, tuple[str | None, bytes]]:
    """(file name, content) of each part of a form, by its name."""
    message = message_from_bytes(f"content-type: {headers['content-type']}\r\n\r\n".encode() + body)
    assert message.get_content_type() == "multipart/form-data"
    found = {}
    for part in message.get_payload():
        assert not isinstance(part, str)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found[str(part.get_param("name", header="content-disposition"))] = (part.get_filename(), content)
    return found


def test_upload(client: openai.OpenAI, recorder: Any) -> None:
    rows = [Row((Message("system", "Größe?"), Message("user", f"{n}\r\n--x")), f"Antwort „{n}“") for n in range(10)]
    data = SERVICE.write(rows)
    recorder.answer(FILE)
    theirs = client.files.create(file=("kurabe-1.jsonl", data), purpose="fine-tune")
    (ours,), id = asked(SERVICE.upload("kurabe-1.jsonl", data), FILE)
    assert (ours.method, "/v1" + ours.path) == (recorder.last.method, recorder.last.path)
    assert parts(ours.headers, ours.body) == parts(recorder.last.headers, recorder.last.body)
    assert id == theirs.id


@pytest.mark.parametrize(
    ("settings", "hyperparameters"),
    [
        (Settings(), {"n_epochs": 3}),
        (Settings(epochs=1, batch_size=8), {"n_epochs": 1, "batch_size": 8}),
        (Settings(learning_rate_multiplier=0.3, seed=7), {"n_epochs": 3, "learning_rate_multiplier": 0.3}),
    ],
)
def test_start(settings: Settings, hyperparameters: Any, client: openai.OpenAI, recorder: Any, same: Any) -> None:
    recorder.answer(JOB)
    theirs = client.fine_tuning.jobs.create(
        model="gpt-4.1-mini-2025-04-14", training_file="file-1", suffix="kurabe-12345678",
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        seed=openai.omit if settings.seed is None else settings.seed,
    )  # fmt: skip
    start = Start("gpt-4.1-mini-2025-04-14", "file-1", "kurabe-12345678", settings)
    (ours,), id = asked(SERVICE.start(start), JOB)
    same(ours, recorder.last, "/v1")
    assert id == theirs.id


def test_a_job_and_its_events(client: openai.OpenAI, recorder: Any, same: Any) -> None:
    (get, events), seen = asked(SERVICE.look("ftjob-1"), JOB, EVENTS)
    recorder.answer(JOB)
    theirs = client.fine_tuning.jobs.retrieve("ftjob-1")
    same(get, recorder.last, "/v1")
    recorder.answer(EVENTS)
    their_events = list(client.fine_tuning.jobs.list_events("ftjob-1", limit=100))
    same(events, recorder.last, "/v1")
    assert (seen.state, seen.model, seen.tokens) == (State.SUCCEEDED, theirs.fine_tuned_model, theirs.trained_tokens)
    assert [event.text for event in seen.events] == [e.message for e in their_events if e.type == "message"]
    assert seen.events[0].time == "2023-11-14T22:13:20+00:00"
    assert seen.metrics == (Metric(10, 0.42),)


def test_pages_of_events(client: openai.OpenAI, recorder: Any) -> None:
    first = {**EVENTS, "has_more": True}
    recorder.answer(first)
    recorder.then(EVENTS)
    count = len(recorder.requests)
    list(client.fine_tuning.jobs.list_events("ftjob-1", limit=100))
    theirs = [request.query for request in recorder.requests[count:]]
    (_, *ours), seen = asked(SERVICE.look("ftjob-1"), JOB, first, EVENTS)
    assert [request.query for request in ours] == theirs
    assert len(seen.metrics) == 2


def test_cancel_and_delete(client: openai.OpenAI, recorder: Any, same: Any) -> None:
    recorder.answer(JOB)
    client.fine_tuning.jobs.cancel("ftjob-1")
    (cancel,), _ = asked(SERVICE.cancel("ftjob-1"), JOB)
    same(cancel, recorder.last, "/v1")
    recorder.answer({"id": "file-1", "object": "file", "deleted": True})
    client.files.delete("file-1")
    (delete,), _ = asked(SERVICE.delete_upload("file-1"), {})
    same(delete, recorder.last, "/v1")


def test_what_was_lost_is_found(client: openai.OpenAI, recorder: Any, same: Any) -> None:
    files = {"object": "list", "data": [FILE], "has_more": False}
    recorder.answer(files)
    client.files.list(purpose="fine-tune", limit=100)
    (listed,), id = asked(SERVICE.find_upload("kurabe-1.jsonl"), files)
    same(listed, recorder.last, "/v1")
    assert id == "file-1"
    assert asked(SERVICE.find_upload("kurabe-2.jsonl"), files)[1] is None
    jobs = {"object": "list", "data": [JOB], "has_more": False}
    recorder.answer(jobs)
    client.fine_tuning.jobs.list(limit=100)
    start = Start("m", "file-1", "kurabe-12345678", Settings())
    (found,), id = asked(SERVICE.find_job(start), jobs)
    same(found, recorder.last, "/v1")
    assert id == "ftjob-1"
    recorder.answer(FILE)
    client.files.retrieve("file-1")
    (ready,), usable = asked(SERVICE.ready("file-1"), FILE)
    same(ready, recorder.last, "/v1")
    assert usable


@pytest.mark.parametrize("status", ["validating_files", "queued", "running", "succeeded", "failed", "cancelled"])
def test_every_state_of_the_sdk_is_known(status: str, client: openai.OpenAI, recorder: Any) -> None:
    job = {**JOB, "status": status, "error": {"code": "c", "message": "bad", "param": None}}
    recorder.answer(job)
    theirs = client.fine_tuning.jobs.retrieve("ftjob-1")
    _, seen = asked(SERVICE.look("ftjob-1"), job, {"data": []})
    assert seen.state.value in (theirs.status, "validating" if theirs.status == "validating_files" else "")
    assert seen.error == (theirs.error.message if theirs.error else "")


def test_answers_that_cannot_be_read() -> None:
    with pytest.raises(UnreadableAnswerError):
        asked(SERVICE.look("x"), {"object": "html"})
    with pytest.raises(BadRequestError, match="line 3"):
        asked(SERVICE.ready("f"), {**FILE, "status": "error", "status_details": "line 3"})


def test_azure(recorder: Any, same: Any) -> None:
    """The rows of providers.toml put the same requests behind the endpoint, with the version."""
    row, version = providers()["azure"], "2025-04-01-preview"
    service = AzureTuning()
    with contextlib.closing(
        openai.AzureOpenAI(azure_endpoint=recorder.url, api_version=version, api_key="test-key", max_retries=0)
    ) as client:
        recorder.answer(JOB)
        client.fine_tuning.jobs.create(
            model="gpt-4.1-mini-2025-04-14", training_file="file-1", suffix="kurabe-12345678",
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        )  # fmt: skip
    start = Start("gpt-4.1-mini-2025-04-14", "file-1", "kurabe-12345678", Settings())
    (ours,), _ = asked(service.start(start), JOB)
    routed = msgspec.structs.replace(ours, query={"api-version": version})
    same(routed, recorder.last, row.base_url.removeprefix("{endpoint}"))
    for status, usable in (("pending", False), ("running", False), ("processed", True), ("uploaded", False)):
        assert asked(service.ready("f"), {**FILE, "status": status})[1] is usable
