"""Models in this process, beside plain `generate`, the best loops written by hand, and lm-evaluation-harness.

python benchmarks/local.py [--data FOLDER] [--rows N] [--label-rows N] [--rounds N] [--harness PYTHON]
    [--harness-rows N] [--only TASK]

One model everywhere: SmolLM2-135M-Instruct, its Q4_1 GGUF file for llama.cpp and the same weights dequantized to
float32 for Transformers. The tasks are those of a contest: a number (a fixed prefix of about 150 tokens, prompts of
about 240, 8 new tokens) and one label of 20, on rows of two tables; then a streamed answer. The ways take turns,
and each figure is the median of the rounds. `--harness` is the Python of an environment with lm_eval.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from _by_hand import HandLlama, HandTransformers
from _data import add_data_argument, data_file
from _machine import header

from kurabe import open_model
from kurabe.messages import Message, Request
from kurabe.models.pull import pull

NEW_TOKENS = 8
HARNESS = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
import time, torch
torch.set_num_threads(int(sys.argv[3]))
asked = json.load(open(sys.argv[2]))
model = HFLM(pretrained=sys.argv[1], dtype="float32", device="cpu", batch_size=16)
requests = [
    Instance("loglikelihood", {}, (prompt, label), i)
    for i, (prompt, label) in enumerate((p, l) for p in asked["prompts"] for l in asked["labels"])
]
began = time.perf_counter()
answers = model.loglikelihood(requests, disable_tqdm=True)
print(json.dumps({"seconds": time.perf_counter() - began, "logprobs": [a[0] for a in answers]}))
"""


def number_prompts(folder: Path, count: int) -> list[tuple[Message, ...]]:
    """Conversations with two fixed examples and a product's text to be priced."""
    rows = pl.read_ndjson(data_file(folder, "amazon-prices/items.jsonl"))
    texts, prices = rows["text"].str.slice(0, 330).to_list(), rows["price"].to_list()
    fixed = [Message("system", "You estimate prices of products. Answer with the price in dollars and nothing else.")]
    for row in (-1, -2):
        fixed += [Message("user", texts[row][:150]), Message("assistant", f"{prices[row]:.2f}")]
    return [(*fixed, Message("user", text)) for text in texts[:count]]


