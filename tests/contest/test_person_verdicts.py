"""A person checks a judge: which pairs are asked, what the board makes of it, and how far it is right."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from kurabe.cli.main import cli
from kurabe.contest.board import compute_board
from kurabe.contest.evidence import Entry, Evidence, Judged
from kurabe.contest.person_verdicts import corrected, mean_by_sample, person_agreement, person_outcome, to_ask
from kurabe.contest.style import FIRST, NEITHER, SECOND, Showing, orders, outcome, pairs
from kurabe.errors import KurabeError
from kurabe.report import format as fmt
from kurabe.report.notes import notes
from kurabe.tasks.spec import Check, Style
from kurabe.testing import Simulator

N = 200
STYLE = Style(rubric="short", judge="test:judge", rows=N)
ROWS = pl.DataFrame({"input": [f"row {n}" for n in range(N)]})


def entry(name: str, guesses: list[str]) -> Entry:
    there = np.ones(N, dtype=bool)
    return Entry(name, None, "done", None, np.array(guesses, dtype=object), there, ~there)


def evidence(judged: Judged | None = None) -> Evidence:
    truth = np.array([f"answer {n}" for n in range(N)], dtype=object)
    entries = (entry("one", [f"one {n}" for n in range(N)]), entry("same", truth.tolist()))
    return Evidence("t", "text", "token_f1", truth, ROWS, "x", entries, checks=(Check(style=STYLE),),
                    judged={0: judged or Judged()})  # fmt: skip


def shown() -> list[Showing]:
    made = evidence()
    return pairs(made, STYLE, made.entries[0])


def said(wins: np.ndarray) -> dict[bytes, str | None]:
    """A judge's verdicts of which the first answer wins 1, loses 0 or ties 1/2."""
    words = {1.0: (FIRST, SECOND), 0.0: (SECOND, FIRST), 0.5: (NEITHER, NEITHER)}
    both = zip(shown(), words_of(wins, words), strict=True)
    return {one.key: word for pair, said in both for one, word in zip(orders(pair), said, strict=True)}


def words_of(wins: np.ndarray, words: dict[float, tuple[str, str]]) -> list[tuple[str, str]]:
    return [words[float(won)] for won in wins]


def person_says(asked: list[Showing], wins: dict[bytes, float]) -> dict[bytes, str | None]:
    return {one.key: FIRST if wins[one.key] == 1 else SECOND if wins[one.key] == 0 else NEITHER for one in asked}


def test_each_judged_pair_is_asked_once_in_an_order_as_good_as_random() -> None:
    wins = np.ones(N)
    asked = to_ask(evidence(), STYLE, said(wins))
    assert len(asked) == N  # the answers of “same” are ties without a judge
    rows = [int(one.question.split()[1]) for one in asked]
    assert sorted(rows) == list(range(N))
    assert abs(np.corrcoef(rows, np.arange(N))[0, 1]) < 0.3
    first = np.mean([one.first.startswith("one") for one in asked])
    assert 0.35 < first < 0.65
    assert to_ask(evidence(), STYLE, {}) == []


def test_a_person_is_understood_in_either_order() -> None:
    pair = shown()[0]
    there, back = orders(pair)
    assert person_outcome(pair, {there.key: FIRST}) == person_outcome(pair, {back.key: SECOND}) == 1
    assert person_outcome(pair, {there.key: SECOND}) == person_outcome(pair, {back.key: FIRST}) == 0
    assert person_outcome(pair, {back.key: NEITHER}) == 0.5
    assert person_outcome(pair, {}) is None


