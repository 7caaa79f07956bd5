"""moto's own tests of EC2 and STS, from its source package, against the gateway: for calls that the gateway serves they pass,
but for those that `moto_known.py` lists with a reason each. They know AWS better than any of ours does."""

import os
import re

import lab

VENV = lab.TOOLS / "venv" / "bin"
FILES = (
    "account_attributes", "availability_zones_and_regions", "security_groups", "subnets", "tags", "vpcs",
    "vpc_endpoint_services_integration",
)
# The number of tests that passed when this was written; fewer would mean that calls are no longer served.
LEAST_PASSED = 70

CONFIG = """
[admin]
listen = "127.0.0.1:8474"
"""


def sources():
    found = sorted(lab.TOOLS.glob("moto-*/tests/test_ec2"))
    if not found:
        raise lab.Skip(f"moto's sources are missing in {lab.TOOLS}: .ci/run gets them")
    return found[-1].parents[1]


def setup():
    if not (VENV / "pytest").exists():
        raise lab.Skip(f"{VENV / 'pytest'} is missing: .ci/run installs it")
    sources()


def test_motos_tests_of_served_calls_pass():
    """A27."""
    config = lab.work() / "empty.toml"
    config.write_text(CONFIG)
    gateway = lab.Gateway("serve", "--config", config)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*lab.ADMIN),
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        # moto's own switch for tests that are to reach a real endpoint.
        "MOTO_TEST_ALLOW_AWS_REQUEST": "true",
        "PYTHONPATH": str(lab.ROOT / "tests" / "clients"),
        "HOME": str(lab.work()),
    }
    files = [f"tests/test_ec2/test_{name}.py" for name in FILES]
    done = lab.run(
        VENV / "python", "-B", "-m", "pytest", "-q", "-p", "moto_plugin", "-p", "no:cacheprovider", "--color=no",
        "--tb=short", "-rfx", *files,
        check=False, timeout=420, env=environment, cwd=sources(),
    )
    summary = done.stdout.rstrip().rpartition("\n")[2]
    print("  " + summary)
    told = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("XFAIL"))
    assert done.returncode == 0, told[-8000:] + done.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", summary)[1])
    assert passed >= LEAST_PASSED, summary
    assert gateway.stop() == 0, gateway.tail()


if __name__ == "__main__":
    lab.main(globals())
