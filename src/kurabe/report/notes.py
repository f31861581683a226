"""What stands under every board, in whichever form it is shown: how to read it, and what to be wary of."""

from dataclasses import dataclass
from typing import Any

from kurabe.contest.board import Board
from kurabe.contest.evidence import Judged
from kurabe.contest.person_verdicts import LEAST, person_agreement
from kurabe.contest.style import answer_texts, left_to_judge, pairs, unread_verdicts
from kurabe.models.cost import PRICE
from kurabe.report import format as fmt
from kurabe.report.learning import chose, sweeps
from kurabe.tasks.checks import JSON, labelled, slice_rows
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.spec import Style

SMALL_TEST = 100
MOST_ROWS = 1_000_000
RANKS = "A rank like 1–3 is a range that paired tests can't narrow; all true ranks lie in theirs with 95 % confidence."


@dataclass(frozen=True)
class Note:
    """One sentence or two; `warning` where the reader should doubt a number or do something."""

    text: str
    warning: bool = False


def notes(board: Board) -> list[Note]:
    """The notes of a board: warnings first, then what the numbers mean."""
    warnings = [
        *_leaks(board),
        *_unread(board),
        *_partial(board),
        *_small(board),
        *_few_decide(board),
        *_judges(board),
        *_flattery(board),
        *_uses(board),
    ]
    return [
        *(Note(text, warning=True) for text in warnings),
        Note(test_size(board)),
        *_race(board),
        *_samples(board),
        *_belonging(board),
        *_controlled(board),
        *_ranks(board),
        *_rows_to_tell(board),
        *_checks(board),
        *_sweeps(board),
        *_templates(board),
        *_cost(board),
    ]


def direction(board: Board) -> str:
    """`higher is better` or `lower is better`."""
    return "higher is better" if board.greater_is_better else "lower is better"


def test_size(board: Board) -> str:
    """`Scored on 250 test rows by mean absolute error (lower is better), with 95 % intervals.`"""
    rows = fmt.count(len(board.evidence.truth), "test row")
    return f"Scored on {rows} by {fmt.metric(board)} ({direction(board)}), with 95 % intervals."


def stands_for_unread(board: Board) -> str:
    """What an unread answer is scored as: `the training median (34.9)`, `the most frequent label ('toys')`."""
    fallback = board.evidence.fallback
    if board.evidence.kind == "number":
        return f"the training median ({fmt.number(float(fallback))})"
    what = "label" if board.evidence.kind == "label" else "text"
    return f"the most frequent {what} ({fmt.shorten(fmt.plain(str(fallback)), 60)!r})"


def _leaks(board: Board) -> list[str]:
    leaks = board.evidence.leaks
    exact, total = len(leaks.exact), len(set(leaks.exact) | set(leaks.near))
    if not total:
        return []
    share = 100 * total / max(len(board.evidence.truth), 1)
    stand = "also stands" if total == 1 else "also stand"
    return [
        f"{fmt.count(total, 'test row')} ({share:.1f} %) {stand} in the training part: {exact:,} exactly, "
        f"{total - exact:,} nearly. Scores may be too good; remove the duplicates, or split by group."
    ]


def _unread(board: Board) -> list[str]:
    unread = [row for row in board.rows if row.unread]
    if not unread:
        return []
    listed = ", ".join(f"{fmt.plain(row.contestant)} {row.unread:,}" for row in unread[:4])
    more = f" and {fmt.count(len(unread) - 4, 'other')}" if len(unread) > 4 else ""
    return [f"Answers that could not be read ({listed}{more}) are scored as {stands_for_unread(board)}."]


def _partial(board: Board) -> list[str]:
    raced = {entry.name for entry in board.evidence.entries if entry.spared}
    partial = [
        row for row in board.rows if row.status == "partial" and row.answered and row.contestant not in raced
    ]  # fmt: skip
    if not partial:
        return []
    total = len(board.evidence.truth)
    listed = ", ".join(f"{fmt.plain(row.contestant)} ({row.answered:,} of {total:,} rows)" for row in partial)
    return [f"Not finished, so scored on the rows answered and not ranked: {listed}. Run again to go on."]


