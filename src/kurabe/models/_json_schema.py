"""JSON Schemas of Python types, and values of these types from JSON."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

import msgspec

from kurabe.models.codecs.base import json_body

Schema = dict[str, Any]
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_INSIDE = (
    "items", "prefixItems", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "contains", "propertyNames",
    "additionalProperties", "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
_DEFS = "#/$defs/"
_LARGEST = 2_000  # schemas in a schema: one that grows beyond it by inlining keeps its $defs
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


class TypeFault(Exception):
    """A type that no JSON Schema describes; the text says which and why."""


class Mismatch(Exception):
    """A value that is not of the type. `path` is where, such as `$.items[0].price`."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what


def schema_of(hint: Any) -> Schema:
    """The JSON Schema of a type that msgspec or pydantic knows, complete in itself. Raises TypeFault.

    pydantic describes its own models and what is made of them; msgspec describes all else.
    """
    try:
        schema = _adapter(hint).json_schema() if _is_pydantic(hint) else _msgspec_schema(hint)
    except Exception as error:  # both libraries run users' code and have no common root of errors
        raise TypeFault(_reason(error)) from None
    return inlined(_typed_enums(schema))


def value_of(hint: Any, value: Any, *, strict: bool) -> Any:
    """A JSON value as the type: numbers, texts, lists and dictionaries to what `hint` says. Raises Mismatch.

    A float without a fraction counts as an integer, as in JSON Schema. Without `strict`, a text that holds a number is
    one too. pydantic models follow their own configuration.
    """
    try:
        if _is_pydantic(hint):
            return _pydantic_value(hint, json_body(value))
        made = _msgspec_value(hint, value, strict)
        _fill(made)
    except RecursionError:
        raise Mismatch("$", "it is nested too deeply") from None
    return made


def _msgspec_value(hint: Any, value: Any, strict: bool) -> Any:
    try:
        return msgspec.convert(value, hint, str_keys=True, dec_hook=_pydantic_inside)
    except msgspec.ValidationError as fault:
        try:
            return msgspec.convert(_whole(value), hint, strict=strict, str_keys=True, dec_hook=_pydantic_inside)
        except msgspec.ValidationError:
            what, _, path = str(fault).partition(" - at `")
            raise Mismatch(path.rstrip("`") or "$", what) from None


def subschemas(schema: Schema) -> Iterator[Schema]:
    """The schema and every schema inside it."""
    yield schema
    for key in _BY_NAME:
        if isinstance(schema.get(key), dict):
            for inner in schema[key].values():
                if isinstance(inner, dict):
                    yield from subschemas(inner)
    for key in _INSIDE:
        held = schema.get(key)
        for inner in held if isinstance(held, list) else [held]:
            if isinstance(inner, dict):
                yield from subschemas(inner)


def inlined(schema: Schema) -> Schema:
    """The schema with each `$ref` to its `$defs` replaced by what it names.

    A definition that holds itself stays in `$defs`; so do all where the schema would grow very large. At the top there
    is never a bare `$ref`, which several providers refuse.
    """
    defs: Schema = schema.get("$defs", {})
    refs = [inner["$ref"] for inner in subschemas(schema) if "$ref" in inner]
    if not refs or not all(isinstance(ref, str) and ref.removeprefix(_DEFS) in defs for ref in refs):
        return schema
    endless = {name for name in defs if name in _reached(defs, name)}
    left = _LARGEST

    def put_in(inner: Schema) -> Schema:
        nonlocal left
        left -= 1
        if left < 0:
            raise OverflowError
        name = str(inner.get("$ref", "")).removeprefix(_DEFS)
        if name in defs and name not in endless:
            beside = {key: value for key, value in inner.items() if key != "$ref"}
            return put_in({**defs[name], **beside})
        made = _mapped(inner, put_in)
        made.pop("discriminator", None)  # OpenAPI's, and names definitions that are no longer there
        return made

    kept = defs
    root = {key: value for key, value in schema.items() if key != "$defs"}
    try:
        made = put_in(root)
        kept = {name: put_in(defs[name]) for name in defs if name in endless}
    except OverflowError:
        made = root
    if "$ref" in made:
        name = made.pop("$ref").removeprefix(_DEFS)
        made = {**kept[name], **made}
    still = {name for inner in subschemas(made) if (name := str(inner.get("$ref", "")).removeprefix(_DEFS)) in kept}
    needed = still.union(*(_reached(kept, name) for name in still))
    return {**made, "$defs": {name: kept[name] for name in kept if name in needed}} if needed else made


