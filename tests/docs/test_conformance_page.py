"""The page about the conformance tests names tests and providers that exist, and leaves none out."""

import re
from pathlib import Path

from kurabe.models.providers import providers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/conformance.md").read_text("utf-8")
TESTS = {path: path.read_text("utf-8") for path in (ROOT / "tests/conformance").glob("test_*.py")}


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    found = {name for text in TESTS.values() for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert named <= found
    for path in re.findall(r"`(tests/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists()


def test_every_format_that_has_tests_has_a_column() -> None:
    header = PAGE.partition("| case |")[2].partition("\n")[0].replace(" ", "_")
    for path in TESTS:
        if path.stem == "test_counts" or "_tuning_" in path.stem:  # of several formats; has a section of its own
            continue
        provider = path.stem.removeprefix("test_").removesuffix("_answers").removesuffix("_pull")
        assert provider.removesuffix("_chat") in header, path.name
    own = {row.protocol for row in providers().values()}
    assert {path.stem.removeprefix("test_") for path in TESTS} >= own - {
        "vertex",
        "anthropic_vertex",
        "anthropic_bedrock",
    }


def test_every_row_is_whole() -> None:
    rows = [line for line in PAGE.partition("`none`:")[0].splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {11}
    notes = set(re.findall(r"[¹²³⁴-⁹][⁰¹²³]?", "".join(rows)))
    assert len(notes) == len(re.findall(r"^\d+\. ", PAGE, re.MULTILINE))
