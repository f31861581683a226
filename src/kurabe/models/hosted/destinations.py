"""Where keys would go: the addresses that are neither a provider's own nor set by the user's environment.

A task file may come from somebody else. An address in it decides who receives the key, so it needs the user's consent.
"""

import re
from collections.abc import Collection
from contextlib import suppress

from kurabe.errors import InputError, ModelError
from kurabe.models.hosted.auth import fill, find_key
from kurabe.models.hosted.connect import options_of, provider_of
from kurabe.models.providers import Provider, providers
from kurabe.models.reference import COMPATIBLE, Reference, parse_reference, shown_reference, split_chain


def foreign_origins(text: str, base_urls: Collection[str] = ()) -> list[str]:
    """The origins to which a key would go that neither the provider nor the environment names.

    Parameters
    ----------
    text
        A model reference, or a chain of them. Any other text has no origins.
    base_urls
        Addresses that stand in place of the provider's own.

    Returns
    -------
    Origins such as `https://host:443`, in order. Empty where no key is set: then none can be sent.
    """
    found: set[str] = set()
    try:
        links = split_chain(text)
    except ModelError:
        return []
    for link in links:
        scheme = link.partition(":")[0]
        if not link.startswith("openai@") and scheme not in providers():
            continue
        try:
            reference = parse_reference(link)
        except ModelError:  # reported where the model is opened
            continue
        if not reference.local:
            found |= _foreign(reference, base_urls)
    return sorted(found)


def origin(address: str) -> str:
    """Scheme, host and port as the transport reads them; an address that it cannot read is shown as it is, without what
    may be a secret."""
    from pyreqwest.http import Url

    try:
        url = Url(address)
    except ValueError:
        return shown_reference(address)
    return f"{url.scheme}://{url.host_str}:{url.port_or_known_default}"


def covers(allowed: str, destination: str) -> bool:
    """Whether an address that the user allows stands for this origin. Without a port it stands for every port.

    >>> covers("http://127.0.0.1", "http://127.0.0.1:8000"), covers("https://a.org:443", "https://a.org:8443")
    (True, False)
    """
    if not allowed.startswith(("http://", "https://")):
        return False
    if re.fullmatch(r"https?://(\[[^\]]*\]|[^:/\[]+)/?", allowed):
        return origin(allowed).rpartition(":")[0] == destination.rpartition(":")[0]
    return origin(allowed) == destination


def _foreign(reference: Reference, base_urls: Collection[str]) -> set[str]:
    provider = provider_of(reference)
    addresses = list(base_urls)
    with suppress(InputError):  # an option is not set, which is reported where the model is opened
        addresses.append(reference.address or fill(provider.base_url, options_of(reference, provider)))
    rows = [row for row in providers().values() if set(row.key) & set(provider.key)]
    if not rows and provider.name != COMPATIBLE:  # whose address is always the reference's
        rows = [provider]
    foreign = {origin(address) for address in addresses if not any(_own(row, address) for row in rows)}
    return foreign if foreign and _sends_key(provider) else set()


def _sends_key(provider: Provider) -> bool:
    if provider.auth == "none":
        return False
    try:
        return provider.auth in ("aws", "google") or find_key(provider) is not None
    except InputError:  # a key that cannot be sent, but there is one
        return True


def _own(row: Provider, address: str) -> bool:
    """Whether the address is one of the provider's, or the one that the environment names."""
    there = origin(address)
    try:
        if origin(fill(row.base_url, options_of(Reference(row.name, ""), row))) == there:
            return True
    except InputError:
        pass
    # A region inside the host, as in https://bedrock-runtime.{region}.amazonaws.com, is one word without dots.
    if not row.base_url.startswith("https://"):
        return False
    host = row.base_url.split("/")[2]
    words = "[a-z0-9-]+".join(re.escape(part) for part in re.split(r"\{\w+\}", host))
    return re.fullmatch(rf"https://{words}:443", there) is not None
