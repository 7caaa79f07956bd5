// The calls behind the `atlas` command's private endpoint commands, by MongoDB's own Go client for the Administration API
// and by the digest transport that the command uses: `atlas privateEndpoints aws …`, `… interfaces …`, `… regionalModes …`,
// the deprecated `atlas privateEndpoints create …`, `atlas clusters connectionStrings describe`, the project's access list,
// serverless instances and Online Archives. ADMIN is the gateway's admin listener.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mongodb-forks/digest"
	"go.mongodb.org/atlas/mongodbatlas"
)

const (
	project  = "5f2a1b3c4d5e6f7081920a3b"
	endpoint = "vpce-024f5b57108c8d3ed"
	unknown  = "vpce-0123456789abcdef0"
)

var (
	ctx    = context.Background()
	passed int
)

func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, "atlas_client: "+format+"\n", args...)
		os.Exit(1)
	}
	passed++
}

func must(what string, err error) {
	check(err == nil, "%s: %v", what, err)
}

// The error's code and status, as the command shows them.
func refused(what string, err error, status int, code string) {
	var response *mongodbatlas.ErrorResponse
	check(errors.As(err, &response), "%s: wanted %s, got %v", what, code, err)
	check(response.HTTPCode == status && response.ErrorCode == code, "%s: wanted %d %s, got %v", what, status, code, response)
}

