//! The log of a running process: levels by module, addresses at the start, no secrets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Child, ClientNetwork, Net, Ran, plgw};

/// A gateway in its own process; the test reads its log.
struct Logged {
    child: Child,
    log: BufReader<ChildStderr>,
    /// All that was read of it.
    said: String,
    admin: SocketAddr,
    net: Net,
    /// Member `a`, started before the gateway's first probe.
    target: TcpListener,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Logged {
    /// Starts one with `more` on top of its config, in this environment.
    fn start(more: &str, environment: &[(&str, &str)]) -> Self {
        let (net, directory) = (Net::claim(), tempfile::tempdir().expect("a directory"));
        let target = TcpListener::bind(net.target(0)).expect("free");
        let admin = SocketAddr::new(net.metrics().ip(), 8474);
        let file = directory.path().join("gateway.toml");
        let text = net.text().replace("[admin]\nenabled = false", &format!("{more}\n[admin]\nlisten = \"{admin}\""));
        std::fs::write(&file, text).expect("writable");
        let mut command = plgw(["serve", "--config"]);
        command.arg(&file).envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Child::of(&mut command);
        let log = BufReader::new(child.0.stderr.take().expect("piped"));
        let mut logged = Self { child, log, said: String::new(), admin, net, target, file, _directory: directory };
        // As text and as JSON.
        while !logged.read_until("lifecycle: phase").contains("running") {}
        logged
    }

    /// Reads on until a line holds `part`.
    fn read_until(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).expect("readable") > 0, "it ended: {}", self.said);
            self.said.push_str(&line);
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Asks the admin API; the status line and the body.
    fn ask(&self, head: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.admin).expect("it listens");
        let host = if headers.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.admin)
        };
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\n{host}{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    /// `plgw log-level` with these arguments.
    fn log_level(&self, arguments: &[&str]) -> Ran {
        let admin = self.admin.to_string();
        Ran::of(&[&["log-level", "--admin", &admin], arguments].concat())
    }

    /// Stops it and returns all that it said.
    fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM).expect("it runs");
        self.log.read_to_string(&mut self.said).expect("readable");
        assert_eq!(self.child.0.wait().expect("it ends").code(), Some(0), "{}", self.said);
        self.said
    }
}

