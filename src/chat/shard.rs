//! The seam between the heart and its shells.
//!
//! Owns all of one worker's sessions and rooms. Never blocks, never fails: a peer's mistake becomes
//! a close with a reason, a full mailbox becomes letters that wait. A shell calls it one mutation
//! at a time and then takes out what came of it:
//!
//! ```text
//!  in   open · receive · end_of_input · closed · measured · mail · written / write_failed
//!       expire · fan_out · drain · note_pressure
//!  out  poll_mail · poll_write · poll_closing · poll_verdict
//!       poll_dirty → gather → sent / blocked … writable
//! ```
//!
//! Calls that name a connection which is gone do nothing, so a shell may be late with them.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::base::counters::{CloseReason, Counters};
use crate::base::ids::{Address, ConnId, NodeId, ShardId};
use crate::base::limits::{
    BATCHES_KEPT, BUFFER_KEPT_BYTES, CONNECTIONS_RESERVED, LINGER_MS, Limits, OUTBOXES_KEPT,
};
use crate::base::name::EVERYONE;
use crate::base::time::{Mono, Now, Tick};
use crate::base::wheel::Wheel;

use super::agenda::Agenda;
use super::awaited::Questions;
use super::batch::ChunkPool;
use super::catch_up::CatchUps;
use super::census::Census;
use super::closing::Closing;
use super::config::{ShardConfig, WebConfig};
use super::detach::Loss;
use super::direct_feed::LateAcks;
use super::directory::Directory;
use super::drain::{Drain, Readiness};
use super::hash::{self, NameHasher};
use super::heartbeat::HeartbeatPolicy;
pub use super::holdings::Holdings;
use super::home::{HomeKey, HomeTable};
use super::inboxes::Inboxes;
use super::journal::Journal;
use super::lives::Lives;
use super::mail::{Ending, Mail};
use super::membership::{RoomKey, Stay};
use super::meters::Meters;
use super::outbox::OutboxPool;
use super::patience::Patience;
use super::postbag::Postbag;
use super::pulse::{Network, Pulses};
use super::recovery::Archive;
use super::relief::Relief;
use super::resume::Keeping;
use super::room::{Audience, RoomTable};
use super::session::{Marks, SessionTable, State};
use super::shedding::Strain;
use super::stats::{Gathering, Longest, RoundTrips, Speakers};
use super::web::WebDesk;
use super::whereabouts::Telling;

/// Direct messages are numbered from the time of the start in milliseconds, shifted by so much:
/// more than a home takes in a millisecond, and within what a JavaScript number holds exactly.
const DIRECT_ID_SHIFT: u32 = 10;

/// Whether a budgeted phase has work left for the next turn, which then must not sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All of it was done.
    Done,
    /// The budget ended first.
    More,
}

/// What the heart wants done to a connection at the end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All bytes are out: half-close, and read on (the heart discards) until the peer hangs up or
    /// the heart says [`Verdict::Close`]. A reset would take the last bytes away from the peer.
    Shutdown(ConnId),
    /// Drop the socket. The heart has forgotten the connection.
    Close(ConnId, CloseReason),
    /// It speaks text and has no PONG to send: let the kernel probe its host.
    ProbeHost(ConnId),
    /// Read from it again: [`Shard::wants_input`] had become false, and is true again.
    Resume(ConnId),
    /// Have the kernel give it up when what was sent to it is not taken for so long: the timeout of
    /// its heartbeat, where that is not the server's own.
    GiveUpAfter(ConnId, u16),
    /// Tell by [`Shard::measured`] how many bytes the peer's kernel has not acknowledged: its
    /// session is kept, and may have to be sent them again.
    Measure(ConnId),
    /// Tell by [`Shard::looked_at_reader`] how many bytes the peer's kernel has not acknowledged:
    /// it may have stopped reading.
    LookAtReader(ConnId),
}

