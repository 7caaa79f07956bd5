"""`kill -9` in the middle of port moves: what was answered stays, and no port is given twice."""

import http.client
import random
import socket
import threading
import time

import lab

ROUNDS = 12
NODES = ("shard-00-00", "shard-00-01", "shard-00-02")


def start():
    text = (lab.ROOT / "tests/clients/third-party.toml").read_text()
    file = lab.work() / "kill.toml"
    file.write_text(text.replace('store = "memory"', 'store = "file"\npath = "./state.plgw"'))
    return lab.Gateway("serve", "--config", file)


def test_no_acknowledged_move_is_lost_and_no_port_is_given_twice():
    """A5, A6: a target keeps its port over crashes, whenever they come."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    held = {node: 1024 + n for n, node in enumerate(NODES)}
    moves = 0
    for _ in range(ROUNDS):
        gateway = start()
        found = lab.ports("Cluster0")
        unsure = held.pop("unsure", None)
        for node in NODES:
            # The move whose answer never came may have happened or not; every other one is as it was answered.
            if node == unsure:
                assert found[node] not in {port for other, port in held.items() if other != node}, (found, held)
            else:
                assert found[node] == held[node], (node, found, held, unsure)
        held.update(found)
        assert len(set(found.values())) == len(NODES), found
        assert all(1024 <= port <= 65535 for port in found.values()), found

        def move():
            nonlocal moves
            node = None
            try:
                while True:
                    node = chance.choice(NODES)
                    held[node] = lab.api("POST", f"/v1/targets/Cluster0/{node}/move", {})["to"]
                    moves += 1
            except (OSError, http.client.HTTPException):
                held["unsure"] = node

        mover = threading.Thread(target=move)
        mover.start()
        time.sleep(chance.uniform(0.05, 0.4))  # When the crash comes.
        gateway.kill()
        mover.join(timeout=lab.SOON)
        assert not mover.is_alive()
    assert moves > ROUNDS, f"only {moves} moves were acknowledged in {ROUNDS} rounds"
    print(f"{moves} moves acknowledged, {ROUNDS} kills")


def test_after_a_crash_clients_find_the_ports_that_they_know():
    """A5: a connection string outlives the crash."""
    # Somebody listens behind each port: the port of a target that refuses would refuse as well.
    nodes = [socket.create_server((f"127.1.0.{n}", 27017)) for n in (11, 12, 13)]
    before = start()
    ports = lab.ports("Cluster0")
    before.kill()
    after = start()
    assert lab.ports("Cluster0") == ports
    for port in ports.values():
        lab.listens(("127.0.30.194", port))
    assert after.stop() == 0, after.tail()
    for node in nodes:
        node.close()


if __name__ == "__main__":
    lab.main(globals())
