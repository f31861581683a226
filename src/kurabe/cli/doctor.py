"""kurabe doctor"""

import json
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kurabe import __version__
from kurabe.cli.main import Command
from kurabe.models.catalog import catalog
from kurabe.models.pull import cache_folder, pulled_path
from kurabe.report.format import size

ENGINES = {
    "llama.cpp": ("xllamacpp", "local"),
    "Transformers": ("transformers", "transformers"),
    "PyTorch": ("torch", "transformers"),
    "wordllama": ("wordllama", None),
    "LightGBM": ("lightgbm", None),
}
# The variables that the providers' own SDKs read. Only whether each is set is ever looked at.
KEYS = (
    "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", "CO_API_KEY", "AZURE_OPENAI_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK", "OPENROUTER_API_KEY", "HF_TOKEN",
)  # fmt: skip


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Show engines, keys, memory and devices.

    Keys are shown by name only, never by value.
    """
    found = examine()
    if as_json:
        click.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    memory, disk = found["memory"], found["disk"]
    console.print(f"[bold]kurabe {found['kurabe']}[/]  Python {found['python']}, {found['system']}")
    console.print(
        f"{found['cores']} cores, {size(memory['total'])} memory ({size(memory['available'])} free), "
        f"{size(disk['free'])} free in the cache folder {escape(found['cache'])}",
        soft_wrap=True,
    )
    for title, rows in (
        ("Engines", [(name, state["version"] or f"[dim]not here: {escape(state['install'])}[/]") for name, state in
                     found["engines"].items()]),
        ("Devices", [(device["name"], device["detail"]) for device in found["devices"]]),
        ("Models", [(name, "fetched" if here else f"[dim]kurabe pull {name}[/]") for name, here in
                    found["models"].items()]),
        ("Keys", [(name, "[green]set[/]" if here else "[dim]not set[/]") for name, here in found["keys"].items()]),
    ):  # fmt: skip
        table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, show_header=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def examine() -> dict[str, Any]:
    """What is here, as plain values; sizes in bytes."""
    memory, cache = psutil.virtual_memory(), cache_folder()
    parent = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return {
        "kurabe": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": {"total": memory.total, "available": memory.available},
        "disk": {"free": shutil.disk_usage(parent).free},
        "cache": str(cache),
        "engines": {name: _engine(package, extra) for name, (package, extra) in ENGINES.items()},
        "devices": _devices(),
        "models": {name: pulled_path(name) is not None for name in catalog()},
        "keys": {name: bool(os.environ.get(name)) for name in KEYS},
    }


def _engine(package: str, extra: str | None) -> dict[str, str | None]:
    try:
        return {"version": version(package), "install": None}
    except PackageNotFoundError:
        return {"version": None, "install": f"pip install 'kurabe[{extra}]'" if extra else f"pip install {package}"}


def _devices() -> list[dict[str, str]]:
    try:
        import xllamacpp
    except ImportError:
        return [{"name": "CPU", "detail": platform.processor() or platform.machine()}]
    return [
        {"name": str(device["name"]), "detail": f"{device['description']}, {size(int(device['memory_total']))}"}
        for device in xllamacpp.get_device_info()
    ]
