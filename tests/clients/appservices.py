#!/usr/bin/env python3
"""Real HTTP and WebSocket clients against the App Services front of a running gateway.

curl by HTTP/1.1 and HTTP/2, Python's `websockets`, Node's `ws`, `h2load`, Java's `HttpClient`, and Python's `h2` for
WebSockets over HTTP/2, from the places of the quickstart, each of which is a source address, or of a lab, by addresses and
by name. Whatever client is not installed is skipped, and said so; `--require` makes that a failure.

    tests/clients/appservices.py --ca plgw-lab/ca.pem [--port 8443] [--public 404|200] [--require curl,websockets]
    tests/clients/appservices.py --ca ~/.plgw/labs/default/ca.pem --lab target/release/plgw
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

APP = "myapp-abcde"
HOST = "us-east-1.aws.services.cloud.mongodb.com"
WS_HOSTS = ("us-east-1.aws.ws.services.cloud.mongodb.com", "ws.us-east-1.aws.services.cloud.mongodb.com")
LOCATION = f"/api/client/v2.0/app/{APP}/location"
SYNC_PATH = f"/api/client/v2.0/app/{APP}/realm-sync"
CLIENTS = ("curl", "websockets", "ws", "h2", "h2load", "java")
JAVA = pathlib.Path(__file__).with_name("AppServices.java")

passed, failed, skipped = [], [], []


@dataclass
class Place:
    """A client's place: a source address, or a host of the lab."""

    name: str
    source: str = ""
    within: list = field(default_factory=list)
    # Whether names lead it to the endpoints: the private zones are the VPC's own.
    has_names: bool = False


@dataclass
class World:
    """Where clients go, and from where."""

    port: int
    general: tuple
    sync: tuple
    public: str
    joined: list
    internet: Place
    service: Place

    def authority(self, host):
        return host if self.port == 443 else f"{host}:{self.port}"


def quickstart(port):
    joined = [Place("vpc", "127.0.0.9"), Place("peered", "127.3.0.9"), Place("on-premises", "127.2.0.9")]
    return World(
        port, ("127.0.30.195", "127.0.20.55"), ("127.0.30.196", "127.0.20.56"), "127.9.0.10", joined,
        Place("the internet", "127.9.0.9"), Place("the service's side", "127.1.0.9"),
    )


def lab(plgw):
    def at(place, has_names=False):
        return Place(place, within=[plgw, "lab", "run", "--at", place, "--"], has_names=has_names)

    return World(
        443, ("10.0.30.195", "10.0.20.55"), ("10.0.30.196", "10.0.20.56"), "203.0.113.10",
        [at("vpc", True), at("vpc-b", True), at("peer"), at("onprem")], at("internet", True), at("service"),
    )


def check(what, fits, seen=""):
    (passed if fits else failed).append(what)
    print(f"{'ok    ' if fits else 'FAILED'} {what}" + (f": {seen}" if not fits else ""), flush=True)


def skip(client, options):
    skipped.append(client)
    print(f"skipped: {client} is not installed", flush=True)
    if client in options.require:
        failed.append(client)


def run(place, command, timeout=60):
    return subprocess.run([*place.within, *command], capture_output=True, text=True, check=False, timeout=timeout)


def by(to):
    """An empty address means: by name."""
    return to or "its name"


def ways(place, addresses):
    return (*addresses, "") if place.has_names else addresses


# ---- HTTP ----------------------------------------------------------------------------------------------------------


def curl(options, http, place, to, path, host=HOST, patience=10):
    """Status, HTTP version and body of a GET; status 0 when there was no answer."""
    world = options.world
    command = ["curl", "--silent", "--show-error", f"--{http}", "--max-time", str(patience), "--cacert", options.ca]
    command += ["--interface", place.source] if place.source else []
    command += ["--connect-to", f"::{to}:{world.port}"] if to else []
    command += ["--write-out", "\n%{http_code} %{http_version}", f"https://{world.authority(host)}{path}"]
    done = run(place, command)
    body, _, tail = done.stdout.rpartition("\n")
    status, _, version = tail.partition(" ")
    return int(status or 0), version, body


