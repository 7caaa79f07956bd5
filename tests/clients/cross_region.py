"""Cross-region access by boto3, against a gateway that runs the quickstart's inventory: a VPC in eu-west-1, Atlas' service in
us-east-1. The calls are those of Terraform's `aws_vpc_endpoint` with `service_region`. Needs boto3;
ADMIN=http://127.0.0.1:8474."""

import json
import os
import socket
import ssl
import time
import urllib.request

import boto3

from aws_calls import refused

ADMIN = os.environ["ADMIN"]
PROJECT = "5f2a1b3c4d5e6f7081920a3b"
SERVICE = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c"
CLIENT = "127.6.1.200"


def ec2(region):
    return boto3.client("ec2", endpoint_url=ADMIN, region_name=region, aws_access_key_id="a", aws_secret_access_key="b")


def atlas(method, path, body=None):
    request = urllib.request.Request(f"{ADMIN}/api/atlas/v2/groups/{PROJECT}/privateEndpoint/{path}", method=method)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, None if body is None else json.dumps(body).encode()) as answer:
        return json.loads(answer.read())


def until(what, look):
    for _ in range(100):
        if look():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within ten seconds: {what}")


def hello(address, port):
    """A TLS handshake with the node behind a port, from the VPC."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), timeout=10, source_address=(CLIENT, 0)) as plain:
        with context.wrap_socket(plain, server_hostname="pl-1-us-east-1-k45tj.mongodb.net") as tls:
            assert tls.version()


def main():
    here, there = ec2("eu-west-1"), ec2("us-east-1")
    vpc = here.create_vpc(CidrBlock="127.6.0.0/16")["Vpc"]["VpcId"]
    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        here.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})
    subnet = here.create_subnet(VpcId=vpc, CidrBlock="127.6.1.0/24", AvailabilityZone="eu-west-1b")["Subnet"]["SubnetId"]
    group = here.create_security_group(VpcId=vpc, GroupName="endpoints", Description="in front of Atlas")["GroupId"]
    here.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 1024, "ToPort": 65535, "IpRanges": [{"CidrIp": "127.6.0.0/16"}]}])
    wanted = {"VpcEndpointType": "Interface", "VpcId": vpc, "ServiceName": SERVICE, "SubnetIds": [subnet],
              "SecurityGroupIds": [group], "PrivateDnsEnabled": False, "ServiceRegion": "us-east-1"}

    # The service's owner sets the supported regions.
    listed = lambda: here.describe_vpc_endpoint_services(ServiceRegions=["us-east-1"])["ServiceNames"]
    assert SERVICE not in listed()
    assert "supported remote regions" in refused("InvalidServiceName", here.create_vpc_endpoint, **wanted)
    service = atlas("GET", "AWS/endpointService")[0]["id"]
    changed = atlas("PATCH", f"endpointService/{service}", {"cloudProvider": "AWS", "supportedRemoteRegions": ["EU_WEST_1"]})
    assert changed["supportedRemoteRegions"] == ["EU_WEST_1"], changed
    until("the service is available again", lambda: atlas("GET", f"AWS/endpointService/{service}")["status"] == "AVAILABLE")
    assert SERVICE in listed()
    detail = here.describe_vpc_endpoint_services(ServiceNames=[SERVICE], ServiceRegions=["us-east-1"])["ServiceDetails"][0]
    assert detail["ServiceRegion"] == "us-east-1", detail
    refused("InvalidServiceName", here.describe_vpc_endpoint_services, ServiceNames=[SERVICE])
    refused("InvalidServiceName", here.create_vpc_endpoint, **{k: v for k, v in wanted.items() if k != "ServiceRegion"})
    refused("InvalidServiceName", here.create_vpc_endpoint, **{**wanted, "ServiceRegion": "eu-west-1"})
    refused("InvalidVpcID.NotFound", there.create_vpc_endpoint, **wanted)

    made = here.create_vpc_endpoint(**wanted)["VpcEndpoint"]
    endpoint = made["VpcEndpointId"]
    assert made["ServiceRegion"] == "us-east-1" and made["State"] == "pendingAcceptance", made
    names = [entry["DnsName"] for entry in made["DnsEntries"]]
    assert len(names) == 2 and all(name.endswith(".us-east-1.vpce.amazonaws.com") for name in names), names
    filters = [{"Name": "service-region", "Values": ["us-east-1"]}]
    assert [e["VpcEndpointId"] for e in here.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]] == [endpoint]
    refused("InvalidVpcEndpointId.NotFound", there.describe_vpc_endpoints, VpcEndpointIds=[endpoint])
    filters = [{"Name": "vpc-endpoint-region", "Values": ["eu-west-1"]}]
    connections = there.describe_vpc_endpoint_connections(Filters=filters)["VpcEndpointConnections"]
    assert [c["VpcEndpointId"] for c in connections] == [endpoint] and connections[0]["VpcEndpointRegion"] == "eu-west-1"

    atlas("POST", f"AWS/endpointService/{service}/endpoint", {"id": endpoint})
    state = lambda: here.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"][0]["State"]
    until("the endpoint is available", lambda: state() == "available")
    interface, = here.describe_network_interfaces(NetworkInterfaceIds=made["NetworkInterfaceIds"])["NetworkInterfaces"]
    assert interface["AvailabilityZone"] == "eu-west-1b", interface
    for port in (1024, 1025, 1026):
        hello(interface["PrivateIpAddress"], port)

    # Taken off the list, the region gets no new endpoint, and this one works on.
    atlas("PATCH", f"endpointService/{service}", {"cloudProvider": "AWS", "supportedRemoteRegions": []})
    refused("InvalidServiceName", here.create_vpc_endpoint, **wanted)
    assert state() == "available"
    hello(interface["PrivateIpAddress"], 1024)

    here.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    gone = lambda: not here.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]
    until("the endpoint is gone", gone)
    here.delete_security_group(GroupId=group)
    here.delete_subnet(SubnetId=subnet)
    here.delete_vpc(VpcId=vpc)
    print("cross region: 1 passed, 0 failed")


main()
