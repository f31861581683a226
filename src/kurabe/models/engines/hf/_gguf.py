"""Reading GGUF files by Transformers: without doing the same work again and again, and with the file's own tokens.

Transformers parses the whole header for the config, the tokenizer and the weights each, and makes the table of tensor
names anew for every module of the model; with this, SmolLM2-135M loads about three times as fast. It makes a tokenizer
of the file that leaves out some of what the file says of cutting texts.
"""

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from tokenizers import decoders, pre_tokenizers

_DIGITS: Final = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Values of `tokenizer.ggml.pre` that cut every digit off before anything else (llama.cpp, `llm_tokenizer_bpe`)."""
_lock = threading.RLock()


def cut_as_stated(tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Let a tokenizer that Transformers made of a GGUF file cut texts as the file's header says.

    Transformers doesn't know the kinds of `_DIGITS`, and cuts `a  3` otherwise than they do. It puts a space before
    every text of a SentencePiece tokenizer, also where `add_space_prefix` says no.
    """
    backend = tokenizer.backend_tokenizer
    if settings.get("tokenizer.ggml.model") == "gpt2" and settings.get("tokenizer.ggml.pre") in _DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    spaced = isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace)
    if spaced and settings.get("tokenizer.ggml.add_space_prefix") is False:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


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
