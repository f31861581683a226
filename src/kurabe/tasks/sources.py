"""Tables from outside: csv, tsv, jsonl and parquet files, globs of them, `hf://` data sets, frames from Python.

What a text file does not say is decided in one place: an empty field is missing; a column whose other values are all
numbers is a number column, in which `NA`, `NaN`, `null` and `N/A` are missing too; whole numbers with a leading zero
(`007`) are names and stay text, as do numbers of more than 18 digits. Nested values become JSON text.
"""

import codecs
import csv
import glob
import io
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from kurabe.errors import DataError, missing
from kurabe.tasks.amounts import MISSING

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_INT = r"^\s*[+-]?(0|[1-9]\d{0,17})\s*$"
_FLOAT = r"^\s*[+-]?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
_LIKE_A_NUMBER = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
NEARLY = 0.05  # the share of cells up to which text in a column of numbers looks like a slip
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

    def locate(self, position: int) -> str:
        """Where a row stands, for messages: `items.csv, line 7`, or `row index 5` for a frame from Python."""
        starts = [0]
        for stretch in self.stretches:
            starts.append(starts[-1] + stretch.rows)
        index = bisect_right(starts, position) - 1
        stretch, offset = self.stretches[index], position - starts[index]
        place = f"line {stretch.lines[offset]}" if stretch.lines is not None else f"row index {offset}"
        return f"{stretch.name}, {place}" if stretch.name else place


def read_table(source: str, folder: Path, encoding: str = "utf-8") -> Table:
    """Read a file, a glob of files or an `hf://` data set. Raises DataError, which names file, line and remedy."""
    warnings: tuple[str, ...] = ()
    if source.startswith("hf://"):
        from kurabe.tasks.hub import fetch  # it imports huggingface_hub, which takes long

        files, warnings = fetch(source)
    else:
        files = [(path, _shown(path, folder)) for path in _find(source, folder)]
    tables = [_read_file(path, name, encoding) for path, name in files]
    first = tables[0]
    for (_, name), table in zip(files[1:], tables[1:], strict=True):
        if set(table.frame.columns) != set(first.frame.columns):
            differing = sorted(set(table.frame.columns) ^ set(first.frame.columns))
            raise DataError(f"{name} and {files[0][1]} do not have the same columns: only one has {_listed(differing)}")
    table = stack(tables)
    if not table.frame.height:
        raise DataError(f"{source} has no rows")
    return Table(table.frame, table.stretches, table.typed, warnings)


def stack(tables: Sequence[Table]) -> Table:
    """Tables one below the other; a column that one of them lacks is missing there."""
    if len(tables) == 1:
        return tables[0]
    typed = any(table.typed for table in tables)
    frames = [typed_frame(table) if typed else table.frame for table in tables]
    try:
        frame = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        texts = [frame.select(pl.all().cast(pl.String)) for frame in frames]
        frame = pl.concat(texts, how="diagonal_relaxed")
    stretches = tuple(stretch for table in tables for stretch in table.stretches)
    return Table(frame, stretches, typed, tuple(w for table in tables for w in table.warnings))


def typed_frame(table: Table, keep: Sequence[str] = ()) -> pl.DataFrame:
    """The table with number columns as numbers, judged by every row; columns in `keep` stay the text of the file."""
    if table.typed:
        return table.frame
    return table.frame.with_columns(_typed(column) for column in table.frame.iter_columns() if column.name not in keep)


def typed_like(table: Table, schema: Mapping[str, pl.DataType]) -> Table:
    """The table with its columns typed as in training, so that a row's answer does not hang on the rows beside it.

    Only the text of a csv file is typed, and of it the columns that `schema` has. Raises DataError where a column of
    numbers has a cell that is none.
    """
    if table.typed:
        return table
    frame = typed_frame(table, keep=list(schema))
    numbers = [_numbers(table, frame[name]) for name, dtype in schema.items() if name in frame and dtype.is_numeric()]
    return Table(frame.with_columns(numbers), table.stretches, warnings=table.warnings)


def _numbers(table: Table, series: pl.Series) -> pl.Series:
    known = series.is_not_null() & ~series.is_in(MISSING)
    wrong = (known & ~series.str.contains(_LIKE_A_NUMBER)).arg_true().to_list()
    if wrong:
        raise DataError(
            f"{table.locate(wrong[0])}: {series.name!r} was a column of numbers in training, and"
            f" {series[wrong[0]][:40]!r} is not a number. Correct it, or leave the field empty"
        )
    dtype = pl.Int64 if series.filter(known).str.contains(_INT).all() else pl.Float64
    return series.str.strip_chars().cast(dtype, strict=False)


