import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import ModelError
from kurabe.models import availability, open_model, pull_name
from kurabe.models.providers import providers
from kurabe.models.reference import LOCAL, Reference, parse_reference, split_chain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gguf:smollm2-135m", Reference("gguf", "smollm2-135m")),
        ("gguf:/m/a b.gguf?context=4096", Reference("gguf", "/m/a b.gguf", {"context": "4096"})),
        ("gguf:C:\\models\\m.gguf", Reference("gguf", "C:\\models\\m.gguf")),
        ("wordllama:256", Reference("wordllama", "256")),
        ("openai:gpt-5.1", Reference("openai", "gpt-5.1")),
        ("ollama:llama3.2:1b?concurrency=2", Reference("ollama", "llama3.2:1b", {"concurrency": "2"})),
        ("bedrock:us.meta.llama:0?region=eu-west-1", Reference("bedrock", "us.meta.llama:0", {"region": "eu-west-1"})),
        (
            "openai@http://127.0.0.1:8000/v1:org/m:tag",
            Reference("openai-compatible", "org/m:tag", {}, "http://127.0.0.1:8000/v1"),
        ),
        ("openai@https://h/v1:m?key=MY_KEY", Reference("openai-compatible", "m", {"key": "MY_KEY"}, "https://h/v1")),
        ("openai@https://h:8080:m", Reference("openai-compatible", "m", {}, "https://h:8080")),
        ("openai@http://[::1]:8000/v1:m", Reference("openai-compatible", "m", {}, "http://[::1]:8000/v1")),
    ],
)
def test_reads_and_writes_references(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("smollm2-135m", "has no provider"),
        ("", "has no provider"),
        ("openai", "write 'openai:MODEL'; `kurabe models openai` lists its models"),
        ("openai/gpt-5.1", "write 'openai:gpt-5.1'"),
        ("mine/gpt-5.1", "write PROVIDER:MODEL"),
        ("guff:x", "did you mean 'gguf'?"),
        ("opnai:gpt-5.1", "did you mean 'openai'?"),
        ("openai:gpt-5.1?regoin=x", "no option of openai 'regoin'"),
        ("openai:gpt-5.1?concurrency=many", "must be a whole number above 0, not 'many'"),
        ("openai@http://127.0.0.1:8000/v1", "an address and a model"),
        ("openai@ftp://host/v1:m", "an address and a model"),
        ("openai@http://key@host/v1:m", "an address and a model"),
        ("vllm@http://host:8000/v1:m", "an address is written so: 'vllm:MODEL?base_url=http://…'"),
        ("ollama@http://host:m", "an address is written so: 'ollama:MODEL?host=http://…'"),
        ("replicate:meta/llama", "'replicate' is not available in this version"),
        ("gguf:", "has no name after 'gguf:'"),
        ("gguf:?context=3", "has no name after 'gguf:'"),
        ("gguf:m?contxt=3", "did you mean 'context'?"),
        ("gguf:m?context=many", "must be a whole number above 0, not 'many'"),
        ("gguf:m?context=0", "must be a whole number above 0, not '0'"),
        ("gguf:m?context=²", "must be a whole number above 0"),
        ("gguf:m?", "no option of gguf ''"),
        ("gguf:m?conte%78t=3", "did you mean 'context'?"),
        ("gguf:m?context=3&context=4", "the option 'context' is given twice"),
        ("hf:m?remote%5Fcode=a", "did you mean 'remote_code'?"),
        ("openai@https://h/v1:m?key=A&key=B", "the option 'key' is given twice"),
    ],
)
def test_points_at_what_cannot_be_read(text: str, part: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_reference(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["openai@https://me:planted@h/v1:m", "openai@https://h/v1:m?key=sk-planted-0123", "vllm@http://me:planted@h:m"],
)
def test_a_secret_in_a_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_reference(text)
    assert "planted" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"gguf:{text}", f"openai:{text}", f"openai@http://h/v1:{text}"):
        try:
            parsed = parse_reference(candidate)
        except ModelError:
            continue
        assert parsed.scheme in LOCAL or parsed.scheme in providers()
        assert parse_reference(str(parsed)) == parsed


def test_availability_gives_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURABE_CACHE", str(tmp_path))
    assert availability("gguf:smollm2-135m") is None
    assert "did you mean 'smollm2-135m'?" in str(availability("gguf:smolm-135m"))
    assert "there is no file" in str(availability(f"gguf:{tmp_path}/none.gguf"))
    assert "is an embedding model" in str(availability("wordllama:256"))
    monkeypatch.setattr("kurabe.models.engines.opened.find_spec", lambda name: None)
    assert "pip install 'kurabe[local]'" in str(availability("gguf:smollm2-135m"))


def test_a_model_that_is_not_pulled_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURABE_CACHE", str(tmp_path))
    assert pull_name("gguf:smollm2-135m") == "smollm2-135m"
    assert pull_name("gguf:./here.gguf") is None
    with pytest.raises(ModelError, match="kurabe pull smollm2-135m"):
        open_model("gguf:smollm2-135m")


def test_a_missing_system_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kurabe.models.engines.llama.model", None)
    (tmp_path / "m.gguf").touch()
    with pytest.raises(ModelError, match="libgomp1"):
        open_model(f"gguf:{tmp_path}/m.gguf")


def test_a_chain_is_split_at_its_bars() -> None:
    assert split_chain("openai:a | gguf:b") == ["openai:a", "gguf:b"]
    assert split_chain("openai:a|b") == ["openai:a|b"]
    with pytest.raises(ModelError, match="an empty place"):
        split_chain("openai:a | ")
