"""From a result to what people read: a table and charts. Every figure comes out of the result; none is typed."""

from . import gate, svg
from .figures import foreign, per_round, ratio, spread, value_of
from .measure import CASES

BASE = {"onecore": "ha1", "pinned": "ha1", "unpinned": "ha2", "http": "ha1"}


def names(samples, mode):
    """Variants of a mode, in the order in which they were started."""
    seen = []
    for sample in samples:
        if sample["mode"] == mode and sample["variant"] not in seen:
            seen.append(sample["variant"])
    order = ["direct", "bare", "plgw", "ha", "nginx", "envoy"]
    return sorted(seen, key=lambda name: (next(i for i, o in enumerate(order) if name.startswith(o)), name))


def rate(case, value):
    """With its unit."""
    return f"{value:.2f} GB/s" if CASES[case]["per"] == "gigabytes" else f"{value / 1e3:.1f}k/s"


def cost(case, value):
    """With its unit."""
    return f"{value:.3f} s/GB" if CASES[case]["per"] == "gigabytes" else f"{value * 1e6:.2f} µs"


def cell(samples, mode, case, name, figure, write):
    """Median, ratio to HAProxy, spread."""
    found = spread(per_round(samples, mode, case, name, figure).values())
    if not found or (figure == "cpu" and found["median"] == 0):
        return "—"
    text = write(found["median"])
    against = ratio(samples, mode, case, figure, name, BASE[mode])
    if against:
        text += f" ({against['median']:.2f}×)"
    return f"{text}<br><sub>{write(found['min'])} – {write(found['max'])}</sub>"