impl Verdict {
    /// Which connection it is about.
    pub fn conn(self) -> ConnId {
        match self {
            Verdict::Shutdown(conn)
            | Verdict::Close(conn, _)
            | Verdict::ProbeHost(conn)
            | Verdict::Resume(conn)
            | Verdict::GiveUpAfter(conn, _)
            | Verdict::Measure(conn)
            | Verdict::LookAtReader(conn) => conn,
        }
    }
}

/// All of one worker's sessions and rooms. See the [module](self).
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) shards: u16,
    pub(super) node: NodeId,
    pub(super) limits: Limits,
    pub(super) policy: HeartbeatPolicy,
    /// Where heartbeats adapt to their networks.
    pub(super) pulses: Option<Box<Pulses>>,
    pub(super) publish_everyone: bool,
    pub(super) web: WebConfig,
    pub(super) hasher: NameHasher,
    pub(super) dice: fastrand::Rng,

    pub(super) sessions: SessionTable,
    pub(super) rooms: RoomTable,
    pub(super) homes: HomeTable,
    pub(super) directory: Directory,
    pub(super) inboxes: Inboxes,
    /// Acknowledgements of direct messages that wait because a home's mail is at its bound.
    pub(super) late_acks: LateAcks,
    pub(super) wheel: Wheel,
    pub(super) outboxes: OutboxPool,
    pub(super) chunks: ChunkPool,
    pub(super) archive: Archive,
    pub(super) catch_ups: CatchUps,

    pub(super) postbag: Postbag,
    /// What others were asked and have not answered.
    pub(super) questions: Questions,
    /// Which of the shards have begun anew.
    pub(super) lives: Lives,
    /// Rosters that are counted anew because one has.
    pub(super) census: Option<Box<Census>>,
    /// What is written to the disk; none where all is in memory.
    pub(super) journal: Option<Box<Journal>>,
    pub(super) dirty: VecDeque<ConnId>,
    pub(super) verdicts: VecDeque<Verdict>,
    /// Connections whose end was decided, and what was known of them.
    pub(super) closings: VecDeque<Closing>,
    pub(super) resuming: Vec<ConnId>,
    /// Connections whose outboxes grew beyond their bound in the fan-out, or while it parts.
    pub(super) overflowed: Vec<ConnId>,
    pub(super) relief: Relief,
    /// Rooms with queued news.
    pub(super) active: VecDeque<RoomKey>,
    /// Homes with messages of this turn.
    pub(super) open_homes: Vec<HomeKey>,
    /// Homes with shards that lost messages and were not told yet.
    pub(super) lossy_homes: Vec<HomeKey>,
    pub(super) agenda: Agenda,
    pub(super) patience: Patience,
    pub(super) meters: Meters,
    pub(super) drain: Option<Box<Drain>>,
    pub(super) readiness: Readiness,
    pub(super) strain: Strain,
    /// Sessions without connections.
    pub(super) keeping: Keeping,
    /// Users whose coming and going is being told.
    pub(super) tellings: VecDeque<Telling>,

    /// When the pools were last trimmed.
    pub(super) trimmed_at: Mono,
    /// Silence before this instant is forgiven.
    pub(super) amnesty_at: Mono,
    pub(super) last_stay: Stay,
    pub(super) guests: u64,
    pub(super) pings: u32,
    pub(super) counters: Counters,
    /// Live sessions, by what they speak.
    pub(super) speakers: Speakers,
    pub(super) round_trips: RoundTrips,
    /// Since the last look at the numbers.
    pub(super) longest: Longest,
    pub(super) gathering: Gathering,
    pub(super) web_desk: WebDesk,
}

impl Shard {
    /// A shard without connections.
    pub fn new(config: ShardConfig, now: Now) -> Shard {
        let mut shard = Shard::empty(config, now);
        shard.furnish(now);
        shard
    }

