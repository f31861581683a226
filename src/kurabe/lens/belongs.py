"""Whether a tokenizer and a model belong together, from their files alone."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from kurabe.errors import ModelError
from kurabe.models.files.small_files import read_small
from kurabe.models.weights import gguf
from kurabe.models.weights.dimensions import dimensions
from kurabe.models.weights.headers import Header
from kurabe.models.weights.special_tokens import beyond, numbered_apart, unknown_in_template

_IDS: Final = ("bos", "eos", "eot", "eom", "unknown", "separator", "padding")


def doubts(header: Header, is_token: Callable[[str], bool]) -> list[str]:
    """What speaks against it in a GGUF file: a sentence for each doubt, none where all agrees.

    Looked at are the size of the vocabulary, the numbers of the special tokens, and the special tokens that the chat
    template writes; `is_token` says whether a name is one token of the tokenizer.
    """
    rows, tokens, found = dimensions(header).vocabulary, header.tokenizer, []
    if rows and tokens and tokens > rows:
        found.append(f"the tokenizer knows {tokens:,} tokens, and the model's embedding has {rows:,} rows")
    return found + _unknown_ids(header) + unknown_in_template(_template(header), is_token)


def special_doubts(header: Header) -> list[tuple[Literal["note", "wrong"], str]]:
    """Those doubts of a GGUF file or a folder that special tokens raise, without a tokenizer that runs. Numbers that
    differ are a note: chat models may end at another token than the one that their configuration names."""
    names = _names(header.path)
    wrong = unknown_in_template(_template(header), names.__contains__) if names else []
    if header.format == "GGUF":
        return [("wrong", doubt) for doubt in _unknown_ids(header) + wrong]
    rows = dimensions(header).vocabulary or sys.maxsize
    ids = [
        doubt
        for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        for doubt in beyond(name, header.settings.get(name), rows)
    ]
    return [
        *(("wrong", doubt) for doubt in ids),
        *(("note", doubt) for doubt in _numbered_apart(header, names)),
        *(("wrong", doubt) for doubt in wrong),
    ]


def _unknown_ids(header: Header) -> list[str]:
    """A sentence for each special token of a GGUF header whose number no token of its tokenizer has."""
    found, tokens = [], header.tokenizer
    for name in _IDS:
        value = header.settings.get(f"tokenizer.ggml.{name}_token_id")
        # All bits set is an old way to say that there is none.
        if isinstance(value, int) and tokens and tokens <= value < 2**32 - 1:
            found.append(f"the {name} token is number {value:,}, and the tokenizer knows {tokens:,} tokens")
    return found


def _numbered_apart(header: Header, names: dict[str, int]) -> list[str]:
    """A sentence for each special token that a folder's configuration and tokenizer number otherwise."""
    found, by_number = [], {number: name for name, number in names.items()}
    written = _json(header.path / "tokenizer_config.json")
    for name in ("bos_token", "eos_token"):
        token = written.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        other = names.get(token) if isinstance(token, str) else None
        found += numbered_apart(name, header.settings.get(f"{name}_id"), other, by_number.get)
    return found


def _template(header: Header) -> object:
    if header.format == "GGUF":
        return header.settings.get("tokenizer.chat_template")
    file = header.path / "chat_template.jinja"
    return (
        file.read_text("utf-8", "replace")
        if file.is_file()
        else _json(header.path / "tokenizer_config.json").get("chat_template")
    )


def _names(path: Path) -> dict[str, int]:
    """The tokens of the tokenizer beside the model, by their names; none where it is not there."""
    if path.is_file():
        return {name: number for number, name in enumerate(gguf.token_names(path))}
    found = _json(path / "tokenizer.json")
    model, added = found.get("model"), found.get("added_tokens")
    words = model.get("vocab") if isinstance(model, dict) else None
    names = (
        {name: number for name, number in words.items() if isinstance(number, int)} if isinstance(words, dict) else {}
    )
    if isinstance(words, list):  # Unigram: pairs of piece and score, the number is the place
        names = {
            pair[0]: number
            for number, pair in enumerate(words)
            if isinstance(pair, list) and pair and isinstance(pair[0], str)
        }
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict) and isinstance(token.get("content"), str) and isinstance(token.get("id"), int):
            names[token["content"]] = token["id"]
    return names


def _json(path: Path) -> dict[str, Any]:
    """The values of a file beside the model; none where it is not there or can't be read."""
    try:
        return msgspec.json.decode(read_small(path), type=dict[str, Any])
    except (OSError, ModelError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
