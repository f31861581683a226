"""Whether a tokenizer and a model belong together, from the header of a GGUF file."""

import re
from collections.abc import Callable
from typing import Final

from kurabe.models.dimensions import dimensions
from kurabe.models.headers import Header

_IDS: Final = ("bos", "eos", "eot", "eom", "unknown", "separator", "padding")
_MARKED: Final = re.compile(r"<\|[^\s|<>'\"]+\|>|<(?:start|end)_of_turn>|\[/?INST\]")


def unknown_ids(header: Header) -> list[str]:
    """A sentence for each special token of a GGUF header whose number no token of its tokenizer has."""
    found, tokens = [], header.tokenizer
    for name in _IDS:
        value = header.settings.get(f"tokenizer.ggml.{name}_token_id")
        # All bits set is an old way to say that there is none.
        if isinstance(value, int) and tokens and tokens <= value < 2**32 - 1:
            found.append(f"the {name} token is number {value:,}, and the tokenizer knows {tokens:,} tokens")
    return found


def doubts(header: Header, is_token: Callable[[str], bool] | None = None) -> list[str]:
    """What speaks against it: a sentence for each doubt, none where all agrees.

    Looked at are the size of the vocabulary, the numbers of the special tokens, and with `is_token`, which says whether
    a name is one token of the tokenizer, the special tokens that the chat template writes.
    """
    rows, tokens, found = dimensions(header).vocabulary, header.tokenizer, []
    if rows and tokens and tokens > rows:
        found.append(f"the tokenizer knows {tokens:,} tokens, and the model's embedding has {rows:,} rows")
    found += unknown_ids(header)
    template = header.settings.get("tokenizer.chat_template")
    if is_token is not None and isinstance(template, str):
        unknown = [name for name in sorted(set(_MARKED.findall(template))) if not is_token(name)]
        if unknown:
            found.append(f"the chat template writes {', '.join(unknown)}, which the tokenizer cuts up as ordinary text")
    return found
