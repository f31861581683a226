"""Grammars in llama.cpp's notation, read before an engine gets them."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from llguidance.gbnf_to_lark import ASTNode, GbnfToLarkError, GrammarParser, Position, RepetitionNode, RuleRefNode

from kurabe.errors import InputError

_TOKEN: Final = re.compile(r"!?<[^>]*>")
_ESCAPES: Final = '"\\[]nrtxuU'


class _Reader(GrammarParser):
    """llguidance's reader, which also takes what llama.cpp does: tokens in angle brackets, more escapes, a repetition
    of a repetition. It refuses `{5,2}`, for which llama.cpp asks for memory without end."""

    def _parse_char(self, pos: Position) -> tuple[str, Position]:
        both = pos.peek(2)
        if both == "\\":
            raise GbnfToLarkError(pos, "nothing stands behind the backslash")
        if both[:1] == "\\" and both[1] not in _ESCAPES:
            return both, pos.advance(2)
        return super()._parse_char(pos)

    @staticmethod
    def _is_word_char(c: str) -> bool:
        return GrammarParser._is_word_char(c) or c in {"<", "!"}

    @staticmethod
    def _parse_name(pos: Position) -> tuple[str, Position]:
        token = _TOKEN.match(pos.text, pos.pos)
        return (token[0], pos.advance(len(token[0]))) if token else GrammarParser._parse_name(pos)

    def _parse_repetition(self, pos: Position, nodes: list[ASTNode]) -> Position:
        while True:
            begin = self._skip_space(pos, allow_newlines=True)
            end = super()._parse_repetition(begin, nodes)
            if end.pos == begin.pos:
                return pos
            node = nodes[-1]
            if isinstance(node, RepetitionNode) and node.max_times is not None and node.max_times < node.min_times:
                raise GbnfToLarkError(
                    begin, f"at least {node.min_times} and at most {node.max_times} times is never; swap the two"
                )
            pos = end


@lru_cache(maxsize=256)
def check_grammar(grammar: str) -> None:
    """Raise InputError with the place where the grammar is invalid or names a rule that it does not have. llama.cpp
    itself would write to standard error, and say only that it failed."""
    try:
        rules = _Reader().parse(grammar)
    except GbnfToLarkError as error:
        raise refused(str(error)) from None
    except RecursionError:
        raise refused("its parentheses nest too deeply; give what stands inside of them rules of its own") from None
    except ValueError:
        raise refused("the repetition count in braces is not a number; write it in digits, such as {2,5}") from None
    if "root" not in rules:
        raise refused("it has no rule 'root', with which an answer begins")
    for name in (name for rule in rules.values() for name in _names(rule)):
        if name not in rules:
            raise refused(f"it names the rule {name!r}, and has none of that name")


def _names(node: ASTNode) -> Iterator[str]:
    """The rules that stand in a rule."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if isinstance(node, RuleRefNode) and not _TOKEN.match(node.name):
            yield node.name
        nodes.extend(node.children())


def refused(problem: str, what: str = "grammar") -> InputError:
    """The error of a grammar or schema that an answer can't be held to."""
    return InputError(f"an answer can't be held to this {what}: {problem.strip()}")
