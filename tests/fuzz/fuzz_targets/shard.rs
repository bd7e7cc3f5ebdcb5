//! Arbitrary calls through the seam of two shards, with clients that speak well as often as they
//! babble: no panic, no bytes that were not queued, whole frames, messages in their order, each end
//! told of once, and nothing left behind when all connections are gone.
#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::{ConnId, Epoch, NodeId, Ref, Seq, ShardId};
use corebeat::base::limits::Limits;
use corebeat::base::time::{Mono, Now};
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::drain::DrainPlan;
use corebeat::chat::excess::Excess;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::holdings::Holdings;
use corebeat::chat::mail::Mail;
use corebeat::chat::overflow::{Overflow, OverflowPolicies};
use corebeat::chat::pulse::Network;
use corebeat::chat::record::{Durability, StoreNumbers, Ticket};
use corebeat::chat::shard::{Shard, Verdict};
use corebeat::wire::http::{Asset, Origins};
use corebeat::wire::message::{Event, Heartbeat, Hello, Request};
use corebeat::wire::native;
use libfuzzer_sys::fuzz_target;

const SHARDS: usize = 2;
/// Connections of one shard that are open at a time.
const SLOTS: usize = 4;
/// What browsers fetch: more than an outbox may hold of other things.
const PAGES: &[Asset] =
    &[Asset { path: "/page", content_type: "text/plain", bytes: &[b'p'; 3_000] }];
/// Letters that fit into a mailbox.
const MAILBOX: usize = 3;
/// Welcomes that are remembered, to resume their sessions.
const WELCOMES: usize = 4;
const USERS: [&str; 3] = ["ann", "bob", "den"];
const ROOMS: [&str; 4] = ["den", "tea", "new-1", "*"];
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    let [setup, rest @ ..] = bytes else { return };
    let mut world = World::new(*setup);
    let mut rest = rest;
    while let [order, operand, tail @ ..] = rest {
        rest = world.obey(*order, *operand, tail);
    }
    world.end();
});

/// A connection as its shell and its client know it.
struct Socket {
    conn: ConnId,
    /// Why it ends, once that was told.
    closing: Option<CloseReason>,
    ear: Ear,
}

/// What a native client has heard: half a frame, and the last live message of each room and epoch.
#[derive(Default)]
struct Ear {
    bytes: Vec<u8>,
    speaks_otherwise: bool,
    places: BTreeMap<(String, Epoch), Seq>,
}

/// A shard and what its shell knows of its connections.
struct Worker {
    shard: Shard,
    slots: [Option<Socket>; SLOTS],
    generation: u32,
    /// Records that the store has and nobody heard of.
    unwritten: Option<Ticket>,
    gone: ConnId,
}

struct World {
    workers: Vec<Worker>,
    /// Letters to each shard, with their senders.
    mailboxes: [VecDeque<(ShardId, Mail)>; SHARDS],
    now: Now,
    /// Sessions that clients were told: who, number and key.
    welcomes: Vec<(String, u64, u64)>,
}

fn limits(setup: u8) -> Limits {
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
        resume_window_ms: 20_000,
        max_kept_sessions: 3,
        offline_count: 4,
        offline_bytes: 1_024,
        offline_age_ms: 30_000,
        history_count: 5,
        history_bytes: 1_024,
        history_age_ms: 30_000,
        history_memory: 4_096,
        ..Limits::default()
    };
    if setup & 1 == 0 {
        return limits;
    }
    Limits {
        max_sessions_per_user: 1,
        max_members_per_room: 2,
        max_subscriptions: 3,
        message_rate: 2,
        message_burst: 2,
        byte_rate: 64,
        byte_burst: 256,
        frame_timeout_ms: 1_000,
        write_timeout_ms: 1_000,
        ..limits
    }
}

impl World {
    fn new(setup: u8) -> World {
        let now = Now { mono: Mono(0), wall_ms: 1_790_000_000_000 };
        let heartbeat = HeartbeatPolicy::default();
        let stretch = if setup & 2 == 0 { 1 } else { 4 };
        let overflow = Overflow::ALL[usize::from(setup >> 2 & 3)];
        let worker = |shard: u16| {
            let config = ShardConfig {
                shard: ShardId(shard),
                shards: SHARDS as u16,
                node: NodeId(1),
                limits: limits(setup),
                heartbeat: HeartbeatPolicy { stretch, ..heartbeat },
                seed: u64::from(shard),
                secret: [1, 2],
                publish_everyone: true,
                overflow: Arc::new(OverflowPolicies::new(overflow)),
                durability: [None, None, Some(Durability::None), Some(Durability::Batch)]
                    [usize::from(setup >> 4 & 3)],
                web: WebConfig {
                    assets: PAGES,
                    numbers: true,
                    origins: Origins::same(),
                    deflate: true,
                },
            };
            Worker {
                shard: Shard::new(config, now),
                slots: Default::default(),
                generation: 0,
                unwritten: None,
                gone: ConnId::new(0, 0),
            }
        };
        World {
            workers: (0..SHARDS as u16).map(worker).collect(),
            mailboxes: Default::default(),
            now,
            welcomes: Vec::new(),
        }
    }

