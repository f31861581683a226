"""What training needs to go on after it was killed: one safetensors file, whole or not there."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kurabe.errors import TuningError

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


def write_bytes(path: Path, data: bytes) -> None:
    """A file that is there whole or as it was before, also after a power cut. Raises TuningError."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise TuningError(
            f"cannot write {path} ({len(data) / 1e6:,.0f} MB): {error.strerror or error}; what was kept before is still"
            " there: make room and run it again, and it goes on"
        ) from None


def read(folder: Path) -> State | None:
    """The state that was kept, None where there is none. Raises TuningError where the file is damaged."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            kept = json.loads(file.metadata()["kurabe"])
            return State(kept["step"], kept["notes"], {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TuningError(f"{path} is damaged ({error}); remove it, and training begins anew") from None
