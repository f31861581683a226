"""Columns of numbers written for people: `$4,733.00`, `1.234,50 €`, `12 GB`, `15 %`.

A cell is an amount when it is one number with nothing around it but a sign, a currency, a percent sign, a scale, a
unit or the parentheses in which accountants write what is below zero. What `1.234`, `1,234` and `5m` mean is decided
once for a column, by its other cells. Bare numbers such as `1234.5` are amounts too.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kurabe.tasks.numbers import read_number

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
MOSTLY = 0.9
"""The share of cells from which on a column is taken for amounts, so that the others are slips to be named."""
MAX_CELL = 40  # characters; a longer cell is a text
_SAMPLE = 200

_SIGN = "[$¢-¥֏؋฿₠-⃏﷼﹩＄￠￡￥￦]"
_CODES = (
    "USD|EUR|GBP|JPY|INR|CNY|RMB|CHF|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|ARS|CLP|COP|KRW|TRY|RUB|UAH|ZAR"
    "|SGD|HKD|TWD|THB|IDR|VND|PHP|MYR|ILS|AED|SAR|BTC"
)
_BEFORE = rf"(?:[A-Z]{{1,2}}\.?)?{_SIGN}|{_CODES}|Rs\.?|Rp\.?|RM|kr\.?|S?Fr\.?|zł|Kč"
_AFTER = rf"{_SIGN}|{_CODES}|[円圓元원]|zł|Kč|Ft|kr\.?|TL|руб\.?|dollars?|euros?|yen|cents?"
_GROUPS = r"\d{1,3}(?:(?P<separator>[,.'’_ ])\d{3}(?!\d))(?:(?P=separator)\d{3}(?!\d))*"
_CELL = re.compile(
    rf"\s*(?:(?P<outer>{_BEFORE})\s?(?=\())?(?P<open>\()?\s*(?P<minus>[-+−–])?\s?(?P<before>{_BEFORE})?\s?(?P<minus2>[-−–])?"
    rf"(?P<number>{_GROUPS}(?:(?!(?P=separator))[.,]\d+)?|\d{{1,2}}(?:,\d\d)+,\d{{3}}(?:\.\d+)?|(?:0|[1-9]\d*)(?:[.,]\d+)?(?:[eE][+-]?\d{{1,3}})?|\.\d+)"
    r"(?:(?P<scale>k|K|m|MM|M|bn|B|T)(?![^\W\d_])|\s?(?P<word>thousand|million|billion|trillion|Mio\.?|Mrd\.?|[千万億亿만억]))?"
    rf"\s?(?:(?P<currency>{_AFTER})(?![^\W\d_])|(?P<percent>[%％‰])"
    r"|(?P<unit>[^\W\d_]{1,12}(?:/[^\W\d_]{1,6})?[23]?\.?|[°\"″′'][A-Z]?))?\s*\)?\s*"
)
_PLAIN = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*")
_COMMA_IS_DECIMAL = re.compile(r"\d\.\d{3},\d+$|^\d+,(?:\d{1,2}|\d{4,})$|^0,\d+$")
_POINT_IS_DECIMAL = re.compile(r"\d,\d{3}\.\d+$|^\d+\.(?:\d{1,2}|\d{4,})$|^0?\.\d+$|\d,\d{3},\d{3}")
_SAME = {"EUR": "€", "GBP": "£", "US$": "$", "USD": "$", "円": "¥", "JPY": "¥", "￥": "¥", "INR": "₹", "원": "₩",
         "KRW": "₩", "euro": "€", "euros": "€", "dollar": "$", "dollars": "$", "yen": "¥"}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How a column writes its numbers.

    `decimal_comma`: as `1.234,5`. `letter_is_unit`: a letter such as the `m` of `5m` stands after every number, so it
    is their unit and multiplies nothing; in a column of `1.5M` and `200k` letters do.
    """

    decimal_comma: bool = False
    letter_is_unit: bool = False


@dataclass(frozen=True, eq=False)
class Amounts:
    """A column of text as numbers.

    `values`: (n,) float64, NaN where a cell is missing or cannot be read. `unread`: positions of the cells that hold
    text and no amount. `currencies`, `units`: how many cells have each. `written`: how many cells are more than a bare
    number, and `examples` the first of them beside what was read.
    """

    values: np.ndarray
    unread: tuple[int, ...]
    currencies: dict[str, int]
    units: dict[str, int]
    written: int
    examples: tuple[tuple[str, float], ...]
    style: Style

    @property
    def alike(self) -> bool:
        """Whether all amounts are of one kind: in at most one unit, and not partly money."""
        return not self.units or (len(self.units) == 1 and not self.currencies)


