"""The sandbox that templates of task files are rendered in.

A template with loops, macros or calls is rendered in a process with limits of time and memory; the others, which are
most, at once.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from string import Formatter
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

MAX_OUTPUT = 32 * 1024 * 1024  # characters of one rendered row
MAX_STEPS = 1_000_000  # numbers from `range` for one row
MAX_WIDTH = 1000  # of a formatted value
MAX_PLACES = 400  # that a number is rounded to; a float has up to 324
ROW = "row"
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")
_GROWING = frozenset("center expandtabs format format_map ljust replace rjust zfill".split())  # noqa: SIM905


@pass_context  # which also keeps Jinja2 from working out constants while it compiles: `{{ 'x' * 10 ** 9 }}`
def _shown(context: Context, value: Any) -> Any:
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
    if name == "round":  # to -10**8 places is a division by a number of as many digits
        if places := [arg for arg in args if isinstance(arg, int | float) and not abs(arg) <= MAX_PLACES]:
            raise SecurityError(f"rounding to {places[0]} places; it may be up to {MAX_PLACES:,}")
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
        for name in ("batch", "center", "format", "indent", "replace", "round", "slice"):
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


SANDBOX = _Sandbox(
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # the text goes to models and tables, never to a browser
    finalize=_shown,
    keep_trailing_newline=True,
    extensions=[],
    optimized=False,
)


def render_rows(template: str, names: Sequence[str], rows: Iterable[Sequence[Any]], whole: bool) -> list[Any]:
    """The text of each row; in place of the first that fails a list of its position and why, and then nothing more.

    `names`: of the cells of a row; `whole`: whether the template also reads `row`.
    """
    compiled = SANDBOX.from_string(template)
    shared = dict(SANDBOX.globals)
    texts: list[Any] = []
    for position, values in enumerate(rows):
        cells = dict(zip(names, values, strict=True))
        try:
            shared["range"] = _count_ranges()
            known = {**shared, **cells, ROW: cells} if whole else {**shared, **cells}
            # What compiled.render(names) does, without merging the globals anew for each row: twice as fast.
            texts.append(_join(compiled.root_render_func(compiled.new_context(known, shared=True))))
        except MemoryError:
            raise
        except Exception as error:  # a template may fail in any way that Python can
            texts.append([position, " ".join(str(error).split()) or type(error).__name__])
            break
    return texts


_BOUNDED_FILTERS = frozenset({
    "abs", "capitalize", "d", "default", "e", "escape", "first", "float", "int", "last", "length", "count", "lower",
    "round", "string", "title", "trim", "truncate", "upper",
})  # fmt: skip
_BOUNDED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Test, nodes.Getattr, nodes.Getitem, nodes.Keyword,
    nodes.Slice, nodes.Add, nodes.Sub, nodes.Neg, nodes.Pos,
)  # fmt: skip


def is_bounded(tree: nodes.Template) -> bool:
    """Whether a template can do no more than show cells and constants: its output grows with them and its own length.

    `~` is not among it: it puts any number of long cells together before the length of the output is looked at.

    >>> is_bounded(SANDBOX.parse("{{ title | upper }}")), is_bounded(SANDBOX.parse("{% for x in row %}{% endfor %}"))
    (True, False)
    """
    return all(
        node.name in _BOUNDED_FILTERS if isinstance(node, nodes.Filter) else isinstance(node, _BOUNDED)
        for node in _all(tree)
    )


def _all(tree: nodes.Template) -> Iterable[nodes.Node]:
    yield tree
    yield from tree.find_all(nodes.Node)
