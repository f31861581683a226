"""How a task that has no prompt of its own is put to a model, and how an answer follows what begins it."""

import unicodedata
from collections.abc import Sequence

from kurabe.tasks.spec import Kind

LISTED_LABELS = 100
"""More labels than this are not listed in the default system message."""


def joint(prefill: str) -> str:
    """What stands between a prefill and a label: a space where one is written there, as behind `Category:`.

    >>> joint("Category:"), joint("The label is '"), joint("")
    (' ', '', '')
    """
    last = prefill[-1:]
    wide = last and unicodedata.east_asian_width(last) in "WF"  # scripts that write no spaces
    return " " if last and not wide and (last.isalnum() or last in ".,:;!?)]}%=>") else ""


def default_prompt(kind: Kind, target: str | None, labels: Sequence[str]) -> tuple[str, str, str]:
    """(system message, user template, prefill) for a task that has no prompt of its own.

    The prefill ends without a space: a small model that is given `Price: ` loses its place, as a space begins a token.
    """
    name = target or ("number" if kind == "number" else "label" if kind == "label" else "answer")
    name = name.replace("_", " ")
    if kind == "text":
        return f"Give the {name} and nothing else.", "{{ input }}", ""
    question = f"{{{{ input }}}}\n\nWhat is the {_raw(name)}?"
    if kind == "number":
        return f"You estimate the {name}. Answer with a number only.", question, f"{name.capitalize()}:"
    listed = f" Answer with one of: {', '.join(labels)}." if len(labels) <= LISTED_LABELS else ""
    return f"You classify by {name}.{listed} Answer with the {name} only.", question, f"{name.capitalize()}:"


def _raw(text: str) -> str:
    """A text that Jinja2 shows as it is."""
    return text if "{" not in text else "{{ " + repr(text) + " }}"
