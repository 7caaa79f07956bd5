"""Part D of tests/CONFORMANCE.md: three gateways on one state in three members of etcd, each gateway in a network namespace of its
own as if on a host of its own. What clients, drivers and operators see when gateways and members of etcd die, are stopped, cut off,
or slow.

`a` serves us-east-1a and `b` us-east-1b; `c` is the standby of `a`. The test plays the network between them: it leads an
address to the gateway that serves it, as a router does that learns that by VRRP or BGP. `b` reaches etcd through `Proxies`, which can
be slow and lose what they carry. Two drivers write all the time; their errors are counted for each loss.
"""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import lab
from docs import check
from failover import Writer
from kill import PROJECT, SERVICE, element
from pymongo_driver import HOST, SRV

HUB, ETCD = "10.0.9.1", "10.0.8.1"
ZONES = ["us-east-1a", "us-east-1b"]
ZONE_A, ZONE_B = "10.0.30.194", "10.0.20.54"
# Each gateway's own address, the zones that it wants, and the endpoint addresses that its host has.
GATEWAYS = {
    "a": ("10.0.9.11", ZONES[:1], [ZONE_A]),
    "b": ("10.0.9.12", ZONES[1:], [ZONE_B]),
    "c": ("10.0.9.13", ZONES[:1], [ZONE_A]),
}
MEMBERS = range(3)
VPC, SUBNET = "vpc-0b3f1c9a7d2e84f56", "subnet-0c1d2e3f4a5b60718"
TARGET = "Cluster1/shard-00-00"
DRIVERS = ["pymongo", "Go"]

CONFIG = """
lab_dir = "{lab_dir}"
shutdown_grace = "2s"
{settings}
[dns]
listen = ["{address}:53"]
ttl = "1s"

[[vpc]]
id = "vpc-0b3f1c9a7d2e84f56"
region = "us-east-1"
cidrs = ["10.0.0.0/16"]
enable_dns_support = true
enable_dns_hostnames = true
subnet = [
    {{ id = "subnet-0c1d2e3f4a5b60718", zone = "us-east-1a", cidr = "10.0.30.0/24" }},
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
vpc = "vpc-0b3f1c9a7d2e84f56"
service = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c"
dns_suffix = "ypwbxwll"
address = [
    {{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "10.0.30.194" }},
    {{ subnet = "subnet-0c1d2e3f4a5b60719", ip = "10.0.20.54" }},
]

[[app_service]]
id = "vpce-svc-0718bec2c0bdeab5c"
region = "us-east-1"
type = "general"
cidrs = ["10.1.0.0/16"]

[[app]]
id = "myapp-abcde"
project = "5f2a1b3c4d5e6f7081920a3b"
deployment = "local"
region = "us-east-1"
public_address = "10.9.0.10:8443"
backend = "http://10.1.0.31:9080"
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
# The target that is moved; no driver uses it.
CLUSTER1 = """
[[project.cluster]]
name = "Cluster1"
label = "k45tj"
naming = "dash"
type = "replica-set"
node = [{ name = "shard-00-00", zone = "us-east-1a", address = "10.1.0.21:27017" }]
"""


def setup():
    lab.need("dig", "etcd", "ip", "nsenter", "sysctl")
    try:
        import dns.resolver  # noqa: F401
        import pymongo  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error
    if not lab.PLGW.exists():
        raise lab.Skip(f"{lab.PLGW} is missing: cargo build --release --features etcd")
    text = config("127.0.0.1", settings("a", ["http://127.0.0.1:1"], ZONES), lab.work() / "plgw-lab")
    (lab.work() / "unreached.toml").write_text(text)
    unreached = lab.run(lab.PLGW, "serve", "--config", lab.work() / "unreached.toml", check=False)
    if "without the feature `etcd`" in unreached.stderr:
        raise lab.Skip(f"{lab.PLGW} was built without the feature `etcd`")


# ---- hosts ----------------------------------------------------------------------------------------------------------


def network():
    """A bridge with a host for each gateway; etcd, servers and clients are where the test is."""
    pathlib.Path("/run/netns").mkdir(parents=True, exist_ok=True)
    lab.run("mount", "-t", "tmpfs", "none", "/run/netns")
    lab.run("ip", "link", "add", "br0", "type", "bridge")
    lab.run("ip", "address", "add", f"{HUB}/24", "dev", "br0")
    lab.run("ip", "link", "set", "br0", "up")
    lab.own_addresses(ETCD, "10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.21", "10.1.0.31")
    for name, (address, _, endpoints) in GATEWAYS.items():
        lab.run("ip", "netns", "add", name)
        lab.run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        lab.run("ip", "link", "set", f"to-{name}", "master", "br0", "up")
        there = ["ip", "-n", name]
        lab.run(*there, "link", "set", "lo", "up")
        lab.run(*there, "address", "add", f"{address}/24", "dev", "eth0")
        lab.run(*there, "link", "set", "eth0", "up")
        lab.run(*there, "route", "add", "default", "via", HUB)
        for endpoint in endpoints:
            lab.run(*there, "address", "add", f"{endpoint}/32", "dev", "lo")
        # Endpoints that are made while it runs have addresses that the host was not given.
        lab.run("nsenter", f"--net=/run/netns/{name}", "sysctl", "-q", "net.ipv4.ip_nonlocal_bind=1")
    lead(ZONE_A, "a")
    lead(ZONE_B, "b")


def lead(address, name):
    """Leads an endpoint's address to a gateway's host."""
    lab.run("ip", "route", "replace", f"{address}/32", "via", GATEWAYS[name][0], "src", HUB)


@contextlib.contextmanager
def cut(name):
    """Nothing goes from a gateway's host to etcd meanwhile."""
    lab.run("ip", "-n", name, "route", "add", "blackhole", f"{ETCD}/32")
    try:
        yield
    finally:
        lab.run("ip", "-n", name, "route", "del", "blackhole", f"{ETCD}/32")


