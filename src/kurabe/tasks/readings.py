"""What a column of text holds besides text: amounts, or dates in one of the usual forms.

A reading is a short text, so that it can be saved with a contestant and applied to new rows: `number`, after which may
stand `decimal comma` and `letter is unit` (see `kurabe.tasks.amounts.Style`), or the format of a date such as
`%d.%m.%Y`.
"""

from itertools import product

import polars as pl

from kurabe.tasks.amounts import MISSING, Style, read_amounts, told

_STYLES = {
    "number": Style(),
    "number, decimal comma": Style(decimal_comma=True),
    "number, letter is unit": Style(letter_is_unit=True),
    "number, decimal comma, letter is unit": Style(decimal_comma=True, letter_is_unit=True),
}
NEARLY_ALL = 0.95
"""The share of a column's known cells that must be dates."""
_SAMPLE = 200
# Where both fit, the first is taken: with a slash the month first, as in the United States, else the day first.
_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d %B %Y", "%d. %B %Y", "%B %d, %Y", "%B %d %Y", "%d-%B-%Y", "%m/%d/%y", "%d/%m/%y",
)  # fmt: skip
_TIMES = ("", " %H:%M:%S%.f", " %H:%M", " %I:%M %p", " %I:%M:%S %p")
_MONTH = "%Y-%m"
FORMATS = (*(day + time for time, day in product(_TIMES, _DAYS)), "%Y-%m-%d %H:%M:%S%.f%z", _MONTH)
_LIKE_A_DATE = r"^\s*(?:\p{L}{3,9}\.? )?\d{1,4}(?:[-/. 年]|[.,] )[\p{L}\d].*\d"


def reading(series: pl.Series) -> str | None:
    """How to read a column of text, or None where it is nothing but text.

    >>> reading(pl.Series(["$4,733.00", "$12"])), reading(pl.Series(["31/01/2024", "02/02/2024"]))
    ('number', '%d/%m/%Y')
    """
    if series.dtype != pl.String:
        return None
    known = _known(series)
    if not len(known):
        return None
    if (found := _date_format(known)) is not None:
        return found
    amounts = read_amounts(known)
    if amounts is None or not amounts.alike:
        return None
    return next(name for name, style in _STYLES.items() if style == amounts.style)


def read_as(series: pl.Series, how: str | None) -> pl.Series:
    """A column of text as numbers (Float64), days (Date) or moments (Datetime, in UTC where the text says a zone).

    What can't be read so is null. A column that is not text, or with `how` None, comes back as it is.
    """
    if how is None or series.dtype != pl.String:
        return series
    if (style := _STYLES.get(how)) is not None:
        amounts = read_amounts(series, style)
        if amounts is None:
            return pl.Series(series.name, [None] * len(series), dtype=pl.Float64)
        numbers = pl.Series(series.name, amounts.values)
        return numbers.set(~numbers.is_finite(), None)
    return _as_dates(series, how)


def told_reading(series: pl.Series, how: str) -> str | None:
    """A sentence for people on how a column is read; None where nothing but bare numbers and ISO dates is meant."""
    if (style := _STYLES.get(how)) is not None:
        amounts = read_amounts(series, style)
        return told(series.name, amounts) if amounts is not None and amounts.written else None
    known = _known(series)
    lost = int(_as_dates(known, how).is_null().sum())
    if how == "%Y-%m-%d" and not lost:
        return None
    sentence = f"{series.name!r} is read as dates written as {how}, such as {known[0].strip()!r}"
    return sentence + (f"; {lost:,} of {len(known):,} values are not." if lost else ".")


def _known(series: pl.Series) -> pl.Series:
    return series.filter(series.is_not_null() & ~series.str.strip_chars().is_in(MISSING))


def _date_format(known: pl.Series) -> str | None:
    """The format that the most cells follow, if nearly all do."""
    sample = known.head(_SAMPLE)
    if sample.str.contains(_LIKE_A_DATE).sum() < NEARLY_ALL * len(sample):
        return None
    shares = {form: _as_dates(sample, form).is_not_null().sum() for form in FORMATS}
    best = max(shares.values())
    if best < NEARLY_ALL * len(sample):
        return None
    # A day after the 12th may come late in the column.
    likely = [form for form, count in shares.items() if count >= NEARLY_ALL * len(sample)]
    counts = {form: int(_as_dates(known, form).is_not_null().sum()) for form in likely}
    found = max(counts, key=lambda form: counts[form])
    return found if counts[found] >= NEARLY_ALL * len(known) else None


def _as_dates(series: pl.Series, form: str) -> pl.Series:
    texts = series.str.strip_chars().str.replace(r"^(\d{4}-\d{1,2}-\d{1,2})T", "${1} ").str.replace(r"(\d)Z$", "${1}")
    if form == _MONTH:
        dates = (texts + "-01").str.to_date("%Y-%m-%d", strict=False)
    elif "%z" in form:
        dates = texts.str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone(None)
    elif "%H" in form or "%I" in form:
        dates = texts.str.to_datetime(form, strict=False, time_unit="us")
    else:
        dates = texts.str.to_date(form, strict=False)
    return dates.set(~dates.dt.year().is_between(1000, 2999), None)
