"""Attention for sequences of any length packed behind each other, over keys and values that stay where they are.

A step of the engine hands the model the new tokens of all its sequences as one row: no padding is computed, and
everything but attention sees one long text. This attention function, which Transformers' models look up by its name,
keeps each sequence to itself. Keys and values of a sequence lie in its slot, written once and never moved; those of the
prefix that all share lie beside them once, whatever the number of sequences (as in Hydragen, arXiv 2402.05099).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME: Final = "kurabe_packed"
_ROUND: Final = 64


class Feed(NamedTuple):
    """New tokens of one sequence: `tokens` stand behind the `shared` first tokens of the prefix and `own` tokens that
    its slot already holds.

    `wanted`: of which of the new tokens the scores of the next one are computed. `parents`: where the new tokens are a
    tree, of each the place of its parent among them, -1 where that is the last token before.
    """

    slot: int
    shared: int
    own: int
    tokens: Sequence[int]
    wanted: Sequence[int] = ()
    parents: Sequence[int] | None = None

    @property
    def before(self) -> int:
        """Tokens of the sequence in front of the new ones."""
        return self.shared + self.own


class Layer:
    """The keys and values of one layer: (slots, heads, length, size), and those of the prefix: (1, heads, prefix +
    length, size), whose end is room for one sequence's own."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor, slots: int, length: int) -> None:
        self.keys = key.new_zeros(slots, key.shape[1], length, key.shape[3])
        self.values = value.new_zeros(slots, value.shape[1], length, value.shape[3])
        self.prefix_keys = key.new_zeros(1, key.shape[1], 0, key.shape[3])
        self.prefix_values = value.new_zeros(1, value.shape[1], 0, value.shape[3])


