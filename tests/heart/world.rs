//! A small world of shards: mail arrives at once and in order, clients hang on by bytes in memory,
//! and time passes when a test says so.
//!
//! Owns the turn of the loop as a worker has it: read, mail, timers, fan-out, post, flush, close.
//! The rooms `attic`, `porch` and `lobby` have their homes on shards 0, 1 and 2.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use corebeat::base::counters::{CloseReason, Counters};
use corebeat::base::ids::{Address, ConnId, NodeId, SessionId, ShardId};
use corebeat::base::limits::{Limits, READ_CHUNK, WRITE_SLICES};
use corebeat::base::pressure::{Pressure, Readings};
use corebeat::base::time::{Mono, Now};
use corebeat::chat::closing::Closing;
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::drain::{DrainPlan, Readiness};
use corebeat::chat::excess::Excess;
use corebeat::chat::hash::{NameHasher, home};
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::mail::Mail;
use corebeat::chat::shard::{Holdings, Progress, Shard, Verdict};
use corebeat::wire::message::{Event, Hello, Request};
use corebeat::wire::native;

use super::disk::Disk;
use super::ear::{BIN, Ear, JSON, Reply, upgrade};
pub(crate) use super::peer::{Client, Fate};
use super::peer::{Peer, Tongue};
use super::speech::hello;

/// A room at home on each shard.
pub(crate) const ROOMS: [&str; SHARDS] = ["attic", "porch", "lobby"];
/// How many shards a world has.
pub(crate) const SHARDS: usize = 3;
/// Letters that the mailbox of a stalled shard holds.
pub(crate) const MAILBOX: usize = 4;
/// The node that the world's heartbeats come from.
pub(crate) const NODE: NodeId = NodeId(7);
/// When the world begins, on the wall clock.
pub(crate) const BEGINNING_MS: u64 = 1_790_000_000_000;

