"""Exact log-probabilities of chosen tokens from llama.cpp's server, which reports those of the likeliest alone.

To read all of the vocabulary as JSON takes fifty times as long as to evaluate a token. So each place takes two short
requests instead. The first raises the logits of the chosen tokens above all others by one amount and keeps only these:
what is reported are their probabilities among each other. The second takes one more token, the anchor, which is also
among those of the first, and reports its probability before any bias; with it the others' follow. One request is
enough for one token, which is taken as the anchor is, and for shares, which say how likely tokens are among each other.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from kurabe.errors import ModelError
from kurabe.models.engines.llama.server import Lane, Servers

_RAISED: Final = 200.0
"""More than the logits of any two tokens differ, and little enough for float32 to keep five decimals beside it."""
_ANCHOR: Final = 40.0
"""What the anchor gets besides, so that it is the one that is drawn: llama.cpp reports nothing of a token that ends
inside a character, and draws one of the chosen."""
_LEAST: Final = 1e-36
"""Smaller probabilities lose digits in float32."""


WHOLE: Final = 10_000_000
"""More tokens than any vocabulary has."""


class Likely(msgspec.Struct, gc=False):
    """A token with its natural log-probability before any setting of sampling."""

    id: int
    bytes: list[int]
    logprob: float


class _Entry(msgspec.Struct):
    top_logprobs: list[Likely]


class _Content(msgspec.Struct):
    content: list[_Entry] = []


class _Choice(msgspec.Struct):
    logprobs: _Content | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


def likeliest(servers: Servers, lane: Lane, ids: Sequence[int], count: int, anchor: int) -> list[Likely]:
    """The `count` likeliest tokens behind `ids`, the likeliest first; all where the vocabulary has fewer."""
    # llama.cpp reports nothing of a token that ends inside a character. The reported probabilities are those before the
    # bias, which only makes sure that the token that is drawn, and not looked at, is a whole character.
    body = {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "logprobs": count, "stream": False}
    body |= {"logit_bias": [[anchor, 1000]], "cache_prompt": True, "id_slot": lane.slot}
    found = servers.post("/v1/completions", body, lane.server, _Completion)
    for choice in found.choices:
        for entry in choice.logprobs.content if choice.logprobs else ():
            return list(entry.top_logprobs)
    raise ModelError(f"the model {servers.reference!r} gave no probabilities")


def likelihoods(servers: Servers, lane: Lane, ids: Sequence[int], tokens: Sequence[int], anchor: int) -> list[Likely]:
    """`tokens` with their natural log-probabilities behind `ids`, over the whole vocabulary. `anchor` is a token that
    is a whole character or more."""
    if len(tokens) == 1 and (found := _taken(servers, lane, ids, tokens[0])) is not None:
        return [found]
    among = _among(servers, lane, ids, tokens, anchor)
    if among and (taken := _taken(servers, lane, ids, anchor)) is not None:
        less = taken.logprob - among[anchor].logprob
        return [Likely(token, among[token].bytes, among[token].logprob + less) for token in tokens]
    return _all(servers, lane, ids, tokens, anchor)


def shares(servers: Servers, lane: Lane, ids: Sequence[int], tokens: Sequence[int], anchor: int) -> list[Likely]:
    """As `likelihoods`, all less one unknown constant."""
    among = _among(servers, lane, ids, tokens, anchor)
    return [among[token] for token in tokens] if among else _all(servers, lane, ids, tokens, anchor)


def _among(servers: Servers, lane: Lane, ids: Sequence[int], tokens: Sequence[int], anchor: int) -> dict[int, Likely]:
    """`tokens` and the anchor with their log-probabilities less one constant; {} where they are too far apart."""
    chosen = list(dict.fromkeys([*tokens, anchor]))
    bias = {token: _RAISED + (_ANCHOR if token == anchor else 0.0) for token in chosen}
    body = {"temperature": 1.0, "samplers": ["top_k"], "top_k": len(chosen), "post_sampling_probs": True, "seed": 0}
    body |= {"prompt": list(ids), "logprobs": len(chosen), "logit_bias": list(bias.items())}
    tops = {top["id"]: top for top in _entry(servers, lane, body).get("top_probs", ())}
    if tops.keys() != bias.keys() or min(top["prob"] for top in tops.values()) < _LEAST:
        return {}
    return {token: Likely(token, top["bytes"], math.log(top["prob"]) - bias[token]) for token, top in tops.items()}


def _taken(servers: Servers, lane: Lane, ids: Sequence[int], token: int) -> Likely | None:
    """The token with its log-probability; None where llama.cpp reports nothing of it."""
    body = {"prompt": list(ids), "temperature": 0.0, "logprobs": 1, "logit_bias": [[token, 1000]]}
    entry = _entry(servers, lane, body)
    return Likely(token, entry["bytes"], entry["logprob"]) if entry.get("id") == token else None


def _all(servers: Servers, lane: Lane, ids: Sequence[int], tokens: Sequence[int], anchor: int) -> list[Likely]:
    every = {each.id: each for each in likeliest(servers, lane, ids, WHOLE, anchor)}
    return [every[token] for token in tokens]


def _entry(servers: Servers, lane: Lane, body: dict[str, Any]) -> dict[str, Any]:
    """What is reported of the one token of a completion, {} where it is nothing."""
    chunks: list[dict[str, Any]] = []
    servers.complete(lane, body | {"max_tokens": 1, "stream": True}, chunks.append)
    return next((entry for chunk in chunks for entry in entries(chunk)), {})


def entries(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of a chunk that hold a token with its probability and the likeliest in its place."""
    for choice in chunk.get("choices", ()):
        yield from (choice.get("logprobs") or {}).get("content", ())
