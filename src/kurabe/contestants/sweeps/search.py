"""The trials of a sweep: which settings are tried, on how many rows, and when a trial is given up.

Optuna proposes settings and says what to give up; it keeps nothing. The answers are kept (`sweep_trials`), and a sweep
that starts again goes through the same trials with them: so it comes to the same result as one that was not stopped,
which a study that is loaded would not, as its sampler begins its random numbers anew.
"""

import hashlib
import itertools
import json
import logging
import math
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe.contestants.base import ALONE, Answering, Contestant, Learning, Prediction, Validation
from kurabe.contestants.contract import as_kept, contestant_of, fitted
from kurabe.contestants.former import CLASSES, is_unchanged
from kurabe.contestants.identity import described, name_of
from kurabe.contestants.open_models import OpenModels
from kurabe.contestants.sweeps.trials import Evaluations, trials_path
from kurabe.errors import (
    BudgetExceededError,
    ContestantError,
    DownloadError,
    InputError,
    JournalError,
    MissingExtraError,
    ModelError,
    ProviderError,
    TuningError,
    is_disk_full,
)
from kurabe.models.hosted.transport.budget import Budget, PartBudget
from kurabe.tasks.answers import fallback
from kurabe.tasks.metrics import default_metric, metric_for
from kurabe.tasks.spec import Kind
from kurabe.tasks.swaps import swap_test

if TYPE_CHECKING:
    from kurabe.contestants.sweeps.sweep import Options, Sweep

REDUCTION = 3
"""Of the trials at one number of training rows, one in so many goes on to the next."""
FEWEST_ROWS = 100
"""That a trial learns from: on fewer, other settings are the best."""
FEWEST_CHECKED = 10
"""Validation rows that a prompt answers before it may be given up."""
WORSE = 0.1
"""The p-value below which a prompt is given up."""
State = Literal["done", "pruned", "failed", "stopped"]


@dataclass
class Trial:
    """One setting. `scores`: on the validation part, by training rows, for as many sizes as it came to."""

    settings: dict[str, Any]
    state: State = "stopped"
    rows: list[int] = field(default_factory=list)
    checked: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    reason: str | None = None


class _Stop(Exception):
    """Nothing new is to be begun; the argument says why."""


def trial_folder(folder: str, name: Any) -> Path:
    """Where a trial may keep what it needs to go on."""
    return Path(folder) / hashlib.blake2b(_json(name).encode(), digest_size=8).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