def matrix(samples, mode, figure, writers):
    """One table: variants by cases."""
    cases = [case for case in CASES if any(s["mode"] == mode and s["case"] == case for s in samples)]
    lines = ["| | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for name in names(samples, mode):
        cells = [cell(samples, mode, case, name, figure, lambda value, case=case: writers(case, value))
                 for case in cases]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def latency(samples, mode, case):
    """Quantiles of one case."""
    lines = ["| | p50 µs | p99 µs | p99.9 µs |", "|---|---|---|---|"]
    for name in names(samples, mode):
        cells = [spread(per_round(samples, mode, case, name, figure).values()) for figure in
                 ("p50_us", "p99_us", "p999_us")]
        if all(cells):
            lines.append(f"| {name} | " + " | ".join(
                f"{c['median']:.0f}<br><sub>{c['min']:.0f} – {c['max']:.0f}</sub>" for c in cells) + " |")
    return "\n".join(lines)


def noise(samples, cores):
    """What other processes took meanwhile."""
    share = foreign(samples, cores)
    if share is None:
        return []
    advice = " Rates and latencies of this run mean little; CPU times do." if share > 0.05 else ""
    return [f"Other processes had {share:.0%} of the machine while samples ran (median).{advice}", ""]


def markdown(result, charts):
    """The whole report."""
    samples, machine = result["samples"], result["machine"]
    parts = [f"# Side by side, {result['date']}", "",
             f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}; "
             f"loopback in a network namespace of its own, congestion control "
             f"{machine['network'].get('net.ipv4.tcp_congestion_control', 'unknown')}. "
             f"{result['settings']['rounds']} interleaved rounds of {result['settings']['seconds']} s samples. "
             f"Commit {result['commit']}.", "",
             *noise(samples, machine["cores"]),
             "; ".join(f"{name}: {text}" for name, text in result["versions"].items() if text), "",
             "A cell is the median, in brackets the median of the per-round ratios to HAProxy, below it the least and "
             "the most. `plgw` has everything on: 50 targets × 2 addresses, metrics, DNS, health checks, admission, "
             "flow table, idle rules; `bare` is its relay alone.", "", "## Goals", "", gate.table(gate.goals(result)), ""]
    titles = {"onecore": "One core for client, server and relay", "pinned": "Relay on a core of its own",
              "unpinned": "All cores, threads as many"}
    for mode, title in titles.items():
        if not any(sample["mode"] == mode for sample in samples):
            continue
        parts += [f"## {title} (`{mode}`)", "", "Rate:", "", matrix(samples, mode, "per_second", rate), ""]
        if mode == "onecore":
            parts += ["Rate per CPU second of the whole path, relay and ends: what the rate is where nobody else uses "
                      "the core.", "", matrix(samples, mode, "path", rate), ""]
        parts += [
                  "CPU time of the relay, per echo, GB or connection:", "", matrix(samples, mode, "cpu", cost), ""]
        for case in ("rate20k",):
            if any(s["mode"] == mode and s["case"] == case for s in samples):
                parts += [f"Latency at {CASES[case]['title']}:", "", latency(samples, mode, case), ""]
    if any(sample["mode"] == "http" for sample in samples):
        parts += ["## HTTP behind TLS", "", "The App Services front, HAProxy and nginx as HTTP proxies, one thread each; client, "
                  "proxy and backend on one core. TLS 1.3, ECDSA P-256, no resumption. Operations per CPU second of the "
                  "proxy, which is what a core of its own would do:", "", matrix(samples, "http", "core", rate), "",
                  "Operations per CPU second of the whole path:", "", matrix(samples, "http", "path", rate), "",
                  "CPU time of the proxy, per request, handshake or echo:", "", matrix(samples, "http", "cpu", cost), ""]
        parts += [f"- `{case}`: {told['title']}" for case, told in CASES.items()
                  if any(s["mode"] == "http" and s["case"] == case for s in samples)] + [""]
    if result.get("http_idle"):
        parts += ["Idle connections that carried one request or message:", "", "| | of | connections | KiB per connection | "
                  "kernel slab KiB per connection | idle CPU ms/s |", "|---|---|---|---|---|---|"]
        for row in result["http_idle"]:
            parts.append(f"| {row['variant']} | {row['kind']} | {row['flows']:,} | {row['kb_per_flow']:.2f} | "
                         f"{row['slab_kb_per_flow']:.1f} | {row['idle_cpu_ms_per_s']:.2f} |")
        parts.append("")
    if result.get("exact"):
        parts += ["## Byte exactness", "", "8 flows both ways at once, bulk and small pieces, slow readers, half of the "
                  "answer after the half-close. Flows that were exact:", "",
                  ", ".join(f"{name} {count:.0f}/8" for name, count in result["exact"].items()), ""]
    if result.get("idle"):
        parts += ["## Idle flows", "", "| | flows | RSS empty | RSS held | KiB per flow | kernel slab KiB per flow | "
                  "idle CPU ms/s |", "|---|---|---|---|---|---|---|"]
        for row in result["idle"]:
            parts.append(f"| {row['variant']}{' (16 KiB message)' if row['request'] > 64 else ''} | {row['flows']:,} | "
                         f"{row['rss_before_kb'] / 1024:.1f} MiB | "
                         f"{row['rss_after_kb'] / 1024:.1f} MiB | {row['kb_per_flow']:.2f} | "
                         f"{row['slab_kb_per_flow']:.1f} | {row['idle_cpu_ms_per_s']:.2f} |")
        parts.append("")
    if result.get("dns", {}).get("servers"):
        parts += ["## DNS", "", f"SRV over UDP, {result['dns']['question']}, one thread each; dnsperf on the other core.",
                  "", "| | answers/s | answers per CPU second | answer bytes | lost |", "|---|---|---|---|---|"]
        for row in result["dns"]["servers"]:
            parts.append(f"| {row['server']} | {row['per_second']:,.0f} | {row['per_core']:,.0f} | {row['bytes']} | "
                         f"{row['lost']} |")
        parts.append("")
    if result.get("reload"):
        reload = result["reload"]
        parts += ["## Reload under full load", "", f"{reload['reloads']} reloads of {reload['targets']} targets × "
                  f"{reload['addresses']} addresses while 64 connections play ping-pong: {reload['lost']} flows lost; "
                  f"p99 {reload['p99_us']:.0f} µs against {reload['p99_quiet_us']:.0f} µs without reloads.", ""]
    if charts:
        parts += ["## Charts", ""] + [f"![{title}]({file})" for title, file in charts]
    return "\n".join(parts) + "\n"


