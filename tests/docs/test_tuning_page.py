"""The page about tuning tells of every setting, with its default, and of every form of an export."""

import re
from pathlib import Path

import msgspec

from kurabe.tuning.export import FORMS, TYPES
from kurabe.tuning.settings import TuneSettings

PAGE = (Path(__file__).parents[2] / "docs/tuning.md").read_text("utf-8")


def test_every_setting_is_there_with_its_default() -> None:
    section = PAGE.partition("## Tuning on your own machine")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))
    real = {field.name: repr(field.default) for field in msgspec.structs.fields(TuneSettings)}
    real["random_state"] = real.pop("seed")  # as each contestant calls it
    assert told == real


def test_every_form_is_there_with_its_types() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]*) ?\|$", PAGE, re.MULTILINE))
    for form in FORMS:
        told = rows[form].partition("; without")[0]
        assert set(re.findall(r"`(\w+)`", told)) == set(TYPES[form])
