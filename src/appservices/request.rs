//! One request, from its head to the head of its response.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::backend::{BackendDestination, BackendError, BackendLease};
use super::client::{BodyError, ClientConnection, InFlightRequest};
use super::context::HttpWorkerContext;
use super::headers::{self, ForwardedClient, ForwardedFields};
use super::location;
use super::metrics::{RequestKey, endpoint_type};
use super::path::{PathClass, Route, route};
use super::request_body::RequestBody;
use super::response_body::{BackendBody, ResponseBody};
use super::target::{NO_TUNNEL, RequestTarget};
use super::upgrade::{self, UpgradeRequest};
use super::verdict::{AppDecision, Verdict, decide_for_host};
use super::websockets::WebSocketInfo;
use crate::data::proxy_protocol;
use crate::model::{AppId, Origin, VpceId};
use crate::plan::{AppListener, AppListenerKind, AppView};

/// How much of a refused request's body is read, and for how long, before the connection is closed instead.
const MAX_DRAINED: u64 = 64 << 10;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers one request.
pub(crate) async fn answer(
    context: Rc<HttpWorkerContext>,
    connection: Rc<ClientConnection>,
    request: Box<Request<Incoming>>,
) -> Result<Response<ResponseBody>, BodyError> {
    let started = Instant::now();
    let in_flight = InFlightRequest::new(&connection, started, request.body().is_end_stream());
    let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
    let app_listener = context.app_listener(connection.listener);
    let source = connection.peer.ip().to_canonical();
    let origin = app_listener.as_ref().map_or(Origin::Public, |app_listener| context.origin(app_listener, source));
    let (outcome, verdict, app) = match &app_listener {
        Some(app_listener) => {
            let exchange = Exchange { context: &context, in_flight: &in_flight, app_listener, origin, source };
            exchange.handle(&uri, request).await
        }
        // The address was removed; its connections are closing.
        None => (Ok(refuse(Verdict::Misdirected, None, None)), Verdict::Misdirected, None),
    };
    let mut response = outcome?;
    let (endpoint, label) = (
        app_listener.as_deref().map_or("none", endpoint_type),
        app_listener.as_deref().map_or("none", AppListener::label),
    );
    let status = response.status();
    let key = RequestKey { app: app.clone(), endpoint, origin, verdict, class: status.as_u16() / 100 };
    context.metrics.request(key, started.elapsed());
    tracing::info!(
        target: "access",
        { app.id = app.as_ref().map_or("none", AppId::as_str),
          endpoint.id = label,
          endpoint.type = endpoint,
          origin = origin.label(),
          client.addr = %connection.peer,
          method = %method,
          // Without the query: Sync's contains the user's token.
          path = uri.path(),
          verdict = verdict.label(),
          status = status.as_u16(),
          duration_ms = started.elapsed().as_millis() },
        "request answered"
    );
    in_flight.set_answered();
    if connection.is_h2 {
        // It has no meaning in HTTP/2; a connection ends by GOAWAY, a request by RST_STREAM.
        response.headers_mut().remove(header::CONNECTION);
    } else if connection.closing.get()
        || !in_flight.is_body_over()
        // A body of unknown length: HTTP/1.0 has no chunks, so the end of the connection marks its end.
        || (version == Version::HTTP_10 && response.body().size_hint().exact().is_none())
    {
        // RFC 9112 §9.3: the rest of this request must not be read as the next one.
        close_after(&mut response);
        if version == Version::HTTP_10 {
            // hyper adds `keep-alive` to HTTP/1.1 responses.
            *response.version_mut() = version;
        }
    }
    response.body_mut().bind(in_flight);
    Ok(response)
}

