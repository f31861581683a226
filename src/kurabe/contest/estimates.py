"""What contestants will take before they are asked: calls, tokens, dollars and seconds. Asks no model.

Rates are those of earlier runs of the task where its journal has them. Else they are the stated ones below, measured on
one core of 2025; a machine may well be three times as fast or as slow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from kurabe.contest.history import Rate
from kurabe.contest.prepare import Entrant, reference_of, trained_path
from kurabe.contestants.human import Human
from kurabe.contestants.prompt import SCORED, Prompt
from kurabe.contestants.sweep import Sweep
from kurabe.contestants.tune import Tune
from kurabe.contestants.tune_hosted import TuneHosted
from kurabe.errors import KurabeError
from kurabe.messages import Usage
from kurabe.models import open_model
from kurabe.models.conversation import estimate_tokens
from kurabe.models.local import located, sources
from kurabe.models.reference import is_local, parse_reference, split_chain
from kurabe.models.transport.cost import TURN_TOKENS
from kurabe.tasks.task import Task

FIT_SECONDS = {
    "Constant": 0.0,
    "LinearFeatures": 1e-4,
    "BagOfWords": 1e-4,
    "EmbeddingsRidge": 2e-4,
    "TfidfRidge": 1e-3,
    "TfidfLogistic": 1e-3,
    "RandomForest": 2e-3,
    "NearestNeighbours": 2e-3,
    "GradientBoosting": 3e-3,
    "StackedBoosting": 6e-3,
    "Blend": 1e-2,
}
"""Seconds a training row, by class."""
ANSWER_SECONDS = {"NearestNeighbours": 0.02}
"""Seconds an answer of those that are not quick; the others take a thousandth of a second."""
BYTES_PER_SECOND = 1e10
"""Of a local model's file: what a token takes is its size over this."""
CALL_SECONDS = 1.5
"""Of a hosted model's call before it answers."""
TOKENS_PER_SECOND = 50
"""That a hosted model writes."""
AT_A_TIME = 16
"""Calls that a provider is taken to answer side by side."""
SAMPLE = 50
"""Rows whose prompts are counted."""
LEARNED = 5_000
"""Training rows that are looked at."""


@dataclass(frozen=True)
class Estimate:
    """What a contestant still has to do, and what that takes.

    `rows`: test rows that it is asked, one of each input; `calls`: those of them without an answer in the journal.
    `input_tokens` and `output_tokens`: of all calls; None for what is no language model. `usd` and `seconds`: None
    where unknown. `measured`: whether the seconds are an earlier run's. `reason`: why it can't run.
    """

    contestant: str
    model: str | None
    rows: int
    calls: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = 0.0
    seconds: float | None = None
    measured: bool = False
    reason: str | None = None


def estimate(
    entrant: Entrant, task: Task, inputs: Sequence[bytes], answered: set[bytes], rates: Mapping[str, Rate]
) -> Estimate:
    """What a contestant will take.

    Parameters
    ----------
    inputs
        The digest of each test row's input; of those it is asked the first come first.
    answered
        The inputs that it has answered before.
    rates
        What contestants took in earlier runs, by label.
    """
    asked = list(dict.fromkeys(inputs[: entrant.rows]))
    calls = sum(key not in answered for key in asked)
    found = Estimate(entrant.label, entrant.model, len(asked), calls, reason=entrant.reason)
    estimator, times = entrant.estimator, 1.0
    if isinstance(estimator, Sweep):
        times, estimator = _trials(estimator), estimator.base(task.kind)
    trained = any(trained_path(task.folder, key).exists() for key in entrant.keys)
    if calls == 0:
        return _with(found, seconds=0.0)
    if isinstance(estimator, Human):
        return found
    if isinstance(estimator, Prompt):
        try:
            return _prompted(found, estimator, task, rates.get(entrant.label), times, trained)
        except KurabeError as error:
            return _with(found, usd=None, reason=found.reason or str(error))
    return _with(found, **_trained(found, estimator, task, rates.get(entrant.label), times, trained))


def _with(found: Estimate, **changes: Any) -> Estimate:
    return Estimate(**(vars(found) | changes))


def _trials(sweep: Sweep) -> float:
    """How many times the whole training part a sweep learns from at most: trials begin on parts of it."""
    grid = math.prod(len(values) if isinstance(values, list | tuple) else sweep.trials
                     for values in (sweep.over or {}).values())  # fmt: skip
    return 1.0 + min(grid, sweep.trials)


