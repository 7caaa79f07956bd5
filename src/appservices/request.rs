//! One request, from its head to the head of its answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::backend::{BackendFault, Destination};
use super::body::{AnswerBody, AskBody, BackendBody, BodyFault};
use super::headers::{self, Asker, Said};
use super::live::{AtHand, Live};
use super::location;
use super::metrics::{RequestKey, endpoint_type};
use super::path::{PathClass, route};
use super::upgrade::{self, Knock};
use super::verdict::{Judgement, Verdict, judge};
use super::worker::Worker;
use crate::data::proxy_protocol;
use crate::model::{AppId, Origin, VpceId};
use crate::plan::{AppView, Door, DoorWay};

/// Of a refused request's body this much is read, so that the connection can go on.
const MOST_DRAINED: u64 = 64 << 10;

/// Answers one request.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    live: Rc<Live>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, BodyFault> {
    let started = Instant::now();
    let mut at_hand = AtHand::new(&live, worker.options.limits.resets);
    let asked = (request.method().clone(), request.uri().clone());
    let view = worker.apps();
    let door = view.doors.get(&live.door).cloned();
    let source = live.peer.ip().to_canonical();
    let origin = door.as_ref().map_or(Origin::Public, |door| worker.origin(door, source));
    let (outcome, verdict, app) = match &door {
        Some(door) => handle(&worker, &live, door, origin, source, &asked.1, request).await,
        // The address was given up; whoever is still here is asked to go.
        None => (refuse(Verdict::Misdirected, None, None), Verdict::Misdirected, None),
    };
    let mut response = outcome?;
    let status = response.status();
    let endpoint = door.as_deref().map_or("none", endpoint_type);
    let key = RequestKey { app: app.clone(), endpoint, origin, verdict, class: status.as_u16() / 100 };
    worker.metrics.request(key, started.elapsed());
    tracing::info!(
        target: "access",
        { app.id = app.as_ref().map_or("none", AppId::as_str),
          endpoint.id = door.as_deref().map_or("none", Door::label),
          endpoint.type = endpoint,
          origin = origin.label(),
          client.addr = %live.peer,
          method = %asked.0,
          // Not the query: Sync's has the user's token in it.
          path = asked.1.path(),
          verdict = verdict.label(),
          status = status.as_u16(),
          duration_ms = started.elapsed().as_millis() },
        "request answered"
    );
    at_hand.answered();
    if live.is_finishing() {
        close_after(&mut response);
    }
    if live.is_h2() {
        // There it has no meaning; a connection ends by GOAWAY.
        response.headers_mut().remove(header::CONNECTION);
    }
    response.body_mut().keep(at_hand);
    Ok(response)
}

type Outcome = (Result<Response<AnswerBody>, BodyFault>, Verdict, Option<AppId>);

async fn handle(
    worker: &Rc<Worker>,
    live: &Rc<Live>,
    door: &Arc<Door>,
    origin: Origin,
    source: IpAddr,
    uri: &Uri,
    request: Request<Incoming>,
) -> Outcome {
    let read = Target::read(&request).and_then(|target| {
        let route = route(uri.path()).map_err(|_| "the path can be read in more than one way")?;
        Ok((target, route))
    });
    let (target, asked_route) = match read {
        Ok(read) => read,
        Err(what) => {
            let mut response = refuse(Verdict::Malformed, None, Some(what));
            if let Ok(response) = &mut response {
                close_after(response);
            }
            return (response, Verdict::Malformed, None);
        }
    };
    let Judgement { verdict, app } = judge(door, origin, source, &target.host, asked_route);
    let id = app.map(|app| app.id.clone());
    let Some(app) = app.filter(|_| verdict == Verdict::Served) else {
        let response = refuse(verdict, asked_route.app, None);
        return (Box::pin(drain(worker, request, response)).await, verdict, id);
    };
    let ask = Ask {
        worker,
        live,
        door,
        app,
        origin,
        source,
        target: &target,
        is_location: location::is_location(uri.path(), &asked_route),
    };
    let knock = if asked_route.class == PathClass::Sync { upgrade::knock(&request) } else { None };
    let response = match knock {
        // Boxed, as what is large and seldom is everywhere below: each request's future is moved about.
        Some(knock) => Box::pin(ask.websocket(request, knock)).await,
        // Without a WebSocket behind it a CONNECT has no meaning here.
        None if *request.method() == Method::CONNECT => refuse(Verdict::Malformed, None, Some(NO_TUNNEL)),
        None => ask.forward(request).await,
    };
    (response, verdict, id)
}

const NO_TUNNEL: &str = "there is nothing to connect to";

/// Host and port that a request is for.
struct Target {
    /// As the client wrote it.
    authority: HeaderValue,
    /// Lower case, without port.
    host: String,
}

