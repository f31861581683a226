"""What training needs to go on after it was killed: one safetensors file, whole or not there."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kurabe.errors import TuningError
from kurabe.tuning.durable import write_bytes as write_bytes

NAME = "checkpoint.safetensors"


class State(NamedTuple):
    """Steps done, the learning curve so far, and tensors: weights that are learned and the optimizer's two means."""

    step: int
    notes: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def write(folder: Path, state: State) -> None:
    """Keep the state durably in place of the one before. Raises TuningError where the disk is full."""
    text = json.dumps({"step": state.step, "notes": state.notes})
    data = save({name: tensor.contiguous() for name, tensor in state.tensors.items()}, metadata={"kurabe": text})
    write_bytes(folder / NAME, data)


def read(folder: Path) -> State | None:
    """The state that was kept, None if none was. Raises TuningError where the file is damaged."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            kept = json.loads(file.metadata()["kurabe"])
            return State(kept["step"], kept["notes"], {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TuningError(f"{path} is damaged ({error}); remove it, and training begins anew") from None
