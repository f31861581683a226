"""Tuned models as files for others: an adapter, merged weights, or either of them as GGUF for llama.cpp."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, get_args

from kurabe.errors import TuningError, missing
from kurabe.models.engines.opened import require_engine
from kurabe.models.files.local import located, located_adapter, pull_command
from kurabe.models.reference import Reference, parse_reference
from kurabe.tuning.durable import whole
from kurabe.tuning.export.tuned import Tuned, Type
from kurabe.tuning.settings import HEAD

Form = Literal["adapter", "merged", "gguf-adapter", "gguf"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
TYPES: Final[dict[Form, tuple[Type, ...]]] = {
    "adapter": (),
    "merged": ("f32", "f16", "bf16"),
    "gguf-adapter": ("f32", "f16", "bf16"),
    "gguf": ("f32", "f16", "bf16", "q8_0"),
}
"""The numbers' types that each form can be written in."""
_ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors", HEAD, "README.md")


def export(
    model: str, to: Form, out: Path, *, type: Type | None = None, origin: str | None = None, force: bool = False
) -> None:
    """Write the model `hf:BASE?adapter=PATH`, or `hf:FOLDER` whose weights are tuned, to the folder or file `out`.

    `type`: of the numbers; None: float32 for GGUF adapters, float16 for GGUF models, and for merged weights what the
    base has, float32 where that is a GGUF file. `origin`: the model that the weights in FOLDER were before they were
    tuned; where it is a GGUF file, its metadata and tokenizer are kept. `out` is there whole or not at all; with
    `force` it replaces an earlier export. A number head goes along with an adapter alone. Raises TuningError and
    ModelError.
    """
    if to not in TYPES:
        raise TuningError(missing("form of an export", to, FORMS))
    if type is not None and type not in TYPES[to]:
        known = f"{', '.join(TYPES[to])} work" if TYPES[to] else "it is copied as it is"
        raise TuningError(f"an export to {to} in {type!r} is not possible; {known}")
    require_engine("hf")
    tuned = _tuned(model, origin)
    if tuned.adapter is None and to in ("adapter", "gguf-adapter"):
        raise TuningError(f"{model!r} has no adapter: all of its weights are tuned; export it to merged or gguf")
    if to != "adapter":
        _require_no_head(tuned, model)
    writer = _writer(tuned, to, type)
    folder = to in ("adapter", "merged")
    require_free(out, folder=folder, force=force)
    if any(part is not None and out.exists() and out.samefile(part) for part in (tuned.path, tuned.adapter)):
        raise TuningError(f"{out} is what is exported; name another path")
    with whole(out, folder=folder) as fresh:
        writer(fresh)


def _require_no_head(tuned: Tuned, model: str) -> None:
    folder = tuned.adapter or tuned.path
    if not (folder / HEAD).is_file():
        return
    if tuned.adapter is None:
        raise TuningError(
            f"{model!r} answers with a number head, which no export of whole weights holds; copy {folder}, where both"
            " lie"
        )
    raise TuningError(
        f"{model!r} answers with a number head, which needs its adapter beside it: export it with `--to adapter`, which"
        " copies both"
    )


def require_free(out: Path, *, folder: bool, force: bool) -> None:
    """Raises TuningError where `out` is there, or is with `force` something else than an earlier export."""
    if not (out.exists() or out.is_symlink()):
        return
    if out.is_dir() != folder:
        what = "a folder, and a file is to be written" if out.is_dir() else "a file, and a folder is to be written"
        raise TuningError(f"{out} is {what}; name another path")
    if not force:
        raise TuningError(f"{out} is there already; name another path, or add --force to replace it")
    if folder and (strange := [path.name for path in out.iterdir() if not _written_by_us(path)]):
        raise TuningError(f"{out} holds {sorted(strange)[0]!r}, which no export writes; name another folder")


def _written_by_us(path: Path) -> bool:
    return path.is_file() and path.suffix in (".json", ".safetensors", ".md", ".jinja", ".txt", ".model")


def _tuned(model: str, origin: str | None) -> Tuned:
    parsed = parse_reference(model)
    if parsed.scheme != "hf":
        raise TuningError(f"{model!r} cannot be exported; a model of Transformers can: hf:BASE?adapter=PATH")
    options = {name: value for name, value in parsed.options.items() if name in ("scale", "revision", "remote_code")}
    path = located(parsed)
    adapter = located_adapter(parsed)
    if path is None or (adapter is None and "adapter" in parsed.options):
        raise TuningError(f"{model!r} is not on this machine yet; fetch it with: {pull_command(parsed)}")
    metadata = located(parse_reference(origin)) if origin is not None else None
    return Tuned(
        Reference("hf", parsed.name, options),
        path,
        adapter,
        metadata if adapter is None and metadata is not None and metadata.is_file() else None,
    )


def _writer(tuned: Tuned, to: Form, type: Type | None) -> Callable[[Path], None]:
    if to == "adapter":
        return lambda fresh: _copy_adapter(tuned, fresh)
    if to == "merged":
        from kurabe.tuning.export.merged import write_merged

        return lambda fresh: write_merged(tuned, type, fresh)
    from kurabe.tuning.export import model

    if to == "gguf-adapter":
        return model.adapter_writer(tuned, type or "f32")
    return model.model_writer(tuned, type or "f16")


def _copy_adapter(tuned: Tuned, fresh: Path) -> None:
    """The adapter's files, with the base's name in place of where it lies here, and `scale` in its alphas."""
    assert tuned.adapter is not None
    for name in _ADAPTER_FILES:
        if (tuned.adapter / name).is_file():
            shutil.copyfile(tuned.adapter / name, fresh / name)
    card = fresh / "README.md"
    if card.is_file():
        card.write_text(tuned.shown(card.read_text("utf-8")), "utf-8")
    config = json.loads((fresh / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = tuned.public_name
    if (scale := tuned.scale) != 1:
        if config.get("peft_type") != "LORA":
            raise TuningError(f"scale is for LoRA, and {tuned.adapter} is of the kind {config.get('peft_type')!r}")
        config["lora_alpha"] *= scale
        config["alpha_pattern"] = {name: alpha * scale for name, alpha in config.get("alpha_pattern", {}).items()}
    (fresh / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
