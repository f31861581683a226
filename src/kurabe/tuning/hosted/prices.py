"""What tuning costs, by a small table of list prices; genai-prices (0.2) has prices of calls alone."""

import re
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from kurabe.models.reference import Reference


class TrainingPrice(NamedTuple):
    """Dollars per million training tokens of the models that match, the day it was read, and where."""

    provider: str
    match: str
    usd: float
    day: str
    source: str


_OPENAI = "https://platform.openai.com/docs/pricing (fine-tuning)"
PRICES: Final = (
    TrainingPrice("openai", "gpt-4.1|gpt-4.1-20*", 25.0, "2025-06", _OPENAI),
    TrainingPrice("openai", "gpt-4.1-mini*", 5.0, "2025-06", _OPENAI),
    TrainingPrice("openai", "gpt-4.1-nano*", 1.5, "2025-06", _OPENAI),
    TrainingPrice("openai", "gpt-4o|gpt-4o-20*", 25.0, "2025-06", _OPENAI),
    TrainingPrice("openai", "gpt-4o-mini*", 3.0, "2025-06", _OPENAI),
    TrainingPrice("openai", "gpt-3.5-turbo*", 8.0, "2025-06", _OPENAI),
)
"""What is not here has no known price: it is confirmed by name instead of by a sum."""


def training_price(base: Reference) -> TrainingPrice | None:
    """The price of training this model, or None where it is not known."""
    name = re.sub(r"^ft:([^:]+).*", r"\1", base.name).lower()
    for price in PRICES:
        if price.provider == base.scheme and any(fnmatchcase(name, pattern) for pattern in price.match.split("|")):
            return price
    return None
