"""Every Python example of docs/lens.md runs as it is written, and every public name of the lens has its page."""

import re
from pathlib import Path
from typing import Any

import pytest

import kurabe.lens

PAGE = Path(__file__).parents[2] / "docs" / "lens.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_examples_run_as_written(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").symlink_to(smollm2)
    names: dict[str, Any] = {"__name__": "page"}
    for number, example in enumerate(EXAMPLES, 1):
        exec(compile(example, f"example {number} of {PAGE.name}", "exec"), names)
    assert capsys.readouterr().out.startswith("Once upon")
    assert len(EXAMPLES) == 6
    assert len(names["found"].cells) == 2  # of the last one, compare


def test_the_functions_of_the_lens_are_documented_and_stand_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert kurabe.lens.__all__ == sorted(kurabe.lens.__all__)
    for name in kurabe.lens.__all__:
        assert getattr(kurabe.lens, name).__doc__, name
        assert name[0].isupper() or re.search(rf"\b{name}\b", page), name
