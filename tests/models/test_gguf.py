import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import ModelError
from kurabe.models.weights.gguf import TensorInfo, read_header, token_names


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(tensor_rows: int = 64, data: int = 256, version: int = 3) -> bytes:
    """A small whole file: a string, a number, an array of strings, one float32 tensor."""
    pairs = [
        string("general.architecture") + struct.pack("<I", 8) + string("llama"),
        string("llama.context_length") + struct.pack("<II", 4, 2048),
        string("tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"),
        string("scores") + struct.pack("<IIQff", 9, 6, 2, 0.5, 1.5),
    ]
    tensor = string("w") + struct.pack("<IQIQ", 1, tensor_rows, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + bytes(-len(head) % 32) + bytes(data)


def test_reads_a_header(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    header = read_header(path)
    assert (header.version, header.tensors, header.context_length) == (3, 1, 2048)
    assert header.metadata == {"general.architecture": "llama", "llama.context_length": 2048}
    assert header.lengths == {"tokens": 2, "scores": 2}
    assert header.infos == (TensorInfo("w", (64,), 0, 0),)
    assert header.infos[0].bytes == 256


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "has 0 bytes"),
        (b"GGUF", "has 4 bytes"),
        (b"PK\x03\x04" + bytes(100), "does not begin with 'GGUF'"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0) + bytes(64), "format version is 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63) + bytes(64), "ends inside the header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 1) + bytes(64), "ends inside the header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(64), "names no architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0) + bytes(64), "no model has that many"),
        (gguf(data=255), "is cut short"),
        (gguf(tensor_rows=2**62), "is cut short"),
    ],
)
def test_refuses_what_is_no_model(content: bytes, part: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_refuses_every_shorter_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    whole = gguf()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read_header(path)


@settings(max_examples=300)
@given(at=st.integers(0, len(gguf()) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, byte: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(gguf())
    content[at] = byte
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(content)
    with suppress(ModelError):
        assert read_header(path).tensors == 1


EXTREMES = [value.to_bytes(size, "little") for size in (1, 4, 8) for value in (0, 1, 2**7, 2 ** (8 * size) - 1)]
CUTS = st.tuples(st.integers(0, len(gguf())), st.integers(0, 16), st.sampled_from(EXTREMES) | st.binary(max_size=16))


@settings(max_examples=500)
@given(cuts=st.lists(CUTS, min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused(
    cuts: list[tuple[int, int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Pieces taken out, put in and written over, among them the lengths that go furthest."""
    content = gguf()
    for at, length, patch in cuts:
        content = content[:at] + patch + content[at + length :]
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(content)
    with suppress(ModelError):
        header = read_header(path)
        assert header.tensors == len(header.infos)
        assert header.context_length is None or header.context_length > 0
        assert all(info.bytes is None or info.bytes <= len(content) for info in header.infos)
        token_names(path)


def test_a_file_of_ones_and_a_nested_array_are_refused(tmp_path: Path) -> None:
    """Arrays in arrays without end, and more elements than a loop could count."""
    path = tmp_path / "m.gguf"
    begin = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + string("general.architecture")
    for rest in (struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100_000, b"\xff" * 1000, bytes(1_000_000)):
        path.write_bytes(begin + rest)
        with pytest.raises(ModelError, match="not a usable GGUF file"):
            read_header(path)


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match="cannot read"):
        read_header(tmp_path)


def test_the_real_model(smollm2: Path) -> None:
    header = read_header(smollm2)
    assert (header.metadata["general.architecture"], header.context_length, header.tensors) == ("llama", 8192, 272)
    assert header.metadata["general.license"] == "apache-2.0"
