"""What stands behind the `?`, adapters, files in parts, vectors, tools, memory, and broken files."""

import os
import random
import struct
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import ContextTooLongError, InputError, ModelError, ModelTooLargeError
from kurabe.messages import Assistant, Request, Tool, ToolResult, User
from kurabe.models.engines.gbnf import check_grammar
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.engines.llama.server import layout
from kurabe.models.grammar import label_grammar
from kurabe.models.reference import Reference
from kurabe.models.tools import tool
from kurabe.testing.tiny_gguf import TOOLS_TEMPLATE, tiny_bert, tiny_llama, tiny_lora


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def opened(path: Path, **options: object) -> LlamaCpp:
    return LlamaCpp(path, Reference("gguf", "tiny", {name: str(value) for name, value in options.items()}))


def answer(path: Path, **options: object) -> str:
    with opened(path, **options) as model:
        return model.complete("Tell me a story", max_tokens=24)


def counts(model: LlamaCpp) -> bool:
    return model.complete("Count from 1 to 8.", prefill="1, 2, 3, 4,", max_tokens=6).startswith(" 5, 6")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context": 100_000}, "asks for a context of 100000 tokens, and the model has 512"),
        ({"gpu_layers": "many"}, "gpu_layers is a number of layers, 0 for none, or 'all', not 'many'"),
        ({"gpu_layers": -1}, "gpu_layers is a number"),
        ({"cache_type": "q4"}, "no value of cache_type 'q4'; did you mean 'q4_0'"),
        ({"flash_attention": "yes"}, "no value of flash_attention 'yes'"),
        ({"flash_attention": "off", "cache_type": "q8_0"}, "needs flash attention"),
        ({"threads": 0}, "'threads' must be a whole number above 0"),
        ({"scale": 0.5}, "`scale` applies to an adapter, and none is set"),
        ({"adapter": "none.gguf"}, "there is no file none.gguf"),
    ],
)
def test_options_that_are_none(options: dict[str, object], says: str, tiny: Path) -> None:
    with pytest.raises(ModelError, match=says):
        opened(tiny, **options)


@pytest.mark.parametrize("cache_type", ["f32", "f16", "bf16", "q8_0"])
def test_cache_types(cache_type: str, smollm2: Path) -> None:
    with opened(smollm2, cache_type=cache_type, context=256, threads=1) as model:
        assert counts(model)


def test_a_context_is_held_to_though_llama_cpp_rounds_it_up(tiny: Path) -> None:
    ask = tool(weather)
    with opened(tiny, context=40, threads=1) as model:
        reply = model.chat("x" * 20)
        assert (model.context, reply.finish_reason, reply.usage.input + reply.usage.output) == (40, "length", 40)
        assert model.generate("x" * 38, max_tokens=9).reply.usage.output == 1
        for call in (model.chat, model.generate, model.logits, lambda text: model.score(text, ["a", "b"])):
            with pytest.raises(ContextTooLongError) as caught:
                call("x" * 39)
            assert (caught.value.tokens, caught.value.limit) == (40, 40)
        assert [reply.finish_reason for _, reply in model.chat_many([Request((User("x" * 39),))])] == ["length"]
    path = tiny_llama(tiny.with_name("asks.gguf"), template=TOOLS_TEMPLATE, context=1024)
    with opened(path, context=500, threads=1) as model, pytest.raises(ContextTooLongError):
        model.chat("x" * 500, tools=[ask])


def test_flash_attention_off_gpu_layers_and_threads(smollm2: Path) -> None:
    with opened(smollm2, flash_attention="off", context=256, gpu_layers=0, threads=1) as model:
        assert model.concurrency == 2  # with two threads there would be two servers of two places
        assert counts(model)


def test_threads_are_split_over_the_servers() -> None:
    assert layout(1, 8) == (4, 2, 2)
    assert layout(1, 3) == (3, 1, 2)
    assert layout(2_000_000_000, 8) == (1, 8, 4)
    assert layout(1, 8, gpu=True) == (1, 8, 4)


