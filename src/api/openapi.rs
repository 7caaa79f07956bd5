//! The OpenAPI description, generated from the router's tables. The schemas of `/v1` come from its handlers' types,
//! those of the vendors' APIs from `openapi.json`.
//!
//! Schemas by `schemars`: `utoipa`'s attributes repeat path, body and answer beside the handler, where nothing holds them
//! against it, and its macros build for longer.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::call::Problem;
use super::routes::VENDORS;
use super::v1;

/// The description as it is served.
pub(super) static DESCRIPTION: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(description().to_string()));

const JSON: &str = "application/json";
const XML: &str = "text/xml";
const FORM: &str = "application/x-www-form-urlencoded";
/// The version of Atlas' media type that an answer has without another one in `Accept`.
const ATLAS: &str = "application/vnd.atlas.2023-01-01+json";

/// The version of what may still change; a request without it is refused with the other.
const PREVIEW: &str = "application/vnd.atlas.preview+json";

/// What the operations of one API have in common.
struct Family {
    tag: &'static str,
    /// Schemes of which any will do; `""` is none at all.
    security: &'static [&'static str],
    takes: &'static [&'static str],
    answers: &'static [&'static str],
    /// The schema of its errors.
    error: &'static str,
}

/// What is said of one operation.
struct Operation<'a> {
    path: &'a str,
    id: &'a str,
    summary: Option<&'a str>,
    query: Vec<&'a str>,
    body: Option<Value>,
    status: StatusCode,
    /// `None`: the answer has no body.
    answer: Option<Value>,
    refusals: &'a [u16],
}

fn description() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut answers = settings.clone().for_serialize().into_generator();
    let mut bodies = settings.for_deserialize().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut paths = Map::new();
    let mut add = |method: &Method, operation: &Operation<'_>| {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[method.as_str().to_lowercase()] = describe(operation);
    };
    for operation in v1::OPERATIONS.iter() {
        let described = Operation {
            path: operation.path,
            id: operation.id,
            summary: Some(operation.summary),
            query: operation.query.to_vec(),
            body: operation.body.map(|schema| schema(&mut bodies).into()),
            status: operation.status,
            answer: operation.answer.map(|schema| schema(&mut answers).into()),
            refusals: operation.refusals,
        };
        add(&operation.method, &described);
    }
    for (path, all) in VENDORS {
        for vendor in *all {
            let described = Operation {
                path,
                id: vendor.id,
                summary: None,
                query: query(path, &vendor.method),
                body: named(vendor.body),
                status: StatusCode::from_u16(vendor.status).expect("the table has statuses"),
                answer: if *path == "/" { Some(json!({ "type": "string" })) } else { named(vendor.answer) },
                refusals: refusals(path, &vendor.method),
            };
            add(&vendor.method, &described);
        }
    }
    answers.subschema_for::<Problem<'_>>();
    let mut whole: Value = serde_json::from_str(include_str!("openapi.json")).expect("a test reads it");
    whole["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    whole["paths"] = paths.into();
    for (name, schema) in answers.take_definitions(true) {
        let other = whole["components"]["schemas"].as_object_mut().expect("it has schemas").insert(name, schema);
        debug_assert!(other.is_none(), "two schemas have one name: {other:?}");
    }
    whole
}

fn describe(operation: &Operation<'_>) -> Value {
    let family = family(operation.path);
    let content = |media: &[&str], schema: &Value| -> Value {
        media.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect::<Map<_, _>>().into()
    };
    let mut answer = json!({ "description": operation.status.canonical_reason() });
    if let Some(schema) = &operation.answer {
        answer["content"] = content(family.answers, schema);
    }
    let mut responses = Map::from_iter([(operation.status.as_str().to_owned(), answer)]);
    let error = |status: u16, media: &[&str], schema: &Value| {
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        (status.to_string(), json!({ "description": reason, "content": content(media, schema) }))
    };
    let own = if family.error.is_empty() { json!({ "type": "string" }) } else { reference(family.error) };
    responses.extend(operation.refusals.iter().map(|status| error(*status, family.answers, &own)));
    // Host and Origin header, and the length of the body, are checked before a request reaches its API.
    responses.extend([403, 413].map(|status| error(status, &[JSON], &reference("Problem"))));
    if family.security != [""] {
        responses.extend([401, 429].map(|status| error(status, family.answers, &own)));
    }
    let parts = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of_path = parts.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": part(name) }));
    // With `envelope` every answer is one of status 200 around what is described here.
    let of_query = operation.query.iter().filter(|name| **name != "envelope");
    let of_query = of_query.map(|name| json!({ "name": name, "in": "query", "schema": part(name) }));
    let security =
        family.security.iter().map(|scheme| if scheme.is_empty() { json!({}) } else { json!({ *scheme: [] }) });
    let mut described = json!({
        "operationId": operation.id,
        "tags": [family.tag],
        "parameters": of_path.chain(of_query).collect::<Vec<_>>(),
        "responses": responses,
        "security": security.collect::<Vec<_>>(),
    });
    if let Some(summary) = operation.summary {
        described["summary"] = summary.into();
    }
    if let Some(body) = &operation.body {
        let required = !operation.path.starts_with("/v1/") || body.get("required").is_some();
        described["requestBody"] = json!({ "required": required, "content": content(family.takes, body) });
    }
    described
}

