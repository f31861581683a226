"""Azure OpenAI: the rows' addresses beside those of the SDK's AzureOpenAI, and of OpenAI at `/openai/v1`.

The bodies and the reading of answers are those of test_openai_chat. The SDK's habit: a fixed `azure_deployment` wins in
the path alone; our reference names one deployment, in the path and in the body.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import openai
import pytest

from kurabe.messages import Request, User
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.models.hosted.auth import Key, authorize, fill
from kurabe.models.providers import Provider, providers

CODEC = OpenAIChat()
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4.1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}
VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}],
    "model": "e",
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}


@pytest.fixture
def closing() -> Iterator[Any]:
    """Closes at the end what it is given."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


def routed(row: Provider, kind: str, wire: HttpRequest, model: str, options: dict[str, str]) -> HttpRequest:
    """The request as the row sends it, behind the endpoint."""
    path = fill(row.paths.get(kind, wire.path), {"model": model}, escape=True)
    query = {name: fill(value, options) for name, value in row.query.items()}
    base = row.base_url.removeprefix("{endpoint}")
    return msgspec.structs.replace(wire, path=base + path, query=query)


@pytest.mark.parametrize("model", ["gpt-4.1", "my deployment/é"])
@pytest.mark.parametrize("token", [False, True])
def test_deployments(model: str, token: bool, recorder: Any, same: Any, closing: Any) -> None:
    key = "aaa.bbb.ccc" if token else "test-key"
    secret: dict[str, Any] = {"azure_ad_token": key} if token else {"api_key": key}
    client = closing(
        openai.AzureOpenAI(azure_endpoint=recorder.url, api_version="2025-04-01-preview", max_retries=0, **secret)
    )
    row = providers()["azure"]
    options = {"api_version": "2025-04-01-preview"}
    assert row.options["api_version"].default == "2025-04-01-preview"

    recorder.answer(ANSWER)
    client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=5
    )
    chat = CODEC.chat(model, Request((User("Hello"),), max_tokens=5), row.profile(model), stream=False)
    same(routed(row, "chat", chat, model, options), recorder.last)
    headers = authorize(row, (Key(key), ""), options)(chat, recorder.url)
    assert headers == ({"authorization": f"Bearer {key}"} if token else {"api-key": key})
    for name in ("authorization", "api-key"):
        assert recorder.last.headers.get(name) == headers.get(name)

    recorder.answer(VECTORS)
    client.embeddings.create(model=model, input=["one"])
    same(routed(row, "embed", CODEC.embed(model, ["one"], None, None), model, options), recorder.last)

    recorder.answer({"object": "list", "data": [{"id": "gpt-4.1", "object": "model", "created": 1, "owned_by": "a"}]})
    list(client.models.list())
    same(routed(row, "models", CODEC.models(), model, options), recorder.last)


@pytest.mark.parametrize("key", ["test-key", "aaa.bbb.ccc"])
def test_the_surface_without_versions(key: str, recorder: Any, same: Any, closing: Any) -> None:
    client = closing(openai.OpenAI(api_key=key, base_url=recorder.url + "/openai/v1/", max_retries=0))
    row = providers()["azure-v1"]
    recorder.answer(ANSWER)
    client.chat.completions.create(
        model="gpt-4.1", messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=5
    )
    chat = CODEC.chat("gpt-4.1", Request((User("Hello"),), max_tokens=5), row.profile("gpt-4.1"), stream=False)
    same(routed(row, "chat", chat, "gpt-4.1", {}), recorder.last)
    assert (
        recorder.last.headers["authorization"]
        == authorize(row, (Key(key), ""), {})(chat, recorder.url)["authorization"]
    )
    assert recorder.last.query == {}

    recorder.answer(VECTORS)
    client.embeddings.create(model="e", input=["one"])
    same(routed(row, "embed", CODEC.embed("e", ["one"], None, None), "e", {}), recorder.last)


def test_the_filter_and_its_errors(recorder: Any, closing: Any) -> None:
    """A prompt that the filter stops is status 400; an answer that it stops ends with `content_filter`."""
    body = {
        "error": {
            "message": "The prompt triggered Azure OpenAI's content management policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
        }
    }
    client = closing(
        openai.AzureOpenAI(azure_endpoint=recorder.url, api_version="v", api_key="test-key", max_retries=0)
    )
    recorder.answer(body, status=400)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "Hello"}])
    error = CODEC.error(400, {}, msgspec.json.encode(body))
    assert type(error).__name__ == "ContentFilteredError"
    assert (error.code, error.status) == (caught.value.code, caught.value.status_code)
