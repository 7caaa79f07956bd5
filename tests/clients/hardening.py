"""People who try: sources that are refused, idle or slow by the hundred, credentials that are replayed, guessed or forged,
files that others made. Whatever they do, a flow, `/healthz`, the admin API and DNS are answered."""

import hashlib
import hmac
import http.client
import json
import os
import re
import resource
import socket
import ssl
import struct
import threading
import time

import lab

LIMIT = 1024
ENDPOINT = ("127.0.30.194", 1024)
# A machine of no network of the VPC's, from which the gateway is reached at its own address there.
GATEWAY, ATTACKERS, OPERATOR = "10.9.0.1", ("10.9.0.2", "10.9.0.3"), "10.9.0.9"
CLIENT, OTHER_CLIENT = "127.0.1.9", "127.0.1.10"
SERVICE, STRANGER = "127.1.0.50", "127.9.0.9"
NAME = "pl-0-us-east-1-k45tj.mongodb.net"
PUBLIC, PRIVATE, TOKEN = "admin-public", "admin-private-secret", "admin-token-secret"
PROJECT = "/api/atlas/v2/groups/5f2a1b3c4d5e6f7081920a3b"
KEYS = {"PLGW_ADMIN_PUBLIC_KEY": PUBLIC, "PLGW_ADMIN_PRIVATE_KEY": PRIVATE, "PLGW_ADMIN_TOKEN": TOKEN}

echo = lab.echo


def setup():
    lab.own_addresses(GATEWAY, *ATTACKERS, OPERATOR)
    # This process holds both ends of every flow, and the attackers' connections.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start(*, limit=LIMIT, more="", admin='tls = "off"\n', ready=True):
    """A gateway that listens everywhere, with credentials, and may have this many descriptors."""
    text = (lab.ROOT / "tests/clients/third-party.toml").read_text()
    text = text.replace('listen = ["127.0.0.1:53"]', f'listen = ["127.0.0.1:53", "{GATEWAY}:53"]')
    config = lab.work() / f"hardening-{lab.Gateway.count}.toml"
    listeners = '[admin]\nlisten = "0.0.0.0:8474"\n' + admin + '[metrics]\nlisten = "0.0.0.0:9464"\n'
    config.write_text(text.replace("[dns]", listeners + more + "[dns]"))
    os.environ.update(KEYS)
    try:
        limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit // 2, limit))
        return lab.Gateway("serve", "--config", config, ready=ready, limits=limits)
    finally:
        for name in KEYS:
            del os.environ[name]


def gateway():
    running = start()
    yield running
    running.kill()


def connect(source, to, timeout=30):
    return socket.create_connection(to, timeout=timeout, source_address=(source, 0))


def ask(source, method, path, body=None, headers=None, port=lab.ADMIN[1]):
    connection = http.client.HTTPConnection(GATEWAY, port, timeout=lab.SOON, source_address=(source, 0))
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


def flow_answers(source=CLIENT):
    with connect(source, ENDPOINT) as flow:
        flow.sendall(b"ping")
        assert flow.recv(4) == b"ping"


def target_is_healthy():
    targets = json.loads(ask(OPERATOR, "GET", "/v1/targets", headers=bearer())[1])["targets"]
    states = {each["id"]: each["state"] for each in targets}
    assert states["Cluster0/shard-00-00"] == "healthy", states


def question(kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split("."))
    return struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)


def dns_answers():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(10)
        udp.bind((CLIENT, 0))
        udp.sendto(question(5), ("127.0.0.1", 53))
        assert struct.unpack(">6H", udp.recv(1500)[:12])[3] > 0
    with connect(CLIENT, ("127.0.0.1", 53)) as tcp:
        message = question(5)
        tcp.sendall(struct.pack(">H", len(message)) + message)
        assert struct.unpack(">6H", tcp.recv(1500)[2:14])[3] > 0


def everything_answers():
    for _ in range(5):
        flow_answers()
        assert ask(OPERATOR, "GET", "/healthz", port=lab.METRICS[1])[0] == 200
        assert ask(OPERATOR, "GET", "/v1/status", headers=bearer())[0] == 200
        dns_answers()


