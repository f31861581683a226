"""The lens: tools that show a model's inside. Each reads what it needs and nothing more; no weights are loaded.

`kurabe.lens.architecture(ref)` is how a model is built, `kurabe.lens.memory(ref_or_size)` what it takes to run or tune.
"""

from kurabe.lens.architecture import Architecture, architecture

__all__ = ["Architecture", "architecture"]
