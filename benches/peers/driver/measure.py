"""The rounds: every case visits every variant, in an order that rotates from round to round."""

import json
import os
import random
import subprocess
import time
from pathlib import Path

from . import variants as make
from .process import Started, until

# A case: the load generator's arguments, and the divisor of its CPU time. `longer`: how many times as long its samples
# are; a high quantile wants more messages than a mean does. `one_thread`: the load generator plays the server too, and never
# sleeps, so that no latency comes from the ends.
CASES = {
    "pp1": {"args": ["pp", "--connections", "1", "--request", "64"], "per": "operations", "unit": "echo",
            "title": "64 B ping-pong, 1 connection"},
    "pp64": {"args": ["pp", "--connections", "64", "--request", "64"], "per": "operations", "unit": "echo",
             "title": "64 B ping-pong, 64 connections"},
    "pp64-4k": {"args": ["pp", "--connections", "64", "--request", "64", "--response", "4096"], "per": "operations",
                "unit": "echo", "title": "64 B question, 4 KiB answer, 64 connections"},
    "pp500": {"args": ["pp", "--connections", "500", "--request", "256"], "per": "operations", "unit": "echo",
              "title": "256 B ping-pong, 500 connections"},
    "up8": {"args": ["up", "--connections", "8"], "per": "gigabytes", "unit": "GB",
            "title": "bulk to the target, 8 connections"},
    "down8": {"args": ["down", "--connections", "8"], "per": "gigabytes", "unit": "GB",
              "title": "bulk to the client, 8 connections"},
    "conn32": {"args": ["connect", "--connections", "32", "--request", "64"], "per": "operations",
               "unit": "connection", "title": "connect, one echo, close; 32 at a time"},
    "rate20k": {"args": ["rate", "--connections", "64", "--request", "64", "--per-second", "20000"],
                "per": "operations", "unit": "echo", "title": "20,000 messages a second over 64 connections",
                "longer": 3, "one_thread": True},
    # Only the part `http` runs these, on one core; `http.py` has their requests.
    "https64": {"args": ["requests", "--connections", "64"], "per": "operations", "unit": "request",
                "title": "GET over TLS, HTTP/1.1, 1 KiB answers, 64 kept connections"},
    "h2-64": {"args": ["-c", "8", "-m", "8"], "per": "operations", "unit": "request",
              "title": "GET over TLS, HTTP/2, 1 KiB answers, 8 connections × 8 streams (h2load)"},
    "tls32": {"args": ["handshakes", "--connections", "32"], "per": "operations", "unit": "handshake",
              "title": "full TLS 1.3 handshakes, 32 at a time"},
    "wss64": {"args": ["echoes", "--connections", "64", "--request", "64"], "per": "operations", "unit": "echo",
              "title": "64 B WebSocket messages over TLS, 64 connections"},
}
# Where the ends and the relay run. `onecore` has no cross-core wake-ups, so its ratios are the steadiest.
ONE_THREAD = {
    "onecore": ["pp1", "pp64", "pp64-4k", "pp500", "up8", "down8", "conn32"],
    "pinned": ["pp64", "up8", "conn32", "rate20k"],
}
ALL_THREADS = {"unpinned": ["pp64", "up8", "down8", "conn32", "rate20k"]}
# The variants of a smoke run.
BRIEFLY = ({"onecore": ["pp1", "pp64", "pp500", "up8", "down8", "conn32"], "pinned": ["rate20k"]}, {"unpinned": ["pp64"]})
IDLE_CPU_SECONDS = 3.0
# Cases of which goals ask for differences that are small beside those between rounds get more rounds, a high quantile most.
JUDGED = {("onecore", "pp64"): 11, ("onecore", "pp500"): 11, ("onecore", "conn32"): 11, ("pinned", "rate20k"): 21}
# Number and length of the turns of two relays.
PAIRS, TURN_SECONDS = 200, 0.1


