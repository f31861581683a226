"""Every other provider's tuning against its simulator: the whole road, lost answers, cancelling, failing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kurabe import open_model
from kurabe.errors import TuningError
from kurabe.messages import Message
from kurabe.models.hosted.transport.policy import Policy
from kurabe.testing import Fault, Simulator
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.base import Row, Settings, State, UnknownStateError
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.plan import Plan, make_plan
from kurabe.tuning.hosted.services import SERVICES, parse_base, service_of


class Case(msgspec.Struct, frozen=True):
    """A provider: the model to be tuned, what it must be told, settings it takes, and the tuned model's reference."""

    model: str
    options: dict[str, str]
    settings: Settings
    reference: str
    failed: str
    note: str = ""


BUCKET = {"bucket": "s3://mine/rows", "role": "arn:aws:iam::123456789012:role/tune"}
CASES = {
    "mistral": Case(
        "mistral:open-mistral-7b", {}, Settings(learning_rate=1e-4), "mistral:ft:open-mistral-7b:{name}:job-0",
        "FAILED",
    ),
    "together": Case(
        "together:meta/Llama-8B", {}, Settings(rank=8, batch_size=8, seed=1, learning_rate=1e-5),
        "together:me/Llama-8B-{name}", "error", "/endpoints",
    ),
    "fireworks": Case(
        "fireworks:accounts/fireworks/models/llama", {"account": "me"}, Settings(rank=8, learning_rate=1e-4),
        "fireworks:accounts/me/models/{name}", "JOB_STATE_FAILED", "firectl",
    ),
    "bedrock": Case(
        "bedrock:amazon.nova-micro-v1:0:128k", BUCKET, Settings(learning_rate=1e-5, batch_size=1),
        "bedrock:arn:aws:bedrock:us-east-1:123456789012:custom-model/{name}", "Failed",
        "create-custom-model-deployment",
    ),
    "vertex": Case(
        "vertex:gemini-2.5-flash?project=p&location=us-central1", {"bucket": "gs://mine"},
        Settings(rank=4, learning_rate_multiplier=2.0), "vertex:endpoints/70?project=p&location=us-central1",
        "JOB_STATE_FAILED",
    ),
}  # fmt: skip
ROWS = [
    Row((Message("system", "Answer in German."), Message("user", f"Frage {n}?")), f"Antwort Nummer {n}")
    for n in range(12)
]
QUICK = Policy(first_wait=0.001, first_pause=0.001, failures=10**9, first_look=0.001, longest_look=0.002)


@pytest.fixture(autouse=True)
def _no_other_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-example-000")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


@pytest.fixture(params=list(CASES))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(provider: str) -> Iterator[Simulator]:
    with Simulator(provider, answer="Antwort") as server:
        yield server


def planned(provider: str) -> Plan:
    case = CASES[provider]
    return make_plan(parse_base(case.model), ROWS, case.settings, case.options)


def connected(server: Simulator, plan: Plan) -> Connection:
    key = None if plan.base.scheme == "bedrock" else "test-key"
    return Connection(plan.base, base_url=server.url, api_key=key, policy=QUICK)


def test_an_unknown_state_is_told(provider: str, server: Simulator, tmp_path: Path) -> None:
    """A provider has a new word: the job goes on there, and may be followed later, or stopped."""
    server.tuning.states = ["DREAMING"]
    plan = planned(provider)
    connection = connected(server, plan)
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    with pytest.raises(UnknownStateError, match=r"does not know: 'DREAMING'\. The job goes on .*`kurabe tune status`"):
        jobs.follow(tmp_path, connection, plan)
    (job,) = server.tuning.jobs.values()
    job.looks, job.states = 0, list(server.tuning.usual)
    assert jobs.follow(tmp_path, connection, plan).state is State.SUCCEEDED
    assert len(server.tuning.jobs) == 1


def test_what_is_in_an_unknown_state_can_be_cancelled(provider: str, server: Simulator, tmp_path: Path) -> None:
    server.tuning.states = ["DREAMING"]
    plan = planned(provider)
    connection = connected(server, plan)
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    assert jobs.cancel(tmp_path, connection).state is State.CANCELLED
    (job,) = server.tuning.jobs.values()
    assert job.cancelled


