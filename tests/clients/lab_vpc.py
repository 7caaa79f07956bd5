"""The lab VPC with foreign clients: `nslookup` prints the page's output, and a real driver connects from the allowed hosts.

Builds a lab with `plgw lab up` and stands on its hosts with `plgw lab run`. Needs no network: the lab has its own. Without
namespaces it prints SKIP and why, and ends with 77, as automake has it. `.ci/run` installs pymongo and dnspython.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PLGW = pathlib.Path(os.environ.get("PLGW", TARGET / "release" / "plgw")).resolve()

SKIPPED = 77

# How long anything may take that ought to happen at once, in seconds. Generous: machines are busy.
SOON = 60

# pymongo's default timeouts for one address before it tries the next (`connectTimeoutMS`), and for a server.
CONNECT_TIMEOUT = 20

# Of a driver that may not get through. It needs both: where a path closes between the driver's monitor and its data connection, that
# one waits for each address in turn, as long as a connect may take.
IMPATIENT = ("serverSelectionTimeoutMS=2000", "connectTimeoutMS=2000")

PRIVATE = "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net/"
STANDARD = "mongodb+srv://cluster0-k45tj.mongodb.net/"
HOST = "pl-0-us-east-1-k45tj.mongodb.net"
APP_HOST = "us-east-1.aws.services.cloud.mongodb.com"
SRV = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net"
ZONES = {"us-east-1a": "10.0.30.194", "us-east-1b": "10.0.20.54"}

# As the page prints them, without the server's lines; the order of the records is free, and so is white space.
PAGE_SRV = """
Non-authoritative answer:
_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net service = 0 0 1026 pl-0-us-east-1-k45tj.mongodb.net.
_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net service = 0 0 1024 pl-0-us-east-1-k45tj.mongodb.net.
_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net service = 0 0 1025 pl-0-us-east-1-k45tj.mongodb.net.
"""
PAGE_HOST = """
Non-authoritative answer:
pl-0-us-east-1-k45tj.mongodb.net canonical name = vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com.
Name: vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com
Address: 10.0.30.194
Name: vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com
Address: 10.0.20.54
"""

# A client with no option set but the lab's CA; writes, reads its write back, and prints its source address.
DRIVER = """
import os, sys, uuid, pymongo
options = dict(pair.split("=") for pair in sys.argv[2:])
client = pymongo.MongoClient(sys.argv[1], tlsCAFile=os.environ["PLGW_CA"], **{k: int(v) for k, v in options.items()})
mark = str(uuid.uuid4())
client.lab.marks.insert_one({"_id": mark})
assert client.lab.marks.find_one({"_id": mark}) == {"_id": mark}
print("wrote and read through", *client.address)
"""


def plgw(*arguments, timeout=SOON):
    return subprocess.run([PLGW, "lab", *arguments], capture_output=True, text=True, timeout=timeout)


def at(place, *command, timeout=SOON):
    return plgw("run", "--at", place, "--", *command, timeout=timeout)


def drive(place, uri, *options, timeout=SOON):
    """One write and read by a driver; its output on success, else None."""
    done = at(place, sys.executable, "-c", DRIVER, uri, *options, timeout=timeout)
    if done.returncode:
        assert "Timeout" in done.stderr or "timed out" in done.stderr, done.stderr[-2000:]
        return None
    return done.stdout.strip()


def eventually(what, look):
    deadline = time.monotonic() + SOON
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {SOON} s: {what}"
        time.sleep(0.2)
    return found


def addresses(place):
    """The addresses that the name leads to, as `dig` at that place resolves it."""
    said = at(place, "dig", "+short", HOST)
    assert said.returncode == 0, said.stdout
    return {line for line in said.stdout.split() if re.fullmatch(r"[0-9.]+", line)}


def lines(text):
    """A text's lines with single spaces; of `nslookup`'s, not the server's, and nothing behind the answer."""
    text = text.split("Authoritative answers can be found from:")[0]
    kept = (" ".join(line.split()) for line in text.splitlines())
    return sorted(line for line in kept if line and not line.startswith("Server:") and "#53" not in line)


def test_nslookup_in_the_vpc_prints_what_the_page_prints():
    """A13, verbatim: the server's lines aside, and the order of the records."""
    for place in ("vpc", "vpc-b"):
        assert lines(at(place, "nslookup", "-type=SRV", SRV).stdout) == lines(PAGE_SRV), place
        said = at(place, "nslookup", HOST).stdout
        assert lines(said) == lines(PAGE_HOST), (place, said)
        assert re.search(r"^Address:\s+10\.0\.0\.2#53$", said, re.M), "the resolver is the VPC's base + 2"


