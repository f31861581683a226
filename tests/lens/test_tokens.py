"""The pieces of a text put together again, and what people see of them."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kurabe.lens
from kurabe.errors import InputError, ModelError
from kurabe.lens.tokens import token_list, tokens, visible


def parts(text: str | bytes, *cuts: int) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    places = [0, *cuts, len(data)]
    pieces = [(i, data[a:b]) for i, (a, b) in enumerate(itertools.pairwise(places))]
    return [token.shown for token in token_list(pieces, set())]


def test_parts_of_characters_are_named() -> None:
    assert parts(" 日本", 2, 3, 4) == ["·‹日1/3›", "‹日2/3›", "‹日3/3›", "本"]
    assert parts("a🎉b", 3) == ["a‹🎉1–2/4›", "‹🎉3–4/4›b"]
    assert parts("日本", 2, 4) == ["‹日1–2/3›", "‹日3/3›‹本1/3›", "‹本2–3/3›"]


def test_bytes_of_no_character() -> None:
    assert parts(b"a\xe6\x97b", 2) == ["a‹E6›", "‹97›b"]
    assert parts(b"\xff") == ["‹FF›"]


def test_white_space_and_controls_are_signs() -> None:
    assert visible(" a\tb\r\n\x00\x1b[31m\x7f") == "·a→b␍↵␀␛[31m␡"


@given(st.text(max_size=12), st.lists(st.integers(0, 40), max_size=6))
def test_nothing_is_lost_however_it_is_cut(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    inside = sorted(min(cut, len(data)) for cut in cuts)
    places = [0, *inside, len(data)]
    pieces = [(0, data[a:b]) for a, b in itertools.pairwise(places)]
    found = token_list(pieces, set())
    assert b"".join(token.data for token in found) == data
    if all(a in _borders(data) for a in inside):
        assert "".join(token.shown for token in found) == visible(data.decode())


def _borders(data: bytes) -> set[int]:
    return {0, len(data)} | {i for i, byte in enumerate(data) if byte & 0xC0 != 0x80}


def test_a_real_tokenizer(smollm2: Path) -> None:
    text = "<|im_start|>Price 12,345.67: 日本語 🎉\ndef f(x):\n    return x"
    found = tokens(f"gguf:{smollm2}", text)
    assert b"".join(token.data for token in found.tokens).decode() == text
    assert [token.shown for token in found.tokens if token.special] == ["<|im_start|>"]
    assert found.ids[:3] == [1, 27148, 216]
    shown = [token.shown for token in found.tokens]
    assert shown[3:12] == ["1", "2", ",", "3", "4", "5", ".", "6", "7"]
    assert "↵···" in shown
    assert "本" in shown
    assert "‹語2/3›" in shown
    assert found.kinds == {"digits": (7, 7), "beyond ASCII": (4, 10), "white space": (11, 3)}
    assert not any(token.special for token in tokens(f"gguf:{smollm2}", "< |im_start| > <|im_st").tokens)


def test_wordllama_has_a_tokenizer_too() -> None:
    found = kurabe.lens.tokens("wordllama:256", "a 🎉")
    assert [token.shown for token in found.tokens] == ["<s>", "·a", "·", "‹🎉1/4›", "‹🎉2/4›", "‹🎉3/4›", "‹🎉4/4›"]
    assert [token.special for token in found.tokens] == [True] + [False] * 6
    assert b"".join(token.data for token in found.tokens[1:]).decode() == " a 🎉"
    assert found.as_dict()["tokens"][3] == {"id": found.ids[3], "text": "‹🎉1/4›", "bytes": "f0", "special": False}


@pytest.mark.parametrize("text", ["", "\ud800", "\0", "\r\n"])
def test_odd_texts(text: str, smollm2: Path) -> None:
    for reference in (f"gguf:{smollm2}", "wordllama:64"):
        found = tokens(reference, text)
        joined = b"".join(token.data for token in found.tokens if not token.special).decode()
        assert joined.removeprefix(" ") == text.replace("\ud800", "?")


def test_what_has_no_tokenizer_here() -> None:
    with pytest.raises(InputError, match=r"'openai:gpt-5\.1' is hosted and shows no tokens"):
        tokens("openai:gpt-5.1", "x")
    with pytest.raises(ModelError, match=r"no file .*none\.gguf"):
        tokens("gguf:none.gguf", "x")
    with pytest.raises(ModelError, match="did you mean '256'"):
        tokens("wordllama:255", "x")
