"""What a model takes to run and to tune, from its header or its size alone, in every precision at once.

Estimates, not measurements. Every formula stands at its function with its source. 1 GB is 10⁹ bytes.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from kurabe.errors import InputError, MissingExtraError, ModelError
from kurabe.lens.architecture import architecture
from kurabe.lens.published import dimensions as published_dimensions
from kurabe.lens.published import nearest, parse_size
from kurabe.lens.published import tensors as published_tensors
from kurabe.models.reference import Reference, parse_reference
from kurabe.models.weights.dimensions import Dimensions, dimensions
from kurabe.models.weights.footprint import (
    CACHE_BYTES,
    GPU_CONTEXT_BYTES,
    PROCESS_BYTES,
    STEP_TOKENS,
    TOKEN_BYTES,
    Need,
    available_bytes,
    cache_bytes,
    engine_need,
    step_bytes,
)
from kurabe.models.weights.headers import Tensor, locate, read_path
from kurabe.models.weights.precisions import FLOATS, QUANTIZED, adapter_parameters, bytes_in

_NUMBER: Final = re.compile(r"\d[\d.,_]*(?:e\d+)?\s*[A-Za-z]?", re.ASCII)
"""What is meant as a size."""
DEFAULT_CONTEXT: Final = 4096
SHOWN: Final = ("float32", "bfloat16", "int8", "nf4", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
LORA_RANK: Final = 16
USABLE: Final = 0.9
"""The share of a device's memory to count on: the default of vLLM's `gpu_memory_utilization`."""

# Memory in GB as the makers state it, and the number of cards.
DEVICES: Final = {
    "RTX 3060": (12, 1), "T4, RTX 4060 Ti": (16, 1), "RTX 4090, L4": (24, 1), "RTX 5090": (32, 1),
    "A100 40 GB": (40, 1), "L40S, RTX 6000 Ada": (48, 1), "H100, A100 80 GB": (80, 1), "H200": (141, 1),
    "MI300X": (192, 1), "8 × H100": (640, 8),
}  # fmt: skip


class Device(msgspec.Struct, frozen=True):
    """A device and what fits it: the most precise way to run the model, and the ways to tune it."""

    name: str
    bytes: int
    runs: str | None
    tunes: tuple[str, ...]


class Memory(msgspec.Struct, frozen=True):
    """What a model takes. `basis` says what the figures rest on; `cache_per_token` is in bytes."""

    reference: str
    parameters: int
    basis: str
    context: int
    batch: int
    cache_per_token: int
    run: tuple[Need, ...]
    tune: tuple[Need, ...]
    devices: tuple[Device, ...]


class _Model(msgspec.Struct, frozen=True):
    """A model as the formulas need it. `scale` stretches the tensors of a published model to the size asked for."""

    tensors: tuple[Tensor, ...]
    sizes: Dimensions
    parameters: int
    scale: float
    basis: str
    stored: int | None


def memory(ref_or_size: str, *, context: int | None = None, batch: int = 1) -> Memory:
    """What the model named by a reference (see `architecture`) or a size (`7B`, `176B`, `135M`) takes.

    `context`: tokens of each sequence, prompt and answer together; 4,096, or what the model has if that is less.
    `batch`: sequences at once. Raises ModelError as `architecture` does, and InputError for a context that the model
    was not trained for.
    """
    model = _model(ref_or_size)
    asked = _parsed(ref_or_size)
    context = _context(context or (asked.number("context") if asked else None), model.sizes.context, ref_or_size)
    if batch < 1:
        raise InputError(f"a batch has at least one sequence, not {batch}")
    per_token = CACHE_BYTES * (model.sizes.kv_elements or 0)
    run = tuple(_running(model, context, batch))
    if asked and model.stored:
        run = (engine_of(asked, context=context, batch=batch), *run)
    tune = tuple(_tuning(model, context, batch))
    return Memory(
        reference=ref_or_size,
        parameters=model.parameters,
        basis=model.basis,
        context=context,
        batch=batch,
        cache_per_token=per_token,
        run=run,
        tune=tune,
        devices=(*_here(run, tune), *_gpus(run, tune)),
    )


def _parsed(ref_or_size: str) -> Reference | None:
    """The reference taken apart, where it names an engine."""
    return parse_reference(ref_or_size) if ref_or_size.startswith(("gguf:", "hf:")) else None


def engine_of(reference: Reference | str, *, context: int | None = None, batch: int = 1) -> Need:
    """What kurabe's engine takes in main memory at its highest, all of its sequences' contexts filled, by the options
    of the reference; `context` and `batch` are for what it leaves open. llama.cpp runs as many sequences as suit the
    machine. Raises ModelError and InputError for options that don't go with the model."""
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    path = locate(str(parsed))
    if parsed.scheme == "gguf":
        try:
            from kurabe.models.engines.llama import server as llama_server
        except ImportError:
            raise MissingExtraError("what llama.cpp takes", "local") from None
        found, size = llama_server.read_file(path)
        options = llama_server.read_options(parsed, found)
        layout = llama_server.layout(size, options.threads)
        rows = layout.servers * layout.slots
        need = engine_need(
            read_path(path),
            "gguf",
            context=options.context if context is None else context,
            sequences=rows,
            cache_type=options.cache_type,
            servers=layout.servers,
            step_tokens=llama_server.BATCH_TOKENS,
        )
        return msgspec.structs.replace(need, name=f"gguf: engine, {rows} at once")
    header = read_path(path)
    rows = parsed.number("batch") or batch
    quantized, dtype = parsed.choice("quantize", QUANTIZED), parsed.choice("dtype", ("auto", *FLOATS))
    if dtype in {None, "auto"}:  # as the engine chooses on a processor
        dtype = "bfloat16" if quantized else "float32"
    trained = dimensions(header).context
    context = context or _context(parsed.number("context"), trained, str(parsed))
    need = engine_need(header, "hf", context=context, sequences=rows, precision=quantized or dtype, dtype=dtype)
    return msgspec.structs.replace(need, name=f"hf: engine, {quantized or dtype}, {rows} at once")


