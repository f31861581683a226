"""Every error a user can meet. Each message says what is wrong, where, and what to do next.

The command line prints the message alone and exits with `exit_code`; `--debug` adds the traceback.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from typing import Any
from unicodedata import category


class KurabeError(Exception):
    """The root of all errors that kurabe raises on purpose."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class TaskError(KurabeError):
    """The task file is not valid: syntax, an unknown key, a value of the wrong type, a broken template."""


class DataError(KurabeError):
    """The data cannot be used: a missing file or column, a ragged line, a wrong encoding, text in a number column."""


class ContestantError(KurabeError):
    """An unknown contestant or setting, or a contestant that does not fit the task's kind."""


class NotTrainedError(ContestantError):
    """A trained contestant is missing, damaged, of another version or of somebody else, and has to be trained again."""


class MissingExtraError(KurabeError):
    """A part of kurabe that is installed separately is not there; the message holds the `pip install` line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}'. Install it with: pip install 'kurabe[{extra}]'")
        self.extra = extra


class ModelError(KurabeError):
    """A model can't be found, loaded or run."""


class ModelTooLargeError(ModelError):
    """A model needs more memory than is free; it was not loaded. The message says how much, and what would fit."""


class TuningError(KurabeError):
    """A model can't be tuned so: a row, a setting or what was kept of an earlier try does not fit."""


class InputError(KurabeError):
    """What was given to a model can't be used: a broken image, a tool or schema that can't be described, a
    setting that the model does not take."""


class ProviderError(ModelError):
    """A hosted model gave no answer. Each cause has a class of its own.

    The message names the provider, the model, the status and the request, and says what to do next. It never has a key.

    Parameters
    ----------
    message : str
        What the provider says.
    status : int, optional
        The HTTP status.
    code : str
        The provider's name for the error.
    retry_after : float, optional
        How long the provider asks to wait, in seconds.
    partial : Reply, optional
        What had come of a stream before it broke.
    sent : bool
        False if the request certainly never reached the provider.
    """

    what = "gave no answer"
    next_step = ""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str = "",
        retry_after: float | None = None,
        partial: Any = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.partial = partial
        self.sent = sent
        self.should_retry: bool | None = None
        self.provider = ""
        self.model = ""
        self.request_id = ""
        self.attempts = 1

    def __str__(self) -> str:
        where = f"{self.provider}:{self.model}" if self.model else self.provider or "the provider"
        facts = [f"status {self.status}"] if self.status is not None else []
        facts += [self.code] if self.code else []
        facts += [f"request {self.request_id}"] if self.request_id else []
        facts += [f"{self.attempts} attempts"] if self.attempts > 1 else []
        text = f"{where} {self.what}" + (f" ({', '.join(facts)})" if facts else "")
        text += f": {self.message.strip()[:600]}" if self.message.strip() else ""
        ended = text if text.endswith((".", "!", "?")) else text + "."
        return printable(without_secrets(ended + (f" {self.next_step}" if self.next_step else "")))


class BadRequestError(ProviderError):
    """The provider does not accept the request: status 400, 409, 422 and the like."""

    what = "refused the request"
    next_step = "Change what the message names; sending it again will not help."


class AuthenticationError(ProviderError):
    """The key is missing, wrong or expired: status 401."""

    what = "does not accept the key"
    next_step = "Check the key with `kurabe providers`, and set it with `kurabe keys set`."

    def __str__(self) -> str:
        if self.provider.startswith("openai@"):  # a server of one's own, which the keyring does not know
            self.next_step = "Name the environment's variable with its key by `?key=VARIABLE`, or give `api_key`."
        return super().__str__()


class PermissionDeniedError(ProviderError):
    """The key is valid and may not do this: status 403."""

    what = "does not allow this"
    next_step = "Ask for access to the model, or use a key that has it."


class NotFoundError(ProviderError):
    """No such model or address: status 404."""

    what = "knows no such model or address"
    next_step = "`kurabe models PROVIDER` lists the models."

    def __str__(self) -> str:
        if self.provider == "ollama" and self.model:
            self.next_step = f"Where it is not downloaded yet, fetch it with: kurabe pull ollama:{self.model}"
        return super().__str__()


class RequestTooLargeError(ProviderError):
    """The request's body is too large: status 413."""

    what = "finds the request too large"
    next_step = "Send smaller images or documents, or less text."


class ContextTooLongError(BadRequestError):
    """The conversation is longer than the model's context. `tokens` and `limit` are those the provider names."""

    what = "finds the conversation longer than its context"
    next_step = "Shorten it, or use a model with a longer context."

    def __init__(self, message: str = "", *, tokens: int | None = None, limit: int | None = None, **facts: Any) -> None:
        if tokens is not None and limit is not None and tokens > limit:
            message = f"{tokens - limit:,} tokens too many ({tokens:,} of {limit:,}). {message}"
        super().__init__(message, **facts)
        self.tokens = tokens
        self.limit = limit


class ContentFilteredError(ProviderError):
    """The provider's content filter stopped the request or the answer."""

    what = "stopped this by its content filter"
    next_step = "Change the text, or ask another model."