class Held:
    """Connections that are held open, whatever becomes of them."""

    def __init__(self):
        self.sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.sockets:
            one.close()

    def open(self, count, source, to, send=b""):
        for _ in range(count):
            try:
                one = connect(source, to)
                if send:
                    one.sendall(send)
            except OSError:
                continue
            self.sockets.append(one)


def descriptors(gateway):
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def test_the_soft_limit_is_raised_to_the_hard_one(gateway):
    limits = open(f"/proc/{gateway.process.pid}/limits").read()
    assert re.search(rf"Max open files +{LIMIT} +{LIMIT} ", limits), limits


def test_refused_and_idle_clients_leave_descriptors_for_everything_else(gateway, echo):
    """S2, S3."""
    lab.eventually("the target is healthy", target_is_healthy)
    everything_answers()
    before = descriptors(gateway)
    with Held() as held:
        held.open(700, SERVICE, ENDPOINT)
        held.open(700, STRANGER, ENDPOINT)
        lab.eventually("refused clients beyond an eighth are reset", lambda: holds(gateway, before + LIMIT // 8 + 8))
        for attacker in (*ATTACKERS, "127.0.0.1"):
            held.open(64, attacker, (GATEWAY if attacker in ATTACKERS else "127.0.0.1", lab.METRICS[1]))
            held.open(256, attacker, (GATEWAY if attacker in ATTACKERS else "127.0.0.1", lab.ADMIN[1]))
            held.open(64, attacker, (GATEWAY if attacker in ATTACKERS else "127.0.0.1", 53))
            everything_answers()
        assert descriptors(gateway) < LIMIT // 2, descriptors(gateway)
        everything_answers()
    lab.eventually("every descriptor is given back", lambda: holds(gateway, before + 4))


def holds(gateway, most):
    assert descriptors(gateway) <= most, (descriptors(gateway), most)


def test_slow_clients_are_closed_when_descriptors_run_out(gateway):
    slow = b"POST /v1/faults HTTP/1.1\r\nHost: 10.9.0.1\r\nContent-Length: 100\r\n\r\n{"
    with Held() as held:
        for attacker in ATTACKERS:
            held.open(256, attacker, (GATEWAY, lab.ADMIN[1]), slow)
            held.open(64, attacker, (GATEWAY, lab.METRICS[1]), b"GET /met")
        for _ in range(5):
            assert ask(OPERATOR, "GET", "/v1/status", headers=bearer())[0] == 200
            assert ask(OPERATOR, "GET", "/healthz", port=lab.METRICS[1])[0] == 200


def test_one_source_leaves_flows_to_others(gateway, echo):
    """One source may use three quarters of the descriptors; further connections are reset and counted."""
    lab.eventually("the target is healthy", target_is_healthy)
    with Held() as held:
        held.open(500, CLIENT, ENDPOINT)
        lab.eventually("the rest is refused", lambda: counted("source_limit"))
        for _ in range(5):
            flow_answers(OTHER_CLIENT)
        assert ask(OPERATOR, "GET", "/v1/status", headers=bearer())[0] == 200
    lab.eventually("the source may have flows again", lambda: flow_answers(CLIENT))


def counted(reason):
    assert lab.metric("plgw_refused_flows_total", f'reason="{reason}"') > 0, reason


def test_a_flood_of_refusals_is_one_line_a_second(gateway):
    """S13."""
    def lines():
        return [line for line in gateway.log.read_text(errors="replace").splitlines() if SERVICE in line]

    before, began = len(lines()), time.monotonic()
    for _ in range(3000):
        connect(SERVICE, ENDPOINT).close()

    def counted_together():
        assert any("refused in a second" in line for line in lines()[before:]), lines()[before:]

    lab.eventually("the count is logged", counted_together)
    added, seconds = lines()[before:], time.monotonic() - began
    assert len(added) <= seconds + 3, added


def says(gateway, text):
    log = gateway.log.read_text(errors="replace")
    assert text in log, log[-2000:]


def digest(challenge, path, nc=1, **change):
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    first = hashlib.md5(f"{PUBLIC}:{fields['realm']}:{PRIVATE}".encode()).hexdigest()
    second = hashlib.md5(f"GET:{path}".encode()).hexdigest()
    nonce, count = fields["nonce"], f"{nc:08x}"
    response = hashlib.md5(f"{first}:{nonce}:{count}:c:auth:{second}".encode()).hexdigest()
    parts = {
        "username": f'"{PUBLIC}"', "realm": f'"{fields["realm"]}"', "nonce": f'"{nonce}"', "uri": f'"{path}"',
        "cnonce": '"c"', "nc": count, "qop": "auth", "response": f'"{response}"', "algorithm": "MD5", **change,
    }
    return {"Authorization": "digest " + ", ".join(f"{name}={value}" for name, value in parts.items())}


def test_a_digest_is_good_once_for_its_source_and_target(gateway):
    """S6. RFC 7616."""
    status, _, headers = ask(OPERATOR, "GET", PROJECT)
    challenge = headers["WWW-Authenticate"]
    assert status == 401 and "stale=false" in challenge
    right = digest(challenge, PROJECT)

    def denied(source, path, given, stale):
        status, _, headers = ask(source, "GET", path, headers=given)
        assert status == 401 and f"stale={stale}" in headers["WWW-Authenticate"], (status, headers["WWW-Authenticate"])

    denied(ATTACKERS[0], PROJECT, right, "true")
    denied(OPERATOR, PROJECT + "?pretty=true", right, "false")
    denied(OPERATOR, PROJECT, digest(challenge, PROJECT, realm='"other"'), "false")
    denied(OPERATOR, PROJECT, digest(challenge, PROJECT, qop="auth-int"), "false")
    denied(OPERATOR, PROJECT, digest(challenge, PROJECT, algorithm="SHA-256"), "false")
    assert ask(OPERATOR, "GET", PROJECT, headers=right)[0] == 200
    denied(OPERATOR, PROJECT, right, "true")
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(ask(OPERATOR, "GET", PROJECT, headers=digest(challenge, PROJECT, n))[0]))
        for n in range(2, 22)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 20, answers


def signed(date=None, day=None, names="host;x-amz-date", body="Action=DescribeVpcs", key=PRIVATE):
    date = date or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    day = day or date[:8]
    scope = f"{day}/us-east-1/ec2/aws4_request"
    headers = {"host": f"{GATEWAY}:{lab.ADMIN[1]}", "x-amz-date": date}
    lines = "".join(f"{name}:{headers[name]}\n" for name in names.split(";"))
    request = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body.encode()).hexdigest()}"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing = f"AWS4{key}".encode()
    for part in (*scope.split("/"), text):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    credential = f"Credential={PUBLIC}/{scope}, SignedHeaders={names}, Signature={signing.hex()}"
    return body, {"X-Amz-Date": date, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}


