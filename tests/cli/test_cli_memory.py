import json

import pytest
from click.testing import CliRunner

from kurabe.cli.memory import command


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("size", ["176B", "135M", "1.5T"])
def test_the_tables_fit_the_terminal(size: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = CliRunner().invoke(command, [size], catch_exceptions=False).output
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for word in ("bfloat16", "Q4_K_M", "nf4", "full", "LoRA", "QLoRA", "this machine", "H100"):
        assert word in shown


def test_bloom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(command, ["176B"], catch_exceptions=False).output
    (row,) = [line for line in shown.splitlines() if line.startswith("bfloat16")]
    assert "352 GB" in row


def test_json() -> None:
    arguments = ["7B", "--context", "1024", "--batch", "3", "--json"]
    found = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).output)
    assert (found["context"], found["batch"], found["parameters"]) == (1024, 3, 7 * 10**9)
    first = found["run"][0]
    assert first["name"] == "float32"
    assert first["weights"] == 28 * 10**9
    assert first["cache"] == 3 * 1024 * found["cache_per_token"]
    assert first["total"] == sum(first[part] for part in ("weights", "cache", "activations", "overhead"))
    assert [need["name"] for need in found["tune"]] == ["full", "LoRA", "QLoRA"]
    assert found["devices"][0]["name"].startswith("this machine")


def test_a_context_of_nothing_is_refused() -> None:
    assert CliRunner().invoke(command, ["7B", "--context", "0"]).exit_code == 2
