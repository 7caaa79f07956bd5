"""The requests that the `atlas privateEndpoints …` and `atlas clusters connectionStrings` commands send, in their order
and with their headers, against a gateway that runs the quickstart's inventory. Python's own digest client answers the
challenge when credentials are set. ADMIN=http://127.0.0.1:8474."""

import json
import os
import time
import urllib.error
import urllib.request

ADMIN = os.environ["ADMIN"]
PUBLIC, PRIVATE = os.environ.get("PLGW_ADMIN_PUBLIC_KEY"), os.environ.get("PLGW_ADMIN_PRIVATE_KEY")
GROUP = "/api/atlas/v2/groups/5f2a1b3c4d5e6f7081920a3b"
PL = f"{GROUP}/privateEndpoint"

handlers = []
if PUBLIC:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, ADMIN, PUBLIC, PRIVATE)
    handlers.append(urllib.request.HTTPDigestAuthHandler(passwords))
opener = urllib.request.build_opener(*handlers)


def ask(method, path, body=None, version="2023-01-01"):
    media = f"application/vnd.atlas.{version}+json"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADMIN + path, data, {"Accept": media, "Content-Type": media}, method=method)
    try:
        with opener.open(request) as answer:
            status, content, text = answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        status, content, text = error.code, error.headers["Content-Type"], error.read()
    assert content == f"{media};charset=utf-8", content
    return status, json.loads(text)


def until(path, field, wanted):
    for _ in range(100):
        status, view = ask("GET", path)
        if wanted is None and status == 404:
            return view
        if view.get(field) == wanted:
            return view
        time.sleep(0.1)
    raise AssertionError(f"{path}: wanted {wanted}, got {view}")


passed = 0


def check(condition, what):
    global passed
    assert condition, what
    passed += 1


# aws create, describe, list, watch, delete
status, made = ask("POST", f"{PL}/endpointService", {"providerName": "AWS", "region": "eu-west-1"})
check(status == 201 and made["status"] == "INITIATING" and made["endpointServiceName"] is None, made)
status, again = ask("POST", f"{PL}/endpointService", {"providerName": "AWS", "region": "EU_WEST_1"})
check(status == 409 and again["errorCode"] == "PRIVATE_ENDPOINT_SERVICE_ALREADY_EXISTS_FOR_REGION", again)
check(again["parameters"] == ["AWS", "EU_WEST_1"], again)
one = f"{PL}/AWS/endpointService/{made['id']}"
view = until(one, "status", "AVAILABLE")
check(view["endpointServiceName"].startswith("com.amazonaws.vpce.eu-west-1.vpce-svc-"), view)
status, listed = ask("GET", f"{PL}/AWS/endpointService")
check(isinstance(listed, list) and {s["regionName"] for s in listed} == {"EU_WEST_1", "US_EAST_1"}, listed)
# interfaces create, describe, delete
status, added = ask("POST", f"{one}/endpoint", {"id": "vpce-0123456789abcdef0"})
check(status == 201 and added["connectionStatus"] == "PENDING" and added["deleteRequested"] is False, added)
status, removed = ask("DELETE", f"{one}/endpoint/vpce-0123456789abcdef0")
check(status == 202 and removed == {}, removed)
until(one, "status", None)
passed += 1
# the config's own
theirs = next(s for s in listed if s["regionName"] == "US_EAST_1")
status, endpoint = ask("GET", f"{PL}/AWS/endpointService/{theirs['id']}/endpoint/vpce-024f5b57108c8d3ed")
check(endpoint["connectionStatus"] == "AVAILABLE" and endpoint["errorMessage"] is None, endpoint)
# regionalModes describe, enable (refused: there is a replica set)
check(ask("GET", f"{PL}/regionalMode") == (200, {"enabled": False}), "regional mode is off")
status, refused = ask("PATCH", f"{PL}/regionalMode", {"enabled": True})
check(status == 409 and refused["error"] == 409 and refused["reason"] == "Conflict", refused)
# clusters connectionStrings describe
status, cluster = ask("GET", f"{GROUP}/clusters/Cluster0", version="2023-02-01")
private = cluster["connectionStrings"]["privateEndpoint"][0]
check(private["srvConnectionString"] == "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net", private)
check(private["endpoints"] == [{"endpointId": "vpce-024f5b57108c8d3ed", "providerName": "AWS", "region": "US_EAST_1"}],
      private)
status, sharded = ask("GET", f"{GROUP}/clusters/Sharded0", version="2024-08-05")
check("srvShardOptimizedConnectionString" in sharded["connectionStrings"]["privateEndpoint"][0], sharded)
# errors
status, lost = ask("GET", "/api/atlas/v2/groups/111111111111111111111111/privateEndpoint/regionalMode")
check(status == 404 and lost["errorCode"] == "GROUP_NOT_FOUND", lost)
status, lost = ask("GET", f"{PL}/AWS/endpointService/111111111111111111111111")
check(status == 404 and lost["errorCode"] == "PRIVATE_ENDPOINT_SERVICE_NOT_FOUND", lost)
print(f"atlas: {passed} passed, 0 failed")
