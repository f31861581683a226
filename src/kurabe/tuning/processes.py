"""Several processes that train one model together, as `accelerate launch`, torchrun and Ray Train start them.

The first process does everything; the others are told what to do, and lend a hand in training alone. They wait for the
next word as long as it takes, so that the first may answer rows, or ask a person, in between. The micro-batches of a
step are dealt out and the gradients summed, which makes a step what it is in one process, but for rounding.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import msgspec

from kurabe.errors import MissingExtraError, TuningError
from kurabe.models.reference import Reference

_PATIENCE = timedelta(days=365)  # what a process waits for the next word
_BUCKET = 1 << 24  # gradients go over the wire so many numbers at once


class World(NamedTuple):
    """This process among the others: its number from 0, how many there are, its number on this machine, whether each
    holds a share of the weights alone (FSDP), and the group they talk in."""

    rank: int
    size: int
    local: int
    sharded: bool
    group: Any

    def tell(self, what: Any) -> None:
        """Say something to all others; called by the first. Raises TuningError where one of them is gone."""
        self.hear(what)

    def hear(self, what: Any = None) -> Any:
        """What the first process says, as soon as it does."""
        import torch
        import torch.distributed as dist

        box = [what]
        self.with_others(lambda: dist.broadcast_object_list(box, src=0, group=self.group, device=torch.device("cpu")))
        return box[0]

    def leave(self) -> None:
        """Leave the others in the middle of their work, and be alone from now on; they end with an error."""
        import torch.distributed as dist

        global _world
        _world = None
        dist.destroy_process_group()

    def add_up(self, tensors: Iterable[Any]) -> None:
        """Put the sum over all processes in the place of each tensor; all call it with tensors of the same shapes."""
        import torch
        import torch.distributed as dist

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self.with_others(partial(dist.all_reduce, flat, group=self.group))
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def with_others(self, exchange: Callable[[], Any]) -> None:
        """Do what all processes have to do. Raises TuningError where one of them is gone."""
        try:
            exchange()
        except RuntimeError as error:
            raise TuningError(
                f"one of the {self.size} processes that train together is gone ({error!s:.100}); what it printed says"
                " why. Start them again to go on from the last checkpoint"
            ) from None


_world: World | None = None


def world() -> World | None:
    """The world that this process is in; None where it is alone."""
    return _world


def sharded() -> bool:
    """Whether the weights are shared out over several processes while they are trained."""
    return _world is not None and _world.sharded


@contextmanager
def together(assist: Callable[[World], None]) -> Iterator[bool]:
    """Be one of the processes that were started to train together; nothing happens where this one is alone.

    Gives True in the first, which is to do the work. In the others it gives False once the first is through; by then
    they have helped in its training, by `assist` (`kurabe.tuning.train.assist`). Raises TuningError where another
    process is gone.
    """
    global _world
    if _started() < 2:
        yield True
        return
    _world = joined = _join()
    try:
        if joined.rank:
            assist(joined)
            yield False
        else:
            try:
                yield True
            finally:
                if _world is joined:
                    joined.tell(None)
    finally:
        _world = None


def deal(costs: Sequence[int], hands: int) -> list[list[int]]:
    """Deal numbered pieces of work out: each, the dearest first, to the hand that has least so far. Each hand's pieces
    are in ascending order."""
    dealt: list[list[int]] = [[] for _ in range(hands)]
    load = [0] * hands
    for piece in sorted(range(len(costs)), key=lambda piece: (-costs[piece], piece)):
        hand = min(range(hands), key=lambda hand: (load[hand], hand))
        dealt[hand].append(piece)
        load[hand] += costs[piece]
    return [sorted(pieces) for pieces in dealt]


def hand(costs: Sequence[int], world: World | None) -> list[tuple[int, float]]:
    """This process's pieces of work, each with 1.0. Where the weights are shared out all processes have to go through
    the model equally often, so that some do a piece over again that counts as 0.0."""
    if world is None:
        return [(piece, 1.0) for piece in range(len(costs))]
    dealt = deal(costs, world.size)
    mine = [(piece, 1.0) for piece in dealt[world.rank]]
    if world.sharded:
        shortest = min(range(len(costs)), key=lambda piece: costs[piece])
        mine += [(shortest, 0.0)] * (max(map(len, dealt)) - len(mine))
    return mine


def placed(base: Reference, *, training: bool = True) -> Reference:
    """The reference with the device that this process loads the model on, where it names none. A model whose weights
    are shared out for training may be on all devices when the first process asks it by itself."""
    found = world()
    if found is None or "device" in base.options or (found.sharded and not training):
        return base
    import torch

    on_gpu = torch.cuda.is_available() and not found.sharded  # FSDP takes the weights from the main memory
    device = f"cuda:{found.local % torch.cuda.device_count()}" if on_gpu else "cpu"
    return msgspec.structs.replace(base, options={**base.options, "device": device})


def inner(model: Any) -> Any:
    """The model of Transformers, with the adapters in it, under PEFT's."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def require_shardable(model: Any) -> None:
    """Raise TuningError for what can't be trained with its weights shared out: weights in nf4, whose tables can't be
    cut, and a number head, which takes hidden states from within the model."""
    within = inner(model)
    if not hasattr(within, "_no_split_modules"):
        raise TuningError("a number head can't be trained with FSDP; launch without it, or leave head out")
    if any(type(weights).__name__ == "Params4bit" for weights in within.parameters()):
        raise TuningError("method: qlora can't be trained with FSDP; launch without it, or use method: lora")


