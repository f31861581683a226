"""How a tokenizer cuts a text: the tokens with their numbers, and which of them hold only a part of a character."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from kurabe.lens.tokenizers import Opened, open_tokenizer

SAMPLES: Final = {
    "prose": "The station opened on a cold Monday morning, and nobody had expected so many visitors to come.",
    "numbers": "Order 4711: 12 x 1,299.99 = 15,599.88 USD, 2026-11-21 10:45, tel. +49 30 901820, 0.000125, 31415926535",
    "Japanese": "今日は天気がいいので、駅の前で友だちに会ってから、新しい図書館へ行きます。",
    "code": "def mean(values: list[float]) -> float:\n    if not values:\n        raise ValueError('empty')\n"
            "    return sum(values) / len(values)\n",
}  # fmt: skip
"""What tokenizers differ in."""
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
    doubts: tuple[str, ...] = ()
    """Why tokenizer and model may not belong together, a sentence each."""
    counted: int | None = None
    """The number of tokens where the provider says nothing else; `tokens` is empty then."""

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return len(self.tokens) if self.counted is None else self.counted

    @property
    def ids(self) -> list[int]:
        """The numbers alone."""
        return [token.id for token in self.tokens]

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """(characters, tokens) of digits, of characters beyond ASCII, and of white space, where the text has any: the
        tokens that hold a digit, a part of such a character, or white space alone."""
        if self.counted is not None:
            return {}
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
            "count": self.count,
            "doubts": list(self.doubts),
            "kinds": {name: {"characters": c, "tokens": t} for name, (c, t) in self.kinds.items()},
            "tokens": [
                {"id": token.id, "text": token.shown, "bytes": token.data.hex(), "special": token.special}
                for token in self.tokens
            ],
        }


def tokens(reference: str, text: str) -> Tokens:
    """`text` as the tokenizer of `reference` cuts it, with the special tokens that it puts around every text and those
    that the text names.

    A model on this machine (`gguf:`, `hf:`, `wordllama:`) has its own tokenizer; those of OpenAI's models are
    tiktoken's, also by the encoding's name (`tiktoken:o200k_base`). Of other hosted models there is the number of
    tokens alone, where the provider counts them: that of the text in a user's turn. Raises InputError where it doesn't,
    and ModelError where the model cannot be opened or the encoding is not on this machine.
    """
    with open_tokenizer(reference) as opened:
        return _cut(reference, text, opened)


def sample_tokens(reference: str) -> dict[str, Tokens]:
    """The texts of SAMPLES as the tokenizer of `reference` cuts them. Raises what `tokens` does."""
    with open_tokenizer(reference) as opened:
        return {name: _cut(reference, text, opened) for name, text in SAMPLES.items()}


def _cut(reference: str, text: str, opened: Opened) -> Tokens:
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no UTF-8 form
    if opened.cut is None:
        assert opened.counter is not None
        return Tokens(reference, text, (), opened.doubts, opened.counter(text))
    pieces = opened.cut(text)
    special = {piece.id for piece in pieces if piece.special}
    return Tokens(reference, text, tuple(token_list([piece[:2] for piece in pieces], special)), opened.doubts)


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
