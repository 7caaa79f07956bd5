"""Renders a result as tables and charts. Every figure is computed from the result."""

from . import gate, growth
from .charts import BARS, name_of, names
from .figures import foreign, per_round, ratio, spread
from .measure import CASES


def base(samples, mode):
    """HAProxy with defaults and the mode's number of threads."""
    return next((name for name in names(samples, mode) if name.startswith("ha") and "-" not in name), None)


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
    against = ratio(samples, mode, case, figure, name, base(samples, mode))
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
    """The CPU time of other processes."""
    share = foreign(samples, cores)
    if share is None:
        return []
    advice = " Rates and latencies of this run mean little; CPU times do." if share > 0.05 else ""
    return [f"Other processes had {share:.0%} of the machine while samples ran (median).{advice}", ""]


def picture(charts, *wanted):
    """The existing charts by name."""
    return [f"![{charts[name][0]}]({charts[name][1]})" for name in wanted if name in charts] + [""]


def added(result):
    """A sentence about added rounds, for cases with too wide a spread, and about parts that were measured again."""
    told = []
    for more in result.get("more", []):
        what = [f"{more['rounds']} more rounds of {', '.join(more['cases'])} were added"] if more["cases"] else []
        what += [f"{', '.join(more['again'])} measured again"] if more.get("again") else []
        told.append(f" {' and '.join(what)} on {more['date']} (commit {more['commit']}).")
    return "".join(told)


def rounds_of(samples, usual):
    """A sentence about cases with more rounds than usual."""
    rounds = {}
    for sample in samples:
        place = (sample["mode"], sample["case"])
        rounds.setdefault(place, set()).add(sample["round"])
    more = [f"{len(found)} of {case} ({mode})" for (mode, case), found in rounds.items() if len(found) > usual]
    return f" More rounds: {', '.join(more)}." if more else ""


def ran_on(result):
    """Machine, network and settings in a paragraph."""
    machine, settings = result["machine"], result["settings"]
    took = f" The whole run took {result['took_seconds'] / 60:.0f} minutes." if "took_seconds" in result else ""
    more = rounds_of(result["samples"], settings["rounds"])
    longer = "".join(f" Samples of {case} are {times} times as long, and their client and server are one thread that never "
                     f"sleeps; its latencies don't compare with those of results before 2026-11-28."
                     for case, times in settings.get("longer", {}).items())
    return (f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}; "
            f"loopback in a network namespace of its own, congestion control "
            f"{machine['network'].get('net.ipv4.tcp_congestion_control', 'unknown')}. "
            f"{settings['rounds']} interleaved rounds of {settings['seconds']} s samples.{more}{longer} "
            f"Commit {result['commit']}.{added(result)}{took}")


def growing(grow, charts):
    """Growth of cost: each chart with a sentence about it."""
    if not grow:
        return []
    parts = ["## How cost grows", "", f"Called flat: within {growth.FLAT_FACTOR - 1:.0%}, or a power below "
             f"{growth.FLAT_EXPONENT}; linear: a power up to {growth.LINEAR_EXPONENT}, or no point further than "
             f"{growth.LINEAR_RESIDUE:.0%} of the rise beside a straight line. `benches/README.md` has the reasons.", ""]
    for name, tell, unit, things in (
            ("flows", growth.told_rise, "µs", "flows"), ("listeners", growth.told, "connections per CPU second", "listeners"),
            ("memory", growth.told_line, "MiB", "flows"), ("plan", growth.told, "µs", "targets"),
            ("dns", growth.told, "ns", "targets")):
        series = {who: line for who, line in grow.get(name, {}).items() if len(line) > 1}
        if series:
            parts += picture(charts, f"grow-{name}")
            parts += [f"- {tell(line, f'`{who}`', unit, things)}" for who, line in series.items()] + [""]
    return parts


def in_turn(turns):
    """The cost of the features as text."""
    if not turns:
        return []
    return [f"## The gateway beside `{turns['second']}`", "", f"`{turns['first']}` and `{turns['second']}` in turn, {turns['pairs']:.0f} pairs of "
            f"turns of {turns['seconds']:g} s on one core, 64 B × 64, the connections of both held open: CPU per echo "
            f"{turns['first_us']:.2f} and {turns['second_us']:.2f} µs (medians); the ratio within a pair is "
            f"{turns['ratio']:.3f} (median), its quartiles {turns['ratio_lower_quartile']:.3f} and "
            f"{turns['ratio_upper_quartile']:.3f}.", ""]