def by_curl(options):
    world, absent = options.world, LOCATION.replace(APP, "noapp-zzzzz")
    for http, version in (("http1.1", "1.1"), ("http2", "2")):
        for place in world.joined:
            for to in ways(place, world.general):
                status, spoken, body = curl(options, http, place, to, LOCATION)
                what = f"curl --{http}: {place.name}, by {by(to)},"
                check(f"{what} reaches the app", (status, spoken) == (200, version), (status, spoken))
                told = json.loads(body or "{}")
                check(f"{what} is told its own name", told.get("hostname") == f"https://{world.authority(HOST)}", told)
                names = [f"wss://{world.authority(name)}" for name in WS_HOSTS]
                check(f"{what} is told a WebSocket name of the app", told.get("ws_hostname") in names, told)
        vpc, general = world.joined[0], world.general[0]
        for path in (f"/app/{APP}/endpoint/data/v1/action/findOne", f"/app/{APP}/endpoint/greet"):
            status, _, body = curl(options, http, vpc, general, path)
            check(f"curl --{http}: {path} is refused on a private endpoint", status == 403, (status, body))
        # By name too, where there are names: outside they lead to the public address.
        for to in ways(world.internet, (world.public,)):
            status, _, body = curl(options, http, world.internet, to, LOCATION)
            check(f"curl --{http}: the internet, by {by(to)}, gets {options.public}", status == options.public, (status, body))
            if options.public == 404:
                other = curl(options, http, world.internet, to, absent)[2]
                check(f"curl --{http}: as for no app at all", body.replace(APP, "noapp-zzzzz") == other, (body, other))
        for place, to in (
            (world.internet, world.general[0]), (world.service, world.general[0]), (world.service, world.public),
        ):
            status, _, _ = curl(options, http, place, to, LOCATION, patience=2)
            check(f"curl --{http}: {place.name} gets no answer from {to}", status == 0, status)
        status, _, _ = curl(options, http, vpc, general, LOCATION, host="localhost", patience=5)
        check(f"curl --{http}: a name that is not the app's has no certificate", status == 0, status)


def unbound(world):
    """The places of clients without a setting for the source address: on loopback they come from 127.0.0.1, which is in the
    VPC."""
    return world.joined if world.joined[0].within else world.joined[:1]


def by_h2load(options):
    world, requests = options.world, 2000
    places = unbound(world)
    asked = [(place, world.general[0], 2) for place in places]
    asked.append((world.internet, world.public, 2 if options.public == 200 else 4))
    for http in ("h2", "http/1.1"):
        for place, to, expected in asked:
            command = [
                "h2load", "-n", str(requests), "-c", "8", "-m", "10" if http == "h2" else "1", f"--npn-list={http}",
                f"--connect-to={to}:{world.port}", f"https://{world.authority(HOST)}{LOCATION}",
            ]
            said = run(place, command, timeout=120).stdout
            done = f"{requests} done" in said and " 0 errored, 0 timeout" in said
            counts = dict(reversed(word.split()) for word in said.partition("status codes: ")[2].split("\n")[0].split(", ") if word)
            what = f"h2load: {requests} requests of {place.name} by {http} get {expected}xx"
            check(what, done and counts.get(f"{expected}xx") == str(requests), said)


# ---- WebSockets ----------------------------------------------------------------------------------------------------

# Arguments of each script: CA, source address, destination address, port, host, path. It prints `the same`, the
# status of a refusal, or the error.

WEBSOCKETS = """
import asyncio, ssl, sys, websockets
ca, source, to, port, host, path = sys.argv[1:]
async def main():
    try:
        async with websockets.connect(
            f"wss://{host}:{port}{path}", host=to or host, port=int(port), ssl=ssl.create_default_context(cafile=ca),
            local_addr=(source, 0) if source else None, open_timeout=10, proxy=None,
            subprotocols=["com.mongodb.realm-query-sync#14"], max_size=None,
        ) as socket:
            for message in ("hello", bytes(1 << 20), ""):
                await socket.send(message)
                if await socket.recv() != message:
                    return "something else"
            return "the same"
    except websockets.exceptions.InvalidStatus as refused:
        return refused.response.status_code
    except (OSError, TimeoutError) as error:
        return repr(error)
print(asyncio.run(main()))
"""

