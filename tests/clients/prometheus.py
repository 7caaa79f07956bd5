"""Prometheus scrapes a quickstart that is used, and a gateway in trouble: every query of the dashboards and alerts has an
answer, every alert that should fires for the one, and none for the other.

`PLGW_PICTURE=FILE PLGW_PICTURE_MINUTES=4` does something else: for that long it uses a quickstart to which things happen, and
draws the overview. The README's picture is made so.
"""

import asyncio
import json
import os
import pathlib
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import lab

DEPLOY = lab.ROOT / "deploy"
PROMETHEUS = "http://127.0.0.1:9090"
# Scrapes are 2 s apart here; Grafana's interval is at least four of them.
RATE_INTERVAL = "10s"

QUICKSTART, TROUBLED, GONE = "127.0.0.1:9464", "127.20.0.1:9464", "127.20.0.3:9464"
TROUBLED_ENDPOINT = "127.20.30.194"
PICTURE = os.environ.get("PLGW_PICTURE")
MINUTES = float(os.environ.get("PLGW_PICTURE_MINUTES", "0.5"))
# 46 targets of 50: a gateway near its limit.
SHARDS = 46


def setup():
    lab.need("prometheus", "promtool")
    try:
        import matplotlib  # noqa: F401
        import pymongo  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error
    sys.path.insert(0, str(DEPLOY / "grafana"))


# ---- what runs ------------------------------------------------------------------------------------------------------


def quickstart():
    """A quickstart after its self-check, so that Prometheus does not see the check's deliberate failures."""
    gateway = lab.quickstart()
    lab.eventually("the self-check is over", lambda: finds(gateway.log.read_text(), "Running. Ctrl-C"), gateway=gateway)
    stop = threading.Event()
    threads = [threading.Thread(target=again, args=(use, stop), daemon=True) for use in USES]
    for thread in threads:
        thread.start()
    yield gateway
    stop.set()
    for thread in threads:
        thread.join(timeout=lab.SOON)


LAST_ERRORS = {}


def again(use, stop):
    """One kind of use, repeated. Refusals are part of it."""
    while not stop.is_set():
        try:
            use()
        except Exception as error:  # noqa: BLE001
            # A use that never works leaves a panel without data, which the test reports.
            LAST_ERRORS[use.__name__] = error
        stop.wait(random.uniform(0.05, 0.3))


def use_replica_set():
    import pymongo

    with pymongo.MongoClient("mongodb+srv://cluster0-pl-0-k45tj.mongodb.net", tlsCAFile=str(lab.ca())) as client:
        things = client.lab.things
        for _ in range(random.randint(5, 25)):
            things.insert_one({"text": "x" * random.randint(100, 4000)})
            list(things.find().limit(20))
            time.sleep(0.05)
        things.delete_many({})


def use_sharded_cluster():
    import pymongo

    with pymongo.MongoClient("mongodb+srv://sharded0-pl-0-lb.auylw.mongodb.net", tlsCAFile=str(lab.ca())) as client:
        for _ in range(random.randint(5, 40)):
            client.lab.things.insert_one({"text": "y" * 1000})
            time.sleep(0.05)
        client.lab.things.delete_many({})


def use_app():
    """Requests that an app answers, and some that it must not."""
    general, internet, app = ("127.0.30.195", 8443), ("127.9.0.10", 8443), "myapp-abcde"
    for source, to, path in (
        ("127.0.0.9", general, f"/api/client/v2.0/app/{app}/location"),
        ("127.3.0.9", general, f"/api/client/v2.0/app/{app}/location"),
        ("127.0.0.9", general, f"/app/{app}/endpoint/greet"),
        ("127.9.0.9", internet, f"/api/client/v2.0/app/{app}/location"),
    ):
        request = f"GET {path} HTTP/1.1\r\nHost: us-east-1.aws.services.cloud.mongodb.com:8443\r\nConnection: close\r\n\r\n"
        with socket.create_connection(to, timeout=10, source_address=(source, 0)) as plain:
            name = "us-east-1.aws.services.cloud.mongodb.com"
            with ssl.create_default_context(cafile=lab.ca()).wrap_socket(plain, server_hostname=name) as stream:
                stream.sendall(request.encode())
                while stream.recv(4096):
                    pass
    # A client that does not know the lab's CA ends its handshake.
    with socket.create_connection(general, timeout=10) as plain:
        try:
            ssl.create_default_context().wrap_socket(plain, server_hostname="us-east-1.aws.services.cloud.mongodb.com")
        except ssl.SSLError:
            pass


