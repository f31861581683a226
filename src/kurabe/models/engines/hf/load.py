"""Loading a model for the Transformers engine: a folder of safetensors or a GGUF file, its tokenizer, an adapter.

Nothing is fetched, no pickle is read, and code that comes with a model runs only where `?remote_code=` names it.
"""

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from kurabe.errors import KurabeError, MissingExtraError, ModelError
from kurabe.models.files.small_files import check_small_files
from kurabe.models.reference import Reference
from kurabe.models.weights.footprint import require_fit
from kurabe.models.weights.precisions import FLOATS, QUANTIZED

try:
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
except ImportError as error:
    raise MissingExtraError(f"a model on this machine (Transformers; {error})", "transformers") from None

from kurabe.models.engines.hf._gguf import cut_as_stated, read_once
from kurabe.models.engines.hf._memory import is_out_of_memory
from kurabe.models.engines.hf._quantize import quantize, quantize_while_loading, require_blocks
from kurabe.models.engines.hf.adapter import add_adapter
from kurabe.models.engines.hf.check import (
    allow_code,
    code_origins,
    read_checked,
    require_sane,
    require_weights,
    text_config,
    unusable,
)
from kurabe.models.engines.hf.quiet import quiet

DTYPES: Final = ("auto", *FLOATS)
ATTENTION: Final = ("sdpa", "eager", "flash_attention_2")
UNSTATED_CONTEXT: Final = 4096
"""Tokens of context of a model that states none, and those for which memory must be free before it is loaded."""
_LIBRARIES: Final = ("accelerate", "bitsandbytes", "gguf>", "peft", "torchao")  # of the extra
_FLASH: Final = (
    " Install it with: pip install flash-attn --no-build-isolation (it runs on CUDA alone), or leave out"
    " ?attention=flash_attention_2"
)
_DEVICE: Final = re.compile(r"auto|cpu|mps|cuda(:\d+)?|xpu(:\d+)?")


class Loaded(NamedTuple):
    """A model ready to run. `model` is a `transformers.PreTrainedModel` in eval mode, `tokenizer` a fast tokenizer that
    pads on the left and has a pad token, `context` the tokens that fit, `end_ids` the ids of all tokens that end an
    answer, in ascending order."""

    model: Any
    tokenizer: Any
    context: int
    end_ids: tuple[int, ...]
    reference: str


def load(path: Path, parsed: Reference) -> Loaded:
    """Load the folder or GGUF file `path` with the options of the reference (those of `hf:`).

    Raises ModelError for what can't be loaded, does not fit the memory or does not belong together, and
    MissingExtraError where a library of the extra `transformers` is not there.
    """
    reference = str(parsed)
    parsed.choice("dtype", DTYPES)
    attention = parsed.choice("attention", ATTENTION)
    quantization = parsed.choice("quantize", QUANTIZED)
    device = _device(parsed)
    header = read_checked(path)
    with _faults(parsed, path), quiet(), _reading(path):
        code = allow_code(path, parsed)
        config, source = _config(path, code)
        stored_quantized = bool(getattr(config, "quantization_config", None)) and not source["gguf_file"]
        if quantization and stored_quantized:
            raise ModelError(
                f"{reference!r}: the model in {path} is quantized already; leave out ?quantize={quantization}"
            )
        require_sane(config, header, code)
        if quantization and device == "cpu":
            require_blocks(quantization, header.tensors, reference)
        context = _context(config, header, parsed)
        dtype = _dtype(parsed, config, device, quantization)
        require_fit(
            path,
            "hf",
            context=context if "context" in parsed.options else min(context, UNSTATED_CONTEXT),
            precision=quantization or _name_of(dtype),
            dtype=_name_of(dtype) if quantization else None,
            device_bytes=_free_on(device),
        )
        tokenizer = _tokenizer(source, config, header, reference)
        model = _model(config, source, device, dtype, attention, quantization)
        if adapter := parsed.options.get("adapter"):
            merge = not quantization and not stored_quantized
            model = add_adapter(model, Path(adapter).expanduser(), parsed, merge=merge)
        model.eval()
        give_back()  # what loading took beside the weights: of SmolLM2 in nf4, 250 MB
        return Loaded(model, tokenizer, context, _end_ids(model, tokenizer), reference)


