// The calls of Terraform's provider `mongodbatlas` in its order, by MongoDB's own Go SDK that the provider is built on: project,
// IP access list, endpoint service, interface endpoint, cluster with its containers and advanced configuration, database user;
// each made, read twice without a difference, and removed. The provider's waits are made with its pending and target states, but
// without its delays. ADMIN is the gateway's admin listener.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"

	"go.mongodb.org/atlas-sdk/v20250312006/admin"
)

const project = "5f2a1b3c4d5e6f7081920a3b"

var (
	endpoint = "vpce-024f5b57108c8d3ed"
	unknown  = "vpce-0123456789abcdef0"

	ctx    = context.Background()
	client *admin.APIClient
	passed int
)

func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, "atlas_provider: "+format+"\n", args...)
		os.Exit(1)
	}
	passed++
}

func must[T any](value T, response *http.Response, err error) T {
	check(err == nil, "%v: %v", response, err)
	return value
}

func done(response *http.Response, err error) {
	check(err == nil, "%v: %v", response, err)
}

// Polls as the provider does: a state that is neither pending nor a target is an error.
func wait(what string, pending, targets []string, look func() string) string {
	for n := 0; n < 400; n++ {
		state := look()
		for _, target := range targets {
			if state == target {
				passed++
				return state
			}
		}
		check(strings.Contains(" "+strings.Join(pending, " ")+" ", " "+state+" "), "%s: unexpected state %q", what, state)
		time.Sleep(50 * time.Millisecond)
	}
	check(false, "%s: not in time", what)
	return ""
}

// Read twice, what is read is the same.
func steady[T any](read func() (T, *http.Response, error)) T {
	first := must(read())
	check(reflect.DeepEqual(first, must(read())), "a second read differs: %v", first)
	return first
}

func refused(status int, code string, response *http.Response, err error) {
	known, ok := admin.AsError(err)
	check(ok && response.StatusCode == status && known.ErrorCode == code, "wanted %d %s: %v", status, code, err)
}

func main() {
	keys := admin.UseDigestAuth(os.Getenv("PLGW_ADMIN_PUBLIC_KEY"), os.Getenv("PLGW_ADMIN_PRIVATE_KEY"))
	made, err := admin.NewClient(keys, admin.UseBaseURL(os.Getenv("ADMIN")))
	check(err == nil, "the client: %v", err)
	client = made
	projects()
	accessList()
	privatelink()
	clusters()
	users()
	fmt.Printf("atlas_provider: %d passed, 0 failed\n", passed)
}

// mongodbatlas_project: resource and data source.
func projects() {
	own := client.ProjectsApi
	tags := []admin.ResourceTag{{Key: "team", Value: "payments"}}
	group := admin.Group{Name: "terraform", OrgId: "32b6e34b3d91647abb20e7b8", Tags: &tags}
	made := must(own.CreateProject(ctx, &group).Execute())
	id := made.GetId()
	off := false
	settings := must(own.GetProjectSettings(ctx, id).Execute())
	check(settings.GetIsPerformanceAdvisorEnabled(), "settings: %v", settings)
	settings.IsPerformanceAdvisorEnabled = &off
	changed := must(own.UpdateProjectSettings(ctx, id, settings).Execute())
	check(!changed.GetIsPerformanceAdvisorEnabled(), "settings: %v", changed)
	done(client.PerformanceAdvisorApi.DisableSlowOperationThresholding(ctx, id).Execute())
	read := func() {
		view := steady(own.GetProject(ctx, id).Execute)
		check(view.OrgId == group.OrgId && reflect.DeepEqual(view.GetTags(), tags), "project: %v", view)
		check(must(client.TeamsApi.ListProjectTeams(ctx, id).Execute()).GetTotalCount() == 0, "teams")
		check(len(must(own.ListProjectLimits(ctx, id).Execute())) == 1, "limits")
		check(!must(own.GetProjectSettings(ctx, id).Execute()).GetIsPerformanceAdvisorEnabled(), "settings are kept")
		addresses := must(own.ReturnAllIpAddresses(ctx, id).Execute())
		check(addresses.GetGroupId() == id && len(addresses.Services.GetClusters()) == 0, "addresses: %v", addresses)
		check(!must(client.PerformanceAdvisorApi.GetManagedSlowMs(ctx, id).Execute()), "managedSlowMs is kept")
		check(must(client.MongoDBCloudUsersApi.ListProjectUsers(ctx, id).Execute()).GetTotalCount() == 0, "users")
	}
	read()
	name := "terraform-renamed"
	view := must(own.UpdateProject(ctx, id, &admin.GroupUpdate{Name: &name}).Execute())
	check(view.Name == name && reflect.DeepEqual(view.GetTags(), tags), "renamed: %v", view)
	check(must(own.GetProjectByName(ctx, name).Execute()).GetId() == id, "by name")
	done(client.PerformanceAdvisorApi.EnableSlowOperationThresholding(ctx, id).Execute())
	check(must(client.PerformanceAdvisorApi.GetManagedSlowMs(ctx, id).Execute()), "managedSlowMs is on again")
	of := must(client.OrganizationsApi.ListOrganizationProjects(ctx, group.OrgId).Execute())
	check(of.GetTotalCount() == 1 && of.GetResults()[0].GetId() == id, "projects of the organization: %v", of)
	check(must(client.ClustersApi.ListClusters(ctx, id).Execute()).GetTotalCount() == 0, "clusters")
	_, response, err := own.CreateProject(ctx, &admin.Group{Name: name, OrgId: group.OrgId}).Execute()
	refused(409, "GROUP_ALREADY_EXISTS", response, err)
	done(own.DeleteProject(ctx, id).Execute())
	_, response, err = own.GetProject(ctx, id).Execute()
	refused(404, "GROUP_NOT_FOUND", response, err)
}

