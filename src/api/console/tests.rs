//! The console's page and its content.

use hyper::StatusCode;

use super::{ASSETS, POLICY};
use crate::api::Credentials;
use crate::api::client::{ApiResponse, Client};
use crate::api::fixture::Gateway;

async fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> ApiResponse {
    Client::new(gateway.address).send("GET", path, headers, String::new()).await.expect("an answer")
}

#[tokio::test]
async fn the_page_and_all_of_its_files_come_with_the_policy() {
    let gateway = Gateway::start().await;
    let files = ASSETS.iter().map(|asset| (format!("/console/{}", asset.name), asset));
    let pages = ["/", "/console"].map(|path| (path.to_owned(), &ASSETS[0]));
    for (path, asset) in pages.into_iter().chain(files) {
        let answer = get(&gateway, &path, &[]).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, asset.text), "{path}");
        for (name, value) in [
            ("content-type", asset.content_type),
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-cache"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.headers[name], value, "{path}: {name}");
        }
    }
}

#[test]
fn the_policy_lets_nothing_in_but_the_gateways_own_files() {
    let of = |name: &str| {
        let directives = POLICY.split("; ").filter_map(|directive| directive.split_once(' '));
        directives.into_iter().find(|(directive, _)| *directive == name).map(|(_, sources)| sources)
    };
    for (name, sources) in [
        ("default-src", "'none'"),
        ("script-src", "'self'"),
        ("style-src", "'self'"),
        ("connect-src", "'self'"),
        ("img-src", "'self' data:"),
        ("frame-ancestors", "'none'"),
        ("base-uri", "'none'"),
        ("form-action", "'self'"),
        ("require-trusted-types-for", "'script'"),
    ] {
        assert_eq!(of(name), Some(sources), "{name}");
    }
    assert!(!POLICY.contains("unsafe"), "{POLICY}");
}

/// Each text between `before` and `after`.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

#[test]
fn every_file_that_is_named_is_there_and_every_one_that_is_there_is_named() {
    let mut named = vec!["index.html"];
    for asset in ASSETS {
        let paths = ["src=\"", "href=\""].into_iter().flat_map(|attribute| between(asset.text, attribute, '"'));
        named.extend(paths.filter_map(|path| path.strip_prefix("/console/")));
        named.extend(between(asset.text, " from \"", '"').filter_map(|path| path.strip_prefix("./")));
    }
    named.sort_unstable();
    named.dedup();
    let mut there: Vec<_> = ASSETS.iter().map(|asset| asset.name).collect();
    there.sort_unstable();
    assert_eq!(named, there);
}

#[test]
fn nothing_is_inline_nothing_becomes_markup_and_nothing_is_elsewhere() {
    let page = ASSETS[0].text;
    assert!(!page.contains("<style") && !page.contains(" style="), "a style is inline");
    assert!(between(page, "<script", '>').all(|attributes| attributes.contains(" src=")), "a script is inline");
    assert!(!page.contains(" onclick") && !page.contains("javascript:"), "a handler is inline");
    for asset in ASSETS {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            "@import",
        ] {
            assert!(!asset.text.contains(word), "{} has `{word}`", asset.name);
        }
        // A namespace is a name, not an address.
        let text = asset.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://") && !text.contains("\"//"), "{} names an address", asset.name);
    }
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let gateway = Gateway::start().await;
    let first = get(&gateway, "/", &[]).await;
    let tag = first.headers["etag"].to_str().unwrap();
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let again = get(&gateway, "/", &[("if-none-match", &known)]).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{known}");
        assert_eq!(again.headers["etag"], tag);
        assert_eq!(again.headers["content-security-policy"], POLICY);
    }
    assert_eq!(get(&gateway, "/", &[("if-none-match", "\"other\"")]).await.status, 200);
    let style = get(&gateway, "/console/console.css", &[]).await;
    assert_ne!(style.headers["etag"], tag, "each file has its own");
}

#[tokio::test]
async fn only_get_and_head_are_for_the_console_and_the_rest_of_the_root_is_ec2s() {
    let gateway = Gateway::start().await;
    let head = gateway.ask("HEAD", "/console/main.js", "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let written = gateway.ask("POST", "/console/main.js", "").await;
    assert_eq!((written.status.as_u16(), &written.headers["allow"]), (405, &"GET, HEAD".parse().unwrap()));
    for path in ["/console/nothing.js", "/console/../v1/status", "/console/js/main.js", "/console/%2e%2e/Cargo.toml"] {
        assert_eq!(gateway.ask("GET", path, "").await.status, 404, "{path}");
    }
    let ec2 = gateway.ask("POST", "/", "Action=DescribeVpcs&Version=2016-11-15").await;
    assert_eq!(ec2.headers["content-type"], "text/xml;charset=UTF-8", "{}", ec2.text());
    assert_ne!(gateway.ask("GET", "/?Action=DescribeVpcs", "").await.headers["content-type"], ASSETS[0].content_type);
}

#[tokio::test]
async fn with_a_token_set_the_page_is_served_and_data_needs_the_token() {
    let text = str::to_owned;
    let credentials =
        Credentials { public_key: text("public"), private_key: text("private"), token: text("correct horse") };
    let gateway = Gateway::with_credentials(credentials).await;
    assert_eq!(get(&gateway, "/", &[]).await.status, 200);
    assert_eq!(get(&gateway, "/console/main.js", &[]).await.status, 200);
    let reads =
        ["status", "private-endpoints", "targets", "apps", "lifecycle", "faults", "zones", "gateways", "limits"];
    for read in reads.into_iter().chain(["throughput", "flows", "connection-strings"]) {
        assert_eq!(get(&gateway, &format!("/v1/{read}"), &[]).await.status, 401, "{read}");
    }
    for (method, path) in [
        ("POST", "/v1/targets/Cluster0/shard-00-00/move"),
        ("PATCH", "/v1/apps/myapp-abcde"),
        ("POST", "/v1/faults"),
        ("DELETE", "/v1/faults/any"),
        ("DELETE", "/v1/flows/a1"),
        ("DELETE", "/v1/gateways/a"),
        ("POST", "/v1/zones/us-east-1a/shift"),
        ("PUT", "/v1/limits"),
        ("PUT", "/v1/lifecycle"),
        ("POST", "/v1/reload"),
    ] {
        assert_eq!(gateway.ask(method, path, "").await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_rebound_name_and_a_page_of_another_site_get_no_console() {
    let gateway = Gateway::start().await;
    for (name, value) in [
        ("host", "attacker.example"),
        ("origin", "http://attacker.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let refused = get(&gateway, "/", &[(name, value)]).await;
        assert_eq!(refused.status, 403, "{name}: {value}");
    }
    assert_eq!(get(&gateway, "/", &[("sec-fetch-site", "none")]).await.status, 200, "typed into the address bar");
}

#[tokio::test]
async fn throughput_is_reported_by_target_with_its_time() {
    let gateway = Gateway::start().await;
    let told = gateway.ask("GET", "/v1/throughput", "").await.json();
    assert_eq!(told["total"]["flows"], 7);
    assert_eq!(told["targets"]["Cluster0/shard-00-00"]["bytes_to_target"], 10);
    assert!(told["at_ms"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{told}");
    assert_eq!(gateway.ask("POST", "/v1/throughput", "").await.status, 405);
}
