"""From what a person writes to a Request, and what is done about settings that a model does not take."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Literal

import msgspec

from kurabe.errors import InputError, missing
from kurabe.messages import (
    Effort,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models.codecs.base import Codec, Profile

Unsupported = Literal["error", "drop"]
Content = str | Part | Message | Mapping[str, Any] | Iterable[str | Part | Message | Mapping[str, Any]]
SETTINGS = frozenset(Request.__struct_fields__) - {"messages", "extra"}
_NUMBERS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}
_NAMES = tuple(sorted(SETTINGS))
_values = attrgetter(*_NAMES)
_NOTHING = _values(Request(messages=()))
_EFFORTS = Effort.__args__  # type: ignore[attr-defined]


def make_request(
    content: Content,
    *,
    tools: Iterable[Tool | Callable[..., Any]] = (),
    output: Any = None,
    stop: str | Iterable[str] = (),
    **settings: Any,
) -> Request:
    """A Request of a text, parts or messages, and settings by the names of Request's fields.

    Raises InputError for an unknown setting, a value out of its range, or a tool or type that can't be described.
    """
    if not settings and not tools and output is None and stop == ():  # as most calls are
        return Request(as_messages(content))
    for name in settings:
        if name not in SETTINGS and name != "extra":
            raise InputError(missing("setting", name, sorted(SETTINGS)))
    request = Request(
        messages=as_messages(content),
        tools=tuple(tool if isinstance(tool, Tool) else _described(tool) for tool in _listed(tools)),
        output=None if output is None else _output(output),
        stop=_listed(stop),
        **settings,
    )
    _check(request)
    return request


def as_messages(content: Content) -> tuple[Message, ...]:
    """Texts and parts that stand beside each other are one user turn; messages stay as they are, and dictionaries with
    a `role`, as other libraries write messages, are read as such."""
    if isinstance(content, str):
        return (Message("user", content),)
    if isinstance(content, bytes) or not isinstance(content, Message | Part | Iterable):
        raise InputError(f"a conversation is a text, parts or messages, not {type(content).__name__}: {content!r:.80}")
    items = [content] if isinstance(content, Message | Part | Mapping) else list(content)
    messages: list[Message] = []
    for kind, group in itertools.groupby(items, _kind_of_item):
        run: list[Any] = list(group)
        match kind:
            case "message":
                messages += run
            case "loose":
                messages.append(User(*run))
            case "dict":
                from kurabe.models._dict_messages import from_dicts

                messages += from_dicts(run)
            case _:
                kind = type(run[0]).__name__
                raise InputError(f"a conversation holds texts, parts and messages, not {kind}: {run[0]!r:.80}")
    if not messages:
        raise InputError("there is nothing to say: the conversation is empty")
    return tuple(messages)


def _kind_of_item(item: Any) -> str:
    if isinstance(item, Message):
        return "message"
    return "loose" if isinstance(item, str | Part) else "dict" if isinstance(item, Mapping) else "other"


def _listed(value: Any) -> tuple[Any, ...]:
    """One thing or several of them as a tuple; None is nothing."""
    if isinstance(value, Iterable) and not isinstance(value, str | dict):
        return tuple(value)
    return () if value is None else (value,)


def fit(
    request: Request, codec: Codec, profile: Profile, where: str, unsupported: Unsupported, protocol: str = ""
) -> Request:
    """The request without what the model does not take.

    Such a setting is an InputError, or with `drop` is left out with a warning. A model without a system role gets the
    system text in its first user turn. Turns of another provider's model lose their thinking and signatures.
    """
    refused = [name for name in _given(request) if name in profile.without or name not in codec.settings]
    if any(tool.strict for tool in request.tools) and ("strict" not in codec.settings or "no_strict" in profile.quirks):
        refused.append("strict")
    if refused:
        listed = ", ".join(sorted(refused))
        if unsupported == "error":
            raise InputError(
                f"{where} does not take {listed}; leave {'it' if len(refused) == 1 else 'them'} out, or open the model"
                " with unsupported='drop'"
            )
        warnings.warn(f"{where} does not take {listed}: left out", stacklevel=4)
        request = _without(request, refused)
    if _system_inside(request.messages) and (codec.system_first or "system_first" in profile.quirks):
        warnings.warn(
            f"{where} takes system turns only before the conversation, so one inside it was moved to the front; to keep"
            " its place, put its text into a user's turn",
            stacklevel=4,
        )
    if "system" in profile.without and any(message.role == "system" for message in request.messages):
        request = msgspec.structs.replace(request, messages=without_system(request.messages))
    foreign = False
    for message in request.messages:
        if not isinstance(message.content, str):
            foreign = foreign or message.protocol not in ("", protocol)
            _check_parts(message, codec, profile, where)
    if foreign:
        turns = [_unsigned(message) if message.protocol != protocol else message for message in request.messages]
        request = msgspec.structs.replace(request, messages=tuple(turns))
    return request


def _without(request: Request, settings: list[str]) -> Request:
    """The request without these settings; `strict` is one of its tools."""
    empty = Request(messages=())
    changed = {name: getattr(empty, name) for name in settings if name != "strict"}
    if "strict" in settings and "tools" not in settings:
        changed["tools"] = tuple(msgspec.structs.replace(tool, strict=False) for tool in request.tools)
    return msgspec.structs.replace(request, **changed)


def _system_inside(messages: tuple[Message, ...]) -> bool:
    """Whether a system turn stands behind another turn."""
    roles = [message.role for message in messages]
    return "system" in roles[next((i for i, role in enumerate(roles) if role != "system"), len(roles)) :]


def without_cache(request: Request) -> Request:
    """The request without marks for the provider's cache."""
    if not any(message.cache for message in request.messages) and not any(tool.cache for tool in request.tools):
        return request
    return msgspec.structs.replace(
        request,
        messages=tuple(msgspec.structs.replace(message, cache=False) for message in request.messages),
        tools=tuple(msgspec.structs.replace(tool, cache=False) for tool in request.tools),
    )


