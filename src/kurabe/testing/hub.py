"""A Hugging Face hub on the loopback, as far as fetching models needs it.

It answers what `huggingface_hub` 2 asks to list and fetch a model's files: `/api/models/…/revision/…`, `/tree/…`, and
HEAD and GET (with ranges) of `/…/resolve/…`. Point HF_ENDPOINT at its `url`, and HF_HUB_CACHE at a folder of its own.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

_LARGE = (".gguf", ".safetensors", ".bin", ".pt")
_CHUNK = 64 << 10


@dataclass
class Hub:
    """`models`: files by repository and name. `tags`: other revisions, as (repository, name) → files. `gated`:
    repositories that want the `token`. `log`: (method, path, Range) of each request. `cuts`: bytes after which the next
    large files break off. `pause`: called between the pieces of a file. `fails`: a status for every answer. `states`:
    the sizes that its listings give for files of these names."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str = "hf_loopback_token"
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    pause: Callable[[], None] = lambda: None
    fails: int | None = None
    states: dict[str, int | None] = field(default_factory=dict)
    url: str = ""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def commit(self, repository: str, revision: str = "main") -> str:
        """The commit of a revision: it changes with the files."""
        files = self.files(repository, revision) or {}
        seed = repr([(name, _sha1(content)) for name, content in sorted(files.items())])
        return _sha1(f"{repository} {seed}".encode())

    def files(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """The files of a branch, tag or commit; None where there is no such revision."""
        if revision == "main":
            return self.models[repository]
        if (files := self.tags.get((repository, revision))) is not None:
            return files
        named = ["main", *(name for repo, name in self.tags if repo == repository)]
        return next((self.files(repository, name) for name in named if self.commit(repository, name) == revision), None)

    def fetched(self) -> list[tuple[str, str | None]]:
        """(file, Range) of every GET of a file, in order."""
        return [
            (path.split("/", 5)[5], asked)
            for method, path, asked in self.log
            if method == "GET" and "/resolve/" in path
        ]


class _ErrorAnswer(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.log.append((self.command, path, self.headers.get("Range")))
            try:
                if hub.fails is not None:
                    raise _ErrorAnswer(hub.fails, "", "the hub is down")
                parts = path.strip("/").split("/")
                if parts[:2] == ["api", "models"] and len(parts) >= 6:
                    repository, kind, revision = "/".join(parts[2:4]), parts[4], "/".join(parts[5:])
                    files = self._files(repository, revision)
                    self._json(_info(hub, repository, revision, files) if kind == "revision" else _tree(files))
                elif len(parts) >= 5 and parts[2] == "resolve":
                    repository, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
                    self._file(repository, revision, name, body=body)
                else:
                    raise _ErrorAnswer(404, "", f"no {path}")
            except _ErrorAnswer as error:
                content = json.dumps({"error": str(error)}).encode()
                self.send_response(error.status)
                if error.code:
                    self.send_header("X-Error-Code", error.code)
                self.send_header("X-Error-Message", str(error))
                self._end(content if body else b"", len(content))

        def _files(self, repository: str, revision: str) -> dict[str, bytes]:
            if repository not in hub.models:
                raise _ErrorAnswer(401, "RepoNotFound", "Repository not found")
            if (files := hub.files(repository, revision)) is None:
                raise _ErrorAnswer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return files

        def _file(self, repository: str, revision: str, name: str, *, body: bool) -> None:
            files = self._files(repository, revision)
            if repository in hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
                raise _ErrorAnswer(403, "GatedRepo", f"Access to model {repository} is restricted")
            if (content := files.get(name)) is None:
                raise _ErrorAnswer(404, "EntryNotFound", "Entry not found")
            asked = self.headers.get("Range") if body else None
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("ETag", f'"{_etag(name, content)}"')
            self.send_header("X-Repo-Commit", hub.commit(repository, revision))
            self.send_header("Accept-Ranges", "bytes")
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            cut = hub.cuts.pop(0) if body and hub.cuts and name.endswith(_LARGE) else None
            self._end(content[start:] if body else b"", len(content) - start, cut)

        def _json(self, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self._end(content, len(content))

        def _end(self, content: bytes, length: int, cut: int | None = None) -> None:
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                for at in range(0, len(content[:cut]), _CHUNK):
                    self.wfile.write(content[:cut][at : at + _CHUNK])
                    hub.pause()
            except OSError:  # whoever asked has gone
                self.close_connection = True
            if cut is not None and cut < len(content):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None: ...

    return Handler


def _etag(name: str, content: bytes) -> str:
    if name.endswith(_LARGE):
        return hashlib.sha256(content).hexdigest()
    return _sha1(b"blob %d\0" % len(content) + content)  # as git names it


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _info(hub: Hub, repository: str, revision: str, files: dict[str, bytes]) -> dict[str, Any]:
    siblings = []
    for name, content in files.items():
        large = {"sha256": _etag(name, content), "size": len(content), "pointerSize": 130}
        lfs = {"lfs": large} if name.endswith(_LARGE) else {}
        size = hub.states.get(name, len(content))
        siblings.append({"rfilename": name, "size": size, "blobId": _etag(name, content)[:40], **lfs})
    gated = "manual" if repository in hub.gated else False
    sha = hub.commit(repository, revision)
    return {"id": repository, "modelId": repository, "sha": sha, "gated": gated, "siblings": siblings}


def _tree(files: dict[str, bytes]) -> list[dict[str, Any]]:
    entries = []
    for name, content in files.items():
        large = {"oid": _etag(name, content), "size": len(content), "pointerSize": 130}
        lfs = {"lfs": large} if name.endswith(_LARGE) else {}
        entries.append({"type": "file", "path": name, "size": len(content), "oid": _etag(name, content)[:40], **lfs})
    return entries
