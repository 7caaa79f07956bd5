"""Dual stack on AWS (A33) from clients' view: `dig`, pymongo and boto3 against endpoints with IPv6 addresses.

The config is `config/scenarios/dual-stack.toml` on loopback: its IPv4 networks become 127.x, and the namespace's loopback interface
has all of 2001:db8::/32.
"""

import ipaddress
import json
import pathlib
import socket
import ssl
import struct

import lab
from pymongo_driver import client

HOSTS = {n: f"pl-{n}-us-east-1-k45tj.mongodb.net" for n in (0, 1, 2)}
DUAL, IPV6_ONLY = ["2001:db8:a:20::36", "2001:db8:a:30::c2"], ["2001:db8:a:50::c2"]
SERVICE = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c"
PROJECT = "5f2a1b3c4d5e6f7081920a3b"
# Addresses for processes of the VPC; one belongs to the namespace, so drivers connect from it.
CLIENT = "2001:db8:a:30::a"


def config(change=lambda text: text):
    text = (lab.ROOT / "config/scenarios/dual-stack.toml").read_text()
    for net in ("10.0.", "10.1.", "10.2.", "10.3."):
        text = text.replace(f'"{net}', f'"127.{net[3:]}')
    file = lab.work() / "dual-stack.toml"
    file.write_text(change(text))
    return file


def setup():
    lab.need("ip", "dig")
    try:
        import boto3, pymongo  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: .ci/run installs it") from error
    if not pathlib.Path("/proc/sys/net/ipv6").exists():
        raise lab.Skip("the kernel has no IPv6")
    pathlib.Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("0")
    # Any address of the network can be bound, and is the machine's own.
    pathlib.Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")
    lab.run("ip", "-6", "route", "add", "local", "2001:db8::/32", "dev", "lo")
    lab.run("ip", "-6", "address", "add", f"{CLIENT}/128", "dev", "lo", "nodad")


def quickstart():
    """The scenario with stand-ins behind it: a fixture."""
    gateway = lab.quickstart("--state-in-memory", "--config", config())
    yield gateway
    assert gateway.stop() == 0, gateway.tail()


def dig(name, kind, source="127.0.0.1"):
    said = lab.run("dig", "+short", "-b", source, "@127.0.0.1", name, kind).stdout.split()
    return sorted(line for line in said if not line.endswith("."))


def test_names_have_a_and_aaaa_records_by_the_endpoints_record_type(quickstart):
    assert dig(HOSTS[0], "AAAA") == DUAL
    assert dig(HOSTS[0], "A") == ["127.0.20.54", "127.0.30.194"]
    assert dig(HOSTS[1], "AAAA") == IPV6_ONLY
    said = lab.run("dig", "-b", "127.0.0.1", "@127.0.0.1", HOSTS[1], "A").stdout
    # The name is there, and has no address of that family.
    assert "status: NOERROR" in said and "ANSWER: 1" in said and "CNAME" in said, said
    zonal = "vpce-024f5b57108c8d3ed-ypwbxwll-us-east-1b.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com"
    assert dig(zonal, "AAAA") == DUAL[:1] and dig(zonal, "A") == ["127.0.20.54"]


def test_a_driver_writes_and_reads_over_ipv6(quickstart):
    """Through the endpoint that has no other address."""
    with client("mongodb+srv://cluster0-pl-1-k45tj.mongodb.net/") as at:
        mark = at.lab.marks.insert_one({}).inserted_id
        assert at.lab.marks.find_one({"_id": mark}) == {"_id": mark}
        flows = lab.api("GET", "/v1/flows")["flows"]
        through = {flow["listener"].rpartition(":")[0] for flow in flows}
        assert through == {f"[{ip}]" for ip in IPV6_ONLY}, flows
        assert {flow["client"].rpartition(":")[0] for flow in flows} == {f"[{CLIENT}]"}, flows
    with client("mongodb+srv://cluster0-pl-0-k45tj.mongodb.net/") as at:
        at.lab.marks.insert_one({})


