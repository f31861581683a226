"""How a tokenizer cuts a text: the tokens with their numbers, and which of them hold only a part of a character."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from kurabe.errors import InputError
from kurabe.models import open_model
from kurabe.models.reference import parse_reference

SCHEMES: Final = ("gguf", "wordllama")
"""What has its tokenizer at hand; a hosted model keeps its own to itself."""
LEAST_CONTEXT: Final = 64
_VISIBLE: Final = str.maketrans({" ": "·", "\n": "↵", "\r": "␍", "\t": "→", "\x7f": "␡", "\u00a0": "⍽"})
_CONTROL: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\r\t"}


class Token(msgspec.Struct, frozen=True):
    """A token: its number in the vocabulary, its bytes, and the same for people to read.

    In `shown` a space is `·` and a new line `↵`; `‹日1–2/3›` holds bytes 1 and 2 of the 3 of 日, and `‹E6›` is a byte
    that is no part of any character. A special token is shown by its name.
    """

    id: int
    data: bytes
    shown: str
    special: bool = False


class Tokens(msgspec.Struct, frozen=True):
    """A text as a model's tokenizer cuts it."""

    reference: str
    text: str
    tokens: tuple[Token, ...]

    @property
    def ids(self) -> list[int]:
        """The numbers alone."""
        return [token.id for token in self.tokens]

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """(characters, tokens) of digits, of characters beyond ASCII, and of white space, where the text has any: the
        tokens that hold a digit, a part of such a character, or white space alone."""
        plain = [token.data for token in self.tokens if not token.special]
        rules: dict[str, tuple[Callable[[str], bool], Callable[[bytes], bool]]] = {
            "digits": (lambda c: c in "0123456789", lambda data: any(0x30 <= byte <= 0x39 for byte in data)),
            "beyond ASCII": (lambda c: not c.isascii(), lambda data: not data.isascii()),
            "white space": (str.isspace, lambda data: data.isspace()),
        }
        counts = {name: (sum(map(of, self.text)), sum(map(holds, plain))) for name, (of, holds) in rules.items()}
        return {name: both for name, both in counts.items() if both[0]}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes in hexadecimal."""
        return {
            "reference": self.reference,
            "characters": len(self.text),
            "count": len(self.tokens),
            "kinds": {name: {"characters": c, "tokens": t} for name, (c, t) in self.kinds.items()},
            "tokens": [
                {"id": token.id, "text": token.shown, "bytes": token.data.hex(), "special": token.special}
                for token in self.tokens
            ],
        }


def tokens(reference: str, text: str) -> Tokens:
    """`text` as the tokenizer of `reference` cuts it, with the special tokens that it puts around every text and those
    that the text names.

    Raises InputError for a hosted model, and ModelError where the model cannot be opened.
    """
    scheme = parse_reference(reference).scheme
    if scheme not in SCHEMES:
        raise InputError(
            f"{reference!r} is hosted and shows no tokens; name a model on this machine, such as 'gguf:smollm2-135m'"
            " or 'wordllama:256'"
        )
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no UTF-8 form
    found = _wordllama(reference, text) if scheme == "wordllama" else _gguf(reference, text)
    return Tokens(reference, text, tuple(found))


def _gguf(reference: str, text: str) -> list[Token]:
    from kurabe.models.engines.llama_cpp import LlamaCpp

    parsed = parse_reference(reference)
    # Nothing is evaluated, so that the least memory for keys and values will do.
    least = msgspec.structs.replace(parsed, options=parsed.options | {"context": str(LEAST_CONTEXT)})
    with open_model(str(least)) as model:
        assert isinstance(model, LlamaCpp)
        pieces = model.tokenize(text)
        # A special token never comes out of a text that is only text; of the others each may.
        plain = {piece.id for piece in model.tokenize(text, special=False)}
        special = {
            piece.id
            for piece in set(pieces)
            if piece.id not in plain and (name := model.name_of(piece.id)) and _is_special(model, piece.id, name)
        }
    return token_list([(piece.id, piece.data) for piece in pieces], special)


def _is_special(model: Any, token: int, name: str) -> bool:
    return [piece.id for piece in model.tokenize(name, special=False)] != [token] and token in (
        piece.id for piece in model.tokenize(name)
    )


def _wordllama(reference: str, text: str) -> list[Token]:
    from kurabe.models.embeddings.wordllama import embedding_dimensions, tokenizer

    embedding_dimensions(reference)  # a name that is none is said before anything is read
    encoding = tokenizer().encode(text)
    pieces = [(number, _sentencepiece(token)) for number, token in zip(encoding.ids, encoding.tokens, strict=True)]
    special = {number for number, mask in zip(encoding.ids, encoding.special_tokens_mask, strict=True) if mask}
    return token_list(pieces, special)


def _sentencepiece(token: str) -> bytes:
    """A token's bytes: SentencePiece writes a space as ▁ and a byte as <0xE6>."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def token_list(pieces: Sequence[tuple[int, bytes]], special: set[int]) -> list[Token]:
    """Tokens of (number, bytes), in order, with the parts of characters named."""
    shown = list(_shown([b"" if number in special else data for number, data in pieces]))
    return [
        Token(number, data, data.decode("utf-8", "replace") if number in special else text, number in special)
        for (number, data), text in zip(pieces, shown, strict=True)
    ]


def _shown(parts: Sequence[bytes]) -> Iterator[str]:
    """Each part as text, where the parts follow each other and may cut a character."""
    places = list(_characters(b"".join(parts)))
    at = 0
    for part in parts:
        text, start, end = "", at, at + len(part)
        while at < end:
            character, first, size = places[at]
            stop = min(end, first + size)
            if at == first and stop == first + size:
                text += visible(character) if character else f"‹{part[at - start]:02X}›"
            else:
                span = f"{at - first + 1}" if stop - at == 1 else f"{at - first + 1}–{stop - first}"
                text += f"‹{visible(character)}{span}/{size}›"
            at = stop
        yield text


def _characters(data: bytes) -> Iterator[tuple[str, int, int]]:
    """For each byte the character it belongs to, where that begins and its length; '' for a byte of none."""
    at = 0
    while at < len(data):
        for size in range(1, 5):
            try:
                character = data[at : at + size].decode("utf-8")
            except UnicodeDecodeError:
                continue
            if len(character) == 1:
                break
        else:
            character, size = "", 1
        for _ in range(size if character else 1):
            yield character, at, size
        at += size


def visible(text: str) -> str:
    """`text` with white space and control characters as signs.

    >>> visible(" a\\n\\x1b")
    '·a↵␛'
    """
    return text.translate(_VISIBLE).translate(_CONTROL)
