"""Tools with the vendors' own host names built in use the gateway unchanged: MongoDB's MCP server and Ansible.

The gateway answers the names (`admin.names`) on port 443 by a certificate of the lab CA. With `gateway` it runs in the test's
own namespaces, whose resolver it is; with `vendors` in a lab that was built with `--vendor-names`, where `plgw lab run` sets
what the tools trust.
"""

import json
import os
import re
import subprocess
import sys

import lab

NAMES = ["cloud.mongodb.com", "ec2.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com", "sts.amazonaws.com"]
CONFIG = f"""
[admin]
listen = "127.0.0.1:443"
names = {json.dumps(NAMES)}

[dns]
listen = ["127.0.0.1:53"]

"""
KEYS = ("ABCDEFGH", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
PROJECT = "5f2a1b3c4d5e6f7081920a3b"
COLLECTIONS = lab.TOOLS / "ansible"


def setup():
    lab.need("node", "curl")
    if not (COLLECTIONS / "ansible_collections").exists():
        raise lab.Skip(f"{COLLECTIONS} is missing: .ci/run installs it")


def gateway():
    os.environ["PLGW_ADMIN_PUBLIC_KEY"], os.environ["PLGW_ADMIN_PRIVATE_KEY"] = KEYS
    config = lab.work() / "tools.toml"
    text = (lab.ROOT / "config" / "scenarios" / "quickstart.toml").read_text()
    config.write_text(CONFIG + text)
    yield lab.Gateway("serve", "--config", config)


def vendors():
    """A lab with the vendors' names; yields the prefix that runs a command on a host of its VPC."""
    os.environ["PLGW_LAB_DIR"] = str(lab.work() / "labs")
    lab.run(lab.PLGW, "lab", "up", "--vendor-names")
    yield [lab.PLGW, "lab", "run", "--"]


def environment():
    ca = str(lab.ca())
    trust = {name: ca for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")}
    return {**os.environ, **trust, "HOME": str(lab.work())}


class Mcp:
    """mongodb-mcp-server over its standard input and output: JSON-RPC 2.0, a message a line."""

    PROGRAM = ["mongodb-mcp-server", "dist", "esm", "index.js"]
    KEYS = "MDB_MCP_API_CLIENT_ID=$PLGW_ADMIN_PUBLIC_KEY MDB_MCP_API_CLIENT_SECRET=$PLGW_ADMIN_PRIVATE_KEY"

    def __init__(self, place, environment):
        program = lab.node_modules().joinpath(*self.PROGRAM)
        with open(lab.work() / "mcp.log", "w") as log:
            self.process = subprocess.Popen(
                [*place, "sh", "-c", f'{self.KEYS} exec node "$1"', "sh", program],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**environment, "MDB_MCP_TELEMETRY": "disabled", "HOME": str(lab.work())},
            )
        self.count = 0
        client = {"name": "tools.py", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self.send({"method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def ask(self, method, parameters):
        self.count += 1
        self.send({"id": self.count, "method": method, "params": parameters})
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == self.count and "method" not in message:
                return message["result"]
        raise AssertionError((lab.work() / "mcp.log").read_text()[-2000:])

    def tool(self, name, **arguments):
        result = self.ask("tools/call", {"name": name, "arguments": arguments})
        text = "\n".join(part["text"] for part in result["content"])
        assert not result.get("isError"), text
        return text


def use_the_mcp_server(place, environment):
    mcp = Mcp(place, environment)
    try:
        assert PROJECT in mcp.tool("atlas-list-projects")
        assert "Cluster0" in mcp.tool("atlas-list-clusters", projectId=PROJECT)
        assert "Cluster0" in mcp.tool("atlas-inspect-cluster", projectId=PROJECT, clusterName="Cluster0")
        mcp.tool("atlas-create-access-list", projectId=PROJECT, ipAddresses=["203.0.113.9"])
        assert "203.0.113.9" in mcp.tool("atlas-inspect-access-list", projectId=PROJECT)
    finally:
        # At the end of its input it ends by itself.
        mcp.process.communicate(timeout=lab.SOON)


def test_the_mcp_server_signs_in_and_reads_and_changes_a_project(gateway):
    """A27. Its base URL is https://cloud.mongodb.com, and its sign-in insists on https."""
    use_the_mcp_server([], environment())


def test_the_mcp_server_runs_unchanged_on_a_host_of_a_lab_with_the_vendors_names(vendors):
    """A27. Nothing but its keys is set: not a URL, not a certificate."""
    use_the_mcp_server(vendors, os.environ)


def play(number, place, environment):
    """How many tasks a play of docs/ansible.md changed."""
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_LOCALHOST_WARNING": "false", "HOME": str(lab.work())}
    file = lab.work() / "play.yml"
    page = (lab.ROOT / "docs" / "ansible.md").read_text()
    file.write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[number])
    python = f"ansible_python_interpreter={sys.executable}"
    argv = [*place, sys.executable, "-m", "ansible", "playbook", "--inventory", "localhost,", "--extra-vars", python, file]
    said = lab.run(*argv, timeout=180, env={**environment, **collections}, cwd=lab.work()).stdout
    return int(re.search(r"changed=(\d+)\s+unreachable=0\s+failed=0", said)[1])


def test_a_play_of_amazon_aws_makes_an_endpoint_and_changes_nothing_when_it_is_run_again(gateway):
    """A27. No endpoint URL is set: the modules ask ec2.us-east-1.amazonaws.com."""
    keys = {"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1]}
    assert play(0, [], {**environment(), **keys}) == 4
    assert play(0, [], {**environment(), **keys}) == 0


def test_a_play_of_community_mongodb_changes_a_project_in_a_lab_once_and_nothing_when_it_is_run_again(vendors):
    """A27. The modules have https://cloud.mongodb.com/api/atlas/v1.0 built in, without a setting."""
    assert play(1, vendors, os.environ) == 3
    assert play(1, vendors, os.environ) == 0


# For every name and address: the requested name, the address, and the status of the answer, `000` for none.
CALL = """
for pair; do
    (set -- ${pair%=*} ${pair#*=}
    code=$(curl --silent --insecure --max-time 5 --output /dev/null --write-out '%{http_code}' \\
        ${2:+--connect-to ::$2:} "https://$1/api/atlas/v2/groups")
    echo "$1 ${2:-resolver} $code") &
done
wait
"""


def answers(host, pairs):
    """The answer to a client without credentials at `host` for a name at an address, or at the resolved one."""
    words = [f"{name}={address}" for name, address in pairs]
    said = lab.run(lab.PLGW, "lab", "run", "--at", host, "--", "sh", "-c", CALL, "sh", *words).stdout
    found = {(name, address): status for name, address, status in map(str.split, said.splitlines())}
    assert len(found) == len(pairs), said
    return found


def test_the_vendors_names_require_credentials_and_fail_on_the_services_side(vendors):
    """A2. The hosts that reach the admin API by its address reach it by these names, with the same credentials; no others do."""
    by_name = [(name, "") for name in NAMES]
    for host in ("vpc", "vpc-b", "peer", "onprem", "internet", "internet-b"):
        found = answers(host, [*by_name, ("other.example", "169.254.0.2")])
        assert found.pop(("other.example", "169.254.0.2")) == "403", (host, found)
        assert set(found.values()) == {"401"}, (host, found)
    # Other ports 443 that a client may use lead to App Services, whatever the requested name.
    for host, address in (("vpc", "10.0.30.195"), ("peer", "10.0.30.196"), ("internet-b", "203.0.113.10")):
        status = answers(host, [("cloud.mongodb.com", address)])["cloud.mongodb.com", address]
        assert status == "421", (host, address, status)
    # The addresses of the admin API, the gateway on the service's cable, the load balancer, endpoints, resolver and apps.
    gateway = ["169.254.0.2", "10.1.0.1", "10.1.0.4", "10.0.30.194", "10.0.30.195", "10.0.0.2", "203.0.113.10"]
    found = answers("service", by_name + [("cloud.mongodb.com", address) for address in gateway])
    assert set(found.values()) == {"000"}, found
    environment = lab.run(lab.PLGW, "lab", "run", "--at", "service", "--", "env").stdout
    assert "PLGW_ADMIN" not in environment, environment


if __name__ == "__main__":
    lab.main(globals())
