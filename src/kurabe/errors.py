"""Every error a user can meet. Each message says what is wrong, where, and what to do next.

The command line prints the message alone and exits with `exit_code`; `--debug` adds the traceback.
"""

import difflib
import os
import re
from collections.abc import Iterable


class KurabeError(Exception):
    """The root of the tree: catch this to catch everything kurabe raises on purpose."""

    exit_code = 2


class TaskError(KurabeError):
    """The task file is not valid: syntax, an unknown key, a value of the wrong type, a broken template."""


class DataError(KurabeError):
    """The data cannot be used: a missing file or column, a ragged line, a wrong encoding, text in a number column."""


class ContestantError(KurabeError):
    """An unknown contestant or setting, or a contestant that does not fit the task's kind."""


class MissingExtraError(KurabeError):
    """A part of kurabe that is installed separately is not there; the message holds the `pip install` line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}'. Install it with: pip install 'kurabe[{extra}]'")
        self.extra = extra


class ModelError(KurabeError):
    """A model could not be found, loaded or run."""


class DownloadError(KurabeError):
    """A model or data set could not be fetched, or what came is not what was asked for."""


class JournalError(KurabeError):
    """The journal cannot be read or written: another version, damaged, locked, or a full disk."""


class BudgetExceededError(KurabeError):
    """The task's budget of dollars or minutes is used up."""


class AnswerMissingError(KurabeError):
    """A human contestant has not answered the rows that were asked for."""


_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|pk|rk|hf|ghp|gsk|xai)[-_][A-Za-z0-9_-]{12,}")
_SECRET_LENGTH = 8  # a shorter value of such a variable is no secret, and would blank innocent words


def without_secrets(text: str) -> str:
    """`text` without the values of the environment's keys and without what has the form of a provider's key.

    >>> without_secrets("Incorrect API key provided: sk-proj-0123456789abcdef")
    'Incorrect API key provided: •••'
    """
    for variable, value in os.environ.items():
        if len(value) >= _SECRET_LENGTH and _SECRET_NAME.search(variable):
            text = text.replace(value, "•••")
    return _SECRET.sub("•••", text)


def nearest(name: str, options: Iterable[str]) -> str:
    """A sentence part such as `; did you mean 'price'?`, or '' where nothing is near.

    >>> nearest("prise", ["price", "title"])
    "; did you mean 'price'?"
    """
    matches = difflib.get_close_matches(name.lower(), by_lower := {option.lower(): option for option in options}, n=1)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


def missing(what: str, name: str, options: Iterable[str]) -> str:
    """`no column 'prise'; did you mean 'price'? There are: 'price', 'title'`: one form for every unknown name.

    >>> missing("column", "prise", ["price", "title"])
    "no column 'prise'; did you mean 'price'? There are: 'price', 'title'"
    """
    options = list(options)
    hint = nearest(name, options) or "."
    listed = ", ".join(repr(option) for option in options[:20]) + (", …" if len(options) > 20 else "")
    return f"no {what} {name!r}{hint} There are: {listed or 'none'}"
