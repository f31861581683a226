"""What contestants of others may do wrong is their own matter: the run goes on, and the journal stays readable."""

import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator

from kurabe import Task
from kurabe.contest.board import BoardRow
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.contest.run import run
from kurabe.contestants.base import Answering, Contestant, Prediction
from kurabe.errors import text_of


class Mean(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Answers the mean."""

    def fit(self, X: Any, y: Any) -> "Mean":
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean_)


class Raises(Mean):
    """Raises an error where it should learn."""

    def __init__(self, error: Any = None) -> None:
        self.error = error

    def fit(self, X: Any, y: Any) -> "Mean":
        raise self.error[0]


class Says(Mean):
    """Answers all rows but the first as the mean, and the first as it is told."""

    def __init__(self, first: Any = None) -> None:
        self.first = first

    def iter_predict(self, X: Any) -> Iterator[Prediction]:
        yield Prediction(*self.first)
        for row in range(1, len(X)):
            yield Prediction(row, self.mean_)


class SaysNothing(Contestant):
    """Gives an empty list of answers between others."""

    def fit(self, X: Any, y: Any, validation: Any = None) -> "SaysNothing":
        self.fitted_ = True
        return self

    def answer(self, X: pl.DataFrame, context: Answering) -> Iterator[list[Prediction]]:
        yield []
        yield [Prediction(row, 1.0) for row in range(len(X))]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def compete(folder: Path, estimator: Any) -> BoardRow:
    """The row of an estimator on the board of a contest with a constant, which has to be done."""
    X = pl.DataFrame({"size": list(range(60)), "price": [float(size % 7) for size in range(60)]})
    task = Task.from_frame(
        X, target="price", kind="number", contestants=[("odd", estimator), "constant"], folder=folder
    )
    rows = {row.contestant: row for row in task.compete().rows}
    assert rows["constant"].status == "done"
    with Journal(journal_path(folder), create=False) as journal:
        journal.evidence(journal.runs()[0].id)
    return rows["odd"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit("no key"), "SystemExit: no key"),
        (GeneratorExit(), "GeneratorExit"),  # not an `Exception`, as what polars panics with
        (Unspeakable(), "Unspeakable"),
        (FileNotFoundError("caf\udce9.csv"), "FileNotFoundError: caf?.csv"),
        (ValueError("x" * 200_000_000), "ValueError: xxx"),
    ],
    ids=["exit", "no exception", "no text", "no unicode", "long"],
)
def test_whatever_a_contestant_raises_the_others_go_on(error: BaseException, reason: str, tmp_path: Path) -> None:
    row = compete(tmp_path, Raises([error]))
    assert row.status == "failed"
    assert str(row.reason).startswith(reason)
    assert len(str(row.reason)) < 20_000


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((0, "abc"), "answered 'abc', and a number is expected"),
        ((0, [1.0]), "answered [1.0], and a number is expected"),
        ((-1, 1.0), "answered the row -1 of 12, counted from 0"),
        ((12, 1.0), "answered the row 12 of 12, counted from 0"),
        ((0, 1.0, None, -3.0), "said that an answer cost -3.0 dollars"),
    ],
)
def test_an_answer_that_is_none_is_not_kept(answer: tuple[Any, ...], reason: str, tmp_path: Path) -> None:
    row = compete(tmp_path, Says(answer))
    assert (row.status, row.reason) == ("failed", reason)


def test_numbers_of_numpy_and_other_objects_are_kept_as_plain_ones(tmp_path: Path) -> None:
    answer = (0, np.float32(1.5), {"said": 1}, np.float64("nan"))
    row = compete(tmp_path, Says(answer))
    assert row.status == "done"
    assert row.usd is None


def test_a_list_without_answers_is_no_error(tmp_path: Path) -> None:
    assert compete(tmp_path, SaysNothing()).status == "done"


def test_an_error_is_told_in_no_more_words_than_anybody_reads() -> None:
    assert text_of(Unspeakable()) == ""
    assert len(text_of(ValueError("é" * 1_000_000))) == 10_000


OWN = """
    import multiprocessing, os, signal, time
    import numpy as np
    from sklearn.base import BaseEstimator

    class Forks(BaseEstimator):
        def fit(self, X, y):
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(120,), daemon=True).start()
            os.kill(os.getpid(), signal.SIGKILL)

        def predict(self, X):
            return np.zeros(len(X))

    class Other(BaseEstimator):
        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.zeros(len(X))
"""


def test_a_worker_that_is_killed_is_missed_though_what_it_forked_holds_its_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "forking.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(modules)
    names = [("Forks", "forking:Forks"), ("Other", "forking:Other")]
    pl.DataFrame({"size": list(range(60)), "price": [float(one) for one in range(60)]}).write_csv(tmp_path / "a.csv")
    (tmp_path / "task.yaml").write_text(
        "{name: t, data: {source: a.csv, split: {test: 12, seed: 1}}, target: price, kind: number,"
        f" contestants: {[where for _, where in names]}}}"
    )
    task = Task.from_file(tmp_path / "task.yaml", allow_code=["forking"])
    boards: list[Any] = []
    thread = threading.Thread(target=lambda: boards.append(run(task, jobs=2)), daemon=True)
    thread.start()
    thread.join(60)
    assert boards, "the run waits for ever"
    rows = {row.contestant: (row.status, row.reason) for row in boards[0].rows}
    assert rows["forking:Other"][0] == "done"
    assert rows["forking:Forks"][0] == "failed"
    assert "SIGKILL" in str(rows["forking:Forks"][1])
