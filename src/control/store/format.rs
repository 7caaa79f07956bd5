//! The state file's bytes, without any I/O: what is written, and what can be told of what is read.
//!
//! ```text
//!     0  header   magic, format version, offset of the log, checksum
//!  1024  slot 0   commit counter, revision, end of the log, chain, checksum  ┐ written in turn: commit n takes
//!  2048  slot 1   the same                                                   ┘ slot n % 2
//!  4096  log      records: length, chain, body; the first may be a snapshot of everything, the others are commits
//! ```
//!
//! A record's *chain* is the CRC-32C of its length and body, begun with the chain of the record before it (the header's
//! checksum for the first), so no record can be lost, doubled, moved or changed without showing.
//!
//! A commit writes its record, waits for the disk, writes its slot, waits for the disk, and is then acknowledged. The
//! newest slot is therefore a *floor*: the log reaches at least as far as it says, or the file was damaged. What a
//! crash can leave behind is one record after the floor, whole or torn:
//!
//! | slots | after the floor | then |
//! |---|---|---|
//! | both good | nothing | as it should be |
//! | both good | torn record | the crash came while the record was written; it was never acknowledged: dropped |
//! | both good, or one bad | whole record | the crash came while the slot was written: kept |
//! | one bad | nothing, or a torn record | no crash leaves this: the file was damaged |
//!
//! So a single cut or flipped byte either touches nothing that was acknowledged or is refused. Numbers are little-endian.
//!
//! A general embedded store was tried first (redb 4.5). After a crash it takes a damaged latest commit for an unfinished
//! one and silently returns to the commit before; with two-phase commits one unchecked bit still does the same.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::core::Core;
use super::{Change, Commit, Entry, Revision, StateKey};

/// First bytes of every state file: a byte with the high bit set, the name, and both kinds of line end, so that a copy
/// in text mode shows (after PNG's example).
pub(super) const MAGIC: [u8; 8] = *b"\x89PLGW\r\n\x1a";

/// The format that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;

/// The header's checked part: the same in every version of the format.
const HEADER_LENGTH: usize = 64;

/// Where the slots are: in different sectors of the disk, so that one torn write can't take both.
const SLOT_OFFSETS: [usize; 2] = [1024, 2048];

/// What a slot takes.
const SLOT_LENGTH: usize = 32;

/// Where the log begins.
pub(super) const LOG_START: usize = 4096;

/// What a record takes beside its body.
const RECORD_OVERHEAD: usize = 8;

const KIND_COMMIT: u8 = 1;
const KIND_SNAPSHOT: u8 = 2;
const CHANGE_PUT: u8 = 1;
const CHANGE_DELETE: u8 = 2;

/// Why a file can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// It isn't a state file.
    NotOurs,
    /// A newer program wrote it.
    Newer {
        /// Its format version.
        version: u32,
    },
    /// It ends too early.
    Cut {
        /// Its length.
        length: u64,
        /// The least that it once had.
        expected: u64,
    },
    /// Its bytes aren't those that were written.
    Damaged {
        /// Where it shows.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

/// The newest commit, as a slot says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Commits since the file was made.
    pub(super) counter: u64,
    /// The store's revision.
    pub(super) revision: Revision,
    /// Where the log ends.
    pub(super) end: u64,
    /// The chain of the last record.
    pub(super) chain: u32,
}

impl Slot {
    /// Where this slot is written.
    pub(super) fn offset(&self) -> u64 {
        SLOT_OFFSETS[usize::from(self.counter % 2 == 1)] as u64
    }

    pub(super) fn encode(&self) -> [u8; SLOT_LENGTH] {
        let mut bytes = [0; SLOT_LENGTH];
        bytes[0..8].copy_from_slice(&self.counter.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.revision.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.end.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.chain.to_le_bytes());
        let checksum = crc32c(&bytes[0..28]);
        bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The slot at `index`, when its checksum holds and it stands where its counter belongs.
    fn decode(file: &[u8], index: usize) -> Option<Self> {
        let mut reader = Reader { bytes: file.get(SLOT_OFFSETS[index]..SLOT_OFFSETS[index] + SLOT_LENGTH)? };
        let checksum = crc32c(&reader.bytes[0..28]);
        let slot = Self {
            counter: reader.u64()?,
            revision: Revision(reader.u64()?),
            end: reader.u64()?,
            chain: reader.u32()?,
        };
        (reader.u32()? == checksum && slot.counter % 2 == index as u64).then_some(slot)
    }
}

/// What lies after the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: the last commit was completed.
    None,
    /// A record that was being written when the process ended; never acknowledged.
    Torn {
        /// Its bytes.
        bytes: u64,
    },
    /// A whole record whose slot was being written when the process ended. It is in `core`; `slot` is to be written.
    Whole,
}

