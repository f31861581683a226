"""Errors as the servers of OpenAI's format tell them: with another status, in a body of status 200, inside a stream."""

from typing import Any

import msgspec

from kurabe.errors import ProviderError, UnreadableAnswerError
from kurabe.models.codecs.base import BROKEN, generic_error, provider_error


def error_facts(body: bytes) -> tuple[str, str, int | None]:
    """(code, message, HTTP status that the body names) of an error in any of the shapes of this format's servers."""
    code, message = generic_error(body)
    status = int(code) if code.isdecimal() and len(code) == 3 and code >= "400" else None
    try:
        value: Any = msgspec.json.decode(body)
    except BROKEN:
        return code, message, status
    inner = value.get("error") or value if isinstance(value, dict) else None
    if isinstance(inner, dict):
        if code.isdecimal() and isinstance(inner.get("type"), str):
            code = inner["type"] or code
        detail = inner.get("message") or inner.get("detail")
        if isinstance(detail, dict):
            detail = detail.get("detail")
        if isinstance(detail, list):
            message = "; ".join(map(_complaint, detail)) or message
    return code, message, status


def _complaint(one: Any) -> str:
    """`body.messages.0: Field required`, of one item of a validation error."""
    if not isinstance(one, dict) or not isinstance(one.get("msg"), str):
        return str(one)
    place = one.get("loc")
    return (".".join(map(str, place)) + ": " if isinstance(place, list) and place else "") + str(one["msg"])


def reported(body: bytes) -> ProviderError:
    """The error that an event or a body of status 200 tells of."""
    code, message, status = error_facts(body)
    error = provider_error(status, code, message)
    error.status = None  # the answer's own was 200
    return error


def failure(body: bytes) -> ProviderError:
    """What is wrong with a body that holds no answer."""
    if tells_an_error(body):
        return reported(body)
    return UnreadableAnswerError(f"an answer without content; it begins with {body[:120].decode('utf-8', 'replace')!r}")


def tells_an_error(body: bytes) -> bool:
    try:
        value: Any = msgspec.json.decode(body)
    except BROKEN:
        return False
    if not isinstance(value, dict):
        return False
    if value.get("error") or value.get("object") == "error":
        return True
    return not value.get("choices") and isinstance(value.get("message") or value.get("detail"), str | list | dict)