/// Counts and logs a request that hyper answered by itself, because its head is too large or malformed.
pub(crate) fn record_library_refusal(context: &HttpWorkerContext, connection: &ClientConnection, error: &hyper::Error) {
    // A client that sends HTTP/2 after it agreed to HTTP/1.1 gets no response.
    if !error.is_parse() || error.is_parse_version_h2() {
        return;
    }
    let status =
        if error.is_parse_too_large() { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    let Some(app_listener) = context.app_listener(connection.listener) else { return };
    let origin = context.origin(&app_listener, connection.peer.ip().to_canonical());
    let (endpoint, verdict) = (endpoint_type(&app_listener), Verdict::Malformed);
    let key = RequestKey { app: None, endpoint, origin, verdict, class: status.as_u16() / 100 };
    context.metrics.request(key, Duration::ZERO);
    tracing::info!(
        target: "access",
        { app.id = "none",
          endpoint.id = app_listener.label(),
          endpoint.type = endpoint,
          origin = origin.label(),
          client.addr = %connection.peer,
          verdict = verdict.label(),
          status = status.as_u16(),
          error = %error },
        "request answered"
    );
}

type RequestOutcome = (Result<Response<ResponseBody>, BodyError>, Verdict, Option<AppId>);

/// A request with its client's details.
struct Exchange<'a> {
    context: &'a Rc<HttpWorkerContext>,
    in_flight: &'a Rc<InFlightRequest>,
    app_listener: &'a AppListener,
    origin: Origin,
    source: IpAddr,
}

impl Exchange<'_> {
    async fn handle(&self, uri: &Uri, request: Box<Request<Incoming>>) -> RequestOutcome {
        let is_options = *request.method() == Method::OPTIONS && uri.path() == "*";
        let read = RequestTarget::read(&request).and_then(|target| {
            // The server as a whole (RFC 9110 §9.3.7), which is not a path of any app.
            let whole = Route { class: PathClass::Unknown, app: None };
            let route = if is_options { Ok(whole) } else { route(uri.path()) };
            Ok((target, route.map_err(|_| "the path can be read in more than one way")?))
        });
        let (target, asked_route) = match read {
            Ok(read) => read,
            Err(what) => return malformed(what),
        };
        let AppDecision { verdict, app } =
            decide_for_host(self.app_listener, self.origin, self.source, &target.host, asked_route);
        if is_options && verdict == Verdict::UnknownPath {
            return (Ok(options()), Verdict::Served, None);
        }
        let id = app.map(|app| app.id.clone());
        let Some(app) = app.filter(|_| verdict == Verdict::Served) else {
            let response = refuse(verdict, asked_route.app, None);
            return Box::pin(self.refused(request, response, verdict, id)).await;
        };
        let is_location = location::is_location(uri.path(), &asked_route);
        let forwarded = Forwarded { exchange: self, app, target: &target, is_location };
        let upgrade = if asked_route.class == PathClass::Sync { UpgradeRequest::read(&request) } else { None };
        let response = match upgrade {
            Some(_) if !request.body().is_end_stream() => return malformed("a WebSocket's request has no body"),
            // Boxed, as everything large and rare below: each request's future is moved.
            Some(upgrade) => Box::pin(forwarded.websocket(request, upgrade)).await,
            // A CONNECT that does not open a WebSocket has no meaning here.
            None if *request.method() == Method::CONNECT => return malformed(NO_TUNNEL),
            None => forwarded.forward(request).await,
        };
        if self.in_flight.body_error() == Some(BodyError::Malformed) && response.is_err() {
            return malformed(BAD_BODY);
        }
        (response, verdict, id)
    }

    /// Responds with a refusal. A short body is read, so that the connection stays usable; a longer one is discarded
    /// like any abandoned body.
    async fn refused(
        &self,
        request: Box<Request<Incoming>>,
        response: Response<ResponseBody>,
        verdict: Verdict,
        app: Option<AppId>,
    ) -> RequestOutcome {
        let expects = request.headers().contains_key(header::EXPECT);
        let body = RequestBody::new(request.into_body(), self.in_flight, DRAIN_TIMEOUT);
        let is_short = body.size_hint().lower() <= MAX_DRAINED;
        if !body.is_empty() && !self.in_flight.connection.is_h2 && is_short && !expects {
            let limit = usize::try_from(MAX_DRAINED).unwrap_or(usize::MAX);
            let _ = timeout(DRAIN_TIMEOUT, Limited::new(body, limit).collect()).await;
            if self.in_flight.body_error() == Some(BodyError::Malformed) {
                return malformed(BAD_BODY);
            }
        }
        (Ok(response), verdict, app)
    }

    fn endpoint(&self) -> Option<&VpceId> {
        match &self.app_listener.kind {
            AppListenerKind::Private { access, .. } => Some(&access.id),
            AppListenerKind::Public => None,
        }
    }
}

