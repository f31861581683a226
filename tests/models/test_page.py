"""Fetching pages: only from public addresses, held to the address that was checked, within limits."""

import contextlib
import gzip
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kurabe.errors import DownloadError, InputError
from kurabe.models.hosted.transport import page as module
from kurabe.models.hosted.transport.page import fetch, is_public

Answer = tuple[int, dict[str, str], bytes]


class Site:
    """A web site on the loopback; `answers` by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.asked: list[tuple[str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.headers["host"], self.path))
                found = site.answers.get(self.path, (404, {}, b"no"))
                status, headers, body = found() if callable(found) else found
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The name service: what each lookup of a name gives, the last answer again and again."""
    table: dict[str, list[str]] = {}

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answer = table[host].pop(0) if len(table[host]) > 1 else table[host][0]
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (families[ipaddress.ip_address(address).version], socket.SOCK_STREAM, 6, "", (address, port))
            for address in answer.split()
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a server of the test can stand for one of the internet."""
    home = ipaddress.ip_address("127.0.0.1")
    monkeypatch.setattr(module, "is_public", lambda address: address == home or is_public(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://169.254.169.254/latest",
        "http://①②⑦.0.0.1/", "http://127.0.0.1./", "http://0/", "http://10.0.0.1:8080/x", "https://192.168.0.1/",
    ],
)  # fmt: skip
def test_however_it_is_written(url: str) -> None:
    with pytest.raises(InputError, match="no public address; for your own network there is --allow-private"):
        fetch(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "only http:// and https://"),
        ("ftp://example.com/", "only http:// and https://"),
        ("gopher://127.0.0.1:70/", "only http:// and https://"),
        ("javascript:alert(1)", "only http:// and https://"),
        ("example.com", "write it whole, such as https://example.com/"),
        ("http://", "is no address"),
        ("http://ann:secret@example.com/", "name or password"),
        ("http://a@127.0.0.1/", "name or password"),
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_addresses_that_are_refused(url: str, says: str, allow_private: bool) -> None:
    with pytest.raises(InputError, match=says) as caught:
        fetch(url, allow_private=allow_private)
    assert "secret" not in str(caught.value)


def test_one_private_address_among_public_ones_is_enough(names: dict[str, list[str]]) -> None:
    names["two.test"] = ["8.8.8.8 10.0.0.7"]
    with pytest.raises(InputError, match=r"two\.test stands for 10\.0\.0\.7, which is no public address"):
        fetch("http://two.test/")
    names["six.test"] = ["8.8.8.8 fd00::1"]
    with pytest.raises(InputError, match="stands for fd00::1"):
        fetch("http://six.test/")


def test_a_host_that_is_none(names: dict[str, list[str]]) -> None:
    with pytest.raises(DownloadError, match=r"there is no host 'nowhere\.test'"):
        fetch("http://nowhere.test/")


@pytest.mark.usefixtures("loopback_is_public")
def test_the_connection_goes_to_the_address_that_was_checked(site: Site, names: dict[str, list[str]]) -> None:
    """The operating system knows no such name, so only the checked address can have been used."""
    names["rebind.test"] = ["127.0.0.1", "10.0.0.7"]  # a second lookup would find another address
    site.answers["/x"] = (200, {"content-type": "text/plain"}, b"hello")
    page = fetch(f"http://rebind.test:{site.port}/x#part")
    assert (page.body, page.content_type) == (b"hello", "text/plain")
    assert page.url == f"http://rebind.test:{site.port}/x#part"
    assert site.asked == [(f"rebind.test:{site.port}", "/x")]
    assert names["rebind.test"] == ["10.0.0.7"]  # looked up once


@pytest.mark.usefixtures("loopback_is_public")
def test_a_proxy_of_the_environment_is_no_way_round(
    site: Site, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    names["direct.test"] = ["127.0.0.1"]
    site.answers["/"] = (200, {}, b"direct")
    assert fetch(f"http://direct.test:{site.port}/").body == b"direct"


@pytest.mark.usefixtures("loopback_is_public")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_each_redirect_is_checked(site: Site, names: dict[str, list[str]], status: int) -> None:
    names["a.test"] = ["127.0.0.1"]
    names["b.test"] = ["127.0.0.1"]
    names["inner.test"] = ["10.0.0.7"]
    site.answers["/ok"] = (status, {"location": f"http://b.test:{site.port}/dir/one"}, b"")
    site.answers["/dir/one"] = (status, {"location": "two"}, b"")
    site.answers["/dir/two"] = (200, {}, b"there")
    page = fetch(f"http://a.test:{site.port}/ok")
    assert (page.body, page.url) == (b"there", f"http://b.test:{site.port}/dir/two")
    for target, says in {
        "http://inner.test/": "no public address",
        "http://169.254.169.254/latest/meta-data/": "no public address",
        "//[::1]/": "no public address",
        "file:///etc/passwd": "only http:// and https://",
        "http://x:y@b.test/": "name or password",
    }.items():
        site.answers["/bad"] = (status, {"location": target}, b"")
        with pytest.raises(InputError, match=says):
            fetch(f"http://a.test:{site.port}/bad")


@pytest.mark.usefixtures("loopback_is_public")
def test_a_circle_of_redirects_ends(site: Site) -> None:
    site.answers["/"] = (302, {"location": "/"}, b"")
    with pytest.raises(DownloadError, match="redirected more than 10 times"):
        fetch(f"{site.url}/")
    assert len(site.asked) == 11


def test_private_ones_where_that_is_wanted(site: Site) -> None:
    site.answers["/"] = (200, {}, b"mine")
    with pytest.raises(InputError, match="--allow-private"):
        fetch(f"{site.url}/")
    assert site.asked == []
    assert fetch(f"{site.url}/", allow_private=True).body == b"mine"


def test_too_large_is_given_up_before_it_is_all_here(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    site.answers["/large"] = (200, {}, b"x" * 3_000_000)
    site.answers["/bomb"] = (200, {"content-encoding": "gzip"}, gzip.compress(b"x" * 30_000_000))
    site.answers["/zip"] = (200, {"content-encoding": "gzip"}, gzip.compress(b"small"))
    for path in ("/large", "/bomb"):
        with pytest.raises(DownloadError, match="larger than 1 MB"):
            fetch(site.url + path, allow_private=True)
    assert fetch(f"{site.url}/zip", allow_private=True).body == b"small"


HEADERS = st.dictionaries(
    st.sampled_from(["location", "content-type", "content-encoding", "x-other"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)
    | st.sampled_from(["gzip", "deflate", "br", "/", "//", "file:///etc/passwd", "http://[", "data:,x"]),
    max_size=3,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(status=st.sampled_from([200, 301, 302, 308, 404, 500]), headers=HEADERS, body=st.binary(max_size=200))
def test_any_answer_is_a_page_or_an_error_of_ours(
    site: Site, status: int, headers: dict[str, str], body: bytes
) -> None:
    site.answers["/any"] = (status, headers, body)
    try:
        page = fetch(f"{site.url}/any", allow_private=True)
    except (DownloadError, InputError):
        return
    assert (status, len(page.body) <= module.MOST_BYTES) == (200, True)


@given(st.text(max_size=60) | st.text("htps:/@[]%.0179ax#?\\ \t", max_size=30).map(lambda rest: "http://" + rest))
def test_any_address_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert module._parsed(text).scheme in ("http", "https")


def test_too_slow(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(module, "SECONDS", 0.3)
    site.answers["/"] = lambda: (200, {}, b"late") if released.wait(5) else (200, {}, b"")
    with pytest.raises(DownloadError, match=r"did not come within 0\.3 s"):
        fetch(f"{site.url}/", allow_private=True)
    released.set()


@pytest.mark.parametrize("status", [401, 404, 500, 204])
def test_an_answer_that_is_no_page(site: Site, status: int) -> None:
    site.answers["/"] = (status, {}, b"")
    with pytest.raises(DownloadError, match=f"answers with status {status}"):
        fetch(f"{site.url}/", allow_private=True)


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadError, match="could not be fetched"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/", allow_private=True)
