import base64
import hashlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import Board
from kurabe.contest.evidence import Entry, Evidence
from kurabe.report import format as fmt
from kurabe.report.axis import within_bounds
from kurabe.report.html import html_report
from kurabe.report.made_with import made_with
from kurabe.tasks.metrics import metric_for

NAMES = ("number", "label", "text", "every_status", "nothing_ran", "one")
VOID = {"meta", "br", "wbr", "line", "circle", "path", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: elements with their attributes, the text outside of scripts, scripts and tables as texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.visible: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.visible.append(data)
            if self.rows and ("td" in self.open or "th" in self.open):
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.visible).split())

    @property
    def island(self) -> Any:
        place = [attrs.get("type") for tag, attrs in self.elements if tag == "script"].index("application/json")
        return json.loads(self.scripts[place])


@pytest.fixture(scope="module")
def pages(boards: dict[str, Board]) -> dict[str, str]:
    return {name: html_report(boards[name]) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_well_formed_and_refers_to_nothing_outside(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert page.open == []
    for tag, attrs in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "href", "srcset", "action", "onerror", "onload", "onclick"} & attrs.keys()
    ours = re.sub(r"<script>.*?</script>", "", pages[name], flags=re.DOTALL)
    assert "http:" not in ours
    assert "https:" not in ours
    assert "url(" not in ours
    assert "@import" not in ours
    assert len(pages[name].encode()) < 6_000_000


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_headings_point_at_elements_that_are_there(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pointed = [attrs[key] for _, attrs in page.elements for key in ("aria-labelledby", "for") if key in attrs]
    assert set(pointed) <= set(ids)
    charts = [attrs for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in charts)
    drawn = {str(attrs["id"]).removeprefix("chart-") for attrs in charts}
    assert drawn == set(page.island["specs"])


@pytest.mark.parametrize("name", NAMES)
def test_the_table_holds_the_boards_scores_in_its_order(
    boards: dict[str, Board], pages: dict[str, str], name: str
) -> None:
    board = boards[name]
    scored = [row for row in board.rows if row.score is not None]
    rows = [row for row in Page(pages[name]).rows if len(row) > 6 and re.fullmatch(r"\d+(–\d+)?|–", row[0])]
    rows = rows[: len(scored)]
    decimals = fmt.score_places(board)
    assert [row[0] for row in rows] == [fmt.rank(row) for row in scored]
    assert [row[2] for row in rows] == [fmt.number(row.score, decimals) for row in scored]
    assert [row[4] for row in rows] == [fmt.interval(row.interval, decimals) for row in scored]
    for row in board.rows:
        assert fmt.plain(row.contestant)[:40] in Page(pages[name]).text
    assert len(Page(pages[name]).island["data"]["contestants"]) == len(scored)


def test_what_is_hostile_stays_text(pages: dict[str, str], hostile: str) -> None:
    text = pages["every_status"]
    page = Page(text)
    kinds = [attrs.get("type") for tag, attrs in page.elements if tag == "script"]
    assert kinds == ["application/json", None, None]
    assert "alert(1)" not in page.scripts[1] + page.scripts[2]
    assert "<script>alert" not in text
    assert "<img" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "\x1b" not in text
    assert "49" not in [cell for row in page.rows for cell in row]  # {{ 7*7 }} is not worked out
    assert fmt.plain(hostile)[:40] in page.text
    assert any(fmt.plain(hostile)[:40] in shown for shown in page.island["data"]["points"]["input"])
    block = re.search(r'<script type="application/json".*?</script>', text, re.DOTALL)
    assert block
    assert not re.search(r"[<>&]", block[0].split(">", 1)[1].removesuffix("</script>"))


def test_only_our_scripts_may_run(pages: dict[str, str]) -> None:
    page = Page(pages["every_status"])
    policy = next(str(a["content"]) for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    scripts = dict(part.split(" ", 1) for part in policy.split("; "))["script-src"].split()
    found = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]]
    assert scripts == [f"'sha256-{digest}'" for digest in found]


def test_paths_and_secrets_are_left_out(
    boards: dict[str, Board], make_board: Callable[[Evidence], Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "key-1234567890")
    evidence = boards["every_status"].evidence
    entries = list(evidence.entries)
    entries[9] = Entry(**(entries[9].__dict__ | {"reason": "refused: key-1234567890 at /srv/data/keys.txt"}))
    entries[0] = Entry(**(entries[0].__dict__ | {"model": "gguf:/srv/models/some.gguf"}))
    page = html_report(make_board(Evidence(**(evidence.__dict__ | {"entries": tuple(entries)}))))
    assert "key-1234567890" not in page
    assert "/srv/" not in page
    assert "…/some.gguf" in page
    assert "…/keys.txt" in page


def test_notes_facts_leaks_and_unread_answers_are_there(pages: dict[str, str]) -> None:
    text = Page(pages["every_status"]).text
    for part in (
        "3 test rows (1.2 %) also stand in the training part",
        "Test rows that also stand in the training part",
        "Answers that could not be read",
        "prompt_3_nearest: 3 answers",
        "skipped linear: no answers yet",
        "Started 2026-11-21 05:18 UTC",
        "Run 20261121-051803-k3f9",
        "Cost unknown, so not shown: prompt_3_nearest",
        "How to read this",
    ):
        assert part in text, part
    assert "No contestant cost money." in Page(pages["number"]).text
    assert "No contestant has a score." in Page(pages["nothing_ran"]).text
    assert Page(pages["nothing_ran"]).island == {"data": {"contestants": [], "slices": []}, "specs": {}}


def test_the_matrix_says_who_is_better(boards: dict[str, Board], pages: dict[str, str]) -> None:
    board = boards["number"]
    page = Page(pages["number"])
    lines = {row[0]: row for row in page.rows if len(row) == len(board.rows) + 1 and row[0]}
    order = [row.contestant for row in board.rows]
    assert list(lines) == order
    for comparison in board.comparisons:
        cell = lines[comparison.a][order.index(comparison.b) + 1]
        assert fmt.p_value(comparison.p_adjusted) in cell
        expected = "≈" if comparison.p_adjusted >= 0.05 else ("▲" if comparison.difference < 0 else "▼")
        assert cell.startswith(expected)
        mirrored = lines[comparison.b][order.index(comparison.a) + 1][0]
        assert mirrored == {"≈": "≈", "▲": "▼", "▼": "▲"}[expected]


def test_points_and_worst_rows_are_the_evidences(boards: dict[str, Board], pages: dict[str, str]) -> None:
    evidence, data = boards["number"].evidence, Page(pages["number"]).island["data"]
    assert data["points"]["log"] is True
    assert data["points"]["truth"] == pytest.approx(evidence.truth.tolist(), rel=1e-5)
    for entry in evidence.entries:
        assert data["points"]["guesses"][entry.name] == pytest.approx(entry.guesses.tolist(), rel=1e-5)
        error = np.abs(entry.guesses - evidence.truth)
        assert [row["row"] - 1 for row in data["worst"][entry.name]][:3] == np.argsort(-error)[:3].tolist()
        last = [record for record in data["accumulated"] if record["contestant"] == entry.name][-1]
        assert last["n"] == len(evidence.truth)
        assert last["score"] == pytest.approx(error.mean(), rel=1e-5)


def test_confusions_count_every_answer(boards: dict[str, Board], pages: dict[str, str]) -> None:
    evidence, data = boards["label"].evidence, Page(pages["label"]).island["data"]
    labels = data["confusion"]["labels"]
    for entry in evidence.entries:
        counts = np.array(data["confusion"]["counts"][entry.name]).reshape(len(labels), len(labels))
        assert counts.sum() == len(evidence.truth)
        assert np.trace(counts) == (entry.guesses == evidence.truth).sum()


def test_many_labels_are_put_together(make_board: Callable[[Evidence], Board], boards: dict[str, Board]) -> None:
    base = boards["label"].evidence
    n = len(base.truth)
    truth = np.array([f"label {i % 60}" for i in range(n)], dtype=object)
    entry = Entry(**(base.entries[0].__dict__ | {"guesses": np.roll(truth, 1)}))
    evidence = Evidence(**(base.__dict__ | {"truth": truth, "entries": (entry,)}))
    page = Page(html_report(make_board(evidence)))
    assert len(page.island["data"]["confusion"]["labels"]) == 20
    assert sum(page.island["data"]["confusion"]["counts"][entry.name]) == n
    assert "The 41 rarest labels are put together." in page.text


def test_labels_that_look_alike_stay_apart(make_board: Callable[[Evidence], Board], boards: dict[str, Board]) -> None:
    base = boards["label"].evidence
    n = len(base.truth)
    names = ["a", "a (2)", "a\x00", "(all others)"]
    truth = np.array([names[i % 4] for i in range(n)], dtype=object)
    guesses = truth.copy()
    guesses[0] = "never seen"
    entry = Entry(**(base.entries[0].__dict__ | {"guesses": guesses}))
    rows = base.rows.with_columns(pl.Series("category", truth.tolist()))
    evidence = Evidence(**(base.__dict__ | {"truth": truth, "entries": (entry,), "rows": rows}))
    data = Page(html_report(make_board(evidence))).island["data"]
    labels = data["confusion"]["labels"]
    assert len(labels) == len(set(labels)) == 5
    counts = np.array(data["confusion"]["counts"][entry.name]).reshape(5, 5)
    assert counts.sum(axis=1).tolist() == [n / 4] * 4 + [0]
    assert counts.trace() == n - 1
    slices = next(slicing for slicing in data["slices"] if slicing["column"] == "category")
    assert len(set(slices["labels"])) == 4


def test_histograms_hold_every_row(boards: dict[str, Board], pages: dict[str, str]) -> None:
    data = Page(pages["text"]).island["data"]
    assert {name: sum(counts) for name, counts in data["histograms"].items()} == {
        entry.name: len(boards["text"].evidence.truth) for entry in boards["text"].evidence.entries
    }


def test_the_rows_stand_side_by_side(boards: dict[str, Board], pages: dict[str, str]) -> None:
    for name in ("number", "label", "text"):
        beside = Page(pages[name]).island["data"]["beside"]
        evidence = boards[name].evidence
        assert beside["of"] == len(evidence.truth)
        assert len(beside["rows"]) == min(beside["of"], 1000)
        assert len(beside["contestants"]) == min(8, sum(row.score is not None for row in boards[name].rows))
        best = next(entry for entry in evidence.entries if entry.name == boards[name].rows[0].contestant)
        losses = beside["losses"][beside["contestants"][0]]
        metric = metric_for(evidence.metric, evidence.kind)
        assert losses[0] == pytest.approx(float(metric.row_loss(evidence.truth, best.guesses)[0]), rel=1e-5)


def test_the_page_says_what_it_was_made_with(make_board: Callable[[Evidence], Board], boards: dict[str, Board]) -> None:
    first = boards["number"].evidence.entries[0]
    spec = {
        "data": {"source": "items.csv", "split": {"test": 0.2, "seed": 7}},
        "target": "price",
        "kind": "number",
        "input": "{{ title }}\n{{ text }}",
        "prompt": {"system": "You estimate <b>prices</b>."},
        "contestants": [{"tfidf_ridge": {"alpha": 3, "analyzer": "char"}, "as": first.name}],
        "budget": {"usd": 5.0, "minutes": None},
        "run": {"seed": 11, "file": "my prices.yaml"},
    }
    text = Page(html_report(make_board(replace(boards["number"].evidence, spec=spec)))).text
    for said in (
        "Data source items.csv", "Split test 0.2", "Seed of the split 7", "{{ title }} {{ text }}",
        "You estimate <b>prices</b>.",
        "Seed of the run 11", "alpha 3, analyzer char", "Budget usd 5.0",
        *(entry.name for entry in boards["number"].evidence.entries),
        "Report written by kurabe", "kurabe predict 'my prices.yaml' \"a text\"", "board.winner.predict",
        'Task.from_file("my prices.yaml", seed=7).compete(seed=11)',
    ):  # fmt: skip
        assert said in text


def test_the_lines_to_copy_fit_a_task_made_in_python_and_an_old_journal(
    make_board: Callable[[Evidence], Board], boards: dict[str, Board]
) -> None:
    def use(spec: dict[str, Any]) -> list[str]:
        return made_with(make_board(replace(boards["number"].evidence, spec=spec))).use

    in_python = use({"data": {"source": "frame"}, "run": {"seed": 0, "file": None}})
    assert len(in_python) == 1
    assert "task.compete()" in in_python[0]
    assert "task.yaml" not in in_python[0]
    assert use({"data": {"train": "frame", "test": "frame"}}) == in_python
    assert use({"data": {"source": "items.csv"}, "input": "{{ title }}"})[0] == 'kurabe predict task.yaml "a text"'
    assert use({"data": {"source": "items.csv"}})[0] == "kurabe predict task.yaml --file new.csv"  # several columns


def test_axes_keep_to_what_a_score_can_be(boards: dict[str, Board]) -> None:
    for name in ("number", "label", "text"):
        board = boards[name]
        low, high = within_bounds(board, -5.0, 5.0)
        assert (low, high) == ((0.0, 5.0) if name == "number" else (0.0, 1.0))


def test_slices_leave_numbers_of_rows_out_and_open_on_a_column_that_says_something(
    make_board: Callable[[Evidence], Board], boards: dict[str, Board]
) -> None:
    evidence = boards["number"].evidence
    n = len(evidence.truth)
    codes = [f"title {max(i, 20)}" for i in range(n)]
    rows = pl.DataFrame({"id": range(n), "code": codes}).hstack(evidence.rows)
    page = Page(html_report(make_board(replace(evidence, rows=rows))))
    columns = [slicing["column"] for slicing in page.island["data"]["slices"]]
    assert "id" not in columns
    assert columns[0] != "code"


def test_a_big_board_is_sampled_small_and_quick(many_rows: Board) -> None:
    start = time.process_time()
    page = html_report(many_rows)
    assert time.process_time() - start < 10
    assert len(page.encode()) < 6_000_000
    assert "Drawn: 2,000 of 100,000 rows" in Page(page).text


def test_odd_columns_do_no_harm(make_board: Callable[[Evidence], Board], boards: dict[str, Board]) -> None:
    base = boards["one"].evidence
    n = len(base.truth)
    rows = base.rows.with_columns(
        pl.Series("all missing", [None] * n, dtype=pl.Float64), pl.Series("nan", [float("nan")] * n),
        pl.Series("list", [[1, 2]] * n), pl.Series("one value", ["x"] * n),
        pl.Series("id", [f"id{i}" for i in range(n)]),
        pl.date_range(pl.date(2026, 1, 1), pl.date(2026, 1, 1) + pl.duration(days=n - 1), eager=True).alias("day"),
        pl.Series("half missing", [None if i % 2 else float(i) for i in range(n)]),
        pl.Series("infinite", [float("inf") if i % 3 else float(i) for i in range(n)]),
    )  # fmt: skip
    page = Page(html_report(make_board(Evidence(**(base.__dict__ | {"rows": rows})))))
    columns = {slicing["column"]: slicing for slicing in page.island["data"]["slices"]}
    assert {"price", "day", "half missing", "used", "length of the input (characters)"} <= columns.keys()
    assert not {"all missing", "nan", "list", "one value", "id", "input"} & columns.keys()
    assert columns["day"]["labels"][0] == "up to 2026-02-19"
    assert columns["half missing"]["labels"][-1] == "missing"
    assert columns["half missing"]["sizes"][-1] == n // 2
    assert all(sum(slicing["sizes"]) == n for slicing in columns.values())


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(page: str, folder: Path) -> tuple[str, list[str], list[str]]:
    """The page's DOM without scripts once it is drawn, what its console says, and the addresses it asked for.

    No name is resolved, so that neither the page nor the browser itself reaches a host.
    """
    file, log = folder / "report.html", folder / "net.json"
    file.write_text(page, encoding="utf-8")
    switches = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=20000 --dump-dom"
    )
    private = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command = [str(CHROMIUM), *switches.split(), *private, file.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    dom = re.sub(r"<script.*?</script>", "", done.stdout.decode(), flags=re.DOTALL)
    console = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line and "WARN" not in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    by_page = [event for event in events if event.get("initiator", "not an origin") != "not an origin"]
    return dom, console, [event["url"] for event in by_page if event.get("url", "").startswith("http")]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("name", ["number", "label", "text", "every_status"])
def test_a_browser_draws_every_chart_and_asks_no_host(pages: dict[str, str], name: str, tmp_path: Path) -> None:
    dom, console, asked = browse(pages[name], tmp_path)
    drawn = set(re.findall(r'id="chart-(\w+)"[^>]*>\s*<svg', dom))
    assert drawn == set(Page(pages[name]).island["specs"])
    assert "could not be drawn" not in dom
    assert console == []
    assert asked == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_labels_that_are_words_of_its_language(
    make_board: Callable[[Evidence], Board], boards: dict[str, Board], tmp_path: Path
) -> None:
    base = boards["label"].evidence
    labels = ["constructor", "toString", "a\"b'c\\d", "x.y[0]", "' + alert(1) + '"]
    truth = np.array([labels[i % 5] for i in range(len(base.truth))], dtype=object)
    entries = tuple(Entry(**(e.__dict__ | {"guesses": np.roll(truth, i)})) for i, e in enumerate(base.entries[:2]))
    rows = base.rows.with_columns(pl.Series("category", truth.tolist()))
    changed = {"truth": truth, "entries": entries, "rows": rows}
    page = html_report(make_board(Evidence(**(base.__dict__ | changed))))
    dom, console, _ = browse(page, tmp_path)
    assert set(re.findall(r'id="chart-(\w+)"[^>]*>\s*<svg', dom)) == set(Page(page).island["specs"])
    assert console == []


def test_every_name_is_a_key_of_what_the_script_looks_up(
    make_board: Callable[[Evidence], Board], boards: dict[str, Board]
) -> None:
    """What has no key of its own is looked up in JavaScript's prototype, which knows a `constructor`."""
    base = boards["number"].evidence
    names = ["__proto__", "constructor", "toString"]
    entries = tuple(Entry(**(e.__dict__ | {"name": n})) for e, n in zip(base.entries[:3], names, strict=True))
    data = Page(html_report(make_board(Evidence(**(base.__dict__ | {"entries": entries}))))).island["data"]
    for looked_up in (data["points"]["guesses"], data["points"]["unread"], data["worst"], data["slices"][0]["rows"]):
        assert sorted(looked_up) == sorted(names)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_page_that_asks_a_host_or_runs_another_script_would_be_seen(pages: dict[str, str], tmp_path: Path) -> None:
    added = '<img src="http://somewhere.invalid/a.png"><script>document.title = "owned"</script></body>'
    dom, console, _ = browse(pages["one"].replace("</body>", added), tmp_path)
    assert "<title>prices" in dom
    refused = [line for line in console if "Content Security Policy" in line]
    assert any("somewhere.invalid" in line for line in refused)
    assert any("script-src" in line for line in refused)
    (tmp_path / "open").mkdir()
    _, _, asked = browse(f"<!doctype html><body>{added}", tmp_path / "open")
    assert "http://somewhere.invalid/a.png" in asked
