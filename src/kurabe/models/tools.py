"""Plain functions as tools: what a model is told of them, and how its calls are carried out."""

import asyncio
import inspect
import math
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import docstring_parser
import msgspec

from kurabe.errors import InputError, missing, without_secrets
from kurabe.messages import Tool, ToolCall, ToolResult
from kurabe.models import loop
from kurabe.models._json_schema import Mismatch, Schema, TypeFault, schema_of, value_of
from kurabe.models.codecs.base import json_body
from kurabe.models.codecs.strict import strict_schema

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_FAULT = 500  # characters of an exception's text that the model is told


def tool(function: Callable[..., Any], *, strict: bool = False) -> Tool:
    """Describe a function as a tool: its name, its docstring's text, and the JSON Schema of its parameters.

    Types come from the type hints, and descriptions of parameters from `Annotated[int, "…"]` or from the docstring
    (Google,
    NumPy or Sphinx style). A parameter with a default is optional. A method's `self` is left out.

    Parameters
    ----------
    function : callable
        A function with type hints.
    strict : bool
        Make the provider enforce the schema. Strict schemas have no optional parameters, so that all are required.

    Returns
    -------
    Tool

    Raises
    ------
    InputError
        If a parameter has no type hint, or one that can't be described. The message names it.

    Examples
    --------
    >>> def double(x: int) -> int:
    ...     '''Twice the number.'''
    ...     return 2 * x
    >>> tool(double).parameters["properties"]
    {'x': {'type': 'integer'}}
    """
    made = _described(function).tool
    if not strict:
        return made
    return msgspec.structs.replace(made, parameters=strict_schema(made.parameters), strict=True)


def run_tool(call: ToolCall, tools: Iterable[Callable[..., Any]]) -> ToolResult:
    """Call the function that a model asks for.

    Arguments are converted to the hinted types. A text is returned as it is, and anything else as JSON. An unknown
    tool, an
    argument of the wrong type, or an exception gives a result with `error`, which tells the model what is wrong. An
    async
    function runs in kurabe's event loop in the background.

    Parameters
    ----------
    call : ToolCall
        The model's request.
    tools : iterable of callable
        The functions that it may call.

    Returns
    -------
    ToolResult
        Put it into the next turn: `User(result)`.

    Raises
    ------
    InputError
        If one of the functions can't be described.

    Examples
    --------
    >>> from kurabe import ToolCall
    >>> def double(x: int) -> int:
    ...     return 2 * x
    >>> run_tool(ToolCall("call-1", "double", {"x": 21}), [double]).text
    '42'
    """
    functions = _by_name(tools)
    try:
        result = _called(call, functions)()
        if inspect.isawaitable(result):
            result = loop.run(_waited(result))
        return _result(call, _as_text(result))
    except Exception as error:  # whatever a tool does wrong, the model is told and the conversation goes on
        return _fault(call, error)


async def arun_tool(call: ToolCall, tools: Iterable[Callable[..., Any]]) -> ToolResult:
    """`run_tool` in the running event loop. A function that is not async runs in a thread.

    Parameters
    ----------
    call, tools
        As for `run_tool`.

    Returns
    -------
    ToolResult

    Raises
    ------
    InputError
        If one of the functions can't be described.
    """
    functions = _by_name(tools)
    try:
        called = _called(call, functions)
        result = called() if called.is_async else await asyncio.to_thread(called.__call__)
        if inspect.isawaitable(result):
            result = await result
        return _result(call, _as_text(result))
    except Exception as error:  # as above
        return _fault(call, error)


class _Refusal(Exception):
    """What a model is told of a call that can't be carried out."""


class _Described(NamedTuple):
    tool: Tool
    signature: inspect.Signature
    hints: dict[str, Any]


class _Called(NamedTuple):
    function: Callable[..., Any]
    bound: inspect.BoundArguments

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def __call__(self) -> Any:
        return self.function(*self.bound.args, **self.bound.kwargs)


