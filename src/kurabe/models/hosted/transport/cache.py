"""A cache of replies in SQLite, off unless asked for."""

import hashlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from kurabe.errors import InputError
from kurabe.messages import Reply
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.files.private import create_private

VERSION = 1
KEPT = ("stop", "tool_calls")
"""A refusal, or an answer that was cut off, is asked again."""
_ASKED_AT_ONCE = 500  # SQLite takes 999 parameters at least


class Table:
    """Bytes by a key of bytes, in one table of a SQLite file that threads and processes may share."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._name = name
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            create_private(path)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {name} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"the cache {path} can't be used: {error}; delete it or name another file") from None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values that are there; raises InputError where the file is damaged."""
        found: dict[bytes, bytes] = {}
        try:
            with self._lock:
                for at in range(0, len(keys), _ASKED_AT_ONCE):
                    part = keys[at : at + _ASKED_AT_ONCE]
                    places = ",".join("?" * len(part))
                    query = f"SELECT * FROM {self._name} WHERE key IN ({places})"
                    found.update(self._database.execute(query, part))
        except sqlite3.DatabaseError as error:
            raise InputError(f"the cache {self.path} is damaged: {error}; delete it") from None
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values, all or none. Where that fails (a full disk) they are not kept, and not lost either: they have
        been paid for."""
        try:
            with self._lock:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    self._database.executemany(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", values.items())
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OverflowError):
            return

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


class Cache:
    """Replies by everything that shapes them: provider, model, path, query, body and headers, the key left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = Table(path, f"replies_{VERSION}")

    def key(self, where: str, model: str, wire: HttpRequest) -> bytes:
        """The name under which the reply lies. It does not depend on `stream`, which codecs put into path or body."""
        return hashlib.sha256(msgspec.msgpack.encode([where, model, wire], order="sorted")).digest()

    def get(self, key: bytes) -> Reply | None:
        """The reply, free and without waiting, or None."""
        value = self._table.get([key]).get(key)
        if value is None:
            return None
        try:
            reply = msgspec.msgpack.decode(value, type=Reply)
        except msgspec.DecodeError as error:
            raise InputError(f"the cache {self.path} is damaged: {error}; delete it") from None
        return msgspec.structs.replace(reply, usd=0.0, seconds=0.0, first_seconds=None)

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep a whole answer, unless a number in it has no place in the file."""
        if reply.finish_reason not in KEPT:
            return
        try:
            value = msgspec.msgpack.encode(reply)
        except (OverflowError, UnicodeError):
            return
        self._table.put({key: value})
