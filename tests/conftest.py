"""What every test shares: no way to the network but the loopback, and the real model."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from kurabe.models.pull import pull, pulled_path
from kurabe.models.reference import Reference
from kurabe.testing.hub import Hub

if TYPE_CHECKING:
    from kurabe.models.engines.llama.server import Servers

# One thread in each library and child: the tests themselves run side by side, threads that wait for a core spin, and
# models as small as those of the tests lose time by sharing their work.
os.environ["OMP_NUM_THREADS"] = "1"
# A suite that is started with `nohup` or `&` ignores Ctrl-C, and so would every child. Under a handler of the suite,
# children get the default one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# No test fails since a busy machine is slow to make or to run an example.
settings.register_profile("kurabe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kurabe")
_NETWORK_ALLOWED = bool(os.environ.get("KURABE_TEST_NETWORK"))
_allowed = _NETWORK_ALLOWED
_connect = socket.socket.connect
_getaddrinfo = socket.getaddrinfo


def _is_local(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in (None, "", "localhost", "::1", "0.0.0.0", "::") or str(name).startswith("127.")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if not _allowed and self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
        raise OSError(f"a test tried to reach {address[0]}; set KURABE_TEST_NETWORK=1 to allow it")
    _connect(self, address)


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if not _allowed and not _is_local(host):
        raise socket.gaierror(socket.EAI_NONAME, f"a test tried to look up {host!r}")
    return _getaddrinfo(host, *args, **kwargs)


@contextmanager
def network() -> Iterator[None]:
    """Let the connections inside through."""
    global _allowed
    _allowed = True
    try:
        yield
    finally:
        _allowed = _NETWORK_ALLOWED


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guarded_connect)
    patch.setattr(socket, "getaddrinfo", _guarded_getaddrinfo)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The key that signs saved contestants is the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, conversation or default model of the person who runs the tests, and none of another test."""
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    monkeypatch.setenv("KURABE_NO_HISTORY", "1")
    monkeypatch.delenv("KURABE_MODEL", raising=False)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The file of the model smollm2-135m: from the cache folder, fetched the first time."""
    if (path := pulled_path("smollm2-135m")) is None:
        with network():
            path = pull("smollm2-135m")
    return path


@pytest.fixture(scope="session")
def llama_servers() -> "Callable[[Path, Reference], AbstractContextManager[Servers]]":
    """llama.cpp's own servers over a file, to be asked what the engine does not say, or to judge what it says."""
    from kurabe.models.engines.llama.server import Servers, fitted, read_file, read_options

    def start(path: Path, parsed: Reference) -> AbstractContextManager[Servers]:
        header, size = read_file(path)
        options = read_options(parsed, header)
        return closing(Servers(str(parsed), path, options, fitted(path, options, size, writes=True)))

    return start


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hugging Face hub on the loopback, and a cache of it of the test's own."""
    for name in [name for name in os.environ if name.startswith("HF_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
