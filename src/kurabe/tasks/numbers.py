"""From free text to one number: the rules, stated once.

Numbers in words become digits first (`number_words`). Every number of the text is found, read by the conventions
below, and weighed by what stands around it (`number_marks`); the weightiest wins. Weights (`_weigh`): a number in
`\\boxed{}` or after `####`, one that follows a conclusion (`final answer`, `therefore`), one before `in total`, one
with a currency, one after an answer cue (`price is`, `answer:`, `costs`) or after a change (`rose by 20% to`), one
after `=`, one in bold; against it count a unit (`64 GB`), a counted noun (`3 rows`), `each`, a year, a name (`iPhone
15`), the end of a scale (`out of 100`), a list bullet. Of equals the last wins where it follows a conclusion or `=`,
since who reasons ends with the answer, and otherwise the first, since who just answers begins with it. A number that
is part of a name (`Galaxy S23`, `KD-55X80K`, `Windows 11`), a year that tells when (`in 2021`, `the 2020 edition`), or
a length by a width (`2 x 4`) is no answer even where it is the only one.

Conventions:
- `1,234` is a thousand and more, `12,5` and `0,123` are decimals; `1.234` is a decimal unless the text writes decimal
  commas elsewhere or the currency's countries write thousands with a point (`1.234 €`). `$1,2345` is no amount.
- A space, an apostrophe or an underscore separates thousands only before exactly three digits.
- A range is its midpoint, but `rose from 40 to 60` is 60. `20%` is 20. `99 cents` is 0.99. `8/10` is 8, and halves,
  thirds, quarters, sixths, eighths, sixteenths are fractions: `1/2` is 0.5. `free` alone is 0.
- `k`, `m`, `bn`, `B`, `T` glued to a number, and the words and characters for thousand to trillion in a dozen
  languages, multiply it; `万`, `億` and kanji numerals are read.
- `($45)` as the whole answer is -45, as accountants write; `(45)` is 45.
- Where the text refuses (`As an AI…`), only a number with a currency or a cue counts.
- Numbers of more than 30 digits, infinities and NaN are no answers.
- In a JSON object the key that names an answer gives it: `{"why": "others cost $20", "price": 22}`.
- After a prefill the text continues a begun answer: then a number at its very start wins.
"""

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from math import isfinite

from kurabe.models.engines.thoughts import behind_thoughts
from kurabe.tasks import number_marks as marks
from kurabe.tasks.number_words import in_digits

MAX_CHARS = 6_000
"""Of a longer answer the first and the last half of this many characters are read."""


@dataclass(frozen=True)
class _Found:
    """One number of the text: where it stands (with sign, currency and scale), its value, and what marks it."""

    start: int
    end: int
    value: float
    scale: float = 1.0
    currency: bool = False
    cents: bool = False
    against: int = 0
    percent: bool = False
    name: bool = False
    year: bool = False


def read_number(text: str, prefill: str = "") -> float | None:
    """The number that `text` answers, or None where it holds none; always finite. The rules are the module's.

    >>> read_number("The iPhone 15 with 64 GB costs about $1,199.")
    1199.0
    >>> read_number("約3万円")
    30000.0
    """
    if not prefill and (of_key := _of_key(without_thoughts(text))) is not None:
        text = of_key
    text = _normalise(text)
    if marks.FREE.fullmatch(text[:60]) and len(text) <= 60:
        return 0.0
    if len(text) <= 60 and (match := marks.ACCOUNTING.fullmatch(text)) and marks.ACCOUNTED.search(text):
        value = read_number(match[1])
        return None if value is None else -abs(value)
    found = _find(text)
    if prefill and found and _starts(text, found[0]):
        return found[0].value
    refused = marks.REFUSAL.search(text) is not None
    found = [number for number in found if not _is_name(text, number) and not (refused and number.year)]
    weighed = [(*_weigh(text, number), number.value) for number in found]
    if refused:
        weighed = [item for item in weighed if item[0] > 0]
    if not weighed:
        return None
    best = max(weight for weight, _, _ in weighed)
    top = [(last, value) for weight, last, value in weighed if weight == best]
    return top[-1][1] if top[-1][0] else top[0][1]


def without_thoughts(text: str) -> str:
    """The text after a reasoning model's `</think>`, cut to MAX_CHARS from its two ends."""
    text = behind_thoughts(text)
    half = MAX_CHARS // 2
    return text if len(text) <= MAX_CHARS else f"{text[:half]}\n{text[-half:]}"


