"""Tuning beside trl's SFTTrainer: the same model, adapters, rows, steps and learning rates, in one run.

python benchmarks/tuning.py MODEL_FOLDER --trl PYTHON [--data FOLDER] [--steps N] [--rows N] [--rounds N] [--threads N]

MODEL_FOLDER holds SmolLM2-135M-Instruct in float32; PYTHON is that of an environment with trl. Rows are product texts
with their prices, of 200 to 300 tokens; four a step, rank 16 on all linear layers. Each way runs in
a process of its own, in turns; speed is the median over its steps, the first one left out, and memory the peak of its
resident set. trl learns the new line that the chat template puts behind an answer too; so does ours here.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _data import add_data_argument, data_file
from _machine import header

ROLES = ("system", "user", "assistant")
SYSTEM = "You estimate prices of products. Answer with the price in dollars and nothing else."

COMMON = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
import torch
way, folder, rows_file, steps, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(threads)
asked = json.load(open(rows_file))
def done(seconds, losses):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    speeds = [sum(asked["tokens"][4 * n : 4 * n + 4]) / taken for n, taken in enumerate(seconds)]
    print("RESULT" + json.dumps({"speeds": speeds, "losses": losses, "peak": peak}))
"""

TRL = (
    COMMON
    + """
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer
class Clock(TrainerCallback):
    def __init__(self): self.at, self.seconds, self.losses = None, [], []
    def on_step_begin(self, *a, **k): self.at = time.perf_counter()
    def on_step_end(self, *a, **k): self.seconds.append(time.perf_counter() - self.at)
    def on_log(self, args, state, control, logs=None, **k):
        if logs and "loss" in logs: self.losses.append(float(logs["loss"]))
data = Dataset.from_list([
    {"prompt": [{"role": "system", "content": asked["system"]}, {"role": "user", "content": t}],
     "completion": [{"role": "assistant", "content": p}]} for t, p in asked["rows"]])
options = {"gradient_checkpointing": False} if way == "unchecked" else {}
config = SFTConfig(output_dir=rows_file + way, per_device_train_batch_size=4, max_steps=steps, learning_rate=2e-4,
    lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0, logging_steps=1, report_to=[],
    save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True, max_length=1024, seed=0, **options)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
clock = Clock()
trainer = SFTTrainer(model=model, args=config, train_dataset=data,
    processing_class=AutoTokenizer.from_pretrained(folder),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"), callbacks=[clock])
trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(data)
trainer.train()
done(clock.seconds, clock.losses)
"""
)

OURS = (
    COMMON
    + """
import tempfile
from pathlib import Path
from kurabe import open_model
from kurabe.messages import Request, System, User
from kurabe.tuning import train as loop
from kurabe.tuning.rows import micro_batches, training_row
from kurabe.tuning.settings import TuneSettings
base = open_model(f"hf:{folder}")
newline = [piece.id for piece in base.tokenize("\\n", special=False)]
rows = [training_row(base, Request((System(asked["system"]), User(t))), p, 1024) for t, p in asked["rows"]]
rows = [row._replace(ids=(*row.ids, *newline)) for row in rows]
settings = TuneSettings(schedule="constant", warmup=0.0, max_steps=steps)
model = loop.attach(base.loaded.model, settings)
def in_order(rows, *, micro_tokens, **_):
    lengths = [len(row.ids) for row in rows]
    return [micro_batches(range(4 * n, 4 * n + 4), lengths, micro_tokens) for n in range(len(rows) // 4)]
loop.plan = in_order
seconds, losses = [], []
with tempfile.TemporaryDirectory() as kept:
    for step in loop.train(model, rows, settings, Path(kept), pad=base.end):
        seconds.append(step.seconds), losses.append(step.loss)
done(seconds, losses)
"""
)

WAYS = {
    "trl's SFTTrainer, its defaults": ("defaults", TRL),
    "trl's SFTTrainer, no gradient checkpointing": ("unchecked", TRL),
    "kurabe": ("ours", OURS),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("model")
    parser.add_argument("--trl", required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    rows: list[tuple[str, str]] = []
    tokens: list[int] = []
    products = data_file(chosen.data, "amazon-prices/items.jsonl").read_text(encoding="utf-8")
    for line in map(json.loads, products.splitlines()):
        row = (line["text"], f"{line['price']:.2f}")
        chat = [{"role": role, "content": text} for role, text in zip(ROLES, (SYSTEM, *row), strict=True)]
        length = len(tokenizer(tokenizer.apply_chat_template(chat, tokenize=False))["input_ids"])
        if 200 <= length <= 300 and len(rows) < 4 * chosen.steps:
            rows.append(row)
            tokens.append(length)
    found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        file.write_text(json.dumps({"system": SYSTEM, "rows": rows, "tokens": tokens}), encoding="utf-8")
        for _ in range(chosen.rounds):
            for name, (way, code) in WAYS.items():
                python = chosen.trl if code is TRL else sys.executable
                done = subprocess.run(
                    [python, "-c", code, way, chosen.model, str(file), str(chosen.steps), str(chosen.threads)],
                    capture_output=True, text=True,
                )  # fmt: skip
                results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
                if not results:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
                found[name].append(json.loads(results[-1].removeprefix("RESULT")))
    print(header("torch", "transformers", "peft") + f" · {chosen.threads} threads · {chosen.rounds} rounds\n")
    print(f"{len(rows)} rows of {statistics.mean(tokens):.0f} tokens, {chosen.steps} steps\n")
    print("| way | tokens/s | peak, GB | loss of each step |\n|---|---:|---:|---|")
    for name, rounds in found.items():
        speed = statistics.median(speed for one in rounds for speed in one["speeds"][1:])
        peak = max(float(one["peak"]) for one in rounds)  # type: ignore[arg-type]
        losses = " ".join(f"{loss:.3f}" for loss in rounds[-1]["losses"])
        print(f"| {name} | {speed:.0f} | {peak:.2f} | {losses} |")


if __name__ == "__main__":
    main()
