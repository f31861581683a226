"""A run followed in a terminal: what is drawn, in a real pseudo-terminal too, and lines where nothing can be drawn."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from kurabe.contest.observer import Opening, Standing
from kurabe.report.live import Following
from kurabe.report.live_table import live_lines
from kurabe.report.progress import Progress


def opening(*labels: str, rows: int = 10, **known: float) -> Opening:
    return Opening("prices", "mean_absolute_error", False, labels, rows, Path("journal"), **known)


def drawn(following: Following, width: int = 100, height: int = 23, now: float | None = None) -> list[str]:
    return [line.plain for line in live_lines(following, width, height, following.started + 5 if now is None else now)]


def test_the_board_stands_by_running_score_with_what_is_under_way_and_what_waits() -> None:
    following = Following()
    following.began(opening("slow", "good", "bad", "no key", "later", usd=0.5))
    following.predicted("slow", Standing(3, 10, 20.0, (15.0, 25.0), usd=0.01, spent=0.01))
    following.predicted("good", Standing(10, 10, 10.0, (8.0, 12.0), spent=0.01))
    following.ended("good", "done", None)
    following.predicted("bad", Standing(10, 10, 40.0, (30.0, 50.0), spent=0.01))
    following.ended("bad", "done", None)
    following.ended("no key", "skipped", "no key is set")
    lines = drawn(following)
    assert lines[0] == "prices: mean absolute error, lower is better"
    assert [line.split()[1] for line in lines[3:6]] == ["good", "slow", "bad"]
    good, slow = lines[3], lines[4]
    assert good.startswith("✓")
    assert "10.0" in good
    assert "10/10" in good
    assert slow.startswith("▸")
    assert "3/10" in slow
    assert "├" in slow
    assert "$0.01" in slow
    assert lines[6].split() == ["·", "later"]
    assert lines[7].startswith("–  no key")
    assert lines[7].endswith("  no key is set")
    assert lines[-1].startswith("5.0 s")
    assert "$0.010 of $0.50" in lines[-1]
    assert "23 of 40 rows" in lines[-1]
    assert "3 of 5 contestants through" in lines[-1]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [5, 12, 23])
def test_many_contestants_fit_any_terminal(width: int, height: int) -> None:
    following = Following()
    names = [f"contestant with a long name {n}" for n in range(28)] + ["カタカナ" * 6, "a\x1b[31mb"]
    following.began(opening(*names))
    for n, name in enumerate(names[:20]):
        following.predicted(name, Standing(10, 10, float(n + 1), (n + 0.5, n + 2.0)))
        if n != 15:
            following.ended(name, "done", None)
    following.ended(names[20], "failed", "a reason that is much too long for any line " * 4)
    lines = drawn(following, width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert "\x1b" not in "".join(lines)
    if height > 5:
        assert any(line.startswith("▸") for line in lines)  # who is under way is always shown
        assert any("more" in line for line in lines)


def test_time_left_is_known_from_the_second_look_and_at_once_with_a_limit() -> None:
    following = Following()
    following.began(opening("a", rows=100))
    following.predicted("a", Standing(10, 100, 1.0))
    first = following.rows["a"].first
    assert first is not None
    assert "left" not in drawn(following)[-1]
    following.predicted("a", Standing(30, 100, 1.0))
    assert "7.0 s left" in drawn(following, now=first[0] + 2)[-1]
    limited = Following()
    limited.began(opening("a", minutes=1.0))
    assert "55 s left" in drawn(limited)[-1]


def test_a_download_is_drawn_until_it_ends() -> None:
    following = Following()
    following.began(opening("prompt"))
    following.fetching("gguf:some", 50_000_000, 100_000_000)
    assert any("fetching gguf:some" in line and "50.0 MB of 100 MB" in line for line in drawn(following))
    following.fetching("gguf:some", 100_000_000, 100_000_000)
    assert not any("fetching" in line for line in drawn(following))
    following.fetching("gguf:other", 5, None)
    following.ended("prompt", "skipped", "the download was cut")
    assert not any("fetching" in line for line in drawn(following))


def test_without_a_terminal_each_contestant_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.began(opening("one", "two"))
        progress.note("two rows\nare the same")
        progress.fitting("one")
        progress.predicted("one", Standing(10, 10, 3.0))
        progress.ended("one", "done", None)
        progress.fetching("gguf:some", 0, 10)
        progress.ended("two", "failed", "a\x1b[31mb")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "note: two rows are the same", "one: done", "fetching gguf:some", "two: failed (a[31mb)",
    ]  # fmt: skip


def in_terminal(folder: Path, *arguments: str, **environment: str) -> tuple[str, int]:
    """What a terminal of 100 × 30 gets from a command, and how it ended."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "kurabe", *arguments], cwd=folder, stdin=follower, stdout=follower, stderr=follower,
        env={**kept, "TERM": "xterm-256color", **environment}, close_fds=True,
    )  # fmt: skip
    os.close(follower)
    written, last = b"", time.monotonic() + 120
    while time.monotonic() < last:
        if not select.select([leader], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        written += piece
    os.close(leader)
    return written.decode("utf-8", "replace"), process.wait(timeout=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"{'word ' * (n % 7 + 1)}no. {n},{10 * (n % 7 + 1)}\n" for n in range(200))
    (tmp_path / "items.csv").write_text("text,price\n" + rows)
    (tmp_path / "task.yaml").write_text(
        textwrap.dedent("""
        name: items
        data: {source: items.csv, split: {test: 50, validation: 30}}
        target: price
        kind: number
        contestants: [constant, tfidf_ridge, bag_of_words]
        """)
    )
    return tmp_path


def test_in_a_terminal_the_board_grows_and_the_final_one_takes_its_place(folder: Path) -> None:
    text, code = in_terminal(folder, "run", "task.yaml")
    assert code == 0, text
    assert "▸" in text  # while it ran
    assert "contestants through" in text
    final = text.rpartition("through")[2]
    assert "\x1b[2K" in final  # the lines of the running one are wiped
    for label in ("constant", "tfidf_ridge", "bag_of_words"):
        assert final.count(label) >= 1
    assert "\x1b[?25h" in text  # the cursor is there again


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}])
def test_where_nothing_is_to_be_drawn_there_are_plain_lines(folder: Path, environment: dict[str, str]) -> None:
    text, code = in_terminal(folder, "run", "task.yaml", **environment)
    assert code == 0, text
    assert "constant: done" in text
    assert "▸" not in text
    assert "\x1b[2K" not in text
