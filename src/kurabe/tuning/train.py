"""The training loop: a small one of our own, since only the answers' positions need logits.

A vocabulary of 49,152 makes the logits of a row of 250 tokens the largest tensor of a step by far, and the answer is a
few tokens of it. `benchmarks/tuning.py` holds it against trl's SFTTrainer. Each step depends on the weights, the
optimizer's means and the step's number alone, so that training that was killed ends with the same weights.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kurabe.errors import TuningError
from kurabe.models.engines.hf import load as hf_load
from kurabe.models.engines.hf.linear import frozen_linear
from kurabe.models.engines.hf.quiet import quiet
from kurabe.models.files.local import located, pull_command
from kurabe.models.reference import Reference
from kurabe.tuning import checkpoint, head, processes
from kurabe.tuning.batches import Loss, padded
from kurabe.tuning.checkpoint import State
from kurabe.tuning.rows import Row, plan
from kurabe.tuning.settings import TuneSettings, learning_rate

KEEP_SECONDS = 30.0
"""A checkpoint is written at least so often, and at every evaluation."""


class Step(NamedTuple):
    """One update: its number from 1, of how many, the mean loss of an answer's token, tokens that went through the
    model and seconds; `score` where the validation part was scored behind it, else None."""

    number: int
    of: int
    loss: float
    tokens: int
    seconds: float
    score: float | None = None


def attach(model: Any, settings: TuneSettings) -> Any:
    """The model with what is to be learned: adapters, or all of its weights, which are float32 then.

    Raises TuningError where a target module does not exist.
    """
    if settings.method == "full":
        for parameter in model.parameters():
            if parameter.is_floating_point():  # a step of 2e-5 is lost where bfloat16 rounds a weight of 0.02
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
        return model
    with quiet():
        from peft import LoraConfig, get_peft_model

    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):  # bitsandbytes packs such weights so that they only infer
            part.support_avx512bf16_for_cpu = False
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, bias="none", task_type="CAUSAL_LM",
        target_modules=_targets(model, settings),
    )  # fmt: skip
    torch.manual_seed(settings.seed)  # the adapters' first weights
    try:
        with quiet():
            learner = get_peft_model(model, config)
    except ValueError as error:
        raise TuningError(f"target_modules: {error!s:.200}; {_linear_layers(model)}") from None
    if not processes.sharded():  # else a layer's weights are not all there
        frozen_linear(learner)
    return learner


def _targets(model: Any, settings: TuneSettings) -> str | list[str]:
    """What PEFT is told; it ignores a name that matches nothing as long as another matches."""
    if settings.target_modules == "all-linear":
        return settings.target_modules
    given = settings.target_modules
    names = [given] if isinstance(given, str) else list(given)
    known = [f".{name}" for name, _ in model.named_modules()]
    for name in names:
        if not any(one.endswith(f".{name}") for one in known):
            raise TuningError(f"target_modules: the model has no layer {name!r}; {_linear_layers(model)}")
    return names


def _linear_layers(model: Any) -> str:
    linear = sorted({name.rsplit(".", 1)[-1] for name, part in model.named_modules() if _linear(part)})
    return f"its linear layers are called {', '.join(linear)}"


def _linear(part: torch.nn.Module) -> bool:
    return "Linear" in type(part).__name__ or type(part).__name__ == "Conv1D"


def train(
    model: Any,
    rows: Sequence[Row],
    settings: TuneSettings,
    folder: Path,
    *,
    pad: int,
    evaluate: Callable[[], float] | None = None,
    lower_is_better: bool = True,
    loss: Loss | None = None,
    base: Reference | None = None,
    numbers: head.Numbers | None = None,
) -> Iterator[Step]:
    """Train what `attach` left to be learned, and yield each step; a checkpoint in `folder` is gone on from.

    `evaluate` scores the model on the validation part; afterwards the model has the weights of the best score, or the
    last ones. `loss`: None for the cross-entropy of the answers' tokens. `base`: what the model was loaded from, and
    `numbers` what its head learns, so that other processes can help (`kurabe.tuning.processes`); without them they
    don't. Raises TuningError where the loss is no number any more, and where nothing can be written.
    """
    helpers = processes.world() if base is not None else None
    if helpers is not None:
        assert base is not None
        if helpers.sharded:
            processes.require_shardable(model)
        helpers.tell(Job(base, settings, tuple(rows), pad, numbers))
    try:
        learner = _Learner(model, rows, settings, pad, loss or _loss, helpers)
        yield from _steps(learner, folder, evaluate, lower_is_better)
    finally:
        if helpers is not None and processes.world() is helpers:
            helpers.tell(None)


def _steps(
    learner: "_Learner", folder: Path, evaluate: Callable[[], float] | None, lower_is_better: bool
) -> Iterator[Step]:
    settings, count = learner.settings, len(learner.steps)
    if not count:
        raise TuningError("there are no rows to learn from")
    notes: dict[str, Any] = {"losses": [], "scores": [], "best": None, "worse": 0}
    begin = 0
    best: dict[str, torch.Tensor] = {}
    if (state := checkpoint.read(folder)) is not None:
        begin, notes = state.step, state.notes
        best = learner.restore(state)
    elif learner.world is not None:
        learner.kept = learner.together("gather", "weights")
        learner.together("take", "weights")
    at_scores = _evaluation_steps(count, settings.evaluations if evaluate else 0)
    kept = time.monotonic()
    for number in range(begin, count):
        if notes["worse"] >= settings.patience:
            break
        began = time.perf_counter()
        lost = learner.together("update", number)
        if not math.isfinite(lost):
            raise TuningError("the loss is no number any more; lower learning_rate")
        notes["losses"].append(lost)
        score = None
        if evaluate is not None and number + 1 in at_scores:
            score = learner.scored(evaluate)
            notes["scores"].append([number + 1, score])
            if _better(score, notes["best"], lower_is_better):
                notes["best"], notes["worse"] = [number + 1, score], 0
                best = {
                    f"best/{name.partition('/')[2]}": w for name, w in learner.together("gather", "weights").items()
                }
            else:
                notes["worse"] += 1
        if score is not None or number + 1 == count or time.monotonic() - kept > KEEP_SECONDS:
            tensors = learner.together("gather", "weights", "mean", "square")
            checkpoint.write(folder, State(number + 1, notes, tensors | best))
            kept = time.monotonic()
        yield Step(number + 1, count, lost, learner.tokens(number), time.perf_counter() - began, score)
    if best:
        learner.kept = best
        learner.together("take", "best")


def take(model: Any, state: State) -> None:
    """Give a model, as `attach` makes it, the weights of a checkpoint that are best, or the last ones."""
    kind = "best" if any(name.startswith("best/") for name in state.tensors) else "weights"
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.requires_grad:
                weights.copy_(state.tensors[f"{kind}/{name}"])


def _better(score: float, best: Sequence[float] | None, lower_is_better: bool) -> bool:
    """Whether a score is better than the (step, score) of before; none is worse than one that is no number."""
    if best is None or math.isnan(best[1]):
        return True
    return score < best[1] if lower_is_better else score > best[1]


def _evaluation_steps(steps: int, evaluations: int) -> set[int]:
    return {max(round(steps * (n + 1) / evaluations), 1) for n in range(evaluations)}


class Job(NamedTuple):
    """What the other processes have to know of a training: the model's reference and what `train` is given."""

    base: Reference
    settings: TuneSettings
    rows: tuple[Row, ...]
    pad: int
    numbers: head.Numbers | None


