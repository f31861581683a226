"""Tiny random models of the Transformers engine (`kurabe.testing.tiny.tiny_model` makes others), and a wait."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kurabe.testing.tiny import NO_SYSTEM_TEMPLATE, tiny_model


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose chat template takes a system message; its tokenizer puts nothing before a text and has no pad
    token."""
    return tiny_model(tmp_path_factory.mktemp("tiny") / "chat")


@pytest.fixture(scope="session")
def tiny_no_system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose chat template writes the BOS token, as its tokenizer does, and raises at a system message."""
    return tiny_model(tmp_path_factory.mktemp("tiny") / "no-system", template=NO_SYSTEM_TEMPLATE, bos=True, pad=True)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a chat template."""
    return tiny_model(tmp_path_factory.mktemp("tiny") / "base", template=None)


@pytest.fixture(scope="session")
def settled() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so, such as what another thread is about to do; it fails where it never is."""

    def wait(met: Callable[[], bool]) -> None:
        until = time.monotonic() + 5
        while not met() and time.monotonic() < until:
            time.sleep(0.005)
        assert met()

    return wait
