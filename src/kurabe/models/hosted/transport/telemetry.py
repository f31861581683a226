"""OpenTelemetry spans by the conventions for generative AI, where a program has set up tracing.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/. No text of a prompt or an answer goes into a span.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kurabe.errors import KurabeError, ProviderError
from kurabe.messages import Reply, Request


class Span:
    """A span, or nothing where tracing is not set up."""

    __slots__ = ("_span",)

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def reply(self, reply: Reply) -> None:
        """Note what came."""
        if self._span is None:
            return
        self._span.set_attributes({
            "gen_ai.response.finish_reasons": [reply.finish_reason],
            "gen_ai.usage.input_tokens": reply.usage.input,
            "gen_ai.usage.output_tokens": reply.usage.output,
            "gen_ai.usage.cache_read.input_tokens": reply.usage.cached,
        })  # fmt: skip
        if reply.model:
            self._span.set_attribute("gen_ai.response.model", reply.model)


_NOTHING = Span()
_SETTINGS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}


def active() -> bool:
    """Whether the program has loaded OpenTelemetry's API; then its spans are worth their time."""
    return "opentelemetry.trace" in sys.modules


@contextmanager
def span(operation: str, provider: str, model: str, request: Request | None, address: str) -> Iterator[Span]:
    """A client span around one call; `operation` is `chat` or `embeddings`."""
    if not active():
        yield _NOTHING
        return
    from opentelemetry import trace

    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "server.address": address,
    }
    for field, name in _SETTINGS.items():
        value = getattr(request, field, None)
        if value is not None:
            attributes[name] = value
    # not made the current one: a stream's caller would find it there between the pieces, and close it elsewhere
    current = trace.get_tracer("kurabe").start_span(
        f"{operation} {model}", kind=trace.SpanKind.CLIENT, attributes=attributes
    )
    try:
        yield Span(current)
    except KurabeError as error:
        current.set_attribute("error.type", type(error).__name__)
        if isinstance(error, ProviderError) and error.status is not None:
            current.set_attribute("http.response.status_code", error.status)
        current.set_status(trace.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        current.end()
