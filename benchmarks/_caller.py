"""One client of benchmarks/calls.py in a process of its own; prints its figures as JSON.

python _caller.py NAME URL CALLS STREAMS

Runs on the Python of that client's own environment, so it imports nothing but that client.
"""

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

TEXT = "Say something about foxes."
MODEL = "gpt-4o-mini"
Call = Callable[[], Awaitable[Any]]
Streamed = Callable[[], AsyncIterator[Any]]


async def bare(url: str) -> tuple[Call, Streamed]:
    """pyreqwest and msgspec by hand: what ours stands on."""
    import msgspec
    from pyreqwest.client import ClientBuilder

    client = ClientBuilder().build()
    address = f"{url}/chat/completions"
    headers = {"authorization": "Bearer test", "content-type": "application/json"}

    def request(**more: Any) -> Any:
        body = {"model": MODEL, "messages": [{"role": "user", "content": TEXT}], **more}
        return client.post(address).headers(headers).body_bytes(msgspec.json.encode(body))

    async def call() -> Any:
        response = await request().build().send()
        return msgspec.json.decode(await response.bytes())["choices"][0]["message"]["content"]

    async def stream() -> AsyncIterator[Any]:
        async with request(stream=True).streamed_read_buffer_limit(1).build_streamed() as response:
            rest = b""
            while (piece := await response.body_reader.read_chunk()) is not None:
                *events, rest = (rest + bytes(piece)).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        for choice in msgspec.json.decode(event[6:])["choices"]:
                            yield choice["delta"].get("content")

    return call, stream


async def kurabe(url: str) -> tuple[Call, Streamed]:
    from kurabe import open_model

    model = open_model(f"openai:{MODEL}", api_key="test", base_url=url)

    async def stream() -> AsyncIterator[Any]:
        async for delta in model.astream(TEXT):
            yield delta

    return lambda: model.achat(TEXT), stream


async def openai(url: str) -> tuple[Call, Streamed]:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="test", base_url=url)
    messages: Any = [{"role": "user", "content": TEXT}]

    async def call() -> Any:
        return await client.chat.completions.create(model=MODEL, messages=messages)

    async def stream() -> AsyncIterator[Any]:
        async for chunk in await client.chat.completions.create(model=MODEL, messages=messages, stream=True):
            yield chunk

    return call, stream


async def litellm(url: str) -> tuple[Call, Streamed]:
    import litellm as library

    settings: Any = {
        "model": f"openai/{MODEL}",
        "api_key": "test",
        "api_base": url,
        "messages": [{"role": "user", "content": TEXT}],
    }

    async def stream() -> AsyncIterator[Any]:
        async for chunk in await library.acompletion(**settings, stream=True):
            yield chunk

    return lambda: library.acompletion(**settings), stream


async def langchain(url: str) -> tuple[Call, Streamed]:
    from langchain_openai import ChatOpenAI

    model: Any = ChatOpenAI(model=MODEL, api_key="test", base_url=url)

    async def stream() -> AsyncIterator[Any]:
        async for chunk in model.astream(TEXT):
            yield chunk

    return lambda: model.ainvoke(TEXT), stream


async def any_llm(url: str) -> tuple[Call, Streamed]:
    from any_llm import AnyLLM

    client: Any = AnyLLM.create("openai", api_key="test", api_base=url)
    messages: Any = [{"role": "user", "content": TEXT}]

    async def stream() -> AsyncIterator[Any]:
        async for chunk in await client.acompletion(model=MODEL, messages=messages, stream=True):
            yield chunk

    return lambda: client.acompletion(model=MODEL, messages=messages), stream


async def pydantic_ai(url: str) -> tuple[Call, Streamed]:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent: Any = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key="test")))

    async def stream() -> AsyncIterator[Any]:
        async with agent.run_stream(TEXT) as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                yield text

    return lambda: agent.run(TEXT), stream


CLIENTS = {
    "bare": bare,
    "kurabe": kurabe,
    "openai": openai,
    "litellm": litellm,
    "langchain": langchain,
    "any-llm": any_llm,
    "pydantic-ai": pydantic_ai,
}


async def many(call: Call, calls: int, concurrency: int) -> tuple[float, float]:
    """(processor µs per call, calls per second)."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return (time.process_time() - cpu) / calls * 1e6, calls / (time.perf_counter() - wall)


async def main(name: str, url: str, calls: int, streams: int) -> None:
    began = time.perf_counter()
    call, stream = await CLIENTS[name](url)
    await call()
    first = time.perf_counter() - began
    figures: dict[str, float] = {"first_call_s": first}
    await many(call, max(calls // 10, 10), 8)
    figures["cpu_1"], figures["rate_1"] = await many(call, calls // 2, 1)
    figures["cpu_128"], figures["rate_128"] = await many(call, calls, 128)
    async for _ in stream():
        pass
    chunks, cpu = 0, time.process_time()
    for _ in range(streams):
        async for _ in stream():
            chunks += 1
    figures["cpu_chunk"] = (time.process_time() - cpu) / max(chunks, 1) * 1e6
    figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
        time.sleep(0.1)  # pyreqwest 0.15.1 by itself may abort an interpreter that ends right after a stream
