"""A hosted model from its reference: the provider's row, the key, the codec and the lane it shares with others."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from kurabe.errors import InputError, ModelError, missing
from kurabe.models.codecs.base import Codec
from kurabe.models.cost import Price
from kurabe.models.hosted.auth import Key, authorize, fill, find_key
from kurabe.models.hosted.model import CONCURRENCY, HostedModel
from kurabe.models.hosted.transport.budget import Budget
from kurabe.models.hosted.transport.cache import Cache
from kurabe.models.hosted.transport.client import Client, lane
from kurabe.models.hosted.transport.http import Timeouts, shared
from kurabe.models.hosted.transport.limits import Limiter
from kurabe.models.hosted.transport.policy import USUAL, Policy
from kurabe.models.hosted.transport.retry import ATTEMPTS
from kurabe.models.providers import CODECS, Provider, providers
from kurabe.models.reference import COMPATIBLE, KEY, Reference, shown_reference
from kurabe.models.request import Unsupported
from kurabe.plugins import loaded, plugin

ACCESS_TOKEN = "ya29."
"""How Google Cloud's access tokens begin, which are no API keys."""


def connect(
    reference: Reference,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout: float | Timeouts | None = None,
    attempts: int = ATTEMPTS,
    policy: Policy | dict[str, float] | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrency: int | None = None,
    budget: Budget | float | None = None,
    cache: bool | str | Path = False,
    price: Price | dict[str, float] | None = None,
    unsupported: Unsupported = "error",
    headers: dict[str, str] | None = None,
    patient: bool = True,
) -> HostedModel:
    """The model that a reference names; no connection is made yet. See `kurabe.models.open_model`, and for `patient`
    Client."""
    provider = provider_of(reference, api_key)
    options = options_of(reference, provider)
    codec = codec_of(provider)
    address = codec.address(base_url or reference.address or fill(provider.base_url, options))
    check_address(address, provider.title)
    times = timeout if isinstance(timeout, Timeouts) else _timeouts(timeout)
    found = (Key(api_key), "") if api_key is not None else find_key(provider)
    key = found[0] if found else None
    shared_lane = lane(address, key.reveal() if key else "", _policy(policy))
    if requests_per_minute is not None or tokens_per_minute is not None:
        limiter = Limiter(requests_per_minute, tokens_per_minute, shared_lane.policy)
        shared_lane = msgspec.structs.replace(shared_lane, limiter=limiter)
    client = Client(
        where=reference.scheme if not reference.address else f"openai@{reference.address}",
        model=reference.name,
        base_url=address,
        query={name: fill(value, options) for name, value in provider.query.items()},
        headers={**{name: fill(value, options) for name, value in provider.headers.items()}, **(headers or {})},
        codec=codec,
        authorize=authorize(provider, found, options),
        http=shared(times),
        lane=shared_lane,
        key=key,
        attempts=attempts,
        patient=patient,
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
        context=reference.number("context"),
        extra=_extra(reference, provider),
    )


def unavailable(reference: Reference) -> str | None:
    """Why a hosted model can't be asked here (no key, an option that is not set), or None where it can."""
    provider = provider_of(reference)
    try:
        authorize(provider, find_key(provider), options_of(reference, provider))
    except (InputError, ModelError) as error:
        return str(error)
    return None


def provider_of(reference: Reference, api_key: str | None = None) -> Provider:
    """The provider's row; with `openai@…?key=VARIABLE`, its key is in that variable. The one for calls with a key takes
    its place where a key is given, or where one is set and what the cloud's own credentials need is not, as in
    google-genai."""
    provider = providers()[reference.scheme]
    if provider.with_key:
        keyed = providers()[provider.with_key]
        given = api_key is not None and not api_key.startswith(ACCESS_TOKEN)
        if given or (api_key is None and _lacks_option(reference, provider) and find_key(keyed)):
            return keyed
    variable = reference.options.get(KEY) if reference.address else None
    return provider if variable is None else msgspec.structs.replace(provider, key=(variable,))


