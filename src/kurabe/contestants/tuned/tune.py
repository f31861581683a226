"""A model of one's own machine that is tuned on the training part, then asked as any other."""

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import polars as pl
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from kurabe.contestants.base import ALONE, About, Learning, Prediction, Validation
from kurabe.contestants.frames import as_frame, as_target
from kurabe.contestants.prompted.examples import write_number
from kurabe.contestants.prompted.prompt import Decode, Prompt
from kurabe.contestants.prompted.wording import joint
from kurabe.contestants.registry import checked_settings
from kurabe.contestants.tuned import tune_head
from kurabe.errors import ContestantError, MissingExtraError, TuningError
from kurabe.messages import Request
from kurabe.models.base import ChatModel
from kurabe.models.engines.base import LocalModel
from kurabe.models.engines.opened import require_engine
from kurabe.models.files.local import located, pull_command
from kurabe.models.reference import Reference, parse_reference
from kurabe.tasks import spec
from kurabe.tasks.metrics import Metric, metric_for
from kurabe.tasks.spec import Kind
from kurabe.tuning.durable import whole, write_bytes
from kurabe.tuning.rows import Row, place, training_row
from kurabe.tuning.settings import (
    LEVELS,
    Count,
    Decay,
    Head,
    Method,
    Modules,
    Natural,
    Positive,
    Schedule,
    Share,
    TuneSettings,
)

NOTES = "notes.json"
"""What the report shows of a tuning, beside the weights: losses, scores, general rows before and after."""
RUNNING = ("batch", "device")
"""Options of a reference that say how the model runs, and change nothing of what is learned."""
CHECKED = 100
"""Rows of the validation part that are answered at each evaluation."""


