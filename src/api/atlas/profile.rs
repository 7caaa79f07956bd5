//! Parts of a project that tools read besides its private endpoints: settings, which are stored and shown, and derived
//! data.

use std::collections::{BTreeMap, BTreeSet};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::clusters::merge;
use super::services::{self, invalid};
use super::{AtlasError, AtlasRequest, AtlasResult, PREVIEW, asked_version};
use crate::api::text::object_id;
use crate::control::inventory::NAMED_STRINGS_SETTING;
use crate::model::{Cloud, Region, derived_digits};

/// Settings that exist only in the version `preview`. Source: that version of the API's description.
const PREVIEW_SETTINGS: [(&str, bool); 1] = [(NAMED_STRINGS_SETTING, false)];

/// A project's settings with Atlas' defaults; they have no effect in the lab.
const SETTINGS: [(&str, bool); 9] = [
    ("isCollectDatabaseSpecificsStatisticsEnabled", true),
    ("isDataExplorerEnabled", true),
    ("isDataExplorerGenAIFeaturesEnabled", true),
    ("isDataExplorerGenAISampleDocumentPassingEnabled", false),
    ("isExtendedStorageSizesEnabled", false),
    ("isPerformanceAdvisorEnabled", true),
    ("isQueryInsightsGenAiFeaturesEnabled", true),
    ("isRealtimePerformancePanelEnabled", true),
    ("isSchemaAdvisorEnabled", true),
];

