"""Growth of cost over flows, listeners and targets."""

import json
import subprocess
from pathlib import Path
from statistics import median

from . import install
from .install import CRITERION
from .measure import settle, shuffled


FLOWS = [1, 8, 64, 500, 2500, 9000]
# Samples with so many flows are three times as long, so that each flow is served several times.
MANY = 2000
LISTENERS = [1, 2, 10, 25, 50, 75, 100]
# The differences are small compared with those between rounds.
LISTENER_ROUNDS = 11
HELD = [1000, 2500, 5000, 9000]


def over_flows(bench, variants, steps, rounds, log):
    """Microseconds of the relay per echo, 64 B, on one core."""
    found = {variant.name: {} for variant in variants}
    for nth in range(rounds):
        log(f"  round {nth + 1} of {rounds}")
        for flows in steps:
            for variant in shuffled(variants, nth * 7 + flows):
                case = {"args": ["pp", "--connections", str(flows), "--request", "64"]}
                longer = 3 if flows >= MANY else 1
                sample = bench.sample(case, "onecore", variant, bench.settings["seconds"] * longer)
                if sample and sample["operations"]:
                    found[variant.name].setdefault(flows, []).append(sample["cpu_seconds"] / sample["operations"] * 1e6)
                settle()
    return {name: line(values) for name, values in found.items()}


def over_listeners(bench, starter, steps, rounds, log):
    """Connections per CPU second of the path over all of a gateway's listeners, in turn, on one core."""
    gateways = {}
    for listeners in steps:
        addresses = min(2, listeners)
        gateways[listeners] = starter.gateway(f"plgw1-{listeners}-listeners", targets=listeners // addresses,
                                              addresses=addresses)
    found = {}
    rounds = max(rounds, LISTENER_ROUNDS) if rounds > 1 else rounds
    for nth in range(rounds):
        log(f"  round {nth + 1} of {rounds}")
        for listeners in shuffled(steps, nth):
            variant = gateways[listeners]
            cores = bench.place("onecore", variant)
            sample = bench.play(["connect", "--connections", "32", "--request", "64"], variant, cores,
                                fronts=variant.fronts)
            if sample and sample["operations"]:
                whole = sample["cpu_seconds"] + sample["ends_seconds"]
                found.setdefault(listeners, []).append(sample["operations"] / whole)
        settle()
    for variant in gateways.values():
        variant.started.end()
    return {"plgw1": line(found)}


def line(values):
    """Points of a chart: x, median, least and most."""
    return [(x, median(ys), min(ys), max(ys)) for x, ys in sorted(values.items())]


def memory(bench, variants, steps, log):
    """MiB resident over idle flows."""
    found = {}
    for variant in variants:
        points = [(0, variant.started.resident() / 1024)]
        for flows in steps:
            row = bench.idle(variant, flows, rest=0.2)
            if row:
                points.append((flows, row["rss_after_kb"] / 1024))
            settle()
        found[variant.name.removesuffix("-memory")] = points
        log(f"  {variant.name}")
    return found


def criterion(target, group, scale):
    """Points from criterion's results: `target/criterion/GROUP/FUNCTION/PARAMETER/new/estimates.json`."""
    found = {}
    for file in Path(target / "criterion" / group).glob("*/*/new/estimates.json"):
        function, parameter = file.parts[-4], file.parts[-3]
        if parameter.isdigit():
            middle = json.loads(file.read_text())["median"]
            bounds = middle["confidence_interval"]
            found.setdefault(function, []).append((int(parameter), middle["point_estimate"] * scale,
                                                   bounds["lower_bound"] * scale, bounds["upper_bound"] * scale))
    return {function: sorted(points) for function, points in sorted(found.items())}


def run_criterion(root, quick, log):
    """The benches whose growth is plotted; they were built before."""
    brief = ["--warm-up-time", "0.05", "--measurement-time", "0.05", "--sample-size", "10", "--nresamples", "1000"]
    times = brief if quick else ["--warm-up-time", "1", "--measurement-time", "2"]
    for bench in CRITERION:
        profile = install.bench_profile(quick)
        command = ["cargo", "bench", "--offline", *profile, "--bench", bench, "--", "--noplot", *times]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log(f"  {' '.join(command)} failed: {done.stderr[-400:]}")
