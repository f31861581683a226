"""The pieces of a text put together again, and what people see of them."""

import base64
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken.load
import tiktoken.registry
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import kurabe.lens
from kurabe.errors import InputError, ModelError
from kurabe.lens import tokenizers
from kurabe.lens.belongs import doubts
from kurabe.lens.tokens import SAMPLES, sample_tokens, token_list, tokens, visible
from kurabe.models.hosted.model import HostedModel
from kurabe.models.weights.headers import read_path
from kurabe.testing.tiny import tiny_model


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


URL = "https://example.com/tiny.tiktoken"


@pytest.fixture
def encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the place of o200k_base an encoding of all bytes and a few words, its file in tiktoken's cache folder."""
    words = [bytes([byte]) for byte in range(256)] + [b" a", b" an", b"12", b" \xe6\x97"]
    lines = [base64.b64encode(word) + b" %d" % rank for rank, word in enumerate(words)]
    (tmp_path / hashlib.sha1(URL.encode(), usedforsecurity=False).hexdigest()).write_bytes(b"\n".join(lines))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    tiktoken.list_encoding_names()

    def construct() -> dict[str, object]:
        ranks = tiktoken.load.load_tiktoken_bpe(URL)
        return {"name": "o200k_base", "pat_str": r"\s?\S+|\s+", "mergeable_ranks": ranks,
                "special_tokens": {"<|endoftext|>": 300}}  # fmt: skip

    assert tiktoken.registry.ENCODING_CONSTRUCTORS is not None
    monkeypatch.setitem(tiktoken.registry.ENCODING_CONSTRUCTORS, "o200k_base", construct)
    monkeypatch.delitem(tiktoken.registry.ENCODINGS, "o200k_base", raising=False)
    yield
    tiktoken.registry.ENCODINGS.pop("o200k_base", None)


@pytest.mark.usefixtures("encoding")
@pytest.mark.parametrize("reference", ["tiktoken:o200k_base", "openai:gpt-4.1-mini", "openai-responses:gpt-5.1"])
def test_tiktoken_and_the_models_that_use_it(reference: str) -> None:
    found = tokens(reference, "12 an 日本<|endoftext|>")
    shown = [token.shown for token in found.tokens]
    assert shown[:3] == ["12", "·an", "·"] or shown[:3] == ["12", "·an", "·‹日1–2/3›"]
    assert b"".join(token.data for token in found.tokens).decode() == found.text
    assert [(token.id, token.shown) for token in found.tokens if token.special] == [(300, "<|endoftext|>")]
    assert found.ids[:2] == [258, 257]


def test_an_encoding_that_is_not_here_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.delitem(tiktoken.registry.ENCODINGS, "cl100k_base", raising=False)
    with pytest.raises(ModelError, match=r"no file of the encoding 'cl100k_base' here .* TIKTOKEN_CACHE_DIR"):
        tokens("tiktoken:cl100k_base", "x")


def test_hosted_models_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counter(HostedModel):
        def __init__(self) -> None:
            self.client = None  # type: ignore[assignment]

        def tokens_of(self, content: Any, **settings: Any) -> int:
            return 7 + len(content)

    monkeypatch.setattr(tokenizers, "open_model", lambda reference: Counter())
    found = tokens("anthropic:claude-sonnet-5-5", "日本")
    assert (found.count, found.tokens, found.kinds) == (9, (), {})
    assert found.as_dict()["count"] == 9


@pytest.mark.slow
def test_transformers_cuts_as_llama_cpp_does(smollm2: Path) -> None:
    text = "<|im_start|>Price 12,345.67: 日本語 🎉\ndef f(x):\n    return x"
    ours, theirs = tokens(f"hf:{smollm2}", text), tokens(f"gguf:{smollm2}", text)
    assert ours.tokens == theirs.tokens
    assert ours.doubts == theirs.doubts == ()


def test_a_tokenizer_that_does_not_belong_to_its_model(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    good = tokens(f"hf:{tmp_path}", "<|im_start|>kettle 日")
    assert [token.shown for token in good.tokens if token.special] == ["<|im_start|>"]
    assert b"".join(token.data for token in good.tokens).decode() == good.text
    assert "unheard_of" not in "".join(good.doubts)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 40}), "utf-8")
    template = tmp_path / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|im_end|>", "<|unheard_of|>"), "utf-8")
    size, *_, written = tokens(f"hf:{tmp_path}", "kettle").doubts
    assert "the model's embedding has 40 rows" in size
    assert "<|unheard_of|>, which the tokenizer cuts up as ordinary text" in written


def test_doubts_of_a_gguf_header(smollm2: Path) -> None:
    header = read_path(smollm2)
    assert doubts(header, lambda name: True) == []
    wrong = replace(header, tokenizer=60_000, settings=header.settings | {"tokenizer.ggml.eos_token_id": 70_000})
    assert doubts(wrong, lambda name: name == "<|im_end|>") == [
        "the tokenizer knows 60,000 tokens, and the model's embedding has 49,152 rows",
        "the eos token is number 70,000, and the tokenizer knows 60,000 tokens",
        "the chat template writes <|im_start|>, which the tokenizer cuts up as ordinary text",
    ]


def test_samples(smollm2: Path) -> None:
    found = sample_tokens(f"gguf:{smollm2}")
    assert list(found) == ["prose", "numbers", "Japanese", "code"] == list(SAMPLES)
    shares = {name: len(each.text) / each.count for name, each in found.items()}
    assert shares["prose"] > shares["code"] > shares["numbers"] > shares["Japanese"]


def test_what_has_no_tokenizer_here() -> None:
    with pytest.raises(InputError, match=r"this provider counts no tokens before it answers"):
        tokens("ollama:llama3.2", "x")
    with pytest.raises(InputError, match=r"'fake:64' shows no tokens; name one of: gguf:…, hf:…"):
        tokens("fake:64", "x")
    with pytest.raises(InputError, match="names several models"):
        tokens("ollama:a | ollama:b", "x")
    with pytest.raises(InputError, match="did you mean 'o200k_base'"):
        tokens("tiktoken:o200kbase", "x")
    with pytest.raises(InputError, match="tiktoken does not know the tokenizer of 'openai:my-own'; name it"):
        tokens("openai:my-own", "x")
    with pytest.raises(ModelError, match=r"no file .*none\.gguf"):
        tokens("gguf:none.gguf", "x")
    with pytest.raises(ModelError, match=r"reference 'gguf:smolm2-135m': .* did you mean 'smollm2-135m'"):
        tokens("gguf:smolm2-135m", "x")
    with pytest.raises(ModelError, match="did you mean '256'"):
        tokens("wordllama:255", "x")
