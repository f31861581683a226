"""kurabe similar: the heatmap, the page and the JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kurabe.cli import similar as module
from kurabe.cli.main import cli
from kurabe.cli.similar import heatmap
from kurabe.errors import KurabeError
from kurabe.lens.similar import similar
from kurabe.report.charts import label_sides
from kurabe.report.html import _vega
from kurabe.report.similar import MOST, similar_html

NINE = """Best travel neck pillow for long flights
New releases in fiction literature

Stainless steel cookware set for induction cooktops
Lightweight backpack for hiking and travel
Inspiring biographies and memoirs
High-quality set of chef's knives
Waterproof duffel bag for outdoor adventures
Top self-help books for personal growth
High-performance stand mixer for baking
"""


def call(*args: str | Path, text: str | bytes = "", columns: int = 120) -> Result:
    return CliRunner().invoke(cli, ["similar", *map(str, args)], input=text, env={"COLUMNS": str(columns)})


@pytest.mark.parametrize("columns", [80, 120])
def test_nine_lines_of_a_file(tmp_path: Path, columns: int) -> None:
    (tmp_path / "nine.txt").write_text("\ufeff" + NINE.replace("\n", "\r\n"), "utf-8")
    result = call(tmp_path / "nine.txt", columns=columns)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("9 texts in 3 clusters by wordllama:256, silhouette 0.18")
    heads = [line for line in lines if line.endswith("(3)")]
    assert [head[:2] for head in heads] == ["1 ", "2 ", "3 "]
    rows = [line for line in lines if re.match(r" {3}\d ", line)]
    assert len(rows) == 9
    cells = [[int(cell) for cell in row.split()[-9:]] for row in rows]
    assert [cells[i][i] for i in range(9)] == [100] * 9
    assert all(cells[i][j] == cells[j][i] for i in range(9) for j in range(9))
    assert max(map(len, lines)) <= columns


def test_json_of_arguments_and_of_standard_input() -> None:
    lines = [line for line in NINE.splitlines() if line]
    given = json.loads(call(*lines, "--json").stdout)
    piped = json.loads(call("-", "--json", text=NINE).stdout)
    assert given == piped
    assert given["texts"] == lines
    assert sorted(sorted(cluster["members"]) for cluster in given["clusters"]) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert len(json.loads(call(*lines, "--clusters", "4", "--json").stdout)["clusters"]) == 4


def test_where_there_is_no_room_some_are_shown() -> None:
    found = similar([f"a text about {n} {'cats' if n % 2 else 'the tax of houses'}" for n in range(90)])
    for width in (40, 80, 240):
        for marks in (False, True):
            text = heatmap(found, width, marks=marks)
            assert max(line.cell_len for line in text.split("\n")) <= width
            assert ("are shown, at even distances" in text.plain) == (width < 240)
            assert ("█" in text.plain) == marks


def data_of(page: str) -> dict[str, dict[str, list[list[float]]]]:
    block = re.search(r'<script type="application/json" id="kurabe">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    loaded: dict[str, dict[str, list[list[float]]]] = json.loads(block[1])
    return loaded


def test_the_page_is_one_file_that_asks_no_host(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    result = call(*[line for line in NINE.splitlines() if line], evil, "--output", path)
    assert result.exit_code == 0, result.output
    page = path.read_text("utf-8")
    assert evil not in page
    ours = page.replace(_vega(), "")  # which has addresses of its own, and asks none of them
    assert len(page) - len(ours) > 500_000
    for part in ("<img", ' src="', "href=", "http:", "https:", "url("):
        assert part not in ours
    assert "default-src 'none'" in page
    data = data_of(page)
    assert set(data["specs"]) == {"heatmap", "map"}
    assert len(data["data"]["points"]) == 10
    assert [row[i] for i, row in enumerate(data["data"]["similarities"])] == [1.0] * 10
    assert "$schema" not in json.dumps(data["specs"])


def test_names_on_the_map_cover_each_other_nowhere() -> None:
    found = similar([f"{word} wine" for word in ("red", "white", "dry", "sweet", "old")])
    data: Any = data_of(similar_html(found))
    points = data["data"]["points"]
    assert all(point["side"] in ("right", "left", "above", "below", "") for point in points)
    assert points[0]["side"] == "right"
    same = [(100.0, 100.0)] * 5
    assert label_sides(same, ["abc"] * 5, 900) == ["right", "left", "above", "below", ""]
    assert label_sides([(0, 0), (0, 8)], ["a long name", "b"], 900) == ["right", "left"]


def test_a_page_of_many_texts_says_what_it_leaves_out() -> None:
    found = similar([f"text {n} about {'cats' if n % 3 else 'the sea'}" for n in range(MOST + 80)])
    page = similar_html(found)
    data = data_of(page)["data"]
    assert (len(data["rows"]), len(data["similarities"]), len(data["points"])) == (MOST, MOST, MOST + 80)
    assert f"Drawn: {MOST} of {MOST + 80} texts" in page


@pytest.mark.parametrize(
    ("args", "text", "says"),
    [
        (("nowhere.txt",), "", "no file 'nowhere.txt'"),
        (("-",), b"a\n\xff\n", "- is not UTF-8"),
        (("-",), "one\n", "you gave one"),
        (("a", "b", "-o", "page.pdf"), "", "page is HTML"),
        (("a", "b", "--clusters", "3"), "", "2 texts make 1 to 2 clusters"),
        (("a", "b", "--model", "wordllama:1"), "", "no embedding model wordllama '1'"),
        (("x" * 5000,), "", "cannot be read"),
    ],
)
def test_bad_input(args: tuple[str, ...], text: str | bytes, says: str) -> None:
    result = call(*args, text=text)
    assert isinstance(result.exception, KurabeError)
    assert says in str(result.exception)


def test_columns_of_tables_and_more_texts_than_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id,title,kind\n" + "".join(f"{n},item number {n},k\n" for n in range(30)), "utf-8")
    assert json.loads(call(path, "--json").stdout)["texts"][3] == "item number 3"
    assert json.loads(call(path, "--json", "--column", "id").stdout)["texts"][3] == "3"
    assert "did you mean 'kind'" in str(call(path, "--column", "kinds").exception)
    assert "--column is that of one file" in str(call("a", "b", "--column", "x").exception)
    monkeypatch.setattr(module, "MOST", 10)
    result = call(path, "--json")
    assert len(json.loads(result.stdout)["texts"]) == 10
    assert json.loads(result.stdout)["texts"][-1] == "item number 29"
    assert "10 of 30 texts are compared" in result.stderr
