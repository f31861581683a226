"""Functions as tools: their schemas, and calls with arguments as a model writes them."""

import asyncio
import dataclasses
import enum
import functools
import math
import socket
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import jsonschema  # type: ignore[import-untyped]
import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import InputError
from kurabe.messages import ToolCall
from kurabe.models.tools import arun_tool, run_tool, tool


class Unit(enum.Enum):
    """A unit of temperature."""

    CELSIUS = "c"
    FAHRENHEIT = "f"


@dataclasses.dataclass
class Place:
    """Where."""

    city: str
    country: str = "JP"


class Span(TypedDict, total=False):
    """Days."""

    first: int
    last: int


class Box(msgspec.Struct):
    """A box."""

    width: float
    inner: "Box | None" = None


class Item(pydantic.BaseModel):
    """An item."""

    price: float = pydantic.Field(ge=0, description="in dollars")


class Tree(pydantic.BaseModel):
    """A tree."""

    children: "list[Tree]" = []


class Pair(NamedTuple):
    """Two numbers."""

    a: int
    b: int


async def weather(
    place: Place,
    unit: Unit = Unit.CELSIUS,
    *,
    days: Annotated[int, "how many"] = 3,
    detail: Literal["short", "long"] = "short",
    tags: list[str] | None = None,
) -> dict[str, Any]:
    """The weather of the next days.

    In any city of the world.

    Args:
        place: the city
            and its country
        unit (Unit): of the temperatures
        days: this is not used, as the hint says it

    Returns:
        The temperatures.
    """
    await asyncio.sleep(0)
    return {"place": place, "unit": unit, "days": days, "detail": detail, "tags": tags}


