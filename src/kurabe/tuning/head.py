"""A number head: a small linear layer that reads numbers off the hidden state of a prompt's last token.

The model computes no logits and writes no text. The head learns on a scale on which the training part's targets have
mean 0 and standard deviation 1, and begins as the best constant.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_as_bytes

from kurabe.errors import TuningError
from kurabe.tuning.batches import Loss, padded
from kurabe.tuning.durable import write_bytes
from kurabe.tuning.rows import Row, micro_batches
from kurabe.tuning.settings import HEAD, LEVELS, Head

SQUARED: Final = frozenset({"root_mean_squared_error", "r2", "root_mean_squared_log_error"})
"""Metrics of squared errors."""
SKEWED: Final = 1.0
"""The log scale is for targets whose skewness is greater."""

GAIN_ADAPTERS: Final = 8.0
GAIN_ALL: Final = 64.0
"""How many times faster than adapters, or than all weights, a head learns, which begins at 0: by default at a rate of
about 1.5e-3. Powers of two, so that nothing is rounded where they are multiplied into the weights."""


class Scale(msgspec.Struct, frozen=True):
    """A monotone map between the target and what a head learns: z = (y - center) / unit, or with `log`
    z = (log(y + shift) - center) / unit. Answers stay within `low` and `high`, the range of the training part."""

    log: bool
    shift: float
    center: float
    unit: float
    low: float
    high: float

    @classmethod
    def of(cls, y: np.ndarray, *, log: bool) -> "Scale":
        """The scale for targets (n,). The shift, a fiftieth of the median, keeps values near 0 from weighing most."""
        shift = float(np.median(y)) / 50 if log else 0.0
        values = np.log(y + shift) if log else y
        unit = float(values.std()) if np.ptp(values) else 1.0
        return cls(log, shift, float(values.mean()), unit, float(y.min()), float(y.max()))

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Targets of the training part to the head's scale, of any shape."""
        return np.asarray(((np.log(y + self.shift) if self.log else y) - self.center) / self.unit)

    def back(self, z: np.ndarray) -> np.ndarray:
        """The head's scale to answers, of any shape."""
        y = np.asarray(z, np.float64) * self.unit + self.center
        if self.log:
            y = np.exp(np.minimum(y, 700.0)) - self.shift
        return np.asarray(np.clip(y, self.low, self.high))


