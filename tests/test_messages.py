"""Messages and their parts: what is none is told where it is made."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from kurabe.errors import InputError
from kurabe.messages import Assistant, Image, Reply, System, ToolCall, Usage, User

PNG = b"\x89PNG\r\n\x1a\n0000"


@pytest.mark.parametrize(
    ("made", "given", "said"),
    [
        (User, [5], "not int"),
        (User, ["a", None], "not NoneType"),
        (User, [b"a"], "not bytes"),
        (Assistant, [["a"]], "not list"),
        (System, [5], "not int"),
        (Image.from_url, ["cat.png"], "Image.from_path"),
        (Image.from_url, ["data:image/png;base64,é"], "base64"),
        (Image.from_url, ["data:image/png;base64,a"], "base64"),
        (Image.from_bytes, [b"GI"], "no PNG"),
    ],
)
def test_what_is_no_part_is_told(made: Callable[..., Any], given: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(*given)


def test_an_image_by_its_address_and_by_its_data() -> None:
    assert Image.from_url("https://h/cat.png") == Image(url="https://h/cat.png", media_type="image/png")
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert Image.from_url(url) == Image(data=PNG, media_type="image/png")


def test_a_reply_is_shown_in_a_line_and_reads_as_its_text() -> None:
    reply = Reply("x" * 300, "length", Usage(12, 34), usd=0.00125, seconds=0.5)
    assert str(reply) == "x" * 300
    assert repr(reply) == f"Reply('{'x' * 200}…', ended by length, 12 → 34 tokens, $0.00125, 0.5 s)"
    calls = Reply((ToolCall("1", "weather"),), "tool_calls", Usage(1, 2))
    assert repr(calls) == "Reply('', calls weather, 1 → 2 tokens, cost unknown, 0 s)"
