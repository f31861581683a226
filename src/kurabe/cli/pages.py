"""The HTML pages that commands write with --output."""

from pathlib import Path

from kurabe.errors import InputError


def check_page(output: Path | None) -> None:
    """Raises InputError where no page can be written there, before a model is loaded or an answer paid for."""
    if output is None:
        return
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output}: the page is HTML; name a file that ends with .html")
    if not output.parent.is_dir():
        raise InputError(f"{output} cannot be written: there is no folder {output.parent}")
