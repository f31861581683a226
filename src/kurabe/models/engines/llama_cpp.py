"""GGUF models in this process: llama.cpp's own server core through xllamacpp.

Answers do not depend on what else is in the batch. With llama.cpp's defaults they do: flash attention sums in blocks
whose borders follow the batch, and half-precision keys take another code path for one token than for several. Without
flash attention and with keys and values in bfloat16 every row of a batch is computed by the same instructions whatever
stands beside it, so a greedy answer is the same alone, in a batch, in any order, and with or without a cached prefix.
"""

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import xllamacpp

from kurabe.errors import ModelError
from kurabe.messages import Reply, Request, Usage
from kurabe.models.gguf import read_header

SLOTS: Final = 4
DEFAULT_CONTEXT: Final = 4096
_POLL_SECONDS: Final = 0.5


class LlamaCpp:
    """A model loaded from a GGUF file. `context`: tokens one request may use, prompt and answer together."""

    def __init__(self, path: Path, *, reference: str, context: int | None = None) -> None:
        trained = read_header(path).context_length or DEFAULT_CONTEXT
        if context is not None and context > trained:
            raise ModelError(f"{reference!r} asks for a context of {context} tokens, and the model has {trained}")
        self.reference = reference
        self.context = context or min(trained, DEFAULT_CONTEXT)
        self._key = secrets.token_urlsafe(16)
        self._cancelled = threading.Event()
        self._server: Any = _start(path, self.context, self._key)

    def chat_many(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (index, reply) as replies come. At most twice SLOTS requests are drawn ahead of the replies taken.

        Raises ModelError where a request does not fit the context or its grammar is not valid.
        """
        self._open_server()
        cancelled = threading.Event()
        pool = ThreadPoolExecutor(SLOTS, thread_name_prefix="kurabe-llama")
        pending: dict[Future[Reply], int] = {}
        numbered = enumerate(requests)
        try:
            # The first request goes alone, so that the prefix it shares with the others is cached before they start.
            limit = 1
            exhausted = False
            while pending or not exhausted:
                while not exhausted and len(pending) < limit:
                    drawn = next(numbered, None)
                    if drawn is None:
                        exhausted = True
                    else:
                        pending[pool.submit(self._chat, drawn[1], cancelled)] = drawn[0]
                done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    yield pending.pop(future), future.result()
                    limit = 2 * SLOTS
        finally:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def count_tokens(self, text: str) -> int:
        """The number of tokens of `text` by itself, without the chat template's."""
        return len(self._post("/tokenize", {"content": _encodable(text)})["tokens"])

    def close(self) -> None:
        """Release the model's memory; a closed model can't be used again."""
        self._server = None

    def _open_server(self) -> Any:
        if self._server is None:
            raise ModelError(f"the model {self.reference!r} is closed; open it again")
        return self._server

    def _chat(self, request: Request, cancelled: threading.Event) -> Reply:
        server = self._open_server()
        began = time.perf_counter()
        pieces: list[str] = []
        last: dict[str, Any] = {}

        def take(chunk: dict[str, Any]) -> bool:
            """Called for each token from the engine's thread; True ends the request."""
            last.update(chunk)
            pieces.extend(choice["text"] for choice in chunk.get("choices", ()))
            return cancelled.is_set()

        server.handle_completions(self._body(request), take)
        if "error" in last:
            raise _error(self.reference, last["error"])
        if "usage" not in last:
            raise ModelError(f"the model {self.reference!r} was stopped in the middle of an answer")
        usage = last["usage"]
        return Reply(
            text="".join(pieces),
            finish_reason="length" if last["choices"][0]["finish_reason"] == "length" else "stop",
            usage=Usage(
                input=usage["prompt_tokens"],
                output=usage["completion_tokens"],
                cached=usage["prompt_tokens_details"]["cached_tokens"],
            ),
            usd=0.0,
            seconds=time.perf_counter() - began,
        )

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": message.role, "content": _encodable(message.content)} for message in request.messages]
        prompt = self._post("/apply-template", {"messages": messages})["prompt"] + _encodable(request.prefill)
        body: dict[str, Any] = {
            "prompt": prompt,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "stop": list(request.stop),
            "cache_prompt": True,
            "stream": True,
        }
        return body if request.grammar is None else body | {"grammar": request.grammar}

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask one of the server's endpoints that xllamacpp does not bind. Its port is on the loopback and has a key."""
        address = urlsplit(self._open_server().listening_address)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise _error(self.reference, answer["error"])
        return answer


def _start(path: Path, context: int, key: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.verbosity = -1
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * context
    params.kv_unified = False
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_BF16
    params.cache_ram_mib = 0
    params.warmup = False
    params.offline = True
    params.api_keys = [key]
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ModelError(f"llama.cpp cannot load {path}: {error}") from None


def _error(reference: str, error: dict[str, Any]) -> ModelError:
    if error.get("type") == "exceed_context_size_error":
        return ModelError(
            f"a prompt of {error['n_prompt_tokens']} tokens does not fit the context of {error['n_ctx']} tokens of "
            f"{reference!r}; shorten the input, show fewer examples, or raise the context with ?context=…"
        )
    return ModelError(f"the model {reference!r} refused a request: {error.get('message', error)}")


def _encodable(text: str) -> str:
    """`text` with lone surrogates, which have no UTF-8 form, replaced by '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
