"""A folder that kurabe 0.1.0 wrote goes on: no answer is asked for, and nothing is fitted, again.

`data/contest-0.1.0.zip` is a task with eight contestants and what its run left in `.kurabe`: an estimator of
scikit-learn, a blend, a sweep and a model that was asked at an address where nobody answers any more.
`data/contest-7beab19.zip` is what `kurabe run` of that commit left, the last one whose saved contestants hold paths of
classes and no rows.
"""

import functools
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer

from kurabe.contest.observer import Silent
from kurabe.contest.plan import make_plan
from kurabe.contest.prepare import make_entrants
from kurabe.contest.run import run
from kurabe.contestants import registry
from kurabe.contestants.former import CLASSES
from kurabe.contestants.identity import described, name_of
from kurabe.contestants.keys import estimator_digest, estimator_digests
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import TfidfRidge
from kurabe.tasks.task import Task

ARCHIVE = Path(__file__).with_name("data") / "contest-0.1.0.zip"
LATER = ARCHIVE.with_name("contest-7beab19.zip")
ADDRESS = "http://127.0.0.1:18999"
SCORES = {
    "blend": 5.94, "sklearn.linear_model:Ridge": 6.93, "tfidf_ridge": 7.27, "sweep tfidf_ridge": 8.32,
    "gradient_boosting": 13.64, "linear_features": 32.87, "constant": 33.09, "prompt v1": 33.70,
}  # fmt: skip


class Fitted(Silent):
    """Notes who is fitted."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def fitting(self, contestant: str, said: str = "") -> None:
        self.labels.append(contestant)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def unrevised(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no contestant answered otherwise than it did then."""
    for listed in registry.CONTESTANTS.values():
        monkeypatch.setattr(registry._import(listed), "revision", 1)


def opened(folder: Path) -> Task:
    return Task.from_file(folder / "task.yaml", allow_code=(ADDRESS,))


def kept(folder: Path, database: str, query: str) -> list[Any]:
    with sqlite3.connect(folder / ".kurabe" / database) as db:
        return db.execute(query).fetchall()


@pytest.mark.usefixtures("unrevised")
def test_a_folder_of_0_1_0_goes_on_without_a_call_and_without_a_fit(folder: Path) -> None:
    answers = "SELECT input, value, raw, usd, seconds FROM predictions ORDER BY input, value, seconds"
    before = kept(folder, "journal.sqlite", answers)
    (sweep,) = (folder / ".kurabe" / "sweeps").iterdir()
    assert {one.contestant: one.calls for one in make_plan(opened(folder)).contestants} == dict.fromkeys(SCORES, 0)
    for _ in range(2):
        fitted = Fitted()
        board = run(opened(folder), observer=fitted)
        assert fitted.labels == []
        assert {row.contestant: round(row.score or 0, 2) for row in board.rows} == SCORES
        assert kept(folder, "journal.sqlite", answers) == before
    assert kept(folder, "journal.sqlite", "SELECT count(DISTINCT entry) FROM predictions") == [(len(SCORES),)]
    keys = {entrant.key.hex() for entrant in make_entrants(opened(folder), 0)}
    assert {one.name for one in (folder / ".kurabe" / "trained").iterdir()} == keys
    assert [one.name for one in (folder / ".kurabe" / "sweeps").iterdir()] == [sweep.name]


def test_what_answers_otherwise_than_in_0_1_0_is_asked_again_and_nothing_that_is_paid_for(folder: Path) -> None:
    """The server of the fixture is gone: a call would fail."""
    fitted = Fitted()
    now = {row.contestant: row for row in run(opened(folder), observer=fitted).rows}
    assert all(row.status == "done" for row in now.values())
    revised = {"blend", "tfidf_ridge", "sweep tfidf_ridge", "gradient_boosting", "linear_features"}
    assert set(fitted.labels) == revised
    kept_ones = SCORES.keys() - revised
    assert {label: round(now[label].score or 0, 2) for label in kept_ones} == {
        label: SCORES[label] for label in kept_ones
    }
    assert round(now["tfidf_ridge"].score or 0, 2) != SCORES["tfidf_ridge"]
    (answers,) = kept(folder, "journal.sqlite", "SELECT count(DISTINCT entry) FROM predictions")
    assert answers == (len(SCORES) + len(revised),)


