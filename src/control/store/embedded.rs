//! A store in one file, which survives the process being killed at any moment.
//!
//! [`super::format`] has the bytes and says why they are as they are; here are the file, its lock, and the order in which
//! things reach the disk. A file that can't be used is refused before anything is written to it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;

use super::core::Core;
use super::format::{self, Damage, LOG_START, Slot, Tail, VERSION};
use super::{Commit, Entry, MemoryStore, RangeView, Revision, StateKey, StateStore, StoreError, Txn, Watch};

/// The log is written anew when it is longer than this and than four times what it holds.
///
/// 1 MiB is some ten thousand port moves, and is read in milliseconds when the process starts.
const COMPACT_ABOVE: u64 = 1024 * 1024;

/// How often a file that another process replaces while it is being opened is tried again.
const OPEN_ATTEMPTS: usize = 16;

/// How often a file that looks damaged is read again, as another process may be writing to it.
const PEEK_ATTEMPTS: usize = 4;

/// What to do about a file that is refused, for every message that says so.
const REMEDY: &str = "nothing was written to it; put back a copy of it, or move it away to start with an empty state \
                      (targets may then get other ports)";

/// Why a state file was not opened. In none of these cases is anything written to it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the state file `{}` is in use by another process; stop that one, or name another file", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is something else than a state file.
    #[error("`{}` is not a state file of this program; name another file, or move it away", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote it.
    #[error(
        "the state file `{}` has format version {version}, this program reads up to {VERSION}; run the newer program, \
         or move the file away to start with an empty state (targets may then get other ports)",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// It ends too early: a copy that stopped, a disk that was full, a truncated file.
    #[error("the state file `{}` is cut: it has {length} bytes and had {expected} at least; {REMEDY}", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// The least that it once had.
        expected: u64,
    },
    /// Its bytes aren't those that were written.
    #[error("the state file `{}` is damaged at byte {offset}: {what}; {REMEDY}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it shows.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file system said no.
    #[error("cannot {action} the state file `{}`", path.display())]
    Io {
        /// What was tried: `open`, `create`, `read`, `write`.
        action: &'static str,
        /// The file or its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How an [`EmbeddedStore`] keeps its file.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The log is written anew when it is longer than this, in bytes, and than four times what it holds. Default: 1 MiB.
    pub compact_above: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { compact_above: COMPACT_ABOVE }
    }
}

/// A store in one file.
///
/// The file is this process's alone while the store is open. Everything is also held in memory: reads never touch the
/// disk, and a commit is on the disk before it is acknowledged or seen by a reader.
#[derive(Debug)]
pub struct EmbeddedStore {
    core: Arc<Mutex<Core>>,
    /// Held through a commit, so that commits follow one another.
    log: Arc<tokio::sync::Mutex<Log>>,
}

impl EmbeddedStore {
    /// Opens the file at `path`; a missing one is made, with its directory, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the file is then as it was.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_with(path, EmbeddedOptions::default()).await
    }

    /// As [`EmbeddedStore::open`], with options.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the file is then as it was.
    pub async fn open_with(path: impl Into<PathBuf>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let path = path.into();
        let at = path.clone();
        tokio::task::spawn_blocking(move || Self::open_blocking(&path, options)).await.unwrap_or_else(|stopped| {
            Err(OpenError::Io { action: "open", path: at, source: io::Error::other(stopped) })
        })
    }

    /// As [`EmbeddedStore::open_with`], for callers outside a runtime. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the file is then as it was.
    pub fn open_blocking(path: &Path, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let (log, core) = Log::open(path, options)?;
        Ok(Self { core: Arc::new(Mutex::new(core)), log: Arc::new(tokio::sync::Mutex::new(log)) })
    }

    /// A copy in memory of what the file at `path` holds; `None` without a file. Nothing is written and nothing is locked:
    /// the process that has the file open may go on. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`OpenError`], of which none is [`OpenError::Locked`].
    pub fn peek_blocking(path: &Path) -> Result<Option<MemoryStore>, OpenError> {
        let mut attempts = PEEK_ATTEMPTS;
        loop {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(OpenError::Io { action: "read", path: path.to_owned(), source }),
            };
            attempts -= 1;
            match format::decode_file(&bytes) {
                Ok(recovered) => return Ok(Some(MemoryStore::holding(recovered.core))),
                Err(damage) if attempts == 0 => return Err(refusal(damage, path)),
                // A commit was being written meanwhile, maybe.
                Err(_) => {}
            }
        }
    }
}

