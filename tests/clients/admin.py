"""Who may use the admin listener: from other machines only with credentials, given in the scheme of the API that is called.
What else it refuses, and that secrets appear nowhere."""

import http.client
import json
import os
import ssl
import urllib.request
from socket import create_connection

import lab

KEYS = {
    "PLGW_ADMIN_PUBLIC_KEY": "admin-public",
    "PLGW_ADMIN_PRIVATE_KEY": "admin-private-secret",
    "PLGW_ADMIN_TOKEN": "admin-token-secret",
}
PROJECT = "/api/atlas/v2/groups/5f2a1b3c4d5e6f7081920a3b"
ELSEWHERE = "127.77.0.1"
OPEN = '[admin]\nlisten = "0.0.0.0:8474"\n'


def setup():
    if not (lab.TOOLS / "venv" / "bin" / "python").exists():
        raise lab.Skip("the client packages are missing: .ci/run installs them")


def config():
    path = lab.work() / "open.toml"
    path.write_text(OPEN)
    return path



def gateway():
    os.environ.update(KEYS)
    try:
        yield lab.quickstart("--state-in-memory")
    finally:
        for name in KEYS:
            del os.environ[name]


def ask(method, path, body=None, headers=None, host=None):
    connection = http.client.HTTPConnection(*lab.ADMIN, timeout=lab.SOON)
    try:
        connection.request(method, path, body, {**({"Host": host} if host else {}), **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def test_without_credentials_no_other_address_than_loopback_is_listened_on():
    for command in ("serve", "check"):
        done = lab.run(lab.PLGW, command, "--config", config(), check=False)
        assert done.returncode == 78, done
        said = done.stdout + done.stderr
        assert "0.0.0.0:8474" in said and "PLGW_ADMIN_PUBLIC_KEY" in said, said
        assert "write a loopback address, as `127.0.0.1:8474`" in said, said


def test_with_credentials_it_listens_at_the_configured_address():
    os.environ.update(KEYS)
    try:
        open_to_all = lab.Gateway("serve", "--config", config())
    finally:
        for name in KEYS:
            del os.environ[name]
    # Over TLS; all of loopback has one certificate, for `localhost`.
    trusted = ssl.create_default_context(cafile=lab.work() / "plgw-lab" / "ca.pem")
    socket = create_connection((ELSEWHERE, lab.ADMIN[1]), lab.SOON)
    connection = http.client.HTTPConnection(ELSEWHERE, lab.ADMIN[1])
    connection.sock = trusted.wrap_socket(socket, server_hostname="localhost")
    connection.request("GET", "/v1/status", headers={"Authorization": f"Bearer {KEYS['PLGW_ADMIN_TOKEN']}"})
    assert connection.getresponse().status == 200
    assert open_to_all.stop() == 0, open_to_all.tail()


def test_every_api_challenges_in_its_own_scheme_and_accepts_valid_credentials(gateway):
    """A27, B10."""
    status, body, headers = ask("GET", PROJECT)
    assert status == 401 and json.loads(body)["errorCode"] == "UNEXPECTED_ERROR", body
    assert headers["WWW-Authenticate"].startswith('Digest realm="MMS Public API", domain="", nonce="'), headers
    assert ask("GET", "/v1/status")[0] == 401
    status, body, _ = ask("POST", "/", "Action=DescribeVpcs", {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 401 and "<Code>AuthFailure</Code>" in body, body
    assert ask("GET", "/api/admin/v3.0/auth/profile")[0] == 401
    assert ask("GET", "/openapi.json")[0] == 200
    assert ask("GET", "/v1/status", headers={"Authorization": f"Bearer {KEYS['PLGW_ADMIN_TOKEN']}"})[0] == 200
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    url = "http://{}:{}{}".format(*lab.ADMIN, PROJECT)
    passwords.add_password(None, url, KEYS["PLGW_ADMIN_PUBLIC_KEY"], KEYS["PLGW_ADMIN_PRIVATE_KEY"])
    opener = urllib.request.build_opener(urllib.request.HTTPDigestAuthHandler(passwords))
    assert opener.open(url).status == 200
    signed = lab.run(
        lab.TOOLS / "venv" / "bin" / "aws", "ec2", "describe-vpcs", "--query", "length(Vpcs)",
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*lab.ADMIN),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEYS["PLGW_ADMIN_PUBLIC_KEY"],
            "AWS_SECRET_ACCESS_KEY": KEYS["PLGW_ADMIN_PRIVATE_KEY"],
            "HOME": str(lab.work()),
        },
    )
    assert int(signed.stdout) >= 1, signed


def test_a_page_that_a_name_was_rebound_under_and_a_page_of_another_site_are_refused(gateway):
    token = {"Authorization": f"Bearer {KEYS['PLGW_ADMIN_TOKEN']}"}
    for host in ("attacker.example", "127.0.0.1.nip.example:8474"):
        assert ask("GET", "/v1/status", headers=token, host=host)[0] == 403, host
    for header in ({"Origin": "http://attacker.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for method, path in (("POST", "/v1/reload"), ("POST", "/"), ("GET", PROJECT), ("GET", "/openapi.json")):
            assert ask(method, path, headers={**token, **header})[0] == 403, (header, path)


def test_bodies_are_bounded(gateway):
    token = {"Authorization": f"Bearer {KEYS['PLGW_ADMIN_TOKEN']}"}
    for path in ("/v1/faults", "/", f"{PROJECT}/clusters", "/api/oauth/token", "/api/admin/v3.0/auth/session"):
        status, body, _ = ask("POST", path, "x" * (64 * 1024 + 1), token)
        assert status == 413, (path, status, body)
    status, _, _ = ask("GET", "/v1/status?" + "q" * 60_000, headers=token)
    assert 400 <= status < 500, status


def test_failed_logins_are_limited_across_all_apis_and_lock_out_no_one(gateway):
    for _ in range(25):
        ask("GET", "/v1/status", headers={"Authorization": "Bearer wrong"})
    assert ask("GET", "/v1/status", headers={"Authorization": "Bearer wrong"})[0] == 429
    assert ask("GET", "/v1/status", headers={"Authorization": f"Bearer {KEYS['PLGW_ADMIN_TOKEN']}"})[0] == 200
    status, body, _ = ask("GET", PROJECT, headers={"Authorization": "Bearer wrong"})
    assert status == 429 and json.loads(body)["error"] == 429, body
    assert ask("GET", PROJECT)[0] == 401, "without credentials it is no attempt"
    status, body, _ = ask("POST", "/", "Action=DescribeVpcs", {"Authorization": "Basic a"})
    assert status == 429 and "<Code>RequestLimitExceeded</Code>" in body, body
    login = {"username": KEYS["PLGW_ADMIN_PUBLIC_KEY"], "apiKey": "wrong"}
    assert ask("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login", json.dumps(login))[0] == 429
    login["apiKey"] = KEYS["PLGW_ADMIN_PRIVATE_KEY"]
    assert ask("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login", json.dumps(login))[0] == 200
    form = "grant_type=client_credentials&client_id=a&client_secret=b"
    assert ask("POST", "/api/oauth/token", form)[0] == 429


def test_secrets_are_in_no_log_no_metric_and_no_error(gateway):
    secrets = [KEYS["PLGW_ADMIN_PRIVATE_KEY"], KEYS["PLGW_ADMIN_TOKEN"]]
    _, page = lab.get(lab.METRICS, "/metrics")
    log = gateway.log.read_text(errors="replace")
    assert "request answered" in log or "plgw" in log
    for secret in secrets:
        assert secret not in log and secret not in page, "a secret shows"
    assert gateway.stop() == 0, gateway.tail()
    assert not any(secret in gateway.log.read_text(errors="replace") for secret in secrets)


if __name__ == "__main__":
    lab.main(globals())
