"""The charts of the HTML report as Vega-Lite specifications, made with Altair.

A chart refers to its data by name; the page's script puts the values in, so that each value stands in the page once.
Colours of text and lines are `currentColor`, so that one chart serves light, dark and paper.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

PALETTE = (
    "#4c78c8", "#e8833a", "#3fa66b", "#d64f5c", "#9467bd", "#a9745a", "#d977b0", "#8a9a2b", "#2aa5b8", "#7d8597",
    "#c9a227", "#5a67d8",
)  # fmt: skip
ACCENT = PALETTE[0]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Ubuntu, 'DejaVu Sans', sans-serif"
Spec = dict[str, Any]
MANY = 600
_QUIET = 0.07


def trade_off(
    data: str, x: str, score: str, ticks: Sequence[float], words: str, domain: tuple[float, float], *, less: bool
) -> Spec:
    """Score, from one end of `domain` to the other, against cost or speed on a log axis with its ticks at `ticks`, said
    by the expression `words`, and the Pareto line. `less`: less of x is better."""
    shared = alt.Chart(alt.NamedData(data)).encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(type="log", nice=False, padding=30),
                axis=alt.Axis(labelExpr=words, values=list(ticks), grid=False)),
        y=alt.Y("score:Q", title=score, scale=alt.Scale(domain=list(domain), nice=False)),
    )  # fmt: skip
    tooltip = [
        alt.Tooltip("contestant:N"),
        alt.Tooltip("shown_score:N", title="score"),
        alt.Tooltip("shown_x:N", title=x),
    ]
    pareto = shared.transform_filter("datum.pareto")
    line = pareto.mark_line(
        interpolate="step-after" if less else "step-before", color=ACCENT, strokeWidth=1.5, opacity=0.7, clip=True
    ).encode(order="x:Q")
    whiskers = shared.mark_rule(opacity=0.35, color="currentColor", clip=True).encode(y="low:Q", y2="high:Q")
    points = shared.mark_point(filled=True, size=70, opacity=1).encode(
        color=alt.condition("datum.pareto", alt.value(ACCENT), alt.value("#8a8f98")), tooltip=tooltip
    )
    names = [
        shared.transform_filter(alt.datum.side == side)
        .mark_text(align=align, dx=dx, dy=dy, fontSize=11, color="currentColor")
        .encode(text="label:N", opacity=alt.condition("datum.pareto", alt.value(1), alt.value(0.75)))
        for side, align, dx, dy in LABEL_PLACES
    ]
    return _spec(alt.layer(line, whiskers, points, *names).properties(width="container", height=320))


LABEL_PLACES = (
    ("right", "left", 8, 0),
    ("left", "right", -8, 0),
    ("above", "center", 0, -13),
    ("below", "center", 0, 14),
)


def label_sides(places: Sequence[tuple[float, float]], labels: Sequence[str], width: float) -> list[str]:
    """Of each point the side where its label covers no other and no point, '' if no side is free; the first choose
    first. `places`: in pixels, y downwards, in a chart of that width."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    sides = []
    for place, label in zip(places, labels, strict=True):
        for side, align, dx, dy in LABEL_PLACES:
            box = _box(place, len(label) * 6.3, align, dx, dy)
            if box[0] > -60 and box[2] < width + 60 and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                sides.append(side)
                break
        else:
            sides.append("")
    return sides


def _box(
    place: tuple[float, float], width: float, align: str, dx: float, dy: float
) -> tuple[float, float, float, float]:
    left = place[0] + dx - {"left": 0.0, "center": width / 2, "right": width}[align]
    return left, place[1] + dy - 6, left + width, place[1] + dy + 6


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def guess_against_truth(low: float, high: float, log: bool, target: str, rows: int) -> Spec:
    """One contestant's guesses against the truth, equal axes from `low` to `high`, with the line of perfect guesses.
    `rows`: how many points there are; many are drawn smaller and fainter."""
    size, opacity = (36, 0.5) if rows <= MANY else (16, 0.35)
    scale = alt.Scale(type="log" if log else "linear", domain=[low, high], nice=False)
    axis = alt.Axis(format="~s", values=log_ticks(low, high)) if log else alt.Axis(format="~s", tickCount=6)
    points = alt.Chart(alt.NamedData("points")).mark_point(filled=True, size=size, clip=True).encode(
        x=alt.X("t:Q", title=f"{target}: truth", scale=scale, axis=axis),
        y=alt.Y("g:Q", title="guess", scale=scale, axis=axis),
        color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=["read", "unread"], range=[ACCENT, PALETTE[1]]),
                        legend=None),
        opacity=alt.condition("datum.kind == 'unread'", alt.value(0.9), alt.value(opacity)),
        tooltip=[alt.Tooltip("input:N"), alt.Tooltip("truth:N"), alt.Tooltip("guess:N")],
    )  # fmt: skip
    ends = alt.Data(values=[{"t": low, "g": low}, {"t": high, "g": high}])
    diagonal = (
        alt.Chart(ends)
        .mark_line(strokeDash=[5, 4], color="currentColor", opacity=0.6)
        .encode(x=alt.X("t:Q", scale=scale), y=alt.Y("g:Q", scale=scale))
    )
    return _spec(alt.layer(diagonal, points).properties(width="container", height=430))


