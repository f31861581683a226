"""The general rows: each can be answered rightly and wrongly."""

import re
from pathlib import Path

import numpy as np
import pytest

from kurabe.contest.forgetting import forgetting, sign_flips
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.reference import Reference
from kurabe.testing.tiny import tiny_model
from kurabe.tuning.general import GeneralRow, general_rows, text_nats

ASKED = [row for row in general_rows() if row.kind != "text"]


def test_the_rows_are_of_every_kind_and_none_stands_there_twice() -> None:
    assert {row.kind for row in general_rows()} == {"question", "arithmetic", "format", "task", "text"}
    assert len({row.ask or row.text for row in general_rows()}) == len(general_rows())


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.ask[:40])
def test_each_row_has_a_right_and_a_wrong_answer(row: GeneralRow) -> None:
    assert bool(row.match) != bool(row.accept)
    for word in row.accept:
        assert row.right(word)
        assert row.right(f"The answer is {word}.")
        assert not row.right(f"x{word}x")
    assert not row.right("")
    assert not row.right("I do not know it, sorry; ask somebody else about that!")
    if row.match:
        re.compile(row.match)
    else:
        assert not row.right(row.ask), "who repeats the question has answered it"
        assert not row.right("I am a helpful assistant, and I can help you with that.")


@pytest.mark.parametrize(
    ("ask", "right", "wrong"),
    [
        ("three fruits", "apple, pear, plum", "apple and pear"),
        ("JSON object", '{"name": "Ann"}', '{"name": "Bob"}'),
        ("JSON list", "[1, 2, 3]", "1, 2, 3"),
        ("two animals", "- cat\n- dog", "cat, dog"),
        ("two asterisks", "**TODAY**", "TODAY"),
        ("word goodbye", "It was nice. Goodbye!", "Goodbye, and see you soon"),
        ("word Sure", "Sure, hello!", "Hello, sure"),
        ("from 1 to 5", "1, 2, 3, 4, 5", "1 2 3 4 5"),
    ],
)
def test_formats(ask: str, right: str, wrong: str) -> None:
    (row,) = [row for row in ASKED if ask in row.ask]
    assert row.right(right)
    assert not row.right(wrong)


def test_a_number_is_not_a_part_of_another() -> None:
    row = GeneralRow("arithmetic", "What is 7 plus 5?", ("12",))
    assert row.right("12")
    assert row.right("7 plus 5 is 12.")
    assert not row.right("120")
    assert not row.right("12.5")
    assert not row.right("3.12")


def test_perplexity_is_that_of_transformers(tmp_path: Path) -> None:
    import torch

    with Transformers(tiny_model(tmp_path), Reference("hf", str(tmp_path))) as model:
        text = "The quick brown fox costs $34.99."
        ids = torch.tensor([[piece.id for piece in model.tokenize(text)]])
        with torch.no_grad():
            loss = model.loaded.model(input_ids=ids, labels=ids).loss
        assert text_nats(model, text) == pytest.approx(float(loss), abs=1e-4)


def test_the_paired_tests() -> None:
    before = {"right": [True] * 10 + [False] * 10, "nats": [1.0, 2.0, 3.0]}
    after = {"right": [False] * 9 + [True] + [False] * 10, "nats": [1.5, 2.5, 3.5]}
    found = forgetting({"general": {"before": before, "after": after}})
    assert found is not None
    assert (found.before, found.after, found.rows) == (0.5, 0.05, 20)
    assert found.p == pytest.approx(2 * 0.5**9)
    assert found.perplexity_before == pytest.approx(np.exp(2.0))
    assert found.perplexity_after == pytest.approx(np.exp(2.5))
    assert found.perplexity_p == 0.25
    assert forgetting({}) is None
    chatted = forgetting({"general": {"before": {"right": before["right"]}, "after": {"right": after["right"]}}})
    assert chatted is not None
    assert (chatted.p, chatted.rows) == (found.p, 20)
    assert (chatted.perplexity_before, chatted.perplexity_after, chatted.perplexity_p) == (None, None, None)
    assert sign_flips(np.zeros(4)) == 1.0