// mongodbatlas_project_ip_access_list.
func accessList() {
	own := client.ProjectIPAccessListApi
	block, comment := "203.0.113.0/24", "terraform"
	entries := []admin.NetworkPermissionEntry{{CidrBlock: &block, Comment: &comment}}
	must(own.CreateProjectIpAccessList(ctx, project, &entries).Execute())
	view := steady(own.GetProjectIpList(ctx, project, block).Execute)
	check(view.GetCidrBlock() == block && view.GetComment() == comment, "entry: %v", view)
	done(own.DeleteProjectIpAccessList(ctx, project, block).Execute())
	_, response, err := own.GetProjectIpList(ctx, project, block).Execute()
	refused(404, "ATLAS_NETWORK_PERMISSION_ENTRY_NOT_FOUND", response, err)
	group := "sg-0123456789abcdef0"
	entries = []admin.NetworkPermissionEntry{{AwsSecurityGroup: &group}}
	_, response, err = own.CreateProjectIpAccessList(ctx, project, &entries).Execute()
	refused(400, "UNSUPPORTED_CHANGE", response, err)
}

func allIdle() string {
	list := must(client.ClustersApi.ListClusters(ctx, project).IncludeCount(true).ItemsPerPage(100).PageNum(1).Execute())
	for _, cluster := range list.GetResults() {
		if cluster.GetStateName() != "IDLE" {
			return "PENDING"
		}
	}
	return "IDLE"
}

func serviceOf(id string) func() string {
	return func() string {
		view, response, err := client.PrivateEndpointServicesApi.GetPrivateEndpointService(ctx, project, "AWS", id).Execute()
		if response.StatusCode == 404 {
			return "DELETED"
		}
		must(view, response, err)
		check(view.GetErrorMessage() == "", "an error: %v", view)
		return view.GetStatus()
	}
}

func endpointOf(service, id string) func() string {
	return func() string {
		view, response, err := client.PrivateEndpointServicesApi.GetPrivateEndpoint(ctx, project, "AWS", id, service).Execute()
		if response.StatusCode == 404 {
			return "DELETED"
		}
		must(view, response, err)
		check(view.GetErrorMessage() == "", "an error: %v", view)
		return view.GetConnectionStatus()
	}
}

