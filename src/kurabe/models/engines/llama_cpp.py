"""GGUF models in this process: llama.cpp's own server core through xllamacpp.

Answers do not depend on what else is in the batch. With llama.cpp's defaults they do: with keys and values in half
precision, attention takes one path for a single token and others for several, and each sums in another order. With keys
and values in bfloat16, flash attention has only the path that computes every token by itself, so a greedy answer is the
same alone, in a batch, in any order, and with or without a cached prefix. `tests/models/test_llama_cpp.py` holds this
for the wheels on x86; a graphics processor or a build for other instructions may differ in the last bits.

A small model runs once on each core rather than once on all of them: the weights are mapped into memory once, no core
ever waits for another, and another busy process costs its share instead of stalling every layer.
"""

import asyncio
import http.client
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import xllamacpp

from kurabe.errors import ModelError
from kurabe.messages import Delta, Message, Reply, Request, TokenLogprob, Usage
from kurabe.models.base import ChatModel
from kurabe.models.codecs.base import Codec, Profile
from kurabe.models.engines.base import Piece
from kurabe.models.gguf import read_header
from kurabe.models.reference import Reference
from kurabe.models.request import fit

DEFAULT_CONTEXT: Final = 4096
SMALL_BYTES: Final = 1_000_000_000
MOST_SERVERS: Final = 4
_POLL_SECONDS: Final = 0.5
_BATCH_TOKENS: Final = 256


class _Lane(NamedTuple):
    """One place where a request can run: a slot of one of the servers."""

    server: Any
    slot: int


class _Takes(Codec):
    """What the engine can express of a Request."""

    settings: ClassVar[frozenset[str]] = frozenset({
        "prefill", "max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed",
        "stop", "grammar", "output", "logprobs",
    })  # fmt: skip
    parts: ClassVar[frozenset[str]] = frozenset({"text"})