/// A state file that can be used.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Everything in it.
    pub(super) core: Core,
    /// Where the log ends.
    pub(super) slot: Slot,
    /// What a crash left behind that.
    pub(super) tail: Tail,
}

/// A new file with these entries in it, and its newest slot.
pub(super) fn encode_file(core: &Core) -> (Vec<u8>, Slot) {
    let mut file = vec![0; LOG_START];
    file[0..8].copy_from_slice(&MAGIC);
    file[8..12].copy_from_slice(&VERSION.to_le_bytes());
    file[12..16].copy_from_slice(&(LOG_START as u32).to_le_bytes());
    let mut chain = crc32c(&file[0..HEADER_LENGTH - 4]);
    file[HEADER_LENGTH - 4..HEADER_LENGTH].copy_from_slice(&chain.to_le_bytes());
    if core.revision() > Revision(0) {
        let (record, next) = encode_record(chain, &encode_snapshot(core));
        file.extend_from_slice(&record);
        chain = next;
    }
    let mut slot = Slot { counter: 0, revision: core.revision(), end: file.len() as u64, chain };
    for counter in 0..2 {
        slot.counter = counter;
        let offset = SLOT_OFFSETS[counter as usize];
        file[offset..offset + SLOT_LENGTH].copy_from_slice(&slot.encode());
    }
    (file, slot)
}

/// The record of a commit after the one with `chain`, and its own chain.
pub(super) fn encode_commit(chain: u32, commit: &Commit) -> (Vec<u8>, u32) {
    let mut body = vec![KIND_COMMIT];
    body.extend_from_slice(&commit.revision.0.to_le_bytes());
    body.extend_from_slice(&length32(commit.changes.len()));
    for change in &commit.changes {
        match change {
            Change::Put { key, value } => {
                body.push(CHANGE_PUT);
                encode_key(&mut body, key);
                encode_value(&mut body, value);
            }
            Change::Delete { key } => {
                body.push(CHANGE_DELETE);
                encode_key(&mut body, key);
            }
        }
    }
    encode_record(chain, &body)
}

/// Everything that can be told of a file's bytes.
pub(super) fn decode_file(file: &[u8]) -> Result<Recovered, Damage> {
    let mut chain = check_header(file)?;
    let (floor, older) = match (Slot::decode(file, 0), Slot::decode(file, 1)) {
        (Some(a), Some(b)) if a.counter.checked_sub(1) == Some(b.counter) => (a, Some(b)),
        (Some(a), Some(b)) if b.counter.checked_sub(1) == Some(a.counter) => (b, Some(a)),
        (Some(a), None) | (None, Some(a)) => (a, None),
        (Some(_), Some(_)) => return Err(damaged(SLOT_OFFSETS[0], "the commit slots don't follow one another")),
        (None, None) => return Err(damaged(SLOT_OFFSETS[0], "no commit slot is readable")),
    };
    let end = usize::try_from(floor.end).unwrap_or(usize::MAX);
    if end > file.len() {
        return Err(Damage::Cut { length: file.len() as u64, expected: floor.end });
    }

    let mut core = Core::default();
    let mut position = LOG_START;
    let mut older_seen = older.is_none_or(|older| older.end == position as u64 && older.chain == chain);
    while position < end {
        let (body, next) = decode_record(&file[..end], position, chain)
            .ok_or_else(|| damaged(position, "a saved change doesn't have the checksum that it was written with"))?;
        match decode_body(body).ok_or_else(|| damaged(position, "a saved change is unreadable"))? {
            Body::Snapshot(snapshot) if position == LOG_START => core = snapshot,
            Body::Commit(commit) if follows(&commit, &core) => core.apply(commit),
            Body::Snapshot(_) | Body::Commit(_) => {
                return Err(damaged(position, "a saved change doesn't follow the one before it"));
            }
        }
        position += RECORD_OVERHEAD + body.len();
        chain = next;
        older_seen |= older.is_some_and(|older| older.end == position as u64 && older.chain == chain);
    }
    if position != end || chain != floor.chain || core.revision() != floor.revision || !older_seen {
        return Err(damaged(SLOT_OFFSETS[0], "the commit slots and the saved changes don't agree"));
    }
    decode_tail(file, core, floor, older.is_some())
}

