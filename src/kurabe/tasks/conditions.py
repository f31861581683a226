"""Conditions in SQL over the columns of a row, of which only a harmless part is accepted.

A task file may be a stranger's. Polars' SQL reads files, makes series of any length, and overflows the stack on long
chains of operators. So before it sees a condition, every function must stand on a list, and the number of operators is
limited.
"""

import re
from typing import Final

from kurabe.errors import TaskError, missing

MAX_CHARACTERS: Final = 20_000
MAX_OPERATORS: Final = 100
MAX_DEPTH: Final = 20
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*" | `[^`]*`)
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[^\W\d]\w*)
  | (?P<comment>--|/\*)
  | (?P<mark><=>|<>|!=|<=|>=|==|::|//|!~\*?|~\*?|[-+*/%=<>(),.])
    )\s*""",
    re.VERBOSE,
)
_FUNCTIONS: Final = frozenset(
    """abs avg bit_length btrim cast ceil ceiling char_length character_length coalesce count date date_part datetime
    ends_with exp extract floor greatest if ifnull initcap isnan least left length ln log log10 log2 lower ltrim max
    mean median min mod nullif octet_length position pow power regexp_like reverse right round rtrim sign sqrt
    starts_with stddev strpos substr substring sum time timestamp trim try_cast upper variance""".split()  # noqa: SIM905
)
"""Those whose result is no longer than what they are given."""
_TYPES: Final = frozenset("char decimal float numeric varchar".split())  # noqa: SIM905
_BEFORE_PARENTHESIS: Final = frozenset(
    "and as between case distinct else ilike in is like not or regexp rlike then when".split()  # noqa: SIM905
)
_QUERIES: Final = frozenset("from select table values with".split())  # noqa: SIM905
_PATTERNS: Final = frozenset("regexp regexp_like rlike ~ ~* !~ !~*".split())  # noqa: SIM905
_OPERATORS: Final = _BEFORE_PARENTHESIS | _FUNCTIONS | _PATTERNS


def check_condition(where: str) -> bool:
    """Whether a condition matches regular expressions, whose time depends on what they say.

    Raises TaskError for a condition that does more than compute with the columns of a row.

    >>> check_condition("price > 100 AND origin IN ('JP', 'US')"), check_condition("origin ~ '^J'")
    (False, True)
    """
    if len(where) > MAX_CHARACTERS:
        raise _refused(where, f"it has {len(where):,} characters; it may have up to {MAX_CHARACTERS:,}")
    operators = depth = position = 0
    last = ""  # the token before, in lower case; a quoted name with its quotes
    matches = False
    while position < len(where):
        if (token := _TOKEN.match(where, position)) is None:
            raise _refused(where, f"{where[position : position + 10].strip()!r} can't be used in a condition")
        kind, value = token.lastgroup, token[0].strip().lower()
        if kind == "comment":
            raise _refused(where, "comments can't be used in a condition")
        if kind == "word" and (value == "select" or (last == "(" and value in _QUERIES)):
            raise _refused(where, "a condition reads the columns of the row and no query")
        if value == "(":
            _check_call(where, last)
            depth += 1
        depth -= value == ")"
        operators += value in _OPERATORS or (kind == "mark" and value not in "(),.")
        if operators > MAX_OPERATORS or depth > MAX_DEPTH:
            raise _refused(where, f"it has more than {MAX_OPERATORS} operators or {MAX_DEPTH} nested parentheses")
        matches |= kind in ("word", "mark") and value in _PATTERNS
        last, position = value, token.end()
    return matches


def _check_call(where: str, name: str) -> None:
    """Raise TaskError where `name`, which stands before a parenthesis, is a function that may not be called."""
    named = name[:1] in "\"`'" if name else False
    if named or (name.isidentifier() and name not in _FUNCTIONS | _TYPES | _BEFORE_PARENTHESIS):
        raise _refused(where, missing("function", name, sorted(_FUNCTIONS)))


def _refused(where: str, why: str) -> TaskError:
    shown = where if len(where) <= 200 else where[:200] + "…"
    return TaskError(f"{shown!r} cannot be asked of the rows: {why}")
