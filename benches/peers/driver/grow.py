"""How cost grows: over flows, listeners and targets; and what a reload costs the flows."""

import json
import subprocess
import threading
import time
from pathlib import Path
from statistics import median

from . import variants as make
from .dns import hang_up
from .measure import settle


def over_flows(bench, variants, steps, rounds, log):
    """Microseconds of the relay per echo, 64 B, on one core."""
    found = {variant.name: [] for variant in variants}
    for flows in steps:
        log(f"  {flows} flows")
        for variant in variants:
            values = []
            for _ in range(rounds):
                case = {"args": ["pp", "--connections", str(flows), "--request", "64"]}
                sample = bench.sample(case, "onecore", variant)
                if sample and sample["operations"]:
                    values.append(sample["cpu_seconds"] / sample["operations"] * 1e6)
            if values:
                found[variant.name].append((flows, median(values), min(values), max(values)))
        settle()
    return found


def over_listeners(bench, starter, steps, rounds, log):
    """Connections per second over all of a gateway's listeners, on one core. Half of them on each address."""
    found = []
    for listeners in steps:
        variant = starter.gateway(f"plgw1-{listeners}-listeners", targets=max(1, listeners // 2),
                                  addresses=min(2, listeners))
        values = []
        cores = bench.place("onecore", variant)
        for _ in range(rounds):
            sample = bench.play(["connect", "--connections", "32", "--request", "64"], variant, cores,
                                fronts=variant.fronts)
            if sample:
                values.append(sample["per_second"])
        variant.started.end()
        log(f"  {listeners} listeners")
        if values:
            found.append((listeners, median(values), min(values), max(values)))
    return {"plgw1": found}


def memory(bench, variants, steps, log):
    """MiB resident over idle flows."""
    found = {}
    for variant in variants:
        line = [(0, variant.started.resident() / 1024)]
        for flows in steps:
            row = bench.idle(variant, flows, rest=0.2)
            if row:
                line.append((flows, row["rss_after_kb"] / 1024))
            settle()
        found[variant.name] = line
        log(f"  {variant.name}")
    return found


def criterion(root, group, scale):
    """Points out of criterion's own results: `target/criterion/GROUP/FUNCTION/PARAMETER/new/estimates.json`."""
    found = {}
    for file in Path(root / "target/criterion" / group).glob("*/*/new/estimates.json"):
        function, parameter = file.parts[-4], file.parts[-3]
        if parameter.isdigit():
            middle = json.loads(file.read_text())["median"]
            bounds = middle["confidence_interval"]
            found.setdefault(function, []).append((int(parameter), middle["point_estimate"] * scale,
                                                   bounds["lower_bound"] * scale, bounds["upper_bound"] * scale))
    return {function: sorted(points) for function, points in sorted(found.items())}


def reload(bench, starter, seconds, log):
    """Ping-pong on 64 connections while the gateway retargets every listener again and again."""
    targets, addresses = 50, 4
    variant = starter.gateway("plgw1-reload", targets=targets, addresses=addresses)
    quiet = bench.sample("pp64", "pinned", variant, seconds)
    text = variant.config.read_text()
    other = text.replace("target_limit = 100", 'target_limit = 100\nidle_timeout = "351s"')
    stop, reloads = threading.Event(), []

    def keep_reloading():
        while not stop.is_set():
            variant.config.write_text(other if len(reloads) % 2 == 0 else text)
            hang_up(variant.started)
            reloads.append(time.monotonic())
            stop.wait(0.25)

    thread = threading.Thread(target=keep_reloading)
    thread.start()
    try:
        busy = bench.sample("pp64", "pinned", variant, seconds)
    finally:
        stop.set()
        thread.join()
    alive = variant.started.alive()
    variant.started.end()
    if not quiet:
        return None
    # The load generator gives up when any connection ends, so a sample is a proof that none did.
    lost = 0 if busy and alive else 64
    log(f"  {len(reloads)} reloads")
    return {"targets": targets, "addresses": addresses, "reloads": len(reloads), "lost": lost,
            "p99_us": busy["p99_us"] if busy else 0, "p99_quiet_us": quiet["p99_us"],
            "p99_ratio": busy["p99_us"] / quiet["p99_us"] if busy else 9.0,
            "rate_ratio": busy["per_second"] / quiet["per_second"] if busy else 0.0}


def run_criterion(root, log):
    """The benches whose growth is plotted."""
    for bench in ("plan", "dns"):
        done = subprocess.run(["cargo", "bench", "--bench", bench, "--", "--noplot"], cwd=root, capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            log(f"  cargo bench --bench {bench} failed: {done.stderr[-400:]}")
