"""How long writes stop when a replica set loses its primary, as five drivers see it: `docs/experiments.md`.

Each driver inserts a document every 200 ms, whatever became of those before, with its default settings. For each loss the
script prints the longest time without an acknowledged write, the slowest write and the errors that the application saw,
and afterwards it compares what is there with what was acknowledged.

With `--write` it makes docs/experiments.md, and the table of the README, of what it saw.
"""

import collections
import re
import pathlib
import subprocess
import sys
import threading
import time

import lab
from pymongo_driver import SRV, client, setup  # noqa: F401

WRITERS = lab.ROOT / "tests" / "clients" / "writers"
PAGE, MARK = lab.ROOT / "docs" / "experiments.md", "<!-- recorded -->\n"
README, SECONDS = lab.ROOT / "README.md", "<!-- seconds of docs/experiments.md -->\n"

# MongoDB: 10 s election time-out, up to 15 % more by chance, half a second until a driver checks again; and the slack of a
# busy machine. A member's last heartbeat from the primary may be 2 s before the loss.
ELECTION = (8, 16)
# With a zone its load balancer's node is lost too, and falls silent. A driver that watches the new primary through it waits
# for its monitor first: connectTimeoutMS and up to heartbeatFrequencyMS, 20 s (Java, C), 30 s (pymongo) or 40 s (Node); Go
# waits for a second time-out, 70 s.
ZONE = (8, 80)
# How long the zone is lost at least. Writes that were sent into it end with the monitor's time-out in pymongo and Node, in
# Go with the second, and in Java and C when the zone is back.
OUTAGE = 45

DRIVERS = ["pymongo", "Node", "Go", "Java", "C"]

RECORD = []


def gateway():
    yield lab.quickstart()


def command(driver, collection, uri, ca):
    match driver:
        case "pymongo":
            return [sys.executable, "-B", WRITERS / "writer.py", uri, ca, collection]
        case "Node":
            lab.need("node")
            return ["node", WRITERS / "writer.mjs", lab.node_modules(), uri, ca, collection]
        case "Go":
            return [built("go_writer"), uri, ca, collection]
        case "Java":
            lab.need("java")
            heap = ["-XX:+UseSerialGC", "-Xmx128m", "-XX:TieredStopAtLevel=1"]
            return ["java", *heap, "-cp", f"{built('java')}/*:{built('java')}", "Writer", uri, ca, collection]
        case "C":
            return [built("c_writer"), f"{uri}{'&' if '?' in uri else '/?'}tlsCAFile={ca}", collection]


def built(name):
    path = lab.TOOLS / name
    if not path.exists():
        raise lab.Skip(f"{path} is missing: .ci/run makes it")
    return path