def confusion(labels: Sequence[str]) -> Spec:
    """Rows: the truth; columns: the guess; shade: the share of that truth's rows; number: how many rows."""
    order = list(labels)
    shared = alt.Chart(alt.NamedData("cells")).encode(
        x=alt.X("guess:N", title="guess", scale=alt.Scale(domain=order),
                axis=alt.Axis(labelAngle=-45, labelLimit=130, orient="top", grid=False)),
        y=alt.Y("truth:N", title="truth", scale=alt.Scale(domain=order),
                axis=alt.Axis(labelLimit=160, grid=False)),
    )  # fmt: skip
    tooltip = [
        alt.Tooltip("truth:N"),
        alt.Tooltip("guess:N"),
        alt.Tooltip("rows:Q"),
        alt.Tooltip("share:Q", format=".0%"),
    ]
    squares = shared.mark_rect(stroke="currentColor", strokeOpacity=0.12, strokeWidth=0.5).encode(
        color=alt.Color("right:N", legend=None, scale=alt.Scale(domain=[True, False], range=[PALETTE[2], PALETTE[3]])),
        fillOpacity=alt.FillOpacity("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0, 0.85])),
        tooltip=tooltip,
    )
    counts = shared.transform_filter("datum.rows > 0").mark_text(fontSize=10, color="currentColor").encode(
        text="rows:Q", tooltip=tooltip
    )  # fmt: skip
    height = max(26 * len(order), 120)
    return _spec(alt.layer(squares, counts).properties(width="container", height=height))


def score_histogram(title: str) -> Spec:
    """How the scores of the single rows are spread, for one contestant."""
    bars = alt.Chart(alt.NamedData("bins")).mark_bar(color=ACCENT, opacity=0.8).encode(
        x=alt.X("low:Q", title=f"{title} of a row", bin="binned", scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(grid=False)),
        x2="high:Q",
        y=alt.Y("rows:Q", title="rows", axis=alt.Axis(tickMinStep=1)),
        tooltip=[alt.Tooltip("low:Q", format=".2f"), alt.Tooltip("high:Q", format=".2f"), alt.Tooltip("rows:Q")],
    )  # fmt: skip
    return _spec(bars.properties(width="container", height=280))


def accumulating(names: Sequence[str], first: Sequence[str], score: str, domain: tuple[float, float]) -> Spec:
    """The score over the first 10, 20, … rows, with its interval as a band. `first` are those picked out at first."""
    pick = _pick(first)
    shared = alt.Chart(alt.NamedData("accumulated")).encode(
        x=alt.X(
            "n:Q",
            title="test rows so far",
            scale=alt.Scale(nice=False),
            axis=alt.Axis(grid=False, format="~s", tickCount=10),
        ),
        color=_colour(names),
    )
    scale = alt.Scale(domain=list(domain), nice=False)
    bands = shared.mark_area(clip=True).encode(
        y=alt.Y("low:Q", title=score, scale=scale), y2="high:Q",
        opacity=alt.condition(pick, alt.value(0.14), alt.value(0)),
    )  # fmt: skip
    lines = shared.mark_line(clip=True, strokeWidth=2).encode(
        y=alt.Y("score:Q", title=score, scale=scale),
        opacity=alt.condition(pick, alt.value(1), alt.value(_QUIET)),
        tooltip=[alt.Tooltip("contestant:N"), alt.Tooltip("n:Q", title="rows"), alt.Tooltip("shown:N", title=score)],
    )
    return _spec(alt.layer(bands, lines.add_params(pick)).properties(width="container", height=340))


def slices(names: Sequence[str], score: str) -> Spec:
    """Scores with intervals, a block a slice and a line a contestant in each."""
    shared = alt.Chart(alt.NamedData("slices")).encode(
        y=alt.Y("slice:N", title=None, sort=None, axis=alt.Axis(labelLimit=190, grid=True, tickBand="extent")),
        yOffset=alt.YOffset("contestant:N", scale=alt.Scale(domain=list(names), paddingOuter=0.6)),
        color=_colour(names),
        tooltip=[alt.Tooltip("contestant:N"), alt.Tooltip("slice:N"), alt.Tooltip("shown:N", title=score),
                 alt.Tooltip("rows:Q")],
    )  # fmt: skip
    scale = alt.Scale(zero=False)
    whiskers = shared.mark_rule(clip=True, strokeWidth=1.5).encode(
        x=alt.X("low:Q", title=score, scale=scale, axis=alt.Axis(tickCount=10)), x2="high:Q"
    )
    dots = shared.mark_point(filled=True, size=42, opacity=1).encode(x=alt.X("score:Q", title=score, scale=scale))
    return _spec(alt.layer(whiskers, dots).properties(width="container", height=alt.Step(11, **{"for": "offset"})))


def learning_curves(names: Sequence[str], score: str, domain: tuple[float, float], sizes: Sequence[int]) -> Spec:
    """Score against training rows: the chosen setting of each sweep with its interval, and the other trials, faint."""
    x = alt.X(
        "rows:Q",
        title="training rows",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(values=list(sizes), format=",d", grid=False, labelOverlap="greedy"),
    )
    scale = alt.Scale(domain=list(domain), nice=False)
    y, colour = alt.Y("score:Q", title=score, scale=scale), _colour(names)
    chosen = alt.Chart(alt.NamedData("curves")).encode(x=x, color=colour)
    tooltip = [alt.Tooltip("contestant:N"), alt.Tooltip("settings:N"), alt.Tooltip("rows:Q", title="training rows"),
               alt.Tooltip("shown:N", title="score")]  # fmt: skip
    others = alt.Chart(alt.NamedData("trials")).encode(x=x, y=y, color=colour, detail="trial:N", tooltip=tooltip)
    bands = chosen.mark_area(clip=True, opacity=0.13).encode(y=alt.Y("low:Q", title=score, scale=scale), y2="high:Q")
    whiskers = chosen.mark_rule(clip=True, strokeWidth=1.2, opacity=0.55).encode(
        y=alt.Y("low:Q", title=score, scale=scale), y2="high:Q"
    )
    lines = chosen.mark_line(clip=True, strokeWidth=2.5).encode(y=y)
    dots = chosen.mark_point(filled=True, size=60, opacity=1, clip=True).encode(y=y, tooltip=tooltip)
    faint = [
        others.mark_line(clip=True, strokeWidth=1.2, opacity=0.38),
        others.mark_point(filled=True, clip=True, size=16, opacity=0.5),
    ]
    return _spec(alt.layer(bands, *faint, whiskers, lines, dots).properties(width="container", height=340))


def tuning_loss(names: Sequence[str]) -> Spec:
    """The loss of each tuned contestant, step by step, and its running mean."""
    shared = alt.Chart(alt.NamedData("losses")).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False, tickMinStep=1)),
        color=_colour(names),
    )
    scale = alt.Scale(zero=False)
    tooltip = [alt.Tooltip("contestant:N"), alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".3f"),
               alt.Tooltip("smooth:Q", title="running mean", format=".3f")]  # fmt: skip
    raw = shared.mark_line(strokeWidth=1, opacity=0.3).encode(
        y=alt.Y("loss:Q", title="loss of the answers", scale=scale)
    )
    smooth = shared.mark_line(strokeWidth=2).encode(
        y=alt.Y("smooth:Q", title="loss of the answers", scale=scale), tooltip=tooltip
    )
    return _spec(alt.layer(raw, smooth).properties(width="container", height=240))


