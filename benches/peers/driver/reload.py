"""The cost of reloads for flows: phases with and without reloads alternate under full load."""

import json
import os
import re
import signal
import threading
import time
import urllib.request
from statistics import median

from .figures import spread
from .process import until

TARGETS, ADDRESSES = 50, 4
PAIRS, PHASE_SECONDS = 14, 2.0
# Between two reloads, by the part's name in the result: far more often than anybody reloads, and so often that what a reload
# does to a few messages shows in the p99 of all.
EVERY_SECONDS = {"reload": 1.0, "reload_often": 0.25}
LOAD = ["pp", "--connections", "64", "--request", "64"]
# Changed by every second reload: an attribute of the load balancer, so every listener gets another target group.
PLAIN, OTHER = 350, 351
# Threads that carry flows; all others work for the reload, or would run anyway.
FLOW_THREADS = "plgw-flows"


def measure(bench, starter, pairs, seconds, every, log, **which):
    """`pairs` of a quiet phase and one with a reload `every` so many seconds, in an order that alternates; medians of what
    lies within a pair."""
    variant = starter.gateway(f"plgw1-reload-{every:g}", targets=TARGETS, addresses=ADDRESSES, **which)
    fronts = variant.fronts[::3]
    config = variant.config.read_text()
    texts = [config, config.replace("target_limit = 100", f'target_limit = 100\nidle_timeout = "{OTHER}s"')]
    quiet, busy = [], []
    try:
        for nth in range(pairs):
            for reloading in (False, True) if nth % 2 == 0 else (True, False):
                phase = _phase(bench, variant, fronts, seconds, texts if reloading else None, every)
                (busy if reloading else quiet).append(phase)
    finally:
        alive = variant.started.alive()
        variant.started.end()
    if not alive or not all(quiet):
        log(f"  the gateway did not last: {variant.started.said()}")
        return None
    told = sum(phase["told"] for phase in busy if phase)
    applied = sum(phase["applied"] for phase in busy if phase)
    log(f"  {applied} of {told} reloads took effect")
    row = {"targets": TARGETS, "addresses": ADDRESSES, "connections": 64, "pairs": pairs, "seconds": seconds,
           "every_seconds": every, "told": told, "applied": applied,
           "retargeted": all(phase["retargeted"] for phase in busy if phase),
           # The load generator fails when any connection ends, so each sample proves that none did.
           "lost": sum(64 for phase in busy if not phase)}
    both = [(still, moved) for still, moved in zip(quiet, busy) if moved]
    if both:
        for figure in ("p50_us", "p99_us", "p999_us", "per_second"):
            row[figure] = spread(moved[figure] for _, moved in both)
            row[f"{figure}_quiet"] = spread(still[figure] for still, _ in both)
            row[f"{figure}_ratio"] = spread(moved[figure] / still[figure] for still, moved in both)
        row["p99_noise"] = noise([phase["p99_us"] for phase in quiet])
        row["cpu_ms"] = spread((moved["other_cpu"] - still["other_cpu"]) / moved["applied"] * 1e3
                               for still, moved in both if moved["applied"])
    return row


def noise(values):
    """The median ratio between two successive quiet phases."""
    return median(max(a, b) / min(a, b) for a, b in zip(values, values[1:])) if len(values) > 1 else None


def _phase(bench, variant, fronts, seconds, texts, every):
    """One sample; None when a flow was lost. With `texts`, the config is one or the other in turn meanwhile."""
    stop, told = threading.Event(), []

    def keep_reloading():
        # The first reload comes after the load has started.
        while not stop.wait(every / 2 if not told else every):
            variant.config.write_text(texts[(len(told) + 1) % 2])
            os.kill(variant.started.popen.pid, signal.SIGHUP)
            told.append(time.monotonic())

    applied, cores = reloads(variant), bench.place("pinned", variant)
    thread = threading.Thread(target=keep_reloading if texts else lambda: None)
    cpu = other_cpu(variant)
    thread.start()
    try:
        sample = bench.play(LOAD, variant, cores, seconds, fronts=fronts)
    finally:
        stop.set()
        thread.join()
    if not sample:
        return None
    cpu = other_cpu(variant) - cpu
    until(lambda: reloads(variant) - applied >= len(told), 2)
    wanted = OTHER if len(told) % 2 else PLAIN
    phase = {**sample, "told": len(told), "applied": reloads(variant) - applied, "other_cpu": cpu,
             "retargeted": idle_timeouts(variant) == {f"{wanted}s"}}
    if len(told) % 2:
        # So that each phase begins with the same config.
        variant.config.write_text(texts[0])
        os.kill(variant.started.popen.pid, signal.SIGHUP)
        until(lambda: idle_timeouts(variant) == {f"{PLAIN}s"}, 2)
    return phase


def other_cpu(variant):
    """Seconds of all threads but those of flows."""
    return sum(spent for name, spent in variant.started.cpu_by_thread().items() if not name.startswith(FLOW_THREADS))


def fetch(address, path):
    """A page of the gateway's."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as page:
        return page.read().decode()


def reloads(variant):
    """The number of applied reloads, by its own metric."""
    page = fetch(variant.metrics, "/metrics")
    return int(float(re.search(r'^plgw_reloads_total\{outcome="applied"\} (\S+)', page, re.M)[1]))


def idle_timeouts(variant):
    """The idle time-outs of its listeners; an empty set when listeners are missing."""
    listeners = json.loads(fetch(variant.admin, "/v1/snapshot"))["listeners"]
    found = {listener["idle_timeout"] for listener in listeners}
    return found if len(listeners) == TARGETS * ADDRESSES else set()
