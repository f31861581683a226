"""The files beside a model's weights, such as config.json and tokenizer.json, which are read whole: how large they may
be, whoever made them."""

from pathlib import Path
from typing import Final

from kurabe.errors import ModelError

ENDINGS: Final = (".json", ".txt", ".model", ".jinja", ".tiktoken")
MOST_BYTES: Final = 1 << 27
"""Of one file. The largest that are known, the tokenizer.json of a million tokens, have some 60 MB."""
MOST_VALUES: Final = 1 << 22
"""Of one JSON file. Each takes up to 120 bytes in Python; those tokenizers have under 3 million."""


def read_small(path: Path) -> bytes:
    """The file. Raises ModelError where it is too large or has too many values to be of a model, and OSError."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ModelError(f"{path} has more than {MOST_BYTES >> 20} MiB, so it is no file of a model; fetch it again")
    if path.suffix == ".json" and sum(data.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise ModelError(f"{path} has more than {MOST_VALUES:,} values, so it is no file of a model; fetch it again")
    return data


def check_small_files(folder: Path) -> None:
    """Raises ModelError for a file of the model, or of its modules in folders, that `read_small` would refuse."""
    for path in sorted((*folder.glob("*"), *folder.glob("*/*.json"))):
        if path.suffix in ENDINGS and path.is_file():
            try:
                read_small(path)
            except OSError as error:
                raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
