"""Model references: `provider:name?option=value`, such as `openai:gpt-5.1` or `gguf:/models/m.gguf?context=4096`.

`openai@https://host/v1:name` is any server that speaks the OpenAI chat format, and `a | b` asks b where a fails.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_plus, urlencode

import msgspec

from kurabe.errors import ModelError, missing
from kurabe.plugins import Group, plugin, plugin_names

EMBEDDINGS: Final[dict[str, tuple[str, ...]]] = {
    "wordllama": (),
    "sentence-transformers": ("device", "revision", "remote_code"),
    "model2vec": ("revision",),
    "spacy": (),
    "fake": (),
}
"""What gives embeddings in this process and nothing else, with the options that stand behind the `?`."""
FOLDERS: Final = frozenset({"sentence-transformers", "model2vec", "spacy"})
"""Those of them that may be named by a folder."""

ENGINES: Final[dict[str, tuple[str, ...]]] = {
    "gguf": ("context", "gpu_layers", "cache_type", "flash_attention", "threads", "adapter", "scale", "revision"),
    "hf": (
        "context",
        "dtype",
        "quantize",
        "device",
        "attention",
        "adapter",
        "scale",
        "batch",
        "revision",
        "remote_code",
    ),
}  # fmt: skip
"""The engines in this process, with their options."""

LOCAL: Final = ENGINES | EMBEDDINGS
NUMBERS: Final = frozenset({"context", "threads", "batch"})
"""Options that are whole numbers above 0."""

# Known words of what is not there yet, so that they are not taken for a typing mistake.
NOT_YET: Final = frozenset({"replicate"})

COMPATIBLE: Final = "openai-compatible"
"""The row of providers.toml behind `openai@https://…`."""
_ADDRESS: Final = re.compile(r"openai@(https?://(?:[^/:?@\s\[]+|\[[^\]]+\])(?::\d+)?(?:/[^:?\s]*)?):(.*)", re.DOTALL)
CONCURRENCY: Final = "concurrency"
"""The option of every hosted model: how many calls of a contest are in flight."""

KEY: Final = "key"
"""The option of `openai@…` that names the environment's variable with the key."""


class Reference(msgspec.Struct, frozen=True):
    """A reference taken apart. `address` is that of `openai@address:name`, else ''. `options` stand after the `?`."""

    scheme: str
    name: str
    options: dict[str, str] = {}
    address: str = ""

    def __str__(self) -> str:
        query = urlencode(self.options, safe="/:@")
        at = f"openai@{self.address}" if self.address else self.scheme
        return f"{at}:{self.name}" + (f"?{query}" if query else "")

    @property
    def local(self) -> bool:
        """Whether the model runs in this process."""
        return runs_here(self.scheme)

    def choice(self, option: str, values: Iterable[str]) -> str | None:
        """The value of an option that is one of `values`, or None where it is not given."""
        value = self.options.get(option)
        if value is not None and value not in (known := list(values)):
            raise ModelError(f"model reference '{self}': {missing(f'value of {option}', value, known)}")
        return value

    def number(self, option: str) -> int | None:
        """The value of an option that is a positive whole number, or None where it is not given."""
        value = self.options.get(option)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise ModelError(
                f"model reference '{self}': the option {option!r} must be a whole number above 0, not {value!r}"
            )
        return int(value)


def split_chain(text: str) -> list[str]:
    """The references of a fallback chain `a | b`, in order.

    >>> split_chain("openai:gpt-5.1 | anthropic:claude-sonnet-5-5")
    ['openai:gpt-5.1', 'anthropic:claude-sonnet-5-5']
    """
    if not isinstance(text, str):
        raise ModelError(f"a model is named by a text such as 'openai:gpt-5.1', not by {text!r:.80}")
    links = [link.strip() for link in text.split(" | ")]
    if not all(links):
        raise ModelError(f"model reference {shown_reference(text)!r} has an empty place beside a '|'")
    return links


def is_local(text: str) -> bool:
    """Whether the reference names a model of this process, as far as it can be read."""
    return runs_here(text.partition(":")[0]) and " | " not in text


def runs_here(scheme: str) -> bool:
    """Whether a scheme is that of an engine or embedder of this process, kurabe's own or a plugin's."""
    return scheme in LOCAL or scheme in _added()


def local_schemes() -> list[str]:
    """The schemes of what runs in this process: kurabe's own, then those of plugins."""
    return [*LOCAL, *_added()]


def added(scheme: str) -> Any:
    """The engine or embedder that a plugin adds under a scheme: its class, imported now. None where none does."""
    groups: tuple[Group, ...] = ("engines", "embedders")
    found = next((group for group in groups if scheme in plugin_names(group)), None) if scheme in _added() else None
    return None if found is None else plugin(found, scheme)


def _added() -> list[str]:
    """A plugin takes no scheme from kurabe's own engines and providers."""
    names = [*plugin_names("engines", taken=LOCAL), *plugin_names("embedders", taken=LOCAL)]
    if not names:
        return names
    from kurabe.models.providers import providers

    return [name for name in dict.fromkeys(names) if name not in providers()]