def test_a_function_is_described() -> None:
    described = tool(weather)
    assert described.name == "weather"
    assert described.description == "The weather of the next days.\n\nIn any city of the world."
    assert described.parameters == {
        "type": "object",
        "required": ["place"],
        "properties": {
            "place": {
                "title": "Place",
                "description": "the city and its country",
                "type": "object",
                "properties": {"city": {"type": "string"}, "country": {"type": "string", "default": "JP"}},
                "required": ["city"],
            },
            "unit": {
                "title": "Unit",
                "description": "of the temperatures",
                "type": "string",
                "enum": ["c", "f"],
            },
            "days": {"type": "integer", "description": "how many", "default": 3},
            "detail": {"type": "string", "enum": ["long", "short"], "default": "short"},
            "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        },
    }


def google(a: int, b: str) -> None:
    """Do it.

    Args:
        a (int): the first
        b: the second: with a colon
    """


def numpy_style(a: int, b: str) -> None:
    """Do it.

    Parameters
    ----------
    a : int
        the first
    b : str
        the second: with a colon
    """


def sphinx(a: int, b: str) -> None:
    """Do it.

    :param int a: the first
    :param b: the second: with a colon
    :returns: nothing
    """


@pytest.mark.parametrize("function", [google, numpy_style, sphinx])
def test_docstrings_describe_the_parameters(function: Callable[..., Any]) -> None:
    described = tool(function)
    assert described.description == "Do it."
    texts = {name: schema["description"] for name, schema in described.parameters["properties"].items()}
    assert texts == {"a": "the first", "b": "the second: with a colon"}


def test_types_that_hold_themselves_stand_in_defs() -> None:
    def nested(box: Box, boxes: list[Box], tree: Tree) -> None:
        """Nest."""

    schema = tool(nested).parameters
    assert set(schema["$defs"]) == {"Box", "Tree"}
    assert schema["properties"]["boxes"]["items"] == {"$ref": "#/$defs/Box"}
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    box = {"width": 1, "inner": {"width": 2, "inner": None}}
    assert check.is_valid({"box": box, "boxes": [box], "tree": {"children": [{"children": []}]}})
    assert not check.is_valid({"box": box, "boxes": [{"width": 1, "inner": {}}], "tree": {}})


def test_two_different_recursive_types_of_one_name_are_told() -> None:
    def another() -> Any:
        class Tree(pydantic.BaseModel):
            up: "list[Tree]" = []

        return Tree

    def both(a: Tree, b: Any) -> None:
        """Both."""

    both.__annotations__["b"] = another()
    with pytest.raises(InputError, match="two different types are called Tree; rename one"):
        tool(both)


def undescribed(x) -> None:  # type: ignore[no-untyped-def]
    """No hint."""


def of_socket(s: socket.socket) -> None:
    """A socket."""


def of_sockets(n: int, s: list[socket.socket] | None = None) -> None:
    """Sockets."""


def of_two(x: Place | Box) -> None:
    """Either of two objects that can't be told apart."""


def many(*x: int) -> None:
    """Any number."""


def named(**x: int) -> None:
    """Any names."""


def unknown(x: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    """A type that is not there."""


class Shop:
    """Has methods."""

    rate = 2

    def buy(self, item: Item, count: int = 1) -> float:
        """Buy."""
        return item.price * count * self.rate

    @classmethod
    def open(cls, hour: int) -> bool:
        """Whether it is open."""
        return hour > 8

    @staticmethod
    def close(hour: int) -> bool:
        """Whether it is closed."""
        return hour < 8


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (undescribed, r"the tool undescribed: the parameter 'x' has no type hint; add one"),
        (of_socket, r"the tool of_socket: the parameter 's' can't be described.*socket"),
        (of_sockets, r"the tool of_sockets: the parameter 's' can't be described.*socket"),
        (of_two, r"the tool of_two: the parameter 'x' can't be described.*union"),
        (many, r"the tool many: the parameter 'x' takes any number.*write each one out"),
        (named, r"the tool named: the parameter 'x' takes any number.*write each one out"),
        (unknown, r"the tool unknown: a type hint can't be read: name 'Nowhere' is not defined"),
        (Shop.buy, r"the tool buy: the parameter 'self'.*method of an object"),
        (lambda x: x, r"write it as a def"),
        (functools.partial(weather, Place("Kyoto")), r"is no function"),
        (Shop, r"is no function"),
        ("weather", r"'weather' is no function"),
    ],
)
def test_what_cannot_be_described_names_function_and_parameter(function: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tool(function)


def test_a_name_that_no_provider_takes() -> None:
    def 天気(city: str) -> str:
        """Weather."""
        return city

    with pytest.raises(InputError, match="'天気' needs a name of"):
        tool(天気)


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall("call_1", name, arguments)


def test_an_async_function_gets_typed_arguments_and_answers_in_json() -> None:
    asked = call("weather", place={"city": "京都"}, unit="f", tags=["a"])
    said = '{"place":{"city":"京都","country":"JP"},"unit":"f","days":3,"detail":"short","tags":["a"]}'
    result = run_tool(asked, [google, weather])
    assert (result.id, result.name, result.content, result.error) == ("call_1", "weather", said, False)
    assert asyncio.run(arun_tool(asked, [google, weather])) == result

    async def in_a_loop() -> Any:
        return run_tool(asked, [weather])

    assert asyncio.run(in_a_loop()) == result


def test_methods_work_without_self() -> None:
    shop = Shop()
    assert list(tool(shop.buy).parameters["properties"]) == ["item", "count"]
    assert run_tool(call("buy", item={"price": 2}, count="3"), [shop.buy, Shop.open]).content == "12.0"
    assert run_tool(call("open", hour=9), [shop.buy, Shop.open]).content == "true"
    assert run_tool(call("close", hour=9.0), [Shop.close]).content == "false"
    assert asyncio.run(arun_tool(call("open", hour=9), [Shop.open])).content == "true"


def test_positional_only_and_decorated_functions_work() -> None:
    @functools.lru_cache
    def power(base: int, exponent: int = 2, /, *, minus: int = 0) -> int:
        """Raise."""
        return int(base**exponent) - minus

    assert run_tool(call("power", base=3, minus=1), [power]).content == "8"
    assert run_tool(call("power", base=3, exponent=3), [power]).content == "27"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "the parameter 'place' is missing"),
        ({"place": {"city": 3}}, "place.city: Expected `str`, got `int`"),
        ({"place": "Kyoto"}, "place: Expected `object`, got `str`"),
        ({"place": {"city": "x"}, "town": 1}, "no parameter 'town'"),
        ({"place": {"city": "x"}, "days": "many"}, "days: Expected `int`, got `str`"),
        ({"place": {"city": "x"}, "days": 1.5}, "days: Expected `int`, got `float`"),
        ({"place": {"city": "x"}, "tags": ["a", 1]}, "tags[1]: Expected `str`, got `int`"),
        ({"place": None}, "place: Expected `object`, got `null`"),
    ],
)
def test_bad_arguments_are_told_to_the_model(arguments: dict[str, Any], said: str) -> None:
    result = run_tool(ToolCall("7", "weather", arguments), [weather])
    assert result.error
    assert result.id == "7"
    assert said in result.content


