"""Models in this process through Transformers (PyTorch): every token and tensor in reach.

The decode loop is our own, over the model's forward: all callers' rows run together, what their prompts share is
evaluated once, and no padding is computed. Greedy answers are those of the model's own `generate`.
"""

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Final

import numpy as np
import psutil
import torch

from kurabe.errors import ContextTooLongError, InputError, ModelError
from kurabe.messages import Delta, Message, Reasoning, Reply, Request, Text, Tool, ToolCall, Usage
from kurabe.models.codecs.base import Codec, Profile
from kurabe.models.engines.base import Generated, LocalModel, Piece
from kurabe.models.engines.chat_template import ChatTemplate
from kurabe.models.engines.choices import Node
from kurabe.models.engines.hf._generate import Plain, pads, runner
from kurabe.models.engines.hf._grammar import Grammars
from kurabe.models.engines.hf._row import Row
from kurabe.models.engines.hf._schedule import Worker
from kurabe.models.engines.hf._score import score_nodes
from kurabe.models.engines.hf._tools import call_grammar, tool_form
from kurabe.models.engines.hf.load import Loaded, end_of_turn, load, unload
from kurabe.models.engines.hf.text import TokenBytes
from kurabe.models.engines.thoughts import thoughts_of
from kurabe.models.reference import Reference
from kurabe.models.request import Content, fit, make_request

ROWS_CPU: Final = 32
ROWS_GPU: Final = 128
"""Rows under way at once, where the reference has no ?batch=."""
STEP_TOKENS_CPU: Final = 512
STEP_TOKENS_GPU: Final = 4096
"""Tokens of prompts in one step. On a processor, longer ones fall out of its caches."""


class _Takes(Codec):
    """What the engine can express of a Request."""

    settings: ClassVar[frozenset[str]] = frozenset({
        "prefill", "max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed",
        "stop", "grammar", "output", "logprobs", "tools", "tool_choice", "parallel_tool_calls",
    })  # fmt: skip
    parts: ClassVar[frozenset[str]] = frozenset({"text", "tool_call", "tool_result"})


