"""The loops that somebody would write by hand around Transformers and llama.cpp, as good as we can."""

import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import xllamacpp
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, TextIteratorStreamer

from kurabe.messages import Message
from kurabe.models.engines.choices import choice_nodes, choice_scores

BATCH = 16


class HandTransformers:
    """SmolLM2 in float32 by Transformers."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.pad = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id

    @classmethod
    def dequantized(cls, file: Path, folder: Path) -> Self:
        """The GGUF file's weights, kept as safetensors in `folder`."""
        names = {"gguf_file": file.name}
        read: Any = AutoModelForCausalLM.from_pretrained(file.parent, **names, dtype=torch.float32)
        read.hf_quantizer, read.is_quantized = None, False  # else Transformers takes the weights for quantized ones
        if hasattr(read.config, "quantization_config"):
            del read.config.quantization_config
        read.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, **names).save_pretrained(folder)
        return cls(folder)

    def text(self, messages: Sequence[Message]) -> str:
        """The conversation through the chat template."""
        turns = [{"role": message.role, "content": message.text} for message in messages]
        rendered: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return rendered

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The conversation's tokens."""
        ids: list[int] = self.tokenizer(self.text(messages), add_special_tokens=False)["input_ids"]
        return ids

    def choice_tokens(self, messages: Sequence[Message], choices: Sequence[str]) -> list[list[int]]:
        """The tokens of each choice behind the prompt."""
        text, count = self.text(messages), len(self.tokens(messages))
        return [self.tokenizer(text + choice, add_special_tokens=False)["input_ids"][count:] for choice in choices]

    def shared(self, rows: Sequence[Sequence[int]]) -> int:
        """How many tokens all rows begin with."""
        first = rows[0]
        count = min(map(len, rows)) - 1
        return next((at for at in range(count) if any(row[at] != first[at] for row in rows)), count)

    @torch.inference_mode()
    def row_by_row(self, rows: Sequence[Sequence[int]], new: int) -> list[str]:
        """`generate` for each row."""
        return [text for row in rows for text in self._generate([row], new)]

    def batches(self, rows: Sequence[Sequence[int]], size: int, new: int) -> list[str]:
        """`generate` for `size` rows at a time, padded on the left."""
        return [text for at in range(0, len(rows), size) for text in self._generate(rows[at : at + size], new)]

    @torch.inference_mode()
    def _generate(self, rows: Sequence[Sequence[int]], new: int) -> list[str]:
        ids, mask = self._padded(rows)
        out = self.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=self.pad
        )
        texts: list[str] = self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        return texts

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, width - len(row) :] = torch.tensor(list(row))
            mask[at, width - len(row) :] = 1
        return ids, mask

    @torch.inference_mode()
    def shared_prefix(self, rows: Sequence[Sequence[int]], new: int) -> list[str]:
        """The fixed prefix evaluated once, the rest in batches of rows of like length."""
        count = self.shared(rows)
        prefix = self._prefix(rows[0][:count])
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        texts = [""] * len(rows)
        for at in range(0, len(order), BATCH):
            batch = order[at : at + BATCH]
            ids, mask = self._padded([rows[row][count:] for row in batch])
            cache = self._expanded(prefix, len(batch))
            mask = torch.cat([torch.ones((len(batch), count), dtype=torch.long), mask], dim=1)
            made = self._greedy(ids, mask, cache, new)
            for row, text in zip(batch, self.tokenizer.batch_decode(made, skip_special_tokens=True), strict=True):
                texts[row] = text
        return texts

    def _prefix(self, ids: Sequence[int]) -> Any:
        cache = DynamicCache()
        self.model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def _expanded(self, prefix: Any, rows: int) -> DynamicCache:
        cache = DynamicCache()
        for at, layer in enumerate(prefix.layers):
            cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), at)
        return cache

    def _greedy(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache, new: int) -> list[list[int]]:
        made: list[list[int]] = [[] for _ in ids]
        done = [False] * len(ids)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        for _ in range(new):
            out = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
            token = out.logits[:, -1].argmax(-1)
            for row, made_token in enumerate(token.tolist()):
                if not done[row]:
                    made[row].append(made_token)
                    done[row] = made_token == self.tokenizer.eos_token_id
            if all(done):
                break
            ids, mask = token[:, None], torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            positions = positions[:, -1:] + 1
        return made

    @torch.inference_mode()
    def label_tree(self, rows: Sequence[Sequence[int]], paths: Sequence[Sequence[int]], *, whole: bool) -> list[Any]:
        """Every choice's score: the prefix once, rows in batches, then the tree's tokens behind them in one pass."""
        end = self.tokenizer.eos_token_id
        nodes = choice_nodes(paths, end, whole=whole)
        tree = sorted({node.prefix[: n + 1] for node in nodes for n in range(len(node.prefix))}, key=len)
        place = {path: at for at, path in enumerate(tree)}
        tree_ids = torch.tensor([path[-1] for path in tree], dtype=torch.long)
        sees = torch.zeros((len(tree), len(tree)), dtype=torch.bool)
        for path, at in place.items():
            for n in range(len(path)):
                sees[at, place[path[: n + 1]]] = True
        depth = torch.tensor([len(path) for path in tree], dtype=torch.long)
        count = self.shared(rows)
        prefix = self._prefix(rows[0][:count])
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        scores: list[Any] = [None] * len(rows)
        for at in range(0, len(order), BATCH):
            batch = order[at : at + BATCH]
            ids, mask = self._padded([rows[row][count:] for row in batch])
            size, width, total = len(batch), ids.shape[1], ids.shape[1] + len(tree)
            seen = torch.cat([torch.ones((size, count), dtype=torch.bool), mask.bool()], dim=1)
            causal = torch.ones((width, width), dtype=torch.bool).tril()
            allowed = torch.zeros((size, 1, total, count + total), dtype=torch.bool)
            allowed[:, 0, :, : count + width] = seen[:, None]
            allowed[:, 0, :width, count : count + width] &= causal
            allowed[:, 0, width:, count + width :] = sees
            allowed[:, 0, torch.arange(width), count + torch.arange(width)] = True
            positions = (seen.cumsum(1) - 1).clamp(min=0)[:, count:]
            positions = torch.cat([positions, positions[:, -1:] + depth[None]], dim=1)
            everything = torch.cat([ids, tree_ids.expand(size, -1)], dim=1)
            bias = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
            wanted = [width - 1 if not node.prefix else width + place[node.prefix] for node in nodes]
            out = self.model(
                input_ids=everything, attention_mask=bias, position_ids=positions,
                past_key_values=self._expanded(prefix, size), use_cache=True, logits_to_keep=torch.tensor(wanted),
            )  # fmt: skip
            logprobs = out.logits.log_softmax(-1)
            for row, table in zip(batch, logprobs, strict=True):
                found = [table[n, list(node.following)].numpy() for n, node in enumerate(nodes)]
                scores[row] = choice_scores(paths, nodes, found, end, whole=whole).tolist()
        return scores

    def streamed(self, ids: Sequence[int], new: int) -> list[str]:
        """`generate` in a thread, its text read from a streamer."""
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        settings = {
            "input_ids": torch.tensor([list(ids)]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long),
            "max_new_tokens": new, "do_sample": False, "streamer": streamer, "pad_token_id": self.pad,
        }  # fmt: skip
        thread = threading.Thread(target=self.model.generate, kwargs=settings)
        thread.start()
        text = "".join(streamer)
        thread.join()
        return [text]


