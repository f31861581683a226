"""Structured output: schemas of types, and answers checked against them."""

import contextlib
import copy
import dataclasses
import enum
import json
import time
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import InputError, OutputError
from kurabe.messages import OutputFormat
from kurabe.models._json_schema import inlined, schema_of, subschemas
from kurabe.models.codecs.strict import strict_schema
from kurabe.models.output import output_format, parse

T = TypeVar("T")


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Size(pydantic.BaseModel):
    """A size."""

    width: float = pydantic.Field(gt=0)
    unit: Literal["cm", "in"] = "cm"


class Model(pydantic.BaseModel):
    """An item as a pydantic model."""

    name: str
    count: int
    price: float | None = None
    colour: Colour = Colour.RED
    size: Size
    parts: list["Model"] = []


class StructSize(msgspec.Struct):
    """A size."""

    width: Annotated[float, msgspec.Meta(gt=0)]
    unit: Literal["cm", "in"] = "cm"


class Struct(msgspec.Struct):
    """An item as a struct."""

    name: str
    count: int
    size: StructSize
    price: float | None = None
    colour: Colour = Colour.RED
    parts: "list[Struct]" = []


@dataclasses.dataclass
class DataSize:
    """A size."""

    width: float
    unit: Literal["cm", "in"] = "cm"


@dataclasses.dataclass
class Data:
    """An item as a dataclass."""

    name: str
    count: int
    size: DataSize
    price: float | None = None
    colour: Colour = Colour.RED
    parts: list["Data"] = dataclasses.field(default_factory=list)


class Typed(TypedDict):
    """An item as a TypedDict."""

    name: str
    count: int
    size: DataSize
    price: NotRequired[float | None]
    colour: NotRequired[Colour]
    parts: NotRequired[list["Typed"]]


class Cat(msgspec.Struct, tag="cat"):
    """A cat."""

    lives: int


class Dog(msgspec.Struct, tag="dog"):
    """A dog."""

    tricks: list[str]


class Owner(msgspec.Struct):
    """Somebody with a pet."""

    pet: Cat | Dog
    age: int | str | None = None


class Page(pydantic.BaseModel, Generic[T]):
    """A page of things."""

    items: list[T]


class Box(msgspec.Struct, Generic[T]):
    """A box of one thing."""

    item: T


GIVEN = {
    "title": "Item",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "colour": {"$ref": "#/$defs/Colour", "description": "of the item"},
        "size": {"$ref": "#/$defs/Size"},
        "parts": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["name", "count", "size"],
    "$defs": {
        "Colour": {"enum": ["red", "blue"]},
        "Size": {
            "type": "object",
            "properties": {"width": {"type": "number", "exclusiveMinimum": 0}, "unit": {"enum": ["cm", "in"]}},
            "required": ["width"],
        },
    },
}
TYPES = [Model, Struct, Data, Typed]
GOOD = {
    "name": "脚立",
    "count": 2,
    "price": 3,
    "colour": "blue",
    "size": {"width": 1.5, "unit": "in"},
    "parts": [{"name": "rung", "count": 7, "size": {"width": 4}}],
}


@pytest.mark.parametrize("output", [*TYPES, GIVEN], ids=str)
def test_schemas_take_the_good_and_refuse_the_bad(output: Any) -> None:
    made = output_format(output)
    check = jsonschema.Draft202012Validator(made.schema)
    check.check_schema(made.schema)
    assert made.schema["type"] == "object"
    assert check.is_valid(GOOD)
    changes: list[dict[str, Any]] = [{"count": "2"}, {"colour": "green"}, {"price": []}, {"size": {}}, {"parts": [{}]}]
    for change in changes:
        assert not check.is_valid({**GOOD, **change}), change
    strict_schema(made.schema)  # every $ref leads somewhere


@pytest.mark.parametrize("output", TYPES)
def test_an_answer_becomes_the_type(output: Any) -> None:
    made = parse(output, json.dumps(GOOD))
    read: Any = (lambda name: made[name]) if output is Typed else (lambda name: getattr(made, name))
    assert type(made) is (dict if output is Typed else output)
    assert read("colour") is Colour.BLUE
    assert type(read("price")) is float
    assert type(read("count")) is int
    assert read("size").unit == "in"
    part = read("parts")[0]
    if output is Typed:
        assert part["size"] == DataSize(4.0, "cm")
        assert vars(part["size"]) == {"width": 4.0, "unit": "cm"}
    else:
        assert type(part) is output
        assert part.size.unit == "cm"
        assert part.price is None


def test_an_answer_to_a_json_schema_stays_as_it_is() -> None:
    assert parse(GIVEN, json.dumps(GOOD)) == GOOD
    assert parse(output_format(GIVEN), json.dumps(GOOD)) == GOOD
    with pytest.raises(OutputError, match=r"\$\.parts\[0\]\.colour"):
        parse(GIVEN, json.dumps({**GOOD, "parts": [{**GOOD["parts"][0], "colour": "grey"}]}))  # type: ignore[index]


