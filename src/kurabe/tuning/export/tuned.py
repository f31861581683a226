"""What is exported."""

from pathlib import Path
from typing import Literal

import msgspec

from kurabe.models.reference import Reference

Type = Literal["f32", "f16", "bf16", "q8_0"]


class Tuned(msgspec.Struct, frozen=True):
    """What is exported. `base`: the model of Transformers without adapter and precision; `path`: where it lies.
    `adapter`: a folder of PEFT's, None where the weights at `path` are the tuned ones. `metadata`: the GGUF file that
    these were made of, whose tokenizer they go with."""

    base: Reference
    path: Path
    adapter: Path | None
    metadata: Path | None = None

    def shown(self, card: str) -> str:
        """A card that kurabe wrote, with the base's name for others."""
        return card.replace(f"hf:{self.base.name}", self.public_name)

    @property
    def scale(self) -> float:
        """What the adapter is multiplied by."""
        from kurabe.models.engines.hf.adapter import adapter_scale

        return adapter_scale(self.base)

    @property
    def public_name(self) -> str:
        """The base's name for others: of a path on this machine, its last part."""
        return public_name(self.base.name)


def public_name(name: str) -> str:
    """A model's name for others: of a path on this machine, its last part."""
    return Path(name).name if Path(name).expanduser().exists() else name