def _of_key(text: str) -> str | None:
    """What a JSON object in the text gives under the one key that names an answer."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    answers = [item for key, item in value.items() if marks.ANSWER_KEY.search(key)]
    return str(answers[0]) if len(answers) == 1 and isinstance(answers[0], str | int | float) else None


def _normalise(text: str) -> str:
    text = without_thoughts(text).replace("\x00", " ")
    text = re.sub("[①-⒛⓪-⓿❶-➓]", lambda m: f"{unicodedata.numeric(m[0], 0):.0f}) ", text)
    text = re.sub(r"((?<!\d)\d{1,9})?\s?([¼-¾⅐-⅞])", _fraction, text)
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda m: "^" + m[0], text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"(?![0-9])\d", lambda m: str(unicodedata.decimal(m[0])), text)
    text = text.translate(_PLAIN)
    text = re.sub(r"\\(?=[$%,])|(?<=\d)\{(?=,\})|(?<=,)\}(?=\d)", "", text)
    text = marks.POWER_OF_TEN.sub(lambda m: m[0] if m["times"] else f"{m['space']}1e{m['power']}", text)
    text = marks.LATEX_FRACTION.sub(_ratio, text)
    text = marks.EAST_FRACTION.sub(_east_ratio, text)
    text = marks.MIXED.sub(_ratio, text)
    text = marks.MINUS.sub("-", marks.AND_MORE.sub("", text))
    text = marks.HANGUL.sub(lambda m: f"{_sum_east(m[0].replace(' ', '')):.0f}", text)
    text = in_digits(text, marks.MONEY, has_digits=re.search(r"\d", text) is not None)
    return marks.TWO_PARTS.sub(lambda m: f".{m[2]}{m[1]}" if m[1] else f".{m[4]} {m[3]}", text)


_PLAIN = str.maketrans(
    {"−": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "٫": ".", "٬": ",", "،": ",", "\u200b": None, "\t": " "}
)


def _fraction(match: re.Match[str]) -> str:
    return f"{int(match[1] or 0) + unicodedata.numeric(match[2]):.15g}"


def _ratio(match: re.Match[str]) -> str:
    whole, above, below = (float(part or 0) for part in match.groups())
    return f"{whole + above / below:.15g}" if below else match[0]


def _east_ratio(match: re.Match[str]) -> str:
    below, above = (_sum_east(part) for part in match.groups())
    return f"{above / below:.15g}" if above is not None and below else match[0]


def _starts(text: str, number: _Found) -> bool:
    lead = text[: number.start]
    return len(lead) < 40 and re.fullmatch(marks.FILLER.removesuffix("$"), lead, re.IGNORECASE) is not None


def _find(text: str) -> list[_Found]:
    """Every finite number, in order, ranges and `2 dollars and 50 cents` already joined."""
    text = marks.NOT_A_NUMBER.sub(lambda m: "\x00" * len(m[0]), text)
    point_thousands = marks.DECIMAL_COMMA.search(text) is not None
    found: list[_Found] = []
    position = 0
    for east in marks.EAST_NUMBER.finditer(text):
        if any(c in marks.EAST for c in east[0]) and (number := _east(text, east)) is not None:
            found += _western(text, position, east.start(), point_thousands)
            found.append(number)
            position = number.end
    found += _western(text, position, len(text), point_thousands)
    return _join(text, found)


def _western(text: str, start: int, end: int, point_thousands: bool) -> list[_Found]:
    numbers = (_complete(text, m.start(), m.end(), m, point_thousands) for m in marks.NUMBER.finditer(text, start, end))
    return [number for number in numbers if number is not None]


def _east(text: str, match: re.Match[str]) -> _Found | None:
    """A number with kanji or hangul numerals; those without a digit are read with care, as they stand in many words."""
    value = _sum_east(match[0])
    if value is None:
        return None
    spelled = not any(c.isascii() for c in match[0])
    if match[0] in marks.EAST_LARGE and not marks.CURRENCY_AFTER.match(text, match.end()):
        return None
    if spelled and any(c in "천백만억조" for c in match[0]):
        return None
    number = _Found(match.start(), match.end(), value)
    scale = next((marks.EAST_LARGE.get(c) or marks.EAST_SMALL.get(c) or 1.0 for c in reversed(match[0])), 1.0)
    number = replace(_with_marks(text, number), scale=scale)
    if spelled and not number.currency:
        # Alone, or said to be the answer: `万一` and `千万` are words.
        before, after = text[: number.start], text[number.end : number.end + 8]
        alone = not before.strip(" 約は:") and not after.strip(" .。")
        said = len(match[0]) > 1 and marks.NUMERAL_BEFORE.search(before[-8:]) and marks.NUMERAL_AFTER.match(after)
        return replace(number, against=0 if alone else 3) if alone or said else None
    return number


def _sum_east(numeral: str) -> float | None:
    """The value of digits and numerals of China, Japan and Korea; None where digits with separators make no number."""
    total = section = 0.0
    digits: float | None = None
    for token in marks.EAST_TOKEN.findall(numeral):
        if token[0].isascii() and token[0].isdigit():
            digits = _plain_value(token)
            if digits is None:
                return None
        elif token in marks.EAST_DIGITS:
            digits = (digits or 0.0) * 10 + marks.EAST_DIGITS[token]
        elif token in marks.EAST_SMALL:
            section += (1.0 if digits is None else digits) * marks.EAST_SMALL[token]
            digits = None
        elif token in marks.EAST_LARGE:
            section += digits or 0.0
            total += (section or 1.0) * marks.EAST_LARGE[token]
            section, digits = 0.0, None
    if digits is not None and digits < 10 and re.search("[万萬亿億][一二三四五六七八九]$", numeral):
        digits *= marks.EAST_LARGE[numeral[-2]] / 10  # 三万五 is 35,000
    return total + section + (digits or 0.0)


def _plain_value(body: str, point_thousands: bool = False) -> float | None:
    """The value of digits with separators, or None where they make no number (a version, a list)."""
    if sum(c.isdigit() for c in body) > 30:
        return None
    body = re.sub(r"[ '_]", "", body)
    comma, point = body.count(","), body.count(".")
    if comma and point:
        decimal, thousands = (",", ".") if body.rfind(",") > body.rfind(".") else (".", ",")
        if body.count(decimal) > 1 or not _grouped(body.partition(decimal)[0], thousands):
            return None
    elif comma + point > 1:
        decimal, thousands = ("", "," if comma else ".")
        if not _grouped(body, thousands):
            return None
    elif comma:
        decimal, thousands = ("", ",") if _grouped(body, ",") and not body.startswith("0") else (",", "")
    elif point and point_thousands and _grouped(body, ".") and not body.startswith("0"):
        decimal, thousands = "", "."
    else:
        decimal, thousands = ".", ""
    if thousands:
        body = body.replace(thousands, "")
    return float(body.replace(decimal, ".") if decimal else body)


def _grouped(whole: str, separator: str) -> bool:
    """Thousands in threes, or as in India in twos before the last three."""
    first, *middle, last = whole.split(separator)
    return (1 <= len(first) <= 3 and len(last) == 3 and len({len(m) for m in middle} - {3}) == 0) or (
        separator == "," and 1 <= len(first) <= 2 and len(last) == 3 and all(len(m) == 2 for m in middle)
    )


def _complete(text: str, start: int, end: int, match: re.Match[str], point_thousands: bool) -> _Found | None:
    """A western number with its sign, scale and currency."""
    exponent = match["e"] or (f"e{match['power']}" if match["power"] else "")
    body = re.split(r"[eE]|\s?[x×*\\]", match[0], maxsplit=1)[0] if exponent else match[0]
    around = text[max(0, start - 4) : start] + "\x00" + text[end : end + 10]
    european = point_thousands or marks.POINT_THOUSANDS.search(around) is not None
    value = _plain_value(body, european)
    if value is None:
        return None
    value = float(f"{value!r}{exponent}") if exponent and "e" not in repr(value) else value
    number = _with_marks(text, _Found(start, end, value))
    if number.currency and not european and marks.LONG_DECIMALS.fullmatch(body):
        return None
    across = marks.DIMENSION_AFTER.match(text, end) or marks.DIMENSION_BEFORE.search(text[max(0, start - 12) : start])
    if across and not exponent:
        number = replace(number, against=8, name=True)
    glued = marks.GLUED_BEFORE.search(text[max(0, start - 7) : start]) or (
        marks.GLUED_AFTER.match(text, number.end) and (number.against >= 8 or text[number.end] in "DG")
    )
    if glued and not number.currency:
        number = replace(number, against=8, name=True)
    return number if isfinite(number.value) else None


def _with_marks(text: str, number: _Found) -> _Found:
    """Add what stands directly before and after: sign, currency, scale, cents, unit."""
    start, end, value, scale, against = number.start, number.end, number.value, 1.0, 0
    end = m.end() if (m := re.compile(r"[.,][-–—]{1,2}(?!\d)").match(text, end)) else end
    if m := marks.SCALE_WORD.match(text, end):
        scale, end = list(marks.SCALES)[int(m.lastgroup[1:])] if m.lastgroup else 1.0, m.end()
    elif (m := marks.SCALE_LETTER.match(text, end)) and (m[1] != "m" or _has_currency(text, start, m.end())):
        scale, end = marks.LETTER_SCALES[m[1] or m[2]], m.end()
    currency = cents = percent = False
    if m := marks.CURRENCY_AFTER.match(text, end):
        currency, end = True, m.end()
    elif m := marks.CENTS.match(text, end):
        currency, cents, end, scale = True, True, m.end(), scale / 100
    elif m := marks.PERCENT.match(text, end):
        against, end, percent = 1, m.end(), True
    elif m := marks.UNIT.match(text, end):
        against = 4
    elif re.compile(rf"[{marks.LETTER}]").match(text, end):
        against = 8
    elif marks.COUNTED.match(text, end):
        against = 2
    negative = False
    for _ in range(2):  # the sign stands before or after the currency
        lead = text[max(0, start - 6) : start]
        if m := marks.CURRENCY_BEFORE.search(lead):
            currency, start = True, start - len(m[0])
        elif lead.endswith(("-", "–")) and not re.search(r"(?:[\d)%]\s?|[^\W\d]|\.)[-–]$", lead):
            negative, start = True, start - 1
    if marks.MINUS_WORD.search(text[max(0, start - 10) : start]):
        negative = True
    year = _is_year(number, value, scale) and not currency
    if year:
        against += 3
    value *= scale
    return replace(
        number, start=start, end=end, value=-value if negative else value, scale=scale, currency=currency, cents=cents,
        percent=percent, year=year, against=number.against + against,
    )  # fmt: skip


def _has_currency(text: str, start: int, end: int) -> bool:
    lead = text[max(0, start - 20) : start]
    before = marks.CURRENCY_BEFORE.search(lead[-6:]) or marks.RANGE_OF_MONEY.search(lead)
    return before is not None or marks.CURRENCY_AFTER.match(text, end) is not None


def _is_year(number: _Found, value: float, scale: float) -> bool:
    return scale == 1 and number.end - number.start == 4 and 1900 <= value < 2100


def _join(text: str, found: list[_Found]) -> list[_Found]:
    joined: list[_Found] = []
    for number in found:
        previous = joined[-1] if joined else None
        merged = _merged(text, previous, number) if previous else None
        if merged:
            joined[-1] = merged
        else:
            joined.append(number)
    return [number for number in joined if isfinite(number.value)]


def _merged(text: str, a: _Found, b: _Found) -> _Found | None:
    between = text[a.end : b.start]
    if len(between) > 16:
        return None
    if b.cents and a.currency and not a.cents and re.fullmatch(r",? ?(?:and |und |et |y |e )?", between):
        return replace(a, end=b.end, value=a.value + b.value)
    if a.scale > b.scale > 1 and between.strip() in ("", "and", ","):  # 1 crore 20 lakh
        return replace(b, start=a.start, value=a.value + b.value, currency=a.currency or b.currency)
    if (a.percent and not b.percent) or (b.percent and a.currency):
        return None
    if between.strip().isalpha() and marks.CHANGE.search(text[max(0, a.start - 80) : a.start]):  # rose from 40 to 60
        return None
    high = b.value
    is_range = marks.RANGE.fullmatch(between) or (
        (marks.RANGE_WITH_A.fullmatch(between) and marks.BETWEEN.search(text[max(0, a.start - 12) : a.start]))
        or (marks.TO_HIGHEST.fullmatch(between) and marks.LOWEST.search(text[max(0, a.start - 12) : a.start]))
    )
    if not is_range and high < 0 and not between.strip():  # `10 -20`
        is_range, high = marks.RANGE.fullmatch("-"), -high
    if not is_range or a.against >= 8:
        return None
    low = a.value * b.scale if a.scale == 1 and a.value < high / b.scale else a.value
    if not low < high:
        return None
    return replace(
        b, start=a.start, value=(low + high) / 2, currency=a.currency or b.currency, against=min(a.against, b.against)
    )


def _is_name(text: str, number: _Found) -> bool:
    """Whether a number is part of a product's name (`S23`, `iPhone 15 Pro`) or of a date (`in 2021`), and no answer."""
    if number.currency:
        return False
    before = text[max(0, number.start - 80) : number.start]
    if number.name or (number.year and marks.DATED.search(before)) or marks.ORDINAL_OF.match(text, number.end):
        return True
    if number.scale == 1e3 and marks.MODIFIER[0].search(before) and marks.MODIFIER[1].match(text, number.end - 1):
        return True
    if number.against == 0 and marks.HYPHENED.match(text, number.end):
        return True
    if number.year and marks.EDITION[0].search(before) and marks.EDITION[1].match(text, number.end):
        return True
    if any(pattern.search(before) for pattern in (marks.CUE, marks.SOFT, marks.BOXED, marks.CONCLUSION)):
        return False
    named = marks.NAMED.search(before)
    if not named or marks.NO_NAME.match(named["word"]) or "," in text[number.start : number.end]:
        return False
    word, lead = named["word"], before[: named.start("word")].rstrip(" *\"'(")
    within = bool(lead) and lead[-1] not in ".:;!?\n)-"
    if not within:
        return _opens_with_name(text, number, word)
    if text.isupper():
        return False
    return bool(
        word.lower() in marks.NAMERS
        or word[0].isupper()
        or word[1:] != word[1:].lower()
        or marks.NAME_GOES_ON.match(text, number.end)
    )