def test_an_adapter_changes_answers_by_its_scale(smollm2: Path, tmp_path: Path) -> None:
    factors = {f"blk.{layer}.attn_q.weight": (576, 576) for layer in range(8)} | {"blk.3.ffn_down.weight": (576, 1536)}
    adapter = tiny_lora(tmp_path / "lora.gguf", factors, size=0.4)
    base = answer(smollm2, context=128, threads=1)
    assert answer(smollm2, context=128, threads=1, adapter=adapter, scale=0) == base
    assert answer(smollm2, context=128, threads=1, adapter=adapter) != base


def test_adapters_that_do_not_fit(tiny: Path, tmp_path: Path) -> None:
    for name, factors, architecture, says in (
        ("arch", {"blk.0.attn_q.weight": (64, 64)}, "qwen2", "belongs to a model of architecture 'qwen2'"),
        ("shape", {"blk.0.attn_q.weight": (64, 96)}, "llama", "is 96 × 64, the model's 64 × 64"),
        ("tensor", {"blk.9.attn_q.weight": (64, 64)}, "llama", "has no such tensor"),
    ):
        adapter = tiny_lora(tmp_path / f"{name}.gguf", factors, architecture=architecture)
        with pytest.raises(ModelError, match=says):
            opened(tiny, adapter=adapter)
    with pytest.raises(ModelError, match="is no LoRA adapter"):
        opened(tiny, adapter=tiny)
    with pytest.raises(ModelError, match=r"scale is a number such as 0\.5, not 'much'"):
        opened(tiny, adapter=tiny_lora(tmp_path / "good.gguf", {"blk.0.attn_q.weight": (64, 64)}), scale="much")


def test_adapters_at_which_llama_cpp_ends_the_process(tiny: Path, tmp_path: Path) -> None:
    adapter = tiny_lora(tmp_path / "lora.gguf", {"blk.0.attn_q.weight": (64, 64)})
    float_, uint = (b"adapter.lora.alpha" + struct.pack("<I", kind) for kind in (6, 4))
    whole = adapter.read_bytes()
    adapter.write_bytes(whole.replace(float_, uint))
    with pytest.raises(ModelError, match="not a float; fetch it again"):
        opened(tiny, adapter=adapter)
    a = b"lora_a" + struct.pack("<IQQ", 2, 64, 2)
    assert a in whole
    for rank in (2**20, 2**40, 2**63):
        adapter.write_bytes(whole.replace(a, b"lora_a" + struct.pack("<IQQ", 2, 64, rank)))
        with pytest.raises(ModelError, match="is cut short"):
            opened(tiny, adapter=adapter)
    b = b"lora_b" + struct.pack("<IQQ", 2, 2, 64)
    for kind in (24, 25, 26):
        assert b in whole
        adapter.write_bytes(whole.replace(b + struct.pack("<I", 0), b + struct.pack("<I", kind)))
        with pytest.raises(ModelError, match="is of the type I"):
            opened(tiny, adapter=adapter)


def test_a_model_in_several_files(tiny: Path, tmp_path: Path) -> None:
    first = tiny_llama(tmp_path / "m.gguf", split=8)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert (first, len(parts)) == (parts[0], 3)
    assert answer(first) == answer(tiny)
    with pytest.raises(ModelError, match="is not the first part"):
        opened(parts[1])
    whole = parts[2].read_bytes()
    parts[2].write_bytes(whole[:-64])
    with pytest.raises(ModelError, match="cut short"):
        opened(first)
    parts[2].unlink()
    with pytest.raises(ModelError, match=r"of the 3 parts .* missing in .*: m-00003-of-00003\.gguf; fetch it there"):
        opened(first)
    parts[1].unlink()
    with pytest.raises(ModelError, match=r"are missing in .*: m-00002-of-00003\.gguf, m-00003-of-00003\.gguf; fetch"):
        opened(first)


