"""What contestants will take before they are asked: calls, tokens, dollars and seconds. Asks no model.

Rates are those of earlier runs of the task where its journal has them. Else they are the stated ones below, measured on
one core of 2025; a machine may well be three times as fast or as slow.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from kurabe.contest.counting import ABOUT, Counter, counter_of
from kurabe.contest.history import Rate
from kurabe.contest.prepare import Entrant, trained_path
from kurabe.contestants.contract import contestant_of
from kurabe.errors import KurabeError
from kurabe.messages import Usage
from kurabe.models import open_model
from kurabe.models.cost import TURN_TOKENS
from kurabe.models.files.local import located, sources
from kurabe.models.reference import parse_reference, split_chain
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
TUNED_BYTES_PER_SECOND = 1e11
"""Of a model's files times the tokens that it learns from: 270 MB at 370 tokens a second (docs/benchmarks.md)."""
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
    where unknown. `measured`: whether the seconds are an earlier run's. `counted`: whether the prompts' tokens are
    counted by the model's own tokenizer, not told by the length of texts. `reason`: why it can't run.
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
    counted: bool = False
    reason: str | None = None


def estimate(
    entrant: Entrant,
    task: Task,
    inputs: Sequence[bytes],
    answered: set[bytes],
    rates: Mapping[str, Rate],
    *,
    closely: bool = False,
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
    closely
        Count tokens with the tokenizers of local models that are here, which opens them, and guess what tuning takes
        on processor cores: for a person to read, and not for leaving anything out.
    """
    asked = list(dict.fromkeys(inputs[: entrant.rows]))
    calls = sum(key not in answered for key in asked)
    found = Estimate(entrant.label, entrant.model, len(asked), calls, reason=entrant.reason)
    contestant = contestant_of(entrant.estimator)
    times, estimator = contestant.learns(), contestant.unfitted(task.kind)
    trained = any(trained_path(task.folder, key).exists() for key in entrant.keys)
    if calls == 0:
        return _with(found, seconds=0.0)
    if contestant.by_hand:
        return found
    if contestant_of(estimator).asks:
        try:
            with counter_of(estimator) if closely else nullcontext(ABOUT) as counter:
                size = _prompts(estimator, task, counter)
            return _prompted(found, estimator, task, rates.get(entrant.label), times, trained, size, closely=closely)
        except KurabeError as error:
            return _with(found, usd=None, reason=found.reason or str(error))
    return _with(found, **_trained(found, estimator, task, rates.get(entrant.label), times, trained))


def _with(found: Estimate, **changes: Any) -> Estimate:
    return Estimate(**(vars(found) | changes))


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
    found: Estimate,
    estimator: Any,
    task: Task,
    rate: Rate | None,
    times: float,
    trained: bool,
    size: "_Prompts",
    *,
    closely: bool,
) -> Estimate:
    """Tokens, dollars and seconds of a language model that is asked."""
    # A sweep's trials answer the validation part.
    validation = 0 if task.validation is None else len(task.validation)
    calls = found.calls + round((times - 1) * validation)
    found = _with(
        found, calls=calls, input_tokens=round(size.whole * calls), output_tokens=size.written * calls,
        counted=size.exact,
    )  # fmt: skip
    local = not estimator.hosted
    usd = 0.0 if local else _usd(estimator, size.whole, size.written)
    measured = rate is not None and times == 1
    if rate is not None and times == 1:
        usd = rate.usd if rate.usd is not None else usd
        seconds: float | None = rate.seconds * calls
    elif local:
        weight = _size(estimator)
        seconds = None if weight is None else (size.fresh + size.written) * weight / BYTES_PER_SECOND * calls
    else:
        seconds = (CALL_SECONDS + size.written / TOKENS_PER_SECOND) * math.ceil(calls / AT_A_TIME)
    if estimator.resumes and not trained:
        # What a provider's tuning costs is said where it is confirmed; how long it takes, nobody knows.
        usd = usd if local else None
        fit = _tuning(estimator, task, rate if times == 1 else None, size, closely=closely)
        seconds = None if fit is None or seconds is None else fit * times + seconds
        measured = measured and seconds is not None
    return _with(found, usd=None if usd is None else usd * calls, seconds=seconds, measured=measured)


def _tuning(estimator: Any, task: Task, rate: Rate | None, size: "_Prompts", *, closely: bool) -> float | None:
    """Seconds that tuning takes: an earlier run's by the rows of now, else about, None where unknown."""
    rows, validation = len(task.train), 0 if task.validation is None else len(task.validation)
    if rate is not None and rate.fit_seconds is not None:
        return rate.fit_seconds * (rows + validation) / max(rate.train_rows, 1)
    if not closely or estimator.hosted or (weight := _size(estimator)) is None:
        return None
    row = min(size.whole + size.answer, estimator.context)
    steps = math.inf if estimator.max_steps is None else estimator.max_steps
    learned = min(rows * row * estimator.epochs, steps * estimator.step_tokens)
    # An evaluation goes forward only, a third of the work.
    work: float = learned + estimator.evaluations * validation * row / 3
    return work * weight / TUNED_BYTES_PER_SECOND


@dataclass(frozen=True)
class _Prompts:
    """Mean tokens over rows: `whole` of a prompt, `fresh` of what no other prompt begins with, `written` of what a
    model is to write, `answer` of a row's answer. `exact`: by the model's own tokenizer."""

    whole: float
    fresh: float
    written: int
    answer: float
    exact: bool


def _prompts(estimator: Any, task: Task, counter: Counter) -> _Prompts:
    """How large a contestant's prompts and answers are, by a sample of rows."""
    draft = clone(estimator)
    part = task.train
    draft.draft(part.X.head(LEARNED), part.y[:LEARNED])
    whole, fresh = [], []
    for messages in draft.drafts(task.test.X.head(SAMPLE)):
        whole.append(counter.prompt(messages, draft.prefill_))
        fresh.append(counter.text(messages[-1].text) + TURN_TOKENS if draft.choose == "fixed" else whole[-1])
    answer = float(np.mean([counter.text(str(value)) + 1 for value in part.y[:SAMPLE].tolist()]))
    sizes = float(np.mean(whole)), float(np.mean(fresh))
    if draft.scores_labels:
        # Each label is evaluated behind the prompt, and nothing is written.
        return _Prompts(sizes[0], sizes[1] + sum(map(counter.text, draft.labels_)), 0, answer, counter.exact)
    longest = estimator.max_tokens or draft.request_["max_tokens"]
    return _Prompts(*sizes, min(math.ceil(answer), longest), answer, counter.exact)


def _usd(estimator: Any, input_tokens: float, output_tokens: int) -> float | None:
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


def _size(estimator: Any) -> int | None:
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
