"""The memory that an engine of this process takes for a model, from its header, and whether that much is free.

Estimates, not measurements; `benchmarks/memory.py` compares them with what was measured. 1 GB is 10⁹ bytes.
"""

import itertools
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import psutil

from kurabe.errors import InputError, ModelTooLargeError, missing
from kurabe.models.weights.dimensions import Dimensions, dimensions
from kurabe.models.weights.gguf import BLOCK_TYPES
from kurabe.models.weights.headers import Header, read_path
from kurabe.models.weights.precisions import FLOATS, QUANTIZED, bytes_in, linear

Engine: TypeAlias = Literal["gguf", "hf"]

INSIST: Final = "KURABE_NO_MEMORY_CHECK"
"""The environment variable that, set to anything but nothing or 0, lets every model load."""
STEP_TOKENS: Final = 512
"""Tokens of a prompt that are evaluated together: llama.cpp's default micro-batch."""
CACHE_BYTES: Final = 2
"""Bytes of a key or value: bfloat16 or float16."""
GPU_CONTEXT_BYTES: Final = 723 * 2**20
"""What the first CUDA call of a process takes, whatever it does: measured by a user of PyTorch,
https://discuss.pytorch.org/t/what-is-the-reason-for-pytorchs-gpu-memory-floor/73021"""

# What a process takes before a model comes, pages of libraries that it shares with others included; measured on Linux
# (x86-64), builds for the CPU. Python with kurabe, NumPy and llama.cpp; and what llama.cpp keeps for each token of the
# vocabulary (texts, merges, candidates), fitted to SmolLM2-135M.
PROCESS_BYTES: Final = 75_000_000
TOKEN_BYTES: Final = 550
# Python with kurabe's engine, PyTorch and Transformers; bitsandbytes where it quantizes; and what a tokenizer keeps
# for each token: its texts and merges, in Rust and while it is made in Python.
TORCH_BYTES: Final = 400_000_000
BITSANDBYTES_BYTES: Final = 40_000_000
HF_TOKEN_BYTES: Final = 2_400
HF_OUTGROWN: Final = 0.8
"""Of keys and values that grow by a quarter at a time, what they took before stays with the process: the holes that
one layer leaves are too small for the next one."""

_HF_SMALLER: Final = {"bfloat16": "dtype=bfloat16", "int8": "quantize=int8", "nf4": "quantize=nf4"}
_GGUF_SMALLER: Final = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
_Q4_K_M_BITS: Final = 4.85


class Need(msgspec.Struct, frozen=True):
    """Bytes that one way of using the model takes. `name` is a precision, or a way of tuning."""

    name: str
    weights: int
    cache: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    overhead: int = 0
    bits: float | None = None

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.cache + self.gradients + self.optimizer + self.activations + self.overhead


def require_fit(
    path: Path,
    engine: Engine,
    *,
    context: int,
    sequences: int = 1,
    precision: str | None = None,
    dtype: str | None = None,
    cache_type: str = "bf16",
    servers: int = 1,
    step_tokens: int = STEP_TOKENS,
    device_bytes: int | None = None,
) -> int:
    """How many of `sequences` of `context` tokens can run at once in the memory that is free now: 1 to `sequences`.

    `path` is a GGUF file, or for `hf` also a folder with config.json and .safetensors. `precision`: for `hf` what the
    weights are loaded in (`float32`, `bfloat16`, `float16`, `int8`, `nf4` …); None as stored, which is always so for
    `gguf`. `dtype`: for `hf` with quantized weights, the type of the others and of keys and values. `cache_type`:
    llama.cpp's type of keys and values. `servers` share the sequences and the mapped weights, each with buffers of its
    own for `step_tokens` tokens at a time. `device_bytes`: free bytes of the device that the weights go to; None for
    the main memory (see `available_bytes`).

    A mapped GGUF file counts in full: the system may drop its pages and read them again, but a model that is read from
    the disk for every token is of no use to anybody. Pages of it that are in memory already count as free.

    Raises ModelTooLargeError where not even one sequence fits, unless KURABE_NO_MEMORY_CHECK is set, and ModelError as
    `headers.read_path` does.
    """
    if os.environ.get(INSIST, "0") not in {"", "0"}:
        return sequences
    header = read_path(path)
    free = _free_for(engine) if device_bytes is None else device_bytes

    def need(sequences: int, context: int = context, precision: str | None = precision) -> Need:
        return engine_need(
            header,
            engine,
            context=context,
            sequences=sequences,
            precision=precision,
            dtype=dtype,
            cache_type=cache_type,
            servers=min(servers, sequences),
            step_tokens=step_tokens,
            on_gpu=device_bytes is not None,
        )

    for fitting in range(sequences, 0, -1):
        if need(fitting).total <= free:
            return fitting
    one = need(1)
    where = "main memory" if device_bytes is None else "the device's memory"
    raise ModelTooLargeError(
        f"{path} does not fit {where}: with a context of {context:,} tokens it needs about"
        f" {in_words(one)}, and {_gb(free)} are free; what would fit:"
        f" {_what_fits(engine, partial(need, 1), one, context, free)}; to load it all the same, set {INSIST}=1"
    )


