"""Tables that some benchmarks need and that this repository may not pass on, and where to get them."""

import argparse
from pathlib import Path

DEFAULT = Path(__file__).resolve().parent / "data"
SOURCES = {
    "amazon-prices/items.jsonl": (
        "text, price: product texts and prices in US$ from Amazon Reviews 2023, item metadata"
        " (McAuley-Lab/Amazon-Reviews-2023 on the Hugging Face hub)"
    ),
    "wine/wines.jsonl": (
        "title, variety, country, province, region, winery, points, description, price: Wine Enthusiast reviews of 2017"
        " (zynicide/wine-reviews on Kaggle; CC BY-NC-SA 4.0)"
    ),
    "flipkart/products.jsonl": (
        "name, category: product names and first-level categories from the Flipkart sample"
        " (PromptCloudHQ/flipkart-products on Kaggle; CC BY-SA 4.0)"
    ),
}


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--data FOLDER`, and say in the help which files it must hold and where they come from."""
    parser.add_argument("--data", type=Path, default=DEFAULT, metavar="FOLDER", help="default: benchmarks/data")
    files = "\n".join(f"  {name}\n      {columns}" for name, columns in SOURCES.items())
    parser.epilog = f"FOLDER holds tables that this repository may not pass on, one JSON object a line:\n{files}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def data_file(folder: Path, name: str) -> Path:
    """The path of a table. Ends the program with a message that says where to get the table if it is missing."""
    if not (path := folder / name).exists():
        raise SystemExit(f"{path} is missing. It holds {SOURCES[name]}. Or name another folder with --data.")
    return path