def read_tokenizer(path: Path, parsed: Reference) -> tuple[Any, Any]:
    """(config, tokenizer) of the folder or GGUF file, as they are and without the weights. Raises what `load` does."""
    with _faults(parsed, path), quiet(), _reading(path):
        header = None if path.is_dir() else read_checked(path)
        if path.is_dir():
            check_small_files(path)
        config, source = _config(path, allow_code(path, parsed))
        tokenizer = AutoTokenizer.from_pretrained(**source)
        if header is not None:
            cut_as_stated(tokenizer, header.settings)
        return config, tokenizer


def unload(loaded: Loaded) -> None:
    """Give the memory of model and tokenizer back to the system, even where somebody still holds them; neither can be
    used then."""
    for module in loaded.model.modules():
        module._parameters.clear()
        module._buffers.clear()
        for name in ("state", "quant_state"):  # bitsandbytes keeps a quantized weight's tables beside it
            if name in module.__dict__:
                setattr(module, name, None)
    loaded.tokenizer.__dict__.clear()
    give_back()


def give_back() -> None:
    """Let Python, PyTorch and the C library return to the system what nobody uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)


def _reading(path: Path) -> AbstractContextManager[None]:
    return nullcontext() if path.is_dir() else read_once()


def _device(parsed: Reference) -> str:
    """Where the model goes: `auto` where accelerate spreads it over the GPUs, else `cpu`, `mps`, `cuda:0` …"""
    asked = parsed.options.get("device", "auto")
    if not _DEVICE.fullmatch(asked):
        raise ModelError(f"model reference '{parsed}': the option 'device' is auto, cpu, cuda, cuda:1 or mps")
    kind = asked.partition(":")[0]
    if asked == "auto":
        if torch.cuda.is_available() or _available("xpu"):
            return "auto"
        return "mps" if _available("mps") else "cpu"
    if kind != "cpu" and not _available(kind):
        raise ModelError(f"model reference '{parsed}': PyTorch finds no {kind} device here; leave out ?device={asked}")
    count = torch.get_device_module(kind).device_count()
    if ":" in asked and int(asked.partition(":")[2]) >= count:
        raise ModelError(f"model reference '{parsed}': there are {count} {kind} devices, counted from {kind}:0")
    return f"{kind}:0" if asked in ("cuda", "xpu") else asked


def _available(kind: str) -> bool:
    return bool(torch.get_device_module(kind).is_available())


def _free_on(device: str) -> int | None:
    """Free bytes of the GPUs that the model goes to; None where it goes to the main memory or shares it."""
    if device.startswith("cuda:"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    if device == "auto" and torch.cuda.is_available():
        return sum(int(torch.cuda.mem_get_info(index)[0]) for index in range(torch.cuda.device_count()))
    return None


def _config(path: Path, code: bool) -> tuple[Any, dict[str, Any]]:
    """The model's config, and what names its files to `from_pretrained`."""
    folder, file = (path, None) if path.is_dir() else (path.parent, path.name)
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder),
        "gguf_file": file,
        "local_files_only": True,
        "trust_remote_code": code,
    }
    return AutoConfig.from_pretrained(**source), source


def _context(config: Any, header: Any, parsed: Reference) -> int:
    stated = getattr(text_config(config), "max_position_embeddings", None)
    if not isinstance(stated, int) or stated <= 0:
        stated = header.settings.get(f"{header.settings.get('general.architecture')}.context_length")
    asked = parsed.number("context")
    if not isinstance(stated, int) or stated <= 0:
        return asked or UNSTATED_CONTEXT
    if asked is not None and asked > stated:
        raise ModelError(f"'{parsed}' asks for a context of {asked} tokens, and the model has {stated}")
    return asked or stated


def _dtype(parsed: Reference, config: Any, device: str, quantization: str | None) -> Any:
    """On the processor float32 where nothing is quantized, elsewhere the model's own, unless another is asked for."""
    asked = parsed.options.get("dtype", "auto")
    if asked != "auto":
        return getattr(torch, asked)
    if quantization:  # of what is not quantized, and of what the layers compute in
        return torch.bfloat16
    if device == "cpu":
        return torch.float32
    own = getattr(config, "dtype", None) or getattr(text_config(config), "dtype", None)
    return own if isinstance(own, torch.dtype) and "gguf" not in str(config.name_or_path) else torch.bfloat16


