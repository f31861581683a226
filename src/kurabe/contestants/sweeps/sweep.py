"""A contestant whose settings are chosen by trials on the validation part."""

import inspect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import msgspec
import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from kurabe.contestants.base import ALONE, About, Contestant, Keys, Learning, Validation
from kurabe.contestants.contract import contestant_of, fitted
from kurabe.contestants.frames import as_frame, as_target, held_part, infer_kind
from kurabe.contestants.keys import digest, estimator_digests
from kurabe.contestants.sweeps.trials import Evaluations, trials_path
from kurabe.contestants.trained.learner import hold_out
from kurabe.errors import ContestantError, MissingExtraError, missing
from kurabe.models import beside, embeddings, fingerprint
from kurabe.models.cost import total
from kurabe.models.reference import is_local
from kurabe.tasks import spec
from kurabe.tasks.file import contestant_entry
from kurabe.tasks.spec import ContestantSpec, Kind, Sample

TOLD = ("kind", "metric", "target", "folder")
"""Parameters that the contest sets; they are no settings to be chosen."""


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers from `low` to `high`, both included; `log`: as many between 1 and 10 as between 10 and 100."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Options:
    """What one setting may be: one of `values`, or without values a number of the range, whole where `whole`."""

    values: tuple[Any, ...]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False


