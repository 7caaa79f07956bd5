"""The goals: medians of per-round ratios against their limits. A missed goal is a note, 10 % past it a failure."""

from dataclasses import dataclass
from statistics import median

from . import growth
from .figures import best_peer, ratio

SLACK = 1.10
# The goals in docs/performance.md.
FIRST = ("CPU per message", "CPU per GB bulk, vs HAProxy", "CPU per new connection", "rate 64 B", "connections per second, vs",
         "user-space KiB", "idle CPU", "p50 at", "p99", "flows lost", "DNS answers", "`plan` of")
# Stands for a count of zero: a goal that a ratio can be taken to.
NONE = 0.0001
# The largest accepted difference between quiet phases; beyond it the machine is too noisy, and the goal still holds.
NOISE_AT_MOST = 1.25
PEERS = ["ha1", "ha1-splice", "ha1-64k", "nginx1", "envoy1"]


@dataclass
class Goal:
    """A figure, what it has to be at least, and what is aimed at. `lower`: less is better; `first`: one of those that the
    page shows however they turn out."""

    name: str
    goal: float
    aim: float
    lower: bool
    value: float = None
    note: str = ""
    first: bool = False

    def verdict(self):
        """`met`, `close` (within 10 %), `missed`, or `not measured`."""
        if self.value is None:
            return "not measured"
        past = self.value / self.goal if self.lower else self.goal / self.value if self.value else 9
        return "met" if past <= 1 else "close" if past <= SLACK else "missed"


def goals(result):
    """Every goal with this result's figure."""
    samples = result["samples"]

    def against(mode, case, figure, base, ours="plgw1"):
        found = ratio(samples, mode, case, figure, ours, base)
        return found["median"] if found else None

    def against_best(mode, case, figure, lower=False):
        """The ratio to the peer with the best median."""
        peer = best_peer(samples, mode, case, figure, PEERS, lower)
        return (against(mode, case, figure, peer), f"best peer: {peer}") if peer else (None, "")

    def middle(values):
        values = list(values)
        return median(values) if values else None

    def mean(*values):
        return sum(values) / len(values) if all(value is not None for value in values) else None

    listed = []

    def goal(name, at_least, aim, lower, value, note=""):
        listed.append(Goal(name, at_least, aim, lower, value, note, name.startswith(FIRST)))

    goal("CPU per message, 64 B × 1, vs HAProxy", 0.93, 0.85, True, against("onecore", "pp1", "cpu", "ha1"))
    goal("CPU per message, 64 B × 64, vs HAProxy", 0.93, 0.88, True, against("onecore", "pp64", "cpu", "ha1"))
    goal("CPU per message, 64 B × 64, vs nginx", 0.98, 0.88, True, against("onecore", "pp64", "cpu", "nginx1"))
    goal("CPU per message, 256 B × 500, vs HAProxy", 0.92, 0.86, True, against("onecore", "pp500", "cpu", "ha1"))
    limit = result.get("turns_bare")
    value = limit["ratio"] if limit else against("onecore", "pp64", "cpu", "bare")
    goal("CPU per message, 64 B × 64, vs a raw epoll loop (the limit)", 1.10, 1.05, True, value,
         f"{limit['pairs']:.0f} pairs in turn" if limit else "by rounds")
    value, note = against_best("onecore", "pp64", "path")
    goal("rate 64 B × 64, vs the best peer", 1.03, 1.15, False, value, note)
    for base, at_least, aim in (("ha1", 0.20, 0.18), ("ha1-splice", 0.60, 0.50)):
        value = mean(against("onecore", "up8", "cpu", base), against("onecore", "down8", "cpu", base))
        goal(f"CPU per GB bulk, vs {'HAProxy' if base == 'ha1' else 'HAProxy, forced splice'}", at_least, aim, True,
             value, "mean of both directions")
    goal("CPU per new connection, vs HAProxy", 0.94, 0.85, True, against("onecore", "conn32", "cpu", "ha1"))
    value, note = against_best("onecore", "conn32", "path")
    goal("connections per second, vs the best peer", 1.0, 1.15, False, value, note)
    idle = [row for row in result.get("idle", []) if row["variant"] == "plgw1" and row["flows"] >= 1000]
    biggest = max((row["flows"] for row in idle), default=9700)
    idle = [row for row in idle if row["flows"] == biggest]
    goal("user-space KiB per idle flow", 1.6, 1.0, True, middle(row["kb_per_flow"] for row in idle))
    goal(f"idle CPU at {biggest:,} flows, ms/s", 0.5, 0.2, True, middle(row["idle_cpu_ms_per_s"] for row in idle))
    empty = result.get("empty_rss_kb", {}).get("plgw1")
    goal("empty process, 50 targets × 2 addresses, MiB RSS", 24, 12, True, empty and empty / 1024)
    for figure, at_least, aim in (("p50_us", 1.05, 1.0), ("p99_us", 1.1, 1.0)):
        value, note = against_best("pinned", "rate20k", figure, lower=True)
        goal(f"{figure[:3]} at 20,000 msg/s, two cores, vs the best peer", at_least, aim, True, value, note)
    turns = result.get("turns")
    value = turns["ratio"] if turns else against("onecore", "pp64", "cpu", "plain")
    goal("everything on vs one plain listener, CPU per message", 1.05, 1.02, True, value,
         f"{turns['pairs']:.0f} pairs in turn" if turns else "by rounds")
    dns = {row["server"]: row["per_core"] for row in result.get("dns", {}).get("servers", [])}
    for peer, at_least, aim in (("unbound", 0.5, 1.0), ("named", 0.5, 1.0)):
        goal(f"DNS answers per second and core, vs {peer}", at_least, aim, False,
             dns["plgw"] / dns[peer] if "plgw" in dns and peer in dns else None)
    for case, what, at_least, aim in (
            ("https64", "HTTP/1.1 requests", 1.0, 1.1), ("h2-64", "HTTP/2 requests", 0.7, 1.0),
            ("tls32", "TLS handshakes", 1.2, 1.3), ("wss64", "WebSocket echoes", 1.1, 1.2)):
        value, note = against_best("http", case, "core")
        goal(f"{what} per second of the proxy's core, vs the best peer", at_least, aim, False, value, note)
    held = result.get("http_idle", [])
    for kind in ("WebSockets", "requests"):
        own = middle(row["kb_per_flow"] for row in held if (row["kind"], row["variant"]) == (kind, "plgw1"))
        goal(f"user-space KiB per idle TLS connection ({kind})", 40, 30, True, own)
    exact = [count == 8 for name, count in result.get("exact", {}).items() if name.startswith("plgw")]
    goal("variants of the gateway that are byte-exact, share", 1.0, 1.0, False, sum(exact) / len(exact) if exact else None)
    reloads = [reload for reload in (result.get("reload"), result.get("reload_often")) if reload]
    told = sum(reload["told"] for reload in reloads)
    goal("flows lost by reloads under full load", NONE, NONE, True,
         float(sum(reload["lost"] for reload in reloads)) if told else None)
    goal("reloads under full load that took effect, share", 1.0, 1.0, False,
         sum(reload["applied"] for reload in reloads if reload["retargeted"]) / told if told else None)
    for reload in reloads or [{}]:
        noise, p99, every = reload.get("p99_noise"), reload.get("p99_us_ratio"), reload.get("every_seconds", 0.25)
        goal(f"p99 while reloading every {every:g} s, vs not reloading", max(1.0, min(noise or 1.0, NOISE_AT_MOST)), 1.0, True,
             p99 and p99["median"], "at least: as near as two quiet phases are to each other")
    for name, at_least, aim, lower, value, note in growing(result.get("grow", {})):
        goal(name, at_least, aim, lower, value, note)
    return listed


