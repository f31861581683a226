"""What a call costs, by the prices of genai-prices, which come with the package and are never fetched."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from kurabe.messages import Image, Request, ToolResult, Usage
from kurabe.models._pictures import most_picture_tokens

TURN_TOKENS = 16  # what a chat format puts around a turn
PRICE = "options: {price: {input: …, output: …}}"
"""How a task file says what a model's answers cost."""


class Price(msgspec.Struct, frozen=True):
    """What tokens cost, in dollars per million.

    Parameters
    ----------
    input : float
        Of the prompt.
    output : float
        Of the answer.
    cached : float, optional
        Of prompt tokens read from a cache. None: what `input` costs.
    cache_written : float, optional
        Of prompt tokens written to a cache. None: what `input` costs.

    Examples
    --------
    >>> from kurabe import Price, Usage
    >>> Price(input=2.0, output=8.0).usd(Usage(input=1_000, output=500))
    0.006
    """

    input: float
    output: float
    cached: float | None = None
    cache_written: float | None = None

    def usd(self, usage: Usage) -> float:
        """What a call costs, in dollars.

        Parameters
        ----------
        usage : Usage
            Its tokens.

        Returns
        -------
        float
        """
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_written is None else self.cache_written
        plain = usage.input - usage.cached - usage.cache_written
        return (
            plain * self.input + usage.cached * cached + usage.cache_written * written + usage.output * self.output
        ) / 1e6


Cost = Callable[[Usage], float]


def total(costs: Iterable[float | None]) -> float | None:
    """The sum of dollars, None where one of them is not known.

    >>> total([0.25, 0.5]), total([0.25, None])
    (0.75, None)
    """
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)


@lru_cache(maxsize=256)
def known_cost(provider: str, model: str, hour: int) -> Cost | None:
    """The dollars of a call of this model as a function of its usage, or None where the price is not known.

    `provider` is the name in genai-prices. `hour` is the one since 1970: some prices change with the time of day.
    Prices that rise with the length of the input are asked of genai-prices each time.
    """
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices

    try:
        found = get_snapshot().calc(_usage(Usage(1, 1)), model, provider, None, None)
    except (LookupError, ValueError, TypeError):
        return None
    prices: Any = found.model_price
    if any(isinstance(value, TieredPrices) for value in vars(prices).values()):
        return lambda usage: float(prices.calc_price(_usage(usage))["total_price"])

    def per_million(**usage: int) -> float:
        from genai_prices import Usage as Counted

        return float(prices.calc_price(Counted(**usage))["total_price"])

    million = 1_000_000
    return Price(
        input=per_million(input_tokens=million),
        output=per_million(output_tokens=million),
        cached=per_million(input_tokens=million, cache_read_tokens=million),
        cache_written=per_million(input_tokens=million, cache_write_tokens=million),
    ).usd


def most_tokens(request: Request, model: str, provider: str) -> int:
    """An upper bound of the request's input tokens: a token is a byte of text or more, and a picture what such a model
    may count for its size."""
    total = len(request.prefill.encode("utf-8", "replace"))
    for message in request.messages:
        total += TURN_TOKENS
        for part in message.parts:
            shown = [part, *(part.parts if isinstance(part, ToolResult) else ())]
            total += sum(most_picture_tokens(one, model, provider) for one in shown if isinstance(one, Image))
            total += 0 if isinstance(part, Image) else len(msgspec.json.encode(part))
    for tool in request.tools:
        total += TURN_TOKENS + len(msgspec.json.encode(tool))
    return total + (len(msgspec.json.encode(request.output.schema)) if request.output else 0)


def has_addresses(request: Request) -> bool:
    """Whether a part is given by its address: what lies there may be of any length."""
    parts = [part for message in request.messages for part in message.parts]
    inside = [one for part in parts if isinstance(part, ToolResult) for one in part.parts]
    return any(getattr(part, "url", "") for part in (*parts, *inside))


LIMITS: Final = frozenset({
    "maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxnewtokens", "maxtokenstosample", "maxgenlen",
    "numpredict", "npredict", "n", "bestof", "candidatecount", "numgenerations",
})  # fmt: skip
"""Names of what says how many tokens or answers a provider may write, without case and underscores."""
WHOLE: Final = frozenset({
    "model", "models", "messages", "input", "contents", "prompt", "system", "systeminstruction", "instructions",
    "tools", "servicetier", "speed", "websearchoptions", "plugins",
})  # fmt: skip
"""Names at the top of a body of what replaces the request that was counted, or has prices of its own."""


def unbounded(extra: dict[str, Any]) -> str | None:
    """The first setting in `extra`, by its path, by which a call may cost more than what was counted; None where none
    can."""
    for name, value in extra.items():
        plain = _plain(name)
        if plain in LIMITS or plain in WHOLE:
            return name
        if isinstance(value, dict) and (found := next((one for one in value if _plain(one) in LIMITS), None)):
            return f"{name}.{found}"
    return None


def _plain(name: Any) -> str:
    return str(name).replace("_", "").replace("-", "").lower()


def _usage(usage: Usage) -> Any:
    from genai_prices import Usage as Counted

    return Counted(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.cache_written,
    )
