"""Calls of tools in an answer's text, as the common families of open models write them.

Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`; Llama 3: `{"name": …, "parameters": {…}}` and
nothing else; Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}}]`, or since 2025 `[TOOL_CALLS]name[ARGS]{…}`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from kurabe.messages import Part, Text, Tool, ToolCall

Form = Literal["hermes", "llama", "mistral"]
_HERMES: Final = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_NAMED: Final = re.compile(r"\s*([\w.\-]+)\s*(?:\[CALL_ID\][\w\-]*)?(?:\[ARGS\])?\s*(?=\{)")
_MARK: Final = "[TOOL_CALLS]"
_PYTHON: Final = "<|python_tag|>"


def tool_form(template: str) -> Form:
    """How a model with that chat template writes its calls."""
    if _MARK in template:
        return "mistral"
    if "<tool_call>" not in template and ("<|python_tag|>" in template or '"parameters"' in template):
        return "llama"
    return "hermes"


def read_tool_calls(text: str, tools: Iterable[Tool]) -> str | tuple[Part, ...]:
    """The answer's parts: its text, then the calls of `tools` in it; without any, the text as it is.

    >>> weather = Tool("weather", "", {"type": "object"})
    >>> read_tool_calls('<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>', [weather])
    (ToolCall(id='call00000', name='weather', arguments={'city': 'Oslo'}, signature='', item=''),)
    """
    names = {tool.name for tool in tools}
    for read in (_mistral, _hermes, _llama):
        before, found = read(text)
        calls = [(call["name"], _arguments(call)) for call in found if _is_call(call, names)]
        if calls:
            parts: list[Part] = [Text(before.strip())] if before.strip() else []
            parts += [ToolCall(f"call{number:05d}", name, arguments) for number, (name, arguments) in enumerate(calls)]
            return tuple(parts)
    return text


def call_grammar(form: Form, tools: Sequence[Tool], mark: int | None = None) -> str:
    """A grammar in llguidance's Lark that holds an answer to one call of one of `tools`. `mark`: the number of the
    token that begins Mistral's calls, where it is a special one."""
    key = "parameters" if form == "llama" else "arguments"
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, key: tool.parameters or {"type": "object"}},
            "required": ["name", key],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    call = "%json " + json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls})
    if form == "llama":
        return f"start: call\ncall: {call}\n"
    if form == "mistral":
        begin = f"<[{mark}]>" if mark is not None else json.dumps(_MARK)
        return f'start: {begin} "[" call "]"\ncall: {call}\n'
    return f'start: "<tool_call>\\n" call "\\n</tool_call>"\ncall: {call}\n'


def _hermes(text: str) -> tuple[str, list[Any]]:
    return text.partition("<tool_call>")[0], [_json(match[1]) for match in _HERMES.finditer(text)]


def _mistral(text: str) -> tuple[str, list[Any]]:
    before, mark, rest = text.partition(_MARK)
    if not mark:
        return text, []
    if rest.lstrip().startswith("["):
        found = _json(rest)
        return before, found if isinstance(found, list) else []
    parts = ((part, _NAMED.match(part)) for part in rest.split(_MARK))
    return before, [{"name": match[1], "arguments": _json(part[match.end() :])} for part, match in parts if match]


def _llama(text: str) -> tuple[str, list[Any]]:
    written = text.strip().removeprefix(_PYTHON).strip()
    calls = []
    while written.startswith("{"):
        try:
            call, end = json.JSONDecoder().raw_decode(written)
        except ValueError:
            return text, []
        calls.append(call)
        written = written[end:].lstrip(" ;\n")
    return ("", calls) if not written else (text, [])


def _json(text: str) -> Any:
    """The JSON value that the text begins with, None if it begins with something else."""
    try:
        return json.JSONDecoder().raw_decode(text.strip())[0]
    except ValueError:
        return None


def _is_call(call: Any, names: set[str]) -> bool:
    return isinstance(call, dict) and call.get("name") in names and isinstance(_arguments(call), dict)


def _arguments(call: dict[str, Any]) -> Any:
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the arguments as a text of JSON
        return _json(arguments)
    return {} if arguments is None else arguments
