//! Message heads: allowed and refused answers of backends, removed fields, equal behaviour in both HTTP versions.

use std::time::Duration;

use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::client::{Client, Http, get, raw, tls};
use super::lab::*;
use super::raw_backend::RawBackend;
use super::recorder::Recorder;

const CALL: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";
const SYNC_PATH: &str = "/api/client/v2.0/app/myapp-abcde/realm-sync";

/// RFC 9110 §15.2.2, RFC 9113 §8.6.
#[tokio::test]
async fn an_unrequested_101_is_a_bad_gateway() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw";
    let backend = RawBackend::answering(switched).await;
    let lab = Lab::start(&backend.url).await;
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    for (to, request) in [
        (GENERAL, format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
        (GENERAL, format!("GET {CALL} HTTP/1.0\r\nHost: {HOST}\r\n\r\n")),
        (GENERAL, format!("POST {CALL} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi")),
        (GENERAL, format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n")),
        (SYNC, format!("GET {SYNC_PATH} HTTP/1.1\r\nHost: {WS_SDK}\r\n{fields}\r\n\r\n")),
        (
            SYNC,
            format!(
                "GET {SYNC_PATH} HTTP/1.0\r\nHost: {WS_SDK}\r\n{fields}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
        ),
    ] {
        let said = raw(&lab, VPC, to, request.as_bytes(), |said| said.contains("\"error\"")).await;
        assert!(said.contains(" 502 ") && !said.contains(" 101 "), "{request}: {said}");
    }
    assert_eq!(get(&lab, Http::Two, VPC, GENERAL, CALL).await.status, 502);
}

/// A handshake has no body: the length that a client gives goes no further, and bytes beside it are no WebSocket's.
#[tokio::test]
async fn a_websockets_request_reaches_the_backend_without_a_length() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let ask = async |fields: &str| {
        let request = format!(
            "GET {SYNC_PATH} HTTP/1.1\r\nHost: {WS_SDK}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}"
        );
        raw(&lab, VPC, SYNC, request.as_bytes(), |said| said.contains("\r\n\r\n")).await
    };
    let said = ask("Content-Length: 0\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
    assert!(!backend.only().headers.contains_key("content-length"));
    for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let said = ask(body).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    }
    assert!(backend.asked().is_empty());
}

/// RFC 9112 §6.3: chunks count, and the connection is not used again.
#[tokio::test]
async fn a_response_with_a_length_and_chunks_passes_by_its_chunks() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let backend = RawBackend::answering(both).await;
    let lab = Lab::start(&backend.url).await;
    for http in [Http::One, Http::Two] {
        let answer = get(&lab, http, VPC, GENERAL, CALL).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"), "{http:?}");
        assert!(answer.headers.get("content-length").is_none_or(|length| length == "5"));
    }
    assert_eq!(backend.received().len(), 2, "a connection each");
}

