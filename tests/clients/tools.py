"""Tools with the vendors' own host names built in use the gateway unchanged: MongoDB's MCP server and Ansible.

The gateway answers the names (`admin.names`) on port 443 by a certificate of the lab CA, which the tools are told to trust as
`plgw lab run` tells them; the namespaces' resolver is the gateway, as in a lab.
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
    lab.need("node")
    if not (COLLECTIONS / "ansible_collections").exists():
        raise lab.Skip(f"{COLLECTIONS} is missing: .ci/run installs it")


def gateway():
    os.environ["PLGW_ADMIN_PUBLIC_KEY"], os.environ["PLGW_ADMIN_PRIVATE_KEY"] = KEYS
    config = lab.work() / "tools.toml"
    text = (lab.ROOT / "config" / "scenarios" / "quickstart.toml").read_text()
    config.write_text(CONFIG + text)
    yield lab.Gateway("serve", "--config", config)


def environment():
    ca = str(lab.ca())
    trust = {name: ca for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")}
    return {**os.environ, **trust, "HOME": str(lab.work())}


class Mcp:
    """mongodb-mcp-server over its standard input and output: JSON-RPC 2.0, a message a line."""

    def __init__(self):
        program = lab.node_modules() / "mongodb-mcp-server" / "dist" / "esm" / "index.js"
        keys = {"MDB_MCP_API_CLIENT_ID": KEYS[0], "MDB_MCP_API_CLIENT_SECRET": KEYS[1], "MDB_MCP_TELEMETRY": "disabled"}
        with open(lab.work() / "mcp.log", "w") as log:
            self.process = subprocess.Popen(
                ["node", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**environment(), **keys},
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


def test_the_mcp_server_signs_in_and_reads_and_changes_a_project(gateway):
    """A27. Its base URL is https://cloud.mongodb.com, and its sign-in insists on https."""
    mcp = Mcp()
    try:
        assert PROJECT in mcp.tool("atlas-list-projects")
        assert "Cluster0" in mcp.tool("atlas-list-clusters", projectId=PROJECT)
        assert "Cluster0" in mcp.tool("atlas-inspect-cluster", projectId=PROJECT, clusterName="Cluster0")
        mcp.tool("atlas-create-access-list", projectId=PROJECT, ipAddresses=["203.0.113.9"])
        assert "203.0.113.9" in mcp.tool("atlas-inspect-access-list", projectId=PROJECT)
    finally:
        mcp.process.kill()
        mcp.process.wait()


def play(name):
    """How many tasks a play changed."""
    more = {
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_LOCALHOST_WARNING": "false",
        "AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1],
    }
    file = lab.ROOT / "tests" / "clients" / "ansible" / name
    python = f"ansible_python_interpreter={sys.executable}"
    argv = [sys.executable, "-m", "ansible", "playbook", "--inventory", "localhost,", "--extra-vars", python, file]
    said = lab.run(*argv, timeout=180, env={**environment(), **more}, cwd=lab.work()).stdout
    return int(re.search(r"changed=(\d+)\s+unreachable=0\s+failed=0", said)[1])


def test_a_play_of_amazon_aws_makes_an_endpoint_and_changes_nothing_when_it_is_run_again(gateway):
    """A27. No endpoint URL is set: the modules ask ec2.us-east-1.amazonaws.com."""
    assert play("vpc.yml") == 4
    assert play("vpc.yml") == 0


if __name__ == "__main__":
    lab.main(globals())
