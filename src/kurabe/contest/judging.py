"""The judges of style at work: what they have not said yet is asked, journaled and paid for as contestants' answers
are."""

import time
from collections.abc import Sequence

from kurabe.contest.attempt import Shared, fetch, first_line
from kurabe.contest.clock import Clock
from kurabe.contest.journal import Row
from kurabe.contest.judge import rows_of
from kurabe.contest.lock import disk_error
from kurabe.contest.observer import Standing
from kurabe.contest.prepare import FOLDER
from kurabe.contest.style import Showing, left_to_judge, style_key
from kurabe.contestants.base import Answering, Contestant
from kurabe.errors import BudgetExceededError, ContestantError, JournalError, is_disk_full, without_secrets
from kurabe.tasks.spec import Style


def judge_all(
    shared: Shared, judges: dict[str, tuple[Style, Contestant]], contestants: Sequence[str], clock: Clock
) -> None:
    """Have the judges of style say what they have not said yet, and write down why one stopped."""
    journal, run = shared.journal, shared.record.id
    for label, (style, judge) in judges.items():
        left = left_to_judge(journal.evidence(run), style, list(contestants), journal.judged(style).verdicts)
        reason = None
        try:
            if left:
                _judge(shared, label, style_key(style), judge, left, clock)
        except JournalError:
            raise
        except Exception as error:  # whatever keeps a judge from judging, the board stands without it
            if isinstance(error, OSError) and is_disk_full(error):
                raise disk_error(shared.task.folder / FOLDER, error) from error
            reason = without_secrets(first_line(error))
        journal.record_judge(style, reason)
        if left:
            shared.observer.ended(f"judging {label}", "partial" if reason else "done", reason)


def _judge(shared: Shared, label: str, key: bytes, judge: Contestant, left: Sequence[Showing], clock: Clock) -> None:
    def check() -> None:
        clock.check()
        shared.purse.check()

    def stop() -> bool:
        try:
            check()
        except BudgetExceededError:
            return True
        return shared.stopping.is_set()

    def fetching(name: str, done: int, total: int | None) -> None:
        clock.check()  # what has come is kept
        shared.observer.fetching(name, done, total)

    check()
    fetch(judge, fetching)
    if reason := judge.skipped_reason():
        raise ContestantError(reason)
    answers = judge.answer(
        rows_of(left), Answering("label", range(len(left)), shared.purse.budget, stop, shared.models)
    )
    done, last = 0, time.perf_counter()
    try:
        for batch in answers:
            now = time.perf_counter()
            shared.journal.add(key, [Row(left[one.row].key, one.value, one.raw, one.usd) for one in batch], now - last)
            last, done = now, done + len(batch)
            shared.purse.count(batch)
            shared.observer.predicted(f"judging {label}", Standing(done, len(left), usd=None, spent=shared.purse.spent))
    finally:
        judge.close()
        shared.models.close_local()
    if done < len(left):
        check()
