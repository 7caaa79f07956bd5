//! Tests that run in separate namespaces (network, mounts), for clients without a setting for the port of the
//! DNS server: there the gateway's DNS has port 53 and every resolver of the process is it.

use std::process::{Command, Stdio};

/// Set in the process inside.
const INSIDE: &str = "PLGW_TEST_INSIDE";

/// Brings the loopback interface up, makes the gateway the machine's resolver, and runs the test.
const ENTER: &str = r#"set -e
ip link set lo up
echo "nameserver 127.0.0.1" > "$1/resolv.conf"
mount --bind "$1/resolv.conf" "$(realpath /etc/resolv.conf)"
shift
exec "$@""#;

/// Whether this process is the one inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the ignored test `name` of this binary in separate namespaces, which end with it.
///
/// Where namespaces are not to be had, it is skipped ([`super::skip`]).
pub(crate) fn run_inside(name: &str) {
    if let Err(reason) = namespaces().arg("true").status_said() {
        return super::skip(&format!("no namespaces for {name}: {reason}"));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let this = std::env::current_exe().expect("this binary");
    let mut inside = namespaces();
    inside.args(["sh", "-c", ENTER, "sh"]).arg(directory.path()).arg(this);
    inside.args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let said = inside.status_said().unwrap_or_else(|said| panic!("{name}, inside: {said}"));
    assert!(said.contains("1 passed"), "no test is named {name}: {said}");
}

fn namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--fork", "--kill-child"]).stdin(Stdio::null());
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
}

trait Said {
    /// The command's output, as an error if it failed.
    fn status_said(&mut self) -> Result<String, String>;
}

impl Said for Command {
    fn status_said(&mut self) -> Result<String, String> {
        let done = self.output().map_err(|error| format!("{:?}: {error}", self.get_program()))?;
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        if done.status.success() { Ok(said) } else { Err(format!("{}\n{said}", done.status)) }
    }
}
