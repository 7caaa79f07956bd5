"""Five drivers use the gateway by the seed list and by the optimized string, and follow ports that move.

The drivers' small programs are those of `failover.py`; `shell.py` has `mongosh`, and the tests of the crate the driver for
Rust. Which port a driver uses is what the kernel says of its process' sockets.
"""

import collections
import contextlib
import re

import lab
from failover import DRIVERS, Writer, primary
from pymongo_driver import HOST, SET, client, setup  # noqa: F401


def gateway():
    lab.need("ss")
    yield lab.quickstart()


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


def is_connected(writer, port):
    """The process of a driver has a connection to a port, by the kernel's table."""
    sockets = lab.run("ss", "--no-header", "--tcp", "--numeric", "--processes", "state", "established").stdout
    own = [line for line in sockets.splitlines() if f"pid={writer.process.pid}," in line]
    ports = {int(re.search(r":(\d+)\s+users:", line)[1]) for line in own}
    assert port in ports, f"{writer.driver} is connected to {sorted(ports)}, not to {port}"


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
    """A6, A16: those that are connected go on, those that come are led to the new port."""
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


if __name__ == "__main__":
    lab.main(globals())
