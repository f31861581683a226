"""Server-sent events, from bytes in any pieces (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from typing import Final, NamedTuple

from kurabe.errors import UnreadableAnswerError

LONGEST: Final = 64 * 1024 * 1024
"""An event longer than this many bytes is no answer of a model."""

_MARK: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """`event` is the type, '' where the stream names none; `data` the lines of data, joined by newlines."""

    event: bytes
    data: bytes


class EventReader:
    """Takes a stream of events apart. Lines end in LF, CR LF or CR; comments, ids and retry times are left out."""

    def __init__(self) -> None:
        self._pending = bytearray()  # of the event at work
        self._line_ended = False  # the last byte so far is LF
        self._after_cr = False  # it was CR, so that LF at once is the second half of one line's end
        self._start: bytes | None = b""  # of the stream, until it is known whether it is a byte order mark

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises UnreadableAnswerError for one of more than 64 MiB."""
        if self._start is not None:
            data = self._start + data
            if len(data) < 3 and _MARK.startswith(data):
                self._start = data
                return []
            data, self._start = data.removeprefix(_MARK), None
        if self._after_cr or b"\r" in data:
            data = self._with_lf(data)
        if not data:
            return []
        self._pending += data
        complete = b"\n\n" in data or (self._line_ended and data[0] == 10)
        self._line_ended = data[-1] == 10
        blocks: list[bytes] = []
        if complete:
            blocks = bytes(self._pending).split(b"\n\n")
            rest = blocks.pop()
            self._pending, self._line_ended = bytearray(rest), rest.endswith(b"\n")
        if len(self._pending) > LONGEST:
            raise UnreadableAnswerError(f"an event of more than {LONGEST >> 20} MiB")
        return [event for block in blocks if (event := _event(block)) is not None]

    def close(self) -> list[Event]:
        """What is left at the end of the stream: a last event without its empty line, as some servers leave it."""
        event = _event(bytes(self._pending))
        self._pending, self._line_ended = bytearray(), False
        return [] if event is None else [event]

    def _with_lf(self, data: bytes) -> bytes:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(block: bytes) -> Event | None:
    """One event, or None for a block without data."""
    if block.startswith(b"data: ") and b"\n" not in block:  # nearly all of them
        return Event(b"", block[6:])
    name, lines = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return Event(name, b"\n".join(lines)) if lines else None
