"""A page of the web, fetched within limits, and never from a private address unless that is wanted.

Whoever names the address may be a stranger (a link in a document, a redirect), and this machine reaches what strangers
do not: its own servers, its network, the metadata service of its cloud. So each host is looked up here, every address
it has must be a public one, and the connection goes to the address that was checked: a name that stands for another
one a moment later (DNS rebinding) gains nothing. Each redirect is checked in the same way.
"""

import asyncio
import ipaddress
import socket
from typing import Final

import msgspec
from pyreqwest.http import Url

from kurabe.errors import DownloadError, InputError, ProviderError
from kurabe.models import loop
from kurabe.models.hosted.transport.http import Http, Pin, Streaming, Timeouts, shared

MOST_BYTES: Final = 5_000_000
"""Of a page, after it is unpacked."""
MOST_REDIRECTS: Final = 10
SECONDS: Final = 30.0
"""For a page with all its redirects."""
_TIMES: Final = Timeouts(connect=10.0, first=20.0, between=20.0, total=SECONDS)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"accept": "text/html, application/xhtml+xml, text/*;q=0.9, */*;q=0.1"}
# Special ones that Python's tables call global: protocol assignments (Oracle's metadata service is among them), relays
# of 6to4, and Azure's metadata service. Those of other clouds are link-local or private.
_SPECIAL: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL: Final = ipaddress.ip_network("2000::/3")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Page(msgspec.Struct, frozen=True):
    """What came: the address after all redirects, the Content-Type header and the body."""

    url: str
    content_type: str
    body: bytes


def fetch(url: str, *, allow_private: bool = False) -> Page:
    """Fetch an http or https address. `allow_private`: also from this machine and its network, and through the
    environment's proxy. Raises InputError for an address that is refused, and DownloadError."""
    return loop.run(afetch(url, allow_private=allow_private))


async def afetch(url: str, *, allow_private: bool = False) -> Page:
    """`fetch`, awaited."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _followed(_parsed(url), allow_private)
    except TimeoutError:
        raise DownloadError(f"{url} did not come within {SECONDS:g} s; try again, or save the page yourself") from None
    except ProviderError as error:
        raise DownloadError(f"{url} could not be fetched: {error.message or error.what}") from None


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet: not of this machine, a private network, a link, a cloud's
    metadata service or a group, and no form that only wraps such a one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL or address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL)


async def _followed(url: Url, allow_private: bool) -> Page:
    for _ in range(MOST_REDIRECTS + 1):
        http = shared(_TIMES) if allow_private else Http(_TIMES, await _pin(url))
        async with http.stream("GET", str(url.with_fragment(None)), _HEADERS, b"") as answer:
            if answer.status not in _REDIRECTS or "location" not in answer.headers:
                return await _page(url, answer)
            target = str(answer.headers["location"])
        url = _parsed(target, url)
    raise DownloadError(f"{url} is redirected more than {MOST_REDIRECTS} times")


async def _page(url: Url, answer: Streaming) -> Page:
    if answer.status != 200:
        raise DownloadError(f"{url} answers with status {answer.status}; check the address, or open it in a browser")
    body = bytearray()
    async for piece in answer.pieces():
        body += piece
        if len(body) > MOST_BYTES:
            raise DownloadError(f"{url} is larger than {MOST_BYTES // 1_000_000} MB; save the part you need yourself")
    return Page(str(url), str(answer.headers.get("content-type", "")), bytes(body))


def _parsed(text: str, base: Url | None = None) -> Url:
    """The address as the HTTP client itself will read it; two readers that differ would be a way round the check."""
    origin = f"{base} leads to {text}" if base is not None else text
    try:
        url = Url(text) if base is None else base.join(text)
    except ValueError as error:
        raise InputError(f"{origin!r} is no address: {error}; write it whole, such as https://example.com/") from None
    if url.scheme not in ("http", "https"):
        raise InputError(f"{origin!r} is refused: only http:// and https:// pages are fetched")
    if url.username or url.password:
        raise InputError(f"an address with a name or password in it is refused: {url.scheme}://…@{url.host_str}")
    return url


async def _pin(url: Url) -> Pin:
    """The public address that the host of `url` stands for; raises InputError where it has one that is not public."""
    host, port = url.host_str or "", url.port_or_known_default or 80
    found = await _addresses(host, port)
    for address in found:
        if not is_public(address):
            stands = "" if str(address) == host.strip("[]") else f" stands for {address}, which"
            raise InputError(
                f"{url} is refused: {host}{stands} is no public address; for your own network there is --allow-private"
            )
    return Pin(host, str(found[0]), port)


async def _addresses(host: str, port: int) -> list[Address]:
    """Every address that a host has, IPv4 first."""
    try:
        return [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"there is no host {host!r}: {reason}; check the address and the network") from None
    addresses = {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}
    if not addresses:
        raise DownloadError(f"the host {host!r} has no address")
    return sorted(addresses, key=lambda address: (address.version, int(address)))
