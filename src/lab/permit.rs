//! Finds the kernel setting that forbids namespaces.

use std::fs;
use std::path::Path;

/// Why the kernel refused namespaces with `error`, according to its settings under `proc`, and what to change. `user`:
/// a user namespace was requested, as without CAP_SYS_ADMIN.
pub(super) fn why_forbidden(proc: &Path, user: bool, error: &std::io::Error) -> String {
    let setting = |name: &str| -> Option<String> {
        Some(fs::read_to_string(proc.join("sys").join(name.replace('.', "/"))).ok()?.trim().to_owned())
    };
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    if is("user.max_net_namespaces", "0") {
        return "user.max_net_namespaces is 0; `sysctl user.max_net_namespaces=1000` as root allows them".to_owned();
    }
    if user {
        if is("kernel.unprivileged_userns_clone", "0") {
            return "kernel.unprivileged_userns_clone is 0; `sysctl kernel.unprivileged_userns_clone=1` as root allows \
                    them to all users, or run this as root with CAP_SYS_ADMIN"
                .to_owned();
        }
        if is("user.max_user_namespaces", "0") {
            return "user.max_user_namespaces is 0; `sysctl user.max_user_namespaces=10000` as root allows them, or run \
                    this as root"
                .to_owned();
        }
        if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
            return "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes all rights in them away; `sysctl \
                    kernel.apparmor_restrict_unprivileged_userns=0` as root allows them, or run this as root with CAP_SYS_ADMIN"
                .to_owned();
        }
    }
    let filtered = fs::read_to_string(proc.join("self/status"))
        .is_ok_and(|status| status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|v| v.trim() == "2")));
    if filtered {
        return format!(
            "{error}; a seccomp filter is on this process, as containers have one: give the container CAP_SYS_ADMIN \
             (`--cap-add SYS_ADMIN --security-opt seccomp=unconfined`) or leave it"
        );
    }
    let without = if user { ", so try as root with CAP_SYS_ADMIN" } else { "" };
    format!("{error}; no known setting explains it{without}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> std::io::Error {
        std::io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error())
    }

    fn proc_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        dir
    }

    #[test]
    fn each_setting_that_forbids_is_named() {
        for (name, value) in [
            ("kernel.unprivileged_userns_clone", "0\n"),
            ("user.max_user_namespaces", "0\n"),
            ("user.max_net_namespaces", "0\n"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1\n"),
        ] {
            let dir = proc_with(&[(&format!("sys/{}", name.replace('.', "/")), value)]);
            let why = why_forbidden(dir.path(), true, &refused());
            assert!(why.starts_with(name), "{why}");
            assert!(why.contains(&format!("sysctl {name}=")), "{why}");
        }
    }

    #[test]
    fn a_containers_filter_is_named_when_no_setting_forbids() {
        let dir = proc_with(&[("self/status", "Name:\tplgw\nSeccomp:\t2\n")]);
        assert!(why_forbidden(dir.path(), true, &refused()).contains("seccomp"));
    }

    #[test]
    fn errors_mention_user_namespace_settings_only_when_one_was_requested() {
        let dir = proc_with(&[("sys/kernel/unprivileged_userns_clone", "0\n")]);
        assert!(!why_forbidden(dir.path(), false, &refused()).contains("unprivileged_userns_clone"));
    }
}
