"""Providers of hosted models: one row of `providers.toml` each, and those that plugins add."""

import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any, Literal

import msgspec

from kurabe.models.codecs.base import Profile

Protocol = Literal[
    "openai_chat", "openai_responses", "anthropic", "anthropic_vertex", "anthropic_bedrock", "gemini", "vertex",
    "bedrock", "cohere", "mistral", "ollama",
]  # fmt: skip
Auth = Literal["none", "bearer", "x-api-key", "api-key", "x-goog-api-key", "azure", "google", "aws"]


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An option of a reference (`?region=…`): the first that is set of the reference, these variables, the default.

    `body`: where its value goes in the body of a chat, as in `options.num_ctx`; left out where it is not set.
    """

    env: tuple[str, ...] = ()
    default: str | None = None
    body: str = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What models whose names match (shell patterns, separated by `|`) accept beside the provider's own profile."""

    match: str
    without: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    names: dict[str, str] = {}
    max_tokens: int | None = None
    context: int | None = None
    quirks: tuple[str, ...] = ()


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row: where a provider is, how it is spoken to, and what its models accept.

    `base_url`, `query` and `paths` may hold `{options}`; `paths` replaces a codec's own path (`chat`, `embed`,
    `rerank`, `models`) and may hold `{model}`. `key`: the variables that may hold the key, the first one first.
    `local`: runs on the user's own machine, so no key is needed and the cost is 0.
    """

    title: str
    protocol: Protocol
    base_url: str
    auth: Auth = "bearer"
    key: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    paths: dict[str, str] = {}
    options: dict[str, Option] = {}
    local: bool = False
    with_key: str = ""
    """The row that stands in for this one where a key is given in place of the cloud's credentials."""
    prices: str | None = None
    """The provider's name in genai-prices, where it is another one."""
    without: tuple[str, ...] = ()
    names: dict[str, str] = {}
    max_tokens: int = 4096
    quirks: tuple[str, ...] = ()
    models: tuple[Rule, ...] = ()
    name: str = ""

    def profile(self, model: str) -> Profile:
        """What this model accepts: the provider's settings, then those of each rule that matches, in order."""
        without, names, quirks = set(self.without), dict(self.names), set(self.quirks)
        max_tokens, context = self.max_tokens, None
        for rule in self.models:
            if any(fnmatchcase(model.lower(), pattern) for pattern in rule.match.split("|")):
                without = (without | set(rule.without)) - set(rule.takes)
                names |= rule.names
                quirks |= set(rule.quirks)
                max_tokens, context = rule.max_tokens or max_tokens, rule.context or context
        return Profile(frozenset(without), names, max_tokens, context, frozenset(quirks))


@cache
def providers() -> dict[str, Provider]:
    """Every provider by its name in references. A plugin adds some by the entry point `kurabe.providers`: the
    address of a dict of name → row, with the keys of providers.toml, or of a function that returns one."""
    table = tomllib.loads(files("kurabe.models").joinpath("providers.toml").read_text("utf-8"))
    rows: dict[str, Any] = dict(table)
    for entry in entry_points(group="kurabe.providers"):
        loaded = entry.load()
        rows |= loaded() if callable(loaded) else loaded
    return {name: msgspec.convert({**row, "name": name}, Provider) for name, row in rows.items()}
