"""An engine: a model in this process that answers with the greatest number it reads."""

import re

from kurabe import ChatModel
from kurabe.errors import InputError
from kurabe.messages import Reply, Request, Usage
from kurabe.models.reference import Reference


class Greatest(ChatModel):
    """`greatest:number` answers with the greatest number of the last message, `greatest:number?digits=2` rounded.

    Parameters
    ----------
    reference : Reference
        What the user wrote: its `name` stands behind the colon, its `options` behind the `?`.
    """

    options = ("digits",)
    """What a reference may set."""

    def __init__(self, reference: Reference) -> None:
        self.digits = reference.number("digits")

    @staticmethod
    def unavailable(reference: Reference) -> str | None:
        """Why the model can't run here; None where it can."""
        return None if reference.name == "number" else f"there is no model {reference.name!r}, only greatest:number"

    async def ask(self, request: Request) -> Reply:
        """Answer a request."""
        if not request.messages:
            raise InputError("a request needs a message")
        text = request.messages[-1].text
        numbers = [float(found) for found in re.findall(r"\d+(?:\.\d+)?", text)]
        answer = max(numbers, default=0.0)
        shown = f"{answer:g}" if self.digits is None else f"{answer:.{self.digits}f}"
        return Reply(shown, "stop", Usage(input=len(text.split()), output=1), usd=0.0)