@pytest.mark.usefixtures("unrevised")
@pytest.mark.parametrize("archive", [ARCHIVE, LATER], ids=["0.1.0", "7beab19"])
def test_every_saved_contestant_of_an_earlier_commit_is_loaded(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a release, and none is fitted again, though its answers are asked for anew."""
    monkeypatch.setattr("kurabe.__version__", "9.9.9")
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path)
    before = {row.contestant: row.score for row in run(opened(tmp_path)).rows}
    saved = [one.name for one in (tmp_path / ".kurabe" / "trained").iterdir()]
    assert len(saved) == len(before)
    with sqlite3.connect(tmp_path / ".kurabe" / "journal.sqlite") as db:
        db.execute("DELETE FROM predictions WHERE entry NOT IN (SELECT entry FROM entries WHERE label LIKE 'prompt%')")
    observer = Fitted()
    after = {row.contestant: row.score for row in run(opened(tmp_path), observer=observer).rows}
    assert observer.labels == []
    assert after == pytest.approx(before)


@pytest.mark.usefixtures("unrevised")
def test_the_trials_of_a_sweep_of_0_1_0_are_kept(folder: Path) -> None:
    """With more minutes the sweep is another contestant, and its trials are those made before."""
    (sweep,) = (folder / ".kurabe" / "sweeps").iterdir()
    database = f"sweeps/{sweep.name}/trials.sqlite"
    before = kept(folder, database, "SELECT row, value FROM answers ORDER BY row, value")
    text = (folder / "task.yaml").read_text()
    (folder / "task.yaml").write_text(text.replace("trials: 2", "trials: 2, minutes: 5"))
    run(opened(folder), only=["sweep"])
    assert kept(folder, database, "SELECT row, value FROM answers ORDER BY row, value") == before


def test_answers_of_another_release_of_scikit_learn_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = estimator_digests(Ridge(2.0))
    monkeypatch.setattr("sklearn.__version__", "1.8.0")
    assert estimator_digests(Ridge(2.0))[0] == known[0]
    assert set(known) <= {*estimator_digests(Ridge(2.0)), *known[:2]}
    assert len(estimator_digests(Constant())) == 2


def test_a_contestant_that_answers_otherwise_has_no_former_name() -> None:
    """0.1.0 could not tell a setting that there was not, or what a function holds."""
    assert len(estimator_digests(Prompt())) == len(estimator_digests(Prompt(rows=20))) == 2
    assert len(estimator_digests(TfidfRidge())) == 1

    class Later(Constant):
        def __init__(self, strategy: Any = None, later: int = 0) -> None:
            super().__init__(strategy)
            self.later = later

    Later.__module__, Later.__qualname__ = Constant.__module__, Constant.__qualname__
    assert name_of(Later) == "constant"
    assert [len(estimator_digests(Later(later=later))) for later in (0, 1)] == [2, 1]
    for held in (functools.partial(round, ndigits=1), lambda x, by=2: x * by):
        assert len(estimator_digests(FunctionTransformer(held))) == 1
    assert len(estimator_digests(FunctionTransformer(np.log1p))) > 1


def test_every_contestant_of_0_1_0_is_registered_under_its_name() -> None:
    assert set(CLASSES) <= {*registry.CONTESTANTS, "tune_hosted", "kurabe:ColumnEncoder"}
    for name, listed in registry.CONTESTANTS.items():
        assert name_of(registry._import(listed)) == name


def test_a_release_and_a_moved_file_change_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    known = estimator_digest(TfidfRidge(alpha=3.0))
    monkeypatch.setattr("kurabe.__version__", "9.9.9")
    assert estimator_digest(TfidfRidge(alpha=3.0)) == known
    assert described(TfidfRidge(alpha=3.0)) == ["tfidf_ridge", 2, {"alpha": "3.0"}]


def test_a_revision_changes_the_digest_and_a_setting_with_its_default_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    known = estimator_digest(TfidfRidge())
    assert estimator_digest(TfidfRidge(min_df=TfidfRidge().min_df)) == known
    monkeypatch.setattr(TfidfRidge, "revision", TfidfRidge.revision + 1)
    assert estimator_digest(TfidfRidge()) != known
