"""Server-sent events, from bytes in any pieces (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from typing import NamedTuple

from kurabe.errors import UnreadableAnswerError

LONGEST = 64 * 1024 * 1024
"""An event longer than this many bytes is no answer of a model."""


class Event(NamedTuple):
    """`event` is the type, '' where the stream names none; `data` the lines of data, joined by newlines."""

    event: bytes
    data: bytes


class EventReader:
    """Takes a stream of events apart. Lines end in LF, CR LF or CR; comments, ids and retry times are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._first = True

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises UnreadableAnswerError for one of more than 64 MiB."""
        rest = self._rest + data
        if self._first and rest:
            if b"\xef\xbb\xbf".startswith(rest[:3]) and len(rest) < 3:
                self._rest = rest
                return []
            rest = rest.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        if b"\r" in rest:
            held = b"\r" if rest.endswith(b"\r") else b""  # it may be the first half of CR LF
            rest = rest[: len(rest) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        blocks = rest.split(b"\n\n")
        self._rest = blocks.pop() + held
        if len(self._rest) > LONGEST:
            raise UnreadableAnswerError(f"an event of more than {LONGEST >> 20} MiB")
        return [event for block in blocks if (event := _event(block)) is not None]

    def close(self) -> list[Event]:
        """What is left at the end of the stream: a last event without its empty line, as some servers leave it."""
        rest, self._rest = self._rest.replace(b"\r", b"\n"), b""
        event = _event(rest)
        return [] if event is None else [event]


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
