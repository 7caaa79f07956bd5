//! The App Services Admin API v3: `/api/admin/v3.0/…`. Source: its OpenAPI description; error codes that it does not
//! define are the gateway's own.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::ApiState;
use super::auth::{KeyCheck, with_scheme};
use super::call::{Call, Reply, empty, json as reply};
use super::openapi::query;
use super::sessions::{ACCESS_LIFETIME, REFRESH_LIFETIME, TokenUse};
use super::text::object_id;
use crate::control::draft::EditError;
use crate::control::inventory::Inventory;
use crate::control::{ChangeError, chain};
use crate::model::{App, AppEndpoint, AppEndpointKind, DeploymentModel, ProjectId, Region, VpceId};

/// A status and a body, if it has one.
type AppServicesResult = Result<(StatusCode, Option<Value>), AppServicesError>;

/// An error: `{"error":"…","error_code":"…"}`.
struct AppServicesError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl AppServicesError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameter", message)
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    fn session() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "InvalidSession",
            "invalid session: access token is missing, unknown or expired",
        )
    }
}

impl From<ChangeError> for AppServicesError {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::Edit(EditError::Missing { what: crate::control::draft::ResourceKind::Endpoint, id }) => {
                Self::new(
                    StatusCode::BAD_REQUEST,
                    "InvalidVPCEndpointID",
                    format!("invalid VPC endpoint id: {id} was not found"),
                )
            }
            ChangeError::Edit(EditError::Missing { .. }) => Self::not_found(error.to_string()),
            ChangeError::Plan(errors) => {
                let words: Vec<String> = errors.as_slice().iter().map(|error| error.rule.to_string()).collect();
                Self::new(StatusCode::BAD_REQUEST, "BadRequest", words.join("; "))
            }
            ChangeError::Save(_) if error.is_too_large() => Self::new(StatusCode::CONFLICT, "Conflict", chain(&error)),
            ChangeError::Save(_) | ChangeError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", chain(&error))
            }
            _ => Self::new(StatusCode::BAD_REQUEST, "BadRequest", chain(&error)),
        }
    }
}

/// Handles a request for the route `template`.
pub(super) async fn answer(shared: &Arc<ApiState>, call: &Call, template: &str) -> Reply {
    let known = query(template, &call.method);
    let answered = match call.query.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => act(shared, call).await,
        Some((name, _)) => Err(AppServicesError::bad(format!("unknown query parameter `{name}`: leave it out"))),
    };
    match answered {
        Ok((status, Some(body))) => reply(status, &body),
        Ok((status, None)) => empty(status),
        Err(AppServicesError { status, code, message }) => {
            reply(status, &json!({ "error": message, "error_code": code }))
        }
    }
}

/// The response to an unknown route.
pub(super) fn unknown(call: &Call, allowed: &str) -> Reply {
    let (status, code, message) = if allowed.is_empty() {
        (StatusCode::NOT_FOUND, "NotFound", format!("there is nothing at `{}`", call.path))
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", format!("use {allowed} here"))
    };
    reply(status, &json!({ "error": message, "error_code": code }))
}

async fn act(shared: &ApiState, call: &Call) -> AppServicesResult {
    let segments = call.segments();
    let rest = segments.get(3..).unwrap_or_default();
    match (&call.method, rest) {
        (&Method::POST, ["auth", "providers", "mongodb-cloud", "login"]) => return login(shared, call),
        (&Method::POST, ["auth", "session"]) => return refresh(shared, call),
        _ => {}
    }
    let token = bearer(call)
        .filter(|token| shared.sessions.is_valid(token, TokenUse::Access))
        .ok_or_else(AppServicesError::session)?;
    match (&call.method, rest) {
        (&Method::DELETE, ["auth", "session"]) => {
            shared.sessions.close(token);
            Ok((StatusCode::NO_CONTENT, None))
        }
        (&Method::GET, ["auth", "profile"]) => Ok(profile(shared)),
        (&Method::GET, ["provider_regions"]) => Ok(ok(regions())),
        (_, ["groups", group, "apps", rest @ ..]) => {
            let group: ProjectId =
                group.parse().map_err(|_| AppServicesError::not_found(format!("group not found: '{group}'")))?;
            apps(shared, call, &group, rest).await
        }
        _ => Err(AppServicesError::not_found(format!("there is nothing at `{}`", call.path))),
    }
}