fn family(path: &str) -> Family {
    let family = |tag, security: &'static [_], takes: &'static [_], answers: &'static [_], error| Family {
        tag,
        security,
        takes,
        answers,
        error,
    };
    match path {
        _ if path.contains("/privateEndpointConnectionStrings") => {
            family("atlas", &["", "digest", "serviceAccount"], &[PREVIEW, JSON], &[PREVIEW, ATLAS], "ApiError")
        }
        _ if path.starts_with("/api/atlas/v2/") => {
            family("atlas", &["", "digest", "serviceAccount"], &[ATLAS, JSON], &[ATLAS, JSON], "ApiError")
        }
        _ if path.starts_with("/api/atlas/") => {
            family("atlas", &["", "digest", "serviceAccount"], &[JSON], &[JSON], "ApiError")
        }
        _ if path.starts_with("/api/private/") => family("atlas", &[""], &[JSON], &[JSON], "Problem"),
        _ if path.starts_with("/api/oauth/") => family("atlas", &["", "client"], &[FORM], &[JSON], "OAuthError"),
        _ if path.ends_with("/login") => family("app services", &[""], &[JSON], &[JSON], "AppError"),
        _ if path.starts_with("/api/admin/") => family("app services", &["session"], &[JSON], &[JSON], "AppError"),
        "/" => family("ec2", &["", "signature"], &[FORM], &[XML], ""),
        "/openapi.json" => family("gateway", &[""], &[JSON], &[JSON], "Problem"),
        _ => family("gateway", &["", "token"], &[JSON], &[JSON], "Problem"),
    }
}

/// The refusals of a vendor's operation, besides those for who asks and how.
fn refusals(path: &str, method: &Method) -> &'static [u16] {
    match path {
        "/" => &[400, 412, 503],
        "/openapi.json" => &[],
        _ if path.contains("/privateEndpointConnectionStrings") => &[400, 404, 406, 409, 503],
        _ if path.starts_with("/api/atlas/") => &[400, 404, 409, 503],
        _ if path.starts_with("/api/admin/") && path.contains("{groupId}") && method == Method::GET => &[400, 404],
        _ if path.starts_with("/api/admin/") && path.contains("{groupId}") => &[400, 404, 503],
        "/api/oauth/token" => &[400],
        _ if path.ends_with("/login") => &[400, 401, 429],
        _ if path.starts_with("/api/admin/") => &[400],
        _ => &[],
    }
}

/// The query parameters of a vendor's operation: what a request has besides is refused.
pub(super) fn query(path: &str, method: &Method) -> Vec<&'static str> {
    if path == "/api/admin/v3.0/groups/{groupId}/apps" {
        return vec!["product"];
    }
    let Some(rest) = path.strip_prefix("/api/atlas/").and_then(|rest| rest.split_once('/')) else { return Vec::new() };
    let is_get = method == Method::GET;
    let (is_page, own): (bool, &[&str]) = match rest.1 {
        "groups" => (is_get, if is_get { &[] } else { &["projectOwnerId"] }),
        "orgs" | "orgs/{orgId}/groups" => (true, &["name"]),
        "clusters" => (true, &[]),
        below => match below.strip_prefix("groups/{groupId}/").unwrap_or_default() {
            "containers" => (true, &["providerName"]),
            "clusters" => (is_get, if is_get { &["includeDeletedWithRetainedBackups"] } else { &[] }),
            "clusters/{clusterName}" if *method == Method::DELETE => (false, &["retainBackups"]),
            "users" => (true, &["flattenTeams", "includeOrgUsers", "orgMembershipStatus", "username"]),
            "alerts" => (true, &["status"]),
            "accessList" | "whitelist" | "privateNetworkSettings/endpointIds" | "teams" | "flexClusters" => (true, &[]),
            "containers/all" | "databaseUsers" | "serverless" | "limits" | "privateEndpoint" => (is_get, &[]),
            "clusters/{clusterName}/privateEndpointConnectionStrings" => (is_get, &[]),
            "privateEndpoint/{cloudProvider}/endpointService" => (true, &[]),
            "privateEndpoint/serverless/instance/{instanceName}/endpoint" => (is_get, &[]),
            _ => (false, &[]),
        },
    };
    let of_pages: &[&str] = if is_page { &["pageNum", "itemsPerPage", "includeCount"] } else { &[] };
    [&["envelope", "pretty"][..], of_pages, own].concat()
}

/// The schema of a parameter.
fn part(name: &str) -> Value {
    match name {
        "groupId" | "endpointServiceId" => json!({ "type": "string", "pattern": "^[a-f0-9]{24}$" }),
        "cloudProvider" => json!({ "type": "string", "enum": ["AWS", "AZURE", "GCP"] }),
        "pretty"
        | "includeCount"
        | "flattenTeams"
        | "includeOrgUsers"
        | "retainBackups"
        | "includeDeletedWithRetainedBackups" => json!({ "type": "boolean" }),
        "pageNum" => json!({ "type": "integer", "minimum": 1 }),
        "itemsPerPage" => json!({ "type": "integer", "minimum": 1, "maximum": 500 }),
        "providerName" => json!({ "type": "string", "enum": ["AWS", "AZURE", "GCP"] }),
        _ => json!({ "type": "string" }),
    }
}

/// A schema of `openapi.json` by its name in the table.
fn named(name: &str) -> Option<Value> {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(item) => Some(json!({ "type": "array", "items": reference(item) })),
        None if name.is_empty() => None,
        None => Some(reference(name)),
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