class Tune(Prompt):
    """Tune a model on this machine with the training part, then ask it.

    Each row of the training part becomes a conversation, and the model learns its answer alone. The prompt has no
    examples but those of the task's prompt. The weights of the step that scored best on the validation part (at most
    100 of its rows), by the task's metric, are taken.

    Parameters
    ----------
    model
        A reference for Transformers, such as `hf:smollm2-135m`.
    method
        `lora`: adapters of low rank (Hu et al. 2021). `qlora`: the same over weights in nf4 (Dettmers et al. 2023).
        `full`: all weights.
    head
        A number head in place of text, for kind `number` only. `regression`: the answer is the head's number.
        `quantiles`: it is the head's median, and there is `predict_quantiles`.
    rank
        The rank of the adapters.
    alpha
        The adapters are scaled by alpha / rank.
    dropout
        The share of the adapters' inputs that is left out while training.
    target_modules
        Names of linear layers that get adapters. `all-linear`: all but the output layer.
    learning_rate
        The peak learning rate. None: 2e-4 for adapters, 2e-5 for all weights.
    schedule
        How the learning rate falls after the warm-up.
    warmup
        The share of the steps over which the learning rate rises.
    weight_decay
        The weight decay of AdamW.
    clip
        The greatest norm of a step's gradients.
    epochs
        How often each row is seen.
    max_steps
        The most steps. None: as many as `epochs` takes.
    step_tokens
        Tokens between two updates, without padding.
    micro_tokens
        Tokens that go through the model at once. Fewer take less memory.
    context
        The most tokens of a row.
    checkpointing
        Compute activations twice, which takes less memory and more time.
    evaluations
        How often the validation part is scored, at equal distances.
    patience
        Training stops after so many evaluations without a better score.
    general
        Answer the general questions of `kurabe.tuning.general` before and after, to see what the model forgot.
    folder
        Where checkpoints and the adapter are kept, so that an interrupted fit is resumed. A contest sets it. None: a
        temporary folder.
    """

    keeps = "tuned"
    resumes = True
    trains = True

    def __init__(
        self,
        model: str = "hf:smollm2-135m",
        method: Method = "lora",
        head: Head | None = None,
        rank: Count = 16,
        alpha: Positive = 32.0,
        dropout: Share = 0.0,
        target_modules: Modules = "all-linear",
        learning_rate: Positive | None = None,
        schedule: Schedule = "cosine",
        warmup: Share = 0.05,
        weight_decay: Decay = 0.0,
        clip: Positive = 1.0,
        epochs: Positive = 1.0,
        max_steps: Count | None = None,
        step_tokens: Count = 4096,
        micro_tokens: Count = 512,
        context: Count = 1024,
        checkpointing: bool = False,
        evaluations: Natural = 4,
        patience: Count = 3,
        system: str | None = None,
        user: str | None = None,
        prefill: str | None = None,
        max_tokens: Count | None = None,
        decode: Decode = "auto",
        max_input_chars: Count = 2000,
        rows: spec.Sample | None = None,
        general: bool = True,
        folder: str | None = None,
        metric: str | None = None,
        kind: Kind | None = None,
        prompt: spec.Prompt | None = None,
        target: str | None = None,
        random_state: Natural = 0,
    ) -> None:
        super().__init__(
            model=model, system=system, user=user, prefill=prefill, max_tokens=max_tokens, decode=decode,
            max_input_chars=max_input_chars, rows=rows, kind=kind, prompt=prompt, target=target,
            random_state=random_state,
        )  # fmt: skip
        self.method = method
        self.head = head
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warmup = warmup
        self.weight_decay = weight_decay
        self.clip = clip
        self.epochs = epochs
        self.max_steps = max_steps
        self.step_tokens = step_tokens
        self.micro_tokens = micro_tokens
        self.context = context
        self.checkpointing = checkpointing
        self.evaluations = evaluations
        self.patience = patience
        self.general = general
        self.folder = folder
        self.metric = metric

    def placed(self, about: About, kept: Path | None) -> Self:
        """A copy whose model is found beside the task file, and which keeps what it learns."""
        found = super().placed(about, kept)
        return found if found.folder is not None or kept is None else found.keeping(kept)

    def tried(self) -> Self:
        """A copy that answers no general questions."""
        copy: Self = clone(self).set_params(general=False)
        return copy

    def keeping(self, kept: Path) -> Self:
        """A copy that keeps its checkpoints and its adapter in `kept`."""
        copy: Self = clone(self).set_params(folder=str(kept))
        return copy

    def skipped_reason(self) -> str | None:
        """Why the model cannot be tuned here, or None where it can."""
        try:
            require_engine("hf")
        except MissingExtraError as error:
            return str(error)
        return super().skipped_reason()

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Tune the model, or go on with a tuning that was cut off.

        Raises TuningError for a row, a setting or a model that can't be tuned, and ContestantError and TaskError as
        `Prompt.fit` does.
        """
        return self.fit_with(X, y, validation, ALONE)

    def fit_with(self, X: Any, y: Any, validation: Validation | None, context: Learning) -> Self:
        """`fit` in a contest."""
        settings = self._settings()
        base = self._base()
        super().fit(X, y, validation)
        X = as_frame(X)
        y = as_target(y, self.kind_, X.height)
        if self.head is not None:
            tune_head.require_number(self)
            self.levels_ = list(LEVELS) if self.head == "quantiles" else [0.5]
            self.quantiles_ = np.quantile(y, self.levels_)
        if self.kind_ == "label" and len(self.labels_) < 2:
            raise TuningError(f"all rows have the label {self.labels_[0]!r}: there is nothing to learn")
        home = Path(self.folder).absolute() if self.folder else Path(tempfile.mkdtemp(prefix="kurabe-tune-"))
        _require_same(home, self._learned_from(X, y, validation))
        tuned = home / "tuned"
        if not tuned.is_dir():
            _Tuning(self, settings, base, home, context.tell).run(X, y, validation)
        written = self.notes_ if self.head is None else {"decode": "head"}
        self.notes_ = {**msgspec.json.decode((tuned / NOTES).read_bytes()), **written}
        if settings.method == "full":
            self.tuned_ = str(Reference("hf", str(tuned), base.options))
        else:
            self.tuned_ = str(msgspec.structs.replace(base, options={**base.options, "adapter": str(tuned)}))
        return self

    def tuned_here(self) -> tuple[str, str]:
        """The references of the tuned model and of what it was made of."""
        return self.tuned_, str(self.model)

    def asked(self) -> tuple[str | ChatModel, dict[str, Any] | None]:
        """The tuned model."""
        return self.tuned_, None

    def _answers(self, X: pl.DataFrame, model: ChatModel) -> Iterator[Prediction]:
        if self.head is None:
            return super()._answers(X, model)
        batches = tune_head.predictions(tune_head.quantiles(self, X, model))
        return (answer for batch in batches for answer in batch)

    def iter_batches(self, X: Any, stop: Callable[[], bool], model: ChatModel) -> Iterator[list[Prediction]]:
        """`iter_predict` in lists of what has come together; nothing more is asked once `stop()` is true."""
        if self.head is None:
            return super().iter_batches(X, stop, model)
        return tune_head.predictions(tune_head.quantiles(self, self._required(X), model, stop))

    @available_if(lambda self: self.head == "quantiles")  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_quantiles(self, X: Any) -> np.ndarray:
        """(n, levels) float64, ascending: the quantiles at the levels `levels_`; where a row's prompt does not fit the
        model's context, those of the training part."""
        found = np.concatenate([np.empty((0, len(self.levels_))), *tune_head.quantiles(self, *self._ready(X))])
        return np.where(np.isnan(found), self.quantiles_, found)

    def conversations(self, X: pl.DataFrame, model: ChatModel) -> Iterator[Request]:
        """The requests that rows are asked with."""
        return self._requests(X, model)

    def written(self, value: Any) -> str:
        """A target as the model is to write it."""
        text = write_number(value, self.decimals_) if self.kind_ == "number" else str(value)
        return joint(self.prefill_) + text

    def _learned_from(self, X: pl.DataFrame, y: np.ndarray, validation: Validation | None) -> bytes:
        """A digest of all that the tuned weights depend on, but for where the model's files lie."""
        params = {name: value for name, value in self.get_params().items() if name not in ("model", "folder")}
        model = parse_reference(str(self.model))
        options = "".join(f"?{name}={value}" for name, value in sorted(model.options.items()) if name not in RUNNING)
        parts = [Path(model.name).name + options, repr(sorted(params.items())), X.write_json(), repr(y.tolist())]
        if validation is not None:
            parts += [as_frame(validation[0]).write_json(), repr(np.asarray(validation[1]).tolist())]
        return _digest(*parts).encode()

    def _settings(self) -> TuneSettings:
        names = [name for name in TuneSettings.__struct_fields__ if name != "seed"]
        given = {name: getattr(self, name) for name in (*names, "random_state")}
        checked = checked_settings("tune", Tune, given)
        return TuneSettings(**{name: checked[name] for name in names}, seed=checked["random_state"])

    def _base(self) -> Reference:
        parsed = parse_reference(self.model) if isinstance(self.model, str) else None
        if parsed is None or parsed.scheme != "hf":
            raise ContestantError(
                f"tune: only models of Transformers can be tuned, and {self.model!r} is not one: write hf:NAME, such as"
                " hf:smollm2-135m"
            )
        if "adapter" in parsed.options:
            raise ContestantError(f"tune: {self.model!r} has an adapter already; name the base model")
        if self.method == "qlora" and "quantize" not in parsed.options:
            return msgspec.structs.replace(parsed, options={**parsed.options, "quantize": "nf4"})
        if self.method != "qlora" and "quantize" in parsed.options:
            raise ContestantError(f"tune: {self.model!r} is quantized, and method is {self.method}; use method: qlora")
        return parsed


