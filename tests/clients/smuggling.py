"""Requests that try to be two, or another client's: by HTTP/1.1 over a raw socket and by HTTP/2 with python's `h2`, which
is told to check nothing, from the internet and through a VPC's endpoint, against three backends that differ in when they
read a body: one of this file's own, Node's stock server and Go's.

Two apps stand at every address. `myapp-abcde` is restricted to its VPC, and its backend must never see what a stranger
wrote; each case hides a request for it. The others are open, one a backend. A case says which statuses the gateway may
answer with and what the backend may have seen: nothing, or one request with this body.
"""

import base64
import concurrent.futures
import contextlib
import itertools
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field

import lab

HOST = "us-east-1.aws.services.cloud.mongodb.com"
WS_HOST = "us-east-1.aws.ws.services.cloud.mongodb.com"
PORT = 8443
PUBLIC, GENERAL, SYNC = "127.9.0.10", "127.0.30.195", "127.0.30.196"
INTERNET, VPC = "127.9.0.9", "127.0.0.9"
SECRET = "myapp-abcde"
# The open apps, by the backend that each has.
APPS = {"own": "open-aaaaa", "node": "node-bbbbb", "go": "golang-ccccc"}
PORTS = {"secret": 9080, "own": 9081, "node": 9082, "go": 9083}
BACKEND = "127.1.0.31"
# The own backend's delay for late answers: longer than h2spec needs for two frames.
LATE = 0.3
# Delays before the rest of a body: none, within a tick, and longer than any former timer.
PAUSES = (0, 0.3, 2.5)


# ---- backends ------------------------------------------------------------------------------------------------------


def read_head(stream):
    """A head's lines; `None` at the end of the connection."""
    lines = []
    while line := stream.readline(65536):
        if line in (b"\r\n", b"\n"):
            return [line.decode("latin1") for line in lines]
        lines.append(line.rstrip(b"\r\n"))
    return None


def read_body(stream, headers):
    """A body as RFC 9112 frames it; raises where it is none."""
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(stream.readline().partition(b";")[0], 16):
            body += stream.read(size)
            assert stream.read(2) == b"\r\n"
        while stream.readline() not in (b"\r\n", b""):
            pass
        return body
    length = int(headers.get("content-length", 0))
    body = stream.read(length)
    assert len(body) == length
    return body


class OwnBackend:
    """Strict, and keeps its connections. `…/early` is answered before its body is read; what comes then is its body, for as
    long as it has said, so that a gateway which reuses the connection too soon is seen. `…/late` is answered after
    `LATE` seconds, unless the gateway gives the request up meanwhile."""

    def __init__(self, port, path):
        self.path, self.lock = path, threading.Lock()
        self.listener = socket.create_server((BACKEND, port), backlog=256)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def record(self, method, target, fields, body):
        line = {"method": method, "target": target, "headers": fields, "body": body.decode("latin1")}
        with self.lock, open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            try:
                while (head := read_head(stream)) is not None:
                    method, target, _ = head[0].split(" ")
                    fields = [[part.strip() for part in line.split(":", 1)] for line in head[1:]]
                    headers = {name.lower(): value for name, value in fields}
                    if headers.get("upgrade", "").lower() == "websocket" and "sec-websocket-key" in headers:
                        self.record(method, target, fields, b"")
                        return self.websocket(connection, stream, headers)
                    early = target.endswith("/early")
                    if early:
                        self.record(method, target, fields, b"")
                        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nearly")
                    body = read_body(stream, headers)
                    if target.endswith("/late") and select.select([connection], [], [], LATE)[0]:
                        return
                    if not early:
                        self.record(method, target, fields, body)
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + (b"" if method == "HEAD" else b"whole"))
            except (OSError, ValueError, AssertionError):
                pass

    @staticmethod
    def websocket(connection, stream, headers):
        """Agrees, and sends back every byte as it came."""
        import hashlib

        accept = hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
            + base64.b64encode(accept) + b"\r\n\r\n"
        )
        while data := stream.read1(65536):
            connection.sendall(data)


def go_recorder():
    lab.need("go")
    built = lab.TOOLS / "recorder"
    if not built.exists():
        lab.run("go", "build", "-o", built, lab.ROOT / "tests/clients/recorder.go", timeout=300)
    return built


