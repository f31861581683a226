"""How the libraries under the Transformers engine say that memory lacks."""

import errno
from typing import Final

import torch

_IN_WORDS: Final = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
)
_ONEDNN: Final = frozenset({
    "could not create a primitive", "could not execute a primitive", "could not create a memory object",
})  # fmt: skip
"""All that PyTorch passes on where oneDNN gets no memory for its code or its scratchpad: the status that says so stays
behind. Only these whole sentences: `… a primitive descriptor for …` says that there is no such kernel."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is one of too little memory, on the processor or a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    return isinstance(error, RuntimeError) and (text in _ONEDNN or any(words in text.lower() for words in _IN_WORDS))


def said(error: BaseException) -> str:
    """The first words of an error; those of CUDA go on for lines, and some have none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