def _mapped(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A copy with `change` done to each schema directly inside."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, dict) else value

    made = dict(schema)
    for key in _BY_NAME:
        if isinstance(made.get(key), dict):
            made[key] = {name: changed(value) for name, value in made[key].items()}
    for key in _INSIDE:
        if isinstance(made.get(key), list):
            made[key] = [changed(value) for value in made[key]]
        elif key in made:
            made[key] = changed(made[key])
    return made


def _reached(defs: Schema, name: str) -> set[str]:
    """The definitions that `name` leads to."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        for inner in subschemas(defs[ahead.pop()]):
            to = str(inner.get("$ref", "")).removeprefix(_DEFS)
            if to in defs and to not in found:
                found.add(to)
                ahead.append(to)
    return found


def _typed_enums(schema: Schema) -> Schema:
    """Each `enum` with its `type`, which OpenAI's strict mode asks for and msgspec leaves out."""
    made = _mapped(schema, _typed_enums)
    kinds = {_JSON_TYPES.get(type(value)) for value in made.get("enum", ())}
    if len(kinds) == 1 and None not in kinds:
        made.setdefault("type", *kinds)
    return made


def _msgspec_schema(hint: Any) -> Schema:
    found: Schema = {}

    def hook(kind: type) -> Schema:
        if not _is_pydantic(kind):
            raise NotImplementedError
        number = len(found)
        schema: Schema = _adapter(kind).json_schema(ref_template=f"{_DEFS}{{model}}_{number}")
        found.update({f"{name}_{number}": inner for name, inner in schema.pop("$defs", {}).items()})
        return schema

    (schema,), components = msgspec.json.schema_components([hint], schema_hook=hook, ref_template=_DEFS + "{name}")
    return {**schema, "$defs": {**components, **found}}


def _is_pydantic(hint: Any) -> bool:
    """Whether a type is pydantic's, made of pydantic's, or annotated with its Field. pydantic is never imported here:
    without it being loaded there can be no such type."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return False
    if isinstance(hint, type) and (issubclass(hint, pydantic.BaseModel) or "__pydantic_validator__" in vars(hint)):
        return True
    if get_origin(hint) is Annotated and any(isinstance(x, pydantic.fields.FieldInfo) for x in hint.__metadata__):
        return True
    return any(_is_pydantic(argument) for argument in get_args(hint))


@lru_cache(maxsize=256)
def _adapter(hint: Any) -> Any:
    return sys.modules["pydantic"].TypeAdapter(hint)


def _pydantic_value(hint: Any, body: bytes) -> Any:
    try:
        return _adapter(hint).validate_json(body)
    except sys.modules["pydantic"].ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise Mismatch("$" + path, first["msg"]) from None


def _pydantic_inside(kind: type, value: Any) -> Any:
    """msgspec's hook for a pydantic model inside a type of its own."""
    try:
        return _pydantic_value(kind, json_body(value))
    except Mismatch as fault:
        raise ValueError(f"{fault.what} (at {fault.path.removeprefix('$.')})") from None


def _whole(value: Any) -> Any:
    """The value with floats that have no fraction as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value


def _fill(value: Any) -> None:
    """Set the defaults of dataclasses on the objects themselves. msgspec leaves them to the class, where neither `vars`
    nor its own encoder finds them."""
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _fill(item)
    elif isinstance(value, dict):
        _fill(list(value.values()))
    elif isinstance(value, msgspec.Struct):
        _fill([getattr(value, name) for name in value.__struct_fields__])
    elif dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                object.__setattr__(value, field.name, getattr(value, field.name))
        _fill(list(vars(value).values()))


def _reason(error: Exception) -> str:
    """The first sentence of a library's complaint, without what it proposes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.lstrip().startswith("- ")]
    if lines and lines[0].startswith("Generating JSON schema for custom types"):
        return lines[-1]
    return lines[0] if lines else type(error).__name__
