"""The example of docs/terraform.md against a gateway that runs the quickstart's inventory: its resources are read out of the page,
their calls made in the providers' order, those of hashicorp/aws by boto3, those of mongodbatlas as it sends them; then a driver
pings the cluster by the output, from inside the new VPC, and everything is removed. ADMIN=http://127.0.0.1:8474; resolvers have to
be the gateway, as in the tests' own namespaces."""

import json
import os
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import botocore.exceptions
import pymongo

ADMIN = os.environ["ADMIN"]
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "terraform.md"


def blocks(kinds):
    """The example's blocks of some kinds, by type and name: attributes, and inner blocks under their names."""
    found = {}
    for code in re.findall(r"```hcl\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for kind, head, body in re.findall(r'^(\w+)((?: "[^"]+")*) \{\n(.*?)^\}', code, re.DOTALL | re.MULTILINE):
            if kind in kinds:
                found[".".join(re.findall(r'"([^"]+)"', head)) or kind] = parse(body)
    return found


def parse(body):
    inner = {name: parse(text) for name, text in re.findall(r"^  (\w+) \{\n(.*?)^  \}", body, re.DOTALL | re.MULTILINE)}
    body = re.sub(r"^  \w+ \{\n.*?^  \}", "", body, flags=re.DOTALL | re.MULTILINE)
    return {**dict(re.findall(r"^\s*(\w+)\s*= (.*)$", body, re.MULTILINE)), **inner}


class Example:
    """The page's blocks, with the values of their references."""

    def __init__(self):
        self.blocks = blocks(("resource", "data", "import", "output"))
        self.known = {}
        self.used = set()

    def __call__(self, block, name, default=None):
        """The value of an attribute; `name` may lead into an inner block."""
        at = self.blocks[block]
        self.used.add(block)
        for part in name.split("."):
            if part not in at:
                return default
            at = at[part]
        return self.value(at)

    def value(self, text):
        if text.startswith("["):
            return [self.value(item) for item in text.strip("[] ").split(", ")]
        if text.startswith('"'):
            return re.match(r'"([^"]*)"', text)[1]
        if text in ("true", "false"):
            return text == "true"
        return int(text) if text.lstrip("-").isdigit() else self.known[text]


def atlas(method, path, body=None, date="2023-01-01"):
    """Status and JSON of Atlas' answer."""
    media = f"application/vnd.atlas.{date}+json"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADMIN + path, data, {"Accept": media, "Content-Type": media}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or "null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def until(what, look):
    for _ in range(300):
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within thirty seconds: {what}")


def rule(example, block, side):
    """A rule as `aws_security_group` sends it."""
    at = lambda name: example(block, f"{side}.{name}")
    ranges = [{"CidrIp": net, "Description": at("description")} for net in at("cidr_blocks")]
    permission = {"IpProtocol": at("protocol"), "IpRanges": ranges}
    return {**permission, "FromPort": at("from_port"), "ToPort": at("to_port")}


