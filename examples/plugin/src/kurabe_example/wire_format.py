"""A wire format: OpenAI's chat, with the team that pays named in each call, as a gateway of a company may want it."""

import json

import msgspec

from kurabe.messages import Request
from kurabe.models.codecs.base import HttpRequest, Profile, json_body
from kurabe.models.codecs.openai_chat import OpenAIChat


class GatewayChat(OpenAIChat):
    """OpenAI's chat completions with a field `team`."""

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        """The request for one chat call."""
        asked = super().chat(model, request, profile, stream=stream)
        return msgspec.structs.replace(asked, body=json_body({**json.loads(asked.body), "team": "search"}))
