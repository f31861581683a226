"""Text files of tables, csv, tsv and jsonl, from bytes to a frame; and what every format shares.

Whatever the bytes hold, a reader gives a table or raises one DataError.
"""

import codecs
import csv
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import polars as pl

from kurabe.errors import DataError

TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson")
ARROW = (".arrow", ".feather", ".ipc")
EXCEL = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
SUFFIXES = (*TEXTS, ".parquet", *ARROW, *EXCEL)
MAX_CELL = 2**26
"""Characters of one cell of csv, and bytes of one line of jsonl: more is no cell of a table."""
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Stretch:
    """Rows of one file. `lines`: the line each begins at, counted from 1; None where a file has no lines."""

    name: str | None
    rows: int
    lines: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """Rows and where each came from. `typed` is False while every column is the text of a csv file."""

    frame: pl.DataFrame
    stretches: tuple[Stretch, ...]
    typed: bool = True
    warnings: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def locate(self, position: int) -> str:
        """Where a row stands, for messages: `items.csv, line 7`, or `row index 5` for a frame from Python."""
        starts = [0]
        for stretch in self.stretches:
            starts.append(starts[-1] + stretch.rows)
        index = bisect_right(starts, position) - 1
        stretch, offset = self.stretches[index], position - starts[index]
        place = f"line {stretch.lines[offset]}" if stretch.lines is not None else f"row index {offset}"
        return f"{stretch.name}, {place}" if stretch.name else place


def read_text(raw: bytes, name: str, suffix: str, encoding: str | None = "utf-8") -> Table:
    """The table that the bytes of a csv, tsv or jsonl file hold.

    Parameters
    ----------
    raw : bytes
    name : str
        What the file is called in messages.
    suffix : str
        One of TEXTS.
    encoding : str or None
        None guesses it. A byte order mark goes before.

    Raises
    ------
    DataError
        Where the bytes are no such file; the message names the line.
    """
    if not raw.strip():
        raise DataError(f"{name} is empty")
    marked = next((known for bom, known in _BOMS if raw.startswith(bom)), None)
    encoding = encoding or fitting_encoding(raw)
    text = _decode(raw, name, marked or encoding)
    if not text.strip():
        raise DataError(f"{name} is empty")
    table = _read_csv(text, name, suffix) if suffix in (".csv", ".tsv") else _read_jsonl(text, name)
    return replace(table, encoding=encoding)


def sniff(raw: bytes) -> str:
    """The suffix of the format that the bytes look like: that of csv unless they say otherwise.

    >>> sniff(b'{"a": 1}'), sniff(b"a,b"), sniff(b"PAR1...")
    ('.jsonl', '.csv', '.parquet')
    """
    for magic, suffix in (
        (b"PAR1", ".parquet"), (b"ARROW1", ".arrow"), (b"\xff\xff\xff\xff", ".arrow"), (b"PK\x03\x04", ".xlsx"),
        (b"\xd0\xcf\x11\xe0", ".xls"),
    ):  # fmt: skip
        if raw.startswith(magic):
            return suffix
    start = raw.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    first_line = raw.lstrip().split(b"\n", 1)[0]
    return ".jsonl" if start == b"{" else ".tsv" if b"\t" in first_line and b"," not in first_line else ".csv"


def fitting_encoding(raw: bytes) -> str:
    """The first of the common encodings in which the bytes are text; `utf-8` where they need no other.

    >>> fitting_encoding("山田㈱,①髙".encode("cp932")), fitting_encoding("café, “naïve”".encode("cp1252"))
    ('cp932', 'cp1252')
    """
    if raw.startswith(tuple(bom for bom, _ in _BOMS)) or _decodes(raw, "utf-8"):
        return "utf-8"
    if _decodes(raw, "cp932") and _looks_japanese(raw.decode("cp932")):
        return "cp932"
    return "cp1252" if _decodes(raw, "cp1252") else "latin-1"


def _looks_japanese(text: str) -> bool:
    """Whether most of what is not ASCII stands in runs. Western letters with accents pass for rare kanji one by one."""
    beyond = len(re.findall(r"[^\x00-\x7f]", text))
    kana = len(re.findall("[ぁ-ヶー]", text))
    in_runs = sum(
        map(
            len,
            re.findall(
                r"(?:[\u2460-\u2473\u3000-\u30ff\u3220-\u33ff\u4e00-\u9fff\uff01-\uff5e]|[\uf900-\ufaff]){2,}", text
            ),
        )
    )
    return kana > 0.1 * beyond or in_runs > 0.6 * beyond


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeError:
        return False
    return True


