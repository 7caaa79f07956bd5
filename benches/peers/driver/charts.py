"""The charts of a result, by name."""

from . import svg
from .figures import per_round, spread

BARS = [
    ("onecore", "pp64", "cpu", 1e6, "µs of the relay per echo; less is better", "CPU per message, 64 B × 64 connections, one core"),
    ("onecore", "pp500", "cpu", 1e6, "µs of the relay per echo; less is better",
     "CPU per message, 256 B × 500 connections, one core"),
    ("onecore", "pp64", "path", 1, "echoes per CPU second of the path; more is better", "Rate, 64 B × 64 connections, one core"),
    ("onecore", "up8", "cpu", 1, "s of the relay per GB; less is better", "CPU per GB of bulk, one core"),
    ("onecore", "conn32", "cpu", 1e6, "µs of the relay per connection; less is better", "CPU per connection, one core"),
    ("onecore", "conn32", "path", 1, "per CPU second of the path; more is better", "Connections per second, one core"),
    ("pinned", "rate20k", "p50_us", 1, "µs; less is better", "p50 at 20,000 messages a second, two cores"),
    ("pinned", "rate20k", "p99_us", 1, "µs; less is better", "p99 at 20,000 messages a second, two cores"),
    ("unpinned", "pp64", "per_second", 1, "echoes per second; more is better",
     "Rate, 64 B × 64 connections, all cores, as many threads"),
    ("unpinned", "conn32", "per_second", 1, "per second; more is better", "Connections per second, all cores, as many threads"),
] + [("http", case, "core", 1, "per CPU second of the proxy; more is better", title) for case, title in (
    ("https64", "HTTP/1.1 requests behind TLS"), ("h2-64", "HTTP/2 requests behind TLS"),
    ("tls32", "Full TLS 1.3 handshakes"), ("wss64", "WebSocket echoes behind TLS"))]
GROWTH = [
    ("flows", "CPU per message over flows, 64 B, one core", "flows", "µs of the relay per echo", True),
    ("listeners", "Connections over listeners, one core", "listeners", "per CPU second of the path", False),
    ("memory", "Memory over idle flows", "flows", "MiB resident", False),
    ("plan", "Planning over targets", "targets", "µs", False),
    ("dns", "Answering a question over targets", "targets", "ns", False),
]


def names(samples, mode):
    """Variants of a mode, in the order in which they are shown."""
    seen = dict.fromkeys(sample["variant"] for sample in samples if sample["mode"] == mode)
    order = ["direct", "bare", "plain", "plgw", "ha", "nginx", "envoy"]
    return sorted(seen, key=lambda name: (next(i for i, o in enumerate(order) if name.startswith(o)), name))


def name_of(mode, case, figure):
    """A chart's name, without the default mode."""
    said = {"onecore": "", "http": ""}.get(mode, f"{mode}-")
    figure = {"per_second": "", "core": "", "p50_us": "-p50", "p99_us": "-p99"}.get(figure, f"-{figure}")
    return f"{said}{case}{figure}"


def merged(rows, figure):
    """Rows of a bar chart from repeated measurements."""
    of = {}
    for row in rows:
        of.setdefault(row["variant"], []).append(row[figure])
    order = ["bare", "plain", "plgw", "ha", "nginx", "envoy"]
    listed = sorted(of, key=lambda name: next(i for i, o in enumerate(order) if name.startswith(o)))
    return [(name, spread(of[name])["median"], min(of[name]), max(of[name])) for name in listed if max(of[name]) > 0]


def drawn(result):
    """Every chart that this result has figures for: (name, title, SVG)."""
    samples = result["samples"]
    for mode, case, figure, scale, unit, title in BARS:
        rows = []
        for name in names(samples, mode):
            found = spread(per_round(samples, mode, case, name, figure).values())
            if found and found["max"] > 0:
                rows.append((name, found["median"] * scale, found["min"] * scale, found["max"] * scale))
        yield name_of(mode, case, figure), title, svg.bars(title, unit, rows)
    for kind in sorted({row["kind"] for row in result.get("http_idle", [])}):
        title = f"Memory per idle TLS connection ({kind})"
        rows = merged([row for row in result["http_idle"] if row["kind"] == kind], "kb_per_flow")
        yield f"http-idle-{kind.lower()}", title, svg.bars(title, "KiB; less is better", rows)
    title = "User-space memory per idle flow"
    rows = merged([row for row in result.get("idle", []) if row["request"] == 64], "kb_per_flow")
    yield "idle-memory", title, svg.bars(title, "KiB; less is better", rows)
    for name, title, x_label, y_label, log in GROWTH:
        series = {who: line for who, line in result.get("grow", {}).get(name, {}).items() if line}
        if series:
            yield f"grow-{name}", title, svg.lines(title, x_label, y_label, series, log)


def write(result, directory, stem):
    """Writes them; answers with title and file by name."""
    made = {}
    for name, title, text in drawn(result):
        if text:
            (directory / f"{stem}-{name}.svg").write_text(text)
            made[name] = (title, f"{stem}-{name}.svg")
    for file in directory.glob(f"{stem}-*.svg"):
        if file.name not in {file for _, file in made.values()}:
            # Left from an earlier rendering with other charts.
            file.unlink()
    return made
