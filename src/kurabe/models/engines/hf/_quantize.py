"""Quantizing a model's weights as it is loaded: bitsandbytes on the processor as on GPUs, torchao for int4.

Quantized are the linear layers but for the output's, as bitsandbytes and Transformers do: embedding, norms and output
stay as they are. nf4 and fp4 keep 64 values with one scale, the scales quantized again (double quantization, Dettmers
et al. 2023, QLoRA), and compute in bfloat16. int8 keeps one scale for each row and computes in float16 with outliers
apart (Dettmers et al. 2022, LLM.int8()). int4 keeps a scale and a zero for each 32 values, evenly spaced, in bfloat16.
"""

import logging
from collections.abc import Iterable
from typing import Any, Final

import torch
import transformers
from torch import nn

from kurabe.errors import ModelError
from kurabe.models.weights.dimensions import role
from kurabe.models.weights.headers import Tensor
from kurabe.models.weights.precisions import INT4_GROUP, linear

FOUR_BIT_BLOCK: Final = 64
FOUR_BIT_OUTPUTS: Final = 32

# It says at every layer of every step that int8 layers compute in float16.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def require_blocks(name: str, tensors: Iterable[Tensor], reference: str) -> None:
    """Raise ModelError where bitsandbytes could not compute with a layer in four bits on this processor: its kernel for
    bfloat16 takes rows of whole blocks and outputs by 32, and fails at the first token else."""
    if name not in {"nf4", "fp4"}:
        return
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        return
    for tensor in filter(linear, tensors):
        if role(tensor) == "router":  # which stays as it is
            continue
        outputs, inputs = tensor.shape
        if inputs % FOUR_BIT_BLOCK or outputs % FOUR_BIT_OUTPUTS:
            raise ModelError(
                f"{reference!r}: on this processor {name} takes layers whose inputs are a multiple of {FOUR_BIT_BLOCK}"
                f" and outputs one of {FOUR_BIT_OUTPUTS}, and {tensor.name} has {inputs} inputs and {outputs} outputs;"
                " use ?quantize=int8, or leave it out"
            )


def quantize_while_loading(name: str, dtype: Any, device: str) -> dict[str, Any]:
    """What `from_pretrained` needs to quantize each layer as it is read."""
    if name == "int8":
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=name,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return {"quantization_config": config}


def quantize(model: Any, name: str, device: Any) -> Any:
    """Quantize the layers of a loaded model one by one, for files that `from_pretrained` doesn't quantize (GGUF)."""
    output = model.get_output_embeddings()
    if name == "int4":
        _int4(model.to(device), output)
        return model
    for module in list(model.modules()):
        for attribute, layer in list(module.named_children()):
            if type(layer) is nn.Linear and layer is not output:
                setattr(module, attribute, _layer(layer, name).to(device))
    model.to(device)
    return model


def _int4(model: Any, output: Any) -> None:
    from torchao.quantization import Int4WeightOnlyConfig, quantize_

    if next(model.parameters()).device.type == "cuda":
        config = Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d")
    else:
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        config = PrototypeInt4WeightOnlyConfig(group_size=INT4_GROUP)
    quantize_(model, config, lambda layer, _: type(layer) is nn.Linear and layer is not output)


def _layer(layer: nn.Linear, name: str) -> Any:
    import bitsandbytes as bnb

    bias = layer.bias is not None
    if name == "int8":
        new = bnb.nn.Linear8bitLt(layer.in_features, layer.out_features, bias, has_fp16_weights=False, device="meta")
        new.weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    else:
        new = bnb.nn.Linear4bit(layer.in_features, layer.out_features, bias, torch.bfloat16, True, name, device="meta")
        new.weight = bnb.nn.Params4bit(
            layer.weight.data, requires_grad=False, compress_statistics=True, quant_type=name, module=new
        )
    new.bias = layer.bias
    return new.eval()
