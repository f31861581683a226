"""kurabe memory"""

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.lens.memory import LORA_RANK, USABLE, Device, Memory, memory
from kurabe.models.weights.footprint import GPU_CONTEXT_BYTES
from kurabe.report.format import count, plain, size


@click.command(cls=Command)
@click.argument("model", metavar="MODEL|SIZE")
@click.option("--context", type=click.IntRange(1), help="Tokens of a sequence.  [default: 4096, or the model's]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Sequences at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, context: int | None, batch: int, as_json: bool) -> None:
    """Estimate the memory that a model takes.

    To run it in every precision and to tune it, and what fits this machine and common GPUs. MODEL is what
    `kurabe architecture` takes; with `gguf:` or `hf:` in front and options, kurabe's own engine is estimated as well. A
    SIZE is a number of parameters such as 7B, 176B or 135M.
    """
    found = memory(model, context=context, batch=batch)
    if as_json:
        print_json(msgspec.json.encode(_values(found)).decode())
        return
    console = Console(highlight=False)
    name = escape(plain(found.reference))
    console.print(f"[bold]{name}[/]  {count(found.parameters, 'parameter')}, from {escape(plain(found.basis))}")
    cache = f"KV cache {size(found.cache_per_token)} a token"
    console.print(f"{count(found.batch, 'sequence')} of {found.context:,} tokens; {cache}\n")
    console.print(_running(found))
    console.print()
    console.print(_tuning(found))
    console.print()
    console.print(_devices(found.devices))
    console.print(
        f"[dim]Estimates; 1 GB is 10⁹ bytes. A line with 'engine' is kurabe's own as the reference sets it, at its"
        f" highest, loading included; the others are llama.cpp's. LoRA of rank {LORA_RANK} on every linear layer. A"
        f" device fits where {100 * USABLE:.0f} % of its memory suffice, on a GPU after {size(GPU_CONTEXT_BYTES)} for"
        " CUDA itself.[/]"
    )


def _values(found: Memory) -> object:
    """The estimate as plain values, with the totals."""
    values = msgspec.to_builtins(found)
    for title, needs in (("run", found.run), ("tune", found.tune)):
        values[title] = [msgspec.to_builtins(need) | {"total": need.total} for need in needs]
    return values


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _running(found: Memory) -> Table:
    table = _table("to run in", "bits", "weights", "KV cache", "steps", "engine", "total")
    for need in found.run:
        bits = f"{need.bits:.2f}" if need.bits is not None else ""
        parts = (need.weights, need.cache, need.activations, need.overhead)
        table.add_row(need.name, bits, *map(size, parts), f"[bold]{size(need.total)}[/]")
    return table


def _tuning(found: Memory) -> Table:
    table = _table("to tune", "weights", "gradients", "AdamW", "steps", "total")
    for need in found.tune:
        parts = (need.weights, need.gradients, need.optimizer, need.activations)
        table.add_row(need.name, *map(size, parts), f"[bold]{size(need.total)}[/]")
    return table


def _devices(devices: tuple[Device, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("what fits")
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("runs in")
    table.add_column("tunes by")
    for device in devices:
        runs = f"[green]{device.runs}[/]" if device.runs else "[red]nothing[/]"
        table.add_row(escape(plain(device.name)), size(device.bytes), runs, ", ".join(device.tunes) or "[dim]–[/]")
    return table
