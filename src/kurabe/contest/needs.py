"""Whether this machine has what a contestant needs."""

import platform
from pathlib import Path

import psutil

from kurabe.contestants.base import Needs
from kurabe.contestants.trained.boosters import processors

_GPUS = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, either one under Windows' Linux


def unmet(needs: Needs) -> str | None:
    """What a contestant would take that is not here, or None."""
    if needs.cores > (there := processors()):
        return f"needs {needs.cores} processor cores, and {there} are here; run it on a larger machine"
    if needs.memory > (bytes_ := psutil.virtual_memory().total):
        return f"needs {needs.memory / 1e9:.0f} GB of memory, and this machine has {bytes_ / 1e9:.0f}"
    if needs.gpu and not _has_gpu():
        return "needs a GPU, and none was found; run it on a machine that has one"
    return None


def _has_gpu() -> bool:
    if any(Path(path).exists() for path in _GPUS):
        return True
    return platform.system() == "Darwin" and platform.machine() == "arm64"
