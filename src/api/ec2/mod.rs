//! The EC2 Query API: `POST /` with a form, XML responses. Source: Amazon EC2 API Reference, 2016-11-15. STS and IAM
//! use the same address, see [`sts`].

mod connections;
#[cfg(test)]
mod dual_stack_tests;
mod endpoints;
mod errors;
mod groups;
mod interfaces;
mod items;
mod params;
mod rules;
mod services;
mod sts;
mod subnets;
mod surroundings;
mod tags;
#[cfg(test)]
mod tests;
mod vpcs;
mod xml;

use std::sync::Arc;

use hyper::StatusCode;

pub(super) use self::errors::Ec2Error;
use self::errors::not_found;
use self::params::Params;
use self::xml::Xml;
use super::ApiState;
use super::call::{Call, Reply, bytes, pairs};
use super::text::uuid;
use crate::control::draft::{Draft, EditError, ResourceKind};
use crate::control::inventory::Inventory;
use crate::model::{Direction, Region};

/// The account that owns everything.
const OWNER: &str = "123456789012";

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// The content of an action's response element.
type Ec2Result = Result<Xml, Ec2Error>;

/// A request.
struct Ec2Request<'a> {
    shared: &'a ApiState,
    params: Params,
    /// The region for which the request was signed; `None`: unsigned, which sees every region.
    region: Option<Region>,
}

impl Ec2Request<'_> {
    /// Whether resources in `region` are visible.
    fn is_visible(&self, region: &Region) -> bool {
        self.region.as_ref().is_none_or(|own| own == region)
    }

    /// Refuses unread parameters, and dry runs (`DryRun`).
    fn check_complete(&self) -> Result<(), Ec2Error> {
        let is_dry = self.params.flag("DryRun")? == Some(true);
        self.params.check_all_read()?;
        if is_dry { Err(Ec2Error::dry_run()) } else { Ok(()) }
    }

    /// Changes the inventory if the request is complete; handlers read all their parameters before.
    async fn edit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Draft) -> Result<T, EditError> + Clone + Send + Sync + 'static,
    ) -> Result<T, Ec2Error> {
        self.check_complete()?;
        self.check_region()?;
        Ok(self.shared.control.edit(change).await?)
    }

    /// Checks that the caller's region, that of the signature, exists.
    fn check_region(&self) -> Result<(), Ec2Error> {
        let inventory = self.shared.control.inventory();
        let found = self.params.resource_ids().find(|id| !self.is_resource_visible(&inventory, id));
        found.map_or(Ok(()), |id| Err(not_found(ResourceKind::of_id(id), id)))
    }

    /// Whether a resource with this id is visible.
    fn is_resource_visible(&self, inventory: &Inventory, id: &str) -> bool {
        inventory.region_of_resource(id).is_none_or(|region| self.is_visible(region))
    }

    /// The region of a new resource.
    fn own_region(&self) -> Result<Region, Ec2Error> {
        let inventory = self.shared.control.inventory();
        let only = || inventory.vpcs.values().next().map(|record| record.vpc.region.clone());
        self.region.clone().or_else(only).ok_or_else(|| {
            Ec2Error::new("MissingAuthenticationToken", "Sign the request: the region is in its signature's scope.")
        })
    }
}

pub(super) async fn answer(shared: &Arc<ApiState>, call: &Call) -> Reply {
    let mut form = pairs(&call.body);
    form.extend(call.query.iter().cloned());
    let params = Params::new(form);
    let action = params.text("Action").unwrap_or_default().to_owned();
    if let Some(answer) = sts::answer(&action, &params) {
        return answer;
    }
    let answered = match region(call) {
        Ok(region) => act(&Ec2Request { shared, params, region }, &action).await,
        Err(refusal) => Err(refusal),
    };
    match answered {
        Ok(body) => reply(StatusCode::OK, &success(&action, &body)),
        Err(refusal) => reply(refusal.status, &failure(&refusal)),
    }
}