class LlamaCpp(ChatModel):
    """A model loaded from a GGUF file. `context`: tokens one request may use, prompt and answer together."""

    def __init__(self, path: Path, parsed: Reference) -> None:
        reference, context = str(parsed), parsed.number("context")
        trained = read_header(path).context_length or DEFAULT_CONTEXT
        if context is not None and context > trained:
            raise ModelError(f"{reference!r} asks for a context of {context} tokens, and the model has {trained}")
        self.reference = reference
        self.context = context or min(trained, DEFAULT_CONTEXT)
        self._key = secrets.token_urlsafe(16)
        self._folder = tempfile.TemporaryDirectory(prefix="kurabe-", ignore_cleanup_errors=True)
        servers, threads, slots = _layout(path.stat().st_size, _cores())
        self._lanes: list[_Lane] = []
        for _ in range(servers):
            server = _start(path, self.context, threads, slots, self._key, self._folder.name)
            self._lanes += [_Lane(server, slot) for slot in range(slots)]
        self._free: SimpleQueue[_Lane] = SimpleQueue()
        for lane in self._lanes:
            self._free.put(lane)
        self._last: _Lane | None = None

    def chat_batches(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Each reply by itself: a local model is slower than any disk."""
        return ([pair] for pair in self.chat_many(requests))

    def takes(self, setting: str) -> bool:
        """Whether the engine takes a field of Request."""
        return setting in _Takes.settings

    def chat_many(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (index, reply) as replies come. Requests are drawn at most two for each slot ahead of the replies.

        Raises ModelError where a request does not fit the context or its grammar is not valid.
        """
        self._require_open()
        cancelled = threading.Event()
        pool = ThreadPoolExecutor(len(self._lanes), thread_name_prefix="kurabe-llama")
        pending: dict[Future[Reply], int] = {}
        numbered = enumerate(requests)
        exhausted = False
        # The first request goes alone, so that the prefix it shares with the others is evaluated once.
        limit = 1
        try:
            while pending or not exhausted:
                while not exhausted and len(pending) < limit:
                    if (drawn := next(numbered, None)) is None:
                        exhausted = True
                    else:
                        pending[pool.submit(self._chat, drawn[1], cancelled)] = drawn[0]
                done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    index, reply = pending.pop(future), future.result()
                    if limit == 1:
                        limit = 2 * len(self._lanes)
                        self._share_prefix(reply)
                    yield index, reply
        finally:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, request: Request) -> Reply:
        """Answer a Request; the model works in a thread of its own."""
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._chat, self._fitted(request), cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        request = self._fitted(request)
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | Reply | BaseException] = asyncio.Queue()
        cancelled = threading.Event()

        def put(piece: str | Reply | BaseException) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def work() -> None:
            try:
                put(self._chat(request, cancelled, put))
            except BaseException as error:
                put(error)

        began, first = time.perf_counter(), None
        threading.Thread(target=work, name="kurabe-llama", daemon=True).start()
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                if isinstance(piece, Reply):
                    yield msgspec.structs.replace(piece, first_seconds=first)
                    return
                first = first or time.perf_counter() - began
                yield [Delta(piece)]
        finally:
            cancelled.set()

    def _fitted(self, request: Request) -> Request:
        self._require_open()
        return fit(request, _Takes(), Profile(), self.reference, "error")

    def count_tokens(self, text: str) -> int:
        """The number of tokens of `text` by itself, without the chat template's."""
        return len(self._post("/tokenize", {"content": _encodable(text)})["tokens"])

    def tokenize(self, text: str, *, special: bool = True) -> list[Piece]:
        """The tokens of `text`. `special`: names of special tokens in the text become those tokens, and what the model
        puts before every text is added; else the text is only text."""
        body = {"content": _encodable(text), "with_pieces": True, "add_special": special, "parse_special": special}
        return [
            Piece(token["id"], _piece_bytes(token["piece"]))
            for token in self._post("/tokenize", body)["tokens"]
        ]  # fmt: skip

    def name_of(self, token: int) -> str:
        """The name of a special token such as `<|im_end|>`; of another token, its text."""
        name: str = self._post("/detokenize", {"tokens": [token]})["content"]
        return name

    def render(self, messages: Iterable[Message]) -> str:
        """The conversation as the model reads it: through its chat template, the assistant's turn opened."""
        listed = [{"role": message.role, "content": _encodable(message.text)} for message in messages]
        prompt: str = self._post("/apply-template", {"messages": listed})["prompt"]
        return prompt

    def next_tokens(self, ids: Sequence[int], count: int) -> list[tuple[Piece, float]]:
        """The `count` likeliest tokens behind the tokens `ids`, the likeliest first, with their natural
        log-probabilities before any setting of sampling; all of the vocabulary where it has fewer. A special token
        stands for no bytes.

        llama.cpp adds up in float32, so that the whole vocabulary's probabilities sum to 1 within 0.001.
        """
        if not ids:
            raise ModelError(f"{self.reference!r} needs at least one token to say what comes next: the text is empty")
        self._require_open()
        free = self._free
        lane = free.get()
        body: dict[str, Any] = {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "logprobs": count}
        # llama.cpp reports nothing of a token that ends inside a character. The reported probabilities are those before
        # the bias, which only makes sure that the token that is taken, and not looked at, is a whole letter.
        body |= {"logit_bias": [["a", 1000]], "cache_prompt": True, "id_slot": lane.slot, "stream": True}
        chunks: list[dict[str, Any]] = []
        try:
            lane.server.handle_completions(body, chunks.append)
        finally:
            free.put(lane)
        for chunk in chunks:
            if "error" in chunk:
                raise _error(self.reference, chunk["error"])
            for entry in _logprobs(chunk):
                return [(Piece(top["id"], bytes(top["bytes"])), top["logprob"]) for top in entry["top_logprobs"]]
        raise ModelError(f"the model {self.reference!r} gave no probabilities")

    def close(self) -> None:
        """Release the model's memory; a closed model can't be used again."""
        self._lanes.clear()
        self._free = SimpleQueue()
        self._last = None
        self._folder.cleanup()

    def _require_open(self) -> None:
        if not self._lanes:
            raise ModelError(f"the model {self.reference!r} is closed; open it again")

    def _chat(self, request: Request, cancelled: threading.Event, put: Callable[[str], None] | None = None) -> Reply:
        body = self._body(request)
        free = self._free
        lane = free.get()
        try:
            reply = self._complete(lane, body, request.logprobs or 0, cancelled, put)
            self._last = lane
            return reply
        finally:
            free.put(lane)

    def _complete(
        self,
        lane: _Lane,
        body: dict[str, Any],
        alternatives: int,
        cancelled: threading.Event,
        put: Callable[[str], None] | None,
    ) -> Reply:
        began = time.perf_counter()
        pieces: list[str] = []
        logprobs: list[dict[str, Any]] = []
        last: dict[str, Any] = {}

        def take(chunk: dict[str, Any]) -> bool:
            """Called with each token and each batch of the prompt; True ends the request."""
            last.update(chunk)
            logprobs.extend(_logprobs(chunk))
            for choice in chunk.get("choices", ()):
                pieces.append(choice["text"])
                if put is not None and choice["text"]:
                    put(choice["text"])
            return cancelled.is_set()

        lane.server.handle_completions(body | {"id_slot": lane.slot}, take)
        if "error" in last:
            raise _error(self.reference, last["error"])
        if "usage" not in last:
            raise ModelError(f"the model {self.reference!r} was stopped in the middle of an answer")
        usage = last["usage"]
        return Reply(
            content="".join(pieces),
            finish_reason="length" if last["choices"][0]["finish_reason"] == "length" else "stop",
            usage=Usage(
                input=usage["prompt_tokens"],
                output=usage["completion_tokens"],
                cached=usage["prompt_tokens_details"]["cached_tokens"],
            ),
            usd=0.0,
            seconds=time.perf_counter() - began,
            logprobs=tuple(_token_logprob(entry, alternatives) for entry in logprobs),
        )

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": self.render(request.messages) + _encodable(request.prefill),
            "max_tokens": -1 if request.max_tokens is None else request.max_tokens,
            "temperature": request.temperature or 0.0,
            "seed": request.seed or 0,
            "stop": list(request.stop),
            "cache_prompt": True,
            "stream": True,
            "return_progress": True,
        }
        for name in ("top_p", "top_k", "frequency_penalty", "presence_penalty", "grammar"):
            if (value := getattr(request, name)) is not None:
                body[name] = value
        if request.logprobs is not None:
            body["logprobs"] = max(request.logprobs, 1)  # with 0, llama.cpp leaves out the token's own as well
        if request.output is not None:
            body["json_schema"] = request.output.schema
        return body | request.extra

    def _share_prefix(self, first: Reply) -> None:
        """Copy what the first request left in its slot to every other slot, unless most of it was cached before."""
        source = self._last
        if source is None or first.usage.cached * 2 >= first.usage.input:
            return
        lanes = [self._free.get() for _ in self._lanes]
        try:
            self._post(f"/slots/{source.slot}?action=save", {"filename": "prefix"}, source.server)
            for lane in lanes:
                if lane != source:
                    self._post(f"/slots/{lane.slot}?action=restore", {"filename": "prefix"}, lane.server)
        except ModelError:
            pass  # a full disk, say: each slot then evaluates the prefix by itself
        finally:
            for lane in lanes:
                self._free.put(lane)

    def _post(self, path: str, body: dict[str, Any], server: Any = None) -> Any:
        """Ask one of the server's endpoints that xllamacpp does not bind. Its port is on the loopback and has a key."""
        self._require_open()
        address = urlsplit((server or self._lanes[0].server).listening_address)
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


