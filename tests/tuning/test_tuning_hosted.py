"""Tuning at a provider, against the simulator: nothing leaves unconfirmed, and nothing is done twice."""

import errno
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kurabe import errors, open_model
from kurabe.errors import TuningError
from kurabe.messages import Message
from kurabe.models.hosted.transport.policy import Policy
from kurabe.models.reference import parse_reference
from kurabe.testing import Fault, Simulator, Tuning
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.base import Limits, Row, Settings, State
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.plan import Plan, make_plan
from kurabe.tuning.hosted.record import Job
from kurabe.tuning.hosted.rows import BY_LENGTH, check, count
from kurabe.tuning.hosted.services import parse_base
from kurabe.tuning.hosted.tune import tune

MODEL = "gpt-4.1-mini"
KEY = "planted0c63Value9e77"
QUICK = Policy(first_wait=0.001, first_pause=0.001, failures=10**9, first_look=0.001, longest_look=0.002)


def rows(number: int = 12, answer: str = "The capital is Paris, row {n}") -> list[Row]:
    system = Message("system", "You know the capitals of countries.")
    return [Row((system, Message("user", f"Which capital, {n}?")), answer.format(n=n)) for n in range(number)]


def planned(server: Simulator, given: list[Row] | None = None, **settings: Any) -> Plan:
    base = parse_base(f"openai:{MODEL}")
    return make_plan(base, rows() if given is None else given, Settings(**settings))


def connected(server: Simulator, plan: Plan, key: str = "test-key") -> Connection:
    return Connection(plan.base, base_url=server.url, api_key=key, policy=QUICK)


@pytest.fixture(autouse=True)
def _no_other_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_the_whole_road(tmp_path: Path) -> None:
    seen: list[Job] = []
    with Simulator("openai", answer="Paris") as server:
        plan = planned(server, batch_size=4, learning_rate_multiplier=0.5, seed=7)
        connection = connected(server, plan)
        begun = jobs.begin(tmp_path, plan, connection, confirmed=True)
        assert begun.state is State.VALIDATING
        job = jobs.follow(tmp_path, connection, plan, told=lambda job: seen.append(msgspec.convert(job, Job)))
        assert [step.state for step in seen] == [
            State.VALIDATING, State.QUEUED, State.RUNNING, State.RUNNING, State.SUCCEEDED,
        ]  # fmt: skip
        assert job.reference == f"openai:ft:{MODEL}:org:{job.name}:tjob-0"
        assert [metric.loss for metric in job.metrics] == [0.5, 0.333]
        assert job.events[0].text == "Job is validating_files."
        assert job.trained == 1234
        assert server.tuning.deleted == ["file-0"]  # the rows do not stay there
        (sent,) = [call.json for call in server.requests if call.method == "POST" and call.path.endswith("/jobs")]
        assert sent["method"]["supervised"]["hyperparameters"] == {
            "n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 0.5,
        }  # fmt: skip
        assert sent["seed"] == 7
        with open_model(job.reference, base_url=server.url, api_key="test-key") as model:
            assert model.complete("Which?") == "Paris"
        before = server.calls
        assert jobs.follow(tmp_path, connection).reference == job.reference
        assert server.calls == before  # what is over is not asked for again


def test_the_file_holds_the_rows(tmp_path: Path) -> None:
    held: dict[str, Any] = {}
    with Simulator("openai") as server:
        plan = planned(server)
        jobs.begin(tmp_path, plan, connected(server, plan), confirmed=True)
        held |= server.tuning.files
    ((name, data),) = held.values()
    assert name == f"kurabe-{plan.key}.jsonl"
    lines = [msgspec.json.decode(line) for line in data.splitlines()]
    assert lines[3] == {
        "messages": [
            {"role": "system", "content": "You know the capitals of countries."},
            {"role": "user", "content": "Which capital, 3?"},
            {"role": "assistant", "content": "The capital is Paris, row 3"},
        ]
    }
    assert len(lines) == 12


