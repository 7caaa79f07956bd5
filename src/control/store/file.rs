//! A store in one file, which survives a kill of the process at any time.
//!
//! Each commit writes the whole document to a new file, syncs it, keeps the current file as `….bak`, renames the new
//! one over it, and syncs the directory. So the file is always a whole document; a file that is not was damaged, and is
//! refused before anything is written. A lab's state is a few kilobytes. Commits are not batched, as one task makes
//! them all.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use rustix::fs::OFlags;
use tokio::sync::Mutex;

use super::document::{DecodeError, Document, decode};
use super::{MemoryStore, OpenError, RangeView, Revision, StateStore, StoreError, Txn, legacy};
use crate::files;

/// A store in one file.
///
/// This process has the file exclusively while the store is open. Its content is also held in memory: reads never touch
/// the disk, and a commit is on the disk before it is acknowledged or visible.
#[derive(Debug)]
pub struct FileStore {
    /// Locked during a commit, so that commits and reads are serialized.
    state: Arc<Mutex<State>>,
}

impl FileStore {
    /// Opens the file at `path`; a missing one is created, with its directory, readable by its owner only. A file of
    /// the old format, at `path` or with the extension `plgw`, is converted, and kept with the suffix `.old`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the file is unchanged.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let at = path.clone();
        let state = tokio::task::spawn_blocking(move || State::open(&path)).await.unwrap_or_else(|stopped| {
            Err(OpenError::Io { action: "open", path: at, source: io::Error::other(stopped) })
        })?;
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// A copy in memory of the state that [`FileStore::open`] would find; `None` without a file. Nothing is written or
    /// locked, so another process may have the file open. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`OpenError`], but never [`OpenError::Locked`].
    pub fn peek_blocking(path: &Path) -> Result<Option<MemoryStore>, OpenError> {
        let found = find(path)?;
        found.map(|(path, bytes)| checked(&path, &bytes).map(MemoryStore::holding)).transpose()
    }

    /// Runs `work`, which may block, after making sure that the file has the state in memory.
    async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let work = tokio::task::spawn_blocking(move || state.settle().and_then(|()| work(&mut state)));
        work.await.unwrap_or_else(|stopped| Err(StoreError::OutcomeUnknown { source: Box::new(stopped) }))
    }
}

impl StateStore for FileStore {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(self.with_state(move |state| Ok(state.document.range(&prefix))))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.with_state(move |state| state.commit(txn)))
    }

    /// Has no items: only this process can change the file.
    fn changes<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        Box::pin(async { Ok(stream::pending().boxed()) })
    }
}

/// The state of an open store.
#[derive(Debug)]
struct State {
    file: StateFile,
    document: Document,
    /// The file was replaced, but may not be after a power failure.
    in_doubt: bool,
}

impl State {
    fn open(path: &Path) -> Result<Self, OpenError> {
        // A symbolic link to the file is kept.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let at = &path;
        let failed = |action| move |source| OpenError::Io { action, path: at.clone(), source };
        create_directory(directory(at)).map_err(failed("create the directory of"))?;
        let file = StateFile::lock(at.clone())?;
        let document = match find(at)? {
            Some((found, bytes)) if legacy::is_legacy(&bytes) => file.convert(&found)?,
            Some((found, bytes)) => checked(&found, &bytes)?,
            None => {
                let document = Document::default();
                file.replace(&document).map_err(failed("create"))?;
                document
            }
        };
        // The process before may have ended between the rename and this.
        file.sync_directory().map_err(failed("open"))?;
        Ok(Self { file, document, in_doubt: false })
    }

    fn commit(&mut self, txn: Txn) -> Result<Revision, StoreError> {
        if let Some(document) = self.document.after(txn, 0)? {
            self.file.replace(&document).map_err(unavailable)?;
            self.in_doubt = true;
            self.file.sync_directory().map_err(|source| StoreError::OutcomeUnknown { source: source.into() })?;
            self.in_doubt = false;
            self.document = document;
        }
        Ok(self.document.revision)
    }

    /// Settles an unknown outcome: writes the state in memory, so that the change did not happen.
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.in_doubt {
            let written = self.file.replace(&self.document).and_then(|()| self.file.sync_directory());
            written.map_err(unavailable)?;
            self.in_doubt = false;
        }
        Ok(())
    }
}

fn unavailable(source: io::Error) -> StoreError {
    StoreError::Unavailable { source: source.into() }
}

/// The path of the file, locked by this process.
#[derive(Debug)]
struct StateFile {
    /// Symbolic links resolved.
    path: PathBuf,
    /// A separate lock file, which is never replaced or removed: a lock on the state file would not survive the rename.
    _lock: File,
    /// The step that fails, as if the disk were full.
    #[cfg(test)]
    fails_at: Option<&'static str>,
}