def test_more_than_the_memory_is_refused_before_loading(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kurabe.models.weights.footprint._free_for", lambda _: 1_000_000)
    with pytest.raises(ModelTooLargeError, match="does not fit main memory"):
        opened(tiny)


# ── Vectors ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_embeddings_of_an_encoder(tmp_path: Path) -> None:
    with opened(tiny_bert(tmp_path / "bert.gguf"), threads=1) as model:
        texts = [f"text {n}" for n in range(70)]
        vectors = model.embed(texts)
        assert (vectors.shape, str(vectors.dtype)) == ((70, 64), "float32")
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(70), abs=1e-6)
        for at in (0, 33, 69):
            assert model.embed(texts[at])[0] == pytest.approx(vectors[at], abs=1e-4)
        cut = model.embed(texts[:2], dimensions=16)
        assert cut == pytest.approx(
            vectors[:2, :16] / np.linalg.norm(vectors[:2, :16], axis=1, keepdims=True), abs=1e-4
        )
        assert model.embed([]).shape[0] == 0
        with pytest.raises(InputError, match="has 64 dimensions"):
            model.embed("x", dimensions=65)
        with pytest.raises(ContextTooLongError) as caught:
            model.embed("x " * 100)
        assert (caught.value.tokens, caught.value.limit) == (102, 64)
        with pytest.raises(InputError, match="is no reranker"):
            model.rerank("a", ["b"])
        for call in (
            model.chat,
            model.generate,
            model.logits,
            lambda text: list(model.chat_many([Request((User(text),))])),
        ):
            with pytest.raises(InputError, match="writes no text"):
                call("x")
    with pytest.raises(ModelError, match="is closed"):
        model.embed("x")


def test_embeddings_of_a_model_that_writes_text(tiny: Path) -> None:
    with opened(tiny) as model:
        vectors = model.embed(["one", "another", "one"])
        assert vectors.shape == (3, 64)
        assert vectors[0] == pytest.approx(vectors[2], abs=1e-4)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
        assert model.complete("x", max_tokens=4)


def test_rerank(tmp_path: Path) -> None:
    with opened(tiny_bert(tmp_path / "ranker.gguf", pooling=4), threads=1) as model:
        documents = ["hello", "you there", "x y z"]
        ranking = model.rerank("hello", documents)
        assert sorted(index for index, _ in ranking.results) == [0, 1, 2]
        scores = [score for _, score in ranking.results]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == 3
        assert model.rerank("hello", documents, top=1).results[0][0] == ranking.results[0][0]
        assert model.rerank("hello", []).results == ()
        with pytest.raises(InputError, match="gives no embeddings"):
            model.embed("x")


# ── Tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """A model that begins each answer with a call."""
    follows = {"\n": "<tool_call>", "<tool_call>": "\n"}
    path = tmp_path_factory.mktemp("tools") / "tools.gguf"
    with opened(tiny_llama(path, template=TOOLS_TEMPLATE, context=1024, follows=follows)) as model:
        yield model


SETTINGS: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 160}


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def test_tools_are_called(caller: LlamaCpp) -> None:
    reply = caller.chat("How is the weather?", tools=[weather], **SETTINGS)
    (call,) = reply.tool_calls
    assert call.name == "weather"
    assert list(call.arguments) == ["city"]
    assert isinstance(call.arguments["city"], str)
    assert reply.first_seconds is not None
    assert reply.usage.input == len(caller.prompt_ids(Request((User("How is the weather?"),), tools=_tools())))
    turns = [User("How is it?"), Assistant(call), User(ToolResult(call.id, "weather", "sunny"))]
    assert "<tool_response>\nsunny" in caller.render(turns)
    assert caller.chat(turns, tools=[weather], **SETTINGS).tool_calls[0].name == "weather"
    (found,) = dict(
        caller.chat_many([Request((User("Hi"),), tools=_tools(), tool_choice="required", max_tokens=160)])
    ).values()
    assert found.tool_calls


def test_calls_are_streamed(caller: LlamaCpp) -> None:
    stream = caller.stream("How is the weather?", tools=[weather], **SETTINGS)
    deltas = list(stream)
    assert [delta.name for delta in deltas if delta.name] == ["weather"]
    assert len(deltas) > 3
    assert stream.reply.tool_calls[0].arguments.keys() == {"city"}


