"""Descriptors run out: clients wait, the gateway does not spin, says so, and goes on when there are some again."""

import resource
import select
import socket
import time

import lab

LIMIT = 64
ENDPOINT = ("127.0.30.194", 1024)


echo = lab.echo


def gateway(limit):
    """A gateway that may have this many descriptors."""
    def limits():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    return lab.Gateway("serve", "--config", lab.ROOT / "tests/clients/third-party.toml", limits=limits)


def answered(connections, within):
    """Those of the connections on which what is sent comes back."""
    waiting = []
    for connection in connections:
        try:
            connection.sendall(b"ping")
            waiting.append(connection)
        except OSError:
            pass
    served, deadline = [], time.monotonic() + within
    while waiting and (left := deadline - time.monotonic()) > 0:
        for connection in select.select(waiting, [], [], left)[0]:
            waiting.remove(connection)
            try:
                if connection.recv(4) == b"ping":
                    served.append(connection)
            except OSError:
                pass
    return served


def test_accepting_waits_without_spinning_and_recovers(echo):
    plgw, clients = gateway(LIMIT), []
    try:
        for _ in range(LIMIT):
            clients.append(socket.create_connection(ENDPOINT, timeout=10))
        # Once no more are answered, descriptors are at their end.
        served = answered(clients, within=3)
        assert 0 < len(served) < LIMIT, len(served)
        before, began = plgw.cpu_seconds(), time.monotonic()
        time.sleep(3)  # The thing measured: what it uses while it can't accept.
        used = (plgw.cpu_seconds() - before) / (time.monotonic() - began)
        assert used < 0.10, f"{used:.0%} of a processor while waiting for descriptors"
        assert len(answered(served, within=10)) == len(served), "open flows are not disturbed"
    finally:
        for connection in clients:
            connection.close()

    def accepts_again():
        with socket.create_connection(ENDPOINT, timeout=10) as connection:
            assert answered([connection], within=5)

    lab.eventually("new connections are served again", accepts_again)
    scarce = lab.metric("plgw_accept_errors_total", 'kind="descriptors"')
    assert scarce > 0, "the failures are counted"
    # 50 ms doubling to 1 s, on each worker's sockets: a spin would be thousands.
    assert scarce < 500, scarce
    plgw.stop()


def test_clients_wait_for_descriptors_whether_their_number_is_even_or_odd(echo):
    # A flow takes two. With one left over, a client that is accepted could not be connected, and would be reset.
    for limit in (LIMIT, LIMIT + 1):
        plgw, waiting = gateway(limit), []
        try:
            for _ in range(LIMIT):
                waiting.append(socket.create_connection(ENDPOINT, timeout=10))
            rounds = 0
            while waiting:
                served = answered(waiting, within=3)
                left = [connection for connection in waiting if connection not in served]
                ended = select.select(left, [], [], 0)[0]
                assert not ended, f"{len(ended)} of {len(waiting)} were ended instead of waiting, with {limit} descriptors"
                # Their descriptors go to those that wait.
                for connection in served:
                    connection.close()
                waiting, rounds = left, rounds + 1
                assert rounds < 3 * LIMIT, f"{len(waiting)} are never served"
        finally:
            for connection in waiting:
                connection.close()
            plgw.stop()


if __name__ == "__main__":
    lab.main(globals())