class World:
    """The gateway, its backends, and their records."""

    def __init__(self):
        self.files = {name: lab.work() / f"{name}.jsonl" for name in PORTS}
        for file in self.files.values():
            file.touch()
        self.own = [OwnBackend(PORTS[name], self.files[name]) for name in ("secret", "own")]
        lab.need("node")
        self.processes = []
        for argv in (
            ["node", lab.ROOT / "tests/clients/recorder.mjs", BACKEND, PORTS["node"], self.files["node"]],
            [go_recorder(), f"{BACKEND}:{PORTS['go']}", self.files["go"]],
        ):
            process = subprocess.Popen([str(arg) for arg in argv], stdout=subprocess.PIPE, text=True)
            assert process.stdout.readline() == "ready\n"
            self.processes.append(process)
        config = lab.work() / "smuggling.toml"
        scenario = (lab.ROOT / "config/scenarios/app-services.toml").read_text()
        app = scenario[scenario.index("[[app]]"):scenario.index("[[private_hosted_zone]]")]
        open_apps = [
            app.replace(SECRET, id).replace(f":{PORTS['secret']}", f":{PORTS[name]}").replace(
                "allow_non_vpc_requests = false", "allow_non_vpc_requests = true")
            for name, id in APPS.items()
        ]
        config.write_text(f'lab_dir = "{lab.work() / "lab"}"\n\n[state]\nstore = "memory"\n\n' + scenario + "\n".join(open_apps))
        self.gateway = lab.Gateway("serve", "--config", config)
        self.trust = ssl.create_default_context(cafile=lab.work() / "lab" / "ca.pem")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def recorded(self, name):
        return [json.loads(line) for line in self.files[name].read_text().splitlines()]

    def connect(self, source, to, alpn, name=HOST):
        trust = ssl.create_default_context(cafile=lab.work() / "lab" / "ca.pem")
        trust.set_alpn_protocols([alpn])
        tcp = socket.create_connection((to, PORT), 10, (source, 0))
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return trust.wrap_socket(tcp, server_hostname=name)


def world():
    made = World()
    yield made
    made.stop()


# ---- cases ---------------------------------------------------------------------------------------------------------

_number = itertools.count()


@dataclass
class Case:
    """A client's bytes, its allowed answers, and the requests that the open app's backend may have seen."""

    name: str
    # Bytes, and seconds to wait between them; over HTTP/2 functions that are given the connection.
    parts: list
    # The statuses that the first answer may have; 0: none comes.
    statuses: tuple
    # The bodies of requests that the backend may have recorded; `None`: none was.
    bodies: tuple
    backend: str = "own"
    version: str = "1.1"
    source: str = INTERNET
    to: str = PUBLIC
    # Whether answers beyond the first may come: of requests that are openly a second one.
    more: bool = False
    id: str = field(default_factory=lambda: f"n{next(_number)}n")


def path_of(backend, id, last="whole"):
    return f"/api/client/v2.0/app/{APPS[backend]}/{id}/{last}"


def hidden(id):
    return f"GET /api/client/v2.0/app/{SECRET}/{id}/hidden HTTP/1.1\r\nHost: {HOST}\r\n\r\n"


def case_1(name, make, statuses, bodies, **more):
    """A case by HTTP/1.1: `make` is given the path and the hidden request."""
    case = Case(name, [], statuses, (), **more)
    secret = hidden(case.id)
    case.parts = make(path_of(case.backend, case.id), secret)
    case.bodies = tuple(body(secret) if callable(body) else body for body in bodies)
    return case


def post(path, fields, body="", method="POST", close=True, host=f"Host: {HOST}\r\n"):
    end = "Connection: close\r\n" if close else ""
    return [f"{method} {path} HTTP/1.1\r\n{host}{fields}{end}\r\n{body}".encode("latin1")]


CHUNKED = "Transfer-Encoding: chunked\r\n"
REFUSED, TAKEN = (400,), (200,)
NOTHING = (None,)