/// Judges what a crash left after the floor, by the table above.
fn decode_tail(file: &[u8], mut core: Core, floor: Slot, both_slots: bool) -> Result<Recovered, Damage> {
    let end = usize::try_from(floor.end).unwrap_or(usize::MAX);
    if file.len() == end {
        return if both_slots {
            Ok(Recovered { core, slot: floor, tail: Tail::None })
        } else {
            Err(damaged(SLOT_OFFSETS[0], "a commit slot is unreadable"))
        };
    }
    let whole = decode_record(file, end, floor.chain).and_then(|(body, chain)| match decode_body(body)? {
        Body::Commit(commit) if follows(&commit, &core) => Some((commit, end + RECORD_OVERHEAD + body.len(), chain)),
        Body::Commit(_) | Body::Snapshot(_) => None,
    });
    match whole {
        Some((commit, next, chain)) if next == file.len() => {
            let slot = Slot { counter: floor.counter + 1, revision: commit.revision, end: next as u64, chain };
            core.apply(commit);
            Ok(Recovered { core, slot, tail: Tail::Whole })
        }
        Some((_, next, _)) => Err(damaged(next, "something follows the last saved change")),
        None if both_slots => {
            Ok(Recovered { core, slot: floor, tail: Tail::Torn { bytes: (file.len() - end) as u64 } })
        }
        None => Err(damaged(end, "a commit slot and the last saved change are unreadable")),
    }
}

/// The header's checksum, when it is that of a file that can be read.
fn check_header(file: &[u8]) -> Result<u32, Damage> {
    let cut = Damage::Cut { length: file.len() as u64, expected: LOG_START as u64 };
    if file.len() < MAGIC.len() && MAGIC.starts_with(file) {
        return Err(cut);
    }
    if !file.starts_with(&MAGIC) {
        return Err(Damage::NotOurs);
    }
    if file.len() < HEADER_LENGTH {
        return Err(cut);
    }
    let mut reader = Reader { bytes: &file[MAGIC.len()..] };
    let (Some(version), Some(start)) = (reader.u32(), reader.u32()) else { return Err(cut) };
    let checksum = crc32c(&file[0..HEADER_LENGTH - 4]);
    if file[HEADER_LENGTH - 4..HEADER_LENGTH] != checksum.to_le_bytes() {
        return Err(damaged(0, "the header doesn't have the checksum that it was written with"));
    }
    if version > VERSION {
        return Err(Damage::Newer { version });
    }
    if version != VERSION || start as usize != LOG_START {
        return Err(damaged(MAGIC.len(), "the header names a format that never was"));
    }
    if file.len() < LOG_START {
        return Err(cut);
    }
    Ok(checksum)
}

/// Whether `commit` is the next one.
fn follows(commit: &Commit, core: &Core) -> bool {
    commit.revision.0.checked_sub(1) == Some(core.revision().0)
}

enum Body {
    Commit(Commit),
    Snapshot(Core),
}

fn encode_record(chain: u32, body: &[u8]) -> (Vec<u8>, u32) {
    let length = length32(body.len());
    let chain = crc32c_append(crc32c_append(chain, &length), body);
    let mut record = Vec::with_capacity(RECORD_OVERHEAD + body.len());
    record.extend_from_slice(&length);
    record.extend_from_slice(&chain.to_le_bytes());
    record.extend_from_slice(body);
    (record, chain)
}

fn encode_snapshot(core: &Core) -> Vec<u8> {
    let mut body = vec![KIND_SNAPSHOT];
    body.extend_from_slice(&core.revision().0.to_le_bytes());
    body.extend_from_slice(&length32(core.entries().count()));
    for (key, value, revision) in core.entries() {
        encode_key(&mut body, key);
        body.extend_from_slice(&revision.0.to_le_bytes());
        encode_value(&mut body, value);
    }
    body
}

fn encode_key(body: &mut Vec<u8>, key: &StateKey) {
    let length = u16::try_from(key.as_str().len()).expect("a key has 512 bytes at most: StateKey checks");
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(key.as_str().as_bytes());
}

fn encode_value(body: &mut Vec<u8>, value: &[u8]) {
    body.extend_from_slice(&length32(value.len()));
    body.extend_from_slice(value);
}

fn length32(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a commit has 1 MiB at most and a state far below 4 GiB").to_le_bytes()
}

