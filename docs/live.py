"""Make live.svg: the board of examples/computers in the middle of a real run, once a language model has answered rows.

`python docs/live.py`; the run takes a minute or two.
"""

import shutil
import tempfile
import time
from pathlib import Path

from rich.console import Group

from kurabe.api import Task
from kurabe.contest.observer import Standing
from kurabe.contest.run import run
from kurabe.report.live import Following
from kurabe.report.live_table import live_lines
from kurabe.report.terminal import SVG_WIDTH, picture

DOCS = Path(__file__).parent
EXAMPLE = DOCS.parent / "examples" / "computers"
ANSWERED = 40


class Camera(Following):
    """Follows a run and takes one picture of it."""

    svg = ""

    def note(self, text: str) -> None:
        """Notes are not in the picture."""

    def predicted(self, label: str, standing: Standing) -> None:
        """Take the picture when the first language model has answered so many rows."""
        super().predicted(label, standing)
        if not self.svg and label.startswith("prompt") and ANSWERED <= standing.done < standing.total:
            lines = live_lines(self, SVG_WIDTH, 40, time.monotonic())
            self.svg = picture(Group(*lines), "kurabe run examples/computers")


def main() -> None:
    """Run the example in a folder of its own and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "computers"
        shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns(".kurabe"))
        camera = Camera()
        run(Task.from_file(copy / "task.yaml"), observer=camera)
        if not camera.svg:
            raise SystemExit("no language model answered, so there is no picture; fetch it: kurabe pull smollm2-135m")
        (DOCS / "live.svg").write_text(camera.svg, "utf-8")


if __name__ == "__main__":
    main()