class Sweep(Contestant):
    """Try settings of a contestant on the validation part, take the best ones, and learn with them.

    A trial learns from the fewest rows first and continues with more if it is among the best third there (asynchronous
    successive halving, Li et al. 2020). A `prompt` learns nothing from rows: unless `rows` is given, it answers growing
    parts of the validation part, and is stopped if it is worse than the best trial on the same rows (paired test of the
    metric, p < 0.1). The first trials are never stopped. If there is no validation part, a share of the training part
    is held out.

    After `fit`: `settings_`, those chosen; `chosen_`, the contestant fitted with them; `notes_["sweep"]`, the trials.

    Parameters
    ----------
    contestant
        A contestant's name, a name with fixed settings (`{prompt: {model: "openai:gpt-5.1"}}`), `module:object`, or an
        estimator.
    over
        What is tried, by setting: a list of values (texts, numbers, whole lists of examples, models), or
        `{low: 0.01, high: 0.3, log: true}`. If both ends of a range are whole numbers and the setting takes no others,
        only whole numbers are tried.
    rows
        The training rows of the curve "score against training rows". None: all, a third, a ninth and a 27th of them,
        but at least 100.
    trials
        The most settings that are tried. If there are no more than that, all are tried in random order; else Optuna's
        tree-structured Parzen estimator (Bergstra et al. 2011) chooses.
    minutes
        After so many minutes no trial begins, and the best settings so far are taken.
    usd
        After so many dollars no trial begins, and the best settings so far are taken.
    folder
        Where answers are kept as they come, so that a sweep that was killed is resumed, asks nothing twice and ends
        with the same result. A contest sets it.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset(get_args(Kind))
    keeps = "sweeps"
    resumes = True

    def __init__(
        self,
        contestant: Any = "gradient_boosting",
        over: dict[str, Any] | None = None,
        rows: Sequence[int] | None = None,
        trials: int = 30,
        minutes: float | None = None,
        usd: float | None = None,
        folder: str | None = None,
        kind: Kind | None = None,
        metric: str | None = None,
        prompt: spec.Prompt | None = None,
        target: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.contestant = contestant
        self.over = over
        self.rows = rows
        self.trials = trials
        self.minutes = minutes
        self.usd = usd
        self.folder = folder
        self.kind = kind
        self.metric = metric
        self.prompt = prompt
        self.target = target
        self.random_state = random_state

    def models(self) -> tuple[str, ...]:
        """The references of the models that the trials ask."""
        base = contestant_of(self.base())
        swept = (self.over or {}).get("model")
        return tuple(one for one in swept if isinstance(one, str)) if swept and base.asks else base.models()

    def shown_model(self) -> str | None:
        """The reference of the model that all trials ask."""
        return None if "model" in (self.over or {}) else contestant_of(self.base()).shown_model()

    def swept(self) -> str:
        """The name of the contestant that is swept."""
        return self.name

    def unfitted(self, kind: Kind) -> Any:
        """The contestant that is swept."""
        return self.base(kind)

    def learns(self) -> float:
        """Once, and in each trial at most once, since trials begin on parts of the rows."""
        over = (self.over or {}).values()
        grid = math.prod(len(values) if isinstance(values, list | tuple) else self.trials for values in over)
        return 1.0 + min(grid, self.trials)

    def may_cost(self) -> bool:
        """Whether any of the trials may cost money."""
        asked = self.models()
        return not all(map(is_local, asked)) if asked else contestant_of(self.base()).may_cost()

    def sample(self, rows: Sample) -> int | None:
        """As many test rows as the contestant that is swept is asked."""
        return contestant_of(self.base()).sample(rows)

    def own_keys(self, about: About) -> Keys:
        """What is learned goes by the contestant that is swept and by what it learns from: another `over` or a larger
        budget goes on with the answers that are there."""
        sweep = self._told(about)
        base = sweep.base()
        sweep.options(base)
        files: list[bytes | str] = [fingerprint(beside(name, about.folder)) for name in sweep.models()]
        if isinstance(reference := _embeddings(base), str):
            named = [reference, *(sweep.over or {}).get("embeddings", [])]
            files += [embeddings.fingerprint(beside(name, about.folder)) for name in named]
        swept = [digest(one, about.learned, repr(self.random_state), *files) for one in estimator_digests(base)]
        own, *former = estimator_digests(clone(sweep).set_params(contestant=None))
        pairs = [(own, swept[0]), *itertools.product(former, swept[1:])]
        return Keys(tuple(digest("sweep", one, known) for one, known in pairs), tuple(swept))

    def placed(self, about: About, kept: Path | None) -> Self:
        """A copy that finds its models beside the task file and keeps its trials."""
        sweep = self._told(about)
        params, over, stays = sweep.base().get_params(deep=False), dict(sweep.over or {}), {}
        for name in ("model", "embeddings"):
            if isinstance(params.get(name), str):
                stays[name] = beside(params[name], about.folder)
            if isinstance(over.get(name), list | tuple):
                over[name] = [beside(one, about.folder) if isinstance(one, str) else one for one in over[name]]
        sweep.set_params(contestant=sweep.with_settings(stays), over=over)
        return sweep if self.folder is not None or kept is None else sweep.set_params(folder=str(kept))

    def _told(self, about: About) -> Self:
        copy: Self = clone(self).set_params(kind=self.kind or about.kind)
        return copy

    def trials_spent(self) -> float:
        """Dollars that its trials have cost, by what is kept of them."""
        path = None if self.folder is None else trials_path(self.folder)
        if path is None or not path.exists():
            return 0.0
        with Evaluations(path) as store:
            return store.total()

    def answering(self) -> Any:
        """The contestant with the setting that was chosen."""
        return self.chosen_

    def skipped_reason(self) -> str | None:
        """Why the sweep can't be made here, or None where it can."""
        if find_spec("optuna") is None:
            return str(MissingExtraError("a sweep (Optuna)", "sweep"))
        base = self.base()
        models = self.options(base).get("model", Options(())).values
        for one in [clone(base).set_params(model=model) for model in models] or [base]:
            skipped = getattr(one, "skipped_reason", None)
            if skipped and (reason := skipped()) is not None:
                return str(reason)
        return None

    def base(self, kind: Kind | None = None) -> Any:
        """The contestant with the settings that stay, not fitted. Raises ContestantError for an unknown one."""
        from kurabe.contestants import registry

        if hasattr(self.contestant, "fit"):
            return clone(self.contestant)
        entry = self._entry()
        if entry.name in ("sweep", "human"):
            raise ContestantError(f"sweep: {entry.name} has nothing to be swept")
        kind = kind or self.kind
        if kind is None:
            raise ContestantError("sweep: say the `kind`: number, label or text")
        return registry.build(entry, registry.Context(kind, self.metric, self.random_state, self.prompt, self.target))

    def options(self, base: Any) -> dict[str, Options]:
        """What `over` says of each setting, checked. Raises ContestantError."""
        if not isinstance(self.over, dict) or not self.over:
            raise ContestantError("sweep: name what to try, such as over: {leaves: [7, 15, 31]}")
        if self.trials < 1 or (self.rows is not None and not (self.rows and min(self.rows) > 0)):
            raise ContestantError(
                "sweep: trials must be 1 or more, and rows a list of positive integers, such as rows: [100, 300]"
            )
        settings = [name for name in base.get_params() if name not in TOLD]
        return {name: self._options(name, said, settings, base) for name, said in self.over.items()}

    def _options(self, name: str, said: Any, settings: list[str], base: Any) -> Options:
        at = f"sweep: over: {name}"
        if name not in settings:
            raise ContestantError(f"sweep: over: {missing('setting', name, settings)}")
        if isinstance(said, list | tuple) and said:
            values = tuple(self._checked(base, name, value) for value in said)
            if name == "options":
                for value in values:  # before it is kept, as it may hold a secret
                    contestant_of(clone(base).set_params(options=value)).check()
            return Options(values)
        if not isinstance(said, dict):
            raise ContestantError(f"{at}: expected a list of values or {{low: …, high: …}}, got {said!r}")
        for key in said:
            if key not in Range.__struct_fields__:
                raise ContestantError(f"{at}: {missing('key', key, Range.__struct_fields__)}")
        try:
            asked = msgspec.convert(said, Range)
        except msgspec.ValidationError as error:
            raise ContestantError(f"{at}: {str(error).replace('`', '')}; write {{low: 0.01, high: 0.3}}") from None
        if not (math.isfinite(asked.low) and math.isfinite(asked.high) and asked.low < asked.high):
            raise ContestantError(f"{at}: low must be below high, and they are {said['low']} and {said['high']}")
        if asked.log and asked.low <= 0:
            raise ContestantError(f"{at}: with log: true, low must be above 0")
        ends = [self._checked(base, name, said[key]) for key in ("low", "high")]
        whole = all(isinstance(end, int) for end in ends) and not self._takes_floats(base, name)
        return Options((), asked.low, asked.high, asked.log, whole)

    def _checked(self, base: Any, name: str, value: Any) -> Any:
        """The value, where the setting takes it."""
        from kurabe.contestants import registry

        if not type(base).__module__.startswith("kurabe.contestants."):
            return value
        return registry.checked_settings(f"sweep: over: {self.name}", type(base), {name: value})[name]

    def _takes_floats(self, base: Any, name: str) -> bool:
        from kurabe.contestants import registry

        parameter = inspect.signature(type(base), eval_str=True).parameters.get(name)
        return parameter is not None and float in registry.types_of(parameter.annotation)

    def _entry(self) -> ContestantSpec:
        if not isinstance(self.contestant, str | dict):
            raise ContestantError(f"sweep: contestant is {self.contestant!r}; name one, as contestant: tfidf_ridge")
        return contestant_entry(self.contestant, "sweep: contestant")

    def with_settings(self, settings: dict[str, Any]) -> Any:
        """`contestant` with these settings too."""
        if not settings:
            return self.contestant
        if hasattr(self.contestant, "fit"):
            return clone(self.contestant).set_params(**settings)
        entry = self._entry()
        return {entry.name: entry.settings | settings}

    @property
    def name(self) -> str:
        """What is swept over, by its name."""
        return type(self.contestant).__name__ if hasattr(self.contestant, "fit") else self._entry().name

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Make the trials that are left to make, and fit the contestant with the best setting.

        Raises ContestantError for a setting that does not exist or where every trial failed, MissingExtraError without
        Optuna.
        """
        return self.fit_with(X, y, validation, ALONE)

    def fit_with(self, X: Any, y: Any, validation: Validation | None, context: Learning) -> Self:
        """`fit` in a contest."""
        X = as_frame(X)
        kind: Kind = self.kind or infer_kind(y)
        y = as_target(y, kind, X.height)
        base = self.base(kind)
        options = self.options(base)
        validation = held_part(validation, kind)
        if validation is not None:
            learn, held = (X, y), validation
        else:
            inner, outer = hold_out(X.height, self.random_state)
            learn, held = (X[inner], y[inner]), (X[outer], y[outer])
        self.settings_: dict[str, Any] = {}
        usd: float | None = 0.0
        paid = 0.0
        whole = False
        notes: dict[str, Any] = {"contestant": self.name, "over": sorted(options), "trials": []}
        if not len(held[1]) or len(set(learn[1].tolist())) < 2:
            few = "no rows to choose by" if not len(held[1]) else "one answer only in the training part"
            notes["stopped"] = f"nothing to choose: {few}"
        else:
            from kurabe.contestants.sweeps.search import Search

            with Search(self, base, options, kind, learn, held, context) as search:
                self.settings_ = search.run()
                notes |= search.notes()
                usd, paid = search.cost, search.paid
                whole = search.whole and validation is not None
        chosen = clone(base).set_params(**self.settings_)
        self.chosen_ = self._fitted(chosen, X, y, validation, context.after(paid))
        more = getattr(self.chosen_, "notes_", {})
        # Where it is whole, its job is one that the trials have paid for; they ask no general questions.
        own = more.get("general", {}).get("usd", 0.0) if whole else more.get("usd", 0.0)
        self.notes_ = {**more, "usd": total([usd, own]), "sweep": notes}
        return self

    def _fitted(self, estimator: Any, X: Any, y: np.ndarray, validation: Validation | None, context: Learning) -> Any:
        """The estimator fitted as a contest would."""
        from kurabe.contestants.sweeps.search import trial_folder

        if self.folder is not None and isinstance(estimator, Contestant):
            estimator = estimator.keeping(trial_folder(self.folder, ["chosen", self.settings_]))
        return fitted(estimator, X, y, validation, context)

    def predict(self, X: Any) -> np.ndarray:
        """What the contestant with the chosen setting says."""
        return np.asarray(self.chosen_.predict(X))

    @available_if(lambda self: hasattr(getattr(self, "chosen_", None), "predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities, where the contestant has them."""
        return np.asarray(self.chosen_.predict_proba(X))

    @property
    def classes_(self) -> np.ndarray:
        """The labels, in the order of `predict_proba`."""
        return np.asarray(self.chosen_.classes_)

    def close(self) -> None:
        """Give back what the contestant holds."""
        if hasattr(getattr(self, "chosen_", None), "close"):
            self.chosen_.close()

    def __getstate__(self) -> dict[str, Any]:
        """Plain values only: the task's prompt as a dict."""
        return {**super().__getstate__(), "prompt": msgspec.to_builtins(self.prompt)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        prompt = msgspec.convert(state.get("prompt"), spec.Prompt | None)
        super().__setstate__({**state, "prompt": prompt})


def _embeddings(base: Any) -> Any:
    """What embeds the texts of a contestant that is swept; None where it has no such setting."""
    return base.get_params(deep=False).get("embeddings") if isinstance(base, Contestant) else None
