"""Embeddings by what `open_model` opens: hosted models, and GGUF files in this process."""

from typing import Any

import numpy as np

from kurabe.models import fingerprint, open_model
from kurabe.models.base import ChatModel
from kurabe.models.embeddings.base import AT_ONCE, Embedder, Task
from kurabe.models.hosted.model import HostedModel
from kurabe.models.vectors import AT_ONCE as BATCHES


class Opened(Embedder):
    """A model with `aembed` of its own. A hosted one cuts vectors on the server, where it can; a GGUF file says nothing
    of how its vectors may be cut, so they are not."""

    def __init__(self, reference: str, options: dict[str, Any]) -> None:
        self.model: ChatModel = open_model(reference, **options)
        self.reference = self.model.reference
        self.context = self.model.context
        if isinstance(self.model, HostedModel):
            self.at_once = max(AT_ONCE, self.model.batch * BATCHES)
            self.fingerprint = f"hosted {self.model.client.place} {self.model.model}"
        else:
            self.fingerprint = f"{self.reference} {fingerprint(self.reference)}"

    def _check_size(self, dimensions: int) -> None:
        if not isinstance(self.model, HostedModel):  # what a hosted one can cut to, its server knows
            super()._check_size(dimensions)

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """None for a hosted model, whose server knows."""
        return None if isinstance(self.model, HostedModel) else super().sizes

    async def vectors(self, texts: list[str], dimensions: int | None, task: Task) -> np.ndarray:
        """(n, d)"""
        if not isinstance(self.model, HostedModel):
            if dimensions is not None:
                self.dimensions = (await self.model.aembed(texts[:1], task=task)).shape[1]
                self._check_size(dimensions)
            return await self.model.aembed(texts, task=task)
        return await self.model.aembed(texts, dimensions=dimensions, task=task)

    def close(self) -> None:
        """Release what the model holds."""
        super().close()
        self.model.close()
