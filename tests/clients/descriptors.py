"""Descriptors run out: clients wait, the gateway reports it without spinning, and continues when some are free again."""

import resource
import select
import socket
import ssl
import threading
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
    """The connections that echo."""
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


class HoldingBackend:
    """Answers HTTP requests once it is released."""

    def __init__(self, address):
        self.release = threading.Event()
        self.listener = socket.create_server(address, backlog=512)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            while True:
                while (line := stream.readline()) not in (b"\r\n", b""):
                    pass
                if not line:
                    return
                self.release.wait()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_clients_of_the_http_front_end_wait_for_descriptors_and_none_gets_a_bad_gateway():
    host, path = "us-east-1.aws.services.cloud.mongodb.com", "/api/client/v2.0/app/myapp-abcde/functions/call"
    backend = HoldingBackend(("127.1.0.31", 9080))
    config = lab.work() / "front.toml"
    scenario = (lab.ROOT / "config/scenarios/app-services.toml").read_text()
    config.write_text(f'lab_dir = "{lab.work() / "front"}"\n\n[state]\nstore = "memory"\n\n' + scenario)
    limit = 4 * LIMIT
    plgw = lab.Gateway("serve", "--config", config, limits=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    trust, answers = ssl.create_default_context(cafile=lab.work() / "front" / "ca.pem"), []

    # From four sources: one alone may not have all descriptors.
    def ask(source):
        try:
            with socket.create_connection(("127.0.30.195", 8443), 60, (source, 0)) as tcp:
                with trust.wrap_socket(tcp, server_hostname=host) as tls:
                    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                    answers.append(tls.recv(65536)[:12])
        except OSError as error:
            answers.append(repr(error))

    clients = [threading.Thread(target=ask, args=(f"127.0.0.{9 + n % 4}",), daemon=True) for n in range(limit)]
    for client in clients:
        client.start()

    def accepting_waits():
        assert "accepting waits" in plgw.log.read_text(errors="replace")

    try:
        lab.eventually("descriptors are at their end", accepting_waits, gateway=plgw)
        assert not answers, answers
    finally:
        backend.release.set()
    for client in clients:
        client.join()
    assert answers == [b"HTTP/1.1 200"] * limit, {answer: answers.count(answer) for answer in set(answers)}
    assert lab.metric("plgw_accept_errors_total", 'kind="descriptors"') > 0, "the failures are counted"
    plgw.stop()


if __name__ == "__main__":
    lab.main(globals())