def test_agreement_is_a_share_and_cohens_kappa() -> None:
    # Cohen (1960): 20 and 15 agreed of 50, and 25 and 20 said yes by each: kappa = (0.7 - 0.5) / (1 - 0.5).
    judge = np.array([1.0] * 25 + [0.0] * 25 + [0.5] * 150)
    person = np.array([1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15)
    by_person = {pair.key: FIRST if won else SECOND for pair, won in zip(shown(), person, strict=False)}
    found = person_agreement(shown(), Judged(said(judge), by_person=dict(by_person)))
    assert found is not None
    assert (found.pairs, found.agreement) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    alike = person_agreement(shown()[:1], Judged(said(judge), by_person=dict(by_person)))
    assert alike is not None
    assert alike.kappa is None
    assert person_agreement(shown(), Judged(said(judge))) is None


def simulated(random: np.random.Generator, n: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) what a judge who favours the first says, and (N,) what a person would; the truth is a share of 0.5."""
    person = random.choice([1.0, 0.5, 0.0], n, p=[0.4, 0.2, 0.4])
    return np.where(random.random(n) < right, person, 1.0), person


def test_a_judge_that_favours_one_side_is_corrected() -> None:
    random = np.random.default_rng(0)
    covered, raw, widths, alone = [], [], [], []
    for _ in range(300):
        judge, person = simulated(random, N, 0.8)
        mean, error = mean_by_sample(judge, judge[:50], person[:50])
        covered.append(abs(mean - 0.5) <= 2.01 * error)
        raw.append(abs(judge.mean() - 0.5) <= 1.96 * judge.std() / np.sqrt(N))
        widths.append(error)
        alone.append(person[:50].std(ddof=1) / np.sqrt(50))
    assert np.mean(covered) >= 0.93
    assert np.mean(raw) < 0.5  # the judge alone is mostly wrong
    assert np.mean(widths) < 0.9 * np.mean(alone)


def test_a_useless_judge_leaves_the_persons_mean() -> None:
    person = np.array([1.0, 0.0] * 10)
    mean, _ = mean_by_sample(np.ones(100), np.ones(20), person)
    assert mean == 0.5


def test_the_board_shows_what_a_person_would_prefer() -> None:
    judge, person = simulated(np.random.default_rng(1), N, 0.8)
    verdicts = said(judge)
    asked = to_ask(evidence(), STYLE, verdicts)
    first = {pair.key: won for pair, won in zip(shown(), person, strict=True)}
    wins = {one.key: first[one.key] if one.key in first else 1 - first[orders(one)[1].key] for one in asked}
    few = Judged(verdicts, by_person=person_says(asked[:9], wins))
    assert corrected(shown(), few) is None
    board = compute_board(evidence(few), 100)
    assert board.row("one").checks["style"].value == judge.mean()
    assert "From 10 pairs of a contestant on" in " ".join(note.text for note in notes(board))

    board = compute_board(evidence(Judged(verdicts, by_person=person_says(asked[:60], wins))), 100)
    found = board.row("one").checks["style"]
    assert found.uncorrected == judge.mean()
    assert found.interval is not None
    assert found.interval[0] < person.mean() < found.interval[1]
    assert abs(found.value - person.mean()) < abs(judge.mean() - person.mean())
    assert found.person is not None
    assert found.person.pairs == 60
    assert fmt.check(found, None).endswith("(as a person)")
    text = " ".join(note.text for note in notes(board))
    assert "A person judged 60 pairs and agreed with the judge on" in text
    assert "Cohen's kappa 0." in text
    assert board.row("same").checks["style"].uncorrected is None


def call(*args: str | Path, text: str | None = None, fails: bool = False) -> str:
    """What a command prints, or says of bad input."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args], input=text)
    if fails:
        assert isinstance(result.exception, KurabeError)
        assert result.exception.exit_code == 2
        return str(result.exception)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.fixture
def judged_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    rows = [{"question": f"Where is order {n}?", "answer": f"Order {n} is on its way!"} for n in range(60)]
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    with Simulator("openai", answer="neither") as server:
        options = {"base_url": server.url, "price": {"input": 1.0, "output": 2.0}}
        style = {"rubric": "no exclamation marks", "judge": "openai:gpt-5.1", "rows": 15, "options": options}
        task = {
            "name": "replies", "data": {"source": "rows.csv", "split": {"test": 20, "validation": 10}},
            "input": "{{ question }}", "target": "answer", "kind": "text", "contestants": ["nearest_neighbours"],
            "checks": [{"style": style, "as": "calm"}],
        }  # fmt: skip
        (tmp_path / "task.yaml").write_text(json.dumps(task))
        yield tmp_path / "task.yaml"


def test_a_session_is_kept_and_goes_on(judged_task: Path) -> None:
    assert "kurabe run" in call("human", judged_task, "--judge", fails=True)
    call("run", judged_task)
    session = call("human", judged_task, "--judge", text="0\nx\n2\nb\n0\n0\nq\n")
    assert "pair 1 of 15 · no exclamation marks" in session
    assert "Type 1, 2 or 0" in session
    assert "nearest_neighbours" not in session
    assert "calm: 3 of 15 pairs judged. The judge agrees with you on 100 %." in session
    session = call("human", judged_task, "--judge", text="0\n" * 12)
    assert "pair 1 of 12" in session
    assert "calm: 15 of 15 pairs judged" in session
    board = json.loads(call("report", judged_task, "--format", "json", "-o", "-"))
    calm = board["rows"][0]["checks"]["calm"]
    assert calm["person"] == {"pairs": 15, "agreement": 1.0, "kappa": None}
    assert (calm["value"], calm["uncorrected"]) == (0.5, 0.5)


def test_a_task_without_a_judge_says_what_to_do(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(40), "b": [n * 1.5 for n in range(40)]}).write_csv(tmp_path / "rows.csv")
    task = {"name": "t", "data": "rows.csv", "target": "b", "kind": "number", "contestants": ["constant"]}
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    call("run", tmp_path / "task.yaml")
    assert "add a check with a `style`" in call("human", tmp_path / "task.yaml", "--judge", fails=True)


