"""GBNF grammars (llama.cpp's notation) that hold an answer to a number or to one of the task's labels."""

from collections.abc import Iterable


def number_grammar(digits: int = 12) -> str:
    """A non-negative number of at most `digits` digits before the point and 4 after it, with or without `,` as
    thousands separator: `7`, `19.99`, `1,299.00`. Every sentence is finite, and the language says when it ends."""
    groups, first = divmod(digits - 1, 3)
    grouped = [f'[1-9] [0-9]{{0,2}} ("," [0-9]{{3}}){{1,{groups - 1}}}'] if groups > 1 else []
    if groups:
        grouped.append("[1-9] " + f"[0-9]{{0,{first}}} " * (first > 0) + f'("," [0-9]{{3}}){{{groups}}}')
    whole = " | ".join([*grouped, f"[0-9]{{1,{digits}}}"])
    return f'root ::= ({whole}) ("." [0-9]{{1,4}})?\n'


def label_grammar(labels: Iterable[str]) -> str:
    """Exactly one of `labels`, as it is written. Raises ValueError without labels or for an empty one.

    >>> print(label_grammar(["spam", 'no "spam"']), end="")
    root ::= "spam" | "no \\"spam\\""
    """
    labels = list(dict.fromkeys(labels))
    if not labels or "" in labels:
        raise ValueError("a grammar of labels needs at least one label, and none of them empty")
    return "root ::= " + " | ".join(f'"{_escape(label)}"' for label in labels) + "\n"


def _escape(label: str) -> str:
    return "".join(_escape_character(character) for character in label)


def _escape_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    # Control characters would end the line or the string of the grammar; a NUL would end the C string it travels in.
    return f"\\x{ord(character):02X}" if ord(character) < 0x20 or ord(character) == 0x7F else character
