//! D8, D24. A gateway whose shared state store does not answer: every API refuses changes in its own format, and serves
//! reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::client::{ApiResponse, Client};
use super::fixture::{Gateway, element};
use crate::control::store::failing::FailingStore;

const APPS: &str = "/api/admin/v3.0/groups/5f2a1b3c4d5e6f7081920a3b/apps";

#[tokio::test]
async fn every_api_refuses_changes_and_still_reads_while_the_shared_store_is_unavailable() {
    let store = Arc::new(FailingStore::new());
    let gateway = Gateway::sharing(store.clone()).await;
    let login = r#"{"username":"public","apiKey":"private"}"#;
    let login = gateway.ask("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login", login).await.json();
    let apps = Client::new(gateway.address).with_token(login["access_token"].as_str().map(str::to_owned));
    let ask_apps =
        async |method: &str, path: &str| apps.send(method, &format!("{APPS}{path}"), &[], String::new()).await.unwrap();
    let app = ask_apps("GET", "").await.json()[0]["_id"].as_str().expect("an id").to_owned();
    let endpoints = format!("/{app}/security/private_endpoints");
    let endpoint = ask_apps("GET", &endpoints).await.json()[0]["_id"].as_str().expect("an id").to_owned();

    store.is_silent.store(true, Ordering::Relaxed);
    let mut status = gateway.control.shared_status();
    status.wait_for(|status| status.unreachable.is_some()).await.expect("it says so");
    let cause = "the state store is unavailable and nothing was changed; try again once the cause is mended: no answer";

    let moved = gateway.ask("POST", "/v1/targets/Cluster0/shard-00-00/move", "").await;
    assert_eq!((moved.status.as_u16(), &moved.json()["code"]), (503, &json!("not_saved")), "{}", moved.text());
    assert!(said(&moved, "message").ends_with(cause), "{}", moved.text());

    let vpc = gateway.ec2("Action=CreateVpc&CidrBlock=127.4.0.0/16").await;
    assert_eq!((vpc.status.as_u16(), element(&vpc.text(), "Code").as_str()), (503, "Unavailable"), "{}", vpc.text());
    assert!(element(&vpc.text(), "Message").ends_with(cause), "{}", vpc.text());

    let body = json!({ "providerName": "AWS", "region": "EU_WEST_1" });
    let service = gateway.atlas("POST", "privateEndpoint/endpointService", body).await;
    let error = (service.status.as_u16(), service.json()["errorCode"].clone());
    assert_eq!(error, (503, json!("SERVICE_UNAVAILABLE")), "{}", service.text());
    assert!(said(&service, "detail").ends_with(cause), "{}", service.text());

    let removed = ask_apps("DELETE", &format!("{endpoints}/{endpoint}")).await;
    let error = (removed.status.as_u16(), removed.json()["error_code"].clone());
    assert_eq!(error, (503, json!("ServiceUnavailable")), "{}", removed.text());
    assert!(said(&removed, "error").ends_with(cause), "{}", removed.text());

    let shown = gateway.ask("GET", "/v1/status", "").await.json();
    let problem = &shown["problems"][0];
    assert_eq!((&problem["severity"], &problem["kind"]), (&json!("critical"), &json!("state_store")), "{shown}");
    assert!(problem["message"].as_str().unwrap().starts_with("the state store has not answered since"), "{shown}");
    assert_eq!(gateway.ask("GET", "/v1/targets", "").await.json()["targets"].as_array().map(Vec::len), Some(4));
    assert_eq!(ask_apps("GET", &endpoints).await.status, 200);

    store.is_silent.store(false, Ordering::Relaxed);
    status.wait_for(|status| status.unreachable.is_none()).await.expect("it says so");
    let moved = gateway.ask("POST", "/v1/targets/Cluster0/shard-00-00/move", "").await;
    assert_eq!(moved.status, 200, "{}", moved.text());
}

#[tokio::test]
async fn a_change_of_more_keys_than_a_transaction_takes_is_refused_with_advice_and_not_applied() {
    const FAULTS: usize = 121;
    let gateway = Gateway::sharing(Arc::new(FailingStore::new())).await;
    for n in 0..FAULTS {
        let fault = json!({ "name": format!("fault-{n}"), "type": "refuse", "share": 0 });
        let set = gateway.ask("POST", "/v1/faults", &fault.to_string()).await;
        assert!(set.status.is_success(), "{}", set.text());
    }
    let cleared = gateway.ask("DELETE", "/v1/faults", "").await;
    assert_eq!(
        (cleared.status.as_u16(), &cleared.json()["code"]),
        (409, &json!("too_many_keys")),
        "{}",
        cleared.text()
    );
    assert!(said(&cleared, "message").contains("split it; nothing was changed"), "{}", cleared.text());
    let left = gateway.ask("GET", "/v1/faults", "").await.json();
    assert_eq!(left["faults"].as_array().map(Vec::len), Some(FAULTS));
    assert_eq!(gateway.ask("DELETE", "/v1/faults/fault-0", "").await.status, 204);
    assert_eq!(gateway.ask("DELETE", "/v1/faults", "").await.status, 200);
}

fn said(answer: &ApiResponse, field: &str) -> String {
    answer.json().get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