/// Names that backends, frameworks and content networks take for a client's address, or for a header that decides.
#[tokio::test]
async fn fields_that_a_backend_could_read_as_an_origin_or_a_length_are_removed() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let dropped = "transfer_encoding content_length x.plgw.origin x~plgw~origin x_plgw_origin x!a x#a x$a x%a x&a x'a x*a \
        x+a x^a x`a x|a x.real.ip x_real_ip x-real-ip x-client-ip client-ip true-client-ip x-true-client-ip \
        cf-connecting-ip cf-connecting-ipv6 cf-pseudo-ipv4 cf-ipcountry cf-ray fastly-client-ip fly-client-ip \
        fly-forwarded-port do-connecting-ip x-azure-clientip x-azure-socketip x-azure-fdid x-appengine-user-ip \
        x-appengine-remote-addr x-envoy-external-address x-envoy-original-path x-nf-client-connection-ip \
        x-vercel-forwarded-for x-vercel-ip-country x-sucuri-clientip incap-client-ip ali-cdn-real-ip cdn-src-ip \
        cdn-real-ip wl-proxy-client-ip proxy-client-ip http-client-ip http-x-forwarded-for proxy-host proxy-url proxy \
        x-proxyuser-ip x-proxy-url x-proxymesh-ip x-original-forwarded-for x-original-remote-addr x-original-ip \
        x-original-host x-original-url x-rewrite-url x-host x-forwarded x-forwarded-for x-forwarded-by \
        x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-scheme x-forwarded-server x-forwarded-ssl \
        x-forwarded-prefix x-forwarded-path x-forwarded-user x-forwarded-email x-forwarded-for-original \
        x-forwarder-for x-forward-for forwarded-for forwarded-for-ip forwarded forward-for z-forwarded-for \
        x-ms-forwarded-client-ip x-up-forwarded-for x-from-ip x-ip x-ips x-ip-address x-ip-trail x-ip4 x-ip6 \
        x-client-addr x-client-address x-client-host x-client-real-ip client-address x-user-ip x-source-ip source-ip \
        x-peer-ip x-connecting-ip x-visitor-ip x-trusted-ip x-custom-ip-authorization x-backend-host x-backend-ip \
        x-originating-ip x-originating-host x-remote-ip x-remote-addr x-remote-host x-remote-port remote-addr \
        remote-host remote-ip remote-user x-cluster-client-ip cluster-client-ip x-cluster-ip clientip x-clientip \
        x-realip realip x-external-ip x-external-address x-wap-network-client-ip x-nokia-ipaddress \
        cloudfront-viewer-address cloudfront-viewer-country akamai-origin-hop x-akamai-edgescape x-amzn-vpce-id \
        x-amzn-source-vpc x-amzn-source-ip x-plgw-origin x-plgw-anything x-coming-from x-proxy-connection";
    let kept = "accept user-agent accept-language authorization cookie content-type origin referer x-request-id \
        x-requested-with traceparent if-none-match range sec-fetch-site x-baas-origin-app x-zip-code priority \
        x-description x-http-method-override x-csrf-token upgrade-insecure-requests dnt x-relationship x-support";
    for http in [Http::One, Http::Two] {
        for names in [dropped, kept] {
            for name in names.split_whitespace() {
                let mut client = Client::connect(&lab, http, VPC, GENERAL).await;
                let request = client.request("GET", CALL).header(name, "127.0.0.66").body(Full::default());
                let answer = client.send(request.expect("a request")).await.expect("an answer");
                assert_eq!(answer.status, 200, "{name}");
                let has = backend.only().headers.values().any(|value| value == "127.0.0.66");
                assert_eq!(has, names == kept, "{http:?} {name}");
            }
        }
    }
}

/// A request that this gateway has forwarded already is not forwarded again (RFC 9110 §7.6.3).
#[tokio::test]
async fn a_forwarded_request_that_returns_is_a_loop() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let mut client = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    let ask = async |client: &mut Client, via: &[&str]| {
        let request = via.iter().fold(client.request("GET", CALL), |request, via| request.header("via", *via));
        client.send(request.body(Full::default()).expect("a request")).await.expect("an answer").status
    };
    assert_eq!(ask(&mut client, &["1.1 other"]).await, 200);
    let asked = backend.only();
    let vias: Vec<_> = asked.headers.get_all("via").iter().map(|via| via.to_str().expect("text")).collect();
    let ["1.1 other", own] = vias[..] else { panic!("{vias:?}") };
    assert!(own.starts_with("2 plgw-"), "{own}");
    for via in [vec![own], vec!["1.1 other", own], vec![&format!("1.0 a, {own} (comment), 1.1 b")]] {
        assert_eq!(ask(&mut client, &via).await, 508, "{via:?}");
    }
    assert!(backend.asked().is_empty());
    let request = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let said = raw(&lab, VPC, GENERAL, request.as_bytes(), |said| said.ends_with("ok")).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(backend.only().headers["via"].to_str().expect("text").starts_with("1.1 plgw-"));
}

/// A certificate per listener: the public one names no private endpoint.
#[tokio::test]
async fn a_certificate_names_the_address_of_its_listener_alone() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for (from, to) in [(INTERNET, PUBLIC), (VPC, GENERAL), (VPC, GENERAL_B), (VPC, SYNC)] {
        for name in [HOST, WS_SDK, to] {
            let io = tls(&lab, from, to, name, &[]).await.expect("TLS");
            let shown = io.get_ref().1.peer_certificates().expect("certificates")[0].clone();
            let (_, certificate) = X509Certificate::from_der(&shown).expect("a certificate");
            let names = certificate.subject_alternative_name().expect("fits").expect("it has names");
            let addresses = names.value.general_names.iter().filter_map(|name| match name {
                GeneralName::IPAddress(bytes) => Some(bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(".")),
                _ => None,
            });
            assert_eq!(addresses.collect::<Vec<_>>(), [to], "{name} at {to}");
        }
    }
}

