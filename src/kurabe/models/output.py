"""Structured output: the JSON Schema that an answer must follow, and the answer as a checked value."""

import dataclasses
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, get_origin, is_typeddict

import msgspec

from kurabe.errors import InputError, OutputError
from kurabe.messages import OutputFormat
from kurabe.models._json_schema import Mismatch, Schema, TypeFault, inlined, schema_of, subschemas, value_of

_SAYS_SOMETHING = frozenset(
    {"type", "properties", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "items", "prefixItems"}
)
_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_STARTS = re.compile(r"[{\[]")
_MOST_STARTS = 200  # places in a text where JSON is looked for: bounds the work on a text that is all brackets
_BEGINNING = 200  # characters of the answer that an error shows


def output_format(output: Any) -> OutputFormat:
    """The JSON Schema of a pydantic model, msgspec struct, dataclass or TypedDict, or the given one, with a name that
    every provider takes. An OutputFormat is itself.

    Raises InputError where the type can't be described, or the dictionary is no JSON Schema.
    """
    if isinstance(output, OutputFormat):
        return output
    if isinstance(output, dict):
        return _given_format(_encoded(output))
    kind = get_origin(output) or output
    if not isinstance(kind, type):
        raise InputError(f"output={output!r:.80} is no type; {_TAKEN}")
    if not _has_fields(kind):
        raise InputError(f"output={kind.__name__} has no named fields; {_TAKEN}")
    return _type_format(output)


def parse(output: Any, text: str) -> Any:
    """The answer as what `output` asks for: an instance of the type, or for a JSON Schema the plain value.

    The text must be JSON. Only where it is not, a fenced block or the JSON among other words is taken. Raises
    OutputError that says where the answer differs.
    """
    fault: Mismatch | None = None
    for value in _values(text):
        try:
            if isinstance(output, dict | OutputFormat):
                schema = output.schema if isinstance(output, OutputFormat) else output_format(output).schema
                _check(_encoded(schema), value)
                return value
            return value_of(output, value, strict=True)
        except Mismatch as error:
            fault = fault or error
    said = str(fault) if fault else _no_json(text)
    begins = f"; it begins with {text[:_BEGINNING]!r}" if text.strip() else ""
    raise OutputError(said + begins)


_TAKEN = "give a pydantic model, msgspec struct, dataclass, TypedDict or JSON Schema; put a list into a field of one"


def _no_json(text: str) -> str:
    """Why a text holds no JSON: where one begins and is cut short, that it is."""
    if not text.strip():
        return "it is empty"
    try:
        _decode(text)
    except ValueError as error:
        return f"it holds no JSON ({error})"
    return "it holds no JSON"


def _has_fields(kind: Any) -> bool:
    return (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or is_typeddict(kind)
        or hasattr(kind, "__pydantic_validator__")
    )


@lru_cache(maxsize=256)
def _type_format(kind: Any) -> OutputFormat:
    name = getattr(kind, "__name__", "") or get_origin(kind).__name__
    try:
        return OutputFormat(_fit_name(name), schema_of(kind))
    except TypeFault as fault:
        raise InputError(f"output={name} can't be described to a model: {fault}") from None


@lru_cache(maxsize=256)
def _given_format(encoded: bytes) -> OutputFormat:
    schema: Schema = msgspec.json.decode(encoded)
    if not _SAYS_SOMETHING & schema.keys():
        raise InputError(
            f"output={schema!s:.80} is no JSON Schema: it has none of type, properties, anyOf, $ref …;"
            ' such as {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}'
        )
    from jsonschema import exceptions, validators  # type: ignore[import-untyped]

    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)
        for inner in subschemas(schema):
            if isinstance(inner.get("$ref"), str):
                _look_up(schema, inner["$ref"])
    except exceptions.SchemaError as error:
        raise InputError(f"output= is no JSON Schema: {error.json_path}: {error.message:.300}") from None
    except RecursionError:
        raise InputError("output= is a JSON Schema that is nested too deeply; flatten it") from None
    return OutputFormat(_fit_name(str(schema.get("title", ""))), inlined(schema))


def _look_up(schema: Schema, ref: str) -> None:
    """Raises InputError where a `$ref` leads nowhere inside the schema; nothing is ever fetched."""
    import referencing
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
    registry: Any = referencing.Registry().with_resource(resource.id() or "", resource)
    try:
        registry.resolver(resource.id() or "").lookup(ref)
    except Unresolvable:
        raise InputError(f"output= refers to {ref!r}, which the schema does not hold; put it into $defs") from None


def _encoded(schema: Schema) -> bytes:
    try:
        return msgspec.json.encode(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"output= is no JSON Schema: {error}") from None


@lru_cache(maxsize=64)
def _validator(encoded: bytes) -> Any:
    import referencing
    from jsonschema import validators

    schema = msgspec.json.decode(encoded)
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    return kind(schema, registry=referencing.Registry())  # an empty one, which fetches nothing


def _check(encoded: bytes, value: Any) -> None:
    """Raises Mismatch where the value does not follow the schema."""
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

    try:
        error = best_match(_validator(encoded).iter_errors(value))
    except RecursionError:
        raise Mismatch("$", "it is nested too deeply to be checked") from None
    if error is not None:
        message = error.message if len(error.message) <= 300 else error.message[:150] + " … " + error.message[-150:]
        raise Mismatch(error.json_path, message)


def _fit_name(name: str) -> str:
    """A name of at most 64 of A-Z a-z 0-9 _ and -."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "answer"


def _values(text: str) -> Iterator[Any]:
    """The JSON value that the text is; else those in fenced blocks; else those among the words."""
    try:
        yield _decode(text)
        return
    except ValueError:
        pass
    found = False
    for block in _FENCE.findall(text):
        try:
            yield _decode(block)
            found = True
        except ValueError:
            continue
    if not found:
        yield from _among_words(text)


def _among_words(text: str) -> Iterator[Any]:
    import json

    end = 0
    for _, start in zip(range(_MOST_STARTS), _STARTS.finditer(text), strict=False):
        if start.start() < end:
            continue
        try:
            _, end = json.JSONDecoder().raw_decode(text, start.start())
            yield _decode(text[start.start() : end])
        except (ValueError, RecursionError):
            continue


def _decode(text: str) -> Any:
    """Raises ValueError where the text is no JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
