"""`curl` sees the pages for machines: `/metrics`, `/healthz`, `/readyz`, and the admin API."""

import json
import signal
import socket

import lab


def setup():
    lab.need("curl")


def gateway():
    yield lab.quickstart()


def curl(url, *options):
    """Status, content type and body."""
    done = lab.run("curl", "-sS", "-m", "20", "-w", "\n%{http_code} %{content_type}", *options, url)
    body, _, last = done.stdout.rpartition("\n")
    status, _, kind = last.partition(" ")
    return int(status), kind, body


def test_metrics_are_a_page_that_prometheus_takes(gateway):
    status, kind, body = curl("http://127.0.0.1:9464/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8"), (status, kind)
    lines = body.splitlines()
    assert any(line.startswith('plgw_build_info{') and line.endswith(" 1") for line in lines), body
    for name in {line.split("{")[0].split(" ")[0] for line in lines if line and not line.startswith("#")}:
        family = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert any(line.startswith((f"# TYPE {name} ", f"# TYPE {family} ")) for line in lines), name


def test_health_and_readiness_are_200_with_their_detail(gateway):
    for page, key in (("healthz", "healthy"), ("readyz", "ready")):
        status, _, body = curl(f"http://127.0.0.1:9464/{page}")
        assert status == 200 and json.loads(body)[key] is True, (page, status, body)


def test_the_services_side_gets_no_page(gateway):
    """A2: 127.1.0.0/16 is the service's side."""
    for port, path in ((9464, "/metrics"), (8474, "/v1/status")):
        argv = ["curl", "-sS", "-m", "20", "--interface", "127.1.0.99", f"http://127.0.0.1:{port}{path}"]
        done = lab.run(*argv, check=False)
        assert done.returncode in (52, 56) and not done.stdout, (port, done.returncode, done.stdout)


def test_the_admin_api_shows_what_runs_and_refuses_pages_of_other_sites(gateway):
    status, kind, body = curl("http://127.0.0.1:8474/v1/status")
    assert status == 200 and kind.startswith("application/json"), (status, kind)
    assert json.loads(body)["targets"] == 4, body
    for page in ("8474/v1/status", "9464/metrics"):
        status, _, body = curl(f"http://127.0.0.1:{page}", "-H", "Host: evil.example")
        assert status == 403 and "plgw_" not in body, (page, status, body)


def test_readiness_turns_false_before_the_last_page_is_gone():
    """Monitoring sees a stop: `/readyz` answers 503 while flows may still end."""
    text = (lab.ROOT / "tests/clients/third-party.toml").read_text()
    file = lab.work() / "stop.toml"
    # Beside the other gateway: other addresses.
    pages = 'metrics = { listen = "127.0.0.1:9465" }\nadmin = { listen = "127.0.0.1:8475" }\n'
    file.write_text('shutdown_grace = "3s"\n' + pages + text.replace("127.0.0.1:53", "127.0.0.2:5335").replace("127.0.30.", "127.0.40.").replace('"127.1.0.1', '"127.1.1.1'))
    with socket.create_server(("127.1.1.11", 27017)):
        gateway = lab.Gateway("serve", "--config", file, ready=False)
        lab.eventually("it is ready", lambda: is_status(200), gateway=gateway)
        # A flow that stays open holds the stop up.
        with socket.create_connection(("127.0.40.194", 1024)) as flow:
            flow.sendall(b"hello")
            lab.eventually("the flow is open", flow_is_open)
            gateway.process.send_signal(signal.SIGTERM)
            lab.eventually("it is no longer ready", lambda: is_status(503))
            assert gateway.process.poll() is None
        assert gateway.process.wait(timeout=lab.SOON) == 0, gateway.tail()
        gateway.kill()


def is_status(wanted):
    status, _, body = curl("http://127.0.0.1:9465/readyz")
    assert status == wanted, (status, body)


def flow_is_open():
    _, page = lab.get(("127.0.0.1", 9465), "/metrics")
    opened = [line for line in page.splitlines() if line.startswith("plgw_active_flows{")]
    assert any(line.endswith(" 1") for line in opened), opened


if __name__ == "__main__":
    lab.main(globals())
