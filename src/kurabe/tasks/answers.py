"""From what a model or a person said to the task's answer: a number, one of its labels, or a text.

An answer that can't be read is None, never 0; `fallback` is the stated rule that scores it.
"""

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from kurabe.errors import DataError
from kurabe.models.engines.thoughts import behind_thoughts
from kurabe.tasks.number_marks import MONEY
from kurabe.tasks.number_words import in_digits
from kurabe.tasks.numbers import read_number, without_thoughts
from kurabe.tasks.spec import Kind

__all__ = ["fallback", "read_answer", "read_label", "read_number", "read_text"]


def read_answer(text: str, kind: Kind, labels: Sequence[str] = (), prefill: str = "") -> float | str | None:
    """Read `text` as the task's kind asks; None where it can't be read. `prefill` is what began the answer."""
    if kind == "number":
        return read_number(text, prefill)
    if kind == "label":
        return read_label(text, labels)
    return read_text(text)


def fallback(y_train: Iterable[float | str], kind: Kind) -> float | str:
    """What stands for an unread answer: the training median, or the most frequent label or text (of equals the first
    in sorted order). Raises DataError where there are no training answers."""
    values = list(y_train)
    if not values:
        raise DataError("The training part is empty, so there is no median or most frequent answer; give it rows.")
    if kind == "number":
        return float(np.median(np.asarray(values, dtype=np.float64)))
    counts = Counter(str(value) for value in values)
    return min(counts, key=lambda value: (-counts[value], value))


def read_text(text: str) -> str | None:
    """The text without a reasoning model's thoughts and without space around it; None where nothing is left."""
    return behind_thoughts(text).replace("\x00", "").strip() or None