def chunk_cases():
    """The chunked coding, RFC 9112 §7.1: sizes, ends of lines, extensions, trailers."""
    good, bad = [], []
    for size in ("5", "05", "0000000005", "5;a", "5;a=b", '5;a="b"', "5;a=b;c"):
        good.append((f"size {size!r}", f"{size}\r\nhello\r\n0\r\n\r\n"))
    for end in ("0\r\n\r\n", "00\r\n\r\n", "000000000\r\n\r\n", "0;a=b\r\n\r\n", "0\r\nX-A: b\r\n\r\n",
                "0\r\nX-Plgw-Origin: vpc\r\n\r\n", "0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"):
        good.append((f"end {end!r}", f"5\r\nhello\r\n{end}"))
    good.append(("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"))
    for size in ("5x", "0x5", "+5", "-5", "5,", "5,5", "x", "g", "", " ", "5\x00", "\x0b5", "5\x0c", "five", "5.0", "5_",
                 "10000000000000005", "ffffffffffffffff1", "80000000000000005", "５"):
        bad.append((f"size {size!r}", f"{size}\r\nhello\r\n0\r\n\r\n".encode().decode("latin1")))
    for what, text in (
        ("a bare LF after a size", "5\nhello\r\n0\r\n\r\n"),
        ("a bare CR after a size", "5\rhello\r\n0\r\n\r\n"),
        ("a bare LF after data", "5\r\nhello\n0\r\n\r\n"),
        ("nothing after data", "5\r\nhello0\r\n\r\n"),
        ("too much data", "5\r\nhelloworld\r\n0\r\n\r\n"),
        ("too little data", "6\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF in an extension", "5;a=\nb\r\nhello\r\n0\r\n\r\n"),
        ("CR LF twice after data", "5\r\nhello\r\n\r\n0\r\n\r\n"),
    ):
        bad.append((what, text))
    for what, text in good:
        yield case_1(f"chunks: {what}", lambda p, s, t=text: post(p, CHUNKED, t), TAKEN, ("hello",))
        # And a request that hides behind the end: it is handled as a separate request.
        yield case_1(f"chunks: {what}, then hidden", lambda p, s, t=text: post(p, CHUNKED, t + s, close=False), TAKEN,
                     ("hello",), more=True)
    for what, text in bad:
        yield case_1(f"chunks: {what}", lambda p, s, t=text: post(p, CHUNKED, t + s), REFUSED, NOTHING)
    for size in ("5 ", "5\t", " 5", "5 ;a=b"):
        # Blanks there are no grammar, but widely taken; if they are, the body is the one that they frame.
        yield case_1(f"chunks: size {size!r}", lambda p, s, t=size: post(p, CHUNKED, f"{t}\r\nhello\r\n0\r\n\r\n"),
                     TAKEN + REFUSED, ("hello", None))


