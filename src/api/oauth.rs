//! Tokens for Atlas' service accounts: `POST /api/oauth/token`, client credentials. Source: RFC 6749, section 4.4.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::ApiState;
use super::auth::{KeyCheck, with_scheme};
use super::call::{Call, Reply, json as reply, pairs};
use super::sessions::TokenUse;

/// Validity of a token. Source: Atlas, service accounts.
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(3600);

pub(super) fn answer(shared: &ApiState, call: &Call) -> Reply {
    let error = |status, code: &str| reply(status, &json!({ "error": code }));
    match (&call.method, call.path.as_str()) {
        (&Method::POST, "/api/oauth/token") => {
            let form = pairs(&call.body);
            let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            if field("grant_type").as_deref() != Some("client_credentials") {
                return error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
            }
            let pair = basic(call).or_else(|| field("client_id").zip(field("client_secret")));
            let pair = pair.filter(|(id, secret)| !id.is_empty() && !secret.is_empty());
            match pair.map(|(id, secret)| shared.auth.pair(call.from.ip(), &id, &secret)) {
                Some(KeyCheck::Right) => {}
                Some(KeyCheck::TooMany) => return error(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
                Some(KeyCheck::Wrong) | None => return error(StatusCode::UNAUTHORIZED, "invalid_client"),
            }
            let token = shared.sessions.open(TokenUse::Atlas, LIFETIME, None);
            let expires = LIFETIME.as_secs();
            reply(StatusCode::OK, &json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires }))
        }
        (&Method::POST, "/api/oauth/revoke") => {
            let form = pairs(&call.body);
            form.iter().filter(|(key, _)| key == "token").for_each(|(_, token)| shared.sessions.close(token));
            reply(StatusCode::OK, &json!({}))
        }
        _ => error(StatusCode::NOT_FOUND, "not_found"),
    }
}

/// The credentials of an `Authorization: Basic` header.
fn basic(call: &Call) -> Option<(String, String)> {
    let encoded = with_scheme(call.header("authorization")?, "Basic")?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    Some((decode(id), decode(secret)))
}