def test_a_signature_is_checked_as_aws_does(gateway):
    """S9."""
    assert ask(OPERATOR, "POST", "/", *signed())[0] == 200
    hour_ago = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 3600))
    for given, status, code in (
        (signed(names="host"), 403, "SignatureDoesNotMatch"),
        (signed(names="x-amz-date"), 403, "SignatureDoesNotMatch"),
        (signed(day="2"), 403, "SignatureDoesNotMatch"),
        (signed(day="20200101"), 403, "SignatureDoesNotMatch"),
        (signed(date=hour_ago), 400, "RequestExpired"),
        (signed(date="20260810T09xx00Z"), 400, "IncompleteSignature"),
        (signed(key="wrong"), 401, "AuthFailure"),
    ):
        answer = ask(OPERATOR, "POST", "/", *given)
        assert answer[0] == status and f"<Code>{code}</Code>" in answer[1], (given, answer)


def test_failed_logins_are_limited_on_every_path_and_lock_out_no_one(gateway):
    """S7."""
    for n in range(1100):
        source = f"127.77.{n // 250}.{1 + n % 250}"
        connection = http.client.HTTPConnection("127.0.0.1", lab.ADMIN[1], timeout=lab.SOON, source_address=(source, 0))
        connection.request("GET", "/v1/status", headers=bearer("wrong"))
        connection.getresponse().read()
        connection.close()
    statuses = [ask(ATTACKERS[1], "GET", "/v1/status", headers=bearer(f"guess-{n}"))[0] for n in range(30)]
    assert set(statuses) <= {401, 429} and statuses[-1] == 429, statuses
    assert ask(ATTACKERS[1], "GET", "/v1/status", headers=bearer())[0] == 200, "the owner at the same address"


