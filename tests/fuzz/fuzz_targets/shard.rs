//! Arbitrary calls through the seam of two shards: no panic, no bytes that were not queued, and
//! nothing left behind when all connections are gone.
#![no_main]

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::{ConnId, NodeId, ShardId};
use corebeat::base::limits::Limits;
use corebeat::base::time::{Mono, Now};
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::drain::DrainPlan;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::holdings::Holdings;
use corebeat::chat::mail::Mail;
use corebeat::chat::shard::{Shard, Verdict};
use corebeat::wire::http::{Asset, Origins};
use libfuzzer_sys::fuzz_target;

const SHARDS: usize = 2;
/// Connections of one shard that are open at a time.
const SLOTS: usize = 4;
/// What browsers fetch: more than an outbox may hold of other things.
const PAGES: &[Asset] =
    &[Asset { path: "/page", content_type: "text/plain", bytes: &[b'p'; 3_000] }];
/// Letters that fit into a mailbox.
const MAILBOX: usize = 3;

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut rest = bytes;
    while let [order, operand, tail @ ..] = rest {
        rest = world.obey(*order, *operand, tail);
    }
    world.end();
});

/// A shard and what its shell knows of its connections.
struct Worker {
    shard: Shard,
    slots: [Option<ConnId>; SLOTS],
    generation: u32,
}

struct World {
    workers: Vec<Worker>,
    /// Letters to each shard, with their senders.
    mailboxes: [VecDeque<(ShardId, Mail)>; SHARDS],
    now: Now,
}

impl World {
    fn new() -> World {
        let now = Now { mono: Mono(0), wall_ms: 1_790_000_000_000 };
        let limits = Limits {
            max_frame: 1_024,
            max_outbound: 2_048,
            max_rooms: 3,
            max_rooms_per_connection: 3,
            presence_max: 3,
            max_connections: SLOTS,
            fan_out_budget: 3,
            timer_budget: 2,
            max_mail_staged: 4,
            max_room_queue: 2,
            ..Limits::default()
        };
        let worker = |shard: u16| {
            let config = ShardConfig {
                shard: ShardId(shard),
                shards: SHARDS as u16,
                node: NodeId(1),
                limits,
                heartbeat: HeartbeatPolicy::default(),
                seed: u64::from(shard),
                secret: [1, 2],
                publish_everyone: true,
                overflow: Default::default(),
                durability: None,
                web: WebConfig {
                    assets: PAGES,
                    numbers: true,
                    origins: Origins::same(),
                    deflate: true,
                },
            };
            Worker { shard: Shard::new(config, now), slots: [None; SLOTS], generation: 0 }
        };
        World {
            workers: (0..SHARDS as u16).map(worker).collect(),
            mailboxes: Default::default(),
            now,
        }
    }

    /// Does one thing; returns what is left of the input.
    fn obey<'a>(&mut self, order: u8, operand: u8, tail: &'a [u8]) -> &'a [u8] {
        let (index, slot) = (usize::from(operand) % SHARDS, usize::from(operand >> 1) % SLOTS);
        let now = self.now;
        let worker = &mut self.workers[index];
        let Some(conn) = worker.slots[slot] else {
            worker.open(slot, now);
            return tail;
        };
        match order % 12 {
            0..=4 => {
                let (bytes, tail) = tail.split_at(tail.len().min(usize::from(order) / 2));
                if worker.shard.wants_input(conn) {
                    worker.shard.receive(conn, bytes, now);
                }
                return tail;
            }
            5 => worker.shard.end_of_input(conn, now),
            6 => worker.write(usize::from(order), now),
            7 => worker.shard.writable(conn),
            8 => self.now = now.plus_ms(u64::from(operand) * u64::from(order)),
            9 => self.deliver(index),
            10 => self.turn(index),
            _ if operand < 250 => {
                worker.shard.closed(conn, CloseReason::SocketError, 0, now);
                worker.slots[slot] = None;
            }
            _ => {
                let plan = DrainPlan::over(u64::from(order) * 16, "maintenance", "");
                worker.shard.drain(Arc::new(plan), now);
            }
        }
        tail
    }

    fn deliver(&mut self, index: usize) {
        if let Some((from, mail)) = self.mailboxes[index].pop_front() {
            self.workers[index].shard.mail(from, mail, self.now);
        }
    }

    /// What a worker does behind its sockets.
    fn turn(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let _ = worker.shard.retry_mail();
        let _ = worker.shard.expire(self.now);
        let _ = worker.shard.fan_out(self.now);
        while let Some((to, mail)) = worker.shard.poll_mail() {
            let mailbox = &mut self.mailboxes[to.index()];
            if mailbox.len() < MAILBOX {
                mailbox.push_back((ShardId(index as u16), mail));
            } else {
                worker.shard.mail_refused(to, mail);
            }
        }
        worker.close(self.now);
    }

    /// Hangs everybody up and waits until all is forgotten.
    fn end(&mut self) {
        for worker in &mut self.workers {
            for conn in worker.slots.iter_mut().filter_map(Option::take) {
                worker.shard.closed(conn, CloseReason::SocketError, 0, self.now);
            }
        }
        for _ in 0..200 {
            self.now = self.now.plus_ms(1_000);
            for index in 0..SHARDS {
                while !self.mailboxes[index].is_empty() {
                    self.deliver(index);
                }
                self.turn(index);
            }
        }
        for worker in &self.workers {
            assert_eq!(worker.shard.holdings(), Holdings::default());
            assert_eq!(worker.shard.next_deadline(), None);
        }
    }
}

impl Worker {
    fn open(&mut self, slot: usize, now: Now) {
        self.generation += 1;
        let conn = ConnId::new(slot, self.generation);
        self.slots[slot] = Some(conn);
        self.shard.open(conn, now);
    }

    /// Sends what waits, of each connection at most `most` bytes.
    fn write(&mut self, most: usize, now: Now) {
        while let Some(conn) = self.shard.poll_dirty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = self.shard.gather(conn, &mut slices);
            let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            assert!(offered > 0, "{conn:?} has nothing to send");
            let taken = offered.min(most);
            if taken > 0 {
                self.shard.sent(conn, taken, now);
            }
            if taken < offered {
                self.shard.blocked(conn, now);
            }
        }
    }

    fn close(&mut self, now: Now) {
        while let Some(verdict) = self.shard.poll_verdict() {
            match verdict {
                Verdict::Close(conn, _) => {
                    let slot = &mut self.slots[conn.slot()];
                    if *slot == Some(conn) {
                        *slot = None;
                    }
                }
                Verdict::Measure(conn) => self.shard.measured(conn, conn.slot() * 100, now),
                Verdict::LookAtReader(conn) => self.shard.looked_at_reader(conn, 100, now),
                _ => {}
            }
        }
        let open = self.slots.iter().flatten().count();
        assert_eq!(self.shard.connections(), open, "a connection was lost");
    }
}
