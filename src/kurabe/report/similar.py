"""The page of `similar`: heatmap and map of texts as one HTML file that opens offline."""

from typing import Any

import altair as alt
import numpy as np
from markupsafe import Markup

from kurabe.lens.similar import Similar, picked
from kurabe.report import charts
from kurabe.report import format as fmt
from kurabe.report.html import _asset, _environment, _hash, _json, _vega

MOST = 120
"""Rows of the heatmap; of more texts, those at even distances are drawn."""
NAMED = 60
"""Texts whose names stand beside their points; the others', and those without room, show under the pointer."""
_NAME = 60
_MAP = (900, 460)
"""Width, about, and height of the map in pixels, of which `_EDGE` on each side hold no point."""
_EDGE = 70
_SCRIPT = """"use strict";
(async () => {
  const { data, specs } = JSON.parse(document.getElementById("kurabe").textContent);
  const { rows, texts, similarities, points } = data;
  const cells = similarities.flatMap((line, i) =>
    line.map((similarity, j) => ({ row: rows[i], column: j + 1, similarity, one: texts[i], other: texts[j] })));
  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById("chart-" + name);
    spec.datasets = { cells, points };
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, logLevel: 1 };
    try {
      await vegaEmbed(place, spec, options);
    } catch (error) {
      place.textContent = "This chart could not be drawn: " + error.message;
    }
  }
})();
"""


def similar_html(found: Similar) -> str:
    """The page: clusters with their texts, the heatmap of at most 120 texts, and the map of all."""
    shown = picked(found.order, MOST)
    colours = {member: name for name, cluster in zip(_names(found), found.clusters, strict=True)
               for member in cluster.members}  # fmt: skip
    rows = [f"{place}. {fmt.shorten(fmt.plain(found.texts[member]), _NAME)}" for place, member in enumerate(shown, 1)]
    short = [fmt.shorten(fmt.plain(found.texts[member]), 32) for member in found.order]
    data = {
        "rows": rows,
        "texts": [fmt.plain(found.texts[member])[:300] for member in shown],
        "similarities": [[round(float(found.similarities[a, b]), 3) for b in shown] for a in shown],
        "points": [
            {
                "x": round(float(found.points[member, 0]), 4), "y": round(float(found.points[member, 1]), 4),
                "text": fmt.plain(found.texts[member])[:300], "cluster": colours[member],
                "name": name, "side": side,
            }
            for member, name, side in zip(found.order, short, _sides(found, short), strict=True)
        ],
    }  # fmt: skip
    low = min(float(found.similarities.min()), 0.0)
    specs = {"heatmap": _heatmap(rows, low), "map": _map(list(dict.fromkeys(colours.values())), len(found.texts))}
    vega = _vega()
    return _environment().get_template("similar.html.j2").render(
        found=found, shown=len(shown), named=NAMED, names=_names(found), fmt=fmt,
        vega=Markup(vega), script=Markup(_SCRIPT), style=Markup(_asset("report.css")),
        hashes=[_hash(vega), _hash(_SCRIPT)], json=_json({"data": data, "specs": specs}),
    )  # fmt: skip


def _names(found: Similar) -> list[str]:
    return [f"{n}. {fmt.shorten(fmt.plain(cluster.name), _NAME)}" for n, cluster in enumerate(found.clusters, 1)]


def _sides(found: Similar, names: list[str]) -> list[str]:
    """Of each point of the map, in the order of the heatmap, the side where its name stands."""
    if len(names) > NAMED:
        return [""] * len(names)
    points = found.points[list(found.order)]
    span = np.ptp(points, axis=0)
    shares = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    width, height = (side - 2 * _EDGE for side in _MAP)
    return charts.label_sides([(x * width, -y * height) for x, y in shares.tolist()], names, width)


def _heatmap(rows: list[str], low: float) -> charts.Spec:
    step = max(min(26, 720 // len(rows)), 5)
    names = alt.Axis(labelLimit=260, labelOverlap=True, title=None, grid=False, ticks=False)
    numbers = alt.Axis(orient="top", labelAngle=0, labelOverlap=True, title=None, grid=False, ticks=False)
    chart = alt.Chart(alt.NamedData("cells")).mark_rect().encode(
        x=alt.X("column:O", axis=numbers),
        y=alt.Y("row:N", scale=alt.Scale(domain=rows), axis=names),
        color=alt.Color("similarity:Q", title="cosine similarity",
                        scale=alt.Scale(scheme="viridis", domain=[low, 1.0])),
        tooltip=[alt.Tooltip("similarity:Q", format=".2f"), alt.Tooltip("one:N", title="row"),
                 alt.Tooltip("other:N", title="column")],
    )  # fmt: skip
    return charts._spec(chart.properties(width=alt.Step(step), height=alt.Step(step)))


def _map(clusters: list[str], texts: int) -> charts.Spec:
    colours = [charts.PALETTE[i % len(charts.PALETTE)] for i in range(len(clusters))]
    quiet: dict[str, Any] = {"labels": False, "ticks": False, "grid": False}
    shared = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X("x:Q", title="first component", scale=alt.Scale(zero=False, padding=_EDGE), axis=alt.Axis(**quiet)),
        y=alt.Y("y:Q", title="second component", scale=alt.Scale(zero=False, padding=_EDGE), axis=alt.Axis(**quiet)),
        tooltip=[alt.Tooltip("text:N"), alt.Tooltip("cluster:N")],
    )  # fmt: skip
    scale = alt.Scale(domain=clusters, range=colours)
    points = shared.mark_point(filled=True, size=80 if texts <= NAMED else 36, opacity=0.85).encode(
        color=alt.Color("cluster:N", title=None, scale=scale, legend=alt.Legend(columns=2, labelLimit=340))
    )
    names = [
        shared.transform_filter(alt.datum.side == side)
        .mark_text(align=align, dx=dx, dy=dy, fontSize=11, color="currentColor")
        .encode(text="name:N")
        for side, align, dx, dy in charts.LABEL_PLACES
    ]
    layers = [points, *(names if texts <= NAMED else [])]
    return charts._spec(alt.layer(*layers).properties(width="container", height=_MAP[1]))
