"""Draw the dashboard without Grafana.

    python -m deploy.grafana.render --prometheus http://127.0.0.1:9090 --out fleet.png

It reads dashboard.json, asks Prometheus what each panel would ask, and draws the panels at their places. It is no
Grafana: colours, fonts and axes differ. It is for documents, and to see that every query has an answer.
"""

import argparse
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

DASHBOARD = Path(__file__).with_name("dashboard.json")
COLUMNS = 24
UNIT = (0.75, 0.4)
"""Inches of one column and of one line of the dashboard's grid."""
POINTS = 400
"""Samples of a line."""
LINES = 10
"""Lines of a panel, at most: those with the largest values. The legend says how many are left out."""
MINUTES = (30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
"""Steps of an axis of seconds, if it is a long one."""
BACKGROUND, PANEL, INK, FAINT = "#111217", "#181b1f", "#ccccdc", "#6e7078"
COLOURS = (
    *("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#56a64b", "#ffb357"),
    *("#c4162a", "#8f3bb8", "#37872d"),
)


@dataclass(frozen=True)
class Line:
    """One series: its name in the legend, and its samples."""

    name: str
    times: list[datetime]
    values: list[float]


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the time that is asked for. `end` is in seconds since 1970."""

    url: str
    seconds: float
    end: float
    rate_interval: str

    def lines(self, panel: dict[str, Any]) -> list[Line]:
        """Return what the queries of a panel answer."""
        found = [line for target in panel["targets"] for line in self._answer(target) if line.values]
        return sorted(found, key=lambda line: -max(line.values))

    def _answer(self, target: dict[str, Any]) -> list[Line]:
        query = target["expr"].replace("$__rate_interval", self.rate_interval).replace("$profile", ".*")
        asked = {
            "query": query,
            "start": self.end - self.seconds,
            "end": self.end,
            "step": max(1.0, self.seconds / POINTS),
        }
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=asked, timeout=30)
        answer.raise_for_status()
        return [_line(series, target["legendFormat"]) for series in answer.json()["data"]["result"]]


def _line(series: dict[str, Any], legend: str) -> Line:
    labels: dict[str, str] = series["metric"]
    name = re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], "") or "-", legend)
    # A quantile of nothing is NaN.
    samples = [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]
    return Line(name, [datetime.fromtimestamp(at, UTC) for at, _ in samples], [value for _, value in samples])


def spoken(value: float, unit: str) -> str:
    """Return a value as Grafana would show it in this unit."""
    if unit == "s":
        for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
            if value >= 2 * size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    if unit in ("ops", "reqps"):
        return f"{value:.3g}/s"
    return f"{value / 1000:.3g} k" if value >= 10_000 else f"{value:.4g}"


def render(source: Source, title: str) -> Figure:
    """Return the whole dashboard as a figure."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2
    figure = Figure(figsize=(COLUMNS * UNIT[0], lines * UNIT[1]), facecolor=BACKGROUND)
    figure.text(0.008, 1 - 0.7 / lines, title, color=INK, fontsize=15, va="center")
    for panel in panels:
        place = panel["gridPos"]
        top = place["y"] + 1.5
        if panel["type"] == "row":
            figure.text(
                0.008, 1 - (top + 0.5) / lines, panel["title"], color=INK, fontsize=12, va="center", weight="bold"
            )
            continue
        left, width = (place["x"] + 0.1) / COLUMNS, (place["w"] - 0.2) / COLUMNS
        bottom, height = 1 - (top + place["h"] - 0.1) / lines, (place["h"] - 0.2) / lines
        _draw(figure, panel, source, (left, bottom, width, height))
    return figure


def _draw(figure: Figure, panel: dict[str, Any], source: Source, place: tuple[float, float, float, float]) -> None:
    frame = figure.add_axes(place, facecolor=PANEL)
    frame.set(xticks=[], yticks=[])
    frame.spines[:].set_visible(False)
    frame.text(0.02, 0.97, panel["title"], transform=frame.transAxes, ha="left", va="top", color=INK, fontsize=10)
    lines, unit = source.lines(panel), panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "stat":
        value = spoken(lines[0].values[-1], unit) if lines else "No data"
        frame.text(0.5, 0.42, value, transform=frame.transAxes, ha="center", va="center", color=INK, fontsize=22)
        return
    if not lines:
        frame.text(0.5, 0.5, "No data", transform=frame.transAxes, ha="center", va="center", color=FAINT, fontsize=12)
        return
    x, y, width, height = place
    shown = min(len(lines), LINES) + (len(lines) > LINES)
    legend = 0.07 * ((shown + 1) // 2) + 0.02
    inner = figure.add_axes((x + 0.13 * width, y + (legend + 0.11) * height, 0.84 * width, (0.77 - legend) * height))
    _plot(inner, panel, lines, unit, source)
    _legend(frame, inner, len(lines))


def _plot(axes: Axes, panel: dict[str, Any], lines: list[Line], unit: str, source: Source) -> None:
    axes.set_facecolor(PANEL)
    drawn = lines[:LINES]
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    if stacked:
        times = sorted({at for line in drawn for at in line.times})
        known = [dict(zip(line.times, line.values, strict=True)) for line in drawn]
        heights = [[each.get(at, 0.0) for at in times] for each in known]
        names = [line.name for line in drawn]
        axes.stackplot(times, *heights, labels=names, colors=COLOURS, alpha=0.6, step="post")  # type: ignore[arg-type]
    else:
        for line, colour in zip(drawn, COLOURS, strict=False):
            axes.plot(line.times, line.values, label=line.name, color=colour, linewidth=1.2)  # type: ignore[arg-type]
    start, end = (datetime.fromtimestamp(at, UTC) for at in (source.end - source.seconds, source.end))
    axes.set_xlim(start, end)  # type: ignore[arg-type]
    axes.set_ylim(bottom=0, top=None if axes.get_ylim()[1] > 1e-9 else 1)
    locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
    if unit == "s" and (step := next((each for each in MINUTES if 2 * each < axes.get_ylim()[1] <= 6 * each), None)):
        axes.yaxis.set_major_locator(MultipleLocator(step))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: spoken(value, unit)))
    axes.tick_params(colors=FAINT, labelsize=7.5, length=0)
    axes.grid(color="#2c3038", linewidth=0.6)
    axes.spines[:].set_visible(False)


def _legend(frame: Axes, inner: Axes, lines: int) -> None:
    handles, names = inner.get_legend_handles_labels()
    if lines > LINES:
        handles, names = [*handles, handles[0]], [*names, f"and {lines - LINES} more"]
    style = {"frameon": False, "fontsize": 7.5, "labelcolor": INK, "handlelength": 1.2, "columnspacing": 1.2}
    frame.legend(handles, names, loc="lower left", ncols=2, **style)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its URL")
    parser.add_argument("--minutes", type=float, default=180, help="how much to show, until now")
    parser.add_argument("--rate-interval", default="1m", help="four times the scrape interval, or more")
    parser.add_argument("--title", default="DiffEdit fleet")
    parser.add_argument("--out", type=Path, default=Path("out/fleet.png"))
    args = parser.parse_args()
    source = Source(args.prometheus, args.minutes * 60, time.time(), args.rate_interval)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    render(source, args.title).savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
