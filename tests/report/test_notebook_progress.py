"""A run followed in a notebook: drawn in a real kernel, and what a cell holds."""

import os
import queue
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from kurabe.contest.observer import Opening, Standing
from kurabe.report.notebook_progress import NotebookProgress, in_notebook

CODE = """
import polars as pl
from kurabe import Task

frame = pl.DataFrame({"text": [f"kettle of {n} litres" for n in range(60)], "price": [float(n) for n in range(60)]})
task = Task.from_frame(frame, target="price", contestants=["constant", "bag_of_words"], folder=FOLDER)
task.compete()
"""


def messages_of(cells: list[str], folder: Path) -> list[list[dict[str, Any]]]:
    """What a kernel sends to the notebook while it runs each cell."""
    manager = KernelManager(kernel_cmd=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder)}
    manager.start_kernel(env=environment)
    try:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        told = [_run(client, code) for code in cells]
        client.stop_channels()
        return told
    finally:
        manager.shutdown_kernel(now=True)


def _run(client: Any, code: str) -> list[dict[str, Any]]:
    asked, messages = client.execute(code), []
    while True:
        try:
            message = client.get_iopub_msg(timeout=120)
        except queue.Empty:
            raise AssertionError("the kernel fell silent") from None
        if message["parent_header"].get("msg_id") != asked:
            continue
        messages.append(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return messages


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:(traitlets|jupyter|ipykernel|zmq)")
def test_a_notebook_s_cell_follows_the_run_and_shows_the_board(tmp_path: Path) -> None:
    (messages,) = messages_of([CODE.replace("FOLDER", repr(str(tmp_path / "run")))], tmp_path)
    errors = [message["content"]["traceback"] for message in messages if message["msg_type"] == "error"]
    assert errors == []
    drawn = [message["content"] for message in messages if message["msg_type"] == "display_data"]
    updates = [message["content"] for message in messages if message["msg_type"] == "update_display_data"]
    assert len(drawn) == 1
    assert {update["transient"]["display_id"] for update in updates} == {drawn[0]["transient"]["display_id"]}
    assert "bag_of_words" in drawn[0]["data"]["text/html"]
    assert "✓" in updates[-2]["data"]["text/html"]
    assert [message for message in messages if message["msg_type"] == "execute_result"] == []  # it stands there already
    result = updates[-1]["data"]
    assert "<svg" in result["text/html"]
    assert "through" not in result["text/html"]  # the running one's footer
    assert "bag_of_words" in result["text/plain"]


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:(traitlets|jupyter|ipykernel|zmq)")
def test_a_board_that_is_shown_in_another_cell_stands_there(tmp_path: Path) -> None:
    code = CODE.replace("FOLDER", repr(str(tmp_path / "run"))).replace("\ntask.compete()", "\nboard = task.compete()")
    first, second = messages_of([code, "board"], tmp_path)
    assert "✓" in [one["content"] for one in first if one["msg_type"] == "update_display_data"][-1]["data"]["text/html"]
    (shown,) = [one["content"] for one in second if one["msg_type"] == "display_data"]
    assert "bag_of_words" in shown["data"]["text/plain"]
    assert [one for one in second if one["msg_type"] == "update_display_data"] == []


def test_a_cell_holds_scores_time_left_and_text_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr("kurabe.report.live.time.monotonic", lambda: next(clock))
    progress = NotebookProgress()
    monkeypatch.setattr(progress, "_draw", lambda: None)
    progress.began(Opening("t", "mae", False, ("a", "<b>"), 100, Path("journal")))
    progress.fitting("a")
    assert "fitting" in progress.html()
    progress.predicted("a", Standing(10, 100, 12.5, (11.0, 14.0)))
    assert "12.5" in progress.html()
    assert "s left" not in progress.html()  # one look says nothing of the speed
    progress.predicted("a", Standing(20, 100))
    assert "20/100" in progress.html()
    assert "12.5" in progress.html()
    assert "s left" in progress.html()
    progress.ended("a", "done", None)
    progress.ended("<b>", "failed", "cannot read <script>")
    progress.fetching("gguf:x", 10, 100)
    progress.note("two rows <i>")
    page = progress.html()
    assert "✓" in page
    assert "&lt;b&gt;" in page
    assert "cannot read &lt;script&gt;" in page
    assert "fetching gguf:x: 10 B of 100 B" in page
    assert "! two rows &lt;i&gt;" in page
