"""Runs with a limit of minutes: what runs first, what is left out, and how a sample shrinks."""

import re
import time
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from kurabe.api import Task
from kurabe.cli.main import cli
from kurabe.contest.board import Board
from kurabe.contest.clock import Clock, OutOfTimeError
from kurabe.contest.journal import Journal
from kurabe.contest.minutes import Schedule, leave_out
from kurabe.contest.observer import Silent
from kurabe.contest.prepare import journal_path, make_entrants
from kurabe.contest.run import run
from kurabe.contestants.base import Contestant, Validation
from kurabe.contestants.keys import input_digests
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.messages import Request
from kurabe.testing import ScriptedModel


class Time:
    """A clock that only its owner advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr("kurabe.contest.clock.time", clock)
    return clock


class Model(ScriptedModel):
    """Each of its answers takes so many seconds of the test's clock."""

    def __init__(self, name: str, clock: Time, seconds: float) -> None:
        super().__init__(self.answer)
        self.reference, self.clock, self.seconds = f"test:{name}", clock, seconds

    def answer(self, request: Request) -> str:
        self.clock.now += self.seconds
        return "5"

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class Quick(Contestant):
    """Learns at once, and answers 1."""

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.ones(len(X))


class Slow(Quick):
    """Learns until it is interrupted, and takes an exception for a failed attempt."""

    begun: ClassVar[int] = 0

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        type(self).begun += 1
        try:
            while True:
                time.sleep(0.01)
        except Exception:
            while True:
                time.sleep(0.01)


def make_task(folder: Path, contestants: list[Any] | None, rows: int = 300, **options: Any) -> Task:
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(["a red pan", "the blue pot", "an old lamp in green"], 4)) for _ in range(rows)]
    return Task.from_frame(
        pl.DataFrame({"text": texts, "id": range(rows), "price": rng.integers(1, 90, rows)}), target="price",
        kind="number", columns=["text", "id"], split={"test": 200, "validation": 0}, folder=folder,
        contestants=contestants, **options,
    )  # fmt: skip


def schedule(task: Task) -> Schedule:
    with Journal(journal_path(task.folder)) as journal:
        return Schedule.make(make_entrants(task, 0), task, input_digests(task.test.X), journal)


class Ended(Silent):
    def __init__(self) -> None:
        self.labels: list[str] = []

    def ended(self, label: str, status: str, reason: str | None) -> None:
        self.labels.append(label)


def test_what_is_worth_most_for_its_time_runs_first(tmp_path: Path) -> None:
    task = make_task(tmp_path, None, rows=3000)
    order = [entrant.label for entrant in schedule(task).order(make_entrants(task, 0)) if entrant.reason is None]
    assert order[:2] == ["constant mean", "constant median"]
    assert order.index("tfidf_ridge") < order.index("random_forest")
    assert order.index("gradient_boosting") < order.index("stacked_boosting") < order.index("blend")


def test_without_minutes_the_task_says_the_order(tmp_path: Path) -> None:
    for minutes, order in ((None, ["tfidf_ridge", "constant"]), (60.0, ["constant", "tfidf_ridge"])):
        seen = Ended()
        run(make_task(tmp_path / str(minutes), ["tfidf_ridge", "constant"]), minutes=minutes, observer=seen)
        assert seen.labels == order


@pytest.mark.parametrize(
    ("seconds", "minutes", "reason"),
    [
        (360, 2, "needs about 6 min; give --minutes 8"),
        (50, 1, "needs about 50 s; give --minutes 2"),
        (50, 2, "needs about 50 s, and less is left of the 2 minutes; run again to go on"),
        (0.2, 0.001, "needs about 1 s; give --minutes 1"),
    ],
)
def test_the_reason_names_enough_minutes(seconds: float, minutes: float, reason: str) -> None:
    assert leave_out(seconds, minutes) == reason


def answered(board: Board) -> dict[str, tuple[str, int]]:
    return {row.contestant: (row.status, row.answered) for row in board.rows}


def test_a_sample_shrinks_to_what_fits_and_goes_on_in_the_next_run(tmp_path: Path, clock: Time) -> None:
    model = Model("one", clock, 1.0)
    task = make_task(tmp_path, [("one", Prompt(model=model))])
    board = task.compete(minutes=0.75)
    (row,) = board.rows
    assert (row.status, row.answered) == ("done", 46)
    assert row.reason == "46 of 200 rows were asked; the budget of 0.75 minutes is used up; run again to go on"
    assert row.rank == 1


