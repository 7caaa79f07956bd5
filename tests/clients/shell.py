"""`mongosh` connects as in MongoDB's documentation, with telemetry off."""

import json
import os

import lab
from pymongo_driver import HOST, SRV


def setup():
    lab.need("node")
    shell = lab.node_modules() / ".bin" / "mongosh"
    if not shell.exists():
        raise lab.Skip(f"{shell} is missing: .ci/run installs it")
    # A separate home directory, in which telemetry is off before the first start; and no display of tips.
    config = lab.work() / ".mongodb" / "mongosh" / "config"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"enableTelemetry": False, "disableGreetingMessage": True, "updateURL": ""}))


def gateway():
    yield lab.quickstart()


def mongosh(string, script):
    shell = lab.node_modules() / ".bin" / "mongosh"
    environment = {**os.environ, "HOME": str(lab.work()), "MONGOSH_FORCE_DISABLE_TELEMETRY_FOR_TESTING": "1"}
    argv = [shell, string, "--tls", "--tlsCAFile", lab.ca(), "--norc", "--quiet", "--json=relaxed", "--eval", script]
    done = lab.run(*argv, timeout=180, env=environment, cwd=lab.work())
    return json.loads(done.stdout)


def test_the_shell_connects_by_the_documented_string_and_writes_and_reads(gateway):
    """A9."""
    script = """
        db.getSiblingDB('lab').shell.insertOne({ _id: 1, said: 'hello' });
        ({ set: db.hello().setName, me: db.hello().me, found: db.getSiblingDB('lab').shell.find().toArray() })
    """
    seen = mongosh(SRV, script)
    assert seen == {
        "set": "Cluster0-shard-0-shard-0",
        "me": "pl-0-us-east-1-k45tj.mongodb.net:1024",
        "found": [{"_id": 1, "said": "hello"}],
    }, seen


def test_the_shell_connects_by_the_seed_list_and_after_a_port_moved(gateway):
    """A6, A10."""
    def seeds():
        hosts = ",".join(f"{HOST}:{port}" for port in sorted(lab.ports("Cluster0").values()))
        return f"mongodb://{hosts}/?replicaSet=Cluster0-shard-0-shard-0"

    moved = lab.api("POST", "/v1/targets/Cluster0/shard-00-00/move", {})
    assert f":{moved['to']}" in seeds(), seeds()
    for string in (seeds(), SRV):
        seen = mongosh(string, "db.hello().hosts.sort()")
        assert seen == sorted(f"{HOST}:{port}" for port in lab.ports("Cluster0").values()), (string, seen)


def test_the_shell_connects_by_the_optimized_string(gateway):
    """A16."""
    strings = lab.api("GET", "/v1/connection-strings?cluster=Sharded0")["connection_strings"][0]["private"][0]
    seen = mongosh(strings["srv_shard_optimized_connection_string"], "({ ok: db.adminCommand({ ping: 1 }).ok })")
    assert seen == {"ok": 1}, seen


if __name__ == "__main__":
    lab.main(globals())
