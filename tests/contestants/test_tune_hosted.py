"""A model that its provider tunes, as a contestant of a contest and by itself."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

import kurabe
from kurabe.contest.run import run
from kurabe.contestants import registry
from kurabe.contestants.base import Learning
from kurabe.contestants.tuned.tune_hosted import TuneHosted, _tell
from kurabe.errors import BudgetExceededError, ContestantError, TuningError
from kurabe.report.format import dollars
from kurabe.report.notes import notes
from kurabe.tasks.spec import ContestantSpec
from kurabe.testing import Fault, Simulator, Tuning
from kurabe.tuning.general import questions
from kurabe.tuning.hosted import record

QUICK = {"first_look": 0.001, "longest_look": 0.002}
COLOURS = {"rot": "red", "blau": "blue", "gelb": "yellow"}
MODEL = "openai:gpt-4.1-mini"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("KURABE_JOBS", str(tmp_path / "jobs"))


def table(rows: int) -> tuple[pl.DataFrame, np.ndarray]:
    words = [list(COLOURS)[n % 3] for n in range(rows)]
    frame = pl.DataFrame({"input": [f"{word} {n}" for n, word in enumerate(words)]})
    return frame, np.array([COLOURS[word] for word in words], dtype=object)


def knows(text: str) -> str:
    """What the tuned model answers."""
    return next(COLOURS[word] for word in COLOURS if word in text)


def tuner(server: Simulator, **settings: Any) -> TuneHosted:
    options = {"base_url": server.url, "policy": QUICK}
    given: dict[str, Any] = {"confirm_usd": 1.0, "options": options, "target": "colour"}
    return TuneHosted(model=MODEL, **given | settings)


def test_it_learns_and_answers(tmp_path: Path) -> None:
    X, y = table(30)
    said: list[str] = []
    with Simulator("openai", answer=knows) as server:
        made = tuner(server).fit_with(X, y, None, Learning(said.append))
        assert made.tuned_.startswith("openai:ft:gpt-4.1-mini:org:kurabe-")
        assert (made.predict(X) == y).all()
        made.close()
        asked = [call for call in server.requests if call.kind == "chat"]
        assert {call.model for call in asked} == {made.tuned_.removeprefix("openai:")}
        (name,) = server.tuning.uploads
        assert name.startswith("kurabe-")
        tuner(server, decode="free", stall_hours=2.0).fit(X, y)  # what was tuned once is not tuned again
        assert len(server.tuning.jobs) == 1
    assert "loss 0.333" in said[-1]
    assert "ftjob-0" in said[0]
    assert [job.rows for _, job in record.found(tmp_path / "jobs")[0]] == [30]


def test_a_job_that_is_quiet_for_long_is_told() -> None:
    said: list[str] = []
    X, y = table(12)
    with Simulator("openai") as server:
        plan = tuner(server).plan(X, y)
        job = record.Job(
            "k", "n", MODEL, "", 1, 1, "", plan.settings, None, job="ftjob-0", news="2026-01-01T00:00:00+00:00"
        )
        _tell(24.0, said.append, job)
        _tell(1e9, said.append, job)
    assert re.search(r"ftjob-0; nothing new for \d+ h, `kurabe tune cancel k` stops it", said[0])
    assert "nothing new" not in said[1]


def test_rows_are_what_is_asked_later() -> None:
    """The conversation of a training row is the one that the tuned model is asked with."""
    X, y = table(12)
    with Simulator("openai", answer=knows) as server:
        made = tuner(server)
        plan = made.plan(X, y)
        assert server.accepted == 0
        made.fit(X, y).predict(X[:1])
        made.close()
        asked = next(call for call in server.requests if call.kind == "chat").json["messages"]

    learned = msgspec.json.decode(plan.data.splitlines()[0])["messages"]
    assert learned[:-1] == asked
    assert learned[-1] == {"role": "assistant", "content": "red"}


def test_numbers_are_written_as_they_are() -> None:
    X, _ = table(12)
    with Simulator("openai") as server:
        plan = tuner(server, target="price").plan(X, np.arange(12) * 1000.0)
    assert plan.data.splitlines()[3].endswith(b'"content":"3000"}]}')


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        (MODEL, None, r"about \$0\.\d\d .* Nothing was sent; confirm_usd: 1 in its settings"),
        (MODEL, 0.001, r"and confirm_usd allows \$0.001"),
        (MODEL, "unknown", "Nothing was sent"),
        ("openai:gpt-9", 100.0, r"not known here.*confirm_usd: unknown in its settings"),
    ],
)
def test_nothing_is_sent_unconfirmed(model: str, given: Any, says: str, tmp_path: Path) -> None:
    X, y = table(300)
    with Simulator("openai") as server:
        with pytest.raises(BudgetExceededError, match=says):
            tuner(server, confirm_usd=given).set_params(model=model).fit(X, y)
        assert server.accepted == 0
    assert not (tmp_path / "jobs").exists()


def test_a_person_confirms() -> None:
    X, y = table(12)
    with Simulator("openai", answer=knows) as server:
        made = tuner(server, confirm_usd=None)
        context = Learning(confirmed=frozenset({made.plan(X, y).key}))
        assert made.fit_with(X, y, None, context).tuned_.startswith("openai:ft:")


def test_a_cost_that_is_not_known_can_be_accepted() -> None:
    X, y = table(12)
    with Simulator("openai", answer=knows) as server:
        made = tuner(server, confirm_usd="unknown").set_params(model="openai:gpt-9").fit(X, y)
        assert made.tuned_.startswith("openai:ft:gpt-9")


def contest(folder: Path, server: Simulator, budget: Any = None, **settings: Any) -> Any:
    X, y = table(60)
    frame = X.with_columns(colour=pl.Series(y.tolist()))
    options = {"base_url": server.url, "price": {"input": 1.0, "output": 2.0}, "policy": QUICK}
    given = {"model": MODEL, "options": options} | settings
    return kurabe.Task.from_frame(
        frame, target="colour", kind="label", contestants=["constant", {"tune": given}], folder=folder,
        **({} if budget is None else {"budget": budget}),
    )  # fmt: skip


def test_a_contest(tmp_path: Path) -> None:
    """Without a confirmed cost it is left out, and the board says how to confirm; with one it wins."""
    with Simulator("openai", answer=knows) as server:
        board = run(contest(tmp_path, server))
        row = next(row for row in board.rows if row.status == "skipped")
        assert row.reason is not None
        assert (
            "confirm_usd: 1 in its settings allows it; outside of a sweep, so does `kurabe tune TASK --yes`"
            in row.reason
        )
        assert server.accepted == 0

        board = run(contest(tmp_path, server, confirm_usd=1.0))
        best = board.rows[0]
        assert (best.status, best.score) == ("done", 1.0)
        calls = server.calls
        run(contest(tmp_path, server, confirm_usd=1.0))
        assert server.calls == calls
        assert len(server.tuning.jobs) == 1


def test_what_it_costs_is_counted_and_held(tmp_path: Path) -> None:
    with Simulator("openai", answer=knows) as server:
        given: dict[str, Any] = {"confirm_usd": 1.0}
        board = run(contest(tmp_path, server, budget={"usd": 0.001}, **given))
        row = next(row for row in board.rows if row.contestant == "tune")
        assert row.reason is not None
        assert "$0.00 of the budget are left. Nothing was sent" in row.reason
        assert server.accepted == 0
        row = run(contest(tmp_path, server, budget={"usd": 1.0}, **given)).rows[0]
        (job,) = (job for _, job in record.found(tmp_path / "jobs")[0])
        assert job.usd is not None
        assert row.usd is not None
        assert row.usd > job.usd > 0.001
        calls = server.calls
        assert run(contest(tmp_path, server, confirm_usd=5.0, stall_hours=1.0)).rows[0].usd == row.usd
        assert server.calls == calls  # what may be paid, and how long it may take, changes no answer


def test_a_cost_that_is_not_known_keeps_no_budget(tmp_path: Path) -> None:
    with Simulator("openai", answer=knows) as server:
        given = {"model": "openai:gpt-9", "confirm_usd": "unknown"}
        board = run(contest(tmp_path, server, budget={"usd": 10.0}, **given))
        row = next(row for row in board.rows if row.status == "skipped")
        assert row.reason is not None
        assert "no budget can be kept. Nothing was sent" in row.reason
        assert server.accepted == 0


def test_answers_without_a_price_keep_no_budget(tmp_path: Path) -> None:
    """It is found before a job is paid for; without a budget the board says what is known."""
    with Simulator("openai", answer=knows) as server:
        given: dict[str, Any] = {"confirm_usd": 1.0, "options": {"base_url": server.url, "policy": QUICK}}
        board = run(contest(tmp_path, server, budget={"usd": 3.0}, **given))
        row = next(row for row in board.rows if row.status == "skipped")
        assert row.reason is not None
        assert "add options: {price: {input: …, output: …}} to the settings of tune" in row.reason
        assert "Nothing was sent" in row.reason
        assert server.accepted == 0

        board = run(contest(tmp_path, server, **given))
        assert (board.rows[0].contestant, board.rows[0].usd) == ("tune", None)
        (job,) = (job for _, job in record.found(tmp_path / "jobs")[0])
        said = f"tune: the tuning job cost about {dollars(job.usd)}; what the answers cost is not known: add options:"
        assert any(note.text.startswith(said) for note in notes(board))

        given["options"] = given["options"] | {"price": {"input": 0.8, "output": 3.2}}
        board = run(contest(tmp_path, server, budget={"usd": 3.0}, **given))
        assert job.usd is not None
        assert board.rows[0].usd is not None
        assert job.usd < board.rows[0].usd < 3.0
        assert not any("tuning job cost" in note.text for note in notes(board))
        assert len(server.tuning.jobs) == 1


@pytest.mark.parametrize(
    ("model", "given", "known"),
    [
        ("openai:gpt-4.1-mini", {}, False),
        ("openai:gpt-4.1-mini", {"options": {"price": {"input": 1.0, "output": 2.0}}}, True),
        ("openai:gpt-4o-mini-2024-07-18", {}, True),  # genai-prices has the names of what is tuned of it
        ("openai-responses:ft:gpt-4o-mini-2024-07-18:org::x", {}, True),
        ("mistral:mistral-small-latest", {}, False),
        ("azure:gpt-4o-mini?endpoint=http://127.0.0.1:9", {}, False),
    ],
)
def test_whether_answers_have_a_price(
    model: str, given: dict[str, Any], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("MISTRAL_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    assert (TuneHosted(model=model, **given).unpriced() is None) == known


def test_a_job_that_fails_is_on_the_board(tmp_path: Path) -> None:
    with Simulator("openai", tuning=Tuning(states=("failed",), error="bad file")) as server:
        board = run(contest(tmp_path, server, confirm_usd=1.0))
        row = next(row for row in board.rows if row.status == "failed")
        assert row.reason is not None
        assert "failed: bad file" in row.reason
        run(contest(tmp_path, server, confirm_usd=1.0))
        assert len(server.tuning.jobs) == 1  # a failed job is not paid for again by itself


def is_general(call: Any) -> bool:
    return bool(call.kind == "chat" and call.json["messages"][0]["role"] == "user")


def test_what_is_forgotten_is_asked_once(tmp_path: Path) -> None:
    """The base model and the tuned one answer the general rows; each answer is paid for, and kept over a stop."""
    asked = [row.ask for row in questions()]
    stop = {"after": 7}

    def answer(text: str) -> str:
        return next((row.accept[0] for row in questions() if row.ask == text and row.accept), None) or (
            knows(text) if any(word in text for word in COLOURS) else "no"
        )

    def stopped(call: Any) -> Fault | None:
        if not is_general(call):
            return None
        stop["after"] -= 1
        return Fault.status(400) if stop["after"] < 0 else None

    with Simulator("openai", answer=answer, faults=stopped) as server:
        given: dict[str, Any] = {"confirm_usd": 1.0, "general": True}
        row = next(row for row in run(contest(tmp_path, server, **given)).rows if row.contestant == "tune")
        assert row.status == "failed"
        assert not server.tuning.jobs  # a base model that can't be asked is told before a job is paid for
        stop["after"] = len(asked)
        row = next(row for row in run(contest(tmp_path, server, **given)).rows if row.contestant == "tune")
        assert row.status == "failed"
        stop["after"] = 10**6
        best = run(contest(tmp_path, server, budget={"usd": 1.0}, **given)).rows[0]
        assert best.status == "done"
        plain = run(contest(tmp_path, server, confirm_usd=1.0)).rows[0]
        answered = [call for call in server.requests if is_general(call) and call.outcome == "answer"]
    assert len(answered) == 2 * len(asked)
    texts = [call.text for call in answered]  # calls that are under way together come in any order
    assert sorted(texts[: len(asked)]) == sorted(texts[len(asked) :]) == sorted(asked)
    assert best.usd is not None
    assert plain.usd is not None
    assert plain.forgetting is None
    assert best.usd > plain.usd > 0
    assert best.forgetting is not None
    assert best.forgetting.rows == len(asked)
    assert 0.5 < best.forgetting.before == best.forgetting.after < 1
    assert (best.forgetting.p, best.forgetting.perplexity_before, best.forgetting.perplexity_p) == (1.0, None, None)


def test_azure_needs_a_deployment() -> None:
    X, y = table(12)
    with Simulator("azure", answer=knows) as server:
        model = f"azure:gpt-4.1-mini?endpoint={server.address}"
        given: dict[str, Any] = {"model": model, "confirm_usd": "unknown", "options": {"policy": QUICK}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AZURE_OPENAI_API_KEY", "test-key-0123")
            patch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
            with pytest.raises(ContestantError, match=r"'ft:gpt-4.1-mini:org:.*' answers once it is deployed"):
                TuneHosted(**given).fit(X, y)
            made = TuneHosted(deployment="mine", **given).fit(X, y)
            assert (made.predict(X) == y).all()
            made.close()
        assert len(server.tuning.jobs) == 1
        assert "/deployments/mine/" in server.requests[-1].path


def test_one_class_only() -> None:
    X, _ = table(12)
    with Simulator("openai") as server, pytest.raises(TuningError, match="nothing to learn"):
        tuner(server).fit(X, np.full(12, "red", dtype=object))


def test_the_registry_tells_them_apart() -> None:
    context = registry.Context("label")
    built = registry.build(ContestantSpec("tune", {"model": MODEL, "epochs": 2}, "tune"), context)
    assert isinstance(built, TuneHosted)
    local = registry.build(ContestantSpec("tune", {"model": "hf:smollm2-135m"}, "tune"), context)
    assert type(local).__name__ == "Tune"
    with pytest.raises(ContestantError, match="batch_sise"):
        registry.build(ContestantSpec("tune", {"model": MODEL, "batch_sise": 2}, "tune"), context)
