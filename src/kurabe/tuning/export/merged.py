"""Merged weights as a folder of Transformers'."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch

from kurabe.models.engines.hf import load as hf_load
from kurabe.models.engines.hf.quiet import quiet
from kurabe.tuning.adapter import CARD, MARK, save_weights
from kurabe.tuning.export.tuned import Tuned, Type

_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def write_merged(tuned: Tuned, type: Type | None, folder: Path) -> None:
    """Write weights, configuration, tokenizer and card. They are added up in float32 on the processor.

    Raises ModelError where model and adapter can't be loaded or don't belong together.
    """
    options = {**tuned.base.options, "dtype": "float32", "device": "cpu"}
    if tuned.adapter is not None:
        options["adapter"] = str(tuned.adapter)
    reference = msgspec.structs.replace(tuned.base, options=options)
    loaded = hf_load.load(tuned.path, reference)
    try:
        config, tokenizer = hf_load.read_tokenizer(tuned.path, tuned.base)
        dtype = _DTYPES[type] if type is not None else _own(config, tuned.path)
        with quiet():
            save_weights(loaded.model.to(dtype), folder)
            tokenizer.save_pretrained(folder)
    finally:
        hf_load.unload(loaded)
    (folder / CARD).write_text(_card(tuned, dtype), "utf-8")


def _own(config: Any, path: Path) -> Any:
    own = getattr(config, "dtype", None)
    return own if path.is_dir() and isinstance(own, torch.dtype) else torch.float32


def _card(tuned: Tuned, dtype: Any) -> str:
    """The card of the merged weights, with that of what was tuned where kurabe wrote it."""
    base = tuned.public_name
    how = "The adapter was added to the weights" if tuned.adapter else "The weights"
    before = (tuned.adapter or tuned.path) / CARD
    told = tuned.shown(before.read_text("utf-8")) if before.is_file() else ""
    packages = ["kurabe", "torch", "transformers", *(["peft"] if tuned.adapter else [])]
    return "\n".join([
        "---",
        "library_name: transformers",
        f"base_model: {json.dumps(base)}",
        "---",
        f"# Merged weights of `{base}`" if tuned.adapter else f"# `{base}`",
        "",
        f"{how} of `{base}`, in {str(dtype).removeprefix('torch.')}.",
        "",
        "Versions: " + ", ".join(f"{package} {version(package)}" for package in packages),
        "",
        *([_body(told)] if MARK in told else []),
    ])  # fmt: skip


def _body(card: str) -> str:
    """A card without its header, its titles one level lower."""
    text = card.partition("---\n")[2].partition("---\n")[2] if card.startswith("---\n") else card
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in text.splitlines()) + "\n"
