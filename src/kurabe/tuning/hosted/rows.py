"""Training rows for a provider: checked one by one, counted, and named where they can't be used."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kurabe.errors import TuningError
from kurabe.models.codecs.base import json_body
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Limits, Row
from kurabe.tuning.rows import place

TURN_TOKENS = 3
"""Tokens around a turn, and before the answer (https://developers.openai.com/cookbook/examples/chat_finetuning_data_prep)."""
BY_LENGTH = "bytes / 4"
"""A rule of thumb that holds for most scripts, as Chinese or Cyrillic letters have more bytes and more tokens."""


class Counted(NamedTuple):
    """Tokens of each row, and how they were counted: an encoding of tiktoken, or BY_LENGTH."""

    tokens: list[int]
    by: str


def jsonl(values: Sequence[Any]) -> bytes:
    """One JSON value a line."""
    return b"".join(json_body(value) + b"\n" for value in values)


def chat_row(row: Row) -> dict[str, Any]:
    """A row in OpenAI's form, which most providers share."""
    turns = [{"role": message.role, "content": message.text} for message in row.messages]
    return {"messages": [*turns, {"role": "assistant", "content": row.answer}]}


def check(rows: Sequence[Row], limits: Limits, whose: str) -> None:
    """Raises TuningError for the first row that the provider would refuse; the message names its number from 1."""
    if len(rows) < limits.rows:
        raise TuningError(f"{whose} tunes with {limits.rows:,} rows or more, and there are {len(rows):,}")
    if limits.most_rows is not None and len(rows) > limits.most_rows:
        raise TuningError(f"{whose} tunes with {limits.most_rows:,} rows at most, and there are {len(rows):,}")
    for number, row in enumerate(rows, 1):
        if why := _wrong(row, limits):
            raise TuningError(f"{place(number, len(rows))} can't be used by {whose}: {why}")


def _wrong(row: Row, limits: Limits) -> str:
    """What is wrong with a row, without what stands in it, or ''."""
    if not row.answer.strip():
        return "its answer is empty, so there is nothing to learn from it; leave the row out"
    if not row.messages:
        return "it has an answer and no question"
    roles = [message.role for message in row.messages]
    if roles[0] == "system" and not limits.system:
        return "it begins with a system message, which this model does not take; set system: ''"
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or turns != ["user" if i % 2 == 0 else "assistant" for i in range(len(turns))] or turns[-1] != "user":
        return f"user and assistant must take turns and the user must be last, and its roles are {', '.join(roles)}"
    if not all(message.text.strip() for message in row.messages if message.role != "system"):
        return "one of its messages is empty"
    return ""


def check_size(counted: Counted, limit: int, data: bytes, limits: Limits, whose: str) -> None:
    """Raises TuningError for a row of too many tokens, or a file of too many bytes."""
    for number, tokens in enumerate(counted.tokens, 1):
        if tokens > limit:
            raise TuningError(
                f"{place(number, len(counted.tokens))} has {tokens:,} tokens (by {counted.by}), and {whose} takes"
                f" {limit:,} a row: lower max_input_chars, or leave the row out"
            )
    if len(data) > limits.size:
        raise TuningError(
            f"the file would have {len(data) / 1e6:,.0f} MB, and {whose} takes {limits.size / 1e6:,.0f} MB: use fewer"
            " rows, or lower max_input_chars"
        )


def count(rows: Sequence[Row], base: Reference) -> Counted:
    """The tokens of each row: by tiktoken where it knows the model and has its encoding on this machine, else a
    quarter of the bytes."""
    encode, by = _encoder(base)
    tokens = []
    for row in rows:
        texts = [*(message.text for message in row.messages), row.answer]
        tokens.append(sum(TURN_TOKENS + encode(text) for text in texts) + TURN_TOKENS)
    return Counted(tokens, by)


def _encoder(base: Reference) -> tuple[Callable[[str], int], str]:
    if base.scheme.startswith(("openai", "azure")):
        found = _tiktoken(re.sub(r"^ft:", "", base.name).partition(":")[0])
        if found is not None:
            encoding = found
            return lambda text: len(encoding.encode(text, disallowed_special=())), str(encoding.name)
    return lambda text: -(-len(text.encode("utf-8", "replace")) // 4), BY_LENGTH


def _tiktoken(model: str) -> Any:
    """The encoding where it is at hand. Nothing is fetched: counting must not need a network."""
    try:
        import tiktoken
        from tiktoken import load
    except ImportError:
        return None
    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        name = "o200k_base"  # of every model since GPT-4o
    module: Any = load
    fetch = module.read_file
    module.read_file = _no_fetch
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError):
        return None
    finally:
        module.read_file = fetch


def _no_fetch(path: str) -> bytes:
    raise OSError(f"{path} is not on this machine")
