"""What all decoders of streamed answers have in common: bytes are kept, and what stands before a fault is not lost."""

from typing import Any

import msgspec

from kurabe.errors import CutStreamError, ProviderError, UnreadableAnswerError
from kurabe.messages import Delta, Reply
from kurabe.models.codecs._sse import Event, EventReader
from kurabe.models.codecs.base import BROKEN, generic_error, provider_error


class StreamedAnswer:
    """Reads one streamed answer. A format fills in `_read`, `_whole` and `_reply`.

    What stands before a fault is returned first; the next call raises it, with `partial` set. So the deltas are the
    same wherever the bytes are cut.
    """

    def __init__(self) -> None:
        self.late: list[Delta] = []
        self._raw = bytearray()
        self._fault: ProviderError | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that these bytes complete. Raises ProviderError for an error event or unreadable bytes."""
        self._raw += data
        deltas: list[Delta] = []
        if self._fault is None:
            try:
                self._read(data, deltas)
            except ProviderError as error:
                self._fault = error
        if self._fault is not None and not deltas:
            raise self._with_partial(self._fault)
        return deltas

    def finish(self) -> Reply:
        """The whole answer. Raises CutStreamError, with what came, where the terminal event did not come."""
        if self._fault is None:
            try:
                return self._whole()
            except ProviderError as error:
                self._fault = error
        raise self._with_partial(self._fault)

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        """Take bytes in and append their deltas."""
        raise NotImplementedError

    def _whole(self) -> Reply:
        """The answer after the last byte."""
        raise NotImplementedError

    def _reply(self, *, partial: bool) -> Reply:
        """The answer; where `partial`, what there is of it, and nothing raises."""
        raise NotImplementedError

    def _all(self) -> bytes:
        return bytes(self._raw)

    def _with_partial(self, error: ProviderError) -> ProviderError:
        if error.partial is None:
            error.partial = self._reply(partial=True)
        return error


class JsonEvents(StreamedAnswer):
    """Reads server-sent events with one JSON object each. A format sets `_ended` at its terminal event.

    A server that ignores `stream` answers with one JSON object, which is read as the whole answer that it is.
    """

    terminal = ""
    """The terminal event, for the message about a stream without it."""

    def __init__(self) -> None:
        super().__init__()
        self._events = EventReader()
        self._some = False
        self._ended = False

    def _event(self, event: Event, deltas: list[Delta]) -> None:
        """Read one event and append its deltas."""
        raise NotImplementedError

    def _plain(self, body: bytes) -> Reply:
        """Read a whole answer that came in place of a stream."""
        raise NotImplementedError

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        for event in self._events.feed(data):
            self._take(event, deltas)

    def _whole(self) -> Reply:
        if not self._some and is_json(body := self._all()):
            return self._unstreamed(body)
        self._last()
        if not self._ended:
            raise self._cut()
        return self._reply(partial=False)

    def _unstreamed(self, body: bytes) -> Reply:
        try:
            return self._plain(body)
        except UnreadableAnswerError:
            try:
                said = msgspec.json.decode(body, type=dict[str, Any])
            except BROKEN:
                said = {}
            if "error" not in said and not isinstance(said.get("message"), str):
                raise
            raise provider_error(None, *generic_error(body)) from None

    def _take(self, event: Event, deltas: list[Delta]) -> None:
        self._some = True
        if event.data and not self._ended and event.data != b"[DONE]":
            self._event(event, deltas)

    def _last(self) -> None:
        """An event without its empty line at the end of the stream; what can't be read of it was cut off."""
        for event in self._events.close():
            try:
                self._take(event, self.late)
            except UnreadableAnswerError:
                return

    def _cut(self) -> ProviderError:
        body = self._all().lstrip()
        if not self._some and body[:1] == b"<":  # no stream at all
            return UnreadableAnswerError(f"no stream of events: {generic_error(body)[1]}")
        return CutStreamError(f"the stream ended without {self.terminal}")


def is_json(body: bytes) -> bool:
    """Whether what should be a stream begins as a JSON object or list, which no stream of events does."""
    return body.lstrip()[:1] in (b"{", b"[")
