"""kurabe ask: several models at once."""

import json
import threading
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from kurabe.cli.columns import columns
from kurabe.cli.main import cli
from kurabe.cli.race import Runner
from kurabe.errors import InputError, KurabeError, ModelError
from kurabe.messages import Reply, Usage
from kurabe.testing import Fault, Simulator


def reference(server: Simulator, model: str) -> str:
    return f"openai@{server.url}:{model}"


def test_all_are_asked_at_once_and_shown_in_order() -> None:
    other_asked = threading.Event()

    def slow(text: str) -> str:
        assert other_asked.wait(5)
        return f"first: {text}"

    def quick(text: str) -> str:
        other_asked.set()
        return "second"

    with Simulator("vllm", answer=slow) as one, Simulator("vllm", answer=quick) as two:
        words = ["ask", reference(one, "a"), reference(two, "b"), "what is it?", "--system", "Be brief."]
        result = CliRunner().invoke(cli, [*words, "--max-tokens", "9", "--temperature", "0"])
        assert result.exit_code == 0, result.output
        assert result.stdout.index("first: what is it?") < result.stdout.index("second")
        assert result.stdout.count("tokens · first after") == 2
        sent = one.requests[0].json
        assert (sent["max_tokens"], sent["temperature"], sent["messages"][0]["content"]) == (9, 0.0, "Be brief.")


def test_a_model_that_fails_shows_its_error_in_its_place() -> None:
    with Simulator("vllm") as good, Simulator("vllm", faults=Fault.status(400, "no such thing")) as bad:
        words = ["ask", reference(bad, "a"), reference(good, "b"), "hello"]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0
        assert "error: " in result.stdout
        assert "no such thing" in result.stdout
        assert result.stdout.index("no such thing") < result.stdout.index("hello\n")
        first, second = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
        assert (first["model"], first["text"], first["usage"]) == (reference(bad, "a"), "", None)
        assert "status 400" in first["error"]
        assert (second["text"], second["error"], second["finish_reason"]) == ("hello", None, "stop")
        assert second["usage"]["output"] == 1
        assert 0 < second["first_seconds"] <= second["seconds"]


def test_exit_code_1_where_all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    with Simulator("vllm", faults=Fault.status(404)) as bad:
        result = CliRunner().invoke(cli, ["ask", reference(bad, "a"), "openai:gpt-5.1", "hello"])
    assert result.exit_code == 1
    assert "kurabe keys set openai" in result.stdout


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ([" "], InputError, "QUESTION"),
        (["openai:a", "openai:b"], InputError, "stands last"),
        (["openai:a", "opnai:b", "hello you"], ModelError, "did you mean 'openai'"),
        (["openai:a | opnai:b", "hello you"], ModelError, "did you mean 'openai'"),
        (["openai:", "hello you"], ModelError, "no name after 'openai:'"),
    ],
)
def test_what_is_written_wrong_is_said_before_anybody_is_asked(
    words: list[str], error: type[KurabeError], says: str
) -> None:
    result = CliRunner().invoke(cli, ["ask", *words])
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


def runner(name: str, text: str, *, done: bool = True) -> Runner:
    made = Runner(name)
    made.pieces = [text]
    made.reply = Reply(text, "stop", Usage(12, 34), 0.0012, 0.8, 0.25) if done else None
    return made


def drawn(runners: list[Runner], width: int, height: int | None) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(columns(runners, width, height))
    return out.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [30, 80, 120])
def test_columns_fill_the_terminal_and_no_more(width: int) -> None:
    failed = runner("mistral:large", "", done=False)
    failed.error = ModelError("it broke \x1b[31m[bold]")
    lines = drawn([runner("openai:gpt", "word " * 50), runner("anthropic:claude", "日本語 " * 30), failed], width, None)
    assert max(map(len, lines)) <= width
    whole = " ".join("\n".join(lines).replace("│", " ").split())
    assert whole.count("word") == 50
    assert "$0.0012" in whole
    assert "it broke [31m[bold]" in whole
    assert "\x1b" not in whole
    beside = lines[0].count("╭")
    assert beside == {30: 1, 80: 2, 120: 3}[width]


def test_while_answers_come_the_end_of_each_is_in_sight() -> None:
    text = "\n".join(f"line {n}" for n in range(500))
    lines = drawn([runner("a:b", text, done=False), runner("c:d", "short", done=False)], 80, 20)
    assert len(lines) <= 20
    assert "line 499" in "\n".join(lines)
    assert "line 100" not in "\n".join(lines)
    assert len(drawn([runner("a:b", text, done=False) for _ in range(6)], 80, 24)) <= 24