def test_nothing_is_sent_unconfirmed(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        plan = planned(server)
        with pytest.raises(TuningError, match=r"about \$0.0\d .*Nothing was sent"):
            jobs.begin(tmp_path / "job", plan, connected(server, plan), confirmed=False)
        unknown = make_plan(parse_base("openai:gpt-9"), rows(), Settings())
        assert unknown.usd is None
        with pytest.raises(TuningError, match="not known here"):
            jobs.begin(tmp_path / "other", unknown, connected(server, unknown), confirmed=False)
        assert server.accepted == 0
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("fault", [Fault.cut(), Fault.status(500), Fault.status(429), Fault.reset()], ids=repr)
@pytest.mark.parametrize("lost", ["/files", "/fine_tuning/jobs"])
def test_a_lost_answer_repeats_nothing(tmp_path: Path, fault: Fault, lost: str) -> None:
    """The provider took the file or the job, and its answer did not arrive."""
    hit: list[str] = []

    def once(call: Any) -> Fault | None:
        if call.method == "POST" and call.path.endswith(lost) and not hit:
            hit.append(call.path)
            return fault
        return None

    with Simulator("openai", faults=once) as server:
        plan = planned(server)
        jobs.begin(tmp_path, plan, connected(server, plan), confirmed=True)
        assert hit
        assert len(server.tuning.uploads) == 1
        assert len(server.tuning.jobs) == 1


def test_another_process_goes_on(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        plan = planned(server)
        jobs.begin(tmp_path, plan, connected(server, plan), confirmed=True)
        code = (
            "import sys; from pathlib import Path; from kurabe.tuning.hosted import jobs, record;"
            "from kurabe.tuning.hosted.connection import Connection;"
            "from kurabe.tuning.hosted.services import parse_base;"
            "folder = Path(sys.argv[1]); job = record.read(folder);"
            "c = Connection(parse_base(job.base), base_url=job.base_url, api_key='test-key',"
            "               policy={'first_look': 0.001});"
            "print(jobs.follow(folder, c).reference)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip().startswith("openai:ft:")
        assert len(server.tuning.jobs) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from kurabe.messages import Message
from kurabe.models.hosted.transport.http import Http
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.base import Row, Settings
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.plan import make_plan
from kurabe.tuning.hosted.services import parse_base
from kurabe.tuning.hosted.tune import tune

home, url = Path(sys.argv[1]), sys.argv[2]

def run(number, last):
    # Dies before or after the `last`-th step: a write to the disk or a request.
    count = 0
    def step():
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
    write, send = record.write, Http.send
    def counted_write(folder, job):
        step(); write(folder, job); step()
    async def counted_send(self, *args):
        step(); answer = await send(self, *args); step(); return answer
    record.write, Http.send = counted_write, counted_send
    rows = [Row((Message("user", f"{number} {n}"),), f"answer {n}") for n in range(10)]
    plan = make_plan(parse_base("openai:gpt-4.1-mini"), rows, Settings())
    connection = Connection(plan.base, base_url=url, api_key="test-key", policy={"first_look": 0.001})
    jobs.begin(home / plan.key, plan, connection, confirmed=True)
    print(jobs.follow(home / plan.key, connection, plan).reference, flush=True)

number, dies = 0, True
while dies:
    number += 1
    for last in (number, 0):
        if (child := os.fork()) == 0:
            run(number, last)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if last:
            dies = os.WIFSIGNALED(status)
        else:
            assert status == 0, status
print("kills", number - 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")
def test_killed_between_any_two_steps(tmp_path: Path) -> None:
    """A process dies before or after each write and each request; the next one ends with one file and one job."""
    with Simulator("openai", tuning=Tuning(states=("queued", "running", "succeeded"))) as server:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), server.url], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        lines = done.stdout.splitlines()
        kills = int(lines[-1].removeprefix("kills "))
        assert kills >= 30
        assert all(line.startswith("openai:ft:") for line in lines[:-1])
        uploads = server.tuning.uploads
        assert len(uploads) == len(set(uploads)) == kills + 1
        assert len(server.tuning.jobs) == kills + 1
        assert not server.tuning.files  # each was deleted


def test_a_job_that_fails(tmp_path: Path) -> None:
    told = Tuning(states=("validating_files", "failed"), error="Row 3 says: The capital is Paris, row 2")
    with Simulator("openai", tuning=told) as server:
        plan = planned(server)
        connection = connected(server, plan)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        with pytest.raises(TuningError, match=r"job ftjob-0\) failed: Row 3 says: •••\. `kurabe tune events") as caught:
            jobs.follow(tmp_path, connection, plan)
        assert "Paris" not in str(caught.value)
        assert server.tuning.deleted == ["file-0"]
        before = server.calls
        with pytest.raises(TuningError, match="failed"):  # not paid for again by itself
            jobs.begin(tmp_path, plan, connection, confirmed=True)
        assert server.calls == before
        jobs.delete(tmp_path, connection)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        assert len(server.tuning.jobs) == 2


def test_what_a_provider_says_is_kept_only_without_the_rows(tmp_path: Path) -> None:
    """A process that has no rows, as `kurabe tune status`, shows what was said and keeps none of it."""
    said = 'Row 3 says: "Which capital, 2?" and The capital is Paris, ro'  # the answer is cut short
    with Simulator("openai", tuning=Tuning(states=("running", "failed"), error=said)) as server:
        plan = planned(server)
        connection = connected(server, plan, KEY)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        for _ in range(3):
            shown = jobs.look(tmp_path, connection)
            assert "Paris" not in (tmp_path / record.NAME).read_text()
        assert shown.error == said
        assert shown.events
        with pytest.raises(TuningError, match=r"failed: Row 3 says: .*•••.* and •••") as caught:
            jobs.begin(tmp_path, plan, connection, confirmed=True)
        assert "Paris" not in str(caught.value)
        assert "Paris" not in (tmp_path / record.NAME).read_text()
        before = server.calls
        assert "•••" in jobs.look(tmp_path, connection).error
        assert server.calls == before  # now that it is kept, it is not asked for again


def test_what_is_repeated_of_a_row_is_hidden() -> None:
    long = "A long text of a row,\nwhich a provider repeats only in part"
    plan = make_plan(parse_base(f"openai:{MODEL}"), [*rows(), Row((Message("user", long),), "short")], Settings())
    assert plan.hidden(f"Bad: {long}!") == "Bad: •••!"
    assert plan.hidden(f"Bad: {long[:40]}…") == "Bad: •••…"
    assert plan.hidden("Bad: " + msgspec.json.encode(long).decode()) == 'Bad: "•••"'
    assert plan.hidden("Bad: Which capital, 11? Which capital, 1?") == "Bad: ••• •••"
    assert plan.hidden_all(["Which capital, 3?", "", "fine"]) == ["•••", "", "fine"]
    unlike = make_plan(plan.base, [*rows(10, "The capital of that is Paris, row {n}")], Settings())
    assert unlike.hidden("The capital of that is Paris, row 7") == "•••"
    assert plan.hidden("with sk-proj-0123456789abcdef") == "with •••"


def test_a_job_that_stalls(tmp_path: Path) -> None:
    with Simulator("openai", tuning=Tuning(states=("queued",))) as server:
        plan = planned(server)
        connection = connected(server, plan)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        job = jobs.look(tmp_path, connection)
        job.news = "2026-01-01T00:00:00+00:00"
        record.write(tmp_path, job)
        with pytest.raises(TuningError, match=r"nothing new of the job ftjob-0 for \d+ hours .*cancelled"):
            jobs.follow(tmp_path, connection, plan, stall_hours=1)
        assert server.tuning.jobs["ftjob-0"].cancelled
        assert server.tuning.deleted == ["file-0"]


def test_cancelled(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        plan = planned(server)
        connection = connected(server, plan)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        assert jobs.cancel(tmp_path, connection).state is State.CANCELLED
        assert server.tuning.jobs["ftjob-0"].cancelled
        assert server.tuning.deleted == ["file-0"]
        assert jobs.cancel(tmp_path, connection).state is State.CANCELLED
        with pytest.raises(TuningError, match="was cancelled"):
            jobs.follow(tmp_path, connection, plan)


def test_two_at_once_begin_one_job(tmp_path: Path) -> None:
    with Simulator("openai", delay=0.02) as server:
        plan = planned(server)

        def begin(_: int) -> str | None:
            return jobs.begin(tmp_path, plan, connected(server, plan), confirmed=True).job

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(begin, range(4))) == {"ftjob-0"}
        assert len(server.tuning.uploads) == len(server.tuning.jobs) == 1


@pytest.mark.parametrize("writes", range(6))
def test_a_full_disk_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """The disk is full after so many writes; once there is room it goes on with the one file and the one job."""
    left = writes
    sync = os.fsync

    def full(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with Simulator("openai") as server:
        plan = planned(server)
        connection = connected(server, plan)

        def done() -> None:
            jobs.begin(tmp_path, plan, connection, confirmed=True)
            jobs.follow(tmp_path, connection, plan)

        with monkeypatch.context() as patch:
            patch.setattr("kurabe.tuning.durable.os.fsync", full)
            with pytest.raises(TuningError, match=r"job\.json .*No space left on device.*make room and run it again"):
                done()
        assert len(server.tuning.uploads) == (writes > 1)
        done()
        assert len(server.tuning.uploads) == len(server.tuning.jobs) == 1


def test_a_job_that_is_gone_can_be_begun_anew(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        plan = planned(server)
        connection = connected(server, plan)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        server.tuning.jobs.clear()
        with pytest.raises(TuningError, match=r"knows no job ftjob-0: use the key .*`kurabe tune delete"):
            jobs.follow(tmp_path, connection, plan)
        jobs.delete(tmp_path, connection)
        assert server.tuning.deleted == ["file-0"]
        assert jobs.begin(tmp_path, plan, connection, confirmed=True).state is State.VALIDATING


def test_cancelling_finds_what_a_dead_process_left(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        plan = planned(server)
        connection = connected(server, plan)
        jobs.begin(tmp_path, plan, connection, confirmed=True)
        job = record.read(tmp_path)
        assert job is not None
        job.job = job.file = job.state = None  # as it stands before the answers came
        record.write(tmp_path, job)
        assert jobs.cancel(tmp_path, connection).job == "ftjob-0"
        assert server.tuning.jobs["ftjob-0"].cancelled
        assert server.tuning.deleted == ["file-0"]


def test_keys_and_rows_are_nowhere(tmp_path: Path) -> None:
    """Neither in a record, a repr, an error or a log, though the provider repeats both."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    secret = "The capital is Paris, row 3"
    try:
        with Simulator("openai") as server:
            plan = planned(server)
            connection = connected(server, plan, KEY)
            said = [repr(plan), repr(connection), repr(rows()[3]), plan.describe(), repr(vars(connection))]
            server.faults(Fault.status(400, f"bad key {{key}}, bad row: {secret}"))
            with pytest.raises(errors.BadRequestError) as caught:
                jobs.begin(tmp_path, plan, connection, confirmed=True)
            said += [str(caught.value), repr(caught.value), repr(caught.value.args), repr(vars(caught.value))]
            assert "•••" in str(caught.value)
            server.faults(None)
            jobs.begin(tmp_path, plan, connection, confirmed=True)
            jobs.follow(tmp_path, connection, plan)
            assert {call.key for call in server.requests} == {KEY}
            assert len(server.tuning.uploads) == 1
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    said += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    said.append(text.getvalue())
    for one in said:
        assert KEY not in one
        assert "Paris" not in one


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda given: given[:9], "10 rows or more, and there are 9"),
        (lambda given: [*given, Row(given[0].messages, "  ")], "row 13 of 13 .* answer is empty"),
        (lambda given: [Row((), "x"), *given], "row 1 of 13 .* no question"),
        (lambda given: [Row((Message("assistant", "x"),), "x"), *given], "take turns"),
        (lambda given: [Row((Message("user", " "),), "x"), *given], "one of its messages is empty"),
        (lambda given: [*given, Row((Message("user", "word " * 99_000),), "x")], r"row 13 of 13 has \d+,\d+ tokens"),
    ],
)
def test_rows_that_cannot_be_used(change: Any, says: str) -> None:
    with pytest.raises(TuningError, match=says) as caught:
        make_plan(parse_base(f"openai:{MODEL}"), change(rows()), Settings())
    assert "Paris" not in str(caught.value)


def test_a_system_message_that_is_not_taken() -> None:
    with pytest.raises(TuningError, match=r"row 1 .* system: ''"):
        check(rows(), Limits(system=False), "X")


def test_what_it_costs() -> None:
    plan = make_plan(parse_base("openai:gpt-4.1-mini-2025-04-14"), rows(), Settings(epochs=2))
    assert plan.usd == pytest.approx(plan.tokens * 2 * 5 / 1e6)
    assert "2 epochs" in plan.describe()
    assert make_plan(parse_base("openai:gpt-4.1"), rows(), Settings()).price != plan.price
    again = make_plan(parse_base("openai:ft:gpt-4o-mini-2024-07-18:org::abc"), rows(), Settings())
    assert again.price is not None
    assert again.price.usd == 3


def test_tokens_are_counted_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    counted = count(rows(1), parse_reference(f"openai:{MODEL}"))
    assert counted.by == BY_LENGTH
    texts = ["You know the capitals of countries.", "Which capital, 0?", "The capital is Paris, row 0"]
    assert counted.tokens == [sum(-(-len(text) // 4) + 3 for text in texts) + 3]
    other = [Row((Message("user", "この商品の値段はいくらですか。"),), "三千円です")]
    assert count(other, parse_reference(f"openai:{MODEL}")).tokens[0] >= 15  # tiktoken's o200k_base: 12 and the turns


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        ("anthropic:claude-sonnet-5-5", {}, "can't be tuned"),
        ("openai:gpt-4.1", {"rank": 8}, "no setting of its tuning 'rank'"),
    ],
)
def test_what_is_not_offered(model: str, settings: Any, says: str) -> None:
    with pytest.raises(TuningError, match=says):
        make_plan(parse_base(model), rows(), Settings(**settings))


def test_a_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{")
    with Simulator("openai") as server:
        plan = planned(server)
        with pytest.raises(TuningError, match="is damaged"):
            jobs.begin(tmp_path, plan, connected(server, plan), confirmed=True)
        assert server.accepted == 0


@pytest.fixture
def azure() -> Iterator[Simulator]:
    with Simulator("azure") as server:
        yield server


def test_azure(tmp_path: Path, azure: Simulator) -> None:
    base = parse_base(f"azure:gpt-4.1-mini?endpoint={azure.address}")
    plan = make_plan(base, rows(), Settings())
    assert plan.usd is None
    connection = Connection(base, api_key="test-key", policy=QUICK)
    jobs.begin(tmp_path, plan, connection, confirmed=True)
    job = jobs.follow(tmp_path, connection, plan)
    assert job.model is not None
    assert {call.path.partition("/openai/")[1] for call in azure.requests} == {"/openai/"}
    assert all(call.query["api-version"] for call in azure.requests)


def test_in_one_call(tmp_path: Path) -> None:
    pairs = [(f"Which capital, {n}?", f"Paris {n}") for n in range(12)]
    shown: list[Plan] = []

    def no(plan: Plan) -> bool:
        shown.append(plan)
        return False

    with Simulator("openai") as server:
        given: dict[str, Any] = {"folder": tmp_path, "base_url": server.url, "api_key": "test-key", "policy": QUICK}
        with pytest.raises(TuningError, match="Nothing was sent"):
            tune(f"openai:{MODEL}", pairs, no, **given)
        assert server.accepted == 0
        assert shown[0].rows == 12
        job = tune(f"openai:{MODEL}", pairs, lambda plan: plan.usd is not None and plan.usd < 1, **given)
        assert tune(f"openai:{MODEL}", pairs, no, **given).reference == job.reference
        assert len(server.tuning.jobs) == len(shown) == 1
