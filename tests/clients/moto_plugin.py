"""A pytest plugin that sends moto's own tests of EC2 to the gateway, unmodified: `mock_aws` mocks nothing, and boto3's
endpoint is in the environment. Between two tests everything that the first one made is deleted.

A test that calls what the gateway does not serve, or another service than EC2 and STS, is skipped when it fails; one that
`KNOWN` lists is expected to fail, for the reason given there."""

import boto3
import botocore
import botocore.client
import botocore.exceptions
import moto
import pytest

from moto_known import KNOWN

NOT_SERVED = {"InvalidAction", "UnsupportedOperation"}

not_served = []


class Nothing:
    """Decorates and surrounds without doing anything."""

    def __call__(self, test):
        return test

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    start = stop = reset = lambda *_, **__: None


moto.mock_aws = lambda test=None, config=None: test if callable(test) else Nothing()

_call = botocore.client.BaseClient._make_api_call


def call(self, operation, parameters):
    service = self.meta.service_model.service_name
    try:
        if service not in ("ec2", "sts"):
            not_served.append(service)
        return _call(self, operation, parameters)
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in NOT_SERVED:
            not_served.append(operation)
        raise


botocore.client.BaseClient._make_api_call = call


def clean():
    """Unsigned requests see every region."""
    ec2 = boto3.client("ec2", "us-east-1", config=botocore.client.Config(signature_version=botocore.UNSIGNED))
    endpoints = [endpoint["VpcEndpointId"] for endpoint in ec2.describe_vpc_endpoints()["VpcEndpoints"]]
    if endpoints:
        ec2.delete_vpc_endpoints(VpcEndpointIds=endpoints)
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    groups = ec2.describe_security_groups()["SecurityGroups"]
    for group in groups:
        if group["IpPermissions"]:
            ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
        if group["IpPermissionsEgress"]:
            ec2.revoke_security_group_egress(GroupId=group["GroupId"], IpPermissions=group["IpPermissionsEgress"])
    for group in groups:
        if group["GroupName"] != "default":
            ec2.delete_security_group(GroupId=group["GroupId"])
    for vpc in ec2.describe_vpcs()["Vpcs"]:
        ec2.delete_vpc(VpcId=vpc["VpcId"])


@pytest.fixture(autouse=True)
def own_account():
    not_served.clear()
    yield
    clean()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    if not_served:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, f"not served: {not_served[0]}")
    elif reason := KNOWN.get(item.name):
        report.outcome, report.wasxfail = "skipped", reason
