"""The same questions through llama.cpp and through Transformers: the same prompts, tokens and probabilities."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest

from kurabe import open_model
from kurabe.messages import Message, System, User
from kurabe.models.engines.base import Generated, LocalModel
from kurabe.models.engines.hf.load import read_tokenizer
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.reference import Reference
from kurabe.testing.tiny_gguf import tiny_llama

THINGS = (
    "a lighthouse",
    "bread",
    "the Moon",
    "a violin",
    "snow",
    "a bicycle",
    "honey",
    "the number 1,299.50",
    "日本",
    "tea",
)
ASKED = ("What is {}?", "Write a slogan for {}.", "Who needs {}?", "Name three facts about {}.", "Is {} useful? Why?")


def conversations(count: int) -> list[list[Message]]:
    """Different conversations, some with a system message, some of several turns."""
    found: list[list[Message]] = []
    for number in range(count):
        thing = THINGS[number // 5 % 10] + (f" of size {number // 50}" if number >= 50 else "")
        turns = [User(ASKED[number % 5].format(thing))]
        if number % 3 == 0:
            turns = [System("Answer briefly."), *turns]
        if number % 7 == 0:
            turns = [*turns, Message("assistant", "I am not sure."), User("Then guess.")]
        found.append(turns)
    return found


def dequantized(source: Path, target: Path) -> Path:
    """The GGUF file with every tensor in float32."""
    reader, writer = gguf.GGUFReader(str(source)), gguf.GGUFWriter(str(target), "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind, inner = field.types[0], field.types[-1]
            writer.add_key_value(
                field.name, field.contents(), kind, inner if kind == gguf.GGUFValueType.ARRAY else None
            )
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def asked(reference: str, talks: Sequence[list[Message]]) -> tuple[list[str], list[Generated]]:
    with open_model(reference) as model:
        assert isinstance(model, LocalModel)
        rendered = [model.render(talk) for talk in talks]
        return rendered, [model.generate(talk, max_tokens=16, temperature=0.0) for talk in talks]


def compared(one: Sequence[Generated], other: Sequence[Generated]) -> tuple[float, float]:
    """(share of tokens that are the same, counted up to the first that differs; largest distance of their
    log-probabilities)."""
    same, total, far = 0, 0, 0.0
    for a, b in zip(one, other, strict=True):
        assert [piece.id for piece in a.prompt] == [piece.id for piece in b.prompt]
        ids, others = [piece.id for piece in a.answer], [piece.id for piece in b.answer]
        count = next(
            (n for n, (x, y) in enumerate(zip(ids, others, strict=False)) if x != y), min(map(len, (ids, others)))
        )
        same, total = same + count, total + max(len(ids), len(others))
        far = max([far, *(abs(a.logprobs[n] - b.logprobs[n]) for n in range(count))])
    return same / total, far


TEXTS = ("52 mm  31.4 mm", "a ¾‑inch", "x", " x", "  2\t34\n\n5", "Price 12,345: don't", "日本  7", "a<|im_end|>b")


def assert_cut_alike(file: Path) -> None:
    reference = Reference("gguf", file.name, {})
    _, tokenizer = read_tokenizer(file, reference)
    with LlamaCpp(file, reference) as model:
        for text in TEXTS:
            ids = [piece.id for piece in model.tokenize(text, special=True)]
            assert ids == tokenizer(text, add_special_tokens=False).input_ids, text
            assert tokenizer.decode(ids) == text


def test_texts_are_cut_alike_where_each_digit_is_a_token(smollm2: Path) -> None:
    assert_cut_alike(smollm2)


def test_texts_are_cut_alike_where_no_space_is_put_before_them(tmp_path: Path) -> None:
    assert_cut_alike(tiny_llama(tmp_path / "tiny.gguf", bos=False))


@pytest.mark.slow
def test_200_questions_to_smollm2(smollm2: Path, tmp_path: Path) -> None:
    """Both engines with the weights in float32; of the file as it is, llama.cpp computes in 8 bits."""
    talks = conversations(200)
    file = dequantized(smollm2, tmp_path / "f32.gguf")
    prompts, here = asked(f"gguf:{file}?cache_type=f32", talks)
    prompts_there, there = asked(f"hf:{smollm2}", talks)
    assert prompts == prompts_there
    share, far = compared(here, there)
    print(f"{share:.1%} of the tokens are the same; log-probabilities within {far:.4f}")
    assert share >= 0.95
    assert far <= 0.05
