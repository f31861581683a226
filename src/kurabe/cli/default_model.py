"""The model that is asked where the user names none."""

import os

from kurabe.cli.kept_chats import kept
from kurabe.errors import InputError
from kurabe.models.files.downloaded import downloaded
from kurabe.models.hosted.auth import find_key
from kurabe.models.providers import providers
from kurabe.models.reference import runs_here

VARIABLE = "KURABE_MODEL"


def default_model() -> str:
    """The reference in KURABE_MODEL, else the model of the last kept chat, else the smallest GGUF model on this
    machine. If it finds none of these, raises an InputError that says what could be asked.
    """
    if reference := os.environ.get(VARIABLE):
        return reference
    if (chat := next(kept(), None)) is not None and chat.model:
        return chat.model
    local = sorted(downloaded("gguf"), key=lambda model: model.size)
    if local:
        return local[0].reference
    raise InputError(f"name a model, or set {VARIABLE}. {_within_reach()}")


def is_reference(text: str) -> bool:
    """Whether a word of the command line names a model, rightly or with a mistake, rather than being said to one.

    >>> is_reference("openai:gpt-5.1"), is_reference("opnai:gpt-5.1"), is_reference("gguf:my models/a.gguf")
    (True, True, True)
    >>> is_reference("Why?"), is_reference("note: why?"), is_reference("openai: why?")
    (False, False, False)
    """
    if " | " in text:
        return all(map(is_reference, text.split(" | ")))
    scheme, colon, name = text.partition(":")
    known = runs_here(scheme) or scheme in providers() or scheme.startswith("openai@")
    spaced = any(letter.isspace() for letter in text)
    if colon:
        return not spaced or (known and not name[:1].isspace())
    return not spaced and (known or text.partition("/")[0] in providers())


def _within_reach() -> str:
    ready = [row.name for row in providers().values() if row.key and find_key(row)]
    hosted = f"There is a key for {', '.join(ready)}; `kurabe models {ready[0]}` lists its models. " if ready else ""
    return f"{hosted}For a model on this machine: kurabe pull smollm2-135m"
