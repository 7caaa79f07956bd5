//! Commands of `/v1`: faults, zones, limits, registration, pace; and their persistence.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::fixture::Gateway;
use crate::control::Pace;
use crate::control::store::MemoryStore;
use crate::control::store::failing::{FailingStore, InjectedFailure};

const SERVICE: &str = "vpce-svc-02863655456245e5c";

async fn get(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.ask("GET", path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn send(gateway: &Gateway, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = gateway.ask(method, path, &body).await;
    (answer.status.as_u16(), answer.json())
}

fn names(faults: &Value) -> Vec<&str> {
    faults["faults"].as_array().expect("a list").iter().filter_map(|fault| fault["name"].as_str()).collect()
}

#[tokio::test]
async fn faults_are_added_listed_replaced_and_removed() {
    let gateway = Gateway::start().await;
    assert_eq!(get(&gateway, "/v1/faults").await, json!({ "faults": [] }));
    let slow = json!({
        "name": "slow", "type": "latency", "delay": "100ms", "jitter": "20ms", "share": 0.25, "seed": 7,
        "target": "Cluster0/shard-00-00", "for": "1h",
    });
    let (status, added) = send(&gateway, "POST", "/v1/faults", slow.clone()).await;
    assert_eq!(status, 201, "{added}");
    assert_eq!((&added["type"], &added["share"], &added["flows"]), (&json!("latency"), &json!(0.25), &json!(3)));
    assert_eq!((&added["origin"], &added["state"]), (&json!("command"), &json!("active")));
    assert!(added["ends_at"].as_str() > added["begins_at"].as_str(), "{added}");

    let (status, taken) = send(&gateway, "POST", "/v1/faults", slow.clone()).await;
    assert_eq!((status, &taken["code"]), (409, &json!("exists")));
    let (status, other) = send(&gateway, "PUT", "/v1/faults/slow", json!({ "type": "refuse" })).await;
    assert_eq!((status, &other["type"], other.get("delay"), other.get("target")), (200, &json!("refuse"), None, None));
    let (_, named) = send(&gateway, "POST", "/v1/faults", json!({ "type": "refuse", "after": "1h" })).await;
    assert_eq!((&named["name"], &named["state"]), (&json!("refuse-1"), &json!("waiting")));
    assert_eq!(names(&get(&gateway, "/v1/faults").await), ["refuse-1", "slow"]);
    assert_eq!(get(&gateway, "/v1/faults/slow").await["name"], "slow");

    assert_eq!(send(&gateway, "DELETE", "/v1/faults/slow", Value::Null).await.0, 204);
    let (status, gone) = send(&gateway, "DELETE", "/v1/faults/slow", Value::Null).await;
    assert_eq!((status, &gone["code"]), (404, &json!("no_such_fault")));
    assert_eq!(gone["message"], "there is no fault `slow`; set are: refuse-1");
    assert_eq!(send(&gateway, "GET", "/v1/faults/slow", Value::Null).await.0, 404);
    assert_eq!(send(&gateway, "DELETE", "/v1/faults", Value::Null).await, (200, json!({ "cleared": 1 })));
    assert_eq!(send(&gateway, "PATCH", "/v1/faults", Value::Null).await.0, 405);
}

#[tokio::test]
async fn keys_of_earlier_versions_are_read_and_the_answer_names_their_replacement() {
    let gateway = Gateway::start().await;
    let former = json!({ "kind": { "type": "latency", "delay_ms": 100 }, "scope": { "zone": "us-east-1a" }, "lasts_ms": 3_600_000 });
    let (status, added) = send(&gateway, "POST", "/v1/faults", former).await;
    assert_eq!(
        (status, &added["delay"], &added["for"], &added["zone"]),
        (201, &json!("100ms"), &json!("1h"), &json!("us-east-1a")),
        "{added}"
    );
    let notices = [
        "kind: the key of an earlier version; write what is in it beside `name`, without `kind`",
        "scope: the key of an earlier version; write what is in it beside `name`, without `scope`",
        "lasts_ms: the key of an earlier version; write `\"for\": \"1h\"`",
        "delay_ms: the key of an earlier version; write `\"delay\": \"100ms\"`",
    ];
    assert_eq!(added["notices"], json!(notices));
    let now = json!({ "type": "latency", "delay": "100ms", "zone": "us-east-1a", "for": "1h" });
    let (status, set) = send(&gateway, "PUT", "/v1/faults/latency-1", now).await;
    assert_eq!((status, set.get("notices"), &set["delay"]), (200, None, &added["delay"]), "{set}");
    let (status, shifted) =
        send(&gateway, "POST", "/v1/zones/us-east-1a/shift", json!({ "expires_in_seconds": 600 })).await;
    let notice = "expires_in_seconds: the key of an earlier version; write `\"for\": \"10m\"`";
    assert_eq!((status, &shifted["notices"]), (200, &json!([notice])), "{shifted}");
    let endless = json!({ "expires_in_seconds": null });
    let (status, shifted) = send(&gateway, "POST", "/v1/zones/us-east-1a/shift", endless).await;
    let notice = "expires_in_seconds: the key of an earlier version; write `\"for\": null`";
    assert_eq!((status, &shifted["notices"]), (200, &json!([notice])), "{shifted}");
    let both = json!({ "expires_in_seconds": 600, "for": "10m" });
    let (status, refused) = send(&gateway, "POST", "/v1/zones/us-east-1b/shift", both).await;
    assert_eq!((status, &refused["code"]), (400, &json!("bad_request")), "{refused}");
    assert!(
        refused["message"].as_str().is_some_and(|text| text.contains("unknown field `expires_in_seconds`")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_key_given_twice_is_refused_in_every_body() {
    let gateway = Gateway::start().await;
    let with_body = super::v1::OPERATIONS.iter().filter(|operation| operation.body.is_some());
    for operation in with_body {
        let path = operation.path.replace("{zone}", "us-east-1a").replace(['{', '}'], "");
        for body in [r#"{"for":"1s","for":"2s"}"#, r#"{"type":"refuse","kind":{"type":"refuse","type":"black-hole"}}"#]
        {
            let answer = gateway.ask(operation.method.as_str(), &path, body).await;
            let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["code"]),
                (400, &json!("bad_request")),
                "{path}: {message}"
            );
            assert!(message.contains("is given twice; write it once"), "{} {path}: {message}", operation.method);
        }
    }
}

#[tokio::test]
async fn a_fault_without_content_or_effect_is_refused() {
    let gateway = Gateway::start().await;
    for (body, code, part) in [
        (json!({ "type": "reset" }), "bad_fault", "needs a number of bytes or a time"),
        (json!({ "type": "zone-outage" }), "bad_fault", "needs a zone"),
        (
            json!({ "type": "zone-outage", "zone": "us-east-1a", "target": "Cluster0/shard-00-00" }),
            "bad_fault",
            "leave `target` and `member` out",
        ),
        (
            json!({ "type": "zone-outage", "zone": "us-east-1a", "member": "shard-00-00" }),
            "bad_fault",
            "leave `target` and `member` out",
        ),
        (json!({ "type": "slow-close", "delay": "soon" }), "bad_request", "`soon` is not a duration"),
        (json!({ "type": "refuse", "share": 1.5 }), "bad_request", "1.5 is no share"),
        (json!({ "type": "refuse", "sead": 1 }), "bad_request", "unknown field `sead`"),
        (json!({ "type": "refuse", "name": "a\nb" }), "bad_fault", "printable"),
        (json!([]), "bad_request", "the body is not what is expected"),
        (
            json!({ "type": "refuse", "target": "Cluster0/none" }),
            "bad_fault",
            "there is no target `Cluster0/none`; there is: Cluster0/shard-00-00",
        ),
        (json!({ "type": "refuse", "zone": "us-west-2a" }), "bad_fault", "there is no zone `us-west-2a`"),
    ] {
        let (status, refused) = send(&gateway, "POST", "/v1/faults", body.clone()).await;
        assert_eq!((status, &refused["code"]), (400, &json!(code)), "{body}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains(part)), "{body}: {refused}");
    }
    assert!(names(&get(&gateway, "/v1/faults").await).is_empty());
}

/// A4: App Services can have zones without a load balancer.
#[tokio::test]
async fn a_zone_that_only_app_services_endpoints_have_can_be_lost() {
    let text = include_str!("../../config/scenarios/app-services.toml");
    let config = crate::config::parse(text, "app-services.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let gateway = Gateway::start_with(config.desired).await;
    let outage = |zone| json!({ "type": "zone-outage", "zone": zone });
    let (status, added) = send(&gateway, "POST", "/v1/faults", outage("us-east-1a")).await;
    assert_eq!(status, 201, "{added}");
    let (status, refused) = send(&gateway, "POST", "/v1/faults", outage("us-east-1b")).await;
    assert_eq!(status, 400, "{refused}");
    assert_eq!(refused["message"], "fault `zone-outage-2`: there is no zone `us-east-1b`; there is: us-east-1a");
}

#[tokio::test]
async fn a_zone_is_shifted_away_from_and_back_and_shows_what_dns_answers() {
    let gateway = Gateway::start().await;
    let zone = async |name: &str| {
        let zones = get(&gateway, "/v1/zones").await;
        let found = zones["zones"].as_array().expect("a list").iter().find(|zone| zone["zone"] == name).cloned();
        found.expect("the zone")
    };
    let before = zone("us-east-1a").await;
    assert_eq!((&before["shifted"], &before["in_dns"], &before["shift"]), (&json!(false), &json!(true), &Value::Null));
    assert_eq!(before["addresses"][0]["ip"], "127.0.30.194");
    let body = json!({ "for": "10m", "service": SERVICE });
    let (status, _) = send(&gateway, "POST", "/v1/zones/us-east-1a/shift", body).await;
    assert_eq!(status, 200);
    let shifted = zone("us-east-1a").await;
    assert_eq!((&shifted["shifted"], &shifted["in_dns"]), (&json!(true), &json!(false)));
    assert!(shifted["shift"]["expires"].as_str() > shifted["shift"]["since"].as_str(), "{shifted}");

    let (status, second) = send(&gateway, "POST", "/v1/zones/us-east-1b/shift", Value::Null).await;
    assert_eq!((status, &second["code"]), (409, &json!("shifted_already")));
    let (status, unknown) = send(&gateway, "POST", "/v1/zones/us-west-2a/shift", Value::Null).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("no_such_zone")));
    for (path, body) in [("nowhere", Value::Null), ("us-east-1a", json!({ "for": "0s" }))] {
        assert_eq!(send(&gateway, "POST", &format!("/v1/zones/{path}/shift"), body).await.0, 400);
    }
    let back = format!("/v1/zones/us-east-1a/shift?service={SERVICE}");
    assert_eq!(send(&gateway, "DELETE", &back, Value::Null).await.0, 200);
    assert_eq!(zone("us-east-1a").await["shifted"], false);
    assert_eq!(send(&gateway, "PUT", "/v1/zones/us-east-1a/shift", Value::Null).await.0, 405);
}

#[tokio::test]
async fn limits_are_shown_with_their_use_and_changed_at_run_time() {
    let gateway = Gateway::start().await;
    let limits = get(&gateway, "/v1/limits").await["limits"][0].clone();
    assert_eq!(limits["targets_per_region"], json!({ "limit": 50, "used": 4, "maximum": 100 }));
    assert_eq!(
        (&limits["flows_per_target"]["limit"], &limits["flows_per_target"]["used"]),
        (&json!(55_000), &json!(2))
    );
    assert_eq!(limits["bandwidth_bytes_per_second"], Value::Null);

    let change = json!({ "flows_per_target": 10, "bandwidth_bytes_per_second": 125_000 });
    let (status, changed) = send(&gateway, "PUT", "/v1/limits", change).await;
    assert_eq!((status, &changed["limits"][0]["flows_per_target"]["limit"]), (200, &json!(10)));
    let group = gateway.control.snapshot().listeners.values().next().expect("a listener").group.clone();
    assert_eq!((group.flows_per_target, group.bandwidth_cap), (10, Some(125_000)));
    let change = json!({ "service": SERVICE, "bandwidth_bytes_per_second": null });
    let (_, changed) = send(&gateway, "PUT", "/v1/limits", change).await;
    let changed = &changed["limits"][0];
    assert_eq!(
        (&changed["bandwidth_bytes_per_second"], &changed["flows_per_target"]["limit"]),
        (&Value::Null, &json!(10))
    );

    for (body, status, code) in [
        (json!({ "targets_per_region": 3 }), 409, "plan_refused"),
        (json!({ "targets_per_region": 101 }), 409, "plan_refused"),
        (json!({ "targets_per_region": 201 }), 400, "bad_request"),
        (json!({ "flows_per_target": 0 }), 400, "bad_request"),
        (json!({ "service": "vpce-svc-0123456789abcdef0", "flows_per_target": 1 }), 404, "not_found"),
        (json!({ "flows": 1 }), 400, "bad_request"),
    ] {
        let (found, refused) = send(&gateway, "PUT", "/v1/limits", body.clone()).await;
        assert_eq!((found, &refused["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn a_target_is_taken_out_of_its_group_and_put_back() {
    let gateway = Gateway::start().await;
    let state = async || get(&gateway, "/v1/targets").await["targets"][0]["state"].clone();
    let path = "/v1/targets/Cluster0/shard-00-00";
    let (status, out) = send(&gateway, "POST", &format!("{path}/deregister"), Value::Null).await;
    assert_eq!((status, &out["members"]), (200, &json!(["shard-00-00"])), "{out}");
    // There are no flows, so it is drained at once.
    while state().await != "unused" {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&gateway, "POST", &format!("{path}/register"), Value::Null).await.0, 200);
    assert_eq!(state().await, "initial");
    let none = json!({ "member": "none" });
    let (status, refused) = send(&gateway, "POST", "/v1/targets/Sharded0/lb/deregister", none).await;
    assert_eq!((status, &refused["code"]), (400, &json!("bad_request")), "{refused}");
    assert_eq!(send(&gateway, "POST", "/v1/targets/Cluster0/none/deregister", Value::Null).await.0, 404);
}

#[tokio::test]
async fn operators_settings_outlive_the_process_and_their_times_continue() {
    let store = Arc::new(MemoryStore::new());
    let gateway = Gateway::start_on(store.clone()).await;
    for body in [
        json!({ "name": "slow/ä", "type": "latency", "delay": "1ms", "after": "1h" }),
        json!({ "name": "brief", "type": "refuse", "for": "1ms" }),
    ] {
        assert_eq!(send(&gateway, "POST", "/v1/faults", body).await.0, 201);
    }
    send(&gateway, "POST", "/v1/zones/us-east-1a/shift", json!({ "for": "10m" })).await;
    send(&gateway, "PUT", "/v1/lifecycle", json!({ "pace": "frozen" })).await;
    send(&gateway, "PUT", "/v1/limits", json!({ "flows_per_target": 10 })).await;
    send(&gateway, "POST", "/v1/targets/Cluster0/shard-00-01/deregister", Value::Null).await;
    while names(&get(&gateway, "/v1/faults").await).len() > 1 {
        tokio::task::yield_now().await;
    }
    let (faults, zones) = (get(&gateway, "/v1/faults").await, get(&gateway, "/v1/zones").await);
    drop(gateway);

    let again = Gateway::start_on(store).await;
    assert_eq!(get(&again, "/v1/faults").await, faults);
    assert_eq!(get(&again, "/v1/zones").await, zones);
    assert_eq!(again.control.pace(), Pace::Frozen);
    assert_eq!(get(&again, "/v1/limits").await["limits"][0]["flows_per_target"]["limit"], 10);
    assert_eq!(get(&again, "/v1/targets").await["targets"][1]["state"], "unused");
    // A reload does not change it.
    assert_eq!(send(&again, "POST", "/v1/reload", Value::Null).await.0, 200);
    assert_eq!((get(&again, "/v1/faults").await, get(&again, "/v1/zones").await), (faults, zones));
}

#[tokio::test]
async fn a_change_that_is_not_saved_is_refused_and_nothing_of_it_is_in_force() {
    let store = Arc::new(FailingStore::new());
    let gateway = Gateway::start_on(store.clone()).await;
    let before = gateway.control.snapshot().generation;
    let fault = json!({ "name": "slow", "type": "latency", "delay": "1ms" });

    store.fail(InjectedFailure::Refused);
    let (status, refused) = send(&gateway, "POST", "/v1/faults", fault.clone()).await;
    assert_eq!((status, &refused["code"]), (503, &json!("not_saved")), "{refused}");
    let message = refused["message"].as_str().expect("a text");
    let expected = "cannot save the change: the state store is unavailable and nothing was changed; try again once the cause \
                    is mended: no space";
    assert_eq!(message, expected);

    store.fail(InjectedFailure::Unanswered);
    store.is_silent.store(true, Ordering::Relaxed);
    let (status, refused) = send(&gateway, "POST", "/v1/faults", fault.clone()).await;
    assert_eq!((status, &refused["code"]), (503, &json!("outcome_unknown")), "{refused}");
    let (status, refused) = send(&gateway, "POST", "/v1/faults", fault.clone()).await;
    assert_eq!((status, &refused["code"]), (503, &json!("not_saved")), "{refused}");
    assert_eq!(get(&gateway, "/v1/faults").await["faults"], json!([]));
    assert_eq!(gateway.control.snapshot().generation, before);

    store.is_silent.store(false, Ordering::Relaxed);
    assert_eq!(send(&gateway, "PUT", "/v1/lifecycle", json!({ "pace": "frozen" })).await.0, 200);
    drop(gateway);
    let again = Gateway::start_on(store).await;
    assert_eq!(get(&again, "/v1/faults").await["faults"], json!([]), "what was refused does not come back");
    assert_eq!(again.control.pace(), Pace::Frozen);
}

#[tokio::test]
async fn a_shift_ends_at_its_time() {
    let gateway = Gateway::start().await;
    let zone = "us-east-1a".parse().expect("a zone");
    gateway.control.shift_zone_for(zone, None, std::time::Duration::from_millis(50)).await.expect("shifted");
    assert_eq!(gateway.control.shifts().len(), 1);
    while !gateway.control.shifts().is_empty() {
        tokio::task::yield_now().await;
    }
    let snapshot = gateway.control.snapshot();
    assert!(!snapshot.zones.is_empty() && snapshot.zones.iter().all(|view| !view.shifted), "{:?}", snapshot.zones);
}

/// No change is lost, whatever other writers do at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_parallel_writers_lose_nothing() {
    let store = Arc::new(MemoryStore::new());
    let gateway = Arc::new(Gateway::start_on(store.clone()).await);
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..100 {
        let gateway = Arc::clone(&gateway);
        writers.spawn(async move {
            let fault = json!({ "name": format!("fault-{n:03}"), "type": "refuse", "share": 0.0 });
            let (status, answer) = send(&gateway, "POST", "/v1/faults", fault).await;
            assert_eq!(status, 201, "{answer}");
        });
    }
    writers.join_all().await;
    let faults = get(&gateway, "/v1/faults").await;
    assert_eq!(names(&faults).len(), 100);
    drop(gateway);
    assert_eq!(names(&get(&Gateway::start_on(store).await, "/v1/faults").await), names(&faults));
}

#[tokio::test]
async fn events_are_read_page_by_page_and_waited_for() {
    let gateway = Gateway::start().await;
    let before = get(&gateway, "/v1/events?limit=1000").await["next"].as_u64().expect("a number");
    let (status, _) = send(&gateway, "POST", "/v1/targets/Cluster0/shard-00-00/move", json!({ "port": 2000 })).await;
    assert_eq!(status, 200);
    let fault = json!({ "name": "slow", "type": "refuse" });
    assert_eq!(send(&gateway, "POST", "/v1/faults", fault).await.0, 201);
    assert_eq!(send(&gateway, "DELETE", "/v1/faults/slow", Value::Null).await.0, 204);
    let (status, _) = send(&gateway, "POST", "/v1/targets/Cluster0/shard-00-01/deregister", Value::Null).await;
    assert_eq!(status, 200);
    let body = json!({ "service": SERVICE, "for": "10m" });
    assert_eq!(send(&gateway, "POST", "/v1/zones/us-east-1a/shift", body).await.0, 200);
    assert_eq!(send(&gateway, "POST", "/v1/reload", Value::Null).await.0, 200);

    let page = get(&gateway, &format!("/v1/events?since={before}")).await;
    let all: Vec<_> = page["events"].as_array().expect("a list").clone();
    let found = |kind: &str, subject: &Value, message: &str| {
        let fits = |event: &&Value| {
            event["kind"] == kind
                && event["subject"] == *subject
                && event["message"].as_str().unwrap().contains(message)
        };
        assert!(all.iter().any(|event| fits(&event)), "{kind} {subject} {message}: {all:#?}");
    };
    found("move", &json!("Cluster0/shard-00-00"), "moved from port 1024 to port 2000; port 1024 drains");
    found("fault", &json!("slow"), "fault `slow` is on: refuse");
    found("fault", &json!("slow"), "fault `slow` was cleared");
    found("registration", &json!("Cluster0/shard-00-01"), "shard-00-01 of Cluster0/shard-00-01 deregistered");
    found("zone", &json!("us-east-1a"), "traffic is shifted away from us-east-1a for 600 s");
    found("zone", &json!("us-east-1a"), "left DNS: traffic is shifted away");
    found("reload", &Value::Null, "the config was reloaded");
    let numbers: Vec<_> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    let first = get(&gateway, &format!("/v1/events?since={before}&limit=2")).await;
    assert_eq!(first["events"].as_array().map(Vec::len), Some(2));
    let rest = get(&gateway, &format!("/v1/events?since={}", first["next"])).await;
    assert_eq!(rest["events"].as_array().map(Vec::len), Some(all.len() - 2));
    assert_eq!(rest["missed"], false);

    let path = format!("/v1/events?since={}&wait=30s", rest["next"]);
    let (next, _) = tokio::join!(get(&gateway, &path), async {
        send(&gateway, "DELETE", &format!("/v1/zones/us-east-1a/shift?service={SERVICE}"), Value::Null).await
    });
    assert_eq!(next["events"][0]["subject"], "us-east-1a");
    let former = get(&gateway, "/v1/events?since=0&wait=30").await;
    assert_eq!(former["notices"], json!(["wait: the form of an earlier version; write `wait=30s`"]));
    assert_eq!(rest.get("notices"), None);
    let refused = ["since=-1", "limit=1001", "wait=31", "wait=31s", "wait=soon", "limit=many", "since=0&since=1"];
    for query in refused {
        let answer = gateway.ask("GET", &format!("/v1/events?{query}"), "").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &json!("bad_request")), "{query}");
    }
}

#[tokio::test]
async fn status_lists_problems_first() {
    let gateway = Gateway::start().await;
    let status = get(&gateway, "/v1/status").await;
    assert_eq!((&status["ok"], &status["problems"]), (&json!(true), &json!([])));
    let fault = json!({ "name": "slow", "type": "refuse", "zone": "us-east-1b" });
    assert_eq!(send(&gateway, "POST", "/v1/faults", fault).await.0, 201);
    let limit = json!({ "service": SERVICE, "targets_per_region": 5 });
    assert_eq!(send(&gateway, "PUT", "/v1/limits", limit).await.0, 200);
    let status = get(&gateway, "/v1/status").await;
    assert_eq!(status["ok"], false);
    let expected = json!([
        { "severity": "warning", "message": "fault `slow` is on: refuse at zone us-east-1b", "kind": "fault",
          "ids": ["slow"], "console": "/console#faults" },
        { "severity": "warning", "message": format!("80 % of the limit of addressable targets of {SERVICE}: 4 of 5"),
          "kind": "service", "ids": [SERVICE], "console": "/console#limits" },
    ]);
    assert_eq!(status["problems"], expected);
}

#[tokio::test]
async fn a_query_parameter_that_there_is_not_is_refused() {
    let gateway = Gateway::start().await;
    for (path, known) in
        [("/v1/status?verbose=1", "none"), ("/v1/flows?vpc=a", "`endpoint`, `target`, `origin`, `client`")]
    {
        let answer = gateway.ask("GET", path, "").await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["message"].as_str().is_some_and(|text| text.ends_with(known)), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_state_store_that_fails_is_a_problem_until_it_takes_a_change() {
    let store = Arc::new(FailingStore::new());
    let gateway = Gateway::start_on(store.clone()).await;
    store.fail(InjectedFailure::Refused);
    let fault = json!({ "name": "slow", "type": "refuse" });
    assert_eq!(send(&gateway, "POST", "/v1/faults", fault.clone()).await.0, 503);
    let status = get(&gateway, "/v1/status").await;
    assert_eq!((&status["ok"], &status["problems"][0]["kind"]), (&json!(false), &json!("state_store")), "{status}");
    assert_eq!(send(&gateway, "POST", "/v1/faults", fault).await.0, 201);
    let kinds = get(&gateway, "/v1/status").await["problems"].to_string();
    assert!(!kinds.contains("state_store"), "{kinds}");
}

#[tokio::test]
async fn gateways_that_share_the_state_are_listed_and_a_dead_one_is_forgotten() {
    let alone = Gateway::start().await;
    let none = json!({ "shared": false, "gateways": [], "claims": [], "problem": null });
    assert_eq!(get(&alone, "/v1/gateways").await, none);
    assert_eq!(send(&alone, "DELETE", "/v1/gateways/gone", Value::Null).await.0, 404);

    let gateway = Gateway::sharing_with_one_gone().await;
    let states = async || {
        let view = get(&gateway, "/v1/gateways").await;
        let of = |one: &Value| format!("{} {} {}", one["id"], one["state"], one["is_this"]).replace('"', "");
        view["gateways"].as_array().expect("a list").iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["a serving true", "gone gone false"]);
    let status = get(&gateway, "/v1/status").await;
    let messages: Vec<_> = status["problems"].as_array().expect("a list").iter().map(|one| &one["message"]).collect();
    let said = "gateways are gone: gone; ports that they may have open are kept until they come back or `plgw gateways forget`";
    assert!(messages.contains(&&json!(said)), "{messages:?}");
    let (status, refused) = send(&gateway, "DELETE", "/v1/gateways/a", Value::Null).await;
    assert_eq!((status, &refused["code"]), (409, &json!("gateway_lives")));
    let (status, unknown) = send(&gateway, "DELETE", "/v1/gateways/other", Value::Null).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("no_such_gateway")));
    assert_eq!(send(&gateway, "DELETE", "/v1/gateways/a%20b", Value::Null).await.0, 400);
    let (status, forgotten) = send(&gateway, "DELETE", "/v1/gateways/gone", Value::Null).await;
    assert_eq!((status, forgotten), (200, json!({ "gateway": "gone", "ports": 0 })));
    assert_eq!(send(&gateway, "DELETE", "/v1/gateways/gone", Value::Null).await.0, 404);
}