pub(super) async fn answer(request: &AtlasRequest<'_>, path: &[&str]) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let project = request.project.clone();
    let kept = inventory.project_profiles.get(&project).cloned().unwrap_or_default();
    match (&request.call.method, path) {
        (&Method::GET, ["settings"]) => Ok((StatusCode::OK, settings(&known_settings(request), &kept.settings))),
        (&Method::PATCH, ["settings"]) => {
            let body: BTreeMap<String, bool> = request.body()?;
            let known = known_settings(request);
            if let Some((name, value)) = body.iter().find(|(name, _)| !known.iter().any(|(known, _)| known == name)) {
                return Err(invalid(name, &value.to_string()));
            }
            let change = request.shared.control.edit(move |draft| {
                let kept = draft.change_settings(&project, body)?;
                Ok(settings(&known, kept))
            });
            Ok((StatusCode::OK, change.await?))
        }
        (&Method::GET, ["managedSlowMs"]) => Ok((StatusCode::OK, json!(kept.managed_slow_ms.unwrap_or(true)))),
        (&Method::POST, ["managedSlowMs", "enable"]) | (&Method::DELETE, ["managedSlowMs", "disable"]) => {
            let on = request.call.method == Method::POST;
            let change = move |draft: &mut crate::control::draft::Draft| {
                draft.project_profile(&project)?.managed_slow_ms = Some(on);
                Ok(())
            };
            request.shared.control.edit(change).await?;
            Ok((StatusCode::NO_CONTENT, json!({})))
        }
        // The lab has no users, flex clusters or alerts.
        (&Method::GET, ["teams" | "users" | "flexClusters" | "alerts"]) => {
            Ok((StatusCode::OK, request.page(Vec::new())))
        }
        (&Method::GET, ["ipAddresses"]) => Ok((StatusCode::OK, ip_addresses(request))),
        (&Method::GET, ["containers"]) => {
            let provider = request.call.query("providerName").unwrap_or("AWS");
            services::provider("providerName", provider)?;
            let own = containers(request).into_iter().filter(|container| container["providerName"] == provider);
            Ok((StatusCode::OK, request.page(own.collect())))
        }
        (&Method::GET, ["containers", "all"]) => Ok((StatusCode::OK, request.page(containers(request)))),
        (&Method::GET, ["containers", id]) => {
            let found = containers(request).into_iter().find(|container| container["id"] == *id);
            let missing =
                || AtlasError::new(404, "CLOUD_PROVIDER_CONTAINER_NOT_FOUND", format!("No container {id} exists."));
            Ok((StatusCode::OK, found.ok_or_else(|| missing().with([*id]))?))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

/// The settings of the requested version.
fn known_settings(request: &AtlasRequest<'_>) -> Vec<(&'static str, bool)> {
    let of_preview = PREVIEW_SETTINGS.iter().filter(|_| asked_version(request.call) == Some(PREVIEW));
    SETTINGS.iter().chain(of_preview).copied().collect()
}

fn settings(known: &[(&'static str, bool)], kept: &BTreeMap<String, bool>) -> Value {
    let value = |(name, default): &(&'static str, bool)| {
        ((*name).to_owned(), json!(kept.get(*name).copied().unwrap_or(*default)))
    };
    Value::Object(known.iter().map(value).collect())
}

/// The nodes' public addresses, to which the lab admits clients on the access list.
fn ip_addresses(request: &AtlasRequest<'_>) -> Value {
    let inventory = request.shared.control.inventory();
    let own = inventory.clusters.iter().filter(|(key, _)| key.0 == request.project);
    let clusters = own.map(|(key, record)| {
        let inbound: Vec<String> = record
            .cluster
            .nodes
            .iter()
            .filter_map(|node| Some(node.public_address?.ip().to_string()))
            .collect();
        json!({ "clusterName": key.1.as_str(), "futureInbound": [], "futureOutbound": [], "inbound": inbound, "outbound": inbound })
    });
    json!({ "groupId": request.project.as_str(), "services": { "clusters": clusters.collect::<Vec<_>>() } })
}

/// The network containers: one for every region with clusters or endpoint services of the project, on Google Cloud one
/// for all regions. Source: the API's description, `CloudProviderContainer`.
fn containers(request: &AtlasRequest<'_>) -> Vec<Value> {
    let inventory = request.shared.control.inventory();
    let project = &request.project;
    let clusters = inventory.clusters.iter().filter(|(key, _)| key.0 == *project);
    let services: Vec<_> = inventory.services.values().filter(|record| record.project == *project).collect();
    let mut regions: BTreeSet<Region> = clusters.flat_map(|(_, record)| record.cluster.regions()).collect();
    regions.extend(services.iter().map(|record| record.service.region.clone()));
    let clouds = inventory.cloud_services.values().filter(|record| record.project == *project);
    regions.extend(clouds.map(|record| record.service.region.clone()));
    let is_google = |region: &Region| region.cloud() == Some(Cloud::Gcp);
    let google: Vec<String> = regions.iter().filter(|region| is_google(region)).map(Region::atlas).collect();
    let container = |region: &Region| {
        let of_service = services.iter().find(|record| record.service.region == *region);
        let cidr = of_service.and_then(|record| record.service.cidrs.iter().next()).map(ToString::to_string);
        let name = format!("{project}/{}", if is_google(region) { "google" } else { region.as_str() });
        let digits = derived_digits(&format!("atlas-vpc/{name}"));
        let mut value = json!({
            "atlasCidrBlock": cidr.unwrap_or_else(|| "192.168.248.0/21".to_owned()),
            "id": object_id("container", &name),
            "providerName": region.provider(),
            "provisioned": true,
        });
        let own = match region.cloud() {
            None => json!({ "regionName": region.atlas(), "vpcId": format!("vpc-0{}", &digits[..16]) }),
            Some(Cloud::Azure) => json!({
                "azureSubscriptionId": &digits[..24],
                "region": region.atlas(),
                "vnetName": format!("vnet_{}", &digits[24..32]),
            }),
            Some(Cloud::Gcp) => json!({
                "gcpProjectId": format!("p-{}", &digits[..24]),
                "networkName": format!("nt-{}-{}", &digits[..24], &digits[24..32]),
                "regions": google,
            }),
        };
        merge(&mut value, own);
        value
    };
    let first_of_google = regions.iter().find(|region| is_google(region));
    regions.iter().filter(|region| !is_google(region) || Some(*region) == first_of_google).map(container).collect()
}