impl StateStore for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a StateKey) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move { Ok(lock(&self.core).get(key)) })
    }

    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(async move { Ok(lock(&self.core).range(prefix)) })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let mut log = Arc::clone(&self.log).lock_owned().await;
            let core = Arc::clone(&self.core);
            let commit = move || {
                let prepared = lock(&core).prepare(txn)?;
                if let Some(commit) = prepared {
                    log.append(&commit)?;
                    lock(&core).apply(commit);
                    log.compact_if_due(&core);
                }
                Ok(lock(&core).revision())
            };
            tokio::task::spawn_blocking(commit).await.unwrap_or(Err(StoreError::Stopped))
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Watch, StoreError>> {
        Box::pin(async move { lock(&self.core).watch(prefix, after) })
    }
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    // Nothing in `Core` panics between two states, so what a panicking thread leaves behind is whole.
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The open file: locked, checked, and ready for the next record.
#[derive(Debug)]
struct Log {
    /// Where the file is, symbolic links resolved.
    path: PathBuf,
    file: File,
    slot: Slot,
    options: EmbeddedOptions,
    /// The length at which the log is next written anew.
    compact_at: u64,
    /// Why nothing may be written any more.
    broken: Option<Arc<io::Error>>,
}

impl Log {
    fn open(path: &Path, options: EmbeddedOptions) -> Result<(Self, Core), OpenError> {
        for _ in 0..OPEN_ATTEMPTS {
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let file = match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => match create(&path)? {
                    Some(file) => file,
                    None => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Err(OpenError::NotOurs { path }),
                Err(source) => return Err(OpenError::Io { action: "open", path, source }),
            };
            if !take_lock(&file, &path)? {
                continue;
            }
            return Self::read(file, path, options);
        }
        Err(OpenError::Locked { path: path.to_owned() })
    }

