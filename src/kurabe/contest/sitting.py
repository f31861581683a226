"""A person answers test rows. Each answer is in the journal before the next row is shown."""

import time

from kurabe.contest.journal import Journal, Row
from kurabe.contest.prepare import FOLDER, Entrant, head, journal_path, make_entrants, make_record
from kurabe.contest.run import locked
from kurabe.contest.work import Work
from kurabe.contestants.human import Ask, Human, Tell, ask_person
from kurabe.errors import ContestantError
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
        first_of_each = [positions[0] for positions in work.positions.values()]
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


def _person(entrants: list[Entrant]) -> Entrant:
    for entrant in entrants:
        if isinstance(entrant.estimator, Human) and entrant.estimator.answers is None:
            return entrant
    raise ContestantError(
        "no contestant of this task is a person at the terminal; add `{human: {rows: 50}}` to its `contestants`"
    )
