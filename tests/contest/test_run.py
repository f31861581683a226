"""The runner: what is journaled, what is repeated, and how each contestant ends."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from kurabe.api import Task
from kurabe.contest.evidence import Status
from kurabe.contest.journal import Journal
from kurabe.contest.lock import locked
from kurabe.contest.observer import Silent, Standing
from kurabe.contest.prepare import choose, journal_path, make_entrants
from kurabe.contest.run import run
from kurabe.contest.sitting import sit
from kurabe.contestants import persist
from kurabe.contestants.base import Contestant, Prediction
from kurabe.errors import ContestantError, JournalError

WORDS = ["red", "green", "blue", "small", "large", "old", "new", "round", "flat", "wooden"]


def frame(rows: int = 120) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(rows)]
    return pl.DataFrame(
        {
            "text": texts,
            "size": rng.integers(1, 50, rows),
            "price": rng.lognormal(3, 1, rows).round(2),
            "id": range(rows),
        }
    )


def make_task(folder: Path, contestants: list[Any], **options: Any) -> Task:
    return Task.from_frame(
        frame(), target="price", kind="number", columns=["text", "size", "id"], name="prices",
        contestants=contestants, split={"test": 40, "validation": 0, "seed": 1}, folder=folder, **options,
    )  # fmt: skip


class RowByRow(Contestant):
    """Answers 1.0 to each row, counts what it is asked, and can be made to break."""

    asked: ClassVar[list[int]] = []
    stop_after: ClassVar[int | None] = None
    error: ClassVar[BaseException | None] = None

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def fit(self, X: Any, y: Any, validation: Any = None) -> Self:
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.value)

    def iter_predict(self, X: pl.DataFrame) -> Iterator[Prediction]:
        for row, asked in enumerate(X["id"].to_list()):
            error = type(self).error
            if error is not None and len(self.asked) == self.stop_after:
                raise error
            self.asked.append(asked)
            yield Prediction(row=row, value=None if asked % 10 == 0 else self.value, raw=f"say {self.value}", usd=0.5)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    RowByRow.asked.clear()
    RowByRow.error = RowByRow.stop_after = None
    yield
    RowByRow.error = None


class Seen(Silent):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.standings: list[Standing] = []

    def fitting(self, label: str, said: str = "") -> None:
        self.calls.append(("fit", label))

    def predicted(self, label: str, standing: Standing) -> None:
        self.calls.append(("predicted", label, standing.done, standing.total, standing.score))
        self.standings.append(standing)

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        self.calls.append(("ended", label, status, reason))


def test_the_board_has_the_promised_form(tmp_path: Path) -> None:
    board = make_task(tmp_path, ["constant", "tfidf_ridge"]).compete()
    made = board.to_dict()
    assert list(made) == ["task", "kind", "metric", "effective_rows", "rows", "flattery", "rows_to_tell", "uses"]
    assert (made["task"], made["kind"], made["metric"]) == ("prices", "number", "mean_absolute_error")
    for row in made["rows"]:
        assert list(row) == [
            "contestant", "model", "rank", "rank_range", "score", "interval", "controlled", "unread", "answered", "usd",
            "fit_seconds", "predictions_per_second", "status", "reason",
        ]  # fmt: skip
        assert row["status"] == "done"
        assert row["interval"][0] <= row["score"] <= row["interval"][1]
        assert (row["unread"], row["usd"], row["reason"], row["model"]) == (0, 0.0, None, None)
        assert row["predictions_per_second"] > 0
        assert row["fit_seconds"] > 0


def test_the_score_is_that_of_the_estimator_alone(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["constant"])
    board = task.compete()
    guesses = board.winner.estimator.predict(task.test.X)
    assert board.rows[0].score == pytest.approx(np.abs(guesses - task.test.y).mean())


def test_answers_come_one_by_one_and_unread_ones_count_with_the_fallback(tmp_path: Path) -> None:
    task, seen = make_task(tmp_path, [RowByRow()]), Seen()
    board = run(task, observer=seen)
    (row,) = board.rows
    ids = task.test.X["id"].to_numpy()
    unread = ids % 10 == 0
    expected = np.where(unread, np.median(task.train.y), 1.0)
    assert row.unread == unread.sum() > 0
    assert row.score == pytest.approx(np.abs(expected - task.test.y).mean())
    assert row.usd == pytest.approx(20.0)
    assert RowByRow.asked == ids.tolist()
    done = [call[2] for call in seen.calls if call[0] == "predicted"]
    assert done == list(range(41))
    assert seen.calls[-1] == ("ended", row.contestant, "done", None)
    first, last = seen.standings[1], seen.standings[-1]
    assert (first.done, first.score is None, first.interval) == (1, False, None)  # one row says nothing of the spread
    assert last.score == pytest.approx(row.score)
    assert (last.usd, last.spent) == (20.0, 20.0)
    assert last.interval is not None
    assert row.score is not None
    assert last.interval[0] < row.score < last.interval[1]


def test_running_again_repeats_nothing(tmp_path: Path) -> None:
    first = make_task(tmp_path, [RowByRow(), "constant"]).compete()
    seen = Seen()
    again = run(make_task(tmp_path, [RowByRow(), "constant"]), observer=seen)
    assert len(RowByRow.asked) == 40
    assert not [call for call in seen.calls if call[0] == "fit"]
    assert {one.score for one in seen.standings} == {row.score for row in first.rows}  # shown without a new prediction
    assert [row.score for row in again.rows] == [row.score for row in first.rows]


def test_a_limited_run_is_part_of_the_whole(tmp_path: Path) -> None:
    make_task(tmp_path, [RowByRow()]).compete(limit=10)
    assert len(RowByRow.asked) == 10
    board = make_task(tmp_path, [RowByRow()]).compete()
    assert len(RowByRow.asked) == len(set(RowByRow.asked)) == 40
    assert board.rows[0].answered == 40


def test_another_setting_or_other_training_data_is_another_contestant(tmp_path: Path) -> None:
    make_task(tmp_path, [RowByRow()]).compete()
    make_task(tmp_path, [RowByRow(2.0)]).compete()
    assert len(RowByRow.asked) == 80
    other = Task.from_frame(
        frame().with_columns(price=pl.col("price") + 1), target="price", kind="number", columns=["text", "size", "id"],
        name="prices", contestants=[RowByRow()], split={"test": 40, "validation": 0, "seed": 1}, folder=tmp_path,
    )  # fmt: skip
    other.compete()
    assert len(RowByRow.asked) == 120


def test_ctrl_c_keeps_what_was_answered_and_the_run_goes_on(tmp_path: Path) -> None:
    RowByRow.error, RowByRow.stop_after = KeyboardInterrupt(), 7
    task = make_task(tmp_path, [RowByRow(), "constant"])
    with pytest.raises(KeyboardInterrupt):
        task.compete()
    with Journal(journal_path(tmp_path), create=False) as journal:
        entries = {entry.status: entry for entry in journal.evidence(journal.runs()[0].id).entries}
    entry = entries["partial"]
    assert (set(entries), entry.answered.sum()) == ({"done", "partial"}, 7)
    assert entry.reason == "7 of 40 rows answered; stopped; run again to go on"
    RowByRow.error = None
    board = task.compete()
    assert [row.status for row in board.rows] == ["done", "done"]
    assert len(RowByRow.asked) == len(set(RowByRow.asked)) == 40


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    RowByRow.error, RowByRow.stop_after = ValueError("no more\nof this"), 3
    board = make_task(tmp_path, [RowByRow(), "constant"]).compete()
    rows = {row.contestant: row for row in board.rows}
    assert rows["constant"].status == "done"
    failed = next(row for row in board.rows if row.status == "failed")
    assert failed.reason == "ValueError: no more"
    assert failed.rank is None


def test_one_that_fails_to_fit_or_answers_the_wrong_shape(tmp_path: Path) -> None:
    class Broken(BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Self:
            raise ZeroDivisionError

        def predict(self, X: Any) -> None: ...

    class Short(BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Self:
            return self

        def predict(self, X: Any) -> list[float]:
            return [1.0]

    board = make_task(tmp_path, [Broken(), Short(), "constant"]).compete()
    reasons = {row.reason for row in board.rows if row.status == "failed"}
    assert "ZeroDivisionError" in reasons
    assert any("predict gave shape (1,) for 2 rows" in str(reason) for reason in reasons)


def test_ones_own_pipeline_competes(tmp_path: Path) -> None:
    pipeline = make_pipeline(
        ColumnTransformer([("words", TfidfVectorizer(), "input"), ("facts", "passthrough", ["size"])]), Ridge()
    )
    board = make_task(tmp_path, [pipeline, "constant"]).compete()
    assert {row.status for row in board.rows} == {"done"}


def test_a_budget_of_dollars_stops_and_says_so(tmp_path: Path) -> None:
    board = make_task(tmp_path, [RowByRow()], budget={"usd": 2.0}).compete()
    (row,) = board.rows
    assert (row.status, row.answered) == ("partial", 4)
    assert row.reason == "4 of 40 rows answered; the budget of $2 is used up; raise it and run again to go on"


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_budget_that_is_used_up_stops_nobody_who_costs_nothing(tmp_path: Path, order: slice) -> None:
    contestants = [RowByRow(), "constant", RowByRow(2.0), "tfidf_ridge"][order]
    board = make_task(tmp_path, contestants, budget={"usd": 2.0}).compete()
    assert sorted(row.status for row in board.rows) == ["done", "done", "partial", "skipped"]
    again = make_task(tmp_path, [*contestants, "bag_of_words"], budget={"usd": 2.0}).compete()
    assert {row.contestant for row in again.rows if row.status == "done"} == {
        "constant",
        "tfidf_ridge",
        "bag_of_words",
    }


def test_what_learns_runs_before_what_may_cost(tmp_path: Path) -> None:
    seen: list[str] = []

    class Seen(Silent):
        def fitting(self, contestant: str, said: str = "") -> None:
            seen.append(contestant)

    task = make_task(tmp_path, [RowByRow(), "constant", "tfidf_ridge"])
    run(task, observer=Seen())
    assert list(dict.fromkeys(seen)) == ["constant", "tfidf_ridge", "RowByRow"]


def test_a_budget_of_minutes_stops_before_the_next_contestant(tmp_path: Path) -> None:
    board = make_task(tmp_path, ["constant", "tfidf_ridge"], budget={"minutes": 1e-9}).compete()
    assert {row.status for row in board.rows} == {"skipped"}
    assert "budget of 1e-09 minutes" in str(board.rows[0].reason)


def test_only_runs_the_named_and_refuses_the_unknown(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["constant", "tfidf_ridge"])
    assert [row.contestant for row in task.compete(only=["constant"]).rows] == ["constant"]
    with pytest.raises(ContestantError, match="did you mean 'tfidf_ridge'"):
        task.compete(only=["tfidf_rige"])
    assert len(task.compete().rows) == 2


def test_what_left_the_task_leaves_the_board(tmp_path: Path) -> None:
    make_task(tmp_path, ["constant", "tfidf_ridge"]).compete()
    assert [row.contestant for row in make_task(tmp_path, ["constant"]).compete().rows] == ["constant"]


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["constant"])
    with locked(tmp_path / ".kurabe"), pytest.raises(JournalError, match="another run is going on"):
        task.compete()
    assert task.compete().rows[0].status == "done"


def test_a_full_disk_while_saving_ends_the_run_with_a_clear_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    task = make_task(tmp_path, ["constant"])
    monkeypatch.setattr(persist, "save", full)
    with pytest.raises(JournalError, match=r"is full.*run the same command again"):
        task.compete()
    monkeypatch.undo()
    assert task.compete().rows[0].status == "done"


def test_a_person_sits_down_in_turns(tmp_path: Path) -> None:
    task = make_task(tmp_path, [{"human": {"rows": 5}}, "constant"])
    first = task.compete()
    assert {row.contestant: row.status for row in first.rows} == {"human": "skipped", "constant": "done"}
    lines = iter(["12.50", "no idea", "$20", "q"])
    assert sit(task, ask=lambda prompt: next(lines), tell=lambda shown: None) == (2, 5)
    half = task.compete()
    person = next(row for row in half.rows if row.contestant == "human")
    assert (person.status, person.answered, person.rank) == ("partial", 2, None)
    assert person.score == pytest.approx(np.abs(np.array([12.5, 20]) - task.test.y[:2]).mean())
    lines = iter(["1", "2", "3"])
    assert sit(task, ask=lambda prompt: next(lines), tell=lambda shown: None) == (5, 5)
    whole = task.compete()
    person = next(row for row in whole.rows if row.contestant == "human")
    assert (person.status, person.answered, person.reason) == ("done", 5, "5 of 40 rows were asked")
    assert person.rank is not None


def test_the_winner_answers_new_rows(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["constant", "tfidf_ridge"])
    board = task.compete()
    new = {"text": "red round", "size": 3, "id": 1}
    trained = board.trained("tfidf_ridge")
    one = trained.predict(new)
    assert one.shape == (1,)
    np.testing.assert_array_equal(trained.predict([new, new]), np.repeat(one, 2))
    np.testing.assert_array_equal(trained.predict(pl.DataFrame([new])), one)
    np.testing.assert_array_equal(trained.predict(task.test.rows), trained.estimator.predict(task.test.X))
    with pytest.warns(UserWarning, match="leaves the columns 'text', 'size', 'id' empty"):
        assert board.winner.predict("red round").shape == (1,)
    assert board.winner.label == board.winner_name
    with pytest.raises(ContestantError, match="did you mean 'constant'"):
        board.trained("constants")


def test_a_persons_answers_stay_with_their_target(tmp_path: Path) -> None:
    task = make_task(tmp_path, [{"human": {"rows": 5}}])
    lines = iter("12345")
    sit(task, ask=lambda prompt: next(lines), tell=lambda shown: None)
    other = Task.from_frame(
        frame(), target="id", kind="number", columns=["text", "size"], name="ids", contestants=[{"human": {"rows": 5}}],
        split={"test": 40, "validation": 0, "seed": 1}, folder=tmp_path,
    )  # fmt: skip
    assert other.compete().rows[0].status == "skipped"


def test_an_estimator_may_have_a_parameter_called_model(tmp_path: Path) -> None:
    class Mine(RowByRow):
        def __init__(self, model: str = "resnet") -> None:
            self.model = model
            self.value = 1.0

    (row,) = make_task(tmp_path, [Mine()]).compete().rows
    assert (row.status, row.model) == ("done", None)


def test_anything_with_fit_and_predict_competes(tmp_path: Path) -> None:
    class Plain:
        def __init__(self) -> None:
            self.words = {"a", "b", "c"}

        def fit(self, X: Any, y: Any) -> Self:
            self.mean = float(np.mean(y))
            return self

        def predict(self, X: Any) -> np.ndarray:
            return np.full(len(X), self.mean)

    task = make_task(tmp_path, [("plain", Plain())])
    assert task.compete().rows[0].status == "done"
    seen = Seen()
    run(make_task(tmp_path, [("plain", Plain())]), observer=seen)
    assert not [call for call in seen.calls if call[0] == "fit"]
    assert task.compete().winner.predict(task.test.rows).shape == (40,)


def test_probabilities_of_labels_of_new_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"text": ["red wine", "white wine", "a pan", "a pot"] * 10, "kind": ["wine", "wine", "x", "x"] * 10}
    )
    board = Task.from_frame(frame, target="kind", contestants=["tfidf_logistic"], folder=tmp_path / "labels").compete()
    shares = board.winner.predict_proba(["red wine", "a pan"])
    assert board.winner.classes == ["wine", "x"]
    assert shares.shape == (2, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[0, 0] > 0.5 > shares[1, 0]
    numbers = make_task(tmp_path, ["constant"]).compete().winner
    assert numbers.classes == []
    with pytest.raises(ContestantError, match="'constant' gives no probabilities"):
        numbers.predict_proba(make_task(tmp_path, ["constant"]).test.rows)


def test_a_person_can_win_and_the_best_program_predicts(tmp_path: Path) -> None:
    task = make_task(tmp_path, [{"human": {"rows": 40}}, "constant"])
    lines = iter(str(price) for price in task.test.y)
    sit(task, ask=lambda prompt: next(lines), tell=lambda shown: None)
    board = task.compete()
    assert board.winner_name == "human"
    assert board.winner.label == "constant"


def test_a_person_on_a_few_rows_does_not_win(tmp_path: Path) -> None:
    task = make_task(tmp_path, [{"human": {"rows": 3}}, "constant"])
    lines = iter(str(price) for price in task.test.y)
    sit(task, ask=lambda prompt: next(lines), tell=lambda shown: None)
    board = task.compete()
    assert board.rows[0].contestant == "human"
    assert board.winner_name == "constant"


def test_the_budget_of_dollars_holds_over_several_starts(tmp_path: Path) -> None:
    for _ in range(2):
        (row,) = make_task(tmp_path, [RowByRow()], budget={"usd": 2.0}).compete().rows
        assert (row.status, row.answered) == ("partial", 4)
    assert len(RowByRow.asked) == 4


def test_speed_is_that_of_the_rows_on_the_board(tmp_path: Path) -> None:
    task = make_task(tmp_path, [RowByRow()])
    whole = task.compete()
    with Journal(journal_path(tmp_path), create=False) as journal:
        (entry,) = journal.evidence(whole.evidence.run).entries
    few = task.compete(limit=2)
    (short,) = few.evidence.entries
    assert entry.predict_seconds is not None
    assert short.predict_seconds is not None
    assert short.predict_seconds < entry.predict_seconds


def test_a_key_reaches_neither_journal_nor_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "planted-secret-0123")
    RowByRow.error, RowByRow.stop_after = ValueError("wrong key planted-secret-0123 or sk-proj-0123456789abcdef"), 2
    board = make_task(tmp_path, [RowByRow(), {"prompt": {"model": "openai:gpt-planted-secret-0123"}}]).compete()
    assert "•••" in str([row.reason for row in board.rows])
    assert "planted-secret" not in str([row.reason for row in board.rows])
    for file in (tmp_path / ".kurabe").rglob("*"):
        if file.is_file():
            assert b"sk-proj-0123456789abcdef" not in file.read_bytes()


def test_of_settings_only_numbers_reach_journal_and_report(tmp_path: Path) -> None:
    secret = "planted-without-any-form"
    options = {"api_key": secret, "headers": {"X": secret}}
    board = make_task(
        tmp_path,
        [
            "constant",
            {"tfidf_ridge": {"alpha": 3}},
            {"prompt": {"model": "openai:x", "options": options}},
        ],
    ).compete()
    assert board.evidence.spec["contestants"][1] == {"tfidf_ridge": {"alpha": 3}, "as": "tfidf_ridge"}
    assert secret not in board.to_html()
    for file in (tmp_path / ".kurabe").rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes()


def test_an_exchanged_model_file_is_another_contestant(tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    keys = []
    for content in (b"one", b"another"):
        file.write_bytes(content)
        task = make_task(tmp_path, [{"prompt": {"model": "gguf:own.gguf"}}])
        (entrant,) = make_entrants(task, 0)
        keys.append(entrant.key)
        assert entrant.estimator.model == f"gguf:{file}"
        assert entrant.model == "gguf:own.gguf"
    assert keys[0] != keys[1]


def test_a_person_whom_nobody_named_is_no_contestant_before_there_are_answers(tmp_path: Path) -> None:
    rows = pl.DataFrame({"size": [float(n) for n in range(120)], "price": [2.0 * n for n in range(120)]})
    task = Task.from_frame(rows, target="price", folder=tmp_path)
    assert task.spec.contestants is None
    assert "human" not in [entrant.label for entrant in choose(make_entrants(task, 0), task, [])]
    assert "human" in [entrant.label for entrant in choose(make_entrants(task, 0), task, ["human"])]
    assert "human" not in [one.contestant for one in task.plan().contestants]
