"""Five drivers use the gateway by the seed list, the optimized string and SRV records, and follow ports that move.

The drivers' small programs are those of `failover.py`; `shell.py` has `mongosh`, and the tests of the crate the driver for
Rust. Which port a driver uses is what the kernel says of its process' sockets.
"""

import collections
import contextlib
import json
import os
import pathlib
import re

import lab
from failover import DRIVERS, Writer, primary
from pymongo_driver import HOST, SET, client, setup  # noqa: F401


def gateway():
    lab.need("ss")
    yield lab.quickstart()


# The longest interval between a driver's queries for SRV records: 60 s and no less (MongoDB's Polling SRV Records for mongos
# Discovery, rescanSRVIntervalMS); and as long as anything else may take.
RESCAN = 60 + lab.SOON


def sharded():
    """A lab with a sharded cluster without optimized string; yields the prefix that runs a command on a host of its VPC."""
    lab.need("ss", "nsenter")
    text = (lab.ROOT / "config" / "scenarios" / "lab.toml").read_text()
    config = lab.work() / "sharded.toml"
    config.write_text(text.replace("optimized = true\n", ""))
    os.environ["PLGW_LAB_DIR"] = str(lab.work() / "labs")
    lab.run(lab.PLGW, "lab", "up", "--config", config, "--stand-ins")
    yield [lab.PLGW, "lab", "run", "--"]


def seed_list():
    hosts = ",".join(f"{HOST}:{port}" for port in sorted(lab.ports("Cluster0").values()))
    return f"mongodb://{hosts}/?ssl=true&authSource=admin&replicaSet={SET}"


def strings():
    """Of the cluster with the optimized string."""
    return lab.api("GET", "/v1/connection-strings?cluster=Sharded0")["connection_strings"][0]["private"][0]


@contextlib.contextmanager
def writing(name, uri):
    """All five write until the block ends. Then nothing that was acknowledged is missing, and no write hangs."""
    writers = [Writer(driver, name, uri) for driver in DRIVERS]
    try:
        for writer in writers:
            lab.eventually(f"{writer.driver} writes", writer.writes)
        yield writers
    finally:
        hung = [writer.stop() for writer in writers]
    for writer, left in zip(writers, hung):
        assert left == [], f"{writer.driver}: writes that never ended: {left}"
    with client(uri) as at:
        for writer in writers:
            found = collections.Counter(thing["_id"] for thing in at.lab[writer.collection].find())
            lost = set(writer.written()) - set(found)
            assert not lost, f"{writer.driver}: acknowledged and lost: {sorted(lost)[:10]}"
    print(f"  {name}: " + ", ".join(f"{w.driver} {len(w.written())} writes, {len(w.errors)} errors" for w in writers))


def connected(pid, place=()):
    """The ports that a process is connected to, by the kernel's table."""
    sockets = lab.run(*place, "ss", "--no-header", "--tcp", "--numeric", "--processes", "state", "established").stdout
    own = [line for line in sockets.splitlines() if f"pid={pid}," in line]
    return {int(re.search(r":(\d+)\s+users:", line)[1]) for line in own}


def is_connected(writer, port):
    found = connected(writer.process.pid)
    assert port in found, f"{writer.driver} is connected to {sorted(found)}, not to {port}"


def follow(writers, port):
    for writer in writers:
        lab.eventually(f"{writer.driver} uses port {port}", lambda: is_connected(writer, port))
        lab.eventually(f"{writer.driver} writes on", writer.writes)


def test_five_drivers_write_by_the_seed_list_and_follow_the_primarys_port(gateway):
    """A6, A10, A11: they learn of the new port from the members, as no name is asked again."""
    with writing("seed-list", seed_list()) as writers:
        moved = lab.api("POST", f"/v1/targets/Cluster0/{primary()}/move", {})
        follow(writers, moved["to"])


def test_five_drivers_write_by_the_optimized_string_while_its_port_moves(gateway):
    """A6, A16: open connections continue, new ones go to the new port."""
    optimized = strings()["srv_shard_optimized_connection_string"]
    [target] = [t for t in lab.api("GET", "/v1/targets")["targets"] if t["cluster"] == "Sharded0"]
    with writing("optimized", optimized) as writers:
        for writer in writers:
            is_connected(writer, target["port"])
        moved = lab.api("POST", f"/v1/targets/{target['id']}/move", {})
        assert moved["from"] == target["port"], (moved, target)
        for writer in writers:
            lab.eventually(f"{writer.driver} writes on", writer.writes)
        with writing("optimized-after", optimized) as others:
            follow(others, moved["to"])


def ask(place, *words):
    """An operator's command in a lab: its JSON."""
    return json.loads(lab.run(*place, lab.PLGW, *words, "--output", "json").stdout)


def uses(writer, ports):
    """A driver on a host of a lab is connected to all of `ports`; that for C keeps unused connections to others."""
    [child] = pathlib.Path(f"/proc/{writer.process.pid}/task/{writer.process.pid}/children").read_text().split()
    found = connected(child, ["nsenter", "--target", child, "--net"])
    assert ports <= found, f"{writer.driver} is connected to {sorted(found)}, not to {sorted(ports)}"


def test_five_drivers_poll_srv_and_follow_the_ports_of_mongos(sharded):
    """A6, A16. A mongos does not report others' ports: only the records do, and drivers query them every 60 s."""
    [strings] = ask(sharded, "connection-strings", "--cluster", "Sharded0")
    uri = strings["private"][0]["srv_connection_string"]
    writers = [Writer(driver, "srv", uri, lab.work() / "labs" / "default" / "ca.pem", sharded) for driver in DRIVERS]
    try:
        for writer in writers:
            lab.eventually(f"{writer.driver} writes", writer.writes)
        mongos = [target["id"] for target in ask(sharded, "targets")["targets"] if target["cluster"] == "Sharded0"]
        assert len(mongos) == 2, mongos
        for target in mongos:
            lab.run(*sharded, lab.PLGW, "target", "move", target)
        new = {target["port"] for target in ask(sharded, "targets")["targets"] if target["id"] in mongos}
        for writer in writers:
            lab.eventually(f"{writer.driver} asked again", lambda: uses(writer, new), within=RESCAN)
            lab.eventually(f"{writer.driver} writes on", writer.writes)
    finally:
        hung = [writer.stop() for writer in writers]
    for writer, left in zip(writers, hung):
        assert left == [], f"{writer.driver}: writes that never ended: {left}"
        print(f"  srv: {writer.driver} {len(writer.written())} writes, {len(writer.errors)} errors")


if __name__ == "__main__":
    lab.main(globals())
