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

import torch

from kurabe.errors import TuningError
from kurabe.models.engines.hf_quiet import quiet
from kurabe.tuning import checkpoint
from kurabe.tuning.checkpoint import State
from kurabe.tuning.rows import Row, plan
from kurabe.tuning.settings import TuneSettings, learning_rate

Loss = Callable[[Any, Sequence[Row], int], torch.Tensor]
"""(model, rows of a micro-batch, pad token) to the sum of what they lose; divided by the answers' tokens of a step."""

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
    """The model with what is to be learned: adapters, or all of its weights.

    Raises TuningError where a target module does not exist.
    """
    if settings.method == "full":
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return model
    from peft import LoraConfig, get_peft_model

    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):  # bitsandbytes packs such weights so that they only infer
            part.support_avx512bf16_for_cpu = False
    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, bias="none", task_type="CAUSAL_LM",
        target_modules=targets if isinstance(targets, str) else list(targets),
    )  # fmt: skip
    torch.manual_seed(settings.seed)  # the adapters' first weights
    try:
        with quiet():
            return get_peft_model(model, config)
    except ValueError as error:
        linear = sorted({name.rsplit(".", 1)[-1] for name, part in model.named_modules() if _linear(part)})
        raise TuningError(
            f"target_modules: {error!s:.200}; the model's linear layers are called {', '.join(linear)}"
        ) from None


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
) -> Iterator[Step]:
    """Train what `attach` left to be learned, and yield each step; a checkpoint in `folder` is gone on from.

    `evaluate` scores the model on the validation part; afterwards the model has the weights of the best score, or the
    last ones. `loss`: None for the cross-entropy of the answers' tokens. Raises TuningError where the loss is no number
    any more, and where nothing can be written.
    """
    steps = plan(
        rows, step_tokens=settings.step_tokens, micro_tokens=settings.micro_tokens, epochs=settings.epochs,
        seed=settings.seed,
    )[: settings.max_steps]  # fmt: skip
    if not steps:
        raise TuningError("there are no rows to learn from")
    learned = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    optimizer = torch.optim.AdamW(
        learned.values(), lr=settings.peak_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.999)
    )
    notes: dict[str, Any] = {"losses": [], "scores": [], "best": None, "worse": 0}
    begin = 0
    best: dict[str, torch.Tensor] = {}
    if (state := checkpoint.read(folder)) is not None:
        begin, notes = state.step, state.notes
        best = _restore(state, learned, optimizer)
    at_scores = _evaluation_steps(len(steps), settings.evaluations if evaluate else 0)
    kept = time.monotonic()
    for number in range(begin, len(steps)):
        if notes["worse"] >= settings.patience:
            break
        began = time.perf_counter()
        torch.manual_seed((settings.seed << 32) + number)  # dropout
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, len(steps), settings)
        lost, tokens = _update(model, rows, steps[number], optimizer, learned, settings, pad, loss or _loss)
        notes["losses"].append(lost)
        score = None
        if evaluate is not None and number + 1 in at_scores:
            score = _scored(model, evaluate)
            notes["scores"].append([number + 1, score])
            if _better(score, notes["best"], lower_is_better):
                notes["best"], notes["worse"] = [number + 1, score], 0
                best = {name: weights.detach().clone() for name, weights in learned.items()}
            else:
                notes["worse"] += 1
        if score is not None or number + 1 == len(steps) or time.monotonic() - kept > KEEP_SECONDS:
            checkpoint.write(folder, State(number + 1, notes, _tensors(learned, optimizer, best)))
            kept = time.monotonic()
        yield Step(number + 1, len(steps), lost, tokens, time.perf_counter() - began, score)
    with torch.no_grad():
        for name, weights in best.items():
            learned[name].copy_(weights)


def _better(score: float, best: Sequence[float] | None, lower_is_better: bool) -> bool:
    """Whether a score is better than the (step, score) of before; none is worse than one that is no number."""
    if best is None or math.isnan(best[1]):
        return True
    return score < best[1] if lower_is_better else score > best[1]


def _evaluation_steps(steps: int, evaluations: int) -> set[int]:
    return {max(round(steps * (n + 1) / evaluations), 1) for n in range(evaluations)}


def _scored(model: Any, evaluate: Callable[[], float]) -> float:
    model.eval()
    with torch.no_grad():
        return evaluate()


def _update(
    model: Any,
    rows: Sequence[Row],
    batches: Sequence[Sequence[int]],
    optimizer: torch.optim.Optimizer,
    learned: dict[str, torch.nn.Parameter],
    settings: TuneSettings,
    pad: int,
    loss_of: Loss,
) -> tuple[float, int]:
    """One step over its micro-batches: (mean loss of an answer's token, tokens of the rows)."""
    model.train()
    answered = sum(len(rows[row].ids) - rows[row].answer for batch in batches for row in batch)
    total = 0.0
    with _checkpointing(model, settings.checkpointing):
        for batch in batches:
            loss = loss_of(model, [rows[row] for row in batch], pad) / answered
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    if not math.isfinite(total):
        raise TuningError("the loss is no number any more; lower learning_rate")
    torch.nn.utils.clip_grad_norm_(learned.values(), settings.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, sum(len(rows[row].ids) for batch in batches for row in batch)


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


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """What a model is called with for rows of tokens: padded on the left, they all end in the last column."""
    width = max(len(ids) for ids in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, width - len(row) :] = torch.tensor(row)
        mask[at, width - len(row) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {
        name: tensor.to(device)
        for name, tensor in zip(("input_ids", "attention_mask", "position_ids"), (ids, mask, positions), strict=True)
    }


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


def _tensors(
    learned: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, best: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    tensors = {f"weights/{name}": weights.detach() for name, weights in learned.items()}
    tensors |= {f"best/{name}": weights for name, weights in best.items()}
    for name, weights in learned.items():
        moments = optimizer.state[weights]
        tensors[f"mean/{name}"], tensors[f"square/{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
    return tensors


def _restore(
    state: State, learned: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Put the kept weights and means back; returns the best weights so far."""
    shapes = {f"weights/{name}": weights.shape for name, weights in learned.items()}
    if shapes != {name: tensor.shape for name, tensor in state.tensors.items() if name.startswith("weights/")}:
        raise TuningError("the checkpoint is of another model or other settings; remove it, and training begins anew")
    with torch.no_grad():
        for name, weights in learned.items():
            weights.copy_(state.tensors[f"weights/{name}"])
            optimizer.state[weights] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.tensors[f"mean/{name}"].to(weights.device),
                "exp_avg_sq": state.tensors[f"square/{name}"].to(weights.device),
            }
    best = {name: state.tensors[f"best/{name}"] for name in learned if f"best/{name}" in state.tensors}
    return {name: tensor.to(learned[name].device) for name, tensor in best.items()}
