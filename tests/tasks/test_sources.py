import datetime as dt
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pandas as pd
import polars as pl
import pytest

import kurabe.tasks.hub
from kurabe.errors import DataError
from kurabe.tasks.hub import choose
from kurabe.tasks.readers import Table
from kurabe.tasks.sources import frame_table, read_table, stack, typed_frame


def read(folder: Path, content: str | bytes, name: str = "items.csv", encoding: str = "utf-8") -> Table:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(name, folder, encoding)


def columns(table: Table) -> dict[str, list[object]]:
    return typed_frame(table).to_dict(as_series=False)


def refusal(folder: Path, content: str | bytes, name: str = "items.csv", encoding: str = "utf-8") -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, encoding)
    return str(caught.value)


def test_types_are_judged_by_the_whole_file(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i},{i}\n" for i in range(5000))
    frame = typed_frame(read(tmp_path, f"late_text,late_float,whole\n{rows}x,0.5,-1\n"))
    assert frame.dtypes == [pl.String, pl.Float64, pl.Int64]
    assert frame.row(-1) == ("x", 0.5, -1)


def test_what_stays_text_and_what_is_missing(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "zip,number,word,long,exponent,mixed\n"
        "00501,NA,NA,12345678901234567890,1e3,NA\n"
        "10001,,x,1, 2.5 ,3\n"
        "94105,7,,2,.5,three\n",
    )
    assert columns(table) == {
        "zip": ["00501", "10001", "94105"],
        "number": [None, None, 7],
        "word": ["NA", "x", None],
        "long": ["12345678901234567890", "1", "2"],
        "exponent": [1000.0, 2.5, 0.5],
        "mixed": ["NA", "3", "three"],
    }
    assert columns(Table(table.frame, table.stretches, typed=False))["number"] == [None, None, 7]
    assert typed_frame(table, keep=["exponent"])["exponent"].to_list() == ["1e3", " 2.5 ", ".5"]