def parse_reference(text: str) -> Reference:
    """Take a reference apart; raises ModelError that points at what can't be read.

    >>> parse_reference("gguf:/models/m.gguf?context=4096")
    Reference(scheme='gguf', name='/models/m.gguf', options={'context': '4096'}, address='')
    """
    if text.startswith("openai@"):
        return _compatible(text)
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise ModelError(f"model reference {shown_reference(text)!r} has no provider before a ':'; {_meant(text)}")
    if scheme in NOT_YET:
        raise ModelError(
            f"model reference {shown_reference(text)!r}: the provider {scheme!r} is not available in this version of"
            " kurabe; use a model on this machine, such as 'gguf:smollm2-135m'"
        )
    if scheme in LOCAL:
        known: tuple[str, ...] = LOCAL[scheme]
    elif runs_here(scheme):
        known = tuple(getattr(added(scheme), "options", ()))
    else:
        from kurabe.models.providers import providers

        if scheme not in providers():
            if (named := providers().get(scheme.partition("@")[0])) is not None and "@" in scheme:
                where = next((option for option in named.options if option in ("base_url", "host")), None)
                form = f"{named.name}:MODEL?{where}=http://…" if where else "openai@http://…:MODEL"
                raise ModelError(f"model reference '{named.name}@…': an address is written so: '{form}'")
            names = [*local_schemes(), *(name for name in providers() if name != COMPATIBLE)]
            raise ModelError(f"model reference {shown_reference(text)!r}: {missing('provider', scheme, names)}")
        known = (*providers()[scheme].options, CONCURRENCY)
    name, options = _name_and_options(text, scheme, rest, known)
    reference = Reference(scheme, name, options)
    for option in options:
        if option in NUMBERS or option == CONCURRENCY:
            reference.number(option)
    return reference


def shown_reference(text: str) -> str:
    """The reference as an error may show it: without the values of options and what stands before an @ in an address,
    either of which may be a key that was put in the wrong place.

    >>> shown_reference("openai:m?apikey=KEY"), shown_reference("ftp://KEY@host")
    ('openai:m?apikey=…', 'ftp://…@host')
    """
    name, question, query = re.sub(r"//[^/@]*@", "//…@", text).partition("?")
    options = [option.partition("=") for option in query.split("&")]
    return name + question + "&".join(f"{option}=…" if equals else "…" for option, equals, _ in options if option)


def _meant(text: str) -> str:
    """What to write instead of a reference without a ':': `openai` alone and `openai/gpt-5.1` tell what was meant."""
    from kurabe.models.providers import providers

    provider, slash, name = text.partition("/")
    if runs_here(provider) or provider in providers():
        if name:
            return f"write {f'{provider}:{name}'!r}"
        listed = f"; `kurabe models {provider}` lists its models" if not slash and provider in providers() else ""
        return f"write '{provider}:MODEL'{listed}"
    return "write PROVIDER:MODEL, such as 'gguf:smollm2-135m' or 'openai:gpt-5.1'"


def _compatible(text: str) -> Reference:
    """`openai@https://host:8000/v1:name`: the name stands after the first ':' behind host, port and path."""
    if re.match(r"openai@https?://[^/?]*@", text):
        raise ModelError(
            "model reference 'openai@…': after 'openai@' stand an address and a model, and no name or password; the"
            " variable of a key is named behind the model, as in 'openai@https://host/v1:my-model?key=MY_KEY'"
        )
    parts = _ADDRESS.fullmatch(text)
    if parts is None or re.match(r"\d+(/|$)", parts[2]):  # a port, and no model behind it
        raise ModelError(
            f"model reference {shown_reference(text)!r}: after 'openai@' stand an address and a model, such as"
            " 'openai@http://127.0.0.1:8000/v1:my-model'"
        )
    name, options = _name_and_options(text, "openai@", parts[2], (CONCURRENCY, KEY))
    reference = Reference(COMPATIBLE, name, options, parts[1])
    reference.number(CONCURRENCY)
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", options.get(KEY, KEY.upper())):  # not shown: it may be a key
        raise ModelError(
            "model reference 'openai@…': ?key= is the name of the variable that holds the key, such as MY_KEY"
        )
    return reference


def _name_and_options(text: str, scheme: str, rest: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    name, question, query = rest.partition("?")
    if not name:
        raise ModelError(f"model reference {shown_reference(text)!r} has no name after '{scheme}:'")
    options: dict[str, str] = {}
    for part in query.split("&") if question else ():
        # Names are taken as they stand and once each, so that nobody who looks for an option overlooks it.
        key, equals, value = part.partition("=")
        if key not in known and not equals and key:  # not shown: it may be a key
            raise ModelError(
                f"model reference {shown_reference(text)!r}: an option is written NAME=VALUE; {scheme} has:"
                f" {', '.join(known) or 'none'}"
            )
        if key not in known:
            raise ModelError(f"model reference {shown_reference(text)!r}: {missing(f'option of {scheme}', key, known)}")
        if key in options:
            raise ModelError(
                f"model reference {shown_reference(text)!r}: the option {key!r} is given twice; leave one of them out"
            )
        options[key] = unquote_plus(value)
    return name, options
