//! Rules of AWS's documentation, tested by requests on the wire.

use crate::api::fixture::{Gateway, element};
use crate::model::{ListenerPort, VpceId};

const VPC: &str = "vpc-0b3f1c9a7d2e84f56";
const SUBNET: &str = "subnet-0c1d2e3f4a5b60718";
const SERVICE: &str = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c";

impl Gateway {
    /// A response that must be a success.
    pub(super) async fn ok(&self, form: &str) -> String {
        let answer = self.ec2(form).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.text());
        answer.text()
    }

    /// The error code of a response that must be a refusal.
    pub(super) async fn code(&self, form: &str) -> String {
        let answer = self.ec2(form).await;
        assert!(answer.status.is_client_error(), "{form}: {}", answer.text());
        element(&answer.text(), "Code")
    }

    async fn group(&self, name: &str) -> String {
        let form = format!("Action=CreateSecurityGroup&VpcId={VPC}&GroupName={name}&GroupDescription=d");
        element(&self.ok(&form).await, "groupId")
    }
}

/// The contents of all elements with this tag.
fn elements<'x>(xml: &'x str, tag: &str) -> Vec<&'x str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect()
}

fn tcp(n: usize, ports: &str, source: &str) -> String {
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    format!(
        "&IpPermissions.{n}.IpProtocol=tcp&IpPermissions.{n}.FromPort={first}&IpPermissions.{n}.ToPort={last}\
         &IpPermissions.{n}.IpRanges.1.CidrIp={source}"
    )
}

#[tokio::test]
async fn a_rule_is_one_source_and_goes_where_it_was_granted() {
    let gateway = Gateway::start().await;
    let group = gateway.group("g").await;
    let (authorize, revoke) = (
        format!("Action=AuthorizeSecurityGroupIngress&GroupId={group}"),
        format!("Action=RevokeSecurityGroupIngress&GroupId={group}"),
    );
    let both = format!("{}&IpPermissions.1.IpRanges.2.CidrIp=10.2.0.0/16", tcp(1, "1024-1026", "10.1.0.0/16"));
    let granted = gateway.ok(&format!("{authorize}{both}")).await;
    let ids: Vec<String> = elements(&granted, "securityGroupRuleId").into_iter().map(str::to_owned).collect();
    assert_eq!(ids.len(), 2, "{granted}");
    assert_eq!(
        gateway.code(&format!("{authorize}{}", tcp(1, "1024-1026", "10.1.0.0/16"))).await,
        "InvalidPermission.Duplicate"
    );
    let described = gateway.ok(&format!("Action=DescribeSecurityGroups&GroupId.1={group}")).await;
    assert_eq!(elements(&described, "cidrIp"), ["10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"], "{described}");
    assert_eq!(elements(&described, "fromPort"), ["1024"], "merged by protocol and ports");
    // Rules that were authorized together are revoked separately, and vice versa.
    gateway.ok(&format!("{revoke}{}", tcp(1, "1024-1026", "10.1.0.0/16"))).await;
    assert_eq!(gateway.code(&format!("{revoke}{both}")).await, "InvalidPermission.NotFound", "nothing is revoked then");
    gateway.ok(&format!("{authorize}{}", tcp(1, "1024-1026", "10.1.0.0/16"))).await;
    let revoked = gateway.ok(&format!("{revoke}{both}")).await;
    assert_eq!(elements(&revoked, "securityGroupRuleId").len(), 2);
    let described =
        gateway.ok(&format!("Action=DescribeSecurityGroupRules&Filter.1.Name=group-id&Filter.1.Value.1={group}")).await;
    assert_eq!(elements(&described, "isEgress"), ["true"]);
    assert_eq!(
        gateway.code(&format!("{revoke}&SecurityGroupRuleId.1={}", ids[0])).await,
        "InvalidSecurityGroupRuleId.NotFound"
    );
}