def test_quotes_line_breaks_nul_and_emoji_in_fields(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n"x, ""y""\nz",1\r\n\n🙂\x00,2\n')
    assert columns(table) == {"a": ['x, "y"\nz', "🙂\x00"], "b": [1, 2]}
    assert [table.locate(row) for row in range(2)] == ["items.csv, line 2", "items.csv, line 5"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_that_of_the_header(tmp_path: Path, separator: str) -> None:
    assert columns(read(tmp_path, f"a{separator}b\n1{separator}2\n")) == {"a": [1], "b": [2]}


def test_tab_separated_values(tmp_path: Path) -> None:
    assert columns(read(tmp_path, "a, x\tb\n1,5\t2\n", "items.tsv")) == {"a, x": ["1,5"], "b": [2]}


def test_a_nameless_column_is_called_by_its_place(tmp_path: Path) -> None:
    assert columns(read(tmp_path, '"",price\n1,2\n')) == {"column_1": [1], "price": [2]}


def test_a_megabyte_in_one_field(tmp_path: Path) -> None:
    text = "word " * 200_000
    assert read(tmp_path, f"a,b\n{text},1\n").frame["a"][0] == text


def test_a_ragged_line_says_where(tmp_path: Path) -> None:
    assert refusal(tmp_path, 'a,b\n"1\n2",2\n3\n').startswith("items.csv, line 4 has 1 field, the header has 2.")
    assert refusal(tmp_path, "a,b\n1,2\nlamp, blue,3\n") == (
        "items.csv, line 3 has 3 fields, the header has 2. A field with the separator or a line break goes in quotes;"
        " the line begins 'lamp, blue,3'"
    )


def test_a_quote_that_never_ends_says_where_it_began(tmp_path: Path) -> None:
    assert "items.csv, line 3: not valid csv" in refusal(tmp_path, 'a,b\n1,2\n"x,3\n4,5\n')


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    assert "line 1: two columns are called 'a'" in refusal(tmp_path, "a,b,a\n1,2,3\n")


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, " \n", name) == f"{name} is empty"


def test_a_file_of_a_header_alone(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a,b\n") == "items.csv has no rows"


@pytest.mark.parametrize(("text", "encoding"), [("a\ncafé\n", "cp1252"), ("a\n価格のリスト\n", "cp932")])
def test_a_wrong_encoding_says_where_and_what_to_write(tmp_path: Path, text: str, encoding: str) -> None:
    said = refusal(tmp_path, text.encode(encoding))
    assert said.startswith("items.csv, line 2 is not utf-8 (byte ")
    assert f"encoding: {encoding}" in said
    assert read_table("items.csv", tmp_path, encoding=None).encoding == encoding
    assert columns(read(tmp_path, text.encode(encoding), encoding=encoding)) == {"a": [text.split("\n")[1]]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    text = "a\né\n" if name.endswith("csv") else '{"a": "é"}\n'
    assert columns(read(tmp_path, text.encode(encoding), name)) == {"a": ["é"]}
    assert read_table(name, tmp_path, encoding=None).encoding == "utf-8"


def test_json_lines(tmp_path: Path) -> None:
    records = [
        {"n": 1, "x": 1, "s": "a\u2028b", "flag": True, "deep": {"k": [1, "é"]}, "mixed": 1, "big": 2**70},
        {"n": None, "x": 0.5, "s": None, "flag": None, "deep": [], "mixed": "two", "late": "l"},
    ]
    table = read(tmp_path, "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records), "items.ndjson")
    assert columns(table) == {
        "n": [1, None],
        "x": [1.0, 0.5],
        "s": ["a\u2028b", None],
        "flag": [True, None],
        "deep": ['{"k":[1,"é"]}', "[]"],
        "mixed": ["1", "two"],
        "big": [str(2**70), None],
        "late": [None, "l"],
    }
    assert table.locate(1) == "items.ndjson, line 3"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": 1', "line 2 is not valid JSON"),
        ("[1, 2]", "line 2 is not a JSON object. The whole file must be one object a line"),
        ("3", "line 2 is not a JSON object"),
        ('{"a": NaN}', "JSON has no NaN: write null"),
        ('{"a": "\\ud800"}', "line 2 is not valid JSON"),
        ("[" * 100_000, "line 2 is not"),
    ],
)
def test_a_line_that_is_no_json_object_says_where(tmp_path: Path, line: str, said: str) -> None:
    assert said in refusal(tmp_path, f'{{"a": 1}}\n{line}\n', "items.jsonl")


def test_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "n": [1, None],
            "day": [dt.date(2024, 1, 2), None],
            "tags": [["a", "b"], None],
            "image": [b"\x00", b"\xff"],
            "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
            "price": pl.Series(["1.50", "2.25"]).cast(pl.Decimal(10, 2)),
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    table = read_table("items.parquet", tmp_path)
    assert columns(table) == {
        "n": [1, None],
        "day": [dt.date(2024, 1, 2), None],
        "tags": ['["a","b"]', None],
        "kind": ["x", "y"],
        "price": [1.5, 2.25],
    }
    assert table.locate(1) == "items.parquet, row index 1"
    assert "is not a parquet file" in refusal(tmp_path, b"PAR1 no", "items.parquet")


def test_a_glob_reads_files_by_name_and_judges_types_over_all(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("n,a\n2.5,x\n")
    (tmp_path / "a.csv").write_text("a,n\n007,1\n")
    table = read_table("*.csv", tmp_path)
    assert columns(table) == {"a": ["007", "x"], "n": [1.0, 2.5]}
    assert [table.locate(row) for row in range(2)] == ["a.csv, line 2", "b.csv, line 2"]


def test_files_of_a_glob_must_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,n\n1,1\n")
    (tmp_path / "b.csv").write_text("a,m\n1,1\n")
    with pytest.raises(DataError, match=r"b\.csv and a\.csv do not have the same columns: only one has 'm', 'n'"):
        read_table("*.csv", tmp_path)


def test_tables_of_different_types_are_stacked_as_text_where_they_must(tmp_path: Path) -> None:
    mixed = stack([read(tmp_path, "a,b\n1,2\n"), read(tmp_path, '{"a": "x", "b": 0.5}', "more.jsonl")])
    assert columns(mixed) == {"a": ["1", "x"], "b": [2.0, 0.5]}
    assert mixed.locate(1) == "more.jsonl, line 1"


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"no file 'itmes\.csv'; did you mean 'items\.csv'\?"):
        read_table("itmes.csv", tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        read_table("nowhere/items.csv", tmp_path)
    with pytest.raises(DataError, match=r"no file matches '\*\.tsv'"):
        read_table("*.tsv", tmp_path)
    with pytest.raises(DataError, match=r"is a folder.*it has 'items\.csv'"):
        read_table(".", tmp_path)
    with pytest.raises(DataError, match="no file"):
        read_table("a\x00b", tmp_path)


def test_a_file_of_another_type_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"[{}]", "items.json").endswith("as one object a line: .jsonl")
    assert refusal(tmp_path, b"PK", "items.zip").startswith("items.zip: .zip cannot be read. These can: .csv, ")


def test_pandas_and_polars_frames_give_the_same_table() -> None:
    content = {"n": [1, 2], "x": [0.5, None], "s": ["a", None], "flag": [True, False]}
    given = pd.DataFrame(content).assign(
        category=pd.Categorical(["u", "v"]),
        when=pd.to_datetime(["2024-01-02", None]),
        mixed=[1, "x"],
        nullable=pd.array([1, None], dtype="Int64"),
    )
    assert columns(frame_table(given)) == {
        **content,
        "category": ["u", "v"],
        "when": [dt.datetime(2024, 1, 2), None],
        "mixed": ["1", "x"],
        "nullable": [1, None],
    }
    assert columns(frame_table(pl.DataFrame(content))) == content
    assert columns(frame_table(pl.LazyFrame(content))) == content
    assert frame_table(given).locate(1) == "row index 1"


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(DataError, match="expected a polars or pandas DataFrame, got list"):
        frame_table([1])
    with pytest.raises(DataError, match="the frame has no rows"):
        frame_table(pl.DataFrame({"a": []}))
    with pytest.raises(DataError, match="two columns of the frame are called 'a'"):
        frame_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))