_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def inside(name, work):
    """The result of `work` at a gateway's host, in a thread, as a network namespace belongs to a thread."""
    outcome = []

    def there():
        try:
            with open(f"/run/netns/{name}") as namespace:
                assert _libc.setns(namespace.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001
            outcome.append((None, error))

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error:
        raise error
    return value


def ask(name, method, path, body=None, headers=(), at=lab.ADMIN):
    """A request to a gateway's admin API: status, and JSON where it is that."""

    def there():
        connection = http.client.HTTPConnection(*at, timeout=lab.SOON)
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, {"content-type": "application/json", **dict(headers)})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    status, text = inside(name, there)
    return status, json.loads(text) if text.startswith(("{", "[")) else text


def get(name, path):
    status, answer = ask(name, "GET", path)
    assert status == 200, (name, path, status, answer)
    return answer


def ec2(name, **form):
    """A call of EC2's API: status and XML."""
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "authorization": "AWS4-HMAC-SHA256 Credential=a/20260810/us-east-1/ec2/aws4_request, Signature=x",
    }
    return ask(name, "POST", "/", urllib.parse.urlencode(form), headers)


def move(name, port=None):
    return ask(name, "POST", f"/v1/targets/{TARGET}/move", {} if port is None else {"port": port})


def port(name, target=TARGET):
    return ports(name)[target]


def ports(name):
    return {target["id"]: target["port"] for target in get(name, "/v1/targets")["targets"]}


def listeners(name):
    return get(name, "/v1/status")["listeners"]


def problems(name):
    return [problem["message"] for problem in get(name, "/v1/status")["problems"]]


def says(name, words):
    assert any(words in problem for problem in problems(name)), (name, problems(name))


def ready(name):
    """The body of `/readyz`, which must have status 200."""
    status, body = ask(name, "GET", "/readyz", at=lab.METRICS)
    assert status == 200, body
    return body


def plgw(name, *words):
    return lab.run("nsenter", f"--net=/run/netns/{name}", lab.PLGW, *words, check=False)


# ---- etcd -----------------------------------------------------------------------------------------------------------


