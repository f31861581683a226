"""kurabe compare: the table, the page, JSON, and what Ctrl-C leaves."""

import io
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kurabe.cli.compare import MOST, picture
from kurabe.cli.main import cli
from kurabe.errors import InputError
from kurabe.lens.compare import Cell, Comparison
from kurabe.messages import Usage
from kurabe.report.compare import LONG, compare_html
from kurabe.testing import Fault, Simulator

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e"


def call(*args: object, text: str | None = None, columns: int = 120) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, args)], input=text, env={"COLUMNS": str(columns)})


def reference(server: Simulator, model: str) -> str:
    return f"openai@{server.url}:{model}?key=KEY_OF_TEST"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "test-key")


def made(cells: list[list[Cell | None]], prompts: list[str] | None = None) -> Comparison:
    refs = tuple(f"openai:model-{n}" for n in range(len(cells[0])))
    return Comparison(
        refs, tuple(prompts or [f"prompt {n}" for n in range(len(cells))]), None, {}, tuple(map(tuple, cells))
    )


def drawn(found: Comparison, width: int) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    console.print(picture(found, width))
    return console.export_text()


def test_table_page_and_json(tmp_path: Path) -> None:
    prompts, page = tmp_path / "p.csv", tmp_path / "page.html"
    prompts.write_text("id,prompt\n1,hello\n2,goodbye\n", "utf-8")
    with Simulator("openai", lambda text: text + EVIL) as a, Simulator("openai", "x" * (LONG + 1)) as b:
        refs = (reference(a, "a"), reference(b, "b"))
        result = call(*refs, "--prompts", prompts, "--system", "Be <brief>", "-o", page)
        assert result.exit_code == 0, result.output
        values = json.loads(call(*refs, "--prompts", prompts, "--json").stdout)
    assert "hello</script>" in result.stdout
    assert "\x1b[31m" not in result.stdout
    assert "cost unknown" in result.stdout
    assert f"The page is {page}." in result.stderr
    assert [[each["text"][:5] for each in row["answers"]] for row in values["answers"]] == [
        ["hello", "xxxxx"], ["goodb", "xxxxx"],
    ]  # fmt: skip
    text = page.read_text("utf-8")
    assert EVIL not in text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\u202e" not in text
    for part in ("<img", ' src="', "href=", "https:", "url("):
        assert part not in text
    assert "default-src 'none'" in text
    assert "Be &lt;brief&gt;" in text
    assert text.count("<details>") == 2  # the long answers
    assert text.count("x" * (LONG + 1)) == 2


def test_errors_stand_in_their_cells_and_exit_code_1_where_all_fail(tmp_path: Path) -> None:
    def faults(call: Any) -> Fault | None:
        return Fault.status(400, f"refused {EVIL}") if b"bad" in call.body else None

    with Simulator("openai", faults=faults) as server:
        page = tmp_path / "page.html"
        some = call(reference(server, "m"), "--prompts", "-", "-o", page, text="good\nbad\n")
        every = call(reference(server, "m"), "--prompts", "-", text="bad\nbad 2\n")
    assert some.exit_code == 0
    assert "1 answer · 1 failed" in some.stdout
    assert "refused the request" in some.stdout
    assert "<script" not in page.read_text("utf-8")
    assert every.exit_code == 1


@pytest.mark.parametrize("width", [60, 120])
def test_an_error_that_all_prompts_meet_is_said_once(width: int) -> None:
    long = "there is no such model; name another one"
    rows: list[list[Cell | None]] = [[Cell(error=long), Cell("yes")], [Cell("no"), Cell("yes")], [Cell(error=long)] * 2]
    text, page = " ".join(drawn(made(rows), width).split()), compare_html(made(rows))
    assert text.count("there is") == page.count("there is") == 2  # once for each model
    assert text.count("the same error") == page.count("the same error") == 1


@pytest.mark.parametrize("width", [50, 80, 120, 240])
def test_the_table_keeps_to_the_terminal(width: int) -> None:
    cell = Cell("日本語の長い文章。" * 90, None, "length", Usage(1_000, 2_000), 0.0123, 12.3)
    found = made([[cell, Cell(error="no " * 200), None]] * (MOST + 2), ["what " * 60] * (MOST + 2))
    text = drawn(found, width)
    from rich.cells import cell_len

    assert max(map(cell_len, text.splitlines())) <= width
    assert "cut at the token limit" in " ".join(text.split())
    assert "no answer yet" in text
    assert f"{MOST} of {MOST + 2} prompts are shown" in text
    assert len(text.splitlines()) < 25 * MOST


def test_the_page_says_what_is_missing() -> None:
    page = compare_html(made([[Cell("", None, "stop", Usage(3, 0), 0.5, 1.0), None], [Cell("b"), Cell(error="e")]]))
    assert "1 of 4 answers have not come" in page
    assert "an empty answer" in page
    assert re.findall(r'<td class="num">([\d,]+)</td>', page)[:2] == ["2", "0"]


def test_ctrl_c_shows_what_has_come(tmp_path: Path) -> None:
    hold = threading.Event()

    def answer(text: str) -> str:
        if text == "slow":
            threading.Thread(target=interrupt, daemon=True).start()
            hold.wait(10)
        return text.upper()

    def interrupt() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    with Simulator("openai", answer) as server:
        result = call(reference(server, "m"), "--prompts", "-", "-o", tmp_path / "p.html", text="quick\nslow\n")
        hold.set()
    assert result.exit_code == 130
    assert "QUICK" in result.stdout
    assert "no answer yet" in result.stdout
    assert "QUICK" in (tmp_path / "p.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("args", "text", "says"),
    [
        (("--prompts", "none.txt"), "", "no file 'none.txt'"),
        (("--prompts", "-"), "\n", "standard input is empty"),
        (("--prompts", "-", "-o", "x.pdf"), "a\n", "the page is HTML"),
        (("--prompts", "-", "-o", "nowhere/x.html"), "a\n", "there is no folder nowhere"),
    ],
)
def test_bad_input(
    args: tuple[str, ...], text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("openai:gpt-4.1", *args, text=text)
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)
