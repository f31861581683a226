"""kurabe models: what a provider offers."""

import json

import pytest
from click.testing import CliRunner, Result

from kurabe.cli.main import cli
from kurabe.errors import KurabeError, ProviderError
from kurabe.testing import Fault, Simulator


def call(*args: str) -> Result:
    return CliRunner().invoke(cli, ["models", *args])


def test_the_list_as_references_and_as_json() -> None:
    with Simulator("vllm", models=["b", "a"]) as server:
        where = f"openai@{server.url}"
        result = call(where)
        assert result.exit_code == 0, result.output
        assert sorted(result.stdout.split()) == [f"{where}:a", f"{where}:b"]
        assert sorted(json.loads(call(where, "--json").stdout)) == ["a", "b"]


def test_the_key_of_a_server_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator("openai", models=["a"]) as server:
        with_key = f"openai@{server.url}?key=MY_SERVERS"
        assert "MY_SERVERS" in str(call(with_key).exception)
        monkeypatch.setenv("MY_SERVERS", "sk-mine")
        assert call(with_key).stdout == f"openai@{server.url}:a?key=MY_SERVERS\n"
        assert "?key=VARIABLE" in str(call(f"openai@{server.url}").exception)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("opnai", "did you mean 'openai'"),
        ("openai", "no key for OpenAI: set OPENAI_API_KEY in the environment, or run: kurabe keys set openai"),
        ("azure", "AZURE_OPENAI_ENDPOINT"),
    ],
)
def test_one_clear_message(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    for variable in ("OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    result = call(name)
    assert isinstance(result.exception, KurabeError)
    assert says in str(result.exception)


def test_a_provider_that_fails() -> None:
    with Simulator("vllm", faults=Fault.status(403)) as server:
        result = call(f"openai@{server.url}")
    assert isinstance(result.exception, ProviderError)
    assert "status 403" in str(result.exception)