@pytest.mark.parametrize(
    ("output", "change", "path"),
    [
        (output, change, path)
        for output in [*TYPES, GIVEN]
        for change, path in [
            ({"count": "two"}, "$.count"),
            ({"count": 1.5}, "$.count"),
            ({"colour": "green"}, "$.colour"),
            ({"size": {"width": "wide"}}, "$.size.width"),
            ({"parts": [GOOD["parts"][0], {**GOOD["parts"][0], "count": None}]}, "$.parts[1].count"),  # type: ignore[index]
            ({"size": None}, "$.size"),
        ]
    ],
    ids=str,
)
def test_what_differs_is_told_with_its_path(output: Any, change: dict[str, Any], path: str) -> None:
    text = json.dumps({**GOOD, **change}, ensure_ascii=False)
    with pytest.raises(OutputError) as caught:
        parse(output, text)
    assert path + ":" in str(caught.value)
    assert 'it begins with \'{"name": "脚立"' in str(caught.value)


@pytest.mark.parametrize("output", [*TYPES, GIVEN], ids=str)
def test_a_missing_field_is_told(output: Any) -> None:
    with pytest.raises(OutputError, match=r"(?i)required"):
        parse(output, '{"name": "x", "count": 2}')


def test_whole_floats_count_as_integers_and_texts_do_not() -> None:
    answer = {**GOOD, "count": 2.0}
    for output in (Struct, Data, Typed, Model, GIVEN):
        made = parse(output, json.dumps(answer))
        assert (made["count"] if isinstance(made, dict) else made.count) == 2
    with pytest.raises(OutputError):
        parse(Struct, json.dumps({**GOOD, "count": "2"}))


def test_unions() -> None:
    schema = output_format(Owner).schema
    assert not any("discriminator" in inner or "$ref" in inner for inner in subschemas(schema))
    assert parse(Owner, '{"pet": {"type": "dog", "tricks": ["sit"]}, "age": 3}') == Owner(Dog(["sit"]), 3)
    assert parse(Owner, '{"pet": {"type": "cat", "lives": 9}, "age": "old"}') == Owner(Cat(9), "old")
    with pytest.raises(OutputError, match=r"\$\.pet"):
        parse(Owner, '{"pet": {"type": "cow"}}')


def test_generic_types_have_names_that_providers_take() -> None:
    assert output_format(Page[Size]).name == "Page_Size"
    assert output_format(Box[int]).name == "Box"
    assert parse(Page[Size], '{"items": [{"width": 2}]}').items == [Size(width=2)]
    assert parse(Box[int], '{"item": 2}') == Box(2)
    assert output_format({"type": "object", "title": "答え 1!" + "x" * 90}).name == "1_" + "x" * 62
    assert output_format({"type": "object"}).name == "answer"


def test_an_output_format_is_itself() -> None:
    made = OutputFormat("Item", {"type": "object"})
    assert output_format(made) is made


JSON = '{"width": 2}'


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"\n {JSON}\n",
        f"```json\n{JSON}\n```",
        f"Here it is:\n\n```\n{JSON}\n```\nAnything else?",
        f"The answer is {JSON}, as asked.",
        f"[sic] Not {{this}} but {JSON}",
        f'Not {{"width": "wide"}} but {JSON}',
        f'```json\n{{"width": -1}}\n```\nor rather\n```json\n{JSON}\n```',
    ],
)
def test_json_is_found_among_words(text: str) -> None:
    assert parse(Size, text) == Size(width=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("I can't say.", 'it holds no JSON .*it begins with "I can\'t say."'),
        ('{"width": 2', "it holds no JSON .*truncated"),
        ('```json\n{"width": 2,}\n```', "it holds no JSON"),
        ("null", r"\$"),
        ('[{"width": 2}]', r"\$"),
        (json.dumps(JSON), r"\$"),
        ('{"width": NaN}', "it holds no JSON"),
        ("[" * 100_000, "it holds no JSON"),
    ],
)
def test_what_is_no_answer_is_told(text: str, said: str) -> None:
    began = time.perf_counter()
    with pytest.raises(OutputError, match=said) as caught:
        parse(Size, text)
    assert len(str(caught.value)) < 900
    assert time.perf_counter() - began < 30


