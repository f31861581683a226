"""Training rows: conversations as tokens, and which steps of training see which rows. No torch here."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kurabe.errors import TuningError
from kurabe.messages import Message


class Row(NamedTuple):
    """A conversation's tokens; from `answer` on they are the answer, which alone is learned."""

    ids: tuple[int, ...]
    answer: int


def tokenize_row(tokenizer: Any, messages: Sequence[Message], prefill: str, answer: str, context: int) -> Row:
    """A conversation through the tokenizer's chat template, its answer and the token that ends the turn behind it.

    Raises TuningError where the answer is empty or all of it is longer than `context` tokens.
    """
    if not answer.strip():
        raise TuningError("an answer is empty, so there is nothing to learn from its row; leave the row out")
    prompt = _rendered(tokenizer, messages) + prefill
    before: list[int] = _ids(tokenizer, prompt)
    ids = _ids(tokenizer, prompt + answer)
    if ids[: len(before)] != before:  # a token reaches over the border; each side is then cut by itself
        ids = before + _ids(tokenizer, answer)
    ids = [*ids, _end(tokenizer, messages, prefill + answer)]
    if len(ids) > context:
        raise TuningError(
            f"a row has {len(ids):,} tokens, and the model is tuned with rows of at most {context:,}: lower"
            " max_input_chars or raise context"
        )
    return Row(tuple(ids), len(before))


def _rendered(tokenizer: Any, messages: Sequence[Message], answer: str | None = None) -> str:
    if tokenizer.chat_template is None:
        return "\n\n".join(message.text for message in messages) + "\n\n" + (answer or "")
    turns = [{"role": message.role, "content": message.text} for message in messages]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    rendered: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None)
    return rendered


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _end(tokenizer: Any, messages: Sequence[Message], answer: str) -> int:
    """The token that the template puts behind an answer; the tokenizer's own end of a text where it puts none."""
    whole = _rendered(tokenizer, messages, answer)
    behind = whole.rpartition(answer)[2]
    special = [token for token in _ids(tokenizer, behind) if token in tokenizer.all_special_ids]
    end: int = special[0] if special else tokenizer.eos_token_id
    return end


def plan(
    rows: Sequence[Row], *, step_tokens: int, micro_tokens: int, epochs: float, seed: int
) -> list[list[list[int]]]:
    """The steps of training, each a list of micro-batches, each a list of row numbers.

    A step takes rows until they have `step_tokens` tokens; a micro-batch holds rows of like length whose count times
    the longest is at most `micro_tokens`, one row at least. The order is drawn anew in every epoch and depends on
    nothing but the arguments, so that training goes on from any step.
    """
    lengths = [len(row.ids) for row in rows]
    steps: list[list[list[int]]] = []
    for epoch in range(math.ceil(epochs)):
        order = np.random.default_rng((seed, epoch)).permutation(len(rows))
        order = order[: round(len(rows) * min(1.0, epochs - epoch))]
        step: list[int] = []
        tokens = 0
        for row in order.tolist():
            step.append(row)
            tokens += lengths[row]
            if tokens >= step_tokens:
                steps.append(micro_batches(step, lengths, micro_tokens))
                step, tokens = [], 0
        if step:
            steps.append(micro_batches(step, lengths, micro_tokens))
    return steps


def micro_batches(step: Sequence[int], lengths: Sequence[int], micro_tokens: int) -> list[list[int]]:
    """The rows of a step in micro-batches, the longest rows first."""
    batches: list[list[int]] = []
    for row in sorted(step, key=lambda row: (-lengths[row], row)):
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and (len(batches[-1]) + 1) * longest <= micro_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
