//! Arbitrary keys and values as what lies on the disk: what is understood is written as it was
//! read, what is not is refused, and what is loaded is divided whole and never numbered again.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use corebeat::base::ids::{Epoch, Seq, ShardId};
use corebeat::base::name::Name;
use corebeat::chat::batch::Batch;
use corebeat::chat::direct::Direct;
use corebeat::chat::reader::Missing;
use corebeat::chat::record::{Record, RecordId};
use corebeat::store::codec::{COUNTS_KEY, Change, Codec, Counts, Entry, entry};
use corebeat::store::engine::{Engine, Reach, Syncing};
use corebeat::store::load::load;
use corebeat::wire::message::Event;
use corebeat::wire::native;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 3] = ["den", "tea", "*"];

fuzz_target!(|bytes: &[u8]| {
    let mut disk = Disk::default();
    let mut rest = bytes;
    while let [order, tail @ ..] = rest {
        rest = disk.lay(*order, tail);
    }
    disk.check_entries();
    disk.check_load();
});

/// Keys and values in the order of the keys.
#[derive(Default)]
struct Disk {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Engine for Disk {
    fn stage(&mut self, change: Change<'_>) {
        match change {
            Change::Put { key, value } => {
                self.records.insert(key.to_vec(), value.to_vec());
            }
            Change::Strike { key } => {
                self.records.remove(key);
            }
        }
    }

    fn commit(&mut self, _reach: Reach) -> io::Result<()> {
        Ok(())
    }

    fn syncing(&self) -> Syncing {
        Box::new(|| Ok(()))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.records.get(key).cloned())
    }

    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let _ = self.records.iter().all(|(key, value)| each(key, value));
        Ok(())
    }
}

impl Disk {
    /// Lays one record down, of arbitrary bytes or a good one with arbitrary numbers; returns what
    /// is left of the input.
    fn lay<'a>(&mut self, order: u8, tail: &'a [u8]) -> &'a [u8] {
        let (numbers, tail) = tail.split_at(tail.len().min(4));
        let number = |at: usize| match numbers.get(at).copied().unwrap_or(0) {
            byte @ 250.. => u64::MAX - u64::from(255 - byte),
            byte => u64::from(byte),
        };
        let name = || Name::new(NAMES[usize::from(order / 8) % NAMES.len()]);
        let record = match order % 8 {
            0 | 1 => {
                let lengths = (number(0) as usize % 16, number(1) as usize % 64);
                let (key, tail) = tail.split_at(tail.len().min(lengths.0));
                let (value, tail) = tail.split_at(tail.len().min(lengths.1));
                self.records.insert(key.to_vec(), value.to_vec());
                return tail;
            }
            2 => {
                let counts = Counts { commits: number(0), next_direct: number(1) };
                self.records.insert(COUNTS_KEY.to_vec(), counts.encode().to_vec());
                return tail;
            }
            3 | 4 => {
                let (epoch, first) = (Epoch(number(1) as u32), Seq(number(2)));
                let batch = batch(name(), epoch, first, number(3) % 4 + 1);
                Record::Messages { id: RecordId(number(0)), batch: Arc::new(batch) }
            }
            5 => Record::Head {
                room: name(),
                id: RecordId(number(0)),
                epoch: Epoch(number(1) as u32),
                seq: Seq(number(2)),
            },
            6 => {
                let direct = Direct::new(number(0), number(1), "ann", b"psst");
                Record::Direct { user: name(), direct }
            }
            _ => {
                let missing = Missing { from: number(0), to: number(1), count: number(2) };
                Record::Missing { user: name(), missing: Some(missing) }
            }
        };
        self.stage(Codec::default().change(&record));
        tail
    }

    /// What is understood is written as it was read.
    fn check_entries(&self) {
        for (key, value) in &self.records {
            let Some(found) = entry(key, value) else { continue };
            let record = match found {
                Entry::Counts(counts) => {
                    assert_eq!((&key[..], &value[..]), (&COUNTS_KEY[..], &counts.encode()[..]));
                    continue;
                }
                Entry::Messages(room, kept) => {
                    let mut batch = Batch::new(room);
                    (batch.epoch, batch.first, batch.frames) =
                        (kept.epoch, kept.first, kept.frames);
                    Record::Messages { id: kept.id, batch: Arc::new(batch) }
                }
                Entry::Head(room, id, epoch, seq) => Record::Head { room, id, epoch, seq },
                Entry::Direct(user, direct) => Record::Direct { user, direct },
                Entry::Missing(user, missing) => Record::Missing { user, missing: Some(missing) },
            };
            assert_eq!(Codec::default().change(&record), Change::Put { key, value });
        }
    }

    /// What is loaded is divided whole, and nothing in it will be numbered again.
    fn check_load(&mut self) {
        let loaded = match load(self) {
            Ok(loaded) => loaded,
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::InvalidData),
        };
        let (next_record, next_direct) = (loaded.next_record, loaded.counts.next_direct);
        let (rooms, users) = (loaded.rooms.len(), loaded.users.len());
        let parts = loaded.divide(2, |name| ShardId(u16::from(name.as_bytes()[0] % 2)));
        assert_eq!(parts.iter().map(|part| part.rooms.len()).sum::<usize>(), rooms);
        assert_eq!(parts.iter().map(|part| part.users.len()).sum::<usize>(), users);
        for part in &parts {
            let mut messages = part.rooms.iter().flat_map(|room| &room.messages);
            assert!(messages.all(|kept| kept.id < next_record));
            let mut directs = part.users.iter().flat_map(|user| &user.directs);
            assert!(directs.all(|direct| direct.id() < next_direct));
        }
    }
}

/// Messages of a room as a home encodes them.
fn batch(room: Name, epoch: Epoch, first: Seq, count: u64) -> Batch {
    let mut batch = Batch::new(room);
    (batch.epoch, batch.first) = (epoch, first);
    for at in 0..count {
        let seq = Seq(first.0.wrapping_add(at));
        let room = batch.room.clone();
        let (from, body, room) = ("ann", &b"hello"[..], room.as_str());
        let event = Event::Message { epoch, seq, time_ms: 5, room, from, body, replay: false };
        batch.frames.push(|out| native::encode_event(out, &event, false));
    }
    batch
}
