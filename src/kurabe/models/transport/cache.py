"""A cache of replies in SQLite, off unless asked for."""

import hashlib
import sqlite3
import threading
from pathlib import Path

import msgspec

from kurabe.errors import InputError
from kurabe.messages import Reply
from kurabe.models.codecs.base import HttpRequest

VERSION = 1
KEPT = ("stop", "tool_calls")
"""A refusal, or an answer that was cut off, is asked again."""


class Cache:
    """Replies by everything that shapes them: provider, model, path, query, body and headers, the key left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                f"CREATE TABLE IF NOT EXISTS replies_{VERSION} (key BLOB PRIMARY KEY, reply BLOB NOT NULL)"
            )
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"the cache {path} can't be used: {error}; delete it or name another file") from None

    def key(self, where: str, model: str, wire: HttpRequest) -> bytes:
        """The name under which the reply lies. It does not depend on `stream`, which codecs put into path or body."""
        return hashlib.sha256(msgspec.msgpack.encode([where, model, wire], order="sorted")).digest()

    def get(self, key: bytes) -> Reply | None:
        """The reply, free and without waiting, or None."""
        try:
            with self._lock:
                row = self._database.execute(f"SELECT reply FROM replies_{VERSION} WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            reply = msgspec.msgpack.decode(row[0], type=Reply)
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            raise InputError(f"the cache {self.path} is damaged: {error}; delete it") from None
        return msgspec.structs.replace(reply, usd=0.0, seconds=0.0, first_seconds=None)

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep a whole answer. Where that fails (a full disk, a number that has no place in the file) it is not kept,
        and not lost either: it has been paid for."""
        if reply.finish_reason not in KEPT:
            return
        try:
            row = (key, msgspec.msgpack.encode(reply))
            with self._lock:
                self._database.execute(f"INSERT OR REPLACE INTO replies_{VERSION} VALUES (?, ?)", row)
        except (sqlite3.Error, OverflowError, UnicodeError):
            return
