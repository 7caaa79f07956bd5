"""Azure and Google Cloud (A30): a driver through each cloud's seed list."""

import json

import lab
import tour

SEEDS = {
    "azure0-pl-0.uzgh6.mongodb.net": "pl-0-eastus2-azure.uzgh6.mongodb.net",
    "google0-psc-0.uzgh6.mongodb.net": "pl-0-us-central1-gcp.uzgh6.mongodb.net",
}

# A client with no option set but the lab's CA; writes, reads its write back, and says through which addresses.
DRIVER = """
import json, sys, uuid, pymongo
client = pymongo.MongoClient(f"mongodb+srv://{sys.argv[1]}/", tlsCAFile=sys.argv[2])
mark = str(uuid.uuid4())
client.lab.marks.insert_one({"_id": mark})
assert client.lab.marks.find_one({"_id": mark}) == {"_id": mark}
print(json.dumps(sorted(f"{host}:{port}" for host, port in client.nodes)))
"""


def setup():
    tour.setup()


def test_a_driver_connects_by_each_clouds_seed_list():
    gateway = lab.quickstart("--clouds", "--state-in-memory")
    for seeds, host in SEEDS.items():
        said = lab.run(tour.VENV / "python", "-c", DRIVER, seeds, lab.ca(), timeout=lab.SOON)
        nodes = json.loads(said.stdout)
        assert nodes and set(nodes) <= {f"{host}:{port}" for port in (1024, 1025, 1026)}, (seeds, nodes)
    assert gateway.stop() == 0, gateway.tail()


if __name__ == "__main__":
    lab.main(globals())