_ANSWER = (
    r"answer|label|category|class|classification|sentiment|emotion|topic|language|intent|priority|type|tone"
    r"|verdict|rating"
    r"|prediction|choice"
)
_CUE = re.compile(
    rf"(?:\b(?:{_ANSWER}|result|output|option"
    r"|classified as|classify (?:it|this) as|belongs (?:to|in)|would be|i'd say|choose|pick|select|opt for"
    r"|go(?:ing)? with"
    r"|, (?:mainly|mostly|primarily|predominantly|chiefly|above all|hauptsächlich|überwiegend|surtout|principalement"
    r"|principalmente|sobre todo|soprattutto|sobretudo)"
    r"|antwort|réponse|respuesta|resposta|risposta|ответ)"
    r"|答え|回答|答案|分類|類别|정답)(?: (?:is|ist|est|es|é|as|to|in|should be|would be|the|a|category|class|label))*"
    r"\s*(?:[:=→は是]|->)?(?!\. ?\n)\W{0,6}(?:the )?$",
)
_HEADED = re.compile(
    rf"(?:(?:^|\n)\W*(?:(?:(?:the|my|final|correct|best|predicted) )*(?:{_ANSWER})|antwort|réponse|respuesta"
    rf"|resposta|risposta"
    rf"|ответ|答え|回答|答案|정답) ?\W{{0,3}}[:=：]|\b(?:the|my) (?:\w+ )?(?:{_ANSWER}) (?:is|would be))\W*$"
)
"""What gives the answer in so many words: `Answer: B` on a line of its own, `the answer is B`."""
_CONCEDED = re.compile(
    r"\b(?:although|though|even if|despite|while|whereas|in spite of|with (?:some|a few|slight|hints? of"
    r"|a (?:hint|touch) of)"
    r"|obwohl|trotz|bien que|malgré|aunque|anche se|embora|хотя)\b[^,.;:!?\n]{0,80}$"
)
"""A clause that grants something and answers otherwise: `although the negative point …`."""
_CONTRASTED = re.compile(
    r"\b(?:but|however),? (?:[a-z]+,? )?(?:it(?:'s| is)|this is|that's|that is|i(?:'d| would)"
    r"|the answer is)\b[^.!?\n]{0,30}$"
)
"""What takes the place of what was said before: `it looks like spam, but it is not spam`."""
_CONCLUSION = re.compile(r"(?:boxed\W*|\b(?:final answer|therefore|thus|hence|so|overall)\b[^.\n]{0,60})$")
_NEGATED = re.compile(
    r"(?:(?:\b(?:not|no|never|neither|nor|nothing|hardly|without|cannot be|than|instead of"
    r"|eliminat(?:e|es|ed|ing)|rul(?:e|es|ed|ing) out|exclud(?:e|es|ed|ing)"
    r"|(?:eher|mehr) \w+ als|(?:plutôt|plus) \w+ que|más \w+ que|(?:piuttosto|più) \w+ che|mais \w+ (?:do )?que"
    r"|kein\w{0,2}|nicht|weder|noch|pas|ni|não|nem|né|не|нет|ни|чем)|n't)"
    r"(?: (?:(?!(?:but|rather|sondern|aber|mais|sino|pero|ma|mas|bensì|но|а) )\w+ ){0,2}| ?\W?)|\bnon ?|(?:不是?"
    r"|并非|非|没有)(?:太|很)?)$"
)
_NEGATED_AFTER = re.compile(
    r"\W?(?: ?[:=] ?\W?(?:no|not|false)\b|で(?:は|も)?(?:な|無|あり)|じゃな|でも.{1,12}でもな"
    r"|[이가은는도]? ?아[니님닙닌]|도 ?.{1,8}도 ?아[니님닙닌]"
    r"|[이가] ?없"
    r"| (?:is|was|are|were|seems|would be|can(?:no|')t be)(?:n't| not| wrong\b| incorrect\b| false\b))"
)
_ASKED = re.compile(
    r"\b(?:whether|(?:clear|sure|know|tell|say|see|determine|decide|judge|assess|classify|confirm|verify|check|ask|asked"
    r"|wonder|unclear) if)\b[^.!?,]{0,40}$"
)
_OWNED = (
    re.compile(r"\byour $"),
    re.compile(r" (?!(?:answer|label|category|class|sentiment|rating|prediction|choice|is|was|and|or)\b)[a-z]{3}"),
    re.compile(r"\b(?:the|an?|any|each|every) $"),
    re.compile(r" [a-z]+ (?:should|must|can|could|may|might|will|would|needs?)\b"),
)
"""Before and after a label that only tells which: `your spam folder`; `the spam filter should decide`."""
_PART_OF_A_WORD = re.compile(r"\b(?:anti|pseudo|semi|quasi|ex|pre|post|pro|sub) $")
_DETERMINERS = {"no", "other", "none", "нет", "não", "kein", "keine"}
_OF_ITS_OWN = (
    "it|its|this|that|the|there|these|those|because|since|as|i|he|she|we|you|they|but|and|or|not|is|was|of"
    "|это|потому|так|не"
)
_BEFORE_A_NOUN = re.compile(rf" (?!(?:{_OF_ITS_OWN})\b|no\b)[^\W\d]")
"""After the label `no` or `other`: a noun that it belongs to, as in `no idea`."""
_JOINT = re.compile(
    r"\W*?(?:[,/|&、，・\s~-]|\b(?:and|or|to|und|oder|bis|et|ou|y|o|e|и|или)\b|または|もしくは|あるいは|还是"
    r"|或者?|和|与|또는|와|과|[かとや])\W*"
)
"""What joins two labels that are both named, so that neither is the answer."""
_WIDE = r"[^\W\u2e80-\u9fff\uac00-\ud7af\u0e00-\u0eff_]"
"""A letter or digit of a script that writes words apart (not Chinese, Japanese, Korean, Thai, Lao)."""


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The one of `labels` that `text` answers, or None where it names none or leaves several open.

    Case, width, markdown, quotes, `&` for `and` and `_` or `-` for a space do not count. In this order: the whole
    answer is a label; a label follows a conclusion (`\\boxed{}`, `final answer`; the last one) or a cue (`Label: …`);
    the first line is one; a bold one; the only one named, where neither a label inside a longer one nor a negated one
    counts; the one left where all others are negated; the one the answer begins with; the number equal to a numeric
    label (`4/5` is 4 where 5 is the highest); the only label that begins with the answer (cut short), from two
    characters on. Labels that are named side by side (`A, B`; `yes or no`) or as half of another name (`home and
    garden` where only `Home` is a label) are not chosen.
    """
    if (exact := text.strip()) in labels:
        return exact
    text = _rated(without_thoughts(text), labels)
    names = _Names(labels)
    whole = _bare(text)
    if whole in names.by_bare:
        return names.one(whole, text)
    if (loose := names.loosely(whole)) is not None:
        return names.one(loose, text)
    mentions = names.mentions(text)
    line = _bare(text.strip().partition("\n")[0])
    chosen = _by_cue(mentions)
    if chosen is None and line in names.by_bare and not (mentions and mentions[0].open):
        chosen = line
    if chosen is None:
        chosen = _by_mention(mentions, list(names.by_bare))
    if chosen is None and not mentions:
        chosen = _by_number(text, list(names.by_bare)) or _by_prefix(whole, list(names.by_bare))
    return names.one(chosen, text) if chosen is not None else None


class _Mention:
    """A label named in the text, with what stands before and after it. `open`: another stands beside it."""

    def __init__(self, name: str, text: str, start: int, end: int) -> None:
        self.name, self.start = name, start
        self.end, self.open = end, False
        self.before, self.after = text[max(0, start - 90) : start], text[end : end + 24]
        self.bold = self.before.rstrip(" \"'").endswith("**") and self.after.lstrip(" \"'.").startswith("**")
        self.negated = bool(_NEGATED.search(self.before) or _NEGATED_AFTER.match(self.after))
        self.conceded = _CONCEDED.search(self.before) is not None


class _Names:
    """The labels by their bare form; several may share one."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.by_bare: dict[str, list[str]] = defaultdict(list)
        for label in dict.fromkeys(labels):
            if bare := _bare(label):
                self.by_bare[bare].append(label)

    def one(self, bare: str, text: str) -> str | None:
        """The label of a bare form; where several share it, the longest that stands in the text as it is written, or
        but for its case."""
        same = self.by_bare[bare]
        if len(same) == 1:
            return same[0]
        verbatim = [label for label in same if label in text]
        folded = [label for label in same if label.casefold() in text.casefold()]
        longest = sorted(verbatim if len(folded) == len(verbatim) else folded, key=len)
        return longest[-1] if len(longest) == 1 or (longest and len(longest[-1]) > len(longest[-2])) else None

    def mentions(self, text: str) -> list[_Mention]:
        cased = _plain(text)
        folded = cased.casefold()
        if len(folded) != len(cased):  # a letter such as ß grows: positions no longer agree
            cased = folded
        present = sorted((bare for bare in self.by_bare if bare in folded), key=len, reverse=True)
        if not present:
            return []
        pattern = re.compile("|".join(_bounded(bare) for bare in present))
        found = []
        for match in pattern.finditer(folded):
            mention = _Mention(match[0], folded, match.start(), match.end())
            letter = len(match[0]) == 1 and match[0].isascii() and match[0].isalpha()
            if letter and not self._is_option(cased[match.start()], mention):
                continue
            if not _is_part(mention):
                found.append(mention)
        _leave_open(folded, found)
        return _without_question(found)

    def loosely(self, whole: str) -> str | None:
        """The one label that is `whole` but for accents and the word `and`: `negatif`, `home kitchen`."""
        same = [bare for bare in self.by_bare if _loose(bare) == _loose(whole)]
        return same[0] if len(same) == 1 else None

    def _is_option(self, char: str, mention: _Mention) -> bool:
        """Whether a one-letter label is meant, and not the article `a` or the pronoun `I`."""
        closed = not mention.after.strip() or mention.after[:1] in ").:,;?]}*\n\"'"
        marked = mention.before.endswith("(") or mention.after.startswith(")")
        if closed and (char.isupper() or marked or _CUE.search(mention.before)):
            return True
        if char.isupper() and _CUE.search(mention.before):
            return True
        if char.isupper() and mention.before.endswith(("only ", "Only ")):
            return True
        if char.isupper() and not mention.before.strip() and re.match(r" [-—] ", mention.after):
            return True
        if re.match(r" (?:is|was|it is)\b", mention.after) and (char.isupper() or not mention.before.strip()):
            return True
        beside = re.match(r" ?(?:,|/|&|\||and|or|und|oder|ou|et|y) ?[(*\"']*(\w)(?!\w)", mention.after)
        joined = re.search(r"(?<!\w)(\w)[)*\"']* ?(?:,|/|&|\||and|or|und|oder|ou|et|y) ?$", mention.before)
        return char.isupper() and any(other and other[1] in self.by_bare for other in (beside, joined))