def _decode(raw: bytes, name: str, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        where = f"{name}, line {line} is not {encoding} (byte {error.start}: 0x{raw[error.start]:02x})"
    except UnicodeError as error:
        where = f"{name} is not {encoding} ({error})"
    raise DataError(
        f"{where}. If the file is in another encoding, say so in the task file:"
        f" data: {{…, encoding: {fitting_encoding(raw)}}}"
    )


def _read_csv(text: str, name: str, suffix: str) -> Table:
    header_line = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = "\t" if suffix == ".tsv" else next((d for d in ",;\t|" if d in header_line), ",")
    csv.field_size_limit(MAX_CELL)  # Python refuses fields past 128 KB unless told otherwise
    # Not io.StringIO, which takes four bytes a character.
    lines_of_text = (match[0] for match in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text))
    reader = csv.reader(lines_of_text, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for row in reader:
            if row and header is None:
                header = _header(row, name, line)
            elif row and header is not None:
                if len(row) != len(header):
                    raise DataError(_ragged(name, line, row, header))
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name}, line {line}: not valid csv: {error}. A field that holds quotes is quoted and its quotes doubled:"
            ' "a 15"" screen"'
        ) from None
    assert header is not None  # the text is not blank
    values = zip(*rows, strict=True) if rows else ([] for _ in header)
    frame = pl.DataFrame([pl.Series(n, v, dtype=pl.String) for n, v in zip(header, values, strict=True)])
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    return Table(frame, (Stretch(name, len(rows), lines),), typed=False)


def _header(row: list[str], name: str, line: int) -> list[str]:
    """Column names; a nameless one, such as that of R's row names, is called by its place."""
    header = [field.strip() or f"column_{index}" for index, field in enumerate(row, 1)]
    twice = sorted(field for field, count in Counter(header).items() if count > 1)
    if twice:
        raise DataError(f"{name}, line {line}: two columns are called {twice[0]!r}. Rename one of them")
    return header


def _ragged(name: str, line: int, row: list[str], header: list[str]) -> str:
    fields = "field" if len(row) == 1 else "fields"
    return (
        f"{name}, line {line} has {len(row)} {fields}, the header has {len(header)}. A field with the separator or"
        f" a line break goes in quotes; the line begins {','.join(row)[:60]!r}"
    )


def _read_jsonl(text: str, name: str) -> Table:
    decoder = msgspec.json.Decoder(dict[str, Any])
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if len(line) > MAX_CELL:
            raise DataError(f"{name}, line {number} has {len(line):,} characters, which is no row of a table")
        try:
            records.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            wrong = "not a JSON object" if isinstance(error, msgspec.ValidationError) else f"not valid JSON: {error}"
            hint = ". The whole file must be one object a line, not an array" if line.startswith("[") else ""
            hint = hint or (". JSON has no NaN: write null" if "NaN" in line else "")
            raise DataError(f"{name}, line {number} is {wrong}{hint}; the line begins {line.strip()[:60]!r}") from None
        lines.append(number)
    names = dict.fromkeys(key for record in records for key in record)
    frame = pl.DataFrame([column(key, [record.get(key) for record in records]) for key in names])
    return Table(frame, (Stretch(name, len(records), lines),))


def column(name: str, values: list[Any]) -> pl.Series:
    """A column of any Python values: numbers, booleans, texts, times; anything else, or a mixture, as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    dtype: Any = None
    if kinds <= {str}:
        dtype = pl.String
    elif kinds == {bool}:
        dtype = pl.Boolean
    elif kinds == {int}:
        dtype = pl.Int64
    elif kinds <= {int, float}:
        dtype = pl.Float64
    elif kinds & {bool, int, float, str, dict, list}:
        return pl.Series(name, [_json(value) for value in values], dtype=pl.String)
    try:
        series = pl.Series(name, values, dtype=dtype)
        if series.dtype == pl.Object:  # identifiers and addresses of a database
            return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
        return series
    except (OverflowError, TypeError, ValueError, pl.exceptions.PolarsError):
        return pl.Series(name, [_json(value) for value in values], dtype=pl.String)


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode()
    return msgspec.json.encode(value, enc_hook=str).decode()


def plain_value(value: Any) -> Any:
    """A NumPy scalar as Python's own, so that a column is judged by few types."""
    return value.item() if hasattr(value, "dtype") and hasattr(value, "item") else value


def plain_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of plain types: what is nested becomes JSON text, and binary data is left out."""
    return pl.DataFrame([plain for series in frame.iter_columns() if (plain := _plain_column(series)) is not None])


def _plain_column(series: pl.Series) -> pl.Series | None:
    dtype = series.dtype
    if dtype == pl.Decimal:
        return series.cast(pl.Float64)
    if dtype in (pl.Categorical, pl.Enum, pl.Null, pl.Time):
        return series.cast(pl.String)
    if dtype == pl.Duration:
        return series.dt.total_microseconds() / 1e6
    if "Binary" in str(dtype):
        return None
    if dtype.is_nested() or dtype == pl.Object:
        return column(series.name, [plain_value(value) for value in series.to_list()])
    return series
