"""A hosted model: one provider's model through its codec and the transport."""

import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from kurabe.errors import InputError, ModelError, ProviderError
from kurabe.messages import Delta, Reply, Request, Usage
from kurabe.models import cost as costs
from kurabe.models import loop
from kurabe.models.base import ChatModel
from kurabe.models.codecs.base import Codec, HttpRequest, Profile, Ranking, as_deltas, merged
from kurabe.models.codecs.usage import UNKNOWN
from kurabe.models.hosted.transport import telemetry
from kurabe.models.hosted.transport.budget import Budget, Reservation
from kurabe.models.hosted.transport.cache import Cache
from kurabe.models.hosted.transport.client import Client
from kurabe.models.reference import COMPATIBLE
from kurabe.models.request import Content, Unsupported, fit, make_request, without_cache

CONCURRENCY = 256
"""Calls of a contest in flight."""
GUESSED_OUTPUT = 256
"""Tokens counted for an answer of no stated limit until it has come."""


class HostedModel(ChatModel):
    """One model of one provider. Usable from any thread, from a running event loop and from a notebook."""

    def __init__(
        self,
        reference: str,
        *,
        model: str,
        provider: str,
        protocol: str,
        codec: Codec,
        client: Client,
        profile: Profile,
        paths: dict[str, str],
        price: costs.Price | None = None,
        priced_as: str | None = None,
        local: bool = False,
        unsupported: Unsupported = "error",
        budget: Budget | None = None,
        cache: Cache | None = None,
        concurrency: int = CONCURRENCY,
        context: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.reference = reference
        self.model = model
        self.provider = provider
        self._protocol = protocol
        self.context = context or profile.context
        self._extra = extra or {}
        self.concurrency = concurrency
        self.unsupported: Unsupported = unsupported
        self.client = client
        self._codec = codec
        self.batch = codec.batch_of(model)
        self._profile = profile
        self._paths = paths
        self._price = price
        self._priced_as = priced_as or provider
        self._local = local
        self._budget = budget
        self._cache = cache

    async def aembed(
        self,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        task: Literal["query", "document"] | None = None,
    ) -> np.ndarray:
        """`embed`, awaited."""
        from kurabe.models.vectors import embed_all

        if not isinstance(texts, Iterable):
            raise InputError(f"what is embedded is a text or a list of texts, not {type(texts).__name__}")
        listed = [texts] if isinstance(texts, str) else list(texts)
        with self._span("embeddings", None):
            return await embed_all(listed, self.batch, dimensions, lambda part: self._embedded(part, dimensions, task))

    async def _embedded(self, texts: list[str], dimensions: int | None, task: str | None) -> np.ndarray:
        """The vectors of one batch."""
        from kurabe.models.vectors import as_array

        def read(body: bytes) -> tuple[np.ndarray, int]:
            embeddings = self._codec.embeddings(body)
            return as_array(embeddings, len(texts)), embeddings.input_tokens

        wire = self._routed(self._codec.embed(self.model, texts, dimensions, task), "embed")
        until = self.client.until()
        most = sum(costs.TURN_TOKENS + len(text.encode("utf-8", "replace")) for text in texts)
        held = await self._reserve(most, 0, until)
        try:
            paid = held.hold if held is not None else None
            (array, tokens), _ = await self.client.call(wire, read, sum(map(len, texts)) // 4, paid, until)
            usd = self.cost(Usage(tokens, 0))
        except BaseException as error:
            _settle(held, None, error)
            raise
        _settle(held, usd, None)
        return array

    async def arerank(self, query: str, documents: Sequence[str], *, top: int | None = None) -> Ranking:
        """`rerank`, awaited."""
        if self._budget is not None:
            raise ModelError(
                f"what {self.reference} takes for ordering documents is not known, so no budget can be kept"
            )
        request = self._routed(self._codec.rerank(self.model, query, list(documents), top), "rerank")
        ranking, _ = await self.client.call(request, self._codec.ranking, 0)
        return ranking

    def tokens_of(self, content: Content, **settings: Any) -> int:
        """The tokens of a text, parts or a conversation as the provider counts them before it answers.

        It costs nothing. `settings` are those of `chat`: tools and a schema count too. A text is a user's turn, which
        some providers count with it. Raises InputError where the provider counts none before it answers.
        """
        return loop.run(self.atokens_of(content, **settings))

    async def atokens_of(self, content: Content, **settings: Any) -> int:
        """`tokens_of`, awaited."""
        request = self._fitted(make_request(content, **settings))
        wire = self._routed(self._codec.count(self.model, request, self._profile), "count")
        return (await self.client.call(wire, self._codec.counted, 0))[0]

    async def ask(self, request: Request) -> Reply:
        """Answer a Request as it is."""
        request = self._fitted(request)
        wire = self._routed(self._codec.chat(self.model, request, self._profile, stream=False), "chat")
        key = self._key(request)
        if self._cache is not None and (kept := self._cache.get(key)) is not None:
            return kept
        tokens = len(wire.body) // 4 + (request.max_tokens or GUESSED_OUTPUT)
        until = self.client.until()
        held = await self._reserve(self._most_tokens(request), request.max_tokens or 0, until)
        paid = held.hold if held is not None else None
        began = time.perf_counter()
        try:
            if telemetry.active():
                with self._span("chat", request) as span:
                    reply, request_id = await self.client.call(wire, self._codec.reply, tokens, paid, until)
                    span.reply(reply)
            else:
                reply, request_id = await self.client.call(wire, self._codec.reply, tokens, paid, until)
            reply = self._finished(reply, began, None, request_id)
        except BaseException as error:
            _settle(held, None, error)
            raise
        if request.prefill:
            reply = _without_prefill(reply, request.prefill)
        _settle(held, reply.usd, None)
        if self._cache is not None:
            self._cache.put(key, reply)
        return reply

    def models(self) -> list[str]:
        """The models that the provider lists for this key."""
        return loop.run(self.client.call(self._routed(self._codec.models(), "models"), self._codec.model_names, 0))[0]

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        request = self._fitted(request)
        wire = self._routed(self._codec.chat(self.model, request, self._profile, stream=True), "chat")
        key = self._key(request)
        if self._cache is not None and (kept := self._cache.get(key)) is not None:
            yield as_deltas(kept)
            yield kept
            return
        tokens = len(wire.body) // 4 + (request.max_tokens or GUESSED_OUTPUT)
        until = self.client.until()
        held = await self._reserve(self._most_tokens(request), request.max_tokens or 0, until)
        paid = held.hold if held is not None else None
        began, first = time.perf_counter(), None
        reply: Reply | None = None
        try:
            with self._span("chat", request) as span:
                async with contextlib.aclosing(self.client.stream(wire, tokens, paid, until)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, list):
                            first = first or time.perf_counter() - began
                            yield piece
                        else:
                            reply = self._finished(piece[0], began, first, piece[1])
                            span.reply(reply)
        except BaseException as error:
            _settle(held, None, error)
            raise
        _settle(held, None if reply is None else reply.usd, None)
        if reply is not None:
            if self._cache is not None:
                self._cache.put(key, reply)
            yield reply

    def _key(self, request: Request) -> bytes:
        """The name of the reply in the cache: that of the plain call without marks for the provider's own cache, which
        has the same answer."""
        if self._cache is None:
            return b""
        plain = self._codec.chat(self.model, without_cache(request), self._profile, stream=False)
        return self._cache.key(self.client.place, self.model, self._routed(plain, "chat"))

    def takes(self, setting: str) -> bool:
        """Whether the model takes a field of Request, such as `temperature`."""
        return setting in self._codec.settings and setting not in self._profile.without

    def _fitted(self, request: Request) -> Request:
        request = fit(request, self._codec, self._profile, self.reference, self.unsupported, self._protocol)
        if self._budget is not None and request.max_tokens is None:  # else the cost would have no bound
            request = msgspec.structs.replace(request, max_tokens=self._profile.max_tokens)
        if self._extra:  # what the reference's options put into each body; the request's own comes first
            request = msgspec.structs.replace(request, extra=merged(self._extra, request.extra))
        return request

    def _most_tokens(self, request: Request) -> int:
        """An upper bound of the request's input tokens, where there is a budget to keep. Raises ModelError where no
        bound is known."""
        if self._budget is None:
            return 0
        if (setting := costs.unbounded(request.extra)) is not None:
            raise ModelError(
                f"extra: with {setting!r} the most that {self.reference} may cost is not known, so no budget can be"
                " kept; use the setting of chat for it, such as max_tokens, or leave it out"
            )
        counted = costs.most_tokens(request, self.model, self.provider)
        if not costs.has_addresses(request):
            return counted
        if self.context is None:
            raise ModelError(
                f"how much lies at an address is not known, nor how much {self.reference} reads at most, so no budget"
                " can be kept; send the file itself, such as Document.from_path"
            )
        return max(counted, self.context)

    def _routed(self, wire: HttpRequest, kind: str) -> HttpRequest:
        """The request at the address that the provider's row gives instead of the codec's."""
        path = self._paths.get(kind)
        return wire if path is None else msgspec.structs.replace(wire, path=path)

    def _span(self, operation: str, request: Request | None) -> Any:
        return telemetry.span(operation, self.provider, self.model, request, self.client.host)

    def cost(self, usage: Usage) -> float | None:
        """Dollars of a call, or None where the price or the usage is not known."""
        if not usage.input and not usage.output and not (self._local and self._price is None):
            return None
        if self._price is not None:
            return self._price.usd(usage)
        if self._local:
            return 0.0
        if self.provider == COMPATIBLE:  # the price of a model of the same name elsewhere is not this server's
            return None
        known = costs.known_cost(self._priced_as, self.model, int(time.time() // 3600))
        return None if known is None else known(usage)

    async def _reserve(self, tokens: int, output: int, until: float) -> Reservation | None:
        """Set aside what so many tokens of input and output cost at most; other calls are waited for until `until`."""
        if self._budget is None:
            return None
        plain, written = self.cost(Usage(tokens, output)), self.cost(Usage(tokens, output, cache_written=tokens))
        if plain is None or written is None:
            raise ModelError(
                f"the price of {self.reference} is not known, so a budget can't be kept; give it in dollars per million"
                f" tokens: {costs.PRICE} in a task file, price=Price(input, output) in Python"
            )
        held = Reservation(self._budget, max(plain, written))
        try:
            await held.hold(until)
        except ProviderError as error:
            error.provider, error.model = self.client.where, self.model
            raise
        return held

    def _reply_cost(self, reply: Reply) -> float | None:
        """Dollars of an answer. Words that are counted as no tokens, or that answer none, were counted wrongly."""
        usage = reply.usage
        return self.cost(UNKNOWN if reply.content and not (usage.input and usage.output) else usage)

    def _finished(self, reply: Reply, began: float, first: float | None, request_id: str) -> Reply:
        """The reply with what only the client knows."""
        seconds = time.perf_counter() - began  # first of all: the prices are loaded with the first call
        return Reply(
            reply.content,
            reply.finish_reason,
            reply.usage,
            self._reply_cost(reply),
            seconds,
            first,
            reply.model,
            request_id,
            None,
            reply.logprobs,
            reply.citations,
            reply.raw,
            self._protocol,
            reply.id,
        )


def _without_prefill(reply: Reply, prefill: str) -> Reply:
    """The reply without the beginning that the request gave it, which some providers repeat (Mistral)."""
    if not isinstance(reply.content, str) or not reply.content.startswith(prefill):
        return reply
    return msgspec.structs.replace(reply, content=reply.content.removeprefix(prefill))


def _settle(held: Reservation | None, usd: float | None, error: BaseException | None) -> None:
    """Count what the call cost: one that was refused nothing, one that broke off perhaps all that was reserved."""
    if held is None:
        return
    unsent = isinstance(error, InputError) or getattr(error, "sent", True) is False
    refused = unsent or getattr(error, "status", None) is not None
    held.settle(0.0 if refused else usd)
