"""A provider on the loopback."""

import hashlib
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from kurabe.errors import InputError, missing
from kurabe.messages import Part, Reply, Text, ToolCall, Usage
from kurabe.models.base import ChatModel
from kurabe.models.hosted.auth import fill
from kurabe.models.providers import Provider, providers
from kurabe.testing.faults import Fault
from kurabe.testing.server import HttpCall, Response, Server
from kurabe.testing.tuning import Tuning
from kurabe.testing.tunings import tuning_of
from kurabe.testing.wire.base import Asked, Call, Refused, Wire, text_in

Answer = str | ToolCall | tuple[Part, ...] | Reply
Script = Callable[[str], Answer] | list[str] | list[Answer] | Answer
Faults = Fault | Iterable[Fault | None] | Callable[[Call], Fault | None] | None
WINDOW = 60.0


class Simulator:
    """A server on the loopback that speaks a provider's format, plain and streamed, and fails to order.

    `provider` is a name of `kurabe providers`, or of a protocol (`openai_chat`, `anthropic`, `bedrock`, …).

    `answer` is what the model says: a text; a ToolCall, or a list of parts in a tuple; a Reply, with finish reason and
    usage; a function of the user's last text that returns one of these; or a list of them, taken in turn (the last one
    repeats). Without it the user's last text comes back. A token is a word.

    `faults` are met in the order of calls: one for all, an iterable of which each serves one call (None: no fault) and
    that leaves those after it alone, or a function of the call such as `Fault.mix(0.2)`.

    `delay` is the seconds before each answer and `pace` those between the events of a stream. `requests_per_minute` and
    `tokens_per_minute` are stated in the answers' headers; more requests in a minute than that meet a 429. `models` are
    those it lists; without `streams` it answers whole where a stream is asked for; with `tls`, it speaks HTTPS.
    `keep`: how many of the last calls stay in `requests`. `tuning`: its fine-tuning: the files that came, and the jobs,
    whose states go on with every look.

        with Simulator("openai", answer=str.upper) as server:
            assert server.open("gpt-4.1-mini").complete("hello") == "HELLO"
            assert server.requests[0].json["model"] == "gpt-4.1-mini"
    """

    def __init__(
        self,
        provider: str = "openai",
        answer: Script | None = None,
        *,
        faults: Faults = None,
        delay: float = 0.0,
        pace: float = 0.0,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        models: Sequence[str] = ("small", "large"),
        dimensions: int = 8,
        streams: bool = True,
        tls: ssl.SSLContext | None = None,
        keep: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self.provider = _provider(provider)
        self.requests: deque[Call] = deque(maxlen=keep)
        """The calls that came, the first one first."""
        self.outcomes: Counter[str] = Counter()
        """How many calls met each outcome: `answer`, or the kind of a fault (`status 429`, `cut`, …)."""
        self.calls = 0
        """How many calls came."""
        self.in_flight = 0
        """How many calls are being answered."""
        self.most_in_flight = 0
        self.answer = answer
        self.delay = delay
        self.pace = pace
        self.tuning = tuning or tuning_of(self.provider.name)
        """The files and fine-tuning jobs."""
        self._faults = _in_turn(faults)
        self._wire = _wire(self.provider.protocol)
        self._limits = (requests_per_minute, tokens_per_minute)
        self._recent: deque[float] = deque()
        self._models = list(models)
        self._dimensions = dimensions
        self._streams = streams
        self._scheme = "http" if tls is None else "https"
        self._answered = 0
        self._lock = threading.Lock()
        self._server = Server(self._handle, tls)
        self._server.start()

    @property
    def url(self) -> str:
        """The base address, as the provider's row and its SDK want it."""
        path = urlsplit(fill(self.provider.base_url, self._options())).path
        return f"{self.address}{path}"

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"{self._scheme}://127.0.0.1:{self._server.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._server.connections)

    @property
    def accepted(self) -> int:
        """How many connections were ever made."""
        return self._server.accepted

    def open(self, model: str = "small", **options: Any) -> ChatModel:
        """The model of this name at this server; `options` as in `kurabe.open_model`, the key `test-key`."""
        from kurabe.models import open_model

        needed = [name for name, option in self.provider.options.items() if option.default is None and not option.body]
        values = "&".join(f"{name}={value}" for name, value in self._options().items() if name in needed)
        reference = f"{self.provider.name}:{model}" + (f"?{values}" if values else "")
        options = {"base_url": self.url, "api_key": "test-key"} | options
        return open_model(reference, **options)

    def vector(self, text: str, dimensions: int | None = None) -> list[float]:
        """The embedding that it sends of a text: numbers that a 32-bit float holds exactly."""
        size = dimensions or self._dimensions
        digest = hashlib.shake_256(text.encode("utf-8", "replace")).digest(size)
        return [(byte - 128) / 128 for byte in digest]

    def faults(self, faults: Faults) -> None:
        """Fail so from now on."""
        self._faults = _in_turn(faults)

    def close(self) -> None:
        """Drop every connection, and stop."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Simulator({self.provider.name!r} at {self.url}, {self.calls} calls)"

    def _options(self) -> dict[str, str]:
        """The options of the provider's address: its defaults, and stand-ins."""
        options = self.provider.options.items()
        values = {name: option.default or "test" for name, option in options if not option.body}
        return values | ({"endpoint": self.address} if "endpoint" in values else {})

    # ── one exchange, in the server's thread ─────────────────────────────────────────────────────────────────────────

    def _handle(self, came: HttpCall) -> tuple[Response, Callable[[], None]]:
        call = Call(self.calls, came.method, came.path, came.query, came.headers, came.body)
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.requests.append(call)
        try:
            response = self._response(call)
        except Refused as error:
            response = self._error(call, error.status, error.message)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            response = self._error(call, 400, f"the request can't be read: {error!r}")
        response.headers.setdefault(self._wire.request_id, f"req-{call.number}")
        self.outcomes[call.outcome] += 1
        if call.method == "HEAD":
            response.pieces = []
        return response, self._over

    def _over(self) -> None:
        self.in_flight -= 1

    def _response(self, call: Call) -> Response:
        if self.tuning.speaks(call):
            asked: Asked | None = Asked("tune")
        else:
            body = msgspec.json.decode(call.body) if call.body else {}
            asked = self._wire.asked(call.method, call.path, call.query, body)
        if asked is None:
            raise Refused(404, f"no such address: {call.method} {call.path}")
        for name in Asked.__struct_fields__:
            setattr(call, name, getattr(asked, name))
        if self.provider.auth != "none" and not self.provider.local and not call.key:
            raise Refused(401, "You didn't provide an API key.")
        fault = self._faults(call)
        if fault is None and self._over_limit():
            fault = Fault.status(429, "Rate limit reached.", retry_after=1)
        if fault is not None and fault.message:
            fault = msgspec.structs.replace(fault, message=fault.message.replace("{key}", call.key))
        response = self._answered_by(call) if fault is None else self._failed(call, fault)
        response.wait = response.wait or self.delay
        return response

    def _over_limit(self) -> bool:
        """Whether the last minute had more requests than are allowed."""
        allowed = self._limits[0]
        if allowed is None:
            return False
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - WINDOW:
            self._recent.popleft()
        if len(self._recent) >= allowed:
            return True
        self._recent.append(now)
        return False

    def _answered_by(self, call: Call) -> Response:
        """The answer to a sound request."""
        call.outcome = "answer"
        wire = self._wire
        left = 0 if self._limits[0] is None else self._limits[0] - len(self._recent)
        headers = {"content-type": "application/json", **wire.limits(*self._limits, left)}
        if call.kind == "chat" and call.stream and self._streams:
            headers["content-type"] = wire.stream_type
            return Response(200, headers, wire.events(call, self._reply(call)), chunked=True, pace=self.pace)
        if call.kind == "tune":
            value = self.tuning.answer(call)
        elif call.kind == "chat":
            value = wire.answer(call, self._reply(call))
        elif call.kind == "embed":
            value = wire.embeddings(call, [self.vector(text, call.dimensions) for text in call.texts])
        elif call.kind == "rerank":
            shared = [(i, _overlap(call.text, text)) for i, text in enumerate(call.texts)]
            value = wire.ranking(call, sorted(shared, key=lambda pair: (-pair[1], pair[0])))
        else:
            value = wire.models(self._models)
        return Response(200, headers, [msgspec.json.encode(value)])

    def _reply(self, call: Call) -> Reply:
        """What the script says, as a Reply."""
        answer: Any = self.answer
        if isinstance(answer, list):
            answer = answer[min(self._answered, len(answer) - 1)]
            self._answered += 1
        elif answer is None:
            answer = call.text
        elif callable(answer):
            answer = answer(call.text)
        if isinstance(answer, Reply):
            return answer
        content = (answer,) if isinstance(answer, ToolCall) else answer
        text = text_in(content) if isinstance(content, str) else "".join(p.text for p in content if isinstance(p, Text))
        usage = Usage(len(call.text.split()), len(text.split()))
        calls = not isinstance(content, str) and any(isinstance(part, ToolCall) for part in content)
        return Reply(
            content if isinstance(content, str) else tuple(content), "tool_calls" if calls else "stop", usage,
            model=call.model,
        )  # fmt: skip

    def _failed(self, call: Call, fault: Fault) -> Response:
        """The answer as the fault has it."""
        if fault.kind == "delay":
            response = self._answered_by(call)
            response.wait = fault.seconds
            return response
        if fault.kind == "status":
            return self._error(call, fault.code, fault.message or f"simulated fault {fault.code}", fault.retry_after)
        call.outcome = fault.kind
        if fault.kind == "html":
            page = f"<html><head><title>{fault.code}</title></head><body><h1>{fault.message}</h1></body></html>"
            return Response(fault.code, {"content-type": "text/html"}, [page.encode()])
        if fault.kind in ("reset", "silence"):
            return Response(silent=True, end="reset" if fault.kind == "reset" else "hang")
        if fault.kind == "empty":
            return Response(200, {"content-type": "application/json"})
        whole = self._answered_by(call)
        call.outcome = fault.kind
        return _spoiled(whole, fault, self._wire, call)

    def _error(self, call: Call, status: int, message: str, retry_after: float | str | None = None) -> Response:
        call.outcome = f"status {status}"
        headers, value = self._wire.error(status, message)
        headers = {"content-type": "application/json", **headers}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        return Response(status, headers, [msgspec.json.encode(value)])


def _spoiled(whole: Response, fault: Fault, wire: Wire, call: Call) -> Response:
    """A whole answer, broken by a fault."""
    message = fault.message or "simulated fault in the answer"
    body = whole.pieces
    if fault.kind == "invalid_json" or (fault.kind == "invalid_event" and not whole.chunked):
        return msgspec.structs.replace(whole, pieces=[f'{{"id": "{message}, "choices": ['.encode()])
    if not whole.chunked:
        half = body[0][: len(body[0]) // 2]
        if fault.kind == "error_event":
            return msgspec.structs.replace(whole, pieces=[msgspec.json.encode(wire.failed(call, message))])
        if fault.kind == "end":
            return msgspec.structs.replace(whole, pieces=[half])
        end = "hang" if fault.kind == "stall" else "close"
        return msgspec.structs.replace(whole, pieces=[half], length=len(body[0]), end=end)
    after = len(body) // 2 if fault.after is None else fault.after
    if fault.kind == "truncated":  # in the middle of an event
        pieces = [*body[:after], body[after][: len(body[after]) // 2]]
        return msgspec.structs.replace(whole, pieces=pieces, end="close")
    pieces = body[:after]
    if fault.kind == "error_event":
        pieces = [*pieces, wire.error_event(message)]
    elif fault.kind == "invalid_event":
        pieces = [*pieces, wire.broken_event()]
    return msgspec.structs.replace(whole, pieces=pieces, end={"cut": "close", "stall": "hang"}.get(fault.kind, "keep"))


def _in_turn(faults: Faults) -> Callable[[Call], Fault | None]:
    if faults is None or isinstance(faults, Fault):
        return lambda call: faults
    if callable(faults):
        return faults
    listed: Iterator[Fault | None] = iter(faults)
    return lambda call: next(listed, None)


def _overlap(query: str, text: str) -> float:
    """The share of the query's words that the text holds: enough to rank by."""
    words = set(query.lower().split())
    return len(words & set(text.lower().split())) / max(len(words), 1)


def _provider(name: str) -> Provider:
    rows = providers()
    if name in rows:
        return rows[name]
    row = next((row for row in rows.values() if row.protocol == name), None)
    if row is None:
        raise InputError(missing("provider", name, rows))
    return row


_WIRES = {
    "openai_chat": ("openai_chat", "OpenAIChatWire"),
    "openai_responses": ("openai_responses", "OpenAIResponsesWire"),
    "anthropic": ("anthropic", "AnthropicWire"),
    "anthropic_vertex": ("anthropic", "AnthropicVertexWire"),
    "anthropic_bedrock": ("aws", "AnthropicBedrockWire"),
    "gemini": ("google", "GeminiWire"),
    "vertex": ("google", "VertexWire"),
    "bedrock": ("aws", "BedrockWire"),
    "cohere": ("cohere", "CohereWire"),
    "mistral": ("mistral", "MistralWire"),
    "ollama": ("ollama", "OllamaWire"),
}


def _wire(protocol: str) -> Wire:
    module, name = _WIRES[protocol]
    wire: Wire = getattr(import_module(f"kurabe.testing.wire.{module}"), name)()
    return wire
