"""kurabe doctor: what is on this machine."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from kurabe.cli import doctor
from kurabe.cli.main import cli
from kurabe.models.providers import providers
from kurabe.testing import Simulator


def call(*args: str) -> str:
    done = CliRunner().invoke(cli, ["doctor", *args])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("COLUMNS", "200")


def test_models_and_where_they_lie(tmp_path: Path, smollm2: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--owner--repo" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(bytes(2000))
    found = json.loads(call("--json"))
    assert found["downloaded"] == [
        {"reference": "gguf:smollm2-135m", "size": 98_362_432, "where": "kurabe"},
        {"reference": "hf:owner/repo", "size": 2000, "where": "Hugging Face hub"},
    ]
    assert found["hub_cache"] == str(tmp_path / "hf" / "hub")
    shown = call()
    assert "gguf:smollm2-135m" in shown
    assert "98.4 MB" in shown


def test_ollamas_server_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ollama" / "manifests").mkdir(parents=True)
    assert "does not answer: ollama serve" in call()
    with Simulator("ollama", models=["llama3.2"]) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        found = json.loads(call("--json"))["ollama"]
    assert found == {
        "address": server.url,
        "running": True,
        "models": [{"name": "llama3.2", "size": 1}],
        "stores": [str(tmp_path / "ollama")],
    }


def test_an_address_that_is_none_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "nowhere:port")
    assert "is no address of Ollama" in call()


def test_the_keys_of_every_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name for provider in providers().values() for name in provider.key}
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MISTRAL_API_KEY", "planted-0123")
    keys = json.loads(call("--json"))["keys"]
    assert set(keys) == names >= {"OPENAI_API_KEY", "HF_TOKEN", "VLLM_API_KEY"}
    assert [name for name, here in keys.items() if here] == ["MISTRAL_API_KEY"]
    shown = call()
    assert f"{len(names) - 1} others are not set: kurabe providers" in shown
    assert "planted" not in shown


def test_graphics_processors_that_only_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA RTX, 6000, 49140'\necho '[N/A], [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("xllamacpp.get_device_info", list)
    assert doctor._devices() == [{"name": "GPU 0", "detail": "NVIDIA RTX, 6000, 51.5 GB"}]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert doctor._devices() == []
