"""Labels scored by their probabilities, and numbers by their expected value, as the prompted model's answer."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.base import clone

from kurabe.contestants import checks, open_models
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.prompted.wording import joint
from kurabe.contestants.score import shown
from kurabe.contestants.trained.blend import Blend
from kurabe.errors import ContestantError
from kurabe.messages import Reply, Request, TokenLogprob, Usage
from kurabe.testing import ScriptedModel

WORDS = ["red wool coat", "blue silk dress", "oak table", "pine table", "steel knife", "silver fork"]
X = pl.DataFrame({"title": WORDS, "input": WORDS})
LABELS = np.array(["clothes", "clothes", "furniture", "furniture", "kitchen", "kitchen"], dtype=object)
SORTED = ["clothes", "furniture", "kitchen"]


def labelled(model: Any, **settings: Any) -> Prompt:
    return Prompt(model=model, **{"kind": "label", "target": "category", **settings})


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(scores) / np.exp(scores).sum())


def last_turns(model: Any) -> list[str]:
    return [request.messages[-1].text.partition("\n")[0] for request in model.scored]


def test_a_local_model_scores_labels_and_writes_nothing(byte_model: Any) -> None:
    model = byte_model()
    fitted = labelled(model).fit(X, LABELS)
    answers = sorted(fitted.iter_predict(X), key=lambda answer: answer.row)
    assert model.calls == 0
    assert sorted(last_turns(model)) == sorted(WORDS)
    between = joint(fitted.prefill_)
    for answer, text in zip(answers, WORDS, strict=True):
        request = next(r for r in model.scored if r.messages[-1].text.startswith(text))
        probabilities = softmax(
            model.score(request.messages, [between + label for label in SORTED], prefill=request.prefill)
        )
        assert answer.value == SORTED[int(probabilities.argmax())]
        assert answer.raw == shown(SORTED, probabilities)
        assert answer.usd == 0.0


@pytest.mark.parametrize("decode", ["score", "likelihood"])
def test_probabilities_are_in_the_order_of_the_classes_and_agree_with_the_answers(byte_model: Any, decode: str) -> None:
    model = byte_model()
    fitted = labelled(model, decode=decode).fit(X[::-1], LABELS[::-1])
    assert fitted.classes_.tolist() == SORTED
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (6, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert fitted.predict(X).tolist() == fitted.classes_[probabilities.argmax(axis=1)].tolist()
    assert fitted.predict_proba(X[:0]).shape == (0, 3)
    between = joint(fitted.prefill_)
    request = next(r for r in model.scored if r.messages[-1].text.startswith(WORDS[1]))
    choices = [between + label for label in SORTED]
    scores = model.score(request.messages, choices, whole=decode == "likelihood", prefill=request.prefill)
    np.testing.assert_allclose(probabilities[1], softmax(scores))


def test_the_two_scores_differ_by_what_they_take_of_a_label(byte_model: Any) -> None:
    score = labelled(byte_model(), decode="score").fit(X, LABELS).predict_proba(X)
    likelihood = labelled(byte_model(), decode="likelihood").fit(X, LABELS).predict_proba(X)
    assert np.abs(score - likelihood).max() > 0.1


@pytest.mark.parametrize("choose", ["fixed", "nearest"])
def test_calibration_divides_by_the_probabilities_of_an_empty_input(byte_model: Any, choose: str) -> None:
    model = byte_model()
    plain = labelled(model, examples=2, choose=choose).fit(X, LABELS).predict_proba(X)
    asked = {r.messages[-1].text.partition("\n")[0]: r for r in model.scored}
    model.scored.clear()
    fitted = labelled(model, examples=2, choose=choose, calibrate=True).fit(X, LABELS)
    calibrated = fitted.predict_proba(X)
    empties = [r for r in model.scored if r.messages[-1].text.startswith("\n")]
    heads = {r.messages[:-1] for r in asked.values()}
    assert {r.messages[:-1] for r in empties} == heads  # each choice of examples once
    assert len(empties) == len(heads)
    assert (len(heads) == 1) == (choose == "fixed")
    between = joint(fitted.prefill_)
    for row, text in enumerate(WORDS):
        empty = next(r for r in empties if r.messages[:-1] == asked[text].messages[:-1])
        base = softmax(model.score(empty.messages, [between + label for label in SORTED], prefill=empty.prefill))
        divided = plain[row] / base
        np.testing.assert_allclose(calibrated[row], divided / divided.sum())


def test_labels_follow_the_prefill_as_examples_show_them(byte_model: Any) -> None:
    model = byte_model()
    labelled(model, prefill="Category:", examples=3).fit(X, LABELS).predict(X[:1])
    assistants = {m.text for m in model.scored[0].messages if m.role == "assistant"}
    assert assistants == {"Category: clothes", "Category: furniture", "Category: kitchen"}
    grammar = ScriptedModel(["kitchen"])
    labelled(grammar, prefill="Category:", decode="grammar").fit(X, LABELS).predict(X[:1])
    assert '" kitchen"' in (grammar.requests[0].grammar or "")
    assert [joint(text) for text in ("", "Category:", "Category: ", 'He said "', "$", "is", "(", "分類は")] == [
        "", " ", "", "", "", " ", "", "",
    ]  # fmt: skip


def test_one_label_is_certain_without_asking(byte_model: Any) -> None:
    model = byte_model()
    fitted = labelled(model).fit(X, np.full(6, "only", dtype=object))
    assert fitted.predict(X).tolist() == ["only"] * 6
    assert fitted.predict_proba(X).tolist() == [[1.0]] * 6
    assert not model.scored


def test_a_label_that_begins_another_one(byte_model: Any) -> None:
    labels = np.array(["art", "artist", "art", "artist", "car", "car"], dtype=object)
    probabilities = labelled(byte_model()).fit(X, labels).predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities > 0).all()


def test_a_prompt_too_long_for_the_context_is_an_unread_answer(byte_model: Any) -> None:
    long = pl.DataFrame({"title": [""] * 3, "input": ["oak table", "x" * 5000, "steel knife"]})
    fitted = labelled(byte_model(context=230), user="{{ input }}", system="", max_tokens=1)
    answers = {answer.row: answer for answer in fitted.fit(X, LABELS).iter_predict(long)}
    assert sorted(answers) == [0, 1, 2]
    assert answers[0].value in SORTED
    assert answers[1].value in SORTED  # cut until it fits
    tiny = labelled(byte_model(context=60), user="{{ input }}", system="", max_tokens=1).fit(X, LABELS)
    answers = {answer.row: answer for answer in tiny.iter_predict(long)}
    assert [answers[row].value is None for row in range(3)] == [False, True, False]
    assert (answers[1].raw, answers[1].usd) == ("", 0.0)
    skewed = np.array(["kitchen"] * 4 + ["clothes", "furniture"], dtype=object)
    tiny = labelled(byte_model(context=60), user="{{ input }}", system="", max_tokens=1).fit(X, skewed)
    np.testing.assert_allclose(tiny.predict_proba(long)[1], [1 / 6, 1 / 6, 4 / 6])
    assert tiny.predict(long)[1] == "kitchen"
    every = labelled(byte_model(context=20), system="", calibrate=True, max_tokens=1).fit(X, LABELS)
    assert [answer.value for answer in every.iter_predict(X)] == [None] * 6


def test_a_model_whose_numbers_overflow_gives_no_answer(byte_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = byte_model()
    monkeypatch.setattr(model, "logprobs", lambda ids: np.full(257, np.nan))
    assert [answer.value for answer in labelled(model).fit(X, LABELS).iter_predict(X[:2])] == [None, None]


def test_nothing_more_is_asked_after_a_stop(byte_model: Any) -> None:
    model = byte_model()
    fitted = labelled(model).fit(X, LABELS)
    batches = fitted.iter_batches(X, lambda: len(model.scored) >= 3, model)
    assert len([answer for batch in batches for answer in batch]) == 3
    assert len(model.scored) == 3


def test_rows_are_drawn_as_they_are_scored(byte_model: Any) -> None:
    model = byte_model()
    next(labelled(model).fit(X, LABELS).iter_predict(pl.concat([X] * 100)))
    assert len(model.scored) == 2  # this model answers pairs


def test_predict_proba_is_there_where_labels_are_scored(byte_model: Any) -> None:
    assert hasattr(Prompt("gguf:a.gguf", kind="label"), "predict_proba")
    assert hasattr(Prompt("hf:a", kind="label"), "predict_proba")
    assert not hasattr(Prompt("gguf:a.gguf", kind="number"), "predict_proba")
    assert not hasattr(Prompt("gguf:a.gguf", kind="label", decode="grammar"), "predict_proba")
    assert not hasattr(Prompt("openai:m", kind="label"), "predict_proba")
    assert not hasattr(Prompt(ScriptedModel(["1"])).fit(X, LABELS), "predict_proba")
    assert hasattr(Prompt(byte_model()).fit(X, LABELS), "predict_proba")
    assert not hasattr(Prompt(byte_model()).fit(X, np.arange(6.0)), "predict_proba")


def test_scored_labels_can_be_blended(byte_model: Any) -> None:
    table, y = checks.table("label")
    blend = Blend(members=["linear_features", labelled(byte_model())], kind="label").fit(table, y)
    probabilities = blend.predict_proba(table[:5])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_saved_and_loaded_it_gives_the_same(byte_model: Any) -> None:
    fitted = labelled(byte_model(), calibrate=True, examples=1).fit(X, LABELS)
    data = skops.io.dumps(fitted)
    loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    loaded.model = byte_model()
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert not hasattr(clone(loaded), "classes_")


@pytest.mark.parametrize(
    ("settings", "y", "says"),
    [
        ({"decode": "scores"}, LABELS, "did you mean 'score'"),
        ({"decode": "expected"}, LABELS, "kind label: .*decode.*'expected'"),
        ({"decode": "score", "kind": "number"}, np.arange(6.0), "kind number: .*'score'"),
        ({"decode": "grammar", "kind": "text"}, LABELS, "kind text: .*'grammar'"),
        ({"decode": "expected", "kind": "number"}, np.arange(6.0) - 1, "no number below 0"),
        ({"decode": "score"}, np.array(["", "a"] * 3, dtype=object), "no empty label"),
        ({"decode": "free", "calibrate": True}, LABELS, "calibrate is for labels that are scored"),
    ],
)
def test_settings_that_do_not_go_together(byte_model: Any, settings: dict[str, Any], y: np.ndarray, says: str) -> None:
    with pytest.raises(ContestantError, match=says):
        labelled(byte_model(), **settings).fit(X, y)


def test_only_a_model_in_this_process_can_score() -> None:
    fitted = labelled(ScriptedModel(["kitchen"]), decode="score").fit(X, LABELS)
    with pytest.raises(ContestantError, match=r"needs a local model, and 'test:scripted' is not one"):
        fitted.predict(X)


def test_what_a_person_reads_of_a_row() -> None:
    labels = ["a", "b", "c", "d"]
    assert shown(labels, np.array([0.826, 0.09, 0.08, 0.004])) == "a 83 %, b 9 %, c 8 %"
    assert shown(labels, np.array([0.25] * 4)) == "a 25 %, b 25 %, c 25 %"
    assert shown(["a", "b"], np.array([0.0004, 0.9996])) == "b 100 %, a <1 %"


class Digits(ScriptedModel):
    """Writes `19`, with what it might have written as well; `none` without it."""

    def _replied(self, request: Request) -> Reply:
        self.requests.append(request)
        one, nine, two = math.log(0.75), 0.0, math.log(0.25)
        logprobs = (TokenLogprob("1", one, (("1", one), ("2", two))), TokenLogprob("9", nine, (("9", nine),)))
        return Reply("19", "stop", Usage(1, 2), 0.0, 0.0, logprobs=logprobs)


def test_the_expected_value_of_a_number() -> None:
    model = Digits([""])
    fitted = Prompt(model, kind="number", decode="expected").fit(X, np.arange(6.0))
    (answer,) = fitted.iter_predict(X[:1])
    assert answer.value == pytest.approx(0.75 * 19 + 0.25 * 24.5)
    assert answer.raw == "19 written, 20.375 expected"
    (request,) = model.requests
    assert request.logprobs == 20
    assert request.grammar is not None


def test_the_expected_value_of_what_is_no_number(byte_model: Any) -> None:
    fitted = Prompt(ScriptedModel(["none"]), kind="number", decode="expected").fit(X, np.arange(6.0))
    (answer,) = fitted.iter_predict(X[:1])
    assert (answer.value, answer.raw) == (None, "none")


def test_numbers_of_a_model_that_reports_no_probabilities() -> None:
    fitted = Prompt(ScriptedModel(["19"]), kind="number", decode="expected").fit(X, np.arange(6.0))
    with pytest.raises(ContestantError, match="'test:scripted' gave no log-probabilities"):
        fitted.predict(X[:1])


CASES = [pytest.param(settings, check, id=f"{name}-{check.__name__}")
    for name, settings in {
        "score": {}, "likelihood": {"decode": "likelihood"}, "calibrated": {"calibrate": True, "examples": 2},
        "nearest": {"calibrate": True, "examples": 2, "choose": "nearest"},
    }.items() for check in checks.CHECKS]  # fmt: skip


@pytest.mark.parametrize(("settings", "check"), CASES)
def test_battery_of_scored_labels(
    settings: dict[str, Any], check: checks.Check, byte_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_models, "_opened", lambda reference, options, budget: byte_model())
    check(Prompt(kind="label", **settings), "label")


def test_the_labels_of_the_real_model(smollm2: Any) -> None:
    asked = labelled(f"gguf:{smollm2}?context=512").fit(X, LABELS)
    try:
        probabilities = asked.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert asked.predict(X).tolist() == asked.classes_[probabilities.argmax(axis=1)].tolist()
        written = labelled(f"gguf:{smollm2}?context=512", decode="grammar").fit(X, LABELS).predict(X)
        assert set(written) <= set(SORTED)
        number = Prompt(f"gguf:{smollm2}?context=512", kind="number", target="price", decode="expected")
        (answer,) = number.fit(X, np.array([80.0, 120.5, 300, 150, 25, 60])).iter_predict(X[:1])
        assert isinstance(answer.value, float)
        assert 0 < answer.value < 10_000
    finally:
        asked.close()
