"""Asking a person in a terminal: for answers to rows, and for verdicts on pairs of answers."""

from collections.abc import Callable, Collection, Iterator, Sequence

import polars as pl
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kurabe.contestants.base import Prediction
from kurabe.tasks.answers import read_answer
from kurabe.tasks.spec import Kind

INPUT = "input"

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