def test_outcomes_of_pairs() -> None:
    pair = shown()[0]
    there, back = (one.key for one in orders(pair))
    assert [outcome(pair, {there: a, back: b}) for a, b in ((FIRST, SECOND), (SECOND, FIRST), (FIRST, None))] == [
        1,
        0,
        0.5,
    ]
    assert outcome(pair, {there: FIRST}) is None


@pytest.mark.slow
@pytest.mark.parametrize(("n", "sampled"), [(50, 20), (200, 50), (1000, 100)])
def test_coverage_of_a_judge_that_is_biased_by_ten_points(n: int, sampled: int) -> None:
    """A person prefers 60 % with 20 % ties counting half; the judge takes a quarter of what is no win for one, so that
    its share is 10 points too high. Whole columns are simulated, as the board makes them."""
    random = np.random.default_rng(n)
    showings = [Showing(f"row {row}", f"one {row}", f"answer {row}") for row in range(n)]
    words = {1.0: (FIRST, SECOND), 0.0: (SECOND, FIRST), 0.5: (NEITHER, NEITHER)}
    covered, raw, widths, alone = [], [], [], []
    for _ in range(1000):
        person = random.choice([1.0, 0.5, 0.0], n, p=[0.5, 0.2, 0.3])
        judge = np.where(random.random(n) < 0.25, 1.0, person)
        verdicts = {
            one.key: word
            for pair, won in zip(showings, judge, strict=True)
            for one, word in zip(orders(pair), words[float(won)], strict=True)
        }
        by_person = {pair.key: words[float(won)][0] for pair, won in zip(showings, person[:sampled], strict=False)}
        found = corrected(showings, Judged(verdicts, by_person=dict(by_person)))
        assert found is not None
        low, high = found.interval
        covered.append(low <= 0.6 <= high)
        raw.append(abs(judge.mean() - 0.6) <= 1.96 * judge.std() / np.sqrt(n))
        widths.append(high - low)
        alone.append(2 * 1.96 * person[:sampled].std(ddof=1) / np.sqrt(sampled))
    print(n, sampled, np.mean(covered), np.mean(raw), np.mean(widths) / np.mean(alone))
    assert 0.93 <= np.mean(covered) <= 0.99  # more than 97 % with few pairs: agreement on all of them proves little
    assert np.mean(raw) < 0.8
    assert np.mean(widths) < 0.92 * np.mean(alone)
