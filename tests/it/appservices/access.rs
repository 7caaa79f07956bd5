//! Access to apps: B1 to B8, B11, B12, B14.

use http_body_util::Full;

use super::client::{Client, Http, get, tcp, tls};
use super::lab::*;
use super::recorder::Recorder;
use plgw::appservices::{AppOptions, CertificateFiles, CertificateSource};
use plgw::model::{AppEndpointKind, CidrSet};
use plgw::tls::LabCa;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

const LOCATION: &str = "/api/client/v2.0/app/myapp-abcde/location";
const CALL: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";

/// B1.
#[tokio::test]
async fn client_requests_through_a_general_endpoint_reach_the_app_from_wherever_the_vpc_is_joined() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for (from, origin) in [(VPC, "vpc"), (PEERED, "peered"), (ON_PREMISES, "on_premises")] {
        for http in [Http::One, Http::Two] {
            for to in [GENERAL, GENERAL_B] {
                let answer = get(&lab, http, from, to, CALL).await;
                assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"), "{from} {http:?} {to}");
                let asked = backend.only();
                assert_eq!(asked.headers["x-plgw-origin"], origin);
                assert_eq!(asked.headers["x-plgw-vpc-endpoint"], "vpce-0357a1c6e8b2d4f90");
                assert_eq!(asked.headers["x-forwarded-for"], from);
                assert_eq!(asked.headers["x-forwarded-proto"], "https");
                assert_eq!(asked.headers["host"], format!("{HOST}:{}", lab.port));
                assert_eq!(asked.uri, CALL);
            }
        }
    }
    let counted = ["plgw_app_requests_total", "app=\"myapp-abcde\"", "endpoint=\"general\"", "origin=\"peered\""];
    let all: Vec<_> = counted.iter().chain(&["verdict=\"served\"", "status=\"2xx\""]).copied().collect();
    lab.expect_metric(&all, 4.0).await;
    assert!(
        lab.metric(&["plgw_app_request_duration_seconds_count", "endpoint=\"general\""]).is_some_and(|n| n >= 12.0)
    );
}

/// B3: the same 404 for an app that is restricted and for one that doesn't exist.
#[tokio::test]
async fn a_restricted_app_looks_absent_from_outside() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for http in [Http::One, Http::Two] {
        for path in [
            "/api/client/v2.0/app/{}/location",
            "/api/client/v2.0/app/{}/functions/call",
            "/api/client/v2.0/app/{}/realm-sync",
            "/app/{}/endpoint/data/v1/action/find",
            "/app/{}/endpoint/greet",
        ] {
            let restricted = get(&lab, http, INTERNET, PUBLIC, &path.replace("{}", APP)).await;
            let absent = get(&lab, http, INTERNET, PUBLIC, &path.replace("{}", "noapp-zzzzz")).await;
            assert_eq!(restricted.status, 404, "{path}");
            assert_eq!(restricted.json()["error"], format!("cannot find app using Client App ID '{APP}'"));
            assert_eq!(restricted.body.replace(APP, "noapp-zzzzz"), absent.body);
            let shape = |answer: &super::client::Answer| {
                let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
                names.sort();
                (answer.status, names)
            };
            assert_eq!(shape(&restricted), shape(&absent));
        }
    }
    assert!(backend.asked().is_empty(), "nothing reached the backend");
    let restricted = lab.metric(&["plgw_app_requests_total", "verdict=\"restricted\"", "origin=\"public\"", "4xx"]);
    assert_eq!(restricted, Some(10.0));
    assert_eq!(lab.metric(&["plgw_app_requests_total", "app=\"none\"", "verdict=\"unknown_app\""]), Some(10.0));
}

/// B4: at once, on a connection that is open, without dropping it.
#[tokio::test]
async fn the_switch_takes_effect_for_the_next_request_and_drops_no_connection() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    for http in [Http::One, Http::Two] {
        let mut outside = Client::connect(&lab, http, INTERNET, PUBLIC).await;
        let mut inside = Client::connect(&lab, http, VPC, GENERAL).await;
        assert_eq!(outside.get(CALL).await.status, 404);
        for allow in [true, false, true] {
            lab.allow_non_vpc_requests(allow).await;
            assert_eq!(outside.get(CALL).await.status, if allow { 200 } else { 404 }, "{http:?} {allow}");
            let post = outside.request("POST", CALL).body(Full::from("a body")).expect("a request");
            assert_eq!(outside.send(post).await.expect("on the same connection").status, if allow { 200 } else { 404 });
            assert_eq!(inside.get(CALL).await.status, 200);
        }
        lab.allow_non_vpc_requests(false).await;
    }
    assert_eq!(lab.metric(&["plgw_app_connections_total", "endpoint=\"public\""]), Some(2.0));
}

