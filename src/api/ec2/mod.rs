//! The EC2 Query API: `POST /`, a form in, XML out. Source: Amazon EC2 API Reference, 2016-11-15.

mod endpoints;
mod errors;
mod groups;
mod items;
mod params;
mod vpcs;
mod xml;

use std::sync::Arc;

use hyper::StatusCode;

use self::errors::Refusal;
use self::params::Params;
use self::xml::Xml;
use super::Shared;
use super::call::{Call, Reply, bytes, pairs};
use super::text::uuid;
use crate::model::Region;

/// The account that everything belongs to.
const OWNER: &str = "123456789012";

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// What an action answers inside its response element.
type Outcome = Result<Xml, Refusal>;

/// One request.
struct Request<'a> {
    shared: &'a Shared,
    params: Params,
    /// The region that the request was signed for; `None`: unsigned, which sees every region.
    region: Option<Region>,
}

impl Request<'_> {
    /// Whether something in `region` is looked at.
    fn sees(&self, region: &Region) -> bool {
        self.region.as_ref().is_none_or(|own| own == region)
    }

    /// With `DryRun`, the answer that nothing but the flag stood in the way.
    fn check_dry_run(&self) -> Result<(), Refusal> {
        if self.params.flag("DryRun")? == Some(true) { Err(Refusal::dry_run()) } else { Ok(()) }
    }
}

pub(super) async fn answer(shared: &Arc<Shared>, call: &Call) -> Reply {
    let mut form = pairs(&call.body);
    form.extend(call.query.iter().cloned());
    let params = Params::new(form);
    let action = params.text("Action").unwrap_or_default().to_owned();
    let request = Request { shared, params, region: region(call) };
    match act(&request, &action).await {
        Ok(body) => reply(StatusCode::OK, &success(&action, &body)),
        Err(refusal) => reply(refusal.status, &failure(&refusal)),
    }
}

async fn act(request: &Request<'_>, action: &str) -> Outcome {
    match action {
        "CreateVpcEndpoint" => endpoints::create(request).await,
        "DescribeVpcEndpoints" => endpoints::describe(request),
        "ModifyVpcEndpoint" => endpoints::modify(request).await,
        "DeleteVpcEndpoints" => endpoints::delete(request).await,
        "DescribeVpcEndpointServices" => endpoints::describe_services(request),
        "DescribeVpcEndpointConnections" => endpoints::describe_connections(request),
        "AcceptVpcEndpointConnections" => endpoints::decide(request, true).await,
        "RejectVpcEndpointConnections" => endpoints::decide(request, false).await,
        "DescribeNetworkInterfaces" => endpoints::describe_interfaces(request),
        "CreateVpc" => vpcs::create(request).await,
        "DeleteVpc" => vpcs::delete(request).await,
        "DescribeVpcs" => vpcs::describe(request),
        "ModifyVpcAttribute" => vpcs::modify_attribute(request).await,
        "DescribeVpcAttribute" => vpcs::describe_attribute(request),
        "CreateSubnet" => vpcs::create_subnet(request).await,
        "DeleteSubnet" => vpcs::delete_subnet(request).await,
        "DescribeSubnets" => vpcs::describe_subnets(request),
        "DescribeAvailabilityZones" => vpcs::describe_zones(request),
        "DescribeRegions" => Ok(vpcs::describe_regions(request)),
        "CreateSecurityGroup" => groups::create(request).await,
        "DeleteSecurityGroup" => groups::delete(request).await,
        "DescribeSecurityGroups" => groups::describe(request),
        "AuthorizeSecurityGroupIngress" => groups::change(request, groups::Change::AuthorizeIngress).await,
        "AuthorizeSecurityGroupEgress" => groups::change(request, groups::Change::AuthorizeEgress).await,
        "RevokeSecurityGroupIngress" => groups::change(request, groups::Change::RevokeIngress).await,
        "RevokeSecurityGroupEgress" => groups::change(request, groups::Change::RevokeEgress).await,
        "CreateTags" => vpcs::tag(request, true).await,
        "DeleteTags" => vpcs::tag(request, false).await,
        "" => Err(Refusal::new("MissingAction", "The request is missing an action.")),
        other => Err(Refusal::new("InvalidAction", format!("The action {other} is not valid for this web service."))),
    }
}

/// The region in the credential scope of a signed request.
fn region(call: &Call) -> Option<Region> {
    let authorization = call.header("authorization")?;
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split(',').next()?.split('/').nth(2)?.parse().ok()
}

fn success(action: &str, body: &Xml) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{NAMESPACE}\"><requestId>{}</requestId>{}\
         </{action}Response>\n",
        uuid(),
        body.as_str()
    )
}

pub(super) fn failure(refusal: &Refusal) -> String {
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