def read_amounts(series: pl.Series, style: Style | None = None) -> Amounts | None:
    """The amounts of a text column, or None where no cell is known or, without `style`, fewer than MOSTLY are amounts.

    `style` says what another part of the same column has settled; None decides by these cells.
    """
    cells = series.to_list()
    known = [position for position, cell in enumerate(cells) if cell is not None and cell.strip() not in MISSING]
    if not known or (style is None and not _promising([cells[position] for position in known[:_SAMPLE]])):
        return None
    matches = {position: _match(cells[position]) for position in known}
    whole = [match for match in matches.values() if match is not None]
    if style is None and len(whole) < MOSTLY * len(known):
        return None
    style = style or _style(whole)
    units = Counter(match["unit"] for match in whole if match["unit"])
    values = np.full(len(cells), np.nan)
    unread, examples, written = [], list[tuple[str, float]](), 0
    for position, match in matches.items():
        value = None if match is None else _value(match, style)
        if value is None:
            unread.append(position)
            continue
        values[position] = value
        if not _PLAIN.fullmatch(cells[position]):
            written += 1
            if len(examples) < 3:
                examples.append((cells[position], value))
    marks = [mark.rstrip(".") for match in whole if (mark := _currency(match))]
    currencies = Counter(_SAME.get(mark, mark) for mark in marks if mark not in ("¢", "cent", "cents"))
    return Amounts(values, tuple(unread), dict(currencies), dict(units), written, tuple(examples), style)


def told(name: str, amounts: Amounts) -> str:
    """One sentence: how many values were read as numbers, and examples.

    >>> told("price", read_amounts(pl.Series(["$4,733.00", "$12"])))
    "2 values of 'price' are read as numbers, such as '$4,733.00' as 4733 and '$12' as 12."
    """
    shown = [f"{cell[:MAX_CELL].strip()!r} as {value:.10g}" for cell, value in amounts.examples[:2]]
    values = "1 value" if amounts.written == 1 else f"{amounts.written:,} values"
    are = "is read as a number" if amounts.written == 1 else "are read as numbers"
    sentence = f"{values} of {name!r} {are}, such as {' and '.join(shown)}."
    for what, marks in (("currencies", amounts.currencies), ("units", amounts.units)):
        if len(marks) > 1:
            listed = ", ".join(f"{mark} ({count:,})" for mark, count in Counter(marks).most_common(5))
            sentence += f" They are in several {what}, which are not converted: {listed}."
    if amounts.units and sum(amounts.units.values()) < len(amounts.values) - np.isnan(amounts.values).sum():
        listed = ", ".join(f"{unit} ({count:,})" for unit, count in Counter(amounts.units).most_common(5))
        sentence += f" Some numbers are followed by a word, which is left out: {listed}."
    return sentence


def _promising(cells: Sequence[str]) -> bool:
    return sum(_match(cell) is not None for cell in cells) >= MOSTLY / 2 * len(cells)


def _match(cell: str) -> re.Match[str] | None:
    if len(cell) > MAX_CELL:
        return None
    match = _CELL.fullmatch(unicodedata.normalize("NFKC", cell))
    return None if match is None or bool(match["open"]) != cell.rstrip().endswith(")") else match


def _style(matches: Sequence[re.Match[str]]) -> Style:
    scales = {match["scale"] for match in matches}
    one_letter = len(scales) == 1 and None not in scales and not any(map(_currency, matches))
    return Style(_decides_for_comma([match["number"] for match in matches]), one_letter)


def _currency(match: re.Match[str]) -> str:
    return match["outer"] or match["before"] or match["currency"] or ""


def _decides_for_comma(numbers: Sequence[str]) -> bool:
    """Whether the numbers of a column are written as `1.234,5`."""
    return any(map(_COMMA_IS_DECIMAL.search, numbers)) and not any(map(_POINT_IS_DECIMAL.search, numbers))


def _value(match: re.Match[str], style: Style) -> float | None:
    number = re.sub(r"['’_\s]", "", match["number"])
    comma = style.decimal_comma
    if comma:
        number = number.replace(".", "").replace(",", ".")
    elif match["separator"] == "," or number.count(",") > 1:
        number = number.replace(",", "")
    scale = ("" if style.letter_is_unit else match["scale"]) or match["word"] or ""
    before, after = match["outer"] or match["before"] or "", match["currency"] or match["percent"] or ""
    points = not comma and (match["separator"] == "." or number.count(".") > 1)  # what it says hangs on the currency
    if scale or points or "," in number or after.startswith(("¢", "cent", "‰")):
        value = read_number(f"{before}{number}{scale}{' ' if len(after) > 1 else ''}{after}")
    else:
        value = float(number)
    below = match["open"] or match["minus"] in ("-", "−", "–") or match["minus2"]
    return value if value is None or not below else -value
