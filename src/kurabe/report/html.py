"""The report: one HTML file that opens offline and asks no host for anything.

Charts are Vega-Lite with Vega inlined. Everything that came from outside is escaped by the template or stands in one
JSON block, and a content security policy that names our scripts by their hashes lets no other script run.
"""

import base64
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup, escape

from kurabe.contest.board import Board, BoardRow
from kurabe.contest.evidence import Entry
from kurabe.report import charts, details, learning
from kurabe.report import format as fmt
from kurabe.report.axis import Axis, axis, interval_svg, within_bounds
from kurabe.report.data import finite, second_metrics
from kurabe.report.made_with import made_with
from kurabe.report.notes import direction, notes, stands_for_unread
from kurabe.report.scores import scored, target_column

PICKED = 5
SLICE_CHART = 8
MATRIX = 30
_NAME = 60
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def html_report(board: Board, title: str | None = None, reload: float | None = None) -> str:
    """The whole report of a board as one HTML page. `title` stands at its top, the task's name where None. `reload`:
    after so many seconds a browser loads it again.

    Rows drawn one by one are at most 2,000 and texts at most 300 characters, and the page says where it left some out.
    """
    entries = _answering(board)
    data, specs = _data(board, entries)
    vega, script = _vega(), _asset("report.js")
    return _environment().get_template("report.html.j2").render(
        title=fmt.plain(title or board.evidence.task),
        reload=reload,
        board=board,
        evidence=board.evidence,
        table=_table(board),
        notes=notes(board),
        direction=direction(board),
        metric=fmt.metric(board),
        unread_rule=stands_for_unread(board),
        made_with=made_with(board),
        matrix=_matrix(board),
        sweeps=_sweeps(board),
        unread=details.unread_answers(board.evidence, entries),
        leaks=details.leaked_rows(board.evidence),
        leak_count=len(set(board.evidence.leaks.exact) | set(board.evidence.leaks.near)),
        data=data,
        specs=specs,
        json=_json({"data": data, "specs": specs}),
        vega=Markup(vega),
        script=Markup(script),
        style=Markup(_asset("report.css")),
        hashes=[_hash(vega), _hash(script)],
        fmt=fmt,
        limits=details,
    )  # fmt: skip


def _answering(board: Board) -> list[Entry]:
    """The entries with a score in the order of the board, under names that a page can hold and tell apart."""
    by_name = {entry.name: entry for entry in board.evidence.entries}
    names = _names(board)
    return [
        Entry(**(by_name[row.contestant].__dict__ | {"name": names[row.contestant]}))
        for row in board.rows
        if row.score is not None and row.contestant in by_name
    ]


def _names(board: Board) -> dict[str, str]:
    names = [row.contestant for row in board.rows]
    return dict(
        zip(names, fmt.distinct(fmt.shorten(fmt.plain(name), _NAME) or "(no name)" for name in names), strict=True)
    )


def _data(board: Board, entries: Sequence[Entry]) -> tuple[dict[str, Any], dict[str, charts.Spec]]:
    """The page's JSON: the values of the charts and tables, and the charts' specifications."""
    data: dict[str, Any]
    specs: dict[str, charts.Spec]
    if not entries:
        data, specs = {"contestants": [], "slices": []}, {}
        _learning(board, data, specs)
        return data, specs
    evidence, decimals = board.evidence, fmt.score_places(board)
    parts = [scored(evidence, entry) for entry in entries]
    names = [entry.name for entry in entries]
    metric = fmt.metric(board)
    data = {
        "contestants": names,
        "kind": evidence.kind,
        "greater": board.greater_is_better,
        "accumulated": details.accumulation(evidence, parts, decimals),
        "slices": details.sliced(evidence, parts, decimals),
        "worst": details.worst(evidence, entries, parts),
        "beside": details.side_by_side(evidence, entries),
        "bounds": within_bounds(board, -math.inf, math.inf),
        "sliceChart": SLICE_CHART,
    }
    specs = {}
    if data["accumulated"]:
        domain = details.accumulation_domain(board, data["accumulated"])
        specs["accumulated"] = charts.accumulating(names, names[:PICKED], metric, domain)
    if data["slices"]:
        specs["slices"] = charts.slices(names[:SLICE_CHART], metric)
    if evidence.kind == "number":
        data["points"] = points = details.points(evidence, entries)
        specs["points"] = charts.guess_against_truth(
            points["low"], points["high"], points["log"], target_column(evidence) or "target", len(points["rows"])
        )
    elif evidence.kind == "label":
        data["confusion"] = details.confusions(evidence, entries)
        specs["confusion"] = charts.confusion(data["confusion"]["labels"])
    else:
        data["histograms"] = details.histograms(parts)
        specs["histogram"] = charts.score_histogram(metric)
    if len(entries) > 1:
        _trade_offs(board, data, specs)
    _learning(board, data, specs)
    return data, specs


