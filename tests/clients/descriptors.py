"""Descriptors run out: the gateway waits instead of spinning, says so, and goes on when there are some again."""

import resource
import select
import socket
import time

import lab

LIMIT = 64
ENDPOINT = ("127.0.30.194", 1024)


echo = lab.echo


def gateway():
    def limits():
        resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))

    yield lab.Gateway("serve", "--config", lab.ROOT / "tests/clients/third-party.toml", limits=limits)


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


def test_accepting_waits_without_spinning_and_recovers(echo, gateway):
    clients = []
    try:
        for _ in range(LIMIT):
            clients.append(socket.create_connection(ENDPOINT, timeout=10))
        # Once no more are answered, descriptors are at their end.
        served = answered(clients, within=3)
        assert 0 < len(served) < LIMIT, len(served)
        before, began = gateway.cpu_seconds(), time.monotonic()
        time.sleep(3)  # The thing measured: what it uses while it can't accept.
        used = (gateway.cpu_seconds() - before) / (time.monotonic() - began)
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


if __name__ == "__main__":
    lab.main(globals())