def _layout(file_bytes: int, cores: int) -> tuple[int, int, int]:
    """(servers, threads of each, slots of each) for a model file of that size.

    Reading a large model's weights from memory takes longest, so all cores share one pass over them. A small model's
    weights stay in the cache, and waiting for each other would take longest.
    """
    if file_bytes >= SMALL_BYTES:
        return 1, cores, 4
    servers = min(cores, MOST_SERVERS)
    return servers, cores // servers, 2


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(path: Path, context: int, threads: int, slots: int, key: str, folder: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.verbosity = -1
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.kv_unified = False
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_BF16
    params.cache_ram_mib = 0
    params.warmup = False
    params.offline = True
    params.api_keys = [key]
    params.ui = params.endpoint_props = params.endpoint_metrics = False
    params.endpoint_slots = True
    params.slot_save_path = folder + os.sep
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


def _logprobs(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of a chunk that hold a token with its probability and the likeliest in its place."""
    for choice in chunk.get("choices", ()):
        yield from (choice.get("logprobs") or {}).get("content", ())


def _token_logprob(entry: dict[str, Any], alternatives: int) -> TokenLogprob:
    """Of a character that is cut into several tokens llama.cpp reports one entry, with the last one's probability."""
    top = tuple((other["token"], other["logprob"]) for other in entry["top_logprobs"][:alternatives])
    return TokenLogprob(entry["token"], entry["logprob"], top)


def _piece_bytes(piece: str | list[int]) -> bytes:
    """llama.cpp gives a piece that is no text by itself as a list of its bytes."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def _encodable(text: str) -> str:
    """`text` with lone surrogates, which have no UTF-8 form, replaced by '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
