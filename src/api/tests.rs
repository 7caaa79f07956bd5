//! The admin listener over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Credentials;
use super::client::Client;
use super::fixture::Gateway;

#[tokio::test]
async fn status_shows_the_running_program() {
    let gateway = Gateway::start().await;
    let answer = gateway.ask("GET", "/v1/status", "").await;
    assert_eq!(answer.status, 200);
    let status = answer.json();
    assert_eq!(status["generation"], 1);
    assert_eq!(status["targets"], 4);
    assert_eq!(status["endpoints"], 3);
    assert_eq!(status["open_flows"], 2);
    assert_eq!(status["carried"]["flows"], 7);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn targets_endpoints_and_strings_are_the_snapshots() {
    let gateway = Gateway::start().await;
    let targets = gateway.ask("GET", "/v1/targets", "").await.json();
    let ports: Vec<_> = targets["targets"].as_array().unwrap().iter().map(|t| t["port"].as_u64().unwrap()).collect();
    assert_eq!(ports, [1024, 1025, 1026, 1027]);
    assert_eq!(targets["targets"][3]["kind"], "optimized");
    let endpoints = gateway.ask("GET", "/v1/endpoints", "").await.json();
    assert_eq!(endpoints["endpoints"][0]["state"], "available");
    let strings = gateway.ask("GET", "/v1/connection-strings?cluster=Cluster0", "").await.json();
    let strings = strings["connection_strings"].as_array().unwrap();
    assert_eq!(strings.len(), 1);
    assert_eq!(strings[0]["private"][0]["srv_connection_string"], "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net");
    let snapshot = gateway.ask("GET", "/v1/snapshot", "").await.json();
    assert!(snapshot["dns"]["public"]["k45tj.mongodb.net"].is_object() || !snapshot["dns"]["public"].is_null());
    assert!(snapshot["listeners"].as_array().unwrap().iter().any(|l| l["address"] == "127.0.30.194:1024"));
}

#[tokio::test]
async fn a_target_moves_by_command_and_a_refused_move_has_the_reason() {
    let gateway = Gateway::start().await;
    let moved = gateway.ask("POST", "/v1/targets/Cluster0/shard-00-00/move", r#"{"port":2000}"#).await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    assert_eq!((moved.json()["from"].as_u64(), moved.json()["to"].as_u64()), (Some(1024), Some(2000)));
    let lowest = gateway.ask("POST", "/v1/targets/Cluster0/shard-00-00/move", "").await;
    let to = lowest.json()["to"].as_u64();
    assert!(matches!(to, Some(1024 | 1028)), "1025 to 1027 are held, 1024 may drain still: {}", lowest.text());

    for (path, body, status, code) in [
        ("Cluster0/none", "", 404, "no_such_target"),
        ("Cluster0/shard-00-00", r#"{"port":1025}"#, 409, "plan_refused"),
        ("Cluster0/shard-00-00", r#"{"port":0}"#, 400, "bad_request"),
        ("Cluster0/shard-00-00", r#"{"prot":2001}"#, 400, "bad_request"),
    ] {
        let refused = gateway.ask("POST", &format!("/v1/targets/{path}/move"), body).await;
        assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (status, Some(code)), "{path} {body}");
    }
}

#[tokio::test]
async fn flows_are_listed_filtered_and_ended() {
    let gateway = Gateway::start().await;
    let flows = gateway.ask("GET", "/v1/flows?client=127.3.0.9", "").await.json();
    assert_eq!(flows["flows"].as_array().unwrap().len(), 1);
    assert_eq!(flows["flows"][0]["id"], "a2");
    assert_eq!(gateway.ask("DELETE", "/v1/flows/a2", "").await.status, 204);
    assert_eq!(gateway.ask("DELETE", "/v1/flows/a2", "").await.json()["code"], "no_such_flow");
    assert_eq!(gateway.ask("DELETE", "/v1/flows/zz", "").await.status, 400);
}

#[tokio::test]
async fn a_reload_is_a_new_generation() {
    let gateway = Gateway::start().await;
    let before = gateway.control.snapshot().generation.0;
    let reloaded = gateway.ask("POST", "/v1/reload", "").await.json();
    assert!(reloaded["generation"].as_u64().unwrap() > before);
}

#[tokio::test]
async fn unknown_paths_and_unsupported_methods_are_distinguished() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.ask("GET", "/v1/nothing", "").await.status, 404);
    assert_eq!(gateway.ask("GET", "/nothing", "").await.status, 404);
    let wrong = gateway.ask("DELETE", "/v1/status", "").await;
    assert_eq!((wrong.status.as_u16(), &wrong.headers["allow"]), (405, &"GET".parse().unwrap()));
}

#[tokio::test]
async fn a_rebound_name_and_a_foreign_page_are_refused() {
    let gateway = Gateway::start().await;
    let client = super::client::Client::new(gateway.address);
    let rebound = client.send("GET", "/v1/status", &[("host", "attacker.example")], String::new()).await.unwrap();
    assert_eq!((rebound.status.as_u16(), rebound.json()["code"].as_str()), (403, Some("forbidden")));
    let foreign = [("origin", "http://attacker.example")];
    let foreign = client.send("POST", "/v1/reload", &foreign, String::new()).await.unwrap();
    assert_eq!(foreign.status, 403);
    assert_eq!(gateway.control.snapshot().generation.0, 1, "nothing was reloaded");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let gateway = Gateway::start().await;
    let body = " ".repeat(super::serve::BODY_LIMIT + 1);
    let refused = gateway.ask("POST", "/v1/targets/Cluster0/shard-00-00/move", &body).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (413, Some("body_too_large")));
}

#[tokio::test]
async fn the_services_side_gets_no_answer() {
    let gateway = Gateway::start().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.1.0.77:0".parse().unwrap()).unwrap();
    let mut stream: TcpStream = socket.connect(gateway.address).await.unwrap();
    // The gateway may close before the request is written.
    let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

fn credentials() -> Credentials {
    let text = str::to_owned;
    Credentials { public_key: text("public"), private_key: text("private"), token: text("token") }
}

#[tokio::test]
async fn with_credentials_every_front_asks_in_its_own_way() {
    let gateway = Gateway::with_credentials(credentials()).await;
    let project = "/api/atlas/v2/groups/5f2a1b3c4d5e6f7081920a3b";
    let bare = gateway.ask("GET", project, "").await;
    assert_eq!((bare.status.as_u16(), bare.json()["errorCode"].as_str()), (401, Some("UNEXPECTED_ERROR")));
    for path in ["/api//atlas/v2/groups", "//api/atlas/v2/groups", "/api/%61tlas/v2/groups", "/%61pi/atlas/v1.0/groups"]
    {
        assert_eq!(gateway.ask("GET", path, "").await.status, 401, "{path}");
        assert_eq!(
            gateway.ask("POST", path, r#"{"name":"evil","orgId":"5f2a1b3c4d5e6f7081920a3b"}"#).await.status,
            401
        );
    }
    for path in ["//v1/status", "/%761/status", "/api//admin/v3.0/groups/5f2a1b3c4d5e6f7081920a3b/apps"] {
        assert_eq!(gateway.ask("GET", path, "").await.status, 401, "{path}");
    }
    let challenge = bare.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Digest realm=\"MMS Public API\", domain=\"\", nonce="), "{challenge}");
    let ec2 = gateway.ask("POST", "/", "Action=DescribeVpcs").await;
    assert_eq!(ec2.status, 401);
    assert!(ec2.text().contains("<Code>AuthFailure</Code>"), "{}", ec2.text());
    assert_eq!(gateway.ask("GET", "/v1/status", "").await.status, 401);
    let login = "/api/admin/v3.0/auth/providers/mongodb-cloud/login";
    assert_eq!(gateway.ask("POST", login, r#"{"username":"public","apiKey":"wrong"}"#).await.status, 401);
    assert_eq!(gateway.ask("POST", login, r#"{"username":"public","apiKey":"private"}"#).await.status, 200);

    let knowing = |token: &str| Client::new(gateway.address).with_token(Some(token.to_owned()));
    let status = knowing("token").send("GET", "/v1/status", &[], String::new()).await.unwrap();
    assert_eq!(status.status, 200);
    let basic =
        [("authorization", "Basic cHVibGljOnByaXZhdGU="), ("content-type", "application/x-www-form-urlencoded")];
    let form = "grant_type=client_credentials".to_owned();
    let token = Client::new(gateway.address).send("POST", "/api/oauth/token", &basic, form).await.unwrap().json();
    let atlas = knowing(token["access_token"].as_str().unwrap());
    assert_eq!(atlas.send("GET", project, &[], String::new()).await.unwrap().status, 200);
}

/// RFC 9110 §11.1: scheme names are case-insensitive. A logout ends both tokens of the session.
#[tokio::test]
async fn a_session_ends_with_both_of_its_tokens() {
    let gateway = Gateway::with_credentials(credentials()).await;
    let send = async |method: &str, path: &str, token: &str| {
        let bearer = [("authorization", token)];
        let path = format!("/api/admin/v3.0/auth/{path}");
        Client::new(gateway.address).send(method, &path, &bearer, String::new()).await.unwrap().status.as_u16()
    };
    let login = "/api/admin/v3.0/auth/providers/mongodb-cloud/login";
    let login = gateway.ask("POST", login, r#"{"username":"public","apiKey":"private"}"#).await.json();
    let [access, refresh] =
        ["access_token", "refresh_token"].map(|token| format!("bearer {}", login[token].as_str().unwrap()));
    assert_eq!(send("POST", "session", &refresh).await, 201);
    assert_eq!(send("GET", "profile", &access).await, 200);
    assert_eq!(send("DELETE", "session", &access).await, 204);
    assert_eq!(send("GET", "profile", &access).await, 401);
    assert_eq!(send("POST", "session", &refresh).await, 401);
}

#[tokio::test]
async fn guesses_are_limited_and_never_lock_out_the_right_token() {
    let gateway = Gateway::with_credentials(credentials()).await;
    let wrong = Client::new(gateway.address).with_token(Some("wrong".to_owned()));
    let ask =
        async |client: &Client| client.send("GET", "/v1/status", &[], String::new()).await.unwrap().status.as_u16();
    for _ in 0..20 {
        assert_eq!(ask(&wrong).await, 401);
    }
    assert_eq!(ask(&wrong).await, 429);
    let right = Client::new(gateway.address).with_token(Some("token".to_owned()));
    assert_eq!(ask(&right).await, 200, "it comes from the same address");
    assert_eq!(ask(&wrong).await, 429);
}

#[tokio::test]
async fn the_logs_levels_are_shown_and_changed_by_module() {
    let gateway = Gateway::start().await;
    let shown = gateway.ask("GET", "/v1/logs", "").await.json();
    assert_eq!((&shown["levels"], &shown["modules"]["dns"]), (&"info".into(), &"info".into()));
    let changed = gateway.ask("PUT", "/v1/logs", r#"{"levels":"warn,dns=debug"}"#).await.json();
    assert_eq!((&changed["levels"], &changed["started_with"]), (&"warn,dns=debug".into(), &"info".into()));
    assert_eq!((&changed["modules"]["dns"], &changed["modules"]["data"]), (&"debug".into(), &"warn".into()));
    let merged = gateway.ask("PUT", "/v1/logs", r#"{"levels":"flowlog=trace"}"#).await.json();
    assert_eq!(merged["levels"], "warn,dns=debug,flowlog=trace");
    let reset = gateway.ask("PUT", "/v1/logs", r#"{"levels":"data=debug","reset":true}"#).await.json();
    assert_eq!(reset["levels"], "info,data=debug");
    for body in [r#"{"levels":"dsn=debug"}"#, r#"{"levels":"info","more":1}"#, "{}"] {
        assert_eq!(gateway.ask("PUT", "/v1/logs", body).await.status, 400, "{body}");
    }
    assert_eq!(gateway.ask("DELETE", "/v1/logs", "").await.status, 405);
}

/// A source without credentials must not be able to lock operators out.
#[tokio::test]
async fn calls_are_answered_whatever_number_of_idle_connections_one_source_holds() {
    let gateway = Gateway::start().await;
    let mut idle = Vec::new();
    for _ in 0..256 + 16 {
        idle.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    for _ in 0..3 {
        assert_eq!(gateway.ask("GET", "/v1/status", "").await.status, 200);
    }
}