def length_cases():
    """Content-Length and Transfer-Encoding, RFC 9112 §6."""
    whole = (lambda secret: secret,)
    for fields in ("Content-Length: {n}\r\n", "content-length:{n}\r\n", "Content-Length: {n}  \r\n", "Content-Length: 0{n}\r\n",
                   "Content-Length: {n}\r\nContent-Length: {n}\r\n"):
        yield case_1(f"length: {fields!r}", lambda p, s, f=fields: post(p, f.format(n=len(s)), s), TAKEN, whole)
    for fields in ("Content-Length: {n}\r\nContent-Length: 0\r\n", "Content-Length: 0\r\nContent-Length: {n}\r\n",
                   "Content-Length: {n}, 0\r\n", "Content-Length: {n},{n}\r\n", "Content-Length: +{n}\r\n",
                   "Content-Length: -{n}\r\n", "Content-Length: 0x{n:x}\r\n", "Content-Length: {n}.0\r\n",
                   "Content-Length: {n}e0\r\n", "Content-Length: {n}_\r\n", "Content-Length: \r\n",
                   "Content-Length: 99999999999999999999999\r\n", "Content-Length: {n} 0\r\n", "Content-Length : {n}\r\n",
                   "Content-Length\t: {n}\r\n", " Content-Length: {n}\r\n", "Content-Length:\r\n {n}\r\n",
                   "Content-Length: {n}\x00\r\n", "Content-Length: \x0b{n}\r\n", "Content-Length: \"{n}\"\r\n"):
        yield case_1(f"length: {fields!r}", lambda p, s, f=fields: post(p, f.format(n=len(s)), s), REFUSED, NOTHING)
    for coding in ("chunked", "Chunked", "CHUNKED", "chunked "):
        yield case_1(f"coding: {coding!r}", lambda p, s, c=coding: post(
            p, f"Transfer-Encoding: {c}\r\n", f"{len(s):x}\r\n{s}\r\n0\r\n\r\n"), TAKEN, whole)
    for coding in ("xchunked", "chunkedx", "gzip, chunked", "chunked, gzip", "chunked, identity", "identity", "identity, chunked",
                   "chunked;q=1", "\"chunked\"", "'chunked'", "\x0bchunked", "chunked\x0c", "chunked, chunked", "", ",chunked",
                   "chunked,", "chun ked", "\tx chunked"):
        yield case_1(f"coding: {coding!r}", lambda p, s, c=coding: post(
            p, f"Transfer-Encoding: {c}\r\n", f"{len(s):x}\r\n{s}\r\n0\r\n\r\n"), REFUSED, NOTHING)
    for name in ("Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "Transfer-Encoding\x00", "Transfer Encoding"):
        yield case_1(f"coding's name: {name!r}", lambda p, s, n=name: post(
            p, f"{n}: chunked\r\n", f"{len(s):x}\r\n{s}\r\n0\r\n\r\n"), REFUSED, NOTHING)
    for fields in (CHUNKED + CHUNKED, CHUNKED + "Transfer-Encoding: identity\r\n", "Transfer-Encoding: identity\r\n" + CHUNKED,
                   "X: a\rTransfer-Encoding: chunked\r\n", "X: a\r\n Transfer-Encoding: chunked\r\n",
                   "Transfer-Encoding:\r\n chunked\r\n"):
        yield case_1(f"codings: {fields!r}", lambda p, s, f=fields: post(p, f, f"{len(s):x}\r\n{s}\r\n0\r\n\r\n"), REFUSED, NOTHING)
    for fields in ("Content-Length: 4\r\n" + CHUNKED, CHUNKED + "Content-Length: 4\r\n",
                   "Content-Length: 4\r\n" + CHUNKED + "Content-Length: 7\r\n"):
        # Chunks count (RFC 9112 §6.3).
        yield case_1(f"length and chunks: {fields!r}", lambda p, s, f=fields: post(p, f, f"{len(s):x}\r\n{s}\r\n0\r\n\r\n"),
                     TAKEN, whole)
    yield case_1("a length too short", lambda p, s: post(p, "Content-Length: 0\r\n", s, close=False), TAKEN, ("",), more=True)
    yield case_1("a length too long", lambda p, s: post(p, f"Content-Length: {len(s) + 9}\r\n", s), (0, 400, 408), NOTHING)
    yield case_1("chunks in HTTP/1.0", lambda p, s: [
        f"POST {p} HTTP/1.0\r\nHost: {HOST}\r\n{CHUNKED}\r\n{len(s):x}\r\n{s}\r\n0\r\n\r\n".encode()], REFUSED, NOTHING)
    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH"):
        for backend in APPS:
            yield case_1(f"{method} with chunks at {backend}", lambda p, s, m=method: post(
                p, CHUNKED, f"{len(s):x}\r\n{s}\r\n0\r\n\r\n", m), TAKEN, whole, backend=backend)
            yield case_1(f"{method} with a length at {backend}", lambda p, s, m=method: post(
                p, f"Content-Length: {len(s)}\r\n", s, m), TAKEN, whole, backend=backend)


def head_cases():
    """Request lines, hosts, names and values of fields, targets."""
    for line in ("GET {p} HTTP/2.0", "GET {p} HTTP/3.0", "GET {p} HTTP/1.11", "GET {p} HTTP/01.1", "GET {p} http/1.1", "GET {p}",
                 "GET  {p} HTTP/1.1", "GET {p}  HTTP/1.1", "GET\t{p} HTTP/1.1", "GET {p} HTTP/1.1 x", " GET {p} HTTP/1.1",
                 "G\x00T {p} HTTP/1.1", "G(T {p} HTTP/1.1", "GET {p}\x00 HTTP/1.1", "GET {p}\x7f HTTP/1.1", "GET x{p} HTTP/1.1",
                 "GET http://{h}{p} HTTP/1.1", "GET https://other{p} HTTP/1.1", "GET //{h}{p} HTTP/1.1", "CONNECT {h}:443 HTTP/1.1",
                 "CONNECT {p} HTTP/1.1", "TRACE {p} HTTP/1.1", "GET * HTTP/1.1"):
        yield case_1(f"line {line!r}", lambda p, s, t=line: [
            f"{t.format(p=p, h=HOST)}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n{s}".encode()], REFUSED, NOTHING)
    for host in ("", f"Host: {HOST}\r\nHost: {HOST}\r\n", f"Host: {HOST}\r\nHost: other\r\n", f"Host: a@{HOST}\r\n", "Host: \r\n",
                 f"Host: {HOST}/x\r\n", f"Host: {HOST}?x\r\n", f"Host: {HOST}#x\r\n", f"Host: {HOST} x\r\n", f"Host: {HOST}:x\r\n",
                 f"Host: {HOST}:\r\n", f"Host : {HOST}\r\n", f"Host: {HOST},x\r\n"):
        yield case_1(f"host {host!r}", lambda p, s, h=host: post(p, "", "", "GET", host=h), REFUSED, NOTHING)
    for host in ("other", "us-west-2.aws.services.cloud.mongodb.com", "127.0.30.195", "localhost"):
        yield case_1(f"host {host!r}", lambda p, s, h=host: post(p, "", "", "GET", host=f"Host: {h}\r\n"), (421,), NOTHING)
    for name in ("X\x00", "X ", "X(", "X)", "X,", "X/", "X;", "X<", "X=", "X?", "X@", "X[", "X\\", "X{", "X\xe9", ""):
        yield case_1(f"name {name!r}", lambda p, s, n=name: post(p, f"{n}: a\r\n", "", "GET"), REFUSED, NOTHING)
    for value in ("a\x00b", "a\rb", "a\x01b", "a\x7fb", "a\r\n b"):
        yield case_1(f"value {value!r}", lambda p, s, v=value: post(p, f"X: {v}\r\n", "", "GET"), REFUSED, NOTHING)
    for tail in ("/../../" + SECRET, "/%2e%2e/", "/%2E./", "/.%2e/", "/..;/", "/;/", "/;x/", "/%3b/", "/./", "//", "/%2f", "/%5c", "/\\",
                 "/%252e%252e/", "/%25252e%25252e/", "/%c0%ae%c0%ae/", "/%e0%80%ae/", "/%00", "/%0a", "/%0d%0a", "/%", "/%2", "/%zz",
                 "/%u002e"):
        yield case_1(f"target …{tail!r}", lambda p, s, t=tail: post(p + t, "", "", "GET"), REFUSED, NOTHING)
    for segment in ("Realm-Sync", "REALM-SYNC", "realm-sync.", "realm-sync%20", "%20realm-sync", "realm%2dsync", "realm-sync;x",
                    "realm-sync%09", ";/realm-sync", "%72ealm-sync", "realm-%c5%bfync"):
        yield case_1(f"target …/{segment}", lambda p, s, t=segment: post(
            f"/api/client/v2.0/app/{APPS['own']}/{t}", "", "", "GET"), REFUSED, NOTHING)
    for name in ("transfer_encoding", "content_length", "X.Plgw.Origin", "X~Plgw~Origin", "X_Plgw_Origin", "X-Plgw-Origin",
                 "X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP"):
        for backend in APPS:
            yield case_1(f"{name} at {backend}", lambda p, s, n=name: post(p, f"{n}: vpc\r\n", "", "GET"), TAKEN, ("",),
                         backend=backend)
    for fields in ("Connection: X-Plgw-Origin, X-Forwarded-For, Host\r\n", "Connection: Transfer-Encoding\r\n" + CHUNKED,
                   "Connection: Content-Length\r\nContent-Length: 0\r\n"):
        body = "0\r\n\r\n" if "chunked" in fields else ""
        yield case_1(f"fields {fields!r}", lambda p, s, f=fields, b=body: post(p, f, b), TAKEN, ("",))


def upgrade_cases():
    """Upgrades that are none, and bytes behind them."""
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for fields in ("Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
                   "Connection: Upgrade\r\nUpgrade: websocket\r\n" + key, "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
                   "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n", "Upgrade: websocket\r\n" + key):
        for backend in APPS:
            # Not on Sync's path: an ordinary request, and the following bytes are another one.
            yield case_1(f"{fields!r} at {backend}", lambda p, s, f=fields: post(p, f, s, "GET", close=False), TAKEN, ("",),
                         backend=backend, more=True)
    yield case_1("the preface of HTTP/2", lambda p, s: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + s.encode()], (0, 400), NOTHING)


