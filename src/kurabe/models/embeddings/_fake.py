"""Vectors out of hashed words: the same on every machine, in no time, and alike for texts that share words."""

import hashlib
import re

import numpy as np

from kurabe.errors import ModelError
from kurabe.models.embeddings.base import LocalEmbedder, Task
from kurabe.models.reference import Reference

MOST = 4_096
_WORD = re.compile(r"\w+")


class Fake(LocalEmbedder):
    """`fake:64`: the sum of a vector for each word of the text in lower case, for tests.

    A word's numbers are the bytes of its SHAKE-256 from -127.5 to 127.5, so that different words are nearly at a right
    angle, and the cosine of two texts is about the share of words that they have in common.
    """

    def __init__(self, parsed: Reference) -> None:
        super().__init__(parsed)
        name = parsed.name
        if not (name.isascii() and name.isdigit() and 1 <= int(name) <= MOST):
            raise ModelError(
                f"'{parsed}': after 'fake:' stands the length of the vectors, 1 to {MOST}, as in 'fake:64'"
            )
        self.dimensions = int(name)

    @property
    def sizes(self) -> None:
        """Every length: the first numbers of a hash are as good as all."""
        return None

    def compute(self, texts: list[str], task: Task) -> np.ndarray:
        """(n, d)"""
        assert self.dimensions is not None
        vectors = np.zeros((len(texts), self.dimensions))
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()) or [text]:
                digest = hashlib.shake_256(word.encode()).digest(self.dimensions)
                vectors[row] += np.frombuffer(digest, np.uint8) - 127.5
        return vectors