NODE = """
const [ca, source, to, port, host, path] = process.argv.slice(1);
const WebSocket = require('ws');
const found = to && ((name, options, then) => options.all ? then(null, [{ address: to, family: 4 }]) : then(null, to, 4));
const socket = new WebSocket(`wss://${host}:${port}${path}`, ['com.mongodb.realm-query-sync#14'],
  { ca: require('fs').readFileSync(ca), localAddress: source || undefined, lookup: found || undefined });
const end = (word) => { console.log(word); process.exit(0); };
setTimeout(() => end('nothing in time'), 10000).unref();
const messages = [Buffer.from('hello'), Buffer.alloc(1 << 20), Buffer.alloc(0)];
socket.on('open', () => socket.send(messages[0]));
socket.on('message', (data) => {
  if (!data.equals(messages.shift())) end('something else');
  messages.length ? socket.send(messages[0]) : end('the same');
});
socket.on('unexpected-response', (_, response) => end(String(response.statusCode)));
socket.on('error', (error) => end(String(error)));
"""

# RFC 8441: an extended CONNECT on one stream, WebSocket frames in its DATA. A GET on another stream of the connection shows
# that the two share it.
EXTENDED = """
import socket, ssl, sys
import h2.config, h2.connection, h2.events, h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage
ca, source, to, port, host, path = sys.argv[1:]
trust = ssl.create_default_context(cafile=ca)
trust.set_alpn_protocols(["h2"])
tcp = socket.create_connection((to or host, int(port)), 10, (source, 0) if source else None)
tls = trust.wrap_socket(tcp, server_hostname=host)
assert tls.selected_alpn_protocol() == "h2"
http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
http.initiate_connection()
def events():
    while True:
        tls.sendall(http.data_to_send())
        data = tls.recv(65536)
        assert data, "the connection ended"
        for event in http.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            yield event
came = events()
for event in came:
    if isinstance(event, h2.events.RemoteSettingsChanged):
        break
assert http.remote_settings.enable_connect_protocol == 1, "SETTINGS_ENABLE_CONNECT_PROTOCOL"
stream = http.get_next_available_stream_id()
http.send_headers(stream, [
    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", f"{host}:{port}"), (":path", path),
    ("sec-websocket-version", "13"), ("sec-websocket-protocol", "com.mongodb.realm-query-sync#14"),
])
for event in came:
    if isinstance(event, h2.events.ResponseReceived):
        break
status = dict(event.headers)[":status"]
if status != "200":
    print(status)
    sys.exit()
ws = Connection(ConnectionType.CLIENT)
def say(message):
    data = ws.send(message)
    while data:
        room = min(http.local_flow_control_window(stream), http.max_outbound_frame_size)
        if not room:
            hear(next(came))
            continue
        http.send_data(stream, data[:room])
        data = data[room:]
        tls.sendall(http.data_to_send())
heard = []
def hear(event):
    assert not isinstance(event, (h2.events.StreamReset, h2.events.StreamEnded, h2.events.ConnectionTerminated)), event
    if isinstance(event, h2.events.DataReceived):
        ws.receive_data(event.data)
        heard.extend(ws.events())
for message in (TextMessage(data="hello"), BytesMessage(data=bytes(300_000))):
    heard.clear()
    say(message)
    while not (heard and heard[-1].message_finished):
        hear(next(came))
    if heard[0].data[:0].join(part.data for part in heard) != message.data:
        print("something else")
        sys.exit()
other = http.get_next_available_stream_id()
http.send_headers(other, [(":method", "GET"), (":scheme", "https"), (":authority", f"{host}:{port}"), (":path", path)],
                  end_stream=True)
for event in came:
    if isinstance(event, h2.events.ResponseReceived) and event.stream_id == other:
        break
print("the same")
"""


