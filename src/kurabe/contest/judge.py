"""The model that judges style: a `prompt` contestant whose rows are pairs of answers and whose labels are verdicts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from kurabe import models
from kurabe.contest.style import FIRST, NEITHER, SECOND, SYSTEM, USER, Showing
from kurabe.contestants import registry
from kurabe.contestants.base import Contestant
from kurabe.errors import ContestantError, InputError, TaskError
from kurabe.models.reference import is_local
from kurabe.tasks.checks import labelled
from kurabe.tasks.spec import ContestantSpec, Style, TaskSpec

MAX_INPUT_CHARS = 8000  # of the input and of each answer; a longer one is cut
MAX_TOKENS = 1024  # the verdict is one word; a reasoning model thinks before it


def judges(spec: TaskSpec, folder: Path) -> dict[str, tuple[Style, Contestant]]:
    """The styles that a task asks for and who judges them, by the check's name.

    Raises TaskError where a judge's options are not valid, or hold what must not be kept.
    """
    found = {}
    for index, (label, check) in enumerate(labelled(spec.checks)):
        if check.style is not None:
            try:
                found[label] = check.style, _judge(check.style, folder)
            except (ContestantError, InputError) as error:
                raise TaskError(f"checks[{index}].style: {error}") from None
    return found


def _judge(style: Style, folder: Path) -> Contestant:
    reference = models.beside(style.judge, folder)
    settings = {
        "model": reference,
        "options": style.options,
        "system": SYSTEM.format(rubric=style.rubric),
        "user": USER,
        "max_tokens": None if is_local(reference) else MAX_TOKENS,
        "max_input_chars": MAX_INPUT_CHARS,
    }
    judge = registry.build(ContestantSpec("prompt", settings, "judge"), registry.Context("label"))
    verdicts = np.array([FIRST, SECOND, NEITHER], dtype=object)
    fitted: Contestant = judge.fit(rows_of([Showing("", "", "")] * len(verdicts)), verdicts)
    return fitted


def rows_of(showings: Sequence[Showing]) -> pl.DataFrame:
    """What the judge reads, one row a showing."""
    columns = ("question", "first", "second")
    return pl.DataFrame(
        [pl.Series(name, [getattr(one, name) for one in showings], dtype=pl.String) for name in columns]
    )