class Writer:
    """A driver that writes until it is stopped, with timestamps for its lines. `place` prefixes its command."""

    def __init__(self, driver, collection, uri=SRV, ca=None, place=()):
        self.driver, self.collection = driver, f"{collection}-{driver}"
        self.started, self.ended, self.errors = {}, {}, {}
        self.complaints = lab.work() / f"{self.collection}.log"
        with open(self.complaints, "w") as log:
            self.process = subprocess.Popen(
                list(map(str, [*place, *command(driver, self.collection, uri, str(ca or lab.ca()))])),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            now, (what, *rest) = time.monotonic(), line.rstrip("\n").split("\t")
            # Some drivers log to standard output.
            if what == "start":
                self.started[int(rest[0])] = now
            elif what in ("ok", "error"):
                self.ended[int(rest[0])] = now
                if what == "error":
                    self.errors[int(rest[0])] = rest[1:]

    def written(self):
        return {number: at for number, at in list(self.ended.items()) if number not in self.errors}

    def writes(self):
        assert self.process.poll() is None, f"{self.driver}: {self.complaints.read_text()[-2000:]}"
        recent = [at for at in self.written().values() if time.monotonic() - at < 1]
        assert len(recent) >= 2, f"{self.driver} does not write: {list(self.errors.values())[-2:]}"

    def stop(self):
        """Starts no more writes and waits for those that it has."""
        self.process.stdin.close()
        self.reader.join(lab.SOON)
        hung = sorted(set(self.started) - set(self.ended))
        self.process.kill()
        self.process.wait()
        return hung

    def pause(self, moment):
        """The longest time without an acknowledged write from `moment` on."""
        times = sorted(self.written().values())
        start = max((at for at in times if at <= moment), default=moment)
        after = [at for at in times if at > moment]
        return max((later - earlier for earlier, later in zip([start, *after], after)), default=None)

    def slowest(self, moment):
        """How long the slowest write took that ended after `moment`."""
        return max((end - self.started[n] for n, end in self.ended.items() if end > moment), default=0.0)

    def seconds(self, moment, count):
        """For each second from `moment` on: writes that were acknowledged (`+`) or failed (`!`), by when they ended."""
        cells = []
        for second in range(count):
            here = [n for n, at in self.ended.items() if moment + second <= at < moment + second + 1]
            failed = sum(n in self.errors for n in here)
            cells.append("!" if failed else "+" if here else ".")
        return "".join(cells)


def members():
    return lab.api("GET", "/v1/standins")["members"]


def primary():
    """The set's primary, as the operator sees it."""
    names = [member["member"] for member in members() if member["state"] == "PRIMARY"]
    assert names, members()
    return names[0]


def plgw(*words):
    """A command as typed, and its output."""
    said = lab.run(lab.PLGW, *words).stdout
    return f"$ plgw {' '.join(words)}\n{said}"


def lose(name, act, undo, span, lasts=0, elects=True):
    """Acts while all five write. The results of each application are printed, recorded and checked."""
    before = primary()
    writers = [Writer(driver, name.replace(" ", "-")) for driver in DRIVERS]
    try:
        for writer in writers:
            lab.eventually(f"{writer.driver} writes", writer.writes)
        began = time.monotonic()
        typed = act(before)
        lost = time.monotonic()

        def over():
            assert not elects or primary() != before
            for writer in writers:
                writer.writes()

        lab.eventually("all five write again", over, within=span[1])
        time.sleep(max(0, lost + lasts - time.monotonic()))
        typed += undo(before)
        back = time.monotonic()
        lab.eventually("all members are back", members_are_back)
        time.sleep(1)
        after, shown = primary(), int(time.monotonic() - began)
    finally:
        hung = [writer.stop() for writer in writers]
    lines, timelines = [], []
    for writer, left in zip(writers, hung):
        pause, slowest = writer.pause(began), writer.slowest(began)
        kinds = collections.Counter(kind(error) for error in writer.errors.values())
        errors = ", ".join(f"{count} x {what}" for what, count in kinds.items()) or "none"
        lines.append((writer.driver, pause, slowest, slowest > back - began - 1 and lasts > 0, errors))
        timelines.append(f"{writer.driver:>8} {writer.seconds(began, shown)}")
        print(f"{name}: {writer.driver}: primary {before} -> {after}; longest time without a write {pause:.1f} s; slowest "
              f"write {slowest:.1f} s; {len(writer.written())} writes; errors: {errors}")
        assert left == [], f"{writer.driver}: writes that never ended: {left}"
    RECORD.append((name, typed, lines, timelines))
    sys.stdout.flush()
    with client(SRV) as at:
        for writer in writers:
            found = collections.Counter(thing["_id"] for thing in at.lab[writer.collection].find())
            lost_writes = set(writer.written()) - set(found)
            assert not lost_writes, f"{writer.driver}: acknowledged and lost: {sorted(lost_writes)[:10]}"
    for driver, pause, slowest, _, errors in lines:
        assert span[0] <= pause <= span[1], f"{driver}: {pause:.1f} s; {span}"
    return writers


def kind(error):
    """Type, code and labels of an error."""
    type_, code, labels, _ = error
    return " ".join(part for part in (type_, code if code != "None" else "", f"[{labels}]" if labels else "") if part)


def members_are_back():
    for member in members():
        assert member["state"] in ("PRIMARY", "SECONDARY") and not member["isolated"], member


def clear(_):
    return plgw("fault", "clear")


def zone_of(node):
    return next(member["zone"] for member in members() if member["member"] == node)


def test_after_the_loss_of_the_primarys_zone_every_driver_writes_again(gateway):
    """A4. The primary's node is alone in its zone. Meanwhile the zone's addresses stay out of DNS, past the health checks."""
    def act(node):
        return plgw("fault", "add", "zone-outage", "--zone", zone_of(node), "--name", "loss")

    def undo(node):
        zones = {zone["zone"]: zone for zone in lab.api("GET", "/v1/zones")["zones"]}
        # Its checks have failed, and with cross-zone load balancing that makes every zone unhealthy.
        assert zones["us-east-1a"]["lost"] and not zones["us-east-1a"]["in_dns"], zones
        assert zones["us-east-1b"]["in_dns"], zones
        assert zones["us-east-1b"]["fail_open"] == "fail-open: no zone is healthy", zones
        listed = plgw("zone", "list")
        return listed + plgw("fault", "clear")

    lose("zone lost", act, undo, ZONE, lasts=OUTAGE)


def test_after_the_loss_of_the_primarys_member_every_driver_writes_again(gateway):
    lose("member lost", lambda node: plgw("standin", "stop", f"Cluster0/{node}"),
         lambda node: plgw("standin", "start", f"Cluster0/{node}"), ELECTION)


def test_after_a_step_down_every_driver_writes_again_at_once(gateway):
    lose("step-down", lambda node: plgw("standin", "step-down", "Cluster0"), lambda node: "", (0, 5))


def test_a_port_that_moves_under_load_is_followed_by_every_driver(gateway):
    lose("port moved", lambda node: plgw("target", "move", f"Cluster0/{node}"), lambda node: "", (0, 5), elects=False)


def test_a_fault_on_the_clients_path_elects_nothing(gateway):
    """The port of the primary refuses: members still see each other, so it stays primary."""
    before = primary()
    typed = plgw("fault", "add", "refuse", "--target", f"Cluster0/{before}", "--name", "path")
    assert "on the clients' path alone" in typed, typed
    time.sleep(13)
    plgw("fault", "clear")
    with client(SRV) as at:
        at.lab.path.insert_one({"_id": 1})
    assert primary() == before


def table():
    """How long writes stopped, for each experiment and driver."""
    rows = ["| longest time without a write | " + " | ".join(DRIVERS) + " |", "|---" * (len(DRIVERS) + 1) + "|"]
    for name, _, lines, _ in RECORD:
        rows.append(f"| {name} | " + " | ".join(f"{pause:.1f} s" for _, pause, *_ in lines) + " |")
    return "\n".join(rows) + "\n"


def write_pages():
    """The results, below the line of docs/experiments.md; its table in the README too."""
    parts = [PAGE.read_text().partition(MARK)[0], MARK, "\n", table()]
    for name, typed, lines, timelines in RECORD:
        parts.append(f"\n## {name[0].upper()}{name[1:]}\n\n```console\n{typed}```\n\n```text\n")
        parts.append("\n".join(timelines) + "\n```\n\n| | slowest write | errors |\n|---|---|---|\n")
        for driver, _, slowest, until_back, errors in lines:
            slow = f"{slowest:.1f} s" + (", until the zone was back" if until_back else "")
            parts.append(f"| {driver} | {slow} | {errors} |\n")
    PAGE.write_text("".join(parts))
    text = README.read_text()
    before, found, rest = text.partition(SECONDS)
    if found:
        README.write_text(before + SECONDS + "\n" + table() + rest[rest.index("\n\n") + 1 :])


def shape(text):
    """The experiments of a page with the commands of each, whichever member was primary."""
    lines = [line for line in text.splitlines() if line.startswith(("## ", "$ "))]
    return [re.sub(r"shard-00-0\d", "shard-00-0N", line) for line in lines]


def test_the_page_shows_these_experiments(gateway):
    """With `--write` it is made of them; without, it must have the same commands."""
    if "--write" in sys.argv:
        write_pages()
    seen = "".join(f"## {name[0].upper()}{name[1:]}\n{typed}\n" for name, typed, _, _ in RECORD)
    assert shape(PAGE.read_text()) == shape(seen), (shape(PAGE.read_text()), shape(seen))


if __name__ == "__main__":
    lab.main(globals())
