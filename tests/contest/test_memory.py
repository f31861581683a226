"""The peak memory of a contestant is its own."""

import subprocess
import sys
from pathlib import Path

FIRST_CONTESTANT = """
import numpy as np, polars as pl
from kurabe.api import Task
from kurabe.contest import executor

class Told(executor.PeakMemory):
    def __exit__(self, *error):
        super().__exit__(*error)
        print(self.peak)

executor.PeakMemory = Told
rows = np.arange(200)
frame = pl.DataFrame({"text": [f"item {row}" for row in rows], "price": rows * 1.5})
Task.from_frame(frame, target="price", contestants=["constant"]).compete()
"""


def test_the_first_contestant_does_not_count_the_libraries(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CONTESTANT], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[0]) < 30_000_000  # skops and what it imports take 200 MB, a constant next to nothing
