"""Azure and Google Cloud (A30): a driver through each cloud's seed list."""

import lab
from pymongo_driver import client, setup  # noqa: F401

SEEDS = {
    "azure0-pl-0.uzgh6.mongodb.net": "pl-0-eastus2-azure.uzgh6.mongodb.net",
    "google0-psc-0.uzgh6.mongodb.net": "pl-0-us-central1-gcp.uzgh6.mongodb.net",
}


def test_a_driver_connects_by_each_clouds_seed_list():
    gateway = lab.quickstart("--clouds", "--state-in-memory")
    for seeds, host in SEEDS.items():
        with client(f"mongodb+srv://{seeds}/") as at:
            mark = at.lab.marks.insert_one({}).inserted_id
            assert at.lab.marks.find_one({"_id": mark}) == {"_id": mark}
            nodes = {f"{name}:{port}" for name, port in at.nodes}
        assert nodes and nodes <= {f"{host}:{port}" for port in (1024, 1025, 1026)}, (seeds, nodes)
    assert gateway.stop() == 0, gateway.tail()


if __name__ == "__main__":
    lab.main(globals())
