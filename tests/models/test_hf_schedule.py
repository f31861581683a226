"""The thread that owns a Transformers model: many callers, memory, closing, and Ctrl-C."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from kurabe.errors import InputError, ModelError
from kurabe.messages import Request
from kurabe.models.engines.hf import _schedule as hf_schedule
from kurabe.models.engines.hf import model as engine
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.reference import Reference
from kurabe.models.request import make_request


def opened(folder: Path, **options: str) -> Transformers:
    return Transformers(folder, Reference("hf", str(folder), options))


def talk(n: int, most: int) -> Request:
    numbers = random.Random(n)
    return make_request(
        " ".join(numbers.choice(["kettle", "34", "a", "red", "fox"]) for _ in range(n)), max_tokens=most
    )


def bytes_held(model: Transformers) -> int:
    layers = model.worker.call(lambda worker: list(worker.runner.slots.layers.values()))
    return sum(tensor.nbytes for layer in layers for tensor in (layer.keys, layer.values))


def test_choices_are_scored_while_all_places_are_taken(tiny_chat: Path) -> None:
    with opened(tiny_chat, batch="2") as model:
        expected = model.score("x", ["red", "blue"])
        long = [make_request(f"{n}", max_tokens=150, temperature=2.0, seed=n) for n in range(2)]
        alone = [model.chat(request.messages, max_tokens=150, temperature=2.0, seed=n).text
                 for n, request in enumerate(long)]  # fmt: skip
        streams = [model.stream(request.messages, max_tokens=150, temperature=2.0, seed=n)
                   for n, request in enumerate(long)]  # fmt: skip
        begun = [next(iter(stream)).text for stream in streams]
        assert not model.worker.idle
        assert model.score("x", ["red", "blue"]) == pytest.approx(expected, abs=1e-4)
        assert [
            one + "".join(delta.text for delta in stream) for one, stream in zip(begun, streams, strict=True)
        ] == alone


def test_a_text_is_cut_alike_while_another_thread_counts(tiny_chat: Path) -> None:
    """Whether names of special tokens count is a switch of the tokenizer that all threads share."""
    with opened(tiny_chat) as model:
        expected = model.prompt_ids(make_request("x"))
        stop = threading.Event()

        def count() -> None:
            while not stop.is_set():
                model.count_tokens("kettle " * 200)

        threads = [threading.Thread(target=count) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                assert model.prompt_ids(make_request("x")) == expected
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_row_that_comes_as_the_model_is_closed_is_told_so(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(tiny_chat)
    require = model.worker.require_open

    def then_closed() -> None:
        require()
        monkeypatch.undo()
        model.close()

    monkeypatch.setattr(model.worker, "require_open", then_closed)
    faults: list[BaseException] = []

    def ask() -> None:
        try:
            list(model.chat_many([talk(1, 3)]))
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(60)
    assert [type(fault) for fault in faults] == [ModelError]


@pytest.mark.parametrize("lengths", [[1] * 32 + [300], [300] + [1] * 32])
def test_one_long_row_does_not_make_room_for_itself_in_every_place(tiny_chat: Path, lengths: list[int]) -> None:
    with opened(tiny_chat) as model, opened(tiny_chat) as other:
        list(other.chat_many([talk(1, 2)]))
        token = other.worker.call(lambda worker: worker.runner.slots.token_bytes)
        model.worker.memory = 32 * 100 * token
        order = [talk(n, 2) for n in lengths]
        first, second = (order[:-1], order[-1:]) if lengths[0] == 1 else (order[:1], order[1:])
        list(model.chat_many(first))
        got = dict(model.chat_many(second))
        assert bytes_held(model) < 1.6 * model.worker.memory
        expected = dict(other.chat_many(second))
        assert [got[n].text for n in range(len(got))] == [expected[n].text for n in range(len(got))]


def test_answers_that_grow_beyond_the_memory_go_on_in_smaller_company(
    tiny_chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_schedule, "_PLANNED", 10)
    requests = [make_request(f"{n}", max_tokens=120, temperature=2.0, seed=n) for n in range(8)]
    with opened(tiny_chat) as model:
        expected = dict(model.chat_many(requests))
        assert max(reply.usage.output for reply in expected.values()) > 100
        token = model.worker.call(lambda worker: worker.runner.slots.token_bytes)
    with opened(tiny_chat) as model:
        model.worker.memory = 250 * token
        got = dict(model.chat_many(requests))
        assert bytes_held(model) < 3 * model.worker.memory
    assert {n: reply.text for n, reply in got.items()} == {n: reply.text for n, reply in expected.items()}


def test_a_step_smaller_than_its_rows(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [talk(n % 5, 6) for n in range(24)]
    with opened(tiny_chat) as model:
        expected = {n: reply.text for n, reply in model.chat_many(requests)}
    monkeypatch.setattr(engine, "STEP_TOKENS_CPU", 3)
    with opened(tiny_chat, batch="8") as model:
        assert {n: reply.text for n, reply in model.chat_many(requests)} == expected


def test_nothing_to_go_on_from(tiny_base: Path) -> None:
    with opened(tiny_base) as model:
        for ask in (lambda: model.chat(""), lambda: model.generate(""), lambda: model.score("", ["a", "b"])):
            with pytest.raises(InputError, match="text is empty"):
                ask()
        assert model.chat("a", max_tokens=1).usage.output == 1


def test_a_temperature_near_zero_is_greedy(tiny_chat: Path) -> None:
    with opened(tiny_chat) as model:
        assert len({model.chat("x", max_tokens=5, seed=1, temperature=t).text for t in (None, 0.0, 1e-30, 1e-45)}) == 1


def test_two_thousand_requests_leave_nothing_behind(tiny_chat: Path) -> None:
    """In a process of its own, where no other test's objects are counted."""
    code = """
import gc, sys
from pathlib import Path
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.reference import Reference
from kurabe.models.request import make_request

def talk(n):
    return make_request("the price of the new computer " * (1 + n), max_tokens=2, seed=n)

def held(worker):
    layers = worker.runner.slots.layers.values()
    return sum(tensor.nbytes for layer in layers for tensor in (layer.keys, layer.values))

with Transformers(Path(sys.argv[1]), Reference("hf", sys.argv[1], {})) as model:
    objects, tensors = [], []
    for begin in range(0, 2000, 400):
        for _ in model.chat_many(talk(n % 7) for n in range(begin, begin + 400)):
            pass
        gc.collect()
        objects.append(len(gc.get_objects()))
        tensors.append(model.worker.call(held))
    assert objects[-1] - objects[1] < 200, objects
    assert tensors[-1] == tensors[1] > 0, tensors
    assert model.worker.free_slots == 33
    assert model.worker.idle
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tiny_chat)], check=True, timeout=240)


def test_the_model_is_the_users_too(tiny_chat: Path) -> None:
    """What the engine switches to be fast changes neither the model's own answers nor its gradients."""
    from transformers import AutoModelForCausalLM

    plain: Any = AutoModelForCausalLM.from_pretrained(tiny_chat, dtype=torch.float32)
    with opened(tiny_chat) as model:
        model.chat("the price", max_tokens=4)
        model.score("the price", ["red", "blue"])
        ids = torch.tensor([model.prompt_ids(make_request("the price"))])
        used = model.loaded.model
        with torch.no_grad():
            assert torch.allclose(used(ids).logits, plain(ids).logits, atol=1e-4)
            assert torch.equal(*(each.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8,
                                               do_sample=False, pad_token_id=0) for each in (used, plain)))  # fmt: skip
        for each in (used, plain):
            each(ids, labels=ids).loss.backward()
        for one, other in zip(used.parameters(), plain.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_a_process_that_is_answering(tiny_chat: Path) -> None:
    code = """
import sys
from kurabe import open_model
from kurabe.models.request import make_request
with open_model("hf:" + sys.argv[1]) as model:
    requests = (make_request(str(n), max_tokens=400, temperature=2.0) for n in range(100_000))
    for index, reply in model.chat_many(requests):
        if index >= 0:
            print("going", flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(tiny_chat)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "going\n"
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = child.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert child.returncode in (-signal.SIGINT, 130, 1)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert said.count("Traceback") == 1
