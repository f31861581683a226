"""kurabe tokens: side by side, below each other, as JSON."""

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from kurabe.cli.main import cli
from kurabe.cli.tokens import side_by_side
from kurabe.errors import KurabeError
from kurabe.lens.tokens import Token, Tokens


def call(*args: str, text: str | bytes = "", columns: int = 120) -> Result:
    return CliRunner().invoke(cli, ["tokens", *args], input=text, env={"COLUMNS": str(columns)})


def test_two_tokenizers_side_by_side(smollm2: Path) -> None:
    result = call(f"gguf:{smollm2}", "wordllama:256", "12 日")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any("5 tokens of 4 characters" in line for line in lines)
    bare = [line.replace(" ", "") for line in lines]
    assert any("·‹日1/3›│‹日2/3›│‹日3/3›" in line for line in bare)
    assert any("<s>│·│1│2│·│日│" in line for line in bare)
    assert any("2 in 2 tokens" in line[60:] and "beyond" not in line[60:] for line in lines)
    assert any("17097" in line[:60] for line in lines)
    assert any("30325" in line[60:] for line in lines)
    assert max(map(len, lines)) <= 120


def test_a_narrow_terminal_has_them_below_each_other() -> None:
    result = call("wordllama:64", "wordllama:256", "a long text " * 8, columns=60)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.strip() for line in lines if "wordllama" in line] == ["wordllama:64", "wordllama:256"]
    assert max(map(len, lines)) <= 60
    assert result.output.count("·long") == 16


def test_a_token_wider_than_the_terminal() -> None:
    result = call("wordllama:256", "x" + " " * 400 + "日", columns=30)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 30


def test_json_and_standard_input() -> None:
    result = call("wordllama:256", "-", "--json", text="two\nlines")
    (found,) = json.loads(result.stdout)
    assert found["count"] == len(found["tokens"])
    assert bytes.fromhex("".join(token["bytes"] for token in found["tokens"][1:])) == b" two\nlines"
    assert found["tokens"][0] == {"id": 1, "text": "<s>", "bytes": b"<s>".hex(), "special": True}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("wordllama:256",), "name tokenizers and a text"),
        (("wordllama:256", "gguf:smollm2-135m"), "name tokenizers and a text"),
        (("ollama:llama3.2", "x"), "counts no tokens before it answers"),
        (("wordlama:256", "x"), "did you mean 'wordllama'"),
    ],
)
def test_bad_input(args: tuple[str, ...], says: str) -> None:
    result = call(*args)
    assert isinstance(result.exception, KurabeError)
    assert says in str(result.exception)


def test_samples_in_one_table() -> None:
    result = call("wordllama:256", "wordllama:64", "--samples")
    assert result.exit_code == 0, result.output
    first, second = [line for line in result.output.splitlines() if line.startswith("wordllama")]
    assert first.split()[1:] == second.split()[1:]
    assert "20 · 4.70" in first
    found = json.loads(call("wordllama:256", "--samples", "--json").stdout)
    assert found[0]["samples"]["Japanese"]["count"] == 41
    assert isinstance(call("wordlama:256", "--samples").exception, KurabeError)


def test_a_count_alone_and_doubts_are_shown() -> None:
    for width in (60, 120):
        found = [
            Tokens("anthropic:claude-sonnet-5-5", "日本", (), counted=9),
            Tokens("hf:x", "a", (Token(1, b"a", "a"),), ("the chat template writes <x>",)),
        ]
        console = Console(width=width, file=io.StringIO(), record=True)
        console.print(side_by_side(found, width, marks=True))
        text = " ".join(console.export_text().split())
        assert "9 tokens of 2 characters" in text
        assert "✗ the chat template" in text
