"""Numbers written in words, turned into digits: `seventy-five dollars` into `75 dollars`.

English in full; German, French, Spanish, Italian, Portuguese and Russian up to the thousands where the number is the
whole answer or stands before a currency, since their small numbers are also articles (`ein`, `un`, `uma`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""".split()  # noqa: SIM905
_TENS = {f"{word}ty": 10 * i for i, word in enumerate("twen thir for fif six seven eigh nine".split(), 2)}  # noqa: SIM905
_ENGLISH = {word: i for i, word in enumerate(_UNITS)} | _TENS | {"fourty": 40}
_SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 1_000,
    "lakh": 100_000,
    "million": 1_000_000,
    "crore": 10_000_000,
    "billion": 1_000_000_000,
    "trillion": 1_000_000_000_000,
}
_SCALE = "|".join(_SCALES)
_WORD = rf"(?:{'|'.join(sorted([*_ENGLISH, *_SCALES], key=len, reverse=True))})\b"
_SPELLED = re.compile(
    rf"(?:\b|(?=\d))(?:half an? (?P<half>{_SCALE})\b"
    rf"|(?P<other>(?:few|several|many|some|\d) ?-?(?:{_SCALE})\b(?:[ -](?:{_SCALE})\b)*+|[a-z]+ty-(?:something|odd)\b)"
    rf"|(?P<lead>an? (?:couple (?:of )?)?(?=(?:{_SCALE})\b))?(?P<words>{_WORD}(?:(?:[ -]+|,? and ){_WORD})*+)"
    rf"(?P<point> point(?: (?:{'|'.join(_UNITS[:10])})\b)++)?(?P<fraction> and an? (?:half|quarter)\b)?"
    rf"(?: (?P<scale>{_SCALE})\b)?)",
    re.IGNORECASE,
)


_HALF_A_MILLION = re.compile(
    r"(?<!\w)(?:(?:eine[rn]?|une?|una|um) )?(?:halben?|demi|medi[oa]|mezz[oa]|mei[oa])[ -](?=mi[lj])", re.IGNORECASE
)


def all_words() -> list[str]:
    """Every word that may be read as a number or a part of one."""
    parts = [_ENGLISH_PARTS, *(language.parts for language in _LANGUAGES if language.parts is not None)]
    words = [word for language in _LANGUAGES for word in language.words]
    return [*_ENGLISH, *_SCALES, *words, *(word for one in parts for word in (*one.below, one.half))]


def in_digits(text: str, money: re.Pattern[str], *, has_digits: bool) -> str:
    """`text` with its spelled numbers as digits. `money` matches a currency or its cents after a number.

    Where the text has digits already, only spelled amounts of money are changed. A lone `one` is a pronoun more often
    than a number: it stays unless it is the whole answer or money.
    """
    text = _HALF_A_MILLION.sub("0.5 ", text)
    if not has_digits:
        text = _ENGLISH_PARTS.in_digits(text)
    text = re.sub(rf"(?<=\d) of an? (?=(?:{_SCALE})\b)", " ", text, flags=re.IGNORECASE)
    whole = text.strip(" .!*\"'`\n").casefold()

    def written(match: re.Match[str]) -> str:
        if match["other"]:  # `a few hundred` is no number, and `3 million` is read with its digits
            return match[0]
        paid = money.match(text, match.end()) is not None
        lone = match[0].casefold() == "one" and whole not in ("one", "minus one", "negative one")
        if (has_digits or lone) and not paid:
            return match[0]
        joint = " and " if " and " in match[0] else " "
        return joint.join(_plain(value) for value in _values(match))

    text = _SPELLED.sub(written, text)
    for language in _LANGUAGES:
        if language.parts is not None:
            text = language.parts.in_digits(text)
        for _ in range(2):  # the higher end of a range shows that the lower one is a number
            text = _foreign_in_digits(text, language, money, whole)
    return text


def _plain(value: float) -> str:
    return f"{value:.15g}" if value < 1e15 else f"{value:.0f}"


def _values(match: re.Match[str]) -> list[float]:
    """The numbers of one run of words: mostly one, but `one two three` is three."""
    if match["half"]:
        return [_SCALES[match["half"].casefold()] / 2]
    words = match["words"].casefold()
    values = list(_sums(re.findall(r"[a-z]+", words)))
    if match["point"]:
        decimals = "".join(str(_ENGLISH[word]) for word in match["point"].casefold().split()[1:])
        values[-1] = float(f"{values[-1]:.0f}.{decimals}")
    if match["fraction"]:
        values[-1] += 0.25 if match["fraction"].casefold().endswith("quarter") else 0.5
    if match["scale"]:
        values[-1] *= _SCALES[match["scale"].casefold()]
    if match["lead"] and "couple" in match["lead"].casefold():
        values[0] *= 2
    return values


