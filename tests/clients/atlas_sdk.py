"""Atlas' and App Services' admin APIs by an independent client that is generated from the published descriptions of both
(pyatlassdk): its models refuse an answer that is not as described. With digest keys, then with a service account.
ADMIN is the gateway's admin listener; the credentials are in the environment."""

import os
import time
from typing import Any

from pyatlassdk import AtlasAdminClient, AtlasAppAdminClient
from pyatlassdk.admin._errors import AtlasApiError
from pyatlassdk.admin.models.api_atlas_modify_endpoint_service_request_view import (
    ApiAtlasModifyEndpointServiceRequestView as ServiceChange,
)
from pyatlassdk.admin.models.cloud_provider_endpoint_service_request import CloudProviderEndpointServiceRequest
from pyatlassdk.admin.models.create_aws_endpoint_request import CreateAWSEndpointRequest
from pyatlassdk.admin.models.create_azure_endpoint_request import CreateAzureEndpointRequest
from pyatlassdk.admin.models.private_network_endpoint_id_entry import PrivateNetworkEndpointIdEntry
from pyatlassdk.admin.models.project_setting_item_view import ProjectSettingItemView
from pyatlassdk.admin.models.serverless_tenant_create_request import ServerlessTenantCreateRequest
from pyatlassdk.app._errors import AtlasApiError as AppApiError
from pyatlassdk.app.models.private_endpoint_create import PrivateEndpointCreate

ADMIN = os.environ["ADMIN"]
PUBLIC, PRIVATE = os.environ["PLGW_ADMIN_PUBLIC_KEY"], os.environ["PLGW_ADMIN_PRIVATE_KEY"]
PROJECT = "5f2a1b3c4d5e6f7081920a3b"
ENDPOINT, UNKNOWN = "vpce-024f5b57108c8d3ed", "vpce-0123456789abcdef0"
URLS = {"base_url": f"{ADMIN}/api/atlas/v2", "oauth_token_url": f"{ADMIN}/api/oauth/token"}

passed = 0


def check(condition, what):
    global passed
    assert condition, what
    passed += 1


def until(what, look):
    for _ in range(200):
        if look():
            check(True, what)
            return
        time.sleep(0.1)
    raise AssertionError(f"{what}: not in time")


def refused(status, call, **arguments):
    try:
        answer = call(**arguments)
    except (AtlasApiError, AppApiError) as error:
        check(error.status_code == status, error)
        return error
    raise AssertionError(f"wanted {status}, got {answer}")


def emptied(call, *positional, **arguments):
    """A removal that is answered by 204 and nothing, as described; this client looks for JSON there."""
    try:
        call(*positional, **arguments)
    except ValueError as error:
        check("Expecting value" in str(error), error)


def services(client):
    own = client.private_endpoint_services
    made = own.create_group_private_endpoint_endpoint_service(
        PROJECT, CloudProviderEndpointServiceRequest(provider_name="AWS", region="EU_WEST_1")
    )
    check((made.status, made.region_name, made.cloud_provider) == ("INITIATING", "EU_WEST_1", "AWS"), made)
    one = {"cloud_provider": "AWS", "endpoint_service_id": made.id, "group_id": PROJECT}
    until("it is available", lambda: own.get_group_private_endpoint_endpoint_service(**one).status == "AVAILABLE")
    changed = own.update_group_private_endpoint_endpoint_service(
        made.id, PROJECT, ServiceChange(cloud_provider="AWS", supported_remote_regions=["US_EAST_1"])
    )
    check(changed.model_extra["supportedRemoteRegions"] == ["US_EAST_1"], changed)
    added = own.create_group_private_endpoint_endpoint_service_endpoint(
        **one, body=CreateAWSEndpointRequest(id=UNKNOWN)
    )
    check(added.model_extra["connectionStatus"] == "PENDING" and added.delete_requested is False, added)
    endpoint = {**one, "endpoint_id": UNKNOWN}
    own.get_group_private_endpoint_endpoint_service_endpoint(**endpoint)
    own.delete_group_private_endpoint_endpoint_service_endpoint(**endpoint)

    def gone():
        listed = own.list_group_private_endpoint_endpoint_service("AWS", PROJECT)
        return made.id not in [service.id for service in listed]

    until("with its last endpoint goes the service", gone)
    refused(404, own.get_group_private_endpoint_endpoint_service, **one)
    mode = own.get_group_private_endpoint_regional_mode(PROJECT)
    check(mode.enabled is False, mode)
    refused(409, own.toggle_group_private_endpoint_regional_mode, group_id=PROJECT,
            body=ProjectSettingItemView(enabled=True))


