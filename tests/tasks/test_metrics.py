"""The metrics against scikit-learn, sacrebleu and rouge-score, on examples and on random data."""

import re
import string
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from sacrebleu.metrics.chrf import CHRF
from sklearn import metrics as sk

from kurabe.errors import TaskError
from kurabe.tasks import text_metrics
from kurabe.tasks.metrics import METRICS, default_metric, metric_for, second_metrics
from kurabe.tasks.spec import Kind
from kurabe.tasks.text_metrics import words

KINDS: tuple[Kind, ...] = ("number", "label", "text")
NUMBERS = st.floats(0, 1e6).map(lambda value: round(value, 3))
LABELS = st.sampled_from(["red", "green", "blue", "", "ünï"])
SKLEARN = {
    "mean_absolute_error": sk.mean_absolute_error,
    "median_absolute_error": sk.median_absolute_error,
    "root_mean_squared_error": sk.root_mean_squared_error,
    "root_mean_squared_log_error": sk.root_mean_squared_log_error,
    "mean_absolute_percentage_error": sk.mean_absolute_percentage_error,
    "r2": sk.r2_score,
    "accuracy": sk.accuracy_score,
    "macro_f1": lambda truth, guess: sk.f1_score(truth, guess, average="macro"),
    "balanced_accuracy": sk.balanced_accuracy_score,
    "matthews": sk.matthews_corrcoef,
}


def objects(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.mark.parametrize("name", [name for name in SKLEARN if METRICS[name].kind == "number"])
@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40))
def test_number_metrics_equal_scikit_learn(name: str, rows: list[tuple[float, float]]) -> None:
    truth, guess = np.array(rows).T
    ours = METRICS[name].score(truth, guess)
    if name == "r2" and np.ptp(truth) <= 1e-5 * np.abs(truth).max():
        assert np.isnan(ours) or np.ptp(truth) > 0
    else:
        assert ours == pytest.approx(SKLEARN[name](truth, guess), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in SKLEARN if METRICS[name].kind == "label"])
