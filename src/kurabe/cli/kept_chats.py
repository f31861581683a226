"""The conversations that `kurabe chat` keeps, so that `-c` can continue the last one and `/history` lists them."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_data_path

from kurabe.errors import InputError, KurabeError
from kurabe.models.conversation import Conversation, saved_model

NOTHING_KEPT = "KURABE_NO_HISTORY"


class KeptChat(NamedTuple):
    """A kept conversation: its file, the reference of its model, when it was last changed (local time), and its first
    words."""

    path: Path
    model: str
    changed: datetime
    begins: str


def folder() -> Path:
    """Where conversations are kept: one file each, readable by their owner alone."""
    return user_data_path("kurabe") / "chats"


def new_path() -> Path | None:
    """A file for a new conversation, or None where the user wants none kept."""
    if os.environ.get(NOTHING_KEPT):
        return None
    return folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.jsonl"


def keep(conversation: Conversation, path: Path) -> None:
    """Write the conversation. Raises InputError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(
            f"the conversation can't be kept in {path.parent}: {error.strerror}; {NOTHING_KEPT}=1 keeps none"
        ) from None
    conversation.save(path)


def kept() -> Iterator[KeptChat]:
    """The kept conversations, the latest first; files that can't be read are passed over."""
    if os.environ.get(NOTHING_KEPT):
        return
    try:
        paths = sorted(folder().glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return
    for path in paths:
        try:
            model = saved_model(path)
            first = next((m.text for m in Conversation.load(None, path).messages if m.role == "user"), "")
        except KurabeError:
            continue
        yield KeptChat(path, model or "", datetime.fromtimestamp(path.stat().st_mtime), first)


def last() -> KeptChat:
    """The latest conversation. Raises InputError where no conversation was kept."""
    if (chat := next(kept(), None)) is None:
        raise InputError("there is no earlier conversation to continue; start one with: kurabe chat REF")
    return chat
