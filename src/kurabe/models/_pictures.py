"""How many tokens a picture may cost at most, by its size and by what providers document or were seen to count."""

import math
import re
from typing import Final, Literal, NamedTuple

from kurabe.messages import Image


class Pixels(NamedTuple):
    """The size of a picture."""

    width: int
    height: int


LARGEST: Final = Pixels(8_000, 8_000)
"""What a picture counts as whose size can't be read: the largest that providers take."""
_CLAUDE: Final = 4_784
_CLAUDE_MORE: Final = 100  # some 80 tokens were seen beside the patches
_GEMINI: Final = 2_240
_GEMINI_TILE: Final = 258
_OPENAI_TILES: Final = 1_500  # gpt-4o and all others with tiles, but for gpt-4o-mini: 85 + 8 * 170
_OPENAI_MINI_TILES: Final = 2_833 + 8 * 5_667
_ANY: Final = 4_200  # Pixtral's 64 rows of 64 patches; those that cut a picture into tiles of one size stay below
_OPENAI_NAME: Final = re.compile(r"gpt|chatgpt|codex|computer-use|\bo\d")
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def most_picture_tokens(image: Image, model: str, provider: str) -> int:
    """An upper bound of a picture's tokens. The model's name says whose rules hold, wherever it runs.

    OpenAI: patches of 32 pixels, times 2.46 for the smallest models and 1.2 for others, or tiles, of which there are
    at most eight; Claude: patches of 28 pixels (a little under 750 pixels a token), 4,784 at most; Gemini: 2,240 at
    most, or 258 for each tile; others: patches of 28 pixels, as Qwen and Mistral count, or tiles of a fixed number.
    https://platform.openai.com/docs/guides/images-vision, https://platform.claude.com/docs/en/build-with-claude/vision,
    https://ai.google.dev/gemini-api/docs/media-resolution
    """
    size = picture_size(image.data) or LARGEST
    name = model.lower()
    if "claude" in name:
        return _CLAUDE_MORE + min(max(_patches(size, 28), math.ceil(size.width * size.height / 750)), _CLAUDE)
    if "gemini" in name:
        tile = min(max(min(size) // 1.5, 256), 768)
        return max(_GEMINI, _GEMINI_TILE * math.ceil(size.width / tile) * math.ceil(size.height / tile))
    if provider.startswith(("openai", "azure")) or _OPENAI_NAME.search(name):
        times = 2.46 if "mini" in name or "nano" in name else 1.2
        most = max(_OPENAI_TILES, math.ceil(times * _patches(size, 32)))
        return max(most, _OPENAI_MINI_TILES) if "4o-mini" in name or not _OPENAI_NAME.search(name) else most
    return max(_ANY, _patches(size, 28))


def picture_size(data: bytes) -> Pixels | None:
    """The size that a PNG, JPEG, GIF or WebP states; None where it can't be read.

    >>> picture_size(b"GIF89a" + bytes([44, 1, 200, 0]))
    Pixels(width=300, height=200)
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        found = _two(data, 16, 4, "big")
    elif data.startswith(b"GIF8"):
        found = _two(data, 6, 2, "little")
    elif data.startswith(b"\xff\xd8"):
        found = _jpeg(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = _webp(data[12:30])
    else:
        found = None
    return found if found is not None and min(found) > 0 else None


def _patches(size: Pixels, side: int) -> int:
    return math.ceil(size.width / side) * math.ceil(size.height / side)


def _two(data: bytes, at: int, length: int, order: Literal["big", "little"]) -> Pixels | None:
    """Two numbers of so many bytes each, one after the other."""
    first, second = data[at : at + length], data[at + length : at + 2 * length]
    return Pixels(int.from_bytes(first, order), int.from_bytes(second, order)) if len(second) == length else None


def _jpeg(data: bytes) -> Pixels | None:
    """From the first frame (ITU T.81, B.2.2), after whatever segments stand before it."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        mark = data[at + 1]
        if mark == 0xFF:  # fill
            at += 1
        elif mark in _JPEG_ALONE:
            at += 2
        elif mark in _JPEG_FRAMES:
            size = _two(data, at + 5, 2, "big")
            return Pixels(size.height, size.width) if size is not None else None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp(data: bytes) -> Pixels | None:
    """From the first chunk (https://developers.google.com/speed/webp/docs/riff_container)."""
    kind, body = data[:4], data[8:]
    if kind == b"VP8X":
        size = _two(body, 4, 3, "little")
        return Pixels(size.width + 1, size.height + 1) if size is not None else None
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return Pixels((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    size = _two(body, 6, 2, "little") if kind == b"VP8 " else None
    return Pixels(size.width & 0x3FFF, size.height & 0x3FFF) if size is not None else None