def _model(ref_or_size: str) -> _Model:
    if (parameters := parse_size(ref_or_size)) is None:
        if _NUMBER.fullmatch(ref_or_size) and not Path(ref_or_size).exists():
            raise InputError(f"{ref_or_size!r} is no size of a model; write one such as 7B, 176B or 135M")
        try:
            found = architecture(ref_or_size)
        except ModelError as error:
            if any(sign in ref_or_size for sign in ":/\\.") or Path(ref_or_size).exists():  # no size was meant
                raise
            raise ModelError(f"{error}, or a size such as 7B, 176B or 135M") from None
        if not found.parameters:
            raise ModelError(f"{ref_or_size} holds no parameters; name another file")
        basis = f"the header: {found.name}" if found.files else f"{found.format} alone: {found.name}"
        return _Model(
            found.tensors, found.dimensions, found.parameters, 1.0, basis, found.bytes if found.files else None
        )
    decoder = nearest(parameters)
    tensors = published_tensors(decoder)
    scale = parameters / sum(tensor.parameters for tensor in tensors)
    basis = (
        f"a rule of thumb: the shape of {decoder.name}, the nearest published model; one without shared keys and values"
        f" needs {decoder.heads // decoder.kv_heads} times the cache"
    )
    sizes = msgspec.structs.replace(published_dimensions(decoder), context=None)
    return _Model(tensors, sizes, parameters, scale, basis, None)