#[test]
fn levels_by_module_are_shown_and_changed_while_it_runs() {
    let mut gateway = Logged::start("", &[]);
    let (status, body) = gateway.ask("GET /v1/logs", "", "");
    let shown: Value = serde_json::from_str(&body).expect("JSON");
    assert!(status.contains(" 200 "), "{status} {body}");
    assert_eq!((&shown["levels"], &shown["format"], &shown["dropped"]), (&"info".into(), &"text".into(), &0.into()));
    assert_eq!(shown["modules"]["data"], "info");

    // At `info` the metrics page logs whom it refuses; at `debug` requests that it refuses, too.
    let metrics = gateway.net.metrics();
    let rebound = |from: ClientNetwork| {
        let mut stream = gateway.net.connect(from, metrics).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: attacker.example\r\nConnection: close\r\n\r\n").expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    };
    rebound(ClientNetwork::Vpc);
    let changed = gateway.log_level(&["http=debug,dns=warn"]);
    assert_eq!((changed.code, changed.err.as_str()), (Some(0), ""));
    assert!(changed.out.contains("info,dns=warn,http=debug, as text"), "{}", changed.out);
    rebound(ClientNetwork::Vpc);
    let refused = gateway.read_until("request refused listener=\"metrics\"");
    assert!(refused.contains("Host header"), "{refused}");
    let before = gateway.said.matches("request refused").count();
    assert_eq!(before, 1, "the first one came at `info`: {}", gateway.said);
    assert!(gateway.said.contains("logs: levels changed from=info to=info,dns=warn,http=debug"), "{}", gateway.said);

    // A directive for one module changes no other.
    let changed = gateway.log_level(&["flowlog=trace", "--output", "json"]);
    let shown: Value = serde_json::from_str(&changed.out).expect("JSON");
    assert_eq!(shown["levels"], "info,dns=warn,flowlog=trace,http=debug");

    for (body, says) in [
        (r#"{"levels":"dats=debug"}"#, "no module `dats` logs; those that do are api,"),
        (r#"{"levels":"data=loud"}"#, "`loud` is no log level"),
        (r#"{"level":"info"}"#, "unknown field"),
    ] {
        let (status, body) = gateway.ask("PUT /v1/logs", "", body);
        assert!(status.contains(" 400 ") && body.contains(says), "{status} {body}");
    }
    let wrong = gateway.log_level(&["dats=debug"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    let json = gateway.log_level(&["--reset", "--output", "json"]);
    let shown: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&shown["levels"], &shown["modules"]["dns"]), (&"info".into(), &"info".into()));
    gateway.stop();
}

#[test]
fn a_reload_changes_the_levels_that_the_config_names_and_nothing_asks_for_a_restart() {
    let mut gateway = Logged::start("[logs]\nlevels = \"warn,lifecycle=info\"", &[("LOG_FORMAT", "json")]);
    let text = std::fs::read_to_string(&gateway.file).expect("readable");
    std::fs::write(&gateway.file, text.replace("warn,lifecycle=info", "info,api=debug")).expect("writable");
    let line = gateway.read_until("levels changed");
    let line: Value = serde_json::from_str(&line).expect("an object a line");
    // The one before came at the start, from what the process began with.
    let line =
        if line["to"] == "warn,lifecycle=info" { gateway.read_until("levels changed") } else { line.to_string() };
    let line: Value = serde_json::from_str(&line).expect("an object a line");
    assert_eq!((&line["from"], &line["to"]), (&"warn,lifecycle=info".into(), &"info,api=debug".into()), "{line}");
    let said = gateway.stop();
    assert!(!said.contains("next start"), "{said}");
    for line in said.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn a_setting_that_waits_for_a_restart_is_named_in_the_log_the_answer_and_the_status() {
    let mut gateway = Logged::start("", &[]);
    let before = std::fs::read_to_string(&gateway.file).expect("readable");
    std::fs::write(&gateway.file, format!("shutdown_grace = \"7s\"\n{before}")).expect("writable");
    let line = gateway.read_until("take effect at the next start");
    assert!(line.contains("keys=\"shutdown_grace\""), "{line}");
    let (_, answer) = gateway.ask("POST /v1/reload", "", "");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["needs_restart"], serde_json::json!(["shutdown_grace"]), "{answer}");
    let (_, status) = gateway.ask("GET /v1/status", "", "");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let problems = status["problems"].as_array().expect("a list");
    let waits =
        |problem: &&Value| problem["message"] == "changed settings take effect at the next start: shutdown_grace";
    assert!(problems.iter().any(|problem| waits(&problem)), "{status}");
    std::fs::write(&gateway.file, before).expect("writable");
    let (_, answer) = gateway.ask("POST /v1/reload", "", "");
    assert!(answer.contains("\"needs_restart\":[]"), "taken back, nothing waits: {answer}");
    gateway.stop();
}

#[test]
fn the_environment_has_precedence_over_the_config_at_the_start() {
    let gateway = Logged::start("[logs]\nlevels = \"error\"", &[("RUST_LOG", "info,plan=debug")]);
    let (_, body) = gateway.ask("GET /v1/logs", "", "");
    let shown: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&shown["levels"], &shown["started_with"]), (&"info,plan=debug".into(), &"info,plan=debug".into()));
    gateway.stop();
}

#[test]
fn the_log_lists_the_listeners_at_the_start() {
    let gateway = Logged::start("", &[("LOG_FORMAT", "json")]);
    let (admin, metrics, dns) = (gateway.admin.to_string(), gateway.net.metrics().to_string(), gateway.net.dns());
    let said = gateway.stop();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let listens = |message: &str| {
        let line = lines.iter().find(|line| line["message"] == message && line["level"] == "INFO");
        line.unwrap_or_else(|| panic!("{message} is not in {said}"))
    };
    assert_eq!(listens("admin API listens")["listen.addr"], admin);
    assert_eq!(listens("admin API listens")["console"], format!("http://{admin}/console"));
    assert_eq!(listens("metrics listener listens")["listen.addr"], metrics);
    assert_eq!(listens("DNS listens")["listen.addr"], dns.to_string());
    let private = listens("listeners accept");
    assert_eq!((&private["kind"], &private["listeners"]), (&"private endpoints".into(), &6.into()), "{private}");
    assert_eq!(private["listen.port"], "1024-1026", "{private}");
}

#[test]
fn a_change_of_health_is_one_line() {
    let mut gateway = Logged::start("", &[]);
    let is_change =
        |line: &str, state: &str| line.contains("Cluster0/a") && line.contains(&format!("state=\"{state}\""));
    let wait_for = |gateway: &mut Logged, state: &str| while !is_change(&gateway.read_until("Cluster0/a"), state) {};
    if !gateway.said.lines().any(|line| is_change(line, "healthy")) {
        wait_for(&mut gateway, "healthy");
    }
    // Its first failed check changes the reach alone, which is no change of health.
    gateway.target = TcpListener::bind("127.0.0.1:0").expect("free");
    wait_for(&mut gateway, "unhealthy");
    let said = gateway.stop();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("Cluster0/a") && line.contains("health")).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn former_settings_for_repeated_lines_are_accepted_with_a_notice() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.toml");
    let text = Net::claim().text() + "\n[logs]\nrepeats = 3\ninterval = \"1s\"\n";
    std::fs::write(&file, text).expect("writable");
    let checked = Ran::of(&["check", "--config", &file.display().to_string()]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    for key in ["logs.repeats", "logs.interval"] {
        assert!(checked.out.contains(&format!("notice: {key}: has no effect any more")), "{}", checked.out);
    }
}

/// Keys, tokens and client data are never logged, even at the lowest level.
#[test]
fn no_secret_is_in_the_log_even_when_everything_is_logged() {
    const KEYS: [(&str, &str); 3] = [
        ("PLGW_ADMIN_PUBLIC_KEY", "publickey"),
        ("PLGW_ADMIN_PRIVATE_KEY", "3c1e9d4a-private"),
        ("PLGW_ADMIN_TOKEN", "7b2f8e6d-token"),
    ];
    let environment: Vec<_> = KEYS.into_iter().chain([("RUST_LOG", "trace")]).collect();
    let mut gateway = Logged::start("", &environment);
    let bearer = "Authorization: Bearer 7b2f8e6d-token\r\n";
    assert!(gateway.ask("GET /v1/status?token=e5a0query", bearer, "").0.contains(" 400 "));
    assert!(gateway.ask("GET /v1/status", "Authorization: Bearer 91fd-guessed\r\n", "").0.contains(" 401 "));
    assert!(
        gateway.ask("GET /v1/status", "Authorization: Basic cHVibGlja2V5OjYwMzdiYXNpYw==\r\n", "").0.contains(" 401 ")
    );
    let _ =
        gateway.ask("POST /api/oauth/token", "Authorization: Basic cHVibGlja2V5OjYwMzdiYXNpYw==\r\n", "grant_type=x");
    let _ = gateway.ask("PUT /v1/logs", bearer, r#"{"levels":"trace","password":"c4d8body"}"#);
    let endpoint = SocketAddr::new(gateway.net.endpoint_a(), 1024);
    let mut flow = gateway.net.connect(ClientNetwork::Vpc, endpoint).expect("the port accepts");
    flow.write_all(b"saslStart: a1b9payload").expect("sent");
    let (mut taken, _) = gateway.target.accept().expect("the gateway dials");
    let mut bytes = [0; 22];
    // Health checks dial too, and send nothing.
    while taken.read_exact(&mut bytes).is_err() {
        taken = gateway.target.accept().expect("the gateway dials").0;
    }
    drop((flow, taken));
    gateway.read_until("flow closed");
    let said = gateway.stop();
    assert!(said.contains(" DEBUG ") || said.contains(" TRACE "), "everything is logged");
    for secret in
        ["3c1e9d4a", "7b2f8e6d", "e5a0query", "91fd-guessed", "cHVibGlja2V5", "6037basic", "c4d8body", "a1b9payload"]
    {
        assert!(!said.contains(secret), "{secret} stands in {said}");
    }
}