// mongodbatlas_privatelink_endpoint and mongodbatlas_privatelink_endpoint_service: the endpoint of the quickstart is taken from
// its service and added again; a service of another region is made and removed.
func privatelink() {
	own := client.PrivateEndpointServicesApi
	services := must(own.ListPrivateEndpointServices(ctx, project, "AWS").Execute())
	check(len(services) == 1, "services: %v", services)
	request := admin.CloudProviderEndpointServiceRequest{ProviderName: "AWS", Region: "EU_WEST_1"}
	made := must(own.CreatePrivateEndpointService(ctx, project, &request).Execute())
	wait("the service is made", []string{"INITIATING", "DELETING"}, []string{"WAITING_FOR_USER", "AVAILABLE"}, serviceOf(made.GetId()))
	view := steady(own.GetPrivateEndpointService(ctx, project, "AWS", made.GetId()).Execute)
	check(view.GetRegionName() == "EU_WEST_1" && view.GetEndpointServiceName() != "", "service: %v", view)
	done(own.DeletePrivateEndpointService(ctx, project, "AWS", made.GetId()).Execute())
	wait("the service goes", []string{"DELETING"}, []string{"DELETED"}, serviceOf(made.GetId()))

	first := services[0].GetId()
	wait("clusters are idle", []string{"PENDING"}, []string{"IDLE"}, allIdle)
	// One that AWS does not know, so that the service stays when its other one goes.
	must(own.CreatePrivateEndpoint(ctx, project, "AWS", first, &admin.CreateEndpointRequest{Id: &unknown}).Execute())
	check(allIdle() == "IDLE", "clusters do not wait for an endpoint that AWS does not know")
	done(own.DeletePrivateEndpoint(ctx, project, "AWS", endpoint, first).Execute())
	check(allIdle() == "PENDING", "clusters are UPDATING while an endpoint is removed")
	leaving := []string{"NONE", "PENDING_ACCEPTANCE", "PENDING", "DELETING", "INITIATING"}
	wait("the endpoint goes", leaving, []string{"REJECTED", "FAILED", "DELETED"}, endpointOf(first, endpoint))
	wait("clusters are idle", []string{"PENDING"}, []string{"IDLE"}, allIdle)
	check(len(privateStrings()) == 0, "strings without an endpoint: %v", privateStrings())

	must(own.CreatePrivateEndpoint(ctx, project, "AWS", first, &admin.CreateEndpointRequest{Id: &endpoint}).Execute())
	check(allIdle() == "PENDING", "clusters are UPDATING while an endpoint is added")
	coming := []string{"NONE", "INITIATING", "PENDING_ACCEPTANCE", "PENDING", "DELETING", "VERIFIED"}
	wait("the endpoint is added", coming, []string{"AVAILABLE", "REJECTED", "FAILED", "DELETED"}, endpointOf(first, endpoint))
	wait("clusters are idle", []string{"PENDING"}, []string{"IDLE"}, allIdle)
	added := steady(own.GetPrivateEndpoint(ctx, project, "AWS", endpoint, first).Execute)
	check(added.GetInterfaceEndpointId() == endpoint && !added.GetDeleteRequested(), "endpoint: %v", added)
	found := privateStrings()
	check(len(found) == 1 && found[0].GetEndpoints()[0].GetEndpointId() == endpoint, "strings: %v", found)
	done(own.DeletePrivateEndpoint(ctx, project, "AWS", unknown, first).Execute())
	done(own.DeletePrivateEndpoint(ctx, project, "AWS", endpoint, first).Execute())
	wait("with its last endpoint the service goes", []string{"AVAILABLE", "DELETING"}, []string{"DELETED"}, serviceOf(first))
	wait("clusters are idle", []string{"PENDING"}, []string{"IDLE"}, allIdle)
}

func privateStrings() []admin.ClusterDescriptionConnectionStringsPrivateEndpoint {
	view := must(client.ClustersApi.GetCluster(ctx, project, "Cluster0").Execute())
	return view.ConnectionStrings.GetPrivateEndpoint()
}

func specs(size string) *[]admin.ReplicationSpec20240805 {
	aws, name, zone, nodes, priority := "AWS", "US_EAST_1", "Zone 1", 3, 7
	hardware := admin.HardwareSpec20240805{InstanceSize: &size, NodeCount: &nodes}
	config := admin.CloudRegionConfig20240805{ProviderName: &aws, RegionName: &name, Priority: &priority, ElectableSpecs: &hardware}
	return &[]admin.ReplicationSpec20240805{{ZoneName: &zone, RegionConfigs: &[]admin.CloudRegionConfig20240805{config}}}
}

