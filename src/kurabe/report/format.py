"""Numbers, sizes and texts as people read them: the one place where the report layer turns values into words."""

import itertools
import math
import os.path
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kurabe.errors import without_secrets

if TYPE_CHECKING:  # a chat, which shows seconds and dollars, need not wait for SciPy
    from kurabe.contest.board import Board, BoardRow
    from kurabe.contest.checks import CheckResult

NOT_MEASURED = "–"
_MOST = 6
UNKNOWN = "?"
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SHORT = {
    "mean_absolute_error": "MAE",
    "median_absolute_error": "median AE",
    "root_mean_squared_error": "RMSE",
    "mean_absolute_percentage_error": "MAPE",
    "balanced_accuracy": "balanced acc.",
    "matthews": "Matthews",
}
_PATH = re.compile(r"(?<![\w/.~…])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\",:;<>|]+){2,}")


def places(value: float) -> int:
    """Decimals that show three significant digits of `value`: 0 to 6, the most there are.

    >>> places(0.812), places(62.3), places(1234.5)
    (3, 1, 0)
    """
    if not math.isfinite(value) or value == 0:
        return 2
    rounded = abs(float(f"{value:.3g}"))  # 9.999 reads 10.0, not 10.00
    return min(max(2 - math.floor(math.log10(rounded)), 0), _MOST)


def number(value: float | None, decimals: int | None = None) -> str:
    """`value` with a thousands separator, to `decimals` or else to three significant digits; `–` for None and NaN. Very
    large numbers, and very small ones where no decimals are left for them, have an exponent.

    >>> number(1234.5), number(0.12345), number(62.0, 1), number(4.2e-9), number(4.2e-9, 3), number(None)
    ('1,234', '0.123', '62.0', '4.20e-09', '0.000', '–')
    """
    if value is None:
        return NOT_MEASURED
    if not math.isfinite(value):
        return NOT_MEASURED if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if abs(value) >= 1e7 or (0 < abs(value) < 1e-5 and (decimals is None or decimals >= _MOST)):
        return f"{value:.2e}"
    text = f"{value:,.{places(value) if decimals is None else decimals}f}"
    return text.lstrip("-") if text.startswith("-") and not text.strip("-0.,") else text


