"""Three gateways on one state in etcd, each in a network namespace of its own as if on hosts of their own: what clients, drivers
and operators see when gateways and members of etcd die, are stopped, cut off, or overtaken.

`a` serves us-east-1a and `b` us-east-1b; `c` is the standby of `a`. The test plays the network between them: it leads an
address to the gateway that serves it, as a router does that is told by VRRP or BGP. A driver writes all the time; its
errors are counted for each loss. The program has to be built with the feature `etcd` (`PLGW`, or as `.ci/run` builds it).
"""

import base64
import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import lab
from docs import check
from failover import Writer
from kill import SERVICE, ec2, element
from pymongo_driver import HOST, SRV

BUILT = lab.TOOLS / "plgw-etcd"
if "PLGW" not in os.environ:
    lab.PLGW = BUILT

HUB, ETCD = "10.0.9.1", "10.0.8.1"
# Each gateway's own address, the zones that it wants, and the endpoint addresses that its host has.
ZONE_A, ZONE_B = "10.0.30.194", "10.0.20.54"
GATEWAYS = {
    "a": ("10.0.9.11", ["us-east-1a"], [ZONE_A]),
    "b": ("10.0.9.12", ["us-east-1b"], [ZONE_B]),
    "c": ("10.0.9.13", ["us-east-1a"], [ZONE_A]),
}
MEMBERS = range(3)
VPC, SUBNET = "vpc-0b3f1c9a7d2e84f56", "subnet-0c1d2e3f4a5b60718"
# How long a lease lasts, until a standby may take a zone, and between two renewals: src/control/gateways/membership.rs.
LEASE, TAKEOVER, RENEWAL = 6, 8, 1
# What a busy machine may add, in seconds.
SLACK = 6

CONFIG = """
lab_dir = "{lab_dir}"
shutdown_grace = "2s"
{settings}
[dns]
listen = ["{address}:53"]
ttl = "1s"

[[vpc]]
id = "{vpc}"
region = "us-east-1"
cidrs = ["10.0.0.0/16"]
enable_dns_support = true
enable_dns_hostnames = true
subnet = [
    {{ id = "{subnet}", zone = "us-east-1a", cidr = "10.0.30.0/24" }},
    {{ id = "subnet-0c1d2e3f4a5b60719", zone = "us-east-1b", cidr = "10.0.20.0/24" }},
]
security_group = [
    {{ id = "sg-0a1b2c3d4e5f60718", name = "default", ingress = [{{ ports = "1024-65535", cidrs = ["10.0.0.0/16"] }}] }},
]

[[project]]
id = "5f2a1b3c4d5e6f7081920a3b"
{clusters}
[[project.endpoint_service]]
id = "vpce-svc-02863655456245e5c"
region = "us-east-1"
cidrs = ["10.1.0.0/16"]

[[interface_endpoint]]
id = "vpce-024f5b57108c8d3ed"
vpc = "{vpc}"
service = "{service}"
dns_suffix = "ypwbxwll"
address = [
    {{ subnet = "{subnet}", ip = "10.0.30.194" }},
    {{ subnet = "subnet-0c1d2e3f4a5b60719", ip = "10.0.20.54" }},
]
"""
CLUSTER0 = """
[[project.cluster]]
name = "Cluster0"
label = "k45tj"
naming = "dash"
type = "replica-set"
set_name = "Cluster0-shard-0-shard-0"
node = [
    { name = "shard-00-00", zone = "us-east-1a", address = "10.1.0.11:27017" },
    { name = "shard-00-01", zone = "us-east-1b", address = "10.1.0.12:27017" },
    { name = "shard-00-02", zone = "us-east-1a", address = "10.1.0.13:27017" },
]
"""
# Whose ports are moved: no driver uses it.
CLUSTER1 = """
[[project.cluster]]
name = "Cluster1"
label = "k45tj"
naming = "dash"
type = "replica-set"
node = [{ name = "shard-00-00", zone = "us-east-1a", address = "10.1.0.21:27017" }]
"""


