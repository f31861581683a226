"""Training rows: conversations as tokens, and which steps of training see which rows. No torch here."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kurabe.errors import TuningError
from kurabe.messages import Request
from kurabe.models.engines.base import LocalModel


class Row(NamedTuple):
    """A conversation's tokens; from `answer` on they are the answer, which alone is learned.

    For a number head the tokens end with the prompt, whose last one counts as the answer; `target`, on the head's
    scale, is what is learned behind it.
    """

    ids: tuple[int, ...]
    answer: int
    target: float | None = None


def number_row(model: LocalModel, request: Request, target: float, context: int, where: str = "a row") -> Row:
    """A request's prompt as the model will read it, and the number that a head learns behind it.

    Raises TuningError, which names the row by `where`, where it is longer than `context` tokens.
    """
    ids = model.prompt_ids(request)
    _require_length(ids, context, model, where)
    return Row(tuple(ids), len(ids) - 1, target)


def training_row(model: LocalModel, request: Request, answer: str, context: int, where: str = "a row") -> Row:
    """A request's prompt as the model will read it, the answer, and the token that ends a turn.

    Raises TuningError, which names the row by `where`, where the answer is empty or all of it is longer than `context`
    tokens.
    """
    if not answer.strip():
        raise TuningError(f"{where} has an empty answer, so there is nothing to learn from it; leave the row out")
    before = model.prompt_ids(request)
    ids = model.prompt_ids(request, answer)
    if ids[: len(before)] != before:  # a token reaches over the border; each side is then cut by itself
        ids = before + [piece.id for piece in model.tokenize(answer, special=False)]
    ids = [*ids, model.end]
    _require_length(ids, context, model, where)
    return Row(tuple(ids), len(before))


def place(number: int, of: int) -> str:
    """What an error calls a row, by its number from 1.

    >>> place(14, 1440)
    'row 14 of 1,440'
    """
    return f"row {number:,} of {of:,}"


def _require_length(ids: Sequence[int], context: int, model: LocalModel, where: str) -> None:
    if len(ids) <= context:
        return
    if model.context is not None and model.context <= context:
        raise TuningError(
            f"{where} has {len(ids):,} tokens, and the context of {model.reference!r} is {context:,}: lower"
            " max_input_chars, leave the row out, or tune a model with a longer context"
        )
    raise TuningError(
        f"{where} has {len(ids):,} tokens, and the model is tuned with rows of at most {context:,}: lower"
        " max_input_chars or raise context"
    )


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
        share = round(len(rows) * min(1.0, epochs - epoch))
        order = order[: share if epoch else max(share, 1)]
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
