"""Layers that are not learned: the same values and gradients as PyTorch's own, by whichever library."""

import pytest
import torch
from torch import nn

from kurabe.models.engines.hf import linear as hf_linear
from kurabe.models.engines.hf.linear import FrozenLinear, OneDnnLinear, frozen_linear


@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_a_plain_layer(bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias=bias).requires_grad_(False)
    frozen = FrozenLinear(48, 80, bias=bias).requires_grad_(False)
    frozen.load_state_dict(plain.state_dict())
    inputs = torch.randn(2, 7, 48)
    one, other = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    expected, found = plain(one), frozen(other)
    weights = torch.randn(80, 14).T.reshape(2, 7, 80)  # a gradient that does not lie in one piece
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert torch.allclose(found, expected, atol=1e-5)
    assert one.grad is not None
    assert other.grad is not None
    assert torch.allclose(other.grad, one.grad, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(frozen(inputs), expected, atol=1e-5)
    double = FrozenLinear(48, 80, bias=bias, dtype=torch.float64)
    assert double(inputs.double()).dtype == torch.float64


def test_only_layers_that_are_not_learned_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def model() -> nn.Sequential:
        layers = [nn.Linear(4, 4), OneDnnLinear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.float64)]
        for layer in (layers[0], layers[1], layers[3]):
            layer.requires_grad_(False)
        return nn.Sequential(*layers)

    kinds: dict[bool, list[type[nn.Module]]] = {
        True: [FrozenLinear, FrozenLinear, nn.Linear, nn.Linear],
        False: [nn.Linear, OneDnnLinear, nn.Linear, nn.Linear],
    }
    for amd, expected in kinds.items():
        monkeypatch.setattr(hf_linear, "by_amd", lambda amd=amd: amd)
        after = model()
        frozen_linear(after)
        assert [type(layer) for layer in after] == expected
