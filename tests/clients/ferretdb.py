"""FerretDB runs behind the gateway: documents of 15 MiB, and a cursor that a port move does not end, byte for byte."""

import hashlib
import random
import subprocess

import lab
from third_party_server import STRING, setup as need_pymongo

SERVER = lab.TOOLS / "ferretdb"
LARGE = 15 * 1024 * 1024
DOCUMENTS, BATCH = 100_000, 2_000


def setup():
    need_pymongo()
    if not SERVER.exists():
        raise lab.Skip(f"{SERVER} is missing: .ci/run builds it")


def server():
    data = lab.work() / "ferretdb"
    data.mkdir()
    with open(lab.work() / "ferretdb.log", "w") as log:
        process = subprocess.Popen([SERVER, "127.1.0.11:27017", data], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        lab.eventually("the server listens", lambda: lab.listens(("127.1.0.11", 27017)))
        yield process
    finally:
        process.kill()
        process.wait()


def gateway():
    yield lab.Gateway("serve", "--config", lab.ROOT / "tests/clients/third-party.toml")


def client(string=STRING):
    import pymongo

    return pymongo.MongoClient(string, serverSelectionTimeoutMS=30_000)


def bytes_of(number, size):
    return random.Random(number).randbytes(size)


def test_documents_of_15_mib_come_back_byte_for_byte(server, gateway):
    """A1, A12."""
    with client() as at:
        for number in range(4):
            at.lab.large.insert_one({"_id": number, "bytes": bytes_of(number, LARGE)})
        for number in range(4):
            assert at.lab.large.find_one({"_id": number})["bytes"] == bytes_of(number, LARGE), number


def test_a_cursor_over_100_000_documents_outlives_a_port_move(server, gateway):
    """A6: the connection with the cursor continues on the old port; a new client finds the new one."""
    wanted = hashlib.sha256()
    with client() as at:
        for first in range(0, DOCUMENTS, BATCH):
            batch = [{"_id": n, "bytes": bytes_of(n, 64)} for n in range(first, first + BATCH)]
            for document in batch:
                wanted.update(document["bytes"])
            at.lab.many.insert_many(batch)
        found, seen, moved = hashlib.sha256(), 0, None
        for document in at.lab.many.find({}, batch_size=BATCH).sort("_id", 1):
            if seen == DOCUMENTS // 2:
                moved = lab.api("POST", "/v1/targets/Cluster0/shard-00-00/move", {})
            assert document["_id"] == seen, (document["_id"], seen)
            found.update(document["bytes"])
            seen += 1
        assert (seen, found.hexdigest()) == (DOCUMENTS, wanted.hexdigest())
    with client(STRING.replace(str(moved["from"]), str(moved["to"]))) as at:
        assert at.lab.many.count_documents({}) == DOCUMENTS


if __name__ == "__main__":
    lab.main(globals())
