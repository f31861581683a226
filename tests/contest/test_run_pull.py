"""A run fetches what its contestants' models need, and knows the contestant again in the next run."""

from pathlib import Path

import pytest

from kurabe.api import Task
from kurabe.contest.observer import Silent
from kurabe.contest.run import run
from kurabe.models.engines import opened
from kurabe.testing.hub import Hub
from kurabe.testing.models import ScriptedModel

MODEL = "gguf:owner/repo/m.gguf"


class Watching(Silent):
    def __init__(self) -> None:
        self.fetched: list[tuple[str, int, int | None]] = []

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        self.fetched.append((reference, done, total))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    rows = "\n".join(f"thing {number},{number}" for number in range(40))
    (tmp_path / "items.csv").write_text(f"text,price\n{rows}\n")
    (tmp_path / "task.yaml").write_text(
        "name: things\ndata: {source: items.csv, split: {test: 10, seed: 1}}\n"
        "target: price\nkind: number\ninput: '{{ text }}'\n"
        f"contestants:\n  - prompt: {{model: '{MODEL}'}}\n"
    )
    return Task.from_file(tmp_path / "task.yaml")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    scripted = ScriptedModel(["7"])
    monkeypatch.setattr(opened, "_engine", lambda scheme: lambda path, parsed: scripted)
    return scripted


def test_it_is_fetched_once_and_nothing_is_asked_twice(hub: Hub, task: Task, model: ScriptedModel) -> None:
    hub.models["owner/repo"] = {"m.gguf": b"GGUF" * 1000}
    watching = Watching()
    board = run(task, observer=watching)
    assert [row.status for row in board.rows] == ["done"]
    assert watching.fetched[0] == (MODEL, 0, 4000)
    assert watching.fetched[-1] == (MODEL, 4000, 4000)
    asked = model.calls
    assert asked == 10
    again = run(task, observer=watching)
    assert (again.rows[0].score, model.calls) == (board.rows[0].score, asked)
    hub.models["owner/repo"] = {"m.gguf": b"GGUF" * 1001}
    from kurabe.models.pull import pull

    pull(MODEL)
    run(task)
    assert model.calls == 2 * asked  # another file is another contestant


def test_a_model_that_cannot_be_fetched_is_skipped_with_the_reason(hub: Hub, task: Task, model: ScriptedModel) -> None:
    (row,) = run(task).rows
    assert row.status == "skipped"
    assert "has no model 'owner/repo'" in (row.reason or "")
    assert model.calls == 0


def test_minutes_end_a_fetch_and_the_next_run_goes_on(
    hub: Hub, task: Task, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Watching):
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

        def fetching(self, reference: str, done: int, total: int | None) -> None:
            super().fetching(reference, done, total)
            self.now += 100

    slow = Slow()
    monkeypatch.setattr("kurabe.contest.clock.time", slow)
    hub.models["owner/repo"] = {"m.gguf": b"GGUF" * 1000}
    (row,) = run(task, minutes=1, observer=slow).rows
    assert row.status == "skipped"
    assert row.reason is not None
    assert row.reason.endswith("run again to go on")
    assert len(slow.fetched) == 1
    (row,) = run(task, minutes=30, observer=slow).rows
    assert (row.status, model.calls) == ("done", 10)