def column_places(values: Iterable[float | None]) -> int:
    """Decimals for a whole column of numbers: three significant digits of its middle value, but no more than three
    decimals where the largest needs none of them.

    >>> column_places([0.0, 0.8661, -0.27, None]), column_places([0.38, 0.09, 0.008]), column_places([0.004, 0.002])
    (3, 3, 5)
    """
    sizes = sorted(abs(value) for value in values if value is not None and math.isfinite(value) and value != 0)
    return min(places(sizes[len(sizes) // 2]), max(3, places(sizes[-1]))) if sizes else places(0.0)


def score_places(board: "Board") -> int:
    """Decimals for every score and interval of a board: three significant digits of the best score."""
    scores = [row.score for row in board.rows if row.score is not None and math.isfinite(row.score)]
    return places(next((score for score in scores if score), 0.0))


def interval(bounds: tuple[float, float] | None, decimals: int) -> str:
    """`[38.1, 46.9]`, or `–` for None."""
    return NOT_MEASURED if bounds is None else f"[{number(bounds[0], decimals)}, {number(bounds[1], decimals)}]"


def seconds(value: float | None) -> str:
    """A duration: `3 ms`, `4.2 s`, `2 min 05 s`, `1 h 10 min`.

    >>> seconds(0.0004), seconds(0.25), seconds(4.21), seconds(125), seconds(4200), seconds(None)
    ('<1 ms', '250 ms', '4.2 s', '2 min 05 s', '1 h 10 min', '–')
    """
    if value is None:
        return NOT_MEASURED
    if value < 0.001:
        return "0 s" if value <= 0 else "<1 ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    total = round(value)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def size(value: int | None) -> str:
    """Bytes in decimal units: `98.0 MB`.

    >>> size(512), size(98_000_000), size(None)
    ('512 B', '98.0 MB', '–')
    """
    if value is None:
        return NOT_MEASURED
    amount, unit = float(value), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{value} B" if unit == 0 else f"{number(amount)} {_UNITS[unit]}"


def dollars(value: float | None) -> str:
    """Money; `?` where it is unknown, which is not the same as `$0`.

    >>> dollars(None), dollars(0.0), dollars(0.00123), dollars(12.5)
    ('?', '$0', '$0.0012', '$12.50')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return "$0"
    if abs(value) < 0.1:
        return f"${value:.{min(1 - math.floor(math.log10(abs(value))), 8)}f}"
    return f"${value:,.2f}"


def percent(share: float) -> str:
    """A probability with three digits that say something.

    >>> percent(0.734), percent(0.0512), percent(0.000004), percent(1.0)
    ('73.4 %', '5.12 %', '<0.01 %', '100 %')
    """
    if 0 < share < 1e-4:
        return "<0.01 %"
    value = share * 100
    return f"{value:.0f} %" if value >= 99.95 or value == 0 else f"{value:.1f} %" if value >= 10 else f"{value:.2f} %"


def p_value(value: float) -> str:
    """`<0.001`, `0.032`, `0.41`: a p-value in two significant digits.

    >>> p_value(0.0004), p_value(0.0321), p_value(0.412), p_value(1.0)
    ('<0.001', '0.032', '0.41', '1.00')
    """
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def general(row: "BoardRow") -> str:
    """The share of general questions answered rightly before and after tuning, `61 → 48 % (p 0.004)`."""
    found = row.forgetting
    if found is None:
        return NOT_MEASURED
    return f"{100 * found.before:.0f} → {100 * found.after:.0f} % (p {p_value(found.p)})"


def share(value: float) -> str:
    """`92 %`, and `92.4 %` where a whole number would say 0 or 100 of what is not.

    >>> share(0.92), share(0.9961), share(1.0), share(0.0004)
    ('92 %', '99.6 %', '100 %', '<0.1 %')
    """
    whole = f"{100 * value:.0f} %"
    if whole not in ("0 %", "100 %") or value in (0, 1):
        return whole
    return "<0.1 %" if value < 0.001 else ">99.9 %" if value > 0.999 else f"{100 * value:.1f} %"


def check_value(found: "CheckResult | None", decimals: int | None) -> str:
    """A check's share, or, with `decimals`, its score."""
    if found is None:
        return NOT_MEASURED
    return share(found.value) if decimals is None else number(found.value, decimals)


def check_rest(found: "CheckResult | None", decimals: int | None) -> str:
    """What stands beside it: `[86, 96]`, `[86, 96] (p 0.004)` or `[50, 76] (84 % agree)`, or `[48, 70] (as a person)`
    where a person's verdicts correct the judge's."""
    if found is None:
        return ""
    words = []
    if found.interval is not None and decimals is None:
        words.append(f"[{100 * found.interval[0]:.0f}, {100 * found.interval[1]:.0f}]")
    elif found.interval is not None:
        words.append(interval(found.interval, decimals or 0))
    words += [] if found.p is None else [f"(p {p_value(found.p)})"]
    if found.uncorrected is not None:
        words.append("(as a person)")
    elif found.agreement is not None:
        words.append(f"({share(found.agreement)} agree)")
    return " ".join(words)


def check(found: "CheckResult | None", decimals: int | None) -> str:
    """A check of one contestant in one cell: `92 % [86, 96] (p 0.004)`."""
    return f"{check_value(found, decimals)} {check_rest(found, decimals)}".strip()


def check_decimals(board: "Board") -> "dict[str, int | None]":
    """The decimals of each check's column, by its name: None where it holds shares."""
    from kurabe.tasks.checks import labelled

    checks = board.evidence.checks
    found = {}
    for label, one in labelled(checks):
        values = (row.checks[label].value for row in board.rows if label in row.checks)
        found[label] = None if one.slice is None else column_places(values)
    return found


def check_title(label: str) -> str:
    """What a check's column is headed by."""
    return shorten(plain(label), 30)


def rank(row: "BoardRow") -> str:
    """`3`, `1–4` where the paired tests leave a range, `–` where there is no rank."""
    if row.rank_range is None:
        return NOT_MEASURED
    best, worst = row.rank_range
    return str(best) if best == worst else f"{best}–{worst}"


def count(amount: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`, `1,250 rows`."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def metric(board: "Board") -> str:
    """The title of the board's metric, such as `mean absolute error`."""
    return metric_title(board.evidence.metric)


def metric_title(name: str) -> str:
    """A metric's title.

    >>> metric_title("root_mean_squared_log_error")
    'RMSLE'
    """
    from kurabe.tasks.metrics import metric_named

    metric = metric_named(name)
    return name if metric is None else metric.title


def metric_short(name: str) -> str:
    """A metric's title where there is little room.

    >>> metric_short("median_absolute_error"), metric_short("macro_f1")
    ('median AE', 'macro-F1')
    """
    return _SHORT.get(name, metric_title(name))


def plain(text: str) -> str:
    """`text` without control characters (a terminal would obey them) and with every run of space as one space."""
    kept = "".join(" " if character.isspace() else character for character in text)
    return " ".join("".join(c for c in kept if unicodedata.category(c) not in {"Cc", "Cf", "Cs"}).split())


def shorten(text: str, length: int) -> str:
    """`text` cut to `length` characters, the last one `…` where something was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def distinct(texts: Iterable[str]) -> list[str]:
    """`texts` made different from one another where cutting made them equal, since charts and columns go by them.

    >>> distinct(["a", "a (2)", "a"])
    ['a', 'a (2)', 'a (3)']
    """
    found: list[str] = []
    for text in texts:
        numbered = (f"{text} ({i})" for i in itertools.count(2))
        found.append(next(name for name in itertools.chain([text], numbered) if name not in found))
    return found


def redact(text: str) -> str:
    """`text` without secrets of the environment and with paths cut to their last part: for pages that are passed on.

    >>> redact("cannot read /home/ann/models/a.gguf: gone")
    'cannot read …/a.gguf: gone'
    """
    text, home = without_secrets(text), os.path.expanduser("~")
    if len(home) > 1:  # in a container it may be / itself
        text = text.replace(home, "~")
    return _PATH.sub(lambda match: "…/" + re.split(r"[/\\]", match.group())[-1], text)
