"""Training rows: what is learned of a conversation, and the order of the steps."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from kurabe.errors import TuningError
from kurabe.messages import System, User
from kurabe.testing.tiny import NO_SYSTEM_TEMPLATE, tiny_model
from kurabe.tuning.rows import Row, plan, tokenize_row
from kurabe.tuning.settings import TuneSettings, learning_rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("rows") / "chat")


def test_the_answer_and_the_end_of_the_turn_are_learned(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = tokenize_row(tokenizer, [System("Prices."), User("a kettle")], "$", "34.99", 100)
    prompt = "<|im_start|>system\nPrices.<|im_end|>\n<|im_start|>user\na kettle<|im_end|>\n<|im_start|>assistant\n$"
    assert tokenizer.decode(row.ids[: row.answer]) == prompt
    assert tokenizer.decode(row.ids[row.answer :]) == "34.99<|im_end|>"


def test_a_base_model_ends_with_its_own_token(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path, template=None))
    row = tokenize_row(tokenizer, [User("a kettle")], "", "34.99", 100)
    assert tokenizer.decode(row.ids) == "a kettle\n\n34.99<|endoftext|>"


def test_what_the_template_puts_before_a_text_stands_there_once(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path, template=NO_SYSTEM_TEMPLATE, bos=True))
    row = tokenize_row(tokenizer, [User("a kettle")], "", "34.99", 100)
    assert row.ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(("answer", "context", "says"), [(" ", 100, "empty"), ("34.99", 10, "at most 10")])
def test_rows_that_cannot_be_learned(folder: Path, answer: str, context: int, says: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(TuningError, match=says):
        tokenize_row(tokenizer, [User("a kettle")], "", answer, context)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from([0.5, 1.0, 2.0, 2.5]),
    st.integers(0, 3),
)
def test_every_epoch_sees_each_row_once(
    lengths: list[int], step_tokens: int, micro_tokens: int, epochs: float, seed: int
) -> None:
    rows = [Row(tuple(range(length)), 0) for length in lengths]
    steps = plan(rows, step_tokens=step_tokens, micro_tokens=micro_tokens, epochs=epochs, seed=seed)
    seen = [row for step in steps for batch in step for row in batch]
    whole = math.floor(epochs) * len(rows)
    for start in range(0, whole, len(rows)):
        assert sorted(seen[start : start + len(rows)]) == list(range(len(rows)))
    assert len(seen) == whole + round(len(rows) * (epochs % 1))
    for step in steps:
        for batch in step:
            assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= micro_tokens
        last = step[-1][-1]
        tokens = sum(lengths[row] for batch in step for row in batch)
        assert tokens < step_tokens + max(lengths) or tokens - lengths[last] < step_tokens
    assert steps == plan(rows, step_tokens=step_tokens, micro_tokens=micro_tokens, epochs=epochs, seed=seed)


def test_the_learning_rate_rises_and_falls() -> None:
    settings = TuneSettings(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001
