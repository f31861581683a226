"""The cache of replies: the same request hits, anything that shapes the answer misses."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kurabe import errors
from kurabe.messages import Assistant, FinishReason, Image, Reply, System, ToolCall, Usage, User
from kurabe.models.hosted.transport.cache import Cache
from kurabe.testing import Fault, Simulator

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


def look_up(place: str) -> str:
    """Look a place up."""
    return place


CHANGES: list[dict[str, Any]] = [
    {"content": "other"}, {"content": [System("Be brief."), User("x")]},
    {"content": [User("x"), Assistant("y"), User("x")]},
    {"content": ["x", Image.from_bytes(PNG)]}, {"temperature": 0.5}, {"top_p": 0.5}, {"max_tokens": 7}, {"seed": 7},
    {"stop": ["."]}, {"frequency_penalty": 0.5}, {"presence_penalty": 0.5}, {"logprobs": 2},
    {"tools": [look_up]}, {"tools": [look_up], "tool_choice": "required"},
    {"tools": [look_up], "parallel_tool_calls": False}, {"output": {"type": "object", "properties": {}}},
    {"extra": {"user": "me"}},
]  # fmt: skip


def test_the_same_request_hits(tmp_path: Path) -> None:
    with Simulator("openai", answer=["first", "second"]) as server:
        model = server.open("gpt-4.1-mini", cache=tmp_path / "replies.sqlite")
        first, again = model.chat("x", temperature=0), model.chat("x", temperature=0)
        assert (first.text, again.text, server.calls) == ("first", "first", 1)
        assert first.usd is not None
        assert (again.usd, again.seconds, again.usage, again.raw) == (0.0, 0.0, first.usage, first.raw)
        another = server.open("gpt-4.1-mini", cache=tmp_path / "replies.sqlite", api_key="another-key")
        assert another.chat("x", temperature=0).text == "first"  # whose key it is does not shape the answer
        assert server.open("gpt-4.1-mini").chat("x", temperature=0).text == "second"  # off unless asked for


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "-".join(change))
def test_any_change_misses(change: dict[str, Any], tmp_path: Path) -> None:
    with Simulator("openai", answer="{}") as server:
        model = server.open("gpt-4.1-mini", cache=tmp_path / "replies.sqlite")
        model.chat("x")
        for _ in range(2):
            model.chat(**({"content": "x"} | change))
        assert server.calls == 2


def test_another_model_address_or_header_misses(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with Simulator("openai") as server, Simulator("openai") as other:
        server.open("a", cache=path).chat("x")
        server.open("b", cache=path).chat("x")
        server.open("a", cache=path, headers={"openai-beta": "y"}).chat("x")
        assert server.calls == 3
        other.open("a", cache=path).chat("x")
        assert other.calls == 1


def test_what_is_no_whole_answer_is_not_kept(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        model = server.open(cache=tmp_path / "replies.sqlite", attempts=1)
        reasons: tuple[FinishReason, ...] = ("length", "content_filter")
        for reason in reasons:
            server.answer = Reply("cut", reason, Usage(1, 1))
            assert [model.chat("x").finish_reason for _ in range(2)] == [reason, reason]
        server.faults(Fault.status(500))
        with pytest.raises(errors.ServerError):
            model.chat("x")
        server.faults(None)
        assert server.calls == 5
        server.answer = ToolCall("c1", "look_up", {"place": "Rome"})
        assert [model.chat("x").tool_calls[0].arguments for _ in range(2)] == [{"place": "Rome"}] * 2
        assert server.calls == 6


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(errors.InputError, match=r"replies\.sqlite can't be used: file is not a database; delete it"):
        Cache(path)
    with pytest.raises(errors.InputError, match="can't be used"):
        Cache(tmp_path)


def test_a_file_damaged_under_way(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with Simulator("openai", answer="y " * 5000) as server:
        model = server.open(cache=path)
        model.chat("x")
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE replies_1 SET value = x'00'")
        with pytest.raises(errors.InputError, match=r"replies\.sqlite is damaged: .*delete it"):
            model.chat("x")
        database.close()
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with pytest.raises(errors.InputError, match=r"damaged|can't be used"):
            server.open(cache=path).chat("x")


def test_many_threads_and_processes_share_a_file(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Simulator("openai") as server:
        models = [server.open(cache=tmp_path / "replies.sqlite") for _ in range(4)]
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: models[n % 4].chat(f"text {n % 20}").text, range(400)))
        assert replies == [f"text {n % 20}" for n in range(400)]
        assert server.calls < 120


def test_a_stream_is_kept_and_comes_back_in_pieces(tmp_path: Path) -> None:
    with Simulator("openai", answer="one two three") as server:
        model = server.open("m", cache=tmp_path / "replies.sqlite")
        first = model.stream("count")
        assert "".join(delta.text for delta in first) == "one two three"
        again = model.stream("count")
        assert [delta.text for delta in again] == ["one two three"]
        assert (again.reply.text, again.reply.usd) == ("one two three", 0.0)
        assert model.chat("count").text == "one two three"
        assert server.calls == 1


def test_an_answer_that_can_t_be_kept_is_not_lost(tmp_path: Path) -> None:
    call = ToolCall("1", "count", {"stars": 2**70})
    with Simulator("openai", answer=call) as server:
        reply = server.open(cache=tmp_path / "cache.sqlite").chat("x")
        assert reply.tool_calls[0].arguments == {"stars": 2**70}


def test_a_file_that_is_no_cache_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("something else, and longer than the header of a database")
    path.chmod(0o644)
    with pytest.raises(errors.InputError, match="can't be used"):
        Cache(path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text().startswith("something else")
