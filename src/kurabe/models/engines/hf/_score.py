"""Scores of several continuations of many prompts, the prompts' shared prefix and the continuations' own evaluated
once."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from kurabe.models.engines.choices import Node
from kurabe.models.engines.hf._schedule import Worker

_SCORES_BYTES = 64_000_000
"""Bytes of scores, in float32, that are held at once."""


def score_nodes(
    worker: Worker, prompts: Iterable[list[int]], nodes: Sequence[Node], vocabulary: int
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield (index of the prompt, of each node the log-probabilities of its following tokens)."""
    tree, parents, places = token_tree(nodes)
    each = 4 * vocabulary * (1 + len(tree))
    numbered = enumerate(prompts)
    while batch := list(itertools.islice(numbered, max(1, min(16, _SCORES_BYTES // each)))):
        ids = [prompt for _, prompt in batch]
        rows = worker.call(lambda worker, ids=ids: _score(worker, ids, tree, parents, places, nodes))  # type: ignore[misc]
        yield from zip((index for index, _ in batch), rows, strict=True)


def token_tree(nodes: Sequence[Node]) -> tuple[list[int], list[int], list[int]]:
    """The tokens of all nodes' prefixes as a tree: (tokens, the place of each one's parent, of each node the place of
    its last token). -1 is the end of the prompt.

    >>> token_tree([Node((), (5, 8)), Node((5,), (6, 7)), Node((5, 6), (1, 2))])
    ([5, 6], [-1, 0], [-1, 0, 1])
    """
    at: dict[tuple[int, ...], int] = {(): -1}
    tokens: list[int] = []
    parents: list[int] = []
    for node in nodes:
        for end in range(1, len(node.prefix) + 1):
            path = node.prefix[:end]
            if path not in at:
                at[path] = len(tokens)
                tokens.append(path[-1])
                parents.append(at[path[:-1]])
    return tokens, parents, [at[node.prefix] for node in nodes]


def _score(
    worker: Worker,
    prompts: list[list[int]],
    tree: list[int],
    parents: list[int],
    places: list[int],
    nodes: Sequence[Node],
) -> list[list[np.ndarray]]:
    """In the worker's thread."""
    if not worker.runner.mixes:
        return [_score_plain(worker, prompt, nodes) for prompt in prompts]
    if worker.idle:
        worker.share(prompts)
    size = 1 + len(tree)
    rows: list[list[np.ndarray]] = []
    while len(rows) < len(prompts):
        part = prompts[len(rows) : len(rows) + worker.free_slots]
        logits = worker.evaluate([(prompt, tree, parents) for prompt in part])
        sums = torch.logsumexp(logits.float(), dim=-1)
        for row in range(len(part)):
            found = []
            for node, place in zip(nodes, places, strict=True):
                at = row * size + 1 + place
                following = torch.tensor(node.following, device=logits.device)
                found.append((logits[at, following].float() - sums[at]).cpu().numpy().astype(np.float64))
            rows.append(found)
    return rows


def _score_plain(worker: Worker, prompt: list[int], nodes: Sequence[Node]) -> list[np.ndarray]:
    """Node by node, for a model with a memory of its own kind."""
    found = []
    for node in nodes:
        logits = worker.runner.whole([*prompt, *node.prefix])[-1].float()
        logprobs = torch.log_softmax(logits, dim=-1)
        found.append(logprobs[list(node.following)].cpu().numpy().astype(np.float64))
    return found
