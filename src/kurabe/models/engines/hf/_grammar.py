"""Answers held to a grammar: llguidance says which tokens may come next."""

import json
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from kurabe.models.engines.gbnf import refused


class Grammars:
    """Makes matchers for the vocabulary of one model."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: list[int]) -> None:
        from llguidance.hf import from_tokenizer

        size = max(vocabulary, len(tokenizer))
        self._tokenizer: LLTokenizer = from_tokenizer(tokenizer, n_vocab=size, eos_token=end_ids)
        self._words = (self._tokenizer.vocab_size + 31) // 32
        self._compiled: dict[tuple[str, str], str] = {}

    def gbnf(self, grammar: str) -> "Matcher":
        """Hold the answer to a grammar in llama.cpp's notation. Raises InputError where it is not valid."""
        return self._matcher("grammar", grammar)

    def json_schema(self, schema: dict[str, Any]) -> "Matcher":
        """Hold the answer to JSON of that schema. Raises InputError where it can't be held to it."""
        return self._matcher("schema", json.dumps(schema))

    def lark(self, grammar: str) -> "Matcher":
        """Hold the answer to a grammar in llguidance's own notation."""
        return self._matcher("lark", grammar)

    def _matcher(self, kind: str, text: str) -> "Matcher":
        if (kind, text) not in self._compiled:
            if len(self._compiled) > 256:
                self._compiled.clear()
            self._compiled[kind, text] = self._compile(kind, text)
        return Matcher(LLMatcher(self._tokenizer, self._compiled[kind, text], log_level=0), self._words)

    def _compile(self, kind: str, text: str) -> str:
        try:
            if kind == "schema":
                compiled = LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": False})
            else:
                compiled = LLMatcher.grammar_from_lark(any_to_lark(text) if kind == "grammar" else text)
            problem = LLMatcher.validate_grammar(compiled, self._tokenizer)
        except Exception as error:  # the parser of GBNF raises errors of many kinds
            problem = str(error)
        if problem and not problem.startswith("WARNING"):
            what = "JSON Schema" if kind == "schema" else "grammar"
            raise refused(problem, what)
        return compiled


class Matcher:
    """How far an answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher, words: int) -> None:
        self._matcher = matcher
        self._words = words

    @property
    def over(self) -> bool:
        """Whether nothing more can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> torch.Tensor:
        """(vocabulary,) bool: the tokens that may come next."""
        bits = torch.zeros(self._words, dtype=torch.int32)
        self._matcher.unsafe_compute_mask_ptr(bits.data_ptr(), self._words * 4)
        shifts = torch.arange(32, dtype=torch.int32)
        return ((bits[:, None] >> shifts) & 1).bool().flatten()

    def take(self, token: int) -> None:
        """A token has been written."""
        self._matcher.consume_token(token)

    def forced(self) -> list[int]:
        """Tokens that must follow, whatever the model says; they are taken."""
        tokens = list(self._matcher.compute_ff_tokens())
        if tokens:
            self._matcher.consume_tokens(tokens)
        return tokens