def _loose(bare: str) -> str:
    unaccented = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", bare))
    return unaccented.replace(" and ", " ")


def _is_part(mention: _Mention) -> bool:
    """Whether the label is part of something else: `anti-spam`, `no idea`, `whether it is spam`."""
    if _PART_OF_A_WORD.search(mention.before) or _ASKED.search(mention.before):
        return True
    owner, owned, article, thing = _OWNED
    if (owner.search(mention.before) and owned.match(mention.after)) or (
        article.search(mention.before) and thing.match(mention.after)
    ):
        return True
    return mention.name in _DETERMINERS and _BEFORE_A_NOUN.match(mention.after) is not None


def _leave_open(text: str, mentions: list[_Mention]) -> None:
    """Mark the labels that are named side by side, and those that are half of another name."""
    for first, second in pairwise(mentions):
        between = text[first.end : second.start]
        sentence = re.match(r"[.!] ", between) and len(first.name) > 1
        if first.name == second.name or first.negated or sentence or not _JOINT.fullmatch(between[:30]):
            continue
        if second.negated:
            first.negated = re.match(r" (?:are|were)\b", second.after) is not None  # A and B are wrong
        else:
            first.open = second.open = True
    for mention in mentions:
        begins = not mention.before.strip(" *\"'(\n") or _CUE.search(mention.before)
        if begins and re.match(r" and \w+\W*(?:\n|$)", text[mention.end : mention.end + 60]):
            mention.open = True


