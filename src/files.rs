//! Atomic creation of files with their final mode, and checks whether a file or directory is trusted.
//!
//! A directory in a shared location (`/tmp`, another user's checkout) may belong to another user, who controls its
//! files and symbolic links. So a file or directory is trusted only if its owner is this user or root, if no user
//! outside this process's own group may write it, and if it is not reached through another user's symbolic link.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid};
use tempfile::NamedTempFile;

/// Mode of a private key: its owner only.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of a file that everyone may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// Mode of a log: readable by the owner's group.
pub(crate) const LOG: u32 = 0o640;
/// Mode of a private directory.
pub(crate) const PRIVATE_DIR: u32 = 0o700;
/// Mode of a directory that everyone may list.
pub(crate) const PUBLIC_DIR: u32 = 0o755;

/// Creates the directory `path` with `mode`, and missing parents. An existing directory must be trusted.
///
/// # Errors
///
/// The system's, or [`io::ErrorKind::PermissionDenied`] with the reason why it is not trusted.
pub(crate) fn trusted_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PUBLIC_DIR).create(parent(path))?;
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check_dir(path),
    }
}

/// Checks that the directory at `path` is trusted.
///
/// # Errors
///
/// As [`trusted_dir`]; [`io::ErrorKind::NotFound`] if it does not exist.
pub(crate) fn check_dir(path: &Path) -> io::Result<()> {
    let link = fs::symlink_metadata(path)?;
    // A link has no mode, so its owner decides; systemd uses root's links for state directories.
    if link.is_symlink() && !is_trusted_owner(&link) {
        return Err(untrusted(format!("it is a symbolic link of user {}", link.uid())));
    }
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    check(&found)
}

/// Reads the trusted file at `path`, which must not be a symbolic link.
///
/// # Errors
///
/// As [`check_dir`].
pub(crate) fn read_trusted(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path, OpenOptions::new().read(true))?.read_to_end(&mut content)?;
    Ok(content)
}

/// Reads the private key at `path`, which must belong to this user or root and must not be accessible to other users.
/// The group may read root's file, as PostgreSQL allows for its key (*Secure TCP/IP Connections with SSL*). Links of
/// root or this user are followed, as Kubernetes and certbot use them.
///
/// # Errors
///
/// The system's, or [`io::ErrorKind::PermissionDenied`] with the reason and a remedy.
pub(crate) fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let link = fs::symlink_metadata(path)?;
    if link.is_symlink() && !is_trusted_owner(&link) {
        return Err(untrusted(format!("it is a symbolic link of user {}", link.uid())));
    }
    let mut content = Vec::new();
    let mut file = open_regular(path, OpenOptions::new().read(true), OFlags::empty())?;
    let found = file.metadata()?;
    if !is_trusted_owner(&found) {
        return Err(untrusted(format!("it belongs to user {}", found.uid())));
    }
    let group = if found.uid() == 0 { 0o020 } else { 0o060 };
    if found.mode() & (0o006 | group) != 0 {
        let (mode, path) = (found.mode() & 0o7777, path.display());
        let reason = format!(
            "other users may read or write this file, which holds a secret (mode {mode:04o}); run `chmod 600 {path}`"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Opens the file at `path` for appending, creating it with `mode`. An existing file must be trusted, and must be
/// neither a symbolic link nor have other hard links.
///
/// # Errors
///
/// As [`trusted_dir`].
pub(crate) fn append(path: &Path, mode: u32) -> io::Result<File> {
    let file = open(path, OpenOptions::new().append(true).create(true).mode(mode))?;
    match file.metadata()?.nlink() {
        0 | 1 => Ok(file),
        names => Err(untrusted(format!("the same file has {} other names", names - 1))),
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = open_regular(path, options, OFlags::NOFOLLOW);
    let file = file.map_err(|error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP) => untrusted("it is a symbolic link".to_owned()),
        _ => error,
    })?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn open_regular(path: &Path, options: &mut OpenOptions, flags: OFlags) -> io::Result<File> {
    // Opening a named pipe must not block.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(untrusted("it is not a regular file".to_owned()));
    }
    Ok(file)
}

fn check(found: &Metadata) -> io::Result<()> {
    if !is_trusted_owner(found) {
        return Err(untrusted(format!("it belongs to user {}", found.uid())));
    }
    let writable = |bit: u32| found.mode() & bit != 0;
    if writable(0o002) || writable(0o020) && found.gid() != getegid().as_raw() {
        return Err(untrusted(format!("other users may write it (mode {:04o})", found.mode() & 0o7777)));
    }
    Ok(())
}

fn is_trusted_owner(found: &Metadata) -> bool {
    [0, geteuid().as_raw()].contains(&found.uid())
}

fn untrusted(reason: String) -> io::Error {
    let this = geteuid().as_raw();
    let reason = format!("{reason}, and this process trusts only what user {this} or root owns and no other may write");
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

/// Creates the file `path` atomically with `content`; it must not exist yet.
pub(crate) fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    draft(path, mode, content)?.persist_noclobber(path)?;
    directory(path).and_then(|dir| dir.sync_all())
}

/// Creates or replaces the file `path` atomically with `content`.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    draft(path, mode, content)?.persist(path)?;
    directory(path).and_then(|dir| dir.sync_all())
}