// Asks every tenth of a second, for twenty seconds, as the command's `watch` does every four seconds.
func until(what string, look func() bool) {
	for n := 0; n < 200; n++ {
		if look() {
			passed++
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	check(false, "%s: not in time", what)
}

func main() {
	transport := digest.NewTransport(os.Getenv("PLGW_ADMIN_PUBLIC_KEY"), os.Getenv("PLGW_ADMIN_PRIVATE_KEY"))
	client, err := mongodbatlas.New(&http.Client{Transport: transport}, mongodbatlas.SetBaseURL(os.Getenv("ADMIN")+"/"))
	must("the client", err)
	services(client)
	interfaces(client)
	deprecated(client)
	others(client)
	clusters(client)
	fmt.Printf("atlas_client: %d passed, 0 failed\n", passed)
}

func watch(client *mongodbatlas.Client, id string) *mongodbatlas.PrivateEndpointConnection {
	var found *mongodbatlas.PrivateEndpointConnection
	until("the service is available", func() bool {
		view, _, err := client.PrivateEndpoints.Get(ctx, project, "AWS", id)
		must("watch", err)
		found = view
		return view.Status == "AVAILABLE"
	})
	return found
}

// aws create, describe, list, watch, delete.
func services(client *mongodbatlas.Client) {
	wanted := &mongodbatlas.PrivateEndpointConnection{ProviderName: "AWS", Region: "eu-west-1"}
	made, response, err := client.PrivateEndpoints.Create(ctx, project, wanted)
	must("aws create", err)
	check(response.StatusCode == 201 && made.Status == "INITIATING" && made.RegionName == "EU_WEST_1", "aws create: %v", made)
	check(made.EndpointServiceName == "", "a service that is made has no name yet: %v", made)
	_, _, err = client.PrivateEndpoints.Create(ctx, project, wanted)
	refused("a second one", err, 409, "PRIVATE_ENDPOINT_SERVICE_ALREADY_EXISTS_FOR_REGION")
	view := watch(client, made.ID)
	check(strings.HasPrefix(view.EndpointServiceName, "com.amazonaws.vpce.eu-west-1.vpce-svc-"), "aws describe: %v", view)
	list, _, err := client.PrivateEndpoints.List(ctx, project, "AWS", &mongodbatlas.ListOptions{})
	must("aws list", err)
	check(len(list) == 2, "aws list: %v", list)
	response, err = client.PrivateEndpoints.Delete(ctx, project, "AWS", made.ID)
	must("aws delete", err)
	check(response.StatusCode == 202, "aws delete: %d", response.StatusCode)
	until("it is gone", func() bool {
		_, response, _ := client.PrivateEndpoints.Get(ctx, project, "AWS", made.ID)
		return response.StatusCode == 404
	})
}

func own(client *mongodbatlas.Client) string {
	list, _, err := client.PrivateEndpoints.List(ctx, project, "AWS", &mongodbatlas.ListOptions{})
	must("aws list", err)
	check(len(list) == 1 && list[0].InterfaceEndpoints[0] == endpoint, "aws list: %v", list)
	return list[0].ID
}

// aws interfaces create, describe, delete; regionalModes describe, enable, disable.
func interfaces(client *mongodbatlas.Client) {
	id := own(client)
	view, _, err := client.PrivateEndpoints.GetOnePrivateEndpoint(ctx, project, "AWS", id, endpoint)
	must("interfaces describe", err)
	check(view.AWSConnectionStatus == "AVAILABLE" && view.InterfaceEndpointID == endpoint, "interfaces describe: %v", view)
	new := &mongodbatlas.InterfaceEndpointConnection{ID: unknown}
	added, response, err := client.PrivateEndpoints.AddOnePrivateEndpoint(ctx, project, "AWS", id, new)
	must("interfaces create", err)
	check(response.StatusCode == 201 && added.AWSConnectionStatus == "PENDING", "interfaces create: %v", added)
	_, _, err = client.PrivateEndpoints.AddOnePrivateEndpoint(ctx, project, "AWS", id, new)
	refused("once more", err, 409, "PRIVATE_ENDPOINT_ALREADY_EXISTS")
	until("the wait for it is over", func() bool {
		view, _, err := client.PrivateEndpoints.GetOnePrivateEndpoint(ctx, project, "AWS", id, unknown)
		must("interfaces describe", err)
		return view.AWSConnectionStatus == "REJECTED" && view.ErrorMessage != ""
	})
	_, err = client.PrivateEndpoints.DeleteOnePrivateEndpoint(ctx, project, "AWS", id, unknown)
	must("interfaces delete", err)
	until("it is gone", func() bool {
		_, response, _ := client.PrivateEndpoints.GetOnePrivateEndpoint(ctx, project, "AWS", id, unknown)
		return response.StatusCode == 404
	})
	mode, _, err := client.PrivateEndpoints.GetRegionalizedPrivateEndpointSetting(ctx, project)
	must("regionalModes describe", err)
	check(!mode.Enabled, "regionalModes describe: %v", mode)
	_, _, err = client.PrivateEndpoints.UpdateRegionalizedPrivateEndpointSetting(ctx, project, true)
	refused("regionalModes enable", err, 409, "REGIONALIZED_PRIVATE_ENDPOINTS_WITH_REPLICA_SET")
	mode, _, err = client.PrivateEndpoints.UpdateRegionalizedPrivateEndpointSetting(ctx, project, false)
	must("regionalModes disable", err)
	check(!mode.Enabled, "regionalModes disable: %v", mode)
}

// The commands before `aws` was one of several providers.
func deprecated(client *mongodbatlas.Client) {
	old := client.PrivateEndpointsDeprecated
	made, _, err := old.Create(ctx, project, &mongodbatlas.PrivateEndpointConnectionDeprecated{ProviderName: "AWS", Region: "us-west-2"})
	must("create", err)
	check(made.Region == "US_WEST_2" && made.Status == "INITIATING", "create: %v", made)
	watch(client, made.ID)
	list, _, err := old.List(ctx, project, &mongodbatlas.ListOptions{})
	must("list", err)
	check(len(list) == 2, "list: %v", list)
	_, _, err = old.AddOneInterfaceEndpoint(ctx, project, made.ID, unknown)
	must("interfaces create", err)
	view, _, err := old.GetOneInterfaceEndpoint(ctx, project, made.ID, unknown)
	must("interfaces describe", err)
	check(view.ID == unknown && view.ConnectionStatus == "PENDING", "interfaces describe: %v", view)
	_, err = old.DeleteOneInterfaceEndpoint(ctx, project, made.ID, unknown)
	must("interfaces delete", err)
	until("with its last endpoint goes the service", func() bool {
		_, response, _ := old.Get(ctx, project, made.ID)
		return response.StatusCode == 404
	})
}

// Serverless instances, Online Archives, the access list.
func others(client *mongodbatlas.Client) {
	settings := &mongodbatlas.ServerlessProviderSettings{BackingProviderName: "AWS", ProviderName: "SERVERLESS", RegionName: "US_EAST_1"}
	_, _, err := client.ServerlessInstances.Create(ctx, project, &mongodbatlas.ServerlessCreateRequestParams{Name: "Less", ProviderSettings: settings})
	must("serverless create", err)
	made, _, err := client.ServerlessPrivateEndpoints.Create(ctx, project, "Less", &mongodbatlas.ServerlessPrivateEndpointConnection{Comment: "mine"})
	must("a serverless private endpoint", err)
	check(made.Status == "RESERVATION_REQUESTED" && made.ProviderName == "AWS", "serverless: %v", made)
	until("its service stands", func() bool {
		view, _, err := client.ServerlessPrivateEndpoints.Get(ctx, project, "Less", made.ID)
		must("describe", err)
		return view.Status == "RESERVED" && strings.HasPrefix(view.EndpointServiceName, "com.amazonaws.vpce.us-east-1.")
	})
	_, err = client.ServerlessPrivateEndpoints.Delete(ctx, project, "Less", made.ID)
	must("delete", err)
	until("it is gone", func() bool {
		list, _, err := client.ServerlessPrivateEndpoints.List(ctx, project, "Less", &mongodbatlas.ListOptions{})
		must("list", err)
		return len(list) == 0
	})
	_, err = client.ServerlessInstances.Delete(ctx, project, "Less")
	must("serverless delete", err)

	archive := &mongodbatlas.PrivateLinkEndpointOnlineArchive{EndpointID: unknown, Provider: "AWS", Type: "DATA_LAKE", Comment: "mine"}
	added, _, err := client.OnlineArchives.CreatePrivateLinkEndpoint(ctx, project, archive)
	must("an Online Archive's endpoint", err)
	check(added.TotalCount == 1 && added.Results[0].EndpointID == unknown, "archives: %v", added)
	_, err = client.OnlineArchives.DeletePrivateLinkEndpoint(ctx, project, unknown)
	must("delete", err)

	entries := []*mongodbatlas.ProjectIPAccessList{{IPAddress: "203.0.113.7", Comment: "me"}}
	_, _, err = client.ProjectIPAccessList.Create(ctx, project, entries)
	must("accessLists create", err)
	entry, _, err := client.ProjectIPAccessList.Get(ctx, project, "203.0.113.7")
	must("accessLists describe", err)
	check(entry.CIDRBlock == "203.0.113.7/32" && entry.Comment == "me", "accessLists describe: %v", entry)
	_, err = client.ProjectIPAccessList.Delete(ctx, project, "203.0.113.7")
	must("accessLists delete", err)
	_, _, err = client.ProjectIPAccessList.Get(ctx, project, "203.0.113.7")
	refused("accessLists describe", err, 404, "ATLAS_NETWORK_PERMISSION_ENTRY_NOT_FOUND")
}

// clusters connectionStrings describe; create, pause, list, delete.
func clusters(client *mongodbatlas.Client) {
	cluster, _, err := client.Clusters.Get(ctx, project, "Cluster0")
	must("connectionStrings describe", err)
	private := cluster.ConnectionStrings.PrivateEndpoint[0]
	check(private.SRVConnectionString == "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net", "private: %v", private)
	check(private.Endpoints[0].EndpointID == endpoint && private.Endpoints[0].Region == "US_EAST_1", "private: %v", private)
	check(cluster.ConnectionStrings.AwsPrivateLinkSrv[endpoint] == private.SRVConnectionString, "the older map")
	made, _, err := client.Clusters.Create(ctx, project, &mongodbatlas.Cluster{Name: "More", ClusterType: "REPLICASET",
		ProviderSettings: &mongodbatlas.ProviderSettings{ProviderName: "AWS", InstanceSizeName: "M10", RegionName: "US_EAST_1"}})
	must("clusters create", err)
	check(made.StateName == "CREATING", "clusters create: %v", made)
	paused := true
	view, _, err := client.Clusters.Update(ctx, project, "More", &mongodbatlas.Cluster{Paused: &paused})
	must("clusters pause", err)
	check(*view.Paused, "clusters pause: %v", view)
	list, _, err := client.AdvancedClusters.List(ctx, project, &mongodbatlas.ListOptions{})
	must("clusters list", err)
	check(list.TotalCount == 3, "clusters list: %v", list)
	_, err = client.Clusters.Delete(ctx, project, "More", nil)
	must("clusters delete", err)
	until("it is gone", func() bool {
		_, response, _ := client.Clusters.Get(ctx, project, "More")
		return response.StatusCode == 404
	})
	_, _, err = client.Clusters.Get(ctx, "111111111111111111111111", "Cluster0")
	refused("another project", err, 404, "GROUP_NOT_FOUND")
}