/// Shards, their mail, their clients and their time.
pub(crate) struct World {
    pub(super) shards: Vec<Shard>,
    mailboxes: Vec<VecDeque<(ShardId, Mail)>>,
    peers: Vec<Peer>,
    /// For each shard and slot, who is there.
    slots: Vec<Vec<Option<Client>>>,
    /// Clients with bytes for the server.
    ready: VecDeque<Client>,
    /// Clients whose connections broke in this turn.
    broken: Vec<Client>,
    /// A shard that gets no turn, so that its mailbox fills.
    stalled: Option<usize>,
    pub(super) now: Now,
    pub(super) secret: [u64; 2],
    /// Which life each shard lives.
    lives: Vec<u32>,
    /// How the shards were set up.
    configs: Vec<ShardConfig>,
    /// What outlives the shards.
    pub(super) disk: Option<Disk>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|_| ())
    }

    /// A world whose shards are set up in another way.
    pub(crate) fn with(change: impl Fn(&mut ShardConfig)) -> World {
        let secret = homely_secret(0);
        let now = Now { mono: Mono(12_345), wall_ms: BEGINNING_MS };
        let config = |id| {
            let mut config = ShardConfig {
                shard: ShardId(id),
                shards: SHARDS as u16,
                node: NODE,
                limits: Limits { max_connections: 1_024, ..Limits::default() },
                heartbeat: HeartbeatPolicy::default(),
                seed: u64::from(id),
                secret,
                publish_everyone: true,
                overflow: Default::default(),
                durability: None,
                web: WebConfig::default(),
            };
            change(&mut config);
            config
        };
        let configs: Vec<ShardConfig> = (0..SHARDS as u16).map(config).collect();
        World {
            shards: configs.iter().map(|config| Shard::new(config.clone(), now)).collect(),
            mailboxes: vec_of(SHARDS),
            peers: Vec::new(),
            slots: vec_of(SHARDS),
            ready: VecDeque::new(),
            broken: Vec::new(),
            stalled: None,
            now,
            secret,
            lives: vec![0; SHARDS],
            disk: configs[0].durability.map(|_| Disk::default()),
            configs,
        }
    }

    /// The process is killed and starts again on what its disk has. Where its end is `torn`,
    /// something that was told may be missing.
    pub(crate) fn crashes(&mut self, torn: bool) {
        // Each process has a secret of its own.
        self.secret = homely_secret(self.secret[0] + 1);
        let disk = self.disk.as_mut().expect("a world with a disk");
        let parts = disk.crash(self.secret, torn);
        self.mailboxes = vec_of(SHARDS);
        self.slots = vec_of(SHARDS);
        self.ready.clear();
        // The clock of the wall goes on, which new direct messages are numbered by.
        self.now = Now { mono: Mono(1), wall_ms: self.now.wall_ms + 1_000 };
        for ((config, part), shard) in self.configs.iter_mut().zip(parts).zip(&mut self.shards) {
            config.secret = self.secret;
            *shard = Shard::new(config.clone(), self.now);
            shard.recover(part, self.now);
        }
        self.settle();
    }

    /// A shard's worker panics, and begins anew with another one in its place. The clients hear the
    /// last words and come back or not.
    pub(crate) fn panics(&mut self, shard: usize) {
        for client in self.slots[shard].drain(..).flatten() {
            let peer = &mut self.peers[client.0];
            let words = self.shards[shard].last_words(peer.conn, 500, self.now);
            let _ = peer.take(&words, self.now.mono.0);
            peer.fate = Fate::Closed(CloseReason::WorkerPanicked);
        }
        self.lives[shard] += 1;
        let (config, counted) = (self.configs[shard].clone(), *self.shards[shard].counters());
        let mut anew = Shard::begin_anew(config, self.lives.clone(), counted, self.now);
        if let Some(disk) = &mut self.disk {
            anew.recover(disk.reload(shard, self.secret), self.now);
        }
        self.shards[shard] = anew;
    }

    /// The same, and everything that comes of it happens.
    pub(crate) fn panics_and_settles(&mut self, shard: usize) {
        self.panics(shard);
        self.settle();
    }

    /// What clients said is read, and a shard gets one turn.
    pub(crate) fn turns(&mut self, shard: usize) {
        self.read_phase();
        let _ = self.turn(shard);
    }

    /// A native client that says hello, which nobody has read yet.
    pub(crate) fn greets(&mut self, shard: usize, hello: Hello<'_>) -> Client {
        let client = self.connect(shard);
        self.utters(client, Request::Hello(hello));
        client
    }

    /// The connection breaks, and nothing comes of it yet.
    pub(crate) fn breaks(&mut self, client: Client) {
        let (shard, conn) = (self.peers[client.0].shard, self.peers[client.0].conn);
        while let Some(verdict) = self.shards[shard].poll_verdict() {
            self.obey(shard, verdict);
        }
        if matches!(self.peers[client.0].fate, Fate::Closed(_)) {
            return;
        }
        self.shards[shard].closed(conn, CloseReason::SocketError, 0, self.now);
        self.note_closings(shard);
        self.slots[shard][conn.slot()] = None;
        self.peers[client.0].fate = Fate::Closed(CloseReason::SocketError);
    }

    /// As whom a native client was welcomed.
    pub(crate) fn user_of(&self, client: Client) -> String {
        self.peers[client.0].user.clone()
    }

    /// Bytes that a client sends and nobody has read yet.
    pub(crate) fn utters(&mut self, client: Client, request: Request<'_>) {
        let peer = &mut self.peers[client.0];
        let bytes = peer.encode(&request);
        peer.upward.extend(bytes);
        self.ready.push_back(client);
    }

    /// A connection that has said nothing.
    pub(crate) fn connect(&mut self, shard: usize) -> Client {
        let client = Client(self.peers.len());
        let slots = &mut self.slots[shard];
        let slot = slots.iter().position(Option::is_none).unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[slot] = Some(client);
        let conn = ConnId::new(slot, client.0 as u32);
        self.peers.push(Peer::new(shard, conn));
        self.shards[shard].open(conn, self.now);
        client
    }

    /// The connection is beyond a limit, says the shell, which counts them.
    pub(crate) fn is_beyond(&mut self, client: Client, excess: Excess) {
        let (shard, conn) = (self.peers[client.0].shard, self.peers[client.0].conn);
        self.shards[shard].hold_to_refuse(conn, excess);
    }

    /// Every worker is under this pressure from now on.
    pub(crate) fn presses(&mut self, pressure: Pressure) {
        (0..SHARDS).for_each(|shard| self.presses_on(shard, pressure));
    }

    /// One worker is under this pressure from now on, and the others know whether it is overloaded.
    pub(crate) fn presses_on(&mut self, shard: usize, pressure: Pressure) {
        self.shards[shard].note_pressure(pressure, Readings::default());
        for other in &mut self.shards {
            other.note_overload_somewhere(pressure.pauses_accepting());
        }
        self.settle();
    }

    /// A native client that was welcomed.
    pub(crate) fn native(&mut self, shard: usize, user: &str) -> Client {
        let client = self.greet(shard, hello(user));
        assert_eq!(self.heard(client), [format!("welcome {user}")]);
        client
    }

    /// A native client that has said this hello and not yet listened.
    pub(crate) fn greet(&mut self, shard: usize, hello: Hello<'_>) -> Client {
        let client = self.connect(shard);
        self.peers[client.0].crc = hello.crc;
        self.say(client, Request::Hello(hello));
        client
    }

    /// The session that began on a client's connection, and the key to it.
    pub(crate) fn session(&self, client: Client) -> (u64, u64) {
        let peer = &self.peers[client.0];
        let id = SessionId::born_at(Address::new(ShardId(peer.shard as u16), peer.conn)).to_bits();
        (id, NameHasher::new(self.secret).seal(id))
    }

    /// A native client that asks for the session that began with `first`, and has not yet listened.
    pub(crate) fn comes_back(&mut self, shard: usize, first: Client) -> Client {
        let (session, resume_key) = self.session(first);
        self.greet(shard, Hello { session, resume_key, ..hello("") })
    }

    /// A text client in the lobby that has read its greeting.
    pub(crate) fn text(&mut self, shard: usize, user: &str) -> Client {
        let client = self.text_connection(shard);
        self.types(client, &format!("/nick {user}"));
        let greeting = self.heard(client);
        assert_eq!(greeting[0], format!("* welcome {user}"));
        assert!(greeting[1].starts_with("* you are in lobby"), "{greeting:?}");
        assert_eq!(greeting.len(), 2, "{greeting:?}");
        client
    }

    /// A connection whose answers are to be read as lines.
    pub(crate) fn text_connection(&mut self, shard: usize) -> Client {
        let client = self.connect(shard);
        self.peers[client.0].tongue = Tongue::Text;
        client
    }

    /// A connection whose answers are HTTP responses.
    pub(crate) fn browser(&mut self, shard: usize) -> Client {
        let client = self.connect(shard);
        self.peers[client.0].tongue = Tongue::Http;
        client
    }

    /// The HTTP responses that a client got since it was last asked.
    pub(crate) fn responses(&mut self, client: Client) -> Vec<Reply> {
        let peer = &mut self.peers[client.0];
        peer.raw.clear();
        let (replies, used) = Reply::all(&peer.half);
        peer.half.drain(..used);
        replies
    }

    /// A WebSocket of `path` that was opened; `subprotocol` is asked for unless it is empty.
    pub(crate) fn websocket(&mut self, shard: usize, path: &str, subprotocol: &str) -> Client {
        let client = self.browser(shard);
        self.send(client, upgrade(path, subprotocol, "").as_bytes());
        self.switch(client, subprotocol);
        client
    }

    /// The client's upgrade was answered: from here on it speaks frames.
    pub(crate) fn switch(&mut self, client: Client, subprotocol: &str) -> Reply {
        let mut replies = self.responses(client);
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].status, 101, "{replies:?}");
        let peer = &mut self.peers[client.0];
        peer.tongue = Tongue::Web(Box::new(Ear::new(subprotocol)));
        peer.take(&[], self.now.mono.0);
        replies.remove(0)
    }

    /// A client of this subprotocol that was welcomed.
    pub(crate) fn web(&mut self, shard: usize, subprotocol: &str, user: &str) -> Client {
        let client = self.websocket(shard, "/ws", subprotocol);
        self.say(client, Request::Hello(hello(user)));
        assert_eq!(self.heard(client), [format!("welcome {user}")]);
        client
    }

    /// A WebSocket client that speaks JSON and was welcomed.
    pub(crate) fn json(&mut self, shard: usize, user: &str) -> Client {
        self.web(shard, JSON, user)
    }

    /// A WebSocket client that speaks native frames and was welcomed.
    pub(crate) fn bin(&mut self, shard: usize, user: &str) -> Client {
        self.web(shard, BIN, user)
    }

    /// The client will ask for checksums, and expects them.
    pub(crate) fn wants_crc(&mut self, client: Client) {
        self.peers[client.0].crc = true;
    }

    /// A native client makes a request, and everything that comes of it happens.
    pub(crate) fn say(&mut self, client: Client, request: Request<'_>) {
        let bytes = self.peers[client.0].encode(&request);
        self.send(client, &bytes);
    }

    /// A text client types a line.
    pub(crate) fn types(&mut self, client: Client, line: &str) {
        self.send(client, format!("{line}\n").as_bytes());
    }

    /// A client sends bytes, and everything that comes of them happens.
    pub(crate) fn send(&mut self, client: Client, bytes: &[u8]) {
        self.peers[client.0].upward.extend(bytes);
        self.ready.push_back(client);
        self.settle();
    }

    /// What a client heard since it was last asked, in words or lines.
    pub(crate) fn heard(&mut self, client: Client) -> Vec<String> {
        self.heard_when(client).into_iter().map(|(_, words)| words).collect()
    }

    /// What a client heard since it was last asked, with the time on the world's clock.
    pub(crate) fn heard_when(&mut self, client: Client) -> Vec<(u64, String)> {
        let peer = &mut self.peers[client.0];
        let is_http = matches!(peer.tongue, Tongue::Http);
        assert!(is_http || peer.half.is_empty(), "half a frame or line was sent: {:?}", peer.half);
        std::mem::take(&mut peer.heard)
    }

    /// What a client heard whole, while half a frame may have come behind it.
    pub(crate) fn heard_whole(&mut self, client: Client) -> Vec<String> {
        let heard = std::mem::take(&mut self.peers[client.0].heard);
        heard.into_iter().map(|(_, words)| words).collect()
    }

    /// Forgets what everybody heard, so that a test can begin.
    pub(crate) fn hush(&mut self) {
        for peer in &mut self.peers {
            peer.heard.clear();
            peer.raw.clear();
        }
    }

    /// The bytes a client got since this was last asked.
    pub(crate) fn raw(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.peers[client.0].raw)
    }

    /// Lets a test read the last event of a native client as it is.
    pub(crate) fn last_event<T>(&mut self, client: Client, read: impl FnOnce(Event<'_>) -> T) -> T {
        let raw = self.raw(client);
        let mut rest = &raw[..];
        loop {
            let (frame, used) = native::frame(rest, usize::MAX).unwrap().expect("whole frames");
            rest = &rest[used..];
            if rest.is_empty() {
                return read(native::event(&frame).unwrap().expect("a known type"));
            }
        }
    }

    /// Lets a test read each event that a native client got since this was last asked.
    pub(crate) fn each_event(&mut self, client: Client, mut read: impl FnMut(Event<'_>)) {
        let raw = self.raw(client);
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let (frame, used) = native::frame(rest, usize::MAX).unwrap().expect("whole frames");
            rest = &rest[used..];
            read(native::event(&frame).unwrap().expect("a known type"));
        }
    }

    /// Every shard is told what `/readyz` is to say.
    pub(crate) fn note_readiness(&mut self, readiness: Readiness) {
        self.shards.iter_mut().for_each(|shard| shard.note_readiness(readiness));
    }

    /// Lets a test read the last binary message of a WebSocket client as it is.
    pub(crate) fn last_message<T>(
        &mut self,
        client: Client,
        read: impl FnOnce(Event<'_>) -> T,
    ) -> T {
        let raw = self.raw(client);
        let start = raw.iter().rposition(|byte| *byte == native::MAGIC).expect("a frame");
        let (frame, _) = native::frame(&raw[start..], usize::MAX).unwrap().expect("whole");
        read(native::event(&frame).unwrap().expect("a known type"))
    }

    pub(crate) fn fate(&self, client: Client) -> Fate {
        self.peers[client.0].fate
    }

    /// What was known of the client when the end of its connection was decided.
    pub(crate) fn closing(&self, client: Client) -> &Closing {
        self.peers[client.0].closing.as_ref().expect("its end was decided")
    }

    /// After how many seconds the kernel was asked to give the client up, if it was.
    pub(crate) fn patience_s(&self, client: Client) -> Option<u16> {
        self.peers[client.0].patience_s
    }

    /// Whether the kernel was asked to probe the client's host.
    pub(crate) fn is_probed(&self, client: Client) -> bool {
        self.peers[client.0].probed
    }

    /// The client answers pings from now on.
    pub(crate) fn answers_pings(&mut self, client: Client) {
        self.peers[client.0].answers_pings = true;
    }

    /// The client answers pings no more.
    pub(crate) fn stops_answering(&mut self, client: Client) {
        self.peers[client.0].answers_pings = false;
    }

    /// The client reads no more.
    pub(crate) fn stops_reading(&mut self, client: Client) {
        self.peers[client.0].window = 0;
    }

    /// The last bytes that went to the client will not arrive.
    pub(crate) fn loses_last(&mut self, client: Client, bytes: usize) {
        self.peers[client.0].unacknowledged = bytes;
    }

    /// The client reads so many bytes more, and no others.
    pub(crate) fn reads(&mut self, client: Client, bytes: usize) {
        let peer = &mut self.peers[client.0];
        peer.window = bytes;
        if std::mem::take(&mut peer.blocked) {
            self.shards[peer.shard].writable(peer.conn);
        }
        self.settle();
    }

    /// The client sends its last bytes together with the end of its side.
    pub(crate) fn send_and_half_close(&mut self, client: Client, bytes: &[u8]) {
        self.peers[client.0].ended = true;
        self.send(client, bytes);
    }

    /// The client will send no more, but listens.
    pub(crate) fn half_closes(&mut self, client: Client) {
        self.peers[client.0].ended = true;
        self.ready.push_back(client);
        self.settle();
    }

    /// The connection breaks.
    pub(crate) fn vanishes(&mut self, client: Client) {
        let (shard, conn) = (self.peers[client.0].shard, self.peers[client.0].conn);
        let unacknowledged = self.peers[client.0].unacknowledged;
        self.shards[shard].closed(conn, CloseReason::SocketError, unacknowledged, self.now);
        self.note_closings(shard);
        self.slots[shard][conn.slot()] = None;
        self.peers[client.0].fate = Fate::Closed(CloseReason::SocketError);
        self.settle();
    }

    /// The client hangs up and reads no more, and its connection breaks when the server writes what
    /// was waiting for it, in the turn in which it sees it hang up.
    pub(crate) fn half_closes_and_breaks(&mut self, client: Client) {
        let peer = &mut self.peers[client.0];
        (peer.ended, peer.breaks, peer.blocked) = (true, true, false);
        self.shards[peer.shard].writable(peer.conn);
        self.ready.push_back(client);
        self.settle();
    }

    /// Whether the heart wants the client's bytes read.
    pub(crate) fn wants_input(&self, client: Client) -> bool {
        let peer = &self.peers[client.0];
        self.shards[peer.shard].wants_input(peer.conn)
    }

    /// Every shard drains, at once.
    pub(crate) fn drain(&mut self, reason: &str) {
        self.drain_by(DrainPlan::at_once(reason));
    }

    /// Every shard drains by `plan`.
    pub(crate) fn drain_by(&mut self, plan: DrainPlan) {
        let plan = Arc::new(plan);
        for shard in &mut self.shards {
            shard.drain(Arc::clone(&plan), self.now);
        }
        self.settle();
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// The numbers of all shards together.
    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for shard in &self.shards {
            sum.add(shard.counters());
        }
        sum
    }

    pub(crate) fn holdings(&self) -> Vec<Holdings> {
        self.shards.iter().map(Shard::holdings).collect()
    }

    /// Time passes, and what becomes due is done when it is due.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        loop {
            let next = self.shards.iter().filter_map(Shard::next_deadline).min();
            let Some(due) = next.filter(|due| *due <= end.mono) else {
                break;
            };
            self.now = self.now.plus_ms(due.since_ms(self.now.mono));
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// Somebody sets the clock by which people live. No time passes.
    pub(crate) fn set_clock(&mut self, by_ms: i64) {
        self.now.wall_ms = self.now.wall_ms.checked_add_signed(by_ms).unwrap();
        self.settle();
    }

    /// Time passes while no shard gets to run.
    pub(crate) fn suspend_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.settle();
    }

    /// A shard gets no turn any more, and takes no more mail than its mailbox holds.
    pub(crate) fn stall(&mut self, shard: usize) {
        self.stalled = Some(shard);
    }

    /// Every shard gets its turns again.
    pub(crate) fn go_on(&mut self) {
        self.stalled = None;
        self.settle();
    }

    /// Time passes, a client sends bytes, and each shard gets one turn however much is left.
    pub(crate) fn hurry_ms(&mut self, ms: u64, client: Client, bytes: &[u8]) {
        self.now = self.now.plus_ms(ms);
        self.peers[client.0].upward.extend(bytes);
        self.ready.push_back(client);
        self.read_phase();
        for shard in 0..SHARDS {
            self.turn(shard);
        }
    }

    /// Turns follow one another until nothing is left to do at this instant.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut busy = false;
            self.read_phase();
            for shard in 0..SHARDS {
                busy |= self.turn(shard);
            }
            let is_empty = |(index, mailbox): (usize, &VecDeque<_>)| {
                mailbox.is_empty() || self.stalled == Some(index)
            };
            if !busy && self.ready.is_empty() && self.mailboxes.iter().enumerate().all(is_empty) {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn read_phase(&mut self) {
        for _ in 0..self.ready.len() {
            let client = self.ready.pop_front().expect("they were just counted");
            let peer = &mut self.peers[client.0];
            let shard = &mut self.shards[peer.shard];
            if peer.paused || matches!(peer.fate, Fate::Closed(_)) {
                continue;
            }
            if !shard.wants_input(peer.conn) {
                peer.paused = true;
                continue;
            }
            let count = peer.upward.len().min(READ_CHUNK);
            let bytes: Vec<u8> = peer.upward.drain(..count).collect();
            if !bytes.is_empty() {
                shard.receive(peer.conn, &bytes, self.now);
                self.ready.push_back(client);
            } else if peer.ended {
                shard.end_of_input(peer.conn, self.now);
            }
        }
    }

    fn turn(&mut self, index: usize) -> bool {
        if self.stalled == Some(index) {
            return false;
        }
        let shard = &mut self.shards[index];
        let mut progress = [shard.retry_mail(), Progress::Done, Progress::Done];
        let mut letters = std::mem::take(&mut self.mailboxes[index]);
        let mut busy = !letters.is_empty();
        for (from, mail) in letters.drain(..) {
            shard.mail(from, mail, self.now);
        }
        progress[1] = shard.expire(self.now);
        progress[2] = shard.fan_out(self.now);
        while let Some((to, mail)) = shard.poll_mail() {
            assert_ne!(to.index(), index, "a shard's own mail never leaves it");
            let mailbox = &mut self.mailboxes[to.index()];
            if self.stalled == Some(to.index()) && mailbox.len() >= MAILBOX {
                progress[0] = Progress::Done;
                shard.mail_refused(to, mail);
            } else {
                mailbox.push_back((ShardId(index as u16), mail));
            }
        }
        if let Some(disk) = &mut self.disk {
            let generation = self.shards[index].store_generation();
            while let Some((ticket, record)) = self.shards[index].poll_write() {
                disk.hand(index, ticket, generation, record);
            }
        }
        while let Some(conn) = self.shards[index].poll_dirty() {
            busy = true;
            let client = self.slots[index][conn.slot()].expect("the dirty are there");
            self.flush(client);
        }
        self.note_closings(index);
        while let Some(verdict) = self.shards[index].poll_verdict() {
            busy = true;
            self.obey(index, verdict);
        }
        for client in std::mem::take(&mut self.broken) {
            let peer = &mut self.peers[client.0];
            peer.fate = Fate::Closed(CloseReason::SocketError);
            self.slots[index][peer.conn.slot()] = None;
        }
        let overdue = self.shards[index].next_deadline().is_some_and(|due| due <= self.now.mono);
        busy || overdue || progress.contains(&Progress::More)
    }

    fn flush(&mut self, client: Client) {
        let peer = &mut self.peers[client.0];
        let shard = &mut self.shards[peer.shard];
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let filled = shard.gather(peer.conn, &mut slices);
        let mut bytes: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
        assert!(!bytes.is_empty(), "a dirty connection has bytes");
        if peer.breaks {
            shard.closed(peer.conn, CloseReason::SocketError, peer.unacknowledged, self.now);
            self.broken.push(client);
            return;
        }
        let offered = bytes.len();
        bytes.truncate(peer.window);
        if peer.window != usize::MAX {
            peer.window -= bytes.len();
        }
        if !bytes.is_empty() {
            shard.sent(peer.conn, bytes.len(), self.now);
        }
        if bytes.len() < offered {
            peer.blocked = true;
            shard.blocked(peer.conn, self.now);
        }
        assert!(!matches!(peer.fate, Fate::Closed(_)), "a closed connection got bytes");
        if peer.take(&bytes, self.now.mono.0) {
            self.ready.push_back(client);
        }
    }

    fn note_closings(&mut self, shard: usize) {
        while let Some(closing) = self.shards[shard].poll_closing() {
            let client = self.slots[shard][closing.conn.slot()].expect("who ends is still there");
            let peer = &mut self.peers[client.0];
            assert_eq!(peer.conn, closing.conn, "the end of an earlier connection of the slot");
            assert!(peer.closing.is_none(), "an end is decided once");
            peer.closing = Some(closing);
        }
    }

    fn obey(&mut self, shard: usize, verdict: Verdict) {
        let conn = verdict.conn();
        let client = self.slots[shard][conn.slot()].expect("verdicts are about the living");
        if self.broken.contains(&client) && !matches!(verdict, Verdict::Measure(_)) {
            return;
        }
        let peer = &mut self.peers[client.0];
        assert_eq!(peer.conn, conn, "a verdict about an earlier connection of the slot");
        match verdict {
            Verdict::Shutdown(_) => {
                peer.fate = Fate::HalfClosed;
                peer.paused = false;
                self.ready.push_back(client);
            }
            Verdict::Close(_, reason) => {
                assert_eq!(peer.closing.as_ref().map(|closing| closing.reason), Some(reason));
                peer.fate = Fate::Closed(reason);
                self.slots[shard][conn.slot()] = None;
            }
            Verdict::ProbeHost(_) => peer.probed = true,
            Verdict::GiveUpAfter(_, timeout_s) => peer.patience_s = Some(timeout_s),
            Verdict::Measure(_) => {
                let unacknowledged = peer.unacknowledged;
                self.shards[shard].measured(conn, unacknowledged, self.now);
            }
            Verdict::LookAtReader(_) => {
                let unacknowledged = peer.unacknowledged;
                self.shards[shard].looked_at_reader(conn, unacknowledged, self.now);
            }
            Verdict::Resume(_) => {
                peer.paused = false;
                self.ready.push_back(client);
            }
        }
    }
}

fn vec_of<T: Default>(count: usize) -> Vec<T> {
    std::iter::repeat_with(T::default).take(count).collect()
}

/// The first secret from `key` on with which each of the rooms lives on its shard.
fn homely_secret(key: u64) -> [u64; 2] {
    let is_homely = |secret: &[u64; 2]| {
        let hasher = NameHasher::new(*secret);
        let home_of = |room: &str| home(hasher.hash(room), SHARDS as u16).index();
        (0..SHARDS).all(|shard| home_of(ROOMS[shard]) == shard)
    };
    (key..).map(|key| [key, 1]).find(is_homely).expect("some key is homely")
}