// mongodbatlas_advanced_cluster: resource and data source.
func clusters() {
	own := client.ClustersApi
	name, kind := "Terraform", "REPLICASET"
	on, off := true, false
	tags := []admin.ResourceTag{{Key: "team", Value: "payments"}}
	wanted := admin.ClusterDescription20240805{
		Name: &name, ClusterType: &kind, ReplicationSpecs: specs("M10"), Tags: &tags, TerminationProtectionEnabled: &on,
	}
	must(own.CreateCluster(ctx, project, &wanted).Execute())
	state := func() string {
		view, response, err := own.GetCluster(ctx, project, name).Execute()
		return stateOf(view, response, err)
	}
	busy := []string{"CREATING", "UPDATING", "REPAIRING", "DELETING", "REPEATING", "PENDING"}
	wait("the cluster is made", busy, []string{"IDLE"}, state)
	read := func(size string) {
		view := steady(own.GetCluster(ctx, project, name).Execute)
		spec := view.GetReplicationSpecs()[0]
		region := spec.GetRegionConfigs()[0]
		check(spec.GetZoneName() == "Zone 1" && region.ElectableSpecs.GetInstanceSize() == size, "cluster: %v", view)
		check(reflect.DeepEqual(view.GetTags(), tags), "tags: %v", view)
		check(strings.HasPrefix(view.ConnectionStrings.GetStandardSrv(), "mongodb+srv://"), "strings: %v", view)
		containers := must(client.NetworkPeeringApi.ListPeeringContainerByCloudProvider(ctx, project).ProviderName("AWS").Execute())
		found := ""
		for _, container := range containers.GetResults() {
			if container.GetRegionName() == region.GetRegionName() && container.GetProviderName() == "AWS" {
				found = container.GetId()
			}
		}
		check(found != "", "container id not found: %v", containers)
		must(own.GetClusterAdvancedConfiguration(ctx, project, name).Execute())
	}
	read("M10")
	script := admin.ClusterDescriptionProcessArgs20240805{JavascriptEnabled: &off}
	kept := must(own.UpdateClusterAdvancedConfiguration(ctx, project, name, &script).Execute())
	check(!kept.GetJavascriptEnabled(), "processArgs: %v", kept)
	wait("the configuration is changed", busy, []string{"IDLE"}, state)
	check(!must(own.GetClusterAdvancedConfiguration(ctx, project, name).Execute()).GetJavascriptEnabled(), "processArgs are kept")
	larger := must(own.UpdateCluster(ctx, project, name, &admin.ClusterDescription20240805{ReplicationSpecs: specs("M20")}).Execute())
	check(larger.GetStateName() == "UPDATING", "a change: %v", larger)
	wait("the cluster is larger", busy, []string{"IDLE"}, state)
	read("M20")
	_, response, err := own.UpdateCluster(ctx, project, name, &admin.ClusterDescription20240805{BackupEnabled: &on}).Execute()
	refused(400, "UNSUPPORTED_CHANGE", response, err)
	response, err = own.DeleteCluster(ctx, project, name).Execute()
	refused(400, "CANNOT_TERMINATE_CLUSTER_WHEN_TERMINATION_PROTECTION_ENABLED", response, err)
	must(own.UpdateCluster(ctx, project, name, &admin.ClusterDescription20240805{TerminationProtectionEnabled: &off}).Execute())
	done(own.DeleteCluster(ctx, project, name).Execute())
	wait("the cluster goes", append(busy, "IDLE"), []string{"DELETED"}, state)
	check(must(own.ListClustersForAllProjects(ctx).Execute()).GetTotalCount() > 0, "clusters of all projects")
}

func stateOf(view *admin.ClusterDescription20240805, response *http.Response, err error) string {
	if response.StatusCode == 404 {
		return "DELETED"
	}
	return must(view, response, err).GetStateName()
}

// mongodbatlas_database_user.
func users() {
	own := client.DatabaseUsersApi
	password := "a password of the tests"
	user := admin.CloudDatabaseUser{
		DatabaseName: "admin", GroupId: project, Username: "ann", Password: &password,
		Roles: &[]admin.DatabaseUserRole{{RoleName: "readWrite", DatabaseName: "shop"}},
	}
	made := must(own.CreateDatabaseUser(ctx, project, &user).Execute())
	check(made.GetPassword() == "" && made.GetRoles()[0].RoleName == "readWrite", "user: %v", made)
	_, response, err := own.CreateDatabaseUser(ctx, project, &user).Execute()
	refused(409, "USER_ALREADY_EXISTS", response, err)
	steady(own.GetDatabaseUser(ctx, project, "admin", "ann").Execute)
	user.Roles = &[]admin.DatabaseUserRole{{RoleName: "read", DatabaseName: "shop"}}
	changed := must(own.UpdateDatabaseUser(ctx, project, "admin", "ann", &user).Execute())
	check(changed.GetRoles()[0].RoleName == "read", "user: %v", changed)
	done(own.DeleteDatabaseUser(ctx, project, "admin", "ann").Execute())
	_, response, err = own.GetDatabaseUser(ctx, project, "admin", "ann").Execute()
	refused(404, "USERNAME_NOT_FOUND", response, err)
}