    /// Checks the locked file and clears away what a crash left after its last commit.
    fn read(mut file: File, path: PathBuf, options: EmbeddedOptions) -> Result<(Self, Core), OpenError> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| OpenError::Io { action: "read", path: path.clone(), source })?;
        let recovered = format::decode_file(&bytes).map_err(|damage| refusal(damage, &path))?;
        let slot = recovered.slot;
        let repaired = match recovered.tail {
            Tail::None => Ok(()),
            Tail::Torn { bytes } => {
                tracing::warn!(path = %path.display(), bytes, "state file: a change that was never acknowledged is dropped");
                file.set_len(slot.end).and_then(|()| file.sync_all())
            }
            Tail::Whole => {
                // The record may have reached the page cache alone.
                file.sync_all()
                    .and_then(|()| file.write_all_at(&slot.encode(), slot.offset()))
                    .and_then(|()| file.sync_all())
            }
        };
        repaired.map_err(|source| OpenError::Io { action: "write", path: path.clone(), source })?;
        let mut log = Self { path, file, slot, compact_at: 0, options, broken: None };
        log.plan_compaction(&recovered.core);
        Ok((log, recovered.core))
    }

    /// Makes a commit durable: its record, then the slot that says so.
    fn append(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if let Some(source) = &self.broken {
            return Err(StoreError::Broken { path: self.path.clone(), source: Arc::clone(source) });
        }
        let (record, chain) = format::encode_commit(self.slot.chain, commit);
        if let Err(error) = self.file.write_all_at(&record, self.slot.end) {
            // A full disk, say. Whatever was written is cut off again, so that a later commit can succeed.
            if let Err(error) = self.file.set_len(self.slot.end) {
                self.broken = Some(Arc::new(error));
            }
            return Err(StoreError::Write { path: self.path.clone(), source: Arc::new(error) });
        }
        let slot = Slot {
            counter: self.slot.counter + 1,
            revision: commit.revision,
            end: self.slot.end + record.len() as u64,
            chain,
        };
        self.file
            .sync_data()
            .and_then(|()| self.file.write_all_at(&slot.encode(), slot.offset()))
            .and_then(|()| self.file.sync_data())
            .map_err(|error| self.break_off(error))?;
        self.slot = slot;
        Ok(())
    }

    fn compact_if_due(&mut self, core: &Mutex<Core>) {
        if self.slot.end < self.compact_at || self.broken.is_some() {
            return;
        }
        let (bytes, slot) = format::encode_file(&lock(core));
        match self.compact(&bytes, slot) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "state file: cannot be written anew, it grows on");
            }
        }
        self.plan_compaction(&lock(core));
    }

    /// Writes a new file beside the old one and puts it in its place. Until then the old one is complete.
    fn compact(&mut self, bytes: &[u8], slot: Slot) -> io::Result<()> {
        let beside = beside(&self.path);
        let file = open_beside(&beside)?;
        // Locked before it has the name, so that the state is never without an owner.
        file.try_lock().map_err(io::Error::from)?;
        write_whole(&file, bytes)?;
        fs::rename(&beside, &self.path)?;
        self.file = file;
        self.slot = slot;
        // Until the directory is on the disk, a power failure brings the old file back, without later commits.
        sync_directory(&self.path).inspect_err(|error| self.broken = Some(Arc::new(copy(error))))
    }

    fn plan_compaction(&mut self, core: &Core) {
        let live: usize = core.entries().map(|(key, value, _)| key.as_str().len() + value.len() + 16).sum();
        let grown = self.slot.end.max(LOG_START as u64 + 4 * live as u64);
        self.compact_at = if self.slot.end < self.options.compact_above {
            self.options.compact_above.max(LOG_START as u64 + 4 * live as u64)
        } else {
            // It is already long: what it holds is large, or writing it anew just failed. Not again with every commit.
            grown + grown / 2
        };
    }

    fn break_off(&mut self, error: io::Error) -> StoreError {
        tracing::error!(path = %self.path.display(), %error, "state file: the disk failed, nothing is saved any more");
        let source = Arc::new(error);
        self.broken = Some(Arc::clone(&source));
        StoreError::Broken { path: self.path.clone(), source }
    }
}

/// Makes an empty state at `path` and returns it locked; `None` when somebody else did so first.
///
/// It gets its name only once it is whole, so a crash here leaves no file that would be refused.
fn create(path: &Path) -> Result<Option<File>, OpenError> {
    let failed = |source| OpenError::Io { action: "create", path: path.to_owned(), source };
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|directory| is_missing(directory)).collect();
    if let Some(directory) = missing.first() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        missing.iter().try_for_each(|directory| sync_directory(directory)).map_err(failed)?;
    }
    let beside = beside(path);
    let file = open_beside(&beside).map_err(failed)?;
    if !take_lock(&file, &beside)? {
        return Ok(None);
    }
    let (bytes, _) = format::encode_file(&Core::default());
    write_whole(&file, &bytes).map_err(failed)?;
    match rename_to_new(&beside, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Ours alone, by its lock; if it stays, the next one to prepare a file uses it.
            let _ = fs::remove_file(&beside);
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    }
    sync_directory(path).map_err(failed)?;
    // The bytes are read back through the same handle: from the start.
    io::Seek::rewind(&mut &file).map_err(failed)?;
    Ok(Some(file))
}

/// Whether `directory` is to be made; the empty path is the working directory.
fn is_missing(directory: &Path) -> bool {
    !directory.as_os_str().is_empty() && !directory.exists()
}

