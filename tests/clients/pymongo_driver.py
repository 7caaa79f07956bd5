"""pymongo uses the gateway by the strings that Atlas gives, with no option of the gateway's own but the lab's CA."""

import json

import lab

SRV = "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net"
HOST = "pl-0-us-east-1-k45tj.mongodb.net"
SET = "Cluster0-shard-0-shard-0"


def setup():
    try:
        import pymongo  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error


def gateway():
    yield lab.quickstart()


def client(string, **options):
    import pymongo

    return pymongo.MongoClient(string, tlsCAFile=str(lab.ca()), serverSelectionTimeoutMS=30_000, **options)


def addresses(at):
    return {f"{host}:{port}" for host, port in at.topology_description.server_descriptions()}


def test_the_documented_seed_list_finds_the_replica_set_over_tls(gateway):
    """A9, A10, A11, A12: one host name, a port a node, the set's name out of TXT."""
    with client(SRV) as at:
        hello = at.admin.command("hello")
        assert hello["setName"] == SET, hello
        lab.eventually("all nodes are known", lambda: known(at))
        assert addresses(at) == {f"{HOST}:{port}" for port in (1024, 1025, 1026)}, addresses(at)
        assert at.topology_description.topology_type_name == "ReplicaSetWithPrimary"


def known(at):
    names = sorted(s.server_type_name for s in at.topology_description.server_descriptions().values())
    assert names == ["RSPrimary", "RSSecondary", "RSSecondary"], names


def test_the_documented_standard_string_works_as_well(gateway):
    """A10."""
    seeds = ",".join(f"{HOST}:{port}" for port in (1024, 1025, 1026))
    with client(f"mongodb://{seeds}/?ssl=true&authSource=admin&replicaSet={SET}") as at:
        assert at.admin.command("ping")["ok"] == 1


def test_written_documents_are_read_and_counted(gateway):
    """A1: a write and reads on every node, through the load balancer."""
    before = lab.metric("plgw_processed_bytes_total")
    with client(SRV) as at:
        things = at.lab.things
        things.insert_many([{"_id": n, "text": "x" * 1000} for n in range(500)])
        assert things.count_documents({}) == 500
        assert things.find_one({"_id": 7})["text"] == "x" * 1000
        from pymongo import ReadPreference

        secondary = at.get_database("lab", read_preference=ReadPreference.SECONDARY).things
        assert len(list(secondary.find({"_id": {"$lt": 10}}))) == 10
    carried = lab.metric("plgw_processed_bytes_total") - before
    assert carried > 500 * 1000, carried


def test_after_a_port_move_new_clients_come_to_the_new_port_and_old_ones_go_on(gateway):
    """A6: the client that is connected keeps working; a new one is led to the new port by SRV."""
    with client(SRV, heartbeatFrequencyMS=500) as old:
        old.lab.moves.insert_one({"_id": "before"})
        moved = lab.api("POST", "/v1/targets/Cluster0/shard-00-00/move", {})
        assert moved["to"] != moved["from"], moved
        # The primary is the node that moved: this write uses the old connection, or the new port already.
        old.lab.moves.insert_one({"_id": "old client"})
        with client(SRV) as new:
            new.lab.moves.insert_one({"_id": "new client"})
            lab.eventually("all nodes are known", lambda: known(new))
            expected = {f"{HOST}:{port}" for port in lab.ports("Cluster0").values()}
            assert addresses(new) == expected, (addresses(new), expected)
            assert f"{HOST}:{moved['to']}" in addresses(new)

        def follows():
            assert addresses(old) == expected, (addresses(old), expected)

        lab.eventually("the old client follows", follows)
        # It accepts for a TTL, for clients with the old answer in their resolver's cache.
        lab.eventually("the old port is closed", lambda: closed(moved["from"]), within=2 * lab.SOON)
        old.lab.moves.insert_one({"_id": "after the old port closed"})
        assert {thing["_id"] for thing in old.lab.moves.find()} == {
            "before",
            "old client",
            "new client",
            "after the old port closed",
        }


def closed(port):
    try:
        lab.listens(("127.0.30.194", port))
    except ConnectionRefusedError:
        return
    raise AssertionError(f"port {port} still accepts")


