"""JSON Schema as OpenAI's strict mode takes it, made as the openai SDK's `to_strict_json_schema` makes it."""

from typing import Any

from kurabe.errors import InputError


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which every property is required, objects are closed, and what stands beside a `$ref` is merged with
    what the `$ref` names. Raises InputError where a `$ref` leads nowhere.

    Where a schema refers to itself with something beside the `$ref`, which has no finite merged form, what stands
    beside is left out; the SDK does not end there.
    """
    try:
        return _strict(schema, schema, frozenset())
    except RecursionError:
        raise InputError("the JSON Schema of the output is nested too deeply") from None


def _strict(schema: Any, root: dict[str, Any], merged: frozenset[str]) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise InputError(f"the JSON Schema of the output holds {schema!r} where a schema must stand")
    made: dict[str, Any] = dict(schema)
    ref = made.get("$ref")
    if ref and len(made) > 1:
        if isinstance(ref, str) and ref in merged:
            return {"$ref": ref}
        del made["$ref"]
        made, merged = {**_named(ref, root), **made}, merged | {ref}
        if "$ref" in made:
            return _strict(made, root, merged)
    for key in ("$defs", "definitions"):
        if isinstance(made.get(key), dict):
            made[key] = {name: _strict(value, root, frozenset()) for name, value in made[key].items()}
    if made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    if isinstance(made.get("properties"), dict):
        made["required"] = list(made["properties"])
        made["properties"] = {name: _strict(value, root, merged) for name, value in made["properties"].items()}
    if isinstance(made.get("items"), dict):
        made["items"] = _strict(made["items"], root, merged)
    for key in ("anyOf", "allOf"):
        if isinstance(made.get(key), list):
            made[key] = [_strict(value, root, merged) for value in made[key]]
    if isinstance(made.get("allOf"), list) and len(made["allOf"]) == 1:
        made |= made.pop("allOf")[0]
    if made.get("default", ...) is None:  # no difference: the type still allows null
        del made["default"]
    return made


def _named(ref: Any, root: dict[str, Any]) -> dict[str, Any]:
    """The part of `root` that a `$ref` names."""
    found: Any = root
    steps = ref.split("/") if isinstance(ref, str) else [""]
    for step in steps[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    if steps[0] != "#" or not isinstance(found, dict):
        raise InputError(f"the JSON Schema of the output refers to {ref!r}, which it does not hold")
    return found
