"""A language model that is asked, row by row: zero-shot, with fixed examples, or with the nearest training rows."""

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import msgspec
import numpy as np
import polars as pl
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from kurabe.contestants.base import About, Answering, Contestant, Prediction, Validation, collect
from kurabe.contestants.expected import expected_number
from kurabe.contestants.frames import TEXT, as_frame, as_target, infer_kind, require, texts
from kurabe.contestants.open_models import OpenModels
from kurabe.contestants.prompted.examples import Nearest, decimals_of, spread, write_number
from kurabe.contestants.prompted.wording import default_prompt, joint
from kurabe.contestants.score import Question, score_rows, shown
from kurabe.errors import ContestantError, TaskError, missing
from kurabe.messages import Message, Reply, Request
from kurabe.models import beside, fingerprint
from kurabe.models.base import ChatModel
from kurabe.models.conversation import estimate_tokens
from kurabe.models.engines.base import LocalModel
from kurabe.models.engines.thoughts import opens_thought
from kurabe.models.reference import is_local
from kurabe.tasks import spec
from kurabe.tasks.answers import fallback, read_answer
from kurabe.tasks.spec import Kind, Sample
from kurabe.tasks.template import check_syntax, render_inputs, template_columns

MAX_TOKENS: dict[Kind, int] = {"number": 32, "label": 32, "text": 256}
Decode = Literal["auto", "free", "grammar", "score", "likelihood", "expected"]
DECODES: dict[Kind, tuple[Decode, ...]] = {
    "number": ("auto", "free", "grammar", "expected"),
    "label": ("auto", "free", "grammar", "score", "likelihood"),
    "text": ("auto", "free"),
}
SCORED = ("score", "likelihood")
ALTERNATIVES = 20
"""Tokens reported in each place of a number whose expected value is asked for."""
BATCH = 64
"""Rows rendered at a time, so that requests are made lazily."""
WORTH_KEEPING = 1024
"""Tokens of a shared beginning from which on it is marked for the provider's cache; none keeps shorter ones."""

SECRET_OPTIONS = ("api_key", "headers")
"""Options of a model that may hold a key; they do not belong into a task file, which the journal keeps."""

OF_CALLS = frozenset(
    f"options.{name}"
    for name in (
        "attempts", "budget", "cache", "concurrency", "policy", "requests_per_minute", "timeout",
        "tokens_per_minute",
    )
)  # fmt: skip
"""Options that say how calls are made and what they may cost, and nothing of what is answered. `price` is none of them,
since what an answer has cost is kept with it."""


