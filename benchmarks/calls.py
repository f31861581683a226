"""What a call of a language model costs in each client, beside each other, against a server that is not the bottleneck.

python benchmarks/calls.py [--peers FOLDER] [--rounds N] [--only NAME ...] [--growth]

Each client runs in a process of its own, pinned to core 1; the server (`_server.py`) is pinned to core 0. Processor
time is user and system time of all threads of the client. Each figure is the median of the rounds, which go through
the clients in turn, so that a slow minute of the machine hits all of them. The peers are installed into environments of
their own under --peers, since they ask for different versions of the same packages. `--growth` instead makes 100,000
calls in one process and prints how much its memory grew.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _machine import header

HERE = Path(__file__).resolve().parent
PEERS = {
    "litellm": "litellm==1.106.2",
    "langchain": "langchain-openai==1.7.3",
    "any-llm": "any-llm-sdk[openai]==1.40.2",
    "pydantic-ai": "pydantic-ai-slim[openai]==2.68.0",
}
CALLS = {
    "bare": 6000,
    "kurabe": 6000,
    "openai": 1200,
    "any-llm": 800,
    "langchain": 800,
    "litellm": 600,
    "pydantic-ai": 400,
}
PACE = 0.25
STREAMS = {"bare": 200, "kurabe": 200}
IMPORTS = {
    "bare": "import pyreqwest.client, msgspec",
    "kurabe": "import kurabe",
    "openai": "import openai",
    "litellm": "import litellm",
    "langchain": "import langchain_openai",
    "any-llm": "import any_llm",
    "pydantic-ai": "import pydantic_ai",
}


@contextmanager
def server() -> Iterator[str]:
    """The server running on core 0; its address."""
    command = ["taskset", "-c", "0", sys.executable, str(HERE / "_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def python_of(name: str, peers: Path) -> str:
    """The Python in whose environment a client lies; made now where there is none."""
    if name not in PEERS:
        return sys.executable
    folder = peers / PEERS[name].split("=")[0].split("[")[0]
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEERS[name]], check=True)
    return str(python)


def caller(name: str, python: str, url: str) -> dict[str, float]:
    command = [python, str(HERE / "_caller.py"), name, url, str(CALLS[name]), str(STREAMS.get(name, 40))]
    done = subprocess.run(["taskset", "-c", "1", *command], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def import_seconds(name: str, python: str) -> float:
    """Wall time of the import in a fresh process, less that of Python itself; the median of five."""

    def wall(code: str) -> float:
        start = time.perf_counter()
        subprocess.run(["taskset", "-c", "1", python, "-c", code], check=True, capture_output=True)
        return time.perf_counter() - start

    wall(IMPORTS[name])
    return statistics.median(wall(IMPORTS[name]) - wall("pass") for _ in range(5))


def compare(peers: Path, rounds: int, only: list[str]) -> None:
    names = [name for name in CALLS if not only or name in only]
    pythons = {name: python_of(name, peers) for name in names}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with server() as url:
        for turn in range(rounds):
            for name in names:
                print(f"  round {turn + 1}: {name}", end="\033[K\r", file=sys.stderr, flush=True)
                figures[name].append(caller(name, pythons[name], url))
    print(header("kurabe", "pyreqwest", "msgspec", "openai"), end="\n\n")
    print("| client | µs/call, 1 | calls/s, 1 | µs/call, 128 | calls/s, 128 | × bare | µs/chunk | import ms | MB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")

    def median(name: str, key: str) -> float:
        return statistics.median(one[key] for one in figures[name])

    for name in names:
        over = median(name, "cpu_128") / median("bare", "cpu_128") if "bare" in names else float("nan")
        print(
            f"| {name} | {median(name, 'cpu_1'):,.0f} | {median(name, 'rate_1'):,.0f} | {median(name, 'cpu_128'):,.0f}"
            f" | {median(name, 'rate_128'):,.0f} | {over:.2f} | {median(name, 'cpu_chunk'):,.1f}"
            f" | {import_seconds(name, pythons[name]) * 1e3:,.0f} | {median(name, 'rss_mb'):,.0f} |"
        )
    if "kurabe" in names:
        late = (first_text() - PACE) * 1e3
        print(
            f"\nThe first text of a stream of an event every {PACE * 1e3:.0f} ms came {late:.1f} ms after it was sent."
        )


def first_text() -> float:
    """Seconds from the call until the first text of a stream: its second event, sent PACE seconds after the first."""
    from kurabe.testing import Simulator

    waits = []
    with Simulator("openai", answer="one two three four", pace=PACE) as simulator:
        model = simulator.open("gpt-4o-mini")
        model.chat("Say something.")
        for _ in range(5):
            start = time.perf_counter()
            stream = model.stream("Say something.")
            next(iter(stream))
            waits.append(time.perf_counter() - start)
            stream.close()
    return statistics.median(waits)


def growth(calls: int) -> None:
    """Print the memory before and after so many calls in this process."""
    import psutil

    from kurabe import open_model

    async def run(url: str) -> None:
        model = open_model("openai:gpt-4o-mini", api_key="test", base_url=url)

        async def work(left: Iterator[int]) -> None:
            for _ in left:
                await model.achat("Say something about foxes.")

        async def many(count: int) -> None:
            left = iter(range(count))
            await asyncio.gather(*(work(left) for _ in range(128)))

        await many(2_000)
        before = psutil.Process().memory_info().rss
        await many(calls)
        after = psutil.Process().memory_info().rss
        print(
            f"{calls:,} calls: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after ({(after - before) / 1e6:+.1f})"
        )

    with server() as url:
        asyncio.run(run(url))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], choices=list(CALLS), metavar="NAME")
    parser.add_argument("--growth", action="store_true")
    arguments = parser.parse_args()
    if arguments.growth:
        growth(100_000)
    else:
        compare(arguments.peers, arguments.rounds, arguments.only)


if __name__ == "__main__":
    main()
