"""From tokens to text: the bytes of each token, characters that are cut into several, and stop strings."""

import codecs
import functools
import json
import re
from collections.abc import Sequence
from typing import Any, Final

_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE: Final = "▁"  # a space, in tokenizers made by SentencePiece


class TokenBytes:
    """The bytes that each token of a tokenizer stands for, those of special tokens left empty."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {number: str(token.content) for number, token in tokenizer.added_tokens_decoder.items()}
        self._special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} | set(
            tokenizer.all_special_ids
        )
        self._kind = _kind(tokenizer)
        self._known: dict[int, bytes] = {}

    def __getitem__(self, token: int) -> bytes:
        if token not in self._known:
            self._known[token] = self._bytes(token)
        return self._known[token]

    def name(self, token: int) -> str:
        """The name of a special token; of another one, its text."""
        if token in self._special:
            return self._added.get(token) or str(self._tokenizer.convert_ids_to_tokens(token))
        return self[token].decode("utf-8", "replace")

    def is_special(self, token: int) -> bool:
        """Whether the token stands for no text."""
        return token in self._special

    def _bytes(self, token: int) -> bytes:
        if token in self._special:
            return b""
        if token in self._added:
            return self._added[token].encode()
        try:
            written = self._tokenizer.convert_ids_to_tokens(token)
        except (IndexError, OverflowError):
            written = None
        if written is None:  # the table of scores is often longer than the vocabulary
            return b""
        if self._kind == "bytes":
            table = _byte_table()
            if all(character in table for character in written):
                return bytes(table[character] for character in written)
            return str(written).encode()
        if self._kind == "pieces":
            if match := _BYTE.fullmatch(written):
                return bytes([int(match[1], 16)])
            return str(written).replace(_SPACE, " ").encode()
        return str(self._tokenizer.convert_tokens_to_string([written])).encode()


def _kind(tokenizer: Any) -> str:
    """How the tokenizer writes bytes: `bytes` (GPT-2's letters for bytes), `pieces` (SentencePiece), else `words`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
    kinds = {part["type"] for part in ([decoder, *decoder.get("decoders", ())] if decoder else ())}
    if "ByteLevel" in kinds:
        return "bytes"
    if kinds & {"ByteFallback", "Metaspace"} or _SPACE in json.dumps(decoder, ensure_ascii=False):
        return "pieces"
    return "words" if backend is not None or not hasattr(tokenizer, "sp_model") else "pieces"


@functools.cache
def _byte_table() -> dict[str, int]:
    """Of each letter in a byte-level tokenizer's vocabulary the byte it stands for: printable bytes for themselves, the
    others for the letters from 256 on (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


class Writer:
    """The text of an answer as its tokens come. A character whose bytes come in several tokens appears when it is
    whole, and what may be the beginning of a stop string when it is none."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._parts: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """All that was given out."""
        return "".join(self._parts)

    def feed(self, data: bytes, *, end: bool = False) -> str:
        """The text that these bytes bring; after a stop string, nothing more. `end`: they are the last ones."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data, end)
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:  # the first that is whole, however many characters come at once
            self.stopped = True
            out, self._held = self._held[: min(found)[1]], ""
        else:
            keep = 0 if end else self._open()
            cut = len(self._held) - keep
            out, self._held = self._held[:cut], self._held[cut:]
        if out:
            self._parts.append(out)
        return out

    def _open(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
