"""A run followed in a notebook: drawn in a real kernel, and what a cell holds."""

import os
import queue
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from kurabe.report.notebook_progress import NotebookProgress, in_notebook

CODE = """
import polars as pl
from kurabe import Task

frame = pl.DataFrame({"text": [f"kettle of {n} litres" for n in range(60)], "price": [float(n) for n in range(60)]})
task = Task.from_frame(frame, target="price", contestants=["constant", "bag_of_words"], folder=FOLDER)
task.compete()
"""


def messages_of(code: str, folder: Path) -> list[dict[str, Any]]:
    """What a kernel sends to the notebook while it runs `code`."""
    manager = KernelManager(kernel_cmd=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder)}
    manager.start_kernel(env=environment)
    try:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        asked = client.execute(code)
        messages = []
        while True:
            try:
                message = client.get_iopub_msg(timeout=120)
            except queue.Empty:
                raise AssertionError("the kernel fell silent") from None
            if message["parent_header"].get("msg_id") != asked:
                continue
            messages.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                client.stop_channels()
                return messages
    finally:
        manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:(traitlets|jupyter|ipykernel|zmq)")
def test_a_notebook_s_cell_follows_the_run_and_shows_the_board(tmp_path: Path) -> None:
    messages = messages_of(CODE.replace("FOLDER", repr(str(tmp_path / "run"))), tmp_path)
    errors = [message["content"]["traceback"] for message in messages if message["msg_type"] == "error"]
    assert errors == []
    drawn = [message["content"] for message in messages if message["msg_type"] == "display_data"]
    updates = [message["content"] for message in messages if message["msg_type"] == "update_display_data"]
    assert len(drawn) == 1
    assert {update["transient"]["display_id"] for update in updates} == {drawn[0]["transient"]["display_id"]}
    assert "bag_of_words" in drawn[0]["data"]["text/html"]
    assert "✓" in updates[-1]["data"]["text/html"]
    (result,) = [message["content"]["data"] for message in messages if message["msg_type"] == "execute_result"]
    assert "mean absolute error" in result["text/html"]
    assert "bag_of_words" in result["text/plain"]


def test_a_cell_holds_scores_time_left_and_text_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr("kurabe.report.notebook_progress.time.monotonic", lambda: next(clock))
    progress = NotebookProgress()
    monkeypatch.setattr(progress, "_draw", lambda: None)
    progress.began(("a", "<b>"), 100, Path("journal"))
    progress.fitting("a")
    assert "fitting" in progress.html()
    progress.predicted("a", 10, 100, 12.5)
    assert "12.5" in progress.html()
    assert "s left" not in progress.html()  # one look says nothing of the speed
    progress.predicted("a", 20, 100, None)
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
