"""A client of privatelink-gateway's admin API.

`Gateway()` asks the gateway that `PLGW_ADMIN` names, as `plgw quickstart -- COMMAND` and `plgw lab run -- COMMAND` set it, with
the token in `PLGW_ADMIN_TOKEN`. An answer is the JSON that `GET /openapi.json` describes.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["Gateway", "PlgwError", "ROUTES"]

Json = dict[str, Any]

# The used routes, as in the API's description; a test compares them.
ROUTES = {
    "status": ("GET", "/v1/status"),
    "targets": ("GET", "/v1/targets"),
    "move": ("POST", "/v1/targets/{cluster}/{target}/move"),
    "deregister": ("POST", "/v1/targets/{cluster}/{target}/deregister"),
    "register": ("POST", "/v1/targets/{cluster}/{target}/register"),
    "flows": ("GET", "/v1/flows"),
    "faults": ("GET", "/v1/faults"),
    "add_fault": ("POST", "/v1/faults"),
    "remove_faults": ("DELETE", "/v1/faults"),
    "events": ("GET", "/v1/events"),
    "zones": ("GET", "/v1/zones"),
    "shift": ("POST", "/v1/zones/{zone}/shift"),
    "end_shift": ("DELETE", "/v1/zones/{zone}/shift"),
    "standins": ("GET", "/v1/standins"),
    "stop": ("POST", "/v1/standins/{cluster}/{target}/stop"),
    "start": ("POST", "/v1/standins/{cluster}/{target}/start"),
    "step_down": ("POST", "/v1/standins/{cluster}/step-down"),
}


class PlgwError(Exception):
    """An error answer of the gateway; `code` is the API's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({code}, status {status})")
        self.status, self.code, self.message = status, code, message


