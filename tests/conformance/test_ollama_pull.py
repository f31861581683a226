"""Ollama's server beside its chat, against its official SDK: what it has, and what it fetches.

Habits of the SDK that we do not follow: it sends `insecure: false` with every pull, which is the server's default.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import ollama as sdk
import pytest
from click.testing import CliRunner

from kurabe.cli.main import cli
from kurabe.errors import DownloadError, InputError, NotFoundError
from kurabe.models import open_model
from kurabe.models.hosted import ollama
from kurabe.models.reference import parse_reference

SHA = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
LINES: list[dict[str, Any]] = [
    {"status": "pulling manifest"},
    {"status": "pulling abababababab", "digest": SHA, "total": 2_000_000},
    {"status": "pulling abababababab", "digest": SHA, "total": 2_000_000, "completed": 700_000},
    {"status": "pulling abababababab", "digest": SHA, "total": 2_000_000, "completed": 2_000_000},
    {"status": "pulling cdcdcdcdcdcd", "digest": OTHER, "total": 100, "completed": 100},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
]


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.fixture(autouse=True)
def client(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[sdk.Client]:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    monkeypatch.setenv("OLLAMA_HOST", recorder.url)
    recorder.answer(lines(*LINES))
    with sdk.Client(recorder.url) as made:
        yield made


def pull(name: str = "ollama:llama3.2") -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    ollama.pull(parse_reference(name), lambda done, total: seen.append((done, total)))
    return seen


def test_a_pull_asks_the_same(client: sdk.Client, recorder: Any, same: Callable[..., None]) -> None:
    list(client.pull("llama3.2", stream=True))

    def without_insecure(body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if (name, value) != ("insecure", False)}

    same(ollama.pull_request("llama3.2"), recorder.last, body=without_insecure)
    pull()
    ours, theirs = recorder.requests[-1], recorder.requests[-2]
    assert (ours.method, ours.path, ours.json) == (theirs.method, theirs.path, without_insecure(theirs.json))
    assert ours.headers["content-type"] == theirs.headers["content-type"]


def test_its_lines_are_read_alike(client: sdk.Client, recorder: Any) -> None:
    theirs = list(client.pull("llama3.2", stream=True))
    layers = {line.digest: line.completed for line in theirs if line.digest}
    data = lines(*LINES)
    recorder.answer([data[at : at + 7] for at in range(0, len(data), 7)])
    seen = pull()
    assert seen[-1] == (sum(done or 0 for done in layers.values()), 2_000_100)
    assert seen[0] == (0, 2_000_000)
    assert seen == sorted(seen)
    assert theirs[-1].status == "success"


def test_an_error_in_the_middle(client: sdk.Client, recorder: Any) -> None:
    recorder.answer(lines(*LINES[:3], {"error": "no space left on device"}))
    with pytest.raises(sdk.ResponseError) as theirs:
        list(client.pull("llama3.2", stream=True))
    with pytest.raises(DownloadError, match="Ollama could not fetch the model: no space left on device") as ours:
        pull()
    assert theirs.value.error in str(ours.value)


def test_a_name_that_it_does_not_know(client: sdk.Client, recorder: Any) -> None:
    recorder.answer(lines(LINES[0], {"error": "pull model manifest: file does not exist"}))
    with pytest.raises(DownloadError, match="pull model manifest: file does not exist"):
        pull()
    recorder.answer({"error": "invalid model name"}, status=400)
    with pytest.raises(sdk.ResponseError, match="invalid model name"):
        client.pull("a b")
    with pytest.raises(DownloadError, match="'a b': it answered 400, invalid model name"):
        pull("ollama:a b")


@pytest.mark.parametrize(
    ("body", "cut", "part"),
    [
        (lines(*LINES[:4]), False, "stopped before 'llama3.2' was whole; run it again to go on"),
        (lines(*LINES[:4]), True, "broke off: RemoteProtocolError; run it again to go on"),
        (b"<html>\n", False, "a line that can't be read: '<html>'"),
        (b"[]\n", False, "a line that can't be read"),
    ],
)
def test_a_pull_that_is_cut(body: bytes, cut: bool, part: str, recorder: Any) -> None:
    recorder.answer(body, cut=cut)
    with pytest.raises(DownloadError) as caught:
        pull()
    assert part in str(caught.value)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(DownloadError) as caught:
        pull()
    for part in (
        "no Ollama server answers at http://127.0.0.1:9", "`ollama serve`", "OLLAMA_HOST",
        "'gguf:ollama/llama3.2' runs a model that it has downloaded without it",
    ):  # fmt: skip
        assert part in str(caught.value)
    assert ollama.running() is None
    monkeypatch.setenv("OLLAMA_HOST", "nowhere:port")
    with pytest.raises(InputError, match="is no address of Ollama"):
        pull()
    assert ollama.running() is None


def test_the_command(recorder: Any) -> None:
    done = CliRunner().invoke(cli, ["pull", "ollama:llama3.2"])
    assert (done.exit_code, done.stdout) == (0, "ollama:llama3.2\n"), done.output
    assert "fetching ollama:llama3.2" in done.stderr
    assert CliRunner().invoke(cli, ["pull", f"ollama:llama3.2?host={recorder.url}"]).exit_code == 0


def test_what_it_has(client: sdk.Client, recorder: Any) -> None:
    models = [
        {"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 2_019_393_189, "digest": "ab"},
        {"name": "me/mine:v1", "model": "me/mine:v1", "size": 7, "digest": "cd"},
    ]
    recorder.answer({"models": models})
    theirs = client.list()
    assert recorder.last.path == "/api/tags"
    assert ollama.running() == [(model.model, model.size) for model in theirs.models]
    listed = CliRunner().invoke(cli, ["models", "ollama"])
    assert listed.stdout == "ollama:llama3.2:latest\nollama:me/mine:v1\n", listed.output
    recorder.answer({"models": None})
    assert ollama.running() == []


def test_a_model_that_is_not_there_names_the_pull(recorder: Any) -> None:
    recorder.answer({"error": "model 'nothing' not found"}, status=404)
    with pytest.raises(NotFoundError, match="fetch it with: kurabe pull ollama:nothing"):
        open_model("ollama:nothing").chat("Hi")


def test_a_server_that_is_not_there_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    done = CliRunner().invoke(cli, ["models", "ollama"])
    assert "Start it with `ollama serve`" in str(done.exception)
    assert "'gguf:ollama/MODEL' runs a model that it has downloaded" in str(done.exception)


def test_context_and_keep_alive_of_the_reference(client: sdk.Client, recorder: Any) -> None:
    answer = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True}
    recorder.answer(answer)
    ask = [{"role": "user", "content": "Hi"}]
    client.chat("m", ask, options={"num_ctx": 8192, "temperature": 0.5}, keep_alive="1h")
    model = open_model("ollama:m?context=8192&keep_alive=1h")
    assert model.chat("Hi", temperature=0.5).text == "Hi"
    theirs, ours = recorder.requests[-2].json, recorder.requests[-1].json
    assert ours == {name: value for name, value in theirs.items() if name != "tools"}
    assert model.context == 8192
    open_model("ollama:m?keep_alive=-1").chat("Hi")
    assert recorder.last.json["keep_alive"] == -1
    model.chat("Hi", extra={"options": {"num_ctx": 100}})
    assert recorder.last.json["options"] == {"num_ctx": 100}
