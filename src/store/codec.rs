//! How records are laid out as keys and values.
//!
//! Owns the layout of the records of format 2, around which there are [`bundles`](super::bundles).
//! Never touches a file. Integers are big-endian, so that keys of one room or user lie in the order
//! of their numbers:
//!
//! | key | value |
//! | --- | --- |
//! | `m` room:str8 id:u64 | the MESSAGE frames, whose first one says epoch and place |
//! | `h` room:str8 | id:u64 epoch:u32 seq:u64 |
//! | `d` user:str8 id:u64 | the DIRECT frame |
//! | `g` user:str8 | from:u64 to:u64 count:u64, the direct messages that are missing |
//! | `c` | commits:u64 next_direct:u64 |
//!
//! str8 is a length in one byte and that many bytes of UTF-8.

use byteorder::{BigEndian, ByteOrder};

use crate::base::ids::{Epoch, Seq};
use crate::base::limits::NAME_MAX;
use crate::base::name::Name;
use crate::chat::batch::Frames;
use crate::chat::direct::Direct;
use crate::chat::reader::Missing;
use crate::chat::record::{Record, RecordId, RecoveredMessages};
use crate::wire::message::Event;
use crate::wire::native;

/// What a key begins with.
pub mod kind {
    /// Messages of a room.
    pub const MESSAGES: u8 = b'm';
    /// The last place of a room.
    pub const HEAD: u8 = b'h';
    /// A message that waits for a user.
    pub const DIRECT: u8 = b'd';
    /// What is missing of a user's messages.
    pub const MISSING: u8 = b'g';
    /// The counts of the store itself.
    pub const COUNTS: u8 = b'c';
}

/// The highest number that is read. No server ever comes that far, so that whoever adds to a number
/// need not fear for it.
const NUMBER_MAX: u64 = u64::MAX >> 1;

/// The key of [`Counts`].
pub const COUNTS_KEY: [u8; 1] = [kind::COUNTS];

/// What a record does to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The key has this value from here on.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// The key has none from here on, whether it had one or not.
    Strike {
        /// The key.
        key: &'a [u8],
    },
}

/// The counts of the store itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits since the store was made.
    pub commits: u64,
    /// Every direct message has a lower number.
    pub next_direct: u64,
}

impl Counts {
    /// The value.
    pub fn encode(self) -> [u8; 16] {
        let mut value = [0; 16];
        BigEndian::write_u64(&mut value, self.commits);
        BigEndian::write_u64(&mut value[8..], self.next_direct);
        value
    }
}

/// Renders records. Keeps the memory of the last one, and copies no message.
#[derive(Debug, Default)]
pub struct Codec {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Codec {
    /// What `record` does.
    pub fn change<'a>(&'a mut self, record: &'a Record) -> Change<'a> {
        self.value.clear();
        match record {
            Record::Messages { id, batch } => {
                self.numbered(kind::MESSAGES, &batch.room, id.0);
                Change::Put { key: &self.key, value: batch.frames.bytes() }
            }
            Record::StrikeMessages { room, id } => {
                self.numbered(kind::MESSAGES, room, id.0);
                Change::Strike { key: &self.key }
            }
            Record::Head { room, id, epoch, seq } => {
                self.named(kind::HEAD, room);
                self.value.extend_from_slice(&id.0.to_be_bytes());
                self.value.extend_from_slice(&epoch.0.to_be_bytes());
                self.value.extend_from_slice(&seq.0.to_be_bytes());
                Change::Put { key: &self.key, value: &self.value }
            }
            Record::StrikeHead { room } => {
                self.named(kind::HEAD, room);
                Change::Strike { key: &self.key }
            }
            Record::Direct { user, direct } => {
                self.numbered(kind::DIRECT, user, direct.id());
                Change::Put { key: &self.key, value: direct.frame() }
            }
            Record::StrikeDirect { user, id } => {
                self.numbered(kind::DIRECT, user, *id);
                Change::Strike { key: &self.key }
            }
            Record::Missing { user, missing } => {
                self.named(kind::MISSING, user);
                let Some(Missing { from, to, count }) = missing else {
                    return Change::Strike { key: &self.key };
                };
                for number in [from, to, count] {
                    self.value.extend_from_slice(&number.to_be_bytes());
                }
                Change::Put { key: &self.key, value: &self.value }
            }
        }
    }

    fn named(&mut self, kind: u8, name: &Name) {
        self.key.clear();
        self.key.extend_from_slice(&[kind, name.len() as u8]);
        self.key.extend_from_slice(name.as_bytes());
    }

