"""What a contestant that still learns has noted so far, so that a report shows it before it is through."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kurabe.contest.notes import readable


def tuning_so_far(folder: Path, entry: bytes) -> dict[str, Any]:
    """The losses and scores of a model that is being tuned, from its checkpoint in `folder`/tuned; {} where there is
    none."""
    path = folder / "tuned" / entry.hex() / "checkpoint.safetensors"
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            notes = json.loads(file.metadata()["kurabe"])["notes"]
            return readable({"tuning": {"losses": notes["losses"], "scores": notes["scores"]}})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return {}  # tuning itself says what is wrong with it