fn ok(body: Value) -> (StatusCode, Option<Value>) {
    (StatusCode::OK, Some(body))
}

fn bearer(call: &Call) -> Option<&str> {
    with_scheme(call.header("authorization")?, "Bearer")
}

/// Parses a JSON body. Fields that `T` does not have, at any depth, are refused, so that no part of a request is
/// silently ignored.
fn body<T: DeserializeOwned>(call: &Call) -> Result<T, AppServicesError> {
    let wrong = |error| AppServicesError::bad(format!("the body is not what is expected: {error}"));
    let (body, unknown) = call.json_with_unknown().map_err(wrong)?;
    match unknown.as_slice() {
        [] => Ok(body),
        paths => Err(AppServicesError::bad(format!("unknown field `{}`: leave it out", paths.join("`, `")))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    username: String,
    api_key: String,
}

fn login(shared: &ApiState, call: &Call) -> AppServicesResult {
    let login: Login = body(call)?;
    if login.username.is_empty() || login.api_key.is_empty() {
        return Err(AppServicesError::new(
            StatusCode::UNAUTHORIZED,
            "AuthError",
            "(Unauthorized) username and apiKey are required",
        ));
    }
    match shared.auth.pair(call.from.ip(), &login.username, &login.api_key) {
        KeyCheck::Right => {}
        KeyCheck::Wrong => {
            let message = "(Unauthorized) invalid username or apiKey";
            return Err(AppServicesError::new(StatusCode::UNAUTHORIZED, "AuthError", message));
        }
        KeyCheck::TooMany => {
            let message = "too many wrong attempts; wait a minute";
            return Err(AppServicesError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message));
        }
    }
    let refresh = shared.sessions.open(TokenUse::Refresh, REFRESH_LIFETIME, None);
    Ok(ok(json!({
        "access_token": shared.sessions.open(TokenUse::Access, ACCESS_LIFETIME, Some(&refresh)),
        "device_id": "000000000000000000000000",
        "refresh_token": refresh,
        "user_id": object_id("user", &login.username),
    })))
}

fn refresh(shared: &ApiState, call: &Call) -> AppServicesResult {
    let refresh = bearer(call).filter(|token| shared.sessions.is_valid(token, TokenUse::Refresh));
    let refresh = refresh.ok_or_else(AppServicesError::session)?;
    let token = shared.sessions.open(TokenUse::Access, ACCESS_LIFETIME, Some(refresh));
    Ok((StatusCode::CREATED, Some(json!({ "access_token": token }))))
}

fn profile(shared: &ApiState) -> (StatusCode, Option<Value>) {
    let inventory = shared.control.inventory();
    let roles: Vec<Value> =
        inventory.projects.keys().map(|id| json!({ "group_id": id.as_str(), "role_name": "GROUP_OWNER" })).collect();
    ok(json!({ "data": { "name": "plgw" }, "roles": roles, "type": "normal", "user_id": object_id("user", "plgw") }))
}

/// The AWS regions of App Services, with the location of each. Source: *Deployment Models & Regions*.
const REGIONS: [(&str, &str); 10] = [
    ("us-east-1", "US-VA"),
    ("us-east-2", "US-OH"),
    ("us-west-2", "US-OR"),
    ("eu-central-1", "DE-FF"),
    ("eu-west-1", "IE"),
    ("eu-west-2", "GB"),
    ("ap-southeast-1", "SG"),
    ("ap-southeast-2", "AU"),
    ("ap-south-1", "IN-MB"),
    ("sa-east-1", "BR-SP"),
];

fn regions() -> Value {
    REGIONS.iter().map(|(region, location)| json!({ "name": format!("aws-{region}"), "location": location })).collect()
}

fn app_id(app: &App) -> String {
    object_id("app", app.id.as_str())
}

fn model(app: &App) -> &'static str {
    match app.deployment {
        DeploymentModel::Local => "LOCAL",
        DeploymentModel::Global => "GLOBAL",
    }
}

