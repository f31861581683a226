"""Text embeddings without torch and without a network: the weights and the tokenizer that lie in wordllama's wheel.

A text's embedding is the mean of its tokens' vectors, which were taken from a large language model and trained for
similarity (https://github.com/dleemiller/WordLlama). The two files are read here rather than through the package
itself, which configures the root logger when imported, downloads the tokenizer that its wheel keeps in another folder
than it looks in, and pads a batch to its longest text.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kurabe.errors import ModelError, missing
from kurabe.models.embeddings.base import LocalEmbedder, Task, files_fingerprint
from kurabe.models.reference import Reference, parse_reference

# The wheel's weights have 256 dimensions and were trained so that the first 64 or 128 of them serve alone (Matryoshka).
DIMENSIONS: Final = (64, 128, 256)

_TEXTS_AT_ONCE: Final = 256
_TOKENS_AT_ONCE: Final = 32_768  # 32 MB of float32 at 256 dimensions, however long a text is


class Wordllama(LocalEmbedder):
    """`wordllama:64`, `wordllama:128` or `wordllama:256`. It reads a text to its end, however long."""

    def __init__(self, parsed: Reference) -> None:
        super().__init__(parsed)
        self.dimensions: int = embedding_dimensions(self.reference)
        self.fingerprint = f"{self.reference} {files_fingerprint(_files()[0])}"
        _load()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those that it was trained for."""
        return tuple(size for size in DIMENSIONS if size <= self.dimensions)

    def compute(self, texts: list[str], task: Task) -> np.ndarray:
        """(n, d)"""
        return _sums(texts, self.dimensions)


def embedding_dimensions(reference: str) -> int:
    """The length of the vectors that `reference` gives; raises ModelError where it names no embedding model."""
    parsed = parse_reference(reference)
    if parsed.scheme != "wordllama":
        raise ModelError(f"{reference!r} is no embedding model; use one of: {', '.join(_names())}")
    if parsed.name not in (sizes := [str(size) for size in DIMENSIONS]):
        raise ModelError(f"model reference {reference!r}: {missing('embedding model wordllama', parsed.name, sizes)}")
    return int(parsed.name)


def _sums(texts: Sequence[str], dimensions: int) -> np.ndarray:
    """(n, d): the sum of each text's token vectors."""
    words, table = _load()
    vectors = np.zeros((len(texts), dimensions), dtype=np.float32)
    for row, ids in enumerate(_token_ids(words, texts)):
        for start in range(0, len(ids), _TOKENS_AT_ONCE):
            vectors[row] += table[ids[start : start + _TOKENS_AT_ONCE], :dimensions].sum(axis=0)
    return vectors


def tokenizer() -> Tokenizer:
    """The tokenizer of every `wordllama:` model; it neither pads nor cuts."""
    return _load()[0]


def _names() -> list[str]:
    return [f"wordllama:{size}" for size in DIMENSIONS]


def _token_ids(words: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        # A lone surrogate has no UTF-8 form, and the tokenizer refuses it.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts[start : start + _TEXTS_AT_ONCE]]
        for encoding in words.encode_batch_fast(clean, add_special_tokens=False):
            yield encoding.ids


def _files() -> tuple[Path, Path]:
    """The weights, and the tokenizer's description."""
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("the package 'wordllama' is not installed; install it with: pip install wordllama")
    folder = Path(spec.submodule_search_locations[0])
    weights = folder / "weights" / "l2_supercat_256.safetensors"
    config = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
    if absent := [path.name for path in (weights, config) if not path.is_file()]:
        raise ModelError(f"the installed package 'wordllama' lacks {absent[0]}; install wordllama 0.4 again")
    return weights, config


@cache
def _load() -> tuple[Tokenizer, np.ndarray]:
    weights, config = _files()
    words = Tokenizer.from_file(str(config))
    words.no_padding()
    words.no_truncation()
    return words, load_file(weights)["embedding.weight"].astype(np.float32)
