"""The prompted model, on models that answer by script."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.base import clone

from kurabe.contestants.base import Answering, Prediction
from kurabe.contestants.open_models import OpenModels
from kurabe.contestants.prompted.examples import decimals_of, spread, write_number
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.prompted.wording import default_prompt
from kurabe.errors import BudgetExceededError, ContestantError, InputError, TaskError
from kurabe.messages import Message, Request
from kurabe.models.hosted.transport.budget import Budget
from kurabe.tasks.spec import Prompt as TaskPrompt
from kurabe.testing import EchoModel, ScriptedModel, Simulator

WORDS = ["red wool coat", "blue silk dress", "oak table", "pine table", "steel knife", "silver fork"]
X = pl.DataFrame({"title": WORDS, "input": WORDS})
Y = np.array([80.0, 120.5, 300.0, 150.0, 25.0, 60.0])
LABELS = np.array(["clothes", "clothes", "furniture", "furniture", "kitchen", "kitchen"], dtype=object)
TASK = TaskPrompt(system="You estimate prices.", user="What does it cost?\n{{ input }}", prefill="Price is $")


def prompt(model: Any, **settings: Any) -> Prompt:
    return Prompt(model=model, **{"kind": "number", "prompt": TASK, "target": "price", **settings})


def test_zero_shot_sends_the_tasks_prompt_and_reads_the_answer() -> None:
    model = ScriptedModel(["45.00 or so"])
    fitted = prompt(model).fit(X, Y)
    assert model.calls == 0
    assert fitted.predict(X[:1]).tolist() == [45.0]
    (request,) = model.requests
    assert request.messages == (
        Message("system", "You estimate prices."),
        Message("user", "What does it cost?\nred wool coat"),
    )
    assert (request.prefill, request.stop, request.grammar) == ("Price is $", ("\n",), None)


def test_a_thought_that_the_prefill_opens_may_have_several_lines() -> None:
    model = ScriptedModel(["Wool is dear.\n</think>\n45"])
    assert prompt(model, prefill="<think>\n").fit(X, Y).predict(X[:1]).tolist() == [45.0]
    assert model.requests[0].stop == ()


def test_settings_of_its_own_go_before_the_tasks_prompt() -> None:
    model = ScriptedModel(["1"])
    prompt(model, system="", user="{{ title }}?", prefill="", max_tokens=7).fit(X, Y).predict(X[:1])
    (request,) = model.requests
    assert request.messages == (Message("user", "red wool coat?"),)
    assert (request.prefill, request.max_tokens, request.stop) == ("", 7, ())


def test_fixed_examples_are_the_same_first_turns_for_every_row() -> None:
    model = ScriptedModel(["1"])
    prompt(model, examples=3).fit(X, Y).predict(X)
    heads = {request.messages[:-1] for request in model.requests}
    (head,) = heads
    assert [message.role for message in head] == ["system"] + ["user", "assistant"] * 3
    shown = {message.content for message in head if message.role == "assistant"}
    assert shown <= {f"Price is ${value:.2f}" for value in Y}
    assert [request.messages[-1].text.splitlines()[1] for request in model.requests] == WORDS


def test_fixed_examples_cover_the_target_and_follow_the_seed() -> None:
    y = np.arange(100.0)
    for seed in range(5):
        chosen = spread(y, "number", 4, seed)
        assert sorted(int(y[row] // 25) for row in chosen) == [0, 1, 2, 3]
    assert spread(y, "number", 4, 1) == spread(y, "number", 4, 1)
    assert len({tuple(spread(y, "number", 4, seed)) for seed in range(9)}) > 1
    assert sorted(LABELS[row] for row in spread(LABELS, "label", 3, 0)) == ["clothes", "furniture", "kitchen"]
    assert sorted(spread(LABELS, "label", 50, 0)) == list(range(6))
    assert len(set(spread(LABELS, "text", 4, 0))) == 4


def test_nearest_examples_stand_nearest_last() -> None:
    model = ScriptedModel(["1"])
    prompt(model, examples=2, choose="nearest").fit(X, Y)
    fitted = prompt(model, examples=2, choose="nearest").fit(X, Y)
    fitted.predict(pl.DataFrame({"title": ["a"], "input": ["a pine table"]}))
    turns = [message.content for message in model.requests[0].messages]
    assert turns[1:5] == [
        "What does it cost?\noak table", "Price is $300.00", "What does it cost?\npine table", "Price is $150.00",
    ]  # fmt: skip


def test_written_examples() -> None:
    model = ScriptedModel(["1"])
    prompt(model, examples=[{"input": "a cup", "output": 3.5}]).fit(X, Y).predict(X[:1])
    turns = [message.content for message in model.requests[0].messages]
    assert turns[1:3] == ["What does it cost?\na cup", "Price is $3.50"]
    task = TaskPrompt(user="{{ title }}: {{ input }}", examples=({"input": "a cup: cup", "output": "3"},))  # type: ignore[arg-type]
    model = ScriptedModel(["1"])
    prompt(model, prompt=task).fit(X, Y).predict(X[:1])
    assert [message.content for message in model.requests[0].messages][1:3] == ["a cup: cup", "3"]


def test_labels_are_listed_and_read() -> None:
    model = ScriptedModel(lambda request: "**Furniture**" if "table" in request.messages[-1].content else "no idea")
    fitted = prompt(model, kind="label", prompt=None, target="category").fit(X, LABELS)
    assert fitted.predict(X[2:5]).tolist() == ["furniture", "furniture", "clothes"]
    assert "clothes, furniture, kitchen" in model.requests[0].messages[0].content


def test_text_is_taken_as_it_is() -> None:
    model = EchoModel()
    fitted = prompt(model, kind="text", prompt=None, target="answer").fit(X, LABELS)
    assert fitted.predict(X[:1]).tolist() == ["red wool coat"]


def test_constrained_answers_carry_a_grammar() -> None:
    numbers, labels = ScriptedModel(["1"]), ScriptedModel(["kitchen"])
    prompt(numbers, decode="grammar").fit(X, Y).predict(X[:1])
    prompt(labels, decode="grammar", kind="label").fit(X, LABELS).predict(X[:1])
    assert (grammar := numbers.requests[0].grammar) is not None
    assert "[0-9]" in grammar
    assert (grammar := labels.requests[0].grammar) is not None
    assert '"furniture"' in grammar


def test_auto_holds_models_in_this_process_to_numbers_unless_some_are_negative(byte_model: Any) -> None:
    model = byte_model(["1"])
    prompt(model).fit(X, Y).predict(X[:1])
    prompt(model).fit(X, Y - 100).predict(X[:1])
    assert [request.grammar is None for request in model.requests] == [False, True]
    assert [Prompt(m, kind="number").fit(X, Y).decode_ for m in ("gguf:m", "hf:m", "openai:m")] == [
        "grammar", "grammar", "free",
    ]  # fmt: skip
    labels = np.array(["", "a"] * 3, dtype=object)
    assert [Prompt("hf:m").fit(X, y).decode_ for y in (LABELS, labels)] == ["score", "free"]
    assert Prompt("hf:m", kind="text").fit(X, LABELS).decode_ == "free"


def test_an_unread_answer_is_none_and_predict_gives_the_median() -> None:
    model = ScriptedModel(["I cannot determine that.", "12"], usd=0.25)
    fitted = prompt(model).fit(X, Y)
    first, second = fitted.iter_predict(X[:2])
    assert (first.value, first.raw, first.usd) == (None, "I cannot determine that.", 0.25)
    assert second.value == 12.0
    assert prompt(ScriptedModel(["?"])).fit(X, Y).predict(X[:2]).tolist() == [100.25, 100.25]


def test_requests_are_made_as_they_are_needed() -> None:
    model = ScriptedModel(["1"])
    big = pl.DataFrame({"title": WORDS * 100, "input": WORDS * 100})
    answers = prompt(model).fit(X, Y).iter_predict(big)
    next(answers)
    assert model.calls == 1


class SmallModel(ScriptedModel):
    context = 300

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def test_a_prompt_too_long_for_the_context_is_cut() -> None:
    model = SmallModel(["1"])
    long = pl.DataFrame({"title": [""], "input": ["word " * 2000]})
    assert prompt(model, examples=3, max_input_chars=8000).fit(X, Y).predict(long).tolist() == [1.0]
    sent = " ".join(message.text for message in model.requests[0].messages)
    assert 50 < len(sent.split()) < 300


@pytest.mark.parametrize("choose", ["fixed", "nearest"])
def test_clone_refit_and_saving_without_pickle_keep_the_predictions(choose: str) -> None:
    def answer(request: Request) -> str:
        return str(sum(len(message.content) for message in request.messages))

    model = ScriptedModel(answer)
    fitted = prompt(model, examples=2, choose=choose, random_state=3).fit(X, Y)
    expected = fitted.predict(X)
    assert len(set(expected)) > 1
    copy = clone(fitted)
    assert not hasattr(copy, "fallback_")
    copy.model = model
    np.testing.assert_array_equal(copy.fit(X[:4], Y[:4]).fit(X, Y).predict(X), expected)
    data = skops.io.dumps(fitted)
    loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    assert (loaded.model, loaded.prompt) == ("test:scripted", TASK)
    loaded.model = model
    np.testing.assert_array_equal(loaded.predict(X), expected)


@pytest.mark.parametrize("settings", [{}, {"examples": 2}, {"examples": 2, "choose": "nearest"}])
def test_rows_of_every_kind(settings: dict[str, Any]) -> None:
    model = ScriptedModel(["7"])
    fitted = prompt(model, **settings).fit(X, Y)
    assert fitted.predict(X[:0]).shape == (0,)
    odd = ["", None, "🙂🙃", "a\x00b", "x" * 1_000_000, "\ud83d".encode("utf-8", "replace").decode()]
    table = pl.DataFrame({"title": odd, "input": odd, "unseen": [1] * 6})
    assert fitted.predict(table).tolist() == [7.0] * 6
    assert max(len(m.content) for r in model.requests for m in r.messages) < 3000
    assert not any("\x00" in m.content or "None" in m.content for r in model.requests for m in r.messages)
    assert fitted.predict(table.to_pandas()).tolist() == [7.0] * 6
    one = prompt(ScriptedModel(["7"]), **settings).fit(X[:1], Y[:1])
    assert one.predict(X).tolist() == [7.0] * 6
    wordless = pl.DataFrame({"title": ["", ""], "input": ["", ""]})
    assert prompt(ScriptedModel(["7"]), **settings).fit(wordless, Y[:2]).predict(wordless).tolist() == [7.0, 7.0]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"choose": "nearst"}, ContestantError, "did you mean 'nearest'"),
        ({"examples": -1}, ContestantError, "0 or more"),
        ({"examples": [{"inputs": "x"}]}, ContestantError, "input"),
        ({"decode": "fre"}, ContestantError, "did you mean 'free'"),
        ({"max_tokens": 0}, ContestantError, "1 or more"),
        ({"user": "{{ input"}, TaskError, "line 1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        prompt(ScriptedModel(["1"]), **settings).fit(X, Y)


def test_a_table_without_the_templates_column() -> None:
    fitted = prompt(ScriptedModel(["1"]), user="{{ title }}").fit(X, Y)
    with pytest.raises(ContestantError, match="no column 'title'"):
        fitted.predict(X.select("input"))
    with pytest.raises(ContestantError, match="no column 'title'"):
        fitted.predict_by(ScriptedModel(["1"]), X.select("input"))


def test_skipped_where_the_model_cannot_be_asked() -> None:
    assert Prompt(model=ScriptedModel(["1"])).skipped_reason() is None
    reason = Prompt(model="gguf:/no/such/file.gguf").skipped_reason()
    assert reason is not None
    assert "/no/such/file.gguf" in reason


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedModel]:
    models: list[ScriptedModel] = []

    def open_model(reference: str) -> ScriptedModel:
        models.append(ScriptedModel(["5"]))
        return models[-1]

    monkeypatch.setattr("kurabe.models.open_model", open_model)
    return models


def answered(estimator: Prompt, models: OpenModels) -> list[Prediction]:
    context = Answering("number", range(len(X)), None, lambda: False, models)
    return [answer for batch in estimator.answer(X, context) for answer in batch]


def test_contestants_of_a_contest_share_one_open_model(opened: list[ScriptedModel]) -> None:
    one = prompt("gguf:a.gguf", decode="free").fit(X, Y)
    assert not opened  # fitting loads nothing
    with OpenModels() as models:
        assert len(answered(one, models)) == len(X)
        answered(prompt("gguf:a.gguf", decode="free", examples=1).fit(X, Y), models)
        assert len(opened) == 1
        answered(prompt("gguf:b.gguf", decode="free").fit(X, Y), models)
        assert [model.closed for model in opened] == [True, False]  # one in memory at a time
        answered(prompt("openai:m", decode="free").fit(X, Y), models)
        assert not opened[1].closed
        one.close()
        assert not opened[1].closed  # it is another contestant's
    assert all(model.closed for model in opened)


def test_outside_of_a_contest_a_model_goes_with_its_contestant(opened: list[ScriptedModel]) -> None:
    one, other = (prompt("gguf:a.gguf", decode="free").fit(X, Y) for _ in range(2))
    one.predict(X)
    one.predict(X)
    other.predict(X)
    assert len(opened) == 2
    one.close()
    assert [model.closed for model in opened] == [True, False]
    del other
    gc.collect()
    assert opened[1].closed
    assert one.predict(X).tolist() == [5.0] * len(X)  # it is opened again


def test_how_answers_are_written() -> None:
    assert [decimals_of(np.array(y)) for y in ([1.0, 2.0], [1.5, 2.25], [0.1234])] == [0, 2, None]
    assert [write_number(7.0, 0), write_number(1.5, 2), write_number(0.12345678, None)] == ["7", "1.50", "0.123457"]


def test_a_default_prompt_names_the_target_as_it_is() -> None:
    _, user, _ = default_prompt("number", "price {{ x }}", [])
    fitted = prompt(ScriptedModel(["1"]), prompt=None, target="price {{ x }}").fit(X, Y)
    assert fitted.predict(X[:1]).tolist() == [1.0]
    assert "input" in user


def test_the_grammar_has_room_for_ten_times_the_largest_answer() -> None:
    model = ScriptedModel(["1"])
    prompt(model, decode="grammar").fit(X, Y).predict(X[:1])
    assert "[0-9]{1,4})" in (model.requests[0].grammar or "")


@pytest.mark.parametrize(
    "options",
    [{"base_url": "https://me:planted@h/v1"}, {"base_url": "https://h/v1?key=planted"}, {"attempts": "planted"}],
)
def test_options_that_may_hold_a_secret_are_refused_before_anything_is_kept(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        prompt("openai:m", options=options).fit(X, Y)
    assert "planted" not in str(caught.value)


def test_a_model_that_is_open_already_keeps_to_the_budget_of_a_contest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with Simulator("openai", answer="7") as server:
        fitted = prompt("openai:m", options={"base_url": server.url, "price": {"input": 1, "output": 1}}).fit(X, Y)
        assert fitted.predict(X[:1]).tolist() == [7.0]
        with OpenModels(Budget(1e-9)) as models, pytest.raises(BudgetExceededError):
            answered(fitted, models)
        fitted.close()
        assert server.calls == 1


def test_a_long_beginning_that_all_rows_share_is_marked_for_the_provider_s_cache() -> None:
    long = TaskPrompt(system="You estimate prices. " * 300, user="What does it cost?\n{{ input }}")
    for settings, marked in (
        ({"prompt": long}, 0),  # the system turn
        ({"prompt": long, "examples": 2}, 4),  # the last answer shown
        ({"prompt": long, "examples": 2, "choose": "nearest"}, 0),
        ({"prompt": TASK}, None),
    ):
        model = ScriptedModel(["45"])
        fitted = prompt(model, **settings).fit(X, Y)
        list(fitted.iter_predict(X))
        for request in model.requests:
            assert [i for i, turn in enumerate(request.messages) if turn.cache] == ([] if marked is None else [marked])
        list(fitted.iter_predict(X[:1]))  # one row shares nothing
        assert not any(turn.cache for turn in model.requests[-1].messages)


def test_the_mark_changes_nobody_s_key(tmp_path: Path) -> None:
    from kurabe.testing import Simulator

    long = TaskPrompt(system="You estimate prices. " * 300, user="What does it cost?\n{{ input }}")
    with Simulator("anthropic", answer="45") as server, server.open("claude-sonnet-5-5", cache=tmp_path / "r") as model:
        fitted = prompt(model, prompt=long).fit(X, Y)
        list(fitted.iter_predict(X))
        assert all(b"cache_control" in call.body for call in server.requests)
        calls = server.calls
        for row in range(X.height):  # each by itself goes without the mark, and is not asked for again
            list(fitted.iter_predict(X[row : row + 1]))
        assert server.calls == calls
