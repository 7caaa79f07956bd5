"""The variants: direct connections, the gateway, a bare epoll loop, HAProxy, nginx and Envoy."""

import resource
import socket
from dataclasses import dataclass, field
from pathlib import Path

from . import install
from .process import Started, until

CONFIG = Path(__file__).resolve().parent.parent / "config"
SERVER_PORT = 7000
FRONT_PORT = 6000


@dataclass
class Variant:
    """A variant that is measured. Its backend has its own address, so that ports are not shared."""

    name: str
    front: tuple
    # Its backend.
    target: tuple
    started: Started = None
    threads: int = 1
    fronts: list = field(default_factory=list)
    # The address for WebSockets: `front`, except for the gateway, which has a separate endpoint for them.
    sync: tuple = None

    @property
    def pids(self):
        """The processes whose CPU time is measured; none for direct connections."""
        return self.started.pids() if self.started else []


def fill(template, **values):
    """A configuration out of its template."""
    text = (CONFIG / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def written(path, text):
    """Writes a file and returns its path."""
    path.write_text(text)
    return str(path)


def text_of(address):
    """host:port."""
    return f"{address[0]}:{address[1]}"


class Starter:
    """Starts variants, each with the next free addresses."""

    def __init__(self, built, work, plgw=None):
        self.built, self.work = built, work
        self.plgw = plgw or built / "plgw"
        self.count = 0
        # 127.0.50 and 127.0.60 to 63 are fronts and DNS.
        self.subnet = 64
        self.nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def _next(self, name):
        self.count += 1
        directory = self.work / "run" / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory, ("127.0.50.%d" % self.count, FRONT_PORT), ("127.1.0.%d" % self.count, SERVER_PORT)

    def direct(self):
        """No relay at all."""
        _, _, target = self._next("direct")
        return Variant("direct", target, target)

    def bare(self, name="bare"):
        """A raw epoll loop that does nothing but relay: the limit of sockets in user space."""
        directory, front, target = self._next(name)
        command = [str(self.built / "examples/bare"), text_of(front), text_of(target)]
        return self._up(Variant(name, front, target, Started(name, command, directory / "log")))

    def haproxy(self, name, threads=1, splice=False, bufsize=None):
        """HAProxy; `splice` forces it both ways."""
        directory, front, target = self._next(name)
        text = fill("haproxy.cfg", threads=threads, maxconn=min(50_000, self.nofile // 2 - 250), front=text_of(front),
                    target=text_of(target),
                    global_options=f"tune.bufsize {bufsize}" if bufsize else "maxpipes 100" if splice else "",
                    defaults_options="option splice-request\n    option splice-response" if splice else "")
        command = [install.find("haproxy"), "-db", "-f", written(directory / "haproxy.cfg", text)]
        return self._up(Variant(name, front, target, Started(name, command, directory / "log"), threads))

    def nginx(self, name, threads=1):
        """nginx' stream module."""
        directory, front, target = self._next(name)
        text = fill("nginx.conf", threads=threads, modules=install.NGINX_MODULES, dir=directory, nofile=self.nofile,
                    connections=self.nofile, front=text_of(front), target=text_of(target))
        command = [install.find("nginx"), "-p", str(directory), "-c", written(directory / "nginx.conf", text),
                   "-e", "stderr"]
        return self._up(Variant(name, front, target, Started(name, command, directory / "log"), threads))

    def envoy(self, name, threads=1):
        """Envoy's TCP proxy."""
        directory, front, target = self._next(name)
        text = fill("envoy.yaml", front_host=front[0], front_port=front[1], target_host=target[0],
                    target_port=target[1])
        command = [str(install.found_envoy(self.work)), "-c", written(directory / "envoy.yaml", text),
                   "--concurrency", str(threads), "--disable-hot-restart", "-l", "error"]
        return self._up(Variant(name, front, target, Started(name, command, directory / "log"), threads))

    def plain(self, name):
        """The gateway with one listener, and without DNS, metrics and the admin API: the difference is the cost of the rest."""
        return self.gateway(name, targets=1, addresses=1, services=False)

    def gateway(self, name, workers=1, targets=50, addresses=2, splice=True, log="warn", plgw=None, services=True):
        """The gateway with all features. Its default is to log every flow (`info`), which the peers don't here."""
        directory, _, target = self._next(name)
        subnet = self.count
        # One subnet and one address of the endpoint a zone.
        ends = [f"127.0.{self.subnet + n}.10" for n in range(addresses)]
        self.subnet += addresses
        ids = [f"subnet-0c1d2e3f4a5b607{n:02}" for n in range(addresses)]
        text = fill(
            "plgw.toml", workers=workers, dir=directory, dns=f"127.0.60.{self.count}:5335",
            metrics=f"127.0.61.{self.count}:9464", admin=f"127.0.62.{self.count}:8474",
            splice=str(splice).lower(), services=str(services).lower(), clusters=clusters(targets, target),
            subnets="\n".join(f'[[vpc.subnet]]\nid = "{s}"\nzone = "us-east-1{"abcd"[n]}"\n'
                              f'cidr = "{ip[:-3]}.0/24"\n' for n, (s, ip) in enumerate(zip(ids, ends))),
            addresses="\n".join(f'    {{ subnet = "{s}", ip = "{ip}" }},' for s, ip in zip(ids, ends)))
        command = [str(plgw or self.plgw), "serve", "--config", written(directory / "plgw.toml", text)]
        started = Started(name, command, directory / "log", env={"RUST_LOG": log})
        variant = Variant(name, (ends[0], 1024), target, started, workers)
        variant.fronts = [(ip, 1024 + n) for ip in ends for n in range(targets)]
        variant.dns = (f"127.0.60.{self.count}", 5335)
        variant.metrics, variant.admin = f"127.0.61.{self.count}:9464", f"127.0.62.{self.count}:8474"
        variant.config = directory / "plgw.toml"
        return self._up(variant)

    def http_proxy(self, name, template, pem, command):
        """A peer as a TLS-terminating HTTP proxy; `command` makes its command line from its configuration."""
        directory, front, target = self._next(f"{name}-http")
        text = fill(template, front=text_of(front), target=text_of(target), certificate=pem, dir=directory,
                    nofile=self.nofile, connections=self.nofile, maxconn=min(20_000, self.nofile // 2 - 250))
        started = Started(name, command(written(directory / "config", text), directory), directory / "log")
        return self._up(Variant(name, front, target, started, sync=front))

    def http_gateway(self, name, pem, plgw=None):
        """The gateway's App Services front."""
        directory, _, target = self._next(f"{name}-http")
        subnet = self.subnet
        self.subnet += 1
        general, sync = (f"127.0.{subnet}.{host}" for host in (10, 11))
        text = fill("plgw-http.toml", dir=directory, dns=f"127.0.60.{self.count}:5335",
                    metrics=f"127.0.61.{self.count}:9464", admin=f"127.0.62.{self.count}:8474",
                    subnet=f"127.0.{subnet}.0/24", general=general, sync=sync, certificate=pem,
                    public=f"127.9.0.{self.count}:8443", target=text_of(target))
        command = [str(plgw or self.plgw), "serve", "--config", written(directory / "plgw.toml", text)]
        started = Started(name, command, directory / "log", env={"RUST_LOG": "warn"})
        return self._up(Variant(name, (general, 8443), target, started, sync=(sync, 8443)))

    @staticmethod
    def _up(variant):
        def answers():
            try:
                with socket.create_connection(variant.front, 1):
                    return True
            except OSError:
                return False

        if not until(lambda: answers() or not variant.started.alive(), 15) or not variant.started.alive():
            said = variant.started.said()
            variant.started.end()
            raise RuntimeError(f"{variant.name} did not come up: {said}")
        return variant


def clusters(targets, first):
    """Replica sets of three, so that there are `targets` ports. The first port leads to `first`; every node's address is
    its own, and the server listens on all of them."""
    host = int(first[0].rsplit(".", 1)[1])
    lines = []
    for node in range(targets):
        if node % 3 == 0:
            n = node // 3
            lines.append(f'[[project.cluster]]\nname = "Cluster{n:02}"\nlabel = "k45tj"\nnaming = "dash"\n'
                         f'type = "replica-set"\nset_name = "Cluster{n:02}-shard-0"\n')
        address = f"{first[0]}:{first[1]}" if node == 0 else f"127.1.{host}.{node}:{first[1]}"
        lines.append(f'[[project.cluster.node]]\nname = "shard-00-{node % 3:02}"\nzone = "us-east-1{"ab"[node % 2]}"\n'
                     f'address = "{address}"\n')
    return "\n".join(lines)
