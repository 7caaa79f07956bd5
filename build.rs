//! Puts the commit behind the version: ` (0123456789ab)` in `PLGW_COMMIT`, nothing in a debug build, which would then be built
//! anew with each commit, or where neither the variable of that name, nor the package, nor git says it.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8(done.stdout).ok()?.trim().to_owned())
}

/// The commit that a package of `cargo package` was made of: it lies in no repository, or in another one.
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
