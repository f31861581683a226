"""Providers of hosted models: one row of `providers.toml` each, and those that plugins add."""

import tomllib
import warnings
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from kurabe.errors import PluginError, missing
from kurabe.models.codecs.base import Profile
from kurabe.plugins import plugin, plugin_names

CODECS: Final[dict[str, str]] = {
    "openai_chat": "openai_chat:OpenAIChat",
    "openai_responses": "_openai_responses:OpenAIResponses",
    "anthropic": "_anthropic:Anthropic",
    "anthropic_vertex": "_anthropic:AnthropicVertex",
    "anthropic_bedrock": "_anthropic:AnthropicBedrock",
    "gemini": "_gemini:Gemini",
    "vertex": "_gemini:Vertex",
    "bedrock": "_bedrock:Bedrock",
    "cohere": "_cohere:Cohere",
    "mistral": "_mistral:Mistral",
    "ollama": "ollama:Ollama",
}
"""The class of each wire format, within `kurabe.models.codecs`. A plugin adds some by `kurabe.wire_formats`."""
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
    protocol: str
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

    def __post_init__(self) -> None:
        if self.protocol not in CODECS and self.protocol not in plugin_names("wire_formats"):
            raise ValueError(missing("wire format", self.protocol, [*CODECS, *plugin_names("wire_formats")]))

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
    address of a dict of name → row, with the keys of providers.toml, or of a function that returns one. What can't be
    read is named in a warning, and the others stay."""
    table = tomllib.loads(files("kurabe.models").joinpath("providers.toml").read_text("utf-8"))
    rows = {name: _row(name, row) for name, row in table.items()}
    for name in plugin_names("providers"):
        try:
            found = plugin("providers", name)
            rows |= {each: _row(each, row) for each, row in (found() if callable(found) else found).items()}
        except PluginError as error:
            warnings.warn(str(error), stacklevel=2)
        except Exception as error:
            warnings.warn(f"the plugin {name!r} gives providers that can't be read: {error}", stacklevel=2)
    return rows


def _row(name: str, row: Any) -> Provider:
    return msgspec.convert({**row, "name": name}, Provider)