async fn act(request: &Ec2Request<'_>, action: &str) -> Ec2Result {
    use Direction::{Egress, Ingress};
    let body = match action {
        "CreateVpcEndpoint" => endpoints::create(request).await,
        "DescribeVpcEndpoints" => endpoints::describe(request),
        "ModifyVpcEndpoint" => endpoints::modify(request).await,
        "DeleteVpcEndpoints" => endpoints::delete(request).await,
        "DescribeVpcEndpointAssociations" => surroundings::describe_associations(request),
        "DescribeVpcEndpointServices" => services::describe(request),
        "DescribeVpcEndpointServiceConfigurations" => services::describe_configurations(request),
        "DescribeVpcEndpointServicePermissions" => services::describe_permissions(request),
        "DescribeVpcEndpointConnections" => connections::describe(request),
        "AcceptVpcEndpointConnections" => connections::decide(request, true).await,
        "RejectVpcEndpointConnections" => connections::decide(request, false).await,
        "DescribeNetworkInterfaces" => interfaces::describe(request),
        "CreateVpc" => vpcs::create(request).await,
        "DeleteVpc" => vpcs::delete(request).await,
        "DescribeVpcs" => vpcs::describe(request),
        "AssociateVpcCidrBlock" => vpcs::associate(request).await,
        "DisassociateVpcCidrBlock" => vpcs::disassociate(request).await,
        "ModifyVpcAttribute" => vpcs::modify_attribute(request).await,
        "DescribeVpcAttribute" => vpcs::describe_attribute(request),
        "CreateSubnet" => subnets::create(request).await,
        "DeleteSubnet" => subnets::delete(request).await,
        "DescribeSubnets" => subnets::describe(request),
        "AssociateSubnetCidrBlock" => subnets::associate(request).await,
        "DisassociateSubnetCidrBlock" => subnets::disassociate(request).await,
        "ModifySubnetAttribute" => subnets::modify_attribute(request).await,
        "DescribeAvailabilityZones" => surroundings::describe_zones(request),
        "DescribeRegions" => surroundings::describe_regions(request),
        "DescribeAccountAttributes" => surroundings::describe_account(request),
        "DescribePrefixLists" => surroundings::describe_prefix_lists(request),
        "DescribeNetworkAcls" => surroundings::describe_network_acls(request),
        "DescribeRouteTables" => surroundings::describe_route_tables(request),
        "CreateSecurityGroup" => groups::create(request).await,
        "DeleteSecurityGroup" => groups::delete(request).await,
        "DescribeSecurityGroups" => groups::describe(request),
        "DescribeSecurityGroupRules" => rules::describe(request),
        "AuthorizeSecurityGroupIngress" => rules::authorize(request, Ingress).await,
        "AuthorizeSecurityGroupEgress" => rules::authorize(request, Egress).await,
        "RevokeSecurityGroupIngress" => rules::revoke(request, Ingress).await,
        "RevokeSecurityGroupEgress" => rules::revoke(request, Egress).await,
        "ModifySecurityGroupRules" => rules::modify(request).await,
        "UpdateSecurityGroupRuleDescriptionsIngress" => rules::update_descriptions(request, Ingress).await,
        "UpdateSecurityGroupRuleDescriptionsEgress" => rules::update_descriptions(request, Egress).await,
        "CreateTags" => tags::create(request).await,
        "DeleteTags" => tags::delete(request).await,
        "DescribeTags" => tags::describe(request),
        "ModifyVpcTenancy"
        | "CreateVpcEndpointServiceConfiguration"
        | "ModifyVpcEndpointServiceConfiguration"
        | "ModifyVpcEndpointServicePermissions"
        | "DeleteVpcEndpointServiceConfigurations" => {
            return Err(Ec2Error::new("UnsupportedOperation", format!("The lab does not support {action}.")));
        }
        "" => return Err(Ec2Error::new("MissingAction", "The request is missing an action.")),
        other => {
            let message = format!("The action {other} is not valid for this web service.");
            return Err(Ec2Error::new("InvalidAction", message));
        }
    }?;
    request.check_complete()?;
    Ok(body)
}

/// The region in the credential scope of a signed request.
fn region(call: &Call) -> Result<Option<Region>, Ec2Error> {
    let scope =
        |text: &str| text.split(',').next().unwrap_or_default().split('/').nth(2).unwrap_or_default().to_owned();
    let in_header = call.header("authorization").and_then(|header| header.split_once("Credential="));
    let in_query = call.query.iter().find(|(key, _)| key == "X-Amz-Credential");
    let Some(region) = in_header.map(|(_, text)| scope(text)).or_else(|| in_query.map(|(_, text)| scope(text))) else {
        return Ok(None);
    };
    Region::of(None, &region).map(Some).map_err(|_| Ec2Error {
        status: StatusCode::FORBIDDEN,
        code: "SignatureDoesNotMatch",
        message: format!("Credential should be scoped to a valid region, not '{region}'."),
    })
}

fn success(action: &str, body: &Xml) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{NAMESPACE}\"><requestId>{}</requestId>{}\
         </{action}Response>\n",
        uuid(),
        body.as_str()
    )
}

pub(super) fn failure(refusal: &Ec2Error) -> String {
    let mut error = Xml::new();
    error.nest("Error", |error| {
        error.leaf("Code", refusal.code);
        error.leaf("Message", &refusal.message);
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors>{}</Errors><RequestID>{}</RequestID></Response>\n",
        error.as_str(),
        uuid()
    )
}

fn reply(status: StatusCode, body: &str) -> Reply {
    bytes(status, "text/xml;charset=UTF-8", body.to_owned())
}
