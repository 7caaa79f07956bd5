"""The driver's own network and process namespaces: when the driver ends or is killed, nothing is left."""

import os
import shutil
import subprocess
import sys

INSIDE = "PLGW_BENCH_INSIDE"


def reason_to_skip():
    """Why no namespace can be created here; None when one can."""
    if os.geteuid() != 0:
        return "needs root, for a network namespace and its congestion control"
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "needs unshare (util-linux) and ip (iproute2)"
    try:
        probe = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"],
                               capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no namespace can be made: {error}"
    return None if probe.returncode == 0 else f"no namespace can be made: {probe.stderr.strip()}"


def enter(argv):
    """Runs this very command again inside, and never returns.

    The processes are in a PID namespace whose first process is the driver: when that ends, the kernel ends the rest
    and lets the network namespace go. So nothing is left, even after SIGKILL.
    """
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
                          sys.executable, *argv])


def set_up():
    """Sets loopback, reno, ports and queues, and returns the settings in force."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    wanted = {
        # A host's default may pace by timers (BBR), which costs more than the relays that are compared.
        "net/ipv4/tcp_congestion_control": "reno",
        "net/ipv4/ip_local_port_range": "10000 65535",
        # Connections per second would otherwise run out of ports within two seconds.
        "net/ipv4/tcp_max_tw_buckets": "2000",
        "net/core/somaxconn": "4096",
        "net/ipv4/tcp_max_syn_backlog": "8192",
    }
    in_force = {}
    for key, value in wanted.items():
        path = f"/proc/sys/{key}"
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
        except OSError as error:
            print(f"note: {key} stays: {error}", file=sys.stderr)
        try:
            with open(path, encoding="ascii") as file:
                in_force[key.replace("/", ".")] = file.read().strip().replace("\t", " ")
        except OSError:
            pass
    return in_force