def nearly_numbers(table: Table, frame: pl.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each text column that would be a number column but for a few cells, with where they stand."""
    found: list[str] = []
    for series in (frame[name] for name in columns if frame[name].dtype == pl.String):
        known = series.is_not_null() & ~series.is_in(MISSING)
        wrong = (known & ~series.str.contains(_LIKE_A_NUMBER)).arg_true().to_list()
        if wrong and len(wrong) <= NEARLY * int(known.sum()):
            shown = "; ".join(f"{series[row][:40]!r} at {table.locate(row)}" for row in wrong[:3])
            more = f"; and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
            found.append(f"{series.name!r} is read as text and not as numbers because of {shown}{more}.")
    return tuple(found)


def frame_table(frame: Any) -> Table:
    """A polars or pandas frame from Python as a table. Raises DataError where it is neither."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        if not (hasattr(frame, "iloc") and hasattr(frame, "columns")):
            raise DataError(f"expected a polars or pandas DataFrame, got {type(frame).__name__}")
        frame = _from_pandas(frame)
    if not frame.height:
        raise DataError("the frame has no rows")
    return Table(_plain(frame), (Stretch(None, frame.height),))


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
        return pl.Series(name, values, dtype=dtype)
    except (OverflowError, TypeError, ValueError, pl.exceptions.PolarsError):
        return pl.Series(name, [_json(value) for value in values], dtype=pl.String)


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode()
    return msgspec.json.encode(value, enc_hook=str).decode()


def _find(source: str, folder: Path) -> list[Path]:
    path = folder / source
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            inside = [p.name for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES]
            raise DataError(
                f"{source} is a folder. Name a file or a glob such as {source}/*.csv; it has {_listed(inside)}"
            )
        if any(sign in source for sign in "*?["):
            found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
            if found:
                return found
            raise DataError(f"no file matches {source!r} in {folder.resolve()}")
    except (OSError, ValueError) as error:
        raise DataError(f"{source!r} cannot be read: {error}") from None
    parent = path.parent
    if not parent.is_dir():
        raise DataError(f"there is no file {source!r}: there is no folder {parent}")
    names = sorted(
        (p.name for p in parent.iterdir() if p.is_file()), key=lambda name: Path(name).suffix not in SUFFIXES
    )
    raise DataError(f"{missing('file', path.name, names)} in {parent.resolve()}")


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _read_file(path: Path, name: str, encoding: str) -> Table:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{name}: {suffix or 'a file without an ending'} cannot be read. These can: {', '.join(SUFFIXES)}"
        )
    try:
        if suffix == ".parquet":
            frame = _plain(pl.read_parquet(path, glob=False))
            return Table(frame, (Stretch(name, frame.height),))
        raw = path.read_bytes()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{name} is not a parquet file that can be read: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
    text = _decode(raw, name, encoding)
    if not text.strip():
        raise DataError(f"{name} is empty")
    return _read_csv(text, name, suffix) if suffix in (".csv", ".tsv") else _read_jsonl(text, name)


def _decode(raw: bytes, name: str, encoding: str) -> str:
    encoding = next((known for bom, known in _BOMS if raw.startswith(bom)), encoding)
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}, line {line} is not {encoding} (byte {error.start}: 0x{raw[error.start]:02x}). If the file is in"
            f" another encoding, say so in the task file: data: {{…, encoding: {_fitting(raw)}}}"
        ) from None


def guess_encoding(path: Path) -> str:
    """The encoding of a text file; `utf-8` too for a file that is not text or not there."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or suffix == ".parquet" or not path.is_file():
        return "utf-8"
    raw = path.read_bytes()
    return "utf-8" if raw.startswith(tuple(bom for bom, _ in _BOMS)) else _fitting(raw)


def _fitting(raw: bytes) -> str:
    """The first of the common encodings in which the bytes are text."""
    if not _decodes(raw, "utf-8") and _decodes(raw, "shift_jis") and re.search("[ぁ-ヶ]", raw.decode("shift_jis")):
        return "shift_jis"  # Western text may pass for rare kanji, but not for kana
    return next((known for known in ("utf-8", "cp1252") if _decodes(raw, known)), "latin-1")


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _read_csv(text: str, name: str, suffix: str) -> Table:
    header_line = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = "\t" if suffix == ".tsv" else next((d for d in ",;\t|" if d in header_line), ",")
    # Python refuses fields past 128 KB unless told otherwise; a text of 1 MB is none of its business.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
    twice = sorted({field for field in header if header.count(field) > 1})
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


def _typed(series: pl.Series) -> pl.Series:
    """A text column as numbers where all of it that is not missing is a number."""
    values = series.filter(series.is_not_null() & ~series.is_in(MISSING))
    if not len(values) or not values.str.contains(_FLOAT).all():
        return series
    dtype = pl.Int64 if values.str.contains(_INT).all() else pl.Float64
    return series.str.strip_chars().cast(dtype, strict=False)


def _from_pandas(frame: Any) -> pl.DataFrame:
    names = [str(name) for name in frame.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"two columns of the frame are called {twice[0]!r}. Rename one of them")
    columns = []
    for index, name in enumerate(names):
        series = frame.iloc[:, index]
        cells = zip(series.astype(object).tolist(), series.isna().tolist(), strict=True)
        columns.append(column(name, [None if gone else _python(value) for value, gone in cells]))
    return pl.DataFrame(columns)


def _python(value: Any) -> Any:
    """A NumPy scalar as Python's own, so that a column is judged by few types."""
    return value.item() if hasattr(value, "dtype") and hasattr(value, "item") else value


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
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
        return column(series.name, [_python(value) for value in series.to_list()])
    return series


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:10]) + (", …" if len(names) > 10 else "") or "none"