impl Target {
    /// Reads it from the request's head, which must say it once and in one way.
    fn read<B>(request: &Request<B>) -> Result<Self, &'static str> {
        if matches!(request.method().as_str(), "TRACE" | "TRACK") {
            return Err("requests are not sent back");
        }
        if *request.method() == Method::CONNECT && request.extensions().get::<hyper::ext::Protocol>().is_none() {
            return Err(NO_TUNNEL);
        }
        let chunked_or_none = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
        if !codings.next().is_none_or(chunked_or_none) || codings.next().is_some() {
            return Err("the only transfer coding is `chunked`, once");
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let header = hosts.next();
        if hosts.next().is_some() {
            return Err("the host is given more than once");
        }
        let header = match header {
            Some(value) => Some(value.to_str().map_err(|_| "the host is no name")?),
            None => None,
        };
        let uri = request.uri();
        let text = match (uri.authority(), header) {
            (Some(authority), header) => {
                if uri.scheme_str() != Some("https") {
                    return Err("the scheme is not https");
                }
                if header.is_some_and(|header| !header.eq_ignore_ascii_case(authority.as_str())) {
                    return Err("the host is given twice, differently");
                }
                authority.as_str()
            }
            (None, Some(header)) => header,
            (None, None) => return Err("the host is missing"),
        };
        let (host, port) = split_port(text);
        let fits = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':'))
            && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        if !fits {
            return Err("the host is no name");
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let authority = HeaderValue::from_str(text).map_err(|_| "the host is no name")?;
        Ok(Self { authority, host })
    }
}

/// `HOST:PORT` in two; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A request that is served.
struct Ask<'a> {
    worker: &'a Rc<Worker>,
    live: &'a Rc<Live>,
    door: &'a Door,
    app: &'a AppView,
    origin: Origin,
    source: IpAddr,
    target: &'a Target,
    is_location: bool,
}

