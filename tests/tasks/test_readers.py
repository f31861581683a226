"""Every format of table: what it keeps, and that damaged bytes end in one message."""

import base64
import datetime as dt
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kurabe.errors import DataError, MissingExtraError
from kurabe.tasks.binary import read_binary
from kurabe.tasks.readers import Table, fitting_encoding, read_text, sniff
from kurabe.tasks.sources import read_table, typed_frame

FRAME = pl.DataFrame(
    {
        "whole": [1, 2, None],
        "real": [0.5, 2.5, None],
        "text": ["a", "007", None],
        "day": [dt.date(2024, 1, 2), dt.date(2024, 1, 3), None],
        "flag": [True, False, None],
    }
)
BINARY = [".parquet", ".arrow", ".feather", ".ipc", ".xlsx"]


@cache
def written(suffix: str) -> bytes:
    """A table of ten rows in the format."""
    frame, buffer = pl.concat([FRAME.head(2)] * 5), io.BytesIO()
    if suffix == ".parquet":
        frame.write_parquet(buffer)
    elif suffix == ".xlsx":
        frame.write_excel(buffer)
    elif suffix == ".arrows":
        frame.write_ipc_stream(buffer)
    elif suffix in (".csv", ".tsv"):
        frame.write_csv(buffer, separator="\t" if suffix == ".tsv" else ",")
    elif suffix == ".jsonl":
        frame.write_ndjson(buffer)
    else:
        frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def read(folder: Path, raw: bytes, suffix: str) -> Table:
    path = folder / f"items{suffix}"
    path.write_bytes(raw)
    return read_table(path.name, folder)


@pytest.mark.parametrize("suffix", BINARY)
def test_a_binary_format_keeps_types(tmp_path: Path, suffix: str) -> None:
    assert read(tmp_path, written(suffix), suffix).frame.equals(pl.concat([FRAME.head(2)] * 5))


def test_an_arrow_stream_is_read_as_a_file_is(tmp_path: Path) -> None:
    assert read(tmp_path, written(".arrows"), ".arrow").frame.height == 10


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(path) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)


def test_a_sheet_is_chosen_and_the_others_are_named(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["name", None, "n"], ["a", 1.5, 1], [None, None, None], ["b", 2, "two"]]
    workbook(tmp_path / "items.xlsx", {"First": rows, "Other sheet": [["x"], [1]]})
    table = read_table("items.xlsx", tmp_path)
    assert table.frame.to_dict(as_series=False) == {"name": ["a", "b"], "column_2": [1.5, 2.0], "n": ["1", "two"]}
    assert table.locate(1) == "items.xlsx, line 4"
    assert table.warnings == (
        "items.xlsx: only the sheet 'First' is used; there are also: Other sheet (items.xlsx#Other sheet).",
    )
    assert read_table("items.xlsx#Other sheet", tmp_path).frame["x"].to_list() == [1]
    with pytest.raises(DataError, match="no sheet 'Oter sheet'; did you mean 'Other sheet'"):
        read_table("items.xlsx#Oter sheet", tmp_path)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kurabe\[excel\]'"):
        read(tmp_path, written(".xlsx"), ".xlsx")


@pytest.mark.parametrize("suffix", [*BINARY, ".csv", ".jsonl"])
def test_an_empty_file_is_called_empty(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=rf"^items{suffix} is empty$"):
        read(tmp_path, b"", suffix)


def test_a_workbook_with_one_cell_far_away_does_not_fill_the_memory(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written(".xlsx"))) as old, zipfile.ZipFile(packed, "w") as new:
        for member in old.namelist():
            far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
            new.writestr(member, old.read(member).replace(b"</sheetData>", far))
    with pytest.raises(DataError, match="takes far more memory than the file's size explains"):
        read(tmp_path, packed.getvalue(), ".xlsx")


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new, new.open("xl/workbook.xml", "w") as member:
        for _ in range(1100):
            member.write(bytes(2**20))
    with pytest.raises(DataError, match="made to fill the memory"):
        read(tmp_path, packed.getvalue(), ".xlsx")


def test_a_parquet_file_of_billions_of_rows_is_refused(tmp_path: Path) -> None:
    pl.select(pl.repeat(0, 2**28, dtype=pl.Int8).alias("a")).lazy().sink_parquet(tmp_path / "items.parquet")
    assert (tmp_path / "items.parquet").stat().st_size < 2**22
    with pytest.raises(DataError, match="made to fill the memory"):
        read_table("items.parquet", tmp_path)


# A table of one column and two rows with one byte changed, at which Polars 2.1 ends the process.
DEADLY = base64.b64decode(
    "UEFSMRUEFRQVFEwVBBUAAAABAAAAeAEAAAB5FQAVEhUSLBV/FRAVBhUGAAACAAAABAEBAwIVDBk1AAYQGRgBYRUAFgQWYhZiJjYmCAAZHBY2FT"
    "QWAAAAFQIZLEgEcm9vdBUCABUMJQIYAWElAEwcAAAAFgQZHBkcJpgBHBUMGTUABhAZGAFhFQAWBBZiFmImNiYIABaaARUUABZiFgQmCBZiFAAA"
    "GRwYDEFSUk9XOnNjaGVtYRiYAS8vLy8vMm9BQUFBRUFBQUE4di8vL3hRQUFBQUVBQUVBQUFBS0FBc0FDQUFLQUFRQStQLy8vd3dBQUFBSUFBZ0"
    "FBQUFFQUFFQUFBQUVBQUFBN1AvLy95d0FBQUFnQUFBQUdBQUFBQUVVQUFBUUFCSUFCQUFRQUJFQUNBQUFBQXdBQUFBQUFQei8vLzhFQUFRQUFR"
    "QUFBR0VBABhOUG9sYXJzIChweXRob24pIHZlcnNpb24gMi4xLjAgKGJ1aWxkIDdmOTAyYmQzZmZkMjdmZjgyZDE0Mjc4YTA5YTI5NWZmMmY3YW"
    "VkOTIpGRwcAAAAUAEAAFBBUjE="
)