def hello(address, port, source, timeout=10):
    """A TLS handshake with the node behind a port; False when there is no answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), timeout=timeout, source_address=(source, 0)) as plain:
            with context.wrap_socket(plain, server_hostname=HOSTS[0]) as tls:
                return bool(tls.version())
    except TimeoutError:
        return False


def atlas(method, path, body=None):
    status, text = lab.request(lab.ADMIN, method, f"/api/atlas/v2/groups/{PROJECT}/privateEndpoint/{path}", body)
    assert status < 300, text
    return json.loads(text)


def test_boto3_makes_a_dual_stack_vpc_and_endpoint_that_its_own_clients_reach_alone(quickstart):
    from aws_calls import refused
    import boto3

    ec2 = boto3.client("ec2", endpoint_url="http://{}:{}".format(*lab.ADMIN), region_name="us-east-1",
                       aws_access_key_id="a", aws_secret_access_key="b")
    described = ec2.describe_vpc_endpoint_services(
        ServiceNames=[SERVICE], Filters=[{"Name": "supported-ip-address-types", "Values": ["ipv6"]}])
    assert described["ServiceDetails"][0]["SupportedIpAddressTypes"] == ["ipv4", "ipv6"], described
    vpc = ec2.create_vpc(CidrBlock="127.6.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    net = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    second = list(ipaddress.ip_network(net).subnets(new_prefix=64))[1]
    vpc, inside = vpc["VpcId"], str(second[9])
    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="127.6.1.0/24", Ipv6CidrBlock=str(second),
                               AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    group = ec2.create_security_group(VpcId=vpc, GroupName="endpoints", Description="in front of Atlas")["GroupId"]
    rule = lambda ranges: {"GroupId": group, "IpPermissions": [
        {"IpProtocol": "tcp", "FromPort": 1024, "ToPort": 65535, **ranges}]}
    ipv6 = rule({"Ipv6Ranges": [{"CidrIpv6": net}]})
    ec2.authorize_security_group_ingress(**rule({"IpRanges": [{"CidrIp": "127.6.0.0/16"}]}))
    ec2.authorize_security_group_ingress(**ipv6)
    wanted = {"VpcEndpointType": "Interface", "VpcId": vpc, "ServiceName": SERVICE, "SubnetIds": [subnet],
              "SecurityGroupIds": [group]}
    refused("InvalidParameter", ec2.create_vpc_endpoint, **wanted, IpAddressType="ipv6")
    refused("InvalidParameter", ec2.create_vpc_endpoint, **wanted, DnsOptions={"DnsRecordIpType": "ipv6"})
    made = ec2.create_vpc_endpoint(**wanted, IpAddressType="dualstack")["VpcEndpoint"]
    endpoint = made["VpcEndpointId"]
    assert (made["IpAddressType"], made["DnsOptions"]["DnsRecordIpType"]) == ("dualstack", "dualstack"), made
    interface, = ec2.describe_network_interfaces(NetworkInterfaceIds=made["NetworkInterfaceIds"])["NetworkInterfaces"]
    ip4, ip6 = interface["PrivateIpAddress"], interface["Ipv6Addresses"][0]["Ipv6Address"]
    assert interface["DenyAllIgwTraffic"] is True and ip6 == str(second[4]), interface

    service = atlas("GET", "AWS/endpointService")[0]["id"]
    atlas("POST", f"AWS/endpointService/{service}/endpoint", {"id": endpoint})
    state = lambda: ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"][0]["State"]

    def available():
        assert state() == "available", state()

    lab.eventually("the endpoint is available", available)
    assert dig(HOSTS[2], "AAAA", "127.6.1.9") == [ip6] and dig(HOSTS[2], "A", "127.6.1.9") == [ip4]
    for port in (1024, 1025, 1026):
        assert hello(ip6, port, inside) and hello(ip4, port, "127.6.1.9")
    # Another VPC's clients and the service's side reach neither it nor each other's.
    for source, address in ((CLIENT, ip6), (inside, DUAL[0]), ("2001:db8:b::a", ip6), ("::1", ip6)):
        assert not hello(address, 1024, source, timeout=1), (source, address)

    # Rules have networks of one family each.
    ec2.revoke_security_group_ingress(**ipv6)
    assert not hello(ip6, 1024, inside, timeout=1) and hello(ip4, 1024, "127.6.1.9")
    ec2.authorize_security_group_ingress(**ipv6)
    assert hello(ip6, 1024, inside)

    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, DnsOptions={"DnsRecordIpType": "ipv4"})
    assert dig(HOSTS[2], "AAAA", "127.6.1.9") == [] and hello(ip6, 1024, inside), "the address stays"
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, IpAddressType="ipv4")
    interface, = ec2.describe_network_interfaces(NetworkInterfaceIds=made["NetworkInterfaceIds"])["NetworkInterfaces"]
    assert interface["Ipv6Addresses"] == [] and interface["PrivateIpAddress"] == ip4, interface
    assert dig(HOSTS[2], "AAAA", "127.6.1.9") == [] and hello(ip4, 1024, "127.6.1.9")
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, IpAddressType="dualstack")
    assert dig(HOSTS[2], "AAAA", "127.6.1.9") == [ip6] and hello(ip6, 1024, inside)

    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])

    def gone():
        assert not ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]

    lab.eventually("the endpoint is gone", gone)
    subnet_net = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["Ipv6CidrBlockAssociationSet"][0]
    ec2.disassociate_subnet_cidr_block(AssociationId=subnet_net["AssociationId"])
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)


def test_the_proxy_header_and_the_flow_log_name_the_clients_ipv6_address(quickstart):
    """The target is still IPv4: the header's family is the client's."""
    assert quickstart.stop() == 0, quickstart.tail()
    log = lab.work() / "flows.log"
    logged = f'[flow_logs]\nenabled = true\npath = "{log}"\ninterval = "1s"\n'
    proxied = lambda text: logged + text.replace("supported_ip", "proxy_protocol = true\nsupported_ip")
    echo = lab.echo()
    next(echo)
    gateway = lab.Gateway("serve", "--config", config(proxied))
    with socket.create_connection((DUAL[1], 1024), 10, (CLIENT, 0)) as flow:
        port = flow.getsockname()[1]
        flow.sendall(b"hello")
        got = b""
        while not got.endswith(b"hello"):
            got += flow.recv(4096)
    assert got[:14] == b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x21", got
    source, destination = (socket.inet_ntop(socket.AF_INET6, got[at : at + 16]) for at in (16, 32))
    assert (source, destination) == (CLIENT, DUAL[1]) and struct.unpack(">HH", got[48:52]) == (port, 1024), got
    assert b"vpce-024f5b57108c8d3ed" in got

    def written():
        line = next((line for line in log.read_text().splitlines() if f" {CLIENT} {DUAL[1]} " in line), "")
        assert line, log.read_text()

    lab.eventually("the flow is in the log", written)
    assert gateway.stop() == 0, gateway.tail()
    echo.close()


if __name__ == "__main__":
    lab.main(globals())
