"""What a run needs before its first prediction: the contestants, built and identified, and what is written down."""

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from kurabe.contest.journal import PLACE, RunRecord
from kurabe.contest.judge import judges
from kurabe.contest.leaks import find_leaks
from kurabe.contest.needs import unmet
from kurabe.contest.recorded import recorded_spec
from kurabe.contestants import persist, registry
from kurabe.contestants.base import ALONE, About, Learning
from kurabe.contestants.contract import contestant_of, fitted, keys_of, placed
from kurabe.contestants.keys import digest, input_digests, part_digest
from kurabe.contestants.own import check_consent, check_references
from kurabe.errors import ContestantError, missing
from kurabe.tasks.answers import fallback
from kurabe.tasks.file import contestant_specs
from kurabe.tasks.languages import language_of, prompt_in
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.spec import ContestantSpec
from kurabe.tasks.spec import Prompt as TaskPrompt
from kurabe.tasks.task import INPUT, Part, Task

FOLDER = ".kurabe"
SAMPLE = 100
"""How many test rows a language model answers by default."""


@dataclass(frozen=True)
class Entrant:
    """A contestant ready to compete: its estimator, or the reason why it is skipped.

    `key`: what its answers are kept by; `former`: what earlier versions of kurabe kept them by. `learned`: what it is
    known by while it learns, today and formerly. `rows`: it is asked the first N test rows, which stand in random
    order; None: all. `name`: what the registry calls it.
    """

    label: str
    position: int
    estimator: Any
    model: str | None
    key: bytes
    reason: str | None
    former: tuple[bytes, ...] = ()
    learned: tuple[bytes, ...] = ()
    rows: int | None = None
    name: str = ""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """`key` and the former ones."""
        return (self.key, *self.former)


def journal_path(folder: Path) -> Path:
    """Where the journal of the tasks in a folder lies."""
    return folder / FOLDER / "journal.sqlite"


def trained_path(folder: Path, key: bytes) -> Path:
    """Where a trained contestant is kept."""
    return folder / FOLDER / "trained" / key.hex()


def choose(entrants: Sequence[Entrant], task: Task, only: Collection[str]) -> list[Entrant]:
    """The task's contestants whose label, or whose label's first word, is among `only`; all where it is empty. Then a
    person whom the task does not name, and who has answered nothing, stays away."""
    if not only and task.spec.contestants is None:
        return [one for one in entrants if one.reason is None or not contestant_of(one.estimator).by_hand]
    labels = [entrant.label for entrant in entrants]
    for name in only:
        if not any(_is_called(label, name) for label in labels):
            raise ContestantError(missing("contestant", name, labels))
    return [entrant for entrant in entrants if is_meant(entrant.label, only)]


def is_meant(label: str, only: Collection[str]) -> bool:
    """Whether a contestant is among `only`, by its label or the first word of it, or that is empty."""
    return not only or any(_is_called(label, name) for name in only)


def _is_called(label: str, name: str) -> bool:
    return label == name or re.split(r"[ ,(]", label)[0] == name


def head(part: Part, limit: int | None) -> Part:
    """The first `limit` rows of a part."""
    if limit is None:
        return part
    places = None if part.places is None else part.places[:limit]
    return Part(part.X.head(limit), part.y[:limit], part.rows.head(limit), places)


def make_entrants(task: Task, seed: int) -> list[Entrant]:
    """The task's contestants, built and with what their predictions are identified by."""
    make = _maker(task, seed)
    return [make(spec, position) for position, spec in enumerate(_specs(task))]


def make_entrant(task: Task, seed: int, label: str) -> Entrant:
    """The contestant of that label, as `make_entrants` makes it."""
    position, spec = next(found for found in enumerate(_specs(task)) if found[1].label == label)
    return _maker(task, seed)(spec, position)


def _specs(task: Task) -> Sequence[ContestantSpec]:
    if task.spec.contestants is None:
        return registry.defaults(task.kind, prose=bool(prose_columns(task.train.X)))
    return contestant_specs(task.spec)


def _maker(task: Task, seed: int) -> Callable[[ContestantSpec, int], Entrant]:
    context = registry.Context(
        kind=task.kind,
        metric=task.metric,
        random_state=seed,
        prompt=task.spec.prompt or _prompt_in_its_language(task),
        target=task.spec.target,
        allow_code=task.allow_code,
    )
    learned_from = part_digest([task.train, task.validation])
    return lambda spec, position: _entrant(spec, position, task, context, learned_from)


def _prompt_in_its_language(task: Task) -> TaskPrompt | None:
    """A prompt for a task that states none and is not in English; as part of a contestant's settings it is part of what
    its predictions are identified by."""
    parts = [task.train, *([] if task.validation is None else [task.validation])]
    labels = sorted({str(label) for part in parts for label in part.y}) if task.kind == "label" else []
    inputs = task.train.X[INPUT] if INPUT in task.train.X.columns else ()
    return prompt_in(
        language_of(itertools.chain([task.spec.target, *labels], inputs)), task.kind, task.spec.target, labels
    )


