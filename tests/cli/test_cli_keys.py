"""kurabe keys: in the keyring, and nowhere to be seen."""

import contextlib
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from click.testing import CliRunner, Result
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from kurabe.cli.main import cli
from kurabe.errors import KurabeError
from kurabe.models.hosted.auth import find_key
from kurabe.models.providers import providers

SECRET = "sk-test-0123456789abcdefghij"


class Memory(KeyringBackend):
    """A keyring that forgets."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Locked(Memory):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("the collection is locked")


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    for provider in providers().values():
        for variable in provider.key:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("KURABE_NO_KEYRING", raising=False)
    before, mine = keyring.get_keyring(), Memory()
    keyring.set_keyring(mine)
    yield mine
    keyring.set_keyring(before)


def call(*args: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["keys", *args], input=text)


def test_set_list_delete(ring: Memory) -> None:
    assert "No key is set" in call("list").stdout
    result = call("set", "openai", text=f"{SECRET}\n")
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    assert ring.kept == {("kurabe", "OPENAI_API_KEY"): SECRET}
    found = find_key(providers()["openai"])
    assert found is not None
    assert (found[0].reveal(), found[1]) == (SECRET, "keyring")
    rows = json.loads(call("list", "--json").stdout)
    assert {"provider": "openai", "set": "keyring"} in rows
    assert {"provider": "openai-responses", "set": "keyring"} in rows  # the same account, the same key
    assert SECRET not in call("list").stdout
    assert call("delete", "openai").exit_code == 0
    assert ring.kept == {}


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-another-one")
    result = call("set", "anthropic", text=SECRET)
    assert "ANTHROPIC_API_KEY is set in the environment and comes before it" in result.stderr
    assert "ANTHROPIC_API_KEY" in call("list").stdout
    assert "sk-ant" not in result.output + call("list").output


@pytest.mark.parametrize(
    ("args", "text", "says"),
    [
        (("set", "openia"), SECRET, "did you mean 'openai'"),
        (("set", "openai"), "\n", "no key was given"),
        (("set", "openai"), "sk a b", "characters that no key has"),
        (("set", "vertex"), SECRET, "needs no key"),
        (("delete", "openai"), "", "holds no key of OpenAI"),
    ],
)
def test_bad_input(args: tuple[str, ...], text: str, says: str, ring: Memory) -> None:
    result = call(*args, text=text)
    assert isinstance(result.exception, KurabeError)
    assert says in str(result.exception)
    assert ring.kept == {}


def test_a_command_that_is_none() -> None:
    result = call("sett", "openai")
    assert result.exit_code == 2
    assert "did you mean 'set'" in result.output


def test_without_a_keyring_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.set_keyring(Locked())
    assert "locked" in str(call("set", "openai", text=SECRET).exception)
    from keyring.backends.fail import Keyring

    keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]
    for action in ("set", "delete"):
        said = str(call(action, "openai", text=SECRET).exception)
        assert said == "this machine has no keyring; set OPENAI_API_KEY in the environment instead"
    monkeypatch.setitem(sys.modules, "keyring", None)
    said = str(call("set", "openai", text=SECRET).exception)
    assert "pip install 'kurabe[keyring]'" in said
    assert "OPENAI_API_KEY" in said
    assert SECRET not in said


def test_typed_at_a_terminal_it_is_not_seen(tmp_path: Path) -> None:
    program = (
        "import keyring, sys\n"
        "from keyring.backend import KeyringBackend\n"
        "class File(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, username): return None\n"
        f"    def set_password(self, *words): open({str(tmp_path / 'kept')!r}, 'w').write(words[-1])\n"
        "keyring.set_keyring(File())\n"
        "sys.argv = ['kurabe', 'keys', 'set', 'openai']\n"
        "from kurabe.cli.main import main\n"
        "main()\n"
    )
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while b"Key of OpenAI" not in said:
        said += os.read(mine, 4096)
    os.write(mine, f"{SECRET}\n".encode())
    with contextlib.suppress(OSError):  # the other side has closed it
        while piece := os.read(mine, 4096):
            said += piece
    os.close(mine)
    assert process.wait(20) == 0, said
    assert SECRET.encode() not in said
    assert (tmp_path / "kept").read_text() == SECRET
