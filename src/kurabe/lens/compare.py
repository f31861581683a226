"""Models × prompts: what each model answers to each prompt, and what that took."""

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import msgspec

from kurabe.errors import (
    AuthenticationError,
    InputError,
    KurabeError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
)
from kurabe.messages import Message, Reply, Request, Usage
from kurabe.models import loop, open_model
from kurabe.models.base import ChatModel
from kurabe.models.reference import is_local, parse_reference, split_chain
from kurabe.models.request import make_request

_FOR_ALL = (AuthenticationError, PermissionDeniedError, NotFoundError, QuotaExceededError)
"""Where one prompt meets these, every other of the model would."""
_LOOK_UP = 0.2
"""Seconds."""


class Cell(msgspec.Struct, frozen=True):
    """One model's answer to one prompt; `error` says why there is none. `usd` is None where the cost is unknown."""

    text: str = ""
    error: str | None = None
    finish_reason: str | None = None
    usage: Usage = Usage(0, 0)
    usd: float | None = None
    seconds: float | None = None


class Total(msgspec.Struct, frozen=True):
    """What one model's answers took together. `seconds` is the mean of one answer, None without an answer; `usd` is
    None where the cost of an answer is unknown."""

    reference: str
    answered: int
    failed: int
    usage: Usage
    usd: float | None
    seconds: float | None


