//! Files that appear whole, with their final mode, or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Mode of a private key: its owner alone.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of what anybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Puts `content` at `path`, which must not exist yet.
pub(crate) fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    draft(path, mode, content)?.persist_noclobber(path)?;
    directory(path).and_then(|dir| dir.sync_all())
}

/// Puts `content` at `path`, in place of what may be there.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    draft(path, mode, content)?.persist(path)?;
    directory(path).and_then(|dir| dir.sync_all())
}

/// A file beside `path` that is removed unless it is put there. Only its owner may read it until it has its content.
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
    fn a_file_is_there_whole_with_its_mode_and_no_draft_is_left_beside_it() {
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
}
