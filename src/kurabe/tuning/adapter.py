"""What tuning leaves behind: a folder with an adapter or whole weights, and a card that says how it came about."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from safetensors import safe_open

from kurabe.models.engines.hf.quiet import quiet
from kurabe.models.files.hub import INDEX
from kurabe.tuning.durable import write_bytes
from kurabe.tuning.settings import HEAD, TuneSettings

CARD = "README.md"
MARK = "Tuned by kurabe on "
"""What the first sentence of a card of ours begins with."""

_HEAD = (
    f"It answers with numbers, by `{HEAD}`: a linear layer in float32 on the hidden state of the prompt's last"
    " token. The file's metadata say what the numbers are: one, or quantiles at `levels`, on the scale"
    " z = (y - center) / unit, or with `log` z = (log(y + shift) - center) / unit."
)


class Origin(msgspec.Struct, frozen=True):
    """Where tuned weights come from, without rows and without places of this machine.

    `base`: the base model's name for others; `target`, None where the task names none, `kind` and `columns` of the
    task; `prompt`: (name, text) of what a row is asked with; `rows`: of the training part, and `digest` of its inputs
    and targets; `checked`: rows of the validation part that were scored; `steps` made, with the first and the last
    loss; `scores`: (step, score) on these rows by `metric`.
    """

    base: str
    target: str | None
    kind: str
    columns: tuple[str, ...]
    prompt: tuple[tuple[str, str], ...]
    rows: int
    digest: str
    checked: int
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
            if settings.head is not None:
                _name_weights(folder)
            tokenizer.save_pretrained(folder)
        else:
            # PEFT by itself would ask the hub whether the vocabulary grew, which it does not here.
            model.save_pretrained(folder, save_embedding_layers=False)
    write_bytes(folder / CARD, card(settings, origin).encode())


def save_weights(model: Any, folder: Path) -> None:
    """Write a model of Transformers as safetensors with its configuration. One that was read from a GGUF file is plain
    numbers by then, though Transformers takes it for quantized and refuses to save it."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)


def _name_weights(folder: Path) -> None:
    """Write the index of the weights, so that no reader takes a number head beside them for a part of them."""
    if (folder / INDEX).is_file():
        return
    file = folder / "model.safetensors"
    with safe_open(file, framework="pt") as opened:
        listed = dict.fromkeys(opened.keys(), file.name)
    index = {"metadata": {"total_size": file.stat().st_size}, "weight_map": listed}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def card(settings: TuneSettings, origin: Origin) -> str:
    """The model card in Markdown, with the header that the Hugging Face hub reads."""
    name = {"lora": "A LoRA adapter", "qlora": "A LoRA adapter, made over nf4 weights (QLoRA)", "full": "A model"}
    scored = [f"| {step} | {score:.6g} |" for step, score in origin.scores]
    learned = "an answer's token" if settings.head is None else "a row"
    packages = ["kurabe", "torch", "transformers", *(["peft"] if settings.method != "full" else [])]
    return "\n".join([
        "---",
        *([] if settings.method == "full" else ["library_name: peft"]),
        f"base_model: {json.dumps(origin.base)}",
        "---",
        f"# {name[settings.method]} of `{origin.base}`",
        "",
        f"{MARK}{origin.rows:,} rows; {origin.steps} steps, loss of {learned} from {origin.losses[0]:.4g}"
        f" to {origin.losses[1]:.4g}.",
        "",
        *([_HEAD, ""] if settings.head is not None else []),
        *_data(origin),
        *(["| step | validation, " + origin.metric + " |", "|---:|---:|", *scored, ""] if scored else []),
        "Settings:",
        "",
        *(f"- {name}: {value}" for name, value in msgspec.structs.asdict(settings).items()),
        "",
        "Versions: " + ", ".join(f"{package} {version(package)}" for package in packages),
        "",
    ])  # fmt: skip


def _data(origin: Origin) -> list[str]:
    """What was learned, and from how much."""
    checked = f"{origin.checked:,} rows" if origin.checked else "none"
    lines = [
        "Data:",
        "",
        f"- target: {'not named' if origin.target is None else f'`{origin.target}`'}, of kind {origin.kind}",
        f"- columns: {', '.join(f'`{name}`' for name in origin.columns)}",
        f"- training part: {origin.rows:,} rows, BLAKE2b of inputs and targets `{origin.digest}`",
        f"- scored of the validation part: {checked}",
        "",
    ]
    for name, text in origin.prompt:
        lines += [f"Prompt, {name}:", "", *(f"    {line}" for line in text.splitlines()), ""]
    return lines