/// B4: a request in flight is answered as it was decided.
#[tokio::test]
async fn a_request_in_progress_when_the_restriction_changes_is_answered() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    lab.allow_non_vpc_requests(true).await;
    let mut outside = Client::connect(&lab, Http::One, INTERNET, PUBLIC).await;
    let slow = tokio::spawn(async move {
        let first = outside.get("/api/client/v2.0/app/myapp-abcde/slow").await;
        (first.body, outside.get(CALL).await.status)
    });
    backend.shared.came.notified().await;
    lab.allow_non_vpc_requests(false).await;
    backend.shared.release.notify_one();
    let (body, next) = slow.await.expect("both answered");
    assert_eq!((body.as_str(), next.as_u16()), ("slow", 404));
}

/// B5.
#[tokio::test]
async fn with_the_restriction_lifted_the_access_list_holds_for_the_public_path_alone() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start_with(&backend.url, AppOptions::default(), |desired| {
        let listed = CidrSet::parse_one("127.9.0.0/24").expect("a network");
        desired.apps[0].access_list = [listed].into_iter().collect();
        desired.apps[0].allow_non_vpc_requests = true;
    })
    .await;
    assert_eq!(get(&lab, Http::One, INTERNET, PUBLIC, CALL).await.status, 200);
    let refused = get(&lab, Http::One, "127.9.1.1", PUBLIC, CALL).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["error"], "the request's IP address is not on the app's IP access list");
    for restricted in [false, true] {
        assert_eq!(get(&lab, Http::One, VPC, GENERAL, CALL).await.status, 200, "no list on the private path");
        lab.allow_non_vpc_requests(restricted).await;
    }
    // From the VPC by the public address is from outside, too.
    lab.allow_non_vpc_requests(false).await;
    assert_eq!(get(&lab, Http::One, VPC, PUBLIC, CALL).await.status, 404);
}

/// B6.
#[tokio::test]
async fn custom_https_endpoints_and_the_data_api_are_refused_on_private_endpoints_and_served_in_public() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let paths = [
        ("/app/myapp-abcde/endpoint/data/v1/action/findOne", "the Data API is not supported through private endpoints"),
        ("/app/myapp-abcde/endpoint/greet", "custom HTTPS endpoints are not supported through private endpoints"),
        (
            "/api/client/v2.0/app/myapp-abcde/service/http/incoming_webhook/hook",
            "custom HTTPS endpoints are not supported through private endpoints",
        ),
    ];
    for (path, expected) in paths {
        for to in [GENERAL, SYNC] {
            let answer = get(&lab, Http::Two, VPC, to, path).await;
            assert_eq!(answer.status, 403, "{path}");
            assert_eq!(answer.json()["error"], expected);
        }
    }
    assert!(backend.asked().is_empty());
    lab.allow_non_vpc_requests(true).await;
    for (path, _) in paths {
        assert_eq!(get(&lab, Http::Two, INTERNET, PUBLIC, path).await.status, 200, "{path}");
    }
}

/// B2, B6: each type of endpoint has its own traffic.
#[tokio::test]
async fn an_endpoint_serves_its_own_type_alone() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for (to, path) in [(SYNC, CALL), (GENERAL, "/api/client/v2.0/app/myapp-abcde/realm-sync")] {
        let answer = get(&lab, Http::One, VPC, to, path).await;
        assert_eq!(answer.status, 403);
        assert!(answer.json()["error"].as_str().expect("text").starts_with("this endpoint is of the other type"));
    }
    let admin = get(&lab, Http::One, VPC, GENERAL, "/api/admin/v3.0/groups").await;
    assert_eq!((admin.status.as_u16(), lab.metric(&["verdict=\"admin_api\""])), (404, Some(1.0)));
    assert!(backend.asked().is_empty());
}

/// B8.
#[tokio::test]
async fn a_sync_endpoint_without_its_general_one_serves_nothing_and_gives_the_reason() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    lab.change(|desired| desired.apps[0].endpoints.retain(|e| e.kind == AppEndpointKind::Sync)).await;
    let answer = get(&lab, Http::One, VPC, SYNC, "/api/client/v2.0/app/myapp-abcde/realm-sync").await;
    assert_eq!(answer.status, 403);
    assert!(answer.json()["error"].as_str().expect("text").contains("must be paired with a General endpoint"));
}

/// B11.
#[tokio::test]
async fn an_app_that_moved_to_another_region_is_not_found_behind_its_old_endpoints() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    assert_eq!(client.get(CALL).await.status, 200);
    lab.change(|desired| desired.apps[0].region = "us-west-2".parse().expect("a region")).await;
    // The old names lead to no app; under the new name there is no such app.
    assert_eq!(client.get(CALL).await.status, 421);
    let moved = client.request("GET", CALL);
    let moved = moved.headers_ref().is_some().then_some(moved).expect("a request");
    let mut moved = moved.body(Full::default()).expect("a request");
    let host = format!("us-west-2.aws.services.cloud.mongodb.com:{}", lab.port);
    moved.headers_mut().insert("host", host.parse().expect("a value"));
    let answer = client.send(moved).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), lab.metric(&["verdict=\"other_region\""])), (404, Some(1.0)));
}

