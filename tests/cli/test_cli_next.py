"""kurabe next: in a pipe, as JSON, and step by step with keys."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kurabe.cli import next as module
from kurabe.cli.main import cli
from kurabe.cli.next import bars
from kurabe.errors import InputError
from kurabe.lens.next_tokens import Sampling, Walk

PROMPT = "The capital of France is"


def call(*args: str, columns: int = 120) -> Result:
    return CliRunner().invoke(cli, ["next", *args], env={"COLUMNS": str(columns)})


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_bars_in_a_pipe(smollm2: Path, columns: int) -> None:
    result = call(
        f"gguf:{smollm2}?context=512", PROMPT, "--top-k", "3", "--temperature", "0.5", "--count", "4", columns=columns
    )
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if "·" in line and "%" in line]
    assert lines[0].split()[1:3] == ["·Paris", "7042"]
    assert "█" in lines[0]
    assert lines[3].rstrip().endswith("cut")
    assert "3 tokens can be drawn" in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines())) <= columns


def test_of_a_long_text_the_end_is_shown(smollm2: Path) -> None:
    for text in ("one\n" * 40 + "The capital of France is", "word " * 400 + "The capital of France is"):
        result = call(f"gguf:{smollm2}?context=512", text, "--count", "2", columns=60)
        lines = result.output.splitlines()
        assert lines[0].startswith("…")
        assert len(lines) <= 14
        assert "The capital of France is" in " ".join(result.output.split())
        assert sum("█" in line for line in lines) == 2


def test_a_page(smollm2: Path, tmp_path: Path) -> None:
    path, evil = tmp_path / "page.html", "<script>alert(1)</script> 1, 2,"
    result = call(f"gguf:{smollm2}?context=512", evil, "--top-k", "2", "--count", "3", "-o", str(path))
    assert result.exit_code == 0, result.output
    page = path.read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 1, 2," in page
    assert page.count('<i style="width:') == 5  # of the third token nothing can be drawn
    assert "2 tokens can be drawn" in page
    assert "default-src 'none'" in page
    assert isinstance(call("gguf:none.gguf", "x", "-o", "page.pdf").exception, InputError)
    assert "no folder nowhere" in str(call("gguf:none.gguf", "x", "-o", "nowhere/page.html").exception)


def test_json(smollm2: Path) -> None:
    found = json.loads(call(f"gguf:{smollm2}?context=512", PROMPT, "--count", "2", "--top-p", "0.7", "--json").stdout)
    assert (found["top_p"], found["top_k"], found["kept"]) == (0.7, None, 1)
    assert [each["text"] for each in found["next"]] == ["·Paris", "·the"]
    assert [each["drawn"] for each in found["next"]] == [1.0, 0.0]
    assert found["rest"] == pytest.approx(1 - sum(each["probability"] for each in found["next"]))


def test_step_by_step(smollm2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    keys: Iterator[str] = iter(["x", "2", "", "\r", "9", "\x1b[A", "q"])
    monkeypatch.setattr(click, "getchar", lambda: next(keys))
    with Walk(f"gguf:{smollm2}?context=512", PROMPT) as walk:
        expected = [walk.look().tokens[1].token.id]
        module._steps(walk, Sampling(), 3)  # 9 is beyond the three that are shown
        assert walk.ids[-2] == expected[0]
        assert walk.text.startswith(PROMPT + " the ")
    assert next(keys, None) is None
    assert "2 tokens taken" in capsys.readouterr().out


def test_arrows_choose_and_go_back(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down, up, left = "\x1b[B", "\x1bOA", "\x1b[D"
    keys = iter([left, up, down, down, down, up, "\r", "1", "\x7f", "q"])
    monkeypatch.setattr(click, "getchar", lambda: next(keys))
    with Walk(f"gguf:{smollm2}?context=512", PROMPT) as walk:
        before, second = list(walk.ids), walk.look().tokens[1].token
        module._steps(walk, Sampling(), 3)
        assert walk.ids == [*before, second.id]
        assert walk.text == PROMPT + second.data.decode()
        assert walk.back()
        assert (walk.ids, walk.text, walk.back()) == (before, PROMPT, False)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, EOFError])
def test_leaving(fault: type[BaseException], smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def getchar() -> str:
        raise fault

    monkeypatch.setattr(click, "getchar", getchar)
    with Walk(f"gguf:{smollm2}?context=512", PROMPT) as walk:
        module._steps(walk, Sampling(), 3)
        assert walk.text == PROMPT


def test_bars() -> None:
    assert [bars(share, 10) for share in (0.0, 0.5, 1.0, 0.0125, 0.25, 2.0)] == [
        "", "█████", "██████████", "▏", "██▌", "██████████",
    ]  # fmt: skip


def test_a_wrong_setting_opens_no_model() -> None:
    result = call("gguf:none.gguf", "x", "--top-p", "2")
    assert isinstance(result.exception, InputError)
    assert "top_p is 2.0" in str(result.exception)