impl StateFile {
    fn lock(path: PathBuf) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags(OFlags::NOFOLLOW));
        let lock = options.open(with_suffix(&path, ".lock"));
        match lock.map_err(TryLockError::Error).and_then(|lock| lock.try_lock().map(|()| lock)) {
            Ok(_lock) => Ok(Self {
                path,
                _lock,
                #[cfg(test)]
                fails_at: None,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { action: "lock", path, source }),
        }
    }

    /// Replaces the file by `document`. On an error the file is unchanged.
    fn replace(&self, document: &Document) -> io::Result<()> {
        let mut file = self.step("create a file beside", || {
            // A crash may have left one; the lock proves that no process is writing it.
            remove_if_there(&with_suffix(&self.path, ".new"))?;
            let name = self.path.file_name().unwrap_or_default();
            tempfile::Builder::new().prefix(name).suffix(".new").rand_bytes(0).tempfile_in(directory(&self.path))
        })?;
        self.step("write", || file.write_all(&document.encode()))?;
        self.step("sync", || file.as_file().sync_all())?;
        self.step("keep the last version of", || keep(&self.path, &with_suffix(&self.path, ".bak")))?;
        self.step("replace", || file.persist(&self.path).map(drop).map_err(|error| error.error))
    }

    /// Syncs the directory. After an error it is unknown which version a power failure would leave.
    fn sync_directory(&self) -> io::Result<()> {
        self.step("sync the directory of", || sync_directory(directory(&self.path)))
    }

    /// Runs one step of writing; an error names the step.
    fn step<T>(&self, what: &'static str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        let work = || if self.fails_at == Some(what) { Err(io::ErrorKind::StorageFull.into()) } else { work() };
        work().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot {what} the state file `{}`: {error}", self.path.display()))
        })
    }

    /// Converts the file `old` of format 1 to the current format, and keeps it under another name.
    fn convert(&self, old: &Path) -> Result<Document, OpenError> {
        let failed = |source| OpenError::Io { action: "convert", path: old.to_owned(), source };
        let mut file = File::open(old).map_err(failed)?;
        // The old version locked the file itself.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: old.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let document = checked(old, &bytes)?;
        let kept = with_suffix(old, ".old");
        keep(old, &kept).map_err(failed)?;
        self.replace(&document).map_err(failed)?;
        self.sync_directory().map_err(failed)?;
        if old != self.path {
            fs::remove_file(old).map_err(failed)?;
        }
        let (path, kept) = (self.path.display(), kept.display());
        tracing::info!(%path, %kept, "state file converted to JSON; the old file is kept");
        Ok(document)
    }
}

/// The state file with its content, or the file of the old format to convert.
fn find(path: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, OpenError> {
    if let Some(bytes) = read(path)? {
        return Ok(Some((path.to_owned(), bytes)));
    }
    let old = path.with_extension("plgw");
    Ok(read(&old)?.filter(|bytes| legacy::is_legacy(bytes)).map(|bytes| (old, bytes)))
}

/// The content of the regular file at `path`; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let resolved = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&resolved).is_ok_and(|found| !found.is_file()) {
        let reason = DecodeError::Damaged("not a regular file");
        return Err(OpenError::Refused { path: path.to_owned(), reason });
    }
    match files::read_trusted(&resolved) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { action: "read", path: path.to_owned(), source }),
    }
}

fn checked(path: &Path, bytes: &[u8]) -> Result<Document, OpenError> {
    decode(bytes).map_err(|reason| OpenError::Refused { path: path.to_owned(), reason })
}

/// Links the file at `path`, if there is one, as `kept`, which keeps it when `path` is replaced.
fn keep(path: &Path, kept: &Path) -> io::Result<()> {
    let spare = with_suffix(kept, ".new");
    remove_if_there(&spare)?;
    match fs::hard_link(path, &spare) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A file system without hard links.
        Err(_) => drop(fs::copy(path, &spare)?),
    }
    fs::rename(&spare, kept)?;
    // A rename to another name of the same file, which a crash may leave, does nothing.
    remove_if_there(&spare)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `path` with `suffix` appended.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new(suffix));
    PathBuf::from(name)
}

