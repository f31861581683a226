"""Token counts as providers state them. Nobody checks a provider's arithmetic but us, and dollars are made of it: an
impossible count makes the whole block unknown, and then a budget counts the most that the call may have cost."""

from typing import Annotated, Final, TypeVar

import msgspec

from kurabe.messages import Usage
from kurabe.models.codecs.base import BROKEN

T = TypeVar("T")

MOST_TOKENS: Final = 1_000_000_000
"""Of one call; no context is nearly as long."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
FloatCount = Annotated[float, msgspec.Meta(ge=0, le=MOST_TOKENS)]
NOTHING: Final = msgspec.Raw(b"null")
"""The default of a field of usage. Such a field is raw: an answer is not refused for the sake of its usage."""
UNKNOWN: Final = Usage(0, 0)


def is_stated(block: msgspec.Raw) -> bool:
    """Whether there is a block at all."""
    return bytes(block) != b"null"


def read_usage(block: msgspec.Raw, type: type[T]) -> T | None:
    """The block as a struct of Counts; None if it is missing or holds an impossible count."""
    try:
        return msgspec.json.decode(block, type=type | None)
    except BROKEN:
        return None


def read_count(block: msgspec.Raw) -> int:
    """One count; 0 if it is missing or impossible."""
    return read_usage(block, Count) or 0


def usage_of(input: int, output: int, cached: int = 0, cache_written: int = 0, reasoning: int = 0) -> Usage:
    """The Usage, or UNKNOWN where more is cached than there is input: its cost would be below 0."""
    return Usage(input, output, cached, cache_written, reasoning) if cached + cache_written <= input else UNKNOWN
