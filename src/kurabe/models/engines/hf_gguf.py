"""Reading GGUF files by Transformers, without doing the same work again and again.

Transformers parses the whole header for the config, the tokenizer and the weights each, and makes the table of tensor
names anew for every module of the model; with this, SmolLM2-135M loads about three times as fast.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_lock = threading.RLock()


@contextmanager
def read_once() -> Iterator[None]:
    """Let each GGUF file be parsed once inside, without a progress bar."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        """Slices of a plain array are made several times as fast as those of a memory map."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    replaced = (
        (gguf, "GGUFReader", functools.cache(Reader)),
        (gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        (reading, "tqdm", lambda items, **_: items),
    )
    with _lock:
        kept = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        try:
            for module, name, value in replaced:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in kept:
                setattr(module, name, value)