def test_tools_and_a_grammar_are_not_taken_together(caller: LlamaCpp) -> None:
    with pytest.raises(InputError, match="tools or a grammar"):
        caller.chat("Hi", tools=[weather], grammar="root ::= [0-9]")


def _tools() -> tuple[Tool, ...]:
    return (tool(weather),)


# ── Files that are none ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_damaged_headers_neither_end_the_process_nor_take_its_memory(tiny: Path, tmp_path: Path) -> None:
    """Bytes of a whole model's header are changed at random; a child opens each file within 6 GB of addresses."""
    whole = tiny.read_bytes()
    chance = random.Random(3)
    at = whole.index(b"llama.embedding_length") - 200
    for number in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            # Half of the changes among the settings, whose numbers are used to lay out memory.
            place = chance.randrange(at, at + 600) if chance.random() < 0.5 else chance.randrange(9_000)
            damaged[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        (tmp_path / f"{number}.gguf").write_bytes(damaged)
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom kurabe.errors import KurabeError\n"
        "from kurabe.models.engines.llama.model import LlamaCpp\nfrom kurabe.models.reference import Reference\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))\n"
        "for number in range(60):\n"
        "    try:\n"
        "        with LlamaCpp(Path(sys.argv[1]) / f'{number}.gguf', Reference('gguf', 'm', {'threads': '1'})):\n"
        "            print(number, 'loaded', flush=True)\n"
        "    except KurabeError as error:\n"
        "        print(number, type(error).__name__, str(error)[:60], flush=True)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=400, env=os.environ
    )
    lines = found.stdout.splitlines()
    assert (found.returncode, len(lines)) == (0, 60), found.stdout[-300:] + found.stderr[-1500:]
    assert 3 < sum("Error" in line for line in lines) < 60


