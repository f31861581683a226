"""Adapters (LoRA and its kin) on a loaded model, through PEFT. Safetensors only."""

from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open

from kurabe.errors import MissingExtraError, ModelError
from kurabe.models.engines.adapter_patterns import check_patterns
from kurabe.models.files.small_files import read_small
from kurabe.models.reference import Reference


def add_adapter(model: Any, folder: Path, parsed: Reference, *, merge: bool) -> Any:
    """The model with the adapter in `folder`, times `?scale=` (1). `merge`: its weights are added to the model's own,
    so that it runs as fast as without; a quantized model keeps them beside its own.

    Raises ModelError where the adapter can't be read, is of a kind that does more than change layers, or was made for
    another model.
    """
    try:
        import peft
        from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    except ImportError:
        raise MissingExtraError("an adapter (PEFT)", "transformers") from None
    held = _held(folder)
    scale = adapter_scale(parsed)
    check_patterns(_config(folder), [name for name, _ in model.named_modules()], folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder), local_files_only=True)
        if getattr(config, "megatron_config", None) or getattr(config, "auto_mapping", None):
            config.megatron_config = config.auto_mapping = None  # they name modules of Python to import
        adapted = peft.PeftModel.from_pretrained(
            model, str(folder), config=config, is_trainable=False, use_safetensors=True, local_files_only=True
        )
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"the adapter {folder} does not fit the model {parsed.name!r}: {reason}") from None
    tuner = adapted.base_model
    if not isinstance(tuner, BaseTuner):
        raise ModelError(
            f"the adapter {folder} is of the kind {config.peft_type}; those that change layers, such as LoRA, work"
        )
    wanted = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if lost := sorted(wanted ^ held):
        what = "lacks" if lost[0] in wanted else "has for a layer that the model lacks"
        raise ModelError(f"the adapter {folder} does not fit the model {parsed.name!r}: it {what} {lost[0]}")
    if scale != 1:
        layers = [layer for layer in tuner.modules() if isinstance(layer, BaseTunerLayer)]
        if not all(hasattr(layer, "scale_layer") for layer in layers):
            raise ModelError(f"the adapter {folder} is of the kind {config.peft_type}, which has no ?scale=")
        for layer in layers:
            layer.scale_layer(scale)
    return adapted.merge_and_unload() if merge else tuner.model


def adapter_scale(parsed: Reference) -> float:
    """The number behind `?scale=`, 1 without it. Raises ModelError if it is not a number."""
    text = parsed.options.get("scale", "1")
    try:
        return float(text)
    except ValueError:
        raise ModelError(f"model reference '{parsed}': the option 'scale' must be a number, not {text!r}") from None


def _config(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode(read_small(folder / "adapter_config.json"), type=dict[str, Any])


def _held(folder: Path) -> set[str]:
    """The names of the adapter's tensors. Raises ModelError where its files are not there or not whole."""
    file = folder / "adapter_model.safetensors"
    if not (folder / "adapter_config.json").is_file() or not file.is_file():
        pickled = "; pickled adapters (.bin) are never loaded" if (folder / "adapter_model.bin").is_file() else ""
        raise ModelError(f"{folder} is no adapter: it needs adapter_config.json and adapter_model.safetensors{pickled}")
    try:
        config = _config(folder)
        with safe_open(file, framework="numpy") as opened:
            names = set(opened.keys())
            largest = max((size for name in names for size in opened.get_slice(name).get_shape()), default=0)
    except (SafetensorError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"the adapter {folder} cannot be read: {error}; fetch it again") from None
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), config.get("init_r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    if names and any(isinstance(rank, int) and rank > largest for rank in ranks):  # PEFT would make tensors of it
        raise ModelError(f"the adapter {folder} is damaged: its rank is larger than any of its tensors; fetch it again")
    return names