def test_arguments_as_models_write_them() -> None:
    result = run_tool(call("weather", place={"city": "x"}, days="4", detail=None, unit=None), [weather])
    assert not result.error, result.content
    assert '"days":4,"detail":"short"' in result.content


def test_pydantic_arguments_are_validated() -> None:
    result = run_tool(call("buy", item={"price": -1}), [Shop().buy])
    assert result.error
    assert result.content == "item.price: Input should be greater than or equal to 0"


def test_unknown_tools_are_told_the_nearest() -> None:
    result = run_tool(call("wether"), [weather, google])
    assert result.error
    assert "no tool 'wether'; did you mean 'weather'?" in result.content


def test_exceptions_become_short_results_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "very-secret-value")

    def fail(how: str) -> None:
        """Fail."""
        raise ConnectionError(f"{how}: key very-secret-value, sk-proj-0123456789abcdef " + "x" * 5000)

    for result in (run_tool(call("fail", how="no"), [fail]), asyncio.run(arun_tool(call("fail", how="no"), [fail]))):
        assert result.error
        assert result.text.startswith("ConnectionError: no: key •••, ••• xxx")
        assert len(result.content) == 500
        assert "Traceback" not in result.content


def test_an_input_error_of_the_function_is_the_models_to_know_but_a_bad_function_is_not() -> None:
    def fail() -> None:
        """Fail."""
        raise InputError("no such picture")

    assert run_tool(call("fail"), [fail]).content == "InputError: no such picture"
    with pytest.raises(InputError, match="no type hint"):
        run_tool(call("undescribed", x=1), [undescribed])
    with pytest.raises(InputError, match="no type hint"):
        asyncio.run(arun_tool(call("undescribed", x=1), [undescribed]))


def test_an_interrupt_is_not_swallowed() -> None:
    def stop() -> None:
        """Stop."""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tool(call("stop"), [stop])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"a": [1, 2.5]}, '{"a":[1,2.5]}'),
        ({1: "x"}, '{"1":"x"}'),
        (Place("Ōsaka"), '{"city":"Ōsaka","country":"JP"}'),
        (Item(price=2), '{"price":2.0}'),
        ([Item(price=2)], '[{"price":2.0}]'),
        (np.float32(1.5), "1.5"),
        (np.arange(3), "[0,1,2]"),
        (Pair(1, 2), "[1,2]"),
        (["\ud800"], '["?"]'),
    ],
)
def test_results_become_text(value: Any, text: str) -> None:
    def give() -> Any:
        """Give."""
        return value

    result = run_tool(call("give"), [give])
    assert (result.content, result.error) == (text, False)


