"""llama.cpp's own server core, started in this process: how many for a machine, with which options, and its errors.

A small model runs once on each core rather than once on all of them: the weights are mapped into memory once, no core
ever waits for another, and another busy process costs its share instead of stalling every layer.
"""

import ctypes
import http.client
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import xllamacpp

from kurabe.errors import ContextTooLongError, InputError, ModelError
from kurabe.models.codecs.base import json_body
from kurabe.models.engines.gbnf import refused
from kurabe.models.reference import Reference
from kurabe.models.weights.footprint import engine_need, in_words, require_fit
from kurabe.models.weights.gguf import BLOCK_TYPES, Header, read_header
from kurabe.models.weights.headers import parts, read_path

DEFAULT_CONTEXT: Final = 4096
SMALL_BYTES: Final = 1_000_000_000
MOST_SERVERS: Final = 4
BATCH_TOKENS: Final = 256
ALL_LAYERS: Final = 999
CACHE_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q4_0")
_WHOLE_NUMBERS: Final = ("I8", "I16", "I32", "I64")
_M_ARENA_MAX: Final = -8
_TOO_LARGE: Final = re.compile(r"input \((\d+) tokens\) is too large.*batch size: (\d+)")


class Lane(NamedTuple):
    """One place where a request can run: a slot of one of the servers."""

    server: Any
    slot: int


class Layout(NamedTuple):
    """How many servers run beside each other, the threads of each and the slots of each."""

    servers: int
    threads: int
    slots: int


class Options(NamedTuple):
    """What stands behind the `?` of a reference, checked. `gpu_layers`: None for as many as fit."""

    context: int
    gpu_layers: int | None
    cache_type: str
    flash_attention: bool
    threads: int
    adapter: Path | None
    scale: float


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether llama.cpp as it was built sees another device than the processor."""
    return bool(_gpus())


def _gpus() -> list[dict[str, Any]]:
    kinds = xllamacpp.ggml_backend_dev_type
    gpus = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return [device for device in xllamacpp.get_device_info() if device["type"] in gpus]


def layout(file_bytes: int, threads: int, *, gpu: bool = False) -> Layout:
    """For a model file of that size: one server where the weights are read from memory or lie on a GPU, several else.

    Reading a large model's weights from memory takes longest, so all cores share one pass over them. A small model's
    weights stay in the cache, and waiting for each other would take longest.
    """
    if gpu or file_bytes >= SMALL_BYTES:
        return Layout(1, threads, 4)
    servers = min(threads, MOST_SERVERS)
    return Layout(servers, threads // servers, 2)


def read_file(path: Path) -> tuple[Header, int]:
    """The header of a model's first file, after all of its parts were checked, and the bytes of all together."""
    header = read_header(path)
    files = parts(path, header.metadata.get("split.count"))
    for file in files[1:]:
        read_header(file)
    return header, sum(file.stat().st_size for file in files)


def read_options(parsed: Reference, header: Header) -> Options:
    """The options of a reference, held to what the file says. Raises ModelError that says which one is wrong."""
    trained = header.context_length or DEFAULT_CONTEXT
    context = parsed.number("context")
    if context is not None and context > trained:
        raise ModelError(f"{str(parsed)!r} asks for a context of {context} tokens, and the model has {trained}")
    flash = parsed.choice("flash_attention", ("on", "off")) != "off"
    cache_type = parsed.choice("cache_type", CACHE_TYPES) or ("bf16" if flash else "f16")
    if not flash and cache_type.startswith("q"):
        raise ModelError(
            f"{str(parsed)!r}: a cache in {cache_type} needs flash attention; leave flash_attention=off out"
        )
    return Options(
        context=context or min(trained, DEFAULT_CONTEXT),
        gpu_layers=_gpu_layers(parsed),
        cache_type=cache_type,
        flash_attention=flash,
        threads=parsed.number("threads") or cores(),
        adapter=_adapter(parsed, header),
        scale=_scale(parsed),
    )


