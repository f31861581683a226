"""Grammars in llama.cpp's notation, read before an engine gets them."""

import re
from functools import lru_cache
from typing import Final

from llguidance.gbnf_to_lark import gbnf_to_lark

from kurabe.errors import InputError

_MORE: Final = re.compile(r'<|\\[^"\\\[\]nrtx]|[*+?}]\s*[*+?{]')
"""What llama.cpp takes and llguidance's reader does not: tokens in angle brackets, more escapes, double repetition."""


@lru_cache(maxsize=256)
def check_grammar(grammar: str) -> None:
    """Raise InputError with the place where the grammar is none, or names a rule that it does not have. llama.cpp
    itself would write to standard error, and say only that it failed."""
    if _MORE.search(grammar):
        return
    try:
        gbnf_to_lark(grammar)
    except Exception as error:  # its parser raises errors of many kinds
        raise refused(str(error)) from None


def refused(problem: str, what: str = "grammar") -> InputError:
    """The error of a grammar or schema that an answer can't be held to."""
    return InputError(f"an answer can't be held to this {what}: {problem.strip()}")