    fn numbered(&mut self, kind: u8, name: &Name, number: u64) {
        self.named(kind, name);
        self.key.extend_from_slice(&number.to_be_bytes());
    }
}

/// One key and its value, taken apart.
#[derive(Debug)]
pub enum Entry {
    /// Messages of a room.
    Messages(Name, RecoveredMessages),
    /// The last place of a room, and the number that orders it among the room's records.
    Head(Name, RecordId, Epoch, Seq),
    /// A message that waits for a user.
    Direct(Name, Direct),
    /// What is missing of a user's messages.
    Missing(Name, Missing),
    /// The counts.
    Counts(Counts),
}

/// Takes a key and its value apart. `None` where they are not what [`Codec::change`] gives.
pub fn entry(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (&kind, rest) = key.split_first()?;
    if kind == kind::COUNTS {
        let mut value = Reader(value);
        let counts = Counts { commits: value.u64()?, next_direct: value.u64()? };
        return (rest.is_empty() && value.0.is_empty()).then_some(Entry::Counts(counts));
    }
    let mut rest = Reader(rest);
    let name = rest.name()?;
    let mut value = Reader(value);
    let entry = match kind {
        kind::MESSAGES => {
            let id = RecordId(rest.u64()?);
            Entry::Messages(name, messages(id, &mut value)?)
        }
        kind::HEAD => {
            let (id, epoch, seq) = (value.u64()?, value.epoch()?, value.u64()?);
            Entry::Head(name, RecordId(id), epoch, Seq(seq))
        }
        kind::DIRECT => {
            let number = rest.u64()?;
            let frame = std::mem::take(&mut value.0);
            match native::frame(frame, usize::MAX).ok()?? {
                (found, length) if length == frame.len() => match native::event(&found).ok()?? {
                    Event::Direct { id, .. } if id == number => {}
                    _ => return None,
                },
                _ => return None,
            }
            Entry::Direct(name, Direct::from_frame(frame))
        }
        kind::MISSING => {
            let (from, to, count) = (value.u64()?, value.u64()?, value.u64()?);
            Entry::Missing(name, Missing { from, to, count })
        }
        _ => return None,
    };
    (rest.0.is_empty() && value.0.is_empty()).then_some(entry)
}

fn messages(id: RecordId, value: &mut Reader<'_>) -> Option<RecoveredMessages> {
    let mut frames = Frames::default();
    let mut first = None;
    while !value.0.is_empty() {
        let (found, length) = native::frame(value.0, usize::MAX).ok()??;
        let Event::Message { epoch, seq, .. } = native::event(&found).ok()?? else { return None };
        let (its_epoch, its_first) = *first.get_or_insert((epoch, seq));
        let due = its_first.0.checked_add(frames.count() as u64)?;
        if (epoch, seq.0) != (its_epoch, due) {
            return None;
        }
        let (frame, behind) = value.0.split_at_checked(length)?;
        frames.push(|out| out.extend_from_slice(frame));
        value.0 = behind;
    }
    let is_place = |epoch: Epoch, seq: Seq| epoch.0 > 0 && (1..=NUMBER_MAX).contains(&seq.0);
    let (epoch, first) = first.filter(|(epoch, first)| is_place(*epoch, *first))?;
    Some(RecoveredMessages { id, epoch, first, frames })
}

/// Bytes that are read from the front. `None` where too few are left.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// No room has the epoch 0: it means none.
    fn epoch(&mut self) -> Option<Epoch> {
        let (bytes, behind) = self.0.split_first_chunk::<4>()?;
        self.0 = behind;
        Some(Epoch(u32::from_be_bytes(*bytes))).filter(|epoch| epoch.0 > 0)
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, behind) = self.0.split_first_chunk::<8>()?;
        self.0 = behind;
        Some(u64::from_be_bytes(*bytes)).filter(|number| *number <= NUMBER_MAX)
    }

    fn name(&mut self) -> Option<Name> {
        let (&length, behind) = self.0.split_first()?;
        let (name, behind) = behind.split_at_checked(usize::from(length))?;
        let name = std::str::from_utf8(name).ok()?;
        self.0 = behind;
        (1..=NAME_MAX).contains(&name.len()).then(|| Name::new(name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::chat::batch::Batch;

    fn put(record: &Record) -> (Vec<u8>, Vec<u8>) {
        match Codec::default().change(record) {
            Change::Put { key, value } => (key.to_vec(), value.to_vec()),
            Change::Strike { .. } => panic!("it puts something"),
        }
    }

    fn batch() -> Batch {
        let mut batch = Batch::new(Name::new("tea"));
        (batch.epoch, batch.first) = (Epoch(7), Seq(41));
        for seq in 41..43 {
            let event = Event::Message {
                epoch: Epoch(7),
                seq: Seq(seq),
                time_ms: 5,
                room: "tea",
                from: "ann",
                body: b"hello",
                replay: false,
            };
            batch.frames.push(|out| native::encode_event(out, &event, false));
        }
        batch
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let batch = Arc::new(batch());
        let (key, value) = put(&Record::Messages { id: RecordId(3), batch: Arc::clone(&batch) });
        let Some(Entry::Messages(room, kept)) = entry(&key, &value) else { panic!("messages") };
        assert_eq!((room.as_str(), kept.id, kept.epoch), ("tea", RecordId(3), Epoch(7)));
        assert_eq!((kept.first, kept.frames.count()), (Seq(41), 2));
        assert_eq!(kept.frames.bytes(), batch.frames.bytes());
        let strike = Record::StrikeMessages { room: Name::new("tea"), id: RecordId(3) };
        assert_eq!(Codec::default().change(&strike), Change::Strike { key: &key });
    }

    #[test]
    fn directs_and_counts_come_back_as_they_were() {
        let direct = Direct::new(9, 8, "ann", b"psst");
        let user = Name::new("bob");
        let (key, value) = put(&Record::Direct { user: user.clone(), direct: direct.clone() });
        let Some(Entry::Direct(found, read)) = entry(&key, &value) else { panic!("a direct") };
        assert_eq!((found.as_str(), read.frame()), ("bob", direct.frame()));
        assert!(entry(&key, &value[..value.len() - 1]).is_none(), "cut");
        let missing = Missing { from: 1, to: 5, count: 3 };
        let (key, value) = put(&Record::Missing { user, missing: Some(missing) });
        let read = entry(&key, &value);
        assert!(matches!(read, Some(Entry::Missing(_, read)) if read == missing));
        let counts = Counts { commits: 1, next_direct: 2 };
        let read = entry(&COUNTS_KEY, &counts.encode());
        assert!(matches!(read, Some(Entry::Counts(read)) if read == counts));
    }

    #[test]
    fn numbers_that_no_server_reaches_are_not_read() {
        let head = |id, seq| Record::Head {
            room: Name::new("tea"),
            id: RecordId(id),
            epoch: Epoch(1),
            seq: Seq(seq),
        };
        let missing = |to| {
            let missing = Some(Missing { from: 1, to, count: 1 });
            Record::Missing { user: Name::new("bob"), missing }
        };
        let direct = |id| {
            let direct = Direct::new(id, 8, "ann", b"psst");
            Record::Direct { user: Name::new("bob"), direct }
        };
        let reads = |record: &Record| {
            let (key, value) = put(record);
            entry(&key, &value).is_some()
        };
        for good in [head(NUMBER_MAX, NUMBER_MAX), missing(NUMBER_MAX), direct(NUMBER_MAX)] {
            assert!(reads(&good), "{good:?}");
        }
        for (id, seq) in [(u64::MAX, 1), (1, u64::MAX)] {
            assert!(!reads(&head(id, seq)), "{id}, {seq}");
        }
        assert!(!reads(&missing(u64::MAX)) && !reads(&direct(u64::MAX)));
    }

    /// The next message of such a room would be written behind it, and not be read any more.
    #[test]
    fn a_place_in_no_epoch_is_not_read() {
        let (room, id, seq) = (Name::new("tea"), RecordId(1), Seq(45));
        let (key, value) = put(&Record::Head { room, id, epoch: Epoch(0), seq });
        assert!(entry(&key, &value).is_none());
        let mut batch = Batch::new(Name::new("tea"));
        let (epoch, time_ms, replay) = (Epoch(0), 5, false);
        let (room, from, body) = ("tea", "ann", &b"hello"[..]);
        let event = Event::Message { epoch, seq, time_ms, room, from, body, replay };
        batch.frames.push(|out| native::encode_event(out, &event, false));
        let (key, value) = put(&Record::Messages { id, batch: Arc::new(batch) });
        assert!(entry(&key, &value).is_none());
    }

    #[test]
    fn what_was_not_written_by_this_is_not_read() {
        let (key, value) = put(&Record::Messages { id: RecordId(3), batch: Arc::new(batch()) });
        let one = value.len() / 2;
        for length in (0..value.len()).filter(|length| *length != one) {
            assert!(entry(&key, &value[..length]).is_none(), "cut at {length}");
        }
        for length in 0..key.len() {
            assert!(entry(&key[..length], &value).is_none(), "key cut at {length}");
        }
        let twice = value[..one].repeat(2);
        assert!(entry(&key, &twice).is_none(), "the second is not the one behind the first");
        let mut other = value.clone();
        other.push(0);
        assert!(entry(&key, &other).is_none(), "something behind");
    }
}
