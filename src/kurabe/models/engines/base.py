"""What a model whose weights lie in this process can do besides chat: tokens, probabilities, scores of choices."""

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kurabe.messages import Message, Reply, Request, Tool
from kurabe.models.base import ChatModel
from kurabe.models.engines.choices import Node, choice_nodes, choice_scores
from kurabe.models.request import Content, make_request


class Piece(NamedTuple):
    """A token: its number in the vocabulary, and the bytes it stands for, which may be a part of a character."""

    id: int
    data: bytes


class Generated(NamedTuple):
    """An answer with its inside: the tokens of the prompt, those of the answer, and the natural log-probability of each
    of the latter before any setting of sampling."""

    prompt: tuple[Piece, ...]
    answer: tuple[Piece, ...]
    logprobs: tuple[float, ...]
    reply: Reply


class LocalModel(ChatModel):
    """A model whose weights lie in this process; its methods may be called from any thread."""

    vocabulary: int
    """Tokens that the model can write."""
    end: int
    """The token that ends an answer."""

    @abstractmethod
    def tokenize(self, text: str, *, special: bool = True) -> list[Piece]:
        """The tokens of `text`. `special`: names of special tokens in the text become those tokens, and what the model
        puts before every text is added; else the text is only text."""

    @abstractmethod
    def name_of(self, token: int) -> str:
        """The name of a special token such as `<|im_end|>`; of another token, its text."""

    @abstractmethod
    def render(self, messages: Iterable[Message], tools: Sequence[Tool] = ()) -> str:
        """The conversation as the model reads it: through its own chat template, the assistant's turn opened."""

    @abstractmethod
    def prompt_ids(self, request: Request, continuation: str = "") -> list[int]:
        """The tokens that the model reads for a request, its `prefill` and `continuation` behind them; what the model
        puts before every text stands there once."""

    @abstractmethod
    def next_tokens(self, ids: Sequence[int], count: int) -> list[tuple[Piece, float]]:
        """The `count` likeliest tokens behind the tokens `ids`, the likeliest first, with their natural
        log-probabilities before any setting of sampling."""

    @abstractmethod
    def logits(self, text: str) -> np.ndarray:
        """(tokens, vocabulary) float32: for each token of `text`, as `tokenize` cuts it, the scores of what follows it.
        A row's softmax is the model's probabilities."""

    @abstractmethod
    def generate(self, content: Content, **settings: Any) -> Generated:
        """`chat` with the tokens and their log-probabilities."""

    @abstractmethod
    def node_logprobs(
        self, requests: Iterable[Request], nodes: Sequence[Node], *, whole: bool = True
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yield (index of the request, of each node the natural log-probabilities of its following tokens behind the
        prompt and the node's prefix), in any order; requests are drawn lazily. Without `whole`, those of a node may all
        be less one constant, which an engine may find sooner. Raises ContextTooLongError."""

    def count_tokens(self, text: str) -> int:
        """The number of tokens of `text` by itself, without the chat template's."""
        return len(self.tokenize(text, special=False))

    def score(self, content: Content, choices: Sequence[str], *, whole: bool = False, **settings: Any) -> np.ndarray:
        """(choices,) float64: natural log-probabilities of the choices as the answer to a text or conversation.

        They are those of sampling that may write nothing but one of the choices, and add up to 1 as probabilities;
        with `whole`, the likelihood of all tokens of each choice (lm-evaluation-harness's `loglikelihood`).
        """
        return next(self.score_many([make_request(content, **settings)], choices, whole=whole))[1]

    def score_many(
        self, requests: Iterable[Request], choices: Sequence[str], *, whole: bool = False
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (index, `score` of the request) as they come, in any order. The requests must end alike, as those of
        one template do: how the choices are cut into tokens is looked up behind the first one."""
        drawn = iter(requests)
        if (first := next(drawn, None)) is None:
            return
        paths = self._choice_tokens(first, choices)
        nodes = choice_nodes(paths, self.end, whole=whole)
        for index, logprobs in self.node_logprobs(itertools.chain([first], drawn), nodes, whole=whole):
            yield index, choice_scores(paths, nodes, logprobs, self.end, whole=whole)

    def _choice_tokens(self, request: Request, choices: Sequence[str]) -> list[list[int]]:
        """The tokens of each choice behind the prompt: those of both together behind those of the prompt."""
        before = self.prompt_ids(request)
        paths = []
        for choice in choices:
            both = self.prompt_ids(request, choice)
            alone = [piece.id for piece in self.tokenize(choice, special=False)]
            paths.append(both[len(before) :] if both[: len(before)] == before else alone)
        return paths