class RateLimitedError(ProviderError):
    """Too many requests or tokens: status 429."""

    what = "says: too many requests"
    next_step = "Wait, or lower the concurrency or the limits."


class QuotaExceededError(RateLimitedError):
    """The account's quota or credit is used up: waiting will not help."""

    what = "says that the account's quota is used up"
    next_step = "Add credit or raise the quota with the provider."


class ServerError(ProviderError):
    """The provider failed: status 500, 502 and the like."""

    what = "failed"
    next_step = "Try again later."


class OverloadedError(ServerError):
    """The provider is overloaded: status 503 or 529."""

    what = "is overloaded"
    next_step = "Try again later, or name another model to fall back on: 'a | b'."


class CallTimeoutError(ProviderError):
    """No answer in time: to connect, to the first byte, between bytes, or in all."""

    what = "did not answer in time"
    next_step = "Try again, or allow more time with `timeout=`."


class ConnectionFailedError(ProviderError):
    """The connection could not be made, or broke before an answer came."""

    what = "could not be reached"
    next_step = "Check the network, the address and the proxy."

    def __str__(self) -> str:
        self.next_step = START.get(self.provider, self.next_step).format(model=self.model or "MODEL")
        return super().__str__()


START = {
    "ollama": "Start it with `ollama serve` (or its app), or give its address by OLLAMA_HOST;"
    " 'gguf:ollama/{model}' runs a model that it has downloaded without it.",
    "vllm": "Start it with `vllm serve {model}`, or give its address by VLLM_BASE_URL.",
    "sglang": "Start it with `python -m sglang.launch_server --model-path {model}`, or give its address by"
    " SGLANG_BASE_URL.",
    "llama-server": "Start it with `llama-server -m FILE.gguf`, or give its address by LLAMA_SERVER_BASE_URL.",
    "lmstudio": "Start it with `lms server start`, or give its address by LMSTUDIO_BASE_URL.",
}
"""What to do where a server of one's own does not answer."""


class CutStreamError(ProviderError):
    """A stream ended without its terminal event. `partial` is the Reply made of what came."""

    what = "broke off in the middle of the answer"
    next_step = "What came is in `error.partial`; ask again for a whole answer."


class UnreadableAnswerError(ProviderError):
    """The answer is not what the provider's format says: no JSON, no text, cut short."""

    what = "sent an answer that can't be read"
    next_step = "Ask again; where it stays so, check that the address speaks this provider's format."


class AnswerTooLargeError(UnreadableAnswerError):
    """The answer, after it is unpacked, is larger than any real one. It is not asked for again."""

    what = "sent an answer that is too large"
    next_step = "Check the address; a real answer is never this large."


class OutputError(ProviderError):
    """The answer does not follow the schema that `output=` asked for. `partial` is the Reply."""

    what = "answered with something else than the schema asks for"
    next_step = "Ask again, loosen the schema, or allow more tokens."


class DownloadError(KurabeError):
    """A model or data set could not be fetched, or what came is not what was asked for."""


class JournalError(KurabeError):
    """The journal cannot be read or written: another version, damaged, locked, or a full disk."""


class BudgetExceededError(KurabeError):
    """The task's budget of dollars or minutes is used up."""


class PluginError(KurabeError):
    """A package that adds to kurabe cannot be imported, or adds what is not what its group wants."""


class AnswerMissingError(KurabeError):
    """A human contestant has not answered the rows that were asked for."""


SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|pk|rk|hf|ghp|gsk|xai)[-_][A-Za-z0-9_-]{12,}")
SHORTEST_SECRET = 8
"""Characters: a shorter value is no secret, and would blank innocent words."""
_LONGEST = 10_000  # characters of an error
_KEPT = "\n\t\u200c\u200d"
HIDDEN = "•••"
"""What stands for a secret."""


def without_secrets(text: str) -> str:
    """`text` without the values of the environment's keys and without what has the form of a provider's key.

    >>> without_secrets("Incorrect API key provided: sk-proj-0123456789abcdef")
    'Incorrect API key provided: •••'
    """
    for variable, value in os.environ.items():
        if len(value) >= SHORTEST_SECRET and SECRET_NAME.search(variable):
            text = text.replace(value, HIDDEN)
    return _SECRET.sub(HIDDEN, text)


def printable(text: str) -> str:
    """`text` as it may stand in a terminal or a log: without control characters, which a terminal would obey, and
    without those that change the direction of text or can't be seen. Line ends, tabs and the joiners of emoji and of
    Persian stay.

    >>> printable("a \x1b[2Jb\u202e")
    'a [2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c for c in text if c.isprintable() or c in _KEPT or category(c) not in {"Cc", "Cf", "Cs"})


def text_of(error: BaseException) -> str:
    """What an error says, as it can be kept: no more of it than anybody reads, and '' where its class can't say it.

    >>> text_of(FileNotFoundError("caf" + chr(0xDCE9) + ".csv"))
    'caf?.csv'
    """
    try:
        text = str(error)
    except Exception:
        return ""
    return text[:_LONGEST].encode("utf-8", "replace").decode()


def is_disk_full(error: OSError) -> bool:
    """Whether no more could be written: the disk, a quota or a file's greatest size is reached."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