def charts(result, directory, stem):
    """Writes the charts; answers with their titles and names."""
    made = []

    def keep(title, name, text):
        if text:
            (directory / f"{stem}-{name}.svg").write_text(text)
            made.append((title, f"{stem}-{name}.svg"))

    samples = result["samples"]
    for case, figure, scale, unit, title in (
            ("pp64", "path", 1, "echoes per CPU second of the path; more is better", "Rate, 64 B × 64 connections, one core"),
            ("pp64", "cpu", 1e6, "µs of the relay per echo; less is better", "CPU per echo, 64 B × 64, one core"),
            ("up8", "cpu", 1, "s of the relay per GB; less is better", "CPU per GB of bulk, one core"),
            ("conn32", "cpu", 1e6, "µs of the relay per connection; less is better", "CPU per connection, one core"),
            ("conn32", "path", 1, "per CPU second of the path; more is better", "Connections per second, one core")):
        rows = []
        for name in names(samples, "onecore"):
            found = spread(per_round(samples, "onecore", case, name, figure).values())
            if found and found["max"] > 0:
                rows.append((name, found["median"] * scale, found["min"] * scale, found["max"] * scale))
        keep(title, f"{case}-{figure.replace('_', '-')}", svg.bars(title, unit, rows))
    for case, title in (("https64", "HTTP/1.1 requests behind TLS"), ("h2-64", "HTTP/2 requests behind TLS"),
                        ("tls32", "Full TLS 1.3 handshakes"), ("wss64", "WebSocket echoes behind TLS")):
        rows = []
        for name in names(samples, "http"):
            found = spread(per_round(samples, "http", case, name, "core").values())
            if found:
                rows.append((name, found["median"], found["min"], found["max"]))
        keep(title, case, svg.bars(title, "per CPU second of the proxy; more is better", rows))
    for kind in sorted({row["kind"] for row in result.get("http_idle", [])}):
        merged = {}
        for row in result["http_idle"]:
            if row["kind"] == kind:
                merged.setdefault(row["variant"], []).append(row["kb_per_flow"])
        keep(f"Memory per idle TLS connection ({kind})", f"http-idle-{kind.lower()}",
             svg.bars(f"Memory per idle TLS connection ({kind})", "KiB; less is better",
                      [(name, spread(v)["median"], min(v), max(v)) for name, v in merged.items()]))
    rows = [(row["variant"], row["kb_per_flow"]) for row in result.get("idle", []) if row["request"] == 64]
    merged = {}
    for name, value in rows:
        merged.setdefault(name, []).append(value)
    keep("Memory per idle flow", "idle-memory",
         svg.bars("User-space memory per idle flow", "KiB; less is better",
                  [(name, spread(v)["median"], min(v), max(v)) for name, v in merged.items() if max(v) > 0]))
    grow = result.get("grow", {})
    for name, title, x_label, y_label, log in (
            ("flows", "CPU per echo over flows, one core", "flows", "µs of the relay per echo", True),
            ("listeners", "Connections per second over listeners, one core", "listeners", "connections per second",
             False),
            ("memory", "Memory over idle flows", "flows", "MiB RSS", False),
            ("plan", "Compile a plan", "targets", "µs", False),
            ("dns", "Answer a question", "targets", "ns", False)):
        if grow.get(name):
            keep(title, f"grow-{name}", svg.lines(title, x_label, y_label, grow[name], log))
    return made


__all__ = ["charts", "markdown", "value_of"]