def test_a_result_that_json_cannot_hold() -> None:
    endless: list[Any] = []
    endless.append(endless)

    def give(which: int) -> Any:
        """Give."""
        return [socket.SocketType, endless][which]

    said = run_tool(call("give", which=0), [give])
    assert said.error
    assert "can't be written as JSON" in said.content
    assert run_tool(call("give", which=1), [give]).error


def test_a_synchronous_function_does_not_hold_up_the_event_loop() -> None:
    import time

    def slow() -> str:
        """Sleep."""
        time.sleep(0.3)
        return "done"

    async def both() -> int:
        ticks = 0
        task = asyncio.create_task(arun_tool(call("slow"), [slow]))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert task.result().content == "done"
        return ticks

    assert asyncio.run(both()) > 5


leaves: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**70), 2**70)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text(st.characters(codec="utf-8"))),
    (bool, st.booleans()),
    (Unit, st.sampled_from(Unit)),
    (Literal["x", "y", 3], st.sampled_from(["x", "y", 3])),
    (Place, st.builds(Place, st.text("abc"), st.text("abc"))),
    (Box, st.builds(Box, st.floats(0, 9), st.none() | st.builds(Box, st.floats(0, 9)))),
    (Span, st.fixed_dictionaries({}, optional={"first": st.integers(), "last": st.integers()})),
    (Item, st.builds(Item, price=st.floats(0, 9))),
    (Tree, st.builds(Tree, children=st.lists(st.builds(Tree, children=st.just([])), max_size=2))),
]


def grown(one: st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]) -> st.SearchStrategy[Any]:
    generic: Any = {
        "list": list,
        "dict": dict,
        "tuple": tuple,
    }  # subscripted with values, which no type checker follows
    return st.one_of(
        one.map(lambda p: (generic["list"][p[0]], st.lists(p[1], max_size=3))),
        one.map(lambda p: (generic["dict"][str, p[0]], st.dictionaries(st.text("abc"), p[1], max_size=3))),
        one.map(lambda p: (generic["tuple"][p[0], int], st.tuples(p[1], st.integers(0, 9)))),
        one.map(lambda p: (p[0] | None, st.none() | p[1])),
    )


hinted = st.recursive(st.sampled_from(leaves), grown, max_leaves=3)


@given(st.data(), st.lists(hinted, max_size=3))
def test_every_type_goes_to_json_and_back(data: st.DataObject, hints: list[tuple[Any, st.SearchStrategy[Any]]]) -> None:
    """The schema holds for the JSON of any value of the type, and the function gets that value back."""
    got: dict[str, Any] = {}

    names = [f"p{i}" for i in range(len(hints))]
    source = f"def take({', '.join(names)}): got.update(locals())"
    space: dict[str, Any] = {"got": got}
    exec(source, space)
    function = space["take"]
    function.__annotations__ = {name: hint for name, (hint, _) in zip(names, hints, strict=True)}
    values = {name: data.draw(values) for name, (_, values) in zip(names, hints, strict=True)}

    schema = tool(function).parameters
    plain = msgspec.to_builtins(values, enc_hook=lambda model: model.model_dump(mode="json"))
    arguments = msgspec.json.decode(msgspec.json.encode(plain))
    jsonschema.Draft202012Validator(schema).validate(arguments)
    result = run_tool(ToolCall("1", "take", arguments), [function])
    assert not result.error, result.content
    assert got == values
    assert all(type(got[name]) is type(value) for name, value in values.items())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_argument_gives_a_result(value: Any) -> None:
    assert run_tool(call("weather", place={"city": "x"}, days=value), [weather]).id == "call_1"
    assert run_tool(call("buy", item=value), [Shop().buy]).id == "call_1"


def test_an_infinite_default_is_not_described() -> None:
    def within(limit: float = math.inf, ratio: float = 0.5) -> None:
        """Within."""

    properties = tool(within).parameters["properties"]
    assert properties == {"limit": {"type": "number"}, "ratio": {"type": "number", "default": 0.5}}