def use_websocket():
    import websockets

    async def talk():
        trust = ssl.create_default_context(cafile=lab.ca())
        url = "wss://us-east-1.aws.ws.services.cloud.mongodb.com:8443/api/client/v2.0/app/myapp-abcde/realm-sync?baas_at=t"
        async with websockets.connect(url, host="127.0.30.196", port=8443, ssl=trust) as connection:
            for _ in range(20):
                await connection.send("z" * 2000)
                await connection.recv()
                await asyncio.sleep(0.1)

    asyncio.run(talk())


def use_refused():
    """Refused clients: the internet at a private endpoint and at an app's, and a client that resets."""
    for source, to in (("127.9.0.9", ("127.0.30.194", 1024)), ("127.9.1.9", ("127.9.0.11", 27017)),
                       ("127.9.0.9", ("127.0.30.195", 8443))):
        with socket.create_connection(to, timeout=5, source_address=(source, 0)):
            pass
    connection = socket.create_connection(("127.0.30.194", 1024), timeout=5)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def use_names():
    for name in ("pl-0-us-east-1-k45tj.mongodb.net", "us-east-1.aws.services.cloud.mongodb.com", "nobody.mongodb.net"):
        ask_name(("127.0.0.1", 53), name)


USES = [use_replica_set, use_replica_set, use_sharded_cluster, use_app, use_websocket, use_refused, use_names]


def ask_name(server, name, source="0.0.0.0"):
    """Queries an address over UDP, optionally from a given source; returns the answer's code."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(15)
        udp.bind((source, 0))
        udp.sendto(struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1), server)
        return udp.recv(4096)[3] & 15


def troubled():
    """A gateway to which everything happens that an alert is for."""
    nodes = [(f"mongos-{n:02}", "us-east-1a" if n else "us-east-1b", f"127.21.0.{n + 1}") for n in range(SHARDS)]
    listeners = []
    # The first one is down.
    for ip in [ip for _, _, ip in nodes[1:]] + ["127.22.0.1"]:
        listeners.append(socket.create_server((ip, 27017)))
    file = lab.work() / "troubled.toml"
    text = TROUBLE.replace("NODES", ",\n".join(
        f'    {{ name = "{name}", zone = "{zone}", address = "{ip}:27017" }}' for name, zone, ip in nodes))
    file.write_text(text)
    gateway = lab.Gateway("serve", "--config", file, ready=False)
    lab.eventually("the gateway in trouble is ready", lambda: ready(TROUBLED), gateway=gateway)
    stop = threading.Event()
    held = []

    def suffer():
        # One flow more than the target may hold; the service's side; a name with an unreachable resolver; a bad config.
        while len(held) < 3:
            held.append(socket.create_connection((TROUBLED_ENDPOINT, 1025), timeout=5, source_address=("127.20.1.9", 0)))
        with socket.create_connection((TROUBLED_ENDPOINT, 1025), timeout=5, source_address=("127.20.1.9", 0)):
            pass
        with socket.create_connection((TROUBLED_ENDPOINT, 1025), timeout=5, source_address=("127.21.9.9", 0)):
            pass
        ask_name(("127.20.0.2", 53), "name.of.somebody.else", "127.20.1.9")

    thread = threading.Thread(target=again, args=(suffer, stop), daemon=True)
    thread.start()
    lab.eventually("its first config is in force", lambda: ready(TROUBLED), gateway=gateway)
    file.write_text(text + "\n[[project]]\nid = 7\n")
    yield gateway
    stop.set()
    thread.join(timeout=lab.SOON)
    for one in listeners + held:
        one.close()


TROUBLE = """
[state]
store = "memory"
[dns]
listen = ["127.20.0.2:53"]
forward = ["127.20.0.99:53"]
[metrics]
listen = "127.20.0.1:9464"
[admin]
enabled = false