def _race(board: Board) -> list[Note]:
    """Who was asked no further as it could not win, and what that saved, at its own price and speed so far."""
    raced = [entry for entry in board.evidence.entries if entry.spared]
    if not raced:
        return []
    listed = "; ".join(f"{fmt.plain(entry.name)} {entry.reason}" for entry in raced)
    parts = [fmt.count(sum(entry.spared for entry in raced), "answer")]
    shares = [entry.spared / int(entry.answered.sum()) for entry in raced]
    usd = [None if entry.usd is None else entry.usd * share for entry, share in zip(raced, shares, strict=True)]
    known = [one for one in usd if one is not None]
    if sum(known) > 0:
        parts.append(f"{'' if len(known) == len(usd) else 'at least '}about {fmt.dollars(sum(known))}")
    seconds = sum((entry.predict_seconds or 0.0) * share for entry, share in zip(raced, shares, strict=True))
    if seconds > 0:
        parts.append(f"about {fmt.seconds(seconds)} of asking")
    saved = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return [
        Note(
            f"The race: {listed}. It saved {saved}. Their scores are those of the rows answered, and they have no "
            "rank; a run without a race asks the rest."
        )
    ]


def _samples(board: Board) -> list[Note]:
    """Who answered only some of the test rows because it was asked no more."""
    total = len(board.evidence.truth)
    sampled = [row for row in board.rows if row.status == "done" and 0 < row.answered < total]
    if not sampled:
        return []
    listed = ", ".join(f"{fmt.plain(row.contestant)} {row.answered:,}" for row in sampled[:4])
    more = f" and {fmt.count(len(sampled) - 4, 'other')}" if len(sampled) > 4 else ""
    return [
        Note(
            f"These were asked a random sample of the {total:,} test rows: {listed}{more}."
            " `rows: all` in a model's settings asks all."
        )
    ]


def _small(board: Board) -> list[str]:
    rows = len(board.evidence.truth)
    if rows >= SMALL_TEST:
        return []
    return [
        f"With {fmt.count(rows, 'test row')} only large differences can be seen; more test rows narrow the intervals."
    ]


def _few_decide(board: Board) -> list[str]:
    """Where half of an error comes from a handful of rows, whether they are in the test part decides the score."""
    few = [row for row in board.rows if row.rank is not None and row.half_made_by is not None]
    if not few:
        return []
    least = min(row.half_made_by or 0 for row in few)
    most = max(row.half_made_by or 0 for row in few)
    rows = fmt.count(most, "test row") if least == most else f"{least} to {most} test rows"
    names = ", ".join(fmt.plain(row.contestant) for row in few[:3]) + (", …" if len(few) > 3 else "")
    return [
        f"{rows.capitalize()} make half of the {fmt.metric(board)} of {names}: the score depends on whether such rows "
        "are in the test part, and its interval may be too narrow. Look at the median error too, or at more test rows."
    ]


def _belonging(board: Board) -> list[Note]:
    """Which test rows are not independent of each other."""
    units, rows = board.evidence.units, len(board.evidence.truth)
    said = []
    if units.copies:
        repeat = "repeats another and counts" if units.copies == 1 else "repeat others and count"
        said.append(f"{fmt.count(units.copies, 'test row')} {repeat} once with {'it' if units.copies == 1 else 'them'}")
    if cluster := board.evidence.cluster:
        said.append(f"rows with the same “{fmt.plain(cluster)}” belong together")
    if not said:
        return []
    text = f"{'; '.join(said)}: {rows:,} test rows are {units.count:,} effective rows, for intervals and tests."
    return [Note(text[0].upper() + text[1:])]


