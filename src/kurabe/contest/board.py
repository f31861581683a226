"""The board: what a contest found. Computed from the evidence in the journal, never stored apart from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kurabe.contest.evidence import Evidence, Status


@dataclass(frozen=True)
class BoardRow:
    """One contestant on the board.

    `rank`: 1 + the number of contestants significantly better; rows that a paired test can't tell apart share it; None
    where the status is not `done`. `score`: the task's metric over the rows answered, `interval` its 95 % interval;
    None without answers. `unread`: answers that could not be read. `predictions_per_second`, `fit_seconds`,
    `peak_bytes`: None where not measured. `usd`: dollars in all, None where unknown. `second`: second metrics by name.
    """

    contestant: str
    model: str | None
    rank: int | None
    score: float | None
    interval: tuple[float, float] | None
    unread: int
    answered: int
    usd: float | None
    fit_seconds: float | None
    predictions_per_second: float | None
    peak_bytes: int | None
    status: Status
    reason: str | None
    second: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """A paired test of two contestants on the rows both answered. `difference` is score of `a` minus score of `b` with
    its 95 % interval; `p` is the raw p-value and `p_holm` the one adjusted over all comparisons of the board."""

    a: str
    b: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    rows: int


@dataclass(frozen=True, eq=False)
class Board:
    """Rows from best to worst (those without a score last), the paired tests, and the evidence they come from."""

    evidence: Evidence
    rows: tuple[BoardRow, ...]
    comparisons: tuple[Comparison, ...]
    greater_is_better: bool

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `kurabe run --json` prints."""
        keys = (
            "contestant", "model", "rank", "score", "interval", "unread", "usd", "fit_seconds",
            "predictions_per_second", "status", "reason",
        )  # fmt: skip
        return {
            "task": self.evidence.task,
            "kind": self.evidence.kind,
            "metric": self.evidence.metric,
            "rows": [{key: _plain(getattr(row, key)) for key in keys} for row in self.rows],
        }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value
