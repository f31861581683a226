"""What contestants will take, and how often test rows were used, told from the journal and from stated rates."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.base import clone

from kurabe.api import Task
from kurabe.contest.estimates import Estimate, estimate
from kurabe.contest.history import Rate, Uses
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path, make_entrants
from kurabe.contestants.keys import input_digests
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.messages import Request
from kurabe.models import open_model
from kurabe.models.engines.base import LocalModel
from kurabe.testing import ScriptedModel


def make_task(folder: Path, contestants: list[Any], *, rows: int = 200, **options: Any) -> Task:
    frame = pl.DataFrame({
        "text": [f"a computer of {n % 90 + 10} MHz, number {n}" for n in range(rows)],
        "price": [n % 90 + 10 for n in range(rows)],
    })  # fmt: skip
    given = {"target": "price", "kind": "number", "input": "{{ text }}", "split": {"test": 60, "seed": 1}} | options
    return Task.from_frame(frame, contestants=contestants, folder=folder, name="prices", **given)


def estimates(task: Task) -> dict[str, Estimate]:
    inputs = input_digests(task.test.X)
    with Journal(journal_path(task.folder)) as journal:
        rates = journal.rates(task.name)
        made = [estimate(one, task, inputs, set(journal.predictions(one.key)), rates) for one in make_entrants(task, 0)]
    return {one.contestant: one for one in made}


def test_a_hosted_model_has_calls_tokens_and_dollars_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    price = {"input": 2.0, "output": 8.0}
    task = make_task(tmp_path, [{"prompt": {"model": "openai:gpt-4.1", "options": {"price": price}}}])
    (found,) = estimates(task).values()
    assert (found.rows, found.calls) == (60, 60)
    assert found.reason is not None
    assert "OPENAI_API_KEY" in found.reason
    assert found.input_tokens is not None
    assert found.output_tokens is not None
    assert 20 * 60 < found.input_tokens < 200 * 60
    assert found.usd == pytest.approx((2 * found.input_tokens + 8 * found.output_tokens) / 1e6, rel=0.02)
    known = estimates(make_task(tmp_path, [{"prompt": {"model": "openai:gpt-4.1"}}]))
    assert next(iter(known.values())).usd == pytest.approx(found.usd)


def test_examples_take_tokens(tmp_path: Path) -> None:
    found = estimates(make_task(tmp_path, [{"prompt": {"model": "openai:gpt-4.1", "examples": n}} for n in (0, 5)]))
    none, five = (one.input_tokens for one in found.values())
    assert none is not None
    assert five is not None
    assert five > 2 * none


def test_an_unknown_price_stays_unknown(tmp_path: Path) -> None:
    found = estimates(make_task(tmp_path, [{"prompt": {"model": "openai@http://127.0.0.1:9/v1:mine"}}]))
    (one,) = found.values()
    assert one.usd is None
    assert one.calls == 60


def test_what_was_answered_is_not_asked_again_and_gives_the_rate(tmp_path: Path) -> None:
    task = make_task(tmp_path, [("it", Prompt(model=ScriptedModel(lambda request: "50"))), "constant"])
    task.compete(limit=20)
    found = estimates(task)
    assert (found["it"].rows, found["it"].calls, found["it"].measured) == (60, 40, True)
    assert found["constant"].calls == 40
    task.compete(only=["constant"])
    again = estimates(task)["constant"]
    assert (again.calls, again.seconds) == (0, 0.0)


def test_more_rows_take_longer_to_learn_from(tmp_path: Path) -> None:
    few, many = (
        estimates(make_task(tmp_path, ["gradient_boosting"], rows=rows))["gradient_boosting"] for rows in (200, 2000)
    )
    assert few.seconds is not None
    assert many.seconds is not None
    assert many.seconds > 5 * few.seconds
    assert few.usd == 0.0


def test_uses_count_runs_of_the_same_rows_and_all_contestants_that_were_tried(tmp_path: Path) -> None:
    def used(contestants: list[Any], **options: Any) -> Uses | None:
        task = make_task(tmp_path, contestants, **options)
        return task.compete().evidence.uses

    assert used(["constant"]) == Uses(1, 1)
    # The run goes on with other contestants: the one that left was tried on these rows.
    assert used(["linear_features"]) == Uses(1, 2)
    assert used(["linear_features"], metric="rmse") == Uses(2, 3)
    assert used(["constant"], target="text", kind="text", input="{{ price }}") == Uses(1, 1)
    assert used(["constant"], split={"test": 10, "seed": 99}) == Uses(1, 1)


def test_a_local_model_counts_with_its_own_tokenizer(tmp_path: Path, smollm2: Path) -> None:
    task = make_task(tmp_path, [{"prompt": {"model": f"gguf:{smollm2}", "examples": 2}}])
    (entrant,) = make_entrants(task, 0)
    inputs = input_digests(task.test.X)
    about, found = (estimate(entrant, task, inputs, set(), {}, closely=closely) for closely in (False, True))
    assert (about.counted, found.counted) == (False, True)
    asked = clone(entrant.estimator).fit(task.train.X, task.train.y)
    with open_model(f"gguf:{smollm2}") as model:
        assert isinstance(model, LocalModel)
        counts = [
            len(model.prompt_ids(Request(messages), asked.prefill_)) for messages in asked.drafts(task.test.X[:50])
        ]
    assert found.input_tokens == round(sum(counts) / 50 * found.calls)
    assert about.input_tokens != found.input_tokens


def test_tuning_takes_what_an_earlier_run_measured_else_about_what_its_tokens_take(tmp_path: Path) -> None:
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(bytes(10**6))
    task = make_task(tmp_path, [{"tune": {"model": f"hf:{weights}"}}])
    (entrant,) = make_entrants(task, 0)
    inputs = input_digests(task.test.X)

    def seconds(rates: dict[str, Rate], *, closely: bool = True) -> Estimate:
        return estimate(entrant, task, inputs, set(), rates, closely=closely)

    about = seconds({})
    assert about.seconds is not None
    assert about.seconds > 0
    assert not about.measured
    assert seconds({}, closely=False).seconds is None
    learned = len(task.train) + (0 if task.validation is None else len(task.validation))
    measured = seconds({entrant.label: Rate(0.5, 0.0, 80.0, learned // 2)})
    assert measured.seconds == pytest.approx(160 + 0.5 * 60, rel=0.02)
    assert measured.measured
