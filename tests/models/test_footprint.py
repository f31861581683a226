"""What engines take, and the refusal of what does not fit."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from kurabe.errors import InputError, ModelError, ModelTooLargeError
from kurabe.models.weights import footprint
from kurabe.models.weights.footprint import available_bytes, cache_width, engine_need, require_fit
from kurabe.models.weights.headers import read_path


@pytest.fixture(autouse=True)
def _check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(footprint.INSIST, raising=False)


def refusal(path: Path, engine: Literal["gguf", "hf"], **settings: Any) -> str:
    with pytest.raises(ModelTooLargeError) as caught:
        require_fit(path, engine, **settings)
    assert isinstance(caught.value, ModelError)
    return str(caught.value)


def test_what_fits_is_not_refused(smollm2: Path) -> None:
    assert require_fit(smollm2, "gguf", context=512, sequences=4) == 4
    assert require_fit(smollm2, "hf", context=512, sequences=4, precision="float32") == 4


@pytest.mark.parametrize(("engine", "precision"), [("gguf", None), ("hf", "float32"), ("hf", "nf4")])
def test_it_is_exact(smollm2: Path, engine: Literal["gguf", "hf"], precision: str | None) -> None:
    """The last byte decides, and as many sequences run as there is memory for."""

    def total(sequences: int) -> int:
        header = read_path(smollm2)
        need = engine_need(
            header,
            engine,
            context=4096,
            sequences=sequences,
            precision=precision,
            servers=min(2, sequences),
            on_gpu=True,
        )
        return need.total

    settings: dict[str, Any] = {"context": 4096, "sequences": 4, "precision": precision, "servers": 2}
    for fitting in range(1, 5):
        assert require_fit(smollm2, engine, **settings, device_bytes=total(fitting)) == fitting
    refusal(smollm2, engine, **settings, device_bytes=total(1) - 1)


def test_quantized_weights_with_others_in_float32_take_more(smollm2: Path) -> None:
    settings: dict[str, Any] = {"context": 4096, "precision": "nf4"}
    needed = engine_need(read_path(smollm2), "hf", **settings, dtype="float32", on_gpu=True).total
    assert require_fit(smollm2, "hf", **settings, dtype="float32", device_bytes=needed) == 1
    assert require_fit(smollm2, "hf", **settings, device_bytes=needed - 100_000_000) == 1
    refusal(smollm2, "hf", **settings, dtype="float32", device_bytes=needed - 1)


def test_the_refusal_names_figures_and_what_would_fit(smollm2: Path) -> None:
    on_card = footprint.GPU_CONTEXT_BYTES
    text = refusal(smollm2, "gguf", context=8192, device_bytes=on_card + 200_000_000)
    assert "weights 97 MB, keys and values 189 MB" in text
    assert "958 MB are free" in text
    assert "(?context=2048)" in text
    assert "KURABE_NO_MEMORY_CHECK=1" in text
    text = refusal(smollm2, "hf", context=512, precision="float32", device_bytes=on_card + 400_000_000)
    assert "weights 538 MB" in text
    assert "?dtype=bfloat16" in text
    assert "context=" not in text
    text = refusal(smollm2, "hf", context=8192, precision="float32", device_bytes=on_card + 300_000_000)
    assert re.search(r"\?\w+=\w+&context=\d+ ", text)
    assert "no model" in refusal(smollm2, "hf", context=512, device_bytes=10**6)


def test_what_is_named_would_be_taken(smollm2: Path) -> None:
    free = footprint.GPU_CONTEXT_BYTES + 200_000_000
    assert "(?context=2048)" in refusal(smollm2, "gguf", context=8192, device_bytes=free)
    assert require_fit(smollm2, "gguf", context=2048, device_bytes=free) == 1


def test_who_insists_loads(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(footprint.INSIST, "0")
    refusal(smollm2, "gguf", context=512, device_bytes=1)
    monkeypatch.setenv(footprint.INSIST, "1")
    assert require_fit(smollm2, "gguf", context=512, sequences=3, device_bytes=1) == 3


def test_cache_types() -> None:
    assert [cache_width(name) for name in ("f32", "bf16", "q8_0", "Q4_0")] == [4, 2, 1.0625, 0.5625]
    with pytest.raises(InputError, match="q8_0"):
        cache_width("q8")


def cgroup(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_a_container_is_given_less(tmp_path: Path) -> None:
    """The tightest limit of a cgroup and those above it, of version 2 and of version 1."""
    own = tmp_path / "cgroup"
    cgroup(tmp_path / "two" / "a", memory__max="1000\n", memory__current="700\n", memory__stat="inactive_file 50\n")
    cgroup(tmp_path / "two" / "a" / "b", memory__max="max\n", memory__current="600\n", memory__stat="anon 1\n")
    own.write_text("0::/a/b\n")
    assert list(footprint._cgroup_rooms(tmp_path / "two", own)) == [350]
    inside = tmp_path / "one" / "memory" / "x"
    cgroup(inside, memory__limit_in_bytes="500", memory__usage_in_bytes="600", memory__stat="total_inactive_file 20")
    own.write_text("9:name=systemd:/\n4:cpu,memory:/x\n0::/none\n")
    assert list(footprint._cgroup_rooms(tmp_path / "one", own)) == [0]
    assert list(footprint._cgroup_rooms(tmp_path, tmp_path / "no such file")) == []


def test_no_limit_is_beyond_the_machine() -> None:
    assert 0 < available_bytes() < 2**50
