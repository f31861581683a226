"""How contestants learned, in the report: sweeps and tuned models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kurabe.contest.board import compute_board
from kurabe.contest.evidence import Evidence
from kurabe.contest.sweeps import sweep_result
from kurabe.contest.under_way import tuning_so_far
from kurabe.report import learning
from kurabe.report.html import html_report
from kurabe.report.notes import notes
from kurabe.tasks.metrics import METRICS
from kurabe.tuning import checkpoint


def sweep_notes(seed: int = 0, sizes: tuple[int, ...] = (100, 300, 900)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.lognormal(4, 1, 120)
    guesses = {size: truth + rng.normal(0, 2000 / size + 1, 120) for size in sizes}
    scores = [float(np.abs(guesses[size] - truth).mean()) for size in sizes]
    checked = [120] * len(sizes)
    settings: list[dict[str, Any]] = [{"leaves": n, "system": "Say <b>a</b> number"} for n in (7, 15, 31)]
    trials = [
        {"settings": settings[0], "state": "done", "rows": list(sizes), "checked": checked, "scores": scores,
         "reason": None},
        {"settings": settings[1], "state": "pruned", "rows": [sizes[0]], "checked": [120], "scores": [scores[0] + 5],
         "reason": None},
        {"settings": settings[2], "state": "failed", "rows": [], "checked": [], "scores": [], "reason": "it broke"},
    ]  # fmt: skip
    curve = [{"rows": size, "guesses": guesses[size].tolist()} for size in sizes]
    return {"usd": 0.25, "sweep": {
        "contestant": "gradient_boosting", "over": ["leaves", "system"], "trials": trials, "chosen": 0,
        "metric": "mean_absolute_error", "truth": truth.tolist(), "curve": curve, "stopped": None, "seconds": 61.0,
    }}  # fmt: skip


@pytest.fixture(scope="module")
def evidence(boards: dict[str, Any]) -> Evidence:
    found: Evidence = boards["number"].evidence
    losses = (3 * np.exp(-np.arange(1000) / 200) + np.random.default_rng(1).normal(0, 0.1, 1000)).tolist()
    tuning = {"tuning": {"losses": losses, "scores": [[250, 60.0], [500, 50.0], [1000, 52.0]]}}
    first, second, *others = found.entries
    return replace(found, entries=(replace(first, notes=sweep_notes()), replace(second, notes=tuning), *others))


def test_the_curve_has_the_scores_of_the_chosen_trial_and_intervals_around_them(evidence: Evidence) -> None:
    result = sweep_result(evidence.entries[0], "number")
    assert result is not None
    assert tuple(point.score for point in result.curve) == pytest.approx(result.trials[0].scores)
    for point in result.curve:
        assert point.interval is not None
        assert point.interval[0] < point.score < point.interval[1]
    assert result.curve[0].gain is None
    assert result.curve[1].gain is not None
    difference, (low, high), p = result.curve[1].gain
    assert difference == pytest.approx(result.curve[1].score - result.curve[0].score)
    assert low < difference < high < 0
    assert p < 0.001
    assert sweep_result(evidence.entries[1], "number") is None
    assert learning.last_gain(result, greater_is_better=False).startswith(
        "From 300 to 900 training rows it gets better"
    )
    assert learning.last_gain(result, greater_is_better=True).startswith("From 300 to 900 training rows it gets worse")


def test_one_validation_row_gives_a_curve_without_intervals(evidence: Evidence) -> None:
    found = sweep_notes()
    found["sweep"]["truth"] = [5.0]
    found["sweep"]["curve"] = [{"rows": 10, "guesses": [7.0]}]
    result = sweep_result(replace(evidence.entries[0], notes=found), "number")
    assert result is not None
    assert [(point.score, point.interval) for point in result.curve] == [(2.0, None)]


def test_a_sweep_that_had_nothing_to_choose_by(evidence: Evidence) -> None:
    bare = {"sweep": {"contestant": "tfidf_ridge", "over": ["alpha"], "trials": [], "stopped": "nothing to choose: no"}}
    first, *others = evidence.entries
    board = compute_board(replace(evidence, entries=(replace(first, notes=bare), *others)))
    assert "tried nothing: nothing to choose: no" in html_report(board)


def test_the_page_draws_curves_and_steps_and_escapes_settings(evidence: Evidence) -> None:
    page = html_report(compute_board(evidence))
    for chart in ("chart-curves", "chart-losses", "chart-checked"):
        assert f'id="{chart}"' in page
    assert "chose leaves 7" in page
    assert "1 given up early, 1 failed" in page
    assert "for $0.25" in page
    assert "<b>a</b>" not in page
    assert "it broke" in page


def test_a_page_without_sweeps_and_tuned_models_has_no_such_section(boards: dict[str, Any]) -> None:
    page = html_report(boards["number"])
    assert "chart-curves" not in page
    assert "chart-losses" not in page


def test_steps_are_thinned_out_and_smoothed(evidence: Evidence) -> None:
    found = learning.loss_points(evidence.entries)
    assert len(found) == learning.MAX_STEPS
    assert (found[0]["step"], found[-1]["step"]) == (1, 1000)
    losses = evidence.entries[1].notes["tuning"]["losses"]
    assert found[-1]["smooth"] == pytest.approx(np.mean(losses[-50:]), rel=1e-5)
    assert [point["step"] for point in learning.checked_points(evidence.entries)] == [250, 500, 1000]


def test_the_axis_holds_the_chosen_and_leaves_out_what_is_far_off() -> None:
    points = [{"contestant": "a", "low": 10.0, "high": 20.0}]
    low, high = learning.curve_domain(points, [{"score": 21.0}, {"score": 900.0}], greater_is_better=False)
    assert low < 10
    assert 21 < high < 30


@pytest.mark.parametrize("greater", [True, False])
def test_a_sweep_far_worse_than_the_others_does_not_flatten_them(greater: bool) -> None:
    sign = -1.0 if greater else 1.0
    ends = {"near": (1.5, 2.0), "next": (8.0, 12.0), "far": (700.0, 900.0)}
    points = [
        {"contestant": name, "low": min(sign * a, sign * b), "high": max(sign * a, sign * b)}
        for name, (a, b) in ends.items()
    ]
    low, high = sorted(sign * end for end in learning.curve_domain(points, [], greater_is_better=greater))
    assert low < 1.5
    assert 12 < high < 30
    low, high = sorted(sign * end for end in learning.curve_domain(points[1:], [], greater_is_better=greater))
    assert low < 8
    assert 12 < high < 30


def test_notes_of_the_board_say_what_was_chosen(evidence: Evidence) -> None:
    texts = [note.text for note in notes(compute_board(evidence))]
    assert any("chose leaves 7, system Say <b>a</b> number among 3 trials" in text for text in texts)


def test_notes_of_the_board_say_who_has_no_chat_template(evidence: Evidence) -> None:
    first = evidence.entries[0]
    told = replace(
        evidence, entries=(replace(first, notes={**first.notes, "no_template": True}), *evidence.entries[1:])
    )
    (text,) = (note.text for note in notes(compute_board(told)) if "chat template" in note.text)
    assert text.startswith(f"{first.name}: its base model has no chat template")


def test_labels_have_curves_too(boards: dict[str, Any]) -> None:
    truth = ["a", "b", "a", "b"] * 10
    found = {"sweep": sweep_notes()["sweep"] | {"metric": "accuracy", "truth": truth, "curve": [
        {"rows": 10, "guesses": ["a"] * 40}, {"rows": 20, "guesses": truth}]}}  # fmt: skip
    result = sweep_result(replace(boards["label"].evidence.entries[0], notes=found), "label")
    assert result is not None
    assert [point.score for point in result.curve] == [0.5, 1.0]
    assert METRICS["accuracy"].greater_is_better
    assert "gets better by" in learning.last_gain(result, greater_is_better=True)


def test_what_is_under_way_or_came_to_no_score_is_drawn_too(evidence: Evidence) -> None:
    first, second, *_ = evidence.entries
    entries = tuple(replace(one, status="skipped", reason="$2 are used up") for one in (first, second))
    page = html_report(compute_board(replace(evidence, entries=entries)))
    for chart in ("chart-curves", "chart-losses", "chart-checked"):
        assert f'id="{chart}"' in page
    assert "chose leaves 7" in page


def test_the_checkpoint_of_a_tuning_under_way_is_read(tmp_path: Path) -> None:
    key = b"0123456789abcdef"
    assert tuning_so_far(tmp_path, key) == {}
    folder = tmp_path / "tuned" / key.hex()
    folder.mkdir(parents=True)
    notes = {"losses": [3.0, 2.0], "scores": [[2, 60.0]], "best": None, "worse": 0}
    checkpoint.write(folder, checkpoint.State(2, notes, {"weight": torch.zeros(3)}))
    assert tuning_so_far(tmp_path, key) == {"tuning": {"losses": [3.0, 2.0], "scores": [[2, 60.0]]}}
    (folder / checkpoint.NAME).write_bytes(b"damaged")
    assert tuning_so_far(tmp_path, key) == {}
