"""Finding a package's wheel where the user's pip or uv would find it, without installing anything.

Speaks the simple repository API, HTML (PEP 503) and JSON (PEP 691), over HTTP and in local folders (`find-links`,
`file://`).
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

import httpx2
import msgspec

from kurabe.models.files.download import FetchError, read_body, without_password

_ACCEPT: Final = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1, */*;q=0.01"
)
_PIP_SECONDS: Final = 30


class Sources(msgspec.Struct, frozen=True):
    """Where packages come from: `indexes` hold a page for each package, `links` are pages or folders of files."""

    indexes: tuple[str, ...]
    links: tuple[str, ...]


class Wheel(msgspec.Struct, frozen=True):
    """A wheel that was found. `sha256` is None where its index does not say. A local file has a `file:` address."""

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def local(self) -> Path | None:
        return _local_path(self.url)


def package_sources() -> Sources:
    """The user's package sources: uv's environment variables, then pip's configuration, whichever are set."""
    uv_default = _words("UV_DEFAULT_INDEX") or _words("UV_INDEX_URL")
    uv_extra = _words("UV_INDEX") + _words("UV_EXTRA_INDEX_URL")
    pip = _pip_settings()
    default = uv_default or pip.get("index-url", "").split()
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        default, pip["extra-index-url"] = uv_default, ""
    elif not default and (found := _pip_default_index()):
        default = [found]
    indexes = [_without_name(word) for word in uv_extra + default + pip.get("extra-index-url", "").split()]
    links = _words("UV_FIND_LINKS") + pip.get("find-links", "").split()
    return Sources(tuple(dict.fromkeys(indexes)), tuple(dict.fromkeys(links)))


def find_wheel(client: httpx2.Client, source: str, name: str, version: str, *, index: bool) -> Wheel | None:
    """The pure wheel of a package at one source, None where it has none. Raises FetchError where it can't be asked."""
    page = f"{source.rstrip('/')}/{_normal(name)}/" if index else source
    for filename, wheel in _files(client, page):
        parts = filename.removesuffix(".whl").split("-")
        if filename.endswith(".whl") and len(parts) >= 5 and (_normal(parts[0]), parts[1]) == (_normal(name), version):
            return wheel
    return None


def _files(client: httpx2.Client, page: str) -> Iterator[tuple[str, Wheel]]:
    """(file name, wheel) for every link of a page or file of a folder."""
    folder = _local_path(page)
    if folder is not None:
        index_page = folder / "index.html"
        if index_page.is_file():
            yield from _links(index_page.read_text("utf-8", "replace"), index_page.as_uri())
        elif folder.is_dir():
            yield from ((path.name, Wheel(path.as_uri())) for path in sorted(folder.iterdir()))
        return
    try:
        response, text = _got(client, page)
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise FetchError(f"{without_password(page)}: {type(error).__name__}: {error}") from None
    if response.status_code == 404:
        return
    if response.status_code != 200:
        raise FetchError(f"{without_password(page)} answered {response.status_code} {response.reason_phrase}")
    found = _json_files if "json" in response.headers.get("Content-Type", "") else _links
    for filename, wheel in found(text, str(response.url)):
        if not wheel.url.startswith(("http://", "https://")):
            continue  # a page from elsewhere names no file of this machine
        yield filename, msgspec.structs.replace(wheel, url=_with_login(wheel.url, page))


def _got(client: httpx2.Client, page: str) -> tuple[httpx2.Response, str]:
    """The answer and its text. Raises FetchError where it is larger than any page of an index."""
    with client.stream("GET", page, headers={"Accept": _ACCEPT}) as response:
        body = read_body(response)
    return response, body.decode("utf-8", "replace")


def _json_files(text: str, base: str) -> Iterator[tuple[str, Wheel]]:
    try:
        for file in msgspec.json.decode(text, type=_Page).files:
            yield file.filename, Wheel(urljoin(base, file.url), file.hashes.get("sha256"), file.size)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        raise FetchError(f"{without_password(base)} is not a page of the simple repository API") from None


class _File(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str] = {}
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Page(msgspec.Struct):
    """A project's page by PEP 691."""

    files: list[_File]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (target := dict(attrs).get("href")):
            self.targets.append(target)


def _links(text: str, base: str) -> Iterator[tuple[str, Wheel]]:
    anchors = _Anchors()
    anchors.feed(text)
    for target in anchors.targets:
        url, fragment = urldefrag(urljoin(base, target))
        algorithm, _, digest = fragment.partition("=")
        yield unquote(urlsplit(url).path.rpartition("/")[2]), Wheel(url, digest if algorithm == "sha256" else None)


def _with_login(url: str, page: str) -> str:
    """`url` with the user and password of `page`, if it is on the same server and has none of its own."""
    link, asked = httpx2.URL(url), httpx2.URL(page)
    same = (link.scheme, link.host, link.port) == (asked.scheme, asked.host, asked.port)
    if not asked.userinfo or link.userinfo or not same:
        return url
    return str(link.copy_with(username=asked.username, password=asked.password))


def _local_path(address: str) -> Path | None:
    if address.startswith("file:"):
        return Path(url2pathname(unquote(urlsplit(address).path)))
    return None if "://" in address else Path(address).expanduser()


def _normal(name: str) -> str:
    """A package's name in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _words(variable: str) -> list[str]:
    return os.environ.get(variable, "").split()


def _without_name(index: str) -> str:
    """uv lets an index be written as NAME=URL."""
    name, _, url = index.partition("=")
    return url if re.fullmatch(r"[\w.-]+", name) and "://" in url else index


def _pip(*arguments: str) -> str:
    """What `python -P -m pip …` prints, or '' where there is no pip."""
    # -P: a pip in the current folder, which may be a stranger's, is not run.
    command = [sys.executable, "-P", "-m", "pip", *arguments]
    environment = os.environ | {"COLUMNS": "1000", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _pip_settings() -> dict[str, str]:
    """pip's settings from its files and environment variables, the latter first, as pip itself weighs them."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, "download": {}}
    for line in _pip("config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in sections:
            sections[section][option] = _unquoted(value)
    names = ("index-url", "extra-index-url", "find-links", "no-index")
    environment: dict[str, Any] = {
        name: os.environ[variable]
        for name in names
        if (variable := f"PIP_{name.upper().replace('-', '_')}") in os.environ
    }
    return sections["global"] | sections["install"] | sections["download"] | environment


def _unquoted(value: str) -> str:
    try:
        return str(ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return value


def _pip_default_index() -> str | None:
    """The index that pip uses when nothing is configured, from its own help."""
    found = re.search(r"--index-url.*?\(default:?\s+(https?://[^\s)]+)\)", _pip("download", "--help"), re.DOTALL)
    return found[1] if found else None