def test_fewer_rows_than_a_sample_needs_are_a_part(tmp_path: Path, clock: Time) -> None:
    (row,) = make_task(tmp_path, [("one", Prompt(model=Model("one", clock, 3.0)))]).compete(minutes=0.75).rows
    assert (row.status, row.answered, row.rank) == ("partial", 16, None)


def test_all_rows_are_all_rows(tmp_path: Path, clock: Time) -> None:
    asked = Prompt(model=Model("one", clock, 1.0), rows="all")
    (row,) = make_task(tmp_path, [("one", asked)]).compete(minutes=1.5).rows
    assert (row.status, row.answered, row.rank) == ("partial", 91, None)


def test_models_share_what_is_left(tmp_path: Path, clock: Time) -> None:
    models = [(name, Prompt(model=Model(name, clock, 1.0))) for name in ("one", "other")]
    board = make_task(tmp_path, [*models, "constant"]).compete(minutes=1.5)
    assert answered(board) == {"one": ("done", 46), "other": ("done", 45), "constant": ("done", 200)}
    assert "this contestant's share of the budget" in str(board.row("one").reason)


def test_what_was_measured_is_expected(tmp_path: Path) -> None:
    make_task(tmp_path, ["tfidf_ridge"]).compete()
    with Journal(journal_path(tmp_path)) as journal:
        rate = journal.rates("task")["tfidf_ridge"]
    assert rate.fit_seconds is not None
    larger = make_task(tmp_path, ["tfidf_ridge"], rows=500)
    needs = schedule(larger).needs["tfidf_ridge"]
    assert needs == pytest.approx(3 * rate.fit_seconds + 200 * rate.seconds)
    assert schedule(make_task(tmp_path, ["tfidf_ridge"])).needs == {"tfidf_ridge": 0.0}


def test_a_slow_machine_needs_more_of_what_is_guessed(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["tfidf_ridge", "gradient_boosting"], rows=5000)
    first, second = make_entrants(task, 0)
    found = schedule(task)
    before = found.least_of(second)
    guess = found.needs["tfidf_ridge"]
    assert guess is not None
    found.learned(first, 4 * guess)
    assert found.least_of(second) == pytest.approx(2 * before)  # half way, as one contestant says little
    assert found.fits(second, 3 * before)
    assert not found.fits(second, 1.5 * before)


def test_learning_ends_with_the_minutes_and_is_left_out_of_as_short_a_run(tmp_path: Path) -> None:
    task = make_task(tmp_path, [("slow", Slow()), "constant"], rows=210)
    board = task.compete(minutes=0.2)  # it would learn for ever
    assert answered(board) == {"constant": ("done", 200), "slow": ("skipped", 0)}
    assert re.fullmatch(r"needs more than \d+ s; give --minutes \d", str(board.row("slow").reason))
    Slow.begun = 0
    again = make_task(tmp_path, [("slow", Slow()), "constant"], rows=210).compete(minutes=0.2)
    assert re.fullmatch(r"needs about \d+ s; give --minutes \d", str(again.row("slow").reason))
    assert Slow.begun == 0


def test_learning_that_ends_in_time_leaves_no_timer(tmp_path: Path) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    board = make_task(tmp_path, [("quick", Quick())]).compete(minutes=5)
    assert board.rows[0].status == "done"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_minutes_of_the_call_come_before_those_of_the_task(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["constant"], budget={"minutes": 1e-9})
    assert task.compete().rows[0].status == "skipped"
    assert task.compete(minutes=5).rows[0].status == "done"


def test_a_clock_without_minutes_never_ends() -> None:
    endless = Clock(None).share(0.0)
    with endless.interrupting():
        endless.check()
    with pytest.raises(OutOfTimeError, match=r"the budget of 1e-12 minutes is used up"):
        Clock(1e-12).check()


def test_the_command_takes_minutes(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["a pan", "a pot"] * 20, "price": [1.0, 2.0] * 20}).write_csv(tmp_path / "a.csv")
    (tmp_path / "task.yaml").write_text(
        "{name: a, data: a.csv, target: price, kind: number, contestants: [constant]}", encoding="utf-8"
    )
    for minutes, code in (("5", 0), ("0", 2), ("-1", 2), ("some", 2)):
        found = CliRunner().invoke(cli, ["run", str(tmp_path), "--minutes", minutes])
        assert found.exit_code == code, found.output
