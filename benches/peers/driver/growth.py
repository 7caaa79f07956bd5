"""Classifies a curve by its points: flat, falling, linear, or steeper; as figures and as text."""

import math

# Below this exponent of growth, or within this factor, a cost is called flat.
FLAT_EXPONENT, FLAT_FACTOR = 0.1, 1.1
LINEAR_EXPONENT = 1.1
# The largest distance of a point from a straight line, as a share of the line's whole rise.
LINEAR_RESIDUE = 0.1


def ends(points):
    """Last over first."""
    return points[-1][1] / points[0][1] if len(points) > 1 and points[0][1] else None


def rise(points):
    """Last over minimum: the growth beyond the point where batching makes each item cheapest."""
    least = min(point[1] for point in points)
    return points[-1][1] / least if len(points) > 1 and least else None


def exponent(points):
    """The k of y ~ x^k, by least squares over logarithms: 0 is flat, 1 is linear."""
    logs = [(math.log(point[0]), math.log(point[1])) for point in points if point[0] > 0 and point[1] > 0]
    fit = line(logs)
    return fit and fit[1]


def line(points):
    """Intercept and slope of the best straight line."""
    n = len(points)
    mean_x, mean_y = (sum(point[at] for point in points) / n for at in (0, 1)) if n else (0, 0)
    spread = sum((point[0] - mean_x) ** 2 for point in points)
    if n < 2 or not spread:
        return None
    slope = sum((point[0] - mean_x) * (point[1] - mean_y) for point in points) / spread
    return mean_y - slope * mean_x, slope


def residue(points):
    """The largest distance of a point from the straight line, as a share of the line's rise."""
    fit = line(points)
    if not fit or not fit[1]:
        return None
    foot, slope = fit
    whole = abs(slope) * (points[-1][0] - points[0][0])
    return max(abs(point[1] - foot - slope * point[0]) for point in points) / whole


def grows(points):
    """One word for the change of a cost per item, or a rate, with the number of items."""
    k, factor = exponent(points), ends(points)
    if k is None or factor is None:
        return "unknown"
    least, most = min(point[1] for point in points), max(point[1] for point in points)
    if most / least <= FLAT_FACTOR or abs(k) <= FLAT_EXPONENT and 1 / FLAT_FACTOR <= factor <= FLAT_FACTOR:
        return "flat"
    if k < 0:
        return "falling"
    return "slower than linear" if k < 1 / LINEAR_EXPONENT else "linear" if k <= LINEAR_EXPONENT else "steeper than linear"


def number(value):
    """Formats a number: 3 significant digits, thousands with a comma."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def told(points, what, unit, things):
    """One sentence about a curve of costs: its ends and its word."""
    first, last = points[0], points[-1]
    return (f"{what}: {number(first[1])} {unit} at {number(first[0])} {things}, {number(last[1])} at "
            f"{number(last[0])} ({ends(points):.2f}×, as {things} to the power of {exponent(points):.2f}): {grows(points)}.")


def told_rise(points, what, unit, things):
    """One sentence about a cost per item that falls first, as batches grow, and may rise later."""
    first, last = points[0], points[-1]
    least = min(points, key=lambda point: point[1])
    up = rise(points)
    word = "flat from there" if up <= FLAT_FACTOR else f"from there {grows([p for p in points if p[0] >= least[0]])}"
    return (f"{what}: {number(first[1])} {unit} at {number(first[0])}, least {number(least[1])} at {number(least[0])}, "
            f"{number(last[1])} at {number(last[0])} {things} ({up:.2f}× the least): {word}.")


def told_line(points, what, unit, things):
    """One sentence about memory: its slope, and whether it is a straight line."""
    fit, beside = line(points), residue(points)
    word = "linear" if beside is not None and beside <= LINEAR_RESIDUE else "not linear"
    return (f"{what}: {number(points[0][1])} {unit} at {number(points[0][0])}, {number(points[-1][1])} at "
            f"{number(points[-1][0])} {things}, {number(fit[1] * 1024)} KiB each; no point lies further than {beside:.1%} of the rise beside "
            f"the straight line: {word}.")
