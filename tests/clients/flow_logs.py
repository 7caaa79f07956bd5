"""An independent reader of VPC Flow Logs, `flowlogs_reader`, reads what the gateway writes: AWS's default format and a custom
one, from files and from standard output."""

import datetime
import pathlib
import socket
import threading

import lab

ENDPOINT = ("127.0.30.194", 1024)
CLIENT, BLOCKED, OUTSIDE = "127.0.1.9", "127.0.2.9", "127.9.0.9"
CUSTOM = """
version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr
protocol bytes packets start end action tcp-flags log-status region az-id sublocation-type sublocation-id
pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path reject-reason
""".split()


def setup():
    try:
        import flowlogs_reader  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error


echo = lab.echo


def used(name, keys):
    """The log of a gateway with these keys of `[flow_logs]` that was used, and stopped; and its standard output."""
    text = (lab.ROOT / "tests/clients/third-party.toml").read_text()
    # Of the VPC only one network may use the endpoint.
    text = text.replace('ports = "1024-65535", cidrs = ["127.0.0.0/16"]', 'ports = "1024-65535", cidrs = ["127.0.1.0/24"]')
    file, log = lab.work() / f"{name}.toml", lab.work() / f"{name}.log"
    path = "" if "stdout" in keys else f'path = "{log}"'
    file.write_text(f'{text}\n[flow_logs]\nenabled = true\ninterval = "60s"\n{path}\n{keys}\n')
    gateway = lab.Gateway("serve", "--config", file)
    try:
        talk(CLIENT, 100_000)
        talk(CLIENT, 10)
        for source in (BLOCKED, OUTSIDE):
            socket.create_connection(ENDPOINT, timeout=10, source_address=(source, 0)).close()
        lab.eventually("all of it is over", over, gateway=gateway)
        # The last window is written at the stop.
        assert gateway.stop() == 0, gateway.tail()
    finally:
        gateway.kill()
    return pathlib.Path(gateway.log if "stdout" in keys else log).read_text().splitlines()


def talk(source, size):
    with socket.create_connection(ENDPOINT, timeout=10, source_address=(source, 0)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(b"x" * size,))
        sender.start()
        left = size
        while left:
            left -= len(connection.recv(65536))
        sender.join()


def over():
    assert lab.metric("plgw_flows_closed_total") == 2
    assert lab.metric("plgw_refused_flows_total") == 2


def read(lines, fields):
    """The lines as the reader's records; it takes them as CloudWatch Logs would hand them out."""
    from flowlogs_reader import FlowLogsReader

    class CloudWatch:
        def get_paginator(self, operation):
            assert operation == "filter_log_events"
            return self

        def paginate(self, **_):
            yield {"events": [{"message": line} for line in lines]}

    reader = FlowLogsReader("plgw", boto_client=CloudWatch(), fields=fields, raise_on_error=True)
    return list(reader)


def check(records):
    accepted = [record for record in records if record.action == "ACCEPT"]
    rejected = [record for record in records if record.action == "REJECT"]
    assert len(accepted) == 4 and len(rejected) == 2, [str(record) for record in records]
    into = [record for record in accepted if record.dstaddr == ENDPOINT[0]]
    out = [record for record in accepted if record.srcaddr == ENDPOINT[0]]
    assert len(into) == len(out) == 2
    for record in into:
        assert (record.srcaddr, record.dstport, record.protocol, record.log_status) == (CLIENT, 1024, 6, "OK")
        back = [other for other in out if other.dstport == record.srcport]
        assert len(back) == 1 and back[0].srcport == 1024, [str(record) for record in out]
        # The same payload both ways, under 40 bytes of headers a packet.
        payload = {one.bytes - 40 * one.packets for one in (record, back[0])}
        assert payload in ({100_000}, {10}), payload
    assert {record.srcaddr for record in rejected} == {BLOCKED, OUTSIDE}
    assert all((record.packets, record.bytes, record.dstport) == (1, 40, 1024) for record in rejected)
    now = datetime.datetime.utcnow()
    for record in records:
        assert record.start <= record.end <= now + datetime.timedelta(seconds=1), str(record)
        assert now - record.start < datetime.timedelta(seconds=lab.SOON * 5), str(record)
        assert record.interface_id.startswith("eni-") and record.account_id == "123456789012"


def test_the_default_format_is_that_of_version_2(echo):
    lines = used("default", 'account_id = "123456789012"')
    from flowlogs_reader.flowlogs_reader import DEFAULT_FIELDS

    assert lines[0].replace("-", "_").split() == list(DEFAULT_FIELDS), lines[0]
    records = read(lines[1:], DEFAULT_FIELDS)
    assert {record.version for record in records} == {2}
    check(records)


def test_a_custom_format_has_the_fields_that_were_asked_for(echo):
    fields = " ".join(f"${{{field}}}" for field in CUSTOM)
    lines = used("custom", f'account_id = "123456789012"\nformat = "{fields}"')
    assert lines[0].split() == CUSTOM
    records = read(lines[1:], CUSTOM)
    check(records)
    for record in records:
        # The highest version of its fields; `reject-reason` came with 8.
        assert (record.version, record.vpc_id, record.type) == (8, "vpc-0b3f1c9a7d2e84f56", "IPv4"), str(record)
        assert (record.subnet_id, record.region, record.az_id) == ("subnet-0c1d2e3f4a5b60718", "us-east-1", "use1-az1")
        assert (record.pkt_srcaddr, record.pkt_dstaddr) == (record.srcaddr, record.dstaddr)
        assert record.instance_id is None and record.sublocation_type is None
        ingress = record.dstaddr == ENDPOINT[0]
        assert record.flow_direction == ("ingress" if ingress else "egress")
        assert record.traffic_path == (None if ingress else 1)
        accepted = record.action == "ACCEPT"
        assert record.tcp_flags == ((3 if ingress else 19) if accepted else 2), str(record)


def test_standard_output_has_the_records_alone_and_the_reader_sums_them_up(echo):
    from flowlogs_reader import aggregated_records
    from flowlogs_reader.flowlogs_reader import DEFAULT_FIELDS

    lines = used("stdout", 'account_id = "123456789012"\ndestination = "stdout"\ntraffic = "reject"')
    records = read([line for line in lines if line.startswith("2 123456789012 ")], DEFAULT_FIELDS)
    assert {record.srcaddr for record in records if record.action} == {BLOCKED, OUTSIDE}, lines
    assert not [record for record in records if record.action == "ACCEPT"]
    summed = list(aggregated_records([record for record in records if record.action]))
    assert sum(each["packets"] for each in summed) == 2, summed


if __name__ == "__main__":
    lab.main(globals())
