"""A model as its config.json alone describes it: Transformers builds it on the meta device, where tensors have shapes
and types and no data."""

from pathlib import Path
from typing import Any, Final

from kurabe.errors import MissingExtraError, ModelError
from kurabe.models.weights.headers import CONFIG, Header, Tensor, read_config, text_settings, tokenizer_size

_MOST: Final = {"layers": 10_000, "experts": 100_000}
_TYPES: Final = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def build(path: Path) -> Header:
    """What the header would say if the weights were there, in the type that the configuration names. The model's own
    code is never run.

    Raises ModelError where Transformers knows no such model or the configuration makes no sense, and MissingExtraError
    where Transformers is not installed.
    """
    settings = text_settings(read_config(path))
    _require_sane(path, settings)
    tensors = tuple(
        Tensor(name, tuple(parameter.shape), kind, parameter.numel() * parameter.element_size())
        for name, parameter, kind in _parameters(path)
    )
    # What it says of packing is about files that are not here.
    settings = {name: value for name, value in settings.items() if name != "quantization_config"}
    return Header(path, CONFIG, 0, settings, tensors, tokenizer_size(path))


def _require_sane(path: Path, settings: dict[str, Any]) -> None:
    """Modules are Python objects, also on the meta device: a number no model has would fill the memory."""
    for what, names in {
        "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    }.items():
        for name in names:
            value = settings.get(name)
            if isinstance(value, int) and not 0 <= value <= _MOST[what]:
                raise ModelError(f"{path / CONFIG} names {value:,} {what} ({name!r}), and no model has that many")


def _parameters(path: Path) -> list[tuple[str, Any, str]]:
    try:
        import torch
        import transformers
    except ImportError:
        raise MissingExtraError("a model without its weights (Transformers builds it)", "transformers") from None
    from kurabe.models.engines.hf.quiet import quiet

    with quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
            kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
            with torch.device("meta"):
                model = kind.from_config(config, trust_remote_code=False)
        except Exception as error:  # whatever a library of many hands raises over a configuration
            said = " ".join(str(error).split())[:300]
            raise ModelError(f"Transformers cannot build the model that {path / CONFIG} describes: {said}") from None
    # Tied weights come once.
    return [
        (name, parameter, _TYPES.get(dtype := str(parameter.dtype).removeprefix("torch."), dtype.upper()))
        for name, parameter in model.named_parameters()
    ]
