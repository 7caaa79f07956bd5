"""The App Services procedure as the page gives it, and boto3 for its EC2 part, against a gateway that runs the
quickstart's inventory. Needs boto3; ADMIN=http://127.0.0.1:8474."""

import json
import os
import time
import urllib.error
import urllib.request

import boto3

ADMIN = os.environ["ADMIN"]
PUBLIC = os.environ.get("PLGW_ADMIN_PUBLIC_KEY", "public")
PRIVATE = os.environ.get("PLGW_ADMIN_PRIVATE_KEY", "private")
BASE = ADMIN + "/api/admin/v3.0"
PROJECT = "5f2a1b3c4d5e6f7081920a3b"


def ask(method, path, body=None, token=None):
    request = urllib.request.Request(BASE + path, method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def main():
    status, login = ask("POST", "/auth/providers/mongodb-cloud/login", {"username": PUBLIC, "apiKey": PRIVATE})
    assert status == 200, login
    token = login["access_token"]
    status, app = ask("GET", f"/groups/{PROJECT}/apps", token=token)
    assert status == 200 and app[0]["client_app_id"] == "myapp-abcde", app
    security = f"/groups/{PROJECT}/apps/{app[0]['_id']}/security"

    status, infos = ask("GET", f"{security}/private_endpoint_service_infos", token=token)
    assert status == 200
    service = next(i["service_name"] for i in infos
                   if i["cloud_provider_region"] == "aws-us-east-1" and i["endpoint_type"] == "general")

    # The page's own VPC has a General endpoint already; a VPC can have one per private name, so this one is new.
    ec2 = boto3.client("ec2", endpoint_url=ADMIN, region_name="us-east-1",
                       aws_access_key_id=PUBLIC, aws_secret_access_key=PRIVATE)
    vpc = ec2.create_vpc(CidrBlock="127.6.0.0/16")["Vpc"]["VpcId"]
    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="127.6.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    endpoint = ec2.create_vpc_endpoint(VpcEndpointType="Interface", ServiceName=service, VpcId=vpc,
                                       SubnetIds=[subnet])["VpcEndpoint"]
    assert endpoint["State"] == "pendingAcceptance" and not endpoint["PrivateDnsEnabled"], endpoint

    body = {"cloud_provider_region": "aws-us-east-1", "cloud_provider_endpoint_id": endpoint["VpcEndpointId"],
            "endpoint_type": "general", "comment": "Optional: add a comment describing the endpoint."}
    status, made = ask("POST", f"{security}/private_endpoints", body, token)
    assert status == 201 and {k: made[k] for k in body} == body, made
    for _ in range(50):
        state = ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])["VpcEndpoints"][0]["State"]
        if state == "available":
            break
        time.sleep(0.2)
    assert state == "available", state

    one = f"{security}/private_endpoints/{made['_id']}"
    status, changed = ask("PUT", one, {**body, "comment": "another"}, token)
    assert status == 200 and changed["comment"] == "another", changed
    status, refused = ask("PUT", one, {**body, "endpoint_type": "sync"}, token)
    assert status == 400 and refused["error_code"], refused
    status, _ = ask("POST", f"{security}/allow_non_vpc_client_requests", {"allow_non_vpc_client_requests": True}, token)
    assert status == 204
    status, _ = ask("POST", f"{security}/allow_non_vpc_client_requests", {"allow_non_vpc_client_requests": False}, token)
    assert status == 204
    status, _ = ask("DELETE", one, token=token)
    assert status == 204
    status, _ = ask("GET", one, token=token)
    assert status == 404
    status, refused = ask("GET", f"{security}/private_endpoints")
    assert status == 401 and refused["error_code"] == "InvalidSession", refused
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    for _ in range(50):
        found = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-endpoint-id", "Values": [endpoint["VpcEndpointId"]]}])
        if not found["VpcEndpoints"]:
            break
        time.sleep(0.2)
    assert found["VpcEndpoints"] == []
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)
    print("app services: 1 passed, 0 failed")


main()