impl Ask<'_> {
    fn endpoint(&self) -> Option<&VpceId> {
        match &self.door.way {
            DoorWay::Private { gate, .. } => Some(&gate.id),
            DoorWay::Public => None,
        }
    }

    fn destination(&self) -> Option<Destination> {
        let url = Arc::clone(self.app.backend.as_ref()?);
        let header = || proxy_protocol::encode(self.live.peer, self.door.address, self.endpoint());
        let proxy = self.worker.options.proxy_protocol.then(|| (self.live.id, header()));
        Some(Destination { url, proxy })
    }

    /// The request with the head that the backend gets.
    fn outbound(&self, parts: hyper::http::request::Parts, body: AskBody) -> Request<AskBody> {
        let mut outbound = Request::new(body);
        *outbound.method_mut() = parts.method;
        // Path and query alone: what stood before them was judged, and is said by `Host`.
        *outbound.uri_mut() = parts.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        *outbound.headers_mut() = parts.headers;
        let asker = Asker {
            origin: self.origin,
            endpoint: self.endpoint(),
            source: self.source,
            door: self.door.address,
            authority: &self.target.authority,
        };
        // The same for all requests of most connections, so it is written once.
        let mut said = self.live.said.borrow_mut();
        let said = match &mut *said {
            Some(said) if said.is_of(&asker) => said,
            other => other.insert(Said::new(&asker)),
        };
        headers::to_backend(outbound.headers_mut(), &asker, said);
        if self.is_location {
            // It is read and rewritten, so it must not be compressed.
            outbound.headers_mut().remove(header::ACCEPT_ENCODING);
        }
        outbound
    }

    /// Passes a request on, and its answer back.
    async fn forward(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, BodyFault> {
        let limits = &self.worker.options.limits;
        let Some(to) = self.destination() else { return Ok(no_backend()) };
        let is_http1 = request.version() != Version::HTTP_2;
        let (parts, body) = request.into_parts();
        let (body, fault) = AskBody::new(body, limits.body_idle);
        let outbound = self.outbound(parts, body);
        let sent = self.worker.backends.send(&to, outbound, &self.target.authority);
        let (answer, lease) = match timeout(limits.answer, sent).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                return match fault.get() {
                    Some(BodyFault::Stalled) => {
                        let mut response = own(StatusCode::REQUEST_TIMEOUT, "the request's body stalled");
                        close_after(&mut response);
                        Ok(response)
                    }
                    // Whoever broke off gets no answer.
                    Some(BodyFault::Broken) => Err(BodyFault::Broken),
                    None => Ok(self.gateway_error(&error)),
                };
            }
            Err(_) => {
                let backend = to.url.to_string();
                let error = BackendFault::TimedOut { backend, limit: limits.answer, what: "answer" };
                return Ok(self.gateway_error(&error));
            }
        };
        let (mut parts, body) = answer.into_parts();
        self.clean_answer(&mut parts, &to);
        let mut body = BackendBody::new(body, lease, limits.answer);
        if self.is_location && parts.status == StatusCode::OK && !body.is_end_stream() {
            return Box::pin(self.rewritten(parts, &mut body)).await;
        }
        parts.version = if is_http1 { Version::HTTP_11 } else { Version::HTTP_2 };
        Ok(Response::from_parts(parts, AnswerBody::backend(body)))
    }

    /// What of an answer's head is for the gateway alone.
    fn clean_answer(&self, parts: &mut hyper::http::response::Parts, to: &Destination) {
        headers::strip_hop_by_hop(&mut parts.headers);
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

    /// The answer to a location call, with the names that the client came by.
    async fn rewritten(
        &self,
        mut parts: hyper::http::response::Parts,
        body: &mut BackendBody,
    ) -> Result<Response<AnswerBody>, BodyFault> {
        let Ok(whole) = Limited::new(body, location::LONGEST).collect().await else {
            return Ok(own(StatusCode::BAD_GATEWAY, "the backend's answer to the location call has no end"));
        };
        let whole = whole.to_bytes();
        let authority = self.target.authority.to_str().unwrap_or_default();
        let host = split_port(authority).0;
        let told = location::rewrite(&whole, host, authority, &self.app.hosts).map_or(whole, Bytes::from);
        for name in [header::ETAG, header::CONTENT_ENCODING] {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(told.len()));
        Ok(Response::from_parts(parts, AnswerBody::own(told)))
    }

    /// Asks the backend for a WebSocket, and hands both sides to the relay when it agrees.
    async fn websocket(&self, mut request: Request<Incoming>, knock: Knock) -> Result<Response<AnswerBody>, BodyFault> {
        let limits = &self.worker.options.limits;
        let Some(to) = self.destination() else { return Ok(no_backend()) };
        let client = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let mut outbound = self.outbound(parts, AskBody::Empty);
        let key = upgrade::ask(&mut outbound, &knock, to.url.scheme);
        let sent = self.worker.backends.send_upgrade(&to, outbound, &self.target.authority);
        let mut answer = match timeout(limits.answer, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Ok(self.gateway_error(&error)),
            Err(_) => {
                let backend = to.url.to_string();
                let error = BackendFault::TimedOut { backend, limit: limits.answer, what: "answer" };
                return Ok(self.gateway_error(&error));
            }
        };
        if !upgrade::is_agreed(&answer, key.as_ref()) {
            if answer.status().is_informational() || (key.is_none() && answer.status().is_success()) {
                let what = "agreed to a WebSocket that it was not asked for";
                return Ok(self.gateway_error(&BackendFault::Unfit { backend: to.url.to_string(), what }));
            }
            let (mut parts, body) = answer.into_parts();
            self.clean_answer(&mut parts, &to);
            parts.version = Version::HTTP_11;
            return Ok(Response::from_parts(parts, AnswerBody::backend(BackendBody::new(body, None, limits.answer))));
        }
        let backend = hyper::upgrade::on(&mut answer);
        let series = self.worker.metrics.websocket(&self.app.id, endpoint_type(self.door));
        upgrade::start(self.worker, self.live, series, client, backend);
        Ok(upgrade::agree(&answer, &knock, AnswerBody::own(Bytes::new())))
    }

    fn gateway_error(&self, error: &BackendFault) -> Response<AnswerBody> {
        tracing::warn!(app.id = %self.app.id, error = %error, "backend gave no answer");
        if error.is_timeout() {
            own(StatusCode::GATEWAY_TIMEOUT, "the app's backend did not answer in time")
        } else {
            own(StatusCode::BAD_GATEWAY, "the app's backend cannot be reached")
        }
    }
}

fn no_backend() -> Response<AnswerBody> {
    own(StatusCode::BAD_GATEWAY, "the app has no backend")
}

/// Lets a refused request's body run out, if it is short, so that the connection can go on.
async fn drain(
    worker: &Worker,
    request: Request<Incoming>,
    response: Result<Response<AnswerBody>, BodyFault>,
) -> Result<Response<AnswerBody>, BodyFault> {
    let mut response = response?;
    let body = request.into_body();
    if body.is_end_stream() {
        return Ok(response);
    }
    let is_short = body.size_hint().lower() <= MOST_DRAINED;
    let limit = usize::try_from(MOST_DRAINED).unwrap_or(usize::MAX);
    let (body, _) = AskBody::new(body, worker.options.limits.header_time);
    let gone = async { is_short && Limited::new(body, limit).collect().await.is_ok() };
    if !timeout(worker.options.limits.header_time, gone).await.unwrap_or(false) {
        close_after(&mut response);
    }
    Ok(response)
}

/// Asks an HTTP/1.1 client to end its connection.
fn close_after(response: &mut Response<AnswerBody>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// A refusal, in App Services' own shape. From outside, a restricted app looks as one that doesn't exist.
fn refuse(verdict: Verdict, app: Option<&str>, what: Option<&str>) -> Result<Response<AnswerBody>, BodyFault> {
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
    Ok(own(status, &text))
}

/// The gateway's own words, in App Services' JSON.
fn own(status: StatusCode, text: &str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(json!({ "error": text }).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