def _sums(words: Iterable[str]) -> Iterable[float]:
    """Add words up while they belong to one number, so that no run of words grows without bound."""
    total = section = 0.0
    last_scale, begun, apart = float("inf"), False, False
    for word in words:
        if word == "and":  # two hundred and five; but forty and fifty are two numbers
            apart = section % 100 > 0
            continue
        value, scale = _ENGLISH.get(word), _SCALES.get(word)
        if value is not None:
            room = section % 100 == 0 or (section % 10 == 0 and section % 100 >= 20 and 0 < value < 10)
            if begun and not apart and 10 <= section < 100 and value >= 10 and not total:
                section = section * 100 + value  # nineteen ninety-nine
                continue
            if begun and (apart or not room or value == 0 or (section == 0 and last_scale == float("inf"))):
                yield total + section
                total = section = 0.0
                last_scale = float("inf")
            section += value
        elif scale is not None and scale < 1_000 and (section < 100 or not begun):
            section = (section or 1.0) * scale
        elif scale is not None and scale >= 1_000 and scale < last_scale:
            total, section, last_scale = total + (section or 1.0) * scale, 0.0, scale
        elif scale is not None:
            yield total + section
            total, section, last_scale = 0.0, float(scale), float("inf")
        begun, apart = True, False
    yield total + section


@dataclass(frozen=True)
class _Parts:
    """Fractions in the words of a language: `two thirds`. `above`: the words of small numbers; `below`: those of parts,
    by the number of parts; `half`: what is a half by itself; `of`: what follows a part of something."""

    above: dict[str, int]
    below: dict[str, int]
    half: str
    of: str
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        above, below = ("|".join(sorted(words, key=len, reverse=True)) for words in (self.above, self.below))
        pattern = re.compile(
            rf"(?<![\w-])(?:(?:(?P<whole>{above}) (?:and|und|et|y|e) )?(?P<above>{above})[ -](?P<below>{below})"
            rf"|(?P<half>{self.half}))(?![\w-])(?P<of> (?:{self.of})(?!\w))?",
            re.IGNORECASE,
        )
        object.__setattr__(self, "pattern", pattern)

    def in_digits(self, text: str) -> str:
        """`text` with its fractions as digits: several parts, a part of something, and what is the whole answer. `A
        third` and `half` stand in other places too."""

        def written(match: re.Match[str]) -> str:
            above = 1 if match["half"] else self.above[match["above"].casefold()]
            below = 2 if match["half"] else self.below[match["below"].casefold()]
            alone = _ALONE_BEFORE.fullmatch(text[: match.start()]) and _ALONE_AFTER.match(text, match.end())
            if not (above > 1 or alone or match["of"]):
                return match[0]
            whole = self.above[match["whole"].casefold()] if match["whole"] else 0
            return f"{whole + above / below:.15g}{match['of'] or ''}"

        return self.pattern.sub(written, text)


_ALONE_BEFORE = re.compile(
    r"\W*(?:(?:about|around|roughly|nearly|almost|exactly|etwa|fast|environ|casi|circa|quase)\W*)?", re.IGNORECASE
)
_ALONE_AFTER = re.compile(r"\W*(?:\n|$)")


@dataclass(frozen=True)
class _Language:
    """The small grammar of a language: its number words and their values, what joins two of them, and its fractions."""

    words: dict[str, float]
    joint: str
    parts: _Parts | None = None
    word: str = field(init=False)
    number: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        word = "|".join(sorted(self.words, key=len, reverse=True))
        object.__setattr__(self, "word", word)
        number = re.compile(rf"(?<!\w)(?<!\d )(?:{word})(?:(?:{self.joint})(?:{word}))*+(?!\w)", re.IGNORECASE)
        object.__setattr__(self, "number", number)


_TO_DIGITS = re.compile(r"(?: (?:und|bis|oder|à|ou|o|a|до|или) |[-–])\d")


def _foreign_in_digits(text: str, language: _Language, money: re.Pattern[str], whole: str) -> str:
    def written(match: re.Match[str]) -> str:
        said = match[0].casefold()
        if said != whole and not (money.match(text, match.end()) or _TO_DIGITS.match(text, match.end())):
            return match[0]
        value = _foreign_sum(language.words[word] for word in re.findall(language.word, said))
        return match[0] if value is None else _plain(value)

    return language.number.sub(written, text)


def _foreign_sum(values: Iterable[float]) -> float | None:
    total = section = 0.0
    for value in values:
        if value == 1_000:
            total, section = total + (section or 1) * 1_000, 0
        elif value == 100:
            section = (section % 100 or 1) * 100 + section // 100 * 100
        elif value == 20 and section % 100 == 4:  # quatre-vingts
            section += 76
        else:
            section += value
    return total + section if section < 1_000 and total < 1_000_000 else None


def _numbered(*groups: tuple[float, float, str]) -> dict[str, float]:
    """Words by value: each group counts from a start in steps; `/` parts spellings of one value."""
    return {
        word: start + step * place
        for start, step, words in groups
        for place, spellings in enumerate(words.split())
        for word in spellings.split("/")
    }


