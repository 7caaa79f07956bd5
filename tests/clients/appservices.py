#!/usr/bin/env python3
"""Real HTTP and WebSocket clients against the App Services front of a running gateway.

curl by HTTP/1.1 and HTTP/2, Python's `websockets`, Node's `ws` and `h2load`, from the places of the quickstart: each
place is a source address. Whatever client is not installed is skipped, and said so; `--require` makes that a failure.

    tests/clients/appservices.py --ca plgw-lab/ca.pem [--port 8443] [--public 404|200] [--require curl,websockets]
"""

import argparse
import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys

APP = "myapp-abcde"
HOST = "us-east-1.aws.services.cloud.mongodb.com"
WS_HOSTS = ("us-east-1.aws.ws.services.cloud.mongodb.com", "ws.us-east-1.aws.services.cloud.mongodb.com")
GENERAL = ("127.0.30.195", "127.0.20.55")
SYNC = ("127.0.30.196", "127.0.20.56")
PUBLIC = "127.9.0.10"
PRIVATE_PLACES = {"vpc": "127.0.0.9", "peered": "127.3.0.9", "on-premises": "127.2.0.9"}
INTERNET = "127.9.0.9"
LOCATION = f"/api/client/v2.0/app/{APP}/location"
SYNC_PATH = f"/api/client/v2.0/app/{APP}/realm-sync"

passed, failed, skipped = [], [], []


def check(what, fits, seen=""):
    (passed if fits else failed).append(what)
    print(f"{'ok    ' if fits else 'FAILED'} {what}" + (f": {seen}" if not fits else ""), flush=True)


def skip(client, options):
    skipped.append(client)
    print(f"skipped: {client} is not installed", flush=True)
    if client in options.require:
        failed.append(client)


