"""What every model can do, wherever it runs."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import msgspec

from kurabe.errors import ContentFilteredError, ContextTooLongError, InputError, ModelError, OutputError
from kurabe.messages import Delta, Message, Reply, Request, Usage
from kurabe.models import loop
from kurabe.models.request import Content, make_request
from kurabe.models.waiting import Batch

if TYPE_CHECKING:
    import numpy as np

    from kurabe.models.codecs.base import Ranking

STOP_SECONDS = 0.05
"""Between two looks at whether a batch is to stop."""
ROOM = 4
"""Answers that may wait to be taken, for each call in flight."""


class Stream:
    """A streamed answer. Iterate over its Deltas; then `reply` is the whole answer.

    `with` closes it, which stops the rest of the answer.

    Parameters
    ----------
    pieces : iterator of Delta and Reply
        What the model sends, the whole Reply last. `ChatModel.stream` makes it.
    """

    def __init__(self, pieces: Iterator[Delta | Reply]) -> None:
        self._pieces = pieces
        self._reply: Reply | None = None

    def __iter__(self) -> Iterator[Delta]:
        for piece in self._pieces:
            if isinstance(piece, Reply):
                self._reply = piece
            else:
                yield piece

    @property
    def reply(self) -> Reply:
        """The whole answer. What was not read yet is read first.

        Raises
        ------
        ModelError
            If the stream was closed before its end.
        """
        for _ in self:
            pass
        if self._reply is None:
            raise ModelError("the stream was closed before its end, so there is no whole answer")
        return self._reply

    def close(self) -> None:
        """Stop the rest of the answer."""
        close: Any = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream:
    """A streamed answer. Iterate over its Deltas with `async for`; then `reply` is the whole answer.

    `async with` closes it, which stops the rest of the answer.

    Parameters
    ----------
    pieces : async iterator of list of Delta, and Reply
        What the model sends, the whole Reply last. `ChatModel.astream` makes it.
    """

    def __init__(self, pieces: AsyncIterator[list[Delta] | Reply]) -> None:
        self._pieces = pieces
        self._reply: Reply | None = None

    async def __aiter__(self) -> AsyncIterator[Delta]:
        async for piece in self._pieces:
            if isinstance(piece, Reply):
                self._reply = piece
            else:
                for delta in piece:
                    yield delta

    @property
    def reply(self) -> Reply:
        """The whole answer, after the last Delta.

        Raises
        ------
        ModelError
            If the stream has not ended yet.
        """
        if self._reply is None:
            raise ModelError("the stream has not come to its end, so there is no whole answer yet")
        return self._reply

    async def aclose(self) -> None:
        """Stop the rest of the answer."""
        close: Any = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class ChatModel(ABC):
    """A chat model, wherever it runs. `open_model` opens one.

    It can be used from any thread, from a running event loop and from a notebook. `a | b` asks `b` if `a`'s provider
    fails.

    Examples
    --------
    >>> from kurabe.testing import EchoModel
    >>> model = EchoModel()  # answers with what it was told, for tests
    >>> model.chat("Hello.").text
    'Hello.'
    >>> [delta.text for delta in model.stream("Hello.")]
    ['Hello.']
    >>> [(index, reply.text) for index, reply in model.chat_many(["One", "Two"])]
    [(0, 'One'), (1, 'Two')]
    """

    reference: str
    concurrency: int = 1
    """Calls of `chat_many` in flight."""
    context: int | None = None
    """Tokens that fit, where they are known."""

    @abstractmethod
    async def ask(self, request: Request) -> Reply:
        """Answer a Request as it is.

        Parameters
        ----------
        request : Request
            The whole call.

        Returns
        -------
        Reply
        """

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        """The pieces of the answer to a Request as they come, and at last the whole Reply; all at once for a model that
        has no pieces."""
        reply = await self.ask(request)
        yield [Delta(reply.text)]
        yield reply

    def close(self) -> None:  # noqa: B027 - most hold nothing of their own
        """Release what the model holds: its connections or its memory."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: it holds connections or weights, of which copies of a contestant (scikit-learn's `clone`) make no
        second ones."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reference!r})"

    @overload
    def chat(self, content: Content, *, stream: Literal[True], **settings: Any) -> Stream: ...
    @overload
    def chat(self, content: Content, *, stream: Literal[False] = False, **settings: Any) -> Reply: ...
    def chat(self, content: Content, *, stream: bool = False, **settings: Any) -> Reply | Stream:
        """Answer a text, parts or a conversation.

        Parameters
        ----------
        content : str, part, Message, mapping, or iterable of these
            A text, parts, or a conversation.
        stream : bool
            Return a Stream of pieces, as `stream` does.
        **settings
            Fields of `Request`, such as `max_tokens`. `tools` may hold functions, and `output` may be a type.

        Returns
        -------
        Reply or Stream

        Raises
        ------
        InputError
            If the model does not take a setting.
        ModelError
            If the model gives no answer; of a hosted one a ProviderError.
        """
        if stream:
            return self.stream(content, **settings)
        return loop.run(self.achat(content, **settings))

    async def achat(self, content: Content, **settings: Any) -> Reply:
        """`chat`, awaited.

        Parameters
        ----------
        content, **settings
            As for `chat`.
        """
        return self._parsed(await self.ask(make_request(content, **settings)), settings.get("output"))

    def stream(self, content: Content, **settings: Any) -> Stream:
        """Answer in pieces as they come.

        Parameters
        ----------
        content, **settings
            As for `chat`.

        Returns
        -------
        Stream
        """
        return Stream(self._pieces(make_request(content, **settings), settings.get("output")))

    def astream(self, content: Content, **settings: Any) -> AsyncStream:
        """Answer in pieces as they come, for `async for`.

        Parameters
        ----------
        content, **settings
            As for `chat`.

        Returns
        -------
        AsyncStream
        """
        return AsyncStream(self._apieces(make_request(content, **settings), settings.get("output")))

    def complete(self, text: str, **settings: Any) -> str:
        """Answer a text with a text.

        Parameters
        ----------
        text : str
            The user's turn.
        **settings
            As for `chat`.

        Returns
        -------
        str
        """
        reply: Reply = self.chat(text, **settings)
        return reply.text

    async def acomplete(self, text: str, **settings: Any) -> str:
        """`complete`, awaited.

        Parameters
        ----------
        text, **settings
            As for `complete`.
        """
        return (await self.achat(text, **settings)).text

    def chat_many(self, requests: Iterable[Request | Content], **settings: Any) -> Iterator[tuple[int, Reply]]:
        """Answer many requests, `concurrency` of them at a time.

        A request that the content filter stops, or that does not fit the context, gives an empty Reply with the reason
        `content_filter` or `length`. Any other error is raised once all answers under way have come and been yielded,
        so that
        nothing paid for is lost.

        Parameters
        ----------
        requests : iterable of str, conversation or Request
            They are drawn as there is room for them. A Request is complete in itself and takes no settings.
        **settings
            As for `chat`, for all requests. If an answer does not follow `output`, its `parsed` is None.

        Yields
        ------
        index : int
            Which request, from 0.
        reply : Reply
            Its answer, in the order in which answers come.

        Raises
        ------
        InputError
            If something is not a request.
        ModelError
            If the model gives no answer.
        """
        if not isinstance(requests, Iterable) or isinstance(requests, str | bytes | Mapping | Message):
            kind = type(requests).__name__
            raise InputError(f"chat_many takes several requests, such as a list of texts, not {kind}; for one use chat")
        return self._parsed_each(self.chat_batches(_each_request(requests, settings)), settings.get("output"))

    def _parsed_each(self, batches: Iterator[list[tuple[int, Reply]]], output: Any) -> Iterator[tuple[int, Reply]]:
        for batch in batches:
            for index, reply in batch:
                try:
                    yield index, self._parsed(reply, output)
                except OutputError:
                    yield index, reply

    def chat_batches(
        self, requests: Iterable[Request], stop: Callable[[], bool] | None = None
    ) -> Iterator[list[tuple[int, Reply]]]:
        """Answer many requests, and yield lists: each holds all answers that came since the last one.

        Parameters
        ----------
        requests : iterable of Request
            They are drawn as there is room for them.
        stop : callable, optional
            Once it returns True, no request is drawn any more, and those that were not sent yet give no reply.

        Yields
        ------
        list of (int, Reply)
            As `chat_many` yields them, one or more.

        Raises
        ------
        ModelError
            If the model gives no answer.
        """
        results: SimpleQueue[tuple[int, Reply] | BaseException | None] = SimpleQueue()
        future = loop.start(self._many(enumerate(requests), results, stop or (lambda: False)))
        try:
            while True:
                batch: list[tuple[int, Reply]] = []
                come = results.get()
                while isinstance(come, tuple):
                    batch.append(come)
                    if results.empty():
                        break
                    come = results.get()
                if batch:
                    yield batch
                if isinstance(come, BaseException):
                    raise come
                if come is None:
                    return
        finally:
            future.cancel()

    def __or__(self, other: "ChatModel | str") -> "ChatModel":
        """A chain: `other`, a model or its reference, is asked where this one's provider fails."""
        return _chain(self, other)

    def __ror__(self, other: str) -> "ChatModel":
        return _chain(other, self)

    def takes(self, setting: str) -> bool:
        """Whether the model takes a setting.

        Parameters
        ----------
        setting : str
            A field of Request, such as `temperature`.

        Returns
        -------
        bool
        """
        return True

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        task: Literal["query", "document"] | None = None,
    ) -> "np.ndarray":
        """Vectors of texts.

        Parameters
        ----------
        texts : str or sequence of str
            The texts, or one text.
        dimensions : int, optional
            Cut each vector to so many numbers and scale it to length 1 again, if the model allows that.
        task : {"query", "document"}, optional
            What the texts are, for models that tell queries from documents; others ignore it.

        Returns
        -------
        ndarray, shape (n, d), float32
            One vector of length 1 for each text, in order; (1, d) for one text.

        Raises
        ------
        InputError
            If the model gives no embeddings, or not of that length.
        """
        return loop.run(self.aembed(texts, dimensions=dimensions, task=task))

    async def aembed(
        self,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        task: Literal["query", "document"] | None = None,
    ) -> "np.ndarray":
        """`embed`, awaited.

        Parameters
        ----------
        texts, dimensions, task
            As for `embed`.

        Raises
        ------
        InputError
            If the model gives no embeddings.
        """
        raise InputError(
            f"{self.reference} gives no embeddings; name an embedding model, such as wordllama:256 in kurabe.embed"
        )

    def rerank(self, query: str, documents: Sequence[str], *, top: int | None = None) -> "Ranking":
        """Order documents by how relevant they are to a query.

        Parameters
        ----------
        query : str
            The query.
        documents : sequence of str
            The documents.
        top : int, optional
            Return only so many. None: all.

        Returns
        -------
        Ranking
            `results`: (position, relevance) of each document, the most relevant first.

        Raises
        ------
        InputError
            If the model does not order documents.
        """
        return loop.run(self.arerank(query, documents, top=top))

    async def arerank(self, query: str, documents: Sequence[str], *, top: int | None = None) -> "Ranking":
        """`rerank`, awaited.

        Parameters
        ----------
        query, documents, top
            As for `rerank`.

        Raises
        ------
        InputError
            If the model does not order documents.
        """
        raise InputError(f"{self.reference} does not order documents; Cohere's rerank models do")

    async def _many(
        self, numbered: Iterator[tuple[int, Request]], results: "SimpleQueue[Any]", stop: Callable[[], bool]
    ) -> None:
        fault: BaseException | None = None
        stopped = False
        first = asyncio.Lock()  # held by the first of the requests that mark a shared beginning, until it is answered
        kept = False

        async def answered(request: Request) -> Reply:
            """The answer. Where a shared beginning is marked, one request goes ahead, so that the provider has kept the
            beginning when the others come."""
            nonlocal kept
            if kept or not any(message.cache for message in request.messages):
                return await self._answered(request)
            async with first:
                if fault is not None:  # of the one that went ahead
                    raise fault
                if stopped:
                    raise asyncio.CancelledError
                if not kept:
                    reply = await self._answered(request)
                    kept = True
                    return reply
            return await self._answered(request)

        async def work() -> None:
            nonlocal fault
            while fault is None and not stopped:
                while results.qsize() > ROOM * self.concurrency:  # answers that nobody has written down yet
                    await asyncio.sleep(0.005)
                try:
                    drawn = next(numbered, None)
                    if drawn is None:
                        return
                    results.put((drawn[0], await answered(drawn[1])))
                except (Exception, asyncio.CancelledError) as error:
                    given_up = isinstance(error, asyncio.CancelledError) and (stopped or fault is not None)
                    fault = fault if given_up else fault or error
                    return

        async def watch(batch: Batch) -> None:
            nonlocal stopped
            while True:
                stopped = stopped or stop()
                if stopped or fault is not None:
                    batch.end_waits()
                await asyncio.sleep(STOP_SECONDS)

        with Batch() as batch:
            watching = asyncio.ensure_future(watch(batch))
            try:
                await asyncio.gather(*(work() for _ in range(self.concurrency)))
            finally:
                watching.cancel()
        results.put(fault)

    async def _answered(self, request: Request) -> Reply:
        try:
            return await self.ask(request)
        except ContentFilteredError:
            return Reply("", "content_filter", Usage(0, 0))
        except ContextTooLongError:
            return Reply("", "length", Usage(0, 0), usd=0.0)

    async def _apieces(self, request: Request, output: Any) -> AsyncGenerator[list[Delta] | Reply, None]:
        async with contextlib.aclosing(self._stream(request)) as pieces:
            async for piece in pieces:
                yield self._parsed(piece, output) if isinstance(piece, Reply) else piece

    def _pieces(self, request: Request, output: Any) -> Iterator[Delta | Reply]:
        """The pieces of a stream that is read in the background."""
        queue: SimpleQueue[list[Delta] | Reply | BaseException | None] = SimpleQueue()

        async def read() -> None:
            try:
                async with contextlib.aclosing(self._apieces(request, output)) as pieces:
                    async for piece in pieces:
                        queue.put(piece)
                queue.put(None)
            except BaseException as error:
                queue.put(error)
                if isinstance(error, asyncio.CancelledError):
                    raise

        future = loop.start(read())
        try:
            while (piece := queue.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                if isinstance(piece, Reply):
                    yield piece
                else:
                    yield from piece
        finally:
            future.cancel()

    def _parsed(self, reply: Reply, output: Any) -> Reply:
        """The reply with the value that `output` asks for; an answer that calls tools has none yet."""
        if output is None or reply.tool_calls:
            return reply
        from kurabe.models.output import parse

        try:
            return msgspec.structs.replace(reply, parsed=parse(output, reply.text))
        except OutputError as error:
            error.provider, _, error.model = self.reference.partition(":")
            error.partial, error.request_id = reply, reply.request_id
            raise


def _each_request(requests: Iterable[Any], settings: dict[str, Any]) -> Iterator[Request]:
    """Requests of `chat_many`, each of which may be a Request, or a text or conversation with settings."""
    for index, request in enumerate(requests):
        if not isinstance(request, Request):
            try:
                yield make_request(request, **settings)
            except InputError as error:
                raise InputError(f"request {index}: {error}") from None
        elif settings:
            raise InputError(f"request {index} is a Request, which has settings of its own; give chat_many none")
        else:
            yield request


def set_chain(join: "Callable[[Sequence[ChatModel | str]], ChatModel]") -> None:
    """Say how `a | b` makes a chain: `kurabe.models` does, which opens models and stands on this module."""
    global _join
    _join = join


_join: "Callable[[Sequence[ChatModel | str]], ChatModel] | None" = None


def _chain(*models: "ChatModel | str") -> "ChatModel":
    """A chain of models and references."""
    if not all(isinstance(model, ChatModel | str) for model in models):
        return NotImplemented  # type: ignore[no-any-return] # so that Python says which types do not go together
    assert _join is not None  # set with the first import of anything below kurabe.models
    return _join(models)
