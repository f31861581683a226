"""Models × prompts: every answer in its place, failures beside answers, models of this machine one at a time."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import kurabe.lens
from kurabe.errors import DataError, InputError, ModelError
from kurabe.lens import compare as module_function
from kurabe.lens import texts
from kurabe.lens.compare import Cell, Table
from kurabe.messages import Reply, Request, Usage
from kurabe.models.base import ChatModel
from kurabe.testing import Fault, ScriptedModel, Simulator


def reference(server: Simulator, model: str) -> str:
    return f"openai@{server.url}:{model}?key=KEY_OF_TEST"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "test-key")


def test_every_answer_stands_in_its_place() -> None:
    def slow(text: str) -> str:
        time.sleep(0.05 if text == "one" else 0)
        return f"slow {text}"

    with Simulator("openai", slow) as a, Simulator("openai", str.upper) as b:
        found = kurabe.lens.compare(
            [reference(a, "a"), reference(b, "b")], ["one", "two", "three"], system="Be brief.", temperature=0.5
        )
        bodies = [call.json for call in b.requests]
    assert [[cell and cell.text for cell in row] for row in found.cells] == [
        ["slow one", "ONE"], ["slow two", "TWO"], ["slow three", "THREE"],
    ]  # fmt: skip
    assert all(body["messages"][0] == {"role": "system", "content": "Be brief."} for body in bodies)
    assert [body["temperature"] for body in bodies] == [0.5] * 3
    first, second = found.totals
    assert (first.answered, first.failed, first.usage.output) == (3, 0, 6)
    assert first.usd is None  # nobody knows this server's price
    assert first.seconds is not None and first.seconds > 0.01  # noqa: PT018
    assert second.usage.input == first.usage.input
    value = json.loads(json.dumps(found.as_dict()))
    assert value["answers"][2]["answers"][1]["text"] == "THREE"
    assert value["settings"] == {"temperature": 0.5}


def test_a_failed_cell_shows_its_error_and_stops_no_other() -> None:
    def faults(call: Any) -> Fault | None:
        return Fault.status(400, "no such thing") if b"two" in call.body else None

    with Simulator("openai", str.upper, faults=faults) as server:
        found = module_function([reference(server, "m"), "gguf:none.gguf"], ["one", "two", "three"])
    (one, gone), (two, _), (three, _) = found.cells
    assert one is not None and two is not None and three is not None and gone is not None  # noqa: PT018
    assert (one.text, two.text, three.text) == ("ONE", "", "THREE")
    assert two.error is not None and two.error.startswith("refused the request")  # noqa: PT018
    assert "none.gguf" in (gone.error or "")
    assert [(total.answered, total.failed, total.seconds is None) for total in found.totals] == [
        (2, 1, False), (0, 3, True),
    ]  # fmt: skip


def test_a_key_that_is_refused_is_tried_once_or_a_few_times() -> None:
    with Simulator("openai", "x", faults=Fault.status(401, "wrong key"), delay=0.01) as server:
        found = module_function([f"{reference(server, 'm')}&concurrency=2"], [f"prompt {n}" for n in range(50)])
        assert server.calls <= 2
    assert found.totals[0].failed == 50
    assert {(cell.error or "")[:29] for (cell,) in found.cells if cell} == {"does not accept the key (stat"}


class Watched(ScriptedModel):
    """Keeps how many models of this machine are open at once."""

    open_now = 0
    most = 0

    def __init__(self, name: str) -> None:
        super().__init__(lambda request: f"{name}: {request.messages[-1].text}")
        Watched.open_now += 1
        Watched.most = max(Watched.most, Watched.open_now)

    async def ask(self, request: Request) -> Reply:
        return Reply(self._answer(request), "stop", Usage(1, 1), 0.0, 0.25)

    def close(self) -> None:
        Watched.open_now -= 1


def test_models_of_this_machine_are_open_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(reference: str) -> ChatModel:
        return Watched(reference)

    monkeypatch.setattr(sys.modules["kurabe.lens.compare"], "open_model", opened)
    found = module_function(["gguf:a.gguf", "gguf:b.gguf", "gguf:c.gguf"], ["x", "y"])
    assert (Watched.most, Watched.open_now) == (1, 0)
    assert [cell and cell.text for cell in found.cells[1]] == ["gguf:a.gguf: y", "gguf:b.gguf: y", "gguf:c.gguf: y"]
    assert [(total.usd, total.seconds) for total in found.totals] == [(0.0, 0.25)] * 3


def test_what_has_come_is_kept_when_the_rest_is_given_up() -> None:
    hold = threading.Event()

    def answer(text: str) -> str:
        if text == "slow":
            hold.wait(10)
        return text.upper()

    with Simulator("openai", answer) as server:
        table = Table([reference(server, "m")], ["quick", "slow"], None, {})
        answers = table.answers()
        table.put(next(answers))
        answers.close()
        hold.set()
    found = table.comparison
    assert found.cells[0][0] == Cell("QUICK", None, "stop", Usage(1, 1), None, found.cells[0][0].seconds)  # type: ignore[union-attr]
    assert found.cells[1] == (None,)
    assert found.waiting == 1
    assert found.totals[0].answered == 1


@pytest.mark.parametrize(
    ("refs", "prompts", "settings", "says"),
    [
        ([], ["x"], {}, "references are a list"),
        ("openai:gpt-4.1", ["x"], {}, "references are a list"),
        (["openai:gpt-4.1"], [], {}, "prompts are a list"),
        (["openai:gpt-4.1"], ["x", " "], {}, "prompt 2 is empty"),
        (["openai:gpt-4.1"], ["x"], {"temprature": 1}, "did you mean 'temperature'"),
    ],
)
def test_what_is_wrong_is_said_before_anybody_is_asked(
    refs: Any, prompts: Any, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        module_function(refs, prompts, **settings)


def test_a_wrong_reference_is_said_before_anybody_is_asked() -> None:
    with pytest.raises(ModelError, match="did you mean 'openai'"):
        module_function(["gguf:a.gguf", "opnai:gpt-4.1"], ["x"])


def test_texts_of_lines_and_columns(tmp_path: Path) -> None:
    lines = tmp_path / "a.txt"
    lines.write_bytes("\ufeffone\r\n\n  two \n".encode())
    table = tmp_path / "a.csv"
    table.write_text('id,prompt\n007,"two\nlines"\n8,\n9,last\n', "utf-8")
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"title": "t"}\n{"title": null}\n{"title": "u"}\n', "utf-8")
    pl.DataFrame({"n": [1, 2], "title": ["a", "b"]}).write_parquet(tmp_path / "a.parquet")
    read = texts.read_texts
    assert read(lines) == ["one", "two"]
    assert read(table, usual=("prompt",)) == ["two\nlines", "last"]
    assert read(table, "id") == ["007", "8", "9"]
    assert read(rows) == ["t", "u"]  # the only column
    assert read(tmp_path / "a.parquet", "n") == ["1", "2"]
    with pytest.raises(InputError, match=r"has the columns n, title; name the one that is meant with --column"):
        read(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="did you mean 'title'"):
        read(tmp_path / "a.parquet", "titel")
    with pytest.raises(InputError, match="lines and no columns"):
        read(lines, "prompt")
    with pytest.raises(InputError, match=r"no file .*b\.txt"):
        read(tmp_path / "b.txt")
    with pytest.raises(DataError, match=r"b\.csv"):
        read(tmp_path / "b.csv")
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(InputError, match="holds no text"):
        read(tmp_path / "empty.txt")
