//! Appends the commit to the version: sets `PLGW_COMMIT` to ` (0123456789ab)`. Empty in a debug build, which would
//! otherwise be rebuilt with every commit, and if neither the variable `PLGW_COMMIT`, nor the package, nor git has the
//! commit.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8(done.stdout).ok()?.trim().to_owned())
}

/// The commit in a package made by `cargo package`, which is in no repository or in an unrelated one.
fn packaged() -> Option<String> {
    let info = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, hash) = info.split_once("\"sha1\": \"")?;
    hash.get(..12).map(str::to_owned)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PLGW_COMMIT");
    let is_debug = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    let given = std::env::var("PLGW_COMMIT").ok();
    let commit = given.or_else(packaged).or_else(|| {
        if is_debug {
            return None;
        }
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
        git(&["rev-parse", "--short=12", "HEAD"])
    });
    println!("cargo::rustc-env=PLGW_COMMIT={}", commit.map(|commit| format!(" ({commit})")).unwrap_or_default());
}