def _entrant(
    spec: ContestantSpec, position: int, task: Task, context: registry.Context, learned_from: bytes
) -> Entrant:
    estimator = task.estimators.get(spec.label)
    if estimator is None:
        check_consent(spec, context.allow_code)
        estimator = registry.build(spec, context)
    contestant = contestant_of(estimator)
    about = _about(task, spec.label, learned_from)
    keys = keys_of(estimator, about)
    kept = None if contestant.keeps is None else _kept(task.folder / FOLDER / contestant.keeps, keys.learned)
    ready = placed(estimator, about, kept)
    key, *former = keys.answers
    return Entrant(
        label=spec.label,
        position=position,
        estimator=ready,
        model=contestant.shown_model(),
        key=key,
        reason=contestant_of(ready).skipped_reason() or unmet(contestant.needs()),
        former=tuple(former),
        learned=keys.learned,
        rows=contestant.sample(task.spec.rows or SAMPLE),
        name=spec.name,
    )


def _about(task: Task, label: str, learned_from: bytes) -> About:
    return About(
        label=label,
        kind=task.kind,
        target=task.spec.target,
        template=task.spec.input or "",
        folder=task.folder,
        X=task.train.X,
        learned=learned_from,
        tested=lambda: b"".join(input_digests(task.test.X)),
    )


def trained_before(task: Task, estimator: Any) -> Any:
    """The estimator as a contestant of the task that was trained before, or None."""
    keys = keys_of(estimator, _about(task, "", part_digest([task.train, task.validation])))
    folder = trained_path(task.folder, keys.answers[0])
    try:
        return persist.load(folder, estimator, task.allow_code) if folder.exists() else None
    except ContestantError:
        return None


def _kept(folder: Path, keys: Sequence[bytes]) -> Path:
    """The folder in which a contestant keeps what it learns: the one that is there, under a former key too, or a new
    one."""
    folders = [folder / key.hex() for key in keys]
    return next((one for one in folders if one.exists()), folders[0])


def swept_labels(task: Task, name: str | None = None) -> list[str]:
    """The labels of a task's sweeps; with `name` of those called so, or that sweep over a contestant called so.

    Raises ContestantError if the task has no sweep.
    """
    named = {one.label: contestant_of(one.estimator).swept() for one in make_entrants(task, 0)}
    swept = {label: over for label, over in named.items() if over is not None}
    if not swept:
        raise ContestantError(
            "no contestant of this task is a sweep; add one, such as"
            " `{sweep: {contestant: gradient_boosting, over: {leaves: [7, 15, 31]}}}`, to its `contestants`"
        )
    if name is not None and name not in (*swept, *swept.values()):
        raise ContestantError(missing("sweep", name, [*swept, *swept.values()]))
    return [label for label in swept if name in (None, label, swept[label])]


def cheap_first(entrants: Sequence[Entrant]) -> list[Entrant]:
    """The contestants in the order in which they run: what learns, then models on this machine, then what may cost
    money; else in the order of the task file."""

    def cost(entrant: Entrant) -> tuple[bool, bool]:
        contestant = contestant_of(entrant.estimator)
        return contestant.may_cost(), bool(contestant.models())

    return sorted(entrants, key=cost)


def make_record(task: Task, test: Part, seed: int, limit: int | None) -> RunRecord:
    """What the journal keeps of a run before any contestant has answered.

    Raises TaskError for a judge whose options are not valid, or must not be kept, and ContestantError for one that
    would run code of its own.
    """
    for check in task.spec.checks:
        if check.style is not None:
            check_references({"judge": check.style.judge, "options": check.style.options}, task.allow_code)
    judges(task.spec, task.folder)
    learned = part_digest([task.train, task.validation])
    inputs = input_digests(test.X)
    tested = part_digest([test])
    about = msgspec.json.encode([task.spec.name, task.spec.target, task.kind, task.metric, seed, limit])
    slug = re.sub(r"\W+", "-", task.name.lower()).strip("-") or "task"
    train = learned_part(task)
    return RunRecord(
        id=f"{slug}-{digest(about, learned, tested).hex()[:6]}",
        task=task.name,
        kind=task.kind,
        metric=task.metric,
        rows=test.rows if test.places is None else test.rows.with_columns(pl.Series(PLACE, test.places)),
        truth=test.y,
        inputs=inputs,
        test=digest(tested, repr(test.rows.columns), repr(test.rows.hash_rows().to_list())),
        fallback=fallback(train.y, task.kind),
        train_rows=len(train),
        leaks=find_leaks(train.X, test.X, (train.y, test.y)),
        spec=recorded_spec(task, seed),
        columns=tuple(test.X.columns),
        now=now(),
    )


def now() -> str:
    """The time as the journal keeps it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def learned_part(task: Task) -> Part:
    """All rows that contestants learn from: the training part and, where there is one, the validation part."""
    one, other = task.train, task.validation
    if other is None:
        return one
    return Part(
        pl.concat([one.X, other.X], how="vertical_relaxed"),
        np.concatenate([one.y, other.y]),
        pl.concat([one.rows, other.rows], how="vertical_relaxed"),
    )


def fit(estimator: Any, task: Task, context: Learning = ALONE) -> Any:
    """Fit a fresh copy of an estimator on the task's training part.

    kurabe's own contestants are given the validation part to choose by; anyone else's estimator learns from both, from
    encoded columns where it takes numbers alone.
    """
    validation = None if task.validation is None else (task.validation.X, task.validation.y)
    return fitted(estimator, task.train.X, task.train.y, validation, context)