/// Takes the file for this process alone; `false` when it has been replaced meanwhile and is to be opened again.
fn take_lock(file: &File, path: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Io { action: "open", path: path.to_owned(), source };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(OpenError::NotOurs { path: path.to_owned() });
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let own = file.metadata().map_err(failed)?;
    Ok(fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())))
}

/// The name under which a file is prepared.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn open_beside(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_whole(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// Renames without replacing anything, where the file system can.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if !to.exists() => fs::rename(from, to),
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Waits until the name of `path` is on the disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error)
}

fn refusal(damage: Damage, path: &Path) -> OpenError {
    let path = path.to_owned();
    match damage {
        Damage::NotOurs => OpenError::NotOurs { path },
        Damage::Newer { version } => OpenError::Newer { path, version },
        Damage::Cut { length, expected } => OpenError::Cut { path, length, expected },
        Damage::Damaged { offset, what } => OpenError::Damaged { path, offset, what },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(text: &str) -> StateKey {
        text.parse().unwrap()
    }

    async fn put(store: &EmbeddedStore, name: &str, value: &str) -> Revision {
        store.commit(Txn::new().put(key(name), value.to_owned())).await.expect("a commit")
    }

    /// A state file with a few commits, closed again.
    async fn written(directory: &Path) -> PathBuf {
        let path = directory.join("state");
        let store = EmbeddedStore::open(&path).await.expect("a new file");
        for i in 0..5 {
            put(&store, &format!("ports/{i}"), "1024").await;
        }
        path
    }

    #[tokio::test]
    async fn a_missing_file_is_made_with_its_directory_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("var/lib/state");
        let store = EmbeddedStore::open(&path).await.expect("a new file");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.range("").await.unwrap(), RangeView::default());
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["state"], "nothing is left beside it");
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_restart_with_its_revisions_and_history() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let store = EmbeddedStore::open(&path).await.expect("the file");
        let range = store.range("ports/").await.unwrap();
        assert_eq!(range.revision, Revision(5));
        assert_eq!(range.entries.iter().map(|e| e.revision.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let mut watch = store.watch("ports/", Revision(3)).await.unwrap();
        assert_eq!(watch.next().await.unwrap().revision, Revision(4));
    }

    #[tokio::test]
    async fn a_cut_file_is_refused_and_left_alone_whatever_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).filter(|length| length % 61 == 0 || whole.len() - length < 40) {
            fs::write(&path, &whole[..length]).unwrap();
            let error = EmbeddedStore::open(&path).await.expect_err("a cut file");
            assert!(matches!(error, OpenError::Cut { .. }), "{length}: {error}");
            assert_eq!(fs::read(&path).unwrap(), whole[..length]);
        }
        assert_eq!(
            EmbeddedStore::open(&path).await.expect_err("a cut file").to_string(),
            format!(
                "the state file `{}` is cut: it has {} bytes and had {} at least; nothing was written to it; put back a \
                 copy of it, or move it away to start with an empty state (targets may then get other ports)",
                path.display(),
                whole.len() - 1,
                whole.len()
            )
        );
    }

    #[tokio::test]
    async fn a_file_with_a_flipped_byte_opens_with_everything_or_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let whole = fs::read(&path).unwrap();
        let entries = EmbeddedStore::open(&path).await.unwrap().range("").await.unwrap();
        let mut refused = 0;
        for offset in (0..whole.len()).filter(|offset| offset % 7 == 0 || (1024..1056).contains(offset)) {
            let mut bytes = whole.clone();
            bytes[offset] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            match EmbeddedStore::open(&path).await {
                Ok(store) => assert_eq!(store.range("").await.unwrap(), entries, "byte {offset}"),
                Err(error) => {
                    refused += 1;
                    assert!(matches!(
                        error,
                        OpenError::NotOurs { .. } | OpenError::Damaged { .. } | OpenError::Cut { .. }
                    ));
                    assert_eq!(fs::read(&path).unwrap(), bytes, "byte {offset}");
                }
            }
        }
        assert!(refused > 20, "{refused}");
    }

    #[tokio::test]
    async fn somebody_elses_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, "a diary").unwrap();
        let error = EmbeddedStore::open(&path).await.expect_err("not ours");
        assert!(matches!(error, OpenError::NotOurs { .. }));
        assert_eq!(fs::read(&path).unwrap(), b"a diary");
        let error = EmbeddedStore::open(directory.path()).await.expect_err("a directory");
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_newer_format_is_refused_by_its_number_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 7;
        let checksum = crc32c::crc32c(&bytes[0..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let error = EmbeddedStore::open(&path).await.expect_err("a newer file");
        assert!(matches!(error, OpenError::Newer { version: 7, .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_file_in_use_is_refused_until_it_is_closed_even_after_it_was_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let store = EmbeddedStore::open_with(&path, EmbeddedOptions { compact_above: 0 }).await.unwrap();
        for i in 0..40 {
            put(&store, "counter", &i.to_string()).await;
            assert!(matches!(EmbeddedStore::open(&path).await, Err(OpenError::Locked { .. })));
        }
        drop(store);
        let store = EmbeddedStore::open(&path).await.expect("free again");
        assert_eq!(store.get(&key("counter")).await.unwrap().unwrap().value, "39");
    }

    #[tokio::test]
    async fn a_copy_can_be_had_of_a_file_in_use_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert!(EmbeddedStore::peek_blocking(&path).unwrap().is_none());
        assert!(!path.exists(), "looking makes no file");
        let store = EmbeddedStore::open(&path).await.unwrap();
        put(&store, "ports/1", "1024").await;
        let before = fs::read(&path).unwrap();
        let copy = EmbeddedStore::peek_blocking(&path).unwrap().expect("a file");
        assert_eq!(copy.range("").await.unwrap(), store.range("").await.unwrap());
        put(&store, "ports/1", "1025").await;
        assert_eq!(copy.get(&key("ports/1")).await.unwrap().unwrap().value, "1024", "a copy stays as it was");
        fs::write(&path, &before[..before.len() - 1]).unwrap();
        let error = EmbeddedStore::peek_blocking(&path).expect_err("a cut file");
        assert!(matches!(error, OpenError::Cut { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn the_file_stays_small_however_often_a_key_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let limit = LOG_START as u64 + 2048;
        let store = EmbeddedStore::open_with(&path, EmbeddedOptions { compact_above: limit }).await.unwrap();
        let mut longest = 0;
        for i in 0..200 {
            put(&store, "counter", &format!("{i:032}")).await;
            longest = longest.max(fs::metadata(&path).unwrap().len());
        }
        assert!(longest <= limit + 256, "{longest}");
        drop(store);
        let store = EmbeddedStore::open(&path).await.unwrap();
        assert_eq!(store.range("").await.unwrap().revision, Revision(200));
    }

    #[tokio::test]
    async fn a_link_to_the_file_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let store = EmbeddedStore::open_with(&link, EmbeddedOptions { compact_above: 0 }).await.unwrap();
        for i in 0..40 {
            put(&store, "counter", &i.to_string()).await;
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(matches!(EmbeddedStore::open(&path).await, Err(OpenError::Locked { .. })));
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_written_is_an_error_and_is_not_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path()).await;
        let store = EmbeddedStore::open(&path).await.unwrap();
        // A handle that can't write stands in for a disk that doesn't take the bytes.
        store.log.lock().await.file = File::open(&path).unwrap();
        let error = store.commit(Txn::new().put(key("a"), "b")).await.expect_err("not written");
        assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
        assert_eq!(store.get(&key("a")).await.unwrap(), None);
        let error = store.commit(Txn::new().put(key("a"), "b")).await.expect_err("still not");
        assert!(matches!(error, StoreError::Broken { .. }), "cutting the tail off failed too: {error:?}");
        drop(store);
        assert_eq!(EmbeddedStore::open(&path).await.unwrap().range("").await.unwrap().revision, Revision(5));
    }
}
