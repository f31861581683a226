"""What a model is called with to learn from rows, and what it loses on them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from kurabe.tuning.rows import Row

Loss = Callable[[Any, Sequence[Row], int], torch.Tensor]
"""(model, rows of a micro-batch, pad token) to the sum of what they lose; divided by the answers' tokens of a step."""


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """What a model is called with for rows of tokens: padded on the left, they all end in the last column."""
    width = max(len(ids) for ids in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, width - len(row) :] = torch.tensor(row)
        mask[at, width - len(row) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {
        name: tensor.to(device)
        for name, tensor in zip(("input_ids", "attention_mask", "position_ids"), (ids, mask, positions), strict=True)
    }
