//! Real clients: curl, Python's `websockets`, Node's `ws`, `h2load`. The script is the one that a running quickstart is
//! tried with; whatever is not installed is skipped, and said so.

use std::process::{Command, Stdio};

use super::lab::Lab;
use super::recorder::Recorder;

/// B1 to B6, B14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_get_the_answers_of_app_services() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    for public in ["404", "200"] {
        lab.allow_non_vpc_requests(public == "200").await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/appservices.py");
        let python = std::env::var("PLGW_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let port = lab.port.to_string();
        let ca = lab.ca.certificate_path();
        let mut command = Command::new(python);
        command.args([script, "--port", &port, "--public", public, "--require", "curl", "--ca"]);
        command.arg(ca).stdin(Stdio::null());
        let done = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("Python runs");
        let said = String::from_utf8_lossy(&done.stdout);
        println!("{said}");
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    }
}