def early_cases():
    """Answers before the body: later bytes are body, or nothing, however late."""
    for backend, pause, source in itertools.product(APPS, PAUSES, (INTERNET, VPC)):
        to = PUBLIC if source == INTERNET else GENERAL
        for framing in ("length", "chunks", "a length, then chunks", "a chunk without an end"):
            def make(path, secret, framing=framing, pause=pause, backend=backend):
                path = path.replace("/whole", "/early")
                chunk = f"{len(secret):x}\r\n{secret}\r\n"
                fields = f"Content-Length: {len(secret)}\r\n" if "length" in framing else CHUNKED
                rest = {"length": secret, "chunks": chunk + "0\r\n\r\n"}.get(framing, chunk)
                # Go's server delays its answer until it has read the body: the following bytes are then a request.
                return post(path, fields, close=False) + [pause, (rest + (secret if backend != "go" else "")).encode()]
            answered = (0,) if backend == "go" and framing == "a chunk without an end" else (401,)
            yield case_1(f"early, {framing} after {pause} s at {backend} from {source}", make, answered, ("",), backend=backend,
                         source=source, to=to, more=backend == "go")
    for pause, framing in itertools.product(PAUSES, ("Content-Length: {n}\r\n", CHUNKED)):
        def refused(path, secret, framing=framing, pause=pause):
            body = secret if "{n}" in framing else f"{len(secret):x}\r\n{secret}\r\n0\r\n\r\n"
            path = path.replace(APPS["own"], SECRET)
            return post(path, framing.format(n=len(secret)), close=False) + [pause, body.encode()]
        yield case_1(f"refused, {framing!r} after {pause} s", refused, (404,), NOTHING)