def setup():
    lab.need("ip", "etcd", "nsenter", "sysctl")
    try:
        import dns.resolver  # noqa: F401
        import pymongo  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error
    if not lab.PLGW.exists():
        raise lab.Skip(f"{lab.PLGW} is missing: cargo build --features etcd")


# ---- hosts ----------------------------------------------------------------------------------------------------------


def network():
    """A bridge with a host for each gateway; etcd, servers and clients are where the test is."""
    pathlib.Path("/run/netns").mkdir(parents=True, exist_ok=True)
    lab.run("mount", "-t", "tmpfs", "none", "/run/netns")
    lab.run("ip", "link", "add", "br0", "type", "bridge")
    lab.run("ip", "address", "add", f"{HUB}/24", "dev", "br0")
    lab.run("ip", "link", "set", "br0", "up")
    lab.own_addresses(ETCD, "10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.21")
    for name, (address, _, _) in GATEWAYS.items():
        lab.run("ip", "netns", "add", name)
        lab.run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        lab.run("ip", "link", "set", f"to-{name}", "master", "br0", "up")
        there = ["ip", "-n", name]
        lab.run(*there, "link", "set", "lo", "up")
        lab.run(*there, "address", "add", f"{address}/24", "dev", "eth0")
        lab.run(*there, "link", "set", "eth0", "up")
        lab.run(*there, "route", "add", "default", "via", HUB)
        for endpoint in GATEWAYS[name][2]:
            lab.run(*there, "address", "add", f"{endpoint}/32", "dev", "lo")
        # Endpoints that are made while it runs have addresses that the host was not given.
        lab.run("nsenter", f"--net=/run/netns/{name}", "sysctl", "-q", "net.ipv4.ip_nonlocal_bind=1")
    lead(ZONE_A, "a")
    lead(ZONE_B, "b")


def lead(address, name):
    """Leads an endpoint's address to a gateway's host."""
    lab.run("ip", "route", "replace", f"{address}/32", "via", GATEWAYS[name][0], "src", HUB)


def cut(name):
    """Nothing goes from a gateway's host to etcd any more."""
    lab.run("ip", "-n", name, "route", "add", "blackhole", f"{ETCD}/32")


def heal(name):
    lab.run("ip", "-n", name, "route", "del", "blackhole", f"{ETCD}/32")


