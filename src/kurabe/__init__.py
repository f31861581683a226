"""kurabe: a contest side by side.

Baselines, trees, language models and people on the same rows under the same metric; which differences are real, what
each costs and how fast it is. Everything here is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kurabe.api import Board, Task, Trained
    from kurabe.contestants.base import Contestant, Prediction
    from kurabe.contestants.checks import check_contestant
    from kurabe.contestants.encoding import columns
    from kurabe.errors import KurabeError, ModelError, ProviderError
    from kurabe.messages import (
        Assistant,
        Audio,
        Delta,
        Document,
        Image,
        Message,
        Reasoning,
        Reply,
        Request,
        System,
        Text,
        Tool,
        ToolCall,
        ToolResult,
        Usage,
        User,
    )
    from kurabe.models import open_model
    from kurabe.models.base import AsyncStream, ChatModel, Stream
    from kurabe.models.conversation import Conversation
    from kurabe.models.cost import Price
    from kurabe.models.embeddings import Embedder, open_embedder
    from kurabe.models.hosted.transport.budget import Budget
    from kurabe.models.hosted.transport.http import Timeouts
    from kurabe.models.hosted.transport.policy import Policy
    from kurabe.models.pull import pull
    from kurabe.models.shortcuts import achat, acomplete, aembed, chat, complete, embed
    from kurabe.models.tools import arun_tool, run_tool, tool
    from kurabe.tasks.metrics import Metric

__version__ = "0.1.0"

__all__ = [
    "Assistant",
    "AsyncStream",
    "Audio",
    "Board",
    "Budget",
    "ChatModel",
    "Contestant",
    "Conversation",
    "Delta",
    "Document",
    "Embedder",
    "Image",
    "KurabeError",
    "Message",
    "Metric",
    "ModelError",
    "Policy",
    "Prediction",
    "Price",
    "ProviderError",
    "Reasoning",
    "Reply",
    "Request",
    "Stream",
    "System",
    "Task",
    "Text",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Trained",
    "Usage",
    "User",
    "achat",
    "acomplete",
    "aembed",
    "arun_tool",
    "chat",
    "check_contestant",
    "columns",
    "complete",
    "embed",
    "open_embedder",
    "open_model",
    "pull",
    "run_tool",
    "tool",
]

_HOMES = {
    "Assistant": "kurabe.messages",
    "AsyncStream": "kurabe.models.base",
    "Audio": "kurabe.messages",
    "Board": "kurabe.api",
    "Budget": "kurabe.models.hosted.transport.budget",
    "ChatModel": "kurabe.models.base",
    "Contestant": "kurabe.contestants.base",
    "Conversation": "kurabe.models.conversation",
    "Delta": "kurabe.messages",
    "Document": "kurabe.messages",
    "Embedder": "kurabe.models.embeddings",
    "Image": "kurabe.messages",
    "KurabeError": "kurabe.errors",
    "Message": "kurabe.messages",
    "Metric": "kurabe.tasks.metrics",
    "ModelError": "kurabe.errors",
    "Policy": "kurabe.models.hosted.transport.policy",
    "Prediction": "kurabe.contestants.base",
    "Price": "kurabe.models.cost",
    "ProviderError": "kurabe.errors",
    "Reasoning": "kurabe.messages",
    "Reply": "kurabe.messages",
    "Request": "kurabe.messages",
    "Stream": "kurabe.models.base",
    "System": "kurabe.messages",
    "Task": "kurabe.api",
    "Text": "kurabe.messages",
    "Timeouts": "kurabe.models.hosted.transport.http",
    "Tool": "kurabe.messages",
    "ToolCall": "kurabe.messages",
    "ToolResult": "kurabe.messages",
    "Trained": "kurabe.api",
    "Usage": "kurabe.messages",
    "User": "kurabe.messages",
    "achat": "kurabe.models.shortcuts",
    "acomplete": "kurabe.models.shortcuts",
    "aembed": "kurabe.models.shortcuts",
    "arun_tool": "kurabe.models.tools",
    "chat": "kurabe.models.shortcuts",
    "check_contestant": "kurabe.contestants.checks",
    "columns": "kurabe.contestants.encoding",
    "complete": "kurabe.models.shortcuts",
    "embed": "kurabe.models.shortcuts",
    "open_embedder": "kurabe.models.embeddings",
    "open_model": "kurabe.models",
    "pull": "kurabe.models.pull",
    "run_tool": "kurabe.models.tools",
    "tool": "kurabe.models.tools",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kurabe' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