const BAD_BODY: &str = "the request's body is malformed";

/// Refuses an ambiguous or malformed request and closes the connection.
fn malformed(what: &str) -> RequestOutcome {
    let mut response = refuse(Verdict::Malformed, None, Some(what));
    close_after(&mut response);
    (Ok(response), Verdict::Malformed, None)
}

/// A request that is forwarded.
struct Forwarded<'a> {
    exchange: &'a Exchange<'a>,
    app: &'a AppView,
    target: &'a RequestTarget,
    is_location: bool,
}

impl Forwarded<'_> {
    fn destination(&self) -> Option<BackendDestination> {
        let Exchange { context, in_flight, app_listener, .. } = self.exchange;
        let url = Arc::clone(self.app.backend.as_ref()?);
        let connection = &in_flight.connection;
        let header = || proxy_protocol::encode(connection.peer, app_listener.address, self.exchange.endpoint());
        let proxy = context.options.proxy_protocol.then(|| (connection.id, header()));
        Some(BackendDestination { url, listener: app_listener.address, proxy })
    }

    /// The request with the backend's head.
    fn outbound(&self, parts: hyper::http::request::Parts, body: RequestBody) -> Request<RequestBody> {
        let Exchange { context, in_flight, app_listener, origin, source } = self.exchange;
        let mut outbound = Request::new(body);
        *outbound.method_mut() = parts.method;
        // Path and query only: scheme and authority were checked, and are in `Host`.
        *outbound.uri_mut() = parts.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        *outbound.headers_mut() = parts.headers;
        let sender = ForwardedClient {
            origin: *origin,
            endpoint: self.exchange.endpoint(),
            source: *source,
            listener: app_listener.address,
            authority: &self.target.authority,
        };
        // The same for all requests of most connections, so it is formatted once.
        let mut fields = in_flight.connection.forwarded.borrow_mut();
        let fields = match &mut *fields {
            Some(fields) if fields.is_valid_for(&sender) => fields,
            other => other.insert(ForwardedFields::new(&sender)),
        };
        let headers = outbound.headers_mut();
        headers::to_backend(headers, &sender, fields);
        headers.append(header::VIA, context.via[usize::from(in_flight.connection.is_h2)].clone());
        if self.is_location {
            // The response is read and rewritten, so it must not be compressed.
            headers.remove(header::ACCEPT_ENCODING);
        }
        outbound
    }

    /// Forwards a request and returns the response.
    async fn forward(&self, request: Box<Request<Incoming>>) -> Result<Response<ResponseBody>, BodyError> {
        let Exchange { context, in_flight, .. } = self.exchange;
        let limits = &context.options.limits;
        if self.is_loop(request.headers()) {
            return Ok(own(StatusCode::LOOP_DETECTED, "the app's backend leads back to this gateway"));
        }
        let Some(to) = self.destination() else { return Ok(no_backend()) };
        let (parts, body) = request.into_parts();
        let body = RequestBody::new(body, in_flight, limits.body_idle);
        // A copy of the client's head, which is smaller than the backend's.
        let copy = (body.is_empty() && is_repeatable(&parts.method)).then(|| Box::new(parts.clone()));
        let again = copy.as_deref().map(|parts| || self.outbound(parts.clone(), RequestBody::Empty));
        let outbound = Box::new(self.outbound(parts, body));
        let spare = &in_flight.connection.spare;
        // Pinned in place: it is large, and a time limit would move it.
        let sent = pin!(context.backends.send(&to, outbound, again, &self.target.authority, spare));
        let sent = timeout(limits.answer, sent).await;
        // A pooled connection was used instead.
        context.left_over.keep(spare.take());
        let (response, lease) = match sent {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                return match in_flight.body_error() {
                    Some(BodyError::Stalled) => Ok(own(StatusCode::REQUEST_TIMEOUT, "the request's body stalled")),
                    // A client that closed early gets no response; for a malformed body the caller responds with 400.
                    Some(error) => Err(error),
                    None => Ok(self.gateway_error(&error)),
                };
            }
            Err(_) => return Ok(self.timed_out(&to)),
        };
        self.respond(response, Some(lease), &to).await
    }

    /// Turns a backend's response into the client's.
    async fn respond(
        &self,
        response: Response<Incoming>,
        lease: Option<BackendLease>,
        to: &BackendDestination,
    ) -> Result<Response<ResponseBody>, BodyError> {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_informational() {
            // An unsolicited `101` (RFC 9110 §15.2.2): the bytes after it are not HTTP.
            let what = "switched protocols without being asked to";
            return Ok(self.gateway_error(&BackendError::Unsupported { backend: to.url.to_string(), what }));
        }
        // With chunks, the length must be ignored (RFC 9112 §6.3), and the connection's later bytes are not
        // trustworthy.
        let has_both = parts.headers.contains_key(header::TRANSFER_ENCODING)
            && parts.headers.remove(header::CONTENT_LENGTH).is_some();
        self.clean(&mut parts, to);
        let lease = lease.filter(|_| !has_both);
        let mut body = BackendBody::new(body, lease, self.exchange.context.options.limits.answer);
        if self.is_location && parts.status == StatusCode::OK && !body.is_end_stream() {
            return Box::pin(self.rewritten(parts, &mut body)).await;
        }
        parts.version = if self.exchange.in_flight.connection.is_h2 { Version::HTTP_2 } else { Version::HTTP_11 };
        Ok(Response::from_parts(parts, ResponseBody::backend(body)))
    }

    /// Removes the fields of a response's head that are for the gateway only.
    fn clean(&self, parts: &mut hyper::http::response::Parts, to: &BackendDestination) {
        let upgrade = parts.headers.get(header::UPGRADE).cloned();
        headers::strip_hop_by_hop(&mut parts.headers);
        match (parts.status, upgrade) {
            // RFC 9110 §15.5.22: the one response that needs it.
            (StatusCode::UPGRADE_REQUIRED, Some(upgrade)) if !self.exchange.in_flight.connection.is_h2 => {
                parts.headers.insert(header::UPGRADE, upgrade);
                parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            // RFC 9110 §8.6: not allowed here. hyper omits it over HTTP/1.1; the same is needed over HTTP/2.
            (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => {
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            _ => {}
        }
        let authority = self.target.authority.to_str().unwrap_or_default();
        let redirected = parts
            .headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|location| location::redirect(location, &to.url.authority(), authority))
            .and_then(|location| HeaderValue::from_str(&location).ok());
        if let Some(location) = redirected {
            parts.headers.insert(header::LOCATION, location);
        }
    }

    /// The response to a location call, with the names that the client used.
    async fn rewritten(
        &self,
        mut parts: hyper::http::response::Parts,
        body: &mut BackendBody,
    ) -> Result<Response<ResponseBody>, BodyError> {
        let Ok(whole) = Limited::new(body, location::MAX_REWRITTEN_SIZE).collect().await else {
            return Ok(own(StatusCode::BAD_GATEWAY, "the backend's answer to the location call has no end"));
        };
        let whole = whole.to_bytes();
        let authority = self.target.authority.to_str().unwrap_or_default();
        let host = self.target.written_host();
        let rewritten = location::rewrite(&whole, host, authority, &self.app.hosts).map_or(whole, Bytes::from);
        for name in [header::ETAG, header::CONTENT_ENCODING] {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
        Ok(Response::from_parts(parts, ResponseBody::own(rewritten)))
    }

    /// Requests a WebSocket from the backend, and starts the relay if the backend accepts.
    async fn websocket(
        &self,
        mut request: Box<Request<Incoming>>,
        upgrade: UpgradeRequest,
    ) -> Result<Response<ResponseBody>, BodyError> {
        let Exchange { context, in_flight, app_listener, origin, .. } = self.exchange;
        let limits = &context.options.limits;
        if self.is_loop(request.headers()) {
            return Ok(own(StatusCode::LOOP_DETECTED, "the app's backend leads back to this gateway"));
        }
        let Some(to) = self.destination() else { return Ok(no_backend()) };
        let client = hyper::upgrade::on(&mut *request);
        let (parts, _) = request.into_parts();
        let mut outbound = self.outbound(parts, RequestBody::Empty);
        let key = upgrade::into_backend_request(&mut outbound, &upgrade, to.url.scheme);
        let sent = context.backends.send_upgrade(&to, outbound, &self.target.authority, &in_flight.connection.spare);
        let mut answer = match timeout(limits.answer, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Ok(self.gateway_error(&error)),
            Err(_) => return Ok(self.timed_out(&to)),
        };
        if !upgrade::is_accepted(&answer, key.as_ref()) {
            if key.is_none() && answer.status().is_success() {
                let what = "agreed to a WebSocket that it was not asked for";
                return Ok(self.gateway_error(&BackendError::Unsupported { backend: to.url.to_string(), what }));
            }
            return self.respond(answer, None, &to).await;
        }
        let backend = hyper::upgrade::on(&mut answer);
        let series = context.metrics.websocket(&self.app.id, endpoint_type(app_listener));
        let info = WebSocketInfo {
            origin: *origin,
            endpoint: app_listener.label().to_owned(),
            app: self.app.id.to_string(),
            backend: to.url.authority(),
        };
        upgrade::start(context, &in_flight.connection, info, series, client, backend);
        Ok(upgrade::client_response(&answer, &upgrade, ResponseBody::own(Bytes::new())))
    }

    /// Whether this gateway has already forwarded the request.
    fn is_loop(&self, headers: &HeaderMap) -> bool {
        let pseudonym = &self.exchange.context.pseudonym;
        let values = headers.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|hop| hop.split_whitespace().nth(1) == Some(pseudonym))
    }

    fn timed_out(&self, to: &BackendDestination) -> Response<ResponseBody> {
        let (backend, limit) = (to.url.to_string(), self.exchange.context.options.limits.answer);
        self.gateway_error(&BackendError::TimedOut { backend, limit, what: "answer" })
    }

    fn gateway_error(&self, error: &BackendError) -> Response<ResponseBody> {
        tracing::warn!(app.id = %self.app.id, error = %error, "request to the app's backend failed");
        if error.is_timeout() {
            own(StatusCode::GATEWAY_TIMEOUT, "the app's backend did not answer in time")
        } else {
            own(StatusCode::BAD_GATEWAY, "the app's backend cannot be reached")
        }
    }
}

/// Idempotent methods (RFC 9110 §9.2.2).
fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn no_backend() -> Response<ResponseBody> {
    own(StatusCode::BAD_GATEWAY, "the app has no backend")
}

/// The response to `OPTIONS *`: the methods that some app accepts.
fn options() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(Bytes::new()));
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    response
}

