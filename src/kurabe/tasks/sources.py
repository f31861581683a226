"""Tables from outside: files, globs of them, `hf://` data sets, standard input, frames from Python.

What a text file does not say is decided in one place: an empty field is missing; a column whose other values are all
numbers is a number column, in which `NA`, `NaN`, `null` and `N/A` are missing too; whole numbers with a leading zero
(`007`) are names and stay text, as do numbers of more than 18 digits. Nested values become JSON text.
"""

import glob
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from kurabe.errors import DataError, missing
from kurabe.tasks.amounts import MISSING
from kurabe.tasks.binary import read_binary
from kurabe.tasks.readers import (
    EXCEL,
    SUFFIXES,
    TEXTS,
    Stretch,
    Table,
    column,
    plain_frame,
    plain_value,
    read_text,
    sniff,
)

STANDARD_INPUT = "-"
_INT = r"^\s*[+-]?(0|[1-9]\d{0,17})\s*$"
_FLOAT = r"^\s*[+-]?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
_LIKE_A_NUMBER = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
NEARLY = 0.05  # the share of cells up to which text in a column of numbers looks like a slip


def read_table(source: str, folder: Path, encoding: str | None = "utf-8") -> Table:
    """Read a table.

    Parameters
    ----------
    source : str
        A file or a glob of files relative to `folder`, `book.xlsx#Sheet`, `hf://owner/name`, or `-` for standard input,
        whose format is told by its first bytes.
    folder : Path
    encoding : str or None
        Of text files; None guesses it, and the table says what it was.

    Raises
    ------
    DataError
        Where there is no such table or it cannot be read; the message names file, line and remedy.
    """
    warnings: tuple[str, ...] = ()
    if source == STANDARD_INPUT:
        tables, names = [_read_standard_input(encoding)], ["standard input"]
    else:
        if source.startswith("hf://"):
            from kurabe.tasks.hub import fetch  # it imports huggingface_hub, which takes long

            files, warnings = fetch(source)
            sheet = None
        else:
            file, sheet = _sheet_of(source, folder)
            files = [(path, _shown(path, folder)) for path in find_files(file, folder)]
        tables = [_read_file(path, name, encoding, sheet) for path, name in files]
        names = [name for _, name in files]
    first = tables[0]
    for name, table in zip(names[1:], tables[1:], strict=True):
        if set(table.frame.columns) != set(first.frame.columns):
            differing = sorted(set(table.frame.columns) ^ set(first.frame.columns))
            raise DataError(f"{name} and {names[0]} do not have the same columns: only one has {_listed(differing)}")
    table = stack(tables)
    if not table.frame.height:
        raise DataError(f"{'standard input' if source == STANDARD_INPUT else source} has no rows")
    return replace(table, warnings=(*warnings, *table.warnings), encoding=first.encoding)


def _sheet_of(source: str, folder: Path) -> tuple[str, str | None]:
    """`book.xlsx#Prices` as its file and its sheet; a file whose own name has a `#` is the file."""
    file, _, sheet = source.rpartition("#")
    if sheet and Path(file).suffix.lower() in EXCEL and not (folder / source).exists():
        return file, sheet
    return source, None


def _read_standard_input(encoding: str | None) -> Table:
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError("the source is `-`, standard input, and nothing is piped in: cat items.csv | kurabe …")
    raw, name = sys.stdin.buffer.read(), "standard input"
    suffix = sniff(raw)
    if suffix in TEXTS:
        return read_text(raw, name, suffix, encoding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"table{suffix}")
        path.write_bytes(raw)
        return read_binary(path, name, suffix)


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
    types = _number_types(table.frame, [name for name in table.frame.columns if name not in keep])
    return table.frame.with_columns(
        pl.col(name).str.strip_chars().cast(dtype, strict=False) for name, dtype in types.items()
    )


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
    return Table(plain_frame(frame), (Stretch(None, frame.height),))


def find_files(source: str, folder: Path) -> list[Path]:
    """The files that a path or glob names. Raises DataError, which names the nearest, if none matches."""
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


def _read_file(path: Path, name: str, encoding: str | None, sheet: str | None) -> Table:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{name}: {suffix or 'a file without an ending'} cannot be read. These can: {', '.join(SUFFIXES)}"
            + (". Write an array of objects as one object a line: .jsonl" if suffix == ".json" else "")
        )
    if suffix not in TEXTS:
        return read_binary(path, name, suffix, sheet)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
    return read_text(raw, name, suffix, encoding)


def _number_types(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Int64 or Float64 for each text column of which all that is not missing is a number.

    Every column in one query: a table may have thousands.
    """
    if not names:
        return {}

    def known(name: str) -> pl.Expr:
        return pl.col(name).filter(pl.col(name).is_not_null() & ~pl.col(name).is_in(MISSING))

    some = frame.select(known(name).len().alias(name) for name in names).row(0)
    floats = frame.select(known(name).str.contains(_FLOAT).all() for name in names).row(0)
    ints = frame.select(known(name).str.contains(_INT).all() for name in names).row(0)
    return {
        name: pl.Int64 if only_ints else pl.Float64
        for name, count, only_floats, only_ints in zip(names, some, floats, ints, strict=True)
        if count and only_floats
    }


def _from_pandas(frame: Any) -> pl.DataFrame:
    names = [str(name) for name in frame.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"two columns of the frame are called {twice[0]!r}. Rename one of them")
    columns = []
    for index, name in enumerate(names):
        series = frame.iloc[:, index]
        cells = zip(series.astype(object).tolist(), series.isna().tolist(), strict=True)
        columns.append(column(name, [None if gone else plain_value(value) for value, gone in cells]))
    return pl.DataFrame(columns)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:10]) + (", …" if len(names) > 10 else "") or "none"
