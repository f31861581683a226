"""What a prediction is identified by: digests of the contestant, of the data it learned from, and of the row."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import polars as pl

from kurabe.contestants.former import VERSION, formerly
from kurabe.contestants.identity import described
from kurabe.tasks.task import Part


def digest(*parts: bytes | str) -> bytes:
    """16 bytes of BLAKE2b over the parts, each with its length before it."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.digest()


def input_digests(X: pl.DataFrame) -> list[bytes]:
    """One digest a row of `X`; rows with the same values in all columns have the same one."""
    if not X.width:
        return [digest("")] * X.height
    encoded = X.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return [digest(text) for text in encoded]


def part_digest(parts: Iterable[Part | None]) -> bytes:
    """A digest of inputs and targets of the parts, in their order."""
    pieces: list[bytes | str] = []
    for part in parts:
        if part is None:
            pieces.append("none")
        else:
            pieces += [json.dumps(part.X.columns), b"".join(input_digests(part.X)), json.dumps(part.y.tolist())]
    return digest(*pieces)


def estimator_digest(estimator: Any) -> bytes:
    """A digest of what an estimator's answers depend on beside the data: its name, revision and settings."""
    return digest("contestant", json.dumps(described(estimator), sort_keys=True))


def estimator_digests(estimator: Any) -> list[bytes]:
    """`estimator_digest`, and then those that earlier versions of kurabe knew such an estimator by."""
    return [estimator_digest(estimator), *(digest(VERSION, text) for text in formerly(estimator))]