class HandLlama:
    """llama.cpp's server core, used as it comes: one with all cores, and one for each core."""

    def __init__(self, file: Path) -> None:
        self.whole = _server(file, 2)
        self.each = [_server(file, 1) for _ in range(2)]
        self.alike = [_server(file, 1, "bf16") for _ in range(2)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        del self.whole, self.each, self.alike

    def one_by_one(self, texts: Sequence[str], new: int) -> list[str]:
        """One request after the other."""
        return [_complete(self.whole, text, new) for text in texts]

    def side_by_side(self, texts: Sequence[str], new: int, *, alike: bool = False) -> list[str]:
        """A single-threaded server on each core, each with two requests at a time. `alike`: with the cache that makes
        an answer the same whatever runs beside it, as kurabe's is."""
        work: queue.SimpleQueue[int] = queue.SimpleQueue()
        for at in range(len(texts)):
            work.put(at)
        answers = [""] * len(texts)

        def run(server: Any) -> None:
            while True:
                try:
                    at = work.get_nowait()
                except queue.Empty:
                    return
                answers[at] = _complete(server, texts[at], new)

        threads = [
            threading.Thread(target=run, args=(server,))
            for server in (self.alike if alike else self.each)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def streamed(self, text: str, new: int) -> list[str]:
        """The pieces as the server's callback gives them."""
        pieces: list[str] = []
        body = {"prompt": text, "max_tokens": new, "temperature": 0.0, "stream": True}
        self.whole.handle_completions(
            body, lambda chunk: pieces.extend(choice["text"] for choice in chunk.get("choices", ()))
        )
        return ["".join(pieces)]


def _server(file: Path, threads: int, cache: str | None = None) -> Any:
    params = xllamacpp.CommonParams()
    if cache is not None:
        params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{cache.upper()}")
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.kv_unified = False
    params.model.path = str(file)
    params.verbosity = -1
    params.n_parallel = 1 if threads > 1 else 2
    params.n_ctx = 2048 * params.n_parallel
    params.cache_ram_mib = 0
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def _complete(server: Any, text: str, new: int) -> str:
    reply = server.handle_completions({"prompt": text, "max_tokens": new, "temperature": 0.0, "cache_prompt": True})
    answer: str = reply["choices"][0]["text"]
    return answer