/// Tells an HTTP/1.1 client that the connection closes after this response.
fn close_after(response: &mut Response<ResponseBody>) {
    let headers = response.headers_mut();
    if !headers::has_token(headers, &header::CONNECTION, "close") {
        headers.append(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A refusal in App Services' format. From outside, a restricted app is indistinguishable from one that doesn't exist.
fn refuse(verdict: Verdict, app: Option<&str>, what: Option<&str>) -> Response<ResponseBody> {
    let status = verdict.refusal().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text: Cow<'_, str> = match verdict {
        Verdict::OneWay
        | Verdict::Origin
        | Verdict::UnknownApp
        | Verdict::Restricted
        | Verdict::OtherRegion
        | Verdict::Served => match app {
            Some(app) => format!("cannot find app using Client App ID '{app}'").into(),
            None => "cannot find app".into(),
        },
        Verdict::Malformed => what.unwrap_or("malformed request").into(),
        Verdict::Misdirected => "this address does not serve that host".into(),
        Verdict::UnknownPath => "there is nothing at that path".into(),
        Verdict::AdminApi => "the Admin API is not served at this address".into(),
        Verdict::AccessList => "the request's IP address is not on the app's IP access list".into(),
        Verdict::Unpaired => {
            "this Sync endpoint is incomplete: every Sync endpoint must be paired with a General endpoint".into()
        }
        Verdict::DataApi => "the Data API is not supported through private endpoints".into(),
        Verdict::CustomHttps => "custom HTTPS endpoints are not supported through private endpoints".into(),
        Verdict::WrongEndpoint => {
            "this endpoint is of the other type: Sync endpoints are for Sync connections, General endpoints for client \
             HTTP requests"
                .into()
        }
    };
    own(status, &text)
}

/// A response by the gateway itself, in App Services' JSON.
fn own(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(json!({ "error": text }).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