    /// Does one thing; returns what is left of the input.
    fn obey<'a>(&mut self, order: u8, operand: u8, tail: &'a [u8]) -> &'a [u8] {
        let (index, slot) = (usize::from(operand) % SHARDS, usize::from(operand >> 1) % SLOTS);
        let now = self.now;
        let Some(conn) = self.workers[index].conn(slot) else {
            self.workers[index].open(slot, order, now);
            return tail;
        };
        let worker = &mut self.workers[index];
        match order % 20 {
            0..=2 => {
                let (bytes, tail) = tail.split_at(tail.len().min(usize::from(order) / 2));
                worker.receive(conn, bytes, now);
                return tail;
            }
            3..=10 => {
                let (words, tail) = tail.split_at(tail.len().min(2));
                let bytes = self.words(order % 20 - 3, operand >> 3, words);
                self.workers[index].receive(conn, &bytes, now);
                return tail;
            }
            11 => worker.shard.end_of_input(conn, now),
            12 => self.write(index, usize::from(order) * 4),
            13 => worker.shard.writable(conn),
            14 => self.now = now.plus_ms(u64::from(operand) * u64::from(order)),
            15 => self.deliver(index),
            16 | 17 => self.turn(index),
            18 if operand < 250 => worker.fail(slot, usize::from(order), now),
            18 => {
                let plan = DrainPlan::over(u64::from(order) * 16, "maintenance", "");
                worker.shard.drain(Arc::new(plan), now);
            }
            _ => worker.settle_store(operand >> 3, now),
        }
        tail
    }

    /// What a client says that knows the contract.
    fn words(&self, what: u8, operand: u8, words: &[u8]) -> Vec<u8> {
        let [one, two] = [0, 1].map(|at| words.get(at).copied().unwrap_or(0));
        let (user, room) = (USERS[usize::from(one) % 3], ROOMS[usize::from(one) % 4]);
        let (reference, since) = (Ref(u32::from(two % 32)), Seq(u64::from(two / 32)));
        let body = [operand; 200];
        let body = &body[..usize::from(two) % 200];
        let request = match what {
            0 => match self.welcomes.get(usize::from(operand) % (2 * WELCOMES)) {
                Some((user, session, key)) => {
                    // The last bit of the key is sometimes wrong.
                    return encoded(&hello(user, *session, *key ^ u64::from(two == 255)));
                }
                None => hello(user, 0, 0),
            },
            1 => Request::Join { reference, epoch: Epoch(1), since, room, notify: one > 127 },
            2 => Request::Publish { reference, room, body, echo: one > 127 },
            3 => Request::Direct { reference, user, body },
            4 => match operand % 4 {
                0 => Request::Leave { reference, room },
                1 => Request::Ack { id: u64::from(two) },
                2 => Request::Ack { id: u64::MAX },
                _ => Request::Who { reference, room },
            },
            5 => Request::History { reference, room, since, limit: u16::from(one) },
            6 => match operand % 3 {
                0 => Request::Ping(Heartbeat::default()),
                1 => Request::Pong(Heartbeat { seq: u32::from(two), ..Heartbeat::default() }),
                _ => Request::Bye { code: 1000, reason: "" },
            },
            _ => {
                return match operand % 4 {
                    0 => format!("{user}\n").into_bytes(),
                    1 => format!("/join {room}\n").into_bytes(),
                    2 => b"hello all\n".to_vec(),
                    _ => UPGRADE.to_vec(),
                };
            }
        };
        encoded(&request)
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
        while let Some((ticket, _record)) = worker.shard.poll_write() {
            worker.unwritten = Some(ticket);
        }
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

    /// Sends what waits, of each connection at most `most` bytes.
    fn write(&mut self, index: usize, most: usize) {
        let worker = &mut self.workers[index];
        while let Some(conn) = worker.shard.poll_dirty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = worker.shard.gather(conn, &mut slices);
            let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            assert!(offered > 0, "{conn:?} has nothing to send");
            let taken = offered.min(most);
            let socket = worker.slots[conn.slot()].as_mut().expect("a connection that is there");
            assert_eq!(socket.conn, conn);
            let words = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
            socket.ear.bytes.extend(words.take(taken));
            socket.ear.listen(&mut self.welcomes);
            if taken > 0 {
                worker.shard.sent(conn, taken, self.now);
            }
            if taken < offered {
                worker.shard.blocked(conn, self.now);
            }
        }
    }

    /// Hangs everybody up and waits until all is forgotten.
    fn end(&mut self) {
        for worker in &mut self.workers {
            worker.note_closings();
            for slot in 0..SLOTS {
                worker.fail(slot, 0, self.now);
            }
        }
        for _ in 0..300 {
            self.now = self.now.plus_ms(1_000);
            for index in 0..SHARDS {
                while !self.mailboxes[index].is_empty() {
                    self.deliver(index);
                }
                self.turn(index);
                self.workers[index].settle_store(0, self.now);
            }
        }
        for worker in &self.workers {
            assert_eq!(worker.shard.holdings(), Holdings::default());
            assert_eq!(worker.shard.next_deadline(), None);
            assert_eq!(worker.shard.unwritten(), 0);
        }
    }
}

