//! Database users: stored and shown, without their passwords. The databases behind the gateway have their own users, so
//! these grant no access.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::errors::no_user;
use super::services::{invalid, missing};
use super::{AtlasError, AtlasRequest, AtlasResult};
use crate::api::text::iso8601;
use crate::control::inventory::{DatabaseUser, Pair, Timestamp};

/// Maximum length in bytes of a database's or a user's name.
const MAX_NAME_LENGTH: usize = 200;

/// Fields with their defaults.
fn defaults() -> [(&'static str, Value); 8] {
    [
        ("awsIAMType", json!("NONE")),
        ("description", Value::Null),
        ("labels", json!([])),
        ("ldapAuthType", json!("NONE")),
        ("oidcAuthType", json!("NONE")),
        ("roles", json!([])),
        ("scopes", json!([])),
        ("x509Type", json!("NONE")),
    ]
}

/// The texts of the objects in a list: those that have to be there, and those that may.
const ITEMS: [(&str, &[&str], &[&str]); 3] = [
    ("labels", &["key", "value"], &[]),
    ("roles", &["databaseName", "roleName"], &["collectionName"]),
    ("scopes", &["name"], &["type"]),
];

/// The values of the fields that say how a user signs in.
const SIGN_IN: [(&str, &[&str]); 4] = [
    ("awsIAMType", &["NONE", "USER", "ROLE"]),
    ("ldapAuthType", &["NONE", "USER", "GROUP"]),
    ("oidcAuthType", &["NONE", "IDP_GROUP", "USER"]),
    ("x509Type", &["NONE", "CUSTOMER", "MANAGED"]),
];

pub(super) async fn answer(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            let inventory = request.shared.control.inventory();
            let own = inventory.users.iter().filter(|(key, _)| key.0 == request.project);
            Ok((StatusCode::OK, request.page(own.map(|(key, user)| view(request, &key.1, user)).collect())))
        }
        (&Method::POST, []) => create(request).await,
        (&Method::GET, [database, name]) => describe(request, &format!("{database}/{name}"), StatusCode::OK),
        (&Method::PATCH, [database, name]) => change(request, database, name).await,
        (&Method::DELETE, [database, name]) => {
            let (project, id) = (request.project.clone(), format!("{database}/{name}"));
            request.shared.control.edit(move |draft| draft.delete_user(&project, &id)).await?;
            Ok((StatusCode::NO_CONTENT, json!({})))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

fn describe(request: &AtlasRequest<'_>, id: &str, status: StatusCode) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let key = Pair(request.project.clone(), id.to_owned());
    Ok((status, view(request, id, inventory.users.get(&key).ok_or_else(|| no_user(id))?)))
}

fn view(request: &AtlasRequest<'_>, id: &str, user: &DatabaseUser) -> Value {
    let (database, name) = id.split_once('/').unwrap_or(("admin", id));
    let mut value = json!({
        "databaseName": database,
        "groupId": request.project.as_str(),
        "links": [],
        "username": name,
    });
    for (name, default) in defaults() {
        let shown = user.fields.get(name).cloned().unwrap_or(default);
        if !shown.is_null() {
            value[name] = shown;
        }
    }
    if let Some(at) = user.delete_after {
        value["deleteAfterDate"] = json!(iso8601(at, false));
    }
    value
}

/// A request's body: fields to keep, and when the user goes.
struct UserRequest {
    fields: BTreeMap<String, Value>,
    delete_after: Option<Timestamp>,
    has_password: bool,
}

fn read(mut body: Map<String, Value>) -> Result<UserRequest, AtlasError> {
    let password = body.remove("password").filter(|value| !value.is_null());
    if let Some(wrong) = password.as_ref().filter(|value| value.as_str().is_none_or(|text| text.len() < 8)) {
        let kind = if wrong.is_string() { "shorter than 8 characters" } else { "not a text" };
        return Err(invalid("password", kind));
    }
    let date = body.remove("deleteAfterDate").filter(|value| !value.is_null());
    let delete_after = date.map(|value| {
        let parsed = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let millis = parsed.and_then(|date| u64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok());
        millis.map(Timestamp).ok_or_else(|| invalid("deleteAfterDate", &value.to_string()))
    });
    let mut fields = BTreeMap::new();
    for (name, value) in body.into_iter().filter(|(_, value)| !value.is_null()) {
        let default = defaults().into_iter().find(|(known, _)| *known == name).map(|(_, default)| default);
        let fits = match &default {
            Some(Value::Array(_)) => value.as_array().is_some_and(|items| items.iter().all(Value::is_object)),
            Some(_) => value.is_string(),
            None => false,
        };
        let choices = SIGN_IN.iter().find(|(known, _)| *known == name).map(|(_, choices)| *choices);
        if !fits || choices.is_some_and(|choices| !choices.iter().any(|choice| value == *choice)) {
            return Err(invalid(&name, &value.to_string()));
        }
        fields.insert(name, value);
    }
    for (list, needed, optional) in ITEMS {
        for (n, item) in fields.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
            if needed.iter().any(|name| !item[name].is_string()) {
                return Err(invalid(list, &format!("{item}: {} are texts that it needs", needed.join(" and "))));
            }
            for (name, value) in item.as_object().into_iter().flatten() {
                let is_text = value.is_string() || value.is_null();
                if !is_text || !(needed.contains(&name.as_str()) || optional.contains(&name.as_str())) {
                    return Err(AtlasError::unknown(vec![format!("{list}[{n}].{name}")]));
                }
            }
        }
    }
    Ok(UserRequest { fields, delete_after: delete_after.transpose()?, has_password: password.is_some() })
}

/// Takes a text out of a body.
fn take(body: &mut Map<String, Value>, name: &str) -> Result<Option<String>, AtlasError> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(other) => Err(invalid(name, &other.to_string())),
    }
}

