"""Shared by the client tests: separate networks, gateways, and a small runner.

A test file starts itself again inside namespaces of its own (network, mounts, processes): there the gateway's DNS has
port 53, it is every resolver on the machine, and no other program uses the addresses. The kernel takes the namespaces and
every process in them away when the test ends, however it ends, so nothing is left behind and nothing has to be found
again. No packet leaves them: they have a loopback interface and no other.

Only the standard library is used here. What a test needs besides is installed by `.ci/run` into `target/clients/`.
"""

import atexit
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PLGW = pathlib.Path(os.environ.get("PLGW", TARGET / "release" / "plgw")).resolve()
TOOLS = TARGET / "clients"

ADMIN = ("127.0.0.1", 8474)
METRICS = ("127.0.0.1", 9464)

# How long anything may take that ought to happen at once, in seconds. Generous: machines are busy.
SOON = 60

# The exit code of a test that can't run where it is, as automake has it.
SKIPPED = 77

_INSIDE = "PLGW_CLIENT_TEST_INSIDE"
_NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


class Skip(Exception):
    """Why a test can't run where it is."""


# ---- the network ---------------------------------------------------------------------------------------------------


def _enter():
    """Continues in the test's own namespaces."""
    if os.environ.get(_INSIDE):
        _settle()
        return
    unshare = _NAMESPACES + ([] if os.geteuid() == 0 else ["--map-root-user"])
    if not shutil.which("unshare"):
        raise Skip("there is no `unshare` (util-linux)")
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    if tried.returncode:
        raise Skip(f"namespaces are not to be had: {tried.stderr.strip()}")
    os.environ[_INSIDE] = "1"
    os.execvp(unshare[0], [*unshare, sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def _settle():
    """Makes the new namespaces a place where a gateway can be the resolver."""
    need("ip")
    run("ip", "link", "set", "lo", "up")
    resolver = os.environ.get("PLGW_CLIENT_TEST_RESOLVER", "127.0.0.1")
    os.environ.pop("PLGW_CLIENT_TEST_RESOLVER", None)
    resolv = work() / "resolv.conf"
    resolv.write_text(f"nameserver {resolver}\noptions timeout:5 attempts:2\n")
    real = os.path.realpath("/etc/resolv.conf")
    if not os.path.exists(real):
        raise Skip("there is no /etc/resolv.conf to put the gateway's address over")
    run("mount", "--bind", str(resolv), real)
    # The machine's own proxies and certificates are none of a test's business.
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
            del os.environ[name]


def resolver(address):
    """Names the resolver of the namespaces' resolv.conf; to be called before `main`."""
    if not os.environ.get(_INSIDE):
        os.environ["PLGW_CLIENT_TEST_RESOLVER"] = address


def own_addresses(*addresses):
    """Gives addresses to the namespace's loopback interface."""
    for address in addresses:
        run("ip", "address", "add", f"{address}/32", "dev", "lo")


_work = None


def work():
    """A directory of this run's own, gone with it."""
    global _work
    if _work is None:
        TOOLS.mkdir(parents=True, exist_ok=True)
        _work = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=TOOLS))
        atexit.register(shutil.rmtree, _work, ignore_errors=True)
    return _work


# ---- processes -----------------------------------------------------------------------------------------------------


def need(*tools):
    """Skips the test unless every tool is installed."""
    for tool in tools:
        if not shutil.which(tool):
            raise Skip(f"`{tool}` is not installed")


def run(*argv, check=True, timeout=SOON, **more):
    """Runs a command to its end and returns its output."""
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=timeout, **more)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def node_modules():
    """Where the JavaScript clients are."""
    modules = TOOLS / "node_modules"
    if not modules.exists():
        raise Skip(f"{modules} is missing: .ci/run installs it")
    return modules


class Gateway:
    """A `plgw` that runs in the background.

    Its log goes to a file, which is shown when a test fails.
    """

    count = 0
    running = []

    def __init__(self, *args, ready=True, limits=None):
        if not PLGW.exists():
            raise Skip(f"{PLGW} is missing: cargo build --release")
        Gateway.count += 1
        self.log = work() / f"plgw-{Gateway.count}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [PLGW, *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work(), preexec_fn=limits
            )
        Gateway.running.append(self)
        if ready:
            eventually("the gateway is ready", self._ready, gateway=self)

    def _ready(self):
        status, body = get(METRICS, "/readyz")
        assert status == 200, body

    def tail(self):
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])

    def cpu_seconds(self):
        """The processor time that it has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Asks it to stop and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=SOON)
        finally:
            self.kill()
        return code

    def kill(self):
        """Ends it at once, as `kill -9` does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self in Gateway.running:
            Gateway.running.remove(self)


