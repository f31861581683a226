"""Conversations as text: our rendering of a chat template against that of Transformers."""

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from kurabe.errors import InputError, ModelError
from kurabe.messages import Assistant, Message, System, Tool, ToolCall, ToolResult, User
from kurabe.models.engines.chat_template import ChatTemplate
from kurabe.testing.tiny_gguf import TOOLS_TEMPLATE

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim"
    " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ODD = """
{%- macro shown(text) %}
[{{ text | upper }}]
{%- endmacro %}
{%- set seen = namespace(count=0) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- set seen.count = seen.count + 1 %}
    {%- generation %}
{{ shown(message.content) }} {{ message | tojson(indent=2) }} {{ "ü<>&'" | tojson }}
    {%- endgeneration %}
    {%- if seen.count > 3 %}{% break %}{% endif %}
{%- endfor %}
{{ seen.count }} {{ strftime_now('%Y') | length }} {{ tools is none }} {{ undefined_thing }}
"""
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CONVERSATIONS: dict[str, list[Message]] = {
    "short": [User("Hi")],
    "system": [System("Be brief.  "), User(" Hi\n")],
    "long": [
        System("Be brief."),
        User("1?"),
        Assistant("1."),
        User("2?"),
        Assistant("2."),
        User("日本 <|im_end|> {{ x }}"),
    ],
    "empty": [User("")],
}


def plain(messages: list[Message]) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.text} for message in messages]


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("source", [CHATML, LLAMA3, ODD, TOOLS_TEMPLATE], ids=["chatml", "llama3", "odd", "tools"])
def test_renders_as_transformers_does(source: str, name: str) -> None:
    messages = CONVERSATIONS[name]
    if source == ODD:  # it leaves system turns out
        messages = [message for message in messages if message.role != "system"]
    (theirs,), _ = render_jinja_template([plain(messages)], chat_template=source, add_generation_prompt=True, **TOKENS)
    assert ChatTemplate(source, TOKENS, "m").render(messages) == theirs


def test_tools_and_their_calls_render_as_transformers_does() -> None:
    tool = Tool("weather", "The weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
    listed = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "sunny"},
        {"role": "user", "content": "Thanks"},
    ]
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    (theirs,), _ = render_jinja_template(
        [listed], tools=[{"type": "function", "function": function}], chat_template=TOOLS_TEMPLATE,
        add_generation_prompt=True, **TOKENS,
    )  # fmt: skip
    ours = ChatTemplate(TOOLS_TEMPLATE, TOKENS, "m")
    messages = [
        User("How is it?"),
        Assistant(ToolCall("1", "weather", {"city": "Zürich"})),
        User(ToolResult("1", "weather", "sunny"), "Thanks"),
    ]
    assert ours.render(messages, [tool]) == theirs
    assert ours.takes_tools
    assert not ChatTemplate(CHATML, TOKENS, "m").takes_tools


@pytest.mark.parametrize("source", [GEMMA, ODD], ids=["raises", "ignores"])
def test_a_model_without_a_system_role_gets_it_in_the_first_user_turn(source: str) -> None:
    template = ChatTemplate(source, TOKENS, "m")
    assert not template.takes_system
    assert template.render([System("Be brief."), User("Hi")]) == template.render([User("Be brief.\n\nHi")])
    assert ChatTemplate(CHATML, TOKENS, "m").takes_system


def test_the_end_of_a_turn() -> None:
    assert ChatTemplate(CHATML, TOKENS, "m").end == "<|im_end|>\n"
    assert ChatTemplate(GEMMA, TOKENS, "m").end == "<end_of_turn>\n"
    assert ChatTemplate(None, TOKENS, "m").end == ""


def test_without_a_template_texts_are_joined() -> None:
    template = ChatTemplate(None, TOKENS, "m")
    assert template.render([System("Be brief."), User("Hi"), Assistant("Ho")]) == "Be brief.\n\nHi\n\nHo"
    assert not template.takes_tools


def test_what_a_template_refuses() -> None:
    with pytest.raises(InputError, match=r"refuses this conversation: Conversation roles must alternate"):
        ChatTemplate(GEMMA, TOKENS, "m").render([User("a"), User("b")])
    with pytest.raises(ModelError, match="cannot be read"):
        ChatTemplate("{% for %}", TOKENS, "m")


def test_a_template_sees_plain_values_in_a_sandbox() -> None:
    for source in ("{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ range(10 ** 9) | list }}"):
        with pytest.raises(InputError, match="refuses this conversation"):
            ChatTemplate(source, TOKENS, "m").render([User("a")])


def test_lone_surrogates_become_question_marks() -> None:
    assert "a?b" in ChatTemplate(CHATML, TOKENS, "m").render([User("a\ud800b")])