FILES = {
    "README.md": b"# hello",
    "data/train-00000-of-00002.jsonl": b'{"q": "a", "n": 1}\n',
    "data/train-00001-of-00002.jsonl": b'{"q": "b", "n": 2}\n',
    "data/test-00000-of-00001.jsonl": b'{"q": "c", "n": 3}\n',
    "extra/other.csv": b"x,y\n1,2\n",
}
COMMIT = "0" * 39 + "1"
TOKEN = "hf_" + "s3cret" * 5


TOKENS_SEEN: set[str | None] = set()


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that listing and downloading need."""

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        TOKENS_SEEN.add(self.headers.get("Authorization"))
        if not path.startswith(("/api/datasets/org/toy", "/datasets/org/toy/")):
            gated = "gated" in path
            headers = {"X-Error-Code": "GatedRepo" if gated else "RepoNotFound", "X-Error-Message": "no"}
            return self.reply(403 if gated else 404, b"{}", headers, with_body)
        if "/nothing" in path:
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
        if path.startswith("/api/"):
            tree = [{"type": "file", "path": name, "size": len(body), "oid": "1"} for name, body in FILES.items()]
            siblings = [{"rfilename": name} for name in FILES]
            about = {"id": "org/toy", "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            return self.reply(200, json.dumps(tree if "/tree/" in path else about).encode(), {}, with_body)
        name = path.split("/resolve/")[1].split("/", 1)[1]
        body = FILES[name]
        return self.reply(200, body, {"ETag": f'"{abs(hash(name)):x}"', "X-Repo-Commit": COMMIT}, with_body)

    def reply(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


READ_ALL = """
import json, sys
from pathlib import Path
from kurabe.errors import DataError
from kurabe.tasks.sources import read_table, typed_frame
for source in sys.argv[1:]:
    try:
        table = read_table(source, Path("."))
        found = [typed_frame(table).to_dict(as_series=False), table.locate(0), table.warnings]
    except DataError as error:
        found = str(error)
    print(json.dumps(found))
