"""The services by the names of providers, and whether a model's provider has one."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from kurabe.errors import TuningError
from kurabe.models.providers import providers
from kurabe.models.reference import Reference, parse_reference
from kurabe.tuning.hosted.base import Service

SERVICES: Final = {
    "openai": "openai:OpenAITuning",
    "openai-responses": "openai:OpenAITuning",
    "azure": "openai:AzureTuning",
    "azure-v1": "openai:AzureTuning",
    "mistral": "mistral:MistralTuning",
    "together": "together:TogetherTuning",
    "fireworks": "fireworks:FireworksTuning",
    "bedrock": "bedrock:BedrockTuning",
    "vertex": "vertex:VertexTuning",
}


def service_of(base: Reference, options: Mapping[str, str] = {}) -> Service:
    """The service that tunes this model, told of `options`; raises TuningError if no service does."""
    if base.scheme not in SERVICES or base.address:
        raise TuningError(
            f"'{base}' can't be tuned: kurabe tunes models of {', '.join(SERVICES)}, and on this machine those of hf:"
        )
    module, _, name = SERVICES[base.scheme].partition(":")
    service: Service = getattr(import_module(f"kurabe.tuning.hosted.{module}"), name)(options)
    return service


def is_hosted(model: object) -> bool:
    """Whether a model to be tuned is named by a hosted reference."""
    if not isinstance(model, str):
        return False
    scheme = model.partition(":")[0]
    return scheme in SERVICES


def title(base: Reference) -> str:
    """What the provider is called."""
    return providers()[base.scheme].title


def parse_base(model: str) -> Reference:
    """The reference of a model that is to be tuned at its provider. Raises ModelError and TuningError."""
    base = parse_reference(model)
    service_of(base)
    return base