class Numbers(msgspec.Struct, frozen=True):
    """What a head's numbers mean: quantiles at these `levels`, or with none of them one number, and on which scale;
    `loss`: what it learned by."""

    levels: tuple[float, ...]
    loss: Literal["absolute", "squared", "pinball"]
    scale: Scale

    @property
    def width(self) -> int:
        """Numbers a row."""
        return len(self.levels) or 1

    def quantiles(self, z: np.ndarray) -> np.ndarray:
        """(n, width) on the head's scale to the same in the target's unit, ascending: quantiles that cross are sorted
        (Chernozhukov, Fernández-Val & Galichon 2010)."""
        return self.scale.back(np.sort(z, axis=1))

    def answers(self, quantiles: np.ndarray) -> np.ndarray:
        """(n,): the one number, or the median."""
        return np.asarray(quantiles[:, self.width // 2])


def numbers_for(head: Head, y: np.ndarray, metric: str) -> Numbers:
    """What a head learns from targets (n,) for a metric.

    `quantiles`: by the pinball loss (Koenker & Bassett 1978). `regression`: by the squared error for metrics of squared
    errors, else by the absolute one. The log scale is taken where no target is below 0, the median is above it, and the
    skewness (Fisher's, of the third moment) is above 1; but not where `root_mean_squared_error` and `r2` ask a
    regression for the mean, which does not pass through a logarithm.
    """
    levels = LEVELS if head == "quantiles" else ()
    squared = not levels and metric in SQUARED
    mean = squared and metric != "root_mean_squared_log_error"
    log = not mean and bool((y >= 0).all()) and float(np.median(y)) > 0 and skewness(y) > SKEWED
    return Numbers(levels, "pinball" if levels else "squared" if squared else "absolute", Scale.of(y, log=log))


def skewness(y: np.ndarray) -> float:
    """The third moment about the mean over the cubed standard deviation; 0 where all are alike.

    >>> round(skewness(np.array([0.0, 0.0, 3.0])), 4)
    0.7071
    """
    away = y - y.mean()
    spread = float(np.sqrt(np.mean(away**2)))
    return float(np.mean((away / spread) ** 3)) if spread else 0.0


class HeadLayer(torch.nn.Linear):
    """The head itself. `gain` makes it learn faster than the rest: with Adam, whose steps don't depend on the size of
    the gradients, an input that is so many times larger is a learning rate that is."""

    gain = 1.0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(rows, hidden) float32 to (rows, numbers)."""
        return super().forward(input * self.gain)


class Headed(torch.nn.Module):
    """A causal model and a number head on it; in place of logits it gives (rows, numbers) float32."""

    def __init__(self, model: Any, head: HeadLayer) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Of rows that end in the last column, as `padded` gives them."""
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model  # PEFT's
        hidden = causal.base_model(**inputs, use_cache=False).last_hidden_state[:, -1]
        numbers: torch.Tensor = self.head(hidden.to(self.head.weight.device, torch.float32))
        return numbers

    def get_input_embeddings(self) -> Any:
        """The model's."""
        return self.model.get_input_embeddings()

    def activation_checkpointing_enable(self, **how: Any) -> None:
        """The model's."""
        self.model.activation_checkpointing_enable(**how)

    def activation_checkpointing_disable(self) -> None:
        """The model's."""
        self.model.activation_checkpointing_disable()


def begin(model: Any, numbers: Numbers, z: np.ndarray) -> Headed:
    """The model with a head that answers with the best constant for the targets (n,) on the head's scale. An output
    layer of its own is not learned, as nothing reads it."""
    embedding = model.get_input_embeddings().weight
    output = model.get_output_embeddings()
    if output is not None and output.weight is not embedding:
        output.requires_grad_(False)
    head = HeadLayer(embedding.shape[1], numbers.width, device=embedding.device, dtype=torch.float32)
    head.gain = GAIN_ADAPTERS if hasattr(model, "get_base_model") else GAIN_ALL
    constant = [float(z.mean())] if numbers.loss == "squared" else np.quantile(z, numbers.levels or (0.5,)).tolist()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(constant))
    return Headed(model, head)


def loss_of(numbers: Numbers) -> Loss:
    """The loss that `train` lowers: the sum over rows."""

    def loss(model: Headed, rows: Sequence[Row], pad: int) -> torch.Tensor:
        device = model.head.weight.device
        found = model(**padded([row.ids for row in rows], pad, device))
        more: torch.Tensor = torch.tensor([[row.target] for row in rows], device=device, dtype=torch.float32) - found
        if numbers.loss == "pinball":
            levels = torch.tensor(numbers.levels, device=device)
            more = torch.maximum(levels * more, (levels - 1) * more).mean(dim=1)
        return torch.sum(more**2 if numbers.loss == "squared" else more.abs())

    return loss


def read(model: Headed, rows: Sequence[Sequence[int]], pad: int, micro_tokens: int) -> np.ndarray:
    """(n, numbers) float64 on the head's scale, of rows of tokens; at most `micro_tokens` go through the model at once,
    or one row."""
    found = np.empty((len(rows), model.head.out_features))
    device = model.get_input_embeddings().weight.device
    with torch.no_grad():
        for batch in micro_batches(range(len(rows)), [len(ids) for ids in rows], micro_tokens):
            found[batch] = model(**padded([rows[row] for row in batch], pad, device)).double().cpu().numpy()
    return found


def save(model: Headed, numbers: Numbers, folder: Path) -> None:
    """Write the head beside what `adapter.save` wrote. Raises TuningError where the disk is full."""
    weight = model.head.weight.detach() * model.head.gain  # exact, as the gains are powers of two
    tensors = {"weight": weight.cpu().contiguous(), "bias": model.head.bias.detach().cpu().contiguous()}
    about = msgspec.json.encode(numbers).decode()
    write_bytes(folder / HEAD, tensors_as_bytes(tensors, metadata={"kurabe": about}))


def load(model: Any, folder: Path) -> tuple[Headed, Numbers]:
    """The model with the head in `folder`. Raises TuningError where it can't be read or is of another model."""
    path = folder / HEAD
    try:
        with safe_open(path, framework="pt") as file:
            numbers = msgspec.convert(json.loads(file.metadata()["kurabe"]), Numbers)
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise TuningError(f"the number head {path} cannot be read: {error}; tune the model again") from None
    embedding = model.get_input_embeddings().weight
    if weight.shape != (numbers.width, embedding.shape[1]) or bias.shape != (numbers.width,):
        raise TuningError(
            f"the number head {path} is for hidden states of {weight.shape[-1]:,} numbers, and the model's have"
            f" {embedding.shape[1]:,}; name the base model that it was tuned with"
        )
    head = HeadLayer(weight.shape[1], weight.shape[0], device=embedding.device, dtype=torch.float32)
    head.load_state_dict({"weight": weight, "bias": bias})
    return Headed(model, head).eval(), numbers