_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def inside(name, work):
    """What `work` returns at a gateway's host: in a thread, as a thread can stand in a network of its own."""
    outcome = []

    def there():
        with open(f"/run/netns/{name}") as namespace:
            assert _libc.setns(namespace.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            outcome.append((True, work()))
        except BaseException as error:  # noqa: BLE001
            outcome.append((False, error))

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    good, value = outcome[0]
    if not good:
        raise value
    return value


def ask(name, method, path, body=None):
    """A request to a gateway's admin API: status and JSON."""
    status, text = inside(name, lambda: lab.request(lab.ADMIN, method, path, body))
    return status, json.loads(text) if text.startswith(("{", "[")) else text


def get(name, path):
    status, answer = ask(name, "GET", path)
    assert status == 200, (name, path, status, answer)
    return answer


def move(name, port=None):
    return ask(name, "POST", "/v1/targets/Cluster1/shard-00-00/move", {} if port is None else {"port": port})


def port(name):
    return next(target["port"] for target in get(name, "/v1/targets")["targets"] if target["id"] == "Cluster1/shard-00-00")


def plgw(name, *words):
    return lab.run("nsenter", f"--net=/run/netns/{name}", lab.PLGW, *words, check=False)


# ---- etcd -----------------------------------------------------------------------------------------------------------


class Etcd:
    """A member."""

    def __init__(self, number):
        self.number = number
        self.url = f"http://{ETCD}:{2379 + 2 * number}"
        self.start("new")

    def start(self, state="existing"):
        def peer(number):
            return f"http://{ETCD}:{2380 + 2 * number}"

        with open(lab.work() / f"etcd-{self.number}.log", "a") as log:
            self.process = subprocess.Popen(
                ["etcd", "--name", f"m{self.number}", "--data-dir", lab.work() / f"etcd-{self.number}",
                 "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                 "--listen-peer-urls", peer(self.number), "--initial-advertise-peer-urls", peer(self.number),
                 "--initial-cluster", ",".join(f"m{n}={peer(n)}" for n in MEMBERS), "--initial-cluster-state", state,
                 "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h", "--log-level", "error",
                 "--unsafe-no-fsync=true"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def call(self, path, body):
        host, port = ETCD, 2379 + 2 * self.number
        status, text = lab.request((host, port), "POST", f"/v3/{path}", body)
        assert status == 200, (path, status, text)
        return json.loads(text)

    def is_leader(self):
        status = self.call("maintenance/status", {})
        return status["leader"] == status["header"]["member_id"]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)


def leader(etcd):
    found = []

    def look():
        found[:] = [member for member in etcd if member.process.poll() is None and member.is_leader()]
        assert len(found) == 1

    lab.eventually("etcd has a leader", look)
    return found[0]


def b64(text):
    return base64.b64encode(text.encode()).decode()


# ---- the fleet ------------------------------------------------------------------------------------------------------


class Host(lab.Gateway):
    """A gateway on its host."""

    def __init__(self, name):
        self.name = name
        there = lab.work() / name
        there.mkdir(exist_ok=True)
        address, zones, _ = GATEWAYS[name]
        endpoints = ", ".join(f'"http://{ETCD}:{2379 + 2 * number}"' for number in MEMBERS)
        settings = f'[state]\nstore = "etcd"\nendpoints = [{endpoints}]\nprefix = "fleet/"\n\n'
        settings += f'[gateway]\nid = "{name}"\nzones = {json.dumps(zones)}\n'
        self.config = there / "gateway.toml"
        self.config.write_text(config(address, settings, CLUSTER0 + CLUSTER1, there / "plgw-lab"))
        self.started = time.monotonic()
        # In its network namespace: `nsenter` becomes the program.
        program, lab.PLGW = lab.PLGW, "nsenter"
        try:
            super().__init__(f"--net=/run/netns/{name}", program, "serve", "--config", self.config, ready=False)
        finally:
            lab.PLGW = program
        lab.eventually(f"{name} is ready", self.is_ready, gateway=self)

    def is_ready(self):
        status, body = inside(self.name, lambda: lab.get(lab.METRICS, "/readyz"))
        assert status == 200, body
        return body


def config(address, settings, clusters, lab_dir):
    values = {"vpc": VPC, "subnet": SUBNET, "service": SERVICE, "address": address}
    return CONFIG.format(settings=settings, clusters=clusters, lab_dir=lab_dir, **values)


def stand_ins():
    """The servers, by the project's own stand-ins: a replica set over TLS, whose members know their names in the endpoint."""
    there = lab.work() / "servers"
    there.mkdir()
    (there / "gateway.toml").write_text(config(HUB, '[state]\nstore = "memory"\n', CLUSTER0 + CLUSTER1, there / "plgw-lab"))
    with open(there / "log", "w") as log:
        argv = [lab.PLGW, "lab", "process", "stand-ins", there]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, cwd=there)
    assert process.stdout.readline().strip() == "serves", (there / "log").read_text()
    return process, there / "plgw-lab" / "ca.pem"


class Fleet:
    def __init__(self):
        network()
        self.etcd = [Etcd(number) for number in MEMBERS]
        leader(self.etcd)
        self.servers, self.ca = stand_ins()
        self.hosts = {name: Host(name) for name in GATEWAYS}
        resolvers = "".join(f"nameserver {GATEWAYS[name][0]}\n" for name in ("b", "c", "a"))
        (lab.work() / "resolv.conf").write_text(f"{resolvers}options timeout:1 attempts:3\n")
        self.writer = Writer("pymongo", "fleet", SRV, self.ca)
        self.settled()

    def settled(self):
        """All live, both zones are served and in DNS everywhere, the driver writes, and the address of zone a leads there."""
        lab.eventually("all gateways see each other", lambda: self.check_all())
        lead(ZONE_A, self.holder())
        lab.eventually("the driver writes", self.writer.writes)

    def check_all(self):
        for name in GATEWAYS:
            view = get(name, "/v1/gateways")
            states = {gateway["id"]: gateway["state"] for gateway in view["gateways"]}
            assert sorted(states.values()) == ["serving", "serving", "standby"], (name, states)
            assert view["problem"] is None, (name, view["problem"])
            assert in_dns(name) == {ZONE_A, ZONE_B}, (name, in_dns(name))

    def holder(self, name="b"):
        """Who serves zone a, as `name` sees it."""
        claims = {claim["zone"]: claim["gateway"] for claim in get(name, "/v1/gateways")["claims"]}
        return claims["us-east-1a"]

    @contextlib.contextmanager
    def loss(self, what, most_pause, errors_may_be=True):
        """Something is lost: what the driver saw of it, by its time without an acknowledged write and the errors of writes."""
        lab.eventually("the driver writes", self.writer.writes)
        began, errors = time.monotonic(), set(self.writer.errors)
        yield
        lab.eventually("the driver writes again", self.writer.writes)
        time.sleep(1)  # Of this second the driver's writes are counted too.
        pause, seen = self.writer.pause(began), len(set(self.writer.errors) - errors)
        print(f"{what}: {pause:.1f} s without a write, {seen} errors of the driver")
        assert pause <= most_pause, (what, pause)
        assert errors_may_be or seen == 0, (what, list(self.writer.errors.values())[-3:])

    def close(self):
        self.writer.process.kill()
        self.servers.kill()
        for member in self.etcd:
            member.kill()


def fleet():
    fleet = Fleet()
    yield fleet
    fleet.close()


def in_dns(name):
    """The addresses of the regional name, as a gateway answers."""
    import dns.message
    import dns.query
    import dns.rdatatype

    question = dns.message.make_query(f"{HOST}.", "A")
    answer = dns.query.udp(question, GATEWAYS[name][0], timeout=5)
    return {item.address for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for item in rrset}


def accepts(address, number):
    with socket.create_connection((address, number), timeout=2):
        pass


def refuses(address, number):
    try:
        accepts(address, number)
    except (ConnectionRefusedError, ConnectionResetError):
        return
    raise AssertionError(f"{address}:{number} accepts")


def seconds(what, since, least, most):
    took = time.monotonic() - since
    print(f"  {what} after {took:.1f} s")
    assert least <= took <= most + SLACK, (what, took)


# ---- several gateways are one -------------------------------------------------------------------------------------------


def test_one_gateway_serves_a_zone_its_standby_waits_and_operators_see_it(fleet):
    """Scenario 14."""
    accepts(ZONE_A, 1024)
    accepts(ZONE_B, 1024)
    listeners = {name: get(name, "/v1/status")["listeners"] for name in GATEWAYS}
    assert listeners["a"] == listeners["b"] == 4 and listeners["c"] == 0, listeners
    table = plgw("b", "gateways", "list").stdout
    assert re.search(r"^  a +serving +us-east-1a +us-east-1a ", table, re.M), table
    assert re.search(r"^  b \(this one\) +serving ", table, re.M) and re.search(r"^  c +standby +us-east-1a ", table, re.M), table
    assert re.search(r"^  us-east-1a +a +c +stops, a standby takes it$", table, re.M), table
    assert re.search(r"^  us-east-1b +b +goes on$", table, re.M), table
    assert all(len(line) <= 80 for line in table.splitlines()), table
    shown = json.loads(plgw("c", "gateways", "list", "--output", "json").stdout)
    assert [gateway["id"] for gateway in shown["gateways"] if gateway["is_this"]] == ["c"], shown
    refused = plgw("b", "gateways", "forget", "a")
    assert refused.returncode == 1 and "was heard of" in refused.stderr, refused.stderr


def test_what_gateways_are_told_at_once_happens_once(fleet):
    """Scenarios 21, 22, 23: one port each, addresses and indexes of their own, one endpoint for one client token."""
    free = iter(range(2000, 2100))
    for _ in range(5):
        wanted = {name: next(free) for name in GATEWAYS}
        outcomes = at_once([lambda name=name: move(name, wanted[name]) for name in GATEWAYS])
        assert all(status in (200, 409, 503) for status, _ in outcomes), outcomes
        assert any(status == 200 for status, _ in outcomes), outcomes
        lab.eventually("all have one port", lambda: one({port(name) for name in GATEWAYS}))
        assert port("a") in wanted.values(), (port("a"), wanted)

    def create(name, token):
        form = {"SubnetId.1": SUBNET} | ({"ClientToken": token} if token else {})
        made = inside(name, lambda: ec2(Action="CreateVpcEndpoint", VpcEndpointType="Interface", VpcId=VPC, ServiceName=SERVICE, **form))
        return element(made, "vpcEndpointId")

    made = at_once([lambda n=n: create("abc"[n % 3], None) for n in range(8)])
    assert len(set(made)) == 8, made
    once = at_once([lambda name=name: create(name, "once") for name in GATEWAYS])
    assert len(set(once)) == 1, once

    def agree():
        seen = {name: {gate["id"]: [at["ip"] for at in gate["addresses"]] for gate in get(name, "/v1/endpoints")["endpoints"]} for name in GATEWAYS}
        one({json.dumps(of, sort_keys=True) for of in seen.values()})
        ips = [ip for of in seen["a"].values() for ip in of]
        assert len(seen["a"]) == 10 and len(ips) == len(set(ips)) == 11, seen["a"]

    lab.eventually("all have the same endpoints, each address once", agree)


def at_once(works):
    outcomes = [None] * len(works)

    def run(n):
        outcomes[n] = works[n]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def one(values):
    assert len(values) == 1, values
    return values


# ---- gateways that are lost ---------------------------------------------------------------------------------------------


def test_a_gateway_that_is_cut_off_without_a_standby_serves_on_and_leaves_dns(fleet):
    """Scenarios 1, 2, 10: flows and listeners go on, changes are refused, and what was compacted meanwhile is caught up with."""
    status, _ = move("b")
    assert status == 200
    before = port("b")
    with socket.create_connection((ZONE_B, 1024), timeout=10) as flow, fleet.loss("b cut off from etcd", 2, errors_may_be=False):
        cut("b")
        began = time.monotonic()
        lab.eventually("the others leave b's zone out", lambda: same(in_dns("a"), {ZONE_A}))
        seconds("b is out of a's DNS", began, LEASE - RENEWAL, LEASE + 3 * RENEWAL)
        accepts(ZONE_B, 1024)
        status, refused = move("b")
        assert status == 503 and refused["code"] == "not_saved", (status, refused)
        assert in_dns("b") == {ZONE_A, ZONE_B}, "who is cut off judges nobody"
        problems = [problem["message"] for problem in get("b", "/v1/status")["problems"]]
        assert any("etcd" in problem for problem in problems), problems
        fleet.hosts["b"].is_ready()
        for _ in range(3):
            status, moved = move("a")
            assert status == 200, moved
        assert moved["to"] != before, "b may have it open"
        state = fleet.etcd[0].call("kv/range", {"key": b64("fleet/head")})
        fleet.etcd[0].call("kv/compaction", {"revision": state["header"]["revision"]})
        heal("b")
        lab.eventually("b has followed", lambda: same(port("b"), moved["to"]))
        lab.eventually("b's zone is in DNS again", lambda: same(in_dns("a"), {ZONE_A, ZONE_B}))
        flow.sendall(b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0")
        flow.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            assert flow.recv(1) != b"", "its flow was not broken"
    assert fleet.hosts["b"].process.poll() is None
    fleet.settled()


def same(found, wanted):
    assert found == wanted, (found, wanted)


def test_a_killed_gateway_leaves_dns_and_comes_back_with_the_same_ports(fleet):
    """Scenario 4."""
    ports = {target["id"]: target["port"] for target in get("b", "/v1/targets")["targets"]}
    with fleet.loss("b killed", 12):
        fleet.hosts["b"].kill()
        began = time.monotonic()
        lab.eventually("b's zone leaves DNS", lambda: same(in_dns("a"), {ZONE_A}))
        seconds("b is out of DNS", began, LEASE - RENEWAL, LEASE + 3 * RENEWAL)
        fleet.hosts["b"] = Host("b")
        lab.eventually("b serves", lambda: accepts(ZONE_B, 1024))
    assert {target["id"]: target["port"] for target in get("b", "/v1/targets")["targets"]} == ports
    fleet.settled()


def test_a_standby_takes_the_zone_of_a_killed_gateway(fleet):
    """Scenarios 3, 4, 14: and who comes back is the standby."""
    first = fleet.holder()
    second = {"a": "c", "c": "a"}[first]
    with fleet.loss(f"{first} killed, {second} takes its zone", TAKEOVER + 10):
        fleet.hosts[first].kill()
        began = time.monotonic()
        lab.eventually("the standby serves the zone", lambda: same(get(second, "/v1/status")["listeners"] > 0, True))
        seconds("the standby serves the zone", began, TAKEOVER - 2 * RENEWAL, TAKEOVER + 3 * RENEWAL)
        lead(ZONE_A, second)
        accepts(ZONE_A, 1024)
        lab.eventually("the zone is in DNS", lambda: same(in_dns("b"), {ZONE_A, ZONE_B}))
        fleet.hosts[first] = Host(first)
    assert get(first, "/v1/status")["listeners"] == 0
    fleet.settled()


def test_a_gateway_that_stops_in_order_hands_its_zone_over_at_once(fleet):
    first = fleet.holder()
    second = {"a": "c", "c": "a"}[first]
    with fleet.loss(f"{first} stopped in order", 8):
        began = time.monotonic()
        fleet.hosts[first].process.send_signal(signal.SIGTERM)
        lab.eventually("the standby serves the zone", lambda: same(get(second, "/v1/status")["listeners"] > 0, True))
        seconds("the standby serves the zone", began, 0, 3 * RENEWAL)
        lead(ZONE_A, second)
        assert fleet.hosts[first].stop() == 0, fleet.hosts[first].tail()
        fleet.hosts[first] = Host(first)
    fleet.settled()


def test_a_gateway_that_was_stopped_beyond_its_lease_serves_no_more_when_it_wakes(fleet):
    """Scenario 12."""
    first = fleet.holder()
    second = {"a": "c", "c": "a"}[first]
    sleeper = fleet.hosts[first]
    with fleet.loss(f"{first} stopped (SIGSTOP)", 45):
        sleeper.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        lab.eventually("the standby serves the zone", lambda: same(get(second, "/v1/status")["listeners"] > 0, True))
        seconds("the standby serves the zone", began, TAKEOVER - 2 * RENEWAL, TAKEOVER + 3 * RENEWAL)
        lead(ZONE_A, second)
        # In its own network: nobody else is led there any more.
        queued = inside(first, lambda: socket.create_connection((ZONE_A, 1024), timeout=5))
        sleeper.process.send_signal(signal.SIGCONT)
        queued.settimeout(10)
        try:
            taken = queued.recv(1)
        except ConnectionResetError:
            taken = None
        assert taken is None, "what came while it was stopped is another gateway's"
        inside(first, lambda: lab.eventually("it listens no more", lambda: refuses(ZONE_A, 1024)))
        status, moved = move(first)
        assert status == 200, moved
        lab.eventually("all have the port", lambda: one({port(name) for name in GATEWAYS}))
    fleet.settled()


# ---- members of etcd that are lost --------------------------------------------------------------------------------------


def test_etcd_may_lose_its_leader_while_changes_are_made_and_each_answer_is_true(fleet):
    """Scenarios 7, 9: killed, and stopped; no change is lost or done twice, and no client of a database notices."""
    for how in ("killed", "stopped"):
        with fleet.loss(f"etcd's leader {how}", 2, errors_may_be=False):
            lost = leader(fleet.etcd)
            answers = []
            moving = threading.Thread(target=lambda: answers.extend(move("ab"[n % 2]) for n in range(6)))
            moving.start()
            lost.kill() if how == "killed" else lost.signal(signal.SIGSTOP)
            moving.join(120)
            assert not moving.is_alive()
            good = [answer for status, answer in answers if status == 200]
            assert good and all(status in (200, 503) for status, _ in answers), answers
            for before, after in zip(good, good[1:]):
                unsure = any(status == 503 and answer["code"] == "outcome_unknown" for status, answer in answers)
                assert unsure or after["from"] == before["to"], answers
            lost.start() if how == "killed" else lost.signal(signal.SIGCONT)
            lab.eventually("all have one port", lambda: one({port(name) for name in GATEWAYS}))
            print(f"  {len(good)} of {len(answers)} moves were made meanwhile")
        fleet.settled()


def test_without_a_quorum_databases_are_reached_changes_are_refused_and_all_goes_on_afterwards(fleet):
    """Scenario 8."""
    with fleet.loss("no quorum in etcd", 2, errors_may_be=False):
        lost = [member for member in fleet.etcd if member is not leader(fleet.etcd)][:1] + [leader(fleet.etcd)]
        for member in lost:
            member.kill()
        for name in GATEWAYS:
            began = time.monotonic()
            status, refused = move(name)
            assert status == 503, (name, status, refused)
            assert time.monotonic() - began < 20
            fleet.hosts[name].is_ready()
        # Past every lease. The zone that has a standby takes nobody new now, so the driver's flows are what goes on there.
        time.sleep(TAKEOVER + 2)
        accepts(ZONE_B, 1024)
        assert in_dns("b") == {ZONE_A, ZONE_B}, "nobody is judged by what nobody can say"
        for member in lost:
            member.start()
    fleet.settled()
    lab.eventually("a change is made", lambda: same(move("b")[0], 200))


def test_keys_that_were_deleted_by_hand_are_not_taken_for_a_change(fleet):
    """Scenario 29, the last one: what is in force stays, and it is said."""
    before = {name: get(name, "/v1/snapshot")["listeners"] for name in GATEWAYS}
    with fleet.loss("keys of the state deleted", 2, errors_may_be=False):
        fleet.etcd[0].call("kv/deleterange", {"key": b64("fleet/"), "range_end": b64("fleet0")})
        for name in GATEWAYS:
            def says(name=name):
                problems = [problem["message"] for problem in get(name, "/v1/status")["problems"]]
                assert any("deleted" in problem for problem in problems), problems

            lab.eventually(f"{name} says it", says)
            assert move(name)[0] in (409, 503)
    after = get("b", "/v1/snapshot")["listeners"]
    assert [listener["address"] for listener in after] == [listener["address"] for listener in before["b"]]


def test_the_tour_shows_what_is_so():
    lab.need("dig")
    check("fleet.md")


def test_no_write_that_was_acknowledged_is_lost(fleet):
    hung = fleet.writer.stop()
    assert hung == [], hung
    import pymongo

    with pymongo.MongoClient(SRV, tlsCAFile=str(fleet.ca)) as client:
        there = {thing["_id"] for thing in client.lab[fleet.writer.collection].find()}
    lost = set(fleet.writer.written()) - there
    assert not lost, sorted(lost)
    print(f"{len(fleet.writer.written())} writes acknowledged, {len(fleet.writer.errors)} errors in all")


if __name__ == "__main__":
    lab.main(globals())