class Prompt(Contestant):
    """Ask a chat model for each row's answer.

    If a prompt doesn't fit the model's context, its text columns are cut in half again and again; then its first
    examples are dropped. With `decode: score` or `likelihood` there is `predict_proba`.

    Parameters
    ----------
    model
        A reference such as `gguf:smollm2-135m` or `openai:gpt-5.1`, or an open model.
    options
        Options of `kurabe.open_model` for a hosted model, such as `{requests_per_minute: 500, concurrency: 64}`.
    examples
        How many training rows are shown as earlier turns, or a list of `{input, output}`.
    choose
        Which examples. `fixed`: the same for every row, spread over the target, so that the model reads them once.
        `nearest`: the training rows whose words are most like the row's, the nearest last.
    system
        The system text, in place of the task's.
    user
        The user's turn, in place of the task's: a sandboxed Jinja2 template over the columns and `input`.
    prefill
        The beginning of the answer, in place of the task's.
    max_tokens
        The most tokens of an answer. None: enough for the longest training answer, but at most 1,024.
    temperature
        How freely the model chooses tokens; 0: the likeliest one.
    decode
        How an answer is made. `free`: the model writes, and the answer is read from its text. `grammar`: the model can
        only write a number or one of the labels. `expected`: as `grammar`, but the answer is the mean of the numbers
        that the model might have written. `score`: the label that constrained sampling would give the highest
        probability; nothing is written. `likelihood`: the label whose tokens are likeliest together, as in
        lm-evaluation-harness, which penalises long labels. `auto`: for a local model `score` for labels, and `grammar`
        for numbers unless some are negative; else `free`.
    calibrate
        Divide each label's probability by its probability for an empty input (Zhao et al. 2021).
    max_input_chars
        Every text column is cut to so many characters before it is rendered.
    rows
        How many test rows it answers, from the first of a random order, or `all`. None: what the task says, else at
        most 100.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label", "text"})
    no_effect = frozenset({"rows", *OF_CALLS})
    asks = True
    trains = False
    _models: OpenModels | None = None

    def __init__(
        self,
        model: str | ChatModel = "gguf:smollm2-135m",
        options: dict[str, Any] | None = None,
        examples: int | Sequence[Any] = 0,
        choose: Literal["fixed", "nearest"] = "fixed",
        system: str | None = None,
        user: str | None = None,
        prefill: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        decode: Decode = "auto",
        calibrate: bool = False,
        max_input_chars: int = 2000,
        rows: Sample | None = None,
        kind: Kind | None = None,
        prompt: spec.Prompt | None = None,
        target: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.options = options
        self.examples = examples
        self.choose = choose
        self.system = system
        self.user = user
        self.prefill = prefill
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.decode = decode
        self.calibrate = calibrate
        self.max_input_chars = max_input_chars
        self.rows = rows
        self.kind = kind
        self.prompt = prompt
        self.target = target
        self.random_state = random_state

    def models(self) -> tuple[str, ...]:
        """The reference of the model, where it is not an open one."""
        return (self.model,) if isinstance(self.model, str) else ()

    def shown_model(self) -> str:
        """The reference of the model."""
        return self.model if isinstance(self.model, str) else self.model.reference

    @property
    def hosted(self) -> bool:
        """Whether the model is asked over the network."""
        return not is_local(self.shown_model())

    def may_cost(self) -> bool:
        """Whether the model is hosted."""
        return self.hosted

    def sample(self, rows: Sample) -> int | None:
        """The first `rows` test rows, unless the setting of that name says otherwise."""
        asked = self.rows or rows
        return None if asked == "all" else asked

    def depends(self, about: About) -> Iterable[tuple[bytes | str, ...]]:
        """The model's files."""
        return ((fingerprint(beside(self.model, about.folder)),),) if isinstance(self.model, str) else ()

    def placed(self, about: About, kept: Path | None) -> Self:
        """A copy whose model is found beside the task file."""
        return clone(self).set_params(model=beside(self.model, about.folder)) if isinstance(self.model, str) else self

    def answer(self, X: pl.DataFrame, context: Answering) -> Iterator[list[Prediction]]:
        """Answers as they come. Calls under way when it is to stop are waited for, since they are paid."""
        return self.iter_batches(X, context.stop, self.opened(context.models))  # loading it is not part of answering

    def skipped_reason(self) -> str | None:
        """Why the model cannot be asked here, or None where it can."""
        if not isinstance(self.model, str):
            return None
        from kurabe.models import availability

        return availability(self.model)

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Choose the examples and learn the labels and the fallback; the model itself learns nothing.

        Raises ContestantError for a setting that is not valid and TaskError for a broken template.
        """
        self.check()
        X = as_frame(X)
        self.kind_: Kind = self.kind or infer_kind(y)
        y = as_target(y, self.kind_, X.height)
        self.fallback_ = fallback(y, self.kind_)
        self.labels_ = sorted(set(y.tolist())) if self.kind_ == "label" else []
        self.decimals_ = decimals_of(y) if self.kind_ == "number" else None
        # Room for ten times the largest answer seen, not for a run of digits.
        self.digits_ = min(len(str(int(max(y.max(), 0)))) + 1, 12) if self.kind_ == "number" else 0
        self.decode_ = self._decode(y)
        if self.kind_ == "label":
            self.classes_ = np.array(self.labels_, dtype=object)
            self.shares_ = np.array([float((y == label).mean()) for label in self.labels_])
        self.system_, self.user_, self.prefill_ = self._prompt()
        self.shots_: list[list[str]] = []
        self.fixed_: list[int] = []
        self.nearest_ = 0
        self.vectorizer_: Any = None
        self.vectors_: Any = None
        self.columns_ = list(template_columns(self.user_, X.columns, where="prompt: user"))
        given = self._given()
        if given is not None:
            self.shots_ = given
            self.fixed_ = list(range(len(given)))
        elif isinstance(self.examples, int) and self.examples:
            self._choose(X, y, self.examples)
        self.request_ = msgspec.to_builtins(self._template_request(y))
        self.notes_: dict[str, Any] = {"decode": self.decode_}
        return self

    def draft(self, X: Any, y: Any) -> Self:
        """Make the prompt ready, and ask and tune nothing."""
        return Prompt.fit(self, X, y)

    @property
    def scores_labels(self) -> bool:
        """Whether labels are scored and nothing is written; known after `fit`."""
        return self.decode_ in SCORED

    def iter_predict(self, X: Any) -> Iterator[Prediction]:
        """Yield a Prediction a row as they come; `value` is None where the answer could not be read."""
        return self._answers(*self._ready(X))

    def _answers(self, X: pl.DataFrame, model: ChatModel) -> Iterator[Prediction]:
        if self.decode_ in SCORED:
            return self._labelled(self._scored(self._questions(X, model), model))
        return self._read(model.chat_many(self._requests(X, model)), model.reference)

    def iter_batches(self, X: Any, stop: Callable[[], bool], model: ChatModel) -> Iterator[list[Prediction]]:
        """`iter_predict` in lists of what has come together; nothing more is asked once `stop()` is true."""
        X = self._required(X)
        if self.decode_ in SCORED:
            questions = itertools.takewhile(lambda _: not stop(), self._questions(X, model))
            return ([one] for one in self._labelled(self._scored(questions, model)))
        requests = itertools.takewhile(lambda _: not stop(), self._requests(X, model))
        return (list(self._read(batch, model.reference)) for batch in model.chat_batches(requests, stop))

    def _required(self, X: Any) -> pl.DataFrame:
        frame: pl.DataFrame = as_frame(X)
        require(frame, self.columns_)
        return frame

    def _ready(self, X: Any) -> tuple[pl.DataFrame, ChatModel]:
        return self._required(X), self.opened()

    def asked(self) -> tuple[str | ChatModel, dict[str, Any] | None]:
        """The model that is asked, and the options it is opened with."""
        return self.model, self.options

    def opened(self, models: OpenModels | None = None) -> ChatModel:
        """The model that is asked, opened where it is a reference: among `models`, else for this contestant alone,
        until it is closed or gone."""
        model, options = self.asked()
        if not isinstance(model, str):
            return model
        if models is None:
            if self._models is None:
                self._models = OpenModels()
                weakref.finalize(self, self._models.close)
            models = self._models
        return models.open(model, options)

    def _read(self, replies: Iterable[tuple[int, Reply]], model: str) -> Iterator[Prediction]:
        for row, reply in replies:
            value = read_answer(reply.text, self.kind_, self.labels_, self.prefill_)
            raw = reply.text
            if self.decode_ == "expected" and value is not None:
                if not reply.logprobs:
                    raise ContestantError(f"decode: expected: {model!r} gave no log-probabilities; use grammar")
                value = expected_number(reply.logprobs, self.digits_)
                raw = f"{raw} written, {value:.6g} expected"
            yield Prediction(row=row, value=value, raw=raw, usd=reply.usd)

    def _labelled(self, scored: Iterable[tuple[int, np.ndarray | None]]) -> Iterator[Prediction]:
        for row, shares in scored:
            if shares is None:
                yield Prediction(row=row, value=None, raw="")
            else:
                yield Prediction(row=row, value=self.labels_[int(shares.argmax())], raw=shown(self.labels_, shares))

    def _scored(self, questions: Iterable[Question], model: ChatModel) -> Iterator[tuple[int, np.ndarray | None]]:
        """(row, (classes,) probabilities) as they come; None without probabilities."""
        if len(self.labels_) == 1:
            return ((row, np.ones(1)) for row, _ in enumerate(questions))
        if not isinstance(model, LocalModel):
            raise ContestantError(
                f"decode: {self.decode_} needs a local model, and {model.reference!r} is not one; use decode: free"
            )
        between = joint(self.prefill_)
        choices = [between + label for label in self.labels_]
        return score_rows(model, questions, choices, whole=self.decode_ == "likelihood")

    def predict(self, X: Any) -> np.ndarray:
        """One answer a row; where it could not be read, the training median or the most frequent answer."""
        X = as_frame(X)
        return collect(self.iter_predict(X), X.height, self.kind_, self.fallback_)

    def predict_by(self, model: ChatModel, X: Any) -> np.ndarray:
        """`predict` by another model that is open."""
        X = as_frame(X)
        require(X, self.columns_)
        return collect(self._answers(X, model), X.height, self.kind_, self.fallback_)

    def _gives_probabilities(self) -> bool:
        kind, decode = getattr(self, "kind_", self.kind), getattr(self, "decode_", self.decode)
        return decode in SCORED or (decode == "auto" and kind in ("label", None) and self._in_process())

    @available_if(_gives_probabilities)  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities in the order of `classes_`; where a row has none, those of the training part.

        Only for labels that are scored (`decode`).
        """
        X, model = self._ready(X)
        probabilities = np.tile(self.shares_, (X.height, 1))
        for row, shares in self._scored(self._questions(X, model), model):
            if shares is not None:
                probabilities[row] = shares
        return probabilities

    def close(self) -> None:
        """Close the model, where it was opened for this contestant alone."""
        if self._models is not None:
            self._models.close()

    def __getstate__(self) -> dict[str, Any]:
        """Plain values only: a model object is kept as its reference, the task's prompt as a dict."""
        state = dict(super().__getstate__())
        state.pop("_models", None)
        state["model"] = self.model if isinstance(self.model, str) else self.model.reference
        state["prompt"] = msgspec.to_builtins(self.prompt)
        state["examples"] = msgspec.to_builtins(self.examples)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        prompt = state.get("prompt")
        # Contestants saved before there were samples have no `rows`.
        super().__setstate__({"rows": None, **state, "prompt": msgspec.convert(prompt, spec.Prompt | None)})

    def check(self) -> None:
        """Raise ContestantError where a setting is not valid, or holds what must not be kept."""
        if self.choose not in ("fixed", "nearest"):
            raise ContestantError(missing("way to choose examples", str(self.choose), ["fixed", "nearest"]))
        if self.decode not in get_args(Decode):
            raise ContestantError(missing("decode", str(self.decode), get_args(Decode)))
        for option in SECRET_OPTIONS:
            if option in (self.options or {}):
                raise ContestantError(f"options: {option} does not belong here; set the key in the environment")
        if self.options and (not isinstance(self.model, str) or is_local(self.model)):
            raise ContestantError(f"`options` is for hosted models, and {self.model!r} is not one")
        if self.options:
            from kurabe.models.hosted.connect import check_address, check_options

            check_options(self.options)
            if address := self.options.get("base_url"):
                check_address(address, "the model")  # before it is kept, as it may hold a secret
        if isinstance(self.examples, int) and self.examples < 0:
            raise ContestantError(f"examples is {self.examples}; it must be 0 or more, or a list of examples")
        if self.max_input_chars < 1 or (self.max_tokens is not None and self.max_tokens < 1):
            raise ContestantError("max_input_chars and max_tokens must be 1 or more")

    def _in_process(self) -> bool:
        return is_local(self.model) if isinstance(self.model, str) else isinstance(self.model, LocalModel)

    def _decode(self, y: np.ndarray) -> Decode:
        """How answers come about, now that the kind is known."""
        if self.decode not in DECODES[self.kind_]:
            raise ContestantError(f"kind {self.kind_}: {missing('decode', self.decode, DECODES[self.kind_])}")
        unwritable = None
        if self.kind_ == "number" and (y < 0).any():
            unwritable = "no number below 0"
        elif self.kind_ == "label" and "" in self.labels_:
            unwritable = "no empty label"
        decode = self.decode
        if decode == "auto":
            held: dict[Kind, Decode] = {"number": "grammar", "label": "score", "text": "free"}
            decode = held[self.kind_] if self._in_process() and unwritable is None else "free"
        elif unwritable and decode != "free":
            raise ContestantError(f"decode: {decode} gives {unwritable}, and the data have one; use free")
        if self.calibrate and decode not in SCORED:
            raise ContestantError(f"calibrate is for labels that are scored, and decode is {decode}; use score")
        return decode

    def _prompt(self) -> tuple[str, str, str]:
        """System message, user template and prefill: the contestant's own, else the task's, else a plain question."""
        system, user, prefill = default_prompt(self.kind_, self.target, self.labels_)
        if self.prompt is not None:
            system = system if self.prompt.system is None else self.prompt.system
            user, prefill = self.prompt.user, self.prompt.prefill
        system = system if self.system is None else self.system
        user = user if self.user is None else self.user
        prefill = prefill if self.prefill is None else self.prefill
        check_syntax(user, "prompt: user")
        return system, user, prefill

    def _given(self) -> list[list[str]] | None:
        """Examples written out in the settings or the task's prompt as [input, output], or None."""
        given: Any = self.examples if not isinstance(self.examples, int) else None
        if given is None and self.examples == 0 and self.prompt is not None and self.prompt.examples:
            given = self.prompt.examples
        if given is None:
            return None
        try:
            examples = msgspec.convert(msgspec.to_builtins(list(given)), list[spec.Example])
        except (msgspec.ValidationError, TypeError) as error:
            raise ContestantError(f"examples: {error}; each is {{input: …, output: …}}") from None
        outputs = (e.output if isinstance(e.output, str) else write_number(e.output, self.decimals_) for e in examples)
        inputs = pl.DataFrame({TEXT: [example.input for example in examples]}, schema={TEXT: pl.String})
        try:
            questions = self._render(inputs)
        except TaskError:  # the template reads other columns, so an example's input is the whole question
            questions = inputs[TEXT].to_list()
        return [list(shot) for shot in zip(questions, outputs, strict=True)]

    def _choose(self, X: pl.DataFrame, y: np.ndarray, count: int) -> None:
        nearest = Nearest.fit(self._cut(texts(X))) if self.choose == "nearest" else None
        if nearest is not None:
            self.vectorizer_, self.vectors_ = nearest.vectorizer, nearest.vectors
            rows, self.nearest_ = list(range(len(y))), count
        else:
            rows = spread(y, self.kind_, count, self.random_state)
            self.fixed_ = list(range(len(rows)))
        outputs = [write_number(y[row], self.decimals_) if self.kind_ == "number" else str(y[row]) for row in rows]
        self.shots_ = [list(shot) for shot in zip(self._render(X[rows]), outputs, strict=True)]

    def _template_request(self, y: np.ndarray) -> Request:
        """The request without its messages."""
        grammar = None
        if self.decode_ in ("grammar", "expected"):
            from kurabe.models.grammar import label_grammar, number_grammar

            if self.kind_ == "number":
                grammar = number_grammar(self.digits_)
            else:
                grammar = label_grammar(joint(self.prefill_) + label for label in self.labels_)
        longest = max((len(str(value)) for value in y), default=0) if self.kind_ != "number" else 0
        lines = self.prefill_ and self.kind_ != "text" and grammar is None and not opens_thought(self.prefill_)
        return Request(
            messages=(),
            prefill=self.prefill_,
            max_tokens=self.max_tokens or max(MAX_TOKENS[self.kind_], min(longest, 1024)),
            temperature=self.temperature,
            seed=self.random_state,
            stop=("\n",) if lines else (),
            grammar=grammar,
            logprobs=ALTERNATIVES if self.decode_ == "expected" else None,
        )

    def _requests(self, X: pl.DataFrame, model: ChatModel) -> Iterator[Request]:
        request = taken(msgspec.convert(self.request_, Request), model)
        keeps = X.height > 1 and model.takes("cache") and not isinstance(model, LocalModel)
        shared = self._shared() if keeps else 0
        for text, shots in self._asked(X, model, request):
            messages = self._messages(text, shots)
            if shared and len(shots) >= len(self.fixed_):  # else some were left out, to fit the context
                messages = _marked(messages, shared)
            yield msgspec.structs.replace(request, messages=messages)

    def _questions(self, X: pl.DataFrame, model: ChatModel) -> Iterator[Question]:
        """The requests of rows whose labels are scored, each with the one it is calibrated against."""
        request = taken(msgspec.convert(self.request_, Request), model)
        (nothing,) = self._render(X.clear(1)) if self.calibrate else ("",)
        for text, shots in self._asked(X, model, request):
            asked, empty = (
                msgspec.structs.replace(request, messages=self._messages(one, shots)) for one in (text, nothing)
            )
            yield Question(asked, empty if self.calibrate else None)

    def drafts(self, X: Any) -> Iterator[tuple[Message, ...]]:
        """The messages of each row's request, before they are cut to a model's context. Opens and asks no model."""
        for text, shots in self._asked(as_frame(X), None, msgspec.convert(self.request_, Request)):
            yield self._messages(text, shots)

    def _asked(self, X: pl.DataFrame, model: ChatModel | None, request: Request) -> Iterator[tuple[str, Sequence[int]]]:
        """Of each row the last turn's text and the examples before it, so far cut that they fit the context."""
        nearest = Nearest(self.vectorizer_, self.vectors_) if self.vectorizer_ is not None else None
        for start in range(0, X.height, BATCH):
            rows = X[start : start + BATCH]
            if nearest is None:
                examples = [self.fixed_] * rows.height
            else:
                examples = nearest.find(self._cut(texts(rows)), self.nearest_)
            for row, (text, shots) in enumerate(zip(self._render(rows), examples, strict=True)):
                kept: Sequence[int] = shots
                for halved in range(1, 6):
                    if _fits(model, self._messages(text, kept), request):
                        break
                    (text,) = self._render(rows[row], self.max_input_chars >> halved)
                    kept = shots[len(shots) * halved // 5 :]
                yield text, kept

    def _messages(self, text: str, shots: Sequence[int]) -> tuple[Message, ...]:
        """What stays the same stands first, so that the model evaluates it once."""
        between = joint(self.prefill_) if self.kind_ == "label" else ""
        messages = [Message("system", self.system_)] if self.system_ else []
        for shot in shots:
            question, answer = self.shots_[shot]
            messages += [Message("user", question), Message("assistant", self.prefill_ + between + answer)]
        return (*messages, Message("user", text))

    def _shared(self) -> int:
        """How many turns the requests of all rows begin with, 0 where these are too short to be worth keeping."""
        turns = self._messages("", self.fixed_)[:-1]
        return len(turns) if sum(estimate_tokens(turn.text) for turn in turns) >= WORTH_KEEPING else 0

    def _render(self, X: pl.DataFrame, chars: int | None = None) -> list[str]:
        strings = pl.selectors.string()
        cut = X.with_columns(
            strings.str.slice(0, self.max_input_chars if chars is None else chars).str.replace_all(
                "\x00", " ", literal=True
            )
        )
        return render_inputs(self.user_, cut, where="prompt: user")

    def _cut(self, inputs: list[str]) -> list[str]:
        return [text[: self.max_input_chars] for text in inputs]


def taken(request: Request, model: ChatModel) -> Request:
    """The request without settings of ours that the model does not take: temperature 0, the seed and the like."""
    ours: dict[str, Any] = {"seed": None, "prefill": "", "stop": ()}
    if request.temperature == 0:
        ours["temperature"] = None
    return msgspec.structs.replace(request, **{name: v for name, v in ours.items() if not model.takes(name)})


def _marked(messages: tuple[Message, ...], shared: int) -> tuple[Message, ...]:
    """The messages with a mark where the beginning that all rows share ends."""
    last = msgspec.structs.replace(messages[shared - 1], cache=True)
    return (*messages[: shared - 1], last, *messages[shared:])


def _fits(model: ChatModel | None, messages: Sequence[Message], request: Request) -> bool:
    """Whether the messages fit the model's context, as far as it says what that is. A token is a byte or more."""
    context, count = getattr(model, "context", None), getattr(model, "count_tokens", None)
    if context is None or count is None:
        return True
    room = context - (request.max_tokens or 0) - 16 * (len(messages) + 1)  # 16: what a chat template puts around a turn
    text = "\n".join([*(message.text for message in messages), request.prefill])
    return bool(len(text.encode("utf-8", "replace")) <= room or count(text) <= room)
