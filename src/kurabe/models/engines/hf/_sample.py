"""The choice of the next token. Each sequence has its own settings and its own random numbers, so that what it gets
does not depend on what else is in the batch."""

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from kurabe.messages import Request


class Likely(NamedTuple):
    """A token's natural log-probability before any setting, and the likeliest tokens in its place with theirs."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """The settings of one request, and where its random numbers are."""

    def __init__(self, request: Request) -> None:
        self._temperature = request.temperature or 0.0
        self._top_k = request.top_k
        self._top_p = request.top_p
        self._frequency = request.frequency_penalty or 0.0
        self._presence = request.presence_penalty or 0.0
        self._counts: dict[int, int] = {}
        self._generator: torch.Generator | None = None
        if self._temperature > 0:
            seed = secrets.randbits(63) if request.seed is None else request.seed % 2**63
            self._generator = torch.Generator().manual_seed(seed)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        return self._generator is None and not self._penalties

    @property
    def _penalties(self) -> bool:
        return bool(self._frequency or self._presence)

    def took(self, token: int) -> None:
        """A token has been written."""
        if self._penalties:
            self._counts[token] = self._counts.get(token, 0) + 1

    def pick(self, scores: torch.Tensor) -> int:
        """A token for the scores (vocabulary,) float32, which are changed; -inf is what must not be taken."""
        for token, count in self._counts.items():
            scores[token] -= count * self._frequency + self._presence
        if self._generator is None:
            return int(scores.argmax())
        scores = scores.cpu().double()
        scores = (scores - scores.max()) / self._temperature  # a temperature near 0 takes none of them beyond the range
        tokens: torch.Tensor | None = None
        if self._top_k is not None and self._top_k < scores.shape[0]:
            scores, tokens = scores.topk(self._top_k)
        probabilities = torch.softmax(scores, dim=-1)
        if self._top_p is not None and self._top_p < 1:
            probabilities, order = probabilities.sort(descending=True, stable=True)
            before = probabilities.cumsum(0) - probabilities
            probabilities[(before >= self._top_p) & (before > 0)] = 0  # the likeliest always stays
            tokens = order if tokens is None else tokens[order]
        # The place where a random number falls in the sum: one number a token, whatever the vocabulary.
        cumulated = probabilities.cumsum(0)
        number = torch.rand((), dtype=torch.float64, generator=self._generator) * cumulated[-1]
        place = min(int(torch.searchsorted(cumulated, number, right=True)), scores.shape[0] - 1)
        while probabilities[place] == 0 and place > 0:  # rounding at the very end
            place -= 1
        return int(tokens[place]) if tokens is not None else place


def likelihoods(logits: torch.Tensor, tokens: Sequence[int], alternatives: Sequence[int]) -> list[Likely]:
    """Of each row of `logits` (rows, vocabulary) the log-probability of its token, and of so many alternatives."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    chosen = logprobs.gather(1, torch.tensor([list(tokens)], device=logits.device).T)[:, 0].tolist()
    most = min(max(alternatives), logits.shape[1])
    tops: list[list[tuple[int, float]]] = [[] for _ in tokens]
    if most:
        values, places = logprobs.topk(most, dim=-1)
        tops = [list(zip(*pair, strict=True)) for pair in zip(places.tolist(), values.tolist(), strict=True)]
    return [Likely(value, tuple(top[:count])) for value, top, count in zip(chosen, tops, alternatives, strict=True)]


def chosen(logits: torch.Tensor, samplers: Sequence[Sampler], masks: Sequence[Any]) -> list[int]:
    """A token for each row of `logits` (rows, vocabulary). `masks`: of each row the tokens that are allowed, or None.
    The rows are not changed."""
    best = logits.argmax(dim=-1).tolist()
    for row, (sampler, mask) in enumerate(zip(samplers, masks, strict=True)):
        if sampler.greedy and mask is None:
            continue
        scores = logits[row].float().clone()
        if mask is not None:
            allowed = mask.to(scores.device)
            size = min(allowed.shape[0], scores.shape[0])
            scores[size:] = -torch.inf
            scores[:size].masked_fill_(~allowed[:size], -torch.inf)
        best[row] = sampler.pick(scores)
    return best
