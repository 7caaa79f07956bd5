#!/usr/bin/env python3
"""Draws a dashboard of this directory as a picture, out of a running Prometheus:

    python3 render.py --prometheus http://127.0.0.1:9090 --minutes 10 dashboards/overview.json overview.png

It asks Prometheus for every panel's queries, as Grafana does (`query_range` for lines, `query` for the others), and draws
them with matplotlib in the dashboard's own places, units and thresholds. For a machine that has no Grafana: the picture in
the README is made so.
"""

import argparse
import datetime
import json
import re
import textwrap
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates
import matplotlib.pyplot
from matplotlib.patches import FancyBboxPatch

BACKGROUND, PANEL, BORDER, TEXT, DIM = "#111217", "#181b1f", "#2c3235", "#d8d9e0", "#8e909c"
PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff", "#ffb357", "#e0b400"]
NAMED = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c", "blue": "#5794f2"}
# Pixels of one unit of Grafana's grid, 24 units wide.
ACROSS, DOWN, GAP = 68, 31, 8


class Source:
    """A Prometheus, and what the dashboard's variables stand for."""

    def __init__(self, url, start, end, rate_interval):
        self.url, self.start, self.end, self.rate_interval = url.rstrip("/"), start, end, rate_interval

    def expand(self, expr):
        expr = expr.replace("$__rate_interval", self.rate_interval)
        return re.sub(r"\$(job|endpoint|service|target|app)\b", ".*", expr)

    def ask(self, path, **parameters):
        data = urllib.parse.urlencode(parameters).encode()
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", data, timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    def lines(self, expr):
        step = max(1, round((self.end - self.start) / 200))
        return self.ask("query_range", query=self.expand(expr), start=self.start, end=self.end, step=step)

    def now(self, expr):
        return self.ask("query", query=self.expand(expr), time=self.end)


def legend(form, labels):
    """`{{endpoint}} {{zone}}` filled in."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form) or ", ".join(labels.values())


def shown(value, unit):
    """A value with its unit, as Grafana writes it."""

    def scaled(value, base, names):
        for name in names[:-1]:
            if abs(value) < base:
                return f"{value:.3g} {name}".strip()
            value /= base
        return f"{value:.3g} {names[-1]}"

    if unit == "percentunit":
        return f"{value * 100:.1f} %"
    if unit == "Bps":
        return scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"])
    if unit == "s":
        if value and abs(value) < 1e-3:
            return f"{value * 1e6:.3g} µs"
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    rate = {"cps": "/s", "reqps": " req/s"}.get(unit, "")
    return (f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else scaled(value, 1000, ["", "k", "M"])) + rate


def color(value, thresholds):
    found = "blue"
    for step in thresholds["steps"]:
        if step["value"] is None or value >= step["value"]:
            found = step["color"]
    return NAMED[found]


class Canvas:
    """A figure that is measured in pixels from its upper left corner."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.figure = matplotlib.pyplot.figure(figsize=(width / 100, height / 100), dpi=100, facecolor=BACKGROUND)

    def axes(self, x, y, width, height):
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place)
        axes.set_facecolor(PANEL)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def text(self, x, y, words, size=10.5, tint=TEXT, **more):
        self.figure.text(x / self.width, 1 - y / self.height, words, fontsize=size, color=tint, va="top", **more)

    def box(self, x, y, width, height):
        corner = (x / self.width, 1 - (y + height) / self.height)
        self.figure.add_artist(FancyBboxPatch(
            corner, width / self.width, height / self.height, boxstyle="round,pad=0,rounding_size=0.002",
            transform=self.figure.transFigure, facecolor=PANEL, edgecolor=BORDER, linewidth=1, zorder=-1))


def draw_lines(canvas, source, panel, x, y, width, height):
    custom, unit = panel["fieldConfig"]["defaults"]["custom"], panel["fieldConfig"]["defaults"]["unit"]
    series = []
    for target in panel["targets"]:
        for found in source.lines(target["expr"]):
            points = [(float(at), float(value)) for at, value in found["values"] if value != "NaN"]
            if points:
                series.append((legend(target["legendFormat"], found["metric"]), points))
    series.sort()
    # Where there is much to tell, its names take two lines.
    names = min(len(series), 8)
    below = 24 + 19 * (1 + (sum(len(name) + 5 for name, _ in series[:8]) * 7 > width)) if names else 24
    axes = canvas.axes(x + 66, y + 34, width - 82, height - 40 - below)
    drawstyle = "steps-post" if custom["lineInterpolation"] == "stepAfter" else "default"
    stacked = custom["stacking"]["mode"] == "normal"
    if stacked and series:
        times = sorted({at for _, points in series for at, _ in points})
        base = [0.0] * len(times)
        for n, (_, points) in enumerate(series):
            known = dict(points)
            top = [low + known.get(at, 0.0) for low, at in zip(base, times)]
            when = [datetime.datetime.fromtimestamp(at) for at in times]
            axes.fill_between(when, base, top, color=PALETTE[n % len(PALETTE)], alpha=0.35, linewidth=0)
            axes.plot(when, top, color=PALETTE[n % len(PALETTE)], linewidth=1.1)
            base = top
    else:
        for n, (_, points) in enumerate(series):
            when = [datetime.datetime.fromtimestamp(at) for at, _ in points]
            # Equal lines lie beside each other, not on top.
            tint, values = PALETTE[n % len(PALETTE)], [value for _, value in points]
            axes.plot(when, values, color=tint, linewidth=1.3, drawstyle=drawstyle)
            if drawstyle == "default":
                axes.fill_between(when, 0, values, color=tint, alpha=0.08, linewidth=0)
    axes.set_xlim(*(datetime.datetime.fromtimestamp(at) for at in (source.start, source.end)))
    least, most = axes.get_ylim()
    axes.set_ylim(min(0, least), max(most, 1e-9) * 1.08)
    axes.grid(True, color=BORDER, linewidth=0.7)
    axes.tick_params(colors=DIM, labelsize=8.5, length=0)
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M" if source.end - source.start > 300 else "%H:%M:%S"))
    axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(minticks=3, maxticks=7))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=drawstyle != "default"))
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    at, line = x + 14, y + height - below + 10
    for n, (name, _) in enumerate(series[:8]):
        needs = 22 + 7.1 * len(name)
        if at + needs > x + width and at > x + 14:
            at, line = x + 14, line + 18
        if line > y + height - 14:
            break
        canvas.text(at, line - 1, "━", 9, PALETTE[n % len(PALETTE)])
        canvas.text(at + 15, line, name, 8.5, DIM)
        at += needs + 8