def _gpu_layers(parsed: Reference) -> int | None:
    text = parsed.options.get("gpu_layers")
    if text is None or text == "all":
        return None if text is None else ALL_LAYERS
    if not (text.isascii() and text.isdigit()):
        raise ModelError(f"{str(parsed)!r}: gpu_layers is a number of layers, 0 for none, or 'all', not {text!r}")
    if int(text) and not has_gpu():
        raise ModelError(
            f"{str(parsed)!r}: llama.cpp sees no GPU here; leave gpu_layers out, or install a build of xllamacpp for it"
        )
    return int(text)


def _scale(parsed: Reference) -> float:
    text = parsed.options.get("scale", "1")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if "scale" in parsed.options and "adapter" not in parsed.options:
        raise ModelError(f"{str(parsed)!r}: `scale` applies to an adapter, and none is set; name one with adapter=PATH")
    if not abs(value) <= 1000:
        raise ModelError(f"{str(parsed)!r}: the adapter's scale is a number such as 0.5, not {text!r}")
    return value


def _adapter(parsed: Reference, header: Header) -> Path | None:
    """The path of a LoRA adapter after a look into it: llama.cpp would end the process or say little."""
    name = parsed.options.get("adapter")
    if name is None:
        return None
    path = Path(name).expanduser()
    found = read_header(path)
    if found.metadata.get("general.type") != "adapter" or found.metadata.get("adapter.type") != "lora":
        raise ModelError(f"{path} is no LoRA adapter; llama.cpp's convert_lora_to_gguf.py makes one of a PEFT adapter")
    theirs, ours = (each.metadata.get("general.architecture") for each in (found, header))
    if theirs != ours:
        raise ModelError(f"the adapter {path} belongs to a model of architecture {theirs!r}, and this one is {ours!r}")
    for info in found.infos:
        block = BLOCK_TYPES.get(info.type)
        if block is not None and block.name in _WHOLE_NUMBERS:  # llama.cpp would crash
            raise ModelError(
                f"the adapter {path} is damaged: {info.name!r} is of the type {block.name}; fetch it again"
            )
    if "split.count" not in header.metadata:
        _check_adapter(path, found, header)
    return path


def _check_adapter(path: Path, adapter: Header, model: Header) -> None:
    """Hold each pair of factors to the tensor that they change. A tensor's shape begins with its row's length."""
    weights = {info.name: info.shape for info in model.infos}
    factors = {info.name: info.shape for info in adapter.infos}
    for name, a in factors.items():
        base, _, end = name.rpartition(".lora_")
        if end != "a" or not (b := factors.get(f"{base}.lora_b")):
            if end != "b" or f"{base}.lora_a" not in factors:
                raise ModelError(f"the adapter {path} holds the tensor {name!r} without its other half")
            continue
        if base not in weights:
            raise ModelError(f"the adapter {path} changes {base!r}, and the model has no such tensor")
        if base != "token_embd.weight" and (a[0], b[-1]) != (weights[base][0], weights[base][-1]):
            raise ModelError(
                f"the adapter {path} does not fit the model: its {base!r} is {a[0]} × {b[-1]}, the model's"
                f" {weights[base][0]} × {weights[base][-1]}"
            )