/// The directory of `path`; an empty path is the working directory.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory and its parents, durably.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    create_directory(directory(path))?;
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(directory(path)),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Converts flags of `open(2)` for the standard library.
fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).expect("the flags of open(2) are a C int")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::super::legacy::tests::LOG;
    use super::*;
    use crate::control::store::StateKey;

    const STEPS: [&str; 5] = ["create a file beside", "write", "sync", "keep the last version of", "replace"];

    fn key(text: &str) -> StateKey {
        text.parse().unwrap()
    }

    async fn put(store: &FileStore, name: &str, value: &str) -> Result<Revision, StoreError> {
        store.commit(Txn::new().put(key(name), value.to_owned())).await
    }

    async fn get(store: &FileStore, name: &str) -> Option<String> {
        let entries = store.range(name).await.unwrap().entries;
        let entry = entries.into_iter().find(|entry| entry.key.as_str() == name)?;
        Some(String::from_utf8(entry.value.to_vec()).unwrap())
    }

    /// A closed state file with a few commits.
    async fn written(directory: &Path) -> PathBuf {
        let path = directory.join("state.json");
        let store = FileStore::open(&path).await.expect("a new file");
        for port in ["1024", "1025"] {
            put(&store, "ports/a", port).await.unwrap();
        }
        path
    }

    /// Every file in `directory` with its content.
    fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let file = |entry: io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap_or_default())
        };
        fs::read_dir(directory).unwrap().map(file).collect()
    }

    #[tokio::test]
    async fn a_missing_file_is_made_with_its_directory_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("var/lib/state.json");
        let store = FileStore::open(&path).await.expect("a new file");
        assert_eq!(store.range("").await.unwrap(), RangeView::default());
        put(&store, "a", "1").await.unwrap();
        let there = files(path.parent().unwrap());
        assert_eq!(there.keys().collect::<Vec<_>>(), ["state.json", "state.json.bak", "state.json.lock"]);
        for name in there.keys() {
            let mode = fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_as_it_was_written_and_its_last_version_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let store = FileStore::open(&path).await.expect("the file");
        assert_eq!(get(&store, "ports/a").await.as_deref(), Some("1025"));
        assert_eq!(store.range("").await.unwrap().revision, Revision(2));
        drop(store);
        fs::rename(with_suffix(&path, ".bak"), &path).unwrap();
        let store = FileStore::open(&path).await.expect("the version before");
        assert_eq!(get(&store, "ports/a").await.as_deref(), Some("1024"));
    }

    #[tokio::test]
    async fn a_file_cut_or_changed_anywhere_is_refused_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let whole = fs::read(&path).unwrap();
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let changed = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        });
        for bytes in cut.chain(changed) {
            fs::write(&path, bytes).unwrap();
            let before = files(directory.path());
            let error = FileStore::open(&path).await.expect_err("not what was written");
            assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
            let error = FileStore::peek_blocking(&path).expect_err("not what was written");
            assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
            assert_eq!(files(directory.path()), before);
        }
        fs::write(&path, &whole[1..]).unwrap();
        assert_eq!(
            FileStore::open(&path).await.expect_err("a cut file").to_string(),
            format!(
                "cannot use the state file `{0}`: it is damaged: its content does not have the checksum at its end; nothing was written \
                 to it; put back a copy (`{0}.bak` is the state before the last change, if it is there), or move the file \
                 away to start with an empty state (targets may then get other ports)",
                path.display()
            )
        );
    }

    #[tokio::test]
    async fn a_file_that_is_no_state_file_is_refused_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "a diary").unwrap();
        let error = FileStore::open(&path).await.expect_err("a diary");
        assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), b"a diary");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [path.as_path(), directory.path()] {
            let error = FileStore::open(path).await.expect_err("not a regular file");
            assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_file_in_use_is_refused_until_it_is_closed_however_often_it_was_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let store = FileStore::open(&path).await.unwrap();
        for i in 0..3 {
            put(&store, "counter", &i.to_string()).await.unwrap();
            assert!(matches!(FileStore::open(&path).await, Err(OpenError::Locked { .. })));
        }
        drop(store);
        let store = FileStore::open(&path).await.expect("free again");
        assert_eq!(get(&store, "counter").await.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn a_copy_can_be_had_of_a_file_in_use_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        assert!(FileStore::peek_blocking(&path).unwrap().is_none());
        assert!(files(directory.path()).is_empty(), "looking makes no file");
        let store = FileStore::open(&path).await.unwrap();
        put(&store, "ports/1", "1024").await.unwrap();
        let before = files(directory.path());
        let copy = FileStore::peek_blocking(&path).unwrap().expect("a file");
        assert_eq!(copy.range("").await.unwrap(), store.range("").await.unwrap());
        assert_eq!(files(directory.path()), before);
        put(&store, "ports/1", "1025").await.unwrap();
        assert_eq!(copy.range("").await.unwrap().entries[0].value, "1024", "a copy stays as it was");
    }

    #[tokio::test]
    async fn a_link_to_the_file_stays_a_link_and_one_to_nothing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let link = directory.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let store = FileStore::open(&link).await.unwrap();
        put(&store, "counter", "1").await.unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(matches!(FileStore::open(&path).await, Err(OpenError::Locked { .. })));
        drop(store);
        let nowhere = directory.path().join("nowhere.json");
        std::os::unix::fs::symlink("/nonexistent/state.json", &nowhere).unwrap();
        assert!(matches!(FileStore::open(&nowhere).await, Err(OpenError::Io { .. })));
    }

    #[tokio::test]
    async fn a_change_that_fails_at_any_step_is_not_kept_and_a_later_one_succeeds() {
        for step in STEPS {
            let directory = tempfile::tempdir().unwrap();
            let path = written(directory.path()).await;
            let store = FileStore::open(&path).await.unwrap();
            let before = (fs::read(&path).unwrap(), store.range("").await.unwrap());
            store.state.lock().await.file.fails_at = Some(step);
            let error = put(&store, "a", "lost").await.expect_err("a full disk");
            let StoreError::Unavailable { source } = error else { panic!("{step}: {error:?}") };
            let expected = format!("cannot {step} the state file `{}`: ", path.display());
            assert!(source.to_string().starts_with(&expected), "{source}");
            assert_eq!((fs::read(&path).unwrap(), store.range("").await.unwrap()), before, "{step}");
            store.state.lock().await.file.fails_at = None;
            put(&store, "a", "kept").await.expect("there is room again");
            drop(store);
            let store = FileStore::open(&path).await.unwrap();
            assert_eq!(get(&store, "a").await.as_deref(), Some("kept"), "{step}");
            assert!(!files(directory.path()).keys().any(|name| name.ends_with(".new")), "{step}");
        }
    }

    /// The same without an injected error: a directory is in the place of a file.
    #[tokio::test]
    async fn a_directory_in_the_way_is_an_error_and_nothing_is_lost() {
        for suffix in [".new", ".bak.new", ".bak"] {
            let directory = tempfile::tempdir().unwrap();
            let path = written(directory.path()).await;
            let store = FileStore::open(&path).await.unwrap();
            let before = (fs::read(&path).unwrap(), store.range("").await.unwrap());
            let in_the_way = with_suffix(&path, suffix);
            remove_if_there(&in_the_way).unwrap();
            fs::create_dir(&in_the_way).unwrap();
            let error = put(&store, "a", "lost").await.expect_err("a directory");
            assert!(matches!(error, StoreError::Unavailable { .. }), "{suffix}: {error:?}");
            assert_eq!((fs::read(&path).unwrap(), store.range("").await.unwrap()), before, "{suffix}");
            fs::remove_dir(&in_the_way).unwrap();
            put(&store, "a", "kept").await.expect("nothing is in the way");
        }
    }

    #[tokio::test]
    async fn after_an_unknown_outcome_nothing_is_answered_until_file_and_memory_agree() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let store = FileStore::open(&path).await.unwrap();
        let before = store.range("").await.unwrap();
        store.state.lock().await.file.fails_at = Some("sync the directory of");
        let error = put(&store, "a", "maybe").await.expect_err("a failed disk");
        assert!(matches!(error, StoreError::OutcomeUnknown { .. }), "{error:?}");
        assert!(matches!(store.range("").await, Err(StoreError::Unavailable { .. })));
        assert!(matches!(put(&store, "b", "1").await, Err(StoreError::Unavailable { .. })));
        store.state.lock().await.file.fails_at = None;
        assert_eq!(store.range("").await.unwrap(), before, "it did not happen");
        let on_disk = FileStore::peek_blocking(&path).unwrap().unwrap();
        assert_eq!(on_disk.range("").await.unwrap(), before, "on the disk neither");
        put(&store, "b", "1").await.expect("known again");
    }

    /// The files that a process leaves when it is killed between or within steps.
    #[tokio::test]
    async fn a_crash_at_any_step_leaves_the_state_before_or_after_the_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let mut next = decode(&fs::read(&path).unwrap()).unwrap();
        next.revision = Revision(3);
        let next = next.encode();
        let open = async || {
            let store = FileStore::open(&path).await.expect("a crash is no damage");
            let revision = store.range("").await.unwrap().revision;
            put(&store, "a", "1").await.expect("and the next change succeeds");
            assert!(!files(directory.path()).keys().any(|name| name.ends_with(".new")));
            fs::write(&path, "").unwrap();
            revision
        };
        let old = fs::read(&path).unwrap();
        for written in [0, 1, next.len() - 1, next.len()] {
            fs::write(&path, &old).unwrap();
            fs::write(with_suffix(&path, ".new"), &next[..written]).unwrap();
            assert_eq!(open().await, Revision(2), "{written} bytes of the new file were written");
        }
        for links in [&[".bak.new"][..], &[".bak"], &[".bak", ".bak.new"]] {
            fs::write(&path, &old).unwrap();
            fs::write(with_suffix(&path, ".new"), &next).unwrap();
            for link in links {
                remove_if_there(&with_suffix(&path, link)).unwrap();
                fs::hard_link(&path, with_suffix(&path, link)).unwrap();
            }
            assert_eq!(open().await, Revision(2), "the old file was linked as {links:?}");
            remove_if_there(&with_suffix(&path, ".bak")).unwrap();
        }
        fs::write(&path, &next).unwrap();
        assert_eq!(open().await, Revision(3), "it was renamed");
    }

    /// The names of the files after a conversion, and whether the old content was kept.
    async fn converted(old: &str, path: &str) {
        let directory = tempfile::tempdir().unwrap();
        let (old, path) = (directory.path().join(old), directory.path().join(path));
        fs::write(&old, LOG).unwrap();
        let expected = decode(LOG).unwrap();
        let copy = FileStore::peek_blocking(&path).unwrap().expect("the old file");
        assert_eq!(copy.range("").await.unwrap(), expected.range(""));
        assert_eq!(files(directory.path()).len(), 1, "a look converts nothing");

        // An old version that still runs has it locked.
        let held = File::open(&old).unwrap();
        held.lock().unwrap();
        assert!(matches!(FileStore::open(&path).await, Err(OpenError::Locked { .. })));
        drop(held);

        let store = FileStore::open(&path).await.expect("an old file");
        assert_eq!(store.range("").await.unwrap(), expected.range(""), "with its revisions");
        assert_eq!(decode(&fs::read(&path).unwrap()).unwrap(), expected);
        assert_eq!(fs::read(with_suffix(&old, ".old")).unwrap(), LOG);
        assert_eq!(old.exists(), old == path);
        let compared = Txn::new().compare(key("binary"), super::super::ExpectedRevision::At(Revision(2)));
        store.commit(compared.put(key("binary"), "new")).await.expect("revisions are those of the old file");
        drop(store);
        let store = FileStore::open(&path).await.expect("the converted file");
        assert_eq!(store.range("").await.unwrap().revision, Revision(7));
    }

    #[tokio::test]
    async fn an_old_file_is_converted_once_and_kept() {
        converted("state.plgw", "state.json").await;
        converted("state.plgw", "state.plgw").await;
        converted("mine", "mine").await;
    }

    #[tokio::test]
    async fn an_old_file_is_not_converted_when_it_is_damaged_or_when_there_is_a_newer_one() {
        let directory = tempfile::tempdir().unwrap();
        let (old, path) = (directory.path().join("state.plgw"), directory.path().join("state.json"));
        fs::write(&old, &LOG[..LOG.len() - 1]).unwrap();
        let error = FileStore::open(&path).await.expect_err("a damaged file");
        assert!(
            error.to_string().starts_with(&format!("cannot use the state file `{}`: it is damaged: ", old.display())),
            "{error}"
        );
        assert_eq!(fs::read(&old).unwrap(), LOG[..LOG.len() - 1]);
        assert_eq!(files(directory.path()).into_keys().collect::<Vec<_>>(), ["state.json.lock", "state.plgw"]);

        fs::remove_file(&old).unwrap();
        written(directory.path()).await;
        fs::write(&old, LOG).unwrap();
        let store = FileStore::open(&path).await.expect("the newer file");
        assert_eq!(store.range("").await.unwrap().revision, Revision(2));
        assert_eq!(fs::read(&old).unwrap(), LOG);
    }

    /// Killed after the old file was kept, or after the new one was written.
    #[tokio::test]
    async fn a_conversion_that_was_cut_short_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let (old, path) = (directory.path().join("state.plgw"), directory.path().join("state.json"));
        fs::write(&old, LOG).unwrap();
        let kept = with_suffix(&old, ".old");
        fs::hard_link(&old, &kept).unwrap();
        for _ in 0..2 {
            let store = FileStore::open(&path).await.expect("an old file, or the new one");
            assert_eq!(store.range("").await.unwrap().revision, Revision(6));
            assert_eq!(fs::read(&kept).unwrap(), LOG);
            fs::write(&old, LOG).unwrap();
        }
    }
}