def _name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _tokenizer(source: dict[str, Any], config: Any, header: Any, reference: str) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source, padding_side="left")
    except (ImportError, MemoryError, KurabeError):
        raise
    except Exception as error:
        raise ModelError(f"the tokenizer of {reference!r} cannot be read: {_short(error)}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{reference!r} has no fast tokenizer (tokenizer.json), which the engine needs")
    if source["gguf_file"]:
        cut_as_stated(tokenizer, header.settings)
    if wrong := unusable(config, tokenizer):
        raise ModelError(f"{reference!r}: model and tokenizer do not belong together: {'; '.join(wrong)}")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:  # one there is: a new one would need a row of the embedding
        ends = text_config(config).eos_token_id
        end = ends[0] if isinstance(ends, list) and ends else ends
        other = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else end
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(other if isinstance(other, int) else 0)
    return tokenizer


def _model(
    config: Any, source: dict[str, Any], device: str, dtype: Any, attention: str | None, quantization: str | None
) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "device_map": device if device == "auto" else {"": device}}
    if attention:
        options["attn_implementation"] = attention
    later = quantization == "int4" or (bool(quantization) and bool(source["gguf_file"]))
    if quantization and not later:
        options |= quantize_while_loading(quantization, dtype, device)
    if later:  # read and unpacked in main memory first
        options["device_map"] = {"": "cpu"}
    if source["gguf_file"]:
        # Blocks are unpacked at once: kernels for them would have to be fetched.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    else:
        options |= {"config": config, "use_safetensors": True}
    model, report = AutoModelForCausalLM.from_pretrained(
        **source,
        **options,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # named by the report instead
    )
    require_weights(report)
    if later:
        assert quantization is not None
        model = quantize(model, quantization, torch.device("cuda:0" if device == "auto" else device))
    return model


def _end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """All tokens that end an answer: the model's, the tokenizer's, and what the chat template puts behind an answer,
    which some configs forget."""
    ids: set[int] = set()
    for place in (model.generation_config, text_config(model.config)):
        ends = getattr(place, "eos_token_id", None)
        ids.update(ends if isinstance(ends, list | tuple) else [ends] if ends is not None else [])
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    if (turn := end_of_turn(tokenizer)) is not None:
        ids.add(turn)
    return tuple(sorted(token for token in ids if 0 <= token < model.get_input_embeddings().weight.shape[0]))


_MARK: Final = "kurabe-marks-this-place"


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template puts right behind an assistant's text; None without one."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _MARK}]
    try:
        behind = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_MARK)[2]
    except Exception:  # a template may refuse anything
        return None
    ids = tokenizer(behind, add_special_tokens=False).input_ids
    return ids[0] if ids and ids[0] in tokenizer.all_special_ids + list(tokenizer.added_tokens_decoder) else None


@contextmanager
def _faults(parsed: Reference, path: Path) -> Iterator[None]:
    """Turn what the libraries raise while a model is loaded into a ModelError that says what is wrong."""
    reference, name = str(parsed), parsed.name
    try:
        yield
    except KurabeError:
        raise
    except ImportError as error:
        if any(library in str(error).lower() for library in _LIBRARIES):
            raise MissingExtraError(f"the model {reference!r} ({_short(error)})", "transformers") from None
        step = _FLASH if "flash" in str(error).lower() else ""
        raise ModelError(f"{reference!r} needs a library that is not installed here: {_short(error)}{step}") from None
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"the memory is not enough for {reference!r}: {_short(error)}; use ?quantize=nf4, ?dtype=bfloat16 or a"
                " smaller model"
            ) from None
        if "trust_remote_code" in str(error):
            origins = " and ".join(sorted(code_origins(path, name))) or name
            raise ModelError(
                f"{reference!r} brings code of its own, which runs only where it is asked for by name; read it first,"
                f" then add ?remote_code={origins}"
            ) from None
        raise ModelError(f"Transformers cannot load {path}: {_short(error)}") from None


def _short(error: Exception) -> str:
    """The first words of an error, whose text may go on for pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:400] + "…"