def test_the_gateway_is_healthy_afterwards(gateway, echo):
    everything_answers()
    assert gateway.stop() == 0, gateway.tail()


def test_files_of_others_and_links_are_refused():
    """S8."""
    secret = lab.work() / "secret"
    secret.write_text("secret\n")
    log = lab.work() / "flow.log"
    log.symlink_to(secret)
    refused = start(more=f'[flow_logs]\nenabled = true\npath = "{log}"\n', ready=False)
    assert refused.process.wait(timeout=lab.SOON) != 0
    says(refused, "symbolic link")
    assert secret.read_text() == "secret\n"
    log.unlink()
    running = start(more=f'[flow_logs]\nenabled = true\npath = "{log}"\n')
    assert oct(log.stat().st_mode & 0o777) == "0o640"
    running.stop()


def certificate(name):
    """A certificate for the gateway's addresses with its key, and that of the CA which signed it."""
    ca, ca_key, chain, key, request, names = (lab.work() / f"{name}-{part}" for part in ("ca", "cakey", "pem", "key", "csr", "san"))
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"]
    lab.run("openssl", "req", "-x509", *new, "-keyout", ca_key, "-out", ca, "-days", "30")
    lab.run("openssl", "req", *new, "-keyout", key, "-out", request)
    names.write_text(f"subjectAltName=IP:{GATEWAY},IP:127.0.0.1\n")
    signing = ["-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", names]
    lab.run("openssl", "x509", "-req", "-in", request, *signing, "-out", chain, "-days", "30")
    return chain, key, ca


def test_the_admin_api_speaks_tls_with_a_certificate_and_takes_a_renewed_one():
    lab.need("openssl")
    chain, key, first = certificate("admin")
    running = start(admin=f'certificate = "{chain}"\nkey = "{key}"\n')

    def status(ca):
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(
            GATEWAY, lab.ADMIN[1], timeout=lab.SOON, source_address=(OPERATOR, 0), context=context
        )
        try:
            connection.request("GET", "/v1/status", headers={**bearer(), "Origin": f"https://{GATEWAY}:{lab.ADMIN[1]}"})
            return connection.getresponse().status
        finally:
            connection.close()

    assert status(first) == 200
    try:
        answer = ask(OPERATOR, "GET", "/v1/status", headers=bearer())
    except (OSError, http.client.HTTPException):
        answer = None
    assert answer is None, "in clear it answers nothing"
    command = [lab.PLGW, "status", "--admin", f"https://{GATEWAY}:{lab.ADMIN[1]}", "--ready"]
    environment = {**os.environ, **KEYS}
    assert lab.run(*command, env={**environment, "PLGW_CA": str(first)}).returncode == 0
    with Held() as held:
        for attacker in ATTACKERS:
            held.open(256, attacker, (GATEWAY, lab.ADMIN[1]), b"\x16\x03\x01")
        assert status(first) == 200, "half-made handshakes make place"
    its_chain, its_key, renewed = certificate("renewed")
    its_key.replace(key)
    its_chain.replace(chain)
    lab.eventually("the renewed certificate is shown", lambda: status(renewed))
    half = start(admin=f'certificate = "{chain}"\n', ready=False)
    assert half.process.wait(timeout=lab.SOON) == 78
    says(half, "write both, or neither")
    running.stop()


if __name__ == "__main__":
    lab.main(globals())