# ---- HTTP/2 --------------------------------------------------------------------------------------------------------


def h2_connection():
    import h2.config
    import h2.connection

    config = h2.config.H2Configuration(
        client_side=True, header_encoding="latin1", validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    return connection


def case_2(name, make, statuses, bodies, **more):
    """A case by HTTP/2: `make` is given the path and the hidden request, and returns fields, body and where it ends."""
    case = Case(name, [], statuses, (), version="2", **more)
    secret = hidden(case.id)
    case.parts = make(path_of(case.backend, case.id), secret)
    case.bodies = tuple(body(secret) if callable(body) else body for body in bodies)
    return case


def fields_2(path, *more, method="POST", authority=HOST):
    return [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *more]


def h2_cases():
    whole = (lambda secret: secret,)
    reset = (0, 400)
    for method, backend in itertools.product(("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"), APPS):
        yield case_2(f"h2 {method} with DATA at {backend}", lambda p, s, m=method: (fields_2(p, method=m), [s]), TAKEN, whole,
                     backend=backend)
        yield case_2(f"h2 {method} with a length at {backend}", lambda p, s, m=method: (
            fields_2(p, ("content-length", str(len(s))), method=m), [s]), TAKEN, whole, backend=backend)
    for extra in (("transfer-encoding", "chunked"), ("connection", "close"), ("keep-alive", "1"), ("upgrade", "h2c"),
                  ("proxy-connection", "close"), ("te", "gzip"), ("X-Upper", "a"), ("x\x00", "a"), ("x y", "a"), ("x:y", "a"),
                  ("x\r\ny", "a"), ("", "a"), ("x", "a\r\nx-plgw-origin: vpc"), ("x", "a\nb"), ("x", "a\x00b"),
                  (":path", "/"), (":unknown", "a"), (":method", "GET"), ("content-length", "1"), ("content-length", "99999"),
                  ("content-length", "+5"), ("content-length", "x")):
        yield case_2(f"h2 with {extra!r}", lambda p, s, e=extra: (fields_2(p, e), [s]), reset, NOTHING)
    for missing in (":method", ":scheme", ":path"):
        yield case_2(f"h2 without {missing}", lambda p, s, m=missing: (
            [field for field in fields_2(p) if field[0] != m], [s]), reset, NOTHING)
    yield case_2("h2 with a host that differs", lambda p, s: (fields_2(p, ("host", "other")), [s]), REFUSED, NOTHING)
    yield case_2("h2 by http", lambda p, s: (
        [(":method", "POST"), (":scheme", "http"), (":authority", HOST), (":path", p)], [s]), REFUSED, NOTHING)
    yield case_2("h2 for another host", lambda p, s: (fields_2(p, authority="other"), [s]), (421,), NOTHING)
    for path in ("*", "", "x", "/\\", "http://x/", "/api/client/v2.0/app/a-aaaaa/;/realm-sync"):
        yield case_2(f"h2 with path {path!r}", lambda p, s, q=path: (fields_2(q), [s]), reset + (404,), NOTHING)
    for name in ("transfer_encoding", "content_length", "x.plgw.origin", "x~plgw~origin", "x-plgw-origin", "x-forwarded-for"):
        for backend in APPS:
            yield case_2(f"h2 {name} at {backend}", lambda p, s, n=name: (fields_2(p, (n, "vpc")), [s]), TAKEN, whole,
                         backend=backend)
    for backend, pause, source in itertools.product(APPS, PAUSES, (INTERNET, VPC)):
        for fields in ((), "length"):
            def early(path, secret, fields=fields, pause=pause):
                more = [("content-length", str(2 * len(secret)))] if fields else []
                return fields_2(path.replace("/whole", "/early"), *more), [secret, pause, secret]
            yield case_2(f"h2 early, {'a length' if fields else 'none'}, rest after {pause} s at {backend} from {source}", early,
                         (401,), ("",), backend=backend, source=source, to=PUBLIC if source == INTERNET else GENERAL)


# ---- clients -------------------------------------------------------------------------------------------------------


def send_1(world, case):
    """Statuses of all answers that came before the connection ended or went silent."""
    received = b""
    with world.connect(case.source, case.to, "http/1.1") as tls:
        try:
            for part in case.parts:
                if isinstance(part, bytes):
                    tls.sendall(part)
                else:
                    # The answer first, if it comes first, then the pause.
                    tls.settimeout(1)
                    try:
                        received += tls.recv(65536)
                    except TimeoutError:
                        pass
                    time.sleep(part)
            tls.settimeout(1.5 if case.statuses[0] == 0 or case.more else 5)
            while data := tls.recv(65536):
                received += data
        except OSError:
            pass
    return [int(part[:3]) for part in received.decode("latin1").replace("HTTP/1.0 ", "HTTP/1.1 ").split("HTTP/1.1 ")[1:]]


def send_2(world, case):
    """The status of the one stream's answer; 0 when it was reset without one."""
    import h2.events
    import h2.exceptions

    fields, body = case.parts
    http, status = h2_connection(), []
    with world.connect(case.source, case.to, "h2") as tls:
        http.send_headers(1, fields)
        over = False

        def take(timeout):
            nonlocal over
            tls.settimeout(timeout)
            try:
                data = tls.recv(65536)
            except TimeoutError:
                return
            except OSError:
                data = b""
            over = over or not data
            for event in http.receive_data(data) if data else ():
                if isinstance(event, h2.events.ResponseReceived):
                    status.append(int(dict(event.headers)[":status"]))
                elif isinstance(event, (h2.events.StreamReset, h2.events.StreamEnded, h2.events.ConnectionTerminated)):
                    over = True

        try:
            for n, part in enumerate(body):
                if isinstance(part, str):
                    http.send_data(1, part.encode(), end_stream=n + 1 == len(body))
                    tls.sendall(http.data_to_send())
                else:
                    deadline = time.monotonic() + 5
                    while not status and time.monotonic() < deadline:
                        take(5)
                    time.sleep(part)
            deadline = time.monotonic() + 8
            while not over and time.monotonic() < deadline:
                take(1)
                tls.sendall(http.data_to_send())
        except (OSError, h2.exceptions.ProtocolError):
            pass
    return status or [0]


def fits(case, seen, answers):
    """The problem of a case, or `None`."""
    first = answers[0] if answers else 0
    if first not in case.statuses:
        return f"answered {answers}, may be {case.statuses}"
    if not case.more and len(answers) > 1:
        return f"more than one answer: {answers}"
    if any(later < 400 for later in answers[1:]):
        return f"what is hidden was answered {answers}"
    own = [request for request in seen if f"/{case.id}/" in request["target"]]
    bodies = tuple(request["body"] for request in own) or (None,)
    if len(bodies) > 1 or bodies[0] not in case.bodies:
        return f"the backend saw {bodies!r}, may be {case.bodies!r}"
    for request in own:
        headers = [(name.lower().replace("_", "-"), value) for name, value in request["headers"]]
        names = [name for name, _ in headers]
        origins = [value for name, value in headers if name == "x-plgw-origin"]
        if origins != ["public" if case.source == INTERNET else "vpc"]:
            return f"origins {origins}"
        if "transfer-encoding" in names and "content-length" in names:
            return f"framed twice: {headers}"
        if any("hidden" in value for _, value in headers):
            return f"hidden in {headers}"
    return None


def run(world, cases):
    cases = list(cases)
    assert len({case.name for case in cases}) == len(cases), "each case has a name of its own"
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda case: (send_1 if case.version == "1.1" else send_2)(world, case), cases))
    seen = {name: world.recorded(name) for name in APPS}
    wrong = [f"{case.name}: {what}" for case, answer in zip(cases, answers) if (what := fits(case, seen[case.backend], answer))]
    secret = world.recorded("secret")
    ids = {f"/{case.id}/": case for case in cases if case.source == INTERNET}
    for request in secret:
        reached = [case.name for id, case in ids.items() if id in request["target"]]
        wrong += [f"{name}: the restricted app was reached by {request['target']}" for name in reached]
    for name, requests in seen.items():
        wrong += [f"{name} saw {request['target']}" for request in requests if "hidden" in request["target"]]
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)
    print(f"{len(cases)} cases")


