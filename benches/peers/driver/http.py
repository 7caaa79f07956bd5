"""HTTP: the gateway's App Services front, HAProxy and nginx as TLS-terminating proxies in front of the same backend."""

import argparse
import os
import re
import resource
import subprocess
import time
from pathlib import Path

from . import install
from . import variants as make
from .measure import CASES, IDLE_CPU_SECONDS, settle, shuffled

HOST = "us-east-1.aws.services.cloud.mongodb.com"
APP = "/api/client/v2.0/app/myapp-abcde"
REQUEST = ["--host", HOST, "--path", f"{APP}/functions/call"]
SYNC = ["--host", "us-east-1.aws.ws.services.cloud.mongodb.com", "--path", f"{APP}/realm-sync"]
MODE = "http"
# The load generator's arguments of each case, and whether it is for the Sync endpoint.
ASKED = {"https64": (REQUEST, False), "tls32": (REQUEST[:2], False), "wss64": (SYNC, True)}
H2 = "h2-64"
# The gateway frees the buffers of an idle connection after a second or two; "idle" means this time for every variant.
SILENT_SECONDS = 4.0
IDLE = {"requests": ("idle-requests", REQUEST, False), "WebSockets": ("idle-echoes", SYNC, True)}


def certificate(work):
    """One certificate for all variants: ECDSA P-256, its key in the same file."""
    path = work / "run" / "http.pem"
    key, chain = work / "run" / "http-key.pem", work / "run" / "http-chain.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "30", "-subj", "/CN=bench", "-addext",
                    "subjectAltName=DNS:*.aws.services.cloud.mongodb.com,DNS:*.aws.ws.services.cloud.mongodb.com",
                    "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    path.touch(0o600)
    path.write_text(chain.read_text() + key.read_text())
    return path


def starters(starter, pem, before=None):
    """The variants and how each is started."""
    def haproxy(name):
        return starter.http_proxy(name, "haproxy-http.cfg", pem, lambda file, _: [install.find("haproxy"), "-db", "-f", file])

    def nginx(name):
        def command(file, directory):
            return [install.find("nginx"), "-p", str(directory), "-c", file, "-e", "stderr"]
        return starter.http_proxy(name, "nginx-http.conf", pem, command)

    found = {"plgw1": lambda name: starter.http_gateway(name, pem), "ha1": haproxy, "nginx1": nginx}
    if before:
        found["plgw1-before"] = lambda name: starter.http_gateway(name, pem, plgw=before)
    return found


def sample(bench, case, variant):
    """One sample on one core."""
    cores = bench.place("onecore", variant)
    if case == H2:
        return by_h2load(bench, variant, cores)
    asked, is_sync = ASKED[case]
    front = variant.sync if is_sync else variant.front
    return bench.play([*CASES[case]["args"], *asked], variant, cores, fronts=[front])


def busy():
    """Seconds that the machine's cores were busy, or stolen."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(fields[at]) for at in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def by_h2load(bench, variant, cores):
    """HTTP/2 by h2load. Its handshakes are in the sample: a few, the same for every variant."""
    seconds = bench.settings["seconds"] * 2
    command = ["taskset", "-c", ",".join(map(str, sorted(cores))), install.find("h2load"), *CASES[H2]["args"],
               f"--duration={max(1, round(seconds))}", "--npn-list=h2", f"--connect-to={make.text_of(variant.front)}",
               f"https://{HOST}:{variant.front[1]}{REQUEST[3]}"]
    relay, server, machine = variant.started.cpu(), bench.server.cpu(), busy()
    ends = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    took = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed", done.stdout)
    if not found or found[1] != found[2] or found[1] == "0":
        bench.log(f"  {variant.name}: h2load failed: {(done.stdout + done.stderr).strip()[-300:]}")
        return None
    client = after.ru_utime + after.ru_stime - ends.ru_utime - ends.ru_stime
    return {"seconds": took, "cpu_seconds": variant.started.cpu() - relay,
            "ends_seconds": bench.server.cpu() - server + client, "machine_seconds": busy() - machine,
            "operations": int(found[1]), "failed": 0, "per_second": int(found[1]) / took}


def measure(bench, starter, options, wanted, log):
    """Rounds over all cases and variants, and the memory of idle connections; samples and idle rows."""
    quick, settings = options.quick, bench.settings
    pem = certificate(bench.work)
    found = starters(starter, pem, options.before)
    up = wanted(found.items(), options)
    samples, rows = [], []
    cases = [*ASKED, H2] if install.find("h2load") else [*ASKED]
    for nth in range(settings["rounds"]):
        log(f"HTTP, round {nth + 1} of {settings['rounds']}")
        for case in cases:
            if settings["only"] and case not in settings["only"]:
                continue
            for variant in shuffled(up, nth * 7 + len(case)):
                row = sample(bench, case, variant)
                if row:
                    samples.append({"round": nth, "mode": MODE, "case": case, "variant": variant.name, **row})
            settle()
    names = [variant.name for variant in up]
    for variant in up:
        variant.started.end()
    if not settings["only"]:
        flows = min(options.flows or 4000, 200 if quick else 4000, starter.nofile // 3 - 300)
        for nth in range(1 if quick or options.gate else 3):
            for kind, (command, asked, is_sync) in IDLE.items():
                log(f"HTTP, idle {kind}, round {nth + 1}")
                for name in shuffled(names, nth):
                    # A fresh process of each, as for flows.
                    for fresh in wanted([(f"{name}-idle-http", found[name])], argparse.Namespace(variants=None)):
                        front = fresh.sync if is_sync else fresh.front
                        row = bench.idle(fresh, flows, rest=0.3 if quick else IDLE_CPU_SECONDS,
                                         how=[command, "--target", make.text_of(front), *asked], settled=SILENT_SECONDS)
                        fresh.started.end()
                        if row:
                            rows.append({"round": nth, **row, "kind": kind, "variant": name})
                    settle()
    return samples, rows