def _opens_with_name(text: str, number: _Found, word: str) -> bool:
    """Whether `word`, which begins a sentence, and the number behind it are a name: `Windows 11`, not `About 45`."""
    if word.lower() in marks.NAMERS:
        return True
    plain = marks.CARDINAL.fullmatch(text, number.start, number.end) and number.scale == 1 and not number.percent
    measured = number.against in (1, 4) or marks.UNIT.match(text, number.end)
    return bool(word[0].isalpha() and plain and not measured and not marks.OPENER.match(word.removesuffix(".")))


def _ends_change(before: str) -> bool:
    """Whether the number after `before` is what something changed to: `rose by 20% to`, `down to`."""
    return bool(marks.DOWN_TO.search(before) or (marks.CHANGED_TO.search(before) and marks.CHANGE.search(before)))


def _weigh(text: str, number: _Found) -> tuple[int, bool]:
    """(weight, whether of equals the last wins)."""
    before, after = text[max(0, number.start - 80) : number.start], text[number.end : number.end + 40]
    weight, last = -number.against, False
    cue, aside = marks.CUE.search(before), marks.ASIDE.search(before)
    if number.currency:
        weight += 4
    if marks.BOXED.search(before):
        weight, last = weight + 12, True
    elif marks.CONCLUDED.search(before):
        direct = marks.CONCLUSION.search(before) is not None
        weight, last = weight + (6 if direct else 8 if marks.EQUALS.search(before) else 5), True
    elif (cue and not aside) or _ends_change(before):
        weight += 5 if marks.HEADED.search(before) else 4
    elif marks.EQUALS.search(before):
        weight, last = weight + 3 + (number.against if number.against <= 4 else 0), True
    elif marks.SOFT.search(before):
        weight += 1
    if re.search(r"\*\*[^*\n]{0,30}$", before) and re.match(r"[^*\n]{0,30}\*\*", after):
        weight += 2
    if marks.AT_FIRST.search(before):
        weight -= 5
    if aside:
        weight += 2 if cue and not marks.NOT_NOW.search(before) else -3
    if marks.TOTAL.match(after):
        weight, last = weight + 7, True
    elif marks.EACH.match(after):
        weight -= 2
    elif marks.LESS.match(after) or marks.ONE_IN.match(after) or marks.SCALE_OF.search(before):
        weight -= 4
    elif marks.SURE.match(after):
        weight -= 5
    elif marks.GUESSED.match(after):
        weight += 5
    if number.start < 40 and marks.ALONE_BEFORE.fullmatch(text[: number.start]) and marks.ALONE_AFTER.match(after):
        weight += 6
    if (
        not number.currency
        and (m := marks.NAMED.search(before))
        and not (marks.CUE.search(before) or marks.NO_NAME.match(m["word"]))
    ):
        weight -= 2
    if not number.currency and re.match(r"[.)]\s+\S|\s?[:)]\s", after) and marks.BULLET.search(before):
        weight -= 3
    return weight, last