def other_clouds(client):
    """A30: Azure's names and addresses, and the rule that holds across providers."""
    own = client.private_endpoint_services
    made = own.create_group_private_endpoint_endpoint_service(
        PROJECT, CloudProviderEndpointServiceRequest(provider_name="AZURE", region="EUROPE_NORTH")
    )
    one = {"cloud_provider": "AZURE", "endpoint_service_id": made.id, "group_id": PROJECT}
    until("it is available", lambda: own.get_group_private_endpoint_endpoint_service(**one).status == "AVAILABLE")
    view = own.get_group_private_endpoint_endpoint_service(**one).model_extra
    check(view["privateLinkServiceName"] == f"pls_{made.id}", view)
    check(view["privateLinkServiceResourceId"].endswith(f"/privateLinkServices/pls_{made.id}"), view)
    resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe{}"

    def body(number):
        return CreateAzureEndpointRequest(
            id=resource.format(number), private_endpoint_ip_address=f"10.0.0.{4 + number}"
        )

    added = own.create_group_private_endpoint_endpoint_service_endpoint(**one, body=body(0))
    check(added.model_extra["privateEndpointIPAddress"] == "10.0.0.4", added)
    # One in AWS, one in Azure: a second one in Azure's region would be several in one and another elsewhere.
    refused(409, own.create_group_private_endpoint_endpoint_service_endpoint, **one, body=body(1))
    own.delete_group_private_endpoint_endpoint_service_endpoint(**one, endpoint_id=resource.format(0))
    until("it is gone", lambda: own.list_group_private_endpoint_endpoint_service("AZURE", PROJECT) == [])


def serverless_and_archives(client):
    """A29."""
    # Atlas makes no new ones any more, so that the client has no call for it.
    prefix = f"/groups/{PROJECT}/serverless"
    settings = {"backingProviderName": "AWS", "providerName": "SERVERLESS", "regionName": "US_EAST_1"}
    made = client.request(method="POST", path=prefix, json={"name": "Less", "providerSettings": settings},
                          response_model=Any)
    check(made["stateName"] == "CREATING", made)
    instance = client.serverless_instances.get_group_serverless_instance(PROJECT, "Less")
    check(instance.provider_settings.backing_provider_name == "AWS", instance)
    own = client.serverless_private_endpoints
    made = own.create_group_private_endpoint_serverless_instance_endpoint(
        PROJECT, "Less", ServerlessTenantCreateRequest(comment="mine")
    )
    check(made.status == "RESERVATION_REQUESTED" and made.comment == "mine", made)
    emptied(own.delete_group_private_endpoint_serverless_instance_endpoint,
            endpoint_id=made.id, group_id=PROJECT, instance_name="Less")
    until("it is gone",
          lambda: own.list_group_private_endpoint_serverless_instance_endpoint(PROJECT, "Less") == [])
    client.request(method="DELETE", path=f"{prefix}/Less", response_model=Any)
    archives = client.data_federation
    added = archives.create_group_private_network_setting_endpoint_id(
        PROJECT, PrivateNetworkEndpointIdEntry(endpoint_id=UNKNOWN, comment="mine")
    )
    check([entry.endpoint_id for entry in added.results] == [UNKNOWN], added)
    entry = archives.get_group_private_network_setting_endpoint_id(UNKNOWN, PROJECT)
    check((entry.status, entry.type, entry.provider) == ("PENDING", "DATA_LAKE", "AWS"), entry)
    emptied(archives.delete_group_private_network_setting_endpoint_id, UNKNOWN, PROJECT)