@dataclass
class _TextAnswers:
    """How a model is tuned to answer in text. `tune_head.NumberAnswers` is the same for a number head."""

    contestant: Tune
    base: Reference
    metric: Metric
    y: np.ndarray
    checked: tuple[pl.DataFrame, np.ndarray] | None
    loss: None = None
    numbers: None = None

    def rows(self, engine: LocalModel, X: pl.DataFrame, context: int) -> list[Row]:
        """What is trained on."""
        requests = self.contestant.conversations(X, engine)
        return [
            training_row(engine, request, self.contestant.written(value), context, place(number, len(self.y)))
            for number, (request, value) in enumerate(zip(requests, self.y, strict=True), 1)
        ]

    def model(self, model: Any) -> Any:
        """The model as it is trained."""
        return model

    def score(self, loaded: Any) -> float:
        """The task's metric on the rows that are checked."""
        from kurabe.models.engines.hf.model import Transformers

        assert self.checked is not None
        # A new one: what it keeps of prompts is of older weights.
        asked = Transformers.of(loaded, str(self.base), self.base.number("batch"))
        return self.metric.score(self.checked[1], self.contestant.predict_by(asked, self.checked[0]))

    def save(self, folder: Path) -> None:
        """Nothing but the weights."""


@dataclass
class _Tuning:
    """One tuning under way."""

    contestant: Tune
    settings: TuneSettings
    base: Reference
    home: Path
    tell: Callable[[str], None]

    def run(self, X: pl.DataFrame, y: np.ndarray, validation: Validation | None) -> None:
        """Train and keep the result in `home`/tuned, which is there whole or not at all."""
        from kurabe.models.engines.hf import load as hf_load
        from kurabe.models.engines.hf.model import Transformers
        from kurabe.tuning import adapter, checkpoint, processes
        from kurabe.tuning.export.tuned import public_name
        from kurabe.tuning.train import attach, take, train

        path = located(self.base)
        if path is None:
            raise TuningError(f"{self.base} is not on this machine yet; fetch it with: {pull_command(self.base)}")
        metric = metric_for(self.contestant.metric, self.contestant.kind_)
        checked = _checked(validation, self.contestant.random_state)
        answers: _TextAnswers | tune_head.NumberAnswers
        if self.settings.head is None:
            answers = _TextAnswers(self.contestant, self.base, metric, y, checked)
        else:
            answers = tune_head.NumberAnswers(self.contestant, self.settings, metric, y, checked)
        loaded = hf_load.load(path, processes.placed(self.base, training=False))
        try:
            engine = Transformers.of(loaded, str(self.base))
            rows = answers.rows(engine, X, min(self.settings.context, loaded.context))
            del engine
            before = self._general(loaded, "before")
            if processes.sharded():
                hf_load.unload(loaded)
                loaded = hf_load.load(path, processes.placed(self.base))
            model = attach(loaded.model, self.settings)
            steps = train(
                answers.model(model), rows, self.settings, self.home, pad=loaded.tokenizer.pad_token_id,
                evaluate=partial(answers.score, loaded) if checked is not None else None,
                lower_is_better=not metric.greater_is_better, loss=answers.loss,
                base=self.base, numbers=answers.numbers,
            )  # fmt: skip
            _follow(steps, self.tell)
            kept = checkpoint.read(self.home)
            assert kept is not None
            if processes.sharded():  # this process alone has no whole model any more
                hf_load.unload(loaded)
                loaded = hf_load.load(path, processes.placed(self.base, training=False))
                model = attach(loaded.model, self.settings)
                take(model, kept)
            losses = kept.notes["losses"]
            asked = self.contestant
            prompt = {"system": asked.system_, "user": asked.user_, "prefill": asked.prefill_}
            origin = adapter.Origin(
                base=public_name(self.base.name),
                target=asked.target, kind=asked.kind_, columns=tuple(X.columns),
                prompt=tuple((name, text) for name, text in prompt.items() if text),
                rows=len(rows), digest=_digest(X.write_json(), repr(y.tolist())),
                checked=0 if checked is None else len(checked[1]),
                steps=len(losses), losses=(losses[0], losses[-1]), metric=metric.name,
                scores=tuple((step, score) for step, score in kept.notes["scores"]),
            )  # fmt: skip
            scores = [one for one in kept.notes["scores"] if math.isfinite(one[1])]  # JSON has no word for others
            notes: dict[str, Any] = {"tuning": kept.notes | {"scores": scores}}
            if not loaded.tokenizer.chat_template:
                notes["no_template"] = True
            if before is not None:
                model.eval()
                notes["general"] = {"before": before, "after": self._general(loaded, "after")}
            with whole(self.home / "tuned", folder=True) as fresh:
                adapter.save(model, loaded.tokenizer, fresh, self.settings, origin)
                answers.save(fresh)
                (fresh / NOTES).write_bytes(msgspec.json.encode(notes))
            (self.home / checkpoint.NAME).unlink(missing_ok=True)
        finally:
            hf_load.unload(loaded)

    def _general(self, loaded: Any, when: str) -> Any:
        """What the model makes of the general rows, kept so that a tuning that goes on does not ask them again."""
        from kurabe.models.engines.hf.model import Transformers
        from kurabe.tuning.general import general

        if not self.contestant.general:
            return None
        file = self.home / f"general-{when}.json"
        if not file.is_file():
            self.tell(f"answering general questions {when} tuning")
            asked = Transformers.of(loaded, str(self.base), self.base.number("batch"))
            write_bytes(file, msgspec.json.encode(general(asked)))
        return msgspec.json.decode(file.read_bytes())