def shard(model: Any) -> None:
    """Share the weights out over the processes, layer by layer (PyTorch's FSDP2), on this process's GPU where it has
    one."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    within = inner(model)
    found = world()
    assert found is not None
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (found.size,))
    layers = set(within._no_split_modules or ())
    for module in [*(one for one in within.modules() if type(one).__name__ in layers), within]:
        fully_shard(module, mesh=mesh)
    for module in within.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # gradients are summed, not averaged
            module.set_force_sum_reduction_for_comms(True)  # what gloo can do


def whole(tensor: Any) -> Any:
    """A tensor that may be shared out, whole; all processes call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def spread(tensor: Any, like: Any, world: World | None) -> Any:
    """What the first process has as a whole tensor, in all processes in the form of `like`; the others give None."""
    import torch
    import torch.distributed as dist

    if world is None:
        return tensor.to(like.device)
    if tensor is None:
        tensor = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    tensor = tensor.to(like.device, like.dtype).contiguous()
    if hasattr(like, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, like.device_mesh, like.placements)
    world.with_others(lambda: dist.broadcast(tensor, src=0, group=world.group))
    return tensor


def _started() -> int:
    """How many processes were started; 1 where the environment does not say."""
    return int(os.environ.get("WORLD_SIZE") or 1) if "RANK" in os.environ else 1


def _join() -> World:
    try:
        import torch
        import torch.distributed as dist
    except ImportError:
        raise MissingExtraError("tuning with several processes (torch)", "transformers") from None

    on_gpu = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu:
        torch.cuda.set_device(local % torch.cuda.device_count())
    if not dist.is_initialized():
        try:
            dist.init_process_group(backend, timeout=_PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise TuningError(
                f"the {_started()} processes that RANK and WORLD_SIZE tell of do not come together ({error!s:.200});"
                " start them with accelerate launch or torchrun, or unset RANK"
            ) from None
    group = dist.new_group(backend=backend, timeout=_PATIENCE)
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else Transformers reads weights in one process alone
    return World(dist.get_rank(), dist.get_world_size(), local, sharded, group)


def _buckets(tensors: Iterable[Any]) -> Iterator[list[Any]]:
    """Neighbours of the same type and place, together no more than fit a bucket."""
    bucket: list[Any] = []
    for tensor in tensors:
        full = sum(one.numel() for one in bucket) + tensor.numel() > _BUCKET
        if bucket and (full or (tensor.dtype, tensor.device) != (bucket[0].dtype, bucket[0].device)):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