def clusters(client):
    own = client.clusters
    cluster = own.get_group_cluster(group_id=PROJECT, cluster_name="Cluster0")
    private = cluster.connection_strings.private_endpoint[0]
    check(private.srv_connection_string == "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net", private)
    check(private.endpoints[0].endpoint_id == ENDPOINT and private.endpoints[0].region == "US_EAST_1", private)
    listed = own.list_group_clusters(group_id=PROJECT)
    check({cluster.name for cluster in listed.results} == {"Cluster0", "Sharded0"}, listed)
    groups = client.projects.list_groups()
    check(PROJECT in [group.id for group in groups.results], groups)


def app_services():
    """B10, B11, B12."""
    client = AtlasAppAdminClient.login(PUBLIC, PRIVATE, base_url=f"{ADMIN}/api/admin/v3.0")
    app = client.apps.admin_list_applications(group_id=PROJECT)[0]
    app_id = app["_id"] if isinstance(app, dict) else (getattr(app, "id", None) or app.model_extra["_id"])
    where = {"app_id": app_id, "group_id": PROJECT}
    infos = client.security.admin_list_private_endpoint_services(**where)
    check({info.endpoint_type for info in infos} == {"general", "sync"}, infos)
    listed = client.security.admin_get_private_endpoints(**where)
    check([entry.endpoint_type for entry in listed] == ["general", "sync"], listed)
    first = client.security.admin_get_private_endpoint(private_endpoint_id=listed[0].id, **where)
    body = PrivateEndpointCreate(
        cloud_provider_region=first.cloud_provider_region,
        cloud_provider_endpoint_id=first.cloud_provider_endpoint_id,
        endpoint_type=first.endpoint_type,
        comment="another",
    )
    changed = client.security.admin_update_private_endpoint(private_endpoint_id=first.id, body=body, **where)
    check(changed.comment == "another", changed)
    service = client.services.admin_list_services(**where)[0]
    service = service if isinstance(service, dict) else service.model_dump(by_alias=True)
    wire = {"service_id": service["_id"], **where}
    refused(400, client.services.admin_update_service_config, body={"wireProtocolEnabled": True}, **wire)
    client.security.allow_non_vpc_client_requests(body={"allow_non_vpc_client_requests": True}, **where)
    client.security.allow_non_vpc_client_requests(body={"allow_non_vpc_client_requests": False}, **where)
    for entry in listed:
        client.security.admin_delete_private_endpoint(private_endpoint_id=entry.id, **where)
    client.services.admin_update_service_config(body={"wireProtocolEnabled": True}, **wire)
    refused(400, client.security.admin_create_private_endpoint, body=body, **where)
    client.services.admin_update_service_config(body={"wireProtocolEnabled": False}, **wire)
    client.security.admin_create_private_endpoint(body=body, **where)
    listed = client.security.admin_get_private_endpoints(**where)
    check([entry.endpoint_type for entry in listed] == ["general"], listed)


def wrong_keys():
    client = AtlasAdminClient(public_key=PUBLIC, private_key="wrong", **URLS)
    error = refused(401, client.projects.list_groups)
    check(error.payload["errorCode"] == "UNEXPECTED_ERROR" if hasattr(error, "payload") else True, error)


with AtlasAdminClient(public_key=PUBLIC, private_key=PRIVATE, **URLS) as digest:
    services(digest)
    clusters(digest)
with AtlasAdminClient(client_id=PUBLIC, client_secret=PRIVATE, **URLS) as account:
    other_clouds(account)
    serverless_and_archives(account)
app_services()
wrong_keys()
print(f"atlas_sdk: {passed} passed, 0 failed")
