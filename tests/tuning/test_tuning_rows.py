"""Training rows: what is learned of a conversation, and the order of the steps."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import TuningError
from kurabe.messages import Request, System, User
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.reference import Reference
from kurabe.testing.tiny import NO_SYSTEM_TEMPLATE, tiny_model
from kurabe.tuning.rows import Row, plan, training_row
from kurabe.tuning.settings import TuneSettings, learning_rate


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transformers]:
    with opened(tiny_model(tmp_path_factory.mktemp("rows") / "chat")) as model:
        yield model


def opened(folder: Path) -> Transformers:
    return Transformers(folder, Reference("hf", str(folder)))


def text_of(model: Transformers, ids: Sequence[int]) -> str:
    return "".join(model.name_of(token) for token in ids)


def test_the_answer_and_the_end_of_the_turn_are_learned(chat: Transformers) -> None:
    row = training_row(chat, Request((System("Prices."), User("a kettle")), prefill="$"), "34.99", 100)
    prompt = "<|im_start|>system\nPrices.<|im_end|>\n<|im_start|>user\na kettle<|im_end|>\n<|im_start|>assistant\n$"
    assert text_of(chat, row.ids[: row.answer]) == prompt
    assert text_of(chat, row.ids[row.answer :]) == "34.99<|im_end|>"


def test_a_base_model_ends_with_its_own_token(tmp_path: Path) -> None:
    with opened(tiny_model(tmp_path, template=None)) as model:
        row = training_row(model, Request((User("a kettle"),)), "34.99", 100)
        assert text_of(model, row.ids[row.answer :]) == "34.99<|endoftext|>"


def test_what_stands_before_every_text_stands_there_once(tmp_path: Path) -> None:
    with opened(tiny_model(tmp_path, template=NO_SYSTEM_TEMPLATE, bos=True)) as model:
        row = training_row(model, Request((System("Prices."), User("a kettle"))), "34.99", 100)
        assert row.ids[0] == 1
        assert row.ids.count(1) == 1
        assert text_of(model, row.ids[row.answer :]) == "34.99<|im_end|>"


@pytest.mark.parametrize(("answer", "context", "says"), [(" ", 100, "empty"), ("34.99", 10, "at most 10")])
def test_rows_that_cannot_be_learned(chat: Transformers, answer: str, context: int, says: str) -> None:
    with pytest.raises(TuningError, match=says):
        training_row(chat, Request((User("a kettle"),)), answer, context)


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
    assert len(seen) == (whole + round(len(rows) * (epochs % 1)) or 1)
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