class Transformers(LocalModel):
    """A causal model of Transformers. `context`: tokens one request may use, prompt and answer together.

    `loaded` is the model, its tokenizer and its numbers as Transformers has them. `worker` is the thread that owns it:
    what is handed to its `call` runs between two steps.
    """

    def __init__(self, path: Path, parsed: Reference) -> None:
        self._start(load(path, parsed), str(parsed), parsed.number("batch"), "attention" in parsed.options)

    @classmethod
    def of(cls, loaded: Loaded, reference: str = "hf:model", batch: int | None = None) -> "Transformers":
        """The engine over a model that is in memory already."""
        made = cls.__new__(cls)
        made._start(loaded, reference, batch)
        return made

    def _start(self, loaded: Loaded, reference: str, batch: int | None, kernel: bool = False) -> None:
        """`kernel`: the model's own attention computes, as its reference asks for one."""
        self.reference = reference
        self._loaded: Loaded | None = loaded
        self.context: int = loaded.context
        model, tokenizer = loaded.model, loaded.tokenizer
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self._end_ids = frozenset(int(token) for token in loaded.end_ids)
        self.end = _end(tokenizer, loaded.end_ids)
        self._names = TokenBytes(tokenizer)
        self._begin = _begin(tokenizer)
        self._tokenizing = threading.Lock()
        source = _template(tokenizer)
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        self._template = ChatTemplate(source, special, reference)
        self._form = tool_form(source or "")
        self._grammars: Grammars | None = None
        device = model.get_input_embeddings().weight.device
        on_cpu = device.type == "cpu"
        self.concurrency = batch or (ROWS_CPU if on_cpu else ROWS_GPU)
        pad = tokenizer.pad_token_id or 0
        self.worker = Worker(
            lambda: Plain(model, pad) if kernel else runner(model, pad),
            reference,
            self.concurrency,
            STEP_TOKENS_CPU if on_cpu else STEP_TOKENS_GPU,
            _memory(device),
            pads(model),
        )
        weakref.finalize(self, self.worker.close)  # before the interpreter goes, too

    @property
    def loaded(self) -> Loaded:
        """The model itself, for your own use while no request is under way: a step computes its attention by another
        function, which is put back. Raises ModelError once it is closed."""
        if self._loaded is None:
            raise ModelError(f"the model {self.reference!r} is closed; open it again")
        return self._loaded

    def close(self) -> None:
        """Give the model's memory back; a closed model can't be used again."""
        if self._loaded is None:
            return
        loaded, self._loaded = self._loaded, None
        self.worker.close()
        self._grammars = None
        unload(loaded)

    def takes(self, setting: str) -> bool:
        """Whether the engine takes a field of Request."""
        return setting in _Takes.settings

    # Tokens and prompts

    def tokenize(self, text: str, *, special: bool = True) -> list[Piece]:
        """The tokens of `text`. `special`: names of special tokens in the text become those tokens, and what the model
        puts before every text is added; else the text is only text."""
        ids = [*self._begin, *self._ids(text)] if special else self._ids(text, special=False)
        if special and self._begin and ids[len(self._begin) :][: len(self._begin)] == self._begin:
            ids = ids[len(self._begin) :]
        return [Piece(token, self._names[token]) for token in ids]

    def name_of(self, token: int) -> str:
        """The name of a special token such as `<|im_end|>`; of another token, its text."""
        return self._names.name(token)

    def render(self, messages: Iterable[Message], tools: Sequence[Tool] = ()) -> str:
        """The conversation as the model reads it: through its own chat template, the assistant's turn opened.

        A model without a template completes text: it reads the messages' texts, joined by blank lines.
        """
        return self._template.render(messages, tools)

    def prompt_ids(self, request: Request, continuation: str = "") -> list[int]:
        """The tokens that the model reads for a request, its `prefill` and `continuation` behind them; what the model
        puts before every text stands there once."""
        tools = () if request.tool_choice == "none" else request.tools
        ids = self._ids(self.render(request.messages, tools) + request.prefill + continuation)
        if ids[: len(self._begin)] == self._begin:
            return ids
        return [*self._begin, *ids]

    def _ids(self, text: str, special: bool = True) -> list[int]:
        text = text.encode("utf-8", "replace").decode("utf-8")
        tokenizer = self.loaded.tokenizer
        with self._tokenizing:  # `split_special_tokens` is a switch of the tokenizer, and all threads' at once
            ids: list[int] = tokenizer(
                text,
                add_special_tokens=False,
                split_special_tokens=not special,
                verbose=False,
                return_attention_mask=False,
            )["input_ids"]
        return ids

    # Answers

    async def ask(self, request: Request) -> Reply:
        """Answer a Request; rows of several callers run together."""
        last: Row | None = None
        async for _, row in self._pieces_of(request):
            last = row
        assert last is not None
        return last.reply(self.reference)

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        last: Row | None = None
        async for piece, row in self._pieces_of(request):
            last = row
            if piece is not None:
                yield [piece]
        assert last is not None
        reply = last.reply(self.reference)
        if request.tools and (deltas := _tool_deltas(reply)):
            yield deltas
        yield reply

    async def _pieces_of(self, request: Request) -> AsyncGenerator[tuple[Delta | None, Row], None]:
        """The pieces of the answer as they come, with the row; at last None when it is whole."""
        loop = asyncio.get_running_loop()
        come: asyncio.Queue[Delta | BaseException | None] = asyncio.Queue()

        def sink(_: Row, event: Delta | BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(come.put_nowait, event)
            except RuntimeError:  # the caller's event loop is closed: nobody waits any more
                row.cancelled = True

        row = self._row(request, sink)
        self.worker.submit([row])
        try:
            while True:
                event = await come.get()
                if isinstance(event, BaseException):
                    raise event
                yield event, row
                if event is None:
                    return
        finally:
            row.cancelled = True

    def chat_batches(
        self, requests: Iterable[Request], stop: Callable[[], bool] | None = None
    ) -> Iterator[list[tuple[int, Reply]]]:
        """`chat_many` in lists: each holds what has come since the one before. At most twice `concurrency` requests are
        drawn ahead of the replies. `stop` has nothing to do here: no request waits for a provider."""
        _ = self.loaded
        come: SimpleQueue[tuple[int, Row, BaseException | None]] = SimpleQueue()
        drawn = _Drawn(enumerate(requests), come, self._row)
        try:
            while True:
                fresh, ready = drawn.more(2 * self.concurrency)
                if fresh:
                    self.worker.submit(fresh)
                batch = list(ready)
                if drawn.pending and not batch:
                    batch += drawn.take(self.reference, wait=True)
                while not come.empty():
                    batch += drawn.take(self.reference, wait=False)
                if batch:
                    yield batch
                elif not drawn.pending:
                    break
            if drawn.fault is not None:
                raise drawn.fault
        finally:
            drawn.cancel()

    def generate(self, content: Content, **settings: Any) -> Generated:
        """`chat` with the tokens and their log-probabilities."""
        settings.setdefault("logprobs", 0)
        come: SimpleQueue[BaseException | None] = SimpleQueue()
        row = self._row(
            make_request(content, **settings),
            lambda _, event: None if isinstance(event, Delta) else come.put(event),
        )
        self.worker.submit([row])
        try:
            if (event := come.get()) is not None:
                raise event
        finally:
            row.cancelled = True
        pieces = [Piece(token, self._names[token]) for token in row.tokens]
        at = len(row.prompt)
        logprobs = tuple(likely.logprob for likely in row.likely[: len(row.answer)])
        reply = self._parsed(row.reply(self.reference), settings.get("output"))
        return Generated(tuple(pieces[:at]), tuple(pieces[at:]), logprobs, reply)

    def _row(self, request: Request, sink: Callable[[Row, Any], None]) -> Row:
        """Raises InputError for what the engine does not take and ContextTooLongError."""
        if not isinstance(request, Request):
            raise InputError(f"{request!r:.80} is no Request; make_request makes one")
        loaded = self.loaded
        request = fit(request, _Takes(), Profile(), self.reference, "error")
        if request.extra:
            raise InputError(f"{self.reference} has no body that 'extra' could go into; leave it out")
        ids = self.prompt_ids(request)
        self._require_text(ids)
        room = loaded.context - len(ids)
        if room < 1:
            raise _too_long(self.reference, len(ids), loaded.context)
        if request.max_tokens is not None:
            room = min(room, request.max_tokens)
        thoughts = thoughts_of(request, self._template.opens_thought)
        return Row(request, ids, room, self._end_ids, self._names, self._matcher(request), thoughts, sink)

    def _matcher(self, request: Request) -> Any:
        """What holds the answer to the request's grammar, schema or chosen tool; None where it is free."""
        chosen = request.tool_choice not in (None, "auto", "none")
        if not request.grammar and request.output is None and not chosen:
            return None
        if self._grammars is None:
            self._grammars = Grammars(self.loaded.tokenizer, self.vocabulary, sorted(self._end_ids))
        if chosen:
            tools = [tool for tool in request.tools if request.tool_choice in ("required", tool.name)]
            mark = self.loaded.tokenizer.convert_tokens_to_ids("[TOOL_CALLS]")
            special = isinstance(mark, int) and self._names.is_special(mark)
            return self._grammars.lark(call_grammar(self._form, tools, mark if special else None))
        if request.grammar:
            return self._grammars.gbnf(request.grammar)
        assert request.output is not None
        return self._grammars.json_schema(request.output.schema)

    # The inside

    def next_tokens(self, ids: Sequence[int], count: int) -> list[tuple[Piece, float]]:
        """The `count` likeliest tokens behind the tokens `ids`, the likeliest first, with their natural
        log-probabilities before any setting of sampling; all of the vocabulary where it has fewer."""
        if not ids:
            raise ModelError(f"{self.reference!r} needs at least one token to say what comes next: the text is empty")
        self._require_fits(len(ids))
        logits = self._forward(list(ids), last=True)[-1]
        values, places = torch.log_softmax(logits.float(), dim=-1).topk(min(count, logits.shape[0]))
        return [
            (Piece(token, self._names[token]), value)
            for token, value in zip(places.tolist(), values.tolist(), strict=True)
        ]

    def logits(self, text: str) -> np.ndarray:
        """(tokens, vocabulary) float32: for each token of `text`, as `tokenize` cuts it, the scores of what follows it.
        A row's softmax is the model's probabilities."""
        ids = [piece.id for piece in self.tokenize(text)]
        if not ids:
            return np.zeros((0, self.vocabulary), np.float32)
        self._require_fits(len(ids))
        scores: np.ndarray = self._forward(ids, last=False).float().cpu().numpy()
        return scores

    def node_logprobs(
        self, requests: Iterable[Request], nodes: Sequence[Node], *, whole: bool = True
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yield (index of the request, of each node the natural log-probabilities of its following tokens behind the
        prompt and the node's prefix), in any order; requests are drawn lazily. Also without `whole` they are
        those of the whole vocabulary. Raises ContextTooLongError."""
        deepest = max((len(node.prefix) for node in nodes), default=0)

        def prompts() -> Iterator[list[int]]:
            for request in requests:
                ids = self.prompt_ids(request)
                self._require_text(ids)
                self._require_fits(len(ids) + deepest)
                yield ids

        yield from score_nodes(self.worker, prompts(), nodes, self.vocabulary)

    def _forward(self, ids: list[int], *, last: bool) -> torch.Tensor:
        """(tokens, vocabulary), of all tokens or the `last` one alone."""
        _ = self.loaded
        return self.worker.call(lambda worker: worker.runner.whole(ids, last=last))

    def _require_text(self, ids: Sequence[int]) -> None:
        if not ids:
            raise InputError(f"{self.reference} needs at least one token to go on from: the text is empty")

    def _require_fits(self, tokens: int) -> None:
        if tokens > self.loaded.context:
            raise _too_long(self.reference, tokens, self.loaded.context)


class _Drawn:
    """The requests of one `chat_many`, drawn as places get free."""

    def __init__(self, numbered: Iterator[tuple[int, Request]], come: Any, make: Callable[..., Row]) -> None:
        self._numbered = numbered
        self._come = come
        self._make = make
        self._rows: dict[int, Row] = {}
        self._exhausted = False
        self.fault: BaseException | None = None

    @property
    def pending(self) -> int:
        """Rows whose end has not come yet."""
        return len(self._rows)

    def more(self, most: int) -> tuple[list[Row], list[tuple[int, Reply]]]:
        """New rows until `most` are pending, and replies to what does not fit the context."""
        fresh: list[Row] = []
        ready: list[tuple[int, Reply]] = []
        while len(self._rows) < most and not self._exhausted and self.fault is None:
            try:
                if (drawn := next(self._numbered, None)) is None:
                    self._exhausted = True
                    break
                index, request = drawn
                row = self._make(request, self._sink(index))
            except ContextTooLongError:
                ready.append((index, Reply("", "length", Usage(0, 0), usd=0.0)))
            except Exception as error:  # kept until what is under way has come
                self.fault = error
            else:
                self._rows[index] = row
                fresh.append(row)
        return fresh, ready

    def _sink(self, index: int) -> Callable[[Row, Any], None]:
        return lambda row, event: None if isinstance(event, Delta) else self._come.put((index, row, event))

    def take(self, reference: str, *, wait: bool) -> list[tuple[int, Reply]]:
        """The next reply; none where a row failed."""
        index, row, error = self._come.get(block=wait)
        del self._rows[index]
        if error is None:
            return [(index, row.reply(reference))]
        self.fault = self.fault or error
        return []

    def cancel(self) -> None:
        """Nobody waits for the rest."""
        for row in self._rows.values():
            row.cancelled = True


def _begin(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text by itself, such as BOS."""
    with_special = list(tokenizer("a", verbose=False)["input_ids"])
    without = list(tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"])
    for at in range(len(with_special) - len(without) + 1):
        if with_special[at : at + len(without)] == without:
            return with_special[:at]
    return []


def _end(tokenizer: Any, end_ids: Sequence[int]) -> int:
    """The token that ends an answer: that of a turn's end, where there is one."""
    turn = end_of_turn(tokenizer)
    return turn if turn is not None else tokenizer.eos_token_id if tokenizer.eos_token_id in end_ids else end_ids[0]


def _template(tokenizer: Any) -> str | None:
    """The source of the chat template; of several, the one for chat without tools."""
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default") or next(iter(source.values()), None)
    return source or None


def _memory(device: torch.device) -> int:
    """Bytes that keys and values may take: a part of what is free now."""
    if device.type == "cuda":
        return int(0.8 * torch.cuda.mem_get_info(device)[0])
    return int(0.4 * psutil.virtual_memory().available)


def _tool_deltas(reply: Reply) -> list[Delta]:
    """The answer of a request with tools, which is read as a whole, in one piece each of text and calls."""
    import json

    deltas = []
    number = 0
    for part in reply.message.parts:
        if isinstance(part, Text):
            deltas.append(Delta(part.text))
        elif isinstance(part, Reasoning):
            deltas.append(Delta(reasoning=part.text))
        elif isinstance(part, ToolCall):
            arguments = json.dumps(part.arguments, ensure_ascii=False)
            deltas.append(Delta(index=number, id=part.id, name=part.name, arguments=arguments))
            number += 1
    return deltas


def _too_long(reference: str, tokens: int, limit: int) -> ContextTooLongError:
    error = ContextTooLongError(
        "?context= raises it as far as the model goes.",
        tokens=tokens,
        limit=limit,
        sent=False,
    )
    error.provider, _, error.model = reference.partition(":")
    return error