def _unsigned(message: Message) -> Message:
    """A turn without the thinking and the signatures of the provider it came from, which no other one understands."""
    if isinstance(message.content, str):
        return message
    kept = [part for part in message.content if not isinstance(part, Reasoning)]
    content = [
        msgspec.structs.replace(part, signature="")
        if isinstance(part, Text)
        else msgspec.structs.replace(part, signature="", item="")
        if isinstance(part, ToolCall)
        else part
        for part in kept
    ]
    return Message(message.role, tuple(content), cache=message.cache)


def without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system texts, put before the first user turn's text."""
    text = "\n\n".join(message.text for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    first = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return (Message("user", text), *rest)
    cache = rest[first].cache
    content = rest[first].content
    joined = f"{text}\n\n{content}" if isinstance(content, str) else (Text(text + "\n\n"), *content)
    return (*rest[:first], Message("user", joined, cache=cache), *rest[first + 1 :])


def _given(request: Request) -> list[str]:
    """The settings that the request has, `messages` and `extra` left out."""
    values = _values(request)
    if values == _NOTHING:
        return []
    return [name for name, value, empty in zip(_NAMES, values, _NOTHING, strict=True) if value != empty]


def _check_parts(message: Message, codec: Codec, profile: Profile, where: str) -> None:
    nested = [inner for part in message.parts if isinstance(part, ToolResult) for inner in part.parts]
    for part in (*message.parts, *nested):
        kind = type(part).__name__.lower()
        if kind in ("image", "audio", "document") and (kind in profile.without or kind not in codec.parts):
            raise InputError(f"{where} takes no {kind}; leave it out or ask a model that does")


def _check(request: Request) -> None:
    for name, (low, high) in _NUMBERS.items():
        value = getattr(request, name)
        if value is not None and not (isinstance(value, int | float) and low <= value <= high):
            raise InputError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
    for name in ("max_tokens", "top_k", "logprobs", "seed"):
        value = getattr(request, name)
        least = 1 if name in ("max_tokens", "top_k") else 0
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise InputError(f"{name} is {value!r}; it must be a whole number of {least} or more")
    for name, kind, what in (
        ("prefill", str, "a text"),
        ("grammar", str, "a text"),
        ("parallel_tool_calls", bool, "a bool"),
    ):
        if not isinstance(value := getattr(request, name), kind | None):
            raise InputError(f"{name} is {value!r}; it must be {what}")
    if request.reasoning is not None and request.reasoning not in _EFFORTS:
        raise InputError(missing("reasoning effort", str(request.reasoning), _EFFORTS))
    if not all(isinstance(text, str) and text for text in request.stop):
        raise InputError(f"stop is {request.stop!r}; each must be a text, and none of them empty")
    if not isinstance(request.extra, dict):
        raise InputError(f"extra is {request.extra!r:.80}; it must be a dictionary of what goes into the body")
    names = [tool.name for tool in request.tools]
    if request.tool_choice is not None and request.tool_choice not in ("auto", "none", "required", *names):
        raise InputError(missing("tool to choose", str(request.tool_choice), ["auto", "none", "required", *names]))
    if request.tool_choice not in (None, "auto", "none") and not names:
        raise InputError(f"tool_choice is {request.tool_choice!r}, and there are no tools; give some with tools=")
    if len(set(names)) < len(names):
        raise InputError(f"two tools have the same name: {', '.join(names)}")


def _described(function: Callable[..., Any]) -> Tool:
    from kurabe.models.tools import tool

    return tool(function)


def _output(output: Any) -> OutputFormat:
    from kurabe.models.output import output_format

    return output_format(output)
