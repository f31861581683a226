"""One request on its way through a Transformers model: its tokens so far, and what becomes of the next one."""

import time
from collections.abc import Callable, Collection
from typing import Any

from kurabe.messages import Delta, FinishReason, Part, Reply, Request, TokenLogprob, Usage
from kurabe.models.engines.hf._sample import Likely, Sampler
from kurabe.models.engines.hf._tools import read_tool_calls
from kurabe.models.engines.hf.text import TokenBytes, Writer
from kurabe.models.engines.thoughts import Thoughts

Sink = Callable[["Row", Delta | BaseException | None], None]


class Row:
    """A request under way. `sink` is told of each piece of the answer, of the fault that ended the row, or, by None, of
    its end. `room`: tokens that the answer may have. `matcher`: what holds the answer to a grammar. `thoughts`: what
    parts the answer from them."""

    def __init__(
        self,
        request: Request,
        ids: list[int],
        room: int,
        end_ids: Collection[int],
        names: TokenBytes,
        matcher: Any,
        thoughts: Thoughts,
        sink: Sink,
    ) -> None:
        self.request = request
        self.prompt = ids
        self.tokens = list(ids)
        self.room = room
        self.sampler = Sampler(request)
        self.matcher = matcher
        self.likely: list[Likely] = []  # of the answer's tokens and the one that ended it
        self.finish: FinishReason | None = None
        self.cancelled = False
        self.first_seconds: float | None = None
        # Where its keys and values are: `shared` tokens of the prefix, the others up to `done` in `slot`.
        self.slot = -1
        self.shared = 0
        self.done = 0
        self.cached = 0
        self._end_ids = end_ids
        self._names = names
        self._sink = sink
        self._writer = Writer(request.stop)
        self._thoughts = thoughts
        self._thought = 0  # tokens
        self._made = 0
        self._began = time.perf_counter()

    @property
    def answer(self) -> list[int]:
        """The tokens of the answer, without the one that ends it."""
        return self.tokens[len(self.prompt) :]

    @property
    def alternatives(self) -> int:
        """Alternatives whose log-probabilities are asked for; -1: not even the token's own."""
        return -1 if self.request.logprobs is None else self.request.logprobs

    def take(self, token: int, likely: Likely | None) -> None:
        """The next token of the answer has been chosen."""
        self._append(token, likely)
        if self.matcher is None or self.finish is not None:
            return
        self.matcher.take(token)
        if likely is None:  # else the probability of each token is asked for, and each is computed
            for forced in self.matcher.forced():
                if self.finish is None:
                    self._append(forced, None)
        if self.finish is None and self.matcher.over:
            self._end("stop")

    def _append(self, token: int, likely: Likely | None) -> None:
        self._made += 1
        self.sampler.took(token)
        if likely is not None:
            self.likely.append(likely)
        if token in self._end_ids:
            self._end("stop")
            return
        self.tokens.append(token)
        data = self._names[token]
        if self.request.tools and self._names.is_special(token):  # such as the mark in front of Mistral's calls
            data = self._names.name(token).encode()
        self._write(data)
        if self._writer.stopped:
            self._end("stop")
        elif len(self.tokens) - len(self.prompt) >= self.room:
            self._end("length")

    def _write(self, data: bytes, *, end: bool = False) -> None:
        deltas = self._thoughts.feed(self._writer.feed(data, end=end), end=end)
        if self._thoughts.inside:
            self._thought = self._made
        if not self.request.tools:  # the text of a call is no answer's text, so it is read as a whole
            for delta in deltas:
                self.first_seconds = self.first_seconds or time.perf_counter() - self._began
                self._sink(self, delta)

    def _end(self, finish: FinishReason) -> None:
        self._write(b"", end=True)
        self.finish = finish

    def fail(self, error: BaseException) -> None:
        """The row is given up."""
        self._sink(self, error)

    def deliver(self) -> None:
        """The row has come to its end."""
        self._sink(self, None)

    def reply(self, model: str) -> Reply:
        """The whole answer."""
        content: str | tuple[Part, ...] = self._thoughts.text
        finish = self.finish or "other"
        if self.request.tools and self.request.tool_choice != "none":
            content = read_tool_calls(self._thoughts.text, self.request.tools)
            if not isinstance(content, str):
                if self.request.parallel_tool_calls is False:
                    content = _first_call(content)
                finish = "tool_calls" if finish == "stop" else finish
        return Reply(
            content=self._thoughts.parts(content),
            finish_reason=finish,
            usage=Usage(input=len(self.prompt), output=self._made, cached=self.cached, reasoning=self._thought),
            usd=0.0,
            seconds=time.perf_counter() - self._began,
            first_seconds=self.first_seconds,
            model=model,
            logprobs=tuple(
                TokenLogprob(text, likely.logprob, tuple((self._text(other), value) for other, value in likely.top))
                for text, likely in zip([*map(self._text, self.answer), ""], self.likely, strict=False)
            ),
        )

    def _text(self, token: int) -> str:
        return self._names[token].decode("utf-8", "replace")


def _first_call(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    calls = [part for part in parts if hasattr(part, "arguments")]
    return tuple(part for part in parts if not hasattr(part, "arguments") or part is calls[0])