def _trained(
    found: Estimate, estimator: Any, task: Task, rate: Rate | None, times: float, trained: bool
) -> dict[str, Any]:
    """The seconds of a contestant that learns from rows."""
    rows = len(task.train) + (0 if task.validation is None else len(task.validation))
    name = type(estimator).__name__
    if rate is not None:
        fit = None if rate.fit_seconds is None else rate.fit_seconds * rows / max(rate.train_rows, 1)
        answer: float | None = rate.seconds
    else:
        fit = FIT_SECONDS[name] * rows * times if name in FIT_SECONDS else None
        answer = ANSWER_SECONDS.get(name, 1e-3) if name in FIT_SECONDS else None
    fit = 0.0 if trained else fit
    seconds = None if fit is None or answer is None else fit + answer * found.calls
    return {"seconds": seconds, "measured": rate is not None}


def _prompted(
    found: Estimate, estimator: Prompt, task: Task, rate: Rate | None, times: float, trained: bool
) -> Estimate:
    """Tokens, dollars and seconds of a language model that is asked."""
    texts, fresh, written = _tokens(estimator, task)
    # A sweep's trials answer the validation part.
    validation = 0 if task.validation is None else len(task.validation)
    calls = found.calls + round((times - 1) * validation)
    output = 0 if written is None else written
    found = _with(
        found, calls=calls, input_tokens=round(texts * calls), output_tokens=None if written is None else output * calls
    )
    tunes = isinstance(estimator, Tune | TuneHosted) and not trained
    local = is_local(reference_of(estimator))
    usd = 0.0 if local else _usd(estimator, texts, output)
    if rate is not None and times == 1:
        usd = rate.usd if rate.usd is not None else usd
        seconds: float | None = rate.seconds * calls
    elif local:
        size = _size(estimator)
        seconds = None if size is None else (fresh + output) * size / BYTES_PER_SECOND * calls
    else:
        seconds = (CALL_SECONDS + output / TOKENS_PER_SECOND) * math.ceil(calls / AT_A_TIME)
    if tunes:  # what tuning costs and takes is said where it is confirmed
        usd, seconds = (usd if local else None), None
    return _with(
        found, usd=None if usd is None else usd * calls, seconds=seconds, measured=rate is not None and times == 1
    )


def _tokens(estimator: Prompt, task: Task) -> tuple[float, float, int | None]:
    """(tokens of a prompt, those of them that no other prompt begins with, tokens of an answer), means over rows."""
    draft = clone(estimator)
    part = task.train
    Prompt.fit(draft, part.X.head(LEARNED), part.y[:LEARNED])  # of those that are tuned, the prompt alone
    whole, fresh = [], []
    for messages in draft.drafts(task.test.X.head(SAMPLE)):
        sizes = [estimate_tokens(message.text) + TURN_TOKENS for message in messages]
        whole.append(sum(sizes) + estimate_tokens(draft.prefill_))
        fresh.append(sizes[-1] if draft.choose == "fixed" else sum(sizes))
    if draft.decode_ in SCORED:
        # Each label is evaluated behind the prompt, and nothing is written.
        return float(np.mean(whole)), float(np.mean(fresh)) + sum(map(estimate_tokens, draft.labels_)), 0
    answers = [str(value) for value in part.y[:SAMPLE].tolist()]
    longest = estimator.max_tokens or draft.request_["max_tokens"]
    written = math.ceil(float(np.mean([estimate_tokens(answer) + 1 for answer in answers])))
    return float(np.mean(whole)), float(np.mean(fresh)), min(written, longest)


def _usd(estimator: Prompt, input_tokens: float, output_tokens: int) -> float | None:
    """Dollars of a call, None where the price is not known. No key is needed to know it."""
    if not isinstance(estimator.model, str):
        return None
    usage = Usage(round(input_tokens), output_tokens)
    try:
        with open_model(split_chain(estimator.model)[0], **{"api_key": "-", **(estimator.options or {})}) as model:
            cost = getattr(model, "cost", None)
            usd: float | None = None if cost is None else cost(usage)
            return usd
    except KurabeError:
        return None


def _size(estimator: Prompt) -> int | None:
    """Bytes of a local model's files, None where they are not known."""
    if not isinstance(estimator.model, str):
        return None
    try:
        parsed = parse_reference(split_chain(estimator.model)[0])
        path = located(parsed)
        if path is None:
            return next((size for one in sources(parsed) if (size := getattr(one, "size", None))), None)
    except KurabeError:
        return None
    return _weight(path)


def _weight(path: Path) -> int | None:
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.bin")]
    return sum(file.stat().st_size for file in files) or None