    /// A shard without anything, the room `*` included.
    fn empty(config: ShardConfig, now: Now) -> Shard {
        let hasher = NameHasher::new(config.secret);
        let reserved = config.limits.max_connections.min(CONNECTIONS_RESERVED);
        Shard {
            id: config.shard,
            shards: config.shards,
            node: config.node,
            limits: config.limits,
            policy: config.heartbeat,
            pulses: (config.heartbeat.stretch > 1).then(|| Box::new(Pulses::new(config.heartbeat))),
            publish_everyone: config.publish_everyone,
            web: config.web,
            hasher,
            dice: fastrand::Rng::with_seed(config.seed),
            sessions: SessionTable::with_capacity(reserved),
            rooms: RoomTable::new(hasher, config.overflow),
            homes: HomeTable::new(hasher),
            directory: Directory::default(),
            inboxes: Inboxes::new(hasher, &config.limits, now.wall_ms << DIRECT_ID_SHIFT, now),
            late_acks: LateAcks::default(),
            wheel: Wheel::new(now.mono),
            outboxes: OutboxPool::new(OUTBOXES_KEPT, BUFFER_KEPT_BYTES),
            chunks: ChunkPool::new(BATCHES_KEPT, BUFFER_KEPT_BYTES),
            archive: Archive::default(),
            catch_ups: CatchUps::default(),
            postbag: Postbag::new(config.shards),
            questions: Questions::new(config.shards),
            lives: Lives::first(config.shards),
            census: None,
            journal: config.durability.map(|durability| Box::new(Journal::new(durability))),
            dirty: VecDeque::new(),
            verdicts: VecDeque::new(),
            closings: VecDeque::new(),
            resuming: Vec::new(),
            overflowed: Vec::new(),
            relief: Relief::default(),
            active: VecDeque::new(),
            open_homes: Vec::new(),
            lossy_homes: Vec::new(),
            agenda: Agenda::default(),
            patience: Patience::default(),
            meters: Meters::new(&config.limits),
            drain: None,
            readiness: Readiness::Starting,
            strain: Strain::default(),
            keeping: Keeping::default(),
            tellings: VecDeque::new(),
            trimmed_at: now.mono,
            amnesty_at: Mono(0),
            last_stay: Stay::default(),
            guests: 0,
            pings: 0,
            counters: Counters::default(),
            speakers: Speakers::default(),
            round_trips: RoundTrips::default(),
            longest: Longest::default(),
            gathering: Gathering::default(),
            web_desk: WebDesk::default(),
        }
    }

    /// What a shard has from its birth on.
    fn furnish(&mut self, now: Now) {
        if self.journal.is_some() {
            self.inboxes.gather_changes();
        }
        let (hash, everyone_home) = (self.hasher.hash(EVERYONE), self.everyone_home());
        self.rooms.find_or_add(EVERYONE, hash, everyone_home, Audience::Everyone);
        if everyone_home == self.id {
            self.add_everyone(now);
        }
    }

    /// A new socket. `conn.slot()` is the shell's slab key.
    pub fn open(&mut self, conn: ConnId, now: Now) {
        self.sessions.insert(conn, now.mono);
        self.counters.opened += 1;
        self.meters.open(conn.slot());
        let due = now.mono + self.limits.handshake_timeout_ms;
        self.agenda.await_hello(conn, now.mono, due);
        self.note_network(conn, Network::default());
    }

    /// Where a connection that was just opened comes from. Of use only while
    /// [`Shard::heartbeats_adapt`].
    pub fn note_network(&mut self, conn: ConnId, network: Network) {
        if let Some(pulses) = &mut self.pulses {
            pulses.open(conn.slot(), network);
        }
    }

    /// Whether heartbeats adapt to what is seen of the networks.
    pub fn heartbeats_adapt(&self) -> bool {
        self.pulses.is_some()
    }

    /// A connection was accepted, and handed to another worker.
    pub fn note_handed_over(&mut self) {
        self.counters.handed_over += 1;
    }

