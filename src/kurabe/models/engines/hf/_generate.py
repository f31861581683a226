"""One step of a Transformers model over many sequences: new tokens in, the scores of the next ones out.

`Packed` serves models whose attention Transformers lets us compute ourselves: sequences of any length without padding,
each joining and leaving at any step, with a shared prefix evaluated once. `Plain` serves every other causal model,
such as Mamba, with the model's own cache: sequences that begin together in one batch.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch

from kurabe.models.engines.hf._attention import NAME, Feed, Pack, Slots, packed_attention
from kurabe.models.engines.hf.linear import fast_linear
from kurabe.models.engines.hf.quiet import quiet

with quiet():
    from transformers import AttentionInterface
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

AttentionInterface.register(NAME, packed_attention)

_LAYERS: Final = frozenset({"full_attention", "sliding_attention"})


class Runner(Protocol):
    """What evaluates tokens. `mixes`: sequences may join at any step and share a prefix."""

    mixes: bool
    slots: Slots

    def step(self, feeds: Sequence[Feed]) -> torch.Tensor:
        """(wanted tokens, vocabulary): for each wanted token of each feed, in their order, the scores of the next."""

    def whole(self, ids: Sequence[int], *, last: bool = False) -> torch.Tensor:
        """(tokens, vocabulary): the model's own scores behind each token of a text, or the `last` one alone."""

    def release(self, slot: int) -> None:
        """The sequence of the slot is over."""

    def clear(self) -> None:
        """Give the memory of all sequences back."""


class Packed:
    """All new tokens of a step as one row."""

    mixes = True

    def __init__(self, model: Any) -> None:
        self.slots = Slots()
        self._model = model
        self._device = model.get_input_embeddings().weight.device
        self._keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        fast_linear(model)

    def step(self, feeds: Sequence[Feed]) -> torch.Tensor:
        """See Runner."""
        self.slots.reserve(1 + max(feed.slot for feed in feeds), max(feed.own + len(feed.tokens) for feed in feeds))
        pack = Pack(self.slots, feeds, self._device)
        tokens = [token for feed in pack.feeds for token in feed.tokens]
        places: dict[int, list[int]] = {}
        at = 0
        for feed in pack.feeds:
            places[id(feed)] = [at + token for token in feed.wanted]
            at += len(feed.tokens)
        wanted = [place for feed in feeds for place in places[id(feed)]]
        keep = torch.tensor(wanted or [0], device=self._device)
        options: dict[str, Any] = {"logits_to_keep": keep} if self._keep else {}
        with torch.inference_mode(), attention(self._model, NAME):
            logits: torch.Tensor = self._model(
                input_ids=torch.tensor([tokens], device=self._device),
                position_ids=torch.tensor([pack.positions()], device=self._device),
                use_cache=False,
                pack=pack,
                **options,
            ).logits[0]
        return (logits if self._keep else logits[keep])[: len(wanted)]

    def whole(self, ids: Sequence[int], *, last: bool = False) -> torch.Tensor:
        """See Runner."""
        return _whole(self._model, ids, last and self._keep)

    def release(self, slot: int) -> None:
        """Nothing is to be done: the next sequence of the slot writes over it."""

    def clear(self) -> None:
        """See Runner."""
        self.slots.clear()