def _learners(board: Board) -> list[Entry]:
    """The entries that noted how they learned, in the order of the board, whether they have a score yet or not."""
    by_name = {entry.name: entry for entry in board.evidence.entries}
    return [
        Entry(**(by_name[old].__dict__ | {"name": new})) for old, new in _names(board).items() if by_name[old].notes
    ]


def _learning(board: Board, data: dict[str, Any], specs: dict[str, charts.Spec]) -> None:
    """Score against training rows, of sweeps, and loss and score against steps, of tuned models."""
    entries = _learners(board)
    names, metric = [entry.name for entry in entries], fmt.metric(board)
    results = learning.sweeps(board.evidence, entries)
    if curves := learning.curve_points(results):
        data |= {"curves": curves, "trials": learning.trial_points(results)}
        sizes = sorted({point["rows"] for point in [*curves, *data["trials"]]})
        shown = [name for name in names if any(point["contestant"] == name for point in curves)]
        domain = learning.curve_domain(curves, data["trials"], greater_is_better=board.greater_is_better)
        data["beyond"] = list(dict.fromkeys(
            point["contestant"] for point in curves if not domain[0] <= point["score"] <= domain[1]
        ))  # fmt: skip
        specs["curves"] = charts.learning_curves(shown, f"{metric}, validation", domain, sizes)
    if losses := learning.loss_points(entries):
        data |= {"losses": losses, "checked": learning.checked_points(entries)}
        tuned = [name for name in names if any(point["contestant"] == name for point in losses)]
        specs["losses"] = charts.tuning_loss(tuned)
        if data["checked"]:
            specs["checked"] = charts.tuning_score(tuned, metric, max(point["step"] for point in losses))


def _sweeps(board: Board) -> list[dict[str, Any]]:
    """Of each sweep what it chose and its trials, as texts."""
    return [
        {
            "contestant": name, "chose": learning.chose(result), "trials": learning.trial_table(result),
            "gain": learning.last_gain(result, board.greater_is_better), "seconds": fmt.seconds(result.seconds),
            "usd": fmt.dollars(result.usd),
        }
        for name, result in learning.sweeps(board.evidence, _learners(board)).items()
    ]  # fmt: skip


def _trade_offs(board: Board, data: dict[str, Any], specs: dict[str, charts.Spec]) -> None:
    """Score against cost, where somebody's cost is known and not 0, and against speed."""
    names, metric = _names(board), fmt.metric(board)
    rows = [
        BoardRow(**(row.__dict__ | {"contestant": names[row.contestant]}))
        for row in board.rows
        if row.score is not None
    ]
    paid = [row for row in rows if row.usd is not None]
    positive = [row.usd for row in paid if row.usd]
    data["unknownCost"] = [row.contestant for row in rows if row.usd is None]
    if positive:
        least = min(positive)
        free = least / 5  # where the log axis has $0
        values = [row.usd or free for row in paid]
        ticks = [*([free] if free in values else []), *charts.log_ticks(least / 2, max(positive) * 2)]
        words = f"datum.value <= {free * 1.01} ? '$0' : '$' + format(datum.value, '~r')"
        data["cost"] = details.trade_off(board, paid, values, [fmt.dollars(row.usd) for row in paid], less=True)
        domain = details.trade_off_domain(board, data["cost"])
        specs["cost"] = charts.trade_off("cost", "dollars for the whole run", metric, ticks, words, domain, less=True)
    timed = [row for row in rows if row.predictions_per_second]
    if timed:
        values = [row.predictions_per_second or 1.0 for row in timed]
        ticks = charts.log_ticks(min(values) / 2, max(values) * 2)
        data["speed"] = details.trade_off(board, timed, values, [fmt.number(value) for value in values], less=False)
        specs["speed"] = charts.trade_off(
            "speed", "predictions per second", metric, ticks, "format(datum.value, '~s')",
            details.trade_off_domain(board, data["speed"]), less=False,
        )  # fmt: skip


