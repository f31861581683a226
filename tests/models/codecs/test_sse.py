"""Server-sent events against the standard's own rules, from bytes in any pieces."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import UnreadableAnswerError
from kurabe.models.codecs._sse import LONGEST, Event, EventReader


def by_the_standard(stream: bytes) -> list[Event]:
    """The standard's rules, line by line; what is left at the end counts as an event, as `close` has it."""
    events: list[Event] = []
    name = b""
    data: list[bytes] = []
    for line in [*re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            if data:
                events.append(Event(name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


def read(stream: bytes, places: list[int]) -> list[Event]:
    reader = EventReader()
    ends = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    events = [event for start, end in pairwise(ends) for event in reader.feed(stream[start:end])]
    return events + reader.feed(b"") + reader.close()


LINES = st.sampled_from(
    [b"data: one", b"data:two", b"data:  three", b"data", b"event: x", b"event:", b": a comment", b"id: 1", b"", b"da"]
)
STREAMS = st.one_of(
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=12).map(
        lambda lines: b"".join(line + end for line, end in lines)
    ),
    st.lists(st.sampled_from([b"data:", b"a", b"\n", b"\r", b"\xef", b"\xbb", b"\xbf", b"event: e"])).map(b"".join),
)


@given(STREAMS, st.booleans(), st.lists(st.integers(0, 100), max_size=8))
def test_any_stream_in_any_pieces(stream: bytes, marked: bool, places: list[int]) -> None:
    stream = (b"\xef\xbb\xbf" if marked else b"") + stream
    expected = by_the_standard(stream)
    assert read(stream, []) == expected
    assert read(stream, places) == expected
    assert read(stream, list(range(len(stream)))) == expected


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_events_or_nothing(pieces: list[bytes]) -> None:
    """What comes out is never longer than what went in, and any pieces give the same."""
    reader, stream = EventReader(), b"".join(pieces)
    events = [event for piece in pieces for event in reader.feed(piece)] + reader.close()
    assert events == by_the_standard(stream)
    assert sum(len(event.event) + len(event.data) for event in events) <= len(stream)


def test_an_event_comes_with_its_empty_line_at_once() -> None:
    """A lone CR ends a line: the event does not wait for the byte after it."""
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        assert EventReader().feed(b"data: a" + end) == [Event(b"", b"a")]


def test_a_long_event_in_small_pieces_is_read_in_time_that_grows_with_its_length() -> None:
    """Joining what came with each piece would take some 20 GB of copies here, which is seconds."""
    reader = EventReader()
    piece, number = b"x" * 250, 12_000
    started = time.process_time()
    for part in (b"data: ", *[piece] * number):
        assert reader.feed(part) == []
    assert reader.feed(b"\n\n") == [Event(b"", piece * number)]
    assert time.process_time() - started < 1


def test_an_endless_event_is_none() -> None:
    reader = EventReader()
    for _ in range(LONGEST // (1 << 20)):
        assert reader.feed(bytes(1 << 20)) == []
    with pytest.raises(UnreadableAnswerError, match="64 MiB"):
        reader.feed(b"x")
