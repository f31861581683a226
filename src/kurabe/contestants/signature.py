"""Which saved contestants this user has saved, by a signature whose key lies in the user's data folder.

Estimators hand what they have loaded to C code, which trusts it: a forged tree or booster reads and writes any memory.
What this user has saved is loaded as it is; `soundness.py` checks what somebody else has.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from kurabe.errors import ContestantError

_SIZE: Final = 32  # bytes of a key


def sign(digest: str) -> str:
    """The signature of a file by its SHA-256, both in hexadecimal digits.

    Raises ContestantError where the user's key can't be read or made.
    """
    return _signature(_key(), digest)


def is_signed(digest: str, signature: str) -> bool:
    """Whether this user has signed the file with this SHA-256."""
    try:
        key = _path().read_bytes()
    except OSError:
        return False
    return len(key) == _SIZE and hmac.compare_digest(_signature(key, digest).encode(), signature.encode())


def _signature(key: bytes, digest: str) -> str:
    return hmac.new(key, f"saved contestant {digest}".encode(), hashlib.sha256).hexdigest()


def _path() -> Path:
    from platformdirs import user_data_path

    return user_data_path("kurabe", appauthor=False) / "contestants.key"


def _key() -> bytes:
    """The user's key, made the first time."""
    path = _path()
    try:
        if not path.exists():
            _create(path)
        key = path.read_bytes()
    except OSError as error:
        raise ContestantError(f"the key that signs it, {path}, cannot be read or made: {error.strerror}") from None
    if len(key) != _SIZE:
        raise ContestantError(f"{path} is not a key of kurabe's: remove it, and another one is made")
    return key


def _create(path: Path) -> None:
    """Write a new key, whole or not at all, and none over that of another process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".key-") as file:  # for its owner alone
        file.write(secrets.token_bytes(_SIZE))
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)
