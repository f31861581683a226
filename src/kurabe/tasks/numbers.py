"""From free text to one number: the rules, stated once.

Every number of the text is found, read by the conventions below, and weighed by what stands around it; the weightiest
wins. Weights (`_weigh`): a number in `\\boxed{}` or after `####`, one that follows a conclusion (`final answer`,
`therefore`, `in total`), one with a currency, one after an answer cue (`price is`, `answer:`, `costs`), one after `=`,
one in bold; against it count a unit (`64 GB`), a year, a name (`iPhone 15`), a list bullet, letters glued to it. Of
equals the last wins where it follows a conclusion or `=`, since who reasons ends with the answer, and otherwise the
first, since who just answers begins with it.

Conventions:
- `1,234` is a thousand and more, `12,5` and `0,123` are decimals; `1.234` is a decimal unless the text writes decimal
  commas elsewhere or the currency's countries write thousands with a point (`1.234 €`).
- A space, an apostrophe or an underscore separates thousands only before exactly three digits.
- A range is its midpoint. `20%` is 20. `99 cents` is 0.99. `8/10` is 8. `free` alone is 0.
- `k`, `m`, `bn`, `B`, `T` glued to a number, and the words and characters for thousand to trillion in a dozen
  languages, multiply it; `万`, `億` and kanji numerals are read.
- `($45)` as the whole answer is -45, as accountants write.
- Where the text refuses (`As an AI…`), only a number with a currency or a cue counts.
- Numbers of more than 30 digits, infinities and NaN are no answers.
- After a prefill the text continues a begun answer: then a number at its very start wins.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from math import isfinite

from kurabe.models.engines.thoughts import behind_thoughts

MAX_CHARS = 6_000
"""Of a longer answer the first and the last half of this many characters are read."""

_LETTER = "A-Za-zÀ-ÖØ-öø-ʯͰ-ԯḀ-ỿ"
_END = f"(?![{_LETTER}])"
_SIGNS = "$€£¥₹₩₽₺₫₴₦₱฿₪₡₲₵₸₿"
_CODES = (
    "USD|EUR|GBP|JPY|INR|CNY|RMB|CHF|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|ARS|CLP|COP|KRW|TRY|RUB|UAH|ZAR"
    "|SGD|HKD|TWD|THB|IDR|VND|PHP|MYR|ILS|AED|SAR|BTC"
)
_CURRENCY_WORDS = (
    f"{_CODES}|dollars?|bucks?|euros?|yen|rupees?|rupias?|rupiah|yuan|pesos?|reais|francs?|franken|sterling|quid|kronor"
    "|kroner|krona|kr|zł|zloty(?:ch)?|złotych|złote|kč|korun|ft|forint|lei|tl|lira|rand|baht|đồng|dollari?|dólares"
    "|dollaro|долларов|доллара|евро|рублей|рубля|руб|грн"
)
_CURRENCY_BEFORE = re.compile(
    rf"(?:(?<![{_LETTER}])[A-Za-z]{{0,3}}[{_SIGNS}]|(?<![{_LETTER}])(?:{_CODES}|Rs|Rp|RM|R|kr|Fr|SFr|zł|Kč)\.?) ?$"
)
_CURRENCY_AFTER = re.compile(rf"\s?(?:[{_SIGNS}](?!\d)|[円圓元块원]|-?(?:{_CURRENCY_WORDS}){_END})", re.IGNORECASE)
_POINT_THOUSANDS = re.compile(
    r"€|₫|₺|R\$|\b(?:eur|euros?|kr|kronor|kroner|nok|dkk|rp|idr|rupiah|vnd|đồng|reais|brl|tl|clp|cop|lei)\b",
    re.IGNORECASE,
)
"""Currencies whose countries write thousands with a point: there `1.234` is no decimal."""
_CENTS = re.compile(rf"\s?-?(?:¢|(?:cents?|centimes?|centavos?|centesimi|pence){_END})", re.IGNORECASE)
_PERCENT = re.compile(rf"\s?(?:%|(?:percent|prozent|pour cent|por ciento|процент\w{{0,3}}){_END})", re.IGNORECASE)
_UNIT = re.compile(
    r"[ -]?(?:(?:[kmgt]i?b|[kmg]?hz|kg|mg|g|lbs?|pounds?|ounces?|oz|ml|cl|l|liters?|litres?|gal(?:lons?)?"
    r"|[nmck]?m|inch(?:es)?|in|ft|feet|foot|yards?|yd|w|watts?|v|volts?|m?ah|px|mp|megapixels?|bits?|cores?|years?|yrs?"
    r"|months?|weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|packs?|pcs|pieces?|count|sets?|stars?"
    rf"|items?|units?|pages?|x|st|nd|rd|th|people|times|stücke?|jahre?n?|ans|años|лет|шт)(?![{_LETTER}\d])|[\"″°]|[個本枚台年月日時分秒歳人件回代])",
    re.IGNORECASE,
)

_SCALES = {
    1e2: "hundred",
    1e3: "thousand|grand|tausend|tsd|mille|mil|mila|тыс(?:яч[аи]?)?|tys|tusen|tusind|ribu|rb|bin|nghìn",
    1e5: "lakhs?|lacs?",
    1e6: "million(?:en|s|i)?|mio|mn|millón|millones|milhão|milhões|milione|milioni|миллион\\w{0,2}|млн"
    "|mln|miljon(?:er)?|juta|triệu|milyon",
    1e7: "crores?|cr",
    1e9: "billions?|bn|milliarden?|milliards?|mrd|mld|mlrd|md"
    "|миллиард\\w{0,2}|млрд|miliardi?|miljard(?:er)?|milyar|miliar|tỷ",
    1e12: "trillions?|tn|billionen|billones",
}
_SCALE_WORD = re.compile(
    r"[ -]?(?:" + "|".join(f"(?P<w{i}>{words})" for i, words in enumerate(_SCALES.values())) + rf")\.?{_END}",
    re.IGNORECASE,
)
_SCALE_LETTER = re.compile(rf"(k|K|m|MM|M|b|B|T){_END}|\s?([kKM])(?=[€$£])")
_LETTER_SCALES = {"k": 1e3, "K": 1e3, "m": 1e6, "M": 1e6, "MM": 1e6, "b": 1e9, "B": 1e9, "T": 1e12}

_NUMBER = re.compile(
    r"(?:\d{1,3}(?: \d{3})++(?!\d)(?:[.,]\d++)?+|\d++(?:[.,]\d++|['_]\d{3}(?!\d))*+|(?<![\d.])[.]\d++)"
    rf"(?:(?P<e>[eE][+-]?\d{{1,3}})(?![{_LETTER}\d])|\s?(?:[x×*]|\\times)\s?10\s?\^\s?\{{?(?P<power>-?\d{{1,2}})\}}?)?+"
)
_EAST = "〇零一二三四五六七八九十百千万萬億亿兆천백만억조"
_EAST_NUMBER = re.compile(rf"[\d{_EAST}](?:[\d{_EAST}]|[.,](?=\d)|(?<=[천만억]) (?=\d))*+")
_EAST_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|.")
_EAST_DIGITS = {c: i % 10 for i, c in enumerate("〇一二三四五六七八九")} | {"零": 0}
_EAST_SMALL = {"十": 1e1, "百": 1e2, "백": 1e2, "千": 1e3, "천": 1e3}
_EAST_LARGE = {
    "万": 1e4, "萬": 1e4, "만": 1e4, "億": 1e8, "亿": 1e8, "억": 1e8, "兆": 1e12, "조": 1e12,
}  # fmt: skip

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_NOT_A_NUMBER = re.compile(
    r"(?<![\d.,])(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{4}|\d{2}))(?![\d.,]*\d)"  # dates
    r"|\d{4}年(?:\d{1,2}月)?(?:\d{1,2}日)?|\d{1,2}月\d{1,2}日"
    rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?\b(?![.,]\d)"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}})?\b"
    rf"|\b{_MONTH} (?:19|20)\d\d\b"
    r"|(?<![\d:])\d{1,2}:\d\d(?::\d\d)?(?!\d)"  # times of the day
    r"|https?://\S++"
)

_RANGE = re.compile(r"\s?(?:[-–—~〜～]|\.\.\.?|…|to|bis|à|až|do|hasta|до|から|到|至|에서)\s?", re.IGNORECASE)
_RANGE_WITH_A = re.compile(r"\s?(?:a|до|et|and|und|y|e|и|&)\s?", re.IGNORECASE)
_BETWEEN = re.compile(
    rf"(?<![{_LETTER}])(?:between|zwischen|entre|tra|fra|mellan|mellem|между|from|de|da|von|от)\s*$", re.IGNORECASE
)

_FILLER = (
    r"(?:[\s:*_`\"'(\[{~≈≒+-]|(?:is|was|are|be|comes?|would|will|should|could|might|may|likely|probably|of|the|a|an|for|at|to"
    r"|about|around|approximately|approx\.?|roughly|nearly|estimated|this|that|it|its|item|product|i'd|just|only|out"
    r"|ist|beträgt|etwa|ca\.?|rund|ungefähr|est|environ|de|es|unos|é|cerca|circa|около|примерно)(?![\w])"
    r"|is|[はがを約是为為약]|だいたい|およそ|大约|约|は)*+$"
)
_CUE = re.compile(
    r"(?:\b(?:answer|price[sd]?|costs?|costing|estimate[sd]?|estimation|total(?:s|ing)?|worth|valued?|prediction|predict|result"
    r"|say|guess|amount|sells?|sold|retails?|pay|output|preis|kostet|kosten|antwort|prix|coûte|réponse|precio|cuesta|vale"
    r"|valor|respuesta|preço|custa|resposta|prezzo|costa|risposta|цена|стоит|стоимость|ответ|pris|kostar|cena)(?!\w)"
    r"|価格|値段|答え|回答|答案|价格|售价|가격|정답)" + _FILLER,
    re.IGNORECASE,
)
_BOXED = re.compile(r"(?:boxed\s*\{[^{}\d]{0,20}|####[^\d\n]{0,10})$")
_CONCLUSION = re.compile(
    r"(?:\b(?:final (?:answer|price|estimate)|therefore|thus|hence|so|in total|overall|altogether|in summary|daher|also"
    r"|insgesamt|donc|entonces|por lo tanto|portanto|итого|значит)\b|したがって|よって|合計|所以|总共)"
    r"[^\d\n.!?]{0,60}$",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?:=|≈|→|=>)\s*[*$]{0,3}\s*$")
_SOFT = re.compile(
    r"(?:\b(?:is|are|be|about|around|approximately|approx\.?|roughly|nearly|maybe|perhaps|probably|now|for|at|etwa|ca\.?|rund|ungefähr"
    r"|environ|unos|circa|около|примерно)|[~≈約は]|大约|约|약|およそ|だいたい)[\s*]*$",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\b(?:not|was|were|originally|formerly|instead of|compared (?:to|with)|than|saves?|saving|shipping|deposit|msrp"
    r"|list(?: price)?)[\s:*of]*$",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"(?:^|[\s(])(?P<word>[{_LETTER}]*[A-Z][{_LETTER}]*\.?|step|option|item|size|page|version|model|no\.|#)[ -]?$"
)
_NO_NAME = re.compile(
    r"(?:about|around|approximately|approx\.?|roughly|nearly|maybe|perhaps|probably|likely|only|just|minus|ca\.?|etwa|it|is|the)$",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:^|\n)[ \t>*-]*$")
_ALONE_BEFORE = re.compile(r"[\s*\"'`]*")
_ALONE_AFTER = re.compile(r"[ *\"'`.]*(?:\n|$)")
_MINUS_WORD = re.compile(r"\b(?:minus|negative)\s$", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:(?:can(?:no|')t|cannot|can not|unable to|not able to|don't|do not|won't|impossible to)"
    r" (?:\w+ ){0,2}(?:determine|provide|give|predict|estimate|know|have|answer|say|help|assist|tell|access|find)"
    r"|as an? (?:ai|language model|llm)|i'?m sorry|sorry,|insufficient information|not enough information"
    r"|not possible to|unknown|ich kann (?:\w+ ){0,4}nicht|leider|je ne (?:peux|sais|dispose)|désolé"
    r"|no puedo|lo siento|não posso|desculpe|не могу|извините)\b"
    r"|申し訳|すみません|わかりません|分かりません|できません|对不起|抱歉|无法|죄송",
    re.IGNORECASE,
)
_FREE = re.compile(
    r"\W*(?:(?:it is|it's|this is) )?(?:free(?: of charge)?|gratis|kostenlos"
    r"|gratuite?|gratuito|бесплатно|無料|免费|무료)\W*",
    re.IGNORECASE,
)
_ACCOUNTING = re.compile(
    rf"\s*\(\s*([{_SIGNS}A-Z]{{0,3}}\s?[\d.,' ]{{1,40}}[{_SIGNS}]?)\s*\)\s*[{_SIGNS}A-Z]{{0,3}}\.?\s*"
)


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


def read_number(text: str, prefill: str = "") -> float | None:
    """The number that `text` answers, or None where it holds none; always finite. The rules are the module's.

    >>> read_number("The iPhone 15 with 64 GB costs about $1,199.")
    1199.0
    >>> read_number("約3万円")
    30000.0
    """
    text = _normalise(text)
    if _FREE.fullmatch(text[:60]) and len(text) <= 60:
        return 0.0
    if len(text) <= 60 and (match := _ACCOUNTING.fullmatch(text)) and (value := read_number(match[1])) is not None:
        return -abs(value)
    found = _find(text)
    if prefill and found and _starts(text, found[0]):
        return found[0].value
    if not found:
        found = _spelled(text)
    weighed = [(*_weigh(text, number), number.value) for number in found]
    if _REFUSAL.search(text):
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


def _normalise(text: str) -> str:
    text = without_thoughts(text).replace("\x00", " ")
    text = re.sub(r"((?<!\d)\d{1,9})?\s?([¼-¾⅐-⅞])", _fraction, text)
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda m: "^" + m[0], text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"(?![0-9])\d", lambda m: str(unicodedata.decimal(m[0])), text)
    text = text.translate(_PLAIN)
    return re.sub(r"\\(?=[$%,])|(?<=\d)\{(?=,\})|(?<=,)\}(?=\d)", "", text)


_PLAIN = str.maketrans(
    {"−": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "٫": ".", "٬": ",", "،": ",", "\u200b": None, "\t": " "}
)


def _fraction(match: re.Match[str]) -> str:
    return f"{int(match[1] or 0) + unicodedata.numeric(match[2]):.15g}"


def _starts(text: str, number: _Found) -> bool:
    lead = text[: number.start]
    return len(lead) < 40 and re.fullmatch(_FILLER.removesuffix("$"), lead, re.IGNORECASE) is not None


def _find(text: str) -> list[_Found]:
    """Every finite number, in order, ranges and `2 dollars and 50 cents` already joined."""
    text = _NOT_A_NUMBER.sub(lambda m: "\x00" * len(m[0]), text)
    point_thousands = re.search(r"\d,\d{1,2}(?![\d,])", text) is not None
    found: list[_Found] = []
    position = 0
    for east in _EAST_NUMBER.finditer(text):
        if any(c in _EAST for c in east[0]) and (number := _east(text, east)) is not None:
            found += _western(text, position, east.start(), point_thousands)
            found.append(number)
            position = number.end
    found += _western(text, position, len(text), point_thousands)
    return _join(text, found)


def _western(text: str, start: int, end: int, point_thousands: bool) -> list[_Found]:
    numbers = (_complete(text, m.start(), m.end(), m, point_thousands) for m in _NUMBER.finditer(text, start, end))
    return [number for number in numbers if number is not None]


def _east(text: str, match: re.Match[str]) -> _Found | None:
    """A number with kanji or hangul numerals; those without a digit are read with care, as they stand in many words."""
    total = section = 0.0
    digits: float | None = None
    for token in _EAST_TOKEN.findall(match[0]):
        if token[0].isascii() and token[0].isdigit():
            digits = _plain_value(token)
            if digits is None:
                return None
        elif token in _EAST_DIGITS:
            digits = (digits or 0.0) * 10 + _EAST_DIGITS[token]
        elif token in _EAST_SMALL:
            section += (1.0 if digits is None else digits) * _EAST_SMALL[token]
            digits = None
        elif token in _EAST_LARGE:
            section += digits or 0.0
            total += (section or 1.0) * _EAST_LARGE[token]
            section, digits = 0.0, None
    value = total + section + (digits or 0.0)
    spelled = not any(c.isascii() for c in match[0])
    if spelled and any(c in "천백만억조" for c in match[0]):
        return None
    number = _Found(match.start(), match.end(), value)
    scale = next((_EAST_LARGE.get(c) or _EAST_SMALL.get(c) or 1.0 for c in reversed(match[0])), 1.0)
    number = replace(_with_marks(text, number), scale=scale)
    if spelled and not number.currency:
        alone = not text[: number.start].strip(" 約は:") and not text[number.end :].strip(" .。")
        return replace(number, against=0 if alone else 3) if alone or len(match[0]) > 1 else None
    return number


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
    value = _plain_value(body, point_thousands or _POINT_THOUSANDS.search(around) is not None)
    if value is None:
        return None
    value = float(f"{value!r}{exponent}") if exponent and "e" not in repr(value) else value
    number = _with_marks(text, _Found(start, end, value))
    glued = start > 0 and re.match(rf"[{_LETTER}_]-?$", text[start - 1 : start]) is not None
    if glued and not number.currency:
        number = replace(number, against=8)
    return number if isfinite(number.value) else None


def _with_marks(text: str, number: _Found) -> _Found:
    """Add what stands directly before and after: sign, currency, scale, cents, unit."""
    start, end, value, scale, against = number.start, number.end, number.value, 1.0, 0
    end = m.end() if (m := re.compile(r"[.,][-–—]{1,2}(?!\d)").match(text, end)) else end
    if m := _SCALE_WORD.match(text, end):
        scale, end = list(_SCALES)[int(m.lastgroup[1:])] if m.lastgroup else 1.0, m.end()
    elif m := _SCALE_LETTER.match(text, end):
        scale, end = _LETTER_SCALES[m[1] or m[2]], m.end()
    currency = cents = False
    if m := _CURRENCY_AFTER.match(text, end):
        currency, end = True, m.end()
    elif m := _CENTS.match(text, end):
        currency, cents, end, scale = True, True, m.end(), scale / 100
    elif m := _PERCENT.match(text, end):
        against, end = 1, m.end()
    elif m := _UNIT.match(text, end):
        against = 4
    elif re.compile(rf"[{_LETTER}]").match(text, end):
        against = 8
    negative = False
    for _ in range(2):  # the sign stands before or after the currency
        lead = text[max(0, start - 6) : start]
        if m := _CURRENCY_BEFORE.search(lead):
            currency, start = True, start - len(m[0])
        elif lead.endswith(("-", "–")) and not re.search(r"(?:[\d)%]\s?|[^\W\d]|\.)[-–]$", lead):
            negative, start = True, start - 1
    if _MINUS_WORD.search(text[max(0, start - 10) : start]):
        negative = True
    if _is_year(number, value, scale) and not currency:
        against += 3
    value *= scale
    return replace(
        number, start=start, end=end, value=-value if negative else value, scale=scale, currency=currency, cents=cents,
        against=number.against + against,
    )  # fmt: skip


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
    if len(between) > 8:
        return None
    if b.cents and a.currency and not a.cents and re.fullmatch(r",? ?(?:and |und |et |y |e )?", between):
        return replace(a, end=b.end, value=a.value + b.value)
    high = b.value
    is_range = _RANGE.fullmatch(between) or (
        _RANGE_WITH_A.fullmatch(between) and _BETWEEN.search(text[max(0, a.start - 12) : a.start])
    )
    if not is_range and high < 0 and not between.strip():  # `10 -20`
        is_range, high = _RANGE.fullmatch("-"), -high
    if not is_range or a.against >= 8:
        return None
    low = a.value * b.scale if a.scale == 1 and a.value < high / b.scale else a.value
    if not low < high:
        return None
    return replace(
        b, start=a.start, value=(low + high) / 2, currency=a.currency or b.currency, against=min(a.against, b.against)
    )


def _weigh(text: str, number: _Found) -> tuple[int, bool]:
    """(weight, whether of equals the last wins)."""
    before, after = text[max(0, number.start - 80) : number.start], text[number.end : number.end + 40]
    weight, last = -number.against, False
    aside = _ASIDE.search(before)
    if number.currency:
        weight += 4
    if _BOXED.search(before):
        weight, last = weight + 12, True
    elif _CONCLUSION.search(before):
        weight, last = weight + 6, True
    elif _CUE.search(before) and not aside:
        weight += 4
    elif _EQUALS.search(before):
        weight, last = weight + 3, True
    elif _SOFT.search(before):
        weight += 1
    if re.search(r"\*\*[^*\n]{0,30}$", before) and re.match(r"[^*\n]{0,30}\*\*", after):
        weight += 2
    if aside:
        weight -= 3
    if number.start < 40 and _ALONE_BEFORE.fullmatch(text[: number.start]) and _ALONE_AFTER.match(after):
        weight += 6
    if not number.currency and (m := _NAMED.search(before)) and not (_CUE.search(before) or _NO_NAME.match(m["word"])):
        weight -= 2
    if not number.currency and re.match(r"[.)]\s+\S|\s?[:)]\s", after) and _BULLET.search(before):
        weight -= 3
    return weight, last


_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""".split()  # noqa: SIM905
_TENS = {f"{word}ty": 10 * i for i, word in enumerate("twen thir for fif six seven eigh nine".split(), 2)}  # noqa: SIM905
_WORD_VALUES = {word: i for i, word in enumerate(_ONES)} | _TENS
_WORD_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_ANY_WORD = "|".join([*reversed(_ONES), *_TENS, *_WORD_SCALES])
_SPELLED = re.compile(
    rf"\b(?:(?:an? )(?={'|'.join(_WORD_SCALES)}))?(?:{_ANY_WORD})(?:(?:[ -]|,? and )(?:{_ANY_WORD})\b)*+", re.IGNORECASE
)


def _spelled(text: str) -> list[_Found]:
    """Numbers in English words, sought only where the text has no digits."""
    found = []
    for match in _SPELLED.finditer(text):
        if text[match.end() : match.end() + 1].isalpha():
            continue
        total = section = 0.0
        for word in re.findall(r"[a-z]+", match[0].lower()):
            if word in _WORD_VALUES:
                section += _WORD_VALUES[word]
            elif word == "hundred":
                section = (section or 1.0) * 100
            elif word in _WORD_SCALES:
                total, section = total + (section or 1.0) * _WORD_SCALES[word], 0.0
        number = _with_marks(text, _Found(match.start(), match.end(), total + section))
        alone = not text.strip(" .!*\n").lower().replace(match[0].lower(), "", 1)
        if number.currency or alone or match[0].lower() != "one":
            found.append(number)
    return _join(text, found)