def _context(asked: int | None, trained: int | None, ref: str) -> int:
    if asked is None:
        return min(trained or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if asked < 1:
        raise InputError(f"a context has at least one token, not {asked}")
    if trained is not None and asked > trained:
        raise InputError(f"{ref} was trained for a context of {trained:,} tokens, not {asked:,}; ask for no more")
    return asked


def _running(model: _Model, context: int, batch: int) -> Iterable[Need]:
    cache = cache_bytes(model.sizes, context, batch)
    step = step_bytes(model.sizes, context, min(STEP_TOKENS, context))
    overhead = PROCESS_BYTES + TOKEN_BYTES * model.sizes.vocabulary
    stored = [("as stored", model.stored)] if model.stored else []
    precisions = [(name, round(model.scale * bytes_in(name, model.tensors, model.sizes))) for name in SHOWN]
    for name, weights in stored + sorted(precisions, key=lambda pair: -pair[1]):
        yield Need(name, weights, cache=cache, activations=step, overhead=overhead, bits=8 * weights / model.parameters)


def _tuning(model: _Model, context: int, batch: int) -> Iterable[Need]:
    """Full tuning, LoRA and QLoRA with AdamW in mixed precision.

    Full: 16 bytes for each parameter, namely 2 of weights and 2 of gradients in bfloat16, and 12 of the optimizer
    (weights, mean and variance in float32): Rajbhandari et al. 2020, ZeRO, section 3.1. LoRA: the frozen weights in
    bfloat16, and those 16 bytes for each parameter of the adapters (Hu et al. 2021, section 4.2), here of rank 16 on
    every linear layer. QLoRA: the same over weights in nf4 with double quantization (Dettmers et al. 2023).
    """
    half = round(model.scale * bytes_in("bfloat16", model.tensors, model.sizes))
    adapters = round(model.scale * adapter_parameters(model.tensors, LORA_RANK))
    activations = tuning_activations(model.sizes, context, batch)
    overhead = PROCESS_BYTES
    yield Need("full", half, gradients=half, optimizer=6 * half, activations=activations, overhead=overhead)
    for name, frozen in (("LoRA", half), ("QLoRA", round(model.scale * bytes_in("nf4", model.tensors, model.sizes)))):
        yield Need(
            name,
            frozen + 2 * adapters,
            gradients=2 * adapters,
            optimizer=12 * adapters,
            activations=activations,
            overhead=overhead,
        )


def tuning_activations(sizes: Dimensions, context: int, batch: int) -> int:
    """Bytes of the activations of a training step with every block recomputed: 2sbh for each block's input, 34sbh for
    the one block in work, and 8sbV for the logits and their gradients in float32.

    Korthikanti et al. 2022, Reducing Activation Recomputation in Large Transformer Models, equations 1 and 5, without
    the term 5as²b of attention scores, which FlashAttention does not store (Dao et al. 2022).
    """
    tokens = context * batch
    return tokens * (2 * sizes.hidden * sizes.layers + 34 * sizes.hidden + 8 * sizes.vocabulary)


def _here(run: Sequence[Need], tune: Sequence[Need]) -> Iterable[Device]:
    """This machine's memory, and its GPUs where llama.cpp is there to name them; of each what is free now."""
    yield _device("this machine, free now", available_bytes(), run, tune, 0)
    with suppress(ImportError):
        import xllamacpp

        for found in xllamacpp.get_device_info():
            if "GPU" in str(found["type"]):
                name = f"here: {found['description']}"
                yield _device(name, int(found["memory_free"]), run, tune, GPU_CONTEXT_BYTES)


def _gpus(run: Sequence[Need], tune: Sequence[Need]) -> Iterable[Device]:
    for name, (gigabytes, cards) in DEVICES.items():
        yield _device(name, gigabytes * 10**9, run, tune, cards * GPU_CONTEXT_BYTES)


def _device(name: str, size: int, run: Sequence[Need], tune: Sequence[Need], extra: int) -> Device:
    """What fits `size` bytes of which USABLE can be counted on, `extra` of them taken before the model comes."""
    room = USABLE * size - extra
    fitting = [need for need in run if need.total <= room and need.name != "as stored"]
    return Device(
        name,
        size,
        max(fitting, key=lambda need: need.weights).name if fitting else None,
        tuple(need.name for need in tune if need.total <= room),
    )
