"""Parquet, Arrow and Excel files, from a path to a frame.

Their readers are written in Rust, where a damaged length ends the whole process: it asks for more memory than there is.
So each is first read in a process of its own with limits of memory and time; only a file that this process survives is
read here. How much a Parquet file unpacks to is checked before, by the numbers of rows that it states.
"""

import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import polars as pl

from kurabe.errors import DataError, MissingExtraError, missing
from kurabe.models.memory_limit import limit_memory
from kurabe.tasks.readers import EXCEL, Stretch, Table, plain_frame

MAX_UNPACKED = 2**30
"""A file that would unpack to more bytes is read only where that is at most MAX_RATIO times its size."""
MAX_RATIO = 200
_SPARE = 7 * 2**27  # bytes that a small file may take while it is tried
_SECONDS = 50.0
_BYTES_A_SECOND = 2**20


def read_binary(path: Path, name: str, suffix: str, sheet: str | None = None) -> Table:
    """The table of a file.

    Parameters
    ----------
    path : Path
    name : str
        What the file is called in messages.
    suffix : str
        `.parquet`, or one of ARROW and EXCEL.
    sheet : str or None
        Of an Excel file; None takes the first that can be seen.

    Raises
    ------
    DataError
        Where it is no such file, is damaged, or was made to fill the memory.
    MissingExtraError
        Where an Excel file is to be read without the extra `excel`.
    """
    excel = _excel_library(name) if suffix in EXCEL else None
    try:
        _try_apart(path, name, suffix, sheet)
        with _quiet_panics():
            return _read_excel(excel, path, name, sheet) if excel else _read_columnar(path, name, suffix)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
    except (Exception, pl.exceptions.PanicException) as error:  # the readers' errors have no common base
        what = "an Excel" if excel else "a parquet" if suffix == ".parquet" else "an Arrow"
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{name} is not {what} file that can be read: {said}") from None


def _excel_library(name: str) -> ModuleType:
    try:
        import fastexcel
    except ImportError:
        raise MissingExtraError(f"an Excel file ({name})", "excel") from None
    return fastexcel


def _try_apart(path: Path, name: str, suffix: str, sheet: str | None) -> None:
    """Raise DataError where a process that reads the file runs out of memory or time, or crashes."""
    size = path.stat().st_size
    # -P: a module in the current folder, which may be a stranger's, is not imported.
    command = [sys.executable, "-P", "-m", "kurabe.tasks.binary", str(path.absolute()), suffix, sheet or ""]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=_SECONDS + size / _BYTES_A_SECOND,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(f"{name} takes too long to read for its size: it is damaged, or was made to") from None
    if done.returncode != 0:
        raise DataError(
            f"{name} can't be read: its reader crashes, or takes far more memory than the file's size explains. It is"
            " damaged, or was made to do so"
        )


def _read_columnar(path: Path, name: str, suffix: str) -> Table:
    with path.open("rb") as file:
        start, size = file.read(8), os.fstat(file.fileno()).st_size
    if not size:
        raise DataError(f"{name} is empty")
    if start.startswith(b"FEA1"):
        raise DataError(f"{name} is in Feather's first version, which cannot be read. Write it as Arrow or csv")
    if suffix == ".parquet":
        scan = pl.scan_parquet(path, glob=False)
        rows = int(scan.select(pl.len()).collect().item())
        _check_size(name, size, rows * sum(map(_width, scan.collect_schema().dtypes())))
        frame = scan.collect()
    elif start.startswith(b"ARROW1"):
        frame = pl.read_ipc(path)
    else:
        frame = pl.read_ipc_stream(path)
    return Table(plain_frame(frame), (Stretch(name, frame.height),))


def _width(dtype: pl.DataType) -> int:
    """The least bytes that one value takes in memory."""
    return 16 if dtype in (pl.String, pl.Binary) or dtype.is_nested() else 1 if dtype == pl.Boolean else 8


def _check_size(name: str, packed: int, unpacked: int) -> None:
    """Refuse what was made, or damaged, so that it fills the memory."""
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed):
        raise DataError(
            f"{name} has {packed:,} bytes and would unpack to {unpacked:,}, which no table does: it is damaged, or"
            " was made to fill the memory. If it is what you want, save it as several files"
        )


@contextmanager
def _quiet_panics() -> Iterator[None]:
    """Keep what a panic of Rust writes to standard error, which Python sees as an exception anyway."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _read_excel(fastexcel: ModuleType, path: Path, name: str, sheet: str | None) -> Table:
    """One sheet of an Excel file; its first row that is not empty names the columns."""
    if not path.stat().st_size:
        raise DataError(f"{name} is empty")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            _check_size(name, path.stat().st_size, sum(member.file_size for member in packed.infolist()))
    book = fastexcel.read_excel(path)
    names = book.sheet_names
    if sheet and sheet not in names:
        raise DataError(f"{name}: {missing('sheet', sheet, names)}")
    visible = [one for one in names if book.load_sheet(one, n_rows=0).visible == "visible"] or names
    chosen = sheet or visible[0]
    frame = book.load_sheet(chosen, schema_sample_rows=None).to_polars()
    frame = plain_frame(frame.rename({old: re.sub(r"^__UNNAMED__(\d+)$", _nameless, old) for old in frame.columns}))
    filled = [any(value is not None for value in row) for row in frame.iter_rows()]
    lines = [line for line, there in enumerate(filled, 2) if there]
    frame = frame.filter(pl.Series(filled, dtype=pl.Boolean))
    frame = frame.with_columns(map(_excel_column, frame.iter_columns()))
    warnings: tuple[str, ...] = ()
    others = [one for one in visible if one != chosen]
    if not sheet and others:
        listed = ", ".join(f"{one} ({name}#{one})" for one in others[:5])
        warnings = (f"{name}: only the sheet {chosen!r} is used; there are also: {listed}.",)
    return Table(frame, (Stretch(name, len(lines), lines),), warnings=warnings)


def _nameless(match: re.Match[str]) -> str:
    return f"column_{int(match[1]) + 1}"


def _excel_column(series: pl.Series) -> pl.Series:
    """Excel keeps every number as a float and every day as a time: whole numbers and days as such."""
    if (
        series.dtype.is_float()
        and len(series.drop_nulls())
        and (series.abs() < 2**53).all()
        and (series == series.floor()).all()
    ):
        return series.cast(pl.Int64)
    if isinstance(series.dtype, pl.Datetime) and (series.dt.time() == dt.time()).all():
        return series.dt.date()
    return series


def main(path: str, suffix: str, sheet: str) -> None:
    """Read a file within limits, to see whether that can be done. Files that are refused in order are no failure."""
    excel = _excel_library(path) if suffix in EXCEL else None
    limit_memory(max(_SPARE, MAX_RATIO * os.stat(path).st_size))
    try:
        if excel:
            _read_excel(excel, Path(path), path, sheet)
        else:
            _read_columnar(Path(path), path, suffix)
    except MemoryError:
        sys.exit(3)
    except (Exception, pl.exceptions.PanicException):
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