/// A body names the project that it is for, or leaves it to the path.
fn check_group(request: &AtlasRequest<'_>, body: &mut Map<String, Value>) -> Result<(), AtlasError> {
    match take(body, "groupId")? {
        Some(other) if other != request.project.as_str() => Err(invalid("groupId", &other)),
        _ => Ok(()),
    }
}

async fn create(request: &AtlasRequest<'_>) -> AtlasResult {
    let mut body: Map<String, Value> = request.body()?;
    check_group(request, &mut body)?;
    let name = take(&mut body, "username")?.ok_or_else(|| missing("username"))?;
    let database = take(&mut body, "databaseName")?.ok_or_else(|| missing("databaseName"))?;
    // Together they are a key of the saved state, which has no empty segments and no control characters.
    let is_part = |text: &str| text.len() <= MAX_NAME_LENGTH && !text.chars().any(char::is_control);
    if database.contains('/') || !is_part(&database) {
        return Err(invalid("databaseName", &database));
    }
    if name.split('/').any(str::is_empty) || !is_part(&name) {
        return Err(invalid("username", &name));
    }
    let request_body = read(body)?;
    let signs_in_otherwise =
        SIGN_IN.iter().any(|(field, _)| request_body.fields.get(*field).is_some_and(|value| value != "NONE"));
    if !request_body.has_password && !signs_in_otherwise {
        return Err(missing("password"));
    }
    let user = DatabaseUser { fields: request_body.fields, delete_after: request_body.delete_after };
    let (project, id) = (request.project.clone(), format!("{database}/{name}"));
    let made = id.clone();
    request.shared.control.edit(move |draft| draft.create_user(&project, made, user)).await?;
    describe(request, &id, StatusCode::CREATED)
}

async fn change(request: &AtlasRequest<'_>, database: &str, name: &str) -> AtlasResult {
    let mut body: Map<String, Value> = request.body()?;
    check_group(request, &mut body)?;
    for (field, own) in [("username", name), ("databaseName", database)] {
        if let Some(other) = take(&mut body, field)?.filter(|other| other != own) {
            return Err(invalid(field, &other));
        }
    }
    let request_body = read(body)?;
    let (project, id) = (request.project.clone(), format!("{database}/{name}"));
    let changed = id.clone();
    let change = move |draft: &mut crate::control::draft::Draft| {
        let user = draft.user_mut(&project, &changed)?;
        user.fields.extend(request_body.fields);
        user.delete_after = request_body.delete_after.or(user.delete_after);
        Ok(())
    };
    request.shared.control.edit(change).await?;
    describe(request, &id, StatusCode::OK)
}