@given(rows=st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_label_metrics_equal_scikit_learn(name: str, rows: list[tuple[str, str]]) -> None:
    truth, guess = (objects(*column) for column in zip(*rows, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of labels that stand on one side only
        expected = SKLEARN[name](list(truth), list(guess))
    assert METRICS[name].score(truth, guess) == pytest.approx(expected, abs=1e-12)


def test_within_20_percent_counts_both_sides_and_the_edge() -> None:
    truth = np.array([100.0, 100.0, 100.0, 100.0, -10.0, 0.0])
    guess = np.array([120.0, 80.0, 121.0, 79.0, -9.0, 0.0])
    assert METRICS["within_20_percent"].score(truth, guess) == pytest.approx(4 / 6)


def test_scores_that_are_not_defined_are_nan() -> None:
    five = np.full(4, 5.1)
    assert np.isnan(METRICS["r2"].score(five, np.arange(4.0)))
    assert np.isnan(METRICS["root_mean_squared_log_error"].score(np.array([-1.0, 2.0]), np.array([1.0, 2.0])))
    for metric in METRICS.values():
        assert np.isnan(metric.score(np.array([]), np.array([])))


def test_a_guess_below_zero_counts_as_zero_in_the_log_error() -> None:
    score = METRICS["root_mean_squared_log_error"].score
    assert (
        score(np.array([3.0]), np.array([-50.0])) == score(np.array([3.0]), np.array([0.0])) == pytest.approx(np.log(4))
    )


def test_r2_keeps_its_digits_far_from_zero() -> None:
    truth = 1e8 + np.arange(50.0)
    guess = truth + np.tile([0.5, -0.5], 25)
    assert METRICS["r2"].score(truth, guess) == pytest.approx(sk.r2_score(truth, guess), rel=1e-6)


TEXT = st.text(alphabet="abcdé ABC,.'日本 12", max_size=60)


@given(truth=TEXT, guess=TEXT)
def test_chrf_equals_sacrebleu(truth: str, guess: str) -> None:
    if not truth.split() and not guess.split():
        assert text_metrics.chrf(truth, guess) == 1.0
    else:
        assert text_metrics.chrf(truth, guess) == pytest.approx(
            CHRF().sentence_score(guess, [truth]).score / 100, abs=1e-9
        )


ASCII = st.lists(st.sampled_from(["a", "b", "the ", "an", "B", "7", " ", " ", *string.punctuation]), max_size=40).map(
    "".join
)


@given(truth=ASCII, guess=ASCII)
def test_rouge_l_equals_rouge_score(truth: str, guess: str) -> None:
    if words(truth) or words(guess):
        assert text_metrics.rouge_l(truth, guess) == pytest.approx(
            RougeScorer(["rougeL"]).score(truth, guess)["rougeL"].fmeasure
        )


class _Characters:
    """A tokenizer for rouge-score, whose own drops Japanese."""

    def tokenize(self, text: str) -> list[str]:
        return [char for char in text if char.isalnum()]


JAPANESE = st.text("日本の東京は雨だ。、「」ー", max_size=40)


@given(truth=JAPANESE, guess=JAPANESE)
def test_rouge_l_of_japanese_equals_rouge_score_by_character(truth: str, guess: str) -> None:
    if words(truth) or words(guess):
        assert text_metrics.rouge_l(truth, guess) == pytest.approx(
            RougeScorer(["rougeL"], tokenizer=_Characters()).score(truth, guess)["rougeL"].fmeasure
        )


def squad_tokens(text: str) -> list[str]:
    """What SQuAD's evaluation makes of an answer: lower case, no punctuation, no articles, split at white space."""
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


@given(truth=ASCII, guess=ASCII)
def test_exact_match_and_token_f1_equal_squads(truth: str, guess: str) -> None:
    expected, given = squad_tokens(truth), squad_tokens(guess)
    common = sum((Counter(expected) & Counter(given)).values())
    f1 = 2 * common / (len(expected) + len(given)) if expected and given else float(expected == given)
    assert text_metrics.exact_match(truth, guess) == float(expected == given)
    assert text_metrics.token_f1(truth, guess) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("truth", "guess", "exact", "f1"),
    [
        ("Denver Broncos", "the Denver Broncos!", 1, 1),
        ("Denver Broncos", "Broncos of Denver", 0, 0.8),
        ("don't", "dont", 1, 1),
        ("$5.00", "5.00", 1, 1),
        ("a < b", "b", 1, 1),
        ("x^2 + y", "x2 y", 1, 1),
        ("A|B", "a b", 0, 0),
        ("東京。", "東京", 1, 1),
        ("€5", "5", 0, 0),
        ("東京都", "東京", 0, 0.8),
        ("１２３", "123", 1, 1),
        ("", "", 1, 1),
        ("yes", "", 0, 0),
        ("Straße", "STRASSE", 1, 1),
    ],
)
def test_exact_match_and_token_f1_on_known_answers(truth: str, guess: str, exact: float, f1: float) -> None:
    assert text_metrics.exact_match(truth, guess) == exact
    assert text_metrics.token_f1(truth, guess) == pytest.approx(f1)


def test_words_are_split_where_a_script_has_no_spaces() -> None:
    assert text_metrics.words("Tokyo東京は 第3 ไทย, don't") == ["tokyo", *"東京は第3ไทย", "don", "t"]
    assert text_metrics.rouge_l("東京は今日雨です", "東京は明日雨です") == pytest.approx(7 / 8)


@given(first=st.lists(st.integers(0, 4), max_size=12), second=st.lists(st.integers(0, 4), max_size=12))
def test_longest_common_subsequence_equals_the_textbook_table(first: list[int], second: list[int]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    assert text_metrics.longest_common_subsequence(first, second) == table[-1, -1]


@given(truth=st.text(max_size=30), guess=st.text(max_size=30))
def test_text_metrics_lie_between_0_and_1_and_are_1_for_the_same_text(truth: str, guess: str) -> None:
    for metric in METRICS.values():
        if metric.kind == "text":
            assert 0 <= metric.score(objects(truth), objects(guess)) <= 1 + 1e-12
            assert metric.score(objects(truth), objects(truth)) == pytest.approx(1)


def test_row_loss_is_the_error_of_each_row() -> None:
    number, label, text = (default_metric(kind) for kind in KINDS)
    assert METRICS["r2"].row_loss(np.array([1.0, 5.0]), np.array([4.0, 5.0])).tolist() == [3, 0]
    assert number.row_loss(np.array([1.0, 5.0]), np.array([4.0, 5.0])).tolist() == [3, 0]
    assert METRICS["macro_f1"].row_loss(objects("a", "b"), objects("a", "a")).tolist() == [0, 1]
    assert label.row_loss(objects("a", "b"), objects("a", "a")).tolist() == [0, 1]
    assert text.row_loss(objects("red car", "x"), objects("red bus", "x")).tolist() == [0.5, 0]


def test_every_metric_is_found_by_its_name_and_kind() -> None:
    for name, metric in METRICS.items():
        assert metric_for(name, metric.kind) is metric
    assert metric_for(None, "text").name == "token_f1"
    assert metric_for("MAE", "number").name == "mean_absolute_error"
    assert metric_for("f1", "label").name == "macro_f1"
    assert metric_for("f1", "text").name == "token_f1"
    assert metric_for("mean absolute-error", "number").name == "mean_absolute_error"


@pytest.mark.parametrize(
    ("name", "kind"), [("accuracy", "number"), ("mae", "label"), ("acuracy", "label"), ("", "text")]
)
def test_an_unknown_metric_or_one_of_another_kind_is_a_task_error(name: str, kind: Kind) -> None:
    with pytest.raises(TaskError, match=f"no metric for kind '{kind}' '{name}'"):
        metric_for(name, kind)


def test_second_metrics_leave_the_main_one_out() -> None:
    assert [metric.name for metric in second_metrics("number", METRICS["mean_absolute_error"])] == [
        "median_absolute_error",
        "root_mean_squared_log_error",
        "r2",
        "within_20_percent",
    ]
    for kind in KINDS:
        main = default_metric(kind)
        assert main not in second_metrics(kind, main)
        assert len(second_metrics(kind, main)) >= 3
