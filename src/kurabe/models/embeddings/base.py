"""What every embedder can do, wherever its vectors are made."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from kurabe.errors import InputError, ModelError
from kurabe.models import loop
from kurabe.models.files.hub import cached, hub_name
from kurabe.models.reference import Reference

if TYPE_CHECKING:
    from kurabe.models.embeddings._cache import VectorCache

AT_ONCE = 2_000
"""Texts between two looks into the cache, and in one step of `embed_batches`."""

OWNERS = {"sentence-transformers": "sentence-transformers", "model2vec": "minishlab"}
"""Whose repository on the hub a name without an owner is."""

Task = Literal["query", "document"] | None


class Embedder(ABC):
    """An embedding model: texts to vectors of length 1. `open_embedder` opens one.

    It can be used from any thread, from a running event loop and from a notebook. A text in which the model knows no
    token,
    or with only white space, gives zeros. If a text is longer than the model reads (`context`), sentence-transformers
    and
    Model2Vec leave out its end; GGUF files and most providers refuse it (ContextTooLongError).
    """

    reference: str
    fingerprint: str
    """What tells this model from every other one, for the cache: also from another file of the same name."""
    dimensions: int | None = None
    """The length of an uncut vector; None where only the first answer tells."""
    context: int | None = None
    """Tokens of a text that the model reads, where that is known; None also where it reads them all."""
    at_once: int = AT_ONCE
    cache: "VectorCache | None" = None

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """Lengths to which vectors can be cut, the whole one last; None where every length up to it is one."""
        return (self.dimensions,) if self.dimensions is not None else None

    @abstractmethod
    async def vectors(self, texts: list[str], dimensions: int | None, task: Task) -> np.ndarray:
        """Vectors of texts that are not blank; what an engine implements.

        Parameters
        ----------
        texts : list of str
            The texts.
        dimensions : int or None
            One of `sizes`; None for the whole vector.
        task : {"query", "document"} or None
            What the texts are.

        Returns
        -------
        ndarray, shape (n, d)
            Of any length.
        """

    def close(self) -> None:
        """Release what the model holds: its connections or its memory."""
        if self.cache is not None:
            self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reference!r})"

    def embed(self, texts: str | Sequence[str], *, dimensions: int | None = None, task: Task = None) -> np.ndarray:
        """Vectors of texts.

        Parameters
        ----------
        texts : str or sequence of str
            The texts, or one text.
        dimensions : int, optional
            Cut each vector to so many numbers and scale it to length 1 again, if the model allows that.
        task : {"query", "document"}, optional
            What the texts are, for models that tell queries from documents; others ignore it.

        Returns
        -------
        ndarray, shape (n, d), float32
            One vector of length 1 for each text, in order; (1, d) for one text.

        Raises
        ------
        InputError
            If something is not a text, or if the model has no vectors of that length.
        """
        return loop.run(self.aembed(texts, dimensions=dimensions, task=task))

    async def aembed(
        self, texts: str | Sequence[str], *, dimensions: int | None = None, task: Task = None
    ) -> np.ndarray:
        """`embed`, awaited.

        Parameters
        ----------
        texts, dimensions, task
            As for `embed`.
        """
        listed = _listed(texts)
        size = self._checked(dimensions, task)
        parts = [
            await self._part(listed[at : at + self.at_once], size, task, at)
            for at in range(0, len(listed), self.at_once)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, size or self.dimensions or 0), np.float32)

    def embed_batches(
        self, texts: Iterable[str], *, dimensions: int | None = None, task: Task = None
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Vectors of any number of texts, in the memory of one batch.

        Parameters
        ----------
        texts : iterable of str
            They are drawn as they are needed.
        dimensions, task
            As for `embed`.

        Yields
        ------
        texts : list of str
            Some of the texts, in order.
        vectors : ndarray, shape (n, d), float32
            Their vectors.

        Raises
        ------
        InputError
            If something is not a text.
        """
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"texts are several, such as a list of them, not {type(texts).__name__}")
        drawn = iter(texts)
        while part := list(islice(drawn, self.at_once)):
            yield part, self.embed(part, dimensions=dimensions, task=task)

    def _checked(self, dimensions: int | None, task: Task) -> int | None:
        """The length to cut to, or None for the whole vector."""
        if task not in (None, "query", "document"):
            raise InputError(f"the task is 'query' or 'document', not {task!r}")
        if dimensions is None:
            return None
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1:
            raise InputError(f"dimensions is a whole number above 0, not {dimensions!r}")
        self._check_size(dimensions)
        return None if dimensions == self.dimensions else dimensions

    def _check_size(self, dimensions: int) -> None:
        """Raises InputError where vectors can't be cut to this length."""
        if self.sizes is not None and dimensions not in self.sizes:
            *cut, whole = map(str, self.sizes)
            also = f"; it can be cut to {', '.join(cut)}" if cut else "; the model was not trained to be cut"
            raise InputError(f"{self.reference} gives vectors of {whole} numbers, not {dimensions}{also}")
        if self.sizes is None and self.dimensions is not None and dimensions > self.dimensions:
            raise InputError(
                f"{self.reference} gives vectors of {self.dimensions} numbers, not {dimensions}; it can be cut to any"
                " length below"
            )

    async def _part(self, texts: list[str], size: int | None, task: Task, start: int) -> np.ndarray:
        """The vectors of one step, each different text made once."""
        for place, text in enumerate(texts, start):
            if not isinstance(text, str):
                raise InputError(f"text {place} is no text: {text!r:.80}")
        # A lone surrogate has no UTF-8 form, and tokenizers and servers refuse it.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        distinct = list(dict.fromkeys(text for text in clean if text.strip()))
        width = size or self.dimensions
        if not distinct:
            if width is None:
                raise InputError(f"no text has a word in it, and how long {self.reference}'s vectors are is not known")
            return np.zeros((len(texts), width), np.float32)
        made = await self._made(distinct, size, task)
        if self.dimensions is None and size is None:
            self.dimensions = made.shape[1]
        zero = np.zeros((1, made.shape[1]), np.float32)
        places = {text: place for place, text in enumerate(distinct)}
        return np.concatenate([made, zero])[[places.get(text, len(distinct)) for text in clean]]

    async def _made(self, texts: list[str], size: int | None, task: Task) -> np.ndarray:
        """Unit vectors of different texts, as many as can be from the cache."""
        if self.cache is None:
            return self._units(await self.vectors(texts, size, task), size)
        keys = self.cache.keys(self.fingerprint, task, size, texts)
        found = self.cache.get(keys)
        new = [place for place, key in enumerate(keys) if key not in found]
        if new:
            fresh = self._units(await self.vectors([texts[place] for place in new], size, task), size)
            made = {keys[place]: vector for place, vector in zip(new, fresh, strict=True)}
            self.cache.put(made)
            found |= made
        return np.stack([found[key] for key in keys])

    def _units(self, vectors: np.ndarray, size: int | None) -> np.ndarray:
        if size is not None and vectors.shape[1] != size:
            raise InputError(
                f"{self.reference} gives vectors of {vectors.shape[1]} numbers and can't cut them to {size}; leave out"
                " dimensions"
            )
        return units(vectors)


