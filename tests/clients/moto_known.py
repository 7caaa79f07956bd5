"""moto's tests of served calls that the gateway does not pass, and why."""

NO_DEFAULT_VPC = "the lab's account has no default VPC, as accounts may: without VpcId it is VPCIdNotSpecified"
NO_SUCH_VPC = "moto takes VPCs that do not exist; AWS does not"
RANDOM = "the test makes values that AWS refuses (a port range that ends before it starts, bits behind a prefix)"
MALFORMED = "moto calls an id that is malformed missing; AWS tells the two apart"
NO_GATEWAY_ENDPOINTS = "gateway endpoints, and prefix lists for them, are not here"
ZONES = "moto takes zones that the region does not have, or an account's own names for zone ids; here a is az1"
REGIONS = "Atlas has no private endpoints there"
ORDER = "the order of a list is not promised"
OUTSIDE = "moto takes IPv6 networks outside of the VPC's, of any size, and assigns addresses of none"

KNOWN = {
    "test_associate_subnet_cidr_block": OUTSIDE,
    "test_authorize_all_protocols_with_no_port_specification": NO_DEFAULT_VPC,
    "test_authorize_and_revoke_in_bulk": NO_DEFAULT_VPC,
    "test_authorize_bad_cidr_throws_invalid_parameter_value": NO_DEFAULT_VPC,
    "test_authorize_group_in_vpc": NO_SUCH_VPC,
    "test_authorize_ip_range_and_revoke": NO_DEFAULT_VPC,
    "test_authorize_other_group_and_revoke": NO_DEFAULT_VPC,
    "test_availability_zone_in_create_subnet": ZONES,
    "test_availability_zones__parameters": ZONES,
    "test_create_and_describe_security_group": NO_DEFAULT_VPC,
    "test_create_and_describe_vpc_security_group": NO_SUCH_VPC,
    "test_create_default_subnet": NO_DEFAULT_VPC,
    "test_create_subnet_with_tags": ZONES,
    "test_create_two_security_groups_with_same_name_in_different_vpc": NO_SUCH_VPC,
    "test_create_vpc_endpoint__policy": NO_GATEWAY_ENDPOINTS,
    "test_default_security_group": NO_DEFAULT_VPC,
    "test_default_subnet": NO_DEFAULT_VPC,
    "test_default_vpc": NO_DEFAULT_VPC,
    "test_delete_security_group_in_vpc": NO_SUCH_VPC,
    "test_deleting_security_groups": NO_DEFAULT_VPC,
    "test_describe_account_attributes": "moto says that the account has EC2-Classic, which AWS ended in 2022",
    "test_describe_prefix_lists": NO_GATEWAY_ENDPOINTS,
    "test_describe_regions": REGIONS,
    "test_describe_security_groups": NO_SUCH_VPC,
    "test_description_in_ip_permissions": ORDER,
    "test_disassociate_subnet_cidr_block": OUTSIDE,
    "test_ec2_validate_subnet_tags": "AWS's code for a type that can't be tagged is InvalidParameterValue",
    "test_filter_egress__ip_permission__from_port": RANDOM,
    "test_filter_egress__ip_permission__group_name_create_with_id_filter_by_name":
        "a group that a rule names by id has a name, by which AWS finds it",
    "test_get_all_security_groups_filter_with_same_vpc_id": NO_SUCH_VPC,
    "test_get_groups_by_ippermissions_group_id_filter_across_vpcs": "VPCs are not peered by call here",
    "test_get_subnets_filtering": NO_DEFAULT_VPC,
    "test_modify_subnet_attribute_assign_ipv6_address_on_creation": OUTSIDE,
    "test_modify_security_group_rules": MALFORMED,
    "test_modify_vpc_endpoint_add_duplicate_subnet": "moto takes an endpoint type in lower case",
    "test_modify_vpc_endpoint_add_security_group": "moto takes an endpoint type in lower case",
    "test_modify_vpc_endpoint_add_security_group_duplicate": "moto takes an endpoint type in lower case",
    "test_modify_vpc_endpoint_remove_security_group": "moto takes an endpoint type in lower case",
    "test_modify_vpc_endpoint_remove_subnet": "moto takes an endpoint type in lower case",
    "test_multiple_vpcs_default_filter": NO_DEFAULT_VPC,
    "test_non_existent_security_group_raises_error_on_authorize": MALFORMED,
    "test_revoke_security_group_egress__without_ipprotocol": ORDER,
    "test_run_instances_should_attach_to_default_subnet": NO_DEFAULT_VPC,
    "test_sec_group_rule_limit[Use VPC]": "all 110 networks of the test are 0.0.0.0/0, once the bits behind the prefix are gone",
    "test_sec_group_rule_limit[Without VPC]": NO_DEFAULT_VPC,
    "test_security_group_filter_ip_permission": RANDOM,
    "test_security_group_ingress_without_multirule": NO_DEFAULT_VPC,
    "test_security_group_ingress_without_multirule_after_reload": NO_DEFAULT_VPC,
    "test_security_group_rules_added_via_the_backend_can_be_revoked_via_the_api": "it reaches into moto itself",
    "test_security_group_tag_filtering": NO_DEFAULT_VPC,
    "test_security_group_tagging": NO_DEFAULT_VPC,
    "test_security_group_wildcard_tag_filter": NO_DEFAULT_VPC,
    "test_subnet_get_by_id": MALFORMED,
    "test_update_security_group_rule_descriptions_egress": "a group's name is enough in the default VPC alone",
    "test_update_security_group_rule_descriptions_ingress": "a group's name is enough in the default VPC alone",
    "test_vpc_associate_ipv6_cidr_block": "moto has one IPv6 network a VPC; AWS's quota is five",
    "test_vpc_get_by_cidr_block": RANDOM,
    "test_vpc_get_by_id": MALFORMED,
    "test_vpc_isdefault_filter": NO_DEFAULT_VPC,
    **{
        f"test_zoneId_in_availability_zones[{case}]": REGIONS
        for case in ("ap-southeast-5-apse5-az", "cn-northwest-1-cnnw1-az", "us-gov-east-1-usge1-az", "us-gov-west-1-usgw1-az")
    },
}
