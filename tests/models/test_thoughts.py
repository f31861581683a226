"""What a local model thinks between `<think>` and `</think>` is reasoning, and its answer is what stands behind it."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.messages import Delta, Reasoning, Request, Text, User
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.engines.thoughts import Thoughts, thoughts_of
from kurabe.models.reference import Reference
from kurabe.testing.tiny import tiny_model


def parted(text: str, opened: bool | None, cuts: tuple[int, ...] = ()) -> tuple[str, str]:
    thoughts = Thoughts(opened)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    deltas = [delta for piece in pieces for delta in thoughts.feed(piece)] + thoughts.feed("", end=True)
    found = "".join(delta.reasoning for delta in deltas), "".join(delta.text for delta in deltas)
    assert found == (thoughts.reasoning, thoughts.text)
    return found


CASES: list[tuple[str, bool | None, str, str]] = [
    ("<think>\nwell, well\n</think>\n\nYes.\n", False, "well, well", "Yes.\n"),
    ("\n<think>a </b> < c</think> Yes", False, "a </b> < c", "Yes"),
    ("<think>\n\n</think>\n\nYes.", False, "", "Yes."),
    ("hm\n</think>\n\nYes </think>.", True, "hm", "Yes </think>."),
    ("hm </thi", True, "hm </thi", ""),
    ("no end ", True, "no end", ""),
    (" <thin", False, "", " <thin"),
    ("  Yes <think>no</think>", False, "", "  Yes <think>no</think>"),
    ("<think>7</think>", None, "", "<think>7</think>"),
    ("", False, "", ""),
]


@pytest.mark.parametrize(("text", "opened", "reasoning", "answer"), CASES)
@given(cuts=st.lists(st.integers(0, 40), max_size=6).map(tuple))
def test_thoughts_and_answer(
    text: str, opened: bool | None, reasoning: str, answer: str, cuts: tuple[int, ...]
) -> None:
    assert parted(text, opened, cuts) == (reasoning, answer)
    assert parted(text, opened, tuple(range(len(text)))) == (reasoning, answer)


def test_which_answers_have_thoughts() -> None:
    asked = (User("x"),)
    assert thoughts_of(Request(asked), True).inside
    assert not thoughts_of(Request(asked), False).inside
    assert thoughts_of(Request(asked, prefill="<think>\nWell, "), False).inside
    assert not thoughts_of(Request(asked, prefill="<think>\n</think>\n"), False).inside
    assert thoughts_of(Request(asked, prefill="<think>\n"), False).inside
    for request in (Request(asked, prefill="It is"), Request(asked, grammar='root ::= "7"')):
        assert thoughts_of(request, True).feed("<think>7") == [Delta("<think>7")]


THINKS = 'root ::= "<think>\\nIt is warm.\\n</think>\\n\\nYes."'
"""What the model is held to, past the setting, which takes the answer for no thoughts."""


def test_llama_cpp(smollm2: Path) -> None:
    with LlamaCpp(smollm2, Reference("gguf", "smollm2-135m", {"context": "256"})) as model:
        request = Request((User("Is it warm?"),), max_tokens=30, extra={"grammar": THINKS})
        ((_, reply),) = model.chat_many([request])
        assert reply.content == (Reasoning("It is warm."), Text("Yes."))
        assert (reply.text, reply.reasoning, reply.finish_reason) == ("Yes.", "It is warm.", "stop")
        assert reply.usage.reasoning == model.count_tokens("It is warm.")
        stream = model.stream("Is it warm?", max_tokens=30, extra={"grammar": THINKS})
        deltas = list(stream)
        assert "".join(delta.reasoning for delta in deltas) == "It is warm."
        assert "".join(delta.text for delta in deltas) == "Yes."
        cut = model.chat("Is it warm?", max_tokens=9, extra={"grammar": THINKS})
        assert (cut.text, cut.finish_reason) == ("", "length")
        assert cut.reasoning in ("It", "It is", "It is warm")


OPENED = (
    "{% for message in messages %}{{ message.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
)


def test_transformers(tmp_path: Path) -> None:
    with Transformers(tiny_model(tmp_path / "m", template=OPENED), Reference("hf", "m", {})) as model:
        plain = model.generate("a kettle", max_tokens=12, temperature=0, prefill="<think>\n ").reply
        reply = model.chat("a kettle", max_tokens=12, temperature=0)
        assert reply.text == ""
        assert reply.reasoning
        assert plain.reasoning
        assert reply.usage.reasoning == reply.usage.output
        stream = model.stream("a kettle", max_tokens=12, temperature=0)
        assert "".join(delta.reasoning for delta in stream) == stream.reply.reasoning == reply.reasoning
        number = model.chat("a kettle", max_tokens=12, temperature=0, grammar='root ::= "7"')
        assert (number.text, number.reasoning, number.usage.reasoning) == ("7", "", 0)
        held = model.chat("a kettle", max_tokens=20, temperature=0, grammar='root ::= "<think>7</think>"')
        assert (held.text, held.reasoning) == ("<think>7</think>", "")
