"""The memory that `kurabe memory` estimates for the engines, beside the most that a process took.

    python benchmarks/memory.py [SUBSTRING ...]

Each configuration runs in a process of its own: SmolLM2-135M is loaded and every sequence's context filled. Measured is
its resident memory at its highest, looked at 20 times a second, in which a page that the process maps twice is one page
and one that it shares with other processes counts in full; of Transformers, which maps nothing twice, the peak that
Linux keeps (VmHWM). Linux only. With words, only the
configurations whose reference holds one of them.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from _machine import header

from kurabe.lens.memory import engine_of
from kurabe.messages import Request, User
from kurabe.models import open_model
from kurabe.models.engines.base import LocalModel
from kurabe.models.pull import pull

REFERENCES: Final = (
    "gguf:smollm2-135m?context=512",
    "gguf:smollm2-135m?context=4096",
    "gguf:smollm2-135m?context=4096&cache_type=q8_0",
    "hf:smollm2-135m?context=512&batch=2&dtype=float32",
    "hf:smollm2-135m?context=4096&batch=2&dtype=float32",
    "hf:smollm2-135m?context=512&batch=2&dtype=bfloat16",
    "hf:smollm2-135m?context=4096&batch=2&dtype=bfloat16",
    "hf:smollm2-135m?context=512&batch=2&quantize=nf4",
    "hf:smollm2-135m?context=4096&batch=2&quantize=nf4",
)
ANSWER: Final = 8


def fill(reference: str) -> None:
    """Load the model and fill the context of every sequence; then wait to be looked at."""
    with open_model(reference) as model:
        assert isinstance(model, LocalModel)
        context, rows = model.context, model.concurrency
        assert context
        assert rows
        # Texts that begin alike would be kept once.
        texts = [f"{number} " + "hello world " * context for number in range(10, 10 + rows)]
        ratio = model.count_tokens(texts[0]) / len(texts[0])
        length = int((context - 64) / ratio)
        requests = [Request(messages=(User(text[:length]),), max_tokens=ANSWER) for text in texts]
        used = [reply.usage.input for _, reply in model.chat_many(requests)]
        assert min(used) > 0.8 * context, f"prompts of {used} tokens do not fill a context of {context}"
        print("filled", flush=True)
        sys.stdin.read()


def measured(reference: str) -> int:
    """The most bytes that a process with the model took."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--fill", reference],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    peak, said = 0, ""
    while not said and child.poll() is None:
        peak = max(peak, resident(child.pid))
        said = child.stdout.readline()
        time.sleep(0.05)
    if child.poll() is not None:
        raise SystemExit(f"{reference} ended with {child.returncode}")
    peak = _highest(child.pid) if reference.startswith("hf:") else max(peak, resident(child.pid))
    child.communicate("")
    return peak


def resident(pid: int) -> int:
    """Bytes of a process in memory. The same part of a file counts once, however often it is mapped."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0
    anonymous = 0
    files: dict[tuple[str, ...], int] = {}
    at: tuple[str, ...] = ()
    rss = 0
    for line in lines:
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):  # "address permissions offset device inode path" begins a mapping
            _, offset, device, inode = rest.split()[:4]
            at = (device, inode, offset)
        elif name == "Rss:":
            rss = int(rest.split()[0])
        elif name == "Anonymous:":
            own = int(rest.split()[0])
            anonymous += own
            files[at] = max(files.get(at, 0), rss - own)
    return 1024 * (anonymous + sum(files.values()))


def _highest(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    if sys.argv[1:2] == ["--fill"]:
        fill(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="SUBSTRING")
    words = parser.parse_args().words or [""]
    pull("smollm2-135m")
    print(header("xllamacpp", "torch", "transformers", "bitsandbytes"), end="\n\n", flush=True)
    print("| configuration | weights | keys and values | the rest | estimate | measured | error |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for reference in (reference for reference in REFERENCES if any(word in reference for word in words)):
        need = engine_of(reference)
        peak = measured(reference)
        parts = (need.weights, need.cache, need.total - need.weights - need.cache, need.total, peak)
        cells = " | ".join(f"{size / 1e6:,.0f} MB" for size in parts)
        print(f"| `{reference}` | {cells} | {need.total / peak - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
