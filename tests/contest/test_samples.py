"""Language models answer a sample of the test rows: which, how many, and what the board makes of it."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest

from kurabe.api import Task
from kurabe.contest.board import Board
from kurabe.contest.prepare import make_entrants
from kurabe.contestants.base import Contestant, Validation
from kurabe.contestants.keys import estimator_digest
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.tuned.tune_hosted import TuneHosted
from kurabe.errors import ContestantError, TaskError
from kurabe.messages import Request
from kurabe.models.base import ChatModel
from kurabe.report.notes import notes
from kurabe.tasks.file import load_spec
from kurabe.testing import ScriptedModel, Simulator


class Model(ScriptedModel):
    """Answers with the number that the text ends with and `error` more, and is not copied when a contestant is."""

    def __init__(self, name: str = "one", error: int = 1) -> None:
        super().__init__(self.seen)
        self.reference, self.error = f"test:{name}", error

    def seen(self, request: Request) -> str:
        return str(int(request.messages[-1].text.split()[-1]) + self.error)

    def asked(self) -> list[str]:
        return [request.messages[-1].text for request in self.requests]

    def __deepcopy__(self, memo: Any) -> Self:
        return self


def ask(model: ChatModel, **settings: Any) -> Prompt:
    return Prompt(model=model, user="{{ input }}", prefill="", **settings)


def make_task(folder: Path, contestants: list[Any], test: int = 240, repeats: int = 1, **options: Any) -> Task:
    values = [n % 97 + 3 for n in range((test + 60) // repeats)] * repeats
    # A text for each row, or one for `repeats` rows, so that answers are shared.
    texts = [f"thing {n % (len(values) // repeats)} at {value}" for n, value in enumerate(values)]
    return Task.from_frame(
        pl.DataFrame({"text": texts, "price": values}), target="price", kind="number", input="{{ text }}",
        name="prices", split={"test": test, "validation": 0, "seed": 2}, folder=folder, contestants=contestants,
        **options,
    )  # fmt: skip


def test_models_answer_the_same_hundred_rows_and_are_done(tmp_path: Path) -> None:
    one, other = Model(), Model("other")
    task = make_task(tmp_path, [("one", ask(one)), ("other", ask(other)), "constant"])
    board = task.compete()
    assert one.asked() == other.asked() == task.test.X["input"].to_list()[:100]
    row = board.row("one")
    assert (row.status, row.answered, row.reason) == ("done", 100, "100 of 240 rows were asked")
    assert row.rank is not None
    assert row.interval is not None
    assert board.row("constant").answered == 240
    assert {made["contestant"]: made["answered"] for made in board.to_dict()["rows"]} == {
        "one": 100, "other": 100, "constant": 240
    }  # fmt: skip
    assert any("a random sample of the 240 test rows: one 100, other 100." in note.text for note in notes(board))
    task.compete()
    assert len(one.requests) == 100


@pytest.mark.parametrize(
    ("of_contestant", "of_task", "rows"), [("all", None, 240), (30, "all", 30), (None, 40, 40), (None, "all", 240)]
)
def test_rows_of_the_contestant_come_before_those_of_the_task(
    tmp_path: Path, of_contestant: Any, of_task: Any, rows: int
) -> None:
    task = make_task(tmp_path, [("one", ask(Model(), rows=of_contestant))], rows=of_task)
    (row,) = task.compete().rows
    assert (row.status, row.answered) == ("done", rows)


def test_a_small_test_part_is_answered_whole(tmp_path: Path) -> None:
    (row,) = make_task(tmp_path, [("one", ask(Model()))], test=90).compete().rows
    assert (row.answered, row.reason) == (90, None)


def test_another_sample_asks_only_what_is_new_and_what_was_answered_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    with Simulator("openai", answer=lambda text: "7") as server:
        for rows, calls, answered in ((30, 30, 30), (50, 50, 50), (10, 50, 50), ("all", 240, 240), (None, 240, 240)):
            settings = {"model": "openai:gpt-4o-mini", "options": {"base_url": server.url}, "rows": rows}
            (row,) = make_task(tmp_path, [{"prompt": settings, "as": "one"}]).compete().rows
            assert (server.calls, row.status, row.answered) == (calls, "done", answered)


def test_copies_of_a_row_that_is_asked_are_answered_too(tmp_path: Path) -> None:
    one = Model()
    task = make_task(tmp_path, [("one", ask(one, rows=20))], repeats=3)
    (row,) = task.compete().rows
    inputs = task.test.X["input"].to_list()
    assert one.asked() == list(dict.fromkeys(inputs[:20]))
    assert row.answered == sum(text in inputs[:20] for text in inputs) > 20


def test_sweeps_of_models_answer_a_sample(tmp_path: Path) -> None:
    sweep = {"sweep": {"contestant": {"prompt": {"model": "openai:gpt-5.1", "rows": 30}}, "over": {"system": ["a"]}}}
    others: list[Any] = [{"prompt": {"model": "openai:gpt-5.1"}}, {"human": {"rows": 50}}, "constant"]
    entrants = make_entrants(make_task(tmp_path, [sweep, *others]), 0)
    assert [entrant.rows for entrant in entrants] == [30, 100, 50, None]


def test_the_number_of_rows_is_no_part_of_what_answers_are_kept_by() -> None:
    assert estimator_digest(Prompt(rows=20)) == estimator_digest(Prompt())
    assert estimator_digest(TuneHosted(rows="all")) == estimator_digest(TuneHosted())


@pytest.mark.parametrize("rows", [0, -1, 2.5, "some"])
def test_another_number_of_rows_is_an_error(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(ContestantError, match="rows"):
        make_entrants(make_task(tmp_path, [{"prompt": {"rows": rows}}]), 0)
    (tmp_path / "task.yaml").write_text(
        f"{{name: a, data: a.csv, target: price, kind: number, rows: {rows}}}", encoding="utf-8"
    )
    with pytest.raises(TaskError, match="rows"):
        load_spec(tmp_path / "task.yaml")


def test_a_contestant_saved_before_there_were_samples_is_read(tmp_path: Path) -> None:
    state = Prompt(model="openai:gpt-5.1").__getstate__()
    del state["rows"]
    old = Prompt.__new__(Prompt)
    old.__setstate__(state)
    assert old.get_params()["rows"] is None


class Off(Contestant):
    """Knows the price, up to `error`."""

    def __init__(self, error: float = 0.0) -> None:
        self.error = error

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.array([float(text.split()[-1]) for text in X["input"]]) + self.error


def winner(folder: Path, *contestants: Any) -> Board:
    return make_task(folder, list(contestants)).compete()


def test_a_sample_wins_where_it_is_shown_to_be_better(tmp_path: Path) -> None:
    assert winner(tmp_path, ("one", ask(Model())), "constant").winner_name == "one"


def test_of_two_that_cannot_be_told_apart_the_one_that_answered_more_wins(tmp_path: Path) -> None:
    board = winner(tmp_path, ("one", ask(Model())), ("whole", Off(1.0)))
    assert (board.row("one").rank, board.row("whole").rank) == (1, 1)
    assert board.finishers == ("whole", "one")


def test_where_all_answered_samples_the_best_of_them_wins(tmp_path: Path) -> None:
    far = Model("far", 500)
    board = winner(tmp_path, ("far", ask(far)), ("one", ask(Model())))
    assert board.finishers == ("one", "far")