def curl(options, http, source, to, path, host=HOST, patience=10):
    """Status, HTTP version and body of a GET; status 0 when there was no answer."""
    command = [
        "curl", "--silent", "--show-error", f"--{http}", "--max-time", str(patience), "--cacert", options.ca,
        "--interface", source, "--connect-to", f"::{to}:{options.port}", "--write-out", "\n%{http_code} %{http_version}",
        f"https://{host}:{options.port}{path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    body, _, tail = done.stdout.rpartition("\n")
    status, _, version = tail.partition(" ")
    return int(status or 0), version, body


def by_curl(options):
    if not shutil.which("curl"):
        return skip("curl", options)
    for http, version in (("http1.1", "1.1"), ("http2", "2")):
        for place, source in PRIVATE_PLACES.items():
            for to in GENERAL:
                status, spoken, body = curl(options, http, source, to, LOCATION)
                check(f"curl --{http}: {place} reaches the app by {to}", (status, spoken) == (200, version), (status, spoken))
                told = json.loads(body or "{}")
                expected = f"https://{HOST}:{options.port}"
                check(f"curl --{http}: {place} is told its own names", told.get("hostname") == expected, told)
                check(
                    f"curl --{http}: {place} is told a WebSocket name of the app",
                    told.get("ws_hostname") in [f"wss://{name}:{options.port}" for name in WS_HOSTS],
                    told,
                )
        for path in (f"/app/{APP}/endpoint/data/v1/action/findOne", f"/app/{APP}/endpoint/greet"):
            status, _, body = curl(options, http, PRIVATE_PLACES["vpc"], GENERAL[0], path)
            check(f"curl --{http}: {path} is refused on a private endpoint", status == 403, (status, body))
        status, _, body = curl(options, http, INTERNET, PUBLIC, LOCATION)
        check(f"curl --{http}: the internet gets {options.public}", status == options.public, (status, body))
        if options.public == 404:
            absent = curl(options, http, INTERNET, PUBLIC, LOCATION.replace(APP, "noapp-zzzzz"))[2]
            check(f"curl --{http}: as for no app at all", body.replace(APP, "noapp-zzzzz") == absent, (body, absent))
        status, _, _ = curl(options, http, INTERNET, GENERAL[0], LOCATION, patience=2)
        check(f"curl --{http}: the internet gets no answer from a private endpoint", status == 0, status)
        status, _, _ = curl(options, http, PRIVATE_PLACES["vpc"], GENERAL[0], LOCATION, host="localhost", patience=5)
        check(f"curl --{http}: a name that is not the app's has no certificate", status == 0, status)


def by_websockets(options):
    try:
        import websockets
    except ImportError:
        return skip("websockets", options)
    trust = ssl.create_default_context(cafile=options.ca)

    async def echo(source, to, host):
        """What a WebSocket said back, or the status that it was refused with."""
        try:
            async with websockets.connect(
                f"wss://{host}:{options.port}{SYNC_PATH}?baas_at=token",
                host=to, port=options.port, ssl=trust, local_addr=(source, 0), open_timeout=10,
                subprotocols=["com.mongodb.realm-query-sync#14"], max_size=None,
            ) as socket:
                for message in ("hello", bytes(1 << 20), ""):
                    await socket.send(message)
                    if await socket.recv() != message:
                        return "something else"
                return "the same"
        except websockets.exceptions.InvalidStatus as refused:
            return refused.response.status_code

    for place, source in PRIVATE_PLACES.items():
        for to, host in zip(SYNC, WS_HOSTS):
            said = asyncio.run(echo(source, to, host))
            check(f"websockets: {place} reaches the app by {to} as {host}", said == "the same", said)
    said = asyncio.run(echo(PRIVATE_PLACES["vpc"], GENERAL[0], WS_HOSTS[0]))
    check("websockets: a General endpoint serves no Sync", said == 403, said)
    said = asyncio.run(echo(INTERNET, PUBLIC, WS_HOSTS[0]))
    expected = "the same" if options.public == 200 else options.public
    check(f"websockets: the internet gets {expected}", said == expected, said)


NODE = """
const [ca, source, to, port, host, path] = process.argv.slice(1);
let WebSocket;
try { WebSocket = require('ws'); } catch { console.log('absent'); process.exit(0); }
const lookup = (name, options, found) =>
  options.all ? found(null, [{ address: to, family: 4 }]) : found(null, to, 4);
const socket = new WebSocket(`wss://${host}:${port}${path}`, ['com.mongodb.realm-query-sync#14'],
  { ca: require('fs').readFileSync(ca), localAddress: source, lookup });
const end = (word) => { console.log(word); process.exit(0); };
setTimeout(() => end('nothing in time'), 10000).unref();
socket.on('open', () => socket.send('hello'));
socket.on('message', (data) => end(String(data) === 'hello' ? 'the same' : 'something else'));
socket.on('unexpected-response', (_, response) => end(String(response.statusCode)));
socket.on('error', (error) => end(String(error)));
"""


def by_node(options):
    if not shutil.which("node"):
        return skip("ws", options)

    def echo(source, to, host):
        command = ["node", "-e", NODE, options.ca, source, to, str(options.port), host, SYNC_PATH]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout.strip()

    if echo(PRIVATE_PLACES["vpc"], SYNC[0], WS_HOSTS[0]) == "absent":
        return skip("ws", options)
    for place, source in PRIVATE_PLACES.items():
        for to, host in zip(SYNC, WS_HOSTS):
            said = echo(source, to, host)
            check(f"ws: {place} reaches the app by {to} as {host}", said == "the same", said)
    said = echo(INTERNET, PUBLIC, WS_HOSTS[0])
    expected = "the same" if options.public == 200 else str(options.public)
    check(f"ws: the internet gets {expected}", said == expected, said)


def by_h2load(options):
    if not shutil.which("h2load"):
        return skip("h2load", options)
    requests = 2000
    for http in ("h2", "http/1.1"):
        command = [
            "h2load", "-n", str(requests), "-c", "8", "-m", "10" if http == "h2" else "1", f"--npn-list={http}",
            f"--connect-to={GENERAL[0]}:{options.port}", f"https://{HOST}:{options.port}{LOCATION}",
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
        fits = f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in said and f"status codes: {requests} 2xx" in said
        check(f"h2load: {requests} requests by {http}", fits, said)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ca", required=True, help="the lab's CA certificate")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--public", type=int, default=404, choices=(404, 200), help="what the internet is to get")
    parser.add_argument("--require", default="", help="clients whose absence is a failure, with commas")
    options = parser.parse_args()
    options.ca = os.path.abspath(options.ca)
    options.require = [client for client in options.require.split(",") if client]
    for clients in (by_curl, by_websockets, by_node, by_h2load):
        clients(options)
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
