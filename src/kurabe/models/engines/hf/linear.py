"""Matrix products of the library that is faster on this processor.

PyTorch computes float32 layers on the processor with MKL, which on AMD's processors runs at less than half of the
speed of oneDNN, the other library that PyTorch's builds bring. Which is faster is tried out once.
"""

import functools
import platform
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import linear

_TOKENS: Final = 64
_SIDE: Final = 768
_GAIN: Final = 1.15


def _product(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`input` W' + b by oneDNN."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


class OneDnnLinear(nn.Linear):
    """A linear layer in float32 on the processor, computed by oneDNN."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As nn.Linear."""
        if input.dtype != torch.float32 or torch.is_grad_enabled():
            return linear(input, self.weight, self.bias)
        return _product(input, self.weight, self.bias)


class _Frozen(torch.autograd.Function):
    """x W' + b and its gradient by x alone, both by oneDNN."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return _product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        (weight,) = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return _product(gradient, weight.t(), None), None, None


class FrozenLinear(OneDnnLinear):
    """A linear layer whose weights are not learned while those before it are."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As nn.Linear."""
        if input.dtype != torch.float32 or not torch.is_grad_enabled():
            return super().forward(input)
        product: torch.Tensor = _Frozen.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product


def frozen_linear(model: Any) -> None:
    """Let oneDNN compute the model's float32 layers that are not learned, on AMD's processors. By name and not by
    trying it out, so that every start of a training computes the same bits."""
    if not (by_amd() and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return
    for layer in model.modules():
        if type(layer) not in (nn.Linear, OneDnnLinear) or layer.weight.requires_grad:
            continue
        fixed = layer.bias is None or not layer.bias.requires_grad
        if fixed and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu":
            layer.__class__ = FrozenLinear


@functools.cache
def by_amd() -> bool:
    """Whether the processor is one of AMD's."""
    listed = Path("/proc/cpuinfo")
    text = listed.read_text(errors="replace") if listed.is_file() else platform.processor()
    return "AuthenticAMD" in text


def fast_linear(model: Any) -> None:
    """Let the model's plain float32 layers on the processor be computed by oneDNN where that is faster."""
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu"
    ]
    if layers and one_dnn_is_faster():
        for layer in layers:
            layer.__class__ = OneDnnLinear


@functools.cache
def one_dnn_is_faster() -> bool:
    """Whether oneDNN is at least 15 % faster than what PyTorch takes by itself; measured in about 10 ms."""
    try:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(_TOKENS, _SIDE, generator=generator)
        layer = OneDnnLinear(_SIDE, _SIDE, bias=False)
        with torch.inference_mode():
            if not torch.allclose(layer(rows), linear(rows, layer.weight), atol=1e-3):
                return False
            return _seconds(lambda: linear(rows, layer.weight)) > _GAIN * _seconds(lambda: layer(rows))
    except (AttributeError, RuntimeError, NotImplementedError):  # a build of PyTorch without oneDNN
        return False


def _seconds(call: Any) -> float:
    """The shortest of several times."""
    times = []
    for _ in range(6):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)
