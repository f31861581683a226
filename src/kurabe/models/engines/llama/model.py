"""GGUF models in this process: llama.cpp's own server core through xllamacpp.

Answers do not depend on what else is in the batch. With llama.cpp's defaults they do: with keys and values in half
precision, attention takes one path for a single token and others for several, and each sums in another order. With keys
and values in bfloat16, flash attention has only the path that computes every token by itself, so a greedy answer is the
same alone, in a batch, in any order, and with or without a cached prefix. `tests/models/test_llama_cpp.py` holds this
for the wheels on x86 and quantized weights; weights in float32, a graphics processor or a build for other instructions
may differ in the last bits.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar

import msgspec
import numpy as np

from kurabe.errors import ContextTooLongError, InputError, ModelError
from kurabe.messages import Delta, Message, Reply, Request, TokenLogprob, Tool, Usage
from kurabe.models import loop
from kurabe.models.codecs.base import Codec, Profile, Ranking
from kurabe.models.engines.base import Generated, LocalModel, Piece
from kurabe.models.engines.chat_template import ChatTemplate
from kurabe.models.engines.choices import Node
from kurabe.models.engines.gbnf import check_grammar
from kurabe.models.engines.llama._embed import MEAN, RANK, embed, pooling, rerank
from kurabe.models.engines.llama._score import WHOLE, Likely, entries, likeliest, likelihoods, shares
from kurabe.models.engines.llama._tools import chat_with_tools
from kurabe.models.engines.llama.server import (
    Lane,
    Servers,
    encodable,
    first_seconds,
    fitted,
    read_file,
    read_options,
    too_long,
)
from kurabe.models.engines.thoughts import thoughts_of
from kurabe.models.reference import Reference
from kurabe.models.request import Content, fit, make_request, without_system

T = TypeVar("T")
_Put = Callable[[list[Delta]], None]
_POLL_SECONDS: Final = 0.5


class _Takes(Codec):
    """What the engine can express of a Request."""

    settings: ClassVar[frozenset[str]] = frozenset({
        "prefill", "max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed",
        "stop", "grammar", "output", "logprobs", "tools", "tool_choice", "parallel_tool_calls",
    })  # fmt: skip
    parts: ClassVar[frozenset[str]] = frozenset({"text", "tool_call", "tool_result", "reasoning"})


class LlamaCpp(LocalModel):
    """A model loaded from a GGUF file. `context`: tokens one request may use, prompt and answer together."""

    def __init__(self, path: Path, parsed: Reference) -> None:
        """Raises ModelError where the file or an option can't be used, and ModelTooLargeError."""
        self.reference = str(parsed)
        header, size = read_file(path)
        options = read_options(parsed, header)
        self.context: int = options.context
        self.vocabulary = header.lengths.get("tokenizer.ggml.tokens", 0)
        self._path, self._options, self._size, self._pooling = path, options, size, pooling(header)
        self._lock = threading.Lock()
        self._embedding: Servers | None = None
        self._servers = self._started(self._pooling)
        self.concurrency = len(self._servers.lanes)
        try:
            self._read_tokens(header.metadata)
        except BaseException:
            self.close()
            raise

    def _started(self, embeds: int | None) -> Servers:
        place = fitted(self._path, self._options, self._size, writes=embeds is None)
        return Servers(self.reference, self._path, self._options, place, embeds=embeds)

    def _read_tokens(self, metadata: dict[str, Any]) -> None:
        """The tokens that have a part to play, and the chat template, which may name them."""
        plain, framed = self.tokenize("a", special=False), self.tokenize("a")
        self._anchor = plain[-1].id
        begin = next(at for at in range(len(framed)) if framed[at : at + len(plain)] == plain)
        self._begin = framed[:begin]
        special = {
            f"{name}_token": self.name_of(token)
            for name in ("bos", "eos")
            if isinstance(token := metadata.get(f"tokenizer.ggml.{name}_token_id"), int) and token < self.vocabulary
        }
        source = metadata.get("tokenizer.chat_template")
        self._template = ChatTemplate(source if isinstance(source, str) else None, special, self.reference)
        eos = metadata.get("tokenizer.ggml.eos_token_id", 0)
        self.end: int = eos if isinstance(eos, int) else 0
        # In a conversation a turn often ends with another token than a text does.
        behind = self.tokenize(self._template.end.lstrip())[len(self._begin) :]
        if behind and [piece.id for piece in self.tokenize(self.name_of(behind[0].id), special=False)] != [
            behind[0].id
        ]:
            self.end = behind[0].id

    # ── Chat ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def takes(self, setting: str) -> bool:
        """Whether the engine takes a field of Request."""
        return setting in _Takes.settings

    def chat_batches(
        self, requests: Iterable[Request], stop: Callable[[], bool] | None = None
    ) -> Iterator[list[tuple[int, Reply]]]:
        """Each reply by itself, since a local model is slower than any disk. Requests are drawn at most two a slot
        ahead of the replies. `stop` has nothing to do here: no request waits for a provider.

        A request that does not fit the context gives an empty Reply with the reason `length`. Raises InputError where a
        grammar is not valid.
        """
        return ([pair] for pair in self._each(requests, self._answer))

    def _answer(self, lane: Lane, request: Request, cancelled: threading.Event) -> tuple[Reply, bool]:
        try:
            request = self._fitted(request)
            if request.tools:
                reply = self._with_tools(lane, request, cancelled)
            else:
                _, reply = self._run(lane, self._body(request), request, cancelled)
        except ContextTooLongError:
            return Reply("", "length", Usage(0, 0), usd=0.0), False
        return reply, reply.usage.cached * 2 < reply.usage.input

    async def ask(self, request: Request) -> Reply:
        """Answer a Request; the model works in a thread of its own."""
        request = self._fitted(request)
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._chat, request, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        request = self._fitted(request)
        running = asyncio.get_running_loop()
        pieces: asyncio.Queue[list[Delta] | Reply | BaseException] = asyncio.Queue()
        cancelled = threading.Event()

        def put(piece: list[Delta] | Reply | BaseException) -> None:
            if not running.is_closed():
                running.call_soon_threadsafe(pieces.put_nowait, piece)

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
                yield piece
        finally:
            cancelled.set()

    def generate(self, content: Content, **settings: Any) -> Generated:
        """`chat` with the tokens and their log-probabilities."""
        request = self._fitted(make_request(content, **settings))
        return loop.run(asyncio.to_thread(self._generate, request))

    def _generate(self, request: Request) -> Generated:
        prompt = self._prompt(request)
        ids = [piece.id for piece in prompt]
        body = self._body(request, ids) | {"stream": False, "return_tokens": True, "verbose": True}
        body["logprobs"] = max(request.logprobs or 0, 1)
        answer: list[Likely] = []
        with self._servers.lane() as lane:
            whole, reply = self._run(lane, body, request, threading.Event())
            reported = [Likely(entry["id"], entry["bytes"], entry["logprob"]) for entry in entries(whole)]
            partial = False
            for token in whole["__verbose"]["tokens"]:
                found = reported.pop(0) if reported and reported[0].id == token else None
                if found is None or partial:
                    # Of a token that ends inside a character llama.cpp reports nothing, and of the one that completes
                    # the character the whole character's bytes.
                    behind = [*ids, *(each.id for each in answer)]
                    answer += likelihoods(self._servers, lane, behind, [token], self._anchor)
                else:
                    answer.append(found)
                partial = found is None
        pieces = tuple(Piece(each.id, bytes(each.bytes)) for each in answer)
        return Generated(tuple(prompt), pieces, tuple(each.logprob for each in answer), reply)

    def _fitted(self, request: Request) -> Request:
        self._require_text()
        if request.tools and not self._template.takes_tools:
            raise InputError(
                f"the chat template of {self.reference!r} has no place for tools; ask a model that takes them"
            )
        if request.tools and request.grammar:
            raise InputError(f"{self.reference!r} takes tools or a grammar, and not both at once")
        if request.grammar:
            check_grammar(request.grammar)
        return fit(request, _Takes(), Profile(), self.reference, "error")

    def _require_text(self) -> None:
        self._servers.require_open()
        if self._pooling is not None:
            raise InputError(f"{self.reference!r} writes no text: it is a model for embed() or rerank()")

    def _chat(self, request: Request, cancelled: threading.Event, put: _Put | None = None) -> Reply:
        if request.tools:
            with self._servers.lane() as lane:
                return self._with_tools(lane, request, cancelled, put)
        body = self._body(request)
        with self._servers.lane() as lane:
            return self._run(lane, body, request, cancelled, put)[1]

    def _with_tools(self, lane: Lane, request: Request, cancelled: threading.Event, put: _Put | None = None) -> Reply:
        request = msgspec.structs.replace(request, max_tokens=self._room(request, self.prompt_ids(request)))
        return chat_with_tools(self._servers, lane, self._without_system(request), cancelled, put)

    def _room(self, request: Request, ids: Sequence[int]) -> int:
        """Tokens that the answer may have. llama.cpp rounds a context up to a multiple of 256 and knows no other."""
        self._require_fits(len(ids))
        room = self.context - len(ids)
        return room if request.max_tokens is None else min(request.max_tokens, room)

    def _require_fits(self, tokens: int) -> None:
        if tokens >= self.context:  # one has to follow
            raise too_long(self.reference, tokens, self.context)

    def _run(
        self,
        lane: Lane,
        body: dict[str, Any],
        request: Request,
        cancelled: threading.Event,
        put: _Put | None = None,
    ) -> tuple[dict[str, Any], Reply]:
        """(what came last, the reply)."""
        began = time.perf_counter()
        thoughts = thoughts_of(request, self._template.opens_thought)
        logprobs: list[dict[str, Any]] = []
        last: dict[str, Any] = {}

        def take(chunk: dict[str, Any]) -> bool:
            """Called with each token and each batch of the prompt; True ends the request."""
            last.update(chunk)
            logprobs.extend(entries(chunk))
            for choice in chunk.get("choices", ()):
                show(thoughts.feed(choice["text"]))
            return cancelled.is_set()

        def show(deltas: list[Delta]) -> None:
            if put is not None and deltas:
                put(deltas)

        self._servers.complete(lane, body, take)
        show(thoughts.feed("", end=True))
        if "usage" not in last:
            raise ModelError(f"the model {self.reference!r} was stopped in the middle of an answer")
        usage = last["usage"]
        reply = Reply(
            content=thoughts.parts(thoughts.text),
            finish_reason="length" if last["choices"][0]["finish_reason"] == "length" else "stop",
            usage=Usage(
                input=usage["prompt_tokens"],
                output=usage["completion_tokens"],
                cached=usage["prompt_tokens_details"]["cached_tokens"],
                reasoning=self.count_tokens(thoughts.reasoning) if thoughts.reasoning else 0,
            ),
            usd=0.0,
            seconds=time.perf_counter() - began,
            first_seconds=first_seconds(last),
            logprobs=()
            if request.logprobs is None
            else tuple(_token_logprob(entry, request.logprobs) for entry in logprobs),
        )
        return last, reply

    def _body(self, request: Request, ids: Sequence[int] | None = None) -> dict[str, Any]:
        ids = self.prompt_ids(request) if ids is None else ids
        body: dict[str, Any] = {
            "prompt": ids,
            "max_tokens": self._room(request, ids),
            "temperature": request.temperature or 0.0,
            "seed": request.seed or 0,
            "stop": list(request.stop),
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

    # ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def tokenize(self, text: str, *, special: bool = True) -> list[Piece]:
        """The tokens of `text`. `special`: names of special tokens in the text become those tokens, and what the model
        puts before every text is added; else the text is only text."""
        return self._cut(text, add_special=special, parse_special=special)

    def count_tokens(self, text: str) -> int:
        """The number of tokens of `text` by itself, without the chat template's."""
        return len(self._servers.post("/tokenize", {"content": encodable(text)})["tokens"])

    def name_of(self, token: int) -> str:
        """The name of a special token such as `<|im_end|>`; of another token, its text."""
        name: str = self._servers.post("/detokenize", {"tokens": [token]})["content"]
        return name

    def render(self, messages: Iterable[Message], tools: Sequence[Tool] = ()) -> str:
        """The conversation as the model reads it: through its own chat template, the assistant's turn opened. Of a file
        without a template, the texts joined by blank lines. Raises InputError for what the template refuses."""
        return self._template.render(messages, tools)

    def _without_system(self, request: Request) -> Request:
        """The request as `render` shows it to a model without a system role."""
        if self._template.takes_system or not any(message.role == "system" for message in request.messages):
            return request
        return msgspec.structs.replace(request, messages=without_system(request.messages))

    def prompt_ids(self, request: Request, continuation: str = "") -> list[int]:
        """The tokens that the model reads for a request, its `prefill` and `continuation` behind them; what the model
        puts before every text stands there once."""
        return [piece.id for piece in self._prompt(request, continuation)]

    def _prompt(self, request: Request, continuation: str = "") -> list[Piece]:
        text = self.render(request.messages, request.tools) + request.prefill + continuation
        pieces = self._cut(text, add_special=False, parse_special=True)
        return pieces if pieces[: len(self._begin)] == self._begin else [*self._begin, *pieces]

    def _cut(self, text: str, **how: bool) -> list[Piece]:
        found = self._servers.post("/tokenize", {"content": encodable(text), "with_pieces": True, **how})["tokens"]
        return [Piece(token["id"], _piece_bytes(token["piece"])) for token in found]

    # ── Probabilities ────────────────────────────────────────────────────────────────────────────────────────────────
    def next_tokens(self, ids: Sequence[int], count: int) -> list[tuple[Piece, float]]:
        """The `count` likeliest tokens behind the tokens `ids`, the likeliest first, with their natural
        log-probabilities before any setting of sampling; all of the vocabulary where it has fewer. A special token
        stands for no bytes.

        llama.cpp adds up in float32, so that the whole vocabulary's probabilities sum to 1 within 0.001.
        """
        if not ids:
            raise ModelError(f"{self.reference!r} needs at least one token to say what comes next: the text is empty")
        self._require_text()
        self._require_fits(len(ids))
        with self._servers.lane() as lane:
            found = likeliest(self._servers, lane, ids, count, self._anchor)
        return [(Piece(each.id, bytes(each.bytes)), each.logprob) for each in found]

    def logits(self, text: str) -> np.ndarray:
        """(tokens, vocabulary) float32: for each token of `text`, as `tokenize` cuts it, the natural log-probabilities
        of what follows it. They are the model's logits but for a constant in each row, which no softmax sees.

        llama.cpp's server gives one position at a time, about a third of a second each: meant for short texts.
        """
        self._require_text()
        ids = [piece.id for piece in self.tokenize(text)]
        self._require_fits(len(ids))
        rows = np.full((len(ids), self.vocabulary), -np.inf, dtype=np.float32)
        with self._servers.lane() as lane:
            for at in range(len(ids)):
                found = likeliest(self._servers, lane, ids[: at + 1], WHOLE, self._anchor)
                rows[at, [each.id for each in found]] = [each.logprob for each in found]
        return rows

    def node_logprobs(
        self, requests: Iterable[Request], nodes: Sequence[Node], *, whole: bool = True
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yield (index of the request, of each node the natural log-probabilities of its following tokens behind the
        prompt and the node's prefix), in any order; requests are drawn lazily. Without `whole`, those of a node may all
        be less one constant. Raises ContextTooLongError."""
        score_tokens = likelihoods if whole else shares
        deepest = max((len(node.prefix) for node in nodes), default=0)

        def score(lane: Lane, request: Request, cancelled: threading.Event) -> tuple[list[np.ndarray], bool]:
            prompt = self.prompt_ids(self._fitted(request))
            self._require_fits(len(prompt) + deepest)
            found: dict[int, np.ndarray] = {}
            # Nodes that share a beginning follow each other, so that it is read from the cache.
            for at in sorted(range(len(nodes)), key=lambda index: nodes[index].prefix):
                if cancelled.is_set():
                    break
                behind = [*prompt, *nodes[at].prefix]
                likely = score_tokens(self._servers, lane, behind, nodes[at].following, self._anchor)
                found[at] = np.array([each.logprob for each in likely])
            return [found[at] for at in sorted(found)], True

        return self._each(requests, score)

    # ── Vectors ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def aembed(
        self,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        task: Literal["query", "document"] | None = None,
    ) -> np.ndarray:
        """(n, d) float32, normalised: one vector a text, in order. Of a model that writes text a second server gives
        them, the mean over the tokens. Raises InputError of a reranker."""
        if self._pooling == RANK:
            raise InputError(f"{self.reference!r} gives no embeddings: it orders documents, by rerank()")
        listed = [texts] if isinstance(texts, str) else list(texts)
        return await asyncio.to_thread(lambda: embed(self._embedder(), listed, dimensions))

    async def arerank(self, query: str, documents: Sequence[str], *, top: int | None = None) -> Ranking:
        """The documents by their relevance for the query, the best first. Raises InputError of what is no reranker."""
        if self._pooling != RANK:
            raise InputError(f"{self.reference!r} is no reranker: its file does not say that it orders documents")
        return await asyncio.to_thread(rerank, self._servers, query, documents, top)

    def _embedder(self) -> Servers:
        self._servers.require_open()
        if self._pooling is not None:
            return self._servers
        with self._lock:
            if self._embedding is None:
                self._embedding = self._started(MEAN)
            return self._embedding

    # ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _each(
        self, requests: Iterable[Request], work: Callable[[Lane, Request, threading.Event], tuple[T, bool]]
    ) -> Iterator[tuple[int, T]]:
        """Yield (index, result) as `work` is done on the lanes; requests are drawn at most two a lane ahead. `work`
        also says whether much of its request was new to the cache."""
        self._require_text()
        cancelled = threading.Event()
        lanes = len(self._servers.lanes)
        pool = ThreadPoolExecutor(lanes, thread_name_prefix="kurabe-llama")
        pending: dict[Future[tuple[T, bool, Lane]], int] = {}
        numbered: Iterator[tuple[int, Request]] = enumerate(requests)
        exhausted = False

        def run(request: Request) -> tuple[T, bool, Lane]:
            with self._servers.lane() as lane:
                return *work(lane, request, cancelled), lane

        # The first request goes alone, so that the prefix it shares with the others is evaluated once.
        limit = 1
        try:
            while pending or not exhausted:
                while not exhausted and len(pending) < limit:
                    if (drawn := next(numbered, None)) is None:
                        exhausted = True
                    else:
                        pending[pool.submit(run, drawn[1])] = drawn[0]
                done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    index, (result, new, lane) = pending.pop(future), future.result()
                    if limit == 1:
                        limit = 2 * lanes
                        if new and (drawn := next(numbered, None)) is not None:
                            numbered = itertools.chain([drawn], numbered)
                            self._servers.share(lane)
                    yield index, result
        finally:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Release the model's memory; a closed model can't be used again."""
        self._servers.close()
        with self._lock:
            if self._embedding is not None:
                self._embedding.close()


def _token_logprob(entry: dict[str, Any], alternatives: int) -> TokenLogprob:
    """Of a character that is cut into several tokens llama.cpp reports one entry, with the last one's probability."""
    top = tuple((other["token"], other["logprob"]) for other in entry["top_logprobs"][:alternatives])
    return TokenLogprob(entry["token"], entry["logprob"], top)


def _piece_bytes(piece: str | list[int]) -> bytes:
    """llama.cpp gives a piece that is no text by itself as a list of its bytes."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)
