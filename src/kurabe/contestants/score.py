"""Labels chosen by the probabilities that a model gives them, rather than by what it writes."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kurabe.messages import Message, Request
from kurabe.models.engines.base import LocalModel

TURN_TOKENS = 64
"""More than any chat template puts around a turn."""
SHOWN = 3
"""Labels that stand in what the journal keeps of a scored row."""


class Question(NamedTuple):
    """A row's request, and the same with an empty input where the scores are to be calibrated against it."""

    request: Request
    empty: Request | None = None


def score_rows(
    model: LocalModel, questions: Iterable[Question], choices: Sequence[str], *, whole: bool
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield (row, (choices,) probabilities that add up to 1) as they come, in any order; None for a prompt that does
    not fit the model's context. Questions are drawn lazily. `whole`: by the likelihood of the whole choice.

    Of a calibrated question the probabilities are p(choice | request) / p(choice | empty request), made to add up to 1:
    contextual calibration (Zhao et al. 2021, arXiv 2102.09690) with the diagonal matrix, in log space. Questions with
    the same empty request share its score.
    """
    answer = max(model.count_tokens(choice) for choice in choices) + 1
    sent: list[tuple[int | None, tuple[Message, ...] | None]] = []  # (row, key of its empty request) of each request
    too_long: deque[int] = deque()
    empties: dict[tuple[Message, ...], np.ndarray | None] = {}
    waiting: dict[tuple[Message, ...], list[tuple[int, np.ndarray]]] = {}

    def drawn() -> Iterator[Request]:
        for row, (request, empty) in enumerate(questions):
            if not _fits(model, request, answer):
                too_long.append(row)
                continue
            if empty is not None and empty.messages not in empties:
                empties[empty.messages] = None
                sent.append((None, empty.messages))
                yield empty
            sent.append((row, None if empty is None else empty.messages))
            yield request

    for index, scores in model.score_many(drawn(), choices, whole=whole):
        while too_long:
            yield too_long.popleft(), None
        row, key = sent[index]
        if key is None:
            assert row is not None
            yield row, _shares(scores)
        elif row is None:
            empties[key] = scores
            for other, before in waiting.pop(key, ()):
                yield other, _shares(before - scores)
        elif (base := empties[key]) is None:
            waiting.setdefault(key, []).append((row, scores))
        else:
            yield row, _shares(scores - base)
    for row in too_long:
        yield row, None


def shown(labels: Sequence[str], probabilities: np.ndarray) -> str:
    """What a person reads of a row's scores.

    >>> shown(["Books", "Garden", "Toys", "Other"], np.array([0.825, 0.09, 0.08, 0.005]))
    'Books 82 %, Garden 9 %, Toys 8 %'
    """
    likeliest = np.argsort(-probabilities, kind="stable")[:SHOWN]
    return ", ".join(f"{labels[one]} {_percent(float(probabilities[one]))}" for one in likeliest)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 or share == 0 else "<1 %"


def _shares(scores: np.ndarray) -> np.ndarray | None:
    """Natural log-scores as shares that add up to 1; None where a weight of the model overflowed to no number."""
    if np.isnan(scores).any() or not np.isfinite(scores.max()):
        return None
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum())


def _fits(model: LocalModel, request: Request, answer: int) -> bool:
    """Whether prompt and answer fit the model's context. A token is a byte or more, so short texts are not counted."""
    if model.context is None:
        return True
    room = model.context - answer
    text = "\n".join([*(message.text for message in request.messages), request.prefill])
    if len(text.encode("utf-8", "replace")) + TURN_TOKENS * (len(request.messages) + 1) <= room:
        return True
    return len(model.prompt_ids(request)) <= room