_ENGLISH_PARTS = _Parts(
    {"a": 1, "an": 1} | {word: value for word, value in _ENGLISH.items() if 0 < value < 100},
    {"half": 2, "halves": 2} | {
        word: parts
        for parts, name in enumerate(["third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 3)
        for word in (name, f"{name}s")
    } | {"fourth": 4, "fourths": 4},
    "half", "of",
)  # fmt: skip
_LANGUAGES = (
    _Language(
        _numbered(
            (1, 1, "ein/eins/eine zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"),
            (13, 1, "dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn"),
            (20, 10, "zwanzig dreißig/dreissig vierzig fünfzig sechzig siebzig achtzig neunzig hundert"),
            (1_000, 0, "tausend"),
            (1.5, 1, "anderthalb/eineinhalb zweieinhalb dreieinhalb viereinhalb fünfeinhalb"),
        ),
        "und|[ -]?",
        _Parts(
            {"ein": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sieben": 7},
            {"halb": 2, "halbes": 2, "drittel": 3, "viertel": 4, "fünftel": 5, "achtel": 8, "zehntel": 10},
            "die hälfte", "der|des|von",
        ),
    ),
    _Language(
        _numbered(
            (1, 1, "un/une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"),
            (20, 10, "vingt/vingts trente quarante cinquante soixante septante huitante/octante nonante cent/cents"),
            (1_000, 0, "mille"),
        ),
        "[ -]et[ -]|[ -]",
        _Parts(
            {"un": 1, "une": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5},
            {"demi": 2, "tiers": 3, "quart": 4, "quarts": 4, "cinquième": 5, "cinquièmes": 5, "huitièmes": 8},
            "la moitié", "d[eu]s?",
        ),
    ),
    _Language(
        _numbered(
            (1, 1, "uno/un/una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince"),
            (16, 1, "dieciséis/dieciseis diecisiete dieciocho diecinueve veinte veintiuno/veintiún"),
            (22, 0, "veintidós veintidos"),
            (23, 1, "veintitrés/veintitres veinticuatro veinticinco veintiséis/veintiseis veintisiete veintiocho"),
            (29, 1, "veintinueve treinta"),
            (40, 10, "cuarenta cincuenta sesenta setenta ochenta noventa cien/ciento"),
            (200, 100, "doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos"),
            (900, 100, "novecientos mil"),
        ),
        " y | ",
        _Parts(
            {"un": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5},
            {"medio": 2, "tercio": 3, "tercios": 3, "cuarto": 4, "cuartos": 4, "quinto": 5, "quintos": 5, "octavos": 8},
            "la mitad", "del?",
        ),
    ),
    _Language(
        _numbered(
            (1, 1, "uno/un/una due tre/tré quattro cinque sei sette otto nove dieci undici dodici tredici quattordici"),
            (15, 1, "quindici sedici diciassette diciotto diciannove"),
            (20, 10, "venti/vent trenta/trent quaranta/quarant cinquanta/cinquant sessanta/sessant settanta/settant"),
            (80, 10, "ottanta/ottant novanta/novant cento"),
            (1_000, 0, "mille/mila"),
        ),
        " e | ?",
        _Parts(
            {"un": 1, "due": 2, "tre": 3, "quattro": 4, "cinque": 5},
            {"mezzo": 2, "terzo": 3, "terzi": 3, "quarto": 4, "quarti": 4, "quinto": 5, "quinti": 5, "ottavi": 8},
            "(?:la )?metà", "d(?:i|el|ella|ei|elle)",
        ),
    ),
    _Language(
        _numbered(
            (1, 1, "um/uma dois/duas três quatro cinco seis sete oito nove dez onze doze treze"),
            (14, 1, "catorze/quatorze quinze"),
            (16, 1, "dezesseis/dezasseis dezessete/dezassete dezoito dezenove/dezanove"),
            (20, 10, "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa cem/cento"),
            (200, 100, "duzentos trezentos quatrocentos quinhentos seiscentos setecentos oitocentos novecentos mil"),
        ),
        " e | ",
        _Parts(
            {"um": 1, "dois": 2, "duas": 2, "três": 3, "quatro": 4, "cinco": 5},
            {"meio": 2, "terço": 3, "terços": 3, "quarto": 4, "quartos": 4, "quinto": 5, "quintos": 5, "oitavos": 8},
            "(?:a )?metade", "d[aeo]s?",
        ),
    ),
    _Language(
        _numbered(
            (1, 1, "один/одна два/две три четыре пять шесть семь восемь девять десять одиннадцать двенадцать"),
            (13, 1, "тринадцать"),
            (14, 1, "четырнадцать пятнадцать шестнадцать семнадцать восемнадцать девятнадцать"),
            (20, 10, "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто"),
            (100, 100, "сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот"),
            (1_000, 0, "тысяча/тысячи/тысяч"),
        ),
        " ",
    ),
)  # fmt: skip
