"""What the journal keeps of a task: what a reader needs to make the run again, and no key."""

import json
from pathlib import Path

import polars as pl
import pytest

from kurabe.api import Task
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.contest.recorded import masked_text, without_keys
from kurabe.report.html import html_report

KEY = "planted-0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def test_a_run_keeps_its_seed_its_file_and_the_settings_that_are_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", KEY)
    pl.DataFrame({"text": [f"thing {n % 7}" for n in range(60)], "price": range(60)}).write_csv(tmp_path / "rows.csv")
    (tmp_path / "prices.yaml").write_text(
        "name: t\ndata: {source: rows.csv, split: {test: 10, seed: 3}}\ninput: '{{ text }}'\ntarget: price\n"
        "kind: number\n"
        f"contestants: [{{constant: {{strategy: mean}}}}, {{prompt: {{model: 'openai:m', system: 'Say {KEY}.', options:"
        f" {{user: 'plain {KEY[8:]}', temperature: 0.5}}}}}}]\n"
    )
    board = Task.from_file(tmp_path / "prices.yaml").compete(seed=5, only=["constant"])
    path = journal_path(tmp_path)
    with Journal(path, create=False) as journal:
        spec = json.loads(journal.spec(board.evidence.run)[0])
    assert spec["run"] == {"seed": 5, "file": "prices.yaml"}
    first, second = spec["contestants"]
    assert first["constant"] == {"strategy": "mean"}
    assert second["prompt"] == {
        "model": "openai:m", "system": "Say •••.", "options": {"user": "•••", "temperature": 0.5},
    }  # fmt: skip
    page = html_report(board)
    assert "strategy mean" in page
    assert "prices.yaml" in page
    for content in (page.encode(), *(one.read_bytes() for one in path.parent.rglob("*") if one.is_file())):
        assert KEY.encode() not in content
        assert KEY[8:].encode() not in content
    assert board.winner.predict(["thing 3"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("You estimate prices in 2024.", "You estimate prices in 2024."),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("gguf:Qwen2.5-0.5B-Instruct", "gguf:Qwen2.5-0.5B-Instruct"),
        ("What is it? Say one word.", "What is it? Say one word."),
        ("https://me:pass@host.example/v1", "https://host.example/v1"),
        ("openai:m?api_key=abc", "openai:m?•••"),
        ("use sk-proj-0123456789abcdef", "use •••"),
        ("use AKIAIOSFODNN7EXAMPLE1", "use •••"),
        ("dGhpcyBpcyBhIGtleSB0aGF0IGhhcyBubyBkaWdpdHM=", "•••"),
    ],
)
def test_a_text_is_kept_without_what_may_be_a_key(text: str, kept: str) -> None:
    assert masked_text(text) == kept


def test_a_setting_that_is_named_like_a_key_and_an_object_are_not_kept() -> None:
    settings = {"api_key": "short", "tokens": {"a": "b"}, "max_tokens": 5, "of": object(), "extra": [{"x": "y"}, 1]}
    assert without_keys(settings) == {
        "api_key": "•••", "tokens": {"a": "•••"}, "max_tokens": 5, "of": None, "extra": [{"x": "•••"}, 1],
    }  # fmt: skip
