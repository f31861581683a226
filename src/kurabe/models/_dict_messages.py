"""Messages as other libraries write them: dictionaries in the form of OpenAI's chat completions or of Anthropic."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kurabe.errors import InputError, missing
from kurabe.messages import (
    Audio,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    text_of,
)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}


def from_dicts(dicts: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages of dictionaries that follow each other in a conversation.

    Parameters
    ----------
    dicts
        Each has a `role` (`system`, `developer`, `user`, `assistant` or `tool`) and a `content`: a text, None, or a
        list of parts of OpenAI's types (`text`, `image_url`, `input_audio`, `file`) or Anthropic's (`text`, `image`,
        `document`, `thinking`, `tool_use`, `tool_result`). An assistant's may have OpenAI's `tool_calls`, a tool's has
        `tool_call_id`.

    Returns
    -------
    list of Message
        The results of tools that stand beside each other are one user turn.

    Raises
    ------
    InputError
        For a role, part or field that isn't known, with its place.
    """
    messages: list[Message] = []
    names: dict[str, str] = {}  # of tools by the id of the call: a tool's result does not repeat it
    after_tool = False
    for position, one in enumerate(dicts):
        where = f"message {position}"
        role = one.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise InputError(f"{where}: {missing('role', str(role), _ROLES)}")
        if one.get("function_call") is not None:
            raise InputError(f"{where} has a function_call, which tool_calls have replaced; write those")
        parts = _parts(one.get("content"), names, where)
        if role == "assistant":
            if not parts and isinstance(refusal := one.get("refusal"), str):
                parts = [Text(refusal)]
            parts += _tool_calls(one.get("tool_calls"), where)
            names |= {part.id: part.name for part in parts if isinstance(part, ToolCall)}
        if role == "tool":
            call = _field(one, "tool_call_id", str, where)
            parts = [ToolResult(call, names.get(call, str(one.get("name") or "")), _result(parts, where))]
        marked = _marked(one.get("content"))
        if role == "tool" and after_tool:
            messages[-1] = Message("user", (*messages[-1].parts, *parts), cache=marked or messages[-1].cache)
        else:
            messages.append(Message(_ROLES[role], _content(parts), cache=marked))
        after_tool = role == "tool"
    return messages


def _marked(content: Any) -> bool:
    """Whether Anthropic's mark of a beginning to be kept stands on the last part."""
    last = content[-1] if isinstance(content, Sequence) and content else None
    return isinstance(last, Mapping) and last.get("cache_control") is not None


def _result(parts: list[Part], where: str) -> str | tuple[Text | Image | Document, ...]:
    """What a tool answered."""
    kept: list[Text | Image | Document] = []
    for part in parts:
        if not isinstance(part, Text | Image | Document):
            kind = type(part).__name__
            raise InputError(f"{where}: the result of a tool holds texts, images and documents, and no {kind}")
        kept.append(part)
    return text_of(tuple(kept)) if all(isinstance(part, Text) for part in kept) else tuple(kept)


def _content(parts: list[Part]) -> str | tuple[Part, ...]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text) and not parts[0].signature:
        return parts[0].text
    return tuple(parts)


def _parts(content: Any, names: Mapping[str, str], where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, Sequence):
        raise InputError(f"{where}: content is {content!r:.60}; it must be a text or a list of parts")
    return [_part(part, names, f"{where}, part {number}") for number, part in enumerate(content)]


