"""A planted key is in no log, error, repr, traceback, cache, journal or report, though providers repeat it."""

import asyncio
import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.core
import pytest
from rich.traceback import Traceback

from kurabe import errors
from kurabe.models.hosted.auth import SERVICE
from kurabe.models.hosted.transport.http import Timeouts
from kurabe.models.hosted.transport.policy import Policy
from kurabe.models.providers import providers
from kurabe.testing import Fault, Simulator

KEY = "planted0c63Value9e77"  # of no form that a provider's keys have
MODELS = {
    "openai": "gpt-4.1-mini", "openai-responses": "gpt-4.1-mini", "azure": "deployed", "anthropic": "claude-sonnet-5-5",
    "gemini": "gemini-3-pro", "bedrock": "us.amazon.nova-pro-v1:0", "cohere": "command-a", "mistral": "mistral-large",
}  # fmt: skip
ECHO = "Incorrect API key provided: {key}."
FAULTS = (
    *(Fault.status(code, ECHO) for code in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)),
    Fault.html(502, ECHO),
    Fault.invalid_json(ECHO),
    Fault.error_event(ECHO),
    Fault.error_event(ECHO, after=0),
    *(fault for fault in Fault.every() if fault.kind not in ("status", "html", "invalid_json", "error_event")),
)
QUICK = Policy(first_wait=0.001, first_pause=0.001, least_rate=10**9, failures=10**9)


class Safe(keyring.backend.KeyringBackend):
    """A keyring that holds the key for everything."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        return KEY if service == SERVICE else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """All that is logged, down to the smallest."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture(autouse=True)
def _no_other_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in MODELS:
        for variable in providers()[provider].key:
            monkeypatch.delenv(variable, raising=False)


def plant(place: str, provider: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Put the key into a place; the function that opens a model with it, and keeps it out of the caller's frame."""
    if place == "environment":
        monkeypatch.setenv(providers()[provider].key[0], KEY)
    if place == "keyring":
        monkeypatch.delenv("KURABE_NO_KEYRING", raising=False)
        monkeypatch.setattr(keyring.core, "_keyring_backend", Safe())  # type: ignore[no-untyped-call]
    key = KEY if place == "option" else None
    return lambda server, **options: server.open(MODELS[provider], api_key=key, policy=QUICK, **options)


def around(text: str) -> str:
    """Where the key stands in a text, '' where it does not."""
    found = text.find(KEY)
    return text[max(0, found - 300) : found + 50] if found >= 0 else ""


def shown(error: BaseException) -> str:
    """Whatever an error can show of itself."""
    text = io.StringIO()
    made = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=100, locals_max_string=10**6
    )
    for stack in made.trace.stacks:  # what rich would print: laid out it takes a second each time
        text.writelines(str(node) for frame in stack.frames for node in (frame.locals or {}).values())
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), text.getvalue()]
    partial = getattr(error, "partial", None)
    parts += [repr(partial), repr(getattr(partial, "raw", b"")), repr(pickle.dumps(error.args))]
    parts += traceback.format_exception(error)
    return "\n".join(parts)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("place", "provider"),
    [("environment", "openai"), ("keyring", "openai"), *(("option", provider) for provider in MODELS)],
)
def test_no_error_or_log_holds_it(
    place: str, provider: str, stream: bool, logs: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = plant(place, provider, monkeypatch)
    with Simulator(provider, answer="one two three four") as server:
        for fault in FAULTS:
            short = Timeouts(5, 0.1, 0.1, 0.1) if fault.kind in ("silence", "stall") else None
            model = opened(server, attempts=2, timeout=short)
            server.faults(fault)
            with pytest.raises(errors.ProviderError) as caught:
                _ = model.stream("hello").reply if stream else model.chat("hello")
            assert around(shown(caught.value)) == "", fault
            assert {call.key for call in server.requests} == {KEY}  # it was sent, though
            server.requests.clear()
            del caught
        assert KEY not in logs.getvalue()
        held = [repr(model), repr(vars(model)), repr(vars(model.client)), repr(vars(model.client.http))]
        assert KEY not in "".join(held)


@pytest.mark.parametrize("place", ["option", "environment", "keyring"])
def test_a_cancelled_call_does_not_show_it(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = plant(place, "openai", monkeypatch)
    with Simulator("openai", faults=Fault.silence()) as server:
        model = opened(server, timeout=Timeouts(total=1))

        async def run() -> str:
            task = asyncio.create_task(model.achat("hello"))
            while not server.in_flight:
                await asyncio.sleep(0.005)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                return shown(error)
            raise AssertionError

        text = asyncio.run(run())
        assert KEY not in text
        assert server.requests[0].key == KEY


def test_no_cache_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = plant("option", "openai", monkeypatch)
    with Simulator("openai") as server:
        model = opened(server, cache=tmp_path / "replies.sqlite")
        assert model.chat("hello").text == "hello"
        assert model.chat("hello").text == "hello"
        assert server.calls == 1
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files
        assert not any(KEY.encode() in path.read_bytes() for path in files)