def _digest(*parts: str) -> str:
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def _require_same(home: Path, learned_from: bytes) -> None:
    """Raise TuningError where the folder holds a tuning that learned from something else; else note from what."""
    file = home / "learned-from"
    if file.is_file() and file.read_bytes() == learned_from:
        return
    if file.is_file() and ((home / "tuned").exists() or any(home.glob("*.safetensors"))):
        raise TuningError(f"{home} holds a tuning of other data or other settings; name another folder, or remove it")
    for answers in home.glob("general-*.json"):  # perhaps of another model
        answers.unlink()
    write_bytes(file, learned_from)


def _follow(steps: Iterator[Any], tell: Callable[[str], None]) -> None:
    """Let the training run, and tell how it goes."""
    began, first, score = time.perf_counter(), 0, ""
    for step in steps:
        first = first or step.number
        if step.score is not None:
            score = f", validation {step.score:.4g}"
        left = (time.perf_counter() - began) / (step.number - first + 1) * (step.of - step.number)
        tell(
            f"step {step.number}/{step.of}, loss {step.loss:.3f}{score}, {step.tokens / step.seconds:.0f} tokens/s,"
            f" {left / 60:.0f} min left"
        )


def _checked(validation: Validation | None, seed: int) -> tuple[pl.DataFrame, np.ndarray] | None:
    """Rows of the validation part for the evaluations."""
    if validation is None or not len(validation[1]):
        return None
    X, y = as_frame(validation[0]), np.asarray(validation[1])
    chosen: Sequence[int] = np.sort(np.random.default_rng(seed).permutation(len(y))[:CHECKED]).tolist()
    return X[chosen], y[list(chosen)]