def test_a_whole_json_answer_is_not_searched() -> None:
    """An answer that is JSON of another form is wrong, even where a part of it would fit."""
    with pytest.raises(OutputError):
        parse(Size, '{"answer": {"width": 2}}')


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({}, "is no JSON Schema: it has none of"),
        ({"name": "string", "price": "number"}, "is no JSON Schema: it has none of"),
        ({"type": "text"}, r"is no JSON Schema: \$\.type"),
        ({"type": "object", "properties": {"a": {"type": 3}}}, r"\$\.properties\.a\.type"),
        ({"type": "object", "properties": []}, r"\$\.properties"),
        ({"type": "string", "pattern": "("}, r"\$\.pattern"),
        ({"type": {1, 2}, "x": object()}, "is no JSON Schema"),
        ({"$ref": "#/$defs/Item"}, r"refers to '#/\$defs/Item', which the schema does not hold"),
        ({"type": "array", "items": {"$ref": "https://example.com/schema"}}, r"refers to 'https://example.com/schema'"),
        (list[Size], "put a list into a field"),
        (int, "int has no named fields"),
        (None, "is no type"),
        (Size(width=1), "is no type"),
        (msgspec.defstruct("Bad", [("x", object)]), "Bad can't be described to a model: type <class 'object'>"),
        (msgspec.defstruct("Either", [("x", DataSize | Data)]), "Either can't be described.*union"),
    ],
)
def test_what_is_no_schema_is_told(output: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        output_format(output)


def test_a_schema_nested_too_deeply_is_told() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(5_000):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InputError, match="JSON Schema"):
        output_format(schema)


def test_a_schema_that_only_names_itself_ends() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    made = output_format(schema)
    with pytest.raises(OutputError, match="nested too deeply"):
        parse(made, "1")


def test_definitions_in_many_places_do_not_grow_without_bound() -> None:
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for i in range(1, 40):
        two = {"$ref": f"#/$defs/d{i - 1}"}
        defs[f"d{i}"] = {"type": "object", "properties": {"a": two, "b": two}}
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/d39"}}, "$defs": defs}
    assert output_format(schema).schema == schema


def test_words_of_a_schema_as_names_and_values_are_left_alone() -> None:
    schema = {
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "properties": {"$ref": "#/$defs/a"},
            "x": {"const": {"$ref": "#/$defs/a"}},
        },
        "$defs": {"a": {"enum": [{"$ref": "nowhere"}]}},
    }
    assert output_format(schema).schema["properties"] == {
        "$ref": {"type": "string"},
        "properties": {"enum": [{"$ref": "nowhere"}]},
        "x": {"const": {"$ref": "#/$defs/a"}},
    }


def test_the_given_schema_is_not_changed() -> None:
    before = copy.deepcopy(GIVEN)
    output_format(GIVEN)
    parse(GIVEN, json.dumps(GOOD))
    assert before == GIVEN


def test_a_schema_is_made_once() -> None:
    """Ten thousand rows ask for the same output."""
    for output in (Model, Struct, GIVEN):
        assert output_format(output) is output_format(output)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | plain.map(json.dumps) | plain.map(lambda v: f"```json\n{json.dumps(v)}\n```"))
def test_any_text_gives_a_value_or_an_output_error(text: str) -> None:
    for output in (*TYPES, Owner, GIVEN):
        with contextlib.suppress(OutputError):
            parse(output, text)


names = st.sampled_from("abc")


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Schemas with definitions that refer to each other in any way."""

    def one(depth: int) -> dict[str, Any]:
        kind = draw(st.sampled_from(["leaf", "ref", "object", "array", "any"] if depth else ["leaf", "ref"]))
        if kind == "leaf":
            return {"type": draw(st.sampled_from(["integer", "string", "null"]))}
        if kind == "ref":
            return {"$ref": f"#/$defs/{draw(names)}"}
        if kind == "object":
            return {"type": "object", "properties": {name: one(depth - 1) for name in draw(st.lists(names))}}
        if kind == "array":
            return {"type": "array", "items": one(depth - 1)}
        return {"anyOf": [one(depth - 1), one(depth - 1)]}

    root = {"type": "object", "properties": {name: one(2) for name in draw(st.lists(names, min_size=1))}}
    return {**root, "$defs": {name: one(2) for name in "abc"}}


@given(schemas(), st.lists(plain, max_size=3), st.data())
def test_inlining_changes_no_meaning(schema: dict[str, Any], values: list[Any], data: st.DataObject) -> None:
    made = inlined(schema)
    old, new = jsonschema.Draft202012Validator(schema), jsonschema.Draft202012Validator(made)
    objects = [{name: data.draw(plain) for name in "abc"} for _ in range(2)]
    for value in [*values, *objects]:
        try:
            meant = old.is_valid(value)
        except RecursionError:  # definitions that name only each other
            continue
        assert new.is_valid(value) == meant


def test_types_know_what_their_schema_says() -> None:
    """Enums carry their type, which OpenAI's strict mode demands."""
    properties = schema_of(Struct)["properties"]
    assert properties["colour"]["type"] == "string"
    assert properties["size"]["properties"]["unit"]["type"] == "string"
