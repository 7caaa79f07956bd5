"""The vendors' procedures by the vendors' tools, each against a separate quickstart.

The steps are in files of their own, which say what they show: `ec2.sh` (the `aws` command), `atlas.py` (the requests of the
`atlas` command), `atlas_client/` (MongoDB's own Go client and the digest transport of the `atlas` command), `atlas_provider/`
(the calls of Terraform's provider `mongodbatlas` by the Go SDK that it is built on), `atlas_sdk.py` (a client generated from
the published descriptions), `app_services.py` (App Services' admin API, and boto3), `appservices.py` (HTTP and WebSocket
clients), `cross_region.py` (boto3), `terraform.py` (the example of docs/terraform.md).
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


KEYS = {"PLGW_ADMIN_PUBLIC_KEY": "public", "PLGW_ADMIN_PRIVATE_KEY": "private-of-the-tests"}


def follow(*argv, guarded=False):
    """Runs steps against a separate gateway, with a separate home directory, and shows their output."""
    keys = KEYS if guarded else {}
    os.environ.update(keys)
    try:
        gateway = lab.quickstart("--state-in-memory")
    finally:
        for name in keys:
            del os.environ[name]
    environment = {
        **os.environ,
        **keys,
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


def test_boto3_signs_the_whole_procedure_and_is_known_by_its_signature():
    """A27, B10: with credentials set."""
    follow(VENV / "python", "-B", steps("app_services.py"), guarded=True)


def test_boto3_makes_an_endpoint_to_a_service_of_another_region_and_reaches_it():
    """A31."""
    follow(VENV / "python", "-B", steps("cross_region.py"))


def go_client():
    client = lab.TOOLS / "atlas_client"
    if not client.exists():
        raise lab.Skip(f"{client} is missing: .ci/run builds it")
    return client


def test_mongodbs_go_client_makes_the_calls_of_every_atlas_command():
    """A23, A26, A27, A29."""
    follow(go_client())


def test_mongodbs_go_client_answers_the_digest_challenge_as_the_atlas_command_does():
    """A27: with credentials set."""
    follow(go_client(), guarded=True)


def test_mongodbs_go_sdk_makes_the_calls_of_terraforms_provider_in_its_order():
    """A23, A26, A27: the calls of `mongodbatlas`, not the provider; with credentials set."""
    client = lab.TOOLS / "atlas_provider"
    if not client.exists():
        raise lab.Skip(f"{client} is missing: .ci/run builds it")
    follow(client, guarded=True)


def test_the_terraform_pages_example_carries_traffic():
    """A10, A23, A27: the calls of its resources, not the providers."""
    follow(VENV / "python", "-B", steps("terraform.py"))


def test_a_client_generated_from_the_published_descriptions_takes_every_answer():
    """A19, A27, A29, A30, B10, B12: with digest keys, a service account, and an App Services session."""
    follow(VENV / "python", "-B", steps("atlas_sdk.py"), guarded=True)


def test_the_requests_of_the_atlas_command_are_answered_as_atlas_does():
    """A27: the requests, with the headers of the versioned media type."""
    follow(sys.executable, "-B", steps("atlas.py"))


def test_the_app_services_procedure_and_boto3_work():
    """B10."""
    follow(sys.executable, "-B", steps("app_services.py"))


def test_http_and_websocket_clients_use_the_app():
    """B1, B2, B3, B6, B14."""
    follow(sys.executable, "-B", steps("appservices.py"), "--ca", lab.ca(), "--require", "all")


if __name__ == "__main__":
    lab.main(globals())