def reloading(reload):
    """The cost of reloads as text."""
    if not reload or "p99_us_ratio" not in reload:
        return []
    every = reload.get("every_seconds", 0.25)
    def between(figure, form):
        return f"{form(figure['median'])} ({form(figure['min'])} – {form(figure['max'])})"
    def micros(value):
        return f"{value:.0f} µs"
    def times(value):
        return f"{value:.2f}×"
    return [f"## Reload under full load, every {every:g} s", "",
            f"{reload['targets']} targets × {reload['addresses']} addresses, {reload['connections']} flows over all of them "
            f"that play ping-pong, the relay on a core of its own; {reload['pairs']} pairs of phases of "
            f"{reload['seconds']:g} s, one with a reload every {every:g} s that retargets every listener and one without, in an "
            f"order that alternates. {reload['applied']} of {reload['told']} reloads took effect, by the gateway's own count and "
            f"by what its listeners had afterwards; {reload['lost']} flows were lost.", "",
            "| | quiet | reloading | ratio within a pair |", "|---|---|---|---|",
            *(f"| {what} | {between(reload[f'{figure}_quiet'], form)} | {between(reload[figure], form)} | "
              f"{between(reload[f'{figure}_ratio'], times)} |"
              for what, figure, form in (("p50", "p50_us", micros), ("p99", "p99_us", micros), ("p99.9", "p999_us", micros),
                                         ("rate", "per_second", lambda value: f"{value / 1e3:.1f}k/s")) if f"{figure}_ratio" in reload), "",
            f"Two quiet phases that follow each other differ by {reload['p99_noise']:.2f}× in p99 (median)." if
            reload["p99_noise"] else "",
            f"A reload takes {between(reload['cpu_ms'], lambda value: f'{value:.1f} ms')} of CPU outside of the flow "
            f"threads.", ""]


def markdown(result, charts):
    """The whole report."""
    samples, machine = result["samples"], result["machine"]
    parts = [f"# Side by side, {result['date']}", "", ran_on(result), "",
             *noise(samples, machine["cores"]),
             "; ".join(f"{name}: {text}" for name, text in result["versions"].items() if text), "",
             "A cell is the median, in brackets the median of the per-round ratios to HAProxy, below it the least and "
             "the most. `plgw` has everything on: 50 targets × 2 addresses, metrics, DNS, health checks, admission, "
             "flow table, idle rules; `plain` is the same program with one listener and without DNS, metrics and the admin API; "
             "`bare` is a raw epoll loop that only relays. The best peer is the one whose median over all rounds is "
             "best; the ratio to it is taken round by round, as all are.", "", "## Goals", "",
             gate.table(gate.goals(result)), ""]
    titles = {"onecore": "One core for client, server and relay", "pinned": "Relay on a core of its own",
              "unpinned": "All cores, threads as many"}
    for mode, title in titles.items():
        if not any(sample["mode"] == mode for sample in samples):
            continue
        parts += [f"## {title} (`{mode}`)", "", "Rate:", "", matrix(samples, mode, "per_second", rate), ""]
        if mode == "onecore":
            parts += ["Rate per CPU second of the whole path, relay and ends: the rate if nothing else uses "
                      "the core.", "", matrix(samples, mode, "path", rate), ""]
        parts += ["CPU time of the relay, per echo, GB or connection:", "", matrix(samples, mode, "cpu", cost), ""]
        for case in ("rate20k",):
            if any(s["mode"] == mode and s["case"] == case for s in samples):
                parts += [f"Latency at {CASES[case]['title']}:", "", latency(samples, mode, case), ""]
        parts += picture(charts, *(name_of(mode, *chart[1:3]) for chart in BARS if chart[0] == mode))
    parts += in_turn(result.get("turns")) + in_turn(result.get("turns_bare"))
    if any(sample["mode"] == "http" for sample in samples):
        parts += ["## HTTP behind TLS", "", "The App Services front, HAProxy and nginx as HTTP proxies, one thread each; client, "
                  "proxy and backend on one core. TLS 1.3, ECDSA P-256, no resumption. Operations per CPU second of the "
                  "proxy, which is what a core of its own would do:", "", matrix(samples, "http", "core", rate), "",
                  "Operations per CPU second of the whole path:", "", matrix(samples, "http", "path", rate), "",
                  "CPU time of the proxy, per request, handshake or echo:", "", matrix(samples, "http", "cpu", cost), "",
                  *picture(charts, *(name_of("http", *chart[1:3]) for chart in BARS if chart[0] == "http"))]
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
    for name in ("reload", "reload_often"):
        parts += reloading(result.get(name))
    parts += growing(result.get("grow"), charts)
    return "\n".join(parts).rstrip() + "\n"
