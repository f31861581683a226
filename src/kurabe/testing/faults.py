"""What may go wrong with a call, to order."""

import random
from collections.abc import Callable, Sequence

import msgspec

from kurabe.testing.wire.base import Call


class Fault(msgspec.Struct, frozen=True):
    """One fault of one call; made by the functions below. Each works for plain and for streamed calls.

    In every `message`, `{key}` is replaced by the key that the call was sent with, as some providers do.
    """

    kind: str
    code: int = 200
    message: str = ""
    retry_after: float | str | None = None
    seconds: float = 0.0
    after: int | None = None

    @staticmethod
    def status(code: int, message: str = "", *, retry_after: float | str | None = None) -> "Fault":
        """An error status with the provider's own error body; `retry_after` in seconds or as a date."""
        return Fault("status", code, message, retry_after)

    @staticmethod
    def html(code: int = 502, message: str = "Bad gateway") -> "Fault":
        """An error status with a page in HTML, as a gateway on the way sends it."""
        return Fault("html", code, message)

    @staticmethod
    def reset() -> "Fault":
        """The connection is reset before any answer."""
        return Fault("reset")

    @staticmethod
    def silence() -> "Fault":
        """No answer at all: only a time-out ends the call."""
        return Fault("silence")

    @staticmethod
    def delay(seconds: float) -> "Fault":
        """The answer comes, and so many seconds late."""
        return Fault("delay", seconds=seconds)

    @staticmethod
    def truncated() -> "Fault":
        """The connection ends in the middle of the body."""
        return Fault("truncated")

    @staticmethod
    def invalid_json(message: str = "") -> "Fault":
        """Status 200 and a body that is no JSON."""
        return Fault("invalid_json", message=message)

    @staticmethod
    def empty() -> "Fault":
        """Status 200 and no body."""
        return Fault("empty")

    @staticmethod
    def cut(after: int | None = None) -> "Fault":
        """The connection is dropped after so many events of the stream, else in its middle. Plain: `truncated`."""
        return Fault("cut", after=after)

    @staticmethod
    def end(after: int | None = None) -> "Fault":
        """The stream ends early as if it were whole: no terminal event. Plain: half of the JSON, with its length."""
        return Fault("end", after=after)

    @staticmethod
    def stall(after: int | None = None) -> "Fault":
        """The stream stops and the connection stays open. Plain: half of the body, and no more."""
        return Fault("stall", after=after)

    @staticmethod
    def error_event(message: str = "", after: int | None = None) -> "Fault":
        """The provider's error event in the middle of the stream. Plain: its error body with status 200."""
        return Fault("error_event", message=message, after=after)

    @staticmethod
    def invalid_event(after: int | None = None) -> "Fault":
        """An event that is no JSON in the middle of the stream. Plain: `invalid_json`."""
        return Fault("invalid_event", after=after)

    @staticmethod
    def every() -> tuple["Fault", ...]:
        """One of each kind, and of each status that providers send."""
        statuses = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)
        return (
            *(Fault.status(code) for code in statuses),
            Fault.status(429, retry_after=0.01),
            Fault.html(),
            Fault.reset(),
            Fault.silence(),
            Fault.truncated(),
            Fault.invalid_json(),
            Fault.empty(),
            Fault.cut(),
            Fault.end(),
            Fault.stall(),
            Fault.error_event(),
            Fault.invalid_event(),
        )

    @staticmethod
    def mix(
        share: float = 0.2, *, seed: int = 0, of: Sequence["Fault"] | None = None
    ) -> Callable[[Call], "Fault | None"]:
        """For `Simulator(faults=…)`: this share of calls fails, by a fault drawn from `of`, else of every kind."""
        chance = random.Random(seed)
        kinds = Fault.every() if of is None else tuple(of)
        return lambda call: chance.choice(kinds) if chance.random() < share else None