def codec_of(provider: Provider) -> Codec:
    """The codec of a provider's protocol; only this one is loaded."""
    ours = CODECS.get(provider.protocol)
    made = plugin("wire_formats", provider.protocol) if ours is None else loaded(f"kurabe.models.codecs.{ours}")
    codec: Codec = made()
    return codec


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_amount(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= 1e9


OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "api_key": (lambda value: isinstance(value, str) and value != "", "a text that is not empty"),
    "base_url": (lambda value: isinstance(value, str), "an address such as https://host/v1"),
    "timeout": (lambda value: isinstance(value, Timeouts) or _is_amount(value, 1e-3), "seconds above 0 or a Timeouts"),
    "attempts": (_is_count, "a whole number above 0"),
    "policy": (lambda value: isinstance(value, Policy | dict), "a Policy or a mapping such as {failures: 50, rest: 5}"),
    "requests_per_minute": (_is_count, "a whole number above 0"),
    "tokens_per_minute": (_is_count, "a whole number above 0"),
    "concurrency": (_is_count, "a whole number above 0"),
    "budget": (lambda value: isinstance(value, Budget) or _is_amount(value, 0.0), "dollars or a Budget"),
    "cache": (lambda value: isinstance(value, bool | str | Path), "True or the path of a file"),
    "price": (
        lambda value: isinstance(value, Price | dict),
        "a Price or {input: …, output: …} in dollars per million tokens",
    ),
    "unsupported": (lambda value: value in ("error", "drop"), "'error' or 'drop'"),
    "headers": (
        lambda value: isinstance(value, dict) and all(isinstance(x, str) for pair in value.items() for x in pair),
        "a dictionary of texts",
    ),
}
"""What `connect` takes besides the reference: the test of a value, and what it must be."""


def check_options(options: dict[str, Any]) -> None:
    """Raises InputError for an unknown option or a wrong value, which is not shown, as it may be a key."""
    for name, value in options.items():
        if name not in OPTIONS:
            raise InputError(missing("option", name, sorted(OPTIONS)))
        fits, what = OPTIONS[name]
        if value is not None and not fits(value):
            raise InputError(f"{name} must be {what}")


def check_address(address: str, whose: str) -> None:
    """Raises InputError where it is no http or https address, or holds what may be a secret."""
    from pyreqwest.http import Url

    if not address.startswith(("http://", "https://")):
        raise InputError(f"the address {shown_reference(address)!r} of {whose} does not begin with http:// or https://")
    if "?" in address or "#" in address or "@" in address.split("/", 3)[2]:
        raise InputError(
            f"the address of {whose} must end with its path and hold no name or password: give the key by the"
            " environment or with api_key="
        )
    try:
        Url(address)
    except ValueError as error:
        raise InputError(f"{address!r} is not a valid address for {whose}: {error}") from None


def _lacks_option(reference: Reference, provider: Provider) -> bool:
    try:
        options_of(reference, provider)
    except InputError:
        return True
    return False


def options_of(reference: Reference, provider: Provider) -> dict[str, str]:
    """The provider's options: from the reference, else the environment, else the default."""
    import os

    values: dict[str, str] = {}
    for name, option in provider.options.items():
        if option.body:
            continue
        variables = [os.environ.get(variable, "") for variable in option.env]
        value = reference.options.get(name) or next(filter(None, variables), None) or option.default
        if value is None:
            variable = f", or set {' or '.join(option.env)}" if option.env else ""
            raise InputError(f"{provider.title} needs the option {name!r}: write '{reference}?{name}=…'{variable}")
        values[name] = value.rstrip("/")
    return values


def _extra(reference: Reference, provider: Provider) -> dict[str, Any]:
    """What the reference's options put into each body of a chat: whole numbers as numbers."""
    body: dict[str, Any] = {}
    for name, option in provider.options.items():
        if option.body and (value := reference.options.get(name)) is not None:
            *parents, last = option.body.split(".")
            place = body
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = int(value) if re.fullmatch(r"-?\d{1,9}", value, re.ASCII) else value
    return body


def _timeouts(seconds: float | None) -> Timeouts:
    if seconds is None:
        return Timeouts()
    usual = Timeouts()
    return Timeouts(min(usual.connect, seconds), min(usual.first, seconds), min(usual.between, seconds), seconds)


def _policy(policy: Policy | dict[str, float] | None) -> Policy:
    if not isinstance(policy, dict):
        return policy or USUAL
    try:
        return msgspec.convert(policy, Policy)
    except msgspec.ValidationError as error:
        known = ", ".join(Policy.__struct_fields__)
        raise InputError(f"policy: {error}; it takes {known}") from None


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
    """The provider of this name; raises ModelError, with the nearest one, for an unknown name."""
    known = [provider for provider in providers() if provider != COMPATIBLE]
    if name not in providers():
        raise ModelError(missing("provider", name, known))
    return providers()[name]
