"""JSON that commands print: as it is in a pipe, and without anything that a terminal would obey on a terminal."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.cli.json_output import print_json
from kurabe.errors import printable

NAMES = [
    "\x9b31mred",
    "a\x7f",
    "\u202eevil",
    "é 東京 \U0001f469\u200d\U0001f4bb",
    "\U000e0041hidden",
    "\x1b]52;c;x\x07",
]


class Screen(io.TextIOWrapper):
    """Standard output that says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), "utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode()


def printed(value: object, *, terminal: bool) -> str:
    with pytest.MonkeyPatch.context() as patch:
        screen = Screen(terminal)
        patch.setattr(sys, "stdout", screen)
        print_json(json.dumps(value, ensure_ascii=False))
        return screen.text


def test_a_terminal_gets_escapes_and_a_pipe_the_text_itself() -> None:
    on_terminal = printed(NAMES, terminal=True)
    assert printable(on_terminal) == on_terminal
    assert "é 東京" in on_terminal
    assert json.loads(on_terminal) == NAMES
    assert printed(NAMES, terminal=False) == json.dumps(NAMES, ensure_ascii=False) + "\n"


@given(st.text(), st.booleans())
def test_the_value_stays_the_same(text: str, terminal: bool) -> None:
    assert json.loads(printed([text], terminal=terminal)) == [text]


@pytest.mark.parametrize("terminal", [True, False])
def test_half_a_surrogate_pair_is_printed(terminal: bool) -> None:
    assert json.loads(printed("a\ud800b", terminal=terminal)) == "a\ud800b"
