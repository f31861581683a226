import itertools
import random
import struct
from collections.abc import Iterable
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import CutStreamError, ProviderError, UnreadableAnswerError
from kurabe.models.codecs._aws_events import MAX_HEADERS, MAX_PAYLOAD, EventStreamReader

Messages = list[tuple[dict[str, str], bytes]]


def framed(headers: bytes, payload: bytes, *, length: int | None = None, headers_length: int | None = None) -> bytes:
    """A message with right checksums; the lengths may be wrong."""
    length = 16 + len(headers) + len(payload) if length is None else length
    prelude = struct.pack("!II", length, len(headers) if headers_length is None else headers_length)
    body = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return body + struct.pack("!I", crc32(body))


def header(name: str, value: str) -> bytes:
    text = value.encode()
    return bytes([len(name.encode())]) + name.encode() + b"\x07" + struct.pack("!H", len(text)) + text


def message(headers: dict[str, str], payload: bytes) -> bytes:
    return framed(b"".join(header(name, value) for name, value in headers.items()), payload)


def read(pieces: Iterable[bytes]) -> Messages:
    reader = EventStreamReader()
    messages = [found for piece in pieces for found in reader.feed(piece)]
    reader.close()
    return messages


STREAM: Messages = [
    ({":event-type": "messageStart", ":content-type": "application/json", ":message-type": "event"}, b'{"p":"abc"}'),
    ({}, b""),
    ({":message-type": "event", "ü": "é" * 200}, bytes(range(256)) * 5),
    ({":event-type": ""}, b"{}"),
]
BYTES = b"".join(message(headers, payload) for headers, payload in STREAM)


def test_whole_bytewise_and_cut_at_random_places_agree() -> None:
    assert read([BYTES]) == STREAM
    assert read(BYTES[i : i + 1] for i in range(len(BYTES))) == STREAM
    chance = random.Random(1)
    for _ in range(100):
        places = sorted({0, len(BYTES), *chance.choices(range(len(BYTES) + 1), k=9)})
        assert read(BYTES[start:end] for start, end in itertools.pairwise(places)) == STREAM


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=30), st.text(max_size=30), max_size=4),
            st.binary(max_size=100),
        ),
        max_size=4,
    )
)
def test_botocore_reads_the_same(messages: Messages) -> None:
    data = b"".join(message(headers, payload) for headers, payload in messages)
    theirs = EventStreamBuffer()
    theirs.add_data(data)
    assert [(found.headers, found.payload) for found in theirs] == read([data]) == messages


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (0, b"", "true"),
        (1, b"", "false"),
        (2, b"\xff", "-1"),
        (3, b"\x01\x00", "256"),
        (4, b"\xff\xff\xff\xfe", "-2"),
        (5, b"\x00" * 7 + b"\x09", "9"),
        (6, b"\x00\x02\xab\x01", "ab01"),
        (8, struct.pack("!q", 1_700_000_000_000), "1700000000000"),
        (9, bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    ],
)
def test_headers_of_every_type(kind: int, value: bytes, text: str) -> None:
    data = framed(b"\x01a" + bytes([kind]) + value + header("b", "after"), b"x")
    assert read([data]) == [({"a": text, "b": "after"}, b"x")]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"<html>no stream at all</html>", "no event stream"),
        (message({"a": "b"}, b"payload")[:-1] + b"\x00", "wrong checksum"),
        (message({"a": "b"}, b"payload").replace(b"payload", b"pAyload"), "wrong checksum"),
        (framed(b"", b"", length=15), "wrong length"),
        (framed(b"", b"abcd", headers_length=5), "wrong length"),
        (framed(b"", b"", length=MAX_PAYLOAD + 17), "wrong length"),
        (framed(b"", b"", length=MAX_HEADERS + 17, headers_length=MAX_HEADERS + 1), "wrong length"),
        (framed(b"\x01a\x0a", b""), "header"),  # no such type
        (framed(b"\x01a\x07\x00\x09abc", b""), "header"),  # longer than the headers
        (framed(b"\x01a\x07\x00\x09abc", b"0123456789"), "header"),
        (framed(b"\x09a", b""), "header"),
        (framed(b"\x01a\x07", b""), "header"),
        (framed(b"\x01\xff\x00", b""), "header"),  # a name that is no UTF-8
        (framed(b"\x01a\x09\x00", b""), "header"),
    ],
)
def test_what_is_broken_is_said_after_the_sound_messages(broken: bytes, words: str) -> None:
    reader = EventStreamReader()
    with pytest.raises(UnreadableAnswerError, match=words):
        reader.feed(broken)
    with pytest.raises(UnreadableAnswerError, match=words):
        reader.close()
    with pytest.raises(UnreadableAnswerError, match=words):
        reader.feed(BYTES)
    reader = EventStreamReader()
    assert reader.feed(BYTES + broken + BYTES) == STREAM
    with pytest.raises(UnreadableAnswerError, match=words):
        reader.feed(b"")
    reader = EventStreamReader()
    assert reader.feed(BYTES + broken) == STREAM
    with pytest.raises(UnreadableAnswerError, match=words):
        reader.close()


def test_an_end_inside_a_message_is_a_cut_stream() -> None:
    ends = set(itertools.accumulate(len(message(*each)) for each in STREAM))
    for end in range(1, len(BYTES)):
        reader = EventStreamReader()
        reader.feed(BYTES[:end])
        if end in ends:
            reader.close()
        else:
            with pytest.raises(CutStreamError, match="inside a message"):
                reader.close()


@given(st.binary(max_size=200), st.integers(0, len(BYTES)), st.integers(0, 20), st.integers(1, 50))
def test_any_bytes_are_messages_or_an_error_of_ours(noise: bytes, place: int, skipped: int, size: int) -> None:
    data = BYTES[:place] + noise + BYTES[place + skipped :]
    found: list[Messages | type[ProviderError]] = []
    for step in (len(data) or 1, size):
        reader, messages = EventStreamReader(), []
        try:
            for start in range(0, len(data), step):
                messages += reader.feed(data[start : start + step])
            reader.close()
            found.append(messages)
        except (UnreadableAnswerError, CutStreamError) as error:
            found.append(type(error))
    assert found[0] == found[1]


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_as_headers(headers: bytes, payload: bytes) -> None:
    try:
        messages = EventStreamReader().feed(framed(headers, payload))
    except UnreadableAnswerError:
        return
    assert [found for _, found in messages] == [payload]