def assist(world: processes.World) -> None:
    """Help the first process in every training that it begins, until it is through with its work.

    Raises TuningError where the model is not on this machine, and where the first process is gone.
    """
    while (job := world.hear()) is not None:
        assert isinstance(job, Job)
        path = located(job.base)
        if path is None:
            raise TuningError(f"{job.base} is not on this machine yet; fetch it with: {pull_command(job.base)}")
        loaded = hf_load.load(path, processes.placed(job.base))
        try:
            model = attach(loaded.model, job.settings)
            loss: Loss = _loss
            if job.numbers is not None:
                model = head.begin(model, job.numbers, np.zeros(1))
                loss = head.loss_of(job.numbers)
            learner = _Learner(model, job.rows, job.settings, job.pad, loss, world)
            while (order := world.hear()) is not None:
                learner.do(*order)
        finally:
            hf_load.unload(loaded)


class _Learner:
    """A model in training, in one process or in each of several. Methods that `together` names are called in all."""

    def __init__(
        self, model: Any, rows: Sequence[Row], settings: TuneSettings, pad: int, loss: Loss,
        world: processes.World | None,
    ) -> None:  # fmt: skip
        self.model, self.rows, self.settings, self.pad, self.loss, self.world = model, rows, settings, pad, loss, world
        self.steps = plan(
            rows, step_tokens=settings.step_tokens, micro_tokens=settings.micro_tokens, epochs=settings.epochs,
            seed=settings.seed,
        )[: settings.max_steps]  # fmt: skip
        if world is not None and world.sharded:
            processes.shard(model)
        self.learned = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.learned.values(), lr=settings.peak_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.999)
        )
        self.kept: dict[str, torch.Tensor] = {}  # whole tensors, in the first process alone

    def together(self, what: str, *given: Any) -> Any:
        """Do it in all processes; called in the first."""
        if self.world is None:
            return self.do(what, *given)
        try:
            self.world.tell((what, *given))
            return self.do(what, *given)
        except BaseException:  # the others wait for a part of it that does not come any more
            self.world.leave()
            raise

    def do(self, what: str, *given: Any) -> Any:
        """Do what the first process says."""
        return getattr(self, what)(*given)

    def tokens(self, number: int) -> int:
        """The tokens of a step's rows."""
        return sum(len(self.rows[row].ids) for batch in self.steps[number] for row in batch)

    def update(self, number: int) -> float:
        """Make a step; the mean loss of an answer's token."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, len(self.steps), self.settings)
        return _update(
            processes.inner(self.model), self.rows, self.steps[number], self.optimizer, self.learned, self.settings,
            self.pad, self.loss, number, self.world,
        )  # fmt: skip

    def gather(self, *kinds: str) -> dict[str, torch.Tensor]:
        """Whole tensors of `weights`, `mean` and `square`, as a checkpoint has them, in the main memory; one at a time,
        and in the first process alone, as all of them need not fit beside a share."""
        found = {}
        for kind in kinds:
            for name, weights in self.learned.items():
                tensor = processes.whole(self._of(kind, weights))
                if self.world is None or not self.world.rank:
                    found[f"{kind}/{name}"] = tensor.cpu()
        return found

    def _of(self, kind: str, weights: torch.Tensor) -> torch.Tensor:
        if kind == "weights":
            return weights.detach().clone()
        found: torch.Tensor = self.optimizer.state[weights][{"mean": "exp_avg", "square": "exp_avg_sq"}[kind]]
        return found

    def take(self, kind: str) -> None:
        """Put weights that the first process has kept in the place of the model's."""
        with torch.no_grad():
            for name, weights in self.learned.items():
                weights.copy_(self._spread(kind, name))

    def go_on(self, step: int) -> None:
        """Put the optimizer's means that the first process has kept in the place of those here."""
        for name, weights in self.learned.items():
            self.optimizer.state[weights] = {
                "step": torch.tensor(float(step)),
                "exp_avg": self._spread("mean", name),
                "exp_avg_sq": self._spread("square", name),
            }

    def _spread(self, kind: str, name: str) -> torch.Tensor:
        found: torch.Tensor = processes.spread(self.kept.get(f"{kind}/{name}"), self.learned[name].detach(), self.world)
        return found

    def restore(self, state: State) -> dict[str, torch.Tensor]:
        """Put the kept weights and means back; returns the best weights so far. Called in the first process."""
        shapes = {f"weights/{name}": weights.shape for name, weights in self.learned.items()}
        if shapes != {name: tensor.shape for name, tensor in state.tensors.items() if name.startswith("weights/")}:
            raise TuningError(
                "the checkpoint is of another model or other settings; remove it, and training begins anew"
            )
        self.kept = state.tensors
        self.together("take", "weights")
        self.together("go_on", state.step)
        return {name: tensor for name, tensor in state.tensors.items() if name.startswith("best/")}

    def scored(self, evaluate: Callable[[], float]) -> float:
        """What `evaluate` says of the model. Where the weights are shared out, the others go through the model with the
        first process, so that it gets their shares."""
        self.model.eval()
        if self.world is None or not self.world.sharded:
            with torch.no_grad():
                return evaluate()
        world, inner, under_way = self.world, processes.inner(self.model), False

        def begin(*_: Any) -> None:
            nonlocal under_way
            if under_way:  # the engine tries again with fewer rows, and the others are still in the midst of it
                raise TuningError(
                    "the model failed while it was scored over several processes; if for want of memory, ask fewer rows"
                    " at once (?batch=4 in its reference) or set evaluations: 0"
                )
            under_way = True
            world.tell(("forward",))

        def end(*_: Any) -> None:
            nonlocal under_way
            under_way = False

        hooks = [inner.register_forward_pre_hook(begin, prepend=True), inner.register_forward_hook(end)]
        try:
            with torch.no_grad():
                return evaluate()
        except BaseException:  # the others may wait in the midst of the model
            world.leave()
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def forward(self) -> None:
        """Go through the model with nothing, beside the first process."""
        inner = processes.inner(self.model).eval()
        with torch.inference_mode():
            inner(**padded([self.rows[0].ids[:1]], self.pad, inner.device), use_cache=False)


