"""From what a model or a person said to the task's answer: a number, one of its labels, or a text.

An answer that can't be read is None, never 0; `fallback` is the stated rule that scores it.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from kurabe.errors import DataError
from kurabe.models.engines.thoughts import behind_thoughts
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


_CUE = re.compile(
    r"(?:\b(?:answer|label|category|class|classification|sentiment|rating|result|prediction|output|choice|option"
    r"|classified as|classify (?:it|this) as|belongs (?:to|in)|would be|i'd say"
    r"|antwort|réponse|respuesta|resposta|risposta|ответ)"
    r"|答え|回答|答案|分類|类别|정답)(?: (?:is|ist|est|es|é|as|to|in|should be|would be|the|a|category|class|label))*"
    r"\s*(?:[:=→は是]|->)?\W{0,6}(?:the )?$",
)
_CONCLUSION = re.compile(r"(?:boxed\W*|\b(?:final answer|therefore|thus|hence|so|overall)\b[^.\n]{0,60})$")
_NEGATED = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|cannot be|rather than|instead of"
    r"|kein\w{0,2}|nicht|pas|ni|não|не|нет)|n't)"
    r"(?: (?:\w+ ){0,2}| ?\W?)$"
)
_NEGATED_AFTER = re.compile(r"\W?(?:ではな|じゃな|でな|では無|が없|ではあり)")
_WIDE = r"[^\W\u2e80-\u9fff\uac00-\ud7af\u0e00-\u0eff_]"
"""A letter or digit of a script that writes words apart (not Chinese, Japanese, Korean, Thai, Lao)."""


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The one of `labels` that `text` answers, or None where it names none or leaves several open.

    Case, width, markdown, quotes and `_` or `-` for a space do not count. In this order: the whole answer is a label;
    a label follows a conclusion (`\\boxed{}`, `final answer`; the last one) or a cue (`Label: …`); the first line is
    one; a bold one; the only one named, where neither a label inside a longer one nor a negated one counts; the one
    left where all others are negated; the one the answer begins with; the number equal to a numeric label; the only
    label that begins with the answer (cut short), from two characters on.
    """
    if (exact := text.strip()) in labels:
        return exact
    text = without_thoughts(text)
    names = _Names(labels)
    whole = _bare(text)
    if whole in names.by_bare:
        return names.one(whole, text)
    mentions = names.mentions(text)
    line = _bare(text.strip().partition("\n")[0])
    chosen = _by_cue(mentions)
    if chosen is None and line in names.by_bare:
        chosen = line
    if chosen is None:
        chosen = _by_mention(mentions, list(names.by_bare))
    if chosen is None and not mentions:
        chosen = _by_number(text, list(names.by_bare)) or _by_prefix(whole, list(names.by_bare))
    return names.one(chosen, text) if chosen is not None else None


class _Mention:
    """A label named in the text, with what stands before and after it."""

    def __init__(self, name: str, text: str, start: int, end: int) -> None:
        self.name, self.start = name, start
        self.before, self.after = text[max(0, start - 90) : start], text[end : end + 12]
        self.bold = self.before.rstrip(" \"'").endswith("**") and self.after.lstrip(" \"'.").startswith("**")
        self.negated = bool(_NEGATED.search(self.before) or _NEGATED_AFTER.match(self.after))


class _Names:
    """The labels by their bare form; several may share one."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.by_bare: dict[str, list[str]] = defaultdict(list)
        for label in dict.fromkeys(labels):
            if bare := _bare(label):
                self.by_bare[bare].append(label)

    def one(self, bare: str, text: str) -> str | None:
        """The label of a bare form; where several share it, the one that stands in the text as it is written."""
        same = self.by_bare[bare]
        verbatim = [label for label in same if label in text] if len(same) > 1 else same
        return verbatim[0] if len(verbatim) == 1 else None

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
            if not letter or _is_option(cased[match.start()], mention):
                found.append(mention)
        return found


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    text = re.sub(r"(?<=\w)[-_]+(?=\w)", " ", text)
    return re.sub(r"[ \t\r\f\v]+", " ", text)


_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "\ufe0f": None, "\u200b": None, "\x00": None, "`": None}
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


def _is_option(char: str, mention: _Mention) -> bool:
    """Whether a one-letter label is meant, and not the article `a` or the pronoun `I`."""
    closed = not mention.after.strip() or mention.after[:1] in ").:,;]}*\n\"'"
    return char.isupper() and (closed or _CUE.search(mention.before) is not None)


def _by_cue(mentions: list[_Mention]) -> str | None:
    sure = [m for m in mentions if not m.negated]
    concluding = [m.name for m in sure if _CONCLUSION.search(m.before)]
    if concluding:
        return concluding[-1]
    cued = {m.name for m in sure if _CUE.search(m.before)}
    return cued.pop() if len(cued) == 1 else None


def _by_mention(mentions: list[_Mention], names: list[str]) -> str | None:
    sure = [m for m in mentions if not m.negated]
    bold = {m.name for m in sure if m.bold}
    if len(bold) == 1:
        return bold.pop()
    named = {m.name for m in sure}
    if len(named) == 1:
        return named.pop()
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


def _by_number(text: str, names: list[str]) -> str | None:
    """The numeric label that equals the number in the text, where all labels are numbers."""
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return None
    value = read_number(text)
    equal = [name for name, number in values.items() if number == value]
    return equal[0] if len(equal) == 1 else None


def _by_prefix(whole: str, names: list[str]) -> str | None:
    begun = [name for name in names if name.startswith(whole)] if len(whole) >= 2 else []
    return begun[0] if len(begun) == 1 else None
