"""Notes of another form than kurabe writes, as in a journal of a stranger's, spoil no board and no report."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.contest.test_journal import ENTRY, entry, inputs, record

from kurabe.contest.board import compute_board
from kurabe.contest.journal import Journal, Row
from kurabe.contest.notes import readable
from kurabe.errors import JournalError
from kurabe.report.html import html_report
from kurabe.report.markdown import markdown

ROWS = 40
TRIAL = {"settings": {"by": 1.0}, "state": "done", "rows": [10, 20], "checked": [5, 5], "scores": [2.0, 1.0],
         "reason": None}  # fmt: skip
NOTES: dict[str, Any] = {
    "usd": 0.5,
    "decode": "free",
    "tuning": {"losses": [2.0, 1.0, float("nan")], "scores": [[1, 0.5], [2, 0.75]], "usd": 0.25, "model": "m"},
    "sweep": {
        "contestant": "ridge", "over": ["by"], "trials": [TRIAL, {**TRIAL, "state": "failed", "reason": "it broke"}],
        "chosen": 0, "metric": "mean_absolute_error", "truth": [1.0, 2.0, 3.0],
        "curve": [{"rows": 10, "guesses": [1.0, 1.0, 1.0]}, {"rows": 20, "guesses": [1.0, 2.0, 2.0]}],
        "stopped": None, "seconds": 1.0,
    },
    "general": {"before": {"right": [True, False], "nats": [1.0]}, "after": {"right": [True, True], "nats": [2.0]}},
    "unfinished_seconds": 3.0,
}  # fmt: skip
OTHER: tuple[Any, ...] = (None, "x", "\x1b[31mred", -1, 10**400, 1e308, True, [], {}, [[1]], [None, "y"], float("nan"))


def places(value: Any) -> Iterator[list[Any]]:
    """The way to each value within."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield [key]
        yield from ([key, *rest] for rest in places(value[key]))


def changed(draw: random.Random) -> dict[str, Any]:
    notes = copy.deepcopy(NOTES)
    for _ in range(draw.randrange(1, 3)):
        *way, last = draw.choice(list(places(notes)))
        inner: Any = notes
        for key in way:
            inner = inner[key]
        inner[last] = draw.choice(OTHER)
    return notes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.begin(record(ROWS))
        journal.record_entry("prices-1", entry())
        journal.add(ENTRY, [Row(key, float(n)) for n, key in enumerate(inputs(ROWS))], 0.5)
    return path


def test_notes_of_the_right_form_are_kept() -> None:
    kept = readable(copy.deepcopy(NOTES))
    assert json.dumps(kept) == json.dumps(NOTES)
    assert readable(["no", "notes"]) == {}


def test_changed_notes_spoil_no_board_and_no_report(path: Path) -> None:
    draw = random.Random(5)
    left_out = 0
    for attempt in range(60):
        notes = changed(draw)
        with Journal(path) as journal:
            journal.record_fit(ENTRY, 1.0, notes)
            assert journal.spent([ENTRY])[0] >= 0
            board = compute_board(journal.evidence("prices-1"))
        assert markdown(board)
        if attempt < 8:
            assert html_report(board)
        left_out += len(notes) - len(board.evidence.entries[0].notes)
    assert left_out > 20


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5_000])
def test_notes_that_are_no_json_are_one_message(path: Path, text: str) -> None:
    with Journal(path) as journal:
        journal._put("measurements", ENTRY, 1.0, 1, text)
        for read in (
            lambda: journal.notes(ENTRY),
            lambda: journal.spent([ENTRY]),
            lambda: journal.evidence("prices-1"),
        ):
            with pytest.raises(JournalError, match="can't be read; move it away"):
                read()


@pytest.mark.parametrize("losses", ['"abc"', '{"a": 1}', '["x"]', "null", "[" * 100_000])
def test_a_checkpoint_with_other_notes_spoils_no_report(path: Path, losses: str) -> None:
    folder = path.parent / "tuned" / ENTRY.hex()
    folder.mkdir(parents=True)
    kept = '{"notes": {"scores": [], "losses": ' + losses + "}}"
    save_file({"a": np.zeros(1)}, folder / "checkpoint.safetensors", metadata={"kurabe": kept})
    with Journal(path) as journal:
        board = compute_board(journal.evidence("prices-1"))
    assert board.evidence.entries[0].notes == {}
    assert html_report(board)