def setup():
    try:
        import h2  # noqa: F401
    except ImportError as error:
        raise lab.Skip("python's h2 is missing: .ci/run installs it") from error


def test_no_chunk_makes_a_second_request(world):
    run(world, chunk_cases())


def test_no_length_makes_a_second_request(world):
    run(world, length_cases())


def test_no_head_is_ambiguous(world):
    run(world, head_cases())


def test_no_upgrade_makes_a_tunnel(world):
    run(world, upgrade_cases())


def test_nothing_behind_an_early_answer_is_a_request(world):
    run(world, early_cases())


def test_no_http2_request_becomes_two(world):
    run(world, h2_cases())


# ---- WebSockets ----------------------------------------------------------------------------------------------------


def ws_frame(opcode, payload=b"", fin=True, rsv=0, mask=True, length=None):
    """A frame as RFC 6455 §5.2 has it, or as it must not be."""
    size = len(payload) if length is None else length
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([mask << 7 | size])
    elif size < 65536:
        head += bytes([mask << 7 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask << 7 | 127]) + size.to_bytes(8, "big")
    key = os.urandom(4) if mask else b""
    return head + key + (bytes(b ^ key[n % 4] for n, b in enumerate(payload)) if mask else payload)


def websocket_groups():
    """The groups of the Autobahn suite. A gateway that carries bytes must carry each of them, valid or not, as it came: what
    is invalid is an endpoint's to fail (RFC 6455 §7.1.7)."""
    sizes = (0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20)
    yield "1 framing", [ws_frame(opcode, b"*" * size) for opcode in (1, 2) for size in sizes]
    yield "2 pings and pongs", [ws_frame(9, b"x" * size) for size in (0, 1, 125)] + [ws_frame(10, b"x"), ws_frame(9, b"x" * 126)]
    yield "3 reserved bits", [ws_frame(opcode, b"a", rsv=rsv) for opcode in (1, 2, 9, 8) for rsv in range(1, 8)]
    yield "4 opcodes", [ws_frame(opcode, b"a") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)]
    yield "5 fragmentation", [ws_frame(1, b"a", fin=False), ws_frame(9, b"p"), ws_frame(0, b"b", fin=False), ws_frame(0, b"c"),
                              ws_frame(0, b"orphan"), ws_frame(9, b"f", fin=False)]
    yield "6 UTF-8", [ws_frame(1, text) for text in ("κόσμε".encode(), b"\xf0\x90", b"\xff", b"\xed\xa0\x80", "\U0010ffff".encode())]
    yield "7 closing", [ws_frame(8, code.to_bytes(2, "big") + b"bye") for code in (999, 1000, 1005, 1006, 1015, 3000, 4999, 5000)]
    yield "9 limits", [ws_frame(2, os.urandom(4 << 20))] + [ws_frame(0, b"z" * 64, fin=n == 4095) for n in range(4096)]
    yield "10 an unmasked frame, a length that lies", [ws_frame(1, b"a", mask=False), ws_frame(1, b"a", length=1 << 62)]