def _without_question(mentions: list[_Mention]) -> list[_Mention]:
    """The mentions without a question that offers several and is answered behind it: `Spam or ham? Ham.`"""
    asked = max((i for i, m in enumerate(mentions) if m.open and m.after.startswith("?")), default=-1) + 1
    return mentions[asked:] if asked and all(m.open for m in mentions[:asked]) and mentions[asked:] else mentions


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", html.unescape(text)).translate(_PLAIN)
    text = re.sub(r"(?<=\w)[-_]+(?=\w)|(?<=\d) - (?=\d)", " ", text)
    text = re.sub(r"(?<=\w) {0,9}& {0,9}(?=\w)", " and ", text)
    return re.sub(r"[ \t\r\f\v]+", " ", text)


_PLAIN = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "–": "-",
        "−": "-",
        "‐": "-",
        "‑": "-",
        "\ufe0f": None,
        "\u200b": None,
        "\x00": None,
        "`": None,
    }
)


_AROUND = " \n*_#>\"'()[]{}<.,:;!«»„「」『』。、"


def _bare(text: str) -> str:
    """Without width, case, markdown, quotes and punctuation around; a leading minus stays."""
    bare = _plain(text).casefold().strip()
    stripped = bare.strip(_AROUND)
    return stripped or bare


def _bounded(bare: str) -> str:
    """A pattern for the label standing as a word of its own, where its script has words."""
    head = rf"(?<!{_WIDE})" if re.match(_WIDE, bare[0]) else ""
    tail = rf"(?!{_WIDE})" if re.match(_WIDE, bare[-1]) else ""
    if bare[0].isdigit():
        head += r"(?<![\d][.,])(?<![-−])"
    if bare[-1].isdigit():
        tail += r"(?![.,]\d|%)"
    return head + re.escape(bare) + tail


