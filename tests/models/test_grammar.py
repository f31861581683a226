"""The number grammar, read as the regular expression it is."""

import re

import pytest

from kurabe.models.grammar import number_grammar


def matches(text: str, digits: int) -> bool:
    pattern = number_grammar(digits).removeprefix("root ::= ").strip()
    for gbnf, regex in (('"."', r"\."), ('","', ","), (" ", "")):
        pattern = pattern.replace(gbnf, regex)
    return re.fullmatch(pattern, text) is not None


@pytest.mark.parametrize("digits", range(1, 13))
def test_numbers_of_at_most_so_many_digits(digits: int) -> None:
    for length in range(1, 16):
        number = 10**length - 1
        for text in (str(number), f"{number:,}", f"{number:,}.99"):
            assert matches(text, digits) is (length <= digits), text


@pytest.mark.parametrize(
    "text", ["", "-1", "1.", ".5", "1.23456", "12,34", "0,123", "1,2345", "1234,567", "1.2.3", "a"]
)
def test_what_is_no_number(text: str) -> None:
    assert not matches(text, 12)