def test_with_one_address_of_the_endpoint_gone_the_next_is_used(gateway):
    """A4, A14: whichever zone is lost, new clients connect through the other, with no option for it."""
    for gone in ("127.0.30.194", "127.0.20.54"):
        # More particular than loopback's own route, so that this one address can't be reached any more.
        lab.run("ip", "route", "add", "unreachable", f"{gone}/32", "table", "local")
        try:
            refuses(gone)
            for n in range(4):
                with client(SRV) as at:
                    at.lab.zones.insert_one({"_id": f"{n} without {gone}"})
                    assert at.lab.zones.find_one({"_id": f"{n} without {gone}"})
        finally:
            lab.run("ip", "route", "delete", "unreachable", f"{gone}/32", "table", "local")


def refuses(address):
    try:
        lab.listens((address, 1025))
    except OSError:
        return
    raise AssertionError(f"{address} can still be reached")


def test_the_optimized_string_is_load_balanced_by_its_txt_record_alone(gateway):
    """A16: one record, `loadBalanced=true` from TXT, mongos behind a PROXY protocol header."""
    strings = lab.api("GET", "/v1/connection-strings?cluster=Sharded0")["connection_strings"][0]["private"][0]
    optimized = strings["srv_shard_optimized_connection_string"]
    assert "-lb" in optimized and "loadBalanced" not in optimized, optimized
    with client(optimized) as at:
        at.lab.things.insert_many([{"_id": n} for n in range(300)])
        # Larger than a batch: the cursor stays on the mongos that has it.
        assert len(list(at.lab.things.find({}, batch_size=50))) == 300
        assert at.topology_description.topology_type_name == "LoadBalanced"


def test_strings_that_are_made_by_name_lead_to_the_cluster(gateway):
    """A32: Atlas' calls in its version `preview`, then a driver by each of the two strings."""
    group = "/api/atlas/v2/groups/5f2a1b3c4d5e6f7081920a3b"
    strings = f"{group}/clusters/Cluster0/privateEndpointConnectionStrings"

    def preview(method, path, body=None):
        status, text = lab.request(lab.ADMIN, method, path, body, accept="application/vnd.atlas.preview+json")
        assert status in (200, 201, 204), f"{method} {path}: {status} {text}"
        return json.loads(text or "null")

    preview("PATCH", f"{group}/settings", {"privateEndpointConnectionStringsEnabled": True})
    made = preview("POST", strings, {"name": "reports", "privateEndpointIds": ["vpce-024f5b57108c8d3ed"]})
    one = f"{strings}/{made['connectionStringId']}"

    def available():
        shown = preview("GET", one)
        assert shown["status"] == "AVAILABLE", shown
        return shown

    shown = lab.eventually("the strings are published", available)
    for string in (shown["srvConnectionString"], shown["connectionString"]):
        with client(string) as at:
            at.lab.named.insert_one({})
            lab.eventually("all nodes are known", lambda: known(at))
            hosts = {address.partition(":")[0] for address in addresses(at)}
            assert hosts == {f"cs-{shown['slug']}-us-east-1-k45tj.mongodb.net"}, hosts
    preview("DELETE", one)


def test_a_spike_of_connections_is_spread_over_the_mongos(gateway):
    """A17."""
    strings = lab.api("GET", "/v1/connection-strings?cluster=Sharded0")["connection_strings"][0]["private"][0]
    clients = [client(strings["srv_shard_optimized_connection_string"]) for _ in range(60)]
    try:
        for at in clients:
            at.admin.command("ping")
        flows = [flow for flow in lab.api("GET", "/v1/flows")["flows"] if flow["target"].startswith("Sharded0")]
        members = {}
        for flow in flows:
            members[flow["member"]] = members.get(flow["member"], 0) + 1
        assert len(members) == 2 and sum(members.values()) >= 60, members
        # Even to within what chance allows: 60 throws fall on one side 15 times or fewer in 1 of 15,000 runs.
        assert min(members.values()) > 15, members
    finally:
        for at in clients:
            at.close()


def test_the_gateway_ends_cleanly_and_reports_what_it_carried(gateway):
    """The last one: it stops the gateway."""
    assert gateway.stop() == 0, gateway.tail()
    assert "Carried" in gateway.log.read_text()


if __name__ == "__main__":
    lab.main(globals())
