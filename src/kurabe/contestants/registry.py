"""The contestants by the names that a task file gives them. Each is imported when it is built, and not before."""

import importlib
import inspect
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from kurabe.contestants.base import Contestant
from kurabe.contestants.own import own_estimator
from kurabe.errors import ContestantError, PluginError, missing
from kurabe.plugins import plugin, plugin_names
from kurabe.tasks.file import contestant_entry
from kurabe.tasks.spec import ContestantSpec, Kind, Prompt
from kurabe.tuning.hosted.services import is_hosted

NUMBER: frozenset[Kind] = frozenset({"number"})
LABEL: frozenset[Kind] = frozenset({"label"})
BOTH: frozenset[Kind] = NUMBER | LABEL
ALL: frozenset[Kind] = frozenset(get_args(Kind))


class Listed(NamedTuple):
    """Where a contestant is defined, `module:Class` below kurabe.contestants, and the kinds it answers."""

    where: str
    kinds: frozenset[Kind]


CONTESTANTS: dict[str, Listed] = {
    "constant": Listed("trained.constant:Constant", ALL),
    "linear_features": Listed("trained.linear:LinearFeatures", BOTH),
    "bag_of_words": Listed("trained.linear:BagOfWords", BOTH),
    "tfidf_ridge": Listed("trained.linear:TfidfRidge", NUMBER),
    "tfidf_logistic": Listed("trained.linear:TfidfLogistic", LABEL),
    "random_forest": Listed("trained.trees:RandomForest", BOTH),
    "gradient_boosting": Listed("trained.trees:GradientBoosting", BOTH),
    "embeddings_ridge": Listed("trained.linear:EmbeddingsRidge", BOTH),
    "nearest_neighbours": Listed("trained.neighbours:NearestNeighbours", ALL),
    "stacked_boosting": Listed("trained.stack:StackedBoosting", NUMBER),
    "blend": Listed("trained.blend:Blend", BOTH),
    "catboost": Listed("trained.catboost:CatBoost", BOTH),
    "autogluon": Listed("trained.autogluon:AutoGluon", BOTH),
    "prompt": Listed("prompted.prompt:Prompt", ALL),
    "tune": Listed("tuned.tune:Tune", ALL),
    "sweep": Listed("sweeps.sweep:Sweep", ALL),
    "human": Listed("human:Human", ALL),
}
HOSTED = Listed("tuned.tune_hosted:TuneHosted", ALL)  # `tune` of a model that its provider tunes
INSTEAD = {"tfidf_ridge": "tfidf_logistic", "tfidf_logistic": "tfidf_ridge"}  # what answers the other kind
NAMED_ONLY = frozenset({"catboost", "autogluon", "tune", "sweep"})  # take part only where a task names them
WORTH = {
    "constant": 50.0, "gradient_boosting": 6.0, "tfidf_ridge": 4.0, "tfidf_logistic": 4.0, "stacked_boosting": 3.0,
    "blend": 3.0, "catboost": 4.0, "linear_features": 2.0, "random_forest": 2.0,
}  # fmt: skip
"""What contestants are worth trying where time is short, the others 1: how often they are among the best. Without a
constant nobody sees whether the others have learned anything."""
FOR_COLUMNS = frozenset({"linear_features", "random_forest", "gradient_boosting", "blend"})
MODEL = "gguf:smollm2-135m"


class Context(NamedTuple):
    """What a contestant is told of its task, for the parameters of these names that the user did not set."""

    kind: Kind
    metric: str | None = None
    random_state: int = 0
    prompt: Prompt | None = None
    target: str | None = None
    allow_code: tuple[str, ...] = ()  # modules that the user lets a task file import


def defaults(kind: Kind, *, prose: bool = True) -> tuple[ContestantSpec, ...]:
    """The contestants of a task that names none: all that answer its kind, the quick ones first.

    Where no column is `prose`, those that read texts stay away: words tell them nothing that the columns don't, and a
    small language model is no judge of numbers.
    """
    constants = {
        "number": (
            ContestantSpec("constant", {"strategy": "mean"}, "constant mean"),
            ContestantSpec("constant", {"strategy": "median"}, "constant median"),
        )
    }.get(kind, (ContestantSpec("constant", {}, "constant"),))
    # A small model is fond of some labels whatever is asked: calibrated, its probabilities are better by far.
    model = {"model": MODEL, "calibrate": True} if kind == "label" else {"model": MODEL}
    asked = (
        ContestantSpec("prompt", model, "prompt smollm2-135m"),
        ContestantSpec("prompt", model | {"examples": 3}, "prompt smollm2-135m, 3 examples"),
    )
    trained = [
        ContestantSpec(name, {}, name)
        for name, listed in CONTESTANTS.items()
        if kind in listed.kinds and name not in {"constant", "prompt", "human"} | NAMED_ONLY
    ]
    person = ContestantSpec("human", {"rows": 50}, "human")
    if not prose and kind != "text":
        return (*constants, *(one for one in trained if one.name in FOR_COLUMNS), person)
    return (*constants, *trained, *asked, person)


