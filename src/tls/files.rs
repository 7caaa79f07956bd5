//! Files that appear whole, with their final mode, or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a private key: its owner alone.
pub(super) const PRIVATE: u32 = 0o600;
/// Mode of a certificate: anybody may read it.
pub(super) const PUBLIC: u32 = 0o644;

/// Puts `content` at `path`, which must not exist yet.
pub(super) fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    with_draft(path, mode, content, |draft| fs::hard_link(draft, path).and_then(|()| fs::remove_file(draft)))
}

/// Puts `content` at `path`, in place of what may be there.
pub(super) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    with_draft(path, mode, content, |draft| fs::rename(draft, path))
}

/// Writes a draft beside `path`, with `mode` from its first moment on, then lets `place` put it there.
fn with_draft(path: &Path, mode: u32, content: &[u8], place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let draft = draft_path(path);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&draft)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    };
    let result = write().and_then(|()| place(&draft));
    if result.is_err() {
        // A draft left behind would be removed by the next attempt as well.
        let _ = fs::remove_file(&draft);
    }
    result?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.draft", std::process::id()));
    path.with_file_name(name)
}