impl Worker {
    fn conn(&self, slot: usize) -> Option<ConnId> {
        self.slots[slot].as_ref().map(|socket| socket.conn)
    }

    fn open(&mut self, slot: usize, order: u8, now: Now) {
        self.generation += 1;
        let conn = ConnId::new(slot, self.generation);
        self.slots[slot] = Some(Socket { conn, closing: None, ear: Ear::default() });
        self.shard.open(conn, now);
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, order, 1));
        self.shard.note_network(conn, Network::of(peer));
        if order > 250 {
            self.shard.hold_to_refuse(conn, Excess::Connections);
        }
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        if self.shard.wants_input(conn) {
            self.shard.receive(conn, bytes, now);
        }
    }

    /// The socket fails, if there is one; and then calls come that are too late.
    fn fail(&mut self, slot: usize, unacknowledged: usize, now: Now) {
        let Some(conn) = self.conn(slot) else { return };
        self.shard.closed(conn, CloseReason::SocketError, unacknowledged, now);
        self.note_closings();
        let socket = self.slots[slot].take().expect("there is one");
        assert!(socket.closing.is_some(), "{conn:?} ended without a reason");
        self.shard.writable(self.gone);
        self.shard.sent(self.gone, 1, now);
        self.shard.measured(self.gone, 1, now);
        self.shard.closed(self.gone, CloseReason::SocketError, 1, now);
        self.gone = conn;
    }

    /// Tells what the store has done since.
    fn settle_store(&mut self, operand: u8, now: Now) {
        match self.unwritten.take() {
            Some(_) if operand > 24 => self.shard.write_failed(StoreNumbers::default(), now),
            Some(ticket) => self.shard.written(ticket, StoreNumbers::default(), now),
            None => {}
        }
    }

    /// Every end is told of once, while the socket is still there.
    fn note_closings(&mut self) {
        while let Some(closing) = self.shard.poll_closing() {
            let socket = self.slots[closing.conn.slot()].as_mut();
            let socket = socket.filter(|socket| socket.conn == closing.conn);
            let socket = socket.expect("whose end is decided has a socket");
            let before = socket.closing.replace(closing.reason);
            assert_eq!(before, None, "{:?} was to end twice", closing.conn);
        }
    }

    fn close(&mut self, now: Now) {
        self.note_closings();
        while let Some(verdict) = self.shard.poll_verdict() {
            match verdict {
                Verdict::Close(conn, reason) => {
                    let slot = &mut self.slots[conn.slot()];
                    if let Some(socket) = slot.take_if(|socket| socket.conn == conn) {
                        assert_eq!(socket.closing, Some(reason), "{conn:?} was closed otherwise");
                        self.gone = conn;
                    }
                }
                Verdict::Measure(conn) => self.shard.measured(conn, conn.slot() * 100, now),
                Verdict::LookAtReader(conn) => self.shard.looked_at_reader(conn, 100, now),
                _ => {}
            }
            self.note_closings();
        }
        let open = self.slots.iter().flatten().count();
        assert_eq!(self.shard.connections(), open, "a connection was lost");
    }
}

impl Ear {
    /// Takes frames off what was heard, if it is native ones.
    fn listen(&mut self, welcomes: &mut Vec<(String, u64, u64)>) {
        self.speaks_otherwise |= self.bytes.first().is_some_and(|first| *first != 0xFB);
        if self.speaks_otherwise {
            return self.bytes.clear();
        }
        let mut at = 0;
        while let Some((frame, length)) =
            native::frame(&self.bytes[at..], 1 << 16).expect("a frame")
        {
            match native::event(&frame).expect("an event").expect("of this version") {
                Event::Welcome(welcome) => {
                    welcomes.insert(0, (welcome.user.into(), welcome.session, welcome.resume_key));
                    welcomes.truncate(WELCOMES);
                }
                Event::Message { epoch, seq, room, replay: false, .. } => {
                    let last = self.places.insert((room.into(), epoch), seq);
                    assert!(last.is_none_or(|last| last < seq), "{seq:?} behind {last:?}");
                }
                Event::Gap { from, to, .. } => assert!(from <= to),
                _ => {}
            }
            at += length;
        }
        self.bytes.drain(..at);
    }
}

fn hello(user: &str, session: u64, resume_key: u64) -> Request<'_> {
    Request::Hello(Hello { version: 1, session, resume_key, user, ..Hello::default() })
}

fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    native::encode_request(&mut out, request, false);
    out
}
