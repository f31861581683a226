"""Sweeps: what is tried, given up, kept, taken, and never seen."""

import json
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge

from kurabe.api import Task
from kurabe.contest.journal import Journal
from kurabe.contest.observer import Silent
from kurabe.contest.prepare import journal_path, make_entrants
from kurabe.contest.purse import Purse, trial_dollars
from kurabe.contest.run import run
from kurabe.contestants import open_models, registry
from kurabe.contestants.base import Bill, Contestant, Learning, Validation
from kurabe.contestants.sweeps.search import Search
from kurabe.contestants.sweeps.sweep import Sweep
from kurabe.contestants.tuned.tune import Tune
from kurabe.contestants.tuned.tune_hosted import TuneHosted
from kurabe.errors import ContestantError, JournalError, MissingExtraError, ModelError, TaskError, TuningError
from kurabe.messages import Request
from kurabe.tasks.spec import ContestantSpec
from kurabe.testing import ScriptedModel, Simulator
from kurabe.testing.tiny import tiny_model
from kurabe.tuning.durable import write_bytes
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.services import parse_base

QUICK = {"first_look": 0.001, "longest_look": 0.002}


class Off(Contestant):
    """Says the truth, which stands in a column, and is `by` off; `noise` is less the more rows it learned from. Writes
    down the rows it sees."""

    log: ClassVar[list[tuple[str, float, list[int]]]] = []

    def __init__(self, by: float = 1.0, noise: float = 0.0, wait: float = 0.0, breaks: bool = False) -> None:
        self.by = by
        self.noise = noise
        self.wait = wait
        self.breaks = breaks

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        if self.breaks:
            raise ValueError("it broke\nand more")
        time.sleep(self.wait)
        self.log.append(("fit", self.by, X["id"].to_list()))
        if validation is not None:
            self.log.append(("validation", self.by, validation[0]["id"].to_list()))
        self.rows_ = len(y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        self.log.append(("predict", self.by, X["id"].to_list()))
        drawn = np.random.default_rng(X["id"].to_list()).normal(size=X.height)
        return np.asarray(X["truth"].to_numpy() + self.by + drawn * self.noise * 100 / self.rows_, dtype=np.float64)

    @classmethod
    def fits(cls) -> list[tuple[float, int]]:
        return [(by, len(rows)) for what, by, rows in cls.log if what == "fit"]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    Off.log.clear()
    yield
    Off.log.clear()


def table(rows: int, first: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    truth = np.random.default_rng(first).normal(100, 20, rows)
    frame = pl.DataFrame({"id": range(first, first + rows), "truth": truth, "input": [f"{t:.1f}" for t in truth]})
    return frame, truth


def sweep(contestant: Any = None, **settings: Any) -> Sweep:
    given: dict[str, Any] = {"over": {"by": [5.0, 0.5, 9.0, -3.0]}, "kind": "number", "random_state": 3}
    return Sweep(Off() if contestant is None else contestant, **(given | settings))


def trials(made: Sweep) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made.notes_["sweep"]["trials"]
    return found


def test_the_best_setting_is_taken_and_learns_from_everything() -> None:
    X, y = table(300)
    held = table(60, first=1000)
    made = sweep().fit(X, y, validation=held)
    assert made.settings_ == {"by": 0.5}
    assert (made.predict(X) == y + 0.5).all()
    assert Off.fits()[-1] == (0.5, 300)
    assert Off.log[-2] == ("validation", 0.5, list(range(1000, 1060)))  # as a contest would fit it
    assert sum(what == "validation" for what, _, _ in Off.log) == 1  # a trial might learn from what it is scored on
    notes = made.notes_["sweep"]
    assert notes["truth"] == pytest.approx([held[1][list(held[0]["id"]).index(i)] for i in _scored(0.5)])
    assert json.loads(json.dumps(made.notes_)) == made.notes_


def _scored(by: float) -> list[int]:
    return next(rows for what, other, rows in Off.log if what == "predict" and other == by)


def test_bad_settings_are_given_up_on_few_rows() -> None:
    X, y = table(2700)
    over = {"by": {"low": 0.0, "high": 50.0}}
    made = sweep(over=over, trials=25).fit(X, y, table(40, first=5000))
    states = [trial["state"] for trial in trials(made)]
    assert states.count("pruned") >= 10
    sizes = [size for _, size in Off.fits()[:-1]]
    assert sorted(set(sizes)) == [100, 300, 900, 2700]
    assert sizes.count(100) == 25
    assert sum(sizes) < 0.6 * 25 * (100 + 300 + 900 + 2700)
    worst = max(trials(made), key=lambda trial: trial["scores"][0])
    assert worst["state"] == "pruned" or trials(made).index(worst) < 3
    assert made.settings_["by"] == min(trial["settings"]["by"] for trial in trials(made))
    fewest = {tuple(rows) for what, _, rows in Off.log if what == "fit" and len(rows) == 100}
    more = {tuple(rows) for what, _, rows in Off.log if what == "fit" and len(rows) == 300}
    assert len(fewest) == len(more) == 1
    assert set(*fewest) < set(*more)


def test_rows_are_those_asked_for_and_the_curve_falls_with_them() -> None:
    X, y = table(800)
    made = sweep(Off(by=0.0, noise=3.0), over={"wait": [0.0]}, rows=[50, 200, 5000]).fit(X, y, table(80, first=5000))
    curve = made.notes_["sweep"]["curve"]
    assert [point["rows"] for point in curve] == [50, 200, 800]
    errors = [np.abs(np.subtract(point["guesses"], made.notes_["sweep"]["truth"])).mean() for point in curve]
    assert errors == trials(made)[0]["scores"]
    assert errors[0] > errors[1] > errors[2]


def test_the_same_seed_makes_the_same_trials_and_another_makes_others() -> None:
    X, y = table(150)
    over = {"by": {"low": 0.0, "high": 50.0}, "noise": {"low": 0.01, "high": 10.0, "log": True}}
    one, same, other = (sweep(over=over, trials=14, random_state=seed).fit(X, y) for seed in (3, 3, 4))
    assert trials(one) == trials(same)
    assert trials(one) != trials(other)
    assert 0.01 <= min(trial["settings"]["noise"] for trial in trials(one)) < 1


def test_few_settings_are_each_tried_once() -> None:
    X, y = table(120)
    over = {"by": [1.0, 2.0, 3.0], "breaks": [False], "noise": [0.0, 1.0]}
    made = sweep(over=over, trials=30).fit(X, y)
    tried = [json.dumps(trial["settings"], sort_keys=True) for trial in trials(made)]
    assert len(tried) == len(set(tried)) == 6


def test_a_range_of_whole_numbers_is_whole_where_the_setting_takes_no_others() -> None:
    spec = ContestantSpec("sweep", {"contestant": "nearest_neighbours", "over": {
        "neighbours": {"low": 1, "high": 9}, "sharpness": {"low": 1, "high": 9}}}, "s")  # fmt: skip
    made = registry.build(spec, registry.Context("number"))
    options = made.options(made.base())
    assert options["neighbours"].whole
    assert not options["sharpness"].whole


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"over": {"leafs": [3]}}, "no setting 'leafs'; did you mean 'leaves'"),
        ({"over": {}}, "name what to try"),
        ({"over": {"leaves": 3}}, "expected a list of values or {low: …, high: …}, got 3"),
        ({"over": {"leaves": []}}, "expected a list of values"),
        ({"over": {"leaves": ["many"]}}, "leaves is 'many': expected int, got str"),
        ({"over": {"leaves": {"low": 3, "hihg": 9}}}, "no key 'hihg'; did you mean 'high'"),
        ({"over": {"leaves": {"low": 3}}}, "missing required field high"),
        ({"over": {"leaves": {"low": 9, "high": 3}}}, "low must be below high"),
        ({"over": {"learning_rate": {"low": 0, "high": 3, "log": True}}}, "low must be above 0"),
        ({"over": {"metric": ["rmse"]}}, "no setting 'metric'"),
        ({"rows": []}, "rows a list"),
        ({"rows": [0]}, "rows a list"),
        ({"trials": 0}, "trials must be 1 or more"),
        ({"contestant": "gradient_bosting"}, "did you mean 'gradient_boosting'"),
        ({"contestant": {"gradient_boosting": {"leafs": 3}}}, "no setting 'leafs'"),
        ({"contestant": "human"}, "nothing to be swept"),
        ({"contestant": 3}, "contestant is 3"),
        ({"over": {"leaves": [3]}, "trails": 3}, "no setting 'trails'; did you mean 'trials'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    X, y = table(60)
    entry = {"sweep": {"contestant": "gradient_boosting", "over": {"leaves": [3, 7]}} | settings}
    with pytest.raises((ContestantError, TaskError)) as raised:
        Task.from_frame(
            X.with_columns(price=pl.Series(y)), target="price", kind="number", contestants=["constant", entry],
            folder=tmp_path,
        ).compete()  # fmt: skip
    assert says in str(raised.value)


def test_one_answer_only_or_no_rows_to_choose_by() -> None:
    X, y = table(30)
    made = sweep().fit(X, np.full(30, 7.0))
    assert made.settings_ == {}
    assert "one answer only" in made.notes_["sweep"]["stopped"]
    made = sweep().fit(X.head(1), y[:1])
    assert "no rows to choose by" in made.notes_["sweep"]["stopped"]
    assert made.predict(X.head(1)) == y[:1] + 1.0


def test_without_a_validation_part_a_share_is_held_out() -> None:
    X, y = table(200)
    made = sweep().fit(X, y)
    assert made.settings_ == {"by": 0.5}
    scored = set(_scored(0.5))
    assert len(scored) == 30
    assert all(not scored & set(rows) for what, _, rows in Off.log[:-1] if what == "fit")
    assert Off.log[-1] == ("fit", 0.5, list(range(200)))


def test_a_setting_that_fails_is_not_taken_and_not_tried_again(tmp_path: Path) -> None:
    X, y = table(60)
    over = {"breaks": [True, False], "by": [1.0, 2.0]}
    made = sweep(over=over, folder=str(tmp_path)).fit(X, y)
    failed = [trial for trial in trials(made) if trial["state"] == "failed"]
    assert [trial["reason"] for trial in failed] == ["it broke"] * 2
    assert made.settings_ == {"breaks": False, "by": 1.0}
    with pytest.raises(ContestantError, match="all 1 trials failed; the first: it broke"):
        sweep(over={"breaks": [True]}, folder=str(tmp_path)).fit(X, y)


class Careless(Off):
    """Raises what `wrong` holds, once."""

    wrong: ClassVar[list[Exception]] = []

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        if self.wrong:
            raise self.wrong.pop()
        return super().fit(X, y, validation)


def test_what_is_mended_is_tried_again(tmp_path: Path) -> None:
    X, y = table(60)
    made = sweep(Careless(), over={"by": [1.0]}, folder=str(tmp_path))
    Careless.wrong.append(ModelError("the model needs 9 GB, and there are 8"))
    with pytest.raises(ContestantError, match="all 1 trials failed; the first: the model needs 9 GB"):
        made.fit(X, y)
    assert made.fit(X, y).settings_ == {"by": 1.0}


def test_a_disk_that_is_full_is_no_failure_of_a_setting(tmp_path: Path) -> None:
    X, y = table(60)
    made = sweep(Careless(), over={"by": [1.0, 2.0]}, folder=str(tmp_path / "sweep"))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TuningError, match="cannot write") as caught:
        write_bytes(tmp_path / "file" / "weights", b"")
    Careless.wrong.append(caught.value)
    with pytest.raises(TuningError, match="cannot write"):
        made.fit(X, y)
    assert [trial["state"] for trial in trials(made.fit(X, y))] == ["done", "done"]


