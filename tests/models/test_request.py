"""Requests as people write them, and what is done about what a model does not take."""

import warnings
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import InputError
from kurabe.messages import (
    Assistant,
    Audio,
    Document,
    Image,
    Message,
    Reasoning,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models.codecs.base import Codec, Profile
from kurabe.models.request import SETTINGS, as_messages, fit, make_request

PICTURE = Image(data=b"x", media_type="image/png")
TOOL = Tool("shares", "", {"type": "object", "properties": {}})


class Full(Codec):
    """Takes everything."""

    settings = SETTINGS
    parts = frozenset({"text", "image", "tool_call", "tool_result", "reasoning"})


class Answer(msgspec.Struct):
    """An answer."""

    price: float


def weather(city: str) -> str:
    """The weather."""
    return city


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("Hi", (User("Hi"),)),
        (PICTURE, (Message("user", (PICTURE,)),)),
        (System("Be brief."), (System("Be brief."),)),
        (["What is this?", PICTURE], (User("What is this?", PICTURE),)),
        (
            [System("s"), "a", PICTURE, Assistant("b"), "c"],
            (System("s"), User("a", PICTURE), Assistant("b"), User("c")),
        ),
        ((text for text in ("a", "b")), (Message("user", (Text("a"), Text("b"))),)),
        (ToolResult("1", "weather", "rain"), (Message("user", (ToolResult("1", "weather", "rain"),)),)),
    ],
)
def test_what_a_person_writes_becomes_messages(content: Any, messages: tuple[Message, ...]) -> None:
    assert as_messages(content) == messages


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "nothing to say"),
        (None, "not NoneType"),
        (5, "not int"),
        (b"Hi", "not bytes"),
        (["a", None], "not NoneType"),
    ],
)
def test_what_is_no_conversation_is_told(content: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        as_messages(content)


def test_settings_tools_and_output_become_a_request() -> None:
    made = make_request(
        "Hi",
        tools=[weather, TOOL],
        tool_choice="weather",
        output=Answer,
        stop="\n",
        seed=0,
        temperature=0,
        max_tokens=1,
    )
    assert [tool.name for tool in made.tools] == ["weather", "shares"]
    assert made.tools[0].parameters["required"] == ["city"]
    assert made.output is not None
    assert made.output.name == "Answer"
    assert (made.stop, made.seed, made.temperature, made.tool_choice) == (("\n",), 0, 0, "weather")
    assert make_request("Hi", stop=["a", "b"]).stop == ("a", "b")
    assert make_request("Hi", tools=weather).tools == made.tools[:1]  # type: ignore[arg-type]
    assert make_request("Hi", tools=None, stop=None, seed=None) == make_request("Hi")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temprature": 1}, "no setting 'temprature'; did you mean 'temperature'"),
        ({"messages": ()}, "no setting 'messages'"),
        ({"temperature": 2.1}, "temperature is 2.1; it must be a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"top_p": -0.1}, "top_p is -0.1"),
        ({"frequency_penalty": 3}, "frequency_penalty is 3"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be a whole number of 1 or more"),
        ({"max_tokens": 1.5}, r"max_tokens is 1\.5"),
        ({"top_k": True}, "top_k is True"),
        ({"seed": -1}, "seed is -1"),
        ({"logprobs": True}, "logprobs is True"),
        ({"reasoning": "hgih"}, "no reasoning effort 'hgih'; did you mean 'high'"),
        ({"reasoning": ["high"]}, "no reasoning effort"),
        ({"tools": [weather], "tool_choice": "wether"}, "no tool to choose 'wether'; did you mean 'weather'"),
        ({"tools": [weather], "tool_choice": {"type": "function"}}, "no tool to choose"),
        ({"tool_choice": "required"}, "tool_choice is 'required', and there are no tools"),
        ({"tools": [weather, weather]}, "two tools have the same name: weather, weather"),
        ({"tools": [len]}, "the tool len"),
        ({"output": int}, "output=int"),
        ({"tools": 1}, "1 is no function"),
        ({"prefill": 5}, "prefill is 5; it must be a text"),
        ({"grammar": b"x"}, "grammar is b'x'; it must be a text"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls is 'no'; it must be a bool"),
        ({"stop": 1}, r"stop is \(1,\)"),
        ({"stop": [1]}, r"stop is \(1,\)"),
        ({"stop": ""}, r"stop is \('',\)"),
        ({"extra": "x"}, "extra is 'x'; it must be a dictionary"),
    ],
)
def test_bad_settings_are_told(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_request("Hi", **settings)


class Simple(Codec):
    """Takes little."""

    settings = frozenset({"max_tokens", "temperature", "stop"})


def test_what_the_model_takes_stays() -> None:
    request = make_request("Hi", max_tokens=3, temperature=0, stop="x", extra={"a": 1})
    assert fit(request, Simple(), Profile(), "x:y", "error") is request


@pytest.mark.parametrize(("codec", "without"), [(Simple(), frozenset()), (Full(), frozenset({"seed", "top_p"}))])
def test_what_the_model_does_not_take_is_an_error_or_left_out(codec: Codec, without: frozenset[str]) -> None:
    request = make_request("Hi", max_tokens=3, seed=0, top_p=0.0)
    with pytest.raises(InputError, match=r"x:y does not take seed, top_p; leave them out, or .*unsupported='drop'"):
        fit(request, codec, Profile(without=without), "x:y", "error")
    with pytest.warns(UserWarning, match="x:y does not take seed, top_p: left out"):
        left = fit(request, codec, Profile(without=without), "x:y", "drop")
    assert left == make_request("Hi", max_tokens=3)


def test_an_output_is_not_left_out_unseen() -> None:
    request = make_request("Hi", output=Answer)
    with pytest.raises(InputError, match="does not take output; leave it out"):
        fit(request, Full(), Profile(without=frozenset({"output"})), "x:y", "error")
    with pytest.warns(UserWarning, match="does not take output"):
        left = fit(request, Full(), Profile(without=frozenset({"output"})), "x:y", "drop")
    assert left.output is None


def test_parts_that_the_model_does_not_take() -> None:
    for part, codec, without in (
        (PICTURE, Simple(), frozenset()),
        (PICTURE, Full(), frozenset({"image"})),
        (Audio(data=b"x"), Full(), frozenset()),
        (Document(data=b"x"), Full(), frozenset()),
    ):
        kind = type(part).__name__.lower()
        with pytest.raises(InputError, match=f"x:y takes no {kind}"):
            fit(make_request(["Hi", part]), codec, Profile(without=without), "x:y", "drop")
    fit(make_request(["Hi", PICTURE]), Full(), Profile(), "x:y", "error")


NO_SYSTEM = Profile(without=frozenset({"system"}))


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ([System("s"), "a", Assistant("b"), "c"], (User("s\n\na"), Assistant("b"), User("c"))),
        ([System("s"), System("t"), "a"], (User("s\n\nt\n\na"),)),
        ([System("s"), User("a", PICTURE)], (User("s\n\n", "a", PICTURE),)),
        (["a", Assistant("b"), System("s")], (User("s\n\na"), Assistant("b"))),
        ([System("s")], (User("s"),)),
        (["a"], (User("a"),)),
    ],
)
def test_a_model_without_a_system_role_gets_the_text_in_the_first_turn(
    given_: list[Any], sent: tuple[Message, ...]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(make_request(given_), Full(), NO_SYSTEM, "x:y", "error").messages == sent


turns = st.lists(
    st.one_of(
        st.text(min_size=1).map(System),
        st.text(min_size=1).map(User),
        st.text(min_size=1).map(Assistant),
        st.just(Message("assistant", (ToolCall("1", "weather"),))),
    ),
    min_size=1,
)


@given(turns)
def test_no_text_is_lost_without_a_system_role(content: list[Message]) -> None:
    sent = fit(make_request(content), Full(), NO_SYSTEM, "x:y", "error").messages
    assert not any(message.role == "system" for message in sent)
    assert [m for m in sent if m.role == "assistant"] == [m for m in content if m.role == "assistant"]
    texts = "".join(message.text for message in sent if message.role == "user")
    for message in content:
        if message.role != "assistant":
            assert message.text in texts


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.none() | st.integers() | st.text() | st.floats()))
def test_any_setting_gives_a_request_or_an_input_error(settings: dict[str, Any]) -> None:
    try:
        made = make_request("Hi", **settings)
    except InputError:
        return
    assert isinstance(made, Request)


def test_what_another_provider_signed_is_not_sent_on() -> None:
    turn = Message(
        "assistant",
        (
            Reasoning("hm", signature="s"),
            Text("yes", signature="t"),
            ToolCall("1", "look", {}, signature="u", item="fc_1"),
        ),
        "gemini",
    )
    request = Request((Message("user", "x"), turn))
    kept = fit(request, Full(), Profile(), "x:y", "error", "gemini")
    assert kept.messages[1] == turn
    sent = fit(request, Full(), Profile(), "x:y", "error", "anthropic")
    assert sent.messages[1] == Message("assistant", (Text("yes"), ToolCall("1", "look", {})))