class Comparison(msgspec.Struct, frozen=True):
    """`cells[prompt][model]` in the order of `prompts` and `references`; None where no answer has come."""

    references: tuple[str, ...]
    prompts: tuple[str, ...]
    system: str | None
    settings: dict[str, Any]
    cells: tuple[tuple[Cell | None, ...], ...]

    @property
    def totals(self) -> tuple[Total, ...]:
        """One for each model."""
        return tuple(_total(name, [row[place] for row in self.cells]) for place, name in enumerate(self.references))

    @property
    def repeats(self) -> tuple[tuple[bool, ...], ...]:
        """`repeats[prompt][model]`: whether the model met the same error at a prompt before, where it is read once."""
        met: set[tuple[int, str]] = set()

        def again(place: int, cell: Cell | None) -> bool:
            if cell is None or cell.error is None:
                return False
            known = (place, cell.error) in met
            met.add((place, cell.error))
            return known

        return tuple(tuple(again(place, cell) for place, cell in enumerate(row)) for row in self.cells)

    @property
    def waiting(self) -> int:
        """How many answers have not come."""
        return sum(cell is None for row in self.cells for cell in row)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: `answers[prompt][model]`."""
        return {
            "models": list(self.references),
            "system": self.system,
            "settings": msgspec.to_builtins(self.settings),
            "answers": [
                {"prompt": prompt, "answers": msgspec.to_builtins(row)}
                for prompt, row in zip(self.prompts, self.cells, strict=True)
            ],
            "totals": msgspec.to_builtins(self.totals),
        }


class Answered(NamedTuple):
    """An answer that has come, with its places among the prompts and the models."""

    prompt: int
    model: int
    cell: Cell


def compare(
    references: Sequence[str], prompts: Sequence[str], *, system: str | None = None, **settings: Any
) -> Comparison:
    """Ask each model each prompt; an answer that fails has its error in its place and stops no other.

    Hosted models are asked at the same time, those of this machine one after the other, so that one alone is in
    memory. `settings` are the fields of Request, such as `max_tokens` and `temperature`.
    Raises InputError for no prompt, an empty one or an unknown setting, and ModelError for what is no reference.
    """
    table = Table(references, prompts, system, settings)
    for answered in table.answers():
        table.put(answered)
    return table.comparison


class Table:
    """A comparison as far as its answers have come."""

    def __init__(
        self, references: Sequence[str], prompts: Sequence[str], system: str | None, settings: dict[str, Any]
    ) -> None:
        """Raises what `compare` does, before anything is asked."""
        self.references, self.prompts, self.system = (
            _listed(references, "references"),
            _listed(prompts, "prompts"),
            system,
        )
        for reference in self.references:
            for link in split_chain(reference):
                parse_reference(link)
        for number, prompt in enumerate(self.prompts, 1):
            if not isinstance(prompt, str) or not prompt.strip():
                raise InputError(f"prompt {number} is empty or no text: {prompt!r:.80}")
        before = [Message("system", system)] if system else []
        self._requests = [make_request([*before, Message("user", prompt)], **settings) for prompt in self.prompts]
        self.settings = settings
        self._cells: list[list[Cell | None]] = [[None] * len(self.references) for _ in self.prompts]

    def put(self, answered: Answered) -> None:
        """Keep an answer."""
        self._cells[answered.prompt][answered.model] = answered.cell

    @property
    def comparison(self) -> Comparison:
        """What has come so far."""
        cells = tuple(tuple(row) for row in self._cells)
        return Comparison(self.references, self.prompts, self.system, self.settings, cells)

    def answers(self) -> Generator[Answered]:
        """Yield answers as they come. Where this is closed, or Ctrl-C ends the wait, what is under way is given up."""
        queue: SimpleQueue[Answered | BaseException | None] = SimpleQueue()
        future = loop.start(self._ask_all(queue))
        try:
            while (come := _next(queue)) is not None:
                if isinstance(come, BaseException):
                    raise come
                yield come
        finally:
            future.cancel()

    async def _ask_all(self, queue: "SimpleQueue[Answered | BaseException | None]") -> None:
        places = range(len(self.references))
        here = [place for place in places if any(map(is_local, split_chain(self.references[place])))]
        try:
            await asyncio.gather(
                *(self._ask_in_turn([place], queue) for place in places if place not in here),
                self._ask_in_turn(here, queue),
            )
            queue.put(None)
        except BaseException as error:  # a fault of ours: whoever waits must hear of it
            queue.put(error)
            raise

    async def _ask_in_turn(self, places: list[int], queue: "SimpleQueue[Any]") -> None:
        for place in places:
            await self._ask(place, queue)

    async def _ask(self, place: int, queue: "SimpleQueue[Any]") -> None:
        """Ask one model everything."""

        def put(prompt: int, cell: Cell) -> None:
            queue.put(Answered(prompt, place, cell))

        reference = self.references[place]
        try:
            model = await asyncio.to_thread(open_model, reference)  # one of this machine takes seconds to load
        except KurabeError as error:
            for prompt in range(len(self.prompts)):
                put(prompt, _failed(reference, error))
            return
        drawn = iter(enumerate(self._requests))
        try:
            await asyncio.gather(*(_work(model, drawn, put) for _ in range(min(model.concurrency, len(self.prompts)))))
        finally:
            await asyncio.to_thread(model.close)


def _next(queue: "SimpleQueue[Any]") -> Any:
    """What comes next. Ctrl-C that another thread of the process receives does not wake this one, so it looks up."""
    while True:
        try:
            return queue.get(timeout=_LOOK_UP)
        except Empty:
            continue


async def _work(model: ChatModel, drawn: Iterator[tuple[int, Request]], put: Callable[[int, Cell], None]) -> None:
    for place, request in drawn:
        try:
            put(place, _cell(await model.ask(request)))
        except KurabeError as error:
            cell = _failed(model.reference, error)
            put(place, cell)
            if isinstance(error, _FOR_ALL):
                for left, _ in drawn:
                    put(left, cell)


def _failed(reference: str, error: KurabeError) -> Cell:
    """The error without the model's name at its beginning, beside which it stands."""
    return Cell(error=str(error).removeprefix(f"{reference.partition('?')[0]} "))


def _cell(reply: Reply) -> Cell:
    text = reply.text.encode("utf-8", "replace").decode()
    return Cell(text, None, reply.finish_reason, reply.usage, reply.usd, reply.seconds)


def _total(reference: str, cells: Sequence[Cell | None]) -> Total:
    come = [cell for cell in cells if cell is not None]
    good = [cell for cell in come if cell.error is None]
    costs = [cell.usd for cell in good]
    times = [cell.seconds for cell in good if cell.seconds is not None]
    return Total(
        reference,
        len(good),
        len(come) - len(good),
        Usage(
            sum(cell.usage.input for cell in good),
            sum(cell.usage.output for cell in good),
            sum(cell.usage.cached for cell in good),
            sum(cell.usage.cache_written for cell in good),
            sum(cell.usage.reasoning for cell in good),
        ),
        None if None in costs else sum(cost for cost in costs if cost is not None),
        sum(times) / len(times) if times else None,
    )


def _listed(values: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(values, str) or not (listed := tuple(values)):
        raise InputError(f"{what} are a list of texts, one or more")
    return listed
