import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kurabe.cli.architecture import command


@pytest.mark.parametrize("width", [80, 120])
def test_the_tree_fits_the_terminal(width: int, smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = CliRunner().invoke(command, [str(smollm2)], catch_exceptions=False).output
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert any("blk 0–29 × 30" in line and "106,202,880" in line for line in lines)
    assert any("attn_k.weight" in line and "192 × 576" in line and "Q4_1" in line for line in lines)
    assert any("✓" in line and "vocabulary in = vocabulary out" in line for line in lines)
    assert ("69.1 kB" in shown) == (width == 120)


def test_json(smollm2: Path) -> None:
    shown = CliRunner().invoke(command, [str(smollm2), "--json"], catch_exceptions=False).output
    found = json.loads(shown)
    assert found["parameters"] == 134_515_008
    assert found["dimensions"]["layers"] == 30
    assert found["tree"][1]["label"] == "blk 0–29"
    assert found["types"]["Q4_1"]["tensors"] == 210