/// Writes a temporary file beside `path`, which is removed unless it is persisted. Only its owner may read it until it
/// is complete.
fn draft(path: &Path, mode: u32, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut draft = NamedTempFile::new_in(parent(path))?;
    draft.write_all(content)?;
    draft.as_file().set_permissions(Permissions::from_mode(mode))?;
    draft.as_file().sync_all()?;
    Ok(draft)
}

fn directory(path: &Path) -> io::Result<File> {
    File::open(parent(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_complete_with_its_mode_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        create(&path, PRIVATE, b"first").expect("it is new");
        let again = create(&path, PUBLIC, b"second").expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("it is there"), b"first");
        replace(&path, PUBLIC, b"third").expect("it may be replaced");
        assert_eq!(std::fs::read(&path).expect("it is there"), b"third");
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, PUBLIC);
        assert_eq!(std::fs::read_dir(&dir).expect("it is there").count(), 1);
    }

    fn refusal<T: std::fmt::Debug>(result: io::Result<T>) -> String {
        let error = result.expect_err("it is not trusted");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        error.to_string()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is this user's");
    }

    #[test]
    fn a_directory_is_created_with_its_mode_and_one_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        trusted_dir(&path, PRIVATE_DIR).expect("it is new");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, PRIVATE_DIR);
        trusted_dir(&path, PRIVATE_DIR).expect("it is this user's");
        set_mode(&path, 0o777);
        assert!(refusal(trusted_dir(&path, PRIVATE_DIR)).contains("(mode 0777)"));
        set_mode(&path, 0o775);
        check_dir(&path).expect("this process's own group may write it");
        fs::write(dir.path().join("file"), "").expect("writable");
        let error = check_dir(&dir.path().join("file")).expect_err("a file");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn files_that_are_links_or_that_others_may_write_are_neither_read_nor_appended_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let (secret, path) = (dir.path().join("secret"), dir.path().join("log"));
        create(&secret, PRIVATE, b"secret").expect("it is new");
        std::os::unix::fs::symlink(&secret, &path).expect("a link");
        assert!(refusal(read_trusted(&path)).contains("symbolic link"));
        assert!(refusal(append(&path, LOG)).contains("symbolic link"));
        fs::remove_file(&path).expect("it is there");
        fs::hard_link(&secret, &path).expect("a link");
        assert!(refusal(append(&path, LOG)).contains("1 other name"));
        fs::remove_file(&path).expect("it is there");
        append(&path, LOG).expect("it is new").write_all(b"line\n").expect("writable");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, LOG);
        assert_eq!(read_trusted(&path).expect("it is trusted"), b"line\n");
        set_mode(&path, 0o666);
        assert!(refusal(read_trusted(&path)).contains("(mode 0666)"));
        assert!(refusal(append(&path, LOG)).contains("(mode 0666)"));
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::Mode::RUSR).expect("a pipe");
        assert!(refusal(read_trusted(&dir.path().join("pipe"))).contains("regular file"));
        assert_eq!(fs::read(&secret).expect("it is there"), b"secret");
    }

    #[test]
    fn a_private_key_that_others_may_read_or_write_is_refused_with_a_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        create(&path, PRIVATE, b"key").expect("it is new");
        for mode in [0o600, 0o400] {
            set_mode(&path, mode);
            assert_eq!(read_private(&path).expect("its owner's alone"), b"key", "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o620, 0o666] {
            set_mode(&path, mode);
            let reason = refusal(read_private(&path));
            let way_out = format!("(mode {mode:04o}); run `chmod 600 {}`", path.display());
            assert!(reason.ends_with(&way_out), "{reason}");
        }
        set_mode(&path, 0o640);
        assert_eq!(read_private(&path).is_ok(), geteuid().is_root(), "a group may read what is root's");
        set_mode(&path, PRIVATE);
        let link = dir.path().join("link.pem");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert_eq!(read_private(&link).expect("this user's own link"), b"key");
        if geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(65_534), None).expect("root may");
            assert!(refusal(read_private(&link)).contains("a symbolic link of user 65534"));
            std::os::unix::fs::chown(&path, Some(65_534), None).expect("root may");
            assert!(refusal(read_private(&path)).contains("it belongs to user 65534"));
        }
    }

    #[test]
    fn files_and_links_of_another_user_are_refused() {
        if !geteuid().is_root() {
            // Only root can give a file away.
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for path in [&own, &other] {
            trusted_dir(path, PRIVATE_DIR).expect("it is new");
            fs::write(path.join("ca.pem"), "").expect("writable");
        }
        for path in [other.clone(), own.join("ca.pem")] {
            std::os::unix::fs::chown(&path, Some(65_534), None).expect("root may");
        }
        assert!(refusal(trusted_dir(&other, PRIVATE_DIR)).contains("it belongs to user 65534"));
        assert!(refusal(read_trusted(&own.join("ca.pem"))).contains("it belongs to user 65534"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&own, &link).expect("a link");
        check_dir(&link).expect("root's own link");
        std::os::unix::fs::lchown(&link, Some(65_534), None).expect("root may");
        assert!(refusal(check_dir(&link)).contains("a symbolic link of user 65534"));
    }
}