def test_a_score_that_is_not_defined_is_a_failure() -> None:
    X, y = table(60)
    with pytest.raises(ContestantError, match="is not defined on the validation part"):
        sweep(metric="r2").fit(X, y, (X.head(5), np.full(5, 2.0)))


class Theirs(Off):
    """A contestant from elsewhere: its `fit` is paid for by itself and says how far it is."""

    billed = True
    keeps = "theirs"
    usd: ClassVar[float | None] = 2.0
    why: ClassVar[str | None] = None
    kept: ClassVar[list[Path]] = []
    jobs: ClassVar[set[tuple[float, int]]] = set()

    def fit_with(self, X: Any, y: Any, validation: Validation | None, context: Learning) -> Self:
        self.jobs.add((self.by, len(y)))
        context.tell("half way")
        return self.fit(X, y, validation)

    def not_swept(self, over: Any) -> str | None:
        return self.why

    def keeping(self, kept: Path) -> Self:
        self.kept.append(kept)
        return self

    def bill(self, X: Any, y: Any) -> Bill:
        job = self.by, len(y)
        return Bill(self.usd, lambda: job in self.jobs)


@pytest.fixture
def theirs() -> type[Theirs]:
    for seen in (Theirs.kept, Theirs.jobs):
        seen.clear()
    return Theirs


