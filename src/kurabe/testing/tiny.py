"""A tiny random causal model with a tokenizer trained on the spot, for tests of what stands on a Transformers model."""

from pathlib import Path
from typing import Any, Final

from kurabe.models.engines.hf.quiet import quiet

TEXT: Final = (
    "Question: How much does a red kettle cost, and what is its size?",
    "Answer: It costs $34.99, weighs 1.7 kg and holds 1,200 millilitres.",
    "The capital of France is Paris; the quick brown fox jumps over the lazy dog.",
    "def price(item): return {'kettle': 34.99, 'pencil': 0.5}[item]",
)

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML: every message with its role, a system message among them."""

NO_SYSTEM_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
"""As Gemma's: it begins with the BOS token itself and raises where there is a system message."""

SPECIAL: Final = ("<|endoftext|>", "<s>", "<|im_start|>", "<|im_end|>")
"""Tokens 0 to 3 of `tiny_model`: the end of a text, its beginning, and a turn's beginning and end."""


def tiny_model(
    folder: Path,
    *,
    template: str | None = CHAT_TEMPLATE,
    bos: bool = False,
    pad: bool = False,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save a Llama of about 30,000 random parameters with a byte-level BPE tokenizer as a folder in the hub's layout.

    `template` is its chat template, None for a base model; `bos`: the tokenizer puts `<s>` before every text; `pad`: it
    has a pad token. `config` are fields of `transformers.LlamaConfig` that shall differ, such as `num_hidden_layers` or
    `max_position_embeddings` (512). Returns `folder`. Needs the extra `transformers`.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(template, bos, pad)
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.5,  # so that the likeliest token is far enough ahead to be the same in every precision
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": 0 if pad else None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**fields | config))
    ends = [0, 3] if template else [0]
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=ends, pad_token_id=0 if pad else None)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(template: str | None, bos: bool, pad: bool) -> Any:
    """A byte-level BPE tokenizer, trained on `TEXT`; texts come back from their tokens byte by byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXT * 4, trainer)
    if bos:
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="<|im_end|>" if template else "<|endoftext|>",
        pad_token="<|endoftext|>" if pad else None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer
