//! A33: IPv6 of VPCs and subnets, and the IP address types of endpoints, by requests on the wire.

use std::net::IpAddr;

use crate::api::fixture::{Gateway, element};
use crate::config;
use crate::model::{IpAddressType, VpceId};

const SERVICE: &str = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c";

/// The quickstart's inventory, with a service that supports both address families.
async fn gateway() -> Gateway {
    let mut desired = config::quickstart().desired;
    let service = &mut desired.projects[0].services[0];
    service.ip_address_types = IpAddressType::Dualstack;
    let ipv6 = "fd00:b::/56".parse().expect("a network");
    service.cidrs = service.cidrs.iter().copied().chain([ipv6]).collect();
    Gateway::start_with(desired).await
}

/// Creates a VPC with IPv6 and a dual-stack subnet in it; returns their ids, and the subnet's network.
async fn vpc(gateway: &Gateway) -> (String, String, String) {
    let made = gateway.ok("Action=CreateVpc&CidrBlock=10.7.0.0/16&AmazonProvidedIpv6CidrBlock=true").await;
    let (vpc, net) = (element(&made, "vpcId"), element(&made, "ipv6CidrBlock"));
    assert!(net.starts_with("2001:db8:") && net.ends_with("::/56"), "{made}");
    let net = net.replace("::/56", "::/64");
    let form = format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.7.1.0/24&Ipv6CidrBlock={net}");
    let made = gateway.ok(&form).await;
    assert_eq!(element(&made, "ipv6CidrBlock"), net, "{made}");
    assert_eq!(element(&made, "ipv6Native"), "false");
    (vpc, element(&made, "subnetId"), net)
}

#[tokio::test]
async fn a_vpcs_ipv6_network_comes_and_goes_with_its_association() {
    let gateway = gateway().await;
    let made = gateway.ok("Action=CreateVpc&CidrBlock=10.8.0.0/16").await;
    assert_eq!(element(&made, "ipv6CidrBlock"), "", "{made}");
    let vpc = element(&made, "vpcId");
    let associate = format!("Action=AssociateVpcCidrBlock&VpcId={vpc}&AmazonProvidedIpv6CidrBlock=true");
    let made = gateway.ok(&associate).await;
    let (id, net) = (element(&made, "associationId"), element(&made, "ipv6CidrBlock"));
    assert_eq!(element(&made, "state"), "associating");
    let shown = gateway
        .ok(&format!(
            "Action=DescribeVpcs&Filter.1.Name=ipv6-cidr-block-association.ipv6-cidr-block&Filter.1.Value.1={net}"
        ))
        .await;
    assert_eq!((element(&shown, "vpcId"), element(&shown, "cidrBlock")), (vpc.clone(), "10.8.0.0/16".to_owned()));
    assert!(shown.contains(&id) && shown.contains("<ipv6Pool>Amazon</ipv6Pool>"), "{shown}");
    // Unrestricted egress applies to both families from now on.
    let groups =
        gateway.ok(&format!("Action=DescribeSecurityGroups&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}")).await;
    assert!(groups.contains("<cidrIpv6>::/0</cidrIpv6>"), "{groups}");
    let routes = gateway.ok(&format!("Action=DescribeRouteTables&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}")).await;
    assert_eq!(element(&routes, "destinationIpv6CidrBlock"), net);

    let part = net.replace("::/56", "::/64");
    let subnet = gateway.ok(&format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.8.1.0/24")).await;
    let subnet = element(&subnet, "subnetId");
    let made = gateway.ok(&format!("Action=AssociateSubnetCidrBlock&SubnetId={subnet}&Ipv6CidrBlock={part}")).await;
    let in_subnet = element(&made, "associationId");
    assert_eq!(
        gateway.code(&format!("Action=DisassociateVpcCidrBlock&AssociationId={id}")).await,
        "DependencyViolation"
    );
    gateway.ok(&format!("Action=ModifySubnetAttribute&SubnetId={subnet}&AssignIpv6AddressOnCreation.Value=true")).await;
    let shown = gateway.ok(&format!("Action=DescribeSubnets&SubnetId.1={subnet}")).await;
    assert_eq!(element(&shown, "assignIpv6AddressOnCreation"), "true");
    for (form, code) in [
        (
            format!("DisassociateSubnetCidrBlock&AssociationId={in_subnet}"),
            "InvalidSubnetCidrBlockAssociationID.NotFound",
        ),
        (format!("DisassociateVpcCidrBlock&AssociationId={id}"), "InvalidVpcCidrBlockAssociationIdError.NotFound"),
    ] {
        let answer = gateway.ec2_in("eu-west-1", &format!("Action={form}")).await;
        assert_eq!((answer.status.as_u16(), element(&answer.text(), "Code").as_str()), (400, code), "{form}");
    }
    gateway.ok(&format!("Action=DisassociateSubnetCidrBlock&AssociationId={in_subnet}")).await;
    gateway.ok(&format!("Action=DisassociateVpcCidrBlock&AssociationId={id}")).await;
    let shown = gateway.ok(&format!("Action=DescribeVpcs&VpcId.1={vpc}")).await;
    assert!(!shown.contains("2001:db8:"), "{shown}");
    for (form, code) in [
        (
            format!("Action=DisassociateVpcCidrBlock&AssociationId={id}"),
            "InvalidVpcCidrBlockAssociationIdError.NotFound",
        ),
        (
            format!("Action=DisassociateSubnetCidrBlock&AssociationId={in_subnet}"),
            "InvalidSubnetCidrBlockAssociationID.NotFound",
        ),
        (format!("Action=AssociateVpcCidrBlock&VpcId={vpc}&CidrBlock=10.9.0.0/16"), "UnsupportedOperation"),
        (format!("Action=AssociateVpcCidrBlock&VpcId={vpc}&Ipv6Pool=ipv6pool-ec2-1"), "UnsupportedOperation"),
        (
            format!("Action=ModifySubnetAttribute&SubnetId={subnet}&AssignIpv6AddressOnCreation.Value=true"),
            "InvalidParameterValue",
        ),
        (
            format!("Action=AssociateSubnetCidrBlock&SubnetId={subnet}&Ipv6CidrBlock=2001:db8::/65"),
            "InvalidSubnet.Range",
        ),
        (
            format!("Action=AssociateSubnetCidrBlock&SubnetId={subnet}&Ipv6CidrBlock=2001:db9::/64"),
            "InvalidSubnet.Range",
        ),
        (format!("Action=CreateSubnet&VpcId={vpc}&Ipv6Native=true"), "MissingParameter"),
    ] {
        assert_eq!(gateway.code(&form).await, code, "{form}");
    }
    for _ in 0..5 {
        gateway.ok(&associate).await;
    }
    assert_eq!(gateway.code(&associate).await, "CidrLimitExceeded");
}

#[tokio::test]
async fn a_dual_stack_endpoint_has_both_addresses_on_each_interface() {
    let gateway = gateway().await;
    let (vpc, subnet, net) = vpc(&gateway).await;
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={vpc}&ServiceName={SERVICE}&SubnetId.1={subnet}"
    );
    let made = gateway.ok(&format!("{create}&IpAddressType=dualstack")).await;
    let said = ["ipAddressType", "dnsRecordIpType"].map(|tag| element(&made, tag));
    assert_eq!(said, ["dualstack", "dualstack"]);
    let id = element(&made, "vpcEndpointId");
    let endpoint: VpceId = id.parse().expect("an id");
    let interfaces =
        gateway.ok(&format!("Action=DescribeNetworkInterfaces&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}")).await;
    assert_eq!(interfaces.matches("<networkInterfaceId>").count(), 1, "{interfaces}");
    assert_eq!(element(&interfaces, "privateIpAddress"), "10.7.1.4");
    assert_eq!(element(&interfaces, "ipv6Address"), net.replace("::/64", "::4"));
    assert_eq!(element(&interfaces, "denyAllIgwTraffic"), "true");
    let shown = |form: String| {
        let gateway = &gateway;
        async move { element(&gateway.ok(&form).await, "vpcEndpointId") }
    };
    let by_type =
        |kind: &str| format!("Action=DescribeVpcEndpoints&Filter.1.Name=ip-address-type&Filter.1.Value.1={kind}");
    assert_eq!(shown(format!("{}&Filter.2.Name=vpc-id&Filter.2.Value.1={vpc}", by_type("dualstack"))).await, id);

    let ips = || -> Vec<IpAddr> {
        let snapshot = gateway.control.snapshot();
        snapshot.endpoints[&endpoint].addresses.iter().map(|address| address.ip).collect()
    };
    assert_eq!(ips().len(), 2);
    let modify = format!("Action=ModifyVpcEndpoint&VpcEndpointId={id}");
    for (more, addresses, records) in [
        ("&DnsOptions.DnsRecordIpType=service-defined", 2, "service-defined"),
        ("&IpAddressType=ipv4", 1, "ipv4"),
        ("&IpAddressType=dualstack", 2, "dualstack"),
        ("&DnsOptions.DnsRecordIpType=ipv6", 2, "ipv6"),
    ] {
        gateway.ok(&format!("{modify}{more}")).await;
        assert_eq!(ips().len(), addresses, "{more}");
        let shown = gateway.ok(&format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={id}")).await;
        assert_eq!(element(&shown, "dnsRecordIpType"), records, "{more}");
    }
    let ipv6 = net.replace("::/64", "::77");
    let at = |ips: &str| format!("{modify}&SubnetConfiguration.1.SubnetId={subnet}{ips}");
    gateway.ok(&at(&format!("&SubnetConfiguration.1.Ipv4=10.7.1.77&SubnetConfiguration.1.Ipv6={ipv6}"))).await;
    assert_eq!(ips(), ["10.7.1.77".parse::<IpAddr>().expect("one"), ipv6.parse().expect("one")]);
    let reserved = net.replace("::/64", "::3");
    for (form, code) in [
        (at("&SubnetConfiguration.1.Ipv4=10.7.1.78"), "InvalidParameter"),
        (
            at(&format!("&SubnetConfiguration.1.Ipv4=10.7.1.78&SubnetConfiguration.1.Ipv6={reserved}")),
            "InvalidParameterValue",
        ),
        (format!("{modify}&IpAddressType=ipv6"), "InvalidParameter"),
        (format!("{modify}&IpAddressType=ipv5"), "InvalidParameterValue"),
        (format!("{modify}&DnsOptions.DnsRecordIpType=all"), "InvalidParameterValue"),
        (format!("{create}&IpAddressType=ipv4&DnsOptions.DnsRecordIpType=ipv6"), "InvalidParameter"),
        (format!("{create}&IpAddressType=ipv6"), "InvalidParameter"),
    ] {
        assert_eq!(gateway.code(&form).await, code, "{form}");
    }
    let association =
        element(&gateway.ok(&format!("Action=DescribeSubnets&SubnetId.1={subnet}")).await, "associationId");
    let form = format!("Action=DisassociateSubnetCidrBlock&AssociationId={association}");
    assert_eq!(gateway.code(&form).await, "DependencyViolation");
}

#[tokio::test]
async fn a_network_of_a_used_pool_is_refused_and_changes_continue() {
    let mut desired = config::quickstart().desired;
    let vpc = desired.vpcs.values_mut().next().expect("a VPC");
    let pool = "2001:db8::/32".parse().expect("a network");
    vpc.on_premises = vpc.on_premises.iter().copied().chain([pool]).collect();
    let gateway = Gateway::start_with(desired).await;
    let create = "Action=CreateVpc&CidrBlock=10.7.0.0/16&AmazonProvidedIpv6CidrBlock=true";
    let answer = gateway.ask("POST", "/", create).await;
    assert!(answer.status.as_u16() == 400 && answer.text().contains("there is no free /56"), "{}", answer.text());
    gateway.ok("Action=CreateVpc&CidrBlock=10.7.0.0/16").await;
}

#[tokio::test]
async fn an_ipv6_endpoint_is_in_ipv6_only_subnets() {
    let gateway = gateway().await;
    let (vpc, _, net) = vpc(&gateway).await;
    let first: ipnet::Ipv6Net = net.parse().expect("a network");
    let native = ipnet::Ipv6Net::new_assert((first.network().to_bits() | 1 << 64).into(), 64).to_string();
    let made = gateway.ok(&format!("Action=CreateSubnet&VpcId={vpc}&Ipv6Native=true&Ipv6CidrBlock={native}")).await;
    assert_eq!(
        (element(&made, "ipv6Native"), element(&made, "cidrBlock")),
        ("true".to_owned(), String::new()),
        "{made}"
    );
    let subnet = element(&made, "subnetId");
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={vpc}&ServiceName={SERVICE}&SubnetId.1={subnet}"
    );
    assert_eq!(gateway.code(&create).await, "InvalidParameter", "an IPv4 address is not to be had there");
    let made = gateway.ok(&format!("{create}&IpAddressType=ipv6")).await;
    assert_eq!(element(&made, "dnsRecordIpType"), "ipv6");
    let interfaces = gateway
        .ok(&format!("Action=DescribeNetworkInterfaces&Filter.1.Name=subnet-id&Filter.1.Value.1={subnet}"))
        .await;
    assert_eq!(element(&interfaces, "ipv6Address"), native.replace("::/64", "::4"));
    assert!(!interfaces.contains("<privateIpAddress>"), "{interfaces}");
}

#[tokio::test]
async fn a_service_lists_the_families_that_it_supports() {
    let gateway = gateway().await;
    let shown = gateway.ok(&format!("Action=DescribeVpcEndpointServices&ServiceName.1={SERVICE}")).await;
    assert!(
        shown.contains("<supportedIpAddressTypeSet><item>ipv4</item><item>ipv6</item></supportedIpAddressTypeSet>"),
        "{shown}"
    );
    let by_ipv6 = "Action=DescribeVpcEndpointServices&Filter.1.Name=supported-ip-address-types&Filter.1.Value.1=ipv6";
    assert_eq!(element(&gateway.ok(by_ipv6).await, "serviceName"), SERVICE);
}
