"""An embedder: how often each letter stands in a text."""

import numpy as np

from kurabe.models.embeddings.base import LocalEmbedder

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Letters(LocalEmbedder):
    """`letters:latin`: a text as 26 counts, which kurabe scales to length 1."""

    dimensions = len(LETTERS)

    def compute(self, texts: list[str], task: str | None) -> np.ndarray:
        """(n, 26) counts."""
        return np.array([[text.lower().count(letter) for letter in LETTERS] for text in texts], np.float32)