class Plain:
    """Batches by the model's own means. `Feed.shared` is 0, and a step is either the beginning of new sequences, all of
    one length where the model can't tell padding, or one token of each sequence that is under way."""

    mixes = False

    def __init__(self, model: Any, pad: int) -> None:
        self.slots = Slots()
        self._model = model
        self._pad = pad
        self._device = model.get_input_embeddings().weight.device
        self._rows: list[int] = []
        self._over: set[int] = set()
        self._state: dict[str, Any] = {}

    def step(self, feeds: Sequence[Feed]) -> torch.Tensor:
        """See Runner."""
        if any(feed.own == 0 for feed in feeds):
            return self._begin(feeds)
        tokens = {feed.slot: feed.tokens[0] for feed in feeds}
        ids = torch.tensor([[tokens.get(slot, self._pad)] for slot in self._rows], device=self._device)
        logits = self._forward(ids)
        at = {slot: row for row, slot in enumerate(self._rows)}
        return logits[[at[feed.slot] for feed in feeds if feed.wanted]]

    def _begin(self, feeds: Sequence[Feed]) -> torch.Tensor:
        longest = max(len(feed.tokens) for feed in feeds)
        self._rows, self._over = [feed.slot for feed in feeds], set()
        ids = [[self._pad] * (longest - len(feed.tokens)) + list(feed.tokens) for feed in feeds]
        mask = [[0] * (longest - len(feed.tokens)) + [1] * len(feed.tokens) for feed in feeds]
        self._state = {"attention_mask": torch.tensor(mask, device=self._device), "use_cache": True}
        return self._forward(torch.tensor(ids, device=self._device), first=True)

    def _forward(self, ids: torch.Tensor, first: bool = False) -> torch.Tensor:
        with torch.inference_mode():
            given = self._model.prepare_inputs_for_generation(
                ids, next_sequence_length=None, is_first_iteration=first, **self._state
            )
            output = self._model(**given, return_dict=True)
            self._state = self._model._update_model_kwargs_for_generation(output, self._state)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def whole(self, ids: Sequence[int], *, last: bool = False) -> torch.Tensor:
        """See Runner."""
        return _whole(self._model, ids, False)

    def release(self, slot: int) -> None:
        """The batch goes on, as its cache has no rows that could be taken out, until the last sequence is over."""
        self._over.add(slot)
        if self._over >= set(self._rows):
            self.clear()

    def clear(self) -> None:
        """See Runner."""
        self._rows, self._state = [], {}


def _whole(model: Any, ids: Sequence[int], last: bool) -> torch.Tensor:
    options = {"logits_to_keep": 1} if last else {}
    with torch.inference_mode():
        device = model.get_input_embeddings().weight.device
        logits: torch.Tensor = model(
            input_ids=torch.tensor([list(ids)], device=device), use_cache=False, **options
        ).logits[0]
    return logits


def runner(model: Any, pad: int) -> Runner:
    """The best runner that gives the model's own scores: tried out on a few tokens."""
    if can_pack(model) and _agrees(packed := Packed(model), model):
        packed.clear()
        return packed
    return Plain(model, pad)


def can_pack(model: Any) -> bool:
    """Whether the model leaves its attention to us, and all of its layers have the kind that is computed here."""
    inner = getattr(model, "get_base_model", lambda: model)()
    config = inner.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not getattr(inner, "_supports_attention_backend", False) or not kinds <= _LAYERS:
        return False
    if getattr(inner, "_is_stateful", False) or getattr(config, "num_kv_shared_layers", 0):
        return False
    layers = DynamicCache(config=config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def pads(model: Any) -> bool:
    """Whether sequences of several lengths may stand in one plain batch: not where the model goes through its tokens
    one by one, padding included."""
    inner = getattr(model, "get_base_model", lambda: model)()
    config = inner.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return not getattr(inner, "_is_stateful", False) and kinds <= _LAYERS


@contextmanager
def attention(model: Any, name: str) -> Iterator[None]:
    """Let the model compute its attention by the function of that name."""
    config = getattr(model, "get_base_model", lambda: model)().config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _agrees(packed: Packed, model: Any) -> bool:
    """Whether the packed step gives what the model gives by itself: for a prefix with two continuations and one more
    token of each."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = [(7 * n + 3) % vocabulary for n in range(9)]
    other = [*ids[:4], (ids[4] + 1) % vocabulary, ids[6]]
    try:
        packed.step([Feed(0, 0, 0, ids[:3])])
        packed.slots.share(0, 0, 3)
        first = packed.step([Feed(0, 3, 0, ids[3:8], [4]), Feed(2, 3, 0, other[3:5], [1])])
        second = packed.step([Feed(2, 3, 2, other[5:], [0]), Feed(0, 3, 5, ids[8:], [0])])
        got = torch.cat([first, second])
        with torch.inference_mode():
            device = model.get_input_embeddings().weight.device
            own = [
                model(input_ids=torch.tensor([text], device=device), use_cache=False).logits[0, -1]
                for text in (ids[:8], other[:5], other, ids)
            ]
    except (NotImplementedError, TypeError, AttributeError, KeyError, ValueError):
        return False
    expected = torch.log_softmax(torch.stack(own).float(), dim=-1)
    difference = (torch.log_softmax(got.float(), dim=-1) - expected).abs().mean().item()
    loose = 0.1 if next(model.parameters()).dtype != torch.float32 else 1e-3
    return difference < loose
