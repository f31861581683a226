"""Templates: sandboxed Jinja2 that turns a row into the text a contestant reads.

A template sees each column by its name and the whole row as `row`, so `{{ row['screen size'] }}` reaches a column whose
name is not an identifier. A missing value is rendered as nothing, a whole number without `.0`, a boolean as in JSON.
"""

import re
from collections.abc import Callable, Sequence

import jinja2
import polars as pl
from jinja2 import meta, nodes

from kurabe.errors import TaskError, missing
from kurabe.models import bounded
from kurabe.tasks.sandbox import ROW, SANDBOX, is_bounded, render_rows

SECONDS = 30
"""For all rows together, and a millisecond more for each."""
MAX_TEMPLATE = 100_000
"""Characters of a template."""


def check_syntax(template: str, where: str = "input") -> None:
    """Raise a TaskError that begins `where` and shows the place, where the template is not valid Jinja2."""
    _parse(template, where)


def template_columns(
    template: str, columns: Sequence[str], *, target: str | None = None, where: str = "input"
) -> tuple[str, ...]:
    """The columns a template reads, in the order of `columns`; all but the target where it goes through `row` itself.

    Raises TaskError where the template is not valid, names a column that does not exist, or reads the target.
    """
    tree = _parse(template, where)
    names = _names(tree) - set(SANDBOX.globals).difference(columns)
    used = names - {ROW}
    if ROW in names:
        by_name, whole = _through_row(tree)
        used |= by_name
        if whole:
            used |= set(columns) - {target}
    if target is not None and target in used:
        raise TaskError(f"{where}: the template reads the target {target!r}: it is what must be found out. Take it out")
    for name in sorted(used - set(columns)):
        raise TaskError(f"{where}: {missing('column', name, [c for c in columns if c != target])}")
    return tuple(column for column in columns if column in used)


def render_inputs(
    template: str,
    frame: pl.DataFrame,
    *,
    where: str = "input",
    locate: Callable[[int], str] = "row index {}".format,
) -> list[str]:
    """Render the template once a row. `locate` turns a row's position into words for an error's text.

    Raises TaskError where the template is not valid, names a column that is not in the frame, or fails on a row.
    """
    columns = template_columns(template, frame.columns, where=where)
    tree = _parse(template, where)
    rows = list(frame[list(columns)].iter_rows()) if columns else [()] * frame.height
    whole = ROW in _names(tree)
    if is_bounded(tree):
        texts = render_rows(template, columns, rows, whole)
    else:
        seconds = SECONDS + len(rows) / 1000
        try:
            texts = bounded.call("kurabe.tasks.sandbox:render_rows", template, columns, rows, whole, seconds=seconds)
        except bounded.LimitError as error:
            raise TaskError(f"{where}: the template takes {error}; make it simpler") from None
        except bounded.FailedError as error:
            raise TaskError(f"{where}: the template fails: {error}") from None
    if texts and isinstance(texts[-1], list):
        position, reason = texts[-1]
        raise TaskError(f"{where}: the template fails at {locate(position)}: {reason}")
    return texts


def only_column(template: str, columns: Sequence[str]) -> str | None:
    """The column that is all a template shows, as in `{{ title }}`; None where there is more to it."""
    body = _parse(template.strip(), "input").body
    parts = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    shown = parts[0] if len(parts) == 1 else None
    if isinstance(shown, nodes.Name) or (isinstance(shown, nodes.Getitem | nodes.Getattr) and _is_row(shown.node)):
        read = template_columns(template, columns)
        return read[0] if len(read) == 1 else None
    return None


def default_template(columns: Sequence[str]) -> str:
    """The template of a task file that has none: the only column as it is, or a line `name: value` for each."""
    if len(columns) == 1:
        return "{{ " + reference(columns[0]) + " }}"
    return "\n".join(f"{literal(column)}: {{{{ {reference(column)} }}}}" for column in columns)


def reference(column: str) -> str:
    """How a template names a column: `speed`, or `row['screen size']` where the name is not an identifier.

    >>> reference("speed"), reference("screen size")
    ('speed', "row['screen size']")
    """
    if column.isidentifier() and column not in _RESERVED and not column.startswith("_"):
        return column
    # repr is also Jinja2's way to write a string, as both undo the same escapes.
    return f"{ROW}[{column!r}]"


_KEYWORDS = "and else if in is not or true false none True False None recursive".split()  # noqa: SIM905
_TAKEN = "self loop super caller varargs kwargs context environment row input".split()  # noqa: SIM905
_RESERVED = frozenset((*_KEYWORDS, *_TAKEN, *SANDBOX.globals))


def literal(text: str) -> str:
    """A text as a template shows it unchanged."""
    plain = not re.search(r"\{[{%#]|[\r\n]", text)
    return text if plain else f"{{{{ {text!r} }}}}"


def _parse(template: str, where: str) -> nodes.Template:
    if len(template) > MAX_TEMPLATE:
        raise TaskError(f"{where}: the template has {len(template):,} characters; it may have up to {MAX_TEMPLATE:,}")
    try:
        SANDBOX.compile(template)  # parsing alone does not look for unknown filters
        return SANDBOX.parse(template)
    except jinja2.TemplateSyntaxError as error:
        lines = template.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1]
        found = re.search(r"(?:got|unexpected|tag|named) '([^']+)'", str(error.message or ""))
        column = line.find(found[1]) if found else -1
        mark = f"\n    {' ' * column}^" if column >= 0 else ""
        message = (error.message or "not valid").rstrip(".")
        raise TaskError(f"{where}: template, line {error.lineno}: {message}\n    {line}{mark}") from None
    except (RecursionError, ValueError, MemoryError, SyntaxError) as error:
        raise TaskError(f"{where}: the template cannot be read: {error}") from None


def _names(tree: nodes.Template) -> set[str]:
    """The names a template looks up, those of Jinja2's globals included: a column may be called `range`."""
    bare = SANDBOX.overlay()
    bare.globals = {}
    # As meta.find_undeclared_variables does, which works out constants on the way: a template must not run here.
    generator = meta.TrackingCodeGenerator(bare)
    generator.optimizer = None
    generator.visit(nodes.Template(tree.body, lineno=1, environment=bare))
    return generator.undeclared_identifiers


def _through_row(tree: nodes.Template) -> tuple[set[str], bool]:
    """The columns named as `row['x']` or `row.x`, and whether `row` is also used in another way."""
    gets = [get for get in tree.find_all(nodes.Getitem) if _is_row(get.node)]
    attributes = [get for get in tree.find_all(nodes.Getattr) if _is_row(get.node)]
    named = [g.arg.value for g in gets if isinstance(g.arg, nodes.Const) and isinstance(g.arg.value, str)]
    named += [attribute.attr for attribute in attributes if not hasattr(dict, attribute.attr)]
    uses = sum(1 for name in tree.find_all(nodes.Name) if _is_row(name))
    return set(named), uses > len(named)


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == ROW