def _part(part: Any, names: Mapping[str, str], where: str) -> Part:
    if isinstance(part, str):
        return Text(part)
    if isinstance(part, Part):
        return part
    if not isinstance(part, Mapping):
        raise InputError(f"{where} is {part!r:.60}; it must be a text or a dictionary with a type")
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return Text(_field(part, "text", str, where))
        case "image_url" | "input_image":
            address = part.get("image_url")
            url = address.get("url") if isinstance(address, Mapping) else address
            if not isinstance(url, str):
                raise InputError(f"{where} has no image_url; write {{'type': 'image_url', 'image_url': {{'url': …}}}}")
            return Image.from_url(url)
        case "input_audio":
            sound = _field(part, "input_audio", Mapping, where)
            return Audio(_bytes(_field(sound, "data", str, where), where), f"audio/{sound.get('format') or 'wav'}")
        case "file":
            file = _field(part, "file", Mapping, where)
            head, _, data = _field(file, "file_data", str, where).rpartition("base64,")
            kind = head.removeprefix("data:").rstrip(";") or "application/pdf"
            return Document(_bytes(data, where), kind, name=str(file.get("filename") or ""))
        case "image" | "document" as kind:
            return _sourced(kind, part, where)
        case "thinking":
            return Reasoning(_field(part, "thinking", str, where), signature=str(part.get("signature") or ""))
        case "redacted_thinking":
            return Reasoning(data=_field(part, "data", str, where))
        case "tool_use":
            arguments = dict(_field(part, "input", Mapping, where))
            return ToolCall(_field(part, "id", str, where), _field(part, "name", str, where), arguments)
        case "tool_result":
            call = _field(part, "tool_use_id", str, where)
            within = part.get("content")
            if isinstance(within, Sequence) and any(
                isinstance(one, Mapping) and one.get("type") == "tool_result" for one in within
            ):
                raise InputError(f"{where}: the result of a tool holds no other result")
            result = _result(_parts(within, names, where), where)
            return ToolResult(call, names.get(call, ""), result, bool(part.get("is_error")))
        case kind:
            known = ["text", "image_url", "input_audio", "file", "image", "document", "tool_use", "tool_result"]
            raise InputError(f"{where}: {missing('type of part', str(kind), known)}")


def _sourced(kind: str, part: Mapping[str, Any], where: str) -> Part:
    """An image or document with Anthropic's `source`."""
    source = _field(part, "source", Mapping, where)
    name = str(part.get("title") or "")
    match source.get("type"):
        case "url":
            url = _field(source, "url", str, where)
            return Image.from_url(url) if kind == "image" else Document(url=url, name=name)
        case "text":
            return Document(_field(source, "data", str, where).encode(), "text/plain", name=name)
        case "base64":
            data, media_type = _bytes(_field(source, "data", str, where), where), str(source.get("media_type") or "")
            return Image(data, media_type) if kind == "image" else Document(data, media_type, name=name)
        case other:
            raise InputError(f"{where}: {missing('type of source', str(other), ['base64', 'url', 'text'])}")


def _tool_calls(calls: Any, where: str) -> list[Part]:
    """OpenAI's `tool_calls`, whose arguments are a JSON text; None means no calls."""
    made: list[Part] = []
    if calls is None:
        return made
    if not isinstance(calls, list | tuple):
        raise InputError(f"{where}: tool_calls is {calls!r:.60}; it must be a list")
    for number, call in enumerate(calls):
        place = f"{where}, tool call {number}"
        if not isinstance(call, Mapping):
            raise InputError(f"{place} is {call!r:.60}; it must be a dictionary with id and function")
        function = _field(call, "function", Mapping, place)
        text = function.get("arguments") or "{}"
        try:
            arguments = dict(text) if isinstance(text, Mapping) else msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, TypeError, UnicodeError, RecursionError):
            raise InputError(f"{place}: arguments are {text!r:.60}; they must be the JSON text of an object") from None
        made.append(ToolCall(_field(call, "id", str, place), _field(function, "name", str, place), arguments))
    return made


def _field(mapping: Mapping[str, Any], name: str, kind: Any, where: str) -> Any:
    value = mapping.get(name)
    if not isinstance(value, kind):
        what = "a text" if kind is str else "a dictionary"
        raise InputError(f"{where} needs {name!r}, {what}; it is {value!r:.60}")
    return value


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}: the data is not valid base64") from None