/// B7, B12: apps that can't have private endpoints are refused in the config.
#[tokio::test]
async fn global_apps_and_apps_with_wire_protocol_get_no_private_endpoints() {
    use plgw::model::DeploymentModel;
    use plgw::plan::{Generation, PortAllocations, compile};
    let refused = |change: fn(&mut plgw::model::App)| {
        let mut desired = plgw::config::quickstart().desired;
        change(&mut desired.apps[0]);
        compile(&desired, &PortAllocations::default(), Generation(1)).expect_err("refused").to_string()
    };
    assert!(refused(|app| app.deployment = DeploymentModel::Global).contains("global"));
    assert!(refused(|app| app.wire_protocol = true).contains("wire protocol"));
}

/// B14.
#[tokio::test]
async fn the_location_call_keeps_an_sdk_on_the_names_that_it_came_by() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    lab.allow_non_vpc_requests(true).await;
    for http in [Http::One, Http::Two] {
        for (from, to) in [(VPC, GENERAL), (INTERNET, PUBLIC)] {
            let answer = get(&lab, http, from, to, LOCATION).await;
            let told = answer.json();
            assert_eq!(told["hostname"], format!("https://{HOST}:{}", lab.port));
            assert_eq!(told["ws_hostname"], format!("wss://{WS_SDK}:{}", lab.port));
            assert_eq!(told["deployment_model"], "LOCAL");
            assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
        }
    }
}

/// B14: a certificate for every name, and for the addresses.
#[tokio::test]
async fn every_name_of_the_app_has_a_certificate() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for name in [HOST, WS_SDK, WS_DOCS] {
        for to in [GENERAL, SYNC, PUBLIC] {
            let from = if to == PUBLIC { INTERNET } else { VPC };
            tls(&lab, from, to, name, &[b"h2"]).await.unwrap_or_else(|error| panic!("{name} at {to}: {error}"));
        }
    }
    tls(&lab, VPC, GENERAL, GENERAL, &[]).await.expect("a certificate for the address");
    tls(&lab, VPC, GENERAL, "us-west-2.aws.services.cloud.mongodb.com", &[]).await.expect_err("none for other names");
}

/// A2, A3, A25, as for flows: packets that AWS drops get no answer, on any address of the front end.
#[tokio::test]
async fn a_refused_client_gets_no_answer() {
    let backend = Recorder::start().await;
    let options = AppOptions { hold_time: std::time::Duration::from_millis(100), ..AppOptions::default() };
    let mut lab = Lab::start_with(&backend.url, options, |_| {}).await;
    lab.allow_non_vpc_requests(true).await;
    for (from, to, reason) in [
        (SERVICE_SIDE, GENERAL, "one_way"),
        (SERVICE_SIDE, PUBLIC, "one_way"),
        (INTERNET, GENERAL, "origin"),
        (INTERNET, SYNC, "origin"),
    ] {
        let mut client = tcp(&lab, from, to).await;
        let mut buffer = [0; 16];
        let error = client.read(&mut buffer).await.expect_err("held, then reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{from} to {to}");
        assert!(lab.metric(&["plgw_app_refused_connections_total", reason]).is_some_and(|n| n >= 1.0), "{reason}");
    }
}

/// Two apps share every address; each has its own settings.
#[tokio::test]
async fn apps_at_one_address_follow_their_own_settings() {
    let (first, second) = (Recorder::start().await, Recorder::start().await);
    let url = second.url.clone();
    let lab = Lab::start_with(&first.url, AppOptions::default(), move |desired| {
        let mut other = another(&desired.apps[0], "other-fghij", &url);
        other.allow_non_vpc_requests = true;
        desired.apps.push(other);
    })
    .await;
    let mut outside = Client::connect(&lab, Http::Two, INTERNET, PUBLIC).await;
    assert_eq!(outside.get("/api/client/v2.0/app/other-fghij/functions/call").await.status, 200);
    assert_eq!(outside.get(CALL).await.status, 404, "by the same connection");
    let mut inside = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    assert_eq!(inside.get(CALL).await.status, 200);
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    // A session without an app in its path goes to no backend of a restricted app.
    assert_eq!(outside.get("/api/client/v2.0/auth/session").await.status, 200);
    assert_eq!((first.asked().len(), second.asked().len()), (1, 2));
}

