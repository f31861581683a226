"""Model references: `scheme:name?option=value`, such as `gguf:smollm2-135m` or `gguf:/models/m.gguf?context=4096`."""

from typing import Final
from urllib.parse import parse_qsl

import msgspec

from kurabe.errors import ModelError, missing

# The options each scheme takes; every value is a positive integer.
SCHEMES: Final[dict[str, tuple[str, ...]]] = {"gguf": ("context",), "wordllama": ()}

# Schemes of hosted providers and other engines: known words, so that they are not taken for a typing mistake.
NOT_YET: Final = frozenset({
    "anthropic", "azure", "bedrock", "cohere", "deepseek", "fireworks", "gemini", "google", "groq", "hf", "lmstudio",
    "mistral", "ollama", "openai", "openrouter", "perplexity", "replicate", "together", "transformers", "vertex",
    "vllm", "xai",
})  # fmt: skip


class Reference(msgspec.Struct, frozen=True):
    """A reference taken apart. `options` maps the names after `?` to positive integers."""

    scheme: str
    name: str
    options: dict[str, int] = {}

    def __str__(self) -> str:
        query = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.scheme}:{self.name}" + (f"?{query}" if query else "")


def parse_reference(text: str) -> Reference:
    """Take a reference apart; raises ModelError that points at what can't be read.

    >>> parse_reference("gguf:/models/m.gguf?context=4096")
    Reference(scheme='gguf', name='/models/m.gguf', options={'context': 4096})
    """
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise ModelError(
            f"model reference {text!r} has no scheme before a ':'; write SCHEME:NAME, such as 'gguf:smollm2-135m'"
        )
    if scheme in NOT_YET:
        raise ModelError(
            f"model reference {text!r}: the scheme {scheme!r} is not available in this version of kurabe; "
            "use a model on this machine, such as 'gguf:smollm2-135m'"
        )
    if scheme not in SCHEMES:
        raise ModelError(f"model reference {text!r}: {missing('scheme', scheme, SCHEMES)}")
    name, question, query = rest.partition("?")
    if not name:
        raise ModelError(f"model reference {text!r} has no name after '{scheme}:'")
    return Reference(scheme, name, _options(text, scheme, query) if question else {})


def _options(text: str, scheme: str, query: str) -> dict[str, int]:
    options: dict[str, int] = {}
    for part in query.split("&"):
        (key, value), *_ = parse_qsl(part, keep_blank_values=True) or [(part, "")]
        if key not in SCHEMES[scheme]:
            raise ModelError(f"model reference {text!r}: {missing(f'option of {scheme}', key, SCHEMES[scheme])}")
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise ModelError(
                f"model reference {text!r}: the option {key!r} must be a whole number above 0, not {value!r}"
            )
        options[key] = int(value)
    return options
