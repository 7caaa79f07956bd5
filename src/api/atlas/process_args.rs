//! A cluster's advanced configuration, `processArgs`: stored and shown, without effect on the `mongod`s behind the
//! gateway.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::errors::no_cluster;
use super::services::invalid;
use super::{AtlasRequest, AtlasResult};
use crate::control::draft::profiles::ClusterChange;
use crate::control::inventory::Pair;
use crate::model::ClusterName;

/// The options of the API's versions from 2023-01-01 to 2024-08-05, each with its default (or, if that is null or there
/// are choices, any value of its type) and the choices.
fn known() -> Value {
    json!({
        "changeStreamOptionsPreAndPostImagesExpireAfterSeconds": [-1],
        "chunkMigrationConcurrency": [null, 0],
        "customOpensslCipherConfigTls12": [[]],
        "customOpensslCipherConfigTls13": [[]],
        "defaultMaxTimeMS": [null, 0],
        "defaultReadConcern": [null, "", ["available", "local", "majority"]],
        "defaultWriteConcern": [null, ""],
        "failIndexKeyTooLong": [null, false],
        "javascriptEnabled": [true],
        "minimumEnabledTlsProtocol": ["TLS1_2", "", ["TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"]],
        "noTableScan": [false],
        "oplogMinRetentionHours": [null, 0],
        "oplogSizeMB": [null, 0],
        "queryStatsLogVerbosity": [1],
        "sampleRefreshIntervalBIConnector": [null, 0],
        "sampleSizeBIConnector": [null, 0],
        "tlsCipherConfigMode": ["DEFAULT", "", ["CUSTOM", "DEFAULT"]],
        "transactionLifetimeLimitSeconds": [null, 0],
    })
}

pub(super) fn describe(request: &AtlasRequest<'_>, name: &ClusterName) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let key = Pair(request.project.clone(), name.clone());
    if !inventory.clusters.contains_key(&key) {
        return Err(no_cluster(name.as_str()));
    }
    let mut value: Map<String, Value> = Map::new();
    for (name, sample) in known().as_object().into_iter().flatten() {
        value.insert(name.clone(), sample[0].clone());
    }
    for (name, kept) in inventory.cluster_profiles.get(&key).into_iter().flat_map(|profile| &profile.process_args) {
        value.insert(name.clone(), kept.clone());
    }
    Ok((StatusCode::OK, value.into()))
}

pub(super) async fn change(request: &AtlasRequest<'_>, name: ClusterName) -> AtlasResult {
    let body: Map<String, Value> = request.body()?;
    let known = known();
    for (name, value) in &body {
        let sample = known.get(name).ok_or_else(|| invalid(name, &value.to_string()))?;
        let (sample, choices) = (sample.get(1).unwrap_or(&sample[0]), sample.get(2));
        let is_of_type = std::mem::discriminant(value) == std::mem::discriminant(sample);
        let is_choice = choices.and_then(Value::as_array).is_none_or(|choices| choices.contains(value));
        let are_texts = value.as_array().is_none_or(|items| items.iter().all(Value::is_string));
        if !(value.is_null() || is_of_type && is_choice && are_texts) {
            return Err(invalid(name, &value.to_string()));
        }
    }
    let change = ClusterChange { process_args: body.into_iter().collect(), ..ClusterChange::default() };
    let (project, which) = (request.project.clone(), name.clone());
    request.shared.control.edit(move |draft| draft.change_cluster(&project, &which, change)).await?;
    describe(request, &name)
}
