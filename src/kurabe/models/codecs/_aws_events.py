"""AWS event streams (`application/vnd.amazon.eventstream`), from bytes in any pieces.

A message is: its length and that of its headers (big-endian uint32 each), the CRC-32 of these 8 bytes, the headers, the
payload, the CRC-32 of all before (https://smithy.io/2.0/aws/amazon-eventstream.html).
"""

import struct
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID
from zlib import crc32

from kurabe.errors import CutStreamError, UnreadableAnswerError

MAX_HEADERS: Final = 128 * 1024
MAX_PAYLOAD: Final = 24 * 1024 * 1024
"""Bytes; the limits that AWS's own clients hold a message to."""

_OVERHEAD: Final = 16  # prelude with its checksum, and the message's checksum
_prelude: Final = struct.Struct("!III").unpack_from
_uint32: Final = struct.Struct("!I").unpack_from
_uint16: Final = struct.Struct("!H").unpack_from


class EventStreamReader:
    """Takes an event stream apart into (headers, payload)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fault = ""

    def feed(self, data: bytes) -> list[tuple[dict[str, str], bytes]]:
        """The messages that these bytes complete; header values that are no text come as text.

        Raises UnreadableAnswerError for a wrong checksum, length or header; where sound messages stand before it, they
        are returned first and the next call raises.
        """
        buffer = self._buffer
        buffer += data
        messages: list[tuple[dict[str, str], bytes]] = []
        start = 0
        while not self._fault and len(buffer) - start >= 12:
            length, headers_length, checksum = _prelude(buffer, start)
            self._fault = _prelude_fault(buffer, start, length, headers_length, checksum)
            end = start + length
            if self._fault or len(buffer) < end:
                break
            message = bytes(buffer[start:end])
            if crc32(memoryview(message)[:-4]) != _uint32(message, length - 4)[0]:
                self._fault = "a message of the event stream with a wrong checksum"
                break
            headers_end = 12 + headers_length
            try:
                messages.append((_headers(message, headers_end), message[headers_end:-4]))
            except (ValueError, LookupError, struct.error) as error:
                self._fault = f"a header of the event stream that can't be read ({error or type(error).__name__})"
            start = end
        del buffer[:start]
        if self._fault and not messages:
            raise UnreadableAnswerError(self._fault)
        return messages

    def close(self) -> None:
        """To be called after the last byte. Raises CutStreamError inside a message, and what `feed` would raise."""
        self.feed(b"")
        if self._buffer:
            raise CutStreamError(f"the event stream ends inside a message, after {len(self._buffer):,} bytes of it")


def _prelude_fault(buffer: bytearray, start: int, length: int, headers_length: int, checksum: int) -> str:
    """What is wrong with the first 12 bytes of a message, or ''."""
    if crc32(bytes(buffer[start : start + 8])) != checksum:
        return "what is no event stream: the checksum of a message's beginning is wrong"
    if headers_length > MAX_HEADERS or not 0 <= length - headers_length - _OVERHEAD <= MAX_PAYLOAD:
        return f"a message of the event stream with a wrong length ({length:,} bytes, {headers_length:,} of headers)"
    return ""


def _integer(size: int) -> Callable[[bytes], str]:
    return lambda value: str(int.from_bytes(value[:size], "big", signed=True))


_FIXED: Final[dict[int, tuple[int, Callable[[bytes], Any]]]] = {
    0: (0, lambda _: "true"),
    1: (0, lambda _: "false"),
    2: (1, _integer(1)),
    3: (2, _integer(2)),
    4: (4, _integer(4)),
    5: (8, _integer(8)),
    8: (8, _integer(8)),  # a time, in milliseconds since 1970
    9: (16, lambda value: str(UUID(bytes=value))),
}
"""Type of a header's value → its size in bytes, and its text; types 6 (bytes) and 7 (text) carry their length."""


def _headers(message: bytes, end: int) -> dict[str, str]:
    """The headers from byte 12 to `end`; raises ValueError, LookupError or struct.error where they can't be read."""
    headers = {}
    place = 12
    while place < end:
        name_end = place + 1 + message[place]
        name = message[place + 1 : name_end].decode()
        kind = message[name_end]
        place = name_end + 1
        if kind == 7 or kind == 6:
            value_end = place + 2 + _uint16(message, place)[0]
            value = message[place + 2 : value_end]
            headers[name] = value.decode() if kind == 7 else value.hex()
        else:
            size, text = _FIXED[kind]
            value_end = place + size
            headers[name] = text(message[place:value_end])
        place = value_end
    if place != end:
        raise ValueError("it is longer than the headers")
    return headers