def growing(grow):
    """The goals about how cost grows: what `plan` takes, and that no curve is steeper than it has to be."""
    def known(figure, points):
        return figure(points) if points else None

    plans = grow.get("plan", {}).get("compile") or []
    targets, micros = plans[-1][:2] if plans else (100, None)
    yield f"`plan` of {targets} targets, ms", 1.0, 1.0, True, micros and micros / 1e3, ""
    yield ("`plan` over targets: the power of its growth", growth.LINEAR_EXPONENT, 1.0, True, known(growth.exponent, plans),
           known(growth.grows, plans) or "")
    for question in ("srv", "a", "nxdomain"):
        points = grow.get("dns", {}).get(question)
        yield (f"DNS answer ({question}) over targets: the power of its growth", growth.LINEAR_EXPONENT, growth.FLAT_EXPONENT, True,
               known(growth.exponent, points), known(growth.grows, points) or "")
    flows = grow.get("flows", {})
    ours, theirs = (known(growth.rise, flows.get(name)) for name in ("plgw1", "ha1"))
    most = flows["plgw1"][-1][0] if flows.get("plgw1") else 9000
    yield (f"CPU per message, least → {most:,} flows, in HAProxy's growth", 1.1, 1.0, True, ours and theirs and ours / theirs,
           f"{ours:.2f}× against {theirs:.2f}×" if ours and theirs else "")
    accepts = grow.get("listeners", {}).get("plgw1") or [(1,), (100,)]
    yield (f"connections per CPU second, {accepts[0][0]} → {accepts[-1][0]} listeners", 1 / growth.FLAT_FACTOR, 1.0, False,
           growth.ends(accepts) if len(accepts[0]) > 1 else None, "")
    held = grow.get("memory", {}).get("plgw1")
    yield (f"memory, 0 → {held[-1][0] if held else 9000:,} flows: beside a straight line, share", growth.LINEAR_RESIDUE, 0.05,
           True, known(growth.residue, held), "")


def row(goal, brief=False):
    """A goal as a row of a table; `brief`: without its note."""
    sign = "≤" if goal.lower else "≥"
    here = "—" if goal.value is None else f"{goal.value:.3g}"
    note = f"; {goal.note}" if goal.note and not brief else ""
    return f"| {goal.name} | {sign} {goal.goal:.3g} | {sign} {goal.aim:g} | {here} | {goal.verdict()}{note} |"


def table(listed):
    """As Markdown."""
    return "\n".join(["| figure | at least | aim | here | |", "|---|---|---|---|---|", *map(row, listed)])
