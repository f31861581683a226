"""The real model in this process, and in child processes where the process itself is at stake."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kurabe.errors import ContextTooLongError, InputError, ModelError
from kurabe.messages import Message, Reply, Request
from kurabe.models.base import ChatModel
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.engines.llama.server import layout
from kurabe.models.grammar import label_grammar, number_grammar
from kurabe.models.reference import Reference
from kurabe.testing.tiny_gguf import tiny_llama

THINGS = ["a used keyboard", "a red sports car, 2019, 40,000 miles", "a pencil", "a house in Ohio", "tea"]
EXAMPLES = (
    Message("system", "You estimate prices. Answer with a price in dollars and nothing else, as in the examples."),
    Message("user", "How much does this cost?\n\nA stainless steel kettle with a wooden handle, 1.7 litres"),
    Message("assistant", "Price is $34.99"),
)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[LlamaCpp]:
    opened = LlamaCpp(smollm2, Reference("gguf", "smollm2-135m", {"context": "1024"}))
    yield opened
    opened.close()


def price(thing: str, max_tokens: int = 8, temperature: float = 0.0, seed: int = 0) -> Request:
    return Request(
        (*EXAMPLES, Message("user", f"How much does this cost?\n\n{thing}")),
        prefill="Price is $",
        max_tokens=max_tokens,
        grammar=number_grammar(),
        temperature=temperature,
        seed=seed,
    )


def ask(model: ChatModel, requests: list[Request]) -> list[Reply]:
    replies = dict(model.chat_many(requests))
    assert sorted(replies) == list(range(len(requests)))
    return [replies[index] for index in range(len(requests))]


def test_is_a_model(model: LlamaCpp) -> None:
    assert isinstance(model, ChatModel)
    assert model.reference == "gguf:smollm2-135m?context=1024"


def test_prices_are_numbers_and_the_prefix_is_evaluated_once(model: LlamaCpp) -> None:
    replies = ask(model, [price(thing) for thing in THINGS])
    for reply in replies:
        assert float(reply.text.replace(",", "")) >= 0
        assert reply.usd == 0.0
        assert 0 < reply.usage.output <= 8
        assert reply.seconds > 0
    shared = model.count_tokens("".join(message.text for message in EXAMPLES))
    assert sum(reply.usage.cached >= shared for reply in replies) >= len(replies) - 1


def test_an_answer_does_not_depend_on_its_company(model: LlamaCpp, smollm2: Path) -> None:
    subjects = [*THINGS, "the sea at night, in two sentences", "rust", "why a cat purrs"]
    requests = [
        Request((*EXAMPLES[:1], Message("user", f"Write about {subject}.")), max_tokens=10) for subject in subjects
    ]
    alone = [ask(model, [request])[0].text for request in requests]
    together = [reply.text for reply in ask(model, requests)]
    order = random.Random(1).sample(range(len(requests)), len(requests))
    shuffled = dict(zip(order, ask(model, [requests[index] for index in order]), strict=True))
    fresh = LlamaCpp(smollm2, Reference("gguf", "smollm2-135m", {"context": "512"}))
    anew = [reply.text for reply in ask(fresh, requests)]
    fresh.close()
    assert len(set(alone)) >= 6
    assert together == alone
    assert [shuffled[index].text for index in range(len(requests))] == alone
    assert anew == alone


def test_labels_are_answered_exactly(model: LlamaCpp) -> None:
    labels = ["spam", 'not "spam"', "back\\slash", "two\nlines", "émoji 🎉", "spam and more", "tab\there"]
    grammar = label_grammar(labels)
    requests = [
        Request((Message("user", f"Say anything. {n}"),), max_tokens=40, temperature=2.0, seed=n, grammar=grammar)
        for n in range(12)
    ]
    answers = {reply.text for reply in ask(model, requests)}
    assert answers <= set(labels)
    assert len(answers) >= 3


def test_each_label_can_be_said(model: LlamaCpp) -> None:
    labels = ['"', "\\", "\n", "\t\r\x01\x7f", "[a-z]+ | root", "日本", "👩‍👩‍👧"]
    message = (Message("user", "Hello"),)
    replies = ask(model, [Request(message, max_tokens=40, grammar=label_grammar([label])) for label in labels])
    assert [reply.text for reply in replies] == labels


def test_numbers_at_any_temperature_are_numbers(model: LlamaCpp) -> None:
    requests = [price(THINGS[n % 5], max_tokens=20, temperature=3.0, seed=n) for n in range(12)]
    texts = [reply.text for reply in ask(model, requests)]
    for text in texts:
        whole, _, fraction = text.partition(".")
        assert whole.replace(",", "").isdigit()
        assert fraction == "" or (fraction.isdigit() and len(fraction) <= 4)
        assert "," not in whole or [len(group) for group in whole.split(",")[1:]] == [3] * whole.count(",")
    assert len(set(texts)) > 5


def test_seeds(model: LlamaCpp) -> None:
    message = (Message("user", "Write a word."),)
    hot = [Request(message, max_tokens=8, temperature=1.5, seed=seed) for seed in (1, 2, 1, 3)]
    first, second, again, third = (reply.text for reply in ask(model, hot))
    assert first == again
    assert len({first, second, third}) > 1


def test_prefill_is_continued_and_not_repeated(model: LlamaCpp) -> None:
    request = Request((Message("user", "Count from 1 to 8."),), prefill="1, 2, 3, 4,", max_tokens=6)
    assert ask(model, [request])[0].text.startswith(" 5, 6")


def test_stop_length_and_finish(model: LlamaCpp) -> None:
    message = (Message("user", "Count from 1 to 8."),)
    stopped, cut, label = ask(
        model,
        [
            Request(message, prefill="1, 2, 3, 4,", max_tokens=30, stop=(", 7",)),
            Request(message, prefill="1, 2, 3, 4,", max_tokens=2),
            Request(message, max_tokens=8, grammar=label_grammar(["yes"])),
        ],
    )
    assert (stopped.text, stopped.finish_reason) == (" 5, 6", "stop")
    assert (cut.finish_reason, cut.usage.output) == ("length", 2)
    assert (label.text, label.finish_reason) == ("yes", "stop")


def test_odd_text(model: LlamaCpp) -> None:
    texts = ["", "\0", "a\0b", "\ud800", "🎉" * 50, "<|im_end|>", "\r\n\t"]
    for reply in ask(model, [price(text) for text in texts]):
        assert float(reply.text.replace(",", "")) >= 0


def test_a_prompt_beyond_the_context_says_how_long_it_is(model: LlamaCpp) -> None:
    with pytest.raises(ContextTooLongError, match=r"tokens too many \(2,\d+ of 1,024\)") as caught:
        model.chat("word " * 2000)
    assert caught.value.limit == 1024
    assert (caught.value.tokens or 0) > 2000
    (empty,) = ask(model, [price("word " * 2000)])
    assert (empty.text, empty.finish_reason, empty.usage.output) == ("", "length", 0)
    assert model.context == 1024
    assert 2000 <= model.count_tokens("word " * 2000) <= 2001
    assert ask(model, [price("tea")])[0].text


def test_a_grammar_that_is_none_is_refused(model: LlamaCpp) -> None:
    with pytest.raises(InputError, match="grammar"):
        ask(model, [Request((Message("user", "x"),), grammar="root ::= (")])


def test_requests_are_drawn_lazily_and_closing_early_is_clean(model: LlamaCpp) -> None:
    drawn = 0

    def requests() -> Iterator[Request]:
        nonlocal drawn
        while True:
            drawn += 1
            yield Request((Message("user", f"Tell a long story {drawn}"),), max_tokens=4 if drawn < 4 else 900)

    replies = model.chat_many(requests())
    for _ in range(3):
        next(replies)
    assert drawn <= 40
    before = drawn
    began = time.perf_counter()
    replies.close()  # type: ignore[attr-defined]
    assert time.perf_counter() - began < 15
    assert drawn == before
    assert ask(model, [price("tea")])[0].text


def test_no_requests(model: LlamaCpp) -> None:
    assert ask(model, []) == []


def test_a_failing_source_of_requests_is_not_swallowed(model: LlamaCpp) -> None:
    def requests() -> Iterator[Request]:
        yield price("tea")
        raise RuntimeError("the table broke")

    with pytest.raises(RuntimeError, match="the table broke"):
        list(model.chat_many(requests()))


def test_closing_gives_memory_back(smollm2: Path) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    opened = LlamaCpp(smollm2, Reference("gguf", "x", {"context": "2048"}))
    ask(opened, [price("tea")])
    loaded = process.memory_info().rss
    opened.close()
    after = process.memory_info().rss
    assert loaded - before > 200e6
    assert after - before < 0.4 * (loaded - before)
    with pytest.raises(ModelError, match="is closed"):
        ask(opened, [price("tea")])
    with pytest.raises(ModelError, match="is closed"):
        opened.count_tokens("x")


def test_a_context_beyond_the_model(smollm2: Path) -> None:
    with pytest.raises(ModelError, match="context of 9000 tokens, and the model has 8192"):
        LlamaCpp(smollm2, Reference("gguf", "x", {"context": "9000"}))


@pytest.mark.parametrize(
    ("size", "cores", "expected"),
    [(1, 1, (1, 1, 2)), (1, 2, (2, 1, 2)), (1, 6, (4, 1, 2)), (1, 16, (4, 4, 2)), (10**10, 16, (1, 16, 4))],
)
def test_layout(size: int, cores: int, expected: tuple[int, int, int]) -> None:
    assert layout(size, cores) == expected


def child(code: str, *arguments: str) -> "subprocess.Popen[str]":
    prelude = (
        "import sys\nfrom pathlib import Path\nfrom kurabe.messages import Message, Request\n"
        "from kurabe.models.engines.llama.model import LlamaCpp\n"
        "from kurabe.models.reference import Reference\n"
        "path = Path(sys.argv[1])\n"
        "def ask(n, tokens): return (Request((Message('user', f'Tell a long story {i}'),), max_tokens=tokens) "
        "for i in range(n))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_leaving_without_closing_is_quiet(smollm2: Path) -> None:
    process = child(
        "model = LlamaCpp(path, Reference('gguf', 'x', {'context': '512'}))\n"
        "replies = model.chat_many(ask(9, 16))\n"
        "print(len(next(replies)[1].text) > 0)\n",
        str(smollm2),
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "True\n", "")


def test_a_model_may_be_closed_as_soon_as_it_is_open(tmp_path: Path) -> None:
    """On a busy machine: a server that was let go of before its loop had begun waited for it for ever."""
    code = (
        "from kurabe.models.engines.llama.server import Servers, fitted, read_file, read_options\n"
        "header, size = read_file(path)\n"
        "options = read_options(Reference('gguf', 'x', {'context': '64', 'threads': '1'}), header)\n"
        "place = fitted(path, options, size, writes=True)\n"
        "for _ in range(60):\n"
        "    Servers('x', path, options, place).close()\n"
        "print('closed')\n"
    )
    file = str(tiny_llama(tmp_path / "tiny.gguf"))
    children = [child(code, file) for _ in range(6)]
    try:
        assert [process.communicate(timeout=100)[0] for process in children] == ["closed\n"] * 6
    finally:
        for process in children:
            process.kill()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal as a terminal does")
def test_ctrl_c_gets_through(smollm2: Path) -> None:
    process = child(
        "import time\n"
        "model = LlamaCpp(path, Reference('gguf', 'x', {'context': '4096'}))\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    for reply in model.chat_many(ask(100, 4000)): pass\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n",
        str(smollm2),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(2)
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert time.perf_counter() - began < 15
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.1, 0.5, 0.9999])
def test_a_file_cut_short_does_not_kill_the_process(keep: float, smollm2: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with smollm2.open("rb") as whole:
        cut.write_bytes(whole.read(int(smollm2.stat().st_size * keep)))
    process = child(
        "from kurabe.errors import ModelError\n"
        "try: LlamaCpp(path, Reference('gguf', 'x'))\n"
        "except ModelError as error: print('refused', error)\n",
        str(cut),
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith(f"refused {cut} is not a usable GGUF file")


def test_a_model_that_llama_cpp_does_not_know(smollm2: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(smollm2.read_bytes().replace(b"llama", b"lemma", 1))
    process = child(
        "from kurabe.errors import ModelError\n"
        "try: LlamaCpp(path, Reference('gguf', 'x'))\n"
        "except ModelError as error: print('refused', error)\n",
        str(path),
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith(f"refused llama.cpp cannot load {path}")
