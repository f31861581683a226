"""How near an answer's text is to the true text: pure functions of two strings, each from 0 (nothing) to 1 (the same).

Words are compared after Unicode NFKC and case folding. In scripts that are written without spaces (Chinese, Japanese,
Thai and their like) each character counts as a word.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence

# Han, kana, and the scripts of Thailand, Laos, Myanmar and Cambodia are written without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_ANSWER_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
CHRF_ORDER = 6
CHRF_BETA = 2.0


def fold(text: str) -> str:
    """`text` in one form of Unicode (NFKC), in one case, with single spaces and none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalise_answer(text: str) -> str:
    """`text` without punctuation, English articles and surplus space, as SQuAD's script does (Rajpurkar et al., 2016).

    Punctuation is all of `string.punctuation`, so `$5.00` and `500` are the same, and what Unicode calls punctuation in
    other scripts (`。`, `“`). Of an answer that is only an article or only punctuation nothing is left.
    """
    bare = "".join(
        char for char in fold(text) if char not in string.punctuation and not unicodedata.category(char).startswith("P")
    )
    return " ".join(_ARTICLE.sub(" ", bare).split())


def words(text: str) -> list[str]:
    """The words of `text`, folded; punctuation is left out."""
    return _TOKEN.findall(fold(text))


def exact_match(truth: str, guess: str) -> float:
    """1 where both are the same after `normalise_answer`, else 0."""
    return float(normalise_answer(truth) == normalise_answer(guess))


def token_f1(truth: str, guess: str) -> float:
    """F1 of the words in common, order left aside, after `normalise_answer`: the second measure of SQuAD."""
    expected, given = (_answer_tokens(text) for text in (truth, guess))
    if not expected or not given:
        return float(expected == given)
    common = sum((Counter(expected) & Counter(given)).values())
    return 2 * common / (len(expected) + len(given))


def rouge_l(truth: str, guess: str) -> float:
    """F1 of the longest common subsequence of words (ROUGE-L; Lin, 2004).

    Equals rouge-score's without stemming on ASCII text; that library drops all other letters. Where a text has no
    words, 1 if both are the same and 0 otherwise.
    """
    expected, given = words(truth), words(guess)
    if not expected or not given:
        return float(fold(truth) == fold(guess))
    return 2 * longest_common_subsequence(expected, given) / (len(expected) + len(given))


def chrf(truth: str, guess: str) -> float:
    """chrF2: F-score with beta 2 of character n-grams, n = 1 to 6, white space left aside (Popović, 2015).

    Equals sacrebleu's sentence-level chrF2 divided by 100: precision and recall are averaged over the orders that both
    texts are long enough for. Case counts here, unlike in the other measures. Two empty texts are the same: 1.
    """
    expected, given = "".join(truth.split()), "".join(guess.split())
    if expected == given:
        return 1.0
    orders = range(1, min(CHRF_ORDER, len(expected), len(given)) + 1)
    precision = recall = 0.0
    for n in orders:
        common = sum((_ngrams(expected, n) & _ngrams(given, n)).values())
        precision += common / (len(given) - n + 1) / len(orders)
        recall += common / (len(expected) - n + 1) / len(orders)
    if precision == 0 or recall == 0:
        return 0.0
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def longest_common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, by the bit-parallel rows of Hyyrö (2004)."""
    everything = (1 << len(first)) - 1
    places: dict[Hashable, int] = {}
    for position, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << position
    row = everything
    for token in second:
        matched = row & places.get(token, 0)
        row = ((row + matched) | (row - matched)) & everything
    return len(first) - row.bit_count()


def _answer_tokens(text: str) -> list[str]:
    return _ANSWER_TOKEN.findall(normalise_answer(text))


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))