def by_websocket(options, name, command):
    """One WebSocket client: echoes from wherever the VPC is joined, refusals elsewhere."""
    world = options.world

    def said(place, to, host):
        done = run(place, [*command, options.ca, place.source, to, str(world.port), host, SYNC_PATH])
        return done.stdout.strip() or done.stderr.strip()[-500:]

    for place in world.joined:
        named = [("", host) for host in WS_HOSTS] if place.has_names else []
        for to, host in [*zip(world.sync, WS_HOSTS), *named]:
            heard = said(place, to, host)
            check(f"{name}: {place.name}, by {by(to)} as {host}, gets its words back", heard == "the same", heard)
    heard = said(world.joined[0], world.general[0], WS_HOSTS[0])
    check(f"{name}: a General endpoint serves no Sync", heard == "403", heard)
    expected = "the same" if options.public == 200 else str(options.public)
    heard = said(world.internet, world.public, WS_HOSTS[0])
    check(f"{name}: the internet gets {expected}", heard == expected, heard)


def by_java(options):
    """Both versions of HTTP, and WebSockets. Before Java 19 the client has no setting for the source address."""
    world = options.world

    def said(place, to, host, path, what):
        command = ["java", "-XX:TieredStopAtLevel=1"]
        with tempfile.NamedTemporaryFile("w", suffix=".hosts") as hosts:
            if to:
                print(to, host, file=hosts, flush=True)
                command.append(f"-Djdk.net.hosts.file={hosts.name}")
            done = run(place, [*command, JAVA, options.ca, host, str(world.port), path, what])
        return done.stdout.strip() or done.stderr.strip()[-500:]

    def gets(place, to, status):
        lines = said(place, to, HOST, LOCATION, "GET").splitlines()
        heard = [line.split(" ", 2)[:2] for line in lines]
        what = f"java: {place.name}, by {by(to)}, gets {status} by HTTP/1.1 and HTTP/2"
        check(what, heard == [["HTTP_1_1", str(status)], ["HTTP_2", str(status)]], lines)

    for place in unbound(world):
        for to in ways(place, world.general):
            gets(place, to, 200)
        for to in ways(place, world.sync[:1]):
            heard = said(place, to, WS_HOSTS[0], SYNC_PATH, "SYNC")
            check(f"java: {place.name}, by {by(to)}, gets its words back", heard == "the same", heard)
    for to in ways(world.internet, (world.public,)):
        gets(world.internet, to, options.public)
    heard = said(world.internet, world.public, WS_HOSTS[0], SYNC_PATH, "SYNC")
    expected = "the same" if options.public == 200 else str(options.public)
    check(f"java: the internet gets {expected} for a WebSocket", heard == expected, heard)


def python_has(*modules):
    return subprocess.run([sys.executable, "-c", f"import {','.join(modules)}"], capture_output=True).returncode == 0


def clients(options):
    """Each client's checks; `None` where it is not installed."""
    python, node = [sys.executable, "-c"], ["node", "-e", NODE]
    has_ws = shutil.which("node") and subprocess.run(["node", "-e", "require('ws')"], capture_output=True).returncode == 0
    return {
        "curl": shutil.which("curl") and (lambda: by_curl(options)),
        "websockets": python_has("websockets") and (lambda: by_websocket(options, "websockets", [*python, WEBSOCKETS])),
        "ws": has_ws and (lambda: by_websocket(options, "ws", node)),
        "h2": python_has("h2", "wsproto") and (lambda: by_websocket(options, "h2", [*python, EXTENDED])),
        "h2load": shutil.which("h2load") and (lambda: by_h2load(options)),
        "java": shutil.which("java") and shutil.which("javac") and (lambda: by_java(options)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ca", required=True, help="the lab's CA certificate")
    parser.add_argument("--port", type=int, default=8443, help="of the quickstart's addresses")
    parser.add_argument("--lab", metavar="PLGW", help="from the places of the lab that is up, by this binary")
    parser.add_argument("--public", type=int, default=404, choices=(404, 200), help="what the internet is to get")
    parser.add_argument("--require", default="", help=f"clients whose absence is a failure, with commas; `all`: {', '.join(CLIENTS)}")
    options = parser.parse_args()
    options.ca = os.path.abspath(options.ca)
    options.require = CLIENTS if options.require == "all" else options.require.split(",")
    options.world = lab(os.path.abspath(options.lab)) if options.lab else quickstart(options.port)
    for name, checks in clients(options).items():
        checks() if checks else skip(name, options)
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
