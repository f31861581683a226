"""A file over HTTP into a `.part` file that a later call continues."""

import hashlib
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx2

from kurabe.errors import DownloadError, is_disk_full

Progress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all)."""

_TIMEOUT: Final = httpx2.Timeout(30, connect=10)
MOST_BYTES: Final = 1 << 26
"""Of an answer that is read whole, such as a list of files, after it is unpacked."""
_MOST_UNSTATED: Final = 1 << 34
"""Bytes of a file whose length nobody states."""
_STALLS: Final = 4  # attempts in a row that bring nothing


class FetchError(Exception):
    """One source did not deliver; the message says why and names no password. Another source may be tried."""


def new_client() -> httpx2.Client:
    """A client that follows redirects; proxies and certificates come from the environment, as for pip."""
    certificates = next(filter(None, map(os.environ.get, ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"))), None)
    try:
        verify = ssl.create_default_context(cafile=certificates) if certificates else True
    except OSError as error:
        raise DownloadError(f"cannot read the certificates in {certificates}: {error.strerror or error}") from None
    return httpx2.Client(follow_redirects=True, timeout=_TIMEOUT, verify=verify)


def read_body(response: httpx2.Response) -> bytes:
    """The body of a streamed answer. Raises FetchError where it has more than MOST_BYTES."""
    body = bytearray()
    for piece in response.iter_bytes(1 << 16):
        body += piece
        if len(body) > MOST_BYTES:
            raise FetchError(f"{without_password(str(response.url))} has more than {MOST_BYTES >> 20} MiB")
    return bytes(body)


def download_checked(
    client: httpx2.Client,
    url: str,
    part: Path,
    size: int | None,
    sha256: str | None,
    progress: Progress,
    setting: str = "KURABE_CACHE",
) -> None:
    """`download`, and FetchError where the file has another SHA-256. A wrong one after continuing an older part begins
    once more."""
    for _ in range(2):
        continued = download(client, url, part, size, progress, setting)
        found = sha256_of(part)
        if sha256 is None or found == sha256:
            return
        part.unlink()
        if not continued:
            break
    raise FetchError(
        f"{without_password(url)} delivered a file with the SHA-256 {found}, not {sha256}; it was thrown away"
    )


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put_in_place(fresh: Path, target: Path) -> None:
    """Give a checked file its name, durably: after a power cut it is there whole or not at all."""
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    fresh.replace(target)


def download(
    client: httpx2.Client,
    url: str,
    part: Path,
    size: int | None,
    progress: Progress,
    setting: str = "KURABE_CACHE",
) -> bool:
    """Fetch `url` into `part`, continuing where an earlier call stopped, over cut connections too.

    `size` is the file's length where it is known, `setting` the variable that moves the folder. Returns True if bytes
    of an earlier call were kept, so that a wrong hash may be their fault. Raises FetchError where the source does not
    deliver, and DownloadError where the disk is full; `part` is kept in both cases, and on Ctrl-C.
    """
    continued = part.exists() and part.stat().st_size > 0
    stalls = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        if size is not None and before == size:
            return continued
        if size is not None:
            require_space(part.parent, size - before, part.name, setting)
        try:
            return _attempt(client, url, part, size, progress, setting) and continued
        except httpx2.TransportError as error:
            there = part.stat().st_size if part.exists() else 0
            stalls = 0 if there > before else stalls + 1
            # Nothing at all came: the source is out of reach, and waiting longer would help nobody.
            if stalls >= _STALLS or there == 0:
                raise FetchError(f"{without_password(url)}: {_reason(error)}") from None


def _attempt(client: httpx2.Client, url: str, part: Path, size: int | None, progress: Progress, setting: str) -> bool:
    """One request. Returns False if the server began from the start again, True if it continued."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if have and (response.status_code == 416 or not _continues(response, have, size)):
            if response.status_code not in (200, 206, 416):
                raise FetchError(f"{without_password(url)} answered {response.status_code} {response.reason_phrase}")
            if response.status_code != 200:
                # The server's file is another one than ours; begin again without a range.
                part.unlink()
                return _attempt(client, url, part, size, progress, setting) and False
        elif response.status_code not in (200, 206):
            raise FetchError(f"{without_password(url)} answered {response.status_code} {response.reason_phrase}")
        start = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else size or 0
        most = size if size is not None else _MOST_UNSTATED
        if size is not None and length and total != size:
            raise FetchError(f"{without_password(url)} holds {total:,} bytes, not the {size:,} that were expected")
        try:
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                for chunk in response.iter_raw():
                    start += len(chunk)
                    if start > most:
                        raise FetchError(f"{without_password(url)} holds more than {most:,} bytes")
                    file.write(chunk)
                    progress(start, total)
        except OSError as error:
            raise disk_error(error, part.parent, max(total - start, 0), setting) from None
    if size is not None and start < size:
        raise httpx2.ReadError("the connection was cut")
    return response.status_code == 206


def _continues(response: httpx2.Response, have: int, size: int | None) -> bool:
    """Whether a 206 answer holds exactly the bytes that are missing."""
    if response.status_code != 206:
        return False
    first, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return first.startswith(f"{have}-") and (size is None or whole in ("*", str(size)))


def require_space(folder: Path, count: int, what: str, setting: str = "KURABE_CACHE") -> None:
    """Raise DownloadError if `folder` has not room for `count` more bytes. `setting` is the variable that moves it."""
    free = shutil.disk_usage(folder).free
    if free < count:
        raise DownloadError(
            f"the disk is full: {what} needs {_megabytes(count)} more in {folder}, and {_megabytes(free)} are free; "
            f"make room, or set {setting} to a folder on another disk, and run it again"
        )


def disk_error(error: OSError, folder: Path, count: int, setting: str = "KURABE_CACHE") -> DownloadError:
    """What to tell the user when writing to `folder` failed with `count` bytes still to come."""
    if is_disk_full(error):
        return DownloadError(
            f"the disk is full: {_megabytes(count)} more are needed in {folder}; make room, or set {setting} to a "
            "folder on another disk, and run it again: it continues where it stopped"
        )
    return DownloadError(f"cannot write to {folder}: {error.strerror or error}; set {setting} to another folder")


def without_password(url: str) -> str:
    """`url` as it may be shown: without user, password, query and fragment."""
    try:
        return str(httpx2.URL(url).copy_with(username=None, password=None, query=None, fragment=None))
    except httpx2.InvalidURL:
        return "an address that cannot be read"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