/// A group's ingress rules reach the plan.
#[tokio::test]
async fn a_revoked_source_is_refused() {
    let gateway = Gateway::start().await;
    let group = gateway.group("g").await;
    let form = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}&SubnetId.1={SUBNET}\
         &SecurityGroupId.1={group}"
    );
    let endpoint: VpceId = element(&gateway.ok(&form).await, "vpcEndpointId").parse().expect("an id");
    let lets_in = |source: &str| {
        let rules = gateway.control.snapshot().endpoints[&endpoint].rules.ingress.clone();
        let port = ListenerPort::try_from(1024).expect("a port");
        rules.iter().any(|rule| rule.ports.contains(port) && rule.cidrs.contains(source.parse().expect("an address")))
    };
    let authorize = format!("Action=AuthorizeSecurityGroupIngress&GroupId={group}");
    gateway
        .ok(&format!("{authorize}{}&IpPermissions.1.IpRanges.2.CidrIp=10.2.0.0/16", tcp(1, "1024", "10.1.0.0/16")))
        .await;
    assert!(lets_in("10.1.0.1") && lets_in("10.2.0.1"));
    gateway.ok(&format!("Action=RevokeSecurityGroupIngress&GroupId={group}{}", tcp(1, "1024", "10.1.0.0/16"))).await;
    assert!(!lets_in("10.1.0.1") && lets_in("10.2.0.1"));
    // Rules for other protocols are stored, and admit no TCP.
    let udp = tcp(1, "1024", "10.3.0.0/16").replace("=tcp", "=UDP");
    let shown = gateway.ok(&format!("{authorize}{udp}")).await;
    assert_eq!(element(&shown, "ipProtocol"), "udp");
    assert!(!lets_in("10.3.0.1"));
    let id = element(&shown, "securityGroupRuleId");
    let modify = format!(
        "Action=ModifySecurityGroupRules&GroupId={group}&SecurityGroupRule.1.SecurityGroupRuleId={id}\
         &SecurityGroupRule.1.SecurityGroupRule.IpProtocol=6&SecurityGroupRule.1.SecurityGroupRule.FromPort=0\
         &SecurityGroupRule.1.SecurityGroupRule.ToPort=65535&SecurityGroupRule.1.SecurityGroupRule.CidrIpv4=10.3.7.7/16\
         &SecurityGroupRule.1.SecurityGroupRule.Description=all"
    );
    gateway.ok(&modify).await;
    assert!(lets_in("10.3.0.1"));
    let shown = gateway.ok(&format!("Action=DescribeSecurityGroupRules&SecurityGroupRuleId.1={id}")).await;
    let said = ["ipProtocol", "fromPort", "toPort", "cidrIpv4", "description"].map(|tag| element(&shown, tag));
    assert_eq!(said, ["tcp", "0", "65535", "10.3.0.0/16", "all"], "as it was written, with the network's own bits");
}

