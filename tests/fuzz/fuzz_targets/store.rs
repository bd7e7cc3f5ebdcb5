//! Arbitrary keys and values as what lies on the disk: what is understood is written as it was
//! read, what is not is refused, and a shard that is given all of it serves its rooms and users and
//! leaves a disk that is understood again.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::{ConnId, Epoch, NodeId, Ref, Seq, ShardId};
use corebeat::base::limits::Limits;
use corebeat::base::name::Name;
use corebeat::base::time::{Mono, Now};
use corebeat::chat::batch::Batch;
use corebeat::chat::config::ShardConfig;
use corebeat::chat::direct::Direct;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::reader::Missing;
use corebeat::chat::record::{Durability, Record, RecordId, StoreNumbers};
use corebeat::chat::shard::Shard;
use corebeat::store::codec::{COUNTS_KEY, Change, Codec, Counts, Entry, entry};
use corebeat::store::engine::{Engine, Reach, Syncing};
use corebeat::store::load::load;
use corebeat::wire::message::{Event, Hello, Request};
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
    disk.serve();
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

    /// Starts a shard with all of it, and has a client ask for it.
    fn serve(&mut self) {
        let loaded = match load(self) {
            Ok(loaded) => loaded,
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::InvalidData),
        };
        let mut now = Now { mono: Mono(0), wall_ms: 1_790_000_000_000 };
        let mut parts = loaded.divide(1, |_| ShardId(0));
        let mut shard = shard(now);
        shard.recover(parts.pop().expect("one part"), now);
        let conn = ConnId::new(0, 1);
        shard.open(conn, now);
        for request in requests() {
            let mut bytes = Vec::new();
            native::encode_request(&mut bytes, &request, false);
            shard.receive(conn, &bytes, now);
            now = self.turn(&mut shard, conn, now);
        }
        shard.closed(conn, CloseReason::SocketError, 0, now);
        for _ in 0..4 {
            now = self.turn(&mut shard, conn, now.plus_ms(60_000));
        }
        assert!(load(self).is_ok(), "what was written is not read again");
    }

    /// A turn of the worker and of the store.
    fn turn(&mut self, shard: &mut Shard, conn: ConnId, now: Now) -> Now {
        let _ = shard.retry_mail();
        let _ = shard.expire(now);
        let _ = shard.fan_out(now);
        let mut through = None;
        while let Some((ticket, record)) = shard.poll_write() {
            let mut codec = Codec::default();
            let change = codec.change(&record);
            if let Change::Put { key, value } = change {
                assert!(entry(key, value).is_some(), "nobody will read {record:?}");
            }
            self.stage(change);
            through = Some(ticket);
        }
        if let Some(through) = through {
            shard.written(through, StoreNumbers::default(), now);
        }
        while shard.poll_mail().is_some() {}
        while let Some(dirty) = shard.poll_dirty() {
            let mut slices = [io::IoSlice::new(&[]); 4];
            let filled = shard.gather(dirty, &mut slices);
            let bytes = slices[..filled].iter().map(|slice| slice.len()).sum();
            shard.sent(conn, bytes, now);
        }
        while shard.poll_closing().is_some() {}
        while shard.poll_verdict().is_some() {}
        now.plus_ms(100)
    }
}

fn shard(now: Now) -> Shard {
    let config = ShardConfig {
        shard: ShardId(0),
        shards: 1,
        node: NodeId(1),
        limits: Limits { max_connections: 1, history_count: 8, ..Limits::default() },
        heartbeat: HeartbeatPolicy::default(),
        seed: 1,
        secret: [1, 2],
        publish_everyone: true,
        overflow: Arc::default(),
        durability: Some(Durability::Batch),
        web: Default::default(),
    };
    Shard::new(config, now)
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

/// What a client asks of every room, of which it is also the user.
fn requests() -> Vec<Request<'static>> {
    let mut requests = vec![Request::Hello(Hello { version: 1, user: "den", ..Hello::default() })];
    for (reference, room) in (1..).zip(NAMES) {
        let at = |offset: u32| Ref(reference * 10 + offset);
        requests.push(Request::Join {
            reference: at(0),
            epoch: Epoch(1),
            since: Seq(1),
            room,
            notify: true,
        });
        requests.push(Request::History { reference: at(1), room, since: Seq(0), limit: 10 });
        requests.push(Request::Publish { reference: at(2), room, body: b"again", echo: true });
        requests.push(Request::Direct { reference: at(3), user: room, body: b"psst" });
    }
    requests.push(Request::Ack { id: u64::MAX });
    requests
}