def quickstart(*args):
    """A quickstart with DNS on port 53."""
    return Gateway("quickstart", "--dns", "127.0.0.1:53", *args)


def ca():
    """The certificate of the quickstart's lab CA."""
    return work() / "plgw-lab" / "ca.pem"


# ---- HTTP, waiting -------------------------------------------------------------------------------------------------


def request(address, method, path, body=None, accept="*/*"):
    """A request to one of the gateway's own pages: its status and its body."""
    connection = http.client.HTTPConnection(*address, timeout=SOON)
    try:
        data = None if body is None else json.dumps(body)
        headers = {"accept": accept, **({} if data is None else {"content-type": "application/json"})}
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def get(address, path):
    return request(address, "GET", path)


def api(method, path, body=None):
    """A request to the admin API that has to succeed: its JSON."""
    status, text = request(ADMIN, method, path, body)
    assert status == 200, f"{method} {path}: {status} {text}"
    return json.loads(text)


def ports(cluster):
    """The listener port of each target of a cluster."""
    targets = api("GET", "/v1/targets")["targets"]
    return {target["id"].partition("/")[2]: target["port"] for target in targets if target["cluster"] == cluster}


def metric(name, *labels):
    """The sum of the series of `/metrics` with this name that have every one of the labels."""
    _, page = get(METRICS, "/metrics")
    total = 0.0
    for line in page.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(label in head for label in labels):
            total += float(value)
    return total


class Ended(Exception):
    """A gateway ended that should run."""


def eventually(what, look, within=SOON, gateway=None):
    """Calls `look` until it returns a value, while `gateway` runs; returns the value."""
    deadline = time.monotonic() + within
    while True:
        if gateway and gateway.process.poll() is not None:
            raise Ended(f"plgw ended with {gateway.process.returncode}\n{gateway.tail()}")
        try:
            return look()
        except (AssertionError, OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {within} s; last seen: {error}") from error
        time.sleep(0.05)


def listens(address):
    """Something accepts connections there, if only to reset them: where nothing does, they are refused."""
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionResetError:
        pass


# ---- the runner ----------------------------------------------------------------------------------------------------


def echo():
    """An echo target at 127.1.0.11:27017: a fixture."""
    listener = socket.create_server(("127.1.0.11", 27017), backlog=512)

    def serve(connection):
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener
    listener.close()


def main(tests):
    """Runs every `test_…` of a module, in its order, in separate namespaces; ends the process.

    Each is a sentence about behaviour; its doc string names the rows of CONFORMANCE.md. Every one may ask for a
    fixture of the module by naming it as its argument: a generator function, started once and closed at the end.
    """
    name = pathlib.Path(sys.argv[0]).stem
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed, failed, skipped = 0, 0, 0
    fixtures = {}
    try:
        _enter()
        if "setup" in tests:
            tests["setup"]()
        for key, test in list(tests.items()):
            if not key.startswith("test_"):
                continue
            wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
            began = time.monotonic()
            try:
                for fixture in wanted:
                    if fixture not in fixtures:
                        generator = tests[fixture]()
                        fixtures[fixture] = (generator, next(generator))
                test(*[fixtures[fixture][1] for fixture in wanted])
            except KeyboardInterrupt:
                raise
            except Skip as reason:
                skipped += 1
                print(f"SKIP {name}::{key}: {reason}")
            except Exception:
                failed += 1
                print(f"FAILED {name}::{key}")
                traceback.print_exc(file=sys.stdout)
                for gateway in Gateway.running:
                    print(f"---- {gateway.log.name}\n{gateway.tail()}\n----")
            else:
                passed += 1
                print(f"ok {name}::{key} ({time.monotonic() - began:.1f} s)")
            sys.stdout.flush()
    except Skip as reason:
        print(f"SKIP {name}: {reason}")
        sys.exit(SKIPPED)
    finally:
        for generator, _ in fixtures.values():
            generator.close()
        for gateway in list(Gateway.running):
            gateway.kill()
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed + skipped else SKIPPED if skipped else 0)
