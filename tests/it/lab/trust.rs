//! Directories and files of another user's are not trusted, and those of a lab are for its owner.

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::support::{Labs, text};

/// `nobody`.
const OTHER: u32 = 65_534;

const COMMANDS: [&[&str]; 8] = [
    &["up"],
    &["down"],
    &["status"],
    &["run", "--", "true"],
    &["shell"],
    &["cut", "us-east-1a"],
    &["heal", "us-east-1a"],
    &["console"],
];

#[test]
fn a_directory_of_another_user_is_refused_by_every_command() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a directory away.
        return;
    }
    for is_base in [true, false] {
        let labs = Labs::new();
        std::fs::create_dir_all(labs.dir("default")).expect("a directory");
        for name in ["first.json", "lab.json", "cut.json"] {
            std::fs::write(labs.dir("default").join(name), "{}").expect("a file");
        }
        let foreign = if is_base { labs.base() } else { labs.dir("default") };
        chown(&foreign, Some(OTHER), None).expect("root may");
        for command in COMMANDS {
            let refused = labs.run(command);
            assert!(!refused.status.success(), "{command:?}");
            let said = text(&refused.stderr);
            assert!(said.contains("it belongs to user 65534") && said.contains("labs"), "{command:?}: {said}");
        }
        assert!(labs.dir("default").join("cut.json").exists(), "nothing was removed");
        chown(&foreign, Some(0), None).expect("root may");
    }
}

#[test]
fn a_directory_writable_by_others_is_refused_and_a_labs_own_is_private() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    let mode = |name: &str| {
        let found = std::fs::metadata(labs.dir("default").join(name)).expect(name);
        found.permissions().mode() & 0o777
    };
    assert_eq!((mode("."), mode("admin.json"), mode("ca-key.pem")), (0o700, 0o600, 0o600));
    for log in ["lab.log", "gateway.log", "stand-ins.log"] {
        assert_eq!(mode(log) & !0o640, 0, "{log}");
    }
    std::fs::set_permissions(labs.dir("default"), std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let refused = labs.run(&["run", "--", "true"]);
    assert!(text(&refused.stderr).contains("other users may write it"), "{}", text(&refused.stderr));
    std::fs::set_permissions(labs.dir("default"), std::fs::Permissions::from_mode(0o700)).expect("it is ours");

    let credentials = labs.dir("default").join("admin.json");
    std::fs::rename(&credentials, labs.base().join("elsewhere")).expect("it is ours");
    symlink(labs.base().join("elsewhere"), &credentials).expect("a link");
    let refused = labs.run(&["run", "--", "true"]);
    assert!(text(&refused.stderr).contains("symbolic link"), "{}", text(&refused.stderr));
}

#[test]
fn status_prints_no_escape_sequence_of_a_file_name() {
    let labs = Labs::new();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("\u{1b}[31mred.toml");
    std::fs::write(&file, plgw::lab::DEFAULT_CONFIG).expect("a file");
    let Some(said) = labs.up(&["--config", file.to_str().expect("UTF-8"), "--stand-ins"]) else { return };
    for said in [said, labs.told(&["status"]), labs.told(&["list"])] {
        assert!(!said.contains('\u{1b}') && said.contains("default"), "{said:?}");
    }
}