class Slots:
    """The memory of the sequences in a model, layer by layer; it grows as needed."""

    def __init__(self) -> None:
        self.layers: dict[int, Layer] = {}
        self.slots = 0
        self.length = 0
        self.prefix = 0

    def reserve(self, slots: int, length: int) -> None:
        """Make room for so many sequences of so many own tokens."""
        if slots <= self.slots and length <= self.length:
            return
        if slots > self.slots:
            slots = max(slots, min(2 * self.slots, slots + 16))
        if length > self.length:
            length = -(-max(length, self.length * 5 // 4) // _ROUND) * _ROUND
        self.slots, self.length = max(slots, self.slots), max(length, self.length)
        for layer in self.layers.values():
            layer.keys = self._grown(layer.keys)
            layer.values = self._grown(layer.values)

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(self.slots, old.shape[1], self.length, old.shape[3])
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def trim(self, slots: int, length: int) -> None:
        """Give back what lies beyond the first slots and tokens."""
        self.slots, self.length = min(slots, self.slots), min(length, self.length)
        for layer in self.layers.values():
            layer.keys = layer.keys[: self.slots, :, : self.length].clone()
            layer.values = layer.values[: self.slots, :, : self.length].clone()

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> Layer:
        """The layer of that number, made at its first use."""
        if index not in self.layers:
            self.layers[index] = Layer(key, value, self.slots, self.length)
        return self.layers[index]

    def share(self, slot: int, shared: int, own: int) -> None:
        """Make the first `shared` tokens of the prefix and the first `own` tokens of a slot the prefix of all."""
        for layer in self.layers.values():
            layer.prefix_keys = torch.cat(
                [layer.prefix_keys[:, :, :shared], layer.keys[slot : slot + 1, :, :own]], dim=2
            )
            layer.prefix_values = torch.cat(
                [layer.prefix_values[:, :, :shared], layer.values[slot : slot + 1, :, :own]], dim=2
            )
        self.prefix = shared + own

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in one sequence; 0 before the first step."""
        return sum(
            tensor.shape[1] * tensor.shape[3] * tensor.element_size()
            for layer in self.layers.values()
            for tensor in (layer.keys, layer.values)
        )

    def clear(self) -> None:
        """Give all memory back."""
        self.layers.clear()
        self.slots = self.length = self.prefix = 0


class Pack:
    """One step: which of the packed tokens belong to which sequence, and what each may see.

    The sequences with one new token come first; their attention is computed in one go.
    """

    def __init__(self, slots: Slots, feeds: Sequence[Feed], device: torch.device) -> None:
        self.slots = slots
        self.device = device
        self.singles = [feed for feed in feeds if len(feed.tokens) == 1]
        self.several = [feed for feed in feeds if len(feed.tokens) > 1]
        self.feeds = [*self.singles, *self.several]
        self._masks: dict[Any, Any] = {}
        if self.singles:
            self._slots = torch.tensor([feed.slot for feed in self.singles], device=device)
            self._own = torch.tensor([feed.own for feed in self.singles], device=device)
            self._shared = torch.tensor([feed.shared for feed in self.singles], device=device)
            self._length = 1 + max(feed.own for feed in self.singles)
            self._prefix = max(feed.shared for feed in self.singles)
            # Slots in between that are not in use now cost a little attention and spare moving keys and values.
            self._rows = 1 + max(feed.slot for feed in self.singles)
            self._dense = [feed.slot for feed in self.singles] == list(range(self._rows))

    def positions(self) -> list[int]:
        """The position of each packed token in its sequence."""
        positions: list[int] = []
        for feed in self.feeds:
            if feed.parents is None:
                positions += range(feed.before, feed.before + len(feed.tokens))
            else:
                depths: list[int] = []
                for parent in feed.parents:
                    depths.append(depths[parent] + 1 if parent >= 0 else 0)
                positions += (feed.before + depth for depth in depths)
        return positions

    def attend(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: "How") -> torch.Tensor:
        """(packed tokens, heads, size) of the queries (heads, packed tokens, size) and their keys and values."""
        out = q.new_empty(q.shape[1], q.shape[0], v.shape[2])
        if self.singles:
            n = len(self.singles)
            out[:n] = self._attend_singles(layer, q[:, :n], k[:, :n], v[:, :n], how)
        at = len(self.singles)
        for number, feed in enumerate(self.several):
            n = len(feed.tokens)
            part = slice(at, at + n)
            out[part] = self._attend_several(layer, number, feed, q[:, part], k[:, part], v[:, part], how)
            at += n
        return out

    def _attend_several(
        self, layer: Layer, number: int, feed: Feed, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: "How"
    ) -> torch.Tensor:
        end = feed.own + q.shape[1]
        layer.keys[feed.slot, :, feed.own : end] = k
        layer.values[feed.slot, :, feed.own : end] = v
        keys, values = layer.keys[feed.slot, :, :end], layer.values[feed.slot, :, :end]
        if feed.shared:
            keys = torch.cat([layer.prefix_keys[0, :, : feed.shared], keys], dim=1)
            values = torch.cat([layer.prefix_values[0, :, : feed.shared], values], dim=1)
        mask = self._mask(("several", number, how.window), lambda: _visible(feed, how.window, self.device))
        return _attention(q[None], keys[None], values[None], mask, how)[0].transpose(0, 1)

    def _attend_singles(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: "How"
    ) -> torch.Tensor:
        layer.keys[self._slots, :, self._own] = k.transpose(0, 1)
        layer.values[self._slots, :, self._own] = v.transpose(0, 1)
        rows, heads = self._rows, k.shape[0]
        queries = q.transpose(0, 1).reshape(len(self.singles), heads, -1, q.shape[2])  # (n, heads, group, size)
        if not self._dense:
            placed = queries.new_zeros(rows, *queries.shape[1:])
            placed[self._slots] = queries
            queries = placed
        group, length, prefix = queries.shape[2], self._length, self._prefix
        mask = self._mask(("singles", how.window), lambda: self._visible_singles(how.window))
        scores = queries @ layer.keys[:rows, :, :length].transpose(-1, -2)
        if prefix:
            flat = queries.transpose(0, 1).reshape(heads, rows * group, -1)
            there = (flat @ layer.prefix_keys[0, :, :prefix].transpose(-1, -2)).view(heads, rows, group, prefix)
            scores = torch.cat([there.transpose(0, 1), scores], dim=-1)
        weights = _weights(scores, mask, how)
        out = weights[..., prefix:] @ layer.values[:rows, :, :length]
        if prefix:
            flat = weights[..., :prefix].transpose(0, 1).reshape(heads, rows * group, prefix)
            there = (flat @ layer.prefix_values[0, :, :prefix]).view(heads, rows, group, -1)
            out = out + there.transpose(0, 1)
        out = out.reshape(rows, heads * group, -1)
        return out if self._dense else out[self._slots]

    def _mask(self, name: Any, make: Any) -> torch.Tensor:
        if name not in self._masks:
            self._masks[name] = make()
        mask: torch.Tensor = self._masks[name]
        return mask

    def _visible_singles(self, window: int | None) -> torch.Tensor:
        """(slots, 1, 1, prefix + length): what the one new token of each slot may see."""
        own = torch.zeros(self._rows, 1, dtype=torch.long, device=self.device)
        shared = torch.zeros(self._rows, 1, dtype=torch.long, device=self.device)
        own[self._slots, 0], shared[self._slots, 0] = self._own, self._shared
        column = torch.arange(self._length, device=self.device)
        there = torch.arange(self._prefix, device=self.device)
        near, far = column <= own, there < shared
        if window is not None:
            near, far = near & (own - column < window), far & (shared + own - there < window)
        return torch.cat([far, near], dim=1)[:, None, None]


class How(NamedTuple):
    """How a layer attends: the factor of its scores, tokens that it sees back, and the cap of its scores."""

    scale: float
    window: int | None
    cap: float | None


def _visible(feed: Feed, window: int | None, device: torch.device) -> torch.Tensor:
    """(new tokens, all tokens): what each new token of a sequence may see."""
    n = len(feed.tokens)
    if feed.parents is None:
        query = torch.arange(feed.before, feed.before + n, device=device)[:, None]
        key = torch.arange(feed.before + n, device=device)[None]
        return key <= query if window is None else (key <= query) & (query - key < window)
    tree = torch.zeros(n, n, dtype=torch.bool)
    depth = torch.zeros(n, dtype=torch.long)
    for token, parent in enumerate(feed.parents):
        if parent >= 0:
            tree[token] = tree[parent]
            depth[token] = depth[parent] + 1
        tree[token, token] = True
    tree, query = tree.to(device), (feed.before + depth.to(device))[:, None]
    before = torch.ones(n, feed.before, dtype=torch.bool, device=device)
    if window is not None:
        before = query - torch.arange(feed.before, device=device)[None] < window
        tree = tree & (query - query.T < window)
    return torch.cat([before, tree], dim=1)


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, how: How) -> torch.Tensor:
    """(1, heads, queries, size)."""
    if how.cap is None:
        grouped = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=how.scale, enable_gqa=grouped)
    heads = k.shape[1]
    queries = q.view(1, heads, -1, q.shape[2], q.shape[3])
    weights = _weights(queries @ k[:, :, None].transpose(-1, -2), mask, how)
    return (weights @ v[:, :, None]).flatten(1, 2)


def _weights(scores: torch.Tensor, mask: torch.Tensor, how: How) -> torch.Tensor:
    scores = scores * how.scale
    if how.cap is not None:
        scores = torch.tanh(scores / how.cap) * how.cap
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    pack: Pack,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: (1, heads, packed tokens, size) in, (1, packed tokens, heads, size) out.

    Raises NotImplementedError for what a layer asks of its attention that is not computed here.
    """
    _refuse_unknown(rest)
    layer = pack.slots.layer(module.layer_idx, key, value)
    how = How(query.shape[3] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    return pack.attend(layer, query[0], key[0], value[0], how)[None], None


def _refuse_unknown(rest: Mapping[str, Any]) -> None:
    for name in ("s_aux", "position_bias", "indexer_mask", "cache"):
        if rest.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
