"""How a task that has no prompt of its own is put to a model, and how an answer follows what begins it."""

from collections.abc import Sequence

from kurabe.tasks.spec import Kind

LISTED_LABELS = 100
"""More labels than this are not listed in the default system message."""


def joint(prefill: str) -> str:
    """What stands between a prefill and the answer: a space where one is written there, as behind `Category:`.

    >>> joint("Category:"), joint("The price is $"), joint("")
    (' ', '', '')
    """
    return " " if prefill and (prefill[-1].isalnum() or prefill[-1] in ".,:;!?)]}%=>") else ""


def default_prompt(kind: Kind, target: str | None, labels: Sequence[str]) -> tuple[str, str, str]:
    """(system message, user template, prefill) for a task that has no prompt of its own.

    The prefill ends without a space: a small model that is given `Price: ` loses its place, as a space begins a token.
    """
    name = target or ("number" if kind == "number" else "label" if kind == "label" else "answer")
    name = name.replace("_", " ")
    if kind == "text":
        return f"Give the {name} and nothing else.", "{{ input }}", ""
    if kind == "number":
        return (
            f"You estimate the {name}. Answer with a number only.",
            f"{{{{ input }}}}\n\nWhat is the {_raw(name)}?",
            f"{name.capitalize()}:",
        )
    listed = f" Answer with one of: {', '.join(labels)}." if len(labels) <= LISTED_LABELS else ""
    return f"You classify by {name}.{listed} Answer with the {name} only.", f"{{{{ input }}}}\n\n{_raw(name)}:", ""


def _raw(text: str) -> str:
    """A text that Jinja2 shows as it is."""
    return text if "{" not in text else "{{ " + repr(text) + " }}"
