"""The general rows put to models that only chat, each answer paid for once."""

from contextlib import suppress
from pathlib import Path

import msgspec

from kurabe.contestants.prompted.prompt import taken
from kurabe.models.base import ChatModel
from kurabe.models.cost import total
from kurabe.tuning.durable import write_bytes
from kurabe.tuning.general import General, questions, request_of


class Answered(msgspec.Struct):
    """What a model has answered so far: whether it was right, by question. `usd`: what it cost, None where unknown."""

    model: str
    right: dict[str, bool] = {}
    usd: float | None = 0.0

    @property
    def general(self) -> General:
        """What the contest compares; without perplexity, as there are no log-probabilities of given texts."""
        return General(tuple(self.right[row.ask] for row in questions()))


def ask_general(file: Path, model: ChatModel) -> Answered:
    """Put the general rows that ask something to a model, but those whose answers `file` keeps of it.

    Each answer is kept, as right or wrong, before more is asked. Raises ProviderError, BudgetExceededError where its
    budget does not do, and TuningError where nothing can be kept; asked again, it goes on.
    """
    known = _kept(file, model.reference)
    left = [row for row in questions() if row.ask not in known.right]
    for batch in model.chat_batches(taken(request_of(row), model) for row in left):
        for index, reply in batch:
            known.right[left[index].ask] = left[index].right(reply.text)
            known.usd = total([known.usd, reply.usd])
        write_bytes(file, msgspec.json.encode(known))
    return known


def _kept(file: Path, reference: str) -> Answered:
    """What there is of this model: a job that was begun anew ends with another one."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        known = msgspec.json.decode(file.read_bytes(), type=Answered)
        if known.model == reference:
            return known
    return Answered(reference)
