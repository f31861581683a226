"""Model2Vec: the vectors of a text's tokens, distilled from a sentence model, and their mean.

https://github.com/MinishLab/model2vec
"""

import json
from typing import Any

import numpy as np

from kurabe.errors import ModelError
from kurabe.models.embeddings.base import LocalEmbedder, Task, files_fingerprint, model_folder
from kurabe.models.files.small_files import check_small_files
from kurabe.models.reference import Reference


class Model2Vec(LocalEmbedder):
    """`model2vec:minishlab/potion-base-8M`, or a folder. The model reads `context` tokens of a text, mostly 512."""

    def __init__(self, parsed: Reference) -> None:
        super().__init__(parsed)
        folder = model_folder(parsed)
        check_small_files(folder)
        from model2vec import StaticModel

        try:
            self._model: Any = StaticModel.from_pretrained(folder, force_download=False)
        except Exception as error:  # of the package, the tokenizer, safetensors or the configuration
            raise ModelError(f"{folder} can't be loaded as a Model2Vec model: {error}") from None
        self.fingerprint = f"model2vec {files_fingerprint(folder)}"
        self.dimensions = int(self._model.dim)
        self.context = self._model.max_length

        path = folder / "config.json"
        self._ordered = bool(path.is_file() and json.loads(path.read_bytes()).get("apply_pca"))

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """Every length where the numbers are principal components, the greatest first; else the whole one."""
        return None if self._ordered else super().sizes

    def compute(self, texts: list[str], task: Task) -> np.ndarray:
        """(n, d)"""
        if self._model is None:
            raise ModelError(f"{self.reference} is closed")
        return np.asarray(self._model.encode(texts, show_progress_bar=False, use_multiprocessing=False))

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        with self._lock:
            self._model = None
