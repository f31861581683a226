"""A person as a contestant, whose answers come from a CSV file, or from a session (`kurabe.contestants.session`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe.contestants.base import About, Answering, Contestant, Keys, Prediction, Validation, collect
from kurabe.contestants.frames import as_frame, as_target, infer_kind
from kurabe.contestants.keys import digest
from kurabe.errors import AnswerMissingError, DataError, missing
from kurabe.tasks.answers import fallback, read_answer
from kurabe.tasks.spec import Kind, Sample

ROW = "row"
ANSWER = "answer"
INPUT = "input"


class Human(Contestant):
    """A person's answers to the test rows, from a CSV file.

    Parameters
    ----------
    answers
        Path of a CSV file with the column `answer`, and a column that says which row it answers: `input` (the rendered
        text), any one input column of the task (an id, say), or `row` (the position in the test part, from 0). If a row
        is answered twice, the last answer counts.
    rows
        Ask only the first N test rows; they are in random order. None: all.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label", "text"})
    by_hand = True

    def __init__(self, answers: str | None = None, rows: int | None = None, kind: Kind | None = None) -> None:
        self.answers = answers
        self.rows = rows
        self.kind = kind

    def may_cost(self) -> bool:
        return False

    def sample(self, rows: Sample) -> int | None:
        """The first `self.rows`."""
        return self.rows

    def own_keys(self, about: About) -> Keys:
        """A person's answers stay theirs when settings or training data change; those of a file change with the file,
        and with the test part, since the file may name rows by position."""
        of_task = digest(about.target, about.kind, about.template)
        if self.answers is None:
            key = digest("human", about.label, of_task)
        else:
            path = about.folder / self.answers
            key = digest("answers", path.read_bytes() if path.is_file() else b"", of_task, about.tested())
        return Keys((key,), (key,))

    def placed(self, about: About, kept: Path | None) -> Self:
        """A copy whose file is found beside the task file."""
        if self.answers is None:
            return self
        copy: Self = clone(self).set_params(answers=str(about.folder / self.answers))
        return copy

    def answer(self, X: pl.DataFrame, context: Answering) -> Iterator[list[Prediction]]:
        """The file's answers to these rows."""
        return ([answer] for answer in self.iter_predict(X, context.positions))

    def skipped_reason(self) -> str | None:
        """What to do so that there are answers, or None where there are some."""
        return None if self.answers else "run `kurabe human TASK`, or give `answers: FILE.csv`"

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Learn the labels and what stands for an answer that cannot be read."""
        self.kind_: Kind = self.kind or infer_kind(y)
        y = as_target(y, self.kind_, as_frame(X).height)
        self.fallback_ = fallback(y, self.kind_)
        self.labels_ = sorted(set(y.tolist())) if self.kind_ == "label" else []
        return self

    def iter_predict(self, X: Any, positions: Sequence[int] | None = None) -> Iterator[Prediction]:
        """Yield a Prediction a row asked, None where the answer cannot be read.

        `positions` says which test row each row of X is, where X is not the test part from its beginning.
        Raises DataError where the file cannot be used and AnswerMissingError where rows are not answered.
        """
        if self.answers is None:
            raise AnswerMissingError(f"no person has answered: {self.skipped_reason()}")
        X = as_frame(X)
        asked = X if self.rows is None or positions is not None else X.head(self.rows)
        said = _said(Path(self.answers), asked, list(range(asked.height)) if positions is None else list(positions))
        absent = [row for row, answer in enumerate(said) if answer is None]
        if absent:
            raise AnswerMissingError(
                f"{self.answers}: {len(absent)} of {asked.height} rows have no answer, the first is row {absent[0]}; "
                f"add them, or set `rows` to ask fewer"
            )
        for row, answer in enumerate(said):
            assert answer is not None
            yield Prediction(row=row, value=read_answer(answer, self.kind_, self.labels_), raw=answer)

    def predict(self, X: Any) -> np.ndarray:
        """One answer a row; rows that were not asked, and answers that can't be read, get the fallback."""
        X = as_frame(X)
        return collect(self.iter_predict(X), X.height, self.kind_, self.fallback_)


def _said(path: Path, X: pl.DataFrame, positions: list[int]) -> list[str | None]:
    """What the file answers to each row of X, None where it says nothing."""
    table = _read(path)
    if ANSWER not in table.columns:
        raise DataError(f"{path}: {missing('column', ANSWER, table.columns)}")
    keys = [name for name in (INPUT, *X.columns) if name in table.columns and name in X.columns]
    if keys:
        key = keys[0]
        wanted = [_text(value) for value in X[key].to_list()]
        given = [_text(value) for value in table[key].to_list()]
        if key != INPUT and len(set(wanted)) < len(wanted):
            raise DataError(f"{path}: the column {key!r} does not tell the rows apart; use `input` or `row` instead")
    elif ROW in table.columns:
        wanted = [str(position) for position in positions]
        given = [_position(path, line, value) for line, value in enumerate(table[ROW].to_list(), 2)]
    else:
        raise DataError(
            f"{path}: no column says which row is answered; add `row`, `input` or one of the task's columns"
        )
    answers = {key: answer for key, answer in zip(given, table[ANSWER].to_list(), strict=True) if _text(answer)}
    if X.height and answers and not answers.keys() & set(wanted):
        raise DataError(
            f"{path}: none of its {len(answers)} answers is to a row of this task; is it another task's file?"
        )
    return [answers.get(key) for key in wanted]


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; give the path of the CSV with the answers") from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: the file is empty; it needs the columns `row` and `answer`") from None
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        raise DataError(f"{path}: not a readable CSV file: {str(error).splitlines()[0]}") from None


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _position(path: Path, line: int, value: object) -> str:
    text = _text(value)
    if not text.isdecimal():
        raise DataError(f"{path}, line {line}: the row {text!r} is not a position; rows are counted 0, 1, 2, …")
    return str(int(text))
