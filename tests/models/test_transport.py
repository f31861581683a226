"""Connections: time-outs, cancelling, proxies, certificates, redirects, and where calls may come from."""

import asyncio
import datetime as dt
import ipaddress
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kurabe import errors
from kurabe.models import open_model
from kurabe.models.hosted.transport.http import Timeouts
from kurabe.models.hosted.transport.policy import Policy
from kurabe.testing import Fault, Simulator
from kurabe.testing.server import HttpCall, Response, Server

Wait = Callable[[Callable[[], bool]], None]  # the fixture `settled`

_unlike = itertools.count()


def fresh() -> Timeouts:
    """Time-outs that no other pool has, so that a pool is made in the environment of the test."""
    return Timeouts(total=800 + next(_unlike) / 100)


# ── Time-outs ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def full() -> Iterator[str]:
    """The address of a server that takes no more connections."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
        waiting.append(one)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    for one in [*waiting, listening]:
        one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog refuses elsewhere")
def test_no_connection_in_time_is_tried_again(full: str) -> None:
    times, quick = Timeouts(connect=0.2), Policy(first_wait=0.001)
    model = open_model("openai:x", base_url=full, api_key="k", timeout=times, attempts=2, policy=quick)
    with pytest.raises(errors.CallTimeoutError, match="no connection in time") as caught:
        model.chat("x")
    assert (caught.value.sent, caught.value.attempts) == (False, 2)


@pytest.mark.parametrize(
    ("fault", "stream", "timeouts", "words"),
    [
        (Fault.silence(), False, Timeouts(total=0.3), "no whole answer in time"),
        (Fault.stall(), False, Timeouts(total=0.3), "no whole answer in time"),
        (Fault.silence(), True, Timeouts(first=0.3), "no answer within 0.3 s"),
        (Fault.silence(), True, Timeouts(total=0.3), "no whole answer in time"),
        (Fault.stall(), True, Timeouts(between=0.3), "no more bytes within 0.3 s"),
        (Fault.stall(), True, Timeouts(total=0.3), "no whole answer in time"),
    ],
)
def test_each_time_out(fault: Fault, stream: bool, timeouts: Timeouts, words: str, settled: Wait) -> None:
    with Simulator("openai", answer="a b c d", faults=fault) as server:
        model = server.open(timeout=timeouts)
        began = time.perf_counter()
        with pytest.raises(errors.CallTimeoutError, match=words) as caught:
            _ = model.stream("x").reply if stream else model.chat("x")
        assert 0.25 < time.perf_counter() - began < 20
        assert server.calls == 1  # it may be paid for, so it is not sent again
        assert (caught.value.partial is not None) == (stream and fault.kind == "stall")
        if timeouts.total == 0.3 or fault.kind == "stall":  # see LINGERS
            settled(lambda: server.connections == 0)


def test_a_slow_answer_that_comes_in_time_is_waited_for() -> None:
    with Simulator("openai", answer="a b c d", pace=0.6, delay=0.6) as server:
        model = server.open(timeout=Timeouts(first=2.0, between=2.0))
        reply = model.stream("x").reply
        assert reply.text == "a b c d"
        assert reply.first_seconds is not None
        assert 0.6 < reply.first_seconds < reply.seconds - 0.6


def test_a_caller_may_take_longer_over_a_piece_than_pieces_may_take_to_come() -> None:
    with Simulator("openai", answer="a b c d", pace=0.01) as server:

        async def read() -> str:
            text = ""
            async with server.open(timeout=Timeouts(between=0.5)).astream("x") as stream:
                async for delta in stream:
                    text += delta.text
                    await asyncio.sleep(0.7)
            return text

        assert asyncio.run(read()) == "a b c d"


def test_the_first_piece_is_passed_on_at_once() -> None:
    with Simulator("openai", answer="a b c d", pace=2) as server:
        model = server.open()
        began = time.perf_counter()
        with model.stream("x") as stream:
            assert next(iter(stream)).text == "a"
            assert time.perf_counter() - began < 5


# ── Giving up ────────────────────────────────────────────────────────────────────────────────────────────────────────


LINGERS = pytest.mark.xfail(
    reason="pyreqwest 0.15.1 lets a cancelled request run on until its answer begins or its time in all is over"
)
PLAIN_AND_STREAMED = [pytest.param(False, marks=LINGERS, id="plain"), pytest.param(True, id="streamed")]


@pytest.mark.parametrize("stream", PLAIN_AND_STREAMED)
def test_a_cancelled_call_closes_its_connection(stream: bool, settled: Wait) -> None:
    with Simulator("openai", answer="a b c d", faults=Fault.stall() if stream else Fault.silence()) as server:
        model = server.open()

        async def run() -> None:
            async def call() -> None:
                if stream:
                    async for _ in model.astream("x"):
                        pass
                else:
                    await model.achat("x")

            task = asyncio.create_task(call())
            while not server.in_flight:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        settled(lambda: server.connections == 0 and server.in_flight == 0)
        assert server.calls == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts")
@pytest.mark.parametrize("stream", PLAIN_AND_STREAMED)
def test_ctrl_c_ends_the_call_and_its_connection(stream: bool, settled: Wait) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Simulator("openai", answer="a b c d", faults=Fault.stall() if stream else Fault.silence()) as server:
            model = server.open()
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                _ = model.stream("x").reply if stream else model.chat("x")
            settled(lambda: server.connections == 0 and server.in_flight == 0)
            server.faults(None)
            assert model.chat("x").text == "a b c d"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_connection_of_a_cancelled_call_ends_with_its_time(settled: Wait) -> None:
    with Simulator("openai", faults=Fault.silence()) as server:
        model = server.open(timeout=Timeouts(total=0.5))

        async def run() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(model.achat("x"), 0.1)

        asyncio.run(run())
        settled(lambda: server.connections == 0)
        assert server.calls == 1


def test_a_stream_that_is_left_closes_its_connection(settled: Wait) -> None:
    with Simulator("openai", answer="a b c d e f", pace=0.05) as server:
        for delta in server.open().stream("x"):
            assert delta.text == "a"
            break
        settled(lambda: server.connections == 0 and server.in_flight == 0)

        async def run() -> None:
            async with server.open().astream("x") as stream:
                async for _ in stream:
                    break
            with pytest.raises(errors.ModelError, match="not come to its end"):
                _ = stream.reply

        asyncio.run(run())
        settled(lambda: server.connections == 0)


# ── Connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_connection_is_kept() -> None:
    with Simulator("openai") as server:
        model = server.open(timeout=fresh())
        for number in range(20):
            _ = model.stream("x").reply if number % 2 else model.chat("x")
        assert server.accepted == 2  # one for plain calls, one for streams


def test_calls_from_many_threads_and_loops_at_once() -> None:
    with Simulator("openai", delay=0.01) as server:
        model = server.open()

        def work(number: int) -> list[str]:
            if number % 2:
                return [model.chat(f"{number} {n}").text for n in range(20)]

            async def run() -> list[str]:
                replies = await asyncio.gather(*(model.achat(f"{number} {n}") for n in range(20)))
                return [reply.text for reply in replies]

            return asyncio.run(run())

        with ThreadPoolExecutor(8) as pool:
            for number, texts in enumerate(pool.map(work, range(8))):
                assert texts == [f"{number} {n}" for n in range(20)]


def test_a_call_inside_a_running_loop() -> None:
    with Simulator("openai") as server:
        model = server.open()

        async def run() -> None:
            assert model.chat("as in a notebook").text == "as in a notebook"
            assert model.stream("x").reply.text == "x"
            assert (await model.achat("y")).text == "y"

        asyncio.run(run())


SCRIPT = """
    import os, signal, sys
    from kurabe.models import open_model
    from kurabe.testing import Simulator

    server = Simulator("openai", keep=10)
    model = server.open()
    assert model.complete("parent") == "parent"
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            assert model.complete("child") == "child"
            assert server.open("other").stream("other child").reply.text == "other child"
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    code = os.waitpid(child, 0)[1]
    assert model.complete("parent again") == "parent again"
    print("codes", code, flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_model_works_on_after_a_fork() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("codes 0\n", "", 0)


FAILS = """
from kurabe import errors
from kurabe.models import open_model
try:
    open_model("openai:x", base_url="http://127.0.0.1:9/v1", api_key="k", attempts=1).chat("x")
except errors.ConnectionFailedError:
    print("told")
"""


def test_a_process_may_end_right_after_a_call_that_failed() -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FAILS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    ends = [(*child.communicate(timeout=60), child.returncode) for child in children]
    assert ends == [("told\n", "", 0)] * 8


# ── Proxies, certificates, redirects ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("_no_proxy")
def test_the_environment_s_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator("openai", answer="by the proxy") as proxy, Simulator("openai", answer="directly") as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        away = open_model("openai:x", base_url="http://models.invalid/v1", api_key="k", timeout=fresh())
        assert away.chat("x").text == "by the proxy"
        assert proxy.requests[0].headers["host"] == "models.invalid"
        assert server.open(timeout=fresh()).chat("x").text == "by the proxy"
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        assert server.open(timeout=fresh()).chat("x").text == "directly"
        assert proxy.calls == 2


@pytest.mark.usefixtures("_no_proxy")
def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    model = open_model("openai:x", base_url="http://models.invalid/v1", api_key="k", timeout=fresh(), attempts=1)
    with pytest.raises(errors.ConnectionFailedError, match="the address and the proxy") as caught:
        model.chat("x")
    assert caught.value.sent is False


def signed(name: str, issuer: tuple[x509.Name, Any] | None) -> tuple[x509.Certificate, Any]:
    """A certificate and its key: an authority's without an issuer, else one of 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        made = made.add_extension(x509.SubjectAlternativeName([here]), critical=False)
    return made.sign(issuer[1] if issuer else key, hashes.SHA256()), key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Files of an authority's certificate, of a server's that it signed, and of the server's key."""
    authority, authority_key = signed("kurabe's test authority", None)
    server, server_key = signed("kurabe's test server", (authority.subject, authority_key))
    folder = tmp_path_factory.mktemp("tls")
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    (folder / "server.pem").write_bytes(server.public_bytes(pem))
    (folder / "key.pem").write_bytes(server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "authority.pem", folder / "server.pem", folder / "key.pem"


@pytest.mark.usefixtures("_no_proxy")
def test_a_certificate_of_one_s_own(certificate: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate[1:])
    with Simulator("openai", answer="sealed", tls=tls) as server:
        assert server.url.startswith("https://")
        with pytest.raises(errors.ConnectionFailedError, match="certificate") as caught:
            server.open(timeout=fresh(), attempts=1).chat("x")
        assert (caught.value.sent, server.calls) == (False, 0)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        model = server.open(timeout=fresh())
        assert model.chat("x").text == model.stream("x").reply.text == "sealed"


def test_a_certificate_file_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(errors.InputError, match=r"SSL_CERT_FILE names .*nowhere\.pem, which can't be used"):
        open_model("openai:x", base_url="http://127.0.0.1:9/v1", api_key="k", timeout=fresh())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_key_does_not_follow_a_redirect(status: int, stream: bool) -> None:
    with Simulator("openai") as elsewhere:

        def redirect(call: HttpCall) -> tuple[Response, Callable[[], None]]:
            return Response(status, {"location": f"{elsewhere.url}/chat/completions"}), lambda: None

        server = Server(redirect, None)
        server.start()
        try:
            model = open_model("openai:x", base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k", attempts=1)
            with pytest.raises(errors.ProviderError) as caught:
                _ = model.stream("x").reply if stream else model.chat("x")
            assert caught.value.status == status
        finally:
            server.close()
        assert elsewhere.calls == 0


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/v1", "http://[::1/v1", "http:// /v1"])
def test_an_address_that_can_t_be_one(address: str) -> None:
    with pytest.raises(errors.InputError, match=r"is not a valid address for"):
        open_model("openai:x", base_url=address, api_key="k")


def test_nothing_is_left_running() -> None:
    before = threading.active_count()
    for _ in range(5):
        with Simulator("openai") as server:
            server.open().chat("x")
    assert threading.active_count() <= before + 1


def test_a_plain_call_waits_no_longer_for_its_first_byte_than_that() -> None:
    with Simulator("openai", faults=Fault.silence()) as server:
        model = server.open(attempts=1, timeout=Timeouts(connect=5, first=0.2, between=30, total=30))
        began = time.perf_counter()
        with pytest.raises(errors.CallTimeoutError):
            model.chat("x")
        assert time.perf_counter() - began < 20


def test_thousands_of_calls_at_once() -> None:
    with Simulator("openai", answer="yes", delay=0.3, keep=1) as server:
        model = server.open()

        async def all_of_them() -> list[str]:
            return [reply.text for reply in await asyncio.gather(*(model.achat(f"{n}") for n in range(3000)))]

        assert asyncio.run(all_of_them()) == ["yes"] * 3000
        assert server.calls == 3000
        assert server.most_in_flight >= 500
