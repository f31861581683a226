"""kurabe embed: vectors as JSON lines or a file."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

import kurabe
from kurabe.cli.main import cli
from kurabe.errors import KurabeError, ModelError
from kurabe.models.embeddings import _opened as opened
from kurabe.models.embeddings.base import units
from kurabe.testing import Fault, Simulator

HERE = "wordllama:64"


def call(*args: str | Path, text: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, ["embed", *map(str, args)], input=text)


def test_json_lines_of_texts_and_of_lines() -> None:
    expected = kurabe.embed(HERE, ["red", "naïve 日本"])
    for result in (call(HERE, "red", "naïve 日本"), call(HERE, text="red\r\nnaïve 日本\n")):
        assert result.exit_code == 0, result.output
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["text"] for row in rows] == ["red", "naïve 日本"]
        assert (np.asarray([row["embedding"] for row in rows], np.float32) == expected).all()  # to the last bit


def test_files(tmp_path: Path) -> None:
    expected = kurabe.embed(HERE, ["red", "blue"])
    for ending in ("npy", "jsonl", "parquet"):
        path = tmp_path / f"out.{ending}"
        result = call(HERE, "red", "blue", "--output", path)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert "2 vectors of 64 numbers" in result.stderr
    assert (np.load(tmp_path / "out.npy", allow_pickle=False) == expected).all()
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert frame["text"].to_list() == ["red", "blue"]
    assert (frame["embedding"].to_numpy() == expected).all()
    assert (np.asarray(pl.read_ndjson(tmp_path / "out.jsonl")["embedding"].to_list(), np.float32) == expected).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.npy", "out.parquet"]


def test_a_hosted_model_in_steps_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "AT_ONCE", 10)
    monkeypatch.setattr(opened, "BATCHES", 0)
    texts = [f"text {n}" for n in range(25)]
    with Simulator("vllm") as server:
        result = call(f"openai@{server.url}:small", text="\n".join(texts))
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["text"] for row in rows] == texts
        vectors = np.asarray([row["embedding"] for row in rows], np.float32)
        assert np.array_equal(vectors, units([server.vector(text) for text in texts]))
        assert server.calls >= 3


def test_a_fault_leaves_no_file_and_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    path.write_bytes(b"old")
    with Simulator("vllm", faults=Fault.status(400, "too much")) as server:
        result = call(f"openai@{server.url}:small", "a", "-o", path)
    assert isinstance(result.exception, ModelError)
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


@pytest.mark.parametrize(
    ("args", "text", "says"),
    [
        ((HERE,), b"a\n\xff\n", "line 2 of standard input is not UTF-8"),
        ((HERE, "a", "-o", "x.csv"), "", "no file ending '.csv'"),
        ((HERE, "a", "-o", "nowhere/x.npy"), "", "there is no folder nowhere"),
        ((HERE, "-o", "x.npy"), "", "there are no texts"),
        (("gguf:/x.gguf", "a"), "", "x.gguf"),
        (("opnai:x", "a"), "", "did you mean 'openai'"),
        (("red shoes",), "", "'red shoes' names no model, which stands before the texts: kurabe embed wordllama:256"),
    ],
)
def test_bad_input(args: tuple[str, ...], text: str | bytes, says: str) -> None:
    result = call(*args, text=text)
    assert isinstance(result.exception, KurabeError)
    assert says in str(result.exception)


def test_nothing_in_nothing_out() -> None:
    result = call(HERE)
    assert (result.exit_code, result.stdout) == (0, "")


def test_an_empty_line_is_all_zeros(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    result = call(HERE, "-o", path, text="one\n\nthree\n")
    assert result.exit_code == 0, result.output
    vectors = np.load(path, allow_pickle=False)
    assert (vectors == kurabe.embed(HERE, ["one", "", "three"])).all()
    assert not vectors[1].any()


def test_lines_without_a_reference_are_wordllamas() -> None:
    rows = [json.loads(line) for line in call(text="red\nblue\n").stdout.splitlines()]
    assert (np.asarray([row["embedding"] for row in rows], np.float32) == kurabe.embed(["red", "blue"])).all()
