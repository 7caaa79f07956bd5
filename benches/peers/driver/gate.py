"""The targets: medians of per-round ratios against what was promised. Past the goal is a note, 10 % past it a failure."""

from dataclasses import dataclass
from statistics import median

from .figures import ratio

SLACK = 1.10
PEERS = ["ha1", "ha1-splice", "ha1-64k", "nginx1", "envoy1"]


@dataclass
class Goal:
    """A figure, what it has to be at least, and what is aimed at. `lower`: less is better."""

    name: str
    goal: float
    aim: float
    lower: bool
    value: float = None
    note: str = ""

    def verdict(self):
        """`met`, `close` (within 10 %), `missed`, or `not measured`."""
        if self.value is None:
            return "not measured"
        past = self.value / self.goal if self.lower else self.goal / self.value if self.value else 9
        return "met" if past <= 1 else "close" if past <= SLACK else "missed"


def goals(result):
    """Every goal with the figure that this result has for it."""
    samples = result["samples"]

    def against(mode, case, figure, base, ours="plgw1"):
        found = ratio(samples, mode, case, figure, ours, base)
        return found["median"] if found else None

    def against_best(mode, case, figure, lower=False):
        """The ratio to whichever peer makes it look worst."""
        found = {peer: against(mode, case, figure, peer) for peer in PEERS}
        found = {peer: value for peer, value in found.items() if value is not None}
        if not found:
            return None, ""
        peer = (max if lower else min)(found, key=found.get)
        return found[peer], f"best peer: {peer}"

    def mean(*values):
        return sum(values) / len(values) if all(value is not None for value in values) else None

    listed = []

    def goal(name, at_least, aim, lower, value, note=""):
        listed.append(Goal(name, at_least, aim, lower, value, note))

    goal("CPU per message, 64 B × 64, vs HAProxy", 0.88, 0.80, True, against("onecore", "pp64", "cpu", "ha1"))
    goal("CPU per message, 256 B × 500, vs HAProxy", 0.88, 0.80, True, against("onecore", "pp500", "cpu", "ha1"))
    value, note = against_best("onecore", "pp64", "path")
    goal("rate 64 B × 64, vs the best peer", 1.05, 1.15, False, value, note)
    for base, at_least, aim in (("ha1", 0.25, 0.18), ("ha1-splice", 1.05, 0.95)):
        value = mean(against("onecore", "up8", "cpu", base), against("onecore", "down8", "cpu", base))
        goal(f"CPU per GB bulk, vs {'HAProxy' if base == 'ha1' else 'HAProxy, forced splice'}", at_least, aim, True,
             value, "mean of both directions")
    goal("CPU per new connection, vs HAProxy", 0.95, 0.80, True, against("onecore", "conn32", "cpu", "ha1"))
    value, note = against_best("onecore", "conn32", "path")
    goal("connections per second, vs the best peer", 1.0, 1.15, False, value, note)
    idle = [row for row in result.get("idle", []) if row["variant"] == "plgw1" and row["flows"] >= 1000]
    biggest = max((row["flows"] for row in idle), default=0)
    idle = [row for row in idle if row["flows"] == biggest]
    if idle:
        goal("user-space KiB per idle flow", 2.0, 1.0, True, median(row["kb_per_flow"] for row in idle))
        goal(f"idle CPU at {biggest:,} flows, ms/s", 0.5, 0.2, True, median(row["idle_cpu_ms_per_s"] for row in idle))
    if result.get("empty_rss_kb", {}).get("plgw1"):
        goal("empty process, 50 targets × 2 addresses, MiB RSS", 12, 8, True, result["empty_rss_kb"]["plgw1"] / 1024)
    for figure, at_least, aim in (("p50_us", 1.05, 1.0), ("p99_us", 1.3, 1.0)):
        value, note = against_best("pinned", "rate20k", figure, lower=True)
        goal(f"{figure[:3]} at 20,000 msg/s, two cores, vs the best peer", at_least, aim, True, value, note)
    value = against("onecore", "pp64", "cpu", "bare")
    goal("features on vs off (the bare relay), CPU per message", 1.05, 1.02, True, value)
    dns = {row["server"]: row for row in result.get("dns", {}).get("servers", [])}
    if "plgw" in dns:
        for peer, at_least, aim in (("unbound", 0.5, 1.0), ("named", 0.5, 1.0)):
            if peer in dns:
                goal(f"DNS answers per second and core, vs {peer}", at_least, aim, False,
                     dns["plgw"]["per_core"] / dns[peer]["per_core"])
    for case, what, at_least, aim in (
            ("https64", "HTTP/1.1 requests", 0.9, 1.0), ("h2-64", "HTTP/2 requests", 0.9, 1.0),
            ("tls32", "TLS handshakes", 0.9, 1.0), ("wss64", "WebSocket echoes", 1.0, 1.15)):
        if any(sample["case"] == case for sample in samples):
            value, note = against_best("http", case, "core")
            goal(f"{what} per second of the proxy's core, vs the best peer", at_least, aim, False, value, note)
    held = result.get("http_idle", [])
    for kind in sorted({row["kind"] for row in held}):
        of = {name: median(row["kb_per_flow"] for row in held if (row["kind"], row["variant"]) == (kind, name))
              for name in {row["variant"] for row in held if row["kind"] == kind}}
        peers = {name: value for name, value in of.items() if name in PEERS}
        if "plgw1" in of and peers:
            least = min(peers, key=peers.get)
            goal(f"memory per idle TLS connection ({kind}), vs the leanest peer", 1.0, 0.8, True,
                 of["plgw1"] / peers[least], f"leanest peer: {least}")
    exact = result.get("exact", {})
    if exact:
        goal("variants of the gateway that are byte-exact, share", 1.0, 1.0, False,
             sum(count == 8 for name, count in exact.items() if name.startswith("plgw")) /
             max(1, sum(name.startswith("plgw") for name in exact)))
    reload = result.get("reload")
    if reload:
        goal("flows lost by reloads under full load", 0.0001, 0.0001, True, float(reload["lost"]))
        goal("p99 while reloading, vs not reloading", 1.25, 1.0, True, reload["p99_ratio"])
    return listed


def table(listed):
    """As Markdown."""
    lines = ["| figure | at least | aim | here | |", "|---|---|---|---|---|"]
    for goal in listed:
        sign = "≤" if goal.lower else "≥"
        here = "—" if goal.value is None else f"{goal.value:.3g}"
        lines.append(f"| {goal.name} | {sign} {goal.goal:g} | {sign} {goal.aim:g} | {here} | {goal.verdict()}"
                     f"{'; ' + goal.note if goal.note else ''} |")
    return "\n".join(lines)