def test_drivers_use_each_clouds_seed_list_from_within_its_network_alone():
    """A30, in a separate lab."""
    up = plgw("up", "--name", "clouds", "--clouds")
    assert up.returncode == 0, up.stderr
    try:
        for place, seeds in (("azure", "azure0-pl-0"), ("google", "google0-psc-0")):
            uri = f"mongodb+srv://{seeds}.uzgh6.mongodb.net/"
            for at_place, options, works in (
                (place, (), True),
                ("vpc", IMPATIENT, False),
                ({"azure": "google", "google": "azure"}[place], IMPATIENT, False),
            ):
                command = (sys.executable, "-c", DRIVER, uri, *options)
                done = plgw("run", "--name", "clouds", "--at", at_place, "--", *command)
                assert (done.returncode == 0) == works, (at_place, seeds, done.stdout, done.stderr[-2000:])
    finally:
        assert plgw("down", "--name", "clouds").returncode == 0


# A control client for a test that runs in the lab: it moves a port and sets a fault, using its environment variables.
CONTROL = """
import json, os, urllib.request
def ask(method, path, body=None):
    request = urllib.request.Request(os.environ["PLGW_ADMIN"] + path, json.dumps(body).encode() if body else None, method=method)
    request.add_header("Authorization", "Bearer " + os.environ["PLGW_ADMIN_TOKEN"])
    request.add_header("Content-Type", "application/json")
    text = urllib.request.urlopen(request, timeout=20).read()
    return json.loads(text) if text else None
targets = {target["id"]: target["port"] for target in ask("GET", "/v1/targets")["targets"]}
moved = ask("POST", "/v1/targets/Cluster0/shard-00-01/move", {"port": 1200})
print(targets["Cluster0/shard-00-01"], moved)
"""


def test_a_control_client_in_the_lab_moves_a_port_and_drivers_follow():
    """Every host but the service's has an admin API in its environment, with its token."""
    before = at("vpc", PLGW, "targets", "--output", "json")
    ports = {target["id"]: target["port"] for target in json.loads(before.stdout)["targets"]}
    target = "Cluster0/shard-00-01"
    done = at("peer", sys.executable, "-c", CONTROL)
    assert done.returncode == 0 and done.stdout.startswith(str(ports[target])), done.stdout + done.stderr
    assert drive("vpc", PRIVATE), "through the ports as they are now"
    again = at("onprem", PLGW, "target", "move", target)
    assert again.returncode == 0 and "from port 1200" in again.stdout, again.stdout + again.stderr
    assert at("service", PLGW, "targets").returncode != 0


def test_joined_networks_connect_by_name_without_an_access_list_and_others_do_not():
    """A3."""
    change(access_list=[])
    for place in ("vpc", "vpc-b", "peer", "onprem"):
        said = drive(place, PRIVATE)
        assert said and HOST in said, (place, said)
    for place in ("internet", "internet-b"):
        assert drive(place, PRIVATE, *IMPATIENT) is None, place


def test_listed_addresses_use_the_standard_strings_and_never_an_endpoint():
    """A15."""
    assert "27017" in drive("internet", STANDARD)
    assert drive("internet-b", STANDARD, *IMPATIENT) is None
    assert drive("internet", PRIVATE, *IMPATIENT) is None


def test_a_security_group_without_the_port_lets_the_driver_time_out_until_it_has_it():
    """A25."""
    change(first_port=2000)
    eventually("the port is closed", lambda: drive("vpc", PRIVATE, *IMPATIENT) is None)
    change(first_port=1024)
    eventually("the port is open", lambda: drive("vpc", PRIVATE, "serverSelectionTimeoutMS=5000"))


