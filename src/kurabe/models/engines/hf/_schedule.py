"""The thread that owns a Transformers model: it brings the rows of all callers together, step by step.

Each step evaluates one token of every row under way and, as far as its measure goes, prompts of rows that join. What
the waiting prompts begin with in common is evaluated once and kept for those that come later.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import torch

from kurabe.errors import ModelError
from kurabe.models.engines.hf._attention import Feed
from kurabe.models.engines.hf._generate import Runner
from kurabe.models.engines.hf._memory import is_out_of_memory, said
from kurabe.models.engines.hf._row import Row
from kurabe.models.engines.hf._sample import chosen, likelihoods

T = TypeVar("T")

LEAST_SHARED: Final = 8
"""Tokens that a prefix has at least, so that it is worth a step of its own."""
_PLANNED: Final = 256  # tokens of an answer without an end that memory is planned for
_CLOSED: Final = "the model {!r} is closed; open it again"


class Worker:
    """Steps rows until they end. `rows`: rows under way at once; `step_tokens`: tokens of prompts in one step;
    `memory`: bytes that keys and values may take."""

    def __init__(
        self, make: Callable[[], Runner], reference: str, rows: int, step_tokens: int, memory: int, pads: bool
    ) -> None:
        self._make = make
        self._reference = reference
        self._most = self._limit = rows
        self._step_tokens = step_tokens
        self.memory = memory
        self._pads = pads
        self._runner: Runner | None = None
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting: deque[Row] = deque()
        self._active: list[Row] = []
        self._free: list[int] = list(range(rows + 1))  # one to spare for calls, when all rows are under way
        self._prefix: list[int] = []
        self._last: list[int] = []
        self._closed = False
        self._ending = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="kurabe-transformers", daemon=True)
        self._thread.start()

    def submit(self, rows: Iterable[Row]) -> None:
        """Let rows join; they are told of their end by their sinks."""
        self.require_open()
        self._inbox.put(list(rows))
        if self._closed or not self._thread.is_alive():  # it was closed meanwhile, or this is a fork of its process
            self.close()

    def call(self, function: Callable[["Worker"], T]) -> T:
        """The result of a function that runs between two steps, in the thread that owns the model."""
        self.require_open()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function(self))
            except BaseException as error:
                future.set_exception(_typed(error, self._reference))

        self._inbox.put(run)
        while True:  # in short waits, so that Ctrl-C is heard and a closed model does not leave the caller waiting
            try:
                return future.result(timeout=0.5)
            except TimeoutError:
                if not self._thread.is_alive() and not future.done():
                    raise ModelError(_CLOSED.format(self._reference)) from None
                if future.done():
                    return future.result()

    def close(self) -> None:
        """End the thread after the step under way; what is not finished gets an error."""
        self._closed = True
        self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            with self._ending:
                self._give_up()  # what was handed in while the thread was ending

    def _give_up(self) -> None:
        self._collect(wait=False)
        self._fail_all(ModelError(_CLOSED.format(self._reference)))

    def require_open(self) -> None:
        """Raises ModelError once it is closed."""
        if self._closed:
            raise ModelError(_CLOSED.format(self._reference))

    @property
    def runner(self) -> Runner:
        """What evaluates tokens; made at its first use, in the worker's thread."""
        self.require_open()
        if self._runner is None:
            self._runner = self._make()
        return self._runner

    def _work(self) -> None:
        while not self._closed:
            self._collect()
            if self._closed:
                break
            try:
                while self._calls:
                    self._calls.popleft()()
                self._drop_cancelled()
                self._admit()
                if self._active:
                    self._step()
            except BaseException as error:
                if is_out_of_memory(error):
                    self._make_room(error)
                else:
                    self._fail_all(_typed(error, self._reference))
        self._give_up()
        self._runner = None
        del self._make

    def _collect(self, wait: bool = True) -> None:
        """Take what has been handed in; wait for it where nothing else is to be done."""
        wait = wait and not (self._active or self._waiting or self._calls)
        if wait:
            self._limit = self._most  # what ran out of memory is over
        while True:
            try:
                came = self._inbox.get(block=wait)
            except Empty:
                return
            wait = False
            if callable(came):
                self._calls.append(came)
            elif came is not None:
                self._waiting.extend(came)

    def _drop_cancelled(self) -> None:
        for row in [row for row in self._active if row.cancelled]:
            self._leave(row)
        if any(row.cancelled for row in self._waiting):
            self._waiting = deque(row for row in self._waiting if not row.cancelled)

    def _admit(self) -> None:
        """Let waiting rows join, as many as there is room for."""
        if not self._waiting:
            return
        if not self.runner.mixes:
            self._admit_plain()
            return
        if not self._active:
            self._share([row.tokens for row in list(self._waiting)[: 2 * self._most]])
        coming = sum(len(row.tokens) - row.done for row in self._active)
        while self._waiting and len(self._active) < self._limit and coming < self._step_tokens:
            row = self._waiting[0]
            shared = common([self._prefix, row.tokens[:-1]])
            if self._active and not self._fits(row, shared):
                return
            self._waiting.popleft()
            row.slot = heapq.heappop(self._free)
            row.shared = row.done = shared
            row.cached = row.cached or shared
            self._last = row.prompt
            self._active.append(row)
            coming += len(row.tokens) - row.done

    def _admit_plain(self) -> None:
        if self._active:
            return
        length = len(self._waiting[0].tokens)
        kept: list[Row] = []
        while self._waiting:
            row = self._waiting.popleft()
            if len(self._active) < self._limit and (self._pads or len(row.tokens) == length):
                row.slot = heapq.heappop(self._free)
                self._active.append(row)
            else:
                kept.append(row)
        self._waiting.extend(kept)

    def _fits(self, row: Row, shared: int) -> bool:
        """Whether the keys and values of one more row are planned for."""
        lengths = [_planned(other, other.shared) for other in self._active] + [_planned(row, shared)]
        return (len(lengths) * max(lengths) + len(self._prefix)) * self.runner.slots.token_bytes <= self.memory

    def _share(self, texts: Sequence[Sequence[int]]) -> None:
        try:
            self.share(texts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._reset()  # each row then evaluates its whole prompt

    def share(self, texts: Sequence[Sequence[int]]) -> None:
        """Evaluate what the prompts have in common, unless it is there. Only where no row is under way."""
        begin = common([*texts, self._last] if len(texts) == 1 else texts)
        begin = min(begin, min(len(text) for text in texts) - 1)
        wanted = list(texts[0][:begin])
        kept = common([wanted, self._prefix])
        if begin - kept < LEAST_SHARED or begin * self.runner.slots.token_bytes > self.memory // 2:
            return
        slot = self._free[0]
        self._hold([slot], begin - kept)
        done = kept
        self._prefix = wanted[:kept]
        while done < begin:
            tokens = wanted[done : done + self._step_tokens]
            self.runner.step([Feed(slot, kept, done - kept, tokens)])
            done += len(tokens)
        self.runner.slots.share(slot, kept, begin - kept)
        self._prefix = wanted

    def evaluate(self, feeds: Sequence[tuple[list[int], Sequence[int], Sequence[int]]]) -> torch.Tensor:
        """(texts × wanted, vocabulary): of each (prompt, tree of tokens behind it, their parents) the scores of what
        follows the prompt and each token of the tree. Only between steps; the slots are free again afterwards."""
        slots = [heapq.heappop(self._free) for _ in feeds]
        try:
            return self._evaluate(feeds, slots)
        finally:
            for slot in slots:
                heapq.heappush(self._free, slot)

    def _evaluate(
        self, feeds: Sequence[tuple[list[int], Sequence[int], Sequence[int]]], slots: Sequence[int]
    ) -> torch.Tensor:
        last: list[Feed] = []
        for slot, (ids, tree, parents) in zip(slots, feeds, strict=True):
            done = shared = common([self._prefix, ids[:-1]])
            while len(ids) - done > self._step_tokens:
                self.runner.step([Feed(slot, shared, done - shared, ids[done : done + self._step_tokens])])
                done += self._step_tokens
            rest = ids[done:]
            chain = [*range(-1, len(rest) - 1)]
            chain += [len(rest) + parent if parent >= 0 else len(rest) - 1 for parent in parents]
            tokens = [*rest, *tree]
            wanted = range(len(rest) - 1, len(tokens))
            last.append(Feed(slot, shared, done - shared, tokens, wanted, chain if tree else None))
        self._hold(slots, max(feed.own + len(feed.tokens) for feed in last))
        parts, part, size = [], list[Feed](), 0
        for feed in last:
            if part and size + len(feed.tokens) > self._step_tokens:
                parts.append(self.runner.step(part))
                part, size = [], 0
            part.append(feed)
            size += len(feed.tokens)
        parts.append(self.runner.step(part))
        return torch.cat(parts)

    def _hold(self, slots: Sequence[int], length: int) -> None:
        """Let go of keys and values whose rows are over, before there is made room for `length` tokens in `slots` and
        for the rows under way: else the longest row of all times would stand in every slot that was ever used.

        Raises MemoryError where several rows have grown far beyond what was planned.
        """
        count = 1 + max([*slots, *(row.slot for row in self._active)])
        length = max([length, *(len(row.tokens) - row.shared for row in self._active)])
        kept = self.runner.slots
        most = self.memory / max(kept.token_bytes, 1)
        held = max(count, kept.slots) * max(length, kept.length)
        if held > most and held >= 2 * count * length:
            kept.trim(count, length)
        if len(self._active) > 1 and count * length > 1.5 * most:
            raise MemoryError("the answers have become longer than was planned")

    @property
    def free_slots(self) -> int:
        """Texts that could be evaluated now beside the rows under way; one at least."""
        return len(self._free)

    @property
    def idle(self) -> bool:
        """Whether no row is under way."""
        return not self._active

    def _step(self) -> None:
        feeds: list[Feed] = []
        ready: list[Row] = []
        left = self._step_tokens
        for row in self._active:
            pending = len(row.tokens) - row.done
            count = pending if pending == 1 or not self.runner.mixes else min(pending, left)
            if count < 1:
                continue
            left -= count
            whole = count == pending
            tokens = row.tokens[row.done : row.done + count]
            feeds.append(Feed(row.slot, row.shared, row.done - row.shared, tokens, [count - 1] if whole else []))
            row.done += count
            if whole:
                ready.append(row)
        if self.runner.mixes:
            self._hold([], 0)
        logits = self.runner.step(feeds)
        if ready:
            self._advance(ready, logits)

    def _advance(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        masks = [None if row.matcher is None else row.matcher.allowed() for row in rows]
        tokens = chosen(logits, [row.sampler for row in rows], masks)
        asked = [place for place, row in enumerate(rows) if row.alternatives >= 0]
        likely: dict[int, Any] = {}
        if asked:
            found = likelihoods(
                logits[asked], [tokens[place] for place in asked], [rows[place].alternatives for place in asked]
            )
            likely = dict(zip(asked, found, strict=True))
        for place, row in enumerate(rows):
            row.take(tokens[place], likely.get(place))
            if row.finish is not None:
                self._leave(row)
                row.deliver()

    def _leave(self, row: Row) -> None:
        self._active.remove(row)
        if self._runner is not None:
            self._runner.release(row.slot)
        heapq.heappush(self._free, row.slot)

    def _make_room(self, error: BaseException) -> None:
        """After running out of memory: forget all keys and values, and begin again with half of the rows."""
        rows = list(self._active)
        if not rows and self._waiting:  # not even its beginning could be made
            rows = [self._waiting.popleft()]
        self._reset()
        if len(rows) <= 1:
            longest = max((len(row.tokens) for row in rows), default=0)
            fault = ModelError(
                f"there is not enough memory for one answer of {self._reference!r}: {longest} tokens; shorten the text,"
                f" lower the context with ?context=…, or take a smaller or quantized model ({said(error)})"
            )
            for row in rows:
                row.fail(fault)
            return
        self._limit = max(1, len(rows) // 2)
        self._waiting.extendleft(reversed(rows))

    def _fail_all(self, error: BaseException) -> None:
        rows = [*self._active, *self._waiting]
        self._waiting.clear()
        self._reset()
        for row in rows:
            row.fail(error)
        while self._calls:
            self._calls.popleft()()

    def _reset(self) -> None:
        for row in self._active:
            row.done = row.shared = 0
            heapq.heappush(self._free, row.slot)
        self._active.clear()
        self._prefix, self._last = [], []
        if self._runner is not None:
            self._runner.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def common(texts: Sequence[Sequence[int]]) -> int:
    """How many tokens the texts begin with in common.

    >>> common([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    if not texts:
        return 0
    lists: list[list[int]] = [list(text) for text in texts]
    low, high = min(lists), max(lists)  # in the order of texts, all others lie between these two
    length = min(len(low), len(high))
    return next((place for place in range(length) if low[place] != high[place]), length)


def _planned(row: Row, shared: int) -> int:
    """Tokens of a row's own that memory is planned for."""
    return len(row.tokens) - shared + min(row.room, _PLANNED)


def _typed(error: BaseException, reference: str) -> BaseException:
    """The error as a user may see it."""
    if is_out_of_memory(error):
        fault = ModelError(
            f"there is not enough memory for this call of {reference!r}; give it less text, lower the context with"
            f" ?context=…, or take a smaller or quantized model ({said(error)})"
        )
        fault.__cause__ = error
        return fault
    if isinstance(error, RuntimeError | ValueError | TypeError | IndexError | KeyError | MemoryError | AttributeError):
        fault = ModelError(f"the model {reference!r} failed: {type(error).__name__}: {error}")
        fault.__cause__ = error
        return fault
    return error