class Gateway:
    """A running gateway. `timeout` is in seconds, per request."""

    def __init__(self, admin: str | None = None, token: str | None = None, timeout: float = 30) -> None:
        admin = admin or os.environ.get("PLGW_ADMIN")
        if not admin:
            raise PlgwError(0, "NO_ADMIN", "PLGW_ADMIN is not set; run the tests as `plgw quickstart -- pytest`")
        self.admin = admin.rstrip("/") if "://" in admin else f"http://{admin}"
        self.token = token or os.environ.get("PLGW_ADMIN_TOKEN")
        self.timeout = timeout
        self._deregistered: set[str] = set()

    def uri(self, cluster: str | None = None) -> str:
        """The private connection string of a cluster, or of the first, with the lab's CA."""
        letters = (c if c.isascii() and c.isalnum() else "_" for c in (cluster or "").upper())
        name = "PLGW_URI" + ("_" + "".join(letters) if cluster else "")
        return f"{os.environ[name]}/?tlsCAFile={urllib.parse.quote(os.environ['PLGW_CA'], safe='')}"

    def use_dns(self) -> None:
        """Makes this process resolve all names by the gateway's DNS (`PLGW_DNS`). Needs dnspython. In a lab it is not needed."""
        import dns.resolver

        address, _, port = os.environ["PLGW_DNS"].rpartition(":")
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [address.strip("[]")], int(port)
        dns.resolver.default_resolver = resolver
        dns.resolver.override_system_resolver(resolver)

    def status(self) -> Json:
        """Current problems and the state of the gateway."""
        return self._call("status")

    def targets(self) -> list[Json]:
        """Every target with its port, members and health."""
        return self._list("targets", "targets")

    def port(self, target: str) -> int:
        """The port of `CLUSTER/MEMBER`."""
        port: int = next(found["port"] for found in self.targets() if found["id"] == target)
        return port

    def move(self, target: str, port: int | None = None) -> Json:
        """Moves `CLUSTER/MEMBER` to `port`, or to the lowest free port."""
        return self._call("move", _target(target), {} if port is None else {"port": port})

    def deregister(self, target: str) -> None:
        """Takes `CLUSTER/MEMBER` out of its target group; open flows drain."""
        self._call("deregister", _target(target), {})
        self._deregistered.add(target)

    def register(self, target: str) -> None:
        """Registers it again."""
        self._call("register", _target(target), {})
        self._deregistered.discard(target)

    def flows(self) -> list[Json]:
        """Open flows."""
        return self._list("flows", "flows")

    def faults(self) -> list[Json]:
        """The current faults."""
        return self._list("faults", "faults")

    def add_fault(self, type: str, scope: Json | None = None, *, lasts: str | None = None, **keys: Any) -> Json:
        """Adds a fault with the keys of the config's `[[fault]]`: `add_fault("latency", delay="100ms", zone="us-east-1a")`. It ends
        after `lasts`, as `"10m"` (`for` in the config). `scope` is the form of earlier versions."""
        until = {} if lasts is None else {"for": lasts}
        return self._call("add_fault", body={"type": type, **(scope or {}), **keys, **until})

    def remove_faults(self) -> None:
        """Removes every fault."""
        self._call("remove_faults")

    def lose_zone(self, zone: str) -> Json:
        """Simulates the loss of a zone: its addresses do not answer, and its members are isolated."""
        return self.add_fault("zone-outage", zone=zone)

    def zones(self) -> list[Json]:
        """Each zone of each service: addresses, health, shift."""
        return self._list("zones", "zones")

    def shift(self, zone: str, lasts: str | None = None) -> None:
        """Shifts away from a zone: its addresses leave DNS, for `lasts`, as `"10m"`, or until the shift is ended."""
        self._call("shift", {"zone": zone}, {} if lasts is None else {"for": lasts})

    def end_shift(self, zone: str) -> None:
        """Ends the shift."""
        self._call("end_shift", {"zone": zone})

    def standins(self) -> list[Json]:
        """The members of the stand-in sets."""
        return self._list("standins", "members")

    def primary(self, cluster: str) -> str | None:
        """The primary of a stand-in set as `CLUSTER/MEMBER`; `None` while there is none."""
        members = (found for found in self.standins() if found["cluster"] == cluster)
        primaries = (f"{cluster}/{found['member']}" for found in members if found["state"] == "PRIMARY" and not found["isolated"])
        return next(primaries, None)

    def stop(self, member: str) -> None:
        """Stops a stand-in `CLUSTER/MEMBER` as a crash would."""
        self._call("stop", _target(member), {})

    def start(self, member: str) -> None:
        """Starts it again."""
        self._call("start", _target(member), {})

    def step_down(self, cluster: str) -> None:
        """Makes the primary of a stand-in set step down."""
        self._call("step_down", {"cluster": cluster}, {})

    def reset(self) -> None:
        """Restores the initial state: no faults, no shifts, every stand-in started, every target that this object deregistered registered; waits
        for a primary in each set. Ports are not restored, as a port is never reused."""
        self.remove_faults()
        for zone in {found["zone"] for found in self.zones() if found["shift"]}:
            self.end_shift(zone)
        for target in list(self._deregistered):
            self.register(target)
        try:
            members = self.standins()
        except PlgwError as error:
            # The user's own servers are not changed.
            if error.code != "no_stand_ins":
                raise
            members = []
        for found in members:
            if found["state"] == "DOWN":
                self.start(f"{found['cluster']}/{found['member']}")
        for cluster in {found["cluster"] for found in members}:
            self.wait_for(partial(self.primary, cluster))

    def wait_for(self, look: Callable[[], Any], within: float = 60) -> Any:
        """Calls `look` until its result is true, at most for `within` seconds, and returns the result."""
        deadline = time.monotonic() + within
        while not (found := look()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within} s")
            time.sleep(0.1)
        return found

    def _list(self, route: str, key: str) -> list[Json]:
        found: list[Json] = self._call(route)[key]
        return found

    def _call(self, route: str, values: dict[str, str] | None = None, body: Json | None = None) -> Json:
        """The answer's object; one without a body is empty."""
        method, path = ROUTES[route]
        path = path.format(**{name: urllib.parse.quote(value, safe="") for name, value in (values or {}).items()})
        request = urllib.request.Request(self.admin + path, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        # The gateway is on this machine or in its lab: no proxy is needed.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                said = json.loads(text)
                raise PlgwError(error.code, said["code"], said["message"]) from None
            except (ValueError, KeyError):
                raise PlgwError(error.code, "HTTP", text.decode(errors="replace")) from None
        found: Json = json.loads(text or b"{}")
        return found


def _target(name: str) -> dict[str, str]:
    cluster, _, target = name.partition("/")
    return {"cluster": cluster, "target": target}
