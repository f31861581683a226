"""Held to the openai SDK's own function."""

import copy
from enum import Enum
from typing import Any, Literal

import pydantic
import pytest
from openai.lib._pydantic import _ensure_strict_json_schema

from kurabe.errors import InputError
from kurabe.models.codecs.strict import strict_schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(pydantic.BaseModel):
    width: float = pydantic.Field(description="in cm")
    height: float | None = None


class Tree(pydantic.BaseModel):
    name: str
    children: list["Tree"] = []


class Product(pydantic.BaseModel):
    """A product."""

    name: str = pydantic.Field(description="as written on the box")
    colour: Colour = pydantic.Field(description="of the box", default=Colour.RED)
    size: Size = pydantic.Field(description="of the box")
    other: list[Size] = []
    kind: Literal["a", "b"] | int | Size = "a"
    counts: dict[str, int] = {}
    note: str | None = None


SCHEMAS: list[dict[str, Any]] = [
    Product.model_json_schema(),
    Tree.model_json_schema(),
    pydantic.TypeAdapter(list[Product]).json_schema(),
    {"type": "object"},
    {"type": "object", "properties": {}, "additionalProperties": True},
    {"type": "object", "properties": {"a": {"allOf": [{"type": "object", "properties": {"b": {"type": "string"}}}]}}},
    {"allOf": [{"type": "object"}, {"anyOf": [{"type": "object"}, {"type": "null"}]}], "default": None},
    {
        "definitions": {"A": {"$ref": "#/definitions/B", "title": "A"}, "B": {"type": "object", "title": "B"}},
        "properties": {"x": {"$ref": "#/definitions/A", "description": "x"}, "y": {"$ref": "#/definitions/B"}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_same_as_the_sdk(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    theirs = copy.deepcopy(schema)
    assert strict_schema(schema) == _ensure_strict_json_schema(theirs, path=(), root=theirs)
    assert schema == before, "the caller's schema is left alone"


def test_a_schema_that_refers_to_itself_with_a_description_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node", "description": "the next"}}}
    made = strict_schema({"$defs": {"Node": node}, "$ref": "#/$defs/Node"})
    inner = made["properties"]["next"]
    assert inner == {"$ref": "#/$defs/Node"}
    assert made["$defs"]["Node"]["properties"]["next"]["description"] == "the next"
    assert made["$defs"]["Node"]["properties"]["next"]["properties"]["next"] == inner


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Gone", "title": "x"},
        {"items": {"$ref": {"a": 1}, "title": "x"}},
        {"$ref": "http://x/y", "title": "x"},
        {"properties": {"a": 3}},
    ],
)
def test_a_broken_schema_is_an_input_error(schema: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="JSON Schema"):
        strict_schema(schema)


def test_deep_nesting_is_an_input_error() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(InputError, match="deeply"):
        strict_schema(schema)
