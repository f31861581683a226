from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from kurabe.cli.providers import describe
from kurabe.messages import Request
from kurabe.models import providers as module
from kurabe.models.hosted.auth import fill
from kurabe.models.providers import Provider, providers

PARTS = {"image", "audio", "document", "system"}
KNOWN_PATHS = {"chat", "embed", "rerank", "models"}


@pytest.mark.parametrize("name", providers())
def test_every_row(name: str) -> None:
    row = providers()[name]
    assert row.name == name
    assert name == name.lower()
    assert row.title
    usual = {option: found.default or "https://a.openai.azure.com" for option, found in row.options.items()}
    address = urlsplit(fill(row.base_url, usual))
    assert address.scheme == "https" or (address.scheme, address.hostname) == ("http", "127.0.0.1")
    assert (address.hostname == "127.0.0.1") == (row.local or name == "openai-compatible")
    assert not row.base_url.endswith("/")
    assert row.local or row.key or row.auth in ("google", "aws") or name == "openai-compatible", "no way to give a key"
    assert row.paths.keys() <= KNOWN_PATHS
    settings = set(Request.__struct_fields__) - {"messages", "extra"}
    for names in (row.without, *(rule.without for rule in row.models), *(rule.takes for rule in row.models)):
        assert set(names) <= settings | PARTS, "a word of `without` or `takes` that is no setting"
    assert set(row.names) <= settings
    for text in (row.base_url, *row.query.values(), *row.paths.values()):
        for option in row.options:
            text = text.replace(f"{{{option}}}", "x")
        assert "{" not in text.replace("{model}", "x"), "an option that the row does not have"


def test_addresses_are_unique_for_each_protocol() -> None:
    rows = [row for name, row in providers().items() if name != "openai-compatible"]
    seen = [(row.protocol, describe(row)["address"]) for row in rows]
    assert len(set(seen)) == len(seen)
    assert len({row.title for row in rows}) == len(rows)


def test_the_providers_that_are_promised() -> None:
    promised = (
        "openai openai-responses azure azure-v1 anthropic anthropic-vertex anthropic-bedrock gemini vertex bedrock"
        " cohere mistral ollama perplexity deepseek groq xai together fireworks openrouter huggingface cerebras nvidia"
        " vllm sglang llama-server lmstudio openai-compatible"
    )
    assert set(promised.split()) <= set(providers())


SAMPLING = {"temperature", "top_p", "logprobs"}


@pytest.mark.parametrize("provider", ["openai", "azure", "azure-v1"])
@pytest.mark.parametrize(
    ("models", "refused", "taken"),
    [
        (
            ["gpt-4.1", "gpt-4o-mini", "gpt-3.5-turbo", "ft:gpt-4.1-mini:org::id"],
            {"reasoning", "top_k"},
            SAMPLING | {"stop"},
        ),
        (["o1", "o3-mini", "o4-mini-2025-04-16"], SAMPLING | {"stop", "parallel_tool_calls"}, {"reasoning", "seed"}),
        (["gpt-5", "gpt-5-mini", "gpt-5-pro", "gpt-5.5", "gpt-6-astra"], SAMPLING | {"stop"}, {"reasoning", "tools"}),
        (["gpt-5.1", "gpt-5.2-2025-12-11", "gpt-5.4-mini", "GPT-5.1"], {"stop"}, SAMPLING | {"reasoning"}),
        (["gpt-5.1-codex", "gpt-5.2-pro"], SAMPLING | {"stop"}, {"reasoning"}),
        (["gpt-5-chat-latest", "gpt-5.1-chat-latest"], {"reasoning"}, SAMPLING | {"stop"}),
    ],
)
def test_openai_models(provider: str, models: list[str], refused: set[str], taken: set[str]) -> None:
    for model in models:
        profile = providers()[provider].profile(model)
        assert refused <= profile.without, model
        assert not taken & profile.without, model
        assert profile.names == {"max_tokens": "max_completion_tokens"}


@pytest.mark.parametrize(
    ("provider", "model", "refused", "taken", "context"),
    [
        ("xai", "grok-4-0709", {"stop", "reasoning"}, {"temperature"}, 256_000),
        ("xai", "grok-4-1-fast-non-reasoning", {"reasoning"}, {"stop", "presence_penalty"}, 2_000_000),
        ("xai", "grok-3-mini", {"stop"}, {"reasoning"}, 131_072),
        ("xai", "grok-3", {"reasoning"}, {"stop"}, 131_072),
        ("xai", "grok-4.3", {"stop"}, {"reasoning"}, None),
        ("deepseek", "deepseek-chat", {"seed", "image"}, {"logprobs"}, None),
        ("deepseek", "deepseek-reasoner", {"logprobs"}, {"tools"}, None),
        ("perplexity", "sonar-pro", {"seed"}, {"output", "tools", "stop"}, 200_000),
        ("groq", "openai/gpt-oss-120b", {"logprobs"}, {"prefill"}, 131_072),
        ("openai", "gpt-4o", {"prefill"}, {"image", "audio"}, 128_000),
        ("llama-server", "any", {"document"}, {"grammar", "top_k", "prefill"}, None),
    ],
)
def test_models_elsewhere(provider: str, model: str, refused: set[str], taken: set[str], context: int | None) -> None:
    profile = providers()[provider].profile(model)
    assert refused <= profile.without
    assert not taken & profile.without
    assert profile.context == context


def test_rules_apply_in_order() -> None:
    row = {
        "title": "T",
        "protocol": "openai_chat",
        "base_url": "https://t.test",
        "without": ["seed"],
        "max_tokens": 10,
        "names": {"seed": "s"},
        "quirks": ["q"],
        "models": [
            {"match": "a*|b", "without": ["stop"], "takes": ["seed"], "max_tokens": 20, "quirks": ["r"]},
            {"match": "*c", "takes": ["stop"], "names": {"stop": "end"}, "context": 5},
        ],
    }
    provider = msgspec.convert(row, Provider)
    assert provider.profile("x").without == {"seed"}
    assert provider.profile("A1").without == {"stop"}
    both = provider.profile("a-c")
    assert (both.names, both.max_tokens, both.context) == ({"seed": "s", "stop": "end"}, 20, 5)
    assert not both.without
    assert both.quirks == {"q", "r"}


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"protocol": "smtp"}, {"auth": "secret"}, {"models": [{"macth": "*"}]}]
)
def test_a_row_with_an_unknown_word_is_refused(change: dict[str, Any]) -> None:
    row = {"title": "T", "protocol": "openai_chat", "base_url": "https://t.test"}
    assert msgspec.convert(row, Provider).auth == "bearer"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(row | change, Provider)


@pytest.mark.parametrize("kind", ["function", "dict"])
def test_a_plugin_adds_a_provider(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"title": "House", "protocol": "openai_chat", "base_url": "https://house.test/v1", "key": ["HOUSE_KEY"]}
    rows_added: Any = {"house": row, "groq": row | {"title": "Mine"}}
    if kind == "function":
        rows_added = lambda: {"house": row}  # noqa: E731
    monkeypatch.setattr(module, "plugin_names", lambda group: ["house"] if group == "providers" else [])
    monkeypatch.setattr(module, "plugin", lambda group, name: rows_added)
    providers.cache_clear()
    try:
        rows = providers()
        assert (rows["house"].name, rows["house"].key) == ("house", ("HOUSE_KEY",))
        assert rows["openai"].title == "OpenAI"
        assert rows["groq"].title == ("Mine" if kind == "dict" else "Groq")
    finally:
        providers.cache_clear()