def main():
    example = Example()
    known = example.known

    # data mongodbatlas_project, and the import of the quickstart's objects: the provider splits the id and asks version 1.0.
    project = atlas("GET", f"/api/atlas/v2/groups/byName/{example('mongodbatlas_project.lab', 'name')}")[1]["id"]
    known["data.mongodbatlas_project.lab.id"] = project
    group, service, provider, region = re.fullmatch(r"(\w{24})-(\w{24})-([A-Z]+)-(.*)", example("import", "id")).groups()
    assert group == project, (group, project)
    assert (provider, region) == (
        example("mongodbatlas_privatelink_endpoint.app", "provider_name"), example("mongodbatlas_privatelink_endpoint.app", "region"))
    status, old = atlas("GET", f"/api/atlas/v1.0/groups/{group}/privateEndpoint/{provider}/endpointService/{service}")
    assert status == 200, old
    status, view = atlas("GET", f"/api/atlas/v2/groups/{group}/privateEndpoint/{provider}/endpointService/{service}")
    assert status == 200 and view["status"] == "AVAILABLE" and not view["errorMessage"], view
    known["mongodbatlas_privatelink_endpoint.app.private_link_id"] = view["id"]
    known["mongodbatlas_privatelink_endpoint.app.endpoint_service_name"] = view["endpointServiceName"]

    ec2 = boto3.client("ec2", endpoint_url=ADMIN, region_name=region, aws_access_key_id="lab", aws_secret_access_key="lab")
    sts = boto3.client("sts", endpoint_url=ADMIN, region_name=region, aws_access_key_id="lab", aws_secret_access_key="lab")
    account = sts.get_caller_identity()["Arn"].split(":")[4]

    network = example("aws_vpc.app", "cidr_block")
    vpc = ec2.create_vpc(CidrBlock=network, InstanceTenancy="default", AmazonProvidedIpv6CidrBlock=False)["Vpc"]
    assert vpc["OwnerId"] == account, vpc
    vpc = vpc["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": example("aws_vpc.app", "enable_dns_hostnames")})
    known["aws_vpc.app.id"], known["aws_vpc.app.cidr_block"] = vpc, network

    home, zone = example("aws_subnet.app", "vpc_id"), example("aws_subnet.app", "availability_zone")
    subnet = ec2.create_subnet(VpcId=home, CidrBlock=example("aws_subnet.app", "cidr_block"), AvailabilityZone=zone)
    known["aws_subnet.app.id"] = subnet["Subnet"]["SubnetId"]

    of = "aws_security_group.atlas"
    made = ec2.create_security_group(
        GroupName=example(of, "name"), Description=example(of, "description", "Managed by Terraform"), VpcId=example(of, "vpc_id"))
    known["aws_security_group.atlas.id"] = group_id = made["GroupId"]
    everything = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}
    ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=[{**everything, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    try:
        ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=[{**everything, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}])
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidPermission.NotFound", error
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule(example, of, "ingress")])
    shown, = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    assert shown["OwnerId"] == account and shown["IpPermissionsEgress"] == [], shown

    of = "aws_vpc_endpoint.atlas"
    wanted = {
        "VpcEndpointType": example(of, "vpc_endpoint_type"), "VpcId": example(of, "vpc_id"), "ServiceName": example(of, "service_name"),
        "SubnetIds": example(of, "subnet_ids"), "SecurityGroupIds": example(of, "security_group_ids"),
        "PrivateDnsEnabled": False, "ClientToken": "terraform-20261130000000000000000001",
    }
    endpoint = ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]["VpcEndpointId"]
    assert ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]["VpcEndpointId"] == endpoint, "a call that is sent again"
    state = lambda: ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"][0]["State"]
    until("the endpoint waits for its acceptance", lambda: state() == "pendingAcceptance")
    known["aws_vpc_endpoint.atlas.id"] = endpoint

    of = "mongodbatlas_privatelink_endpoint_service.app"
    path = f"/api/atlas/v2/groups/{example(of, 'project_id')}/privateEndpoint/{example(of, 'provider_name')}"
    path += f"/endpointService/{example(of, 'private_link_id')}/endpoint"
    status, added = atlas("POST", path, {"id": example(of, "endpoint_service_id")})
    assert status == 201, added
    until("Atlas has the endpoint", lambda: atlas("GET", f"{path}/{endpoint}")[1]["connectionStatus"] == "AVAILABLE")
    clusters = f"/api/atlas/v2/groups/{project}/clusters"
    idle = lambda: all(c["stateName"] == "IDLE" for c in atlas("GET", clusters, date="2024-08-05")[1]["results"])
    until("every cluster is idle", idle)
    assert state() == "available"

    of = "mongodbatlas_advanced_cluster.app"
    assert example(of, "project_id") == project
    cluster = atlas("GET", f"{clusters}/{example(of, 'name')}", date="2024-08-05")[1]
    containers = atlas("GET", f"/api/atlas/v2/groups/{project}/containers?providerName=AWS&includeCount=true&itemsPerPage=100&pageNum=1")[1]
    region_of = cluster["replicationSpecs"][0]["regionConfigs"][0]["regionName"]
    assert any(container["regionName"] == region_of for container in containers["results"]), containers
    strings = cluster["connectionStrings"]["privateEndpoint"]
    own = [s["srvConnectionString"] for s in strings if any(e["endpointId"] == endpoint for e in s["endpoints"])]
    listed = "for strings in data.mongodbatlas_advanced_cluster.app.connection_strings[0].private_endpoint :"
    assert listed in PAGE.read_text(), "the output takes the string of its own endpoint"
    assert len(own) == 1, strings

    # plan: a second look finds no difference.
    def refresh():
        of = lambda name, value: {"Name": name, "Values": [value]}
        attributes = ("enableDnsHostnames", "enableDnsSupport", "enableNetworkAddressUsageMetrics")
        shown = {
            "vpc": ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"],
            "acl": ec2.describe_network_acls(Filters=[of("default", "true"), of("vpc-id", vpc)])["NetworkAcls"],
            "routes": ec2.describe_route_tables(Filters=[of("association.main", "true"), of("vpc-id", vpc)])["RouteTables"],
            "default group": ec2.describe_security_groups(Filters=[of("group-name", "default"), of("vpc-id", vpc)])["SecurityGroups"],
            "subnet": ec2.describe_subnets(SubnetIds=[known["aws_subnet.app.id"]])["Subnets"],
            "group": ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"],
            "endpoint": ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"],
            "service": ec2.describe_vpc_endpoint_services(ServiceNames=[wanted["ServiceName"]])["ServiceDetails"],
        }
        assert all(len(one) == 1 for one in shown.values()), shown
        assert ec2.describe_prefix_lists(Filters=[of("prefix-list-name", wanted["ServiceName"])])["PrefixLists"] == []
        for eni in shown["endpoint"][0]["NetworkInterfaceIds"]:
            shown[eni], = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]
        for name in attributes:
            shown[name] = ec2.describe_vpc_attribute(VpcId=vpc, Attribute=name)[name[0].upper() + name[1:]]
        shown["rules"] = ec2.describe_security_group_rules(Filters=[of("group-id", group_id)])["SecurityGroupRules"]
        shown["zones"] = ec2.describe_availability_zones(Filters=[of("state", "available")])["AvailabilityZones"]
        return shown

    shown = refresh()
    assert refresh() == shown
    assert shown["enableDnsHostnames"] == {"Value": True} and shown["endpoint"][0]["VpcEndpointType"] == "Interface", shown
    assert zone in [one["ZoneName"] for one in shown["zones"]], shown["zones"]

    # aws_vpc_security_group_ingress_rule, which the page does not have: made, read, changed, read, removed by its id.
    one = {"IpProtocol": "tcp", "FromPort": 27017, "ToPort": 27017, "IpRanges": [{"CidrIp": network, "Description": "one by one"}]}
    made = ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[one])["SecurityGroupRules"]
    by_id = [made[0]["SecurityGroupRuleId"]]
    read = lambda: ec2.describe_security_group_rules(SecurityGroupRuleIds=by_id)["SecurityGroupRules"]
    assert len(made) == 1 and read() == read() and read()[0]["Description"] == "one by one" and not read()[0]["IsEgress"], read()
    changed = {"IpProtocol": "tcp", "FromPort": 27018, "ToPort": 27018, "CidrIpv4": network, "Description": "another"}
    ec2.modify_security_group_rules(
        GroupId=group_id, SecurityGroupRules=[{"SecurityGroupRuleId": by_id[0], "SecurityGroupRule": changed}])
    assert (read()[0]["FromPort"], read()[0]["Description"]) == (27018, "another"), read()
    assert ec2.revoke_security_group_ingress(GroupId=group_id, SecurityGroupRuleIds=by_id)["Return"] is True
    assert refresh() == shown

    # From the VPC: the machine's own address is in the quickstart's.
    subprocess.run(["ip", "route", "add", "local", network, "dev", "lo", "src", network.replace(".0.0/16", ".1.200"), "table", "local"], check=True)
    with pymongo.MongoClient(own[0], tlsCAFile="plgw-lab/ca.pem", serverSelectionTimeoutMS=30_000) as client:
        assert client.admin.command("ping")["ok"] == 1
        client.lab.terraform.insert_one({"_id": "by the example"})
        assert client.lab.terraform.find_one({})["_id"] == "by the example"
    with urllib.request.urlopen(f"{ADMIN}/v1/endpoints") as answer:
        assert endpoint in answer.read().decode()

    # destroy
    assert atlas("DELETE", f"{path}/{endpoint}")[0] == 202
    until("Atlas has it no longer", lambda: atlas("GET", f"{path}/{endpoint}")[0] == 404)
    until("every cluster is idle", idle)
    assert ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])["Unsuccessful"] == []
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    until("the endpoint is gone", lambda: not ec2.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"])
    ec2.delete_security_group(GroupId=group_id)
    ec2.delete_subnet(SubnetId=known["aws_subnet.app.id"])
    ec2.delete_vpc(VpcId=vpc)
    unused = example.blocks.keys() - example.used - {"uri"}
    assert not unused, f"blocks of the page that no call was made for: {unused}"
    print("terraform: 1 passed, 0 failed")


main()