def _by_name(tools: Iterable[Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    return {_described(function).tool.name: function for function in tools}


def _called(call: ToolCall, functions: dict[str, Callable[..., Any]]) -> _Called:
    """The call with its arguments converted. Raises _Refusal."""
    if call.name not in functions:
        raise _Refusal(missing("tool", call.name, functions))
    function = functions[call.name]
    _, signature, hints = _described(function)
    bound = inspect.BoundArguments(signature, {})
    for name in call.arguments:
        if name not in signature.parameters:
            raise _Refusal(missing("parameter", name, signature.parameters))
    for name, parameter in signature.parameters.items():
        required = parameter.default is parameter.empty
        if name not in call.arguments:
            if required:
                raise _Refusal(f"the parameter {name!r} is missing")
            continue
        try:
            bound.arguments[name] = value_of(hints[name], call.arguments[name], strict=False)
        except Mismatch as fault:
            if call.arguments[name] is None and not required:  # models write null for "not given"
                continue
            raise _Refusal(f"{name}{fault.path.removeprefix('$')}: {fault.what}") from None
    bound.apply_defaults()
    return _Called(function, bound)


def _described(function: Callable[..., Any]) -> _Described:
    inner = getattr(function, "__func__", function)
    if not callable(function) or not inspect.isroutine(inner):
        raise InputError(f"{function!r:.80} is no function; write a function with type hints around it")
    return _described_once(inner, inner is not function)


@lru_cache(maxsize=512)
def _described_once(function: Callable[..., Any], is_method: bool) -> _Described:
    """The description of a function, or of a method's function without its first parameter."""
    name = getattr(function, "__name__", "")
    if not _NAME.fullmatch(name):
        raise InputError(f"the tool {name!r} needs a name of at most 64 of A-Z a-z 0-9 _ and -; write it as a def")
    try:
        signature = inspect.signature(function)
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise InputError(f"the tool {name}: a type hint can't be read: {error}; define that type at the top") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"the tool {name} can't be described: {error}; write a def with type hints") from None
    parameters = list(signature.parameters.values())[1 if is_method else 0 :]
    doc = _docstring(function)
    properties: Schema = {}
    defs: Schema = {}
    for parameter in parameters:
        schema = _parameter_schema(name, parameter, hints, doc.get(parameter.name, ""))
        for kept, definition in schema.pop("$defs", {}).items():
            if defs.setdefault(kept, definition) != definition:
                raise InputError(f"the tool {name}: two different types are called {kept}; rename one of them")
        properties[parameter.name] = schema
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    schema = {"type": "object", "properties": properties, "required": required}
    if defs:
        schema["$defs"] = defs
    return _Described(Tool(name, doc[""], schema), inspect.Signature(parameters), hints)


def _parameter_schema(tool: str, parameter: inspect.Parameter, hints: dict[str, Any], doc: str) -> Schema:
    where = f"the tool {tool}: the parameter {parameter.name!r}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InputError(f"{where} takes any number of arguments; write each one out, with its type")
    if parameter.name == "self" and parameter.name not in hints:
        raise InputError(f"{where} stands for an object; give the method of an object, as in `shop.{tool}`")
    if parameter.name not in hints:
        raise InputError(f"{where} has no type hint; add one, as in `{parameter.name}: str`")
    hint = hints[parameter.name]
    try:
        schema = schema_of(hint)
    except TypeFault as fault:
        raise InputError(
            f"{where} can't be described to a model: {str(fault).rstrip('.')}. Use str, int, float, bool, list, dict,"
            " Literal, an Enum, a dataclass, TypedDict, msgspec struct or pydantic model"
        ) from None
    if described := _annotated(hint) or doc:
        schema["description"] = described
    if isinstance(parameter.default, str | int | float) and parameter.default not in (math.inf, -math.inf):
        schema.setdefault("default", msgspec.to_builtins(parameter.default))
    return schema


def _annotated(hint: Any) -> str:
    """The description that stands in `Annotated`: a text, or what `Doc`, msgspec's Meta or pydantic's Field holds."""
    if get_origin(hint) is not Annotated:
        return ""
    for extra in get_args(hint)[1:]:
        for text in (extra, getattr(extra, "description", None), getattr(extra, "documentation", None)):
            if isinstance(text, str):
                return text
    return ""


def _docstring(function: Callable[..., Any]) -> dict[str, str]:
    """The texts of a docstring by parameter; under '' the one of the function."""
    text = inspect.getdoc(function) or ""
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return {"": text}
    about = [part.strip() for part in (parsed.short_description, parsed.long_description) if part]
    texts = {param.arg_name: " ".join((param.description or "").split()) for param in parsed.params}
    return {**texts, "": "\n\n".join(about)}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json_body(msgspec.to_builtins(value, str_keys=True, enc_hook=_plain)).decode()


def _plain(value: Any) -> Any:
    """What msgspec can write of a pydantic model or a number or array of numpy."""
    for name, settings in (("model_dump", {"mode": "json"}), ("tolist", {})):
        if callable(method := getattr(value, name, None)):
            return method(**settings)
    raise _Refusal(f"the tool returned a {type(value).__name__}, which can't be written as JSON")


def _result(call: ToolCall, text: str, *, error: bool = False) -> ToolResult:
    return ToolResult(call.id, call.name, text, error)


def _fault(call: ToolCall, error: Exception) -> ToolResult:
    kind = "" if isinstance(error, _Refusal) else type(error).__name__
    said = without_secrets(": ".join(part for part in (kind, str(error).strip()) if part))
    text = said if len(said) <= _LONGEST_FAULT else said[: _LONGEST_FAULT - 1] + "…"
    return _result(call, text, error=True)


async def _waited(awaitable: Any) -> Any:
    return await awaitable
