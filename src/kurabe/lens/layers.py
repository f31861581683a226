"""The tree of a model's layers with repeated blocks folded."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from kurabe.models.weights.headers import Tensor

MAX_DEPTH: Final = 24
MAX_DIGITS: Final = 6

_FIRST: Final = frozenset({"token_embd", "embed_tokens", "wte", "wpe", "word_embeddings"})
_LATE: Final = {"output_norm": 1, "norm": 1, "ln_f": 1, "final_layernorm": 1, "output": 2, "lm_head": 2, "embed_out": 2}


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in the tree: a tensor (with `shape`) or what holds others. `repeats` blocks of the same shapes are one
    node; its `parameters` and `bytes` are those of all of them, and `types` says how many tensors have each type."""

    label: str
    parameters: int
    bytes: int
    repeats: int = 1
    shape: tuple[int, ...] = ()
    types: dict[str, int] = {}
    children: tuple["Node", ...] = ()


_Members: TypeAlias = list[tuple[list[str], Tensor]]


def tree(tensors: Iterable[Tensor]) -> tuple[Node, ...]:
    """The layers of a model, from what reads the tokens to what gives the logits."""
    nodes = _branch("", [(tensor.name.split(".", MAX_DEPTH), tensor) for tensor in tensors])
    return nodes[0].children if len(nodes) == 1 and not nodes[0].label else tuple(nodes)


def _branch(label: str, members: _Members) -> list[Node]:
    """The nodes under `label`: a chain without forks is one node, numbered blocks of the same shapes are one node."""
    nodes = [
        Node(label, tensor.parameters, tensor.bytes, shape=tensor.shape, types={tensor.type: 1})
        for path, tensor in members
        if not path
    ]
    below: dict[str, _Members] = {}
    for path, tensor in members:
        if path:
            below.setdefault(path[0], []).append((path[1:], tensor))
    if below and all(part.isdecimal() and len(part) <= MAX_DIGITS for part in below):
        return nodes + _folded(label, {int(part): _holder("", _branch("", rest)) for part, rest in below.items()})
    if len(below) == 1:
        ((part, rest),) = below.items()
        return nodes + _branch(f"{label}.{part}".lstrip("."), rest)
    if below:
        children = [node for part in sorted(below, key=_order) for node in _branch(part, below[part])]
        nodes.append(_holder(label, children))
    return nodes


def _order(part: str) -> tuple[int, int, str]:
    """Embeddings first, numbers by value, the last norm and the output at the end, the rest by name."""
    if part in _FIRST:
        return (-1, 0, part)
    return (_LATE.get(part, 0), int(part) if part.isdecimal() and len(part) <= MAX_DIGITS else 0, part)


def _holder(label: str, children: list[Node]) -> Node:
    if len(children) == 1 and not children[0].label:
        return msgspec.structs.replace(children[0], label=label)
    parameters, size = sum(child.parameters for child in children), sum(child.bytes for child in children)
    return Node(label, parameters, size, children=tuple(children))


def _folded(label: str, blocks: dict[int, Node]) -> list[Node]:
    """Blocks with the same names and shapes as one node, whatever their types."""
    alike: dict[object, list[int]] = {}
    for number in sorted(blocks):
        alike.setdefault(_signature(blocks[number]), []).append(number)
    return [
        msgspec.structs.replace(
            _merged([blocks[number] for number in numbers]),
            label=f"{label} {_span(numbers)}".strip(),
            repeats=len(numbers),
        )
        for numbers in alike.values()
    ]


def _signature(node: Node) -> object:
    return node.label, node.shape, tuple(_signature(child) for child in node.children)


def _merged(nodes: list[Node]) -> Node:
    types: Counter[str] = Counter()
    for node in nodes:
        types.update(node.types)
    children = tuple(_merged(list(group)) for group in zip(*(node.children for node in nodes), strict=True))
    return Node(
        nodes[0].label,
        sum(node.parameters for node in nodes),
        sum(node.bytes for node in nodes),
        nodes[0].repeats,
        nodes[0].shape,
        dict(types),
        children,
    )


def _span(numbers: list[int]) -> str:
    """`0–29`, `0, 2 … 46`, or the numbers themselves where they follow no rule.

    >>> _span([3]), _span([0, 1, 2]), _span([0, 2, 4, 6]), _span([0, 1, 5])
    ('3', '0–2', '0, 2 … 6', '0, 1, 5')
    """
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    if steps == {1}:
        return f"{numbers[0]}–{numbers[-1]}"
    if len(steps) == 1 and len(numbers) > 3:
        return f"{numbers[0]}, {numbers[1]} … {numbers[-1]}"
    return ", ".join(map(str, numbers[:6])) + (f" … {numbers[-1]}" if len(numbers) > 6 else "")