def test_what_a_contestant_from_elsewhere_says_of_itself_is_heeded(theirs: type[Theirs], tmp_path: Path) -> None:
    X, y = table(60)
    held = table(20, first=1000)
    said: list[str] = []
    made = sweep(theirs(), usd=5.0, folder=str(tmp_path)).fit_with(X, y, held, Learning(said.append))
    assert len(Theirs.jobs) == 2  # the one that is chosen has learned from all rows before
    assert made.notes_["usd"] == pytest.approx(4.0)
    assert made.notes_["sweep"]["stopped"] == "the next trial costs $2.00, and $1.00 of the sweep's dollars are left"
    assert "trial 1/4, half way" in said
    assert len(set(Theirs.kept)) == 4
    assert all(tmp_path in kept.parents for kept in Theirs.kept)
    with pytest.raises(ContestantError, match="say what all may cost"):
        sweep(theirs()).fit(X, y, held)


def test_settings_that_a_contestant_refuses_are_not_tried(
    theirs: type[Theirs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(theirs, "why", "it is asked by hand")
    with pytest.raises(ContestantError, match="sweep: it is asked by hand"):
        sweep(theirs(), usd=5.0).fit(*table(60))
    assert not Off.log


def test_who_is_told_may_end_a_sweep_and_no_setting_has_failed(theirs: type[Theirs], tmp_path: Path) -> None:
    class EndedError(Exception):
        """The run is to end."""

    def tell(said: str) -> None:
        if said.endswith("half way"):
            raise EndedError

    X, y = table(60)
    with pytest.raises(EndedError):
        sweep(theirs(), usd=50.0, folder=str(tmp_path)).fit_with(X, y, None, Learning(tell))
    made = sweep(theirs(), usd=50.0, folder=str(tmp_path)).fit(X, y)
    assert [trial["state"] for trial in trials(made)] == ["done"] * 4


class Asked(Off):
    """A contestant that learns nothing from rows."""

    trains = False


def test_what_learns_nothing_is_tried_on_growing_parts_of_the_validation_rows() -> None:
    made = sweep(Asked()).fit(*table(60), table(80, first=1000))
    assert {tuple(trial["rows"]) for trial in trials(made) if trial["state"] == "done"} == {(60,) * 4}
    assert max(trial["checked"] for trial in trials(made)) == [10, 20, 40, 80]


def test_anyone_elses_estimator_learns_from_both_parts() -> None:
    X, y = table(100)
    frame = X.select("truth").to_pandas()
    made = Sweep(Ridge(), over={"alpha": [0.1, 1e9]}, kind="number").fit(frame, y, (frame[:10], y[:10]))
    assert made.settings_ == {"alpha": 0.1}
    both = Ridge(alpha=0.1).fit(pl.concat([X.select("truth"), X.select("truth").head(10)]), np.append(y, y[:10]))
    assert made.predict(X.select("truth")) == pytest.approx(both.predict(X.select("truth")))


# --- prompts, dollars and minutes ------------------------------------------------------------------------------------


def says_truth(request: Request) -> str:
    """A model that is told by the system message how far off it shall be."""
    text = request.messages[-1].text
    told = request.messages[0].text
    off = float(told.split()[-1]) if told.startswith("Be off by") else 0.0
    return f"{float(text) + off:.1f}"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedModel]:
    def scripted(**settings: Any) -> ScriptedModel:
        made = ScriptedModel(says_truth, **settings)
        monkeypatch.setattr(open_models, "_opened", lambda reference, options, budget: made)
        return made

    return scripted


def asks(over: Any, **settings: Any) -> Sweep:
    spec = {"prompt": {"model": "openai:gpt-5.1", "user": "{{ input }}"}}
    return sweep(spec, over=over, **settings)


def test_prompts_are_given_up_on_few_validation_rows(model: Any, tmp_path: Path) -> None:
    asked = model()
    X, y = table(50)
    over = {"system": [f"Be off by {off}" for off in (0, 30, 20, 40, 50, 25, 60)]}
    made = asks(over, folder=str(tmp_path)).fit(X, y, table(160, first=900))
    assert made.settings_ == {"system": "Be off by 0"}
    states = [(trial["state"], trial["checked"][-1]) for trial in trials(made)]
    assert ("done", 160) in states
    assert states.count(("pruned", 20)) >= 3
    assert asked.calls == sum(checked for _, checked in states)  # each row was asked once a trial
    assert made.notes_["usd"] == 0.0
    again = asks(over, folder=str(tmp_path)).fit(X, y, table(160, first=900))
    assert asked.calls == sum(checked for _, checked in states)
    assert trials(again) == trials(made)


def test_prompts_that_are_equally_good_in_different_ways_are_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wilcoxon's test told few large errors from many small ones though their mean was the same."""

    def says(request: Request) -> str:
        told, text = request.messages[0].text, request.messages[-1].text
        large = round(10 * float(text)) % 10 == 0
        off = 18.0 * large if told.startswith("Seldom") else 2.0
        return f"{float(text) + off:.1f}"

    monkeypatch.setattr(open_models, "_opened", lambda reference, options, budget: ScriptedModel(says))
    X, y = table(50)
    over = {"system": ["Seldom far off", *(f"Always a little off, {word}" for word in "abcdefg")]}
    made = asks(over, random_state=4).fit(X, y, table(320, first=900))
    assert [trial["state"] for trial in trials(made)] == ["done"] * 8


def test_examples_are_swept_over_training_rows_where_rows_are_given(model: Any) -> None:
    model()
    X, y = table(90)
    made = asks({"examples": [0, 2]}, rows=[30, 90]).fit(X, y, table(20, first=900))
    assert {tuple(trial["rows"]) for trial in trials(made)} == {(30, 90)}
    assert {tuple(trial["checked"]) for trial in trials(made)} == {(20, 20)}


def test_dollars_end_a_sweep_with_the_best_so_far(model: Any, tmp_path: Path) -> None:
    asked = model(usd=0.01)
    X, y = table(50)
    over = {"system": ["Be off by 3", "Be off by 2", "Be off by 1"]}
    held = table(100, first=900)
    made = asks(over, usd=1.5, folder=str(tmp_path)).fit(X, y, held)
    assert 145 <= asked.calls <= 151
    assert made.notes_["usd"] == pytest.approx(asked.calls * 0.01)
    assert "$1.5 are used up" in made.notes_["sweep"]["stopped"]
    assert [trial["state"] for trial in trials(made)] == ["done", "stopped"]
    assert made.settings_ == trials(made)[0]["settings"]
    paid = asked.calls
    more = asks(over, usd=100.0, folder=str(tmp_path)).fit(X, y, held)
    assert more.settings_ == {"system": "Be off by 1"}
    assert asked.calls == 300 or "pruned" in [trial["state"] for trial in trials(more)]
    assert more.notes_["usd"] == pytest.approx(asked.calls * 0.01)
    assert asked.calls > paid


def test_dollars_are_never_exceeded_by_calls_in_flight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    X, y = table(50)
    held = table(100, first=900)
    with Simulator("openai", answer=lambda text: text.split()[-1], delay=0.01) as server:
        options = {"base_url": server.url, "price": {"input": 100.0, "output": 100.0}, "concurrency": 8}
        spec = {"prompt": {"model": "openai:gpt-4o-mini", "user": "{{ input }}", "options": options}}
        over = {"system": ["One", "Two", "Three"]}
        made = sweep(spec, over=over, usd=0.03, folder=str(tmp_path)).fit(X, y, held)
        calls = server.calls
        assert 10 < calls < 300
        assert 0.01 < made.notes_["usd"] <= 0.03  # a call is allowed where the most that it may cost is left
        assert "budget of $0.03" in made.notes_["sweep"]["stopped"] or "used up" in made.notes_["sweep"]["stopped"]
        more = sweep(spec, over=over, usd=1.0, folder=str(tmp_path)).fit(X, y, held)
        asked = sum(trial["checked"][-1] for trial in trials(more))
        assert server.calls == asked  # those that were under way when the dollars ended were waited for and kept
        more.close()


def test_a_cost_that_is_not_known_is_not_zero(model: Any) -> None:
    model(usd=None)
    X, y = table(50)
    assert asks({"examples": [0, 1]}).fit(X, y).notes_["usd"] is None


def test_minutes_end_a_sweep_and_more_minutes_go_on(tmp_path: Path) -> None:
    X, y = table(80)
    slow = Off(wait=0.05)
    over = {"by": [float(by) for by in range(8, 0, -1)]}
    made = sweep(slow, over=over, minutes=0.12 / 60, folder=str(tmp_path)).fit(X, y)
    assert "minutes are used up" in made.notes_["sweep"]["stopped"]
    first = Off.fits()[:-1]
    assert 1 <= len(first) <= 4
    assert made.settings_["by"] == min(by for by, _ in first)
    Off.log.clear()
    more = sweep(slow, over=over, folder=str(tmp_path)).fit(X, y)
    assert more.settings_ == {"by": 1.0}
    assert len(Off.fits()[:-1]) == 8 - len(first)
    assert not set(Off.fits()[:-1]) & set(first)


def test_it_says_how_far_it_is() -> None:
    X, y = table(60)
    said: list[str] = []
    sweep(minutes=5).fit_with(X, y, None, Learning(said.append))
    assert said[0].startswith("trial 1/4, 51 rows")
    assert "best " in said[-1]
    assert "(by " in said[-1]
    assert "min left" in said[-1]


def test_jobs_at_a_provider_are_begun_while_the_dollars_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("KURABE_JOBS", str(tmp_path / "jobs"))
    X, y = table(40)
    with Simulator("openai", answer=lambda text: text.split()[-1]) as server:
        base = TuneHosted(
            model="openai:gpt-4.1-mini", kind="number", user="{{ input }}", confirm_usd=1.0,
            options={"base_url": server.url, "price": {"input": 1.0, "output": 2.0}, "policy": QUICK},
        )  # fmt: skip
        over = {"epochs": [1, 2, 3]}
        with pytest.raises(ContestantError, match="say what all may cost, as usd: 20"):
            sweep(base, over=over).fit(X, y)
        without = clone(base).set_params(options={"base_url": server.url, "policy": QUICK})
        with pytest.raises(
            ContestantError, match=r"sweep: what the answers of gpt-4.1-mini, tuned, .* add options: {price: {input"
        ):
            sweep(without, over=over, usd=1.0).fit(X, y)
        assert server.accepted == 0
        made = sweep(base, over=over, usd=0.0).fit(X, y, (X.head(10), y[:10]))
        assert trials(made)[0]["state"] == "stopped"
        assert "of the sweep's dollars are left" in made.notes_["sweep"]["stopped"]
        assert len(server.tuning.jobs) == 1  # that of the contestant as it is, whose own cost is confirmed
        alone = made.notes_["usd"]
        assert alone == pytest.approx(base.plan(X, y).usd)  # and it is counted
        folder = str(tmp_path / "trials")
        made = sweep(base, over=over, usd=5.0, folder=folder).fit(X, y, (X.head(10), y[:10]))
        assert {trial["state"] for trial in trials(made)} <= {"done", "pruned"}
        count = len(server.tuning.jobs)
        assert count <= 4
        cost = made.notes_["usd"]
        assert cost > sum(base.set_params(epochs=epochs).plan(X, y).usd or 0.0 for epochs in (1, 2, 3)) > 0
        calls = server.calls
        again = sweep(base.set_params(epochs=3, confirm_usd=2.0), over=over, usd=5.0, folder=folder)
        assert again.fit(X, y, (X.head(10), y[:10])).notes_["usd"] == pytest.approx(cost)
        assert server.calls == calls  # what may be paid changes no answer
        made.close()


class Killed(BaseException):
    pass


def test_a_job_that_was_begun_is_gone_on_with_though_its_dollars_are_spent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("KURABE_JOBS", str(tmp_path / "jobs"))
    X, y = table(40)
    held = X.head(10), y[:10]
    with Simulator("openai", answer=lambda text: text.split()[-1]) as server:
        base = TuneHosted(
            model="openai:gpt-4.1-mini", kind="number", user="{{ input }}", confirm_usd=1.0,
            options={"base_url": server.url, "price": {"input": 0.1, "output": 0.2}, "policy": QUICK},
        )  # fmt: skip
        one = base.plan(X, y).usd
        assert one is not None
        made = sweep(base, over={"epochs": [3]}, usd=one * 1.5, folder=str(tmp_path / "trials"))

        def killed(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Search, "_batches", killed)
            with pytest.raises(Killed):
                made.fit(X, y, held)
        made.fit(X, y, held)
        assert [trial["state"] for trial in trials(made)] == ["done"]
        assert one < made.notes_["usd"] < one * 1.5  # the chosen setting's job is the trial's, and is counted once
        assert len(server.tuning.jobs) == 1
        made.close()


def test_a_job_that_failed_and_is_deleted_is_tried_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("KURABE_JOBS", str(tmp_path / "jobs"))
    X, y = table(40)
    held = X.head(10), y[:10]
    with Simulator("openai", answer=lambda text: text.split()[-1]) as server:
        server.tuning.states = ["failed"]
        base = TuneHosted(
            model="openai:gpt-4.1-mini", kind="number", user="{{ input }}", confirm_usd=1.0,
            options={"base_url": server.url, "price": {"input": 1.0, "output": 2.0}, "policy": QUICK},
        )  # fmt: skip
        made = sweep(base, over={"epochs": [3]}, usd=5.0, folder=str(tmp_path / "trials"))
        for _ in range(2):
            with pytest.raises(ContestantError, match=r"the first: the tuning of .* failed"):
                made.fit(X, y, held)
        assert len(server.tuning.jobs) == 1
        server.tuning.states = list(server.tuning.usual)
        ((home, _),) = record.found(record.jobs_root())[0]
        jobs.delete(home, Connection(parse_base("openai:gpt-4.1-mini"), base_url=server.url))
        made.fit(X, y, held)
        assert [trial["state"] for trial in trials(made)] == ["done"]
        assert len(server.tuning.jobs) == 2
        made.close()


@pytest.mark.parametrize(
    ("model", "settings"),
    [("together:meta/Llama-8B", {}), ("openai:gpt-4.1-mini", {"deployment": "mine"})],
)
def test_models_that_are_deployed_by_hand_are_not_swept(model: str, settings: Any, tmp_path: Path) -> None:
    X, y = table(40)
    base = TuneHosted(model=model, kind="number", options={"price": {"input": 1.0, "output": 2.0}}, **settings)
    with pytest.raises(ContestantError, match="deployed by hand"):
        sweep(base, over={"epochs": [1, 2]}, usd=5.0).fit(X, y)


@pytest.mark.parametrize("options", [{"api_key": "sk-0123"}, {"headers": {"x": "y"}}])
def test_keys_do_not_come_into_what_is_kept(tmp_path: Path, options: dict[str, Any]) -> None:
    X, y = table(40)
    with pytest.raises(ContestantError, match="does not belong here"):
        asks({"options": [{}, options]}, folder=str(tmp_path)).fit(X, y)
    assert not list(tmp_path.iterdir())


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    X, y = table(60)
    with pytest.raises(MissingExtraError, match=r"pip install 'kurabe\[sweep\]'"):
        sweep().fit(X, y)


def test_a_damaged_file_of_trials_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.sqlite").write_bytes(b"this is no database, and long enough to be seen as none" * 9)
    X, y = table(60)
    with pytest.raises(JournalError, match=r"trials\.sqlite"):
        sweep(folder=str(tmp_path)).fit(X, y)


def test_a_tuned_model_is_swept(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "model", hidden_size=64, initializer_range=0.05)
    colours = {"rot": "red", "blau": "blue", "gelb": "yellow"}
    words = [list(colours)[n % 3] for n in range(48)]
    X, y = pl.DataFrame({"input": words}), np.array([colours[word] for word in words], dtype=object)
    tune = Tune(
        model=f"hf:{base}", epochs=5, step_tokens=300, system="", user="{{ input }}", prefill="", evaluations=0,
        decode="score", kind="label",
    )  # fmt: skip
    folder = tmp_path / "sweep"
    made = Sweep(tune, over={"learning_rate": [1e-9, 1e-2]}, kind="label", rows=[24], folder=str(folder))
    made.set_params(contestant=clone(tune).set_params(general=False)).fit(X, y, (X.head(12), y[:12]))
    assert made.settings_ == {"learning_rate": 1e-2}
    assert (made.predict(X) == y).all()
    made.close()
    assert made.notes_["tuning"]["losses"]
    kept = [path for path in folder.iterdir() if path.is_dir()]
    assert len(kept) == 1  # the chosen one; the trials' weights are gone
    assert (kept[0] / "tuned").is_dir()


# --- in a contest ----------------------------------------------------------------------------------------------------


def contest(folder: Path, *contestants: Any, rows: int = 300, **options: Any) -> Task:
    X, y = table(rows)
    return Task.from_frame(
        X.with_columns(price=pl.Series(y)), target="price", kind="number", columns=["id", "truth"], name="things",
        contestants=list(contestants), split={"test": 60, "validation": 40, "seed": 1}, folder=folder, **options,
    )  # fmt: skip


def test_no_trial_sees_a_test_row_and_the_test_part_is_answered_once(tmp_path: Path) -> None:
    task = contest(tmp_path, sweep())
    board = task.compete()
    (row,) = board.rows
    assert row.status == "done"
    assert row.score == pytest.approx(0.5)
    hidden = set(task.test.X["id"].to_list())
    final = max(place for place, (what, _, _) in enumerate(Off.log) if what == "fit")
    seen = {one for _, _, rows in Off.log[: final + 2] for one in rows}  # with the validation part of the last fit
    assert not hidden & seen
    answered = [one for what, by, rows in Off.log[final:] if what == "predict" and by == 0.5 for one in rows]
    assert sorted(set(answered) & hidden) == sorted(one for one in answered if one in hidden) == sorted(hidden)
    assert {by for what, by, rows in Off.log if set(rows) & hidden} == {0.5}
    assert board.evidence.entries[0].notes["sweep"]["chosen"] is not None


def test_another_over_and_a_larger_budget_go_on_with_the_trials_made(tmp_path: Path) -> None:
    contest(tmp_path, sweep()).compete()
    made = len(Off.fits())
    contest(tmp_path, sweep()).compete()
    assert len(Off.fits()) == made  # nothing at all is made again
    board = contest(tmp_path, sweep(over={"by": [0.5, 5.0, 9.0, -3.0, 0.25]}, trials=40)).compete()
    new = Off.fits()[made:]
    assert {by for by, _ in new} == {0.25}
    assert board.rows[0].score == pytest.approx(0.25)


def test_the_same_setting_is_not_asked_about_the_test_part_again(tmp_path: Path) -> None:
    """Other minutes, trials or values to be tried are another sweep; its answers are those of the setting it takes."""

    def answered(contestant: Any = None, limit: int | None = None, **settings: Any) -> tuple[int, list[float]]:
        made = len(Off.log)
        task = contest(tmp_path, sweep(contestant, **settings))
        board = task.compete(limit=limit)
        assert board.rows[0].status == "done"
        hidden = set(task.test.X["id"].to_list())
        asked = sum(one in hidden for what, _, rows in Off.log[made:] if what == "predict" for one in rows)
        return asked, board.evidence.entries[0].guesses.tolist()

    assert answered(limit=20)[0] == 20
    asked, guesses = answered(minutes=60.0)
    assert asked == 40
    assert answered(trials=39) == (0, guesses)
    assert answered(over={"by": [0.5, 7.0]}) == (0, guesses)
    assert answered(over={"by": [5.0, 7.0]})[0] == 60  # another setting is chosen
    assert answered(Off(noise=0.01), over={"by": [0.5, 7.0]})[0] == 60  # another contestant
    assert answered(random_state=4)[0] == 60


def test_answers_that_are_taken_over_keep_their_cost(model: Any, tmp_path: Path) -> None:
    asked = model(usd=0.001)
    entry = {"contestant": {"prompt": {"model": "openai:gpt-5.1", "user": "{{ truth }}"}},
             "over": {"system": ["Be off by 1", "Be off by 2"]}}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        patch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
        (first,) = contest(tmp_path, {"sweep": entry}, budget={"usd": 5.0}).compete().rows
        calls = asked.calls
        (again,) = contest(tmp_path, {"sweep": {**entry, "minutes": 60}}, budget={"usd": 5.0}).compete().rows
    assert first.status == again.status == "done"
    assert asked.calls == calls
    assert again.usd == pytest.approx(first.usd) == pytest.approx(calls * 0.001)


def test_the_tasks_dollars_hold_for_a_sweep_too(model: Any, tmp_path: Path) -> None:
    asked = model(usd=0.01)
    entry = {"sweep": {"contestant": {"prompt": {"model": "openai:gpt-5.1", "user": "{{ truth }}"}},
                       "over": {"system": ["Be off by 1", "Be off by 2"]}}}  # fmt: skip
    task = contest(tmp_path, entry, budget={"usd": 0.5})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        patch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
        board = task.compete()
    (row,) = board.rows
    assert row.usd is not None
    assert row.usd == pytest.approx(asked.calls * 0.01)
    assert row.usd <= 0.51
    assert row.contestant == "sweep prompt gpt-5.1"
    assert row.status in ("partial", "skipped")


PRICED = {"input": 0.0, "output": 1000.0}


class Leaves(Silent):
    """Ends a sweep when its second trial begins."""

    def fitting(self, contestant: str, said: str = "") -> None:
        if said.startswith("trial 2/"):
            raise RuntimeError("left")


def spent(task: Task) -> float:
    """Dollars that the contest would take for spent if it were started again."""
    entrants = make_entrants(task, 0)
    with Journal(journal_path(task.folder)) as journal:
        keys = [entrant.key for entrant in entrants]
        return Purse(journal, keys, task.name, None, trial_dollars(journal, entrants)).spent


def test_what_a_sweep_spent_that_was_left_is_not_spent_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    with Simulator("openai", answer=lambda text: text.split()[-1]) as server:
        prompt = {"model": "openai:gpt-4o-mini", "user": "{{ truth }}", "max_tokens": 4,
                  "options": {"base_url": server.url, "price": PRICED}}  # fmt: skip
        swept = {"sweep": {"contestant": {"prompt": prompt}, "over": {"system": ["One", "Two", "Three"]}}}
        each = contest(tmp_path / "alone", {"prompt": prompt}).compete().rows[0].usd
        assert each is not None
        usd = each * 70 / 60
        task = contest(tmp_path / "both", {"prompt": prompt}, swept, budget={"usd": usd})
        run(task, only=["sweep"], observer=Leaves())
        paid = spent(task)
        assert paid == pytest.approx(each * 40 / 60)  # a trial's answers to the validation part
        board = task.compete()
        assert 0.9 * usd < spent(task) <= usd
        assert server.calls - 60 == pytest.approx(spent(task) / each * 60)
        assert "prompt" in board.rows[0].contestant


def test_trials_that_two_sweeps_share_are_counted_once(model: Any, tmp_path: Path) -> None:
    asked = model(usd=0.01)
    swept = {"contestant": {"prompt": {"model": "openai:gpt-5.1", "user": "{{ truth }}"}}}
    off = ["Be off by 1", "Be off by 2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        task = contest(
            tmp_path,
            {"sweep": {**swept, "over": {"system": off}}, "as": "two"},
            {"sweep": {**swept, "over": {"system": [*off, "Be off by 3"]}}, "as": "three"},
            budget={"usd": 50.0},
        )
        board = task.compete()
        assert [row.status for row in board.rows] == ["done", "done"]
        once = spent(task)
    answers = [entry.usd for entry in board.evidence.entries]
    assert len(answers) == 2
    assert once < sum(row.usd or 0.0 for row in board.rows)  # each shows all that its trials cost
    assert once == pytest.approx((asked.calls + 60) * 0.01)  # the same setting's answers to the test part are copied


class Apart(BaseEstimator):  # type: ignore[misc]
    """An estimator of somebody's own."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def fit(self, X: Any, y: Any) -> Self:
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.mean_ + self.by)


def test_a_trained_sweep_answers_new_rows(tmp_path: Path) -> None:
    task = contest(tmp_path, {"sweep": {"contestant": "nearest_neighbours", "over": {"neighbours": [1, 5]}}})
    board = task.compete()
    assert board.winner.label == "sweep nearest_neighbours"
    assert board.winner.predict(task.test.X.head(3)).shape == (3,)


# --- killed ----------------------------------------------------------------------------------------------------------

CHILD = textwrap.dedent("""
    import json, os, sys, time
    import numpy as np, polars as pl
    from kurabe.contestants.base import Contestant
    from kurabe.contestants.sweeps.sweep import Sweep

    log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Slow(Contestant):
        def __init__(self, by=1.0):
            self.by = by
        def fit(self, X, y, validation=None):
            os.write(log, (json.dumps([self.by, len(y)]) + "\\n").encode())
            time.sleep(0.03)
            return self
        def predict(self, X):
            return X["truth"].to_numpy() + self.by

    truth = np.random.default_rng(0).normal(100, 20, 1000)
    X = pl.DataFrame({"truth": truth})
    print("began", flush=True)
    made = Sweep(Slow(), over={"by": {"low": 0.0, "high": 9.0}}, trials=12, kind="number", folder=sys.argv[1])
    made.fit(X[:900], truth[:900], (X[900:], truth[900:]))
    notes = made.notes_["sweep"]
    del notes["seconds"]
    print(json.dumps(notes))
""")


def start(folder: Path, log: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(log)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "began\n"
    return child


def fitted(log: Path) -> list[tuple[float, int]]:
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_sweep_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    child = start(tmp_path / "calm", tmp_path / "calm.log")
    began = time.monotonic()
    calm, _ = child.communicate(timeout=120)
    seconds = time.monotonic() - began
    rng = random.Random(5)
    kills = 3
    for _ in range(kills):
        child = start(tmp_path / "killed", tmp_path / "killed.log")
        time.sleep(rng.uniform(0.1, 0.4) * seconds)
        child.kill()
        child.communicate()
    end, _ = start(tmp_path / "killed", tmp_path / "killed.log").communicate(timeout=120)
    assert json.loads(end) == json.loads(calm)
    once, again = fitted(tmp_path / "calm.log"), fitted(tmp_path / "killed.log")
    assert set(once) == set(again)
    assert len(again) - len(once) <= kills  # no more than what was under way was made again
