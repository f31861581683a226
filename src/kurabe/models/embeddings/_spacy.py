"""spaCy: the mean of the vectors of a text's tokens (https://spacy.io/usage/linguistic-features#vectors-similarity)."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from kurabe.errors import ModelError
from kurabe.models.embeddings.base import LocalEmbedder, Task, files_fingerprint
from kurabe.models.reference import Reference


class Spacy(LocalEmbedder):
    """`spacy:en_core_web_md`, an installed pipeline that has vectors, or the folder of one. Only its tokenizer runs."""

    def __init__(self, parsed: Reference) -> None:
        super().__init__(parsed)
        import spacy

        by_path = _is_path(parsed.name)
        if not by_path and (other := _other_package(parsed.name)) is not None:
            raise ModelError(
                f"'{parsed}': the installed package {other} is not a spaCy pipeline, so it is not imported. Name a"
                " pipeline such as spacy:en_core_web_md, or the folder of one"
            )
        try:
            pipeline: Any = spacy.load(Path(parsed.name).expanduser() if by_path else parsed.name)
        except Exception as error:  # a component or configuration may raise anything
            if isinstance(error, OSError) and "E05" in str(error):  # E050, E052, E053: nothing there, no meta or config
                raise ModelError(
                    f"'{parsed}': no such pipeline is on this machine; install it with: python -m spacy download"
                    f" {parsed.name}; or name the folder of one"
                ) from None
            raise ModelError(f"'{parsed}' can't be loaded as a spaCy pipeline: {error}") from None
        if not pipeline.vocab.vectors_length:
            raise ModelError(
                f"the pipeline {parsed.name} has no word vectors; those whose name ends with _md or _lg have"
            )
        self._pipeline: Any = pipeline
        self.dimensions = int(pipeline.vocab.vectors_length)
        self.fingerprint = f"spacy {files_fingerprint(pipeline.path)}"

    def compute(self, texts: list[str], task: Task) -> np.ndarray:
        """(n, d)"""
        if self._pipeline is None:
            raise ModelError(f"{self.reference} is closed")
        assert self.dimensions is not None
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        with self._pipeline.memory_zone():  # without it the vocabulary grows with every new word
            for row, text in enumerate(texts):
                vectors[row] = self._pipeline.tokenizer(text).vector  # make_doc refuses more than a million characters
        return vectors

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        with self._lock:
            self._pipeline = None


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.startswith((".", "~")) or Path(name).is_dir()


def _other_package(name: str) -> str | None:
    """The installed distribution of this name, where it is not a spaCy pipeline: spaCy imports whatever is installed.

    A pipeline's package states itself as an entry point `spacy_models` with the module's name, as `spacy package` makes
    it (https://spacy.io/api/cli#package).
    """
    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        return None
    stated = {entry.name for entry in found.entry_points if entry.group == "spacy_models"}
    return None if name in stated else found.name
