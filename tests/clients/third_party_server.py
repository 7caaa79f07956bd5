"""A third party's MongoDB-compatible server runs behind the gateway instead of the stand-ins."""

import shutil
import signal
import subprocess
import sys

import lab

HOST = "pl-0-us-east-1-k45tj.mongodb.net"
STRING = f"mongodb://{HOST}:1024/?directConnection=true"


def setup():
    try:
        import pymongo  # noqa: F401
        import secantus  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error


def server():
    """SecantusDB: WiredTiger under the wire protocol."""
    program = shutil.which("secantusd-py", path=f"{sys.prefix}/bin")
    with open(lab.work() / "server.log", "w") as log:
        argv = [program, "--host", "127.1.0.11", "--port", "27017", "--storage-path", lab.work() / "data"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=lab.work())
    try:
        lab.eventually("the server listens", lambda: lab.listens(("127.1.0.11", 27017)))
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=lab.SOON)


def gateway():
    yield lab.Gateway("serve", "--config", lab.ROOT / "tests/clients/third-party.toml")


def client():
    import pymongo

    return pymongo.MongoClient(STRING, serverSelectionTimeoutMS=30_000)


def test_an_insert_and_a_find_pass_through(server, gateway):
    """A1, A12: the bytes are the server's own; the gateway does not interpret them."""
    with client() as at:
        at.lab.things.insert_many([{"_id": n, "square": n * n} for n in range(1000)])
        assert at.lab.things.find_one({"square": 49})["_id"] == 7
        assert at.lab.things.count_documents({"_id": {"$gte": 500}}) == 500
    assert lab.metric("plgw_flows_opened_total", 'target="Cluster0/shard-00-00"') > 0


def test_commands_that_the_stand_ins_lack_work_behind_the_gateway(server, gateway):
    """An index that enforces something, an aggregation, and sixteen megabytes in one document."""
    import pymongo.errors

    with client() as at:
        things = at.lab.unique
        things.create_index("name", unique=True)
        things.insert_one({"name": "once"})
        try:
            things.insert_one({"name": "once"})
            raise AssertionError("the index let it in")
        except pymongo.errors.DuplicateKeyError:
            pass
        big = "x" * (15 * 1024 * 1024)
        things.insert_one({"name": "big", "big": big})
        assert things.find_one({"name": "big"})["big"] == big
        sums = list(at.lab.things.aggregate([{"$group": {"_id": None, "sum": {"$sum": "$_id"}}}]))
        assert sums[0]["sum"] == 499_500, sums


def test_the_port_of_a_server_that_is_not_there_refuses(server, gateway):
    """A12: behind the other two ports there is no server; a client gets the answer of the missing server itself."""
    lab.eventually("two of three are unhealthy", two_of_three)
    import pymongo
    import pymongo.errors

    string = f"mongodb://{HOST}:1025/?directConnection=true"
    with pymongo.MongoClient(string, serverSelectionTimeoutMS=2_000) as at:
        try:
            at.admin.command("ping")
        except pymongo.errors.PyMongoError as error:
            assert "refused" in str(error).lower(), error
        else:
            raise AssertionError("a server answered at the port of a node that does not exist")


def two_of_three():
    states = {t["id"]: t["state"] for t in lab.api("GET", "/v1/targets")["targets"]}
    assert sorted(states.values()) == ["healthy", "unhealthy", "unhealthy"], states


if __name__ == "__main__":
    lab.main(globals())
