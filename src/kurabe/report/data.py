"""The board as data: CSV for spreadsheets, JSON with everything, and each prediction beside the truth."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from kurabe.contest.board import Board, BoardRow
from kurabe.contest.sweeps import sweep_result
from kurabe.report.format import distinct
from kurabe.report.learning import sweep_dict
from kurabe.tasks.checks import labelled

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def to_csv(board: Board) -> str:
    """One line a contestant, best first; empty where a value is unknown, not measured or not defined.

    Columns: rank, rank_range (as `1–3`), contestant, model, status, score, low, high, unread, answered, usd,
    fit_seconds, predictions_per_second, peak_bytes, the second metrics, general_before, general_after, general_p, of
    each check check_NAME, its _low, _high and _rows and either _p or _agreement or neither, reason. Values have their
    full precision.
    """
    second = second_metrics(board)
    records = []
    for row in board.rows:
        low, high = row.interval or (None, None)
        records.append({
            "rank": row.rank, "rank_range": row.rank_range and "{}–{}".format(*row.rank_range),
            "contestant": row.contestant, "model": row.model, "status": row.status,
            "score": row.score, "low": low, "high": high, "unread": row.unread, "answered": row.answered,
            "usd": row.usd, "fit_seconds": row.fit_seconds, "predictions_per_second": row.predictions_per_second,
            "peak_bytes": row.peak_bytes, **{name: row.second.get(name) for name in second},
            "general_before": row.forgetting and row.forgetting.before,
            "general_after": row.forgetting and row.forgetting.after, "general_p": row.forgetting and row.forgetting.p,
            **_checks(board, row), "reason": row.reason,
        })  # fmt: skip
    return csv_text(pl.DataFrame(finite(records), infer_schema_length=None))


def _checks(board: Board, row: BoardRow) -> dict[str, float | None]:
    """The task's further columns of one contestant."""
    values: dict[str, float | None] = {}
    for label, check in labelled(board.evidence.checks):
        found, name = row.checks.get(label), f"check_{label}"
        known = {} if found is None else asdict(found)
        low, high = known.get("interval") or (None, None)
        values |= {name: known.get("value"), f"{name}_low": low, f"{name}_high": high}
        further = "p" if check.format is not None else "agreement" if check.style is not None else None
        values |= {f"{name}_{key}": known.get(key) for key in ("rows", further) if key is not None}
    return values


def to_json(board: Board, indent: int | None = 2) -> str:
    """The object of `Board.to_dict()` and more: second metrics, times, memory, checks, sweeps, tuning, comparisons,
    leaks, run.

    Leaks are places of test rows in the source, from 0. Values that are not finite are null, as JSON has no word for
    them. `p_holm` is the former name of `p_adjusted`.
    """
    evidence, base = board.evidence, board.to_dict()
    found = {entry.name: entry for entry in evidence.entries}
    for row, record in zip(board.rows, base["rows"], strict=True):
        record |= {"answered": row.answered, "peak_bytes": row.peak_bytes, "second": dict(row.second)}
        record["forgetting"] = None if row.forgetting is None else asdict(row.forgetting)
        record["checks"] = {label: asdict(found) for label, found in row.checks.items()}
        result = sweep_result(found[row.contestant], evidence.kind)
        record["sweep"] = None if result is None else sweep_dict(result)
        record["tuning"] = found[row.contestant].notes.get("tuning")
    whole = base | {
        "greater_is_better": board.greater_is_better,
        "run": evidence.run,
        "started": evidence.started,
        "train_rows": evidence.train_rows,
        "test_rows": len(evidence.truth),
        "fallback": evidence.fallback,
        "leaks": {
            "exact": sorted(map(evidence.place, evidence.leaks.exact)),
            "near": sorted(map(evidence.place, evidence.leaks.near)),
        },
        "comparisons": [
            {"a": c.a, "b": c.b, "difference": c.difference, "interval": list(c.interval), "p": c.p,
             "p_adjusted": c.p_adjusted, "p_holm": c.p_adjusted, "rows": c.rows}
            for c in board.comparisons
        ],
    }  # fmt: skip
    return json.dumps(finite(whole), indent=indent, ensure_ascii=False, allow_nan=False)


def predictions_csv(board: Board) -> str:
    """Each test row beside the truth and every contestant's guess, for those who want to analyse on.

    In the order of the source. Columns: row (its place in the source, from 0: in the test file, where the task has one;
    in the test part for runs of the first edition), input, truth, then one a contestant that answered, under its name
    (made unique with `guess: ` and a number where a name is taken). A guess that stands for an unread answer is in the
    column as scored; `unread: NAME` says true there and is present only for contestants with unread answers.
    """
    evidence = board.evidence
    columns: dict[str, pl.Series] = {
        "row": pl.Series([evidence.place(row) for row in range(len(evidence.truth))], dtype=pl.Int64)
    }
    if "input" in evidence.rows.columns:
        columns["input"] = evidence.rows["input"].cast(pl.String)
    columns["truth"] = _guesses(evidence.truth, np.ones(len(evidence.truth), bool))
    for entry in evidence.entries:
        if entry.answered.any():
            name = entry.name if entry.name not in columns else f"guess: {entry.name}"
            columns[_free(name, columns)] = _guesses(entry.guesses, entry.answered)
            if entry.unread.any():
                columns[_free(f"unread: {entry.name}", columns)] = pl.Series(entry.unread, dtype=pl.Boolean)
    return csv_text(pl.DataFrame(columns).sort("row", maintain_order=True))


def csv_text(frame: pl.DataFrame) -> str:
    """A frame as CSV in which no text is a formula to a spreadsheet.

    A text, or a column's name, that begins with `=`, `+`, `-`, `@`, a tab or the end of a line gets an apostrophe
    before it (https://owasp.org/www-community/attacks/CSV_Injection); a plain number such as `-5` stays as it is.
    """
    texts = [name for name, kind in frame.schema.items() if kind in (pl.String, pl.Categorical)]
    safe = frame.with_columns(
        pl.when(
            pl.col(name).cast(pl.String).str.contains(_FORMULA) & ~pl.col(name).cast(pl.String).str.contains(_NUMBER)
        )
        .then("'" + pl.col(name).cast(pl.String))
        .otherwise(pl.col(name).cast(pl.String))
        .alias(name)
        for name in texts
    )
    return safe.rename({name: f"'{name}" for name in frame.columns if re.match(_FORMULA, name)}).write_csv()


def second_metrics(board: Board) -> list[str]:
    """The names of the second metrics, in the order in which rows name them."""
    return list(dict.fromkeys(name for row in board.rows for name in row.second))


def finite(value: Any) -> Any:
    """`value` as plain JSON values: NumPy scalars and tuples unwrapped, NaN and infinities as None."""
    match value:
        case dict():
            return {str(key): finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case np.generic():
            return finite(value.item())
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


def _free(name: str, columns: Iterable[str]) -> str:
    return distinct([*columns, name])[-1]


def _guesses(values: np.ndarray, answered: np.ndarray) -> pl.Series:
    if values.dtype == object:
        return pl.Series([value if there else None for value, there in zip(values, answered, strict=True)],
                         dtype=pl.String)  # fmt: skip
    floats = pl.Series(np.where(answered, values, np.nan), dtype=pl.Float64)
    return floats.fill_nan(None)
