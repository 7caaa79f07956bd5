"""Azure and Google Cloud (A30): a driver through each cloud's seed list, Atlas' calls, and the rules of each provider, from
outside."""

import json
import urllib.parse

import lab
from pymongo_driver import client, setup  # noqa: F401

SEEDS = {
    "azure0-pl-0.uzgh6.mongodb.net": "pl-0-eastus2-azure.uzgh6.mongodb.net",
    "google0-psc-0.uzgh6.mongodb.net": "pl-0-us-central1-gcp.uzgh6.mongodb.net",
}
GROUP = "/api/atlas/v2/groups/5f2a1b3c4d5e6f7081920a3c"
AZURE = "65f0000000000000000000a1"
GOOGLE = "65f0000000000000000000b1"


def atlas(method, path, body=None):
    """A call of Atlas' API about the project: its status and its JSON."""
    status, text = lab.request(lab.ADMIN, method, f"{GROUP}/{path}", body)
    return status, json.loads(text)


def rule(name, address):
    return {"endpointGroupName": name, "gcpProjectId": "lab-project",
            "endpoints": [{"endpointName": name, "ipAddress": address}]}


def test_a_driver_connects_by_each_clouds_seed_list():
    gateway = lab.quickstart("--clouds", "--state-in-memory")
    for seeds, host in SEEDS.items():
        with client(f"mongodb+srv://{seeds}/") as at:
            mark = at.lab.marks.insert_one({}).inserted_id
            assert at.lab.marks.find_one({"_id": mark}) == {"_id": mark}
            nodes = {f"{name}:{port}" for name, port in at.nodes}
        assert nodes and nodes <= {f"{host}:{port}" for port in (1024, 1025, 1026)}, (seeds, nodes)
    limits_and_time_outs_are_each_providers()
    private_endpoints_of_every_provider_are_shown()
    the_scheme_without_port_mapping_is_refused_with_its_dates()
    several_endpoints_in_one_region_exclude_those_of_another_cloud()
    a_failed_endpoint_is_repaired()
    assert gateway.stop() == 0, gateway.tail()


def limits_and_time_outs_are_each_providers():
    limits = {own["service"]: own for own in lab.api("GET", "/v1/limits")["limits"]}
    for service, provider in ((AZURE, "AZURE"), (GOOGLE, "GCP")):
        own = limits[service]
        assert own["provider"] == provider and own["targets_per_region"]["limit"] == 150, own
    aws = [own["targets_per_region"]["limit"] for own in limits.values() if own["provider"] == "AWS"]
    assert aws == [50], limits
    idle = {one["address"]: one["idle_timeout"] for one in lab.api("GET", "/v1/snapshot")["listeners"]}
    assert idle["127.4.0.4:1024"] == "4m", "Azure: 4 minutes"
    assert idle["127.5.0.4:1024"] == "20m", "Google Cloud: 20 minutes"


def private_endpoints_of_every_provider_are_shown():
    services = {own["id"]: own for own in lab.api("GET", "/v1/private-endpoints")["private_endpoints"]}
    for service, provider, address in ((AZURE, "AZURE", "127.4.0.4"), (GOOGLE, "GCP", "127.5.0.4")):
        own = services[service]
        assert (own["provider"], own["status"]) == (provider, "Available"), own
        (endpoint,) = own["endpoints"]
        assert (endpoint["status"], endpoint["addresses"][0]["ip"]) == ("Available", address), endpoint
    _, metrics = lab.get(lab.METRICS, "/metrics")
    for provider in ("AWS", "AZURE", "GCP"):
        for name in ("plgw_endpoint_info", "plgw_target_slots_limit"):
            lines = [line for line in metrics.splitlines() if line.startswith(f"{name}{{")]
            assert any(f'provider="{provider}"' in line for line in lines), (name, lines)


def the_scheme_without_port_mapping_is_refused_with_its_dates():
    for wanted in ({}, {"portMappingEnabled": False}):
        body = {"providerName": "GCP", "region": "US_EAST_4", **wanted}
        status, answer = atlas("POST", "privateEndpoint/endpointService", body)
        assert (status, answer["errorCode"]) == (400, "INVALID_ATTRIBUTE"), answer
        assert "deprecated since 19 February 2026" in answer["detail"] and "30 April 2027" in answer["detail"], answer


def several_endpoints_in_one_region_exclude_those_of_another_cloud():
    """Atlas: "this limitation applies across cloud providers"."""
    to = f"privateEndpoint/GCP/endpointService/{GOOGLE}/endpoint"
    status, answer = atlas("POST", to, rule("second", "127.5.0.5"))
    assert (status, answer["errorCode"]) == (409, "MULTIPLE_PRIVATE_ENDPOINTS_IN_MULTIPLE_REGIONS"), answer
    assert "1 in AZURE US_EAST_2" in answer["detail"] and "2 in GCP CENTRAL_US" in answer["detail"], answer


def a_failed_endpoint_is_repaired():
    """A wrong address fails; the same call with the right one mends it."""
    views = lab.api("GET", "/v1/private-endpoints")["private_endpoints"]
    (known,) = next(own for own in views if own["id"] == AZURE)["endpoints"]
    name = urllib.parse.quote(known["id"], safe="")
    assert atlas("DELETE", f"privateEndpoint/AZURE/endpointService/{AZURE}/endpoint/{name}")[0] == 202
    to = f"privateEndpoint/GCP/endpointService/{GOOGLE}/endpoint"

    def is_in(wanted):
        _, view = atlas("GET", f"{to}/typo")
        assert view["status"] == wanted, view

    assert atlas("POST", to, rule("typo", "10.77.0.5"))[0] == 201
    lab.eventually("the address is in no network", lambda: is_in("FAILED"))
    assert atlas("POST", to, rule("typo", "127.5.0.5"))[0] == 201
    lab.eventually("it is connected", lambda: is_in("AVAILABLE"))
    addresses = {one["address"] for one in lab.api("GET", "/v1/snapshot")["listeners"]}
    assert "127.5.0.5:1024" in addresses, addresses


if __name__ == "__main__":
    lab.main(globals())
