"""Templates: sandboxed Jinja2 that turns a row into the text a contestant reads.

A template sees each column by its name and the whole row as `row`, so `{{ row['screen size'] }}` reaches a column whose
name is not an identifier. A missing value is rendered as nothing, a whole number without `.0`, a boolean as in JSON.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from string import Formatter
from typing import Any

import jinja2
import polars as pl
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from kurabe.errors import TaskError, missing

MAX_OUTPUT = 32 * 1024 * 1024  # characters of one rendered row
MAX_STEPS = 1_000_000  # numbers from `range` for one row
MAX_WIDTH = 1000  # of a formatted value
ROW = "row"
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")
_GROWING = frozenset("center expandtabs format format_map ljust replace rjust zfill".split())  # noqa: SIM905


def _shown(value: Any) -> Any:
    """A cell as the file has it: Jinja2 by itself would write None, True and 25.0."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if value != value else repr(value).removesuffix(".0")
    return value


def _join(chunks: Iterable[str]) -> str:
    """Put a row's output together and stop where it grows without end."""
    kept: list[str] = []
    size = 0
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        if size > MAX_OUTPUT:
            raise SecurityError(f"more than {MAX_OUTPUT:,} characters come out for one row")
    return "".join(kept)


def _count_ranges() -> Callable[..., range]:
    """`range` for one row: however loops are nested, it gives no more than MAX_STEPS numbers in all."""
    left = MAX_STEPS

    def counted(*args: int) -> range:
        nonlocal left
        numbers = safe_range(*args)
        left -= len(numbers)
        if left < 0:
            raise SecurityError(f"more than {MAX_STEPS:,} steps of range for one row")
        return numbers

    return counted


def _check_size(name: str, value: Any, args: Sequence[Any]) -> None:
    """Refuse a call of a filter or method that makes much of little: `'a' | center(10 ** 9)`."""
    if name == "format":
        # Formats of both kinds, as the filter and the method share the name.
        widths = [width for found in _PERCENT.findall(str(value)) for width in found]
        with suppress(ValueError):  # not a format of this kind
            for _, _, spec, _ in Formatter().parse(str(value)):
                widths += re.findall(r"\d+|\{", spec or "")
        if wrong := [width for width in widths if width in ("*", "{") or int(width or 0) > MAX_WIDTH]:
            raise SecurityError(f"a format of width {wrong[0]}; it may be up to {MAX_WIDTH:,}, written as a number")
        return
    text = value if isinstance(value, str) else ""
    if name == "replace":
        size = text.count(str(args[0])) * len(str(args[1])) if len(args) > 1 else 0
    else:
        widths_given = [len(arg) if isinstance(arg, str) else arg for arg in args if isinstance(arg, str | int)]
        size = max(widths_given, default=0) * (1 + text.count("\n") + text.count("\t"))
    if size > MAX_OUTPUT:
        raise SecurityError(f"{name} would give more than {MAX_OUTPUT:,} characters")


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0  # such a filter gets the environment first

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[skipped:]
        _check_size(name, value, [*others, *kwargs.values()])
        return function(*args, **kwargs)

    return guarded


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, which also refuses the plain ways to fill the memory: `'x' * 10**9`.

    It guards against slips and crude abuse. Who runs task files of strangers limits the process as well.
    """

    intercepted_binops = frozenset(["*", "**", "%", "+"])
    concat = staticmethod(_join)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("batch", "center", "format", "indent", "replace", "slice"):
            self.filters[name] = _guarded(name, self.filters[name])

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # The names are Jinja2's: keyword arguments of a template must not meet them. A format method comes wrapped.
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in _GROWING:
            _check_size(name.removesuffix("_map"), owner, [*args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sized = next((v for v in (left, right) if hasattr(v, "__len__")), None)
        number = right if sized is left else left
        if operator == "*" and sized is not None and isinstance(number, int) and len(sized) * number > MAX_OUTPUT:
            raise SecurityError(f"a product of more than {MAX_OUTPUT:,} characters")
        if operator == "**" and isinstance(right, int | float) and abs(right) > 1000:
            raise SecurityError(f"a power of {right}")
        if operator == "%" and isinstance(left, str):
            _check_size("format", left, ())
        if operator == "+" and isinstance(left, str) and isinstance(right, str) and len(left) + len(right) > MAX_OUTPUT:
            raise SecurityError(f"a sum of more than {MAX_OUTPUT:,} characters")
        return super().call_binop(context, operator, left, right)


_SANDBOX = _Sandbox(
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # the text goes to models and tables, never to a browser
    finalize=_shown,
    keep_trailing_newline=True,
    extensions=[],
)


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
    names = _names(tree) - set(_SANDBOX.globals).difference(columns)
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
    compiled = _SANDBOX.from_string(template)
    needs_row = ROW in _names(_parse(template, where))
    rows = frame[list(columns)].iter_rows() if columns else iter([()] * frame.height)
    shared = dict(_SANDBOX.globals)
    texts: list[str] = []
    for position, values in enumerate(rows):
        cells = dict(zip(columns, values, strict=True))
        try:
            shared["range"] = _count_ranges()
            names = {**shared, **cells, ROW: cells} if needs_row else {**shared, **cells}
            # What compiled.render(names) does, without merging the globals anew for each row: twice as fast.
            texts.append(_join(compiled.root_render_func(compiled.new_context(names, shared=True))))
        except Exception as error:  # a template may fail in any way that Python can
            reason = " ".join(str(error).split()) or type(error).__name__
            raise TaskError(f"{where}: the template fails at {locate(position)}: {reason}") from None
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
_RESERVED = frozenset((*_KEYWORDS, *_TAKEN, *_SANDBOX.globals))


def literal(text: str) -> str:
    """A text as a template shows it unchanged."""
    plain = not re.search(r"\{[{%#]|[\r\n]", text)
    return text if plain else f"{{{{ {text!r} }}}}"


def _parse(template: str, where: str) -> nodes.Template:
    try:
        _SANDBOX.compile(template)  # parsing alone does not look for unknown filters
        return _SANDBOX.parse(template)
    except jinja2.TemplateSyntaxError as error:
        lines = template.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1]
        found = re.search(r"(?:got|unexpected|tag|named) '([^']+)'", str(error.message or ""))
        column = line.find(found[1]) if found else -1
        mark = f"\n    {' ' * column}^" if column >= 0 else ""
        message = (error.message or "not valid").rstrip(".")
        raise TaskError(f"{where}: template, line {error.lineno}: {message}\n    {line}{mark}") from None
    except (RecursionError, ValueError, MemoryError) as error:
        raise TaskError(f"{where}: the template cannot be read: {error}") from None


def _names(tree: nodes.Template) -> set[str]:
    """The names a template looks up, those of Jinja2's globals included: a column may be called `range`."""
    bare = _SANDBOX.overlay()
    bare.globals = {}
    return meta.find_undeclared_variables(nodes.Template(tree.body, lineno=1, environment=bare))


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
