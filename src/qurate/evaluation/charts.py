"""Charts as inline SVG: no script, no network, and colours that follow the page's light or dark scheme.

vl-convert's JavaScript bundle would add 0.9 MB to every report; the same charts as SVG take a few kilobytes. Each
colour is drawn as a token that no chart would use by itself; `STYLE` gives every token its two colours.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from qurate.evaluation.intervals import Interval

INK, MUTED, GRID = "#010101", "#020202", "#030303"
SERIES = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05", "#0a0a06", "#0a0a07")
"""Colour tokens of lines and marks; never more than five lines in a chart."""

_COLOURS = {
    INK: ("#1b1b1a", "#f3f2ee"),
    MUTED: ("#63625d", "#aaa9a2"),
    GRID: ("#e3e2dc", "#3a3a37"),
    SERIES[0]: ("#2a78d6", "#4a94ea"),
    SERIES[1]: ("#c26a00", "#e0913a"),
    SERIES[2]: ("#13855c", "#2fb287"),
    SERIES[3]: ("#6a52b8", "#a795ee"),
    SERIES[4]: ("#7a7973", "#96958e"),
    SERIES[5]: ("#b23a63", "#e27c9d"),
    SERIES[6]: ("#8a6d1f", "#c3a552"),
}

ROLE_COLOURS = {"candidate": SERIES[0], "baseline": SERIES[4], "reference": SERIES[3]}

WIDTH = 800


def style() -> str:
    """CSS rules that give the tokens their colours, dark ones under `prefers-color-scheme: dark`."""

    def rules(column: int) -> str:
        return "".join(f'svg [{a}="{token}"]{{{a}:{pair[column]}}}' for token, pair in _COLOURS.items() for a in ("fill", "stroke"))

    return f"{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a dot plot: a name, its interval and the colour token."""

    name: str
    value: Interval
    group: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line: x and y of its points, and the lowest and highest y of a band where there is one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def legend(entries: Mapping[str, str]) -> str:
    """Names and colour tokens as HTML: it wraps, and does not depend on how wide a chart thinks a font is."""
    keys = "".join(
        f'<span><svg width="14" height="10"><rect width="14" height="4" y="3" rx="2" fill="{token}"/></svg>'
        f"<bdi>{html.escape(name)}</bdi></span>"
        for name, token in entries.items()
    )
    return f'<div class="legend">{keys}</div>'


def dots(bars: Sequence[Bar], axis: str, colours: Mapping[str, str], digits: int = 2, mark: float | None = None) -> str:
    """Means as dots with their 95 % intervals as bars, the highest on top; `mark` draws a vertical line. HTML text."""
    kept = [b for b in bars if math.isfinite(b.value.mean)]
    rows: list[dict[str, Any]] = []
    for b in kept:
        mean, lo, hi = b.value
        ends = {"lo": lo, "hi": hi} if math.isfinite(lo) and math.isfinite(hi) else {"lo": mean, "hi": mean}
        rows.append({"name": b.name, "mean": mean, "group": b.group, "text": f"{mean:,.{digits}f}", **ends})
    order = [r["name"] for r in sorted(rows, key=lambda r: -float(r["mean"]))]
    used = [g for g in colours if any(b.group == g for b in kept)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("name:N", sort=order, title=None, axis=alt.Axis(grid=False, domain=False, ticks=False, labelLimit=240, labelPadding=8)),
        color=alt.Color("group:N", scale=alt.Scale(domain=used, range=[colours[g] for g in used]), legend=None),
    )
    x = alt.Scale(zero=False, nice=True, padding=12)
    spans = base.mark_rule(strokeWidth=6, opacity=0.35, strokeCap="round").encode(x=alt.X("lo:Q", title=axis, scale=x), x2="hi:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("mean:Q", title=axis, scale=x))
    labels = base.mark_text(dy=-12, fontSize=11).encode(x=alt.X("mean:Q", scale=x), text="text:N", color=alt.value(INK))
    layers: list[Any] = [spans, points, labels]
    if mark is not None:
        line = alt.Chart(alt.InlineData(values=[{"at": mark}])).mark_rule(strokeDash=[3, 3], color=MUTED)
        layers.insert(0, line.encode(x=alt.X("at:Q", scale=x)))
    longest = max((len(b.name) for b in kept), default=0)
    chart = alt.layer(*layers).properties(width=WIDTH - 200, height=alt.Step(36), padding=_padding(8 + min(60, 2 * longest)))
    keys = legend({g: colours[g] for g in used}) if len(used) > 1 else ""
    return keys + _svg(chart)


def lines(series: Sequence[Line], x_title: str, y_title: str, percent: bool = False, *, names: Sequence[str] = ()) -> str:
    """Up to five lines over a number, with bands where given. HTML text.

    Args:
        names: of all lines of the page, so that each has the same colour in every chart (from the eighth on again);
            none = those of `series`.
    """
    rows: list[dict[str, Any]] = []
    for line in series:
        low, high = line.low or line.y, line.high or line.y
        rows += [{"name": line.name, "x": x, "y": y, "lo": lo, "hi": hi} for x, y, lo, hi in zip(line.x, line.y, low, high, strict=True)]
    token = {name: SERIES[i % len(SERIES)] for i, name in enumerate(names or [line.name for line in series])}
    colours = {line.name: token[line.name] for line in series}
    colour = alt.Color("name:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=None)
    axis = alt.Axis(format="%" if percent else ",~r", tickCount=5)
    x = alt.X("x:Q", title=x_title, axis=alt.Axis(grid=False, format=",~r", tickCount=7), scale=alt.Scale(nice=False))
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x)
    scale = alt.Scale(zero=percent)
    layers: list[Any] = [base.mark_line(strokeWidth=2).encode(y=alt.Y("y:Q", title=y_title, axis=axis, scale=scale), color=colour)]
    if any(line.low is not None for line in series):
        band = base.mark_area(opacity=0.18).encode(y=alt.Y("lo:Q", title=y_title, axis=axis, scale=scale), y2="hi:Q", color=colour)
        layers.insert(0, band)
    return legend(colours) + _svg(alt.layer(*layers).properties(width=WIDTH - 70, height=230, padding=_padding(8)))


def _padding(left: int) -> dict[str, int]:
    return {"left": left, "right": 24, "top": 8, "bottom": 8}


def _svg(chart: alt.LayerChart | alt.FacetChart) -> str:
    """The chart as SVG without a background, in the page's colours."""
    themed = chart.configure(background="transparent", font="Liberation Sans, Arial, sans-serif").configure_view(stroke=None)
    themed = themed.configure_axis(
        labelColor=MUTED,
        titleColor=MUTED,
        gridColor=GRID,
        domainColor=GRID,
        tickColor=GRID,
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
    )
    themed = themed.configure_axisY(titleAngle=0, titleAlign="left", titleAnchor="end", titleY=-12, titleX=-40)
    return str(vl_convert.vegalite_to_svg(themed.to_dict()))