/// A removed address accepts no new connections, and its open requests are finished.
#[tokio::test]
async fn a_removed_endpoint_closes_its_address_and_finishes_open_requests() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let idle = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let slow = tokio::spawn(async move { client.get("/api/client/v2.0/app/myapp-abcde/slow").await });
    backend.shared.came.notified().await;
    lab.change(|desired| desired.apps[0].endpoints.clear()).await;
    let error = tokio::net::TcpStream::connect(lab.at(GENERAL)).await.expect_err("closed");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    backend.shared.release.notify_one();
    let answer = slow.await.expect("answered");
    assert_eq!((answer.status.as_u16(), &answer.headers["connection"]), (200, &"close".parse().expect("a value")));
    let Client::Http1(mut idle, _) = idle else { unreachable!("it is HTTP/1.1") };
    let closed = async {
        while idle.ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.expect("the idle one is closed");
}

/// Certificates from files, chosen by name, and read again when they change, while connections stay.
#[tokio::test]
async fn certificates_from_files_are_chosen_by_name_and_renewed_without_a_restart() {
    let backend = Recorder::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca = Arc::new(LabCa::open_or_create(dir.path()).expect("a CA"));
    let put = |file: &str, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| name.parse().expect("a name")).collect();
        let identity = ca.issue(&names, &[]).expect("issued");
        let files = CertificateFiles {
            certificate: dir.path().join(format!("{file}.pem")),
            key: dir.path().join(format!("{file}-key.pem")),
        };
        for path in [&files.certificate, &files.key] {
            let written = std::fs::write(path, identity.pem());
            written.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o600))).expect("written");
        }
        (files, identity.chain()[0].clone())
    };
    let (first, http) = put("http", &[HOST]);
    let (second, ws) = put("ws", &[WS_SDK, WS_DOCS]);
    let source = CertificateSource::Files(vec![first, second]);
    let (kept, held) = (tempfile::tempdir().expect("a directory"), Arc::clone(&ca));
    let lab = Lab::start_showing(source, kept, held, &backend.url, AppOptions::default(), |_| {}).await;
    let shown = async |name: &str| {
        let io = tls(&lab, VPC, GENERAL, name, &[]).await.expect("TLS");
        io.get_ref().1.peer_certificates().expect("certificates")[0].clone()
    };
    assert_eq!((shown(HOST).await, shown(WS_SDK).await, shown(WS_DOCS).await), (http.clone(), ws.clone(), ws));
    let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let (_, renewed) = put("http", &[HOST]);
    assert_ne!(http, renewed);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while shown(HOST).await != renewed {
        assert!(tokio::time::Instant::now() < deadline, "the old one is still shown");
    }
    assert_eq!(client.get(CALL).await.status, 200);
}

/// Certificates are read again with the config: on SIGHUP, as on the admin API's command.
#[tokio::test]
async fn a_reload_reads_certificates_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = LabCa::open_or_create(dir.path()).expect("a CA");
    let written = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
    let put = || {
        let identity = ca.issue(&[HOST.parse().expect("a name")], &[]).expect("issued");
        for name in ["app.pem", "app-key.pem"] {
            let path = dir.path().join(name);
            let written_now = std::fs::write(&path, identity.pem());
            written_now.and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o600))).expect("written");
            // The same as before, so that nothing but a reload sees the change.
            std::fs::File::options().append(true).open(path).and_then(|f| f.set_modified(written)).expect("stamped");
        }
        identity.chain()[0].clone()
    };
    let first = put();
    let port = std::net::TcpListener::bind((PUBLIC, 0)).and_then(|l| l.local_addr()).expect("a free port").port();
    let scenario = include_str!("../../../config/scenarios/app-services.toml").replace(":8443", &format!(":{port}"));
    let text = format!(
        "lab_dir = {0:?}\n\n[state]\nstore = \"memory\"\n\n[admin]\nenabled = false\n\n[metrics]\nenabled = false\n\n\
         [[app_services.certificate]]\ncertificate = {1:?}\nkey = {2:?}\n\n{scenario}",
        dir.path().join("lab"),
        dir.path().join("app.pem"),
        dir.path().join("app-key.pem"),
    );
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, text).expect("written");
    let config = plgw::config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    let options = plgw::app::GatewayOptions { source: Some(file), ..Default::default() };
    let gateway = plgw::app::Gateway::start(config, options).await.expect("the gateway starts");
    let shown = async || {
        let tcp = tokio::net::TcpStream::connect((PUBLIC, port)).await.expect("connected");
        let config = plgw::tls::identity::client_config(ca.certificate(), &[]).expect("a configuration");
        let name = HOST.try_into().expect("a name");
        let io = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.expect("TLS");
        io.get_ref().1.peer_certificates().expect("certificates")[0].clone()
    };
    assert_eq!(shown().await, first);
    let renewed = put();
    assert_eq!(shown().await, first, "nothing has asked for it");
    gateway.reload().await.expect("reloaded");
    assert_eq!(shown().await, renewed);
    gateway.stop().await;
}
