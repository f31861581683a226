"""Steps over tiny random models of many families give the tokens of the model's own `generate`."""

import random
from typing import Any

import pytest
import torch
import transformers

from kurabe.models.engines.hf._attention import Feed
from kurabe.models.engines.hf._generate import Packed, Plain, attention, can_pack, pads, runner
from kurabe.models.engines.hf._schedule import common
from kurabe.models.engines.hf.linear import OneDnnLinear, one_dnn_is_faster
from kurabe.models.engines.hf.quiet import quiet

VOCABULARY = 300
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
THREE = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", LLAMA | {"head_dim": 8}),
    "mistral": ("MistralForCausalLM", "MistralConfig", LLAMA | {"sliding_window": 6}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", LLAMA | {"num_local_experts": 3}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", LLAMA),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", LLAMA | {"head_dim": 8, "sliding_window": 7}),
    "gemma3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        LLAMA | {"head_dim": 8, "sliding_window": 7, "layer_types": THREE},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"},
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    ),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 8},
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        LLAMA | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}
        | {"sliding_window": 7, "layer_types": THREE}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ),
}  # fmt: skip
PACKED = {"llama", "qwen2", "qwen3", "mistral", "mixtral", "phi3", "gemma2", "gemma3", "gpt2", "gpt_neox"}


def make(family: str) -> Any:
    name, config, fields = FAMILIES[family]
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(5)
        model = getattr(transformers, name)(getattr(transformers, config)(**fields)).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:  # so that the likeliest token is well ahead
                parameter.data.mul_(4)
    return model


def own_answer(model: Any, ids: list[int], count: int) -> list[int]:
    """The greedy answer of the model's own `generate`."""
    with torch.inference_mode(), quiet():
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=count, do_sample=False, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    return [int(token) for token in out[0, len(ids) :]]


def prompts(shared: int, count: int, seed: int) -> list[list[int]]:
    numbers = random.Random(seed)
    begin = [numbers.randrange(3, VOCABULARY) for _ in range(shared)]
    return [begin + [numbers.randrange(3, VOCABULARY) for _ in range(numbers.randint(1, 30))] for _ in range(count)]


def answers(model: Any, texts: list[list[int]], count: int, chunk: int) -> list[list[int]]:
    """Greedy answers by steps: rows join one after the other, with a shared prefix where the runner can."""
    run = runner(model, 0)
    shared = 0
    if run.mixes and (shared := common(texts)) > 0:
        run.step([Feed(0, 0, 0, texts[0][:shared])])
        run.slots.share(0, 0, shared)
    tokens = [list(text) for text in texts]
    done = [shared] * len(texts)
    ends = [len(text) + count for text in texts]
    joined = 0
    while any(len(row) < end for row, end in zip(tokens, ends, strict=True)):
        joined = min(len(texts), joined + chunk) if run.mixes else len(texts)
        feeds, rows = [], []
        for row in range(joined):
            if len(tokens[row]) == ends[row]:
                continue
            new = tokens[row][done[row] :][: 11 if run.mixes else None]
            whole = done[row] + len(new) == len(tokens[row])
            feeds.append(Feed(row, shared, done[row] - shared, new, [len(new) - 1] if whole else []))
            done[row] += len(new)
            rows += [row] * whole
        for row, scores in zip(rows, run.step(feeds), strict=True):
            tokens[row].append(int(scores.argmax()))
    return [row[-count:] for row in tokens]


@pytest.mark.parametrize("family", sorted(PACKED))
def test_packed_rows_are_those_of_generate(family: str) -> None:
    model = make(family)
    assert isinstance(runner(model, 0), Packed)
    for shared, chunk in ((0, 3), (24, 2)):
        texts = prompts(shared, 7, shared)
        texts[1] = texts[1][: shared + 1]
        expected = [own_answer(model, text, 5) for text in texts]
        assert answers(model, texts, 5, chunk) == expected
    assert len({tuple(answer) for answer in expected}) > 3


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - PACKED))
def test_other_rows_are_those_of_generate(family: str) -> None:
    model = make(family)
    assert isinstance(runner(model, 0), Plain)
    texts = prompts(5, 6, 1)
    if not pads(model):
        texts = [text[:6] for text in texts]
    assert answers(model, texts, 6, 6) == [own_answer(model, text, 6) for text in texts]


def test_which_models_are_packed() -> None:
    assert {family for family in FAMILIES if can_pack(make(family))} == PACKED | {"gpt_oss"}
    assert not pads(make("mamba"))


def test_the_models_own_attention_is_put_back() -> None:
    model = make("llama")
    before = model.config._attn_implementation
    runner(model, 0).step([Feed(0, 0, 0, [5, 6, 7], [2])])
    assert model.config._attn_implementation == before != ""
    with attention(model, "eager"):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("family", ["llama", "gemma3", "gemma2", "gpt2"])
def test_a_tree_of_tokens_is_scored_as_its_branches(family: str) -> None:
    model = make(family)
    run = runner(model, 0)
    prompt = prompts(12, 1, 3)[0]
    tree, parents = [5, 9, 11, 13], [-1, 0, 0, 2]  # 5, 5 9, 5 11, 5 11 13
    branches = [[], [5], [5, 9], [5, 11], [5, 11, 13]]
    run.step([Feed(1, 0, 0, prompt[:4])])
    run.slots.share(1, 0, 4)
    rest = prompt[4:]
    chain = [*range(-1, len(rest) - 1), *(len(rest) + parent if parent >= 0 else len(rest) - 1 for parent in parents)]
    got = run.step([
        Feed(0, 4, 0, [*rest, *tree], range(len(rest) - 1, len(rest) + len(tree)), chain),
        Feed(2, 0, 0, prompt, [0, len(prompt) - 1]),
    ])  # fmt: skip
    with torch.inference_mode():
        expected = [model(torch.tensor([prompt + branch])).logits[0, -1] for branch in branches]
        expected += [model(torch.tensor([text])).logits[0, -1] for text in (prompt[:1], prompt)]
    assert torch.allclose(got, torch.stack(expected), atol=1e-3, rtol=1e-3)


def test_layers_are_computed_by_the_faster_library() -> None:
    model = make("llama")
    runner(model, 0)
    fast = [layer for layer in model.modules() if type(layer) is OneDnnLinear]
    assert bool(fast) == one_dnn_is_faster()
    layer = OneDnnLinear(40, 24)
    rows = torch.randn(3, 5, 40)
    expected = torch.nn.functional.linear(rows, layer.weight, layer.bias)
    with torch.inference_mode():
        assert torch.allclose(layer(rows), expected, atol=1e-5)
    assert layer(rows).requires_grad