def build(spec: ContestantSpec, context: Context) -> Any:
    """The estimator that an entry of a task file describes, not fitted.

    Raises ContestantError for an unknown name or setting, a setting of the wrong type, a contestant that does not
    answer the task's kind, or an object of one's own that is no estimator.
    """
    if ":" in spec.name:
        return _told(own_estimator(spec, context.allow_code), context)
    listed = CONTESTANTS.get(spec.name)
    if listed is None:
        if spec.name in plugin_names("contestants", taken=CONTESTANTS):
            return _from_plugin(spec, context)
        options = [name for name, other in CONTESTANTS.items() if context.kind in other.kinds]
        options += plugin_names("contestants", taken=CONTESTANTS)
        raise ContestantError(
            f"{missing('contestant', spec.name, options)}. An estimator of your own or of another package is named as"
            ' module:object, such as {"xgboost:XGBRegressor": {n_estimators: 500}}'
        )
    if context.kind not in listed.kinds:
        other = INSTEAD.get(spec.name)
        hint = f"use {other!r}" if other and context.kind in CONTESTANTS[other].kinds else _fitting(context.kind)
        raise ContestantError(f"{spec.name} does not answer tasks of kind {context.kind}; {hint}")
    if spec.name == "tune" and is_hosted(spec.settings.get("model")):
        listed = HOSTED
    return _made(spec, _import(listed), context)


def _from_plugin(spec: ContestantSpec, context: Context) -> Any:
    """A contestant of another package. It is told kind, target and metric as ours are."""
    cls = plugin("contestants", spec.name)
    if not (isinstance(cls, type) and issubclass(cls, Contestant)):
        raise PluginError(f"{spec.name} of another package is not a subclass of kurabe.Contestant: {cls!r}")
    if context.kind not in cls.kinds:
        raise ContestantError(f"{spec.name} does not answer tasks of kind {context.kind}; {_fitting(context.kind)}")
    return _made(spec, cls, context)


def _told(estimator: Any, context: Context) -> Any:
    """A contestant of the user's own, told of the task what it was not set to; other estimators as they are."""
    if not isinstance(estimator, Contestant):
        return estimator
    params = estimator.get_params(deep=False)
    unset = {name: value for name, value in context._asdict().items() if name in params and params[name] is None}
    return estimator.set_params(**unset)


def _made(spec: ContestantSpec, cls: type, context: Context) -> Any:
    parameters = inspect.signature(cls).parameters
    told = {name: value for name, value in context._asdict().items() if name in parameters}
    return cls(**told | checked_settings(spec.name, cls, _with_own_estimators(spec, context)))


def from_name(name: str, context: Context) -> Any:
    """The contestant of that name with its default settings."""
    return build(ContestantSpec(name, {}, name), context)


def _with_own_estimators(spec: ContestantSpec, context: Context) -> dict[str, Any]:
    """The settings, with each `module:object` that they name as a contestant made here, where consent is known."""
    settings = dict(spec.settings)
    if spec.name == "sweep" and isinstance(swept := settings.get("contestant"), str | dict):
        entry = contestant_entry(swept, "sweep: contestant")
        if ":" in entry.name:
            settings["contestant"] = own_estimator(entry, context.allow_code)
    if spec.name == "blend" and isinstance(members := settings.get("members"), list | tuple):
        for one in members:
            if not isinstance(one, str):
                raise ContestantError(f"blend: members: expected names such as tfidf_ridge, got {one!r}")
        settings["members"] = [
            own_estimator(ContestantSpec(one, {}, one), context.allow_code)
            if isinstance(one, str) and ":" in one
            else one
            for one in members
        ]
    return settings


def _fitting(kind: Kind) -> str:
    names = ", ".join(name for name, listed in CONTESTANTS.items() if kind in listed.kinds)
    return f"these do: {names}"


def _import(listed: Listed) -> type:
    module, _, name = listed.where.partition(":")
    cls: type = getattr(importlib.import_module(f"kurabe.contestants.{module}"), name)
    return cls


def checked_settings(name: str, cls: type, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with values of the types, and within the limits, that the parameters are annotated with. Raises
    ContestantError."""
    parameters = inspect.signature(cls, eval_str=True).parameters
    checked = {}
    for setting, value in settings.items():
        if setting not in parameters:
            raise ContestantError(f"{name}: {missing('setting', setting, parameters)}")
        try:
            checked[setting] = msgspec.convert(value, parameters[setting].annotation, strict=True)
        except msgspec.ValidationError as error:
            if isinstance(value, str) and (choices := _choices(parameters[setting].annotation)):
                raise ContestantError(f"{name}: {missing(setting, value, choices)}") from None
            raise ContestantError(f"{name}: the setting {setting} is {value!r}: {_lower(str(error))}") from None
        except TypeError:  # an annotation that msgspec has no check for, such as a model object
            if str in types_of(parameters[setting].annotation) and isinstance(value, int | float | list | dict):
                raise ContestantError(f"{name}: the setting {setting} is {value!r}: expected a text") from None
            checked[setting] = value
    return checked


def types_of(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without their limits.

    >>> types_of(Annotated[float, msgspec.Meta(gt=0)] | None)
    [<class 'float'>, <class 'NoneType'>]
    """
    if get_origin(annotation) is Annotated:
        return types_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for one in get_args(annotation) for found in types_of(one)]
    return [annotation]


def _choices(annotation: Any) -> list[str]:
    """The names that a setting may have, where it can have no other text or number."""
    types = [one for one in types_of(annotation) if one is not type(None)]
    return [name for one in types for name in get_args(one)] if all(get_origin(t) is Literal for t in types) else []


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].replace("`", "")