def fitted(path: Path, options: Options, size: int, *, writes: bool) -> Layout:
    """The layout for a file, with fewer slots where the free memory has no room for all. `writes`: whether the model
    writes text; else it gives vectors. Raises ModelTooLargeError where there is not room for one."""
    gpu = options.gpu_layers != 0 and has_gpu()
    wished = layout(size, options.threads, gpu=gpu) if writes else Layout(1, options.threads, 4)
    if gpu and options.gpu_layers is None:
        return wished  # llama.cpp puts as many layers onto the GPU as fit, and the rest stays in main memory
    free = sum(device["memory_free"] for device in _gpus()) if gpu else None
    places = require_fit(
        path,
        "gguf",
        context=options.context,
        sequences=wished.servers * wished.slots,
        cache_type=options.cache_type,
        servers=wished.servers,
        step_tokens=BATCH_TOKENS,
        device_bytes=free,
    )
    servers = min(wished.servers, places)
    return Layout(servers, options.threads // servers, min(wished.slots, places // servers))


def _cannot_load(path: Path, options: Options, layout: Layout, error: Exception) -> str:
    """What to say where llama.cpp only says that it failed: it does not tell a file that it can't run from memory that
    lacks."""
    rows = layout.servers * layout.slots
    needed = ""
    with suppress(ModelError):  # a tensor type newer than the table
        need = engine_need(
            read_path(path),
            "gguf",
            context=options.context,
            sequences=rows,
            cache_type=options.cache_type,
            servers=layout.servers,
            step_tokens=BATCH_TOKENS,
        )
        needed = f": it takes about {in_words(need)} for {rows} sequences of {options.context:,} tokens"
    why = str(error).rstrip(". ") or type(error).__name__
    return (
        f"llama.cpp cannot load {path}: {why}. Either it can't run this file, or the process gets too little"
        f" memory{needed}; ?context=… with fewer tokens, ?cache_type=q8_0 and ?threads=1 (fewer sequences) take less"
    )


def _c_library(name: str, *arguments: int) -> None:
    """Call a function of glibc; other C libraries do without it."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*arguments)


class Servers:
    """The servers of one model, and which of their slots are free. `lane` may be used from any thread."""

    def __init__(
        self, reference: str, path: Path, options: Options, layout: Layout, *, embeds: int | None = None
    ) -> None:
        """`embeds`: the kind of pooling, of a model that gives vectors instead of text. Raises ModelError."""
        self.reference = reference
        self._key = secrets.token_urlsafe(16)
        self._folder = tempfile.TemporaryDirectory(prefix="kurabe-", ignore_cleanup_errors=True)
        self.layout = layout
        # One arena for all threads that begin from now on: of several, each keeps other pieces of every model that was
        # closed, and malloc_trim does not reach them. Ten loads end at 1.01 times the memory of the first, else at 1.3.
        # It holds for the whole process: other threads that begin later share the arena too.
        _c_library("mallopt", _M_ARENA_MAX, 1)
        self.lanes: list[Lane] = []
        for _ in range(self.layout.servers):
            params = self._params(path, options, embeds)
            server = None  # not the one before, which the error would keep
            try:
                server = xllamacpp.Server(params)
                # It answers once its loop has begun. A server that is let go of before waits for that loop for ever
                # (xllamacpp 2026.10): the loop, once it begins, forgets that it was told to end.
                server.handle_metrics()
            except (RuntimeError, MemoryError) as error:
                server = None
                self.close()
                raise ModelError(_cannot_load(path, options, layout, error)) from None
            self.lanes += [Lane(server, slot) for slot in range(self.layout.slots)]
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in self.lanes:
            self._free.put(lane)

    def _params(self, path: Path, options: Options, embeds: int | None) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.verbosity = -1
        params.n_parallel = self.layout.slots
        params.n_ctx = self.layout.slots * options.context
        params.n_batch = params.n_ubatch = BATCH_TOKENS if embeds is None else options.context
        params.kv_unified = False
        flash = xllamacpp.llama_flash_attn_type
        params.flash_attn_type = (
            flash.LLAMA_FLASH_ATTN_TYPE_ENABLED if options.flash_attention else flash.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        cache_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options.cache_type.upper()}")
        params.cache_type_k = params.cache_type_v = cache_type
        params.cache_ram_mib = 0
        params.warmup = False
        params.fit_params = options.gpu_layers is None and has_gpu()  # llama.cpp then lays out as many layers as fit
        if options.gpu_layers is not None:
            params.n_gpu_layers = options.gpu_layers
        params.offline = True
        params.api_keys = [self._key]
        params.ui = params.endpoint_props = False
        params.endpoint_slots = params.endpoint_metrics = True
        params.slot_save_path = self._folder.name + os.sep
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.layout.threads
        if options.adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(options.adapter), options.scale)]
        if embeds is not None:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type(embeds)
        return params

    def close(self) -> None:
        """Release the model's memory; requests that run come to their end first."""
        self.lanes.clear()
        self._free = SimpleQueue()
        self._folder.cleanup()
        _c_library("malloc_trim", 0)  # glibc would keep what the model's vocabulary took

    def require_open(self) -> None:
        """Raises ModelError where the model was closed."""
        if not self.lanes:
            raise ModelError(f"the model {self.reference!r} is closed; open it again")

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A free lane, as soon as there is one."""
        self.require_open()
        free = self._free  # a closed model has another one, so that the lane's server is let go with its last request
        lane = free.get()
        try:
            yield lane
        finally:
            free.put(lane)

    def complete(
        self, lane: Lane, body: dict[str, Any], take: Callable[[dict[str, Any]], object], *, chat: bool = False
    ) -> None:
        """Run a completion, or with `chat` one of a conversation; `take` gets what comes and ends the request with
        True. Raises ModelError, and InputError for an invalid grammar."""
        errors: list[dict[str, Any]] = []

        def checked(chunk: dict[str, Any]) -> object:
            if "error" in chunk:
                errors.append(chunk["error"])
                return True
            return take(chunk)

        run = lane.server.handle_chat_completions if chat else lane.server.handle_completions
        run(body | {"id_slot": lane.slot, "cache_prompt": True}, checked)
        if errors:
            raise error_of(self.reference, errors[0])

    def share(self, source: Lane) -> None:
        """Copy what a request left in its slot to the other slots that are free now."""
        lanes: list[Lane] = []
        with suppress(Empty):
            while True:
                lanes.append(self._free.get_nowait())
        try:
            if source in lanes and len(lanes) > 1:
                name = {"filename": f"prefix-{self.lanes.index(source)}"}
                self.post(f"/slots/{source.slot}?action=save", name, source.server)
                for lane in lanes:
                    if lane != source:
                        self.post(f"/slots/{lane.slot}?action=restore", name, lane.server)
        except ModelError:
            pass  # a full disk, say: each slot then evaluates the prefix by itself
        finally:
            for lane in lanes:
                self._free.put(lane)

    def post(self, path: str, body: dict[str, Any], server: Any = None, type: Any = Any) -> Any:
        """Ask one of the server's endpoints that xllamacpp does not bind. Its port is on the loopback and has a key."""
        self.require_open()
        address = urlsplit((server or self.lanes[0].server).listening_address)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=600)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("POST", path, json_body(body), headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise error_of(self.reference, msgspec.json.decode(answer).get("error", {}))
        return msgspec.json.decode(answer, type=type)


def error_of(reference: str, error: dict[str, Any]) -> ModelError | InputError:
    """The typed error for one of llama.cpp's."""
    message = str(error.get("message", error))
    tokens, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
    if batch := _TOO_LARGE.search(message):  # of a text for embedding, which is evaluated at once
        tokens, limit = int(batch[1]), int(batch[2])
    if "failed to parse grammar" in message:
        return refused("llama.cpp can't read it (it takes no left recursion, and no `_` in names of rules)")
    if tokens is None or limit is None:
        return ModelError(f"the model {reference!r} refused a request: {message}")
    return too_long(reference, tokens, limit)


def first_seconds(chunk: dict[str, Any]) -> float | None:
    """Seconds until the first token of an answer, where its last chunk says how long the prompt took."""
    took = chunk.get("timings", {}).get("prompt_ms")
    return None if took is None else took / 1000


def too_long(reference: str, tokens: int, limit: int) -> ContextTooLongError:
    """The error of a text of so many tokens where there is a limit."""
    found = ContextTooLongError("?context=… asks for a longer one.", tokens=tokens, limit=limit)
    found.provider, _, found.model = reference.partition(":")
    return found


def encodable(text: str) -> str:
    """`text` with lone surrogates, which have no UTF-8 form, replaced by '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
