"""Sentence-transformers: the models that are trained to embed sentences (https://sbert.net), on PyTorch."""

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from kurabe.errors import ModelError
from kurabe.models.embeddings.base import LocalEmbedder, Task, files_fingerprint, model_folder
from kurabe.models.engines.hf.quiet import quiet
from kurabe.models.files.small_files import check_small_files, read_small
from kurabe.models.reference import Reference

BATCH: Final = 32
"""Texts of nearly one length in one pass."""
_TRAINED: Final = re.compile(r"\"?matryoshka_dims\"?\s*[:=]\s*\[([\d,\s]+)\]")


class SentenceTransformers(LocalEmbedder):
    """`sentence-transformers:all-MiniLM-L6-v2`, another repository of the hub, or a folder, with `?device=cuda`.

    `task` chooses the model's own prompt for queries or documents, where it has one. A model that comes with code of
    its own runs it only with `?remote_code=` and the name of the repository or the path of the folder again.
    """

    def __init__(self, parsed: Reference) -> None:
        super().__init__(parsed)
        folder = model_folder(parsed)
        check_small_files(folder)
        trusted = _trusted(parsed, folder)
        with quiet():  # as importing and loading print advice, deprecations and progress bars
            from sentence_transformers import SentenceTransformer

            try:
                model = SentenceTransformer(
                    str(folder),
                    device=parsed.options.get("device"),
                    trust_remote_code=trusted,
                    local_files_only=True,
                )
            except Exception as error:  # of torch, transformers, safetensors, or the model's own code
                if "trust_remote_code" in str(error):
                    raise ModelError(
                        f"'{parsed}' comes with code of its own, which is not run unasked; read it, and then write"
                        f" '{parsed.scheme}:{parsed.name}?remote_code={parsed.name}'"
                    ) from None
                first = str(error).strip().partition("\n")[0]
                raise ModelError(f"{folder} can't be loaded as a sentence-transformers model: {first}") from None
        self._model: Any = model
        width = model.get_embedding_dimension()
        self.dimensions = width if width is not None else int(self.compute(["a"], None).shape[1])
        self.context = model.max_seq_length
        self.fingerprint = f"sentence-transformers {parsed.options.get('device', '')} {files_fingerprint(folder)}"
        self._sizes = declared_sizes(folder, self.dimensions)

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """The lengths that the model's files say it was trained for (Matryoshka), every one where they name none."""
        return self._sizes

    def compute(self, texts: list[str], task: Task) -> np.ndarray:
        """(n, d)"""
        if self._model is None:
            raise ModelError(f"{self.reference} is closed")
        encode = {None: self._model.encode, "query": self._model.encode_query, "document": self._model.encode_document}
        return np.asarray(encode[task](texts, batch_size=BATCH, show_progress_bar=False), np.float32)

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        with self._lock:
            self._model = None


def declared_sizes(folder: Path, whole: int) -> tuple[int, ...] | None:
    """The lengths that a model's vectors can be cut to, `whole` last; None where it was trained to be cut and names no
    length. They stand in its configuration, or on its card, which sentence-transformers writes after training."""
    config = folder / "config.json"
    values = json.loads(config.read_bytes()) if config.is_file() else {}
    named = values.get("matryoshka_dimensions") or values.get("matryoshka_dims")
    card = folder / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    if not isinstance(named, list) and (found := _TRAINED.search(text)) is not None:
        named = [int(number) for number in re.findall(r"\d+", found[1])]
    if isinstance(named, list):
        return (*sorted({size for size in named if isinstance(size, int) and 0 < size < whole}), whole)
    return None if "matryoshka" in text.lower() else (whole,)


def _trusted(parsed: Reference, folder: Path) -> bool:
    """Whether the model's own code may run; raises ModelError where `remote_code` names another model than this, or
    where this one's code lies in yet another repository."""
    named = parsed.options.get("remote_code")
    if named is None:
        return False
    if named != parsed.name:
        raise ModelError(f"'{parsed}': ?remote_code= must name the model whose code may run, {parsed.name!r}")
    for path in folder.glob("**/*.json"):
        for owner in re.findall(rb'"([\w.-]+/[\w.-]+)--[\w.]+"', read_small(path)):
            if owner.decode() != parsed.name:
                raise ModelError(f"'{parsed}': its code lies in the repository {owner.decode()!r}, which is not run")
    return True