/// The body of the record at `position`, and its chain, when it lies within `file` and its checksum holds.
fn decode_record(file: &[u8], position: usize, chain: u32) -> Option<(&[u8], u32)> {
    let mut reader = Reader { bytes: file.get(position..)? };
    let length = reader.u32()?;
    let written = reader.u32()?;
    let body = reader.take(usize::try_from(length).ok()?)?;
    let chain = crc32c_append(crc32c_append(chain, &length.to_le_bytes()), body);
    (chain == written).then_some((body, chain))
}

fn decode_body(body: &[u8]) -> Option<Body> {
    let mut reader = Reader { bytes: body };
    let kind = reader.u8()?;
    let revision = Revision(reader.u64()?);
    let count = reader.u32()?;
    let decoded = match kind {
        KIND_COMMIT => {
            let changes = (0..count).map(|_| decode_change(&mut reader)).collect::<Option<_>>()?;
            Body::Commit(Commit { revision, changes })
        }
        KIND_SNAPSHOT => {
            let entries = (0..count).map(|_| decode_entry(&mut reader)).collect::<Option<_>>()?;
            Body::Snapshot(Core::restore(entries, revision))
        }
        _ => return None,
    };
    reader.bytes.is_empty().then_some(decoded)
}

fn decode_change(reader: &mut Reader<'_>) -> Option<Change> {
    match reader.u8()? {
        CHANGE_PUT => Some(Change::Put { key: reader.key()?, value: reader.value()? }),
        CHANGE_DELETE => Some(Change::Delete { key: reader.key()? }),
        _ => None,
    }
}

fn decode_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    Some(Entry { key: reader.key()?, revision: Revision(reader.u64()?), value: reader.value()? })
}

fn damaged(offset: usize, what: &'static str) -> Damage {
    Damage::Damaged { offset: offset as u64, what }
}

