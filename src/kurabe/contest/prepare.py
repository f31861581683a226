"""What a run needs before its first prediction: the contestants, built and identified, and what is written down."""

import copy
import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe import models
from kurabe.contest.identity import digest, estimator_digests, input_digests, part_digest
from kurabe.contest.journal import PLACE, RunRecord
from kurabe.contest.judge import judges
from kurabe.contest.leaks import find_leaks
from kurabe.contest.recorded import recorded_spec
from kurabe.contestants import registry
from kurabe.contestants.base import AnswersRowByRow, Contestant
from kurabe.contestants.blend import Blend
from kurabe.contestants.human import Human
from kurabe.contestants.learner import Learner
from kurabe.contestants.own import check_consent, check_references
from kurabe.contestants.plain import fit_plain
from kurabe.contestants.prompt import Prompt
from kurabe.contestants.sweep import Sweep
from kurabe.contestants.tune import Tune
from kurabe.errors import ContestantError, missing
from kurabe.models import embeddings
from kurabe.models.reference import is_local
from kurabe.tasks.answers import fallback
from kurabe.tasks.file import contestant_specs
from kurabe.tasks.languages import language_of, prompt_in
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.spec import ContestantSpec
from kurabe.tasks.spec import Prompt as TaskPrompt
from kurabe.tasks.task import INPUT, Part, Task

FOLDER = ".kurabe"
SAMPLE = 100
"""Test rows that a language model answers where nobody says how many."""


@dataclass(frozen=True)
class Entrant:
    """A contestant ready to compete: its estimator, or the reason why it is skipped.

    `key`: what its answers are kept by; `former`: what earlier versions of kurabe kept them by. `swept`: of a sweep,
    what identifies the contestant that is swept and what it learns from, and then what did so formerly. `rows`: it is
    asked the first so many test rows, which stand in random order; None: all. `name`: what the registry calls it.
    """

    label: str
    position: int
    estimator: Any
    model: str | None
    key: bytes
    reason: str | None
    former: tuple[bytes, ...] = ()
    swept: tuple[bytes, ...] = ()
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


def choose(entrants: Sequence[Entrant], only: Collection[str]) -> list[Entrant]:
    """The entrants whose label, or whose label's first word, is among `only`; all where it is empty."""
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
    context = registry.Context(
        kind=task.kind,
        metric=task.metric,
        random_state=seed,
        prompt=task.spec.prompt or _prompt_in_its_language(task),
        target=task.spec.target,
        allow_code=task.allow_code,
    )
    learned_from = part_digest([task.train, task.validation])
    specs = contestant_specs(task.spec)
    if task.spec.contestants is None:
        specs = registry.defaults(task.kind, prose=bool(prose_columns(task.train.X)))
    return [_entrant(spec, position, task, context, learned_from) for position, spec in enumerate(specs)]


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
    model, swept = None, list[bytes]()
    if isinstance(estimator, Sweep):
        estimator, model, keys, swept = _placed(estimator, task, learned_from)
    elif isinstance(estimator, Human):
        if estimator.answers is not None:
            estimator = clone(estimator).set_params(answers=str(task.folder / estimator.answers))
        keys = [_human_key(estimator, spec.label, task)]
    elif isinstance(estimator, Prompt):
        model = reference_of(estimator)
        keys = [digest(known, learned_from) for known in estimator_digests(estimator)]
        if isinstance(estimator.model, str):
            found = models.beside(estimator.model, task.folder)
            keys = [digest(key, models.fingerprint(found)) for key in keys]
            estimator = clone(estimator).set_params(model=found)
        if isinstance(estimator, Tune) and estimator.folder is None:
            estimator = estimator.set_params(folder=str(_kept(task.folder / FOLDER / "tuned", keys)))
    else:
        keys = [digest(known, learned_from) for known in estimator_digests(estimator)]
        if isinstance(estimator, Learner | Blend):
            # What was learned from texts before columns were learned from alone keeps its key, and so its answers.
            views = estimator.views(task.train.X)
            keys = keys if views == ("all",) else [digest(key, *views) for key in keys]
        if isinstance(estimator, Learner) and "embeddings" in estimator.get_params():
            found = models.beside(estimator.get_params()["embeddings"], task.folder)
            keys = [digest(key, embeddings.fingerprint(found)) for key in keys]
            estimator = clone(estimator).set_params(embeddings=found)
    skipped = getattr(estimator, "skipped_reason", None)
    reason = skipped() if skipped else None
    rows = _sample(estimator, task)
    key, *former = keys
    return Entrant(spec.label, position, estimator, model, key, reason, tuple(former), tuple(swept), rows, spec.name)


def _kept(folder: Path, keys: Sequence[bytes]) -> Path:
    """The folder in which a contestant keeps what it learns: the one that is there, under a former key too, or a new
    one."""
    folders = [folder / key.hex() for key in keys]
    return next((one for one in folders if one.exists()), folders[0])


def _sample(estimator: Any, task: Task) -> int | None:
    """How many test rows a contestant is asked; None: all."""
    if isinstance(estimator, Sweep):
        estimator = estimator.base()
    if isinstance(estimator, Human):
        return estimator.rows
    if not isinstance(estimator, Prompt):
        return None
    rows = estimator.rows or task.spec.rows or SAMPLE
    return None if rows == "all" else rows