[[vpc]]
id = "vpc-0b3f1c9a7d2e84f56"
region = "us-east-1"
cidrs = ["127.20.0.0/16"]
[[vpc.subnet]]
id = "subnet-0c1d2e3f4a5b60718"
zone = "us-east-1a"
cidr = "127.20.30.0/24"
[[vpc.subnet]]
id = "subnet-0d2e3f4a5b6c71829"
zone = "us-east-1b"
cidr = "127.20.20.0/24"
[[vpc.security_group]]
id = "sg-0a1b2c3d4e5f60718"
name = "default"
ingress = [{ ports = "1024-65535", cidrs = ["127.20.0.0/16"] }]
[[interface_endpoint]]
id = "vpce-0aaaabbbbccccdddd"
vpc = "vpc-0b3f1c9a7d2e84f56"
service = "com.amazonaws.vpce.us-east-1.vpce-svc-0aaaabbbbccccdddd"
address = [
    { subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.20.30.194" },
    { subnet = "subnet-0d2e3f4a5b6c71829", ip = "127.20.20.54" },
]
[[project]]
id = "5f2a1b3c4d5e6f7081920a3b"
[[project.cluster]]
name = "Big0"
label = "k45tj"
type = "sharded"
node = [
NODES
]
[[project.endpoint_service]]
id = "vpce-svc-0aaaabbbbccccdddd"
region = "us-east-1"
cidrs = ["127.21.0.0/16"]
flows_per_target = 2
health_check = { interval = "5s", timeout = "2s", healthy_threshold = 2, unhealthy_threshold = 2 }

# Of this one a zone is lost, and the other carries on.
[[project]]
id = "5f2a1b3c4d5e6f7081920a3c"
[[project.cluster]]
name = "Small0"
label = "m1m1m"
type = "replica-set"
node = [{ name = "only", zone = "us-east-1a", address = "127.22.0.1:27017" }]
[[project.endpoint_service]]
id = "vpce-svc-0bbbbccccddddeeee"
region = "us-east-1"
cidrs = ["127.22.0.0/16"]
[[interface_endpoint]]
id = "vpce-0bbbbccccddddeeee"
vpc = "vpc-0b3f1c9a7d2e84f56"
service = "com.amazonaws.vpce.us-east-1.vpce-svc-0bbbbccccddddeeee"
address = [
    { subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.20.30.195" },
    { subnet = "subnet-0d2e3f4a5b6c71829", ip = "127.20.20.55" },
]
[[fault]]
name = "storm"
type = "zone-outage"
zone = "us-east-1b"
"""


def prometheus():
    """Prometheus with this repository's rules, looking at both gateways. Scrapes and evaluations are 2 s apart, and alerts don't wait."""
    home = lab.work() / "prometheus"
    home.mkdir()
    for name in ("rules.yml", "alerts.yml"):
        text = (DEPLOY / "prometheus" / name).read_text()
        # Only a scrape that came late, on a busy machine, is no gateway that is gone.
        text, waits = re.subn(r"(?m)^( *for:) .*$", r"\1 0s", text)
        text = text.replace("== 0\n        for: 0s", "== 0\n        for: 15s", 1)
        assert name == "rules.yml" or waits > 5
        (home / name).write_text(text)
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("_interval: 15s", "_interval: 2s")
    assert '["127.0.0.1:9464"]' in config
    instances = [QUICKSTART] if PICTURE else [QUICKSTART, TROUBLED, GONE]
    config = config.replace('["127.0.0.1:9464"]', json.dumps(instances))
    (home / "prometheus.yml").write_text(config)
    log = open(home / "log", "w")
    process = subprocess.Popen(
        ["prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
         "--web.listen-address=127.0.0.1:9090", "--log.level=warn"], stdout=log, stderr=log)
    try:
        lab.eventually("both are scraped", lambda: assert_equal(
            {s["metric"]["instance"] for s in ask('up{job="plgw"} == 1')}, set(instances) - {GONE}))
        yield home
    finally:
        process.kill()
        process.wait()


# ---- tests ----------------------------------------------------------------------------------------------------------


def test_promtool_has_no_complaint_about_the_page(quickstart):
    _, page = lab.get(lab.METRICS, "/metrics")
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), checked


def test_the_configuration_is_valid_and_the_rules_pass_their_tests():
    for argv in (["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml", "alerts.yml"],
                 ["test", "rules", "alerts_test.yml"]):
        lab.run("promtool", *argv, cwd=DEPLOY / "prometheus")
    # An alert without a test has never been seen to fire.
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yml").read_text())
    assert len(alerts) == len(set(alerts)) > 10
    untested = [alert for alert in alerts if f'alertname="{alert}",alertstate="firing"' not in tests
                and f"alertname: {alert}" not in tests]
    assert not untested, untested


# Metrics that appear only with a shared state, after a fault, with flow logs, or after log lines were left out.
RARE = ("plgw_gateway", "plgw_fault_", "plgw_faulted_", "plgw_dns_faulted_", "plgw_flow_log_", "plgw_log_lines_")


def test_the_documented_metrics_are_those_of_a_gateway_in_use(quickstart, troubled, prometheus):
    """Every row of docs/metrics.md, except for those of features not used here: faults, flow logs, a shared state."""
    text = (lab.ROOT / "docs/metrics.md").read_text()
    rows = dict(re.findall(r"(?m)^\| `((?:plgw|process)_\w+)` \| (\w+) \|", text))
    assert len(rows) > 50, len(rows)

    def agree():
        lab.api("GET", "/v1/status")
        _, page = lab.get(lab.METRICS, "/metrics")
        shown = dict(re.findall(r"(?m)^# TYPE (\S+) (\w+)$", page))
        asked_for = {name for name in rows if name.startswith(RARE)}
        missing = {name for name in rows if name not in shown} - asked_for
        assert not missing and set(shown) <= set(rows), (missing, set(shown) - set(rows))
        assert not [name for name in shown if shown[name] != rows[name]]

    lab.eventually("every documented metric shows", agree)


def test_dashboards_are_whole_and_what_their_script_writes():
    import dashboards

    files = dashboards.files()
    assert set(files) == set((DEPLOY / "grafana/dashboards").glob("*.json"))
    for path, text in files.items():
        assert path.read_text() == text, f"{path.name}: run deploy/grafana/dashboards.py"
        board = json.loads(text)
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)) and board["uid"] and board["title"] and board["schemaVersion"] >= 36
        taken = set()
        variables = {variable["name"] for variable in board["templating"]["list"]}
        for panel in board["panels"]:
            box = panel["gridPos"]
            cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
            assert not cells & taken and box["x"] + box["w"] <= 24, (path.name, panel["title"])
            taken |= cells
            if panel["type"] == "row":
                continue
            assert panel["title"] and panel["description"] and panel["targets"], (path.name, panel)
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs))
            used = {name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
            assert used - {"__rate_interval"} <= variables, (path.name, panel["title"], used)
    for kind in ("datasources/prometheus.yml", "dashboards/plgw.yml"):
        assert "apiVersion: 1" in (DEPLOY / "grafana/provisioning" / kind).read_text()
    assert "uid: prometheus" in (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()


def test_every_query_of_every_dashboard_returns_data(quickstart, troubled, prometheus):
    import dashboards

    asked = 0
    for path in sorted(dashboards.files()):
        board = json.loads(path.read_text())
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                lab.eventually(f"{path.name}: ${variable['name']}", lambda: has_values(variable["definition"]))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                asked += 1
                lab.eventually(f"{path.name}: {panel['title']}: {target['expr']}", lambda: has_data(target))
    assert asked > 50, asked


def test_every_alert_and_recording_rule_can_be_evaluated(quickstart, troubled, prometheus):
    groups = json.loads(fetch("/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20

    def evaluated():
        groups = json.loads(fetch("/api/v1/rules"))["data"]["groups"]
        wrong = [(r["name"], r["health"], r.get("lastError")) for g in groups for r in g["rules"] if r["health"] != "ok"]
        assert not wrong, wrong

    lab.eventually("all rules are well", evaluated)
    for rule in rules:
        if rule["type"] == "recording":
            lab.eventually(rule["name"], lambda: assert_some(ask(rule["name"])))
        else:
            # The metrics of an alert must exist even while it does not fire.
            metrics = set(re.findall(r"\b(?:plgw|process)[_:][\w:]+|\bup\b", rule["query"]))
            # Gateways that share a state alone have those of the others; deploy/prometheus/alerts_test.yml does.
            for metric in {one for one in metrics if not one.startswith("plgw_gateway")} - {"plgw_flow_log_skipped_total"}:
                lab.eventually(f"{rule['name']}: {metric}", lambda: assert_some(ask(metric)))


FIRE = {
    "PlgwDown": GONE,
    "PlgwTargetDown": TROUBLED,
    "PlgwZoneOut": TROUBLED,
    "PlgwAllZonesOut": TROUBLED,
    "PlgwPortAllocationErrors": TROUBLED,
    "PlgwTargetFlowsNearLimit": TROUBLED,
    "PlgwTargetSlotsNearLimit": TROUBLED,
    "PlgwDnsFailures": TROUBLED,
    "PlgwReloadFailed": TROUBLED,
    "PlgwOneWayAttempts": TROUBLED,
}


def test_alerts_fire_for_the_gateway_in_trouble_and_not_for_the_quickstart(quickstart, troubled, prometheus):
    """Target down, one zone out, port allocation errors, near the 50-target limit, DNS failures, reload failed."""

    def firing():
        return {(alert["metric"]["alertname"], alert["metric"]["instance"]) for alert in ask('ALERTS{alertstate="firing"}')}

    lab.eventually("the alerts fire", lambda: assert_some(not set(FIRE.items()) - firing(), set(FIRE.items()) - firing()))
    others = {(name, instance) for name, instance in firing() if (name, instance) not in FIRE.items()}
    assert not others, others
    # Not since the beginning either.
    ever = ask(f'count_over_time(ALERTS{{alertstate="firing",instance="{QUICKSTART}"}}[1h])')
    assert not ever, ever


def test_the_overview_is_drawn_from_what_prometheus_has(quickstart, prometheus):
    out = lab.work() / "overview.png"
    draw(out, 0.5)
    head = out.read_bytes()[:24]
    width, height = struct.unpack(">II", head[16:])
    assert head.startswith(b"\x89PNG") and width > 1200 and height > 800, (width, height)
    assert out.stat().st_size > 50_000, "it is nearly empty"


def draw(out, minutes):
    lab.run(sys.executable, "-B", DEPLOY / "grafana/render.py", "--prometheus", PROMETHEUS, "--minutes", str(minutes),
            "--rate-interval", RATE_INTERVAL, DEPLOY / "grafana/dashboards/overview.json", out)


def picture(quickstart, prometheus):
    """A quickstart in use: a target goes down and comes back, then a zone is lost, then names fail."""
    part = MINUTES * 60 / 20
    began = time.monotonic()
    for at, lasts, fault in (
        (5, 3, ["target-down", "--target", "Cluster0/shard-00-01"]),
        (11, 3, ["zone-outage", "--zone", "us-east-1b"]),
        (16, 2, ["dns-failure", "--answer", "servfail", "--share", "0.3"]),
    ):
        time.sleep(max(0.0, began + at * part - time.monotonic()))
        lab.run(lab.PLGW, "fault", "add", *fault, "--for", f"{round(lasts * part)}s")
    time.sleep(max(0.0, began + 20 * part - time.monotonic()))
    draw(pathlib.Path(PICTURE), MINUTES)


# ---- small helpers --------------------------------------------------------------------------------------------------


def fetch(path, **parameters):
    data = urllib.parse.urlencode(parameters).encode() if parameters else None
    with urllib.request.urlopen(PROMETHEUS + path, data, timeout=lab.SOON) as answer:
        return answer.read().decode()


def ask(expr):
    return json.loads(fetch("/api/v1/query", query=expr))["data"]["result"]


def has_data(target):
    """Whether the range query of a graph has a value in the last minute; other panels use an instant query."""
    expr = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    expr = re.sub(r"\$(job|endpoint|service|target|app)\b", ".*", expr)
    if target["instant"]:
        values = [sample["value"] for sample in ask(expr)]
    else:
        now = time.time()
        found = json.loads(fetch("/api/v1/query_range", query=expr, start=now - 60, end=now, step=1))["data"]["result"]
        values = [value for series in found for value in series["values"]]
    assert [value for _, value in values if value != "NaN"], f"no data; {LAST_ERRORS}"


def has_values(definition):
    """`label_values(SELECTOR, LABEL)`, as Grafana queries it."""
    selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", definition).groups()
    selector = re.sub(r"\$\w+", ".*", selector)
    path = f"/api/v1/label/{label}/values?" + urllib.parse.urlencode({"match[]": selector})
    assert json.loads(fetch(path))["data"], "no values"


def ready(instance):
    host, _, port = instance.rpartition(":")
    assert lab.get((host, int(port)), "/readyz")[0] == 200


def finds(text, wanted):
    assert wanted in text, f"{wanted!r} is not there"


def assert_some(found, seen=""):
    assert found, f"nothing {seen}"


def assert_equal(found, wanted):
    assert found == wanted, (found, wanted)


if __name__ == "__main__":
    if PICTURE:
        lab.main({"setup": setup, "quickstart": quickstart, "prometheus": prometheus, "test_picture": picture})
    lab.main(globals())