def _table(board: Board) -> dict[str, Any]:
    """The board's table as texts, ready for the template."""
    scale = axis(board) or Axis(0.0, 1.0)
    decimals = fmt.score_places(board)
    second = second_metrics(board)
    places = {name: fmt.column_places(row.second.get(name) for row in board.rows) for name in second}
    checks = fmt.check_decimals(board)
    names = _names(board)
    best = min((row.rank for row in board.rows if row.rank is not None), default=None)
    rows = [
        {
            "rank": fmt.rank(row), "contestant": _breakable(names[row.contestant]),
            "best": row.rank == best and best,
            "model": fmt.redact(fmt.plain(row.model or "")),
            "bar": Markup(interval_svg(row.score, row.interval, scale)),  # numbers only
            "score": fmt.number(row.score, decimals), "interval": fmt.interval(row.interval, decimals),
            "second": [fmt.number(row.second.get(name), places[name]) for name in second], "unread": row.unread,
            "cost": fmt.dollars(row.usd), "fit": fmt.seconds(row.fit_seconds),
            "rate": fmt.number(row.predictions_per_second), "memory": fmt.size(row.peak_bytes),
            "general": fmt.general(row), "status": row.status,
            "checks": [(fmt.check_value(row.checks.get(label), d), fmt.check_rest(row.checks.get(label), d))
                       for label, d in checks.items()],
            "reason": fmt.shorten(fmt.redact(fmt.plain(row.reason or "")), 500), "scored": row.score is not None,
        }
        for row in board.rows
    ]  # fmt: skip
    return {
        "rows": [row for row in rows if row["scored"]],
        "unscored": [row for row in rows if not row["scored"]],
        "second": [fmt.metric_short(name) for name in second], "general": any(row.forgetting for row in board.rows),
        "checks": [fmt.check_title(label) for label in checks],
        "low": fmt.number(scale.low, decimals), "high": fmt.number(scale.high, decimals),
    }  # fmt: skip


def _breakable(name: str) -> Markup:
    """`name`, escaped, which may break after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _matrix(board: Board) -> dict[str, Any] | None:
    """The paired tests as a square: how the row's contestant stands against the column's."""
    if not board.comparisons:
        return None
    names = _names(board)
    tested = {name for c in board.comparisons for name in (c.a, c.b)}
    order = [row.contestant for row in board.rows if row.contestant in tested][:MATRIX]
    found = {(c.a, c.b): (c.difference, c) for c in board.comparisons}
    found |= {(c.b, c.a): (-c.difference, c) for c in board.comparisons}
    decimals = fmt.score_places(board)
    lines = []
    for a in order:
        cells: list[dict[str, str] | None] = []
        for b in order:
            if (a, b) not in found:
                cells.append(None)
                continue
            difference, test = found[a, b]
            better = (difference > 0) == board.greater_is_better
            verdict = "same" if not test.p_adjusted < 0.05 else ("better" if better else "worse")
            sign = "+" if difference > 0 else ""
            cells.append({
                "verdict": verdict, "difference": sign + fmt.number(difference, decimals).replace("-", "−"),
                "p": fmt.p_value(test.p_adjusted), "rows": f"{test.rows:,}",
            })  # fmt: skip
        lines.append({"contestant": names[a], "cells": cells})
    return {"names": [names[name] for name in order], "lines": lines, "left_out": len(tested) - len(order)}


def _json(value: Any) -> Markup:
    """`value` as JSON that is safe inside a script element: no `<`, `>` or `&` stands in it."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("\r\n", "\n")


@functools.cache
def _asset(name: str) -> str:
    return resources.files("kurabe.report").joinpath(name).read_text("utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kurabe", "report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