#[tokio::test]
async fn terraforms_first_calls_for_a_group_work() {
    let gateway = Gateway::start().await;
    let group = gateway.group("g").await;
    let revoke = format!(
        "Action=RevokeSecurityGroupEgress&GroupId={group}&IpPermissions.1.IpProtocol=-1&IpPermissions.1.FromPort=0\
         &IpPermissions.1.ToPort=0"
    );
    gateway.ok(&format!("{revoke}&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0")).await;
    let v6 = gateway.code(&format!("{revoke}&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0")).await;
    assert_eq!(v6, "InvalidPermission.NotFound", "a VPC without IPv6 has no such rule");
    let caller = gateway.ok("Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(element(&caller, "Account"), "123456789012");
    assert!(element(&caller, "Arn").starts_with("arn:aws:iam::123456789012:user/"));
    for table in ["DescribeNetworkAcls&Filter.2.Name=default", "DescribeRouteTables&Filter.2.Name=association.main"] {
        let form = format!("Action={table}&Filter.2.Value.1=true&Filter.1.Name=vpc-id&Filter.1.Value.1={VPC}");
        assert_eq!(elements(&gateway.ok(&form).await, "ownerId").len(), 1, "{table}");
    }
    gateway.ok("Action=DescribePrefixLists&Filter.1.Name=prefix-list-name&Filter.1.Value.1=x").await;
    let attribute = format!("Action=ModifySubnetAttribute&SubnetId={SUBNET}&MapPublicIpOnLaunch.Value=true");
    gateway.ok(&attribute).await;
    let subnet = gateway.ok(&format!("Action=DescribeSubnets&SubnetId.1={SUBNET}")).await;
    assert_eq!(element(&subnet, "mapPublicIpOnLaunch"), "true");
    assert_eq!(element(&subnet, "assignIpv6AddressOnCreation"), "false");
}

#[tokio::test]
async fn unsupported_parameters_are_refused() {
    let gateway = Gateway::start().await;
    let endpoint = element(&gateway.ok("Action=DescribeVpcEndpoints").await, "vpcEndpointId");
    let group = gateway.group("Mine").await;
    let authorize = format!("Action=AuthorizeSecurityGroupIngress&GroupId={group}");
    let create = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}");
    let zone_d = "Action=CreateSubnet&VpcId=vpc-0b3f1c9a7d2e84f56&CidrBlock=127.0.77.0/24&AvailabilityZoneId=use1-az4";
    let subnet_d = element(&gateway.ok(zone_d).await, "subnetId");
    let tags = |n: usize| (1..=n).map(|n| format!("&Tag.{n}.Key=k{n}&Tag.{n}.Value=v")).collect::<String>();
    let long = "k".repeat(129);
    for (form, code) in [
        ("Action=DescribeVpcs&Colour=red".to_owned(), "UnknownParameter"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0/16&InstanceTenancy=dedicated".to_owned(), "UnsupportedOperation"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0/16&Ipv6CidrBlock=2001:db8:1::/56&Ipv6Pool=p".to_owned(), "UnsupportedOperation"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0/16&Ipv4NetmaskLength=20".to_owned(), "UnsupportedOperation"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0/16&CidrBlocks=x".to_owned(), "UnknownParameter"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0/8".to_owned(), "InvalidVpc.Range"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0".to_owned(), "InvalidParameterValue"),
        (format!("Action=CreateSubnet&VpcId={VPC}&CidrBlock=127.0.78.0/29"), "InvalidSubnet.Range"),
        (format!("Action=CreateSubnet&VpcId={VPC}&CidrBlock=127.0.78.0/28&AvailabilityZone=us-east-1z"), "InvalidParameterValue"),
        (format!("Action=CreateSubnet&VpcId={VPC}&CidrBlock=127.0.78.0/28&Ipv6CidrBlock=2001:db8::/64"), "InvalidSubnet.Range"),
        ("Action=DescribeVpcs&DryRun=true".to_owned(), "DryRunOperation"),
        ("Action=DescribeAvailabilityZones&DryRun=true".to_owned(), "DryRunOperation"),
        (format!("{create}&SubnetId.1={subnet_d}"), "InvalidParameter"),
        (format!("{create}&SubnetConfiguration.1.SubnetId={SUBNET}&SubnetConfiguration.1.Ipv4=127.0.30.3"), "InvalidParameterValue"),
        (format!("{create}&SubnetConfiguration.1.SubnetId={SUBNET}&SubnetConfiguration.1.Ipv4=127.0.30.255"), "InvalidParameterValue"),
        (format!("{create}&IpAddressType=dualstack"), "InvalidParameter"),
        (format!("{create}&ServiceRegion=eu-west-1"), "InvalidServiceName"),
        (format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&AddRouteTableId.1=rtb-1"), "InvalidParameter"),
        (format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&DnsOptions.DnsRecordIpType=ipv6"), "InvalidParameter"),
        (format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&IpAddressType=ipv6"), "InvalidParameter"),
        ("Action=CreateSecurityGroup&GroupName=g&GroupDescription=d".to_owned(), "VPCIdNotSpecified"),
        (format!("Action=CreateSecurityGroup&VpcId={VPC}&GroupName=mINE&GroupDescription=d"), "InvalidGroup.Duplicate"),
        (format!("Action=CreateSecurityGroup&VpcId={VPC}&GroupName=default&GroupDescription=d"), "InvalidParameterValue"),
        (format!("{authorize}{}", tcp(1, "5", "10.0.0.1")), "InvalidParameterValue"),
        (format!("{authorize}&IpPermissions.1.IpProtocol=icmp&IpPermissions.1.FromPort=-1&IpPermissions.1.ToPort=8&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8"), "InvalidParameterValue"),
        (format!("{authorize}{}", tcp(1, "5", "::/0")), "InvalidParameterValue"),
        (format!("{authorize}{}", tcp(1, "7-5", "10.0.0.0/8")), "InvalidParameterValue"),
        (format!("{authorize}{}", tcp(1, "5-70000", "10.0.0.0/8")), "InvalidParameterValue"),
        (format!("{authorize}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=1"), "MissingParameter"),
        (format!("Action=CreateTags&ResourceId.1={VPC}{}", tags(51)), "TagLimitExceeded"),
        (format!("Action=CreateTags&ResourceId.1={VPC}&Tag.1.Key=aws:x"), "InvalidParameterValue"),
        (format!("Action=CreateTags&ResourceId.1={VPC}&Tag.1.Key={long}"), "InvalidParameterValue"),
        ("Action=CreateTags&ResourceId.1=x&Tag.1.Key=k".to_owned(), "InvalidID"),
        ("Action=CreateVpc&CidrBlock=10.0.0.0/16&TagSpecification.1.ResourceType=subnet&TagSpecification.1.Tag.1.Key=k".to_owned(), "InvalidParameterValue"),
        ("Action=DescribeVpcs&VpcId.1=vpc-0b3f1c9a7d2e84f56&MaxResults=5".to_owned(), "InvalidParameterCombination"),
    ] {
        assert_eq!(gateway.code(&form).await, code, "{form}");
    }
    let many: String = (0..61).map(|n| format!("&IpPermissions.1.IpRanges.{n}.CidrIp=10.{n}.0.0/16")).collect();
    let rest = "&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=1";
    assert_eq!(gateway.code(&format!("{authorize}{rest}{many}")).await, "RulesPerSecurityGroupLimitExceeded");
    let described = gateway.ok(&format!("Action=DescribeSecurityGroups&GroupId.1={group}")).await;
    assert_eq!(elements(&described, "cidrIp"), ["0.0.0.0/0"], "nothing that was refused was kept");
    let elsewhere =
        [("authorization", "AWS4-HMAC-SHA256 Credential=a/20260810/us-moon-1/ec2/aws4_request, Signature=x")];
    let refused = crate::api::client::Client::new(gateway.address)
        .send("POST", "/", &elsewhere, "Action=DescribeVpcs".to_owned())
        .await
        .expect("an answer");
    assert_eq!((refused.status.as_u16(), element(&refused.text(), "Code").as_str()), (403, "SignatureDoesNotMatch"));
}

#[tokio::test]
async fn tags_go_by_key_by_value_or_all_at_once() {
    let gateway = Gateway::start().await;
    let describe = format!("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={VPC}");
    gateway.ok(&format!("Action=CreateTags&ResourceId.1={VPC}&Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=b&Tag.2.Value=2&Tag.3.Key=c&Tag.3.Value=3")).await;
    gateway
        .ok(&format!("Action=DeleteTags&ResourceId.1={VPC}&Tag.1.Key=a&Tag.1.Value=9&Tag.2.Key=b&Tag.2.Value=2"))
        .await;
    assert_eq!(elements(&gateway.ok(&describe).await, "key"), ["a", "c"]);
    gateway.ok(&format!("Action=DeleteTags&ResourceId.1={VPC}&Tag.1.Key=a")).await;
    assert_eq!(elements(&gateway.ok(&describe).await, "key"), ["c"]);
    gateway.ok(&format!("Action=DeleteTags&ResourceId.1={VPC}")).await;
    assert_eq!(elements(&gateway.ok(&describe).await, "key"), Vec::<&str>::new());
}

/// AWS distinguishes malformed ids from unknown ones, and reports the malformed one first; ids of other clouds are
/// malformed.
#[tokio::test]
async fn malformed_and_unknown_ids_are_distinguished() {
    let gateway = Gateway::start().await;
    let google = "projects/p/global/networks/default";
    let azure = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe0";
    let forms = [
        ("DescribeVpcs", "VpcId.1", "vpc-", "InvalidVpcID", "InvalidVpcID"),
        ("DeleteVpc", "VpcId", "vpc-", "InvalidVpcID", "InvalidVpcID"),
        ("DescribeVpcAttribute&Attribute=enableDnsSupport", "VpcId", "vpc-", "InvalidVpcID", "InvalidVpcID"),
        ("DescribeSubnets", "SubnetId.1", "subnet-", "InvalidSubnetID", "InvalidSubnetID"),
        ("DeleteSubnet", "SubnetId", "subnet-", "InvalidSubnetID", "InvalidSubnetID"),
        ("DescribeSecurityGroups", "GroupId.1", "sg-", "InvalidGroupId", "InvalidGroup"),
        ("DeleteSecurityGroup", "GroupId", "sg-", "InvalidGroupId", "InvalidGroup"),
        (
            "DescribeSecurityGroupRules",
            "SecurityGroupRuleId.1",
            "sgr-",
            "InvalidSecurityGroupRuleId",
            "InvalidSecurityGroupRuleId",
        ),
        ("DescribeVpcEndpoints", "VpcEndpointId.1", "vpce-", "InvalidVpcEndpointId", "InvalidVpcEndpointId"),
        ("ModifyVpcEndpoint", "VpcEndpointId", "vpce-", "InvalidVpcEndpointId", "InvalidVpcEndpointId"),
        (
            "DescribeVpcEndpointServiceConfigurations",
            "ServiceId.1",
            "vpce-svc-",
            "InvalidVpcEndpointServiceId",
            "InvalidVpcEndpointServiceId",
        ),
        (
            "DescribeVpcEndpointServicePermissions",
            "ServiceId",
            "vpce-svc-",
            "InvalidVpcEndpointServiceId",
            "InvalidVpcEndpointServiceId",
        ),
        (
            "AcceptVpcEndpointConnections&VpcEndpointId.1=vpce-0123456789abcdef0",
            "ServiceId",
            "vpce-svc-",
            "InvalidVpcEndpointServiceId",
            "InvalidVpcEndpointServiceId",
        ),
        (
            "DescribeNetworkInterfaces",
            "NetworkInterfaceId.1",
            "eni-",
            "InvalidNetworkInterfaceId",
            "InvalidNetworkInterfaceID",
        ),
        ("DescribeRouteTables", "RouteTableId.1", "rtb-", "InvalidRouteTableId", "InvalidRouteTableID"),
        ("DescribeNetworkAcls", "NetworkAclId.1", "acl-", "InvalidNetworkAclId", "InvalidNetworkAclID"),
        ("DescribePrefixLists", "PrefixListId.1", "pl-", "InvalidPrefixListId", "InvalidPrefixListId"),
    ];
    for (action, name, prefix, malformed, missing) in forms {
        let other = if prefix == "vpc-" { "sg-" } else { "vpc-" };
        let one = format!("{prefix}0123456789abcdef0");
        let wrong = [
            one.replace("ef0", "e"),
            one.to_uppercase(),
            one.replace(prefix, other),
            format!("arn:aws:ec2:us-east-1:123456789012:x/{one}"),
            google.to_owned(),
            azure.to_owned(),
        ];
        for id in wrong {
            let form = format!("Action={action}&{name}={id}");
            assert_eq!(gateway.code(&form).await, format!("{malformed}.Malformed"), "{form}");
            if let Some(list) = name.strip_suffix(".1") {
                let form = format!("Action={action}&{name}={one}&{list}.2={id}");
                assert_eq!(gateway.code(&form).await, format!("{malformed}.Malformed"), "{form}");
            }
        }
        let form = format!("Action={action}&{name}={one}");
        assert_eq!(gateway.code(&form).await, format!("{missing}.NotFound"), "{form}");
    }
    let create = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}");
    for (form, code) in [
        (format!("{create}&SubnetId.1={google}"), "InvalidSubnetID.Malformed"),
        (format!("{create}&SecurityGroupId.1=vpc-0123456789abcdef0"), "InvalidGroupId.Malformed"),
        (format!("{create}&SecurityGroupId.1=sg-0123456789abcdef9"), "InvalidGroup.NotFound"),
        (format!("{create}&DnsOptions.PrivateDnsPreference=ALL_DOMAINS"), "UnsupportedOperation"),
        ("Action=CreateTags&ResourceId.1=vpc-xyz&Tag.1.Key=k".to_owned(), "InvalidID"),
        ("Action=CreateTags&ResourceId.1=vpc-0123456789abcdef0&Tag.1.Key=k".to_owned(), "InvalidVpcID.NotFound"),
        ("Action=CreateTags&ResourceId.1=rtb-0123456789abcdef0&Tag.1.Key=k".to_owned(), "UnsupportedOperation"),
    ] {
        assert_eq!(gateway.code(&form).await, code, "{form}");
    }
}

#[tokio::test]
async fn resources_of_another_region_are_not_found() {
    let gateway = Gateway::start().await;
    let group = gateway.group("g").await;
    let endpoint = element(&gateway.ok("Action=DescribeVpcEndpoints").await, "vpcEndpointId");
    for (form, code) in [
        (format!("DeleteVpc&VpcId={VPC}"), "InvalidVpcID.NotFound"),
        (format!("ModifyVpcAttribute&VpcId={VPC}&EnableDnsSupport.Value=false"), "InvalidVpcID.NotFound"),
        (format!("DescribeVpcAttribute&VpcId={VPC}&Attribute=enableDnsSupport"), "InvalidVpcID.NotFound"),
        (format!("DeleteSubnet&SubnetId={SUBNET}"), "InvalidSubnetID.NotFound"),
        (format!("CreateSubnet&VpcId={VPC}&CidrBlock=127.0.78.0/28"), "InvalidVpcID.NotFound"),
        (format!("CreateSecurityGroup&VpcId={VPC}&GroupName=h&GroupDescription=d"), "InvalidVpcID.NotFound"),
        (format!("DeleteSecurityGroup&GroupId={group}"), "InvalidGroup.NotFound"),
        (
            format!("AuthorizeSecurityGroupIngress&GroupId={group}{}", tcp(1, "5", "10.0.0.0/8")),
            "InvalidGroup.NotFound",
        ),
        (
            format!("ModifyVpcEndpoint&VpcEndpointId={endpoint}&RemoveSubnetId.1={SUBNET}"),
            "InvalidVpcEndpointId.NotFound",
        ),
        (format!("CreateTags&ResourceId.1={VPC}&Tag.1.Key=k"), "InvalidVpcID.NotFound"),
        (
            format!("AcceptVpcEndpointConnections&ServiceId=vpce-svc-02863655456245e5c&VpcEndpointId.1={endpoint}"),
            "InvalidVpcEndpointServiceId.NotFound",
        ),
    ] {
        let answer = gateway.ec2_in("eu-west-1", &format!("Action={form}")).await;
        assert_eq!((answer.status.as_u16(), element(&answer.text(), "Code").as_str()), (400, code), "{form}");
    }
    let deleted = gateway.ec2_in("eu-west-1", &format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}")).await;
    assert_eq!(
        (deleted.status.as_u16(), element(&deleted.text(), "code").as_str()),
        (200, "InvalidVpcEndpoint.NotFound")
    );
    gateway.ok(&format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={endpoint}")).await;
}

#[tokio::test]
async fn pages_are_as_long_as_the_action_allows_and_only_where_it_has_pages() {
    let gateway = Gateway::start().await;
    for n in 0..7 {
        gateway.group(&format!("g{n}")).await;
    }
    let mut seen: Vec<String> = Vec::new();
    let mut token = String::new();
    loop {
        let page = gateway.ok(&format!("Action=DescribeSecurityGroups&MaxResults=5&NextToken={token}")).await;
        let ids: Vec<&str> = elements(&page, "groupName");
        assert!(ids.len() <= 5, "{page}");
        seen.extend(ids.into_iter().map(str::to_owned));
        token = element(&page, "nextToken");
        if token.is_empty() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["default", "g0", "g1", "g2", "g3", "g4", "g5", "g6"]);
    for (form, code) in [
        ("DescribeVpcs&MaxResults=4", "InvalidParameterValue"),
        ("DescribeVpcs&MaxResults=1001", "InvalidParameterValue"),
        ("DescribeRouteTables&MaxResults=101", "InvalidParameterValue"),
        ("DescribeVpcEndpointAssociations&MaxResults=101", "InvalidParameterValue"),
        ("DescribeVpcEndpoints&MaxResults=0", "InvalidParameterValue"),
        ("DescribeVpcs&MaxResults=many", "InvalidParameterValue"),
        ("DescribeVpcs&NextToken=%20", "InvalidNextToken"),
        ("DescribeRegions&MaxResults=5", "UnknownParameter"),
        ("DescribeAvailabilityZones&NextToken=x", "UnknownParameter"),
    ] {
        assert_eq!(gateway.code(&format!("Action={form}")).await, code, "{form}");
    }
    gateway.ok("Action=DescribeVpcEndpoints&MaxResults=5000").await;
}

/// Calls in the order of the tools.
#[tokio::test]
async fn an_endpoint_that_is_going_is_not_changed_and_a_group_is_carried_once() {
    let gateway = Gateway::start().await;
    let group = gateway.group("g").await;
    let form = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}&SubnetId.1={SUBNET}\
         &SecurityGroupId.1={group}&SecurityGroupId.2={group}"
    );
    let made = gateway.ok(&form).await;
    assert_eq!(elements(&made, "groupId"), [group.as_str()]);
    let endpoint = element(&made, "vpcEndpointId");
    assert_eq!(gateway.code(&format!("Action=DeleteSecurityGroup&GroupId={group}")).await, "DependencyViolation");
    gateway.control.set_pace(crate::control::Pace::Frozen).await.expect("control is there");
    gateway.ok(&format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}")).await;
    let change = format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&RemoveSubnetId.1={SUBNET}");
    assert_eq!(gateway.code(&change).await, "IncorrectState");
    let default = element(
        &gateway.ok("Action=DescribeSecurityGroups&Filter.1.Name=group-name&Filter.1.Value.1=default").await,
        "groupId",
    );
    assert_eq!(gateway.code(&format!("Action=DeleteSecurityGroup&GroupId={default}")).await, "CannotDelete");
    let both = format!("Action=DeleteSecurityGroup&GroupId={group}&GroupName=g");
    assert_eq!(gateway.code(&both).await, "InvalidParameterCombination");
}