def label_prompts(folder: Path, count: int) -> tuple[list[tuple[Message, ...]], list[str]]:
    """Conversations that ask for one of 20 categories, and the categories."""
    rows = pl.read_ndjson(data_file(folder, "flipkart/products.jsonl"))
    labels = sorted(rows["category"].unique().to_list())[:20]
    system = Message("system", f"You classify products. Answer with one of: {', '.join(labels)}.")
    return [(system, Message("user", name)) for name in rows["name"].str.slice(0, 200).to_list()[:count]], labels


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--label-rows", type=int, default=64)
    parser.add_argument("--harness-rows", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--harness")
    parser.add_argument("--only", nargs="*", default=["number", "label", "stream"])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    file = pull("smollm2-135m")
    with tempfile.TemporaryDirectory() as folder:
        hand = HandTransformers.dequantized(file, Path(folder))
        print(header("torch", "transformers", "xllamacpp") + f" · {chosen.threads} threads · {chosen.rounds} rounds\n")
        if "number" in chosen.only:
            number(hand, file, folder, chosen)
        if "label" in chosen.only:
            label(hand, file, folder, chosen)
        if "stream" in chosen.only:
            stream(hand, file, folder, chosen)


def number(hand: HandTransformers, file: Path, folder: str, chosen: argparse.Namespace) -> None:
    """Rows a second of the number task, and whether the answers are those of `generate` row by row."""
    conversations = number_prompts(chosen.data, chosen.rows)
    requests = [Request(messages, max_tokens=NEW_TOKENS, temperature=0.0) for messages in conversations]
    tokens = [hand.tokens(messages) for messages in conversations]
    print(
        f"### Numbers: {len(tokens)} rows of {statistics.mean(map(len, tokens)):.0f} tokens, of which"
        f" {hand.shared(tokens)} are shared; {NEW_TOKENS} new ones\n"
    )
    few = tokens[: max(chosen.rows // 4, 1)]
    with (
        open_model(f"hf:{folder}") as ours, open_model(f"gguf:{file}") as llama,
        open_model(f"gguf:{file}?cache_type=f16") as quick, HandLlama(file) as bare,
    ):  # fmt: skip
        texts = [hand.text(messages) for messages in conversations]
        ways: dict[str, tuple[int, Callable[[], Sequence[str]]]] = {
            "Transformers `generate`, row by row": (len(few), lambda: hand.row_by_row(few, NEW_TOKENS)),
            "Transformers `generate`, batches of 16": (len(few), lambda: hand.batches(few, 16, NEW_TOKENS)),
            "by hand: prefix once, the rest in batches": (
                len(tokens), lambda: hand.shared_prefix(tokens, NEW_TOKENS)),
            "kurabe `hf:`": (len(tokens), lambda: answers(ours, requests)),
            "llama.cpp, one by one with its prompt cache": (
                len(few), lambda: bare.one_by_one(texts[: len(few)], NEW_TOKENS)),
            "by hand: llama.cpp, a server on each core": (len(tokens), lambda: bare.side_by_side(texts, NEW_TOKENS)),
            "by hand: the same, answers apart from their company": (
                len(tokens), lambda: bare.side_by_side(texts, NEW_TOKENS, alike=True)),
            "kurabe `gguf:`": (len(tokens), lambda: answers(llama, requests)),
            "kurabe `gguf:…?cache_type=f16`": (len(tokens), lambda: answers(quick, requests)),
        }  # fmt: skip
        table(ways, chosen.rounds)


def label(hand: HandTransformers, file: Path, folder: str, chosen: argparse.Namespace) -> None:
    """Rows a second of the label task, and how far the log-probabilities are from lm-evaluation-harness's."""
    conversations, labels = label_prompts(chosen.data, chosen.label_rows)
    requests = [Request(messages) for messages in conversations]
    tokens = [hand.tokens(messages) for messages in conversations]
    print(
        f"### Labels: one of {len(labels)}, {len(tokens)} rows of {statistics.mean(map(len, tokens)):.0f} tokens, of"
        f" which {hand.shared(tokens)} are shared\n"
    )
    reference: np.ndarray | None = None
    if chosen.harness:
        prompts = [hand.text(messages) for messages in conversations[: chosen.harness_rows]]
        asked = Path(folder) / "asked.json"
        asked.write_text(json.dumps({"prompts": prompts, "labels": labels}), encoding="utf-8")
        done = subprocess.run(
            [chosen.harness, "-c", HARNESS, folder, str(asked), str(chosen.threads)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout.strip().splitlines()[-1])
        reference = np.array(found["logprobs"]).reshape(len(prompts), len(labels))
        print(f"lm-evaluation-harness: {len(prompts) / found['seconds']:.3f} rows/s ({len(prompts)} rows, batch 16)\n")
    with open_model(f"hf:{folder}") as ours, open_model(f"gguf:{file}") as llama:
        paths = hand.choice_tokens(conversations[0], labels)
        count, few = len(tokens), requests[: len(tokens) // 4]
        ways: dict[str, tuple[int, Callable[[], Any]]] = {
            "by hand: a tree of all label tokens": (count, lambda: hand.label_tree(tokens, paths, whole=True)),
            "kurabe `hf:`, whole": (count, lambda: scores(ours, requests, labels, whole=True)),
            "by hand: tokens that tell labels apart": (count, lambda: hand.label_tree(tokens, paths, whole=False)),
            "kurabe `hf:`": (count, lambda: scores(ours, requests, labels, whole=False)),
            "kurabe `gguf:`, whole": (len(few), lambda: scores(llama, few, labels, whole=True)),
            "kurabe `gguf:`": (count, lambda: scores(llama, requests, labels, whole=False)),
        }
        results = table(ways, chosen.rounds)
    if reference is not None:
        ours_whole = np.array(results["kurabe `hf:`, whole"])[: len(reference)]
        print(f"Largest distance of `hf:` from lm-evaluation-harness: {np.abs(ours_whole - reference).max():.5f}")
        gguf_whole = np.array(results["kurabe `gguf:`, whole"])[: len(reference)]
        print(
            f"Largest distance of `gguf:` (keys and values in bfloat16): {np.abs(gguf_whole - reference).max():.3f}\n"
        )


def stream(hand: HandTransformers, file: Path, folder: str, chosen: argparse.Namespace) -> None:
    """Tokens a second of one streamed answer."""
    request = Request((Message("user", "Tell me a long story about a lighthouse."),), max_tokens=128, temperature=0.0)
    print("### A streamed answer of 128 tokens, tokens a second\n")
    with open_model(f"hf:{folder}") as ours, open_model(f"gguf:{file}") as llama, HandLlama(file) as bare:
        tokens, text = hand.tokens(request.messages), hand.text(request.messages)
        ways: dict[str, tuple[int, Callable[[], Any]]] = {
            "Transformers `generate` with a streamer": (128, lambda: hand.streamed(tokens, 128)),
            "kurabe `hf:`": (128, lambda: streamed(ours, request)),
            "llama.cpp's server, its callback": (128, lambda: bare.streamed(text, 128)),
            "kurabe `gguf:`": (128, lambda: streamed(llama, request)),
        }
        table(ways, chosen.rounds)


def answers(model: Any, requests: Sequence[Request]) -> list[str]:
    """The texts of the replies, in order."""
    found = dict(model.chat_many(requests))
    return [found[i].text for i in range(len(requests))]


def scores(model: Any, requests: Sequence[Request], labels: Sequence[str], *, whole: bool) -> list[list[float]]:
    """The labels' log-probabilities of each request."""
    found = dict(model.score_many(requests, labels, whole=whole))
    return [found[i].tolist() for i in range(len(requests))]


def streamed(model: Any, request: Request) -> list[str]:
    """The text of a streamed answer."""
    return ["".join(delta.text for delta in model.stream(list(request.messages), max_tokens=128, temperature=0.0))]


def table(ways: dict[str, tuple[int, Callable[[], Any]]], rounds: int) -> dict[str, Any]:
    """Print a row for each way: units a second, times the first, and how many results equal those of the first way of
    its kind (`hf` or `gguf`). Returns the results."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, (_, run) in ways.items():
            began = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - began)
    rates = {name: count / statistics.median(seconds[name]) for name, (count, _) in ways.items()}
    first = next(iter(rates.values()))
    print("| way | a second | times the first | same as the first of its engine |\n|---|---:|---:|---:|")
    for name, rate in rates.items():
        same = next(
            other for other in ways if ("llama" in other or "gguf" in other) == ("llama" in name or "gguf" in name)
        )
        if isinstance(results[name][0], str):
            pairs = list(zip(results[name], results[same], strict=False))
            agree = f"{sum(a == b for a, b in pairs)} of {len(pairs)}"
        else:
            agree = ""
        print(f"| {name} | {rate:.2f} | {rate / first:.2f} | {agree} |", flush=True)
    print()
    return results


if __name__ == "__main__":
    main()