def test_who_says_nothing_of_a_job_that_runs_has_time(provider: str, server: Simulator, tmp_path: Path) -> None:
    """No news are no sign of a stall where a provider has none to tell; of a job that waits they are."""
    if provider not in ("bedrock", "vertex", "fireworks"):
        assert service_of(planned(provider).base).speaks
        return
    running = {"bedrock": "InProgress"}.get(provider, "JOB_STATE_RUNNING")
    server.tuning.states = [running] * 4 + [server.tuning.usual[-1]]
    plan = planned(provider)
    connection = connected(server, plan)
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    job = jobs.look(tmp_path, connection, plan)
    job.news = "2026-01-01T00:00:00+00:00"
    record.write(tmp_path, job)
    seen: list[float] = []
    done = jobs.follow(tmp_path, connection, plan, stall_hours=1, told=lambda job: seen.append(job.quiet_hours))
    assert done.state is State.SUCCEEDED
    assert seen[0] > 1000 > seen[-1]
    (there,) = server.tuning.jobs.values()
    assert not there.cancelled


def test_every_service_is_tested_here_or_with_openai() -> None:
    assert set(SERVICES) - set(CASES) == {"openai", "openai-responses", "azure", "azure-v1"}


def test_the_whole_road(provider: str, server: Simulator, tmp_path: Path) -> None:
    case, plan = CASES[provider], planned(provider)
    assert plan.usd is None  # no price is known, so the cost is confirmed by name
    connection = connected(server, plan)
    with pytest.raises(TuningError, match="not known here"):
        jobs.begin(tmp_path, plan, connection, confirmed=False)
    assert server.accepted == 0
    seen: list[State | None] = []
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    job = jobs.follow(tmp_path, connection, plan, told=lambda job: seen.append(job.state))
    assert job.reference == case.reference.format(name=job.name)
    assert seen[-1] is State.SUCCEEDED
    assert State.RUNNING in seen
    assert len(server.tuning.uploads) == len(server.tuning.jobs) == len(server.tuning.deleted) == 1
    assert not server.tuning.files
    note = service_of(plan.base, plan.options).note(plan.base, job.model or "")
    assert case.note in note
    assert bool(case.note) == bool(note)
    key = None if provider == "bedrock" else "test-key"
    with open_model(job.reference, base_url=server.url, api_key=key, policy=QUICK) as model:
        assert model.complete("Frage?") == "Antwort"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_lost_answer_repeats_nothing(provider: str, server: Simulator, tmp_path: Path, which: int) -> None:
    """The provider did what the `which`-th request asked for, and its answer did not arrive."""
    count = 0

    def lost(call: Any) -> Fault | None:
        nonlocal count
        count += 1
        return Fault.cut() if count == which + 1 else None

    server.faults(lost)
    plan = planned(provider)
    jobs.begin(tmp_path, plan, connected(server, plan), confirmed=True)
    assert len(server.tuning.uploads) == len(server.tuning.jobs) == 1


def test_cancelled(provider: str, server: Simulator, tmp_path: Path) -> None:
    plan = planned(provider)
    connection = connected(server, plan)
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    assert jobs.cancel(tmp_path, connection).state is State.CANCELLED
    (job,) = server.tuning.jobs.values()
    assert job.cancelled
    assert len(server.tuning.deleted) == 1


def test_a_job_that_fails(provider: str, server: Simulator, tmp_path: Path) -> None:
    server.tuning.states, server.tuning.error = [CASES[provider].failed], "bad rows"
    plan = planned(provider)
    connection = connected(server, plan)
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    with pytest.raises(TuningError, match=r"failed: .*bad rows"):
        jobs.follow(tmp_path, connection, plan)
    assert len(server.tuning.deleted) == 1
    jobs.delete(tmp_path, connection)
    server.tuning.states = list(server.tuning.usual)
    jobs.begin(tmp_path, plan, connection, confirmed=True)  # a job of its own, not the one that failed
    assert jobs.follow(tmp_path, connection, plan).state is State.SUCCEEDED
    assert len(server.tuning.jobs) == 2


@pytest.mark.parametrize("provider", ["fireworks", "bedrock", "vertex"])
def test_what_a_provider_must_be_told(provider: str) -> None:
    case = CASES[provider]
    with pytest.raises(TuningError, match=f"set {next(iter(case.options))}:"):
        make_plan(parse_base(case.model), ROWS, case.settings)


def test_rows_as_bedrock_and_vertex_want_them() -> None:
    (first, *_) = planned("bedrock").data.splitlines()
    assert msgspec.json.decode(first) == {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": "Answer in German."}],
        "messages": [
            {"role": "user", "content": [{"text": "Frage 0?"}]},
            {"role": "assistant", "content": [{"text": "Antwort Nummer 0"}]},
        ],
    }
    (first, *_) = planned("vertex").data.splitlines()
    assert msgspec.json.decode(first) == {
        "systemInstruction": {"role": "system", "parts": [{"text": "Answer in German."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Frage 0?"}]},
            {"role": "model", "parts": [{"text": "Antwort Nummer 0"}]},
        ],
    }