@pytest.mark.slow
def test_ten_models_in_turn_end_where_the_first_did(smollm2: Path) -> None:
    code = (
        "import sys, psutil\nfrom pathlib import Path\nfrom kurabe.models.engines.llama.model import LlamaCpp\n"
        "from kurabe.models.reference import Reference\n"
        "for turn in range(10):\n"
        "    with LlamaCpp(Path(sys.argv[1]), Reference('gguf', 'm', {'context': '1024'})) as model:\n"
        "        model.chat('Tell me a story', max_tokens=16)\n"
        "        held = psutil.Process().memory_info().rss\n"
        "    print(held, psutil.Process().memory_info().rss, flush=True)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(smollm2)], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in out.splitlines()]
    assert len(pairs) == 10
    assert pairs[-1][1] <= 1.05 * pairs[0][1]
    assert all(held > 1.5 * after for held, after in pairs)


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_memory_that_lacks_while_loading_is_named_with_what_it_takes(tmp_path: Path) -> None:
    """The check before sees what the system has, and llama.cpp itself says only that it failed."""
    path = tiny_llama(tmp_path / "wide.gguf", context=4_000_000)  # 256 bytes of cache a token
    code = (
        "import resource, sys, kurabe.models.engines.llama.model\n"
        "from kurabe import open_model\n"
        "from kurabe.errors import ModelError\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 10**9, -1))\n"
        "try: open_model(f'gguf:{sys.argv[1]}?context=4000000&threads=1')\n"
        "except ModelError as error: print(error)\n"
    )
    environment = os.environ | {"KURABE_NO_MEMORY_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "the process gets too little memory: it takes about" in done.stdout
    assert "keys and values 2.05 GB" in done.stdout
    assert "for 2 sequences of 4,000,000 tokens; ?context=… with fewer tokens" in done.stdout


@pytest.fixture(scope="module")
def llama(tiny: Path) -> Iterator[LlamaCpp]:
    with opened(tiny, threads=1) as model:
        yield model


@pytest.mark.parametrize(
    "grammar",
    ["root ::= [[", "root ::= (", "root ::= missing", 'foo ::= "a"', "start: /a/", 'root ::= "a\\', 'root ::= "a"{²}',
     "root ::= " + 500 * "(" + '"a"' + 500 * ")", 'root ::= "a"{5,2}', 'root ::= <[40]>{5,2}', 'root ::= "<" "a"*{5,2}',
     'root ::= "a"{5,2}\nroot ::= "b"'],
)  # fmt: skip
def test_a_grammar_that_is_none_is_refused_before_llama_cpp_writes_of_it(
    llama: LlamaCpp, grammar: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for ask in (llama.chat, llama.generate, lambda *x, **y: list(llama.stream(*x, **y))):
        with pytest.raises(InputError, match=r"^an answer can't be held to this grammar: "):
            ask("x", grammar=grammar, max_tokens=2)
    assert capfd.readouterr().err == ""


def test_both_engines_refuse_a_grammar_alike(llama: LlamaCpp, tiny_chat: Path) -> None:
    said = []
    with Transformers(tiny_chat, Reference("hf", "tiny", {})) as other:
        for model in (llama, other):
            with pytest.raises(InputError, match="line 1") as caught:
                model.chat("x", grammar="root ::= [[")
            said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("grammar", ["root ::= [\\-]", 'root ::= "\\u00e9"', "root ::= <[40]>", 'root ::= "a"*?'])
def test_a_grammar_that_llama_cpp_alone_takes(llama: LlamaCpp, grammar: str) -> None:
    assert llama.chat("x", grammar=grammar, max_tokens=3).usage.output


@pytest.mark.parametrize("grammar", ['root ::= root "a" | "b"', 'root ::= a_b\na_b ::= "b"'])
def test_a_grammar_that_only_llama_cpp_refuses(llama: LlamaCpp, grammar: str) -> None:
    with pytest.raises(
        InputError, match=r"this grammar: llama.cpp can't read it \(it takes no left recursion, and no `_`"
    ):
        llama.chat("x", grammar=grammar)


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        ('root ::= start\nstart ::= "b"', "b"),
        ('root ::= a A\na ::= "b"\nA ::= "c"', "bc"),
        ('root ::= fooBar foo-bar\nfooBar ::= "b"\nfoo-bar ::= "c"', "bc"),
        ('root ::= item Item\nitem ::= "b"\nItem ::= "c"', "bc"),
        ('root ::= "{5,2}" # {5,2}', "{5,2}"),
    ],
)
def test_names_of_rules_are_as_in_llama_cpp(llama: LlamaCpp, grammar: str, expected: str) -> None:
    assert llama.chat("x", grammar=grammar, max_tokens=12).text == expected


def test_an_empty_grammar_is_none(llama: LlamaCpp, tiny_chat: Path) -> None:
    with Transformers(tiny_chat, Reference("hf", "tiny", {})) as other:
        for model in (llama, other):
            assert model.chat("x", grammar="", max_tokens=2).usage.output


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_grammars_of_labels_pass(labels: list[str]) -> None:
    check_grammar(label_grammar(labels))


def test_the_time_to_the_first_token(tmp_path: Path, llama: LlamaCpp) -> None:
    reply = llama.chat("x", max_tokens=3)
    assert reply.first_seconds is not None
    assert 0 < reply.first_seconds <= reply.seconds
    first = llama.generate("x", max_tokens=3).reply.first_seconds
    assert first is not None
    assert first > 0


def test_a_server_that_does_not_answer_is_let_go_of(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = weakref.WeakSet[Any]()

    class Server:
        def __init__(self, _: Any) -> None:
            alive.add(self)

        def handle_metrics(self) -> None:
            if len(alive) == 2:
                raise MemoryError

    monkeypatch.setattr("kurabe.models.engines.llama.server.cores", lambda: 2)
    monkeypatch.setattr("xllamacpp.Server", Server)
    with pytest.raises(ModelError, match=r"cannot load .*tiny\.gguf: MemoryError\. Either"):
        opened(tiny)
    assert not alive
