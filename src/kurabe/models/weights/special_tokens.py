"""What speaks against a tokenizer belonging to a model, as far as special tokens tell: a sentence for each doubt."""

import re
from collections.abc import Callable, Sequence
from typing import Final

_MARKED: Final = re.compile(r"<\|[^\s|<>'\"]+\|>|<(?:start|end)_of_turn>|\[/?INST\]")


def unknown_in_template(template: object, is_token: Callable[[str], bool]) -> list[str]:
    """`is_token`: whether a name is one token of the tokenizer."""
    names = sorted(set(_MARKED.findall(template))) if isinstance(template, str) else []
    unknown = [name for name in names if not is_token(name)]
    return [f"the chat template writes {', '.join(unknown)}, which the tokenizer cuts up as ordinary text"] * bool(
        unknown
    )


def numbered_apart(name: str, own: object, other: int | None, name_of: Callable[[int], str | None]) -> list[str]:
    """`own`: the number, or the numbers, of the special token `name` by the model's configuration; `other`: its number
    by the tokenizer."""
    ids: Sequence[object] = own if isinstance(own, list) else [own]
    if other is None or own is None or other in ids:
        return []
    known = [(name_of(token) if isinstance(token, int) else None) or "none" for token in ids]
    models = ", ".join(f"{text!r} ({token})" for text, token in zip(known, ids, strict=True))
    return [f"{name}: the tokenizer's is {name_of(other) or 'none'!r} ({other}), the model's {models}"]


def beyond(name: str, value: object, rows: int) -> list[str]:
    """`value`: the number, or the numbers, of the special token `name`, and `rows` those of the model's embedding."""
    return [
        f"the config's {name} is {token:,}, and the model has {rows:,} tokens"
        for token in (value if isinstance(value, list) else [value])
        if isinstance(token, int) and not -1 <= token < rows  # -1 is an old way to say that there is none
    ]
