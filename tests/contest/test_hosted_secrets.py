"""Nothing that a contest with a hosted model leaves behind holds the key, whatever the provider answers."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from kurabe.cli.main import cli
from kurabe.testing import Fault, Simulator

KEY = "planted-0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(401, "Incorrect key {key}"),
        Fault.status(500, "internal error for {key}"),
        Fault.invalid_json("not json {key}"),
        Fault.error_event("broken for {key}"),
        None,
    ],
    ids=["401", "500", "invalid", "error", "answer"],
)
def test_the_key_is_in_nothing_that_a_contest_leaves(
    fault: Fault | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    with Simulator("openai", answer="I say 12", faults=None if fault is None else (lambda call: fault)) as server:
        pl.DataFrame({"text": [f"thing {n}" for n in range(60)], "price": range(60)}).write_csv(tmp_path / "rows.csv")
        waits = "attempts: 2, policy: {first_wait: 0.001}"
        options = f"{{base_url: {server.url!r}, concurrency: 2, {waits}, price: {{input: 1, output: 1}}}}"
        task = tmp_path / "task.yaml"
        task.write_text(
            "name: t\ndata: {source: rows.csv, split: {test: 10, seed: 0}}\ninput: '{{ text }}'\ntarget: price\n"
            f"kind: number\ncontestants: [constant, {{prompt: {{model: 'openai:m', options: {options}}}}}]\n"
        )
        runner = CliRunner()
        printed = [runner.invoke(cli, ["run", str(task), *more]).output for more in ([], ["--json"], ["--debug"])]
        for format in ("html", "md", "csv", "json"):
            out = tmp_path / f"report.{format}"
            printed.append(runner.invoke(cli, ["report", str(task), "--output", str(out)]).output)
        assert server.calls > 0
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.suffix == ".html" for path in left)
    assert any(".kurabe" in path.parts for path in left)
    for path, content in left.items():
        assert KEY.encode() not in content, path
    for text in printed:
        assert KEY not in text