def _controlled(board: Board) -> list[Note]:
    """Who is scored for rows that it did not answer."""
    names = [fmt.plain(row.contestant) for row in board.rows if row.controlled is not None]
    if not names:
        return []
    listed = ", ".join(names[:3]) + (f" and {fmt.count(len(names) - 3, 'other')}" if len(names) > 3 else "")
    return [
        Note(
            f"The score of {listed} is one for all test rows, though only part was answered: how hard that part is "
            "for those that answered all is taken off (control variates), which narrows the interval."
        )
    ]


def _flattery(board: Board) -> list[str]:
    found = board.flattery
    if found is None:
        return []
    score, decimals = board.row(found.contestant).score, fmt.score_places(board)
    before, after = fmt.number(score, decimals), fmt.number(found.score, decimals)
    if before == after:
        return []
    share = metric_for(board.evidence.metric, board.evidence.kind).unit == "share"
    by = f"{100 * found.by:.1f} points" if share else fmt.number(found.by, decimals)
    return [
        f"The winner's score probably flatters by about {by} ({after} rather than {before}): it was chosen as the best"
        f" of {found.contestants} on the same rows."
    ]


def _uses(board: Board) -> list[str]:
    used = board.evidence.uses
    answered = sum(row.answered > 0 for row in board.rows)
    if used is None or (used.runs <= 1 and used.contestants <= answered):
        return []
    by = f"{fmt.count(used.contestants, 'contestant')} in {fmt.count(used.runs, 'run')}"
    return [
        f"These test rows have been used by {by}. Whatever is chosen by them fits them a little too well; keep fresh"
        " rows for a last test."
    ]


def _rows_to_tell(board: Board) -> list[Note]:
    found = board.rows_to_tell
    if found is None:
        return []
    first, second = (f"“{fmt.shorten(fmt.plain(name), 60)}”" for name in (found.first, found.second))
    if found.rows > MOST_ROWS:
        return [Note(f"{first} and {second} are so alike that {MOST_ROWS:,} test rows would not tell them apart.")]
    rows = f"{float(f'{found.rows:.2g}'):,.0f}"
    return [
        Note(
            f"About {rows} test rows would tell {first} and {second} apart (in 80 % of contests), if they differ by as"
            " much as here."
        )
    ]


def _ranks(board: Board) -> list[Note]:
    return [Note(RANKS)] if sum(row.rank is not None for row in board.rows) > 1 else []


def _checks(board: Board) -> list[Note]:
    """What each further column says."""
    evidence = board.evidence
    found = []
    for place, (label, check) in enumerate(labelled(evidence.checks)):
        if check.format is not None:
            text = _format_note(board, label, check.format)
        elif check.slice is not None:
            rows = fmt.count(int(slice_rows(check.slice, evidence.rows).sum()), "test row")
            text = f"{fmt.metric(board)} on the {rows} where {fmt.plain(check.slice)}, with 95 % intervals."
        elif check.style is not None:
            text = _style_note(board, label, check.style, evidence.judged.get(place, Judged()))
        found.append(Note(f"{fmt.check_title(label)}: {text}"))
    return found


def _format_note(board: Board, label: str, form: str | dict[str, Any]) -> str:
    wanted = "the JSON Schema" if isinstance(form, dict) else f"“{fmt.shorten(fmt.plain(form), 60)}”"
    says = "are JSON" if form == JSON else f"follow {wanted}"
    others = dict.fromkeys(row.checks[label].against for row in board.rows if label in row.checks)
    against = [f"“{fmt.shorten(fmt.plain(other), 60)}”" for other in others if other]
    tested = f"; p is from a paired test against {' or '.join(against)}, Holm-adjusted" if against else ""
    return f"share of answers that {says}, with 95 % intervals{tested}."