def _placed(sweep: Sweep, task: Task, learned_from: bytes) -> tuple[Sweep, str | None, list[bytes], list[bytes]]:
    """(the sweep with its files found and a folder of its own, the model that all trials ask, its keys, and those of
    the contestant that is swept; both with the former ones after the first).

    The folder goes by the contestant that is swept and by what it learns from: another `over` or a larger budget goes
    on with the answers that are there.
    """
    sweep = clone(sweep).set_params(kind=sweep.kind or task.kind)
    base = sweep.base()
    sweep.options(base)
    files = [models.fingerprint(name) for name in map(partial(models.beside, folder=task.folder), asked_models(sweep))]
    over = dict(sweep.over or {})
    params = base.get_params(deep=False)
    if isinstance(base, Learner) and isinstance(params.get("embeddings"), str):
        named = [params["embeddings"], *over.get("embeddings", [])]
        files += [embeddings.fingerprint(models.beside(name, task.folder)) for name in named]
    swept = [digest(one, learned_from, repr(sweep.random_state), *files) for one in estimator_digests(base)]
    own, *formerly = estimator_digests(clone(sweep).set_params(contestant=None))
    pairs = [(own, swept[0]), *itertools.product(formerly, swept[1:])]
    keys = [digest("sweep", one, known) for one, known in pairs]
    stays = {}
    for name in ("model", "embeddings"):
        if isinstance(params.get(name), str):
            stays[name] = models.beside(params[name], task.folder)
        if isinstance(over.get(name), list | tuple):
            over[name] = [models.beside(one, task.folder) if isinstance(one, str) else one for one in over[name]]
    sweep.set_params(contestant=sweep.with_settings(stays), over=over)
    if sweep.folder is None:
        sweep.set_params(folder=str(_kept(task.folder / FOLDER / "sweeps", swept)))
    return sweep, stays.get("model") if "model" not in over else None, keys, swept


def swept_labels(task: Task, name: str | None = None) -> list[str]:
    """The labels of a task's sweeps; with `name` of those called so, or that sweep over a contestant called so.

    Raises ContestantError where there are none.
    """
    sweeps = {one.label: one.estimator for one in make_entrants(task, 0) if isinstance(one.estimator, Sweep)}
    if not sweeps:
        raise ContestantError(
            "no contestant of this task is a sweep; add one, such as"
            " `{sweep: {contestant: gradient_boosting, over: {leaves: [7, 15, 31]}}}`, to its `contestants`"
        )
    swept = {label: sweep.name for label, sweep in sweeps.items()}
    if name is not None and name not in (*swept, *swept.values()):
        raise ContestantError(missing("sweep", name, [*swept, *swept.values()]))
    return [label for label in swept if name in (None, label, swept[label])]


def reference_of(estimator: Prompt) -> str:
    """The reference of the model that is asked."""
    return estimator.model if isinstance(estimator.model, str) else estimator.model.reference


def asked_models(estimator: Any) -> list[str]:
    """The references of the models that a contestant asks."""
    if isinstance(estimator, Sweep):
        base = estimator.base()
        swept = (estimator.over or {}).get("model")
        if swept and isinstance(base, Prompt):
            return [one for one in swept if isinstance(one, str)]
        return asked_models(base)
    return [estimator.model] if isinstance(estimator, Prompt) and isinstance(estimator.model, str) else []


def may_cost(estimator: Any) -> bool:
    """Whether answers may cost money: those of hosted models, and of what else answers row by row but for a person."""
    if models_asked := asked_models(estimator):
        return not all(map(is_local, models_asked))
    if isinstance(estimator, Sweep):
        estimator = estimator.base()
    if isinstance(estimator, Prompt):
        return not is_local(reference_of(estimator))
    return isinstance(estimator, AnswersRowByRow) and not isinstance(estimator, Human)


def cheap_first(entrants: Sequence[Entrant]) -> list[Entrant]:
    """The contestants in the order in which they run: what learns, then models on this machine, then what may cost
    money; else in the order of the task file."""
    return sorted(entrants, key=lambda one: (may_cost(one.estimator), bool(asked_models(one.estimator))))


def _human_key(person: Human, label: str, task: Task) -> bytes:
    """A person's answers stay theirs when settings or training data change; those of a file change with the file, and
    with the test part, since the file may name rows by position."""
    about = digest(task.spec.target, task.kind, task.spec.input or "")
    if person.answers is None:
        return digest("human", label, about)
    path = Path(person.answers)
    said = path.read_bytes() if path.is_file() else b""
    return digest("answers", said, about, b"".join(input_digests(task.test.X)))


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


def fit(estimator: Any, task: Task) -> Any:
    """Fit a fresh copy of an estimator on the task's training part.

    kurabe's own contestants are given the validation part to choose by; anyone else's estimator learns from both, from
    encoded columns where it takes numbers alone.
    """
    fresh = clone(estimator) if hasattr(estimator, "get_params") else copy.deepcopy(estimator)
    if isinstance(fresh, Contestant):
        validation = None if task.validation is None else (task.validation.X, task.validation.y)
        return fresh.fit(task.train.X, task.train.y, validation=validation)
    train = learned_part(task)
    return fit_plain(fresh, train.X, train.y)
