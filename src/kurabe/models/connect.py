"""A hosted model from its reference: the provider's row, the key, the codec and the lane it shares with others."""

from pathlib import Path
from typing import Any

import msgspec

from kurabe.errors import InputError, ModelError, missing
from kurabe.models.auth import Key, authorize, fill, find_key
from kurabe.models.codecs.base import Codec
from kurabe.models.hosted import CONCURRENCY, HostedModel
from kurabe.models.providers import Provider, providers
from kurabe.models.reference import COMPATIBLE, KEY, Reference
from kurabe.models.request import Unsupported
from kurabe.models.transport.budget import Budget
from kurabe.models.transport.cache import Cache
from kurabe.models.transport.client import Client, lane
from kurabe.models.transport.cost import Price
from kurabe.models.transport.http import Timeouts, shared
from kurabe.models.transport.limits import Limiter
from kurabe.models.transport.retry import ATTEMPTS


def connect(
    reference: Reference,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout: float | Timeouts | None = None,
    attempts: int = ATTEMPTS,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrency: int | None = None,
    budget: Budget | float | None = None,
    cache: bool | str | Path = False,
    price: Price | dict[str, float] | None = None,
    unsupported: Unsupported = "error",
    headers: dict[str, str] | None = None,
) -> HostedModel:
    """The model that a reference names; no connection is made yet. See `kurabe.models.open_model`."""
    provider = _row(reference)
    options = _options(reference, provider)
    codec = codec_of(provider)
    address = codec.address(base_url or reference.address or fill(provider.base_url, options))
    key = Key(api_key) if api_key is not None else None
    _check_address(address, provider)
    times = timeout if isinstance(timeout, Timeouts) else _timeouts(timeout)
    found = key or _first(find_key(provider))
    shared_lane = lane(address, found.reveal() if found else "")
    if requests_per_minute is not None or tokens_per_minute is not None:
        shared_lane = msgspec.structs.replace(shared_lane, limiter=Limiter(requests_per_minute, tokens_per_minute))
    client = Client(
        where=reference.scheme if not reference.address else f"openai@{reference.address}",
        model=reference.name,
        base_url=address,
        query={name: fill(value, options) for name, value in provider.query.items()},
        headers={**{name: fill(value, options) for name, value in provider.headers.items()}, **(headers or {})},
        codec=codec,
        authorize=authorize(provider, key, options),
        http=shared(times),
        lane=shared_lane,
        key=found,
        attempts=attempts,
    )
    return HostedModel(
        str(reference),
        model=reference.name,
        provider=provider.name,
        protocol=provider.protocol,
        codec=codec,
        client=client,
        profile=provider.profile(reference.name),
        paths={
            kind: fill(path, {**options, "model": reference.name}, escape=True) for kind, path in provider.paths.items()
        },
        price=_price(price),
        priced_as=provider.prices,
        local=provider.local,
        unsupported=unsupported,
        budget=Budget(budget) if isinstance(budget, int | float) else budget,
        cache=_cache(cache),
        concurrency=concurrency or reference.number("concurrency") or CONCURRENCY,
    )


def unavailable(reference: Reference) -> str | None:
    """Why a hosted model can't be asked here (no key, an option that is not set), or None where it can."""
    provider = _row(reference)
    try:
        authorize(provider, None, _options(reference, provider))
    except (InputError, ModelError) as error:
        return str(error)
    return None


def _row(reference: Reference) -> Provider:
    """The provider's row; with `openai@…?key=VARIABLE`, its key is in that variable."""
    provider = providers()[reference.scheme]
    variable = reference.options.get(KEY) if reference.address else None
    return provider if variable is None else msgspec.structs.replace(provider, key=(variable,))


def codec_of(provider: Provider) -> Codec:
    """The codec of a provider's protocol; only this one is loaded."""
    from importlib import import_module

    module, name = _CODECS[provider.protocol]
    codec: Codec = getattr(import_module(f"kurabe.models.codecs.{module}"), name)()
    return codec


_CODECS: dict[str, tuple[str, str]] = {
    "openai_chat": ("openai_chat", "OpenAIChat"),
    "openai_responses": ("openai_responses", "OpenAIResponses"),
    "anthropic": ("anthropic", "Anthropic"),
    "anthropic_vertex": ("anthropic", "AnthropicVertex"),
    "anthropic_bedrock": ("anthropic", "AnthropicBedrock"),
    "gemini": ("gemini", "Gemini"),
    "vertex": ("gemini", "Vertex"),
    "bedrock": ("bedrock", "Bedrock"),
    "cohere": ("cohere", "Cohere"),
    "mistral": ("mistral", "Mistral"),
    "ollama": ("ollama", "Ollama"),
}


def _check_address(address: str, provider: Provider) -> None:
    from pyreqwest.http import Url

    if not address.startswith(("http://", "https://")):
        raise InputError(f"the address {address!r} of {provider.title} does not begin with http:// or https://")
    try:
        Url(address)
    except ValueError as error:
        raise InputError(f"the address {address!r} of {provider.title} is none: {error}") from None


def _options(reference: Reference, provider: Provider) -> dict[str, str]:
    """The provider's options: from the reference, else the environment, else the default."""
    import os

    values: dict[str, str] = {}
    for name, option in provider.options.items():
        variables = [os.environ.get(variable, "") for variable in option.env]
        value = reference.options.get(name) or next(filter(None, variables), None) or option.default
        if value is None:
            variable = f", or set {' or '.join(option.env)}" if option.env else ""
            raise InputError(f"{provider.title} needs the option {name!r}: write '{reference}?{name}=…'{variable}")
        values[name] = value.rstrip("/")
    return values


def _timeouts(seconds: float | None) -> Timeouts:
    if seconds is None:
        return Timeouts()
    if not seconds > 0:
        raise InputError(f"timeout is {seconds!r}; it must be seconds above 0")
    usual = Timeouts()
    return Timeouts(min(usual.connect, seconds), min(usual.first, seconds), min(usual.between, seconds), seconds)


def _first(found: tuple[Key, str] | None) -> Key | None:
    return None if found is None else found[0]


def _price(price: Price | dict[str, float] | None) -> Price | None:
    if not isinstance(price, dict):
        return price
    try:
        return msgspec.convert(price, Price)
    except msgspec.ValidationError as error:
        raise InputError(f"price: {error}; it is {{input: …, output: …}} in dollars per million tokens") from None


def _cache(cache: Any) -> Cache | None:
    if cache is False or cache is None:
        return None
    if cache is True:
        from platformdirs import user_cache_path

        return Cache(user_cache_path("kurabe") / "replies.sqlite")
    return Cache(Path(cache))


def listed_provider(name: str) -> Provider:
    """The provider of this name; raises ModelError, with the nearest one, where there is none."""
    known = [provider for provider in providers() if provider != COMPATIBLE]
    if name not in providers():
        raise ModelError(missing("provider", name, known))
    return providers()[name]
