"""kurabe doctor"""

import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kurabe import __version__
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.errors import InputError
from kurabe.models.files import hub, ollama_store
from kurabe.models.files.catalog import catalog
from kurabe.models.files.downloaded import Downloaded, downloaded
from kurabe.models.files.store import cache_folder, pulled_path
from kurabe.models.hosted import ollama
from kurabe.models.providers import providers
from kurabe.report.format import size

ENGINES = {
    "llama.cpp": ("xllamacpp", "local"),
    "Transformers": ("transformers", "transformers"),
    "PyTorch": ("torch", "transformers"),
    "bitsandbytes": ("bitsandbytes", "transformers"),
    "PEFT": ("peft", "transformers"),
    "sentence-transformers": ("sentence-transformers", "embeddings"),
    "wordllama": ("wordllama", None),
    "LightGBM": ("lightgbm", None),
}
_SECONDS = 5.0


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Show engines, devices, models and keys.

    Keys are shown by name only, never by value.
    """
    found = examine()
    if as_json:
        print_json(json.dumps(found))
        return
    console = Console(highlight=False)
    memory, disk = found["memory"], found["disk"]
    console.print(f"[bold]kurabe {found['kurabe']}[/]  Python {found['python']}, {found['system']}")
    console.print(
        f"{found['cores']} cores, {size(memory['total'])} memory ({size(memory['available'])} free), "
        f"{size(disk['free'])} free in the cache folder {escape(found['cache'])}",
        soft_wrap=True,
    )
    ollama = found["ollama"]
    server = "[green]answers[/]" if ollama["running"] else "[dim]does not answer: ollama serve[/]"
    stores = ", ".join(map(escape, ollama["stores"])) or "[dim]none[/]"
    models = [(escape(model["reference"]), size(model["size"]), model["where"]) for model in found["downloaded"]]
    models += [(name, "", f"[dim]kurabe pull {name}[/]") for name, here in found["models"].items() if not here]
    keys = [(name, "[green]set[/]") for name, here in found["keys"].items() if here]
    unset = len(found["keys"]) - len(keys)
    keys.append((f"[dim]{unset} {'others are' if keys else 'are'} not set: kurabe providers[/]", ""))
    for title, rows in (
        ("Engines", [(name, state["version"] or f"[dim]not here: {escape(state['install'])}[/]") for name, state in
                     found["engines"].items()]),
        ("Devices", [(device["name"], device["detail"]) for device in found["devices"]]),
        ("Ollama", [("server", f"{escape(ollama['address'])} {server}"), ("models in", stores)]),
        ("Models", [*models, ("[dim]the hub's folder[/]", "", f"[dim]{escape(found['hub_cache'])}[/]")]),
        ("Keys", keys),
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
        "downloaded": [model._asdict() for model in _downloaded()],
        "hub_cache": str(hub.cache_folder()),
        "ollama": _ollama(),
        "keys": _keys(),
    }


def _engine(package: str, extra: str | None) -> dict[str, str | None]:
    try:
        return {"version": version(package), "install": None}
    except PackageNotFoundError:
        return {"version": None, "install": f"pip install 'kurabe[{extra}]'" if extra else f"pip install {package}"}


def _downloaded() -> list[Downloaded]:
    """The models on this machine; one that both engines read is named once, for llama.cpp."""
    found = {model.reference.partition(":")[2]: model for engine in ("hf", "gguf") for model in downloaded(engine)}
    return sorted(found.values())


def _ollama() -> dict[str, Any]:
    try:
        address: str = ollama.address()
    except InputError as error:
        address = str(error)
    models = ollama.running()
    return {
        "address": address,
        "running": models is not None,
        "models": [model._asdict() for model in models or ()],
        "stores": [str(store) for store in ollama_store.stores()],
    }


def _keys() -> dict[str, bool]:
    """Whether each variable that providers read is set; the value is not looked at."""
    names = dict.fromkeys(name for provider in providers().values() for name in provider.key)
    return {name: bool(os.environ.get(name)) for name in names}


def _devices() -> list[dict[str, str]]:
    """The processor and the graphics processors, as llama.cpp names them, and else as NVIDIA's driver does."""
    try:
        import xllamacpp
    except ImportError:
        found = [{"name": "CPU", "detail": platform.processor() or platform.machine()}]
    else:
        found = [
            {"name": str(device["name"]), "detail": f"{device['description']}, {size(int(device['memory_total']))}"}
            for device in xllamacpp.get_device_info()
        ]
    return found if len(found) > 1 else found + _nvidia()


def _nvidia() -> list[dict[str, str]]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rpartition(", ") for line in answer.splitlines() if ", " in line]
    return [
        {"name": f"GPU {number}", "detail": f"{name}, {size(int(memory) << 20)}"}
        for number, (name, _, memory) in enumerate(rows)
        if memory.strip().isdigit()
    ]