def tuning_score(names: Sequence[str], score: str, last: int) -> Spec:
    """The validation score of each tuned contestant, at the steps where it was looked at; `last`: the last step."""
    shared = alt.Chart(alt.NamedData("checked")).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, last], nice=False),
                axis=alt.Axis(grid=False, tickMinStep=1)),
        y=alt.Y("score:Q", title=f"{score}, validation", scale=alt.Scale(zero=False, padding=12)),
        color=_colour(names),
        tooltip=[alt.Tooltip("contestant:N"), alt.Tooltip("step:Q"), alt.Tooltip("shown:N", title="score")],
    )  # fmt: skip
    marks = alt.layer(shared.mark_line(strokeWidth=2), shared.mark_point(filled=True, size=50, opacity=1))
    return _spec(marks.properties(width="container", height=240))


def _pick(first: Sequence[str]) -> alt.Parameter:
    return alt.selection_point(
        name="pick", fields=["contestant"], bind="legend", value=[{"contestant": name} for name in first]
    )


def _colour(names: Sequence[str]) -> alt.Color:
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    return alt.Color("contestant:N", title=None, scale=alt.Scale(domain=list(names), range=colours))


def log_ticks(low: float, high: float) -> list[float]:
    """1, 10, 100, …, with 3, 30, … or 2, 5, 20, 50, … between where the axis is short.

    >>> log_ticks(0.5, 40)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    """
    span = math.log10(high / low)
    steps = (1, 2, 5) if span <= 2 else ((1, 3) if span <= 4 else (1,))
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found = [float(f"{step}e{decade}") for decade in range(first, last + 1) for step in steps]
    return [tick for tick in found if low <= tick <= high]


def _spec(chart: Any) -> Spec:
    """The chart as a plain object, without the address of the schema: a page that opens offline names no host."""
    themed = chart.configure(background="transparent", font=FONT).configure_view(stroke=None).configure_axis(
        labelColor="currentColor", titleColor="currentColor", domainColor="currentColor", tickColor="currentColor",
        gridColor="currentColor", gridOpacity=0.12, domainOpacity=0.4, tickOpacity=0.4, labelFontSize=11,
        titleFontSize=12, titleFontWeight="normal", labelFlush=False,
    ).configure_legend(
        labelColor="currentColor", titleColor="currentColor", orient="bottom", symbolLimit=0, labelLimit=170,
        labelFontSize=12, symbolStrokeWidth=3, symbolOpacity=1,
    )  # fmt: skip
    spec: Spec = themed.to_dict(validate=False)
    spec.pop("$schema", None)
    return spec
