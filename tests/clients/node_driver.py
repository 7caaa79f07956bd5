"""The Node driver uses the gateway by the strings that Atlas gives."""

import json

import lab

HOST = "pl-0-us-east-1-k45tj.mongodb.net"


def setup():
    lab.need("node")
    lab.node_modules()


def gateway():
    yield lab.quickstart()


def driver(*step):
    script = lab.ROOT / "tests/clients/node_driver.mjs"
    return json.loads(lab.run("node", script, lab.node_modules(), lab.ca(), *step, timeout=180).stdout)


def test_the_documented_seed_list_finds_the_replica_set_and_carries_documents(gateway):
    """A9, A11, A12."""
    seen = driver("find")
    assert seen["found"] == 250, seen
    assert (seen["type"], seen["setName"]) == ("ReplicaSetWithPrimary", "Cluster0-shard-0-shard-0"), seen
    assert seen["nodes"] == [f"{HOST}:{port}" for port in (1024, 1025, 1026)], seen


def test_after_a_port_move_new_clients_come_to_the_new_port_and_old_ones_go_on(gateway):
    """A6."""
    seen = driver("move")
    old, new = (f"{HOST}:{seen['moved'][end]}" for end in ("from", "to"))
    assert old in seen["before"] and new not in seen["before"], seen
    assert new in seen["after"] and old not in seen["after"], seen
    assert seen["written"] == 4, seen


def test_the_optimized_string_is_load_balanced_by_its_txt_record_alone(gateway):
    """A16."""
    strings = lab.api("GET", "/v1/connection-strings?cluster=Sharded0")["connection_strings"][0]["private"][0]
    seen = driver("optimized", strings["srv_shard_optimized_connection_string"])
    assert seen == {"found": 250, "type": "LoadBalanced"}, seen


if __name__ == "__main__":
    lab.main(globals())
