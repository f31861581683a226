"""The plan of a run: what it takes, what its budget stops, and how small a difference it can show."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console

from kurabe.api import Task
from kurabe.cli.main import cli
from kurabe.contest.plan import smallest_difference
from kurabe.contest.prepare import FOLDER
from kurabe.report.plan import PlanTable

HOSTED = {"prompt": {"model": "openai:gpt-4.1"}}
UNPRICED = {"prompt": {"model": "openai@http://127.0.0.1:9/v1:mine"}}


def make_task(folder: Path, contestants: list[Any], *, rows: int = 300, **options: Any) -> Task:
    generator = np.random.default_rng(0)
    frame = pl.DataFrame({
        "text": [f"a thing of {n} grams, {' '.join(['fine'] * 20)}" for n in range(rows)],
        "price": generator.lognormal(3.0, 1.0, rows).round(2),
        "sort": generator.choice(["a", "b", "c"], rows),
    })  # fmt: skip
    given = {
        "target": "price",
        "kind": "number",
        "input": "{{ text }}",
        "split": {"test": 100},
    } | options
    return Task.from_frame(frame, contestants=contestants, folder=folder, name="things", **given)


def test_a_plan_counts_what_can_run_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    plan = make_task(tmp_path, ["constant", HOSTED, {"human": {"rows": 20}}]).plan()
    assert (plan.train + plan.validation, plan.test, plan.effective_rows) == (200, 100, 100)
    assert [one.rows for one in plan.contestants] == [100, 100, 20]
    assert [one.contestant for one in plan.taking_part] == ["constant", plan.contestants[1].contestant]
    assert plan.calls == 100
    assert plan.usd == plan.contestants[1].usd
    assert plan.usd is not None
    assert plan.usd > 0
    assert plan.sample_difference is None
    assert list(tmp_path.iterdir()) == []
    assert "what a run will take" in repr(plan)


def test_a_sample_of_the_rows_shows_only_larger_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    plan = make_task(tmp_path, ["constant", {"prompt": HOSTED["prompt"] | {"rows": 25}}]).plan()
    assert plan.difference is not None
    assert plan.sample_difference == pytest.approx(2 * plan.difference)
    assert [one.calls for one in plan.contestants] == [100, 25]
    assert "a sample" in repr(plan)


def test_a_few_inputs_that_repeat_make_no_sample(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": [f"thing {n % 60}" for n in range(300)], "price": [float(n) for n in range(300)]})
    task = Task.from_frame(
        frame, target="price", kind="number", contestants=["constant", "linear_features"], folder=tmp_path,
        split={"test": 100},
    )  # fmt: skip
    plan = task.plan()
    assert plan.contestants[0].rows < plan.effective_rows == 100
    assert plan.sample_difference is None


def test_a_plain_terminal_gets_plain_characters(tmp_path: Path) -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=90)
    console.print(PlanTable(make_task(tmp_path, ["constant", "gradient_boosting", {"human": {"rows": 9}}]).plan()))


def test_budgets_stop_what_they_do_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    whole = make_task(tmp_path, ["constant", HOSTED]).plan().usd
    assert whole is not None
    (stop,) = make_task(tmp_path, ["constant", HOSTED], budget={"usd": whole / 2}).plan().stops
    assert "about 50%" in stop
    assert make_task(tmp_path, ["constant", HOSTED], budget={"usd": whole * 2}).plan().stops == ()
    (unknown,) = make_task(tmp_path, [UNPRICED], budget={"usd": 1}).plan().stops
    assert "unknown" in unknown


def test_minutes_leave_out_and_cut_short_what_a_run_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    task = make_task(tmp_path, ["constant", "gradient_boosting", HOSTED], rows=3000)
    assert task.plan(minutes=60).stops == ()
    stops = task.plan(minutes=0.1).stops
    assert any(stop.startswith("gradient_boosting will be left out: needs about") for stop in stops)
    assert not any("constant" in stop for stop in stops)
    (cut,) = make_task(tmp_path, [HOSTED], budget={"minutes": 0.1}).plan().stops
    assert re.search(r"will answer about \d+ of its 100 rows in the 0.1 minutes", cut)


def test_an_unknown_price_makes_the_sum_unknown(tmp_path: Path) -> None:
    plan = make_task(tmp_path, ["constant", UNPRICED]).plan()
    assert plan.usd is None
    assert plan.to_dict()["usd"] is None
    assert "> $0" in repr(plan)


def test_four_times_the_rows_show_half_the_difference(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [{}, {"metric": "rmse"}, {"metric": "r2"}, {"target": "sort", "kind": "label"}]
    for options in cases:
        task = make_task(tmp_path, ["constant"], **options)
        few, many = smallest_difference(task, 100, 1), smallest_difference(task, 400, 1)
        assert few is not None
        assert many is not None
        assert few == pytest.approx(2 * many)
    label = smallest_difference(make_task(tmp_path, ["constant"], target="sort", kind="label"), 100, 1)
    assert label == pytest.approx((1.959964 + 0.841621) * 0.5 / 10)


def test_more_pairs_show_only_larger_differences(tmp_path: Path) -> None:
    task = make_task(tmp_path, ["constant"])
    one, many = smallest_difference(task, 100, 1), smallest_difference(task, 100, 78)
    assert one is not None
    assert many is not None
    assert many > 1.3 * one


def test_copies_of_rows_count_once(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"text": [f"thing {n % 50}" for n in range(300)], "price": [float(n % 50) for n in range(300)]}
    )
    task = Task.from_frame(
        frame, target="price", kind="number", input="{{ text }}", contestants=["constant"], folder=tmp_path,
        split={"test": 100},
    )  # fmt: skip
    plan = task.plan()
    assert plan.effective_rows == task.test.X["input"].n_unique() < 60
    assert plan.contestants[0].rows == plan.effective_rows


def test_the_command_plans_before_and_after_a_run(tmp_path: Path) -> None:
    pl.DataFrame({"text": [f"thing {n}" for n in range(90)], "price": range(90)}).write_csv(tmp_path / "items.csv")
    (tmp_path / "task.yaml").write_text(
        "{name: items, data: {source: items.csv, split: {test: 30}}, input: '{{ text }}', target: price, kind: number,"
        " contestants: [constant, linear_features]}"
    )

    def plan() -> dict[str, Any]:
        result = CliRunner().invoke(cli, ["plan", str(tmp_path), "--json"], catch_exceptions=False)
        assert result.exit_code == 0
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    before = plan()
    assert [one["calls"] for one in before["contestants"]] == [30, 30]
    assert not (tmp_path / FOLDER).exists()
    assert before["difference"] > 0
    assert CliRunner().invoke(cli, ["run", str(tmp_path)], catch_exceptions=False).exit_code == 0
    after = plan()
    assert [one["calls"] for one in after["contestants"]] == [0, 0]
    assert after["seconds"] == 0
    shown = CliRunner().invoke(cli, ["plan", str(tmp_path), "--only", "constant"], catch_exceptions=False)
    assert "items: what a run will take" in shown.stdout
    assert "linear_features" not in shown.stdout


def test_what_is_estimated_is_marked_and_figures_stay_whole_on_a_narrow_terminal(tmp_path: Path, smollm2: Path) -> None:
    local = {"prompt": {"model": f"gguf:{smollm2}"}, "as": "a local model of a long name"}
    plan = make_task(tmp_path, [local, HOSTED]).plan()
    console = Console(width=80, file=(file := io.StringIO()), color_system=None, _environ={})
    console.print(PlanTable(plan))
    lines = file.getvalue().splitlines()
    ours = next(line for line in lines if line.startswith("a local model"))
    other = next(line for line in lines if line.startswith("prompt gpt-4.1"))
    assert f" {plan.contestants[0].input_tokens:,} " in ours
    assert f" ~{plan.contestants[1].input_tokens:,} " in other
    header = next(line for line in lines if line.startswith("contestant"))
    assert header.split() == "contestant rows to ask tokens in tokens out cost time".split()  # noqa: SIM905
    assert not any("…" in line[28:] for line in (ours, other, header))