def _by_cue(mentions: list[_Mention]) -> str | None:
    sure = [m for m in mentions if not (m.negated or m.open)]
    headed = {m.name for m in sure if _HEADED.search(m.before)}
    if len(headed) == 1:
        return headed.pop()
    concluding = [m for m in sure if _CONCLUSION.search(m.before) and not m.conceded]
    if concluding:
        return next((m.name for m in reversed(concluding) if m.bold), concluding[-1].name)
    cued = {m.name for m in sure if _CUE.search(m.before)}
    return cued.pop() if len(cued) == 1 else None


def _by_mention(mentions: list[_Mention], names: list[str]) -> str | None:
    sure = [m for m in mentions if not m.negated]
    sure = [m for m in sure if not m.conceded] or sure
    bold = {m.name for m in sure if m.bold}
    if len(bold) == 1:
        return bold.pop()
    named = {m.name for m in sure}
    if any(m.open for m in sure):
        return None
    if len(named) == 1:
        return named.pop()
    contrasted = {m.name for m in sure if _CONTRASTED.search(m.before)}
    if len(contrasted) == 1:
        return contrasted.pop()
    left = set(names) - {m.name for m in mentions}
    if mentions and not named and len(left) == 1:
        return left.pop()
    first = min(sure, key=lambda m: m.start, default=None)
    if (
        first is not None
        and not first.before.strip(" *\"'(\n")
        and not re.match(r" ?(?:/|\||or\b|oder\b|ou\b)", first.after)
    ):
        return first.name
    return None


def _rated(text: str, labels: Sequence[str]) -> str:
    """`text` with a rating as its number alone, where labels are numbers: `4 out of 5`, `★★★★`, `5点中4点`.

    A rating on a scale that does not end at the highest label is taken out, as it can't be read.
    """
    values = _values(labels)
    if not values:
        return text
    highest = max(values.values())

    def rating(match: re.Match[str]) -> str:
        value, scale = (match["value"], match["scale"]) if match["value"] else (match["value2"], match["scale2"])
        return value if float(scale) == highest else ""

    text = unicodedata.normalize("NFKC", text)
    if not re.search(r"\d", text):
        text = re.sub(
            r"\b(?:minus|negative) (?=\d)", "-", in_digits(text, MONEY, has_digits=False), flags=re.IGNORECASE
        )
    text = _RATING.sub(rating, text)
    if not re.search(r"\d", text):
        text = re.sub("(?:[★⭐🌟]\ufe0f?)+[☆]*", lambda m: str(len(re.findall("[★⭐🌟]", m[0]))), text)
    return text


_RATING = re.compile(
    r"(?<![\d.,])(?:(?P<value>\d{1,3}(?:\.\d{1,2})?)\s?(?:[/／]|out of|of|von|sur|de|di|из|van|av)\s?(?P<scale>\d{1,3})"
    r"|(?P<scale2>\d{1,3})\s?(?:点|段階|つ|つ星"
    r"|星)?(?:満点)?(?:評価)?中、?(?:の)?\s?(?P<value2>\d{1,3}(?:\.\d{1,2})?))(?![\d/])",
    re.IGNORECASE,
)


def _values(names: Iterable[str]) -> dict[str, float]:
    """The labels' values where all of them are numbers, else nothing."""
    try:
        return {name: float(name) for name in names}
    except ValueError:
        return {}


def _by_number(text: str, names: list[str]) -> str | None:
    """The numeric label that equals the number in the text, where all labels are numbers."""
    value = read_number(text)
    equal = [name for name, number in _values(names).items() if number == value]
    return equal[0] if len(equal) == 1 else None


def _by_prefix(whole: str, names: list[str]) -> str | None:
    begun = [name for name in names if name.startswith(whole if len(whole) >= 2 else f"{whole} ")] if whole else []
    return begun[0] if len(begun) == 1 else None
