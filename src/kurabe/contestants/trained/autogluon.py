"""AutoGluon, an optional contestant: AutoML in a process and an environment of its own, as the thing to beat."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import msgspec
import numpy as np
import polars as pl

from kurabe.contestants.base import Contestant, Validation
from kurabe.contestants.frames import TEXT, as_frame, as_target, held_part, joined, require
from kurabe.contestants.trained.learner import checked_kind, scored_by
from kurabe.errors import ContestantError
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.spec import Kind

WORKER = Path(__file__).with_name("autogluon_worker.py").read_text("utf-8")
SCORES = {  # AutoGluon's names of our metrics; any other is left to its default
    "mean_absolute_error": "mean_absolute_error", "root_mean_squared_error": "root_mean_squared_error", "r2": "r2",
    "accuracy": "accuracy", "macro_f1": "f1_macro",
}  # fmt: skip


class AutoGluon(Contestant):
    """AutoGluon, which trains many models and weights them, in a process of its own.

    Its models are pickles, which kurabe never loads. So they are not saved, and `predict` trains again.

    Parameters
    ----------
    minutes
        How long it may train.
    python
        The interpreter of an environment that has AutoGluon; None: the one that runs kurabe. Make an environment with
        `python -m venv /path/to/venv` and `/path/to/venv/bin/pip install autogluon.tabular`. If a task file names an
        interpreter, you have to allow it: `--allow-code /path/to/venv/bin/python`.
    preset
        AutoGluon's own setting for how much it tries.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label"})
    no_effect: ClassVar[frozenset[str]] = frozenset({"python"})

    def __init__(
        self,
        minutes: Annotated[float, msgspec.Meta(gt=0)] = 5.0,
        python: str | None = None,
        preset: str = "medium_quality",
        kind: Kind | None = None,
        metric: str | None = None,
    ) -> None:
        self.minutes = minutes
        self.python = python
        self.preset = preset
        self.kind = kind
        self.metric = metric

    def skipped_reason(self) -> str | None:
        """Why AutoGluon can't be used here, or None where it can."""
        python = self.python or sys.executable
        install = f"Install it with: {python} -m pip install autogluon.tabular"
        check = "import importlib.util, sys; sys.exit(importlib.util.find_spec('autogluon.tabular') is None)"
        try:
            with tempfile.TemporaryDirectory(prefix="kurabe-autogluon-") as folder:
                found = _ran([python, "-c", check], Path(folder), timeout=60).returncode == 0
        except (OSError, subprocess.TimeoutExpired) as error:
            return (
                f"the Python at {python} cannot be run ({error}); set `python` to that of an environment with AutoGluon"
            )
        return None if found else f"{python} has no AutoGluon. {install}"

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Train on the training and the validation part; AutoGluon holds out rows of its own."""
        X = as_frame(X)
        self.kind_ = checked_kind(self, y)
        X, y = joined(X, as_target(y, self.kind_, X.height), held_part(validation, self.kind_))
        if self.kind_ == "label":  # codes come through a CSV file as they went, whatever the labels look like
            self.classes_, y = np.unique(y, return_inverse=True)
        self.constant_ = y[0] if (y == y[0]).all() else None
        # The rendered input only repeats the columns, unless it says more than they do.
        apart = TEXT not in prose_columns(X)
        self.columns_ = [name for name in X.columns if not (apart and name == TEXT)] or list(X.columns)
        if self.constant_ is not None:
            return self
        self.folder_ = tempfile.mkdtemp(prefix="kurabe-autogluon-")
        weakref.finalize(self, shutil.rmtree, self.folder_, ignore_errors=True)
        metric = scored_by(self.metric, self.kind_).name
        settings = {
            "kind": self.kind_, "seconds": self.minutes * 60, "preset": self.preset, "metric": SCORES.get(metric),
            "target": "the target",
        }  # fmt: skip
        self._run("fit", X.with_columns(pl.Series("the target", y.tolist())), settings)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """One answer a row, shape (n,)."""
        X = as_frame(X)
        require(X, self.columns_)
        if self.constant_ is not None or not X.height:
            return self._said(np.full(X.height, self.constant_))
        return self._said(np.array(json.loads(self._run("predict", X, {})), dtype=np.float64))

    def _said(self, said: np.ndarray) -> np.ndarray:
        if self.kind_ == "number":
            return said.astype(np.float64)
        return np.asarray(self.classes_[said.astype(np.intp)])

    def _run(self, what: str, X: pl.DataFrame, settings: dict[str, Any]) -> str:
        """Have the worker fit or predict, and return what it wrote. Raises ContestantError where it fails."""
        folder = Path(self.folder_)
        kept = [*self.columns_, *(["the target"] if what == "fit" else [])]
        # CSV needs no library that reads it; missing values are empty fields.
        X.select(kept).write_csv(folder / "rows.csv")
        (folder / "settings.json").write_text(json.dumps(settings | {"what": what}), "utf-8")
        done = _ran([self.python or sys.executable, "-c", WORKER, str(folder)], folder)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise ContestantError(f"AutoGluon failed to {what}: {last}")
        answers = folder / "answers.json"
        return answers.read_text("utf-8") if what == "predict" else ""

    def __getstate__(self) -> dict[str, Any]:
        if hasattr(self, "kind_"):
            raise ContestantError("AutoGluon's models are pickles, which kurabe does not load")
        state: dict[str, Any] = super().__getstate__()
        return state


def _ran(command: list[str], folder: Path, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run an interpreter in a folder of ours, and end it with all that it has started if we are interrupted.

    An interpreter also imports from its working folder, and the user's may be a stranger's. Raises OSError and
    subprocess.TimeoutExpired.
    """
    program = os.path.abspath(command[0]) if os.path.dirname(command[0]) else command[0]
    process = subprocess.Popen(
        [program, *command[1:]], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            said, complaint = process.communicate(timeout=timeout)
        except BaseException:  # also Ctrl-C, and the end of a run's minutes
            _kill_group(process)
            process.wait()  # Popen does not wait by itself after Ctrl-C
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complaint)


def _kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill a process that leads a session, with the processes that it started."""
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