class Bench:
    """The server, the variants, and the measurements so far."""

    def __init__(self, built, work, settings, log):
        self.loadgen = str(built / "examples/loadgen")
        self.settings = settings
        self.log = log
        self.work = work
        cores = sorted(os.sched_getaffinity(0))
        self.first, self.last, self.all = {cores[0]}, {cores[-1]}, set(cores)
        (work / "run").mkdir(parents=True, exist_ok=True)
        self.server = Started("server", [self.loadgen, "serve", f"0.0.0.0:{make.SERVER_PORT}"],
                              work / "run/server.log")
        # Keep the driver itself off the measured cores.
        os.sched_setaffinity(0, self.first)

    def place(self, mode, variant):
        """Pins server and relay to the mode's cores; returns the client's cores."""
        ends, relay = {"onecore": (self.last, self.last), "pinned": (self.first, self.last),
                       "unpinned": (self.all, self.all)}[mode]
        self.server.pin(ends)
        if variant.started:
            variant.started.pin(relay)
        return ends

    def sample(self, case, mode, variant, seconds=None):
        """One sample, by a separate client process."""
        cores = self.place(mode, variant)
        told = CASES[case] if isinstance(case, str) else case
        args = [*told["args"], "--serve", make.text_of(variant.target)] if told.get("one_thread") else told["args"]
        return self.play(args, variant, cores, seconds)

    def play(self, args, variant, cores, seconds=None, fronts=None):
        """Loads one variant, at its front or at these, from these cores."""
        args = [*args, "--time", str(seconds or self.settings["seconds"]), "--warmup", str(self.settings["warmup"])]
        return self._load(args, [(fronts or [variant.front], variant.pids)], cores, variant.name)

    def _load(self, args, relays, cores, name, patience=90):
        """Runs the load generator on these cores. `relays`: of each, where it is reached and its processes."""
        command = ["taskset", "-c", ",".join(map(str, sorted(cores))), self.loadgen, *args]
        for fronts, pids in relays:
            for front in fronts:
                command += ["--target", make.text_of(front)]
            for pid in pids:
                command += ["--pid", str(pid)]
        command += ["--end", str(self.server.popen.pid)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            self.log(f"  {name}: {args[0]} did not end in {patience} s")
            return None
        if done.returncode != 0 or not done.stdout.strip():
            self.log(f"  {name}: {' '.join(args)} failed: {done.stderr.strip()[-300:]}")
            return None
        return json.loads(done.stdout)

    def rounds(self, modes, variants, samples):
        """All cases over all variants, in another order each round. Some cases have more rounds than others."""
        for nth in range(max(self.rounds_of(mode, case) for mode, cases in modes.items() for case in cases)):
            visited = [(mode, case) for mode, cases in modes.items() for case in cases if self.rounds_of(mode, case) > nth
                       and (not self.settings["only"] or case in self.settings["only"])]
            if not visited:
                break
            self.log(f"round {nth + 1}: {', '.join(dict.fromkeys(mode for mode, _ in visited))}")
            for mode, case in visited:
                for variant in shuffled(variants, nth * 7 + len(case)):
                    sample = self.sample(case, mode, variant, self.seconds_of(case))
                    if sample:
                        samples.append({"round": nth, "mode": mode, "case": case, "variant": variant.name, **sample})

    def rounds_of(self, mode, case):
        """How often a case visits every variant."""
        rounds = self.settings["rounds"]
        return max(rounds, JUDGED.get((mode, case), 0)) if self.settings["more_rounds"] else rounds

    def seconds_of(self, case):
        """How long each of its samples is."""
        return self.settings["seconds"] * CASES[case].get("longer", 1)

    def turns(self, first, second):
        """CPU per message of one relay in the other's: both take turns, hundreds of times, so whatever the machine does to
        one it does to the other a moment later."""
        cores = self.place("onecore", first)
        self.place("onecore", second)
        pairs = 3 if self.settings["rounds"] == 1 else PAIRS
        args = ["turns", "--connections", "64", "--request", "64", "--pairs", str(pairs), "--time", str(TURN_SECONDS),
                "--warmup", "0.3"]
        relays = [([variant.front], variant.pids) for variant in (first, second)]
        found = self._load(args, relays, cores, f"{first.name} and {second.name}", patience=300)
        return found and {"first": first.name, "second": second.name, **found}

    def check(self, variants):
        """Byte exactness with half-close, on every variant."""
        told = {"args": ["check", "--connections", "8", "--bytes", str(self.settings["check_bytes"])]}
        outcome = {}
        for variant in variants:
            sample = self.sample(told, "unpinned", variant)
            outcome[variant.name] = sample["exact"] if sample else 0
            if outcome[variant.name] != 8:
                self.log(f"  {variant.name}: only {outcome[variant.name]} of 8 flows were byte-exact")
        return outcome

    def idle(self, variant, flows, request=64, rest=IDLE_CPU_SECONDS, how=None, settled=None):
        """Holds flows that carried one message; memory and CPU of the relay, slab of the kernel. `how`: another command of
        the load generator than `idle`, with its target. `settled`: how long they were silent when memory is looked at."""
        self.place("unpinned", variant)
        time.sleep(0.1)
        before, slab = variant.started.resident() if variant.started else 0, slab_kb()
        how = how or ["idle", "--target", make.text_of(variant.front)]
        command = [self.loadgen, *how, "--connections", str(flows), "--request", str(request)]
        holder = Started("holder", command, self.work / "run/holder.log", stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        try:
            ready = holder.popen.stdout.readline()
            if ready.strip() != b"holding":
                self.log(f"  {variant.name}: {flows} idle flows could not be opened: {holder.said()}")
                return None
            time.sleep(settled or min(1.0, rest))
            after, slab_after = variant.started.resident() if variant.started else 0, slab_kb()
            cpu, started = variant.started.cpu() if variant.started else 0, time.monotonic()
            time.sleep(rest)
            cpu = (variant.started.cpu() if variant.started else 0) - cpu
            seconds = time.monotonic() - started
        finally:
            if holder.popen.stdin:
                holder.popen.stdin.close()
            try:
                holder.popen.wait(20)
            except subprocess.TimeoutExpired:
                pass
            holder.end()
        return {"variant": variant.name, "flows": flows, "request": request, "rss_before_kb": before,
                "rss_after_kb": after, "kb_per_flow": (after - before) / flows,
                "slab_kb_per_flow": (slab_after - slab) / flows, "idle_cpu_ms_per_s": cpu / seconds * 1e3}


def slab_kb():
    """Kilobytes of the kernel's slab caches."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1])
    return 0


def settle():
    """Waits until closed connections have left the kernel's tables, which on a busy machine takes a while: descriptors that
    are still taken would be missing where thousands of flows come next."""
    def gone():
        text = Path("/proc/net/sockstat").read_text()
        used = next((line for line in text.splitlines() if line.startswith("TCP:")), "TCP: inuse 0").split()
        return int(used[2]) < 1500
    until(gone, 20)
    time.sleep(0.2)


def shuffled(things, seed):
    """Another order every round, the same in every run."""
    things = list(things)
    random.Random(seed).shuffle(things)
    return things
