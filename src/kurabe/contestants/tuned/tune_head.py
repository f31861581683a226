"""A tuned model that answers with numbers by a head: what its training and its answers do otherwise than with text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kurabe.contestants.base import Prediction, Validation
from kurabe.contestants.frames import as_target
from kurabe.errors import ContestantError, TuningError
from kurabe.models.engines.base import LocalModel
from kurabe.models.reference import parse_reference
from kurabe.tasks.metrics import Metric
from kurabe.tuning.rows import Row, number_row, place
from kurabe.tuning.settings import TuneSettings

if TYPE_CHECKING:
    from kurabe.contestants.tuned.tune import Tune

ROWS = 64
"""Rows answered together: those of like length go through the model at once."""


def require_number(contestant: "Tune") -> None:
    """Raise ContestantError where a head can't answer, or is given settings of text answers."""
    if contestant.kind_ != "number":
        raise ContestantError(
            f"tune: head: {contestant.head} answers with numbers, and the task is of kind {contestant.kind_}; leave"
            " head out, and the model answers in text"
        )
    if contestant.decode != "auto":
        raise ContestantError(
            f"tune: decode: {contestant.decode} is for answers in text, and head: {contestant.head} writes none; leave"
            " one of them out"
        )


class NumberAnswers:
    """How a model is tuned to answer with a head."""

    def __init__(
        self, contestant: "Tune", settings: TuneSettings, metric: Metric, y: np.ndarray, validation: Validation | None
    ) -> None:
        from kurabe.tuning import head

        assert settings.head is not None
        self.contestant, self.settings, self.metric, self.y = contestant, settings, metric, y
        self.checked = validation
        self.numbers = head.numbers_for(settings.head, y, metric.name)
        self.loss = head.loss_of(self.numbers)

    def rows(self, engine: LocalModel, X: pl.DataFrame, context: int) -> list[Row]:
        """What is trained on; the rows that are checked are made ready as well."""
        if self.checked is not None:
            asked, limit = self.contestant.conversations(self.checked[0], engine), engine.context or context
            self.prompts = [number_row(engine, request, 0.0, limit, "a validation row").ids for request in asked]
        targets = self.numbers.scale.forward(self.y).tolist()
        requests = self.contestant.conversations(X, engine)
        return [
            number_row(engine, request, target, context, place(number, len(targets)))
            for number, (request, target) in enumerate(zip(requests, targets, strict=True), 1)
        ]

    def model(self, model: Any) -> Any:
        """The model with its head, which is learned too."""
        from kurabe.tuning.head import begin

        self.headed = begin(model, self.numbers, self.numbers.scale.forward(self.y))
        return self.headed

    def score(self, loaded: Any) -> float:
        """The task's metric on the rows that are checked."""
        from kurabe.tuning.head import read

        assert self.checked is not None
        z = read(self.headed, self.prompts, loaded.tokenizer.pad_token_id, self.settings.micro_tokens)
        guesses = self.numbers.answers(self.numbers.quantiles(z))
        return self.metric.score(as_target(self.checked[1], "number", len(z)), guesses)

    def save(self, folder: Path) -> None:
        """Write the head."""
        from kurabe.tuning.head import save

        save(self.headed, self.numbers, folder)


def tuned_folder(reference: str) -> Path:
    """Where what tuning made lies, by the tuned model's reference."""
    parsed = parse_reference(reference)
    return Path(parsed.options.get("adapter", parsed.name))


def quantiles(
    contestant: "Tune", X: pl.DataFrame, model: Any, stop: Callable[[], bool] = lambda: False
) -> Iterator[np.ndarray]:
    """Of each `ROWS` rows what the head says, (rows, levels) in the target's unit, ascending; NaN where a prompt does
    not fit the context. Nothing more is asked once `stop()` is true."""
    from kurabe.tuning.head import load, read

    if not hasattr(model, "loaded"):
        raise TuningError(f"a number head needs a model of Transformers, and {model.reference!r} is not one")
    loaded = model.loaded
    headed, numbers = load(loaded.model, tuned_folder(contestant.tuned_))
    for start in range(0, X.height, ROWS):
        if stop():
            return
        prompts = [model.prompt_ids(request) for request in contestant.conversations(X[start : start + ROWS], model)]
        fits = [row for row, ids in enumerate(prompts) if len(ids) <= loaded.context]
        found = np.full((len(prompts), numbers.width), np.nan)
        z = read(headed, [prompts[row] for row in fits], loaded.tokenizer.pad_token_id, contestant.micro_tokens)
        found[fits] = numbers.quantiles(z)
        yield found


def predictions(found: Iterator[np.ndarray]) -> Iterator[list[Prediction]]:
    """What the contest keeps of `quantiles`."""
    start = 0
    for part in found:
        middle = part.shape[1] // 2
        yield [
            Prediction(start + row, None if np.isnan(values[middle]) else float(values[middle]), _said(values))
            for row, values in enumerate(part)
        ]
        start += len(part)


def _said(values: np.ndarray) -> str | None:
    """The quantiles as the report shows them beside the answer."""
    return " ".join(f"{value:.6g}" for value in values) if len(values) > 1 and not np.isnan(values[0]) else None
