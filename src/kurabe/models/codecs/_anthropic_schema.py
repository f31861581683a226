"""JSON Schema as Anthropic's structured output takes it, made as the anthropic SDK's `transform_schema` makes it."""

from typing import Any

from kurabe.errors import InputError

_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")


def closed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy with closed objects, in which what the service does not know (`minimum`, `pattern`, …) is told to the
    model in the description instead. Raises InputError if a part of it has no type."""
    try:
        return _closed(schema)
    except RecursionError:
        raise InputError("the JSON Schema of the output is nested too deeply") from None


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise InputError(f"the JSON Schema of the output holds {schema!r} where a schema must stand")
    left = dict(schema)
    made: dict[str, Any] = {}
    definitions = left.pop("$defs", None)
    if isinstance(definitions, dict):
        made["$defs"] = {name: _closed(value) for name, value in definitions.items()}
    if "$ref" in left:
        made["$ref"] = left["$ref"]
        return made
    literal = _take_literals(left, made)
    kind = left.pop("type", None)
    if not _take_variants(left, made) and not literal:
        if kind is None:
            raise InputError(
                f"Anthropic's structured output needs a type in each part of the JSON Schema; {schema!r} has none"
            )
        made["type"] = kind
    for key in ("description", "title"):
        if (value := left.pop(key, None)) is not None:
            made[key] = value
    if not literal:
        _take_members(kind if isinstance(kind, list) else [kind], left, made)
    if left:
        rest = "{" + ", ".join(f"{key}: {value}" for key, value in left.items()) + "}"
        made["description"] = f"{made['description']}\n\n{rest}" if "description" in made else rest
    return made


def _take_literals(left: dict[str, Any], made: dict[str, Any]) -> bool:
    """Move `enum` and `const` of plain values; whether there were any, which say all about the type."""
    options = left.get("enum")
    if isinstance(options, list) and options and all(_plain(value) for value in options):
        made["enum"] = left.pop("enum")
    if "const" in left and _plain(left["const"]):
        made["const"] = left.pop("const")
    return "enum" in made or "const" in made


def _take_variants(left: dict[str, Any], made: dict[str, Any]) -> bool:
    variants = {key: left.pop(key, None) for key in ("anyOf", "oneOf", "allOf")}
    for key, value in variants.items():
        if isinstance(value, list):
            made["allOf" if key == "allOf" else "anyOf"] = [_closed(variant) for variant in value]
            return True
    return False


def _take_members(kinds: list[Any], left: dict[str, Any], made: dict[str, Any]) -> None:
    if "object" in kinds:
        properties = left.pop("properties", None) or {}
        made["properties"] = {name: _closed(value) for name, value in properties.items()}
        left.pop("additionalProperties", None)
        made["additionalProperties"] = False
        if (required := left.pop("required", None)) is not None:
            made["required"] = required
    if "string" in kinds and (form := left.pop("format", None)):
        (made if form in _FORMATS else left)["format"] = form
    if "array" in kinds:
        if (items := left.pop("items", None)) is not None:
            made["items"] = _closed(items)
        if (least := left.pop("minItems", None)) is not None:
            (made if least in (0, 1) else left)["minItems"] = least


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
