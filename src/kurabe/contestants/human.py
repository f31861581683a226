"""A person as a contestant: answers come from a terminal session or from a CSV file."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kurabe.contestants.base import Contestant, Prediction, Validation, collect
from kurabe.contestants.frames import as_frame, as_target, infer_kind
from kurabe.errors import AnswerMissingError, DataError, missing
from kurabe.tasks.answers import fallback, read_answer
from kurabe.tasks.spec import Kind

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

    def __init__(self, answers: str | None = None, rows: int | None = None, kind: Kind | None = None) -> None:
        self.answers = answers
        self.rows = rows
        self.kind = kind

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


Ask = Callable[[str], str]
"""Shows a prompt and returns a line; raises EOFError at the end of the input."""
Tell = Callable[[RenderableType], None]
"""Shows something: text, or a rich renderable."""

_HELP = "s skip · b back · q quit"


def ask_person(
    X: pl.DataFrame,
    *,
    kind: Kind,
    target: str,
    ask: Ask,
    tell: Tell,
    labels: Sequence[str] = (),
    answered: Collection[int] = (),
) -> Iterator[Prediction]:
    """Ask a person about each row of X that is not yet `answered` and yield each answer as it is given.

    `b` goes back to the row before, also one answered in an earlier session; its new answer comes as a second
    Prediction of that row, which replaces the first. Skipped rows come again at the end of the session's rows only when
    the person goes back, or in the next session. Ends after the last row, at `q`, or at the end of the input. The truth
    is not known here, so it cannot be shown.
    """
    done = set(answered)
    row, going_back = 0, False
    while row < X.height:
        if row in done and not going_back:
            row += 1
            continue
        going_back = False
        tell(_card(X, row, len(done), kind, target, labels))
        command, value, line = _listen(kind, target, labels, ask, tell)
        if command == "q":
            return
        if command == "b":
            row, going_back = max(row - 1, 0), True
        elif command == "s":
            row += 1
        else:
            yield Prediction(row=row, value=value, raw=line)
            done.add(row)
            row += 1


def _listen(
    kind: Kind, target: str, labels: Sequence[str], ask: Ask, tell: Tell
) -> tuple[str | None, float | str | None, str]:
    """(command, None, '') or (None, value, what was said); asks again until it can be read."""
    while True:
        try:
            line = ask(f"{target}> ").strip()
        except EOFError:
            return "q", None, ""
        if line in ("s", "b", "q") and line not in labels:
            return line, None, ""
        value = _choice(line, labels) if kind == "label" else read_answer(line, kind)
        if value is not None:
            return None, value, line
        wanted = {"number": "a number", "label": "a label or its number", "text": "a text"}[kind]
        tell(Text(f"That can't be read as {wanted}. {_HELP}", style="yellow"))


def _choice(line: str, labels: Sequence[str]) -> str | None:
    """A label by name, by the number it is listed with, or by the beginning that only it has."""
    if line in labels:
        return line
    if line.isdecimal() and not any(label.strip().isdecimal() for label in labels):
        return labels[int(line) - 1] if 1 <= int(line) <= len(labels) else None
    begun = [label for label in labels if line and label.casefold().startswith(line.casefold())]
    if len(begun) == 1:
        return begun[0]
    said = read_answer(line, "label", labels)
    return said if isinstance(said, str) else None


def _card(X: pl.DataFrame, row: int, done: int, kind: Kind, target: str, labels: Sequence[str]) -> RenderableType:
    """The row as the person sees it: the rendered text, or the columns where there is none, and what is asked."""
    cells = X.row(row, named=True)
    text = cells.get(INPUT)
    if text is None:
        text = "\n".join(f"{name}: {'' if value is None else value}" for name, value in cells.items())
    title = f"row {row + 1} of {X.height} · {done} answered"
    parts: list[RenderableType] = [Panel(Text(_printable(str(text))), title=title, title_align="left", subtitle=_HELP)]
    if kind == "label":
        numbered = not any(label.strip().isdecimal() for label in labels)
        table = Table.grid(padding=(0, 1))
        for position, label in enumerate(labels, 1):
            table.add_row(Text(str(position) if numbered else "·", style="bold"), Text(_printable(label)))
        parts.append(table)
    else:
        parts.append(Text(f"What is the {target}?" + (" (a number)" if kind == "number" else ""), style="bold"))
    return Group(*parts)


def ask_verdicts(
    rubric: str, shown: Sequence[tuple[str, str, str]], *, ask: Ask, tell: Tell
) -> Iterator[tuple[int, int, str]]:
    """Ask a person which of two answers follows a rubric better, for each (input, first, second) of `shown`, and yield
    (position, 1 or 2 or 0 for neither, what was typed) as it is given.

    `b` goes back to the pair before, whose new verdict replaces the first. Ends after the last pair, at `q`, or at the
    end of the input.
    """
    place = 0
    while place < len(shown):
        parts = zip(("input", "answer 1", "answer 2"), shown[place], strict=True)
        panels = [Panel(Text(_printable(text)), title=title, title_align="left") for title, text in parts]
        tell(Group(Text(f"pair {place + 1} of {len(shown)} · {_printable(rubric)}", style="bold"), *panels))
        line = _verdict(ask, tell)
        if line == "q":
            return
        if line == "b":
            place = max(place - 1, 0)
            continue
        yield place, int(line), line
        place += 1


def _verdict(ask: Ask, tell: Tell) -> str:
    while True:
        try:
            line = ask("Which is better? 1, 2, or 0 for neither> ").strip().lower()
        except EOFError:
            return "q"
        if line in ("0", "1", "2", "b", "q"):
            return line
        tell(Text("Type 1, 2 or 0 (neither) · b back · q quit", style="yellow"))


def _printable(text: str) -> str:
    """Without control characters, which a text could use to move the terminal's cursor."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)
