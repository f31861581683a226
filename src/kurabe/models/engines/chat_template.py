"""A model's own chat template (Jinja2, as Hugging Face writes them): the conversation as the model reads it.

The environment is that of Transformers' `apply_chat_template`, so that both give the same text. The template came with
the file and is not trusted: it runs in Jinja2's sandbox, in a process with limits of time and memory, and sees plain
values alone.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Final

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kurabe.errors import InputError, ModelError
from kurabe.messages import Message, Text, Tool, ToolCall, ToolResult
from kurabe.models import bounded
from kurabe.models.codecs.base import result_text
from kurabe.models.engines.thoughts import OPEN
from kurabe.models.request import without_system

SECONDS: Final = 20
"""For one conversation."""
_MARK = "kurabe-marks-this-place"


class ChatTemplate:
    """`source` is the template, None where the file has none: the texts are then joined by blank lines. `tokens` are
    the names of special tokens that it may use, such as `bos_token`."""

    def __init__(self, source: str | None, tokens: dict[str, str], where: str) -> None:
        self._where = where
        self._tokens = tokens
        self._template = source
        if source is not None:
            try:
                bounded.call(f"{__name__}:check", source, seconds=SECONDS)
            except (bounded.LimitError, bounded.FailedError) as error:
                raise ModelError(f"the chat template of {where!r} cannot be read: {error}") from None

    def render(self, messages: Iterable[Message], tools: Sequence[Tool] = ()) -> str:
        """The conversation with the assistant's turn opened. A model without a system role gets the system text in its
        first user turn. Raises InputError for a conversation that the template refuses."""
        turns = tuple(messages)
        if self._template is None:
            return "\n\n".join(message.text for message in turns)
        if any(message.role == "system" for message in turns) and not self.takes_system:
            turns = without_system(turns)
        return self._render(turns, tools, opened=True)

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template has a place for a system turn."""
        try:
            return _MARK in self._render((Message("system", _MARK), Message("user", "x")), (), opened=True)
        except InputError:
            return False

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template shows the model what tools there are."""
        if self._template is None:
            return False
        tool = Tool(_MARK, "", {"type": "object", "properties": {}})
        try:
            return _MARK in self._render((Message("user", "x"),), (tool,), opened=True)
        except InputError:
            return False

    @cached_property
    def opens_thought(self) -> bool:
        """Whether the assistant's turn begins with `<think>`, so that the model thinks at once."""
        if self._template is None:
            return False
        try:
            return self._render((Message("user", "x"),), (), opened=True).rstrip().endswith(OPEN)
        except InputError:
            return False

    @cached_property
    def end(self) -> str:
        """What stands behind an assistant's turn, '' where there is no template."""
        if self._template is None:
            return ""
        turns = (Message("user", "x"), Message("assistant", _MARK))
        try:
            return self._render(turns, (), opened=False).rpartition(_MARK)[2]
        except InputError:
            return ""

    def _render(self, messages: tuple[Message, ...], tools: Sequence[Tool], *, opened: bool) -> str:
        assert self._template is not None
        try:
            names = {
                "messages": [turn for message in messages for turn in _turns(message)],
                "tools": [_tool(tool) for tool in tools] or None,
                "documents": None,
                "add_generation_prompt": opened,
                **self._tokens,
            }
            return str(bounded.call(f"{__name__}:rendered", self._template, names, seconds=SECONDS))
        except bounded.LimitError as error:
            raise InputError(f"the chat template of {self._where!r} takes {error} for this conversation") from None
        except bounded.FailedError as error:
            raise InputError(f"the chat template of {self._where!r} refuses this conversation: {error}") from None


def check(source: str) -> None:
    """Raise jinja2.TemplateError where the template is not valid."""
    _compiled(source)


def rendered(source: str, names: dict[str, Any]) -> str:
    """The template with these names filled in."""
    return _compiled(source).render(names)


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _turns(message: Message) -> list[dict[str, Any]]:
    """A message as templates expect it; each result of a tool is a turn by itself."""
    results: list[dict[str, Any]] = [_result(part) for part in message.parts if isinstance(part, ToolResult)]
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in message.parts
        if isinstance(part, ToolCall)
    ]
    if results and not any(isinstance(part, Text) for part in message.parts):
        return results
    turn: dict[str, Any] = {"role": message.role, "content": _encodable(message.text)}
    return [*results, turn | {"tool_calls": calls} if calls else turn]


def _result(part: ToolResult) -> dict[str, Any]:
    content = _encodable(result_text(part, "a model in this process"))
    return {"role": "tool", "tool_call_id": part.id, "name": part.name, "content": content}


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote; for us its content is all there is."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> jinja2.Environment:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    found.filters["tojson"] = tojson
    found.globals["raise_exception"] = raise_exception
    found.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return found
