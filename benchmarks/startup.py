"""How long `kurabe --help` and `import kurabe` take, beside a bare click program and bare Python, in one run.

python benchmarks/startup.py [ROUNDS]

The programs take turns, so that a slow moment of the machine meets all of them; medians of wall time are compared.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from _machine import header

CLICK = """
import click

@click.group()
def cli():
    "A bare click program."

@cli.command()
@click.option("--name", help="A name.")
def hello(name):
    "Say hello."

cli()
"""


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=21, metavar="ROUNDS")
    rounds = parser.parse_args().rounds
    with TemporaryDirectory() as folder:
        bare = Path(folder, "bare.py")
        bare.write_text(CLICK)
        kurabe = Path(sys.executable).with_name("kurabe")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import kurabe'": [sys.executable, "-c", "import kurabe"],
            "bare click program --help": [sys.executable, str(bare), "--help"],
            "kurabe --help": [str(kurabe), "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(rounds + 1):
            for name, command in commands.items():
                taken = seconds(command)
                if round_:  # the first round warms the disk's cache
                    times[name].append(taken)
    median = {name: statistics.median(taken) * 1000 for name, taken in times.items()}
    print(header())
    print(f"\nMedian of {rounds} runs each, taking turns.\n\n| program | ms |\n|---|---|")
    for name, milliseconds in median.items():
        print(f"| `{name}` | {milliseconds:.0f} |")
    ratio = median["kurabe --help"] / median["bare click program --help"]
    over = median["python -c 'import kurabe'"] - median["python -c pass"]
    print(f"\n`kurabe --help` takes {ratio:.2f} × the bare click program (wanted: at most 1.5 ×).")
    print(f"`import kurabe` takes {over:.0f} ms over bare Python (wanted: at most 100 ms).")


if __name__ == "__main__":
    main()
