"""Which columns hold running text, and whether the rendered input says more than the columns do."""

import re
from collections import Counter

import polars as pl

from kurabe.tasks.readings import reading

SAMPLE = 500  # rows are enough to tell prose from facts
TEMPLATE_WORDS = 30  # more words than this that come and go are hardly the template's own
_WORDS = re.compile(r"[^\W\d_]+")
# A word with a letter after a space, so that `2026-12-01 10:30` is not prose; in scripts without spaces two characters.
_BREAKS = r"\s+\S*\p{L}|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]{2}"


def is_prose(column: pl.Series) -> bool:
    """Whether a column holds running text rather than facts: several words, and seldom the same ones."""
    known = column.drop_nulls()
    if known.dtype != pl.String or not len(known):
        return False
    words = known.str.strip_chars().str.count_matches(_BREAKS).mean()
    if not isinstance(words, float) or words < 1:
        return False
    # `12 GB` and `3 May 2024` have words too.
    return words >= 8 or (known.n_unique() > 0.5 * len(known) and reading(known) is None)


def prose_columns(X: pl.DataFrame, text: str = "input") -> list[str]:
    """The columns of contestants' inputs that hold prose. `text`, the rendered input, is among them only where it says
    more than the other columns do, as where it was rendered from columns that are not in `X`."""
    found = [name for name in X.columns if name != text and is_prose(X[name])]
    if not found and text in X.columns and (X.width == 1 or _says_more(X, text)):
        found.append(text)
    return found


def _says_more(X: pl.DataFrame, text: str) -> bool:
    """Whether the rendered input holds words that neither its template nor the other columns explain."""
    sample = X.head(SAMPLE)
    others = [column.cast(pl.String).to_list() for column in sample.select(pl.exclude(text)) if _has_words(column)]
    rows = Counter[str]()
    for position, rendered in enumerate(sample[text].cast(pl.String).fill_null("").to_list()):
        known = {word for column in others for word in _WORDS.findall(column[position] or "")}
        rows.update(set(_WORDS.findall(rendered)) - known)
    # The names of columns and other words of the template stand in most rows.
    return sum(count <= sample.height / 2 for count in rows.values()) > TEMPLATE_WORDS


def _has_words(column: pl.Series) -> bool:
    return column.dtype in (pl.String, pl.Categorical, pl.Enum)
