"""The vendors' procedures by the vendors' tools, each against a quickstart of its own.

The steps are in files of their own, which say what they show: `ec2.sh` (the `aws` command), `atlas.py` (the requests of the
`atlas` command), `app_services.py` (App Services' admin API, and boto3), `appservices.py` (HTTP and WebSocket clients).
"""

import os
import sys

import lab

VENV = lab.TOOLS / "venv" / "bin"


def setup():
    for tool in ("aws", "python"):
        if not (VENV / tool).exists():
            raise lab.Skip(f"{VENV / tool} is missing: .ci/run installs it")
    lab.need("bash", "curl")


def follow(*argv):
    """Runs steps against a gateway that is theirs alone, with a home of their own, and shows what they print."""
    gateway = lab.quickstart("--state-in-memory")
    environment = {
        **os.environ,
        "ADMIN": "http://{}:{}".format(*lab.ADMIN),
        "HOME": str(lab.work()),
        "PATH": f"{VENV}{os.pathsep}{os.environ['PATH']}",
        "NODE_PATH": str(lab.TOOLS / "node_modules"),
    }
    done = lab.run(*argv, timeout=300, env=environment, cwd=lab.work())
    print(done.stdout.rstrip().rpartition("\n")[2])
    assert gateway.stop() == 0, gateway.tail()


def steps(name):
    return lab.ROOT / "tests" / "clients" / name


def test_the_aws_command_makes_describes_and_removes_an_endpoint():
    """A26, A27."""
    follow("bash", steps("ec2.sh"))


def test_the_requests_of_the_atlas_command_are_answered_as_atlas_does():
    """A27: the requests, not yet the command itself."""
    follow(sys.executable, "-B", steps("atlas.py"))


def test_the_app_services_procedure_and_boto3_work():
    """B10."""
    follow(sys.executable, "-B", steps("app_services.py"))


def test_http_and_websocket_clients_use_the_app():
    """B1, B2, B3, B6, B14."""
    follow(sys.executable, "-B", steps("appservices.py"), "--ca", lab.ca(), "--require", "all")


if __name__ == "__main__":
    lab.main(globals())
