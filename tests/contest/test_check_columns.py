"""The further columns that a task asks for, computed from the evidence."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import compute_board
from kurabe.contest.checks import CheckResult
from kurabe.contest.evidence import Entry, Evidence, Judged
from kurabe.contest.intervals import wilson_interval
from kurabe.contest.pairs import mcnemar_exact
from kurabe.contest.style import FIRST, NEITHER, SECOND, Showing, answer_texts, left_to_judge, orders, preference
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.tasks.metrics import METRICS
from kurabe.tasks.spec import Check, Style
from kurabe.testing import EchoModel

N = 60
TRUTH = np.arange(N, dtype=float)
ROWS = pl.DataFrame({"input": [f"row {n}" for n in range(N)], "origin": ["JP", "DE", "FR"] * (N // 3)})
STYLE = Style(rubric="short", judge="test:judge", rows=40)


def entry(name: str, guesses: Any, raw: Any = None, **more: Any) -> Entry:
    values = np.asarray(guesses)
    return Entry(
        name=name, model=more.pop("model", None), status="done", reason=None,
        guesses=values if values.dtype.kind == "f" else values.astype(object),
        answered=more.pop("answered", np.ones(len(values), bool)), unread=np.zeros(len(values), bool),
        raw=None if raw is None else tuple(raw), **more,
    )  # fmt: skip


def numbers(*entries: Entry, checks: tuple[Check, ...]) -> Evidence:
    return Evidence("t", "number", "mean_absolute_error", TRUTH, ROWS, 0.0, entries, checks=checks)


def results(evidence: Evidence, label: str) -> dict[str, CheckResult]:
    return {row.contestant: row.checks[label] for row in compute_board(evidence, 200).rows if label in row.checks}


def priced(share: float) -> list[str]:
    return [f"{n} EUR" if n < share * N else f"About {n}." for n in range(N)]


def test_the_share_that_follows_the_format_is_tested_against_the_best() -> None:
    found = results(
        numbers(
            entry("good", TRUTH + 1, priced(0.5), model="m"),
            entry("bad", TRUTH + 9, priced(0.9), model="n"),
            entry("linear", TRUTH),
            entry("scored", TRUTH + 2, priced(1), notes={"decode": "expected"}),
            checks=(Check(format=r"\d+ EUR"),),
        ),
        "format",
    )
    assert set(found) == {"good", "bad"}  # the others have no text of their own
    assert found["good"] == CheckResult(0.5, wilson_interval(30, 60), 60)
    assert found["bad"].against == "good"
    assert found["bad"].p == pytest.approx(mcnemar_exact(24, 0))


def test_a_tuned_model_stands_beside_itself_untuned_and_p_is_adjusted() -> None:
    found = results(
        numbers(
            entry("best", TRUTH, priced(1), model="n"),
            entry("tuned", TRUTH + 1, priced(0.9), model="m", notes={"tuning": {"losses": []}}),
            entry("plain", TRUTH + 9, priced(0.5), model="m"),
            checks=(Check(format=r"\d+ EUR"),),
        ),
        "format",
    )
    assert {name: one.against for name, one in found.items()} == {"best": None, "tuned": "plain", "plain": "best"}
    assert found["tuned"].p == pytest.approx(mcnemar_exact(24, 0))  # the larger of two stays as it is
    assert found["plain"].p == pytest.approx(2 * mcnemar_exact(0, 30))


def test_two_that_are_held_against_each_other_are_one_test() -> None:
    found = results(
        numbers(
            entry("tuned", TRUTH, priced(0.9), model="m", notes={"tuning": {"losses": []}}),
            entry("plain", TRUTH + 9, priced(0.5), model="m"),
            checks=(Check(format=r"\d+ EUR"),),
        ),
        "format",
    )
    assert {name: one.against for name, one in found.items()} == {"tuned": "plain", "plain": "tuned"}
    assert found["tuned"].p == found["plain"].p == pytest.approx(mcnemar_exact(24, 0))


def test_a_contestant_that_failed_has_no_columns_and_costs_no_judge() -> None:
    failed = replace(entry("failed", TRUTH, priced(1), model="m"), status="failed")
    bad = entry("bad", TRUTH + 9, priced(0.9), model="n")
    good = entry("good", TRUTH, priced(0.5), model="m")
    found = results(numbers(failed, bad, good, checks=(Check(format=r"\d+ EUR"),)), "format")
    assert set(found) == {"good", "bad"}
    assert found["bad"].p == pytest.approx(mcnemar_exact(24, 0))  # of one test
    assert left_to_judge(texts(replace(POLITE, status="failed")), STYLE, ["polite"], {}) == []


def test_a_judge_sees_no_white_space_around_an_answer() -> None:
    made = texts(entry("one", ["x"] * N, ["<think>hm</think>\n\nPlease. \n"] * N))
    assert {showing.first for showing in left_to_judge(made, STYLE, ["one"], {})[::2]} == {"Please."}


def test_thoughts_are_no_part_of_an_answer_and_missing_answers_do_not_count() -> None:
    raw = [f"<think>hm</think>\n{n} EUR" if n % 2 else None for n in range(N)]
    made = entry("one", np.where(TRUTH % 2, TRUTH, np.nan), raw, answered=TRUTH % 2 == 1)
    found = results(numbers(made, checks=(Check(format=r"\d+ EUR"),)), "format")
    assert (found["one"].value, found["one"].rows) == (1.0, 30)


def test_formats_and_styles_count_groups_of_rows_and_not_rows() -> None:
    """Ten groups of 30 rows, in each of which all rows are alike."""
    group = np.arange(300) // 30
    rows = pl.DataFrame({"input": [f"row {n}" for n in range(300)], "c": group})
    truth = np.array(["t"] * 300, dtype=object)
    first, second = (["{}" if one > least else "bad" for one in group] for least in (0, 3))
    entries = entry("first", first, first), entry("second", second, second)
    grouped = Evidence("t", "text", "token_f1", truth, rows, "t", entries, checks=(Check(format="json"),), cluster="c")
    found = results(grouped, "format")
    assert found["second"].p == pytest.approx(0.25, abs=0.02)  # of three groups, all one way: 2 / 2**3
    assert [found[name].value for name in found] == pytest.approx([0.9, 0.6])
    assert found["second"].interval is not None
    low, high = found["second"].interval
    assert low < wilson_interval(6, 10)[0] + 0.03
    assert high > wilson_interval(6, 10)[1] - 0.03

    style = Style(rubric="short", judge="test:judge", rows=300)
    judged = replace(grouped, checks=(Check(style=style),))
    liked = ["{}", "t", "bad"]
    verdicts = {
        shown.key: FIRST if liked.index(shown.first) < liked.index(shown.second) else SECOND
        for shown in left_to_judge(judged, style, ["second"], {})
    }
    share = results(replace(judged, judged={0: Judged(verdicts)}), "style")["second"]
    assert share.value == pytest.approx(0.6)
    assert share.interval is not None
    assert share.interval[1] - share.interval[0] > 0.4


def test_a_slice_without_an_error_has_an_interval_too() -> None:
    far = np.where(np.arange(N) % 3 == 0, TRUTH, TRUTH + 5)
    for metric in ("mean_absolute_error", "median_absolute_error", "root_mean_squared_error"):
        right = numbers(entry("right in Japan", far), checks=(Check(slice="origin == 'JP'"),))
        found = results(replace(right, metric=metric), "origin == 'JP'")["right in Japan"]
        assert found.value == 0
        assert found.interval is not None
        assert found.interval[1] > 1


def test_a_slice_has_the_score_of_its_rows_alone() -> None:
    guesses = TRUTH + np.where(np.array(ROWS["origin"]) == "JP", np.arange(N), 0.0)
    half = np.arange(N) < 30
    evidence = numbers(
        entry("one", guesses), entry("half", np.where(half, guesses, np.nan), answered=half),
        checks=(Check(slice="origin = 'JP'", label="imported"), Check(slice="row_is_late", label="late")),
    )  # fmt: skip
    late = ROWS.with_columns(pl.Series("row_is_late", ~half))
    found = results(Evidence(**(evidence.__dict__ | {"rows": late})), "imported")
    assert found["one"].value == np.arange(0, N, 3).mean()
    assert found["one"].rows == 20
    assert found["one"].interval is not None
    assert found["one"].interval[0] < found["one"].value < found["one"].interval[1]
    assert (found["half"].rows, found["half"].value) == (10, np.arange(0, 30, 3).mean())
    assert set(results(Evidence(**(evidence.__dict__ | {"rows": late})), "late")) == {"one"}  # half answered none of it


def test_a_slice_of_labels_has_wilsons_interval() -> None:
    truth = np.array(["a", "b", "c"] * (N // 3), dtype=object)
    made = Evidence(
        "t", "label", "accuracy", truth, ROWS, "a", (entry("one", truth),), checks=(Check(slice="origin = 'JP'"),)
    )
    found = results(made, "origin = 'JP'")["one"]
    assert METRICS["accuracy"].proportion
    assert (found.value, found.interval) == (1.0, wilson_interval(20, 20))


def texts(*entries: Entry, style: Style = STYLE, judged: Judged | None = None) -> Evidence:
    truth = np.array([f"answer {n}" for n in range(N)], dtype=object)
    checks = (Check(format="json"), Check(style=style))
    return Evidence("t", "text", "token_f1", truth, ROWS, "x", entries, checks=checks, judged={1: judged or Judged()})


def judged_by(evidence: Evidence, judge: Any) -> Evidence:
    left = left_to_judge(evidence, STYLE, [one.name for one in evidence.entries], {})
    said = {showing.key: judge(number, showing) for number, showing in enumerate(left)}
    return Evidence(**(evidence.__dict__ | {"judged": {1: Judged(said)}}))


POLITE = entry("polite", [f"Please, {n}" for n in range(N)])
RUDE = entry("rude", [f"{n}!" for n in range(N)])
SAME = entry("same", [f"answer {n}" for n in range(N)])


def test_a_judge_that_always_names_the_first_agrees_with_itself_on_nothing() -> None:
    found = results(judged_by(texts(POLITE, RUDE), lambda number, showing: FIRST), "style")
    assert found["polite"] == CheckResult(0.5, wilson_interval(20, 40), 40, agreement=0.0)
    assert found["rude"].value == 0.5


def test_an_answer_that_is_named_in_both_orders_wins() -> None:
    def kind(number: int, showing: Showing) -> str:
        rank = [("!" in text) - ("Please" in text) for text in (showing.first, showing.second)]
        return FIRST if rank[0] < rank[1] else SECOND if rank[1] < rank[0] else NEITHER

    found = results(judged_by(texts(POLITE, RUDE, SAME), kind), "style")
    assert found["polite"] == CheckResult(1.0, wilson_interval(40, 40), 40, agreement=1.0)
    assert found["rude"].value == 0.0
    assert found["same"] == CheckResult(0.5, wilson_interval(20, 40), 40, agreement=None)  # nothing had to be judged


def test_unread_verdicts_agree_with_nothing_and_missing_ones_do_not_count() -> None:
    pair, other = Showing("q", "a", "b"), Showing("q", "a", "c")
    there, back = orders(pair)
    assert preference([pair, other], {there.key: FIRST, back.key: None}).agreed == 0
    found = preference([pair, other], {there.key: FIRST, back.key: SECOND})
    assert (found.wins, found.losses, found.pairs, found.judged, found.agreed) == (1, 0, 1, 1, 1)
    assert preference([pair], {there.key: FIRST}).pairs == 0
    assert orders(Showing("q", "a", " a")) == ()


def test_the_same_answers_are_shown_once_and_known_ones_not_again() -> None:
    evidence = texts(POLITE, entry("echo", POLITE.guesses), SAME)
    left = left_to_judge(evidence, STYLE, ["polite", "echo", "same"], {})
    assert len(left) == 80  # 40 rows in two orders; those of echo are those of polite
    assert left_to_judge(evidence, STYLE, ["same"], {}) == []
    assert len(left_to_judge(evidence, STYLE, ["polite"], {left[0].key: FIRST})) == 79


def test_answers_are_held_against_a_contestants_where_the_task_says_so() -> None:
    style = Style(rubric="short", judge="test:judge", against="rude", rows=10)
    evidence = texts(POLITE, RUDE, style=style)
    left = left_to_judge(evidence, style, ["polite", "rude"], {})
    assert len(left) == 20
    assert {showing.first for showing in left[::2]} == set(POLITE.guesses[:10])
    judged = Evidence(**(evidence.__dict__ | {"judged": {1: Judged({one.key: NEITHER for one in left})}}))
    assert {name: one.against for name, one in results(judged, "style").items()} == {"polite": "rude"}


def test_a_contestant_of_numbers_has_texts_only_where_a_model_wrote_them() -> None:
    evidence = numbers(checks=())
    assert answer_texts(evidence, entry("linear", TRUTH)) is None
    assert answer_texts(evidence, entry("head", TRUTH, priced(1), notes={"decode": "head"})) is None
    assert answer_texts(evidence, entry("free", TRUTH, priced(1), notes={"decode": "free"})) == priced(1)


@pytest.mark.parametrize("decode", ["free", "expected"])
def test_a_prompt_notes_how_its_answers_come_about(decode: Any) -> None:
    asked = Prompt(model=EchoModel(), decode=decode).fit(pl.DataFrame({"input": ["a", "b"]}), np.array([1.0, 2.0]))
    assert asked.notes_["decode"] == decode