def test_a_lost_zone_costs_a_driver_no_more_than_its_connect_timeout():
    """A4, A14: no option is set; after DNS has dropped the zone, it costs nothing; healed, both are used."""
    for zone, address in ZONES.items():
        assert addresses("vpc") == set(ZONES.values())
        assert plgw("cut", zone).returncode == 0
        began = time.monotonic()
        # The driver makes two connections, a monitor and a data connection: each may try the dead address first.
        assert drive("vpc", PRIVATE, timeout=4 * CONNECT_TIMEOUT), f"{zone} is cut and the driver does not connect"
        took = time.monotonic() - began
        assert took < 2 * CONNECT_TIMEOUT + 10, took
        eventually("DNS drops the dead zone's address within its TTL", lambda: addresses("vpc") == set(ZONES.values()) - {address})
        if zone == "us-east-1b":
            # The stand-ins' primary is in the zone that is left: at once, as nothing leads to the dead address.
            began = time.monotonic()
            assert drive("vpc-b", PRIVATE), "by fresh DNS"
            assert time.monotonic() - began < CONNECT_TIMEOUT
        assert plgw("heal", zone).returncode == 0
        eventually("DNS answers both again", lambda: addresses("vpc") == set(ZONES.values()))
        eventually("a driver connects as before", lambda: drive("vpc", PRIVATE))


def use_the_app(public):
    """Every HTTP and WebSocket client, at every place: `appservices.py` has the steps."""
    ca = at("vpc", "printenv", "PLGW_CA").stdout.strip()
    steps = pathlib.Path(__file__).with_name("appservices.py")
    environment = {**os.environ, "NODE_PATH": str(TARGET / "clients" / "node_modules")}
    command = [sys.executable, "-B", steps, "--lab", PLGW, "--ca", ca, "--public", str(public), "--require", "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * SOON, env=environment)
    print(done.stdout.rstrip().rpartition("\n")[2])
    assert done.returncode == 0, done.stdout + done.stderr


def test_http_and_websocket_clients_use_the_app_from_joined_networks_and_no_other():
    """B1, B2, B3, B6, B9, B14."""
    use_the_app(404)


def test_the_switch_lets_listed_addresses_use_the_app_in_public():
    """B4, B5."""
    change(app='allow_non_vpc_requests = true\naccess_list = ["198.51.100.0/24"]\n')
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]
    ask += [at("vpc", "printenv", "PLGW_CA").stdout.strip(), f"https://{APP_HOST}/api/client/v2.0/app/myapp-abcde/location"]
    eventually("the switch is thrown", lambda: at("internet", *ask).stdout == "200")
    assert at("internet-b", *ask).stdout == "403"
    use_the_app(200)
    change()
    eventually("the switch is back", lambda: at("internet", *ask).stdout == "404")


def change(access_list=None, first_port=None, app=""):
    """Edits the gateway's config while it runs, starting from the original each time."""
    listed = ["198.51.100.0/24"] if access_list is None else access_list
    text = ORIGINAL.replace('access_list = ["198.51.100.0/24"]', f"access_list = {listed}")
    text = text.replace('ports = "1024-65535"', f'ports = "{first_port or 1024}-65535"')
    text = text.replace('public_address = "203.0.113.10:443"\n', f'public_address = "203.0.113.10:443"\n{app}')
    new = CONFIG.with_suffix(".new")
    new.write_text(text)
    new.rename(CONFIG)


def main():
    global CONFIG, ORIGINAL
    for tool in ("nslookup", "dig"):
        if not shutil.which(tool):
            print(f"SKIP there is no `{tool}` (Debian: dnsutils)")
            return SKIPPED
    try:
        import dns, pymongo  # noqa: F401
    except ImportError as error:
        print(f"SKIP {error}: `.ci/run` installs it")
        return SKIPPED
    os.environ["PLGW_LAB_DIR"] = labs = tempfile.mkdtemp(prefix="plgw-lab-")
    up = plgw("up")
    if "cannot make network namespaces" in up.stderr:
        print("SKIP", up.stderr.strip())
        os.rmdir(labs)
        return SKIPPED
    assert up.returncode == 0, up.stderr
    CONFIG = pathlib.Path(labs, "default", "gateway.toml")
    ORIGINAL = CONFIG.read_text()
    failed = 0
    try:
        for name, test in [(n, t) for n, t in globals().items() if n.startswith("test_")]:
            began = time.monotonic()
            try:
                test()
                change()
                print(f"ok     {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:
                failed += 1
                traceback.print_exc()
                print(f"FAILED {name}", flush=True)
                for zone in ZONES:
                    plgw("heal", zone)
    finally:
        plgw("down", "--all")
    left = sorted(pathlib.Path(labs).rglob("*")) if os.path.exists(labs) else []
    if left:
        print("FAILED files are left:", *left)
        failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
