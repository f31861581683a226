"""How a model is tuned, as values."""

import math
from typing import Annotated, Literal

import msgspec

Method = Literal["lora", "qlora", "full"]
Head = Literal["regression", "quantiles"]
Schedule = Literal["cosine", "linear", "constant"]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Decay = Annotated[float, msgspec.Meta(ge=0)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Modules = Annotated[str, msgspec.Meta(min_length=1)] | Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

HEAD = "head.safetensors"
"""The file of a number head, beside the adapter or the weights."""
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that `head: quantiles` learns."""


class TuneSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is tuned.

    `method`: adapters of low rank (Hu et al. 2021), the same over weights in nf4 (Dettmers et al. 2023), or everything.
    `target_modules`: names of linear layers, or `all-linear`, which leaves out the output layer. `learning_rate` None:
    2e-4 for adapters, 2e-5 for all weights; it rises over the share `warmup` of the steps and falls by `schedule`.
    `step_tokens`: tokens between two updates, padding left out; `micro_tokens`: tokens that go through the model at
    once. `evaluations`: how often the validation part is scored, at equal distances; training ends after `patience` of
    them without a better score. `checkpointing` recomputes activations, for less memory and more time. `head`: None for
    answers in text, else a number head in their place (`kurabe.tuning.head`).
    """

    method: Method = "lora"
    head: Head | None = None
    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Share = 0.0
    target_modules: Modules = "all-linear"
    learning_rate: Positive | None = None
    schedule: Schedule = "cosine"
    warmup: Share = 0.05
    weight_decay: Decay = 0.0
    clip: Positive = 1.0
    epochs: Positive = 1.0
    max_steps: Count | None = None
    step_tokens: Count = 4096
    micro_tokens: Count = 512
    context: Count = 1024
    checkpointing: bool = False
    evaluations: Natural = 4
    patience: Count = 3
    seed: Natural = 0

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.learning_rate or (2e-5 if self.method == "full" else 2e-4)


def learning_rate(step: int, steps: int, settings: TuneSettings) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    It rises by equal amounts during the warm-up; then it stays, falls by equal amounts to 0, or along half a cosine
    (Loshchilov & Hutter 2017, SGDR, equation 5, without restarts).
    """
    warm = max(round(settings.warmup * steps), 1 if settings.warmup else 0)
    if step < warm:
        return settings.peak_rate * (step + 1) / warm
    if settings.schedule == "constant":
        return settings.peak_rate
    gone = (step - warm) / max(steps - warm, 1)
    share = 1 - gone if settings.schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2
    return settings.peak_rate * share
