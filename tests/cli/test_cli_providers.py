"""kurabe providers: what there is, and whether a key is set."""

import json

import pytest
from click.testing import CliRunner

from kurabe.cli.main import cli
from kurabe.models.providers import providers

SECRET = "gsk_0123456789abcdefghij"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    for provider in providers().values():
        for variable in provider.key:
            monkeypatch.delenv(variable, raising=False)


def test_every_provider_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    result = CliRunner().invoke(cli, ["providers", "--json"])
    rows = {row["provider"]: row for row in json.loads(result.stdout)}
    assert list(rows) == list(providers())
    assert rows["groq"]["set"] == "GROQ_API_KEY"
    assert rows["openai"]["set"] is None
    assert rows["openai"]["variables"] == ["OPENAI_API_KEY"]
    assert rows["ollama"]["local"]
    assert rows["ollama"]["address"].startswith("http://")
    assert rows["vertex"]["or"] == "Google Cloud credentials"
    assert SECRET not in result.output


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_cuts_no_name(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    result = CliRunner().invoke(cli, ["providers"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= width
    for provider in providers().values():
        assert provider.name in result.stdout or provider.name == "openai-compatible"
        assert all(variable in result.stdout for variable in provider.key)
    (groq,) = [line for line in result.stdout.splitlines() if line.startswith("groq")]
    assert groq.split()[-1] == "environment"
    assert SECRET not in result.output
    assert "…" not in result.stdout.replace("openai@https://…", "")
