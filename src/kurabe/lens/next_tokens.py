"""What a model thinks comes next: the likeliest tokens, before and after temperature, top-k and top-p."""

from typing import Any, Final, Self

import msgspec
import numpy as np

from kurabe.errors import InputError
from kurabe.lens.tokens import Token, token_list
from kurabe.messages import Message
from kurabe.models import open_model
from kurabe.models.engines.base import LocalModel
from kurabe.models.reference import ENGINES, parse_reference

COUNT: Final = 10


class Sampling(msgspec.Struct, frozen=True):
    """How a token is drawn: the `top_k` likeliest, of these the likeliest that together reach `top_p`, and what is left
    with each probability raised to the power 1 / `temperature`, as llama.cpp orders it. None leaves a step out;
    temperature 0 takes the likeliest."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    @property
    def needs_all(self) -> bool:
        """Whether the whole vocabulary must be known to say the probabilities of its likeliest tokens."""
        warm = self.temperature not in (None, 0.0, 1.0)
        return self.top_k is None and (self.top_p is not None or warm)


class NextToken(msgspec.Struct, frozen=True):
    """A token that may come next: its probability by the model, and that of its being drawn, 0 where it was cut off."""

    token: Token
    probability: float
    drawn: float


class NextTokens(msgspec.Struct, frozen=True):
    """The likeliest next tokens, the likeliest first. `ids` are the text's tokens, special ones with them; `rest` is
    the probability of all tokens that are not listed, and `kept` how many can be drawn, None where all can."""

    reference: str
    text: str
    ids: tuple[int, ...]
    sampling: Sampling
    tokens: tuple[NextToken, ...]
    rest: float
    kept: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes in hexadecimal."""
        return {
            "reference": self.reference,
            "text": self.text,
            "ids": list(self.ids),
            **msgspec.to_builtins(self.sampling),
            "next": [
                {
                    "id": each.token.id,
                    "text": each.token.shown,
                    "bytes": each.token.data.hex(),
                    "special": each.token.special,
                    "probability": each.probability,
                    "drawn": each.drawn,
                }
                for each in self.tokens
            ],
            "rest": self.rest,
            "kept": self.kept,
        }


class Walk:
    """A text that grows token by token. `with Walk(…) as walk:` gives the model's memory back at the end."""

    def __init__(self, reference: str, text: str, *, chat: bool = False) -> None:
        """`chat`: `text` is a user's turn and goes through the model's chat template; the answer comes next.

        Raises InputError where the model shows no probabilities, and ModelError where it cannot be opened.
        """
        if parse_reference(reference).scheme not in ENGINES:
            raise InputError(
                f"{reference!r} does not show what comes next; name a model on this machine, such as"
                " 'gguf:smollm2-135m' or 'hf:smollm2-135m'"
            )
        model = open_model(reference)
        assert isinstance(model, LocalModel)
        self._model = model
        try:
            prompt = model.render([Message("user", text)]) if chat else text
            pieces = model.tokenize(prompt)
        except BaseException:
            self.close()
            raise
        self.reference = reference
        self.ids = [piece.id for piece in pieces]
        self._data = prompt.encode("utf-8", "replace")
        self._taken: list[bytes] = []

    @property
    def text(self) -> str:
        """The text so far; a character whose last bytes are still to come is `�`."""
        return self._data.decode("utf-8", "replace")

    def look(self, sampling: Sampling | None = None, *, count: int = COUNT) -> NextTokens:
        """The `count` likeliest tokens that may come next. Raises ModelError where the text is empty or too long."""
        sampling = sampling or Sampling()
        wanted = self._model.vocabulary if sampling.needs_all else max(count, sampling.top_k or 0)
        found = self._model.next_tokens(self.ids, wanted)
        log = np.array([logprob for _, logprob in found], dtype=np.float64)
        if sampling.needs_all:
            log -= np.logaddexp.reduce(log)  # llama.cpp's own sum is in float32
        probabilities = np.exp(log)
        drawn, kept = after(probabilities, sampling)
        shown = []
        for (piece, _), probability, share in zip(found[:count], probabilities, drawn, strict=False):
            name = piece.data or self._model.name_of(piece.id).encode()
            (token,) = token_list([(piece.id, name)], set() if piece.data else {piece.id})
            shown.append(NextToken(token, float(probability), float(share)))
        rest = max(0.0, 1.0 - sum(each.probability for each in shown))
        return NextTokens(self.reference, self.text, tuple(self.ids), sampling, tuple(shown), rest, kept)

    def take(self, token: Token) -> None:
        """Put a token behind the text."""
        self.ids.append(token.id)
        self._data += token.data
        self._taken.append(token.data)

    def back(self) -> bool:
        """Take the last token that was put behind the text away again; False if none was."""
        if not self._taken:
            return False
        self.ids.pop()
        self._data = self._data[: len(self._data) - len(self._taken.pop())]
        return True

    def close(self) -> None:
        """Release the model's memory."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def next_tokens(
    reference: str,
    text: str,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    count: int = COUNT,
    chat: bool = False,
) -> NextTokens:
    """The `count` tokens that `reference` finds likeliest behind `text`, with the probability of each before and after
    the settings. With `chat`, `text` is a user's turn and the first token of the answer comes next.

    Raises InputError for a hosted model or a setting out of its range, and ModelError.
    """
    sampling = checked(Sampling(temperature, top_k, top_p))
    if count < 1:
        raise InputError(f"count is {count}; it must be 1 or more")
    with Walk(reference, text, chat=chat) as walk:
        return walk.look(sampling, count=count)


def checked(sampling: Sampling) -> Sampling:
    """Raises InputError for a value out of its range."""
    if sampling.temperature is not None and not 0 <= sampling.temperature <= 100:
        raise InputError(f"temperature is {sampling.temperature!r}; it must be a number from 0 to 100")
    if sampling.top_k is not None and sampling.top_k < 1:
        raise InputError(f"top_k is {sampling.top_k!r}; it must be 1 or more")
    if sampling.top_p is not None and not 0 < sampling.top_p <= 1:
        raise InputError(f"top_p is {sampling.top_p!r}; it must be above 0 and at most 1")
    return sampling


def after(probabilities: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, int | None]:
    """(the probability of being drawn of each, how many can be drawn or None where nothing was cut off).

    `probabilities` are those of the likeliest tokens, falling; all of them where `sampling.needs_all`.
    """
    size = len(probabilities)
    kept = size if sampling.top_k is None else min(sampling.top_k, size)
    if sampling.top_p is not None and sampling.top_p < 1:
        sums = np.cumsum(probabilities[:kept] / probabilities[:kept].sum())
        kept = min(int(np.searchsorted(sums, sampling.top_p)) + 1, kept)
    cut = sampling.top_k is not None or (sampling.top_p is not None and sampling.top_p < 1)
    drawn = np.zeros(size)
    if sampling.temperature == 0:
        drawn[0] = 1.0
        return drawn, 1
    if not cut and sampling.temperature in (None, 1.0):
        return probabilities, None
    with np.errstate(divide="ignore"):
        log = np.log(probabilities[:kept]) / (sampling.temperature or 1.0)
    weights = np.exp(log - log[0])
    drawn[:kept] = weights / weights.sum()
    return drawn, kept if cut else None
