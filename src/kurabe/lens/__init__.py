"""The lens: tools that show a model's inside. Each reads what it needs and nothing more.

`kurabe.lens.architecture(ref)` is how a model is built and `memory(ref_or_size)` what it takes to run or tune: neither
loads weights. `tokens(ref, text)` is how a tokenizer cuts a text, `next_tokens(ref, text)` what a model thinks comes
next, `similar(texts)` which texts an embedding model holds alike. `compare(refs, prompts)` is what
several models answer.
"""

from kurabe.lens.architecture import Architecture, architecture
from kurabe.lens.compare import Cell, Comparison, compare
from kurabe.lens.memory import Memory, memory
from kurabe.lens.next_tokens import NextToken, NextTokens, Sampling, Walk, next_tokens
from kurabe.lens.similar import Cluster, Similar, similar
from kurabe.lens.tokens import Token, Tokens, sample_tokens, tokens

__all__ = [
    "Architecture",
    "Cell",
    "Cluster",
    "Comparison",
    "Memory",
    "NextToken",
    "NextTokens",
    "Sampling",
    "Similar",
    "Token",
    "Tokens",
    "Walk",
    "architecture",
    "compare",
    "memory",
    "next_tokens",
    "sample_tokens",
    "similar",
    "tokens",
]