def _style_note(board: Board, label: str, style: Style, judged: Judged) -> str:
    other = "the true one" if style.against is None else f"that of “{fmt.shorten(fmt.plain(style.against), 60)}”"
    results = [row.checks[label] for row in board.rows if label in row.checks]
    shares = sorted({fmt.share(one.agreement): one.agreement for one in results if one.agreement is not None}.items(),
                    key=lambda item: item[1])  # fmt: skip
    ends = [text for text, _ in (shares[:1] + shares[-1:] if len(shares) > 1 else shares)]
    agree = f", which it was in {' to '.join(ends)} of the pairs" if ends else ""
    cost = f" It cost {fmt.dollars(judged.usd)}." if judged.usd != 0 else ""
    return (
        f"how often {fmt.redact(fmt.plain(style.judge))} prefers the answer to {other} by the rubric"
        f" “{fmt.shorten(fmt.plain(style.rubric), 120)}”, ties counting half, with 95 % intervals. Each pair is shown"
        f" in both orders, and one answer wins where it is the same in both{agree}.{cost}"
        f"{_person(board, label, style, judged)}"
    )


def _person(board: Board, label: str, style: Style, judged: Judged) -> str:
    """What a person's verdicts say of the judge's."""
    evidence = board.evidence
    shown = [pair for entry in evidence.entries for pair in pairs(evidence, style, entry)]
    if (found := person_agreement(shown, judged)) is None:
        return ""
    kappa = "" if found.kappa is None else f" (Cohen's kappa {found.kappa:.2f})"
    agreed = f"{fmt.share(found.agreement)}{kappa}"
    told = f" A person judged {fmt.count(found.pairs, 'pair')} and agreed with the judge on {agreed}."
    if any(label in row.checks and row.checks[label].uncorrected is not None for row in board.rows):
        told += " Shares marked “as a person” estimate what a person prefers, from the verdicts of both."
    else:
        told += f" From {LEAST} pairs of a contestant on its share is corrected by them."
    return told


def _judges(board: Board) -> list[str]:
    """Why a judge has not judged everything, had nothing to judge, or could not be understood."""
    evidence, found = board.evidence, []
    entries = {entry.name: entry for entry in evidence.entries}
    for place, (label, check) in enumerate(labelled(evidence.checks)):
        if (style := check.style) is None:
            continue
        judged, other = evidence.judged.get(place, Judged()), style.against
        if other is not None and (other not in entries or answer_texts(evidence, entries[other]) is None):
            name = fmt.shorten(fmt.plain(other), 60)
            found.append(f"{fmt.check_title(label)}: there are no answers of “{name}” to hold others against.")
        elif left_to_judge(evidence, style, list(entries), judged.verdicts):
            why = fmt.shorten(fmt.redact(fmt.plain(judged.reason or "run again to go on")), 300)
            found.append(f"{fmt.check_title(label)}: the judge has not judged everything: {why}")
        given, unread = unread_verdicts(evidence, style, judged.verdicts)
        if unread:
            found.append(
                f"{fmt.check_title(label)}: of {fmt.count(given, 'verdict')} of the judge, {unread:,} could not be read"
                " as first, second or neither; their pairs count as ties."
            )
    return found


def _sweeps(board: Board) -> list[Note]:
    results = sweeps(board.evidence, board.evidence.entries)
    return [Note(f"{fmt.shorten(fmt.plain(name), 60)} {chose(result)}.") for name, result in results.items()]


def _templates(board: Board) -> list[Note]:
    names = [fmt.shorten(fmt.plain(one.name), 60) for one in board.evidence.entries if one.notes.get("no_template")]
    return [
        Note(
            f"{name}: its base model has no chat template, so it was tuned, and is asked, with the prompt's texts"
            " joined by blank lines; a model for chat may learn faster."
        )
        for name in names
    ]


def _cost(board: Board) -> list[Note]:
    unknown = any(row.usd is None and row.score is not None for row in board.rows)
    found = [Note(f"A cost of {fmt.UNKNOWN} is unknown, not zero.")] if unknown else []
    for entry in board.evidence.entries:
        job = (entry.notes.get("tuning") or {}).get("usd")
        if entry.usd is None and job is not None:
            found.append(
                Note(
                    f"{fmt.shorten(fmt.plain(entry.name), 60)}: the tuning job cost about {fmt.dollars(job)}; what the"
                    f" answers cost is not known: add {PRICE} to its settings, in dollars per million tokens."
                )
            )
    return found
