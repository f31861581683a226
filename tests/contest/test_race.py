"""A race: language models are asked no further once they are shown not to be the winner."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import Task
from kurabe.contest.observer import Silent
from kurabe.contest.race import LEVEL, SHARES, Race, can_race, evidence, largest_error, limits, stopped_at
from kurabe.contest.run import run
from kurabe.contest.units import Units, single_rows
from kurabe.report.notes import notes
from kurabe.tasks.metrics import METRICS
from kurabe.testing import Simulator

PRICE = {"input": 1.0, "output": 2.0}


def test_capital_is_that_of_the_bets_one_by_one() -> None:
    differences = np.array([1.0, 0.0, -1.0, 0.5])
    expected, capital = [], np.ones(len(SHARES))
    for difference in differences:
        capital = capital * (1 + SHARES * difference)
        expected.append(capital.mean())
    assert evidence(differences) == pytest.approx(expected)


def test_capital_gains_nothing_on_average_where_nobody_is_better() -> None:
    rng = np.random.default_rng(0)
    ends = [evidence((rng.random(20) < 0.5).astype(float) - (rng.random(20) < 0.5))[-1] for _ in range(20_000)]
    assert np.mean(ends) == pytest.approx(1.0, abs=4 * np.std(ends) / np.sqrt(len(ends)))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(1e-3, 1e6))
def test_a_limit_depends_on_the_rows_before_alone(errors: list[float], bound: float) -> None:
    whole = limits(np.array(errors), bound)
    assert (whole > 0).all()
    assert (whole <= bound).all()
    for rows in range(1, len(errors)):
        changed = np.array([*errors[:rows], *(1e9 for _ in errors[rows:])])
        assert limits(changed, bound)[: rows + 1] == pytest.approx(whole[: rows + 1])


def test_who_is_far_behind_is_stopped_soon_and_who_is_ahead_never() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.random(200) < 0.1, rng.random(200) < 0.6
    after = stopped_at(bad.astype(float), [good.astype(float)], 1.0, 0.05, shares=True)
    assert after is not None
    assert after < 40
    assert stopped_at(good.astype(float), [bad.astype(float)], 1.0, 0.05, shares=True) is None
    assert stopped_at(bad.astype(float), [], 1.0, 0.05, shares=True) is None
    assert stopped_at(bad.astype(float), [good.astype(float)], 0.0, 0.05, shares=True) is None


def test_a_rival_without_answers_counts_but_proves_nothing() -> None:
    bad, good = np.ones(60), np.zeros(60)
    alone = stopped_at(bad, [good], 1.0, 0.05, shares=True)
    among = stopped_at(bad, [good, *[np.zeros(0)] * 9], 1.0, 0.05, shares=True)
    assert alone is not None
    assert among is not None
    assert alone < among
    assert stopped_at(bad, [np.zeros(0)], 1.0, 0.05, shares=True) is None


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, k, n: (rng.random((k, n)) < 0.5).astype(float),
        lambda rng, k, n: np.abs(rng.normal(size=(k, n))),
        lambda rng, k, n: np.exp(rng.normal(size=(1, n)) + rng.normal(size=(k, n))),
        lambda rng, k, n: np.abs(rng.standard_t(2, size=(k, n))),
        lambda rng, k, n: np.where(rng.random((k, n)) < 0.02, 50.0, 1.0) * rng.random((k, n)),
    ],
    ids=["hits", "normal", "lognormal", "heavy", "rare"],
)
@pytest.mark.parametrize(("k", "racers", "n"), [(2, 2, 150), (5, 3, 100)])
def test_of_equals_anybody_is_stopped_in_at_most_five_per_cent(draw: Any, k: int, racers: int, n: int) -> None:
    rng = np.random.default_rng(2)
    boards, wrong = 200, 0
    for _ in range(boards):
        errors = draw(rng, k, n)
        shares = bool((errors <= 1).all())
        bound = 1.0 if shares else float(draw(rng, 1, 1000).max())  # of a training part
        wrong += any(
            stopped_at(errors[c], list(np.delete(errors, c, axis=0)), bound, LEVEL / racers, shares=shares) is not None
            for c in range(racers)
        )
    assert wrong / boards <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / boards)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_metric_that_is_no_mean_of_rows_has_no_race(name: str) -> None:
    without = {"macro_f1", "balanced_accuracy", "matthews", "median_absolute_error"}
    assert can_race(METRICS[name]) == (name not in without)


def test_the_bound_of_errors_is_that_of_the_answer_that_knows_nothing() -> None:
    truth = np.array([1.0, 2.0, 9.0])
    assert largest_error(METRICS["mean_absolute_error"], truth, 2.0) == 7.0
    assert largest_error(METRICS["root_mean_squared_error"], truth, 2.0) == 49.0
    assert largest_error(METRICS["accuracy"], np.array(["a", "b"], dtype=object), "a") == 1.0


def raced(metric: str, truth: np.ndarray, units: Units, answers: dict[str, np.ndarray], order: Any = None) -> Race:
    kind = METRICS[metric]
    race = Race(kind, truth, units, 1.0 if kind.unit == "share" else 10.0, frozenset({"bad", "good"}), tuple(answers))
    for label, guesses in answers.items():
        race.note(label, {row: guesses[row] for row in (range(len(guesses)) if order is None else order)})
    return race


def test_answers_count_as_far_as_no_row_before_them_is_open() -> None:
    truth = np.array(["a"] * 60, dtype=object)
    answers = {"good": truth, "bad": np.array(["b"] * 60, dtype=object)}
    units = single_rows(60)
    found = raced("accuracy", truth, units, answers).behind("bad", None)
    assert found is not None
    assert (found.leader, found.gap) == ("good", 1.0)
    assert raced("accuracy", truth, units, answers).behind("good", None) is None
    assert raced("accuracy", truth, units, answers, order=range(1, 60)).behind("bad", None) is None  # the first is open
    assert raced("accuracy", truth, units, answers, order=range(20)).behind("bad", 3) is None  # three rows say little


def test_rows_that_belong_together_count_once() -> None:
    truth = np.array(["a"] * 60, dtype=object)
    answers = {"good": truth, "bad": np.array(["b"] * 60, dtype=object)}
    copies = Units(np.repeat([0, 1], 30), np.full(60, 1 / 30), 2)
    assert raced("accuracy", truth, copies, answers).behind("bad", None) is None
    groups = Units(np.repeat([0, 1], 30), np.ones(60), 2)
    assert raced("accuracy", truth, groups, answers).behind("bad", None) is None


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")


def answer(text: str) -> str:
    """The right price, or that of a model which knows nothing where it is asked by another name."""
    return text.split("at ")[1].split()[0].strip("?.")


def make_task(folder: Path, good: Simulator, bad: Simulator, *, race: bool = True, metric: str = "mae") -> Task:
    values = [(n * 37) % 90 + 10 for n in range(400)]
    pl.DataFrame({"text": [f"thing {n} at {value}" for n, value in enumerate(values)], "price": values}).write_csv(
        folder / "rows.csv"
    )
    models = "".join(
        f"  - {{prompt: {{model: 'openai:{name}', options: {{base_url: '{server.url}', price: {PRICE},"
        f" concurrency: 2}}}}, as: {name}}}\n"
        for name, server in (("good", good), ("bad", bad))
    )
    (folder / "task.yaml").write_text(
        "name: raced\ndata: {source: rows.csv, split: {test: 150, validation: 50, seed: 0}}\n"
        f"input: '{{{{ text }}}}'\ntarget: price\nkind: number\nmetric: {metric}\nrows: all\n"
        f"race: {str(race).lower()}\ncontestants:\n  - constant\n{models}"
    )
    return Task.from_file(folder / "task.yaml")


def test_a_model_that_cannot_win_is_asked_no_further_and_a_run_without_a_race_asks_the_rest(tmp_path: Path) -> None:
    with Simulator("openai", answer=answer) as good, Simulator("openai", answer="500") as bad:
        board = make_task(tmp_path, good, bad).compete(progress=False)
        asked = bad.calls
        assert 1 < asked < 60
        row = board.row("bad")
        assert good.calls == 150
        assert (row.status, row.rank) == ("partial", None)
        said = rf"stopped after {asked} rows, behind (good|constant) by \d+"
        assert re.fullmatch(said, row.reason or "")
        assert row.answered == asked
        assert board.winner_name == "good"
        (note,) = [note.text for note in notes(board) if note.text.startswith("The race")]
        assert f"It saved {150 - asked} answers, about $0.0" in note
        again = make_task(tmp_path, good, bad).compete(progress=False)  # the evidence stands
        assert bad.calls == asked
        assert re.fullmatch(said, again.row("bad").reason or "")
        whole = make_task(tmp_path, good, bad, race=False).compete(progress=False)
        assert bad.calls == 150
        assert whole.row("bad").status == "done"
        assert not [note for note in notes(whole) if note.text.startswith("The race")]
        assert good.calls == 150


def test_a_metric_without_a_race_says_so_and_all_are_asked(tmp_path: Path) -> None:
    class Notes(Silent):
        said: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.said.append(text)

    with Simulator("openai", answer=answer) as good, Simulator("openai", answer="500") as bad:
        seen = Notes()
        board = run(make_task(tmp_path, good, bad, metric="medae"), observer=seen)
        assert any(text.startswith("there is no race by median absolute error") for text in seen.said)
        assert board.row("bad").status == "done"
        assert bad.calls == 150
