"""What has to hold before a model of the Transformers engine is loaded: files, config, code, tokenizer."""

from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from transformers import AutoModelForCausalLM

from kurabe.errors import ModelError
from kurabe.models.reference import Reference
from kurabe.models.weights.headers import Header, read_path
from kurabe.models.weights.special_tokens import beyond, numbered_apart, unknown_in_template

MOST_BUFFER_BYTES: Final = 2**31
"""Tables that a model computes when it is made, such as masks and rotations; those of real ones take a few MB."""
MOST_PER_BYTE: Final = 4
"""Parameters that a quantized weight packs into a byte, at most (two bits each)."""


def read_checked(path: Path) -> Header:
    """The header of the folder or GGUF file, once it is sure that all its files are there and whole.

    Raises ModelError, also for a folder whose weights are pickled and for one that holds an adapter alone.
    """
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise ModelError(f"{path} holds an adapter; name the model it was trained on, with ?adapter={path}")
        pickled = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]
        if pickled and not any(path.glob("*.safetensors")):
            raise ModelError(
                f"{path} holds its weights as a pickle ({pickled[0].name}), which can run code when it is read and is"
                " never loaded; take the model's .safetensors files, or convert it where you trust it:"
                " https://huggingface.co/spaces/safetensors/convert"
            )
    return read_path(path)


def allow_code(path: Path, parsed: Reference) -> bool:
    """Whether code that comes with the model may run: where `?remote_code=` names the repository that it comes from.

    Raises ModelError where it names another one.
    """
    named = parsed.options.get("remote_code")
    if named is None:
        return False
    origins = code_origins(path, parsed.name)
    if not origins:
        raise ModelError(f"'{parsed}': the model brings no code of its own; leave out ?remote_code=")
    if origins != {named}:
        raise ModelError(
            f"'{parsed}': the model's code comes from {' and '.join(sorted(origins))}, and ?remote_code= names {named}"
        )
    return True


def code_origins(path: Path, name: str) -> set[str]:
    """The repositories whose code the model's `auto_map` asks for; `name` stands for its own."""
    origins: set[str] = set()
    for file in ("config.json", "tokenizer_config.json", "generation_config.json") if path.is_dir() else ():
        try:
            settings = msgspec.json.decode((path / file).read_bytes())
        except (OSError, msgspec.DecodeError):
            continue
        table = settings.get("auto_map") if isinstance(settings, dict) else None
        for value in table.values() if isinstance(table, dict) else [table]:
            for reference in value if isinstance(value, list) else [value]:
                if isinstance(reference, str):
                    repository, dashes, _ = reference.partition("--")
                    origins.add(repository if dashes else name)
    return origins


def require_sane(config: Any, header: Header, code: bool) -> None:
    """Raise ModelError where the config describes more than the files hold, before anything of that size is allocated.

    The model is built without memory for its weights (PyTorch's meta device), and its parameters are counted.
    """
    text = text_config(config)
    layers = getattr(text, "num_hidden_layers", 0)
    if isinstance(layers, int) and not 0 <= layers <= len(header.tensors):
        raise ModelError(
            f"{header.path}: its config promises {layers:,} layers, and there are {len(header.tensors):,} tensors"
        )
    held = sum(tensor.parameters for tensor in header.tensors)
    packed = getattr(config, "quantization_config", None) is not None
    most = MOST_PER_BYTE * sum(tensor.bytes for tensor in header.tensors) if packed else held
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=code)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{header.path}: no model can be made of its config: {' '.join(str(error).split()):.300}"
        ) from None
    promised = sum(parameter.numel() for parameter in model.parameters())
    if promised > 1.05 * most + 10_000:
        raise ModelError(
            f"{header.path}: its config promises {promised:,} parameters, and the files hold {held:,}; fetch it again"
        )
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if tables > MOST_BUFFER_BYTES:
        raise ModelError(f"{header.path}: its config asks for tables of {tables / 1e9:,.0f} GB; it is damaged")


def require_weights(report: dict[str, Any]) -> None:
    """Raise ModelError where weights that the config asks for are not in the files, or have another shape."""
    for problem, names in (("lack", "missing_keys"), ("hold in another shape", "mismatched_keys")):
        if found := sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report.get(names) or ()):
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise ModelError(f"the model's files {problem} {', '.join(found[:3])}{more}; fetch it again")


def text_config(config: Any) -> Any:
    """The settings of the language model: those of models that also see or hear stand one level down."""
    return config.get_text_config(decoder=True)


def unusable(config: Any, tokenizer: Any) -> list[str]:
    """Why the model can't run with this tokenizer: a sentence for each reason, none where it can."""
    rows = text_config(config).vocab_size
    found = []
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= rows:
        found.append(f"the tokenizer has tokens up to {last:,}, and the model's embedding has {rows:,} rows")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        found += beyond(name, getattr(text_config(config), name, None), rows)
    return found


def mismatches(config: Any, tokenizer: Any) -> list[str]:
    """What speaks against a tokenizer belonging to a model: a sentence for each doubt, none where all agrees.

    `config` is the model's `transformers.PreTrainedConfig`. Looked at are the vocabulary, the special tokens, and the
    special tokens that the chat template writes. The first are those of `unusable`.
    """
    text, found = text_config(config), unusable(config, tokenizer)
    rows, tokens = text.vocab_size, len(tokenizer)
    if rows - tokens > max(1024, rows // 20):  # rows are rounded up, and some are kept for later tokens
        found.append(f"the model has rows for {rows:,} tokens, and the tokenizer knows {tokens:,}")
    vocabulary = tokenizer.get_vocab()
    names = {number: token for token, number in vocabulary.items()}
    for name in ("bos_token_id", "eos_token_id"):
        found += numbered_apart(
            name.removesuffix("_id"), getattr(text, name, None), getattr(tokenizer, name), names.get
        )
    return found + unknown_in_template(tokenizer.chat_template, vocabulary.__contains__)
