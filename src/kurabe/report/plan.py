"""A plan in a terminal: what each contestant will take, what the budget stops, and what the test rows can show."""

import io
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from kurabe.contest.estimates import Estimate
from kurabe.contest.plan import Plan
from kurabe.report import format as fmt
from kurabe.report.terminal import hanging, to_ascii
from kurabe.tasks.metrics import metric_for


class PlanTable:
    """A plan as a rich renderable."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plan = self.plan
        clean = to_ascii if options.ascii_only else str
        yield Text(clean(f"{fmt.plain(plan.task)}: what a run will take"), style="bold")
        yield Text(clean(_rows(plan)), style="dim")
        yield Text()
        yield _table(plan, clean, options.max_width)
        yield Text()
        warnings = [("⚠ ", "yellow", fmt.plain(text)) for text in plan.stops]
        for mark, style, text in [*warnings, *(("• ", "dim", text) for text in _notes(plan))]:
            yield hanging(Text(clean(mark), style=style), Text(clean(text), style=style))


def plan_text(plan: Plan, width: int = 100) -> str:
    """The plan as plain text without colours."""
    console = Console(
        width=width, file=(file := io.StringIO()), color_system=None, force_jupyter=False, legacy_windows=False,
        _environ={},
    )  # fmt: skip
    console.print(PlanTable(plan))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _rows(plan: Plan) -> str:
    chosen = f", {plan.validation:,} to choose by" if plan.validation else ""
    effective = "" if plan.effective_rows == plan.test else f", as good as {plan.effective_rows:,} independent ones"
    return f"{plan.train:,} rows to learn from{chosen}, {fmt.count(plan.test, 'test row')}{effective}"


_TITLES = ("contestant", "rows", "to ask", "tokens in", "tokens out", "cost", "time")


def _table(plan: Plan, clean: Callable[[str], str], width: int) -> Table:
    rows = [
        (
            fmt.plain(one.contestant), f"{one.rows:,}", f"{one.calls:,}", _tokens(one.input_tokens, one.counted),
            _tokens(one.output_tokens, False), fmt.dollars(one.usd), _time(one),
        )
        for one in plan.contestants
    ]  # fmt: skip
    able = plan.taking_part
    tokens = [sum(getattr(one, name) or 0 for one in able) or None for name in ("input_tokens", "output_tokens")]
    counted = all(one.counted for one in able if one.input_tokens)
    known = [one.seconds for one in able if one.seconds is not None]
    seconds = ("" if len(known) == len(able) else "> ") + fmt.seconds(sum(known))
    dollars = [one.usd for one in able if one.usd is not None]
    usd = ("" if len(dollars) == len(able) else "> ") + fmt.dollars(sum(dollars))
    calls = f"{sum(one.calls for one in able):,}"
    total = (
        "in all, of those that can run", "", calls, _tokens(tokens[0], counted), _tokens(tokens[1], False), usd, seconds
    )  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="bold dim")
    figures = [max(map(len, cells)) for cells in zip(_TITLES[1:], *(row[1:] for row in (*rows, total)), strict=True)]
    left = width - sum(figures) - 2 * len(figures)  # on a narrow terminal names are cut, and figures stay whole
    table.add_column(_TITLES[0], no_wrap=True, max_width=min(max(left, 12), 36))
    for title, wide in zip(_TITLES[1:], figures, strict=True):
        table.add_column(title, justify="right", no_wrap=True, min_width=wide)
    for one, row in zip(plan.contestants, rows, strict=True):
        table.add_row(*(Text(clean(cell)) for cell in row), style="dim" if one.reason or not one.calls else "")
    table.add_row()
    table.add_row(*map(clean, total), style="bold")
    return table


def _tokens(count: int | None, counted: bool) -> str:
    return fmt.NOT_MEASURED if count is None else f"{'' if counted or not count else '~'}{count:,}"


def _time(one: Estimate) -> str:
    if one.seconds is None:
        return fmt.UNKNOWN
    return f"{'' if one.measured or not one.calls else '~'}{fmt.seconds(one.seconds)}"


def _notes(plan: Plan) -> list[str]:
    found = []
    if plan.difference is not None:
        found.append(
            f"The smallest difference that these test rows can show is about {_difference(plan, plan.difference)} of"
            f" {fmt.metric_title(plan.metric)} (found in 80 % of contests, tested at 5 % over all pairs)."
        )
    if plan.sample_difference is not None:
        found.append(
            f"Where one of the two answers only a sample, it is about {_difference(plan, plan.sample_difference)}."
        )
    reasons = {one.contestant: fmt.shorten(fmt.plain(one.reason), 200) for one in plan.contestants if one.reason}
    found += [f"{fmt.plain(name)} can't run: {reason}" for name, reason in reasons.items()]
    if any(one.seconds and not one.measured for one in plan.contestants):
        found.append("Times with ~ are rough, by stated rates; after a run they are those of this machine.")
    if any(one.usd is None and not one.reason for one in plan.contestants):
        found.append(f"A cost of {fmt.UNKNOWN} is unknown, not zero.")
    if any(one.seconds is None and not one.reason and one.model for one in plan.contestants):
        found.append(
            f"A time of {fmt.UNKNOWN} is unknown: nobody knows how long a provider tunes, or how large a model is."
        )
    if plan.calls and any(one.input_tokens for one in plan.taking_part):
        found.append(
            "Tokens with ~ are about right: those of prompts by the length of their texts, without the model's own"
            " tokenizer; those of answers as in the training part, without any reasoning."
        )
    return found


def _difference(plan: Plan, difference: float) -> str:
    unit = metric_for(plan.metric, plan.kind).unit
    return f"{100 * difference:.1f} points" if unit == "share" else fmt.number(difference)