class Search:
    """The trials of one sweep. `learn`: what they learn from; `held`: what they are scored on.

    Use as a context manager.
    """

    def __init__(
        self,
        sweep: "Sweep",
        base: Any,
        options: "dict[str, Options]",
        kind: Kind,
        learn: Validation,
        held: Validation,
        context: Learning,
    ) -> None:
        # What the contest fitted before may have learned from the rows that trials are scored on.
        self.context = replace(context, trained=ALONE.trained, tell=self._told)
        self._tell_user, self._where = context.tell, ""
        self._ended: BaseException | None = None
        self.sweep, self.base, self.options, self.kind = sweep, base, options, kind
        self.X, self.y = learn
        self.held_X, self.held_y = held
        self.metric = metric_for(sweep.metric, kind) if sweep.metric else default_metric(kind)
        self.sign = -1.0 if self.metric.greater_is_better else 1.0
        draw = np.random.default_rng(sweep.random_state)
        self.order = draw.permutation(len(self.y))
        self.held_order = draw.permutation(len(self.held_y))
        contestant = contestant_of(base)
        _check_swept(sweep, contestant, context)
        self.checked_grows = not contestant.trains and sweep.rows is None
        self.steps = self._steps()
        self.trials: list[Trial] = []
        self.stopped: str | None = None
        self.seconds, self.usd, self.unknown = 0.0, 0.0, False
        self.paid = 0.0  # dollars, of `usd`, that were spent now and not before it was stopped
        self.budget = _budget(sweep.usd, context.budget)
        self.models = OpenModels(self.budget)
        self.store = Evaluations(trials_path(sweep.folder) if sweep.folder else None)
        if self.budget is not None:
            self.usd = self.store.unaccounted()
            self.budget.count(self.usd)
            self.budget.ledger = self.store.ledger()
        self._scratch = tempfile.TemporaryDirectory(prefix="kurabe-sweep-")
        self._digest = self._identity(described(self.base))
        for description in self._formerly():
            self.store.rename(self._identity(description), self._digest)
        self._counted: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.budget is not None and self.budget.ledger is not None:
            self.budget.ledger.close()
            self.budget.ledger = None
        self.store.__exit__()
        self._scratch.cleanup()
        self.models.close()

    def _identity(self, description: Any) -> str:
        """What answers depend on beside setting and rows: the data, and the contestant with the settings that stay."""
        state = hashlib.blake2b(digest_size=16)
        for part in (self.X.write_ndjson(), _json(self.y.tolist()), self.held_X.write_ndjson()):
            state.update(part.encode("utf-8", "surrogatepass"))
        state.update(_json([*description, self.sweep.random_state]).encode())
        return state.hexdigest()

    def _formerly(self) -> list[Any]:
        """What described the contestant in kurabe 0.1.0: its class and settings."""
        if not is_unchanged(self.base):
            return []
        name = name_of(type(self.base))
        counted = CLASSES[name][1] if name in CLASSES else tuple(self.base.get_params())
        params = {name: value for name, value in self.base.get_params().items() if name in counted}
        return [[type(self.base).__qualname__, params]]

    def _steps(self) -> list[tuple[int, int]]:
        """(training rows, validation rows) of a trial's evaluations, one after the other."""
        rows, checked = len(self.y), len(self.held_y)
        if self.checked_grows:
            parts = {max(checked // 2**halved, min(checked, FEWEST_CHECKED)) for halved in range(4)}
            return [(rows, part) for part in sorted(parts)]
        if self.sweep.rows is not None:
            return [(size, checked) for size in sorted({min(size, rows) for size in self.sweep.rows})]
        thirds = {rows // REDUCTION**power for power in range(4)}
        return [(size, checked) for size in sorted(size for size in thirds if size >= FEWEST_ROWS or size == rows)]

    # ---------------------------------------------------------------------------------------------------- the trials

    def run(self) -> dict[str, Any]:
        """Make the trials and return the best setting. Raises ContestantError where all of them failed."""
        with _quiet():
            study, grid = self._study()
            count = min(self.sweep.trials, len(grid)) if grid else self.sweep.trials
            for number in range(count):
                trial = study.ask(self._distributions())
                record = Trial({name: self._value(name, trial.params[name]) for name in self.options})
                self.trials.append(record)
                try:
                    self._try(trial, record, f"trial {number + 1}/{count}", count - number)
                except _Stop as stop:
                    self.stopped = str(stop)
                    break
                self._tell(study, trial, record)
        best = self.best
        if best is None:
            failed = [trial for trial in self.trials if trial.state == "failed"]
            if failed and self.stopped is None:
                raise ContestantError(f"all {len(failed)} trials failed; the first: {failed[0].reason}")
            return {}
        return best.settings

    @property
    def best(self) -> Trial | None:
        """The best of the trials that came farthest; None where none came anywhere."""
        return self._best_of(self.trials)

    def _best_of(self, trials: Sequence[Trial]) -> Trial | None:
        scored = [trial for trial in trials if trial.scores and trial.state != "failed"]
        return min(scored, key=lambda trial: (-len(trial.scores), self.sign * trial.scores[-1]), default=None)

    @property
    def whole(self) -> bool:
        """Whether the best setting has learned from all rows."""
        best = self.best
        return best is not None and best.rows[-1] == len(self.y)

    def notes(self) -> dict[str, Any]:
        """What the report shows of the sweep: plain values."""
        best = self.best
        sizes = [] if best is None else list(dict.fromkeys(best.rows))
        checked = 0 if best is None else best.checked[-1]
        positions = self.held_order[:checked].tolist()
        curve = []
        for size in sizes:
            assert best is not None
            known = self.store.answers(self._key(best.settings, size))
            guesses = self._guesses(known, size, positions)
            curve.append({"rows": size, "guesses": guesses.tolist()})
        return {
            "trials": [
                {"settings": json.loads(_json(t.settings)), "state": t.state, "rows": t.rows, "checked": t.checked,
                 "scores": t.scores, "reason": t.reason}
                for t in self.trials
            ],
            "chosen": None if best is None else self.trials.index(best),
            "metric": self.metric.name,
            "truth": self.held_y[positions].tolist(),
            "curve": curve,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "usd": self.usd,
        }  # fmt: skip

    @property
    def cost(self) -> float | None:
        """Dollars; None where some answers' cost is unknown."""
        return None if self.unknown else self.usd

    def _study(self) -> tuple[Any, list[dict[str, Any]]]:
        """A study, and all settings in random order where there are no more than trials."""
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("a sweep (Optuna)", "sweep") from None
        seed = self.sweep.random_state
        pruner: Any = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
        if self.checked_grows:
            pruner = optuna.pruners.NopPruner()  # `_worse` says
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
            pruner=pruner,
            direction="maximize" if self.metric.greater_is_better else "minimize",
        )
        whole = [self._all(options) for options in self.options.values()]
        if math.prod(map(len, whole)) > self.sweep.trials or not all(whole):
            return study, []
        grid = [dict(zip(self.options, values, strict=True)) for values in itertools.product(*whole)]
        grid = [grid[place] for place in np.random.default_rng(seed).permutation(len(grid))]
        for settings in grid:
            study.enqueue_trial(settings)
        return study, grid

    def _all(self, options: "Options") -> Sequence[Any]:
        """All that Optuna may propose for a setting; () where they can't be counted."""
        if options.values:
            return range(len(options.values))
        return range(int(options.low), int(options.high) + 1) if options.whole else ()

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {}
        for name, one in self.options.items():
            if one.values:  # by place: Optuna takes no lists, and would take 1 and True for the same
                found[name] = CategoricalDistribution(range(len(one.values)))
            elif one.whole:
                found[name] = IntDistribution(int(one.low), int(one.high), log=one.log)
            else:
                found[name] = FloatDistribution(one.low, one.high, log=one.log)
        return found

    def _value(self, name: str, proposed: Any) -> Any:
        values = self.options[name].values
        return values[proposed] if values else proposed

    def _try(self, trial: Any, record: Trial, where: str, left: int) -> None:
        """Evaluate a setting on more and more rows, until it has all or is given up."""
        for step, (size, checked) in enumerate(self.steps):
            self._say(where, size, left)
            positions = self.held_order[:checked].tolist()
            try:
                answers = self._answers(record.settings, size, positions)
            except _Failed as failed:
                record.state, record.reason = "failed", str(failed)
                return
            guesses, truth = self._guesses(answers, size, positions), self.held_y[positions]
            score = self.metric.score(truth, guesses)
            if not math.isfinite(score):
                record.state, record.reason = "failed", f"{self.metric.title} is not defined on the validation part"
                return
            record.rows.append(size)
            record.checked.append(checked)
            record.scores.append(score)
            if self.checked_grows:
                trial.report(score, checked)
                worse = self._worse(record, step, guesses, positions)
            else:
                trial.report(score, REDUCTION**step)
                worse = trial.should_prune()  # asked even where it is not heeded: so Optuna knows who came so far
            came = sum(len(other.scores) > step for other in self.trials)
            if worse and came >= REDUCTION and step + 1 < len(self.steps):
                record.state = "pruned"
                return
        record.state = "done"

    def _worse(self, record: Trial, step: int, guesses: np.ndarray, positions: list[int]) -> bool:
        """Whether the best other trial is better on the same rows by the paired test of the metric."""
        others = [trial for trial in self.trials if trial is not record and len(trial.scores) > step]
        best = self._best_of(others)
        if best is None or self.sign * best.scores[step] >= self.sign * record.scores[step]:
            return False
        size = best.rows[step]
        theirs = self._guesses(self.store.answers(self._key(best.settings, size)), size, positions)
        return swap_test(self.metric, self.held_y[positions], guesses, theirs) < WORSE

    def _tell(self, study: Any, trial: Any, record: Trial) -> None:
        from optuna.trial import TrialState

        states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        if record.state == "done":
            study.tell(trial, record.scores[-1])
        else:
            study.tell(trial, state=states[record.state])

    # --------------------------------------------------------------------------------------------------- evaluations

    def _key(self, settings: dict[str, Any], size: int) -> str:
        return _json([self._digest, settings, size])

    def _answers(self, settings: dict[str, Any], size: int, positions: list[int]) -> dict[int, float | str | None]:
        """What a setting, learned on so many rows, answers to rows of the validation part; kept, or asked now."""
        key = self._key(settings, size)
        self._count(key)
        if (reason := self.store.failure(key)) is not None:
            raise _Failed(reason)
        known = self.store.answers(key)
        wanted = [position for position in positions if position not in known]
        if not wanted:
            return known
        self._check_budget()
        began = time.perf_counter()
        folder = None
        try:
            estimator, folder = self._learned(settings, size)
            for batch in self._batches(estimator, wanted):
                now = time.perf_counter()
                self.store.add(key, batch, now - began)
                if self.budget is not None and self.budget.ledger is not None:
                    self.budget.ledger.change(-sum(answer.usd or 0.0 for answer in batch))
                self._count(key)
                began = now
        except (BudgetExceededError, _Stop) as error:
            if error is self._ended:
                raise
            raise _Stop(_short(error)) from None
        except (DownloadError, InputError, JournalError, ProviderError, MissingExtraError):
            raise  # not for the setting to answer for
        except Exception as error:
            if error is self._ended or (isinstance(error, OSError) and is_disk_full(error)):
                raise
            if isinstance(error, TuningError) and isinstance(error.__context__, OSError):
                raise  # what is learned can't be written, whatever the setting
            # What lies with a model, its memory, its price or its job may be mended, so it is tried again next time.
            kept = None if isinstance(error, ModelError | TuningError) else _short(error)
            self.store.add(key, (), time.perf_counter() - began, failure=kept)
            self._count(key)
            raise _Failed(_short(error)) from None
        known = self.store.answers(key)
        if any(position not in known for position in positions):
            if self.context.stop():
                self._tell_user(self._where)  # it ends the sweep, which is to go on another time
            raise _Stop(self._used_up() or "the model answered too few rows")
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return known

    def _learned(self, settings: dict[str, Any], size: int) -> tuple[Any, Path | None]:
        """The contestant with a setting, fitted on the first N rows, and the folder that is no longer needed once
        it has answered.

        It is given no validation part, which it might learn from.
        """
        chosen = np.sort(self.order[:size]).tolist()
        X, y = self.X[chosen], self.y[chosen]
        contestant, folder = contestant_of(self.base), None
        estimator = clone(contestant.tried() if contestant is self.base else self.base).set_params(**settings)
        if contestant.keeps is not None:
            folder = trial_folder(self.sweep.folder or self._scratch.name, [settings, size])
            estimator = estimator.keeping(folder)
        return self._fitted(estimator, X, y, self._key(settings, size)), folder

    def _fitted(self, estimator: Any, X: pl.DataFrame, y: np.ndarray, key: str) -> Any:
        """The estimator fitted as a contest does it. One that is billed only where the sweep's dollars allow it or its
        job was begun before; however that ends, a job that was begun is counted."""
        bill = contestant_of(estimator).bill(X, y)
        if bill is None:
            return fitted(estimator, X, y, None, self.context)
        assert self.budget is not None  # `_check_swept`
        left = self.budget.left
        if bill.usd is None or (bill.usd > left and not bill.begun()):
            cost = "an unknown sum" if bill.usd is None else f"${bill.usd:.2f}"
            raise _Stop(f"the next trial costs {cost}, and ${max(left, 0.0):.2f} of the sweep's dollars are left")
        try:
            return fitted(estimator, X, y, None, self.context)
        finally:
            if bill.begun():
                before = self.usd
                self.store.add(key, (), 0.0, learned=bill.usd)
                self._count(key)
                for budget in (self.budget, self.context.budget):
                    if budget is not None:
                        budget.count(self.usd - before)

    def _batches(self, estimator: Any, positions: list[int]) -> Iterator[list[Prediction]]:
        """Answers as they come, under their positions in the validation part."""
        context = Answering(self.kind, positions, self.budget, self._is_to_stop, self.models, pieces=1)
        for batch in contestant_of(estimator).answer(self.held_X[positions], context):
            answers = (as_kept(one, self.kind, len(positions)) for one in batch)
            yield [Prediction(positions[one.row], one.value, None, one.usd) for one in answers]

    def _guesses(self, answers: dict[int, float | str | None], size: int, positions: list[int]) -> np.ndarray:
        """(n,) answers, the fallback where one could not be read."""
        instead = fallback(self.y[np.sort(self.order[:size])], self.kind)
        found = [answers[position] for position in positions]
        values = [instead if value is None else value for value in found]
        if self.kind == "number":
            return np.array(values, dtype=np.float64)
        guesses = np.empty(len(values), dtype=object)
        guesses[:] = values
        return guesses

    # -------------------------------------------------------------------------------------------------------- budget

    def _count(self, key: str) -> None:
        """Add what an evaluation took to what the sweep took, now or before it was stopped."""
        before = self._counted.get(key, (0.0, 0.0))
        seconds, usd, known = self.store.spent(key)
        new = usd - before[1]
        self.unknown |= not known
        self.seconds += seconds - before[0]
        self.usd += new
        if key in self._counted:
            self.paid += new
            self.context.paid(new)
        elif self.budget is not None:  # what is asked from now on is counted by the model
            self.budget.count(new)
        self._counted[key] = (seconds, usd)

    def _used_up(self) -> str | None:
        minutes, usd, whole = self.sweep.minutes, self.sweep.usd, self.context.budget
        if minutes is not None and self.seconds >= minutes * 60:
            return f"the sweep's {minutes:g} minutes are used up"
        if usd is not None and self.usd >= usd > 0:
            return f"the sweep's ${usd:g} are used up"
        left = self.context.usd  # when it began; others may have spent since
        if self.paid > 0 and ((left is not None and self.paid >= left) or (whole and whole.spent >= whole.usd)):
            return "the task's dollars are used up"
        return None

    def _is_to_stop(self) -> bool:
        return self.context.stop() or self._used_up() is not None

    def _check_budget(self) -> None:
        if (why := self._used_up()) is not None:
            raise _Stop(why)

    def _say(self, where: str, size: int, left: int) -> None:
        """Tell how far the sweep is."""
        best = self.best
        words = [where, f"{size:,} rows"]
        if best is not None:
            chosen = ", ".join(f"{name} {shown(value)}" for name, value in best.settings.items())
            words.append(f"best {best.scores[-1]:.4g} ({chosen[:60]})")
        made = len(self.trials) - 1
        seconds = [self.seconds / made * left] if made else []
        if self.sweep.minutes is not None:
            seconds.append(max(self.sweep.minutes * 60 - self.seconds, 0.0))
        if seconds:
            words.append(f"{min(seconds) / 60:.0f} min left")
        self._where = where
        self._tell_user(", ".join(words))

    def _told(self, said: str) -> None:
        """Tell what the fit of a trial says. Who is told may end the sweep, and that is no failure of the setting."""
        try:
            self._tell_user(f"{self._where}, {said}")
        except BaseException as error:
            self._ended = error
            raise


def _budget(usd: float | None, whole: Budget | None) -> Budget | None:
    """What calls of trials may cost, within the dollars of the contest where these have a limit."""
    if whole is None:
        return None if usd is None else Budget(usd)
    return PartBudget(whole.usd if usd is None else usd, whole)


def _check_swept(sweep: "Sweep", base: Contestant, context: Learning) -> None:
    """Raise ContestantError where the settings can't be tried, before a trial is paid for."""
    if base.billed and sweep.usd is None and context.budget is None:
        raise ContestantError("sweep: each trial is a job that the provider bills; say what all may cost, as usd: 20")
    if (why := base.not_swept(sweep.over or {})) is not None:
        raise ContestantError(f"sweep: {why}")


class _Failed(Exception):
    """A setting that can't be evaluated; the argument says why."""


def shown(value: Any) -> str:
    """A setting's value in few characters."""
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 40 else text[:39] + "…"


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _quiet:
    """Without Optuna's log, and its warnings that a pruner is new."""

    def __enter__(self) -> None:
        with suppress(ImportError):  # the import sets the log's level itself
            import optuna  # noqa: F401
        self._log = logging.getLogger("optuna")
        self._level = self._log.level
        self._log.setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        try:
            from optuna.exceptions import ExperimentalWarning
        except ImportError:
            return
        warnings.simplefilter("ignore", ExperimentalWarning)

    def __exit__(self, *error: Any) -> None:
        self._warnings.__exit__(*error)
        self._log.setLevel(self._level)