    /// Who waited to be accepted waited for so long at most.
    pub fn note_accept_stall(&mut self, stall_us: u64) {
        self.longest.accept_stall_us = self.longest.accept_stall_us.max(stall_us);
    }

    /// The worker's loop turned once, and was awake for so long.
    pub fn note_turn(&mut self, busy_us: u64) {
        self.counters.turns += 1;
        self.counters.busy_us += busy_us;
        self.longest.turn_us = self.longest.turn_us.max(busy_us);
    }

    /// The peer will send no more: read returned 0.
    ///
    /// What it asked for is still answered; then the connection is closed.
    pub fn end_of_input(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.marks.set(Marks::ENDED);
        match session.state {
            State::Closing(reason) if session.outbox.is_none() => self.forget(conn, reason),
            State::Closing(_) => {}
            State::Live(_) if session.awaits_answers() => {
                self.arm_at(conn, now, now.mono + LINGER_MS);
            }
            // It is closed when all of the responses have been sent.
            State::AwaitingNumbers => {}
            State::Browsing if session.outbox.is_some() => {}
            _ => self.close(conn, CloseReason::PeerClosed, None, now),
        }
    }

    /// The socket failed, with so many bytes that the peer's kernel had not acknowledged. The shell
    /// drops it by itself.
    pub fn closed(&mut self, conn: ConnId, reason: CloseReason, unacknowledged: usize, now: Now) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if matches!(session.state, State::Closing(_)) {
            // Its verdict of this turn comes too late to measure what waits for it.
            self.take_measure(conn, unacknowledged, now);
        } else {
            self.note_closing(conn, reason, self.undelivered_in_outbox(conn), now);
            if self.is_to_be_kept(conn, reason) {
                self.detach(conn, Loss::Failed { unacknowledged }, now);
            } else {
                self.depart(conn, Ending::of(reason), now);
            }
        }
        self.remove(conn);
    }

    /// The answer to [`Verdict::Measure`]: so many bytes the peer's kernel has not acknowledged.
    /// There may be mail to post and bytes to send after it.
    pub fn measured(&mut self, conn: ConnId, unacknowledged: usize, now: Now) {
        self.take_measure(conn, unacknowledged, now);
    }

    /// The next letter to post. Call until `None`.
    ///
    /// Behind the letters of this turn come the gaps that had to wait for them: nobody would wake
    /// the worker for them later.
    pub fn poll_mail(&mut self) -> Option<(ShardId, Mail)> {
        let letter = self.postbag.pop();
        if letter.is_some() || self.lossy_homes.is_empty() {
            return letter;
        }
        self.post_gaps();
        self.postbag.pop()
    }

    /// The mailbox of `to` was full: the letter waits, and so do those behind it, until
    /// [`Shard::retry_mail`].
    pub fn mail_refused(&mut self, to: ShardId, mail: Mail) {
        self.postbag.put_back(to, mail);
    }

    /// A new turn: full mailboxes may have room again. [`Progress::More`] while letters wait.
    pub fn retry_mail(&mut self) -> Progress {
        self.postbag.retry();
        self.post_gaps();
        if self.postbag.is_empty() { Progress::Done } else { Progress::More }
    }

    /// A connection with bytes to send; each comes once until more is queued for it.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.dirty.pop_front() {
            if let Some(session) = self.sessions.get_mut(conn) {
                session.marks.clear(Marks::DIRTY);
                if session.outbox.is_some() && !session.marks.has(Marks::BLOCKED) {
                    return Some(conn);
                }
            }
        }
        None
    }

    /// The connection's bytes, for one vectored write; returns how many slices were filled.
    pub fn gather<'a>(&'a self, conn: ConnId, slices: &mut [IoSlice<'a>]) -> usize {
        match self.sessions.get(conn).and_then(|session| session.outbox.as_ref()) {
            Some(outbox) => outbox.gather(slices),
            None => 0,
        }
    }

    /// The kernel took `bytes`. If more wait, the connection is dirty again.
    pub fn sent(&mut self, conn: ConnId, bytes: usize, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some(outbox) = session.outbox.as_mut() else {
            return;
        };
        self.counters.bytes_out += bytes as u64;
        if let Some(pulses) = &mut self.pulses {
            pulses.sent(conn.slot(), now.mono);
        }
        outbox.sent(bytes, &mut self.outboxes, &mut self.chunks);
        let waiting = outbox.waiting();
        if session.marks.has(Marks::PAUSED_OR_FETCHING) {
            return self.was_read(conn, waiting, now);
        }
        if waiting > 0 {
            return self.mark_dirty(conn);
        }
        if let Some(emptied) = session.outbox.take() {
            let closing = matches!(session.state, State::Closing(_));
            self.outboxes.release_outbox(emptied, &mut self.chunks);
            if closing {
                self.all_sent(conn);
            }
        }
    }

    /// The kernel took nothing more: the connection is not dirty before [`Shard::writable`].
    pub fn blocked(&mut self, conn: ConnId, now: Now) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.marks.set(Marks::BLOCKED);
            self.time_reader(conn, now);
        }
    }

    /// The kernel has room again.
    pub fn writable(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.marks.clear(Marks::BLOCKED);
            if session.outbox.is_some() {
                self.mark_dirty(conn);
            }
        }
    }

    /// What to do to connections, in the last phase of a turn. Call until `None`.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// Whether the connection is to be read. False while it asks faster than it reads the answers
    /// or than it may, and until what is held of its input has been used.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        self.sessions.get(conn).is_some_and(|session| !session.marks.has(Marks::HELD_BACK))
    }

    /// Whether the connection is left unread because it was too fast.
    pub fn is_slowed(&self, conn: ConnId) -> bool {
        self.meters.is_slowed(conn)
    }

    /// When [`Shard::expire`] has something to do at the earliest. `None`: never, as things stand.
    pub fn next_deadline(&self) -> Option<Mono> {
        if !self.resuming.is_empty() || self.catch_ups.are_due(self.counters.bytes_out) {
            return Some(Mono(0));
        }
        let timers = self.wheel.next_due().map(Tick::starts_at);
        let drain = self.drain.as_ref().and_then(|drain| drain.next_step());
        let (directs, kept) = (self.inboxes.next_due(), self.next_kept_due());
        let (slowed, patience) = (self.meters.next(), self.patience.next());
        let due = [timers, self.agenda.next(), drain, directs, kept, slowed, patience];
        due.into_iter().flatten().min()
    }

    /// How many connections the heart knows.
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// What the shard's other files ask of it.
impl Shard {
    /// How other shards name a connection of this one.
    pub(super) fn address(&self, conn: ConnId) -> Address {
        Address::new(self.id, conn)
    }

    /// The home of what hashes to `hash`.
    pub(super) fn home_of(&self, hash: u64) -> ShardId {
        hash::home(hash, self.shards)
    }

    /// The home of the room `*`.
    pub(super) fn everyone_home(&self) -> ShardId {
        self.home_of(self.hasher.hash(EVERYONE))
    }

    /// Sends a letter, or takes it at once where it is this shard's own.
    pub(super) fn send(&mut self, to: ShardId, mail: Mail, now: Now) {
        if to == self.id {
            self.take_letter(to, mail, now);
        } else {
            self.counters.mail_out += 1;
            self.questions.note_asked(to, &mail);
            self.postbag.push(to, mail);
        }
    }

    /// Whether so much mail waits for `to` that nothing should be added which may be refused.
    pub(super) fn is_overloaded(&self, to: ShardId) -> bool {
        self.postbag.waiting_for(to) >= self.limits.max_mail_staged
    }
}
