"""The task as the journal keeps it and as reports show it: what a run was made with, without what may be a key."""

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kurabe.errors import HIDDEN, SECRET_NAME, without_secrets
from kurabe.tasks.file import contestant_specs
from kurabe.tasks.task import Task

PRIVATE = frozenset({"options", "headers", "extra"})
"""Settings whose texts go to a provider: any of them may be a key, so none is kept."""
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*@")
_QUERY = re.compile(r"\?(?=[\w.-]+=)\S*")
_LONG_WORD = re.compile(r"(?<![A-Za-z0-9_])(?:[A-Za-z0-9_+/=]{32,}|(?=[A-Z_a-z]*\d)(?=\d*[A-Z_a-z])[A-Za-z0-9_]{16,})")
"""What keys look like that no provider's form tells."""


def recorded_spec(task: Task, seed: int) -> str:
    """The task file as JSON, with the contestants' settings as `without_keys` leaves them, and `run`: the run's seed,
    and the name of the task's file, None for a task of a Python program."""
    listed = task.spec.contestants
    if listed is not None:
        listed = tuple(
            {spec.name: without_keys(spec.settings), "as": spec.label} for spec in contestant_specs(task.spec)
        )
    spec = msgspec.to_builtins(msgspec.structs.replace(task.spec, contestants=listed))
    return msgspec.json.encode(spec | {"run": {"seed": seed, "file": task.file}}).decode()


def without_keys(value: Any, *, private: bool = False) -> Any:
    """A setting as plain values, without what may be a key, an address's credentials or an object.

    >>> without_keys({"temperature": 0.5, "system": "Be brief.", "api_key": "abc", "options": {"base_url": "http://x"}})
    {'temperature': 0.5, 'system': 'Be brief.', 'api_key': '•••', 'options': {'base_url': '•••'}}
    >>> without_keys("https://me:pass@host.example/v1?token=1")
    'https://host.example/v1?•••'
    """
    if isinstance(value, Mapping):
        return {
            str(name): HIDDEN if SECRET_NAME.search(str(name)) and isinstance(one, str) else
            without_keys(one, private=private or name in PRIVATE or SECRET_NAME.search(str(name)) is not None)
            for name, one in value.items()
        }  # fmt: skip
    if isinstance(value, list | tuple):
        return [without_keys(one, private=private) for one in value]
    if isinstance(value, str):
        return HIDDEN if private else masked_text(value)
    plain = value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else None


def masked_text(text: str) -> str:
    """`text` without keys, without the credentials and options of addresses, and without long words with digits."""
    text = _QUERY.sub(f"?{HIDDEN}", _CREDENTIALS.sub("", without_secrets(text)))
    return _LONG_WORD.sub(HIDDEN, text)