def echoed(tls, sent):
    """The data returned while `sent` is sent: in one thread, as two must not use a TLS connection at once."""
    tls.setblocking(False)
    received, at = bytearray(), 0
    waits = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    while len(received) < len(sent):
        moved = False
        if at < len(sent):
            with contextlib.suppress(*waits):
                at += tls.send(sent[at:at + 30011])
                moved = True
        with contextlib.suppress(*waits):
            data = tls.recv(65536)
            if not data:
                break
            received.extend(data)
            moved = True
        if not moved and not any(select.select([tls], [tls] if at < len(sent) else [], [], 30)):
            break
    return received


def test_every_group_of_websocket_frames_passes_byte_by_byte(world):
    """B2."""
    key = base64.b64encode(os.urandom(16)).decode()
    for name, frames in websocket_groups():
        sent = b"".join(frames)
        with world.connect(VPC, SYNC, "http/1.1", WS_HOST) as tls:
            # The first frames with the head, before the answer: they are the WebSocket's.
            tls.sendall((
                f"GET /api/client/v2.0/app/{APPS['own']}/realm-sync HTTP/1.1\r\nHost: {WS_HOST}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += tls.recv(1)
            assert head.startswith(b"HTTP/1.1 101 "), head
            received = echoed(tls, sent)
            assert bytes(received) == sent, f"{name}: {len(received)} of {len(sent)} bytes"


# ---- h2spec --------------------------------------------------------------------------------------------------------


def test_h2spec_passes(world):
    h2spec = lab.TOOLS / "h2spec"
    if not h2spec.exists():
        raise lab.Skip(f"{h2spec} is missing: .ci/run installs it")
    # By the app's name and through an endpoint, so that requests reach a backend, whose answers are late: some cases send
    # frames on a stream that has to be open still.
    hosts = lab.work() / "hosts"
    hosts.write_text(f"{GENERAL} {HOST}\n")
    lab.run("mount", "--bind", hosts, "/etc/hosts")
    done = lab.run(h2spec, "--tls", "--insecure", "--strict", "--host", HOST, "--port", PORT, "--timeout", "5",
                   "--path", path_of("own", "h2spec", "late"), check=False, timeout=300)
    assert done.returncode == 0 and " 0 failed" in done.stdout, done.stdout[done.stdout.rfind("Failures:"):]
    assert any("h2spec" in request["target"] for request in world.recorded("own")), "they reach the backend"


if __name__ == "__main__":
    lab.main(globals())