/// Takes values off the front of bytes, and `None` once they run out.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn key(&mut self) -> Option<StateKey> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()?.parse().ok()
    }

    fn value(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length).map(Bytes::copy_from_slice)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::store::Txn;

    /// A file as a run leaves it: `commits` in its log (after a snapshot with `snapshot` entries), the last two slots
    /// written. Returns it with what it holds and what it held before the last commit.
    fn file(snapshot: u64, commits: u64) -> (Vec<u8>, Vec<Entry>) {
        let mut core = Core::default();
        for i in 0..snapshot {
            commit(&mut core, i);
        }
        let (mut file, mut slot) = encode_file(&core);
        for i in snapshot..snapshot + commits {
            let commit = commit(&mut core, i);
            slot = append(&mut file, slot, &commit);
            write_slot(&mut file, slot);
        }
        (file, core.range("").entries)
    }

    fn commit(core: &mut Core, i: u64) -> Commit {
        let key = |name: String| name.parse::<StateKey>().unwrap();
        let txn = Txn::new().put(key(format!("ports/{i}")), i.to_string()).put(key("last".into()), vec![i as u8; 9]);
        let txn = if i % 3 == 2 { txn.delete(key(format!("ports/{}", i - 1))) } else { txn };
        let commit = core.prepare(txn).unwrap().unwrap();
        core.apply(commit.clone());
        commit
    }

    fn append(file: &mut Vec<u8>, slot: Slot, commit: &Commit) -> Slot {
        let (record, chain) = encode_commit(slot.chain, commit);
        file.extend_from_slice(&record);
        Slot { counter: slot.counter + 1, revision: commit.revision, end: file.len() as u64, chain }
    }

    fn write_slot(file: &mut [u8], slot: Slot) {
        let offset = slot.offset() as usize;
        file[offset..offset + SLOT_LENGTH].copy_from_slice(&slot.encode());
    }

    #[test]
    fn what_was_written_is_read() {
        for (snapshot, commits) in [(0, 0), (0, 1), (0, 7), (5, 0), (5, 1), (5, 4)] {
            let (file, entries) = file(snapshot, commits);
            let recovered = decode_file(&file).expect("an untouched file");
            assert_eq!(recovered.core.range("").entries, entries);
            assert_eq!(recovered.tail, Tail::None);
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        for (snapshot, commits) in [(0, 0), (0, 5), (4, 3)] {
            let (file, _) = file(snapshot, commits);
            for length in 0..file.len() {
                let damage = decode_file(&file[..length]).expect_err("everything in the file was acknowledged");
                assert!(matches!(damage, Damage::Cut { .. }), "{length}: {damage:?}");
            }
        }
    }

    #[test]
    fn any_flipped_bit_leaves_everything_acknowledged_or_is_refused() {
        for (snapshot, commits) in [(0, 1), (0, 4), (4, 3)] {
            let (mut file, entries) = file(snapshot, commits);
            let mut refused = 0;
            for offset in 0..file.len() {
                for bit in 0..8 {
                    file[offset] ^= 1 << bit;
                    match decode_file(&file) {
                        Ok(recovered) => {
                            assert_eq!(recovered.core.range("").entries, entries, "bit {bit} of byte {offset}");
                        }
                        Err(_) => refused += 1,
                    }
                    file[offset] ^= 1 << bit;
                }
            }
            // The header, every byte of the log, and a slot that nothing but the log could stand in for.
            assert!(refused >= 8 * (HEADER_LENGTH + file.len() - LOG_START), "{refused}");
        }
    }

    #[test]
    fn a_record_torn_by_a_crash_was_never_acknowledged_and_is_dropped() {
        let (file, entries) = file(2, 3);
        let recovered = decode_file(&file).unwrap();
        let (mut core, slot) = (recovered.core, recovered.slot);
        let mut crashed = file.clone();
        append(&mut crashed, slot, &commit(&mut core, 5));
        for length in file.len() + 1..crashed.len() {
            let recovered = decode_file(&crashed[..length]).expect("a crash is no damage");
            assert_eq!(recovered.tail, Tail::Torn { bytes: (length - file.len()) as u64 });
            assert_eq!(recovered.core.range("").entries, entries);
        }
        // A power failure may leave the file's new length without the bytes.
        let end = file.len();
        crashed[end..].fill(0);
        assert!(matches!(decode_file(&crashed).expect("a crash is no damage").tail, Tail::Torn { .. }));
    }

    #[test]
    fn a_whole_record_whose_slot_was_being_written_is_kept() {
        let (file, _) = file(2, 3);
        let recovered = decode_file(&file).unwrap();
        let (mut core, slot) = (recovered.core, recovered.slot);
        let mut crashed = file.clone();
        let next = append(&mut crashed, slot, &commit(&mut core, 5));
        let encoded = next.encode();
        for written in 0..=SLOT_LENGTH {
            let mut torn = crashed.clone();
            torn[next.offset() as usize..][..written].copy_from_slice(&encoded[..written]);
            let recovered = decode_file(&torn).expect("a crash is no damage");
            assert_eq!(recovered.core.range("").entries, core.range("").entries, "{written} bytes of the slot");
            assert_eq!(recovered.slot, next);
        }
    }

    #[test]
    fn records_that_changed_places_are_refused() {
        let mut core = Core::default();
        let (mut file, slot) = encode_file(&core);
        let start = file.len();
        // Two records of one length: neighbours that a checksum of each alone would let pass.
        let slot = append(&mut file, slot, &commit(&mut core, 0));
        let middle = file.len();
        let slot = append(&mut file, slot, &commit(&mut core, 1));
        write_slot(&mut file, slot);
        let (first, second) = (file[start..middle].to_vec(), file[middle..].to_vec());
        assert_eq!(first.len(), second.len());
        file.truncate(start);
        file.extend_from_slice(&second);
        file.extend_from_slice(&first);
        assert!(matches!(decode_file(&file), Err(Damage::Damaged { .. })));
    }

    #[test]
    fn a_newer_format_is_told_from_a_damaged_header() {
        let (mut file, _) = file(0, 1);
        file[8] = 2;
        assert!(matches!(decode_file(&file), Err(Damage::Damaged { offset: 0, .. })));
        let checksum = crc32c(&file[0..HEADER_LENGTH - 4]);
        file[HEADER_LENGTH - 4..HEADER_LENGTH].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(decode_file(&file), Err(Damage::Newer { version: 2 })));
    }

    proptest! {
        #[test]
        fn noise_never_panics_and_never_opens(noise in proptest::collection::vec(any::<u8>(), 0..6000)) {
            prop_assert!(decode_file(&noise).is_err());
        }

        #[test]
        fn noise_behind_good_slots_never_opens(noise in proptest::collection::vec(any::<u8>(), 1..400), at in 0usize..400) {
            let (mut file, entries) = file(3, 3);
            let at = LOG_START + at.min(file.len() - LOG_START - 1);
            let end = (at + noise.len()).min(file.len());
            file[at..end].copy_from_slice(&noise[..end - at]);
            if let Ok(recovered) = decode_file(&file) {
                prop_assert_eq!(recovered.core.range("").entries, entries);
            }
        }
    }
}
