"""DNS: dnsperf sends the same query to the gateway, Unbound and BIND."""

import os
import re
import socket
import struct
import subprocess
import time
from statistics import median

from . import install
from .process import Started, until
from .variants import fill, written

SRV, UDP_SECONDS = 33, 2.0


def ask(server, name, kind=SRV):
    """One question over UDP; the raw answer, or None."""
    question = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 0)
    question += b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question += struct.pack("!2H", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(1)
        try:
            asker.sendto(question, server)
            return asker.recv(4096)
        except OSError:
            return None


def services(answer):
    """(priority, weight, port, target, ttl) of every SRV record in an answer."""
    def name_at(at):
        labels, end = [], None
        while answer[at]:
            if answer[at] & 0xC0:
                end = end or at + 2
                at = (answer[at] & 0x3F) << 8 | answer[at + 1]
                continue
            labels.append(answer[at + 1:at + 1 + answer[at]].decode())
            at += 1 + answer[at]
        return ".".join(labels), end or at + 1

    questions, answers = struct.unpack("!2H", answer[4:8])
    at, found = 12, []
    for _ in range(questions):
        at = name_at(at)[1] + 4
    for _ in range(answers):
        _, at = name_at(at)
        kind, _, ttl, length = struct.unpack("!2HIH", answer[at:at + 10])
        at += 10
        if kind == SRV:
            priority, weight, port = struct.unpack("!3H", answer[at:at + 6])
            found.append((priority, weight, port, name_at(at + 6)[0], ttl))
        at += length
    return found


def measure(bench, starter, gateway, rounds, log):
    """Answers per second of every server, and per second of its CPU time."""
    name = "_mongodb._tcp.cluster00-pl-0-k45tj.mongodb.net"
    answer = ask(gateway.dns, name)
    records = services(answer) if answer else []
    if not records:
        log(f"  the gateway has no SRV records at {name}: DNS is left out")
        return {}
    directory = bench.work / "run" / "dns"
    directory.mkdir(parents=True, exist_ok=True)
    os.chmod(directory, 0o777)
    servers = [("plgw", gateway.started, gateway.dns)]
    address = ("127.0.63.1", 5335)
    local = "\n".join(f'    local-data: "{name}. {ttl} IN SRV {p} {w} {port} {target}."'
                      for p, w, port, target, ttl in records)
    text = fill("unbound.conf", dir=directory, address=address[0], port=address[1], threads=1, records=local)
    command = [install.find("unbound"), "-d", "-c", written(directory / "unbound.conf", text)]
    servers.append(("unbound", Started("unbound", command, directory / "unbound.log"), address))
    address = ("127.0.63.2", 5335)
    # BIND listens on addresses that an interface has, and 127.0.0.0/8 alone is not enough for it.
    subprocess.run(["ip", "address", "add", f"{address[0]}/32", "dev", "lo"], check=False)
    zone = ["$TTL 60", "@ IN SOA ns.mongodb.net. hostmaster.mongodb.net. 1 3600 600 86400 60", "@ IN NS ns",
            "ns IN A 127.0.63.2"]
    zone += [f"{name}. {ttl} IN SRV {p} {w} {port} {target}." for p, w, port, target, ttl in records]
    written(directory / "mongodb.net.zone", "\n".join(zone) + "\n")
    text = fill("named.conf", dir=directory, address=address[0], port=address[1])
    command = [install.find("named"), "-f", "-n", "1", "-c", written(directory / "named.conf", text)]
    servers.append(("named", Started("named", command, directory / "named.log"), address))
    questions = written(directory / "questions", f"{name} SRV\n")
    found = {}
    for server, started, address in servers:
        if not until(lambda a=address: ask(a, name), 10):
            log(f"  {server} does not answer: {started.said()}")
            continue
        said = ask(address, name)
        if sorted(services(said)) != sorted(records):
            log(f"  {server} answers otherwise than the gateway: it is left out")
            continue
        started.pin(bench.last)
        found[server] = {"server": server, "bytes": len(said), "rounds": []}
    for nth in range(rounds):
        for server, started, address in servers[nth % len(servers):] + servers[:nth % len(servers)]:
            if server not in found:
                continue
            command = ["taskset", "-c", ",".join(map(str, sorted(bench.first))), install.find("dnsperf"), "-s",
                       address[0], "-p", str(address[1]), "-d", questions, "-l", str(UDP_SECONDS), "-q", "200", "-c",
                       "4"]
            command[command.index("-l") + 1] = str(int(UDP_SECONDS))
            cpu, began = started.cpu(), time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            cpu = started.cpu() - cpu
            completed = re.search(r"Queries completed:\s+(\d+)", done.stdout)
            lost = re.search(r"Queries lost:\s+(\d+)", done.stdout)
            per_second = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
            if not completed or not per_second:
                log(f"  dnsperf against {server} failed after {time.monotonic() - began:.0f} s: {done.stderr[-300:]}")
                continue
            found[server]["rounds"].append({"per_second": float(per_second[1]), "lost": int(lost[1]) if lost else 0,
                                            "per_core": int(completed[1]) / cpu})
    for _, started, _ in servers[1:]:
        started.end()
    rows = []
    for row in found.values():
        if row["rounds"]:
            rows.append({**row, "per_second": median(r["per_second"] for r in row["rounds"]),
                         "per_core": median(r["per_core"] for r in row["rounds"]),
                         "lost": sum(r["lost"] for r in row["rounds"])})
    return {"question": f"{name} ({len(records)} records)", "servers": rows}