class Etcd:
    """A member."""

    def __init__(self, number):
        self.number = number
        self.address = (ETCD, 2379 + 2 * number)
        self.start("new")

    def start(self, state="existing"):
        def peer(number):
            return f"http://{ETCD}:{2380 + 2 * number}"

        url = "http://{}:{}".format(*self.address)
        with open(lab.work() / f"etcd-{self.number}.log", "a") as log:
            self.process = subprocess.Popen(
                ["etcd", "--name", f"m{self.number}", "--data-dir", lab.work() / f"etcd-{self.number}",
                 "--listen-client-urls", url, "--advertise-client-urls", url,
                 "--listen-peer-urls", peer(self.number), "--initial-advertise-peer-urls", peer(self.number),
                 "--initial-cluster", ",".join(f"m{n}={peer(n)}" for n in MEMBERS), "--initial-cluster-state", state,
                 "--log-level", "error", "--unsafe-no-fsync=true"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def call(self, path, body):
        status, text = lab.request(self.address, "POST", f"/v3/{path}", body)
        assert status == 200, (path, status, text)
        return json.loads(text)

    def is_leader(self):
        status = self.call("maintenance/status", {})
        return status.get("leader") == status["header"]["member_id"]

    def kill(self):
        self.process.kill()
        self.process.wait()


def leader(etcd):
    def look():
        found = [member for member in etcd if member.process.poll() is None and member.is_leader()]
        assert len(found) == 1, found
        return found[0]

    return lab.eventually("etcd has a leader", look)


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Proxies:
    """The way from `b` to the members of etcd. What goes to them can be `slow`; of the next transaction of `b`, which its own key is
    in, the request or the answer can be lost (`lose`), with its connection."""

    def __init__(self):
        self.slow, self.lose, self.lost = 0.0, None, 0
        self.ports = {}
        for number in MEMBERS:
            listener = socket.create_server((ETCD, 0))
            self.ports[number] = listener.getsockname()[1]
            threading.Thread(target=self.accept, args=(listener, (ETCD, 2379 + 2 * number)), daemon=True).start()

    def accept(self, listener, member):
        while True:
            gateway, _ = listener.accept()
            try:
                etcd = socket.create_connection(member, timeout=1)
            except OSError:
                gateway.close()
                continue
            etcd.settimeout(None)
            threading.Thread(target=self.carry, args=(gateway, etcd, True), daemon=True).start()
            threading.Thread(target=self.carry, args=(etcd, gateway, False), daemon=True).start()

    def carry(self, source, sink, is_request):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(self.slow if is_request else 0)
                is_change = is_request and b"fleet/last/b" in data and b"fleet/head" in data
                lose = None
                if is_change:
                    lose, self.lose = self.lose, None
                if lose:
                    self.lost += 1
                    if lose == "answer":
                        # Nothing reads the answer.
                        sink.sendall(data)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# ---- the fleet ------------------------------------------------------------------------------------------------------


class Host(lab.Gateway):
    """A gateway on its host."""

    def __init__(self, name, config):
        self.name = name
        # In its network namespace: `nsenter` becomes the program.
        program, lab.PLGW = lab.PLGW, pathlib.Path("/usr/bin/env")
        try:
            super().__init__("nsenter", f"--net=/run/netns/{name}", program, "serve", "--config", config, ready=False)
        finally:
            lab.PLGW = program


def settings(name, endpoints, zones):
    return (f'[state]\nstore = "etcd"\nendpoints = {json.dumps(endpoints)}\nprefix = "fleet/"\n\n'
            f'[gateway]\nid = "{name}"\nzones = {json.dumps(zones)}\n')


def config(address, settings, lab_dir, clusters=CLUSTER0 + CLUSTER1):
    return CONFIG.format(address=address, settings=settings, lab_dir=lab_dir, clusters=clusters)


def serve(clusters):
    """Stand-ins as the servers of `clusters`: a replica set over TLS with members that have the endpoint's names in their horizons."""
    there = lab.work() / "servers"
    there.mkdir()
    (there / "gateway.toml").write_text(config(HUB, '[state]\nstore = "memory"\n', there / "plgw-lab", clusters))
    with open(there / "log", "w") as log:
        argv = [lab.PLGW, "lab", "process", "stand-ins", there]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, cwd=there)
    assert process.stdout.readline().strip() == "serves", (there / "log").read_text()
    return process, there / "plgw-lab" / "ca.pem"


class Fleet:
    def __init__(self, drivers=DRIVERS, stand_ins=CLUSTER0 + CLUSTER1, proxies=True):
        network()
        self.etcd = [Etcd(number) for number in MEMBERS]
        leader(self.etcd)
        self.proxies = Proxies() if proxies else None
        self.servers, self.ca = serve(stand_ins)
        self.hosts, self.writers = {}, []
        for name in GATEWAYS:
            self.start(name)
        resolvers = "".join(f"nameserver {GATEWAYS[name][0]}\n" for name in ("b", "c", "a"))
        (lab.work() / "resolv.conf").write_text(f"{resolvers}options timeout:1 attempts:3\n")
        self.writers = [Writer(driver, "fleet", SRV, self.ca) for driver in drivers]
        self.settled()

    def start(self, name):
        self.hosts[name] = Host(name, self.config(name))
        lab.eventually(f"{name} is ready", lambda: ready(name), gateway=self.hosts[name])

    def config(self, name, gateway=None):
        """The file of `name`'s config; `gateway`: with that id instead of its own."""
        there = lab.work() / f"{name}-{gateway}"
        there.mkdir(exist_ok=True)
        address, zones, _ = GATEWAYS[name]
        ports = [self.proxies.ports[number] if name == "b" and self.proxies else 2379 + 2 * number for number in MEMBERS]
        endpoints = [f"http://{ETCD}:{port}" for port in ports]
        values = settings(gateway or name, endpoints, zones)
        if gateway:
            # Beside the other process of that host.
            address = "127.0.0.9"
            values += f'[admin]\nlisten = "{address}:8474"\n[metrics]\nlisten = "{address}:9464"\n'
        (there / "gateway.toml").write_text(config(address, values, there / "plgw-lab"))
        return there / "gateway.toml"

    def settled(self):
        """All live, both zones are served and in DNS everywhere, the drivers write, and the address of zone a leads there."""
        lab.eventually("all gateways see each other", self.see_each_other)
        lead(ZONE_A, self.holder())
        lab.eventually("the drivers write", self.writes)

    def see_each_other(self):
        for name in GATEWAYS:
            view = get(name, "/v1/gateways")
            states = {gateway["id"]: gateway["state"] for gateway in view["gateways"]}
            assert sorted(states.values()) == ["serving", "serving", "standby"], (name, states)
            assert view["problem"] is None, (name, view["problem"])
            assert in_dns(name) == {ZONE_A, ZONE_B}, (name, in_dns(name))

    def holder(self, name="b"):
        """The gateway that serves zone a, from the view of `name`."""
        claims = {claim["zone"]: claim["gateway"] for claim in get(name, "/v1/gateways")["claims"]}
        return claims[ZONES[0]]

    def pair(self):
        """The gateway that serves zone a, and its standby."""
        first = self.holder()
        return first, {"a": "c", "c": "a"}[first]

    def writes(self, since=None):
        """Every driver does; `since`: several of its writes since then were acknowledged."""
        for writer in self.writers:
            writer.writes()
            assert since is None or sum(at > since for at in writer.written().values()) > 2, writer.driver

    @contextlib.contextmanager
    def loss(self, what, errors_may_be=False):
        """The effect of a failure on the drivers: their time without an acknowledged write, and failed writes."""
        lab.eventually("the drivers write", self.writes)
        began, before = time.monotonic(), [set(writer.errors) for writer in self.writers]
        yield
        over = time.monotonic()
        lab.eventually("the drivers write again", lambda: self.writes(over))
        for writer, known in zip(self.writers, before):
            errors = [error for number, error in list(writer.errors.items()) if number not in known]
            print(f"  {what}: {writer.driver}: {writer.pause(began):.1f} s without a write, {len(errors)} errors")
            assert errors_may_be or not errors, (what, writer.driver, errors[-3:])

    def close(self):
        for writer in self.writers:
            writer.process.kill()
        self.servers.kill()
        for member in self.etcd:
            member.kill()


def fleet():
    fleet = Fleet()
    yield fleet
    fleet.close()


class Tour(threading.Thread):
    """The tour of docs/fleet.md, on the loopback addresses of the test's network, while the tests wait for other things."""

    def __init__(self):
        super().__init__(daemon=True)
        self.problem = None
        self.start()

    def run(self):
        try:
            check("docs/fleet.md")
        except BaseException as error:  # noqa: BLE001
            self.problem = error


def tour():
    yield Tour()


def in_dns(name):
    """The addresses of the regional name, as a gateway answers."""
    import dns.message
    import dns.query
    import dns.rdatatype

    question = dns.message.make_query(f"{HOST}.", "A")
    answer = dns.query.udp(question, GATEWAYS[name][0], timeout=5)
    return {item.address for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for item in rrset}


def accepts(address, number=1024):
    socket.create_connection((address, number), timeout=2).close()


def refuses(address, number=1024):
    try:
        accepts(address, number)
    except (ConnectionRefusedError, ConnectionResetError):
        return
    raise AssertionError(f"{address}:{number} accepts")


def same(found, wanted):
    assert found == wanted, (found, wanted)


def one(values):
    assert len(values) == 1, values


def at_once(works):
    """The results of all works, run in parallel."""
    outcomes = [None] * len(works)

    def run(n):
        outcomes[n] = works[n]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# ---- several gateways are one ---------------------------------------------------------------------------------------


def test_one_gateway_serves_a_zone_its_standby_waits_and_operators_see_it(tour, fleet):
    """D13, D14."""
    accepts(ZONE_A)
    accepts(ZONE_B)
    assert [listeners(name) for name in GATEWAYS] == [4, 4, 0], [listeners(name) for name in GATEWAYS]

    def listed():
        table = plgw("b", "gateways", "list").stdout
        assert re.search(r"^  a +serving +us-east-1a +us-east-1a ", table, re.M), table
        assert re.search(r"^  b \(this one\) +serving ", table, re.M) and re.search(r"^  c +standby +us-east-1a ", table, re.M), table
        # Shown from the renewal on by which a gateway that has seen the standby fences its claim.
        assert re.search(r"^  us-east-1a +a +c +stops, a standby takes it$", table, re.M), table
        assert re.search(r"^  us-east-1b +b +goes on$", table, re.M), table
        return table

    table = lab.eventually("the claim that a standby waits for is fenced", listed)
    assert all(len(line) <= 80 for line in table.splitlines()), table
    shown = json.loads(plgw("c", "gateways", "list", "--output", "json").stdout)
    assert [gateway["id"] for gateway in shown["gateways"] if gateway["is_this"]] == ["c"], shown
    refused = plgw("b", "gateways", "forget", "a")
    assert refused.returncode == 1 and "renewed its lease" in refused.stderr, refused.stderr
    # Another process with an id that is in use, on another host.
    second = plgw("c", "serve", "--config", fleet.config("c", gateway="a"))
    assert second.returncode != 0 and "gateway id `a` is taken" in second.stderr, second.stderr


def test_concurrent_changes_at_two_gateways_happen_once(fleet):
    """D21, D22, D23: one port, addresses and indexes of their own, one endpoint for one client token."""
    free = iter(range(2000, 2100))
    for _ in range(5):
        wanted = {name: next(free) for name in GATEWAYS}
        outcomes = at_once([lambda name=name: move(name, wanted[name]) for name in GATEWAYS])
        assert any(status == 200 for status, _ in outcomes), outcomes
        assert all(status in (200, 409) for status, _ in outcomes), outcomes
        lab.eventually("all have one port", lambda: one({port(name) for name in GATEWAYS}))
        assert port("a") in wanted.values(), (port("a"), wanted)

    def create(name, **token):
        form = {"VpcEndpointType": "Interface", "VpcId": VPC, "ServiceName": SERVICE, "SubnetId.1": SUBNET}
        status, made = ec2(name, Action="CreateVpcEndpoint", **form, **token)
        assert status == 200, made
        return element(made, "vpcEndpointId")

    made = at_once([lambda n=n: create("abc"[n % 3]) for n in range(8)])
    assert len(set(made)) == 8, made
    once = at_once([lambda name=name: create(name, ClientToken="once") for name in GATEWAYS])
    one(set(once))

    def agree():
        seen = {name: get(name, "/v1/endpoints")["endpoints"] for name in GATEWAYS}
        addresses = {name: {of["id"]: [at["ip"] for at in of["addresses"]] for of in seen[name]} for name in seen}
        one({json.dumps(of, sort_keys=True) for of in addresses.values()})
        all_ = [ip for ips in addresses["a"].values() for ip in ips]
        assert len(addresses["a"]) == 10 and len(all_) == len(set(all_)) == 11, addresses["a"]

    lab.eventually("all have the same endpoints, each address once", agree)


def test_slow_and_lost_answers_of_etcd_delay_changes_and_each_happens_once(fleet):
    """D6, D9: half a second for each question, then a change whose request is lost, and one whose answer is."""
    with fleet.loss("etcd slow for b"):
        fleet.proxies.slow = 0.5
        status, moved = move("b")
        fleet.proxies.slow = 0.0
        assert status == 200, moved
    for what in ("request", "answer"):
        lost, before = fleet.proxies.lost, port("b")
        fleet.proxies.lose = what
        status, moved = move("b")
        assert fleet.proxies.lost == lost + 1, f"no {what} was lost"
        assert status == 200 and moved["from"] == before, (what, status, moved)
        lab.eventually("all have it", lambda: same({port(name) for name in GATEWAYS}, {moved["to"]}))
    fleet.settled()


# ---- gateways that are lost -----------------------------------------------------------------------------------------


def test_a_gateway_cut_off_without_a_standby_keeps_serving_and_leaves_dns(fleet):
    """D1, D2, D3, D10: flows and listeners continue, changes are refused, and a gateway catches up after a compaction."""
    before = port("b")
    with socket.create_connection((ZONE_B, 1024), timeout=10) as flow, fleet.loss("b cut off from etcd"):
        with cut("b"):
            lab.eventually("the others leave b's zone out", lambda: same(in_dns("a"), {ZONE_A}))
            accepts(ZONE_B)
            status, refused = move("b")
            assert status == 503 and refused["code"] == "not_saved", (status, refused)
            assert in_dns("b") == {ZONE_A, ZONE_B}, "a gateway that is cut off judges no other"
            says("b", "the state store has not answered since")
            assert "the state store has not answered since" in json.dumps(ready("b"))
            for _ in range(3):
                status, moved = move("a")
                assert status == 200, moved
                assert moved["to"] != before, "b may have it open"
            state = fleet.etcd[0].call("kv/range", {"key": b64("fleet/head")})
            fleet.etcd[0].call("kv/compaction", {"revision": state["header"]["revision"]})
        lab.eventually("b has followed", lambda: same(port("b"), moved["to"]))
        lab.eventually("b's zone is in DNS again", lambda: same(in_dns("a"), {ZONE_A, ZONE_B}))
        flow.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            assert flow.recv(1) != b"", "its flow was not broken"
    assert fleet.hosts["b"].process.poll() is None
    fleet.settled()


def test_a_killed_gateway_comes_back_at_once_with_the_same_ports(fleet):
    """D4."""
    before = ports("b")
    with fleet.loss("b killed and started again", errors_may_be=True):
        fleet.hosts["b"].kill()
        refuses(ZONE_B)
        fleet.start("b")
        accepts(ZONE_B)
        assert ports("b") == before
        # Of `wait_until_free` in src/control/holder.rs.
        assert "waiting until its lease ends" not in fleet.hosts["b"].log.read_text(), fleet.hosts["b"].tail()
    fleet.settled()


def test_a_standby_takes_the_zone_of_a_killed_gateway(fleet):
    """D4, D14: and the one that comes back is the standby."""
    first, second = fleet.pair()
    with fleet.loss(f"{first} killed, {second} takes its zone", errors_may_be=True):
        fleet.hosts[first].kill()
        lab.eventually("the standby serves the zone", lambda: same(listeners(second) > 0, True))
        lead(ZONE_A, second)
        accepts(ZONE_A)
        lab.eventually("the zone is in DNS", lambda: same(in_dns("b"), {ZONE_A, ZONE_B}))
        fleet.start(first)
    assert listeners(first) == 0
    fleet.settled()


def test_a_gateway_that_shuts_down_hands_its_zone_over_at_once(fleet):
    """D14: the standby does not wait for the end of its lease."""
    first, second = fleet.pair()
    seen = []

    def takes_over():
        seen.extend(gateway for gateway in get(second, "/v1/gateways")["gateways"] if gateway["id"] == first)
        assert listeners(second) > 0

    with fleet.loss(f"{first} stopped in order", errors_may_be=True):
        fleet.hosts[first].process.send_signal(signal.SIGTERM)
        lab.eventually("the standby serves the zone", takes_over)
        # One that left has no registration any more; one that died has it still.
        assert not any(of["state"] == "gone" and of["heard_seconds_ago"] is not None for of in seen), seen[-1]
        lead(ZONE_A, second)
        assert fleet.hosts[first].process.wait(lab.SOON) == 0, fleet.hosts[first].tail()
        fleet.start(first)
    fleet.settled()


def test_a_gateway_stopped_beyond_its_lease_serves_no_more_when_it_resumes(fleet):
    """D12."""
    first, second = fleet.pair()
    sleeper = fleet.hosts[first]
    with fleet.loss(f"{first} stopped (SIGSTOP)", errors_may_be=True):
        sleeper.process.send_signal(signal.SIGSTOP)
        lab.eventually("the standby serves the zone", lambda: same(listeners(second) > 0, True))
        lead(ZONE_A, second)
        # In its own network: no other client is led there any more.
        queued = inside(first, lambda: socket.create_connection((ZONE_A, 1024), timeout=5))
        sleeper.process.send_signal(signal.SIGCONT)
        queued.settimeout(10)
        try:
            taken = queued.recv(1)
        except ConnectionResetError:
            taken = None
        assert taken is None, "what came while it was stopped is another gateway's"
        inside(first, lambda: lab.eventually("it listens no more", lambda: refuses(ZONE_A)))
        status, moved = move(first)
        assert status == 200, moved
        lab.eventually("all have the port", lambda: same({port(name) for name in GATEWAYS}, {moved["to"]}))
    fleet.settled()


# ---- members of etcd that are lost ----------------------------------------------------------------------------------


def test_etcd_loses_its_leader_while_changes_are_made_and_each_answer_is_true(fleet):
    """D7, D9: killed, and stopped; no change is lost or done twice, and no client of a database notices."""
    for how in ("killed", "stopped"):
        with fleet.loss(f"etcd's leader {how}"):
            lost, answers = leader(fleet.etcd), []
            moving = threading.Thread(target=lambda: answers.extend(move("ab"[n % 2]) for n in range(4)))
            moving.start()
            lost.kill() if how == "killed" else lost.process.send_signal(signal.SIGSTOP)
            moving.join(120)
            assert not moving.is_alive()
            assert all(status in (200, 503) for status, _ in answers), answers
            good = [answer for status, answer in answers if status == 200]
            is_unsure = any(status == 503 and answer["code"] == "outcome_unknown" for status, answer in answers)
            assert good, answers
            for before, after in zip(good, good[1:]):
                assert is_unsure or after["from"] == before["to"], answers
            lost.start() if how == "killed" else lost.process.send_signal(signal.SIGCONT)
            lab.eventually("all have one port", lambda: one({port(name) for name in GATEWAYS}))
            assert is_unsure or port("a") == good[-1]["to"], answers
            print(f"  {len(good)} of {len(answers)} changes were made meanwhile")
        fleet.settled()


def refusals(name):
    """Each API's answer to a change: status, code, text, and the expected code."""
    status, answer = move(name)
    yield status, answer["code"], answer["message"], "not_saved"
    status, xml = ec2(name, Action="CreateVpc", CidrBlock="10.4.0.0/16")
    yield status, element(xml, "Code"), element(xml, "Message"), "Unavailable"
    body = {"providerName": "AWS", "region": "EU_WEST_1"}
    atlas = {"accept": "application/vnd.atlas.2023-01-01+json", "content-type": "application/vnd.atlas.2023-01-01+json"}
    status, answer = ask(name, "POST", f"{PROJECT}/privateEndpoint/endpointService", body, atlas)
    yield status, answer["errorCode"], answer["detail"], "SERVICE_UNAVAILABLE"
    services = "/api/admin/v3.0"
    _, login = ask(name, "POST", f"{services}/auth/providers/mongodb-cloud/login", {"username": "public", "apiKey": "private"})
    token = {"authorization": f"Bearer {login['access_token']}"}
    apps = f"{services}/groups/{PROJECT.rpartition('/')[2]}/apps"
    _, found = ask(name, "GET", apps, None, token)
    switch = f"{apps}/{found[0]['_id']}/security/allow_non_vpc_client_requests"
    status, answer = ask(name, "POST", switch, {"allow_non_vpc_client_requests": True}, token)
    yield status, answer["error_code"], answer["error"], "ServiceUnavailable"


def test_without_a_quorum_databases_are_reached_changes_are_refused_and_all_recovers_afterwards(fleet):
    """D8: errors in every API's own form, with advice; a start is refused, and the zone with a standby takes no new connection."""
    # An application may need a new connection to the zone that takes none.
    with fleet.loss("no quorum in etcd", errors_may_be=True):
        at_the_top = leader(fleet.etcd)
        left = next(member for member in fleet.etcd if member is not at_the_top)
        lost = [member for member in fleet.etcd if member is not left]
        for member in lost:
            member.kill()
        for name in GATEWAYS:
            lab.eventually(f"{name} says so", lambda name=name: says(name, "the state store has not answered since"))
            assert "the state store has not answered since" in json.dumps(ready(name))
            assert "the state store has not answered since" in plgw(name, "status").stdout
        for status, code, words, wanted in refusals("b"):
            assert (status, code) == (503, wanted) and "nothing was changed; try again" in words, (status, code, words)
        # The zone that has a standby cannot know whether that one has it.
        lab.eventually("no new connection in the zone with a standby", lambda: refuses(ZONE_A))
        accepts(ZONE_B)
        assert in_dns("b") == {ZONE_A, ZONE_B}, "no gateway is judged by one that does not hear of it"
        started = plgw("c", "serve", "--config", fleet.config("c", gateway="d"))
        assert started.returncode != 0 and "no etcd member answered" in started.stderr, started.stderr
        for member in lost:
            member.start()
        lab.eventually("a change is made", lambda: same(move("b")[0], 200))
    fleet.settled()


def test_keys_deleted_by_hand_are_not_treated_as_a_change(fleet):
    """D29, the last one: the current state stays in force, and the gateways report it."""
    before = {name: get(name, "/v1/snapshot")["listeners"] for name in GATEWAYS}
    with fleet.loss("keys of the state deleted"):
        fleet.etcd[0].call("kv/deleterange", {"key": b64("fleet/"), "range_end": b64("fleet0")})
        for name in GATEWAYS:
            lab.eventually(f"{name} says so", lambda name=name: says(name, "its keys were deleted"))
            status, refused = move(name)
            assert status == 503 and "a restart of the gateway" in refused["message"], (status, refused)
    for name in GATEWAYS:
        now = get(name, "/v1/snapshot")["listeners"]
        assert [at["address"] for at in now] == [at["address"] for at in before[name]], name


def test_the_commands_of_the_page_print_what_it_says(tour):
    """C7, D3, D5."""
    tour.join(lab.SOON)
    assert not tour.is_alive(), "the tour does not end"
    if tour.problem:
        raise tour.problem


def test_no_write_that_was_acknowledged_is_lost(fleet):
    import pymongo

    for writer in fleet.writers:
        assert writer.stop() == [], "writes that never ended"
        with pymongo.MongoClient(SRV, tlsCAFile=str(fleet.ca)) as client:
            there = {thing["_id"] for thing in client.lab[writer.collection].find()}
        lost = set(writer.written()) - there
        assert not lost, sorted(lost)
        print(f"  {writer.driver}: {len(writer.written())} writes acknowledged, {len(writer.errors)} errors in all")


if __name__ == "__main__":
    lab.main(globals())
