"""What a model thinks before it answers, between `<think>` and `</think>`, as Qwen 3 and DeepSeek R1 write it."""

from typing import Final, Literal

from kurabe.messages import Delta, Part, Reasoning, Request, Text

OPEN: Final = "<think>"
CLOSE: Final = "</think>"


def behind_thoughts(text: str) -> str:
    """A whole answer's text without what was thought before it.

    >>> behind_thoughts("<think>A trap?</think> 12")
    ' 12'
    """
    return text.rpartition(CLOSE)[2]


class Thoughts:
    """Parts an answer's text, as it comes, into thoughts and answer, without the marks and the white space around them.

    `opened`: whether the prompt ends with `<think>`; None where an answer is none but text, such as one that is held to
    a grammar.
    """

    def __init__(self, opened: bool | None) -> None:
        self._where: Literal["before", "inside", "behind", "answer"] = (
            "answer" if opened is None else "inside" if opened else "before"
        )
        self._held = ""
        self.reasoning = ""
        self.text = ""

    @property
    def inside(self) -> bool:
        """Whether what comes next is a thought."""
        return self._where == "inside"

    def feed(self, text: str, *, end: bool = False) -> list[Delta]:
        """What this piece of text brings; what may be the beginning of a mark waits for the next. `end`: the last."""
        self._held += text
        thought = answer = ""
        if self._where == "before":
            begun = self._held.lstrip()
            if begun.startswith(OPEN):
                self._where, self._held = "inside", begun[len(OPEN) :]
            elif end or not OPEN.startswith(begun):
                self._where = "answer"
        if self._where == "inside":
            thought = self._thought(end)
        if self._where == "behind":
            self._held = self._held.lstrip()
            self._where = "answer" if self._held else "behind"
        if self._where == "answer":
            answer, self._held = self._held, ""
        self.reasoning += thought
        self.text += answer
        return [Delta(answer, reasoning=thought)] if thought or answer else []

    def _thought(self, end: bool) -> str:
        found, mark, rest = self._held.partition(CLOSE)
        if mark:
            self._where, self._held = "behind", rest
        elif not end:
            open_ = next((size for size in range(len(CLOSE) - 1, 0, -1) if found.endswith(CLOSE[:size])), 0)
            found = found[: len(found) - open_].rstrip()
            self._held = self._held[len(found) :]
        found = found if self.reasoning else found.lstrip()
        return found.rstrip() if mark or end else found

    def parts(self, answer: str | tuple[Part, ...]) -> str | tuple[Part, ...]:
        """The content of a reply with that answer: the thoughts before it, where there are any."""
        if not self.reasoning:
            return answer
        shown: tuple[Part, ...] = ((Text(answer),) if answer else ()) if isinstance(answer, str) else answer
        return (Reasoning(self.reasoning), *shown)


def opens_thought(prefill: str) -> bool:
    """Whether an answer that begins so goes on with a thought."""
    return prefill.lstrip().startswith(OPEN) and CLOSE not in prefill


def thoughts_of(request: Request, template_opens: bool) -> Thoughts:
    """Those of the answer to a request to a model whose chat template may end with `<think>`."""
    if request.grammar or request.output is not None or request.tool_choice not in (None, "auto", "none"):
        return Thoughts(None)
    if request.prefill:
        return Thoughts(True if opens_thought(request.prefill) else None)
    return Thoughts(template_opens)
