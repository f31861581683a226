"""Every Python example of docs/models.md runs as it is written, against simulators in the place of the providers."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import kurabe
from kurabe.messages import ToolCall
from kurabe.models import shortcuts
from kurabe.models.hosted import connect
from kurabe.models.providers import providers
from kurabe.testing import Simulator

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PNG = b"\x89PNG\r\n\x1a\n"


class Says:
    """What the simulated models say; a question about the weather is a call first and an answer then."""

    def __init__(self) -> None:
        self.called = False

    def __call__(self, text: str) -> str | ToolCall:
        if "weather" in text:
            self.called = not self.called
            return ToolCall("call-1", "weather", {"city": text.split()[-1].strip("?")}) if self.called else "Sunny."
        return '{"name": "Ann", "age": 30}' if "JSON" in text else f"You said: {text}"


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Simulator]]:
    """Simulators where the providers' rows say that the providers are."""
    with ExitStack() as stack:
        made = {
            name: stack.enter_context(Simulator(name, Says()))
            for name in ("openai", "openai-responses", "anthropic", "cohere")
        }
        rows = providers() | {name: replace(providers()[name], base_url=made[name].url) for name in made}
        monkeypatch.setattr(connect, "providers", lambda: rows)
        for name in made:
            monkeypatch.setenv(providers()[name].key[0], "test-key")
        monkeypatch.setattr(shortcuts, "_open", {})
        monkeypatch.chdir(tmp_path)
        (tmp_path / "cat.png").write_bytes(PNG)
        yield made


def test_the_examples_run_as_written(servers: dict[str, Simulator], capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    said = []
    for number, example in enumerate(EXAMPLES, 1):
        exec(compile(example, f"example {number} of {PAGE.name}", "exec"), names)
        said.append(capsys.readouterr().out)
    printed = "".join(said)
    assert "You said: Why is the sky blue?" in printed
    assert "You said: Tell a joke for data scientists" in printed
    assert names["answers"] == ("You said: One?", "You said: Two?", "You said: Three?")
    assert names["text"] == "You said: Say hello."
    assert names["vectors"].shape == (2, 8)
    assert "ToolCall(" in printed
    assert printed.count("Sunny.") == 2
    assert "Ann 30" in printed
    assert names["ranking"].results[0][0] == 1
    assert Path("talk.jsonl").is_file()
    assert 0 < names["budget"].spent < 0.01
    assert (names["again"].text, names["again"].usd) == (names["first"].text, 0)
    assert names["first"].usd > 0
    assert servers["openai"].calls > 10
    assert servers["openai"].outcomes.keys() == {"answer"}


def test_every_name_of_models_stands_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    homes = ("kurabe.messages", "kurabe.models", "kurabe.errors")
    names = [name for name in kurabe.__all__ if kurabe._HOMES[name].startswith(homes) and name != "pull"]
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []
