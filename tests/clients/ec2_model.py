"""Amazon's own description of EC2's API, as botocore ships it, against the gateway: of every call that is served, each parameter
is obeyed or refused, and every documented filter is known. Requests are sent with `DryRun`, so nothing is changed."""

import http.client
import re
import urllib.parse

import lab

VPC, SUBNET, GROUP = "vpc-0b3f1c9a7d2e84f56", "subnet-0c1d2e3f4a5b60718", "sg-0a1b2c3d4e5f60718"
ENDPOINT, SERVICE = "vpce-024f5b57108c8d3ed", "vpce-svc-02863655456245e5c"
NAME = f"com.amazonaws.vpce.us-east-1.{SERVICE}"
RULE_ID, POLICY = "sgr-0123456789abcdef0", '{"Statement": []}'

# A page, and one that continues where another ended.
PAGE = {"MaxResults": "5", "NextToken": "YQ"}
TAG = {"Tag.1.Key": "k", "Tag.1.Value": "v"}


def tags(kind):
    return {"TagSpecification.1.ResourceType": kind, **{f"TagSpecification.1.{name}": value for name, value in TAG.items()}}


def rules(**more):
    """A rule of every kind of far side, and one in the short form."""
    rule = {"IpProtocol": "tcp", "FromPort": "1", "ToPort": "2"}
    for name, field, value in (
        ("Groups", "GroupId", GROUP), ("IpRanges", "CidrIp", "10.0.0.0/8"), ("Ipv6Ranges", "CidrIpv6", "fd00::/8"),
        ("PrefixListIds", "PrefixListId", "pl-0123456789abcdef0"),
    ):
        rule.update({f"{name}.1.{field}": value, f"{name}.1.Description": "d"})
    rule.update({"Groups.1.UserId": "123456789012", "Groups.1.GroupName": "default"})
    short = {"IpProtocol": "tcp", "FromPort": "3", "ToPort": "4", "CidrIp": "11.0.0.0/8"}
    return {"GroupId": GROUP, **{f"IpPermissions.1.{name}": value for name, value in rule.items()}, **short, **more}


def described(**more):
    short = {"IpProtocol", "FromPort", "ToPort", "CidrIp"}
    by_id = {"SecurityGroupRuleDescription.1.SecurityGroupRuleId": RULE_ID, "SecurityGroupRuleDescription.1.Description": "d"}
    return {**{name: value for name, value in rules().items() if name not in short}, **by_id, **more}


# Every served call with all supported parameters; several where they exclude each other.
OBEYED = {
    "AcceptVpcEndpointConnections": [{"ServiceId": SERVICE, "VpcEndpointId.1": ENDPOINT}],
    "AssociateSubnetCidrBlock": [{"SubnetId": SUBNET, "Ipv6CidrBlock": "2001:db8::/64"}],
    "AssociateVpcCidrBlock": [{"VpcId": VPC, "AmazonProvidedIpv6CidrBlock": "true"}],
    "AuthorizeSecurityGroupEgress": [rules(**tags("security-group-rule"))],
    "AuthorizeSecurityGroupIngress": [rules(**tags("security-group-rule"))],
    "CreateSecurityGroup": [{"GroupName": "n", "GroupDescription": "d", "VpcId": VPC, **tags("security-group")}],
    "CreateSubnet": [
        {
            "VpcId": VPC, "CidrBlock": "127.0.9.0/24", "Ipv6CidrBlock": "2001:db8::/64", "Ipv6Native": "false",
            "AvailabilityZone": "us-east-1a", **tags("subnet"),
        },
        {"VpcId": VPC, "CidrBlock": "127.0.9.0/24", "AvailabilityZoneId": "use1-az1"},
    ],
    "CreateTags": [{"ResourceId.1": VPC, **TAG}],
    "CreateVpc": [
        {"CidrBlock": "127.60.0.0/16", "InstanceTenancy": "default", "AmazonProvidedIpv6CidrBlock": "false", **tags("vpc")},
    ],
    "CreateVpcEndpoint": [
        {
            "VpcEndpointType": "Interface", "VpcId": VPC, "ServiceName": NAME, "ServiceRegion": "us-east-1",
            "PolicyDocument": POLICY, "SubnetId.1": SUBNET, "SecurityGroupId.1": GROUP, "IpAddressType": "ipv4",
            "DnsOptions.DnsRecordIpType": "ipv4", "DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint": "false",
            "ClientToken": "t", "PrivateDnsEnabled": "false", "SubnetConfiguration.1.SubnetId": SUBNET,
            "SubnetConfiguration.1.Ipv4": "127.0.30.77", "SubnetConfiguration.1.Ipv6": "2001:db8::5", **tags("vpc-endpoint"),
        },
    ],
    "DeleteSecurityGroup": [{"GroupId": GROUP}],
    "DeleteSubnet": [{"SubnetId": SUBNET}],
    "DeleteTags": [{"ResourceId.1": VPC, **TAG}],
    "DeleteVpc": [{"VpcId": VPC}],
    "DeleteVpcEndpoints": [{"VpcEndpointId.1": ENDPOINT}],
    "DescribeAccountAttributes": [{"AttributeName.1": "default-vpc"}],
    "DescribeAvailabilityZones": [{"ZoneName.1": "us-east-1a", "ZoneId.1": "use1-az1", "AllAvailabilityZones": "true"}],
    "DescribeNetworkAcls": [{}, PAGE],
    "DescribeNetworkInterfaces": [{"IncludeManagedResources": "false", **PAGE}],
    "DescribePrefixLists": [PAGE],
    "DescribeRegions": [{"RegionName.1": "us-east-1", "AllRegions": "true"}],
    "DescribeRouteTables": [{}, PAGE],
    "DescribeSecurityGroupRules": [PAGE],
    "DescribeSecurityGroups": [{"GroupId.1": GROUP}, PAGE],
    "DescribeSubnets": [{"SubnetId.1": SUBNET}, PAGE],
    "DescribeTags": [PAGE],
    "DescribeVpcAttribute": [{"VpcId": VPC, "Attribute": "enableDnsSupport"}],
    "DescribeVpcEndpointAssociations": [{"VpcEndpointId.1": ENDPOINT, **PAGE}],
    "DescribeVpcEndpointConnections": [PAGE],
    "DescribeVpcEndpointServiceConfigurations": [PAGE],
    "DescribeVpcEndpointServices": [{"ServiceName.1": NAME, "ServiceRegion.1": "us-east-1"}, PAGE],
    "DescribeVpcEndpoints": [{"VpcEndpointId.1": ENDPOINT}, PAGE],
    "DescribeVpcs": [{"VpcId.1": VPC}, PAGE],
    "DisassociateSubnetCidrBlock": [{"AssociationId": "subnet-cidr-assoc-0123456789abcdef0"}],
    "DisassociateVpcCidrBlock": [{"AssociationId": "vpc-cidr-assoc-0123456789abcdef0"}],
    "ModifySecurityGroupRules": [
        {
            "GroupId": GROUP, "SecurityGroupRule.1.SecurityGroupRuleId": RULE_ID,
            **{f"SecurityGroupRule.1.SecurityGroupRule.{name}": value for name, value in (
                ("IpProtocol", "tcp"), ("FromPort", "1"), ("ToPort", "2"), ("Description", "d"), peer)},
        }
        for peer in (
            ("CidrIpv4", "10.0.0.0/8"), ("CidrIpv6", "fd00::/8"), ("PrefixListId", "pl-0123456789abcdef0"),
            ("ReferencedGroupId", GROUP))
    ],
    "ModifySubnetAttribute": [
        {"SubnetId": SUBNET, name: value}
        for name, value in (
            ("MapPublicIpOnLaunch.Value", "true"), ("EnableDns64.Value", "true"),
            ("EnableResourceNameDnsARecordOnLaunch.Value", "true"), ("EnableResourceNameDnsAAAARecordOnLaunch.Value", "true"),
            ("PrivateDnsHostnameTypeOnLaunch", "ip-name"), ("AssignIpv6AddressOnCreation.Value", "false"),
            ("MapCustomerOwnedIpOnLaunch.Value", "false"), ("DisableLniAtDeviceIndex.Value", "true"))
    ],
    "ModifyVpcAttribute": [
        {"VpcId": VPC, f"{name}.Value": "true"}
        for name in ("EnableDnsSupport", "EnableDnsHostnames", "EnableNetworkAddressUsageMetrics")
    ],
    "ModifyVpcEndpoint": [
        {
            "VpcEndpointId": ENDPOINT, "PolicyDocument": POLICY, "AddSubnetId.1": SUBNET, "RemoveSubnetId.1": SUBNET,
            "AddSecurityGroupId.1": GROUP, "RemoveSecurityGroupId.1": GROUP, "IpAddressType": "ipv4",
            "DnsOptions.DnsRecordIpType": "ipv4", "DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint": "false",
            "PrivateDnsEnabled": "false", "SubnetConfiguration.1.SubnetId": SUBNET, "SubnetConfiguration.1.Ipv4": "127.0.30.77",
            "SubnetConfiguration.1.Ipv6": "2001:db8::5",
        },
        {"VpcEndpointId": ENDPOINT, "ResetPolicy": "true"},
    ],
    "RejectVpcEndpointConnections": [{"ServiceId": SERVICE, "VpcEndpointId.1": ENDPOINT}],
    "RevokeSecurityGroupEgress": [rules(**{"SecurityGroupRuleId.1": RULE_ID})],
    "RevokeSecurityGroupIngress": [rules(**{"SecurityGroupRuleId.1": RULE_ID})],
    "UpdateSecurityGroupRuleDescriptionsEgress": [described()],
    "UpdateSecurityGroupRuleDescriptionsIngress": [described()],
}
# The caller has no services to show.
NOTHING_THERE = "DescribeVpcEndpointServicePermissions"


def setup():
    try:
        import botocore  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error


def ec2():
    """Sends one request: its status, and the code of an error."""
    gateway = lab.quickstart("--state-in-memory")
    connection = http.client.HTTPConnection(*lab.ADMIN, timeout=lab.SOON)
    scope = "AWS4-HMAC-SHA256 Credential=a/20260810/us-east-1/ec2/aws4_request, Signature=x"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": scope}

    def send(action, **parameters):
        form = urllib.parse.urlencode({"Action": action, "Version": "2016-11-15", **parameters})
        connection.request("POST", "/", form, headers)
        answer = connection.getresponse()
        code = re.search(r"<Code>(.*?)</Code>", answer.read().decode())
        return answer.status, code and code[1]

    yield send
    connection.close()
    assert gateway.stop() == 0, gateway.tail()


def model():
    import botocore.loaders

    yield botocore.loaders.Loader().load_service_model("ec2", "service-2")


def wire(name, member):
    """How EC2's protocol writes a member."""
    location = member.get("locationName", name)
    return member.get("queryName", location[0].upper() + location[1:])


def leaves(shapes, shape, at=""):
    """The parameters of a call as the wire has them, the first of each list, with their shapes; filters apart."""
    of = shapes[shape]
    if of["type"] == "structure":
        for name, member in of["members"].items():
            if wire(name, member) not in ("Filter", "DryRun"):
                yield from leaves(shapes, member["shape"], f"{at}.{wire(name, member)}".lstrip("."))
    elif of["type"] == "list":
        yield from leaves(shapes, of["member"]["shape"], f"{at}.1")
    else:
        yield at, of


def wrong(name, shape):
    """A value that the parameter can't have; None for texts that may say anything, and for ids that are only looked up."""
    last = name.removesuffix(".1").rpartition(".")[2]
    if shape["type"] == "boolean":
        return "maybe"
    if shape["type"] == "integer" or "enum" in shape or "Cidr" in last or last.endswith("Id") and last != "AssociationId":
        return "nonsense"
    return None


def refused(answer):
    status, code = answer
    return status == 400 and code != "UnknownParameter"


def test_the_calls_of_the_model_that_are_served_are_those_that_are_checked_here(ec2, model):
    """A27."""
    unserved = ("InvalidAction", "UnsupportedOperation")
    served = {action for action in model["operations"] if ec2(action, DryRun="true")[1] not in unserved}
    assert served == {*OBEYED, NOTHING_THERE}, served ^ {*OBEYED, NOTHING_THERE}


def test_every_parameter_of_the_model_is_applied_or_refused(ec2, model):
    """A27: none is accepted and dropped, and none that Amazon documents is called unknown."""
    checked = 0
    for action, requests in OBEYED.items():
        known = dict(leaves(model["shapes"], model["operations"][action]["input"]["shape"]))
        for good in requests:
            assert good.keys() <= known.keys(), (action, good.keys() - known.keys())
            assert ec2(action, DryRun="true", **good) == (412, "DryRunOperation"), (action, good, ec2(action, DryRun="true", **good))
        for name, shape in known.items():
            with_it = [good for good in requests if name in good]
            value = wrong(name, shape) if with_it else {"boolean": "true", "integer": "1"}.get(shape["type"], (shape.get("enum") or ["x"])[-1])
            if value is not None:
                request = {**(with_it or requests)[0], name: value}
                answer = ec2(action, DryRun="true", **request)
                assert refused(answer), (action, name, value, answer)
                checked += 1
    assert checked > 200, checked


def test_exactly_the_filters_of_the_model_are_supported(ec2, model):
    """A27."""
    checked = 0
    for action in OBEYED:
        members = model["shapes"][model["operations"][action]["input"]["shape"]]["members"]
        documentation = members.get("Filters", {}).get("documentation", "")
        for name in re.findall(r"<li> <p> <code>([^<]+)</code>", documentation):
            name = name.replace("tag:<key>", "tag:k") if name != "tag" else "tag:k"
            answer = ec2(action, **{"Filter.1.Name": name, "Filter.1.Value.1": "sg-0123456789abcdef0"})
            assert answer == (200, None), (action, name, answer)
            checked += 1
        if documentation:
            answer = ec2(action, **{"Filter.1.Name": "colour", "Filter.1.Value.1": "red"})
            assert answer == (400, "InvalidParameterValue"), (action, answer)
    assert checked > 150, checked


if __name__ == "__main__":
    lab.main(globals())
