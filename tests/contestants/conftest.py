"""A model in this process whose probabilities are known: its tokens are bytes, and what follows is drawn by a hash."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from kurabe.errors import ContextTooLongError
from kurabe.messages import Message, Request, Tool
from kurabe.models.engines.base import Generated, LocalModel, Piece
from kurabe.models.engines.choices import Node
from kurabe.models.request import Content
from kurabe.testing import ScriptedModel

END = 256


class ByteModel(ScriptedModel, LocalModel):
    """Scores choices by probabilities that depend on every byte before; writes by the script. Pairs of requests are
    answered in reverse, so that nothing relies on their order. `scored`: the requests whose choices were scored."""

    vocabulary = 257
    end = END

    def __init__(self, script: Any = ("1",), *, context: int | None = None) -> None:
        super().__init__(script)
        self.reference = "gguf:bytes.gguf"
        self.context = context
        self.scored: list[Request] = []

    def tokenize(self, text: str, *, special: bool = True) -> list[Piece]:
        return [Piece(byte, bytes([byte])) for byte in text.encode("utf-8", "replace")]

    def name_of(self, token: int) -> str:
        return "<end>" if token == END else chr(token)

    def render(self, messages: Iterable[Message], tools: Sequence[Tool] = ()) -> str:
        return "".join(f"{message.role}: {message.text}\n" for message in messages) + "assistant: "

    def prompt_ids(self, request: Request, continuation: str = "") -> list[int]:
        text = self.render(request.messages) + request.prefill + continuation
        return [piece.id for piece in self.tokenize(text)]

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        seed = hashlib.blake2b(repr(list(ids)).encode(), digest_size=8).digest()
        scores = np.random.default_rng(int.from_bytes(seed)).normal(size=self.vocabulary) * 2
        return np.asarray(scores - np.logaddexp.reduce(scores))

    def next_tokens(self, ids: Sequence[int], count: int) -> list[tuple[Piece, float]]:
        raise NotImplementedError

    def logits(self, text: str) -> np.ndarray:
        raise NotImplementedError

    def generate(self, content: Content, **settings: Any) -> Generated:
        raise NotImplementedError

    def node_logprobs(
        self, requests: Iterable[Request], nodes: Sequence[Node], *, whole: bool = True
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        held: tuple[int, list[np.ndarray]] | None = None
        for index, request in enumerate(requests):
            self.scored.append(request)
            ids = self.prompt_ids(request)
            longest = max((len(node.prefix) for node in nodes), default=0)
            if self.context is not None and len(ids) + longest >= self.context:
                raise ContextTooLongError(f"{len(ids)} tokens")
            answer = (index, [self.logprobs([*ids, *node.prefix])[list(node.following)] for node in nodes])
            if held is None:
                held = answer
            else:
                yield answer
                yield held
                held = None
        if held is not None:
            yield held


@pytest.fixture
def byte_model() -> type[ByteModel]:
    return ByteModel
