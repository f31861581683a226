"""A person answers test rows, or judges answers. Each answer is in the journal before the next row is shown."""

import time
from dataclasses import dataclass

from kurabe.contest.journal import Journal, Row
from kurabe.contest.lock import locked
from kurabe.contest.person_verdicts import PersonAgreement, person_agreement, person_outcome, to_ask
from kurabe.contest.prepare import FOLDER, Entrant, head, journal_path, make_entrants, make_record
from kurabe.contest.style import FIRST, NEITHER, SECOND, person_key
from kurabe.contest.work import Work
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.session import Ask, Tell, ask_person, ask_verdicts
from kurabe.errors import ContestantError
from kurabe.tasks.checks import labelled
from kurabe.tasks.task import Task


def sit(task: Task, *, ask: Ask, tell: Tell, limit: int | None = None, seed: int = 0) -> tuple[int, int]:
    """Ask a person about the rows that are not answered yet; return (rows answered in all, rows asked for).

    `ask` shows a prompt and returns a line, `tell` shows something; see `ask_person`. `limit` and `seed` as in `run`.
    Raises ContestantError where the task has no `human` that answers in the terminal.
    """
    entrant = _person(make_entrants(task, seed))
    test = head(task.test, limit)
    record = make_record(task, test, seed, limit)
    with locked(task.folder / FOLDER), Journal(journal_path(task.folder)) as journal:
        journal.begin(record)
        work = Work(entrant, record, journal)
        first_of_each = work.asked()
        X = test.X[first_of_each]
        answered = [row for row, position in enumerate(first_of_each) if position in work.guesses]
        labels = sorted(set(task.train.y.tolist())) if task.kind == "label" else ()
        shown = time.perf_counter()
        try:
            for answer in ask_person(
                X, kind=task.kind, target=task.spec.target, ask=ask, tell=tell, labels=labels, answered=answered
            ):
                now = time.perf_counter()
                key = record.inputs[first_of_each[answer.row]]
                work.add([Row(key, answer.value, answer.raw, None)], now - shown)
                shown = now
        finally:
            work.end(*work.stopped(entrant.reason or "stopped"))
        return work.done, work.total


@dataclass(frozen=True)
class Verified:
    """A style whose judge a person has checked: on `done` of `pairs`, with what they agree on."""

    label: str
    done: int
    pairs: int
    agreement: PersonAgreement | None


def judge_by_hand(task: Task, *, ask: Ask, tell: Tell, limit: int | None = None, seed: int = 0) -> list[Verified]:
    """Ask a person about the pairs of answers that the judges of a run have judged and the person has not.

    The person does not see who gave which answer, nor what the judge said. `limit` and `seed` are those of the run.
    Raises ContestantError where there is nothing that a judge has judged.
    """
    record = make_record(task, head(task.test, limit), seed, limit)
    found = []
    with locked(task.folder / FOLDER), Journal(journal_path(task.folder), create=False) as journal:
        evidence = journal.evidence(record.id)
        for place, (label, check) in enumerate(labelled(evidence.checks)):
            if (style := check.style) is None:
                continue
            judged = evidence.judged[place]
            every = to_ask(evidence, style, judged.verdicts)
            left = [one for one in every if person_outcome(one, judged.by_person) is None]
            texts = [(one.question, one.first, one.second) for one in left]
            shown = time.perf_counter()
            for position, said, line in ask_verdicts(style.rubric, texts, ask=ask, tell=tell):
                now = time.perf_counter()
                verdict = (NEITHER, FIRST, SECOND)[said]
                journal.add(person_key(style), [Row(left[position].key, verdict, line, None)], now - shown)
                shown = now
            judged = journal.judged(style)
            done = sum(person_outcome(one, judged.by_person) is not None for one in every)
            found.append(Verified(label, done, len(every), person_agreement(every, judged)))
    if not any(one.pairs for one in found):
        raise ContestantError(
            "no judge has judged anything that a person could check; add a check with a `style` to the task, and run it"
        )
    return found


def _person(entrants: list[Entrant]) -> Entrant:
    for entrant in entrants:
        if contestant_of(entrant.estimator).by_hand and entrant.reason is not None:
            return entrant
    raise ContestantError(
        "no contestant of this task is a person at the terminal; add `{human: {rows: 50}}` to its `contestants`"
    )