def test_a_parquet_file_at_which_the_reader_ends_the_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its reader crashes"):
        read(tmp_path, DEADLY, ".parquet")


damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255) | st.binary(max_size=8)), min_size=1, max_size=6
)


def damaged(raw: bytes, changes: list[tuple[float, int | bytes]]) -> bytes:
    """The bytes with some replaced, or cut and filled at some places."""
    found = bytearray(raw)
    for place, change in changes:
        at = int(place * len(found))
        if isinstance(change, int):
            found[at : at + 1] = bytes([change])
        else:
            found[at : at + 20] = change
    return bytes(found)


def refusal(reads: Callable[[], object]) -> str | None:
    """What the reader says of damaged bytes; None where it reads them. Any other error fails the test."""
    try:
        reads()
    except DataError as error:
        return str(error)
    return None


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@settings(max_examples=150, deadline=None)
@given(damage, st.sampled_from(["utf-8", "cp932", None]))
def test_damaged_text_is_read_or_refused(
    suffix: str, changes: list[tuple[float, int | bytes]], encoding: str | None
) -> None:
    said = refusal(lambda: typed_frame(read_text(damaged(written(suffix), changes), "items", suffix, encoding)))
    assert said is None or said.startswith("items")


def check_damaged(folder: Path, suffix: str, changes: list[tuple[float, int | bytes]]) -> None:
    path = folder / f"items{suffix}"
    path.write_bytes(damaged(written(suffix), changes))
    said = refusal(lambda: read_binary(path, "items", suffix))
    assert said is None or said.startswith("items")


once = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".xlsx"])
@settings(once, max_examples=12)
@given(damage)
def test_damaged_tables_are_read_or_refused(
    tmp_path: Path, suffix: str, changes: list[tuple[float, int | bytes]]
) -> None:
    check_damaged(tmp_path, suffix, changes)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows", ".xlsx"])
@settings(once, max_examples=150)
@given(damage)
def test_much_damage_is_read_or_refused(tmp_path: Path, suffix: str, changes: list[tuple[float, int | bytes]]) -> None:
    check_damaged(tmp_path, suffix, changes)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("名前,値\n山田㈱,①\n髙島屋～,②\n", "cp932"),
        ("name,ort\n東京都,山田商店\n", "cp932"),
        ("name\ncafé “naïve” – it’s\n", "cp1252"),
        ("straße;größe\nÄrger;Übung\n", "cp1252"),
        ("nom\nécole élève Noël €5\n", "cp1252"),
        ("plain\n1\n", "utf-8"),
        ("名前\n山田\n", "utf-8"),
    ],
)
def test_the_encoding_of_a_file_is_guessed(text: str, encoding: str) -> None:
    assert fitting_encoding(text.encode(encoding)) == encoding
    assert read_text(text.encode(encoding), "items", ".csv", None).encoding == encoding


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow", ".arrows", ".xlsx", ".tsv"])
def test_standard_input_is_told_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    assert sniff(written(suffix)) == (".arrow" if suffix == ".arrows" else suffix)
    code = (
        "from pathlib import Path; from kurabe.tasks.sources import read_table, typed_frame;"
        "table = read_table('-', Path()); print(typed_frame(table)['whole'].sum(), table.locate(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=written(suffix), capture_output=True, check=True)
    assert done.stdout.decode().startswith("15 standard input, ")


def test_a_deep_record_is_read_or_refused(tmp_path: Path) -> None:
    deep = '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}\n"
    with pytest.raises(DataError, match=r"items\.jsonl, line 1 is not valid JSON"):
        read(tmp_path, deep.encode(), ".jsonl")
    nested = '{"a": ' + "[" * 500 + "]" * 500 + ', "b": 1}\n'
    assert typed_frame(read(tmp_path, nested.encode(), ".jsonl"))["a"][0] == "[" * 500 + "]" * 500


@pytest.mark.parametrize(("suffix", "line"), [(".csv", "a,b\n{},1\n"), (".jsonl", '{{"a": "{}", "b": 1}}\n')])
def test_a_cell_of_a_hundred_megabytes_is_refused(tmp_path: Path, suffix: str, line: str) -> None:
    with pytest.raises(DataError, match=rf"^items{suffix}, line \d"):
        read(tmp_path, line.format("x" * 10**8).encode(), suffix)


def test_ten_thousand_columns(tmp_path: Path) -> None:
    header = ",".join(f"c{i}" for i in range(10_000))
    rows = "\n".join(",".join(str(i * k % 97) for i in range(10_000)) for k in range(20))
    assert typed_frame(read(tmp_path, f"{header}\n{rows}\n".encode(), ".csv")).shape == (20, 10_000)
