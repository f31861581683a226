"""kurabe architecture"""

from collections.abc import Iterator

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.lens.architecture import Architecture, architecture
from kurabe.lens.layers import Node
from kurabe.report.format import count, plain, size

_MARKS = {"ok": "[green]✓[/]", "note": "[yellow]•[/]", "wrong": "[bold red]✗[/]"}
_WIDE = 100


@click.command(cls=Command)
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, as_json: bool) -> None:
    """Show how a model is built.

    Layers, shapes, types and parameters from the header alone, and whether the parts belong together. MODEL is a GGUF
    file, a folder with config.json and .safetensors, or a model that `kurabe pull` fetched. With a config.json alone,
    Transformers builds the model without data.
    """
    found = architecture(model)
    if as_json:
        values = msgspec.to_builtins(found)
        del values["tensors"]  # the tree holds them
        print_json(msgspec.json.encode(values).decode())
        return
    console = Console(highlight=False)
    for part in render(found, console.width):
        console.print(part)


def render(found: Architecture, width: int) -> Iterator[str | Table]:
    """What the terminal shows, from top to bottom."""
    yield (
        f"[bold]{escape(plain(found.name))}[/]  {escape(plain(found.family))}, "
        f"{count(found.parameters, 'parameter')}, {size(found.bytes)} "
        + (f"in {count(found.files, f'{found.format} file')}" if found.files else f"by {found.format} alone")
    )
    yield _sizes(found)
    layers = Table(box=None, pad_edge=False, header_style="dim")
    layers.add_column("\nlayer", overflow="fold")
    layers.add_column("\nshape", justify="right")
    layers.add_column("\ntype")
    layers.add_column("\nparameters", justify="right")
    if width >= _WIDE:
        layers.add_column("\nbytes", justify="right")
    for row in _rows(found.tree, ""):
        layers.add_row(*row[: len(layers.columns)])
    yield layers
    types = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("\nstored as", "\ntensors", "\nparameters", "\nshare", "\nbytes"):
        types.add_column(title, justify="left" if title == "\nstored as" else "right")
    for name, total in found.types.items():
        share = f"{100 * total.parameters / found.parameters:.1f} %" if found.parameters else "–"
        types.add_row(name, f"{total.tensors:,}", f"{total.parameters:,}", share, size(total.bytes))
    yield types
    yield ""
    checks = Table(box=None, pad_edge=False, show_header=False)
    for check in found.checks:
        checks.add_row(_MARKS[check.state], check.name, escape(check.detail))
    yield checks


def _sizes(found: Architecture) -> str:
    sizes = found.dimensions
    facts = [
        count(sizes.layers, "layer"),
        f"hidden {sizes.hidden:,}",
        f"feed-forward {sizes.feed_forward:,}" if sizes.feed_forward else "",
        f"{sizes.heads} heads of {sizes.head_size}" if sizes.heads and sizes.head_size else "",
        f"{sizes.kv_heads} for keys and values" if sizes.kv_heads else "",
        f"{sizes.experts} experts, {sizes.experts_used or '?'} used" if sizes.experts else "",
        f"vocabulary {sizes.vocabulary:,}" + (" (tied)" if found.tied else ""),
        f"context {sizes.context:,}" if sizes.context else "",
    ]
    return ", ".join(fact for fact in facts if fact)


def _rows(nodes: tuple[Node, ...], guide: str, blocks: int = 1) -> Iterator[tuple[str, str, str, str, str]]:
    """The lines of the tree. Inside a folded block the figures are those of one of the `blocks` it stands for."""
    for place, node in enumerate(nodes):
        last = place == len(nodes) - 1
        branch, below = ("└ ", "  ") if last else ("├ ", "│ ")
        label = escape(plain(node.label)) + (f" × {node.repeats}" if node.repeats > 1 else "")
        several = len(node.types) > 1
        yield (
            f"[dim]{guide}{branch}[/]{label}",
            " × ".join(f"{length:,}" for length in node.shape),
            ", ".join(f"{name} × {times}" if several else name for name, times in node.types.items()),
            f"{node.parameters // blocks:,}",
            size(node.bytes // blocks),
        )
        yield from _rows(node.children, guide + below, blocks * node.repeats)