def in_words(need: Need) -> str:
    """`1.2 GB (weights 1 GB, keys and values 94 MB, the rest 106 MB)`."""
    return (
        f"{_gb(need.total)} (weights {_gb(need.weights)}, keys and values {_gb(need.cache)}, the rest"
        f" {_gb(need.activations + need.overhead)})"
    )


def _what_fits(engine: Engine, need: Callable[..., Need], one: Need, context: int, free: int) -> str:
    """A shorter context; less precision with the whole context, or with the longest that fits; else a smaller model."""
    names = [name for name in (_HF_SMALLER if engine == "hf" else _GGUF_SMALLER)
             if need(precision=name).weights < one.weights]  # fmt: skip
    contexts = [context, *(2**power for power in range(20, 7, -1) if 2**power < context)]
    ways = []
    if shorter := next((tokens for tokens in contexts if need(tokens).total <= free), None):
        ways.append(f"a context of {shorter:,} tokens (?context={shorter})")
    for tokens, name in itertools.product([context] if ways else contexts, names):
        fits = need(tokens, precision=name)
        if fits.total <= free:
            less = "" if tokens == context else f"context={tokens}"
            if engine == "hf":
                ways.append(f"?{'&'.join(filter(None, [_HF_SMALLER[name], less]))} ({_gb(fits.total)})")
            else:
                ways.append(f"a file of it in {name} ({_gb(fits.weights)})" + (f" with ?{less}" if less else ""))
            break
    if not ways:
        least = need(contexts[-1])
        parameters = (free - (least.total - least.weights)) * 8 / _Q4_K_M_BITS
        ways.append(f"at most a model of about {_size(parameters)} parameters in Q4_K_M"
                    if parameters > 10**7 else "no model; free some memory")  # fmt: skip
    return ", or ".join(ways)


def engine_need(
    header: Header,
    engine: Engine,
    *,
    context: int,
    sequences: int = 1,
    precision: str | None = None,
    dtype: str | None = None,
    cache_type: str = "bf16",
    servers: int = 1,
    step_tokens: int = STEP_TOKENS,
    on_gpu: bool = False,
) -> Need:
    """What kurabe's engine takes with every sequence's context filled; the settings are those of `require_fit`.

    With a `precision`, `gguf` is a file in that precision. `dtype`: for `hf` the type of what is not quantized and of
    keys and values; else that of the weights, bfloat16 where they are quantized. Raises InputError for an unknown
    precision or cache type.
    """
    sizes = dimensions(header)
    stored = sum(tensor.bytes for tensor in header.tensors)
    parameters = sum(tensor.parameters for tensor in header.tensors)
    weights = stored if precision is None else bytes_in(precision, header.tensors, sizes)
    if dtype == "float32" and precision not in {None, *FLOATS}:
        weights += 2 * sum(tensor.parameters for tensor in header.tensors if not linear(tensor))
    tokens = header.tokenizer or sizes.vocabulary
    if engine == "gguf":
        width, base = cache_width(cache_type), PROCESS_BYTES + servers * TOKEN_BYTES * tokens
        steps = servers * step_bytes(sizes, context, min(step_tokens, context))
    else:
        width, base = FLOATS.get(dtype or precision or "", 2), TORCH_BYTES + HF_TOKEN_BYTES * tokens
        quantized = weights if precision in QUANTIZED else 0
        base += BITSANDBYTES_BYTES if quantized else 0
        steps = hf_step_bytes(sizes, context, sequences, min(step_tokens, context * sequences))
        if context > step_tokens:
            steps += round(HF_OUTGROWN * cache_bytes(sizes, context, sequences, width))
        if not on_gpu:
            running = weights + cache_bytes(sizes, context, sequences, width) + steps
            steps += max(hf_loading_bytes(header, width, quantized, whole=precision == "int4") - running, 0)
    return Need(
        precision or "as stored",
        weights,
        cache=cache_bytes(sizes, context, sequences, width),
        activations=steps,
        overhead=GPU_CONTEXT_BYTES if on_gpu else base,
        bits=8 * weights / parameters if parameters else None,
    )


