"""What a model can do besides the task it is tuned for, on a fixed set of rows, to see what tuning makes it forget.

The rows of `general.jsonl` were made for this: questions with checkable answers, arithmetic, following a format, the
prompt of another task, and plain texts whose perplexity is taken.
"""

import math
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from kurabe.messages import Request, User
from kurabe.models.engines.base import LocalModel

Part = Literal["question", "arithmetic", "format", "task", "text"]
MOST_TOKENS: Final = 48
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class GeneralRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row. An answer is right where it holds one of `accept` as a word and none of `reject`, or where `match` fits
    all of it. `text`: a plain text that is only read."""

    kind: Part
    ask: str = ""
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    match: str = ""
    text: str = ""

    def right(self, answer: str) -> bool:
        """Whether the answer is right."""
        if self.match:
            return re.fullmatch(self.match, answer.strip()) is not None
        return any(_says(answer, word) for word in self.accept) and not any(_says(answer, word) for word in self.reject)


class General(msgspec.Struct, frozen=True):
    """What a model made of the general rows: `right` for each that asks something, `nats` for each plain text: the mean
    of its tokens' negative log-probabilities; none of a model that only chats."""

    right: tuple[bool, ...]
    nats: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        """The share of right answers."""
        return sum(self.right) / len(self.right)

    @property
    def perplexity(self) -> float | None:
        """e to the mean of `nats` (Jelinek et al. 1977), None without any."""
        return math.exp(sum(self.nats) / len(self.nats)) if self.nats else None


@cache
def general_rows() -> tuple[GeneralRow, ...]:
    """The fixed set, always in the same order."""
    lines = files("kurabe.tuning").joinpath("general.jsonl").read_bytes().splitlines()
    return tuple(msgspec.json.decode(line, type=GeneralRow) for line in lines)


def questions() -> list[GeneralRow]:
    """The rows that ask something."""
    return [row for row in general_rows() if row.kind != "text"]


def request_of(row: GeneralRow) -> Request:
    """What a model is asked, greedily."""
    return Request((User(row.ask),), max_tokens=MOST_TOKENS, temperature=0.0)


def general(model: LocalModel) -> General:
    """Ask the model every row greedily, and read every text."""
    asked = questions()
    answers = {index: reply.text for index, reply in model.chat_many(map(request_of, asked))}
    right = tuple(row.right(answers[index]) for index, row in enumerate(asked))
    nats = tuple(text_nats(model, row.text) for row in general_rows() if row.kind == "text")
    return General(right, nats)


def text_nats(model: LocalModel, text: str) -> float:
    """The mean negative natural log-probability of the text's tokens but the first, each behind those before it."""
    ids: Sequence[int] = [piece.id for piece in model.tokenize(text)]
    logits = model.logits(text).astype(np.float64)[:-1]
    logprobs = logits[np.arange(len(ids) - 1), ids[1:]] - np.logaddexp.reduce(logits, axis=1)
    return float(-logprobs.mean())


def _says(answer: str, word: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(word)}(?![\w]|\.\d)", answer, re.IGNORECASE) is not None