def _update(
    model: Any,
    rows: Sequence[Row],
    batches: Sequence[Sequence[int]],
    optimizer: torch.optim.Optimizer,
    learned: dict[str, torch.nn.Parameter],
    settings: TuneSettings,
    pad: int,
    loss_of: Loss,
    number: int,
    world: processes.World | None,
) -> float:
    """One step over its micro-batches, dealt out over the processes: the mean loss of an answer's token. Nothing is
    changed where it is no number."""
    model.train()
    answered = sum(len(rows[row].ids) - rows[row].answer for batch in batches for row in batch)
    total = torch.zeros((), dtype=torch.float64)
    with _checkpointing(model, settings.checkpointing):
        for place, share in processes.hand([sum(len(rows[row].ids) for row in batch) for batch in batches], world):
            torch.manual_seed(_seed(settings.seed, number, place))  # dropout, the same in whichever process
            loss = loss_of(model, [rows[row] for row in batches[place]], pad) / answered * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach().cpu()
    for weights in learned.values():
        if weights.grad is None:  # no row came by, in this process or this step; the optimizer counts steps for each
            weights.grad = torch.zeros_like(weights)
    if world is not None:
        world.add_up([total])
        if not world.sharded:  # else they are summed as they come
            world.add_up(weights.grad for weights in learned.values())
    if math.isfinite(total):
        torch.nn.utils.clip_grad_norm_(learned.values(), settings.clip)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(total)


def _seed(seed: int, number: int, place: int) -> int:
    return int(np.random.SeedSequence((seed, number, place)).generate_state(1, np.uint64)[0])


def _loss(model: Any, rows: Sequence[Row], pad: int) -> torch.Tensor:
    """The sum of the cross-entropies of all answers' tokens. Padded on the left, all answers end in the same column, so
    that the logits of the last columns are enough."""
    device = model.get_input_embeddings().weight.device
    answer = max(len(row.ids) - row.answer for row in rows)
    labels = torch.full((len(rows), answer), -100)
    for at, row in enumerate(rows):
        labels[at, answer - (len(row.ids) - row.answer) :] = torch.tensor(row.ids[row.answer :])
    logits = model(
        **padded([row.ids for row in rows], pad, device), use_cache=False, logits_to_keep=answer + 1
    ).logits[:, :-1]  # fmt: skip
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.to(logits.device).flatten(), ignore_index=-100, reduction="sum"
    )


@contextmanager
def _checkpointing(model: Any, on: bool) -> Iterator[None]:
    if not on:
        yield
        return
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