def cache_bytes(sizes: Dimensions, context: int, batch: int, width: float = CACHE_BYTES) -> int:
    """Bytes of the KV cache: 2 × layers × KV heads × head size × bytes of a value × tokens × sequences.

    Pope et al. 2022, Efficiently Scaling Transformer Inference, section 3.3. Layers with a sliding window take less.
    """
    return round(width * (sizes.kv_elements or 0) * context * batch)


def cache_width(cache_type: str) -> float:
    """Bytes of a key or value in one of llama.cpp's types, scales included: 2 for `bf16`, 1.0625 for `q8_0`."""
    widths = {block.name.lower(): block.bytes / block.elements for block in BLOCK_TYPES.values()}
    if cache_type.lower() not in widths:
        raise InputError(missing("cache type", cache_type, widths))
    return widths[cache_type.lower()]


def step_bytes(sizes: Dimensions, context: int, tokens: int) -> int:
    """Bytes of the activations while `tokens` tokens go through a block: both inner states of the feed-forward layer
    and four of the hidden size in float32, and the mask of attention in float16. Held to llama.cpp by measurement."""
    wide = sizes.feed_forward or 4 * sizes.hidden
    return tokens * (4 * (2 * wide + 4 * sizes.hidden) + 2 * context)


def hf_step_bytes(sizes: Dimensions, context: int, sequences: int, tokens: int) -> int:
    """Bytes of the activations while `tokens` tokens go through a block of Transformers, in float32: four inner states
    of the feed-forward layer and eight of the hidden size, the mask of attention, and the sequences' logits twice."""
    wide = sizes.feed_forward or 4 * sizes.hidden
    return 4 * (tokens * (4 * wide + 8 * sizes.hidden + context) + 2 * sequences * sizes.vocabulary)


def hf_loading_bytes(header: Header, width: int, quantized: int = 0, *, whole: bool = False) -> int:
    """Bytes of weights in main memory at the height of loading. A GGUF file is unpacked as a whole, each tensor in
    float32 first; then it is quantized layer by layer, and memory is given back only after the last one. `whole`: so
    are the weights of a folder."""
    sizes = [tensor.parameters for tensor in header.tensors]
    if header.format == "GGUF":
        return width * sum(sizes) + 4 * max(sizes, default=0) + quantized
    return width * sum(sizes) + quantized if whole else 0


def available_bytes() -> int:
    """Bytes of main memory that this process can still take: what the system calls available, or where a container
    or a service is given less (cgroups 1 and 2), what is left of that. Pages of files can be dropped: they are free."""
    return min([int(psutil.virtual_memory().available), *_cgroup_rooms()])


def _free_for(engine: Engine) -> int:
    """What is available, and what this process has taken already of what the engine takes besides the model."""
    base = PROCESS_BYTES if engine == "gguf" else TORCH_BYTES
    return available_bytes() + min(int(psutil.Process().memory_info().rss), base)


def _cgroup_rooms(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterable[int]:
    """What each limit over this process leaves. A page of a file that was not used lately (inactive_file) is free."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            number, controllers, inside = line.split(":", 2)
            if number == "0":
                base, limit, usage, idle = root, "memory.max", "memory.current", "inactive_file"
            elif "memory" in controllers.split(","):
                base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
                idle = "total_inactive_file"
            else:
                continue
            here = base / inside.lstrip("/")
            for folder in (here, *here.parents):
                if not folder.is_relative_to(base):
                    break
                with suppress(OSError, ValueError):  # "max" is no number: no limit
                    most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
                    stats = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                    yield max(most - used + int(stats.get(idle, 0)), 0)


def _gb(size: float) -> str:
    """Bytes as a person reads them: `4.92 GB`, `98 MB`."""
    return f"{size / 1e9:,.3g} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def _size(parameters: float) -> str:
    """A number of parameters as models are named after it: `7 B`."""
    return f"{parameters / 1e9:,.2g} B" if parameters >= 1e9 else f"{parameters / 1e6:,.0f} M"