def draw_stat(canvas, source, panel, x, y, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    found = source.now(panel["targets"][0]["expr"])
    value = float(found[0]["value"][1]) if found else None
    words = "no data" if value is None else shown(value, defaults["unit"])
    for mapping in defaults["mappings"]:
        words = mapping["options"].get(f"{value:.0f}" if value is not None else "", {}).get("text", words)
    tint = DIM if value is None else color(value, defaults["thresholds"])
    canvas.text(x + width / 2, y + height * 0.38, words, 25, tint, ha="center", weight="bold")


def draw_bars(canvas, source, panel, x, y, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    bars = [(legend(target["legendFormat"], found["metric"]), float(found["value"][1]))
            for target in panel["targets"] for found in source.now(target["expr"])][:8]
    room = (height - 46) / max(len(bars), 1)
    for n, (name, value) in enumerate(bars):
        top = y + 38 + n * room
        canvas.text(x + 14, top, name, 9.5, DIM)
        axes = canvas.axes(x + 14, top + 20, width - 110, min(room - 30, 22))
        axes.set(xlim=(0, defaults.get("max", 1)), ylim=(0, 1), xticks=[], yticks=[])
        axes.set_facecolor("#24272c")
        axes.barh(0.5, value, height=1, color=color(value, defaults["thresholds"]))
        canvas.text(x + width - 14, top + 20, shown(value, defaults["unit"]), 12,
                    color(value, defaults["thresholds"]), ha="right")


def draw_table(canvas, source, panel, x, y, width, height):
    rename = panel["transformations"][1]["options"]["renameByName"]
    rows = [dict(found["metric"], Value=found["value"][1]) for found in source.now(panel["targets"][0]["expr"])]
    for column, (label, title) in enumerate(rename.items()):
        at = x + 14 + column * (width - 28) / len(rename)
        canvas.text(at, y + 36, title, 9.5, DIM)
        for n, cells in enumerate(rows[: int((height - 60) / 20)]):
            canvas.text(at, y + 58 + n * 20, cells.get(label, ""), 9.5)


DRAW = {"timeseries": draw_lines, "stat": draw_stat, "bargauge": draw_bars, "table": draw_table}


def render(dashboard, source, out):
    panels = dashboard["panels"]
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    head = 52
    canvas = Canvas(24 * ACROSS + GAP, units * DOWN + head + GAP)
    canvas.text(16, 14, dashboard["title"], 17, weight="bold")
    span = " to ".join(time.strftime("%H:%M", time.localtime(at)) for at in (source.start, source.end))
    canvas.text(canvas.width - 16, 18, span, 12, DIM, ha="right")
    for panel in panels:
        box = panel["gridPos"]
        x, y = box["x"] * ACROSS + GAP, box["y"] * DOWN + head
        width, height = box["w"] * ACROSS - GAP, box["h"] * DOWN - GAP
        if panel["type"] == "row":
            canvas.text(x + 6, y + 6, panel["title"], 11.5, weight="bold")
            continue
        canvas.box(x, y, width, height)
        title = textwrap.shorten(panel["title"], int(width / 7), placeholder=" …")
        canvas.text(x + 14, y + 10, title, 10.5, weight="medium")
        DRAW[panel["type"]](canvas, source, panel, x, y, width, height)
    canvas.figure.savefig(out, facecolor=BACKGROUND)
    matplotlib.pyplot.close(canvas.figure)


def main():
    parser = argparse.ArgumentParser(description="Draw a dashboard out of a running Prometheus")
    parser.add_argument("dashboard", help="its JSON file")
    parser.add_argument("out", help="the picture: .png or .svg")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=30, help="how far to look back")
    parser.add_argument("--rate-interval", default="1m", help="four times the scrape interval, as Grafana's")
    args = parser.parse_args()
    end = time.time()
    source = Source(args.prometheus, end - args.minutes * 60, end, args.rate_interval)
    with open(args.dashboard) as file:
        render(json.load(file), source, args.out)


if __name__ == "__main__":
    main()
