"""What tuning leaves behind: a folder with an adapter or whole weights, and a card that says how it came about."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from kurabe.models.engines.hf_quiet import quiet
from kurabe.tuning.durable import write_bytes
from kurabe.tuning.settings import TuneSettings

CARD = "README.md"
MARK = "Tuned by kurabe on "
"""What the first sentence of a card of ours begins with."""


class Origin(msgspec.Struct, frozen=True):
    """Where tuned weights come from: the base model's reference, the training data in words, the steps made, the first
    and the last loss, the scores (step, score) on the validation part by `metric`."""

    base: str
    data: str
    steps: int
    losses: tuple[float, float]
    metric: str
    scores: tuple[tuple[int, float], ...]


def save(model: Any, tokenizer: Any, folder: Path, settings: TuneSettings, origin: Origin) -> None:
    """Write safetensors and the model card. Raises TuningError where the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        if settings.method == "full":
            save_weights(model, folder)
            tokenizer.save_pretrained(folder)
        else:
            model.save_pretrained(folder)
    write_bytes(folder / CARD, card(settings, origin).encode())


def save_weights(model: Any, folder: Path) -> None:
    """Write a model of Transformers as safetensors with its configuration. One that was read from a GGUF file is plain
    numbers by then, though Transformers takes it for quantized and refuses to save it."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)


def card(settings: TuneSettings, origin: Origin) -> str:
    """The model card in Markdown, with the header that the Hugging Face hub reads."""
    name = {"lora": "A LoRA adapter", "qlora": "A LoRA adapter, made over nf4 weights (QLoRA)", "full": "A model"}
    scored = [f"| {step} | {score:.6g} |" for step, score in origin.scores]
    packages = ["kurabe", "torch", "transformers", *(["peft"] if settings.method != "full" else [])]
    return "\n".join([
        "---",
        *([] if settings.method == "full" else ["library_name: peft"]),
        f"base_model: {json.dumps(origin.base)}",
        "---",
        f"# {name[settings.method]} of `{origin.base}`",
        "",
        f"{MARK}{origin.data}; {origin.steps} steps, loss of an answer's token from {origin.losses[0]:.4g}"
        f" to {origin.losses[1]:.4g}.",
        "",
        *(["| step | validation, " + origin.metric + " |", "|---:|---:|", *scored, ""] if scored else []),
        "Settings:",
        "",
        *(f"- {name}: {value}" for name, value in msgspec.structs.asdict(settings).items()),
        "",
        "Versions: " + ", ".join(f"{package} {version(package)}" for package in packages),
        "",
    ])  # fmt: skip
