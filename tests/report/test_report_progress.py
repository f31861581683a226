import io
from pathlib import Path

import pytest
from rich.console import Console

from kurabe.report.progress import Progress


class Watched(Progress):
    """Progress as on a terminal, kept in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.written = io.StringIO()
        self._console.file = self.written
        for bars in (self._bars, self._downloads):
            bars.live.console = Console(file=self.written, force_terminal=True, width=160)

    def drawn(self) -> str:
        """What was drawn since the last call, and what stands there now."""
        for bars in (self._bars, self._downloads):
            if bars.live.is_started:
                bars.refresh()
        text = self.written.getvalue()
        self.written.seek(0)
        self.written.truncate()
        return text


@pytest.fixture
def progress() -> Watched:
    return Watched()


def test_a_reason_is_text_whatever_it_holds(progress: Watched) -> None:
    with progress:
        progress.began(("a[/b]",), 10, Path("journal"))
        progress.fitting("a[/b]")
        progress.predicted("a[/b]", 4, 10, 12.5)
        assert "4/10" in progress.drawn()
        progress.ended("a[/b]", "failed", "cannot read [/srv/x]\x1b[31m [bold]")
        said = progress.drawn()
        progress.note("see [/srv/x] \\[y]")
    assert "a[/b]" in said
    assert "cannot read [/srv/x][31m [bold]" in said
    assert "! see [/srv/x] \\[y]" in progress.drawn()


@pytest.mark.parametrize("total", [100, None])
@pytest.mark.parametrize("done", [40, 100])
def test_bars_go_on_after_a_download_however_it_ended(progress: Watched, done: int, total: int | None) -> None:
    with progress:
        progress.began(("prompt",), 10, Path("journal"))
        progress.fetching("gguf:some[/model]", done, total)
        if total is None or done < total:
            assert "fetching gguf:some[/model]" in progress.drawn()
        progress.ended("prompt", "skipped", "the download was cut")
        said = progress.drawn()
    assert "the download was cut" in said
    assert "fetching" not in said.rpartition("the download was cut")[2]


def test_a_download_by_itself_draws_no_bars(progress: Watched) -> None:
    with progress:
        progress.fetching("gguf:some", 50, 100)
        assert "fetching gguf:some" in progress.drawn()
        progress.fetching("gguf:some", 100, 100)
        progress.drawn()
        assert progress.drawn() == ""


def test_without_a_terminal_each_contestant_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=False) as progress:
        progress.began(("one", "two"), 10, Path("journal"))
        progress.note("two rows\nare the same")
        progress.fitting("one")
        progress.predicted("one", 10, 10, 3.0)
        progress.ended("one", "done", None)
        progress.fetching("gguf:some", 0, 10)
        progress.ended("two", "failed", "a\x1b[31mb")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "note: two rows are the same", "one: done", "fetching gguf:some", "two: failed (a[31mb)",
    ]  # fmt: skip


def test_a_contestant_of_an_earlier_run_stands_as_whole(progress: Watched) -> None:
    with progress:
        progress.began(("a",), 1200, Path("journal"))
        progress.ended("a", "done", None)
        assert "1,200/1,200" in progress.drawn()
