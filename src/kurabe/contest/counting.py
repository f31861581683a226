"""How many tokens prompts and answers have: by the model's own tokenizer where its files are here, else about."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from kurabe.errors import KurabeError
from kurabe.lens.tokenizers import LEAST_CONTEXT
from kurabe.messages import Message, Request
from kurabe.models import open_model
from kurabe.models.conversation import estimate_tokens
from kurabe.models.cost import TURN_TOKENS
from kurabe.models.engines.base import LocalModel
from kurabe.models.files.local import located
from kurabe.models.reference import parse_reference, split_chain

LARGEST = 4 * 2**30
"""Bytes of a model's file, beyond which opening it for its tokenizer takes longer than a plan may."""


class Counter(NamedTuple):
    """`prompt` counts the tokens of a request's messages with a prefill, `text` those of a text; `exact`: as the model
    itself does."""

    prompt: Callable[[Sequence[Message], str], int]
    text: Callable[[str], int]
    exact: bool


def _about(messages: Sequence[Message], prefill: str) -> int:
    return sum(estimate_tokens(message.text) + TURN_TOKENS for message in messages) + estimate_tokens(prefill)


ABOUT = Counter(_about, estimate_tokens, False)


@contextmanager
def counter_of(estimator: Any) -> Iterator[Counter]:
    """The counter of a contestant's model. Fetches nothing, and evaluates nothing."""
    model = _opened(estimator)
    if model is None:
        yield ABOUT
        return
    with model:

        def prompt(messages: Sequence[Message], prefill: str) -> int:
            return len(model.prompt_ids(Request(tuple(messages)), prefill))

        yield Counter(prompt, model.count_tokens, True)


def _opened(estimator: Any) -> LocalModel | None:
    """The model, with the least memory for keys and values; None where it is hosted, large, or not here."""
    if not isinstance(estimator.model, str):
        return None
    try:
        parsed = parse_reference(split_chain(estimator.model)[0])
        path = located(parsed) if parsed.scheme == "gguf" else None
        if path is None or not path.is_file() or path.stat().st_size > LARGEST:
            return None
        model = open_model(
            str(msgspec.structs.replace(parsed, options=parsed.options | {"context": str(LEAST_CONTEXT)}))
        )
    except KurabeError:
        return None
    return model if isinstance(model, LocalModel) else None