class LocalEmbedder(Embedder):
    """An embedder of this process: one call at a time, on a thread of its own."""

    def __init__(self, parsed: Reference) -> None:
        self.reference = self.fingerprint = str(parsed)
        self._lock = threading.Lock()

    @abstractmethod
    def compute(self, texts: list[str], task: Task) -> np.ndarray:
        """(n, d) vectors of texts that are not blank, uncut."""

    async def vectors(self, texts: list[str], dimensions: int | None, task: Task) -> np.ndarray:
        """(n, d), cut to `dimensions`."""

        def work() -> np.ndarray:
            with self._lock:
                return self.compute(texts, task)

        return (await asyncio.to_thread(work))[:, :dimensions]


def _listed(texts: Any) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable):
        raise InputError(f"what is embedded is a text or a list of texts, not {type(texts).__name__}")
    return list(texts)


def units(vectors: Any) -> np.ndarray:
    """(n, d) float32, each row scaled to length 1; a row of zeros stays one. Raises ModelError for infinite numbers."""
    array = np.asarray(vectors, np.float32)
    if not np.isfinite(array).all():
        raise ModelError("the model gave vectors that are not finite; it may be damaged, or its precision too low")
    largest = np.abs(array).max(axis=1, keepdims=True)  # squares of great or tiny numbers have no place in a float
    scaled = array / np.where(largest > 0, largest, np.float32(1))
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(norms > 0, norms, np.float32(1)))


def files_fingerprint(path: Path) -> str:
    """What tells a file or the files of a folder from others in its place: names, sizes and times of change."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return " ".join(
        f"{each.relative_to(path) if each != path else each.name}:{each.stat().st_size}:{each.stat().st_mtime_ns}"
        for each in files
        if "__pycache__" not in each.parts
    )


def model_folder(parsed: Reference) -> Path:
    """The folder that the reference names: a path, or a repository of the hub as it lies in the hub's cache.

    Raises ModelError where it is not on this machine.
    """
    path = Path(parsed.name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(f"'{parsed}': {path} is a file; name the folder of the model")
    owner = OWNERS.get(parsed.scheme)
    name = parsed.name if "/" in parsed.name or owner is None else f"{owner}/{parsed.name}"
    if parsed.name.startswith(("/", ".", "~", "\\")) or name.count("/") != 1 or "\\" in name:
        raise ModelError(f"'{parsed}': there is no folder {path}")
    revision = parsed.options.get("revision")
    on_hub = hub_name(name, revision)
    if on_hub is not None and (found := cached(on_hub)) is not None:
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except HFValidationError:
        raise ModelError(f"'{parsed}': there is no folder {path}, and it is no name of a repository either") from None
    except (LocalEntryNotFoundError, OSError):
        at = f"?revision={revision}" if revision else ""
        raise ModelError(
            f"'{parsed}' is not on this machine: there is no folder {path}, and the Hugging Face cache has no {name};"
            f" fetch it with: kurabe pull {parsed.scheme}:{name}{at}"
        ) from None
