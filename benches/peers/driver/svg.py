"""Small SVG charts: bars and lines, in colours that do not depend on hue alone, readable on light and dark pages."""

import math

DASHES = ["", "6 3", "2 3", "8 3 2 3", "4 4", "1 3"]
WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 78, 150, 44, 56
# Room that the label of an axis needs.
LABEL_WIDTH = 30
# Page, text, text of axes, grid, the peers, the gateway, spreads; and the lines of a chart.
LIGHT = ["#ffffff", "#1f2328", "#59636e", "#d8dee4", "#b1b8c2", "#3a63c8", "#1f2328"]
DARK = ["#0d1117", "#e6edf3", "#9da7b3", "#30363d", "#545d68", "#6f97f0", "#e6edf3"]
LIGHT_LINES = ["#3a63c8", "#b35900", "#1a7f37", "#8250df", "#bf3989", "#0a7d8c"]
DARK_LINES = ["#6f97f0", "#f0a35e", "#57c774", "#b794f6", "#f58bc4", "#4cc9d8"]


def _colours(page, text, faint, grid, peer, ours, spread, lines):
    """Rules in plain colours: not every program that draws SVG knows variables."""
    rules = [f".page {{ fill: {page}; }} text {{ fill: {text}; }} text.faint {{ fill: {faint}; }} .grid {{ stroke: {grid}; }}",
             f".peer {{ fill: {peer}; }} .ours {{ fill: {ours}; }} .spread {{ stroke: {spread}; }}"]
    return rules + [f".s{n} {{ stroke: {line}; }} .f{n} {{ fill: {line}; }}" for n, line in enumerate(lines)]


# An image in a page follows the reader's light or dark, as the page does.
STYLE = "\n".join(["<style>", ".line { fill: none; stroke-width: 2; }", *_colours(*LIGHT, LIGHT_LINES),
                   "@media (prefers-color-scheme: dark) {", *_colours(*DARK, DARK_LINES), "}", "</style>"])


def escape(text):
    """For text nodes."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short(value):
    """A number for an axis."""
    if value == 0:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ticks(top):
    """Round numbers from 0 to at least `top`."""
    if top <= 0:
        return [0, 1]
    step = 10 ** math.floor(math.log10(top))
    for part in (0.1, 0.2, 0.25, 0.5, 1, 2):
        if top / (step * part) <= 6:
            step *= part
            break
    count = math.ceil(top / step - 1e-9)
    return [step * n for n in range(count + 1)]


def _frame(title, body, height=HEIGHT):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" font-family="system-ui, sans-serif" font-size="12" role="img" '
            f'aria-label="{escape(title)}">\n{STYLE}\n<rect class="page" width="100%" height="100%"/>\n'
            f'<text x="12" y="24" font-size="15" font-weight="600">{escape(title)}</text>\n{body}</svg>\n')


def lines(title, x_label, y_label, series, log_x=False):
    """Lines: `series` is name → [(x, y)] or name → [(x, y, low, high)]."""
    points = [point for line in series.values() for point in line]
    if not points:
        return None
    xs = sorted({point[0] for point in points})
    marks = ticks(max(max(point[1:]) for point in points))
    low_x, high_x = xs[0], xs[-1]

    def at_x(x):
        if log_x:
            span = math.log(high_x) - math.log(low_x) or 1
            share = (math.log(x) - math.log(low_x)) / span
        else:
            share = (x - low_x) / ((high_x - low_x) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def at_y(y):
        return HEIGHT - BOTTOM - y / marks[-1] * (HEIGHT - TOP - BOTTOM)

    body = []
    for mark in marks:
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(mark):.1f}" y2="{at_y(mark):.1f}"/>'
                    f'<text class="faint" x="{LEFT - 8}" y="{at_y(mark) + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    # From the right: the last one is the most interesting.
    free = math.inf
    for x in reversed(xs):
        if at_x(x) <= free:
            body.append(f'<text class="faint" x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" '
                        f'text-anchor="middle">{short(x)}</text>')
            free = at_x(x) - LABEL_WIDTH
    for nth, (name, line) in enumerate(series.items()):
        colour, dash = nth % len(LIGHT_LINES), DASHES[nth % len(DASHES)]
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        path = " ".join(f"{at_x(point[0]):.1f},{at_y(point[1]):.1f}" for point in line)
        body.append(f'<polyline class="line s{colour}" points="{path}"{dash}/>')
        for point in line:
            x = at_x(point[0])
            body.append(f'<circle class="f{colour}" cx="{x:.1f}" cy="{at_y(point[1]):.1f}" r="3"/>')
            if len(point) == 4:
                body.append(f'<line class="s{colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{at_y(point[2]):.1f}" '
                            f'y2="{at_y(point[3]):.1f}"/>')
        x, y = WIDTH - RIGHT + 14, TOP + 8 + nth * 20
        body.append(f'<line class="line s{colour}" x1="{x}" x2="{x + 24}" y1="{y}" y2="{y}"{dash}/>'
                    f'<text x="{x + 30}" y="{y + 4}">{escape(name)}</text>')
    body.append(f'<text class="faint" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" '
                f'text-anchor="middle">{escape(x_label)}</text>')
    body.append(f'<text class="faint" transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
                f'text-anchor="middle">{escape(y_label)}</text>')
    return _frame(title, "\n".join(body))


def bars(title, unit, rows):
    """Horizontal bars with spreads: `rows` is [(name, median, min, max)]."""
    if not rows:
        return None
    height = TOP + 30 * len(rows) + 48
    marks = ticks(max(row[3] for row in rows))
    left, right = 120, 72
    scale = (WIDTH - left - right) / marks[-1]
    foot = TOP + 30 * len(rows) - 4
    body = []
    for mark in marks:
        x = left + mark * scale
        body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{foot}"/>'
                    f'<text class="faint" x="{x:.1f}" y="{foot + 16}" text-anchor="middle">{short(mark)}</text>')
    for nth, (name, middle, low, high) in enumerate(rows):
        y = TOP + nth * 30
        kind = "ours" if name.startswith("plgw") else "peer"
        body.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
                    f'<rect class="{kind}" x="{left}" y="{y}" width="{middle * scale:.1f}" height="20"/>'
                    f'<line class="spread" x1="{left + low * scale:.1f}" x2="{left + high * scale:.1f}" y1="{y + 10}" '
                    f'y2="{y + 10}"/>'
                    f'<text x="{left + high * scale + 6:.1f}" y="{y + 15}">{short(middle)}</text>')
    body.append(f'<text class="faint" x="{left}" y="{height - 10}">{escape(unit)}; bar: median, line: least to most</text>')
    return _frame(title, "\n".join(body), height)
