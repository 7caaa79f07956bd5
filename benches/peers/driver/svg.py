"""Small SVG charts: bars and lines, in colours that tell apart without hue alone, readable on light and dark pages."""

import math

COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e"]
DASHES = ["", "6 3", "2 3", "8 3 2 3", "4 4", "1 3"]
WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 78, 150, 44, 56


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
            f'aria-label="{escape(title)}">\n<rect width="100%" height="100%" fill="#fff"/>\n'
            f'<text x="12" y="22" font-size="15" font-weight="600" fill="#222">{escape(title)}</text>\n{body}</svg>\n')


def lines(title, x_label, y_label, series, log_x=False):
    """Lines: `series` is name → [(x, y)] or name → [(x, y, low, high)]."""
    points = [point for line in series.values() for point in line]
    if not points:
        return None
    xs = [point[0] for point in points]
    high = max(max(point[1:]) for point in points)
    marks = ticks(high)
    low_x, high_x = min(xs), max(xs)

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
        body.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(mark):.1f}" y2="{at_y(mark):.1f}" '
                    f'stroke="#e3e3e3"/><text x="{LEFT - 8}" y="{at_y(mark) + 4:.1f}" text-anchor="end" '
                    f'fill="#555">{short(mark)}</text>')
    for x in sorted(set(xs)):
        body.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" '
                    f'fill="#555">{short(x)}</text>')
    for nth, (name, line) in enumerate(series.items()):
        colour, dash = COLOURS[nth % len(COLOURS)], DASHES[nth % len(DASHES)]
        path = " ".join(f"{at_x(point[0]):.1f},{at_y(point[1]):.1f}" for point in line)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
                    f'stroke-dasharray="{dash}"/>')
        for point in line:
            body.append(f'<circle cx="{at_x(point[0]):.1f}" cy="{at_y(point[1]):.1f}" r="3" fill="{colour}"/>')
            if len(point) == 4:
                body.append(f'<line x1="{at_x(point[0]):.1f}" x2="{at_x(point[0]):.1f}" y1="{at_y(point[2]):.1f}" '
                            f'y2="{at_y(point[3]):.1f}" stroke="{colour}"/>')
        y = TOP + 8 + nth * 20
        body.append(f'<line x1="{WIDTH - RIGHT + 14}" x2="{WIDTH - RIGHT + 38}" y1="{y}" y2="{y}" '
                    f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
                    f'<text x="{WIDTH - RIGHT + 44}" y="{y + 4}" fill="#222">{escape(name)}</text>')
    body.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle" '
                f'fill="#333">{escape(x_label)}</text>')
    body.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
                f'fill="#333">{escape(y_label)}</text>')
    return _frame(title, "\n".join(body))


def bars(title, unit, rows):
    """Horizontal bars with spreads: `rows` is [(name, median, min, max)]."""
    if not rows:
        return None
    height = TOP + 30 * len(rows) + 40
    top = ticks(max(row[3] for row in rows))[-1]
    left, right = 120, 96
    scale = (WIDTH - left - right) / top
    body = []
    for mark in ticks(max(row[3] for row in rows)):
        x = left + mark * scale
        body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 34}" stroke="#e3e3e3"/>'
                    f'<text x="{x:.1f}" y="{height - 18}" text-anchor="middle" fill="#555">{short(mark)}</text>')
    for nth, (name, middle, low, high) in enumerate(rows):
        y = TOP + nth * 30
        colour = COLOURS[0] if name.startswith("plgw") else "#b9bec9"
        body.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end" fill="#222">{escape(name)}</text>'
                    f'<rect x="{left}" y="{y}" width="{middle * scale:.1f}" height="20" fill="{colour}"/>'
                    f'<line x1="{left + low * scale:.1f}" x2="{left + high * scale:.1f}" y1="{y + 10}" '
                    f'y2="{y + 10}" stroke="#333"/>'
                    f'<text x="{left + high * scale + 6:.1f}" y="{y + 15}" fill="#222">{short(middle)}</text>')
    body.append(f'<text x="{WIDTH - 12}" y="{height - 4}" text-anchor="end" fill="#333">{escape(unit)}</text>')
    return _frame(title, "\n".join(body), height)
