//! A shard without a network: clients are their frames, the kernel takes every byte.
//!
//! Owns the shard, the clock's hands and the clients' side of what the cases need. Asserts that
//! what is counted really happened; never counts itself.

use std::io::IoSlice;

use corebeat::base::ids::{ConnId, Epoch, NodeId, Ref, Seq, ShardId};
use corebeat::base::limits::Limits;
use corebeat::base::time::{Mono, Now};
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::shard::{Progress, Shard};
use corebeat::wire::message::{Hello, Request};
use corebeat::wire::native::encode_request;

/// Slices taken at once: more than one message needs, and so few that preparing them, which is the
/// shell's business, weighs little in what is counted.
const SLICES: usize = 4;

/// The only shard of its process, and its time.
pub(crate) struct Hall {
    /// The shard.
    pub(crate) shard: Shard,
    /// The present.
    pub(crate) now: Now,
}

impl Hall {
    /// A hall with so many native clients, in the slots from 0 on, whose hello is done.
    pub(crate) fn with_clients(count: usize) -> Hall {
        Hall::with_limits(count, Limits::default())
    }

    /// The same, within these limits.
    pub(crate) fn with_limits(count: usize, limits: Limits) -> Hall {
        let now = Now { mono: Mono(1_000), wall_ms: 1_790_000_000_000 };
        let config = ShardConfig {
            shard: ShardId(0),
            shards: 1,
            node: NodeId(1),
            limits,
            heartbeat: HeartbeatPolicy::default(),
            seed: 1,
            secret: [1, 2],
            publish_everyone: true,
            overflow: Default::default(),
            durability: None,
            web: WebConfig::default(),
        };
        let mut hall = Hall { shard: Shard::new(config, now), now };
        for slot in 0..count {
            let user = format!("user-{slot:04}");
            hall.shard.open(client(slot), now);
            let hello = Hello { version: 1, user: &user, ..Hello::default() };
            hall.say(slot, &Request::Hello(hello));
        }
        hall.settle();
        assert_eq!(hall.shard.counters().welcomed, count as u64);
        hall
    }

    /// Makes the clients of these slots members of `room`, and lets presence die down.
    pub(crate) fn join(&mut self, slots: std::ops::Range<usize>, room: &str) {
        for slot in slots {
            let (reference, epoch, since) = (Ref(1), Epoch(0), Seq(0));
            self.say(slot, &Request::Join { reference, epoch, since, room, notify: false });
            self.settle();
        }
    }

    /// The client in `slot` sends one frame.
    pub(crate) fn say(&mut self, slot: usize, request: &Request<'_>) {
        self.shard.receive(client(slot), &encode(request), self.now);
    }

    /// Hands every batch to every member.
    pub(crate) fn fan_out(&mut self) {
        while self.shard.fan_out(self.now) == Progress::More {}
    }

    /// Ends a turn: everything is delivered and taken by the kernel, nobody is closed.
    pub(crate) fn settle(&mut self) {
        self.fan_out();
        assert!(self.shard.poll_mail().is_none(), "one shard has nobody to write to");
        while self.send_to_next().is_some() {}
        assert_eq!(self.shard.poll_verdict(), None);
    }

    /// The kernel takes what waits for the next connection. Returns how many bytes that was.
    pub(crate) fn send_to_next(&mut self) -> Option<usize> {
        let conn = self.shard.poll_dirty()?;
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = self.shard.gather(conn, &mut slices);
        let bytes = slices[..filled].iter().map(|slice| slice.len()).sum();
        self.shard.sent(conn, bytes, self.now);
        Some(bytes)
    }

    /// The same, for a client that reads them.
    pub(crate) fn take_next(&mut self) -> Option<(ConnId, Vec<u8>)> {
        let conn = self.shard.poll_dirty()?;
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = self.shard.gather(conn, &mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        self.shard.sent(conn, bytes.len(), self.now);
        Some((conn, bytes))
    }
}

/// The connection in `slot`.
pub(crate) fn client(slot: usize) -> ConnId {
    ConnId::new(slot, 1)
}

/// The frame of a request.
pub(crate) fn encode(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, request, false);
    bytes
}
