"""Texts from a file: one in each line, or those of a table's column."""

from collections.abc import Sequence
from pathlib import Path

from kurabe.errors import InputError, missing
from kurabe.tasks.readers import SUFFIXES
from kurabe.tasks.sources import read_table


def read_texts(path: str | Path, column: str | None = None, *, usual: Sequence[str] = ("text",)) -> list[str]:
    """The texts of a file in order: of a CSV, TSV, JSON Lines or parquet file those of `column`, of another file its
    lines. Empty ones are left out.

    Without `column` it is the table's only column, or the first of `usual` that it has. Raises InputError where there
    is no such file or column or no text in it, and DataError where the table can't be read.
    """
    path = Path(path)
    if path.suffix.lower() in SUFFIXES:
        texts = _column(path, column, usual)
    elif column is not None:
        raise InputError(f"{path} has lines and no columns; a column is that of a {', '.join(SUFFIXES)} file")
    else:
        texts = split_lines(_read(path), str(path))
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise InputError(f"{path} holds no text")
    return kept


def split_lines(data: bytes, name: str) -> list[str]:
    """The lines of a text in UTF-8 that are not blank, without white space around them. Raises InputError."""
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8; convert it first") from None
    return [line.strip() for line in lines if line.strip()]


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"there is no file '{path}'")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r:.80} cannot be read: {error}") from None


def _column(path: Path, column: str | None, usual: Sequence[str]) -> list[str]:
    frame = read_table(str(path.resolve()), path.resolve().parent).frame
    names = frame.columns
    if column is None:
        found = next((name for name in usual if name in names), names[0] if len(names) == 1 else None)
        if found is None:
            raise InputError(f"{path} has the columns {', '.join(names)}; name the one that is meant with --column")
        column = found
    if column not in names:
        raise InputError(f"{path}: {missing('column', column, names)}")
    return ["" if value is None else str(value) for value in frame[column].to_list()]