/// The product of every app here; `atlas` and others are apps that MongoDB creates for its own use.
const PRODUCT: &str = "standard";

fn app_view(app: &App) -> Value {
    let location = REGIONS.iter().find(|(region, _)| *region == app.region.as_str()).map_or("US-VA", |(_, at)| at);
    json!({
        "_id": app_id(app),
        "client_app_id": app.id.as_str(),
        "deployment_model": model(app),
        "domain_id": object_id("domain", app.id.as_str()),
        "environment": "",
        "group_id": app.project.as_str(),
        "last_modified": 0,
        "last_used": 0,
        "location": location,
        "name": app.id.as_str().rsplit_once('-').map_or(app.id.as_str(), |(name, _)| name),
        "product": PRODUCT,
        "provider_region": app.region.app_services(),
    })
}

async fn apps(shared: &ApiState, call: &Call, group: &ProjectId, rest: &[&str]) -> AppServicesResult {
    let inventory = shared.control.inventory();
    if !inventory.projects.contains_key(group) {
        return Err(AppServicesError::not_found(format!("group not found: '{group}'")));
    }
    let mut own = inventory.apps.values().filter(|app| app.project == *group);
    let (id, rest) = match (&call.method, rest) {
        (&Method::GET, []) => {
            // `product` is repeated for each requested product.
            let mut products = call.query.iter().map(|(_, product)| product).peekable();
            let are_meant = products.peek().is_none() || products.any(|product| product == PRODUCT);
            return Ok(ok(own.filter(|_| are_meant).map(app_view).collect()));
        }
        (_, [id, rest @ ..]) => (*id, rest),
        _ => return Err(AppServicesError::not_found(format!("there is nothing at `{}`", call.path))),
    };
    let app = own
        .find(|app| app_id(app) == id)
        .ok_or_else(|| AppServicesError::new(StatusCode::NOT_FOUND, "AppNotFound", format!("app not found: '{id}'")))?;
    match (&call.method, rest) {
        (&Method::GET, []) => Ok(ok(app_view(app))),
        (&Method::GET, ["deployment_migration"]) => Ok(ok(migration(app))),
        (&Method::PUT, ["deployment_migration"]) => migrate(shared, call, app).await,
        (&Method::GET, ["security", "private_endpoint_service_infos"]) => {
            let infos = inventory.fixed.app_services.iter().map(|service| {
                json!({
                    "cloud_provider_region": service.region.app_services(),
                    "endpoint_type": kind_name(service.kind),
                    "service_name": service.name().to_string(),
                })
            });
            Ok(ok(infos.collect()))
        }
        (&Method::GET, ["security", "private_endpoints"]) => {
            Ok(ok(app.endpoints.iter().map(|endpoint| endpoint_view(&inventory, app, endpoint)).collect()))
        }
        (&Method::POST, ["security", "private_endpoints"]) => {
            let wanted = wanted(call, app, None)?;
            let (id, new) = (app.id.clone(), wanted.clone());
            shared.control.edit(move |draft| draft.add_app_endpoint(&id, new)).await?;
            Ok((StatusCode::CREATED, Some(endpoint_view(&inventory, app, &wanted))))
        }
        (_, ["services", rest @ ..]) => services(shared, call, app, rest).await,
        (method, ["security", "private_endpoints", object]) => one(shared, call, app, method, object).await,
        (&Method::POST, ["security", "allow_non_vpc_client_requests"]) => {
            let body: NonVpc = body(call)?;
            let id = app.id.clone();
            let allow = body.allow_non_vpc_client_requests;
            shared.control.edit(move |draft| draft.app_mut(&id).map(|app| app.allow_non_vpc_requests = allow)).await?;
            Ok((StatusCode::NO_CONTENT, None))
        }
        _ => Err(AppServicesError::not_found(format!("there is nothing at `{}`", call.path))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceConfig {
    wire_protocol_enabled: Option<bool>,
    /// Fields that can't be changed here.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The app's only data source, which has the setting of the wire protocol.
async fn services(shared: &ApiState, call: &Call, app: &App, rest: &[&str]) -> AppServicesResult {
    let id = object_id("app-service", app.id.as_str());
    let view = json!({ "_id": id, "name": "mongodb-atlas", "type": "mongodb-atlas", "version": 1 });
    let config = || {
        let inventory = shared.control.inventory();
        let cluster = inventory.clusters.keys().find(|key| key.0 == app.project).map(|key| key.1.to_string());
        json!({
            "clusterName": cluster.unwrap_or_else(|| "Cluster0".to_owned()),
            "readPreference": "primary",
            "wireProtocolEnabled": app.wire_protocol,
        })
    };
    match (&call.method, rest) {
        (&Method::GET, []) => Ok(ok(json!([view]))),
        (_, [own, ..]) if *own != id => {
            Err(AppServicesError::new(StatusCode::NOT_FOUND, "ServiceNotFound", format!("service not found: '{own}'")))
        }
        (&Method::GET, [_]) => Ok(ok(view)),
        (&Method::GET, [_, "config"]) => Ok(ok(config())),
        (&Method::PATCH, [_, "config"]) => {
            let body: ServiceConfig = body(call)?;
            let shown = config();
            if let Some((name, _)) = body.others.iter().find(|(name, value)| shown[name.as_str()] != **value) {
                return Err(AppServicesError::bad(format!(
                    "`{name}` can't be set here: leave it out, or send the current value"
                )));
            }
            let app = app.id.clone();
            if let Some(on) = body.wire_protocol_enabled {
                shared.control.edit(move |draft| draft.app_mut(&app).map(|app| app.wire_protocol = on)).await?;
            }
            Ok((StatusCode::NO_CONTENT, None))
        }
        _ => Err(AppServicesError::not_found(format!("there is nothing at `{}`", call.path))),
    }
}

#[derive(Deserialize)]
struct NonVpc {
    allow_non_vpc_client_requests: bool,
}

fn kind_name(kind: AppEndpointKind) -> &'static str {
    match kind {
        AppEndpointKind::General => "general",
        AppEndpointKind::Sync => "sync",
    }
}

fn endpoint_id(app: &App, endpoint: &VpceId) -> String {
    object_id("app-endpoint", &format!("{}/{endpoint}", app.id))
}

fn endpoint_view(inventory: &Inventory, app: &App, endpoint: &AppEndpoint) -> Value {
    // The endpoint's own region, which may differ from that of an app that moved.
    let known = inventory.endpoints.get(&endpoint.endpoint);
    let region = known.map_or(&app.region, |record| record.endpoint.service.region());
    json!({
        "_id": endpoint_id(app, &endpoint.endpoint),
        "cloud_provider_endpoint_id": endpoint.endpoint.as_str(),
        "cloud_provider_region": region.app_services(),
        "comment": endpoint.comment,
        "endpoint_type": kind_name(endpoint.kind),
    })
}

#[derive(Deserialize)]
struct NewAppEndpoint {
    /// Fields of a response, which clients send back with a change.
    #[serde(rename = "_id")]
    id: Option<String>,
    cloud_provider_region: String,
    cloud_provider_endpoint_id: String,
    endpoint_type: String,
    #[serde(default)]
    comment: Option<String>,
}

/// The requested private endpoint; `own` is the id of the one that it replaces, if any.
fn wanted(call: &Call, app: &App, own: Option<&str>) -> Result<AppEndpoint, AppServicesError> {
    let body: NewAppEndpoint = body(call)?;
    let kind = match body.endpoint_type.as_str() {
        "general" => AppEndpointKind::General,
        "sync" => AppEndpointKind::Sync,
        "legacy" => return Err(AppServicesError::bad("private endpoints of type `legacy` can no longer be created")),
        other => {
            return Err(AppServicesError::bad(format!("endpoint_type must be `general` or `sync`, not `{other}`")));
        }
    };
    let wrong =
        || AppServicesError::bad(format!("`{}` is not an AWS region of App Services", body.cloud_provider_region));
    if !body.cloud_provider_region.starts_with("aws-") {
        return Err(wrong());
    }
    let region = Region::of(None, &body.cloud_provider_region).map_err(|_| wrong())?;
    if region != app.region {
        let own = app.region.app_services();
        return Err(AppServicesError::bad(format!(
            "cloud_provider_region must be the app's deployment region, {own}, not {}",
            body.cloud_provider_region
        )));
    }
    let endpoint = VpceId::of_aws(&body.cloud_provider_endpoint_id).map_err(|_| {
        let message = format!("invalid VPC endpoint id: '{}'", body.cloud_provider_endpoint_id);
        AppServicesError::new(StatusCode::BAD_REQUEST, "InvalidVPCEndpointID", message)
    })?;
    // Derived from app and endpoint, so that a client can send back what it read.
    let ids = [own.map(str::to_owned), Some(endpoint_id(app, &endpoint))];
    if body.id.is_some() && !ids.contains(&body.id) {
        return Err(AppServicesError::bad("`_id` can't be chosen: leave it out"));
    }
    Ok(AppEndpoint { endpoint, kind, comment: body.comment.unwrap_or_default() })
}

async fn one(shared: &ApiState, call: &Call, app: &App, method: &Method, object: &str) -> AppServicesResult {
    let found = app.endpoints.iter().find(|endpoint| endpoint_id(app, &endpoint.endpoint) == object);
    let found = found.ok_or_else(|| AppServicesError::not_found(format!("private endpoint not found: '{object}'")))?;
    let (id, old) = (app.id.clone(), found.endpoint.clone());
    match *method {
        Method::GET => Ok(ok(endpoint_view(&shared.control.inventory(), app, found))),
        Method::PUT => {
            let new = wanted(call, app, Some(object))?;
            let changed = new.clone();
            shared.control.edit(move |draft| draft.change_app_endpoint(&id, &old, changed)).await?;
            Ok(ok(endpoint_view(&shared.control.inventory(), app, &new)))
        }
        Method::DELETE => {
            shared.control.edit(move |draft| draft.remove_app_endpoint(&id, &old)).await?;
            Ok((StatusCode::NO_CONTENT, None))
        }
        _ => Err(AppServicesError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "use GET, PUT or DELETE here",
        )),
    }
}

fn migration(app: &App) -> Value {
    json!({ "deployment_model": model(app), "provider_region": app.region.app_services(), "status": "successful" })
}

#[derive(Deserialize)]
struct Migration {
    deployment_model: Option<String>,
    provider_region: Option<String>,
}

async fn migrate(shared: &ApiState, call: &Call, app: &App) -> AppServicesResult {
    let body: Migration = body(call)?;
    let to = match body.deployment_model.as_deref() {
        None => app.deployment,
        Some("LOCAL") => DeploymentModel::Local,
        Some("GLOBAL") => DeploymentModel::Global,
        Some(other) => {
            return Err(AppServicesError::bad(format!("deployment_model must be `LOCAL` or `GLOBAL`, not `{other}`")));
        }
    };
    let region: Region = match &body.provider_region {
        None => app.region.clone(),
        Some(text) => text
            .parse()
            .map_err(|_| AppServicesError::bad(format!("`{text}` is not a region of App Services on AWS")))?,
    };
    let id = app.id.clone();
    shared.control.edit(move |draft| draft.app_mut(&id).map(|app| (app.deployment, app.region) = (to, region))).await?;
    let inventory = shared.control.inventory();
    let app = inventory.apps.get(app.id.as_str()).ok_or_else(|| AppServicesError::not_found("app not found"))?;
    Ok(ok(migration(app)))
}
