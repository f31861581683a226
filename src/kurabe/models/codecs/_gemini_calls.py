"""Tool calls whose arguments come in pieces: values at JSON Paths, as Vertex sends them where a request asks for it by
`streamFunctionCallArguments`."""

import itertools
import re
from typing import Any

import msgspec

from kurabe.errors import UnreadableAnswerError
from kurabe.messages import ToolCall


class _PartialArg(msgspec.Struct, rename="camel"):
    json_path: str | None = None
    string_value: str | None = None
    number_value: int | float | None = None
    bool_value: bool | None = None
    will_continue: bool | None = None


class Call(msgspec.Struct, rename="camel"):
    """A `functionCall`: whole, or a piece of one."""

    id: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None
    partial_args: list[_PartialArg] | None = None
    will_continue: bool | None = None


class OpenCall:
    """A tool call whose arguments come in pieces (Vertex, where the request asks for it)."""

    def __init__(self, id: str, name: str) -> None:
        self._id, self._name = id, name
        self._arguments: dict[str, Any] = {}
        self._signature = ""
        self._growing: set[str] = set()  # paths of texts of which more is to come

    def add(self, call: Call, signature: str) -> None:
        self._signature = signature or self._signature
        self._arguments |= call.args or {}
        for piece in call.partial_args or ():
            path = piece.json_path or ""
            value: Any = next(
                (v for v in (piece.string_value, piece.number_value, piece.bool_value) if v is not None), None
            )
            _put(self._arguments, path, value, more=path in self._growing)
            (self._growing.add if piece.will_continue else self._growing.discard)(path)

    def call(self) -> ToolCall:
        return ToolCall(self._id, self._name, self._arguments, self._signature)


_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,9})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")


def _put(root: dict[str, Any], path: str, value: Any, *, more: bool) -> None:
    """Put a value at a JSON Path of names and positions, such as `$.places[0].name`; `more` continues a text there.

    Raises UnreadableAnswerError for any other path.
    """
    steps: list[str | int] = []
    position = 1
    while position < len(path) and (step := _STEP.match(path, position)):
        name = step[1] or step[3] or step[4]
        steps.append(int(step[2]) if step[2] else re.sub(r"\\(.)", r"\1", name or ""))
        position = step.end()
    at: Any = root
    try:
        if not path.startswith("$") or position < len(path) or not steps:
            raise LookupError
        for step_in, following in itertools.pairwise(steps):
            at = _child(at, step_in, [] if isinstance(following, int) else {})
        last = steps[-1]
        if more:
            value = _child(at, last, "") + value
        _child(at, last, value)
        at[last] = value
    except (LookupError, TypeError):
        raise UnreadableAnswerError(f"a piece of a tool call's arguments at an invalid place: {path[:100]!r}") from None


def _child(container: Any, step: str | int, new: Any) -> Any:
    """What stands at a step; where nothing does, `new` is put there. A list grows by one at most."""
    if isinstance(container, list) and isinstance(step, int):
        if step == len(container):
            container.append(new)
        return container[step]
    if isinstance(container, dict) and isinstance(step, str):
        return container.setdefault(step, new)
    raise LookupError
