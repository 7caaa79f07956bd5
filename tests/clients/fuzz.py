"""Whatever the OpenAPI description allows, and a good deal that it doesn't, sent by schemathesis: no answer may be a server
error, none may have a status, a media type or a shape that isn't described, and the gateway goes on as if nothing had been.
Without credentials, with each front's own, and with wrong ones. How many examples each operation gets is bounded."""

import json
import os
import urllib.parse

import lab

SCHEMATHESIS = lab.TOOLS / "venv" / "bin" / "schemathesis"
PROJECT = "5f2a1b3c4d5e6f7081920a3b"
KEYS = {"PLGW_ADMIN_PUBLIC_KEY": "fuzz-public", "PLGW_ADMIN_PRIVATE_KEY": "fuzz-private", "PLGW_ADMIN_TOKEN": "fuzz-token"}
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# The existing project, so that requests reach the objects below it.
CONFIG = f"""[parameters]
"path.groupId" = "{PROJECT}"
"""


def setup():
    if not SCHEMATHESIS.exists():
        raise lab.Skip(f"{SCHEMATHESIS} is missing: .ci/run installs it")


def gateway(**environment):
    os.environ.update(environment)
    try:
        return lab.quickstart("--state-in-memory")
    finally:
        for name in environment:
            del os.environ[name]


def fuzz(examples, *arguments, token=None, seconds=20):
    config = lab.work() / "schemathesis.toml"
    config.write_text(CONFIG)
    where = "http://{}:{}/openapi.json".format(*lab.ADMIN)
    headers = ["--header", f"Authorization: Bearer {token}"] if token else []
    done = lab.run(
        SCHEMATHESIS, "--config-file", config, "run", where, "--checks", CHECKS, "--phases", "coverage,fuzzing",
        "--max-examples", examples, "--max-time", seconds, "--workers", 1, "--generation-deterministic",
        "--continue-on-failure", "--no-color", "--warnings", "off", *headers, *arguments,
        check=False, timeout=150, cwd=lab.work(),
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    print("  " + next(line.strip() for line in done.stdout.splitlines() if "passed" in line))


def unharmed(gateway):
    """It runs, nothing in it panicked, and it stops when asked."""
    log = gateway.log.read_text(errors="replace")
    assert "panicked" not in log, gateway.tail()
    assert gateway.stop() == 0, gateway.tail()


def test_no_request_by_the_description_is_a_server_error_or_answered_as_not_described():
    """A23, A27, B10."""
    running = gateway()
    fuzz(6, seconds=25)
    unharmed(running)


def post(path, body, headers):
    import http.client

    connection = http.client.HTTPConnection(*lab.ADMIN, timeout=lab.SOON)
    connection.request("POST", path, body, headers)
    return json.loads(connection.getresponse().read())


def test_each_apis_own_credentials_and_wrong_ones():
    """A27, B10."""
    running = gateway(**KEYS)
    form = urllib.parse.urlencode({
        "grant_type": "client_credentials",
        "client_id": KEYS["PLGW_ADMIN_PUBLIC_KEY"],
        "client_secret": KEYS["PLGW_ADMIN_PRIVATE_KEY"],
    })
    account = post("/api/oauth/token", form, {"Content-Type": "application/x-www-form-urlencoded"})["access_token"]
    login = {"username": KEYS["PLGW_ADMIN_PUBLIC_KEY"], "apiKey": KEYS["PLGW_ADMIN_PRIVATE_KEY"]}
    session = post("/api/admin/v3.0/auth/providers/mongodb-cloud/login", json.dumps(login), {})["access_token"]
    fuzz(3, "--include-path-regex", "^/v1/", token=KEYS["PLGW_ADMIN_TOKEN"])
    fuzz(3, "--include-path-regex", "^/api/atlas/", token=account)
    # An ended session would hide later errors.
    fuzz(3, "--include-path-regex", "^/api/admin/", "--exclude-operation-id", "adminDeleteSession", token=session)
    log = running.log.read_text(errors="replace")
    assert not any(secret in log for secret in (KEYS["PLGW_ADMIN_PRIVATE_KEY"], KEYS["PLGW_ADMIN_TOKEN"], account, session))
    fuzz(1, "--include-path-regex", "^/(v1/|api/atlas/|$)", token="wrong", seconds=8)
    unharmed(running)


if __name__ == "__main__":
    lab.main(globals())