/// RFC 9110 §8.6, §15.4.5: no length with 204 and 304, whatever the backend sends, on both versions.
#[tokio::test]
async fn responses_without_a_body_are_the_same_on_both_versions() {
    for (status, first) in [(204, "HTTP/1.1 204 No Content\r\n"), (304, "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n")]
    {
        for length in ["", "Content-Length: 0\r\n", "Content-Length: 7\r\n"] {
            if status == 204 && length.contains('7') {
                continue;
            }
            let answer: &'static str = format!("{first}{length}\r\n").leak();
            let backend = RawBackend::answering(answer).await;
            let lab = Lab::start(&backend.url).await;
            for http in [Http::One, Http::Two] {
                let mut client = Client::connect(&lab, http, VPC, GENERAL).await;
                for _ in 0..2 {
                    let answer = client.get(CALL).await;
                    assert_eq!(answer.status, status);
                    assert!(!answer.headers.contains_key("content-length"), "{http:?} {status} {length:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_response_of_unknown_length_closes_an_http_1_0_connection_with_the_header() {
    let backend =
        RawBackend::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let lab = Lab::start(&backend.url).await;
    let request = format!("GET {CALL} HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n");
    let said = raw(&lab, VPC, GENERAL, request.as_bytes(), |_| false).await.to_lowercase();
    assert!(said.starts_with("http/1.0 200 ") && said.ends_with("\r\n\r\nok"), "{said}");
    assert!(said.contains("connection: close") && !said.contains("keep-alive"), "{said}");
}

#[tokio::test]
async fn a_response_may_have_more_than_a_hundred_fields() {
    let fields: String = (0..300).map(|n| format!("X-Field-{n}: {n}\r\n")).collect();
    let answer: &'static str = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok").leak();
    let backend = RawBackend::answering(answer).await;
    let lab = Lab::start(&backend.url).await;
    let request = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let said = raw(&lab, VPC, GENERAL, request.as_bytes(), |said| said.ends_with("\r\n\r\nok")).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("x-field-299: 299"), "{said}");
}

#[tokio::test]
async fn server_wide_options_are_answered_by_the_gateway() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for (host, status) in [(HOST, "200"), ("elsewhere", "421")] {
        let request = format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let said = raw(&lab, VPC, GENERAL, request.as_bytes(), |said| said.contains("\r\n\r\n")).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert_eq!(said.contains("allow: GET, "), status == "200", "{said}");
    }
    assert!(backend.asked().is_empty());
}

/// RFC 9110 §15.5.22.
#[tokio::test]
async fn a_426_names_the_required_protocol() {
    let backend = RawBackend::answering(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let lab = Lab::start(&backend.url).await;
    let request = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let said = raw(&lab, VPC, GENERAL, request.as_bytes(), |said| said.contains("\r\n\r\n")).await;
    assert!(said.contains("upgrade: websocket\r\n") && said.contains("connection: upgrade\r\n"), "{said}");
    let answer = get(&lab, Http::Two, VPC, GENERAL, CALL).await;
    assert_eq!(answer.status, 426);
    assert!(!answer.headers.contains_key("upgrade"), "RFC 9113 §8.2.2");
}

/// Trailers pass on both versions, to clients that say that they take them.
#[tokio::test]
async fn trailers_of_a_response_pass_on_both_versions() {
    let backend = RawBackend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n",
    )
    .await;
    let lab = Lab::start(&backend.url).await;
    let request = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let said = raw(&lab, VPC, GENERAL, request.as_bytes(), |said| said.contains("\r\n0\r\n")).await;
    assert!(said.to_lowercase().contains("\r\nx-sum: 42\r\n"), "{said}");
    assert!(backend.received()[0].to_lowercase().contains("te: trailers\r\n"), "{:?}", backend.received());

    use http_body_util::BodyExt;
    let mut client = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    let request = client.request("GET", CALL).header("te", "trailers").body(Full::default()).expect("a request");
    let Client::Http2(sender, _) = &mut client else { unreachable!("it is HTTP/2") };
    let body = sender.send_request(request).await.expect("an answer").into_body();
    let whole = body.collect().await.expect("a whole body");
    assert_eq!(whole.trailers().expect("trailers")["x-sum"], "42");
}

/// A client that reads nothing is reset, over plain TCP as over TLS: unread data is not kept for it.
#[tokio::test]
async fn an_unread_answer_ends_in_a_reset() {
    let backend = Recorder::start().await;
    let limits = plgw::appservices::AppLimits { body_idle: Duration::from_millis(300), ..Default::default() };
    let options = plgw::appservices::AppOptions { limits, ..Default::default() };
    let lab = Lab::start_with(&backend.url, options, |_| {}).await;
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let ask = format!("GET /api/client/v2.0/app/myapp-abcde/big HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    io.write_all(ask.as_bytes()).await.expect("written");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while lab.front.open_count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let end = io.read_to_end(&mut Vec::new()).await.expect_err("reset");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}