"""


def read_from(endpoint: str, cache: Path, *sources: str, **more: str) -> tuple[list[object], str]:
    """What a fresh Python reads from a hub: huggingface_hub takes its settings from the environment, once."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_TOKEN": TOKEN, **more}
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *sources], env=environment, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stdout + done.stderr


def test_data_sets_of_a_hub(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kurabe.tasks.hub, "HfApi", partial(huggingface_hub.HfApi, endpoint=hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    sources = [
        "hf://org/toy",
        "hf://org/toy#test",
        "hf://org/toy@v1/extra/*.csv",
        "hf://org/toy/data/train-00001-of-00002.jsonl",
        "hf://org/toy#tset",
        "hf://org/toy/none.csv",
        "hf://org/absent",
        "hf://org/gated",
        "hf://org/toy@nothing",
        "hf://toy",
    ]
    found: list[Any] = []
    for source in sources:
        try:
            table = read_table(source, tmp_path)
            found.append([columns(table), table.locate(0), list(table.warnings)])
        except DataError as error:
            found.append(str(error))
    assert found[0] == [
        {"q": ["a", "b"], "n": [1, 2]},
        "hf://org/toy/data/train-00000-of-00002.jsonl, line 1",
        ["hf://org/toy: only the split 'train' is used; there are also: test (hf://org/toy#test)."],
    ]
    assert found[1:4] == [
        [{"q": ["c"], "n": [3]}, "hf://org/toy/data/test-00000-of-00001.jsonl, line 1", []],
        [{"x": [1], "y": [2]}, "hf://org/toy@v1/extra/other.csv, line 2", []],
        [{"q": ["b"], "n": [2]}, "hf://org/toy/data/train-00001-of-00002.jsonl, line 1", []],
    ]
    for said, part in zip(
        found[4:],
        [
            "no split 'tset'; did you mean 'test'?",
            "no file 'none.csv'",
            "no data set hf://org/absent",
            "is gated",
            "no revision 'nothing'",
            "is not of the form hf://owner/name",
        ],
        strict=True,
    ):
        assert part in str(said)
    assert TOKEN not in str(found)
    assert {f"Bearer {TOKEN}"} == TOKENS_SEEN


def test_what_was_fetched_once_is_there_without_a_network(hub: str, tmp_path: Path) -> None:
    fetched, printed = read_from(hub, tmp_path, "hf://org/toy#train")
    assert fetched == [[{"q": ["a", "b"], "n": [1, 2]}, "hf://org/toy/data/train-00000-of-00002.jsonl, line 1", []]]
    assert TOKEN not in printed
    for endpoint, more in ((hub, {"HF_HUB_OFFLINE": "1"}), ("http://127.0.0.1:9", {})):
        found, _ = read_from(endpoint, tmp_path, "hf://org/toy#train", "hf://org/other", **more)
        assert found[0] == fetched[0]
        assert "hf://org/other cannot be fetched" in str(found[1])


@pytest.mark.parametrize(
    ("files", "chosen", "left"),
    [
        (["a.csv", "a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"], 0),
        (["x.parquet", "a.csv"], ["x.parquet"], 0),
        (["train.csv", "test.csv", "README.md"], ["train.csv"], 1),
        (["train/0.parquet", "train/1.parquet", "dev/0.parquet"], ["train/0.parquet", "train/1.parquet"], 1),
        (["en/part-0.parquet", "en/part-1.parquet"], ["en/part-0.parquet", "en/part-1.parquet"], 0),
    ],
)
def test_the_files_of_a_data_set_are_chosen_by_type_and_split(files: list[str], chosen: list[str], left: int) -> None:
    names, warnings = choose(files, None, None, "hf://o/n")
    assert names == chosen
    assert len(warnings) == left


def test_a_data_set_without_a_table_says_what_it_has() -> None:
    with pytest.raises(DataError, match=r"has no parquet, jsonl, csv or tsv file. It has a\.zip"):
        choose(["a.zip"], None, None, "hf://o/n")
