"""The lens: tools that show a model's inside. Each reads what it needs and nothing more.

`kurabe.lens.tokens(ref, text)` is how a tokenizer cuts a text.
`kurabe.lens.architecture(ref)` is how a model is built, `kurabe.lens.memory(ref_or_size)` what it takes to run or tune.
"""

from kurabe.lens.architecture import Architecture, architecture
from kurabe.lens.tokens import Token, Tokens, tokens

__all__ = ["Architecture", "Token", "Tokens", "architecture", "tokens"]
