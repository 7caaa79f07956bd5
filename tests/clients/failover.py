"""How long writes stop when a replica set loses its primary: by step-down, by its member, by its zone.

Writers of pymongo run all the time. For each loss the script prints the longest time without an acknowledged write, and
afterwards it compares what is there with what was acknowledged.
"""

import threading
import time

import lab
from pymongo_driver import SRV, client, setup  # noqa: F401

WRITERS = 4
# MongoDB: 10 s election time-out, up to 15 % more by chance, half a second until the driver looks again. With the zone the
# flows to the primary fall silent: writes that were already sent wait for the driver's monitor, 20 to 30 s.
ELECTION = (8, 40)


def gateway():
    yield lab.quickstart()


class Writers:
    """Insert numbered documents until they are stopped, and keep when each was acknowledged."""

    def __init__(self, things):
        self.things, self.stopped = things, threading.Event()
        self.written, self.times, self.errors = set(), [time.monotonic()], []
        self.threads = [threading.Thread(target=self.write, args=(n,)) for n in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def write(self, writer):
        number = writer
        while not self.stopped.is_set():
            try:
                self.things.insert_one({"_id": number})
                self.written.add(number)
                self.times.append(time.monotonic())
            except Exception as error:  # noqa: BLE001
                self.errors.append(f"{type(error).__name__}: {error}")
            number += WRITERS
            time.sleep(0.01)

    def since(self, moment):
        """The longest time without an acknowledged write from `moment` on, once writes go on."""
        times = sorted(self.times)
        assert times[-1] > moment and time.monotonic() - times[-1] < 0.5, f"no write; errors: {self.errors[-3:]}"
        # From the last write before.
        start = max((at for at in times if at <= moment), default=moment)
        after = [at for at in times if at > moment]
        return max(later - earlier for earlier, later in zip([start, *after], after))

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def primary(at):
    """The node that is primary, by its port."""
    ports = {port: node for node, port in lab.ports("Cluster0").items()}

    def known():
        assert at.primary, at.topology_description
        return ports[at.primary[1]]

    return lab.eventually("a primary", known)


def lose(name, act, span):
    """Acts while writers run; prints and checks how long writes stopped."""
    low, high = span
    with client(SRV) as at:
        things = at.lab.get_collection(f"failover-{name}".replace(" ", "-"))
        before = primary(at)
        writers = Writers(things)
        try:
            lab.eventually("writes", lambda: check(len(writers.written) > 20, writers.errors))
            began = time.monotonic()
            act(at, before)

            def over():
                assert primary(at) != before
                return writers.since(began)

            stopped = lab.eventually("writes go on", over)
        finally:
            writers.stop()
            lab.request(lab.ADMIN, "DELETE", "/v1/faults")
        after = primary(at)
        print(f"{name}: primary {before} -> {after}; longest time without a write {stopped:.1f} s; "
              f"{len(writers.written)} writes, {len(writers.errors)} errors")
        found = {thing["_id"] for thing in things.find()}
        assert writers.written <= found, f"acknowledged and lost: {sorted(writers.written - found)[:10]}"
        # pymongo sends a write without a transaction number, so cannot retry it, when it learns of the step-down between
        # choosing the primary and writing to it (`retryable_writes_supported`). Each writer has one write under way.
        unexpected = [error for error in writers.errors if not error.startswith("NotPrimaryError")]
        assert unexpected == [] and len(writers.errors) <= WRITERS, writers.errors
        assert low <= stopped <= high, stopped
        lab.eventually("all members are back", lambda: members_known(at))


def check(holds, detail):
    assert holds, detail


def members_known(at):
    names = sorted(s.server_type_name for s in at.topology_description.server_descriptions().values())
    assert names == ["RSPrimary", "RSSecondary", "RSSecondary"], names


def fault(kind, **scope):
    answer = lab.request(lab.ADMIN, "POST", "/v1/faults", {"name": "loss", "kind": kind, "scope": scope})
    assert answer[0] in (200, 201), answer


def test_after_the_loss_of_its_zone_a_set_elects_another_primary(gateway):
    """The primary's zone: its node is alone in it."""
    lose("zone lost", lambda at, node: fault({"type": "zone-outage"}, zone="us-east-1a"), ELECTION)


def test_after_the_loss_of_its_member_a_set_elects_another_primary(gateway):
    lose(
        "member lost",
        lambda at, node: fault({"type": "target-down"}, target=f"Cluster0/{node}"), ELECTION,
    )


def test_after_a_step_down_writes_go_on_within_a_second_or_two(gateway):
    lose("step-down", lambda at, node: at.admin.command("replSetStepDown", 60), (0, 5))


def test_a_fault_on_the_clients_path_elects_nothing(gateway):
    """The port of the primary refuses: members still see each other, so it stays primary."""
    with client(SRV) as at:
        before = primary(at)
        fault({"type": "refuse"}, target=f"Cluster0/{before}")
        time.sleep(13)
        lab.request(lab.ADMIN, "DELETE", "/v1/faults")
        at.lab.path.insert_one({"_id": 1})
        assert primary(at) == before


if __name__ == "__main__":
    lab.main(globals())
