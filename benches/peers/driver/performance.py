"""The part of docs/performance.md that is measured: written from the newest result."""

import json

from . import charts, gate, report

BEGIN = "<!-- benches: written by benches/peers/run from the newest result -->"
END = "<!-- benches end -->"
PAGE = "docs/performance.md"
SHOWN = ["pp64-cpu", "grow-flows", "idle-memory"]


def newest(results):
    """The newest result of a directory: names are dates."""
    return max(results.glob("*.json"), key=lambda path: path.stem)


def block(root):
    """The text between the marks."""
    path = newest(root / "benches/results")
    result = json.loads(path.read_text())
    machine, listed = result["machine"], gate.goals(result)
    count = {word: sum(goal.verdict() == word for goal in listed) for word in ("met", "close", "missed", "not measured")}
    told = ", ".join(f"{number} {word}" for word, number in count.items() if number)
    titles = {name: title for name, title, text in charts.drawn(result) if text}
    more = report.rounds_of(result["samples"], result["settings"]["rounds"])
    lines = [BEGIN, f"{result['date']}, {machine['cores']} cores ({machine['cpu']}), Linux {machine['kernel']}, "
             f"{result['settings']['rounds']} interleaved rounds{', of some cases more' if more else ''}, "
             f"everything on. Of {len(listed)} goals: {told}.", "",
             "| figure | at least | aim | here | |", "|---|---|---|---|---|"]
    for goal in listed:
        if goal.first or goal.verdict() in ("close", "missed"):
            lines.append(gate.row(goal, brief=True))
    rest = "met, or not measured in this run" if count["not measured"] else "met"
    lines += ["", f"The rest are {rest}.", ""]
    for name in SHOWN:
        if name in titles:
            lines += [f"![{titles[name]}](../benches/results/{path.stem}-{name}.svg)", ""]
    lines += [f"[All figures, goals and charts](../benches/results/{path.stem}.md).", END]
    return "\n".join(lines)


def shown(root):
    """The page's present text."""
    text = (root / PAGE).read_text()
    return text[text.index(BEGIN):text.index(END) + len(END)]


def write(root):
    """Writes it to the page."""
    page = root / PAGE
    page.write_text(page.read_text().replace(shown(root), block(root)))
