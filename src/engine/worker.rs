//! The loop of one core.
//!
//! Owns one poll, one table of sockets, one door, one mailbox, and one
//! [`Shard`] around which it turns. Never decides anything about a
//! session or a message: it brings bytes, mail and time to the shard, and carries out what the
//! shard says. The server starts one worker a core.
//!
//! One turn: sleep, read the clock once, events and unread sockets, accept, mail, timers, fan-out,
//! post, flush, close. A phase that spends its budget is continued next turn, and that turn does
//! not sleep; so no crowd and no loud client delays anybody by more than one turn.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use log::debug;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::acceptor::Acceptor;
use super::parcel::{Command, News, Parcel, Report, Waiting};
use crate::base::clock::Clock;
use crate::base::counters::{CloseReason, Counters};
use crate::base::gcra::Rate;
use crate::base::ids::{ConnId, SHARDS_MAX, ShardId};
use crate::base::limits::{
    ACCEPT_BUDGET, CONNECTIONS_RESERVED, EVENTS_PER_TURN, MAIL_BUDGET, READ_CHUNK,
    REFUSALS_HELD_MAX, WRITE_SLICES, WRITE_SLICES_USUAL,
};
use crate::base::time::{Mono, Now};
use crate::chat::config::ShardConfig;
use crate::chat::drain::Readiness;
use crate::chat::excess::Excess;
use crate::chat::pulse::Network;
use crate::chat::shard::{Progress, Shard, Verdict};
use crate::net::addresses::{AddressBlock, Addresses, Source, share_of};
use crate::net::listener;
use crate::net::mailbox::{Receiver, Sender};
use crate::net::socket::{Arrival, Input};
use crate::net::socket_table::SocketTable;
use crate::store::intake::Submitter;
use crate::store::keeper::Submission;

/// The bell's token, and the door's. Connection ids have 52 bits, so these name no connection.
pub const BELL: Token = Token(usize::MAX);
const FIRST_DOOR: usize = usize::MAX - 1;
const LAST_DOOR: usize = FIRST_DOOR - SHARDS_MAX;
const _: () = assert!(LAST_DOOR as u64 > ConnId::BITS_MAX, "a door names no connection");
const _: () = assert!(usize::BITS == 64, "a mio token holds a connection id");

/// While letters wait for a full mailbox, a worker sleeps no longer than this.
const RETRY_MAIL: Duration = Duration::from_millis(1);

/// What a worker brings into its thread. All of it was opened before file tables became private.
pub struct Seat {
    /// The worker's poll.
    pub poll: Poll,
    /// Its own mailbox.
    pub mailbox: Receiver<Parcel>,
    /// Everybody's mailboxes, by shard.
    pub peers: Vec<Sender<Parcel>>,
    /// The steward's mailbox.
    pub steward: Sender<Report>,
    /// Where records are handed to the store; none where all is in memory.
    pub store: Option<Submitter<Submission>>,
    /// Addresses whose connections are not counted.
    pub exempt: Vec<AddressBlock>,
}

/// Whether the worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    Draining,
    /// Draining, and the steward knows that no connection is left.
    Emptied,
    Stopped,
}

/// A worker at its turns.
pub struct Worker {
    pub(super) shard: Shard,
    pub(super) id: ShardId,
    clock: Clock,
    pub(super) now: Now,
    life: Life,
    pub(super) seat: Seat,
    sockets: SocketTable,
    acceptor: Acceptor,
    addresses: Addresses,
    /// Where reads go before the shard sees them.
    scratch: Box<[u8]>,
    /// Sockets that failed in this turn, to be dropped in its close phase.
    failed: Vec<ConnId>,
    max_connections: usize,
    read_budget: usize,
    write_budget: usize,
    /// Some phase has work left: the next turn does not sleep.
    busy: bool,
    /// Letters wait for a full mailbox.
    letters_wait: bool,
    /// Records wait for room in the store's channel.
    pub(super) records_wait: bool,
}

impl Worker {
    /// A worker before its first turn. To be called on its own thread.
    pub fn new(config: ShardConfig, clock: Clock, seat: Seat) -> Worker {
        let now = clock.now();
        let limits = config.limits;
        let id = config.shard;
        let rate = Rate::new(limits.accept_rate, limits.accept_rate);
        let of_address = share_of(limits.max_connections_per_address, config.shards);
        Worker {
            id,
            clock,
            now,
            life: Life::Serving,
            addresses: Addresses::new(of_address, seat.exempt.clone()),
            seat,
            sockets: SocketTable::with_capacity(limits.max_connections.min(CONNECTIONS_RESERVED)),
            acceptor: Acceptor::new(id, rate),
            scratch: vec![0; READ_CHUNK].into_boxed_slice(),
            failed: Vec::new(),
            max_connections: limits.max_connections,
            read_budget: limits.read_budget,
            write_budget: limits.write_budget,
            busy: false,
            letters_wait: false,
            records_wait: false,
            shard: Shard::new(config, now),
        }
    }

    /// Gives it the doors that it is to open when it is told to.
    ///
    /// # Errors
    /// What the kernel says to their registration.
    pub fn add_doors(&mut self, listeners: Vec<TcpListener>) -> io::Result<()> {
        for listener in listeners {
            let token = Token(FIRST_DOOR - self.acceptor.doors());
            self.acceptor.add(listener, self.seat.poll.registry(), token)?;
        }
        Ok(())
    }

    /// Turns until it is told to stop. Returns its numbers.
    ///
    /// # Errors
    /// What the kernel says to the poll; a worker cannot go on without it.
    pub fn run(&mut self) -> io::Result<Counters> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while self.life != Life::Stopped {
            self.sleep(&mut events)?;
            let (now, woke_us) = self.clock.now_and_us();
            self.now = now;
            self.take_events(&events);
            self.turn();
            self.shard.note_turn(self.clock.us().saturating_sub(woke_us));
        }
        self.hand_over_the_rest();
        Ok(*self.shard.counters())
    }

    /// The connections that are open.
    pub fn connections(&self) -> usize {
        self.sockets.len()
    }

    /// Closes everything that was opened on this thread, and gives back what was not.
    pub fn leave(self) -> Seat {
        self.seat
    }

    /// All phases of a turn but the first.
    fn turn(&mut self) {
        let phases = [
            self.read_sockets(),
            self.accept_connections(),
            self.take_mail(),
            self.shard.expire(self.now),
            self.shard.fan_out(self.now),
        ];
        self.post_mail();
        self.hand_over_records();
        let flushed = self.flush();
        self.busy = phases.contains(&Progress::More) || flushed == Progress::More;
        self.close();
        self.tell_if_emptied();
    }

    /// Phase: waits for an event, a letter or the next deadline.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let mut timeout = self.longest_sleep();
        if timeout != Some(Duration::ZERO) && !self.seat.mailbox.may_sleep() {
            timeout = Some(Duration::ZERO);
        }
        let polled = self.seat.poll.poll(events, timeout);
        self.seat.mailbox.woke();
        match polled {
            // A signal arrived on this thread. There are no events, and the turn goes on without.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// How long this turn may sleep; `None` is for ever.
    fn longest_sleep(&self) -> Option<Duration> {
        if self.busy || self.sockets.ready() > 0 {
            return Some(Duration::ZERO);
        }
        let until = |deadline: Mono| Duration::from_millis(deadline.since_ms(self.now.mono));
        let deadlines = [
            self.shard.next_deadline().map(until),
            self.acceptor.deadline().map(until),
            (self.letters_wait || self.records_wait).then_some(RETRY_MAIL),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Phase: notes what the kernel tells. Nothing is read or written yet.
    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                BELL => {}
                Token(bits @ LAST_DOOR..=FIRST_DOOR) => {
                    self.acceptor.note_waiting(FIRST_DOOR - bits);
                }
                Token(bits) => self.take_socket_event(ConnId::from_bits(bits as u64), event),
            }
        }
    }

    fn take_socket_event(&mut self, conn: ConnId, event: &Event) {
        let Some(socket) = self.sockets.of(conn) else { return };
        if event.is_error() && socket.input() == Input::Paused {
            // What was left unread are requests of a connection that exists no more.
            self.fail(conn);
            return;
        }
        if event.is_writable() {
            self.shard.writable(conn);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.sockets.note_readable(conn, event.is_read_closed() || event.is_error());
        }
    }

    /// Phase: reads each socket of the queue once, as far as the budget goes.
    fn read_sockets(&mut self) -> Progress {
        // What is put back during this phase is for the next turn.
        let waiting = self.sockets.ready();
        for _ in 0..waiting.min(self.read_budget) {
            let Some(conn) = self.sockets.next_ready() else { break };
            self.read_socket(conn);
        }
        if self.sockets.ready() == 0 { Progress::Done } else { Progress::More }
    }

    fn read_socket(&mut self, conn: ConnId) {
        if !self.shard.wants_input(conn) {
            self.sockets.pause(conn);
            return;
        }
        let Some(socket) = self.sockets.of(conn) else { return };
        match socket.read(&mut self.scratch) {
            Arrival::Bytes(count) => self.shard.receive(conn, &self.scratch[..count], self.now),
            Arrival::Nothing => {}
            Arrival::End => self.shard.end_of_input(conn, self.now),
            Arrival::Failure => self.fail(conn),
        }
        self.sockets.requeue(conn);
    }

    /// Phase: takes in who waits before the door.
    fn accept_connections(&mut self) -> Progress {
        self.accept_at_most(ACCEPT_BUDGET)
    }

    fn accept_at_most(&mut self, budget: usize) -> Progress {
        for _ in 0..budget {
            let Some((stream, peer)) = self.acceptor.accept(self.now.mono) else {
                self.shard.note_accept_pauses(self.acceptor.take_pauses());
                return Progress::Done;
            };
            let source = self.addresses.source(peer.ip());
            match self.excess(source) {
                None => {
                    if let Some(conn) = self.open(stream, peer.ip()) {
                        self.addresses.enter(conn.slot(), source);
                    }
                }
                Some(excess) => self.refuse(stream, peer.ip(), excess),
            }
        }
        Progress::More
    }

    /// Which limit a connection from `source` would be beyond.
    fn excess(&self, source: Option<Source>) -> Option<Excess> {
        if self.sockets.len() - self.shard.held() >= self.max_connections {
            Some(Excess::Connections)
        } else if !self.addresses.has_room(source) {
            Some(Excess::Address)
        } else {
            None
        }
    }

    /// Has a connection told that it is beyond a limit, or closes it at once where enough others
    /// are being told.
    fn refuse(&mut self, stream: TcpStream, peer: IpAddr, excess: Excess) {
        let reason = match excess {
            Excess::Connections => {
                format!("it holds {}, the most that --max-connections allows", self.max_connections)
            }
            Excess::Address => {
                format!("{peer} has as many as --max-connections-per-address allows")
            }
        };
        self.acceptor.note_refused(&reason, self.now.mono);
        if self.shard.held() >= REFUSALS_HELD_MAX {
            self.shard.note_turned_away(excess);
        } else if let Some(conn) = self.open(stream, peer) {
            self.shard.hold_to_refuse(conn, excess);
        }
    }

    /// Registers a socket, once and for both directions, and tells the shard of it.
    fn open(&mut self, mut stream: TcpStream, peer: IpAddr) -> Option<ConnId> {
        let token = Token(self.sockets.next_id().to_bits() as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.seat.poll.registry().register(&mut stream, token, interest) {
            debug!("worker {}: a new socket could not be registered: {error}", self.id);
            return None;
        }
        let network = self.shard.heartbeats_adapt().then(|| network_of(peer));
        let conn = self.sockets.insert(stream);
        self.shard.open(conn, self.now);
        if let Some(network) = network {
            self.shard.note_network(conn, network);
        }
        Some(conn)
    }

    /// Phase: reads the mailbox.
    fn take_mail(&mut self) -> Progress {
        for _ in 0..MAIL_BUDGET {
            match self.seat.mailbox.try_receive() {
                Some(Parcel::Mail { from, mail }) => self.shard.mail(from, mail, self.now),
                Some(Parcel::Stored { outcome, numbers }) => self.hear_store(outcome, numbers),
                Some(Parcel::Command(command)) => self.obey(command),
                None => return Progress::Done,
            }
        }
        Progress::More
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::OpenDoor => {
                self.acceptor.open();
                self.shard.note_readiness(Readiness::Ready);
            }
            Command::BeUnready => self.shard.note_readiness(Readiness::Draining),
            Command::ShutDoor(waiting) => self.shut_door(waiting),
            Command::Drain(plan) => {
                self.life = Life::Draining;
                self.shard.drain(plan, self.now);
            }
            Command::Count => self.report(News::Counted(Box::new(*self.shard.counters()))),
            Command::Stop => self.life = Life::Stopped,
        }
    }

    /// Shuts the doors. Where no other process has the listeners, whoever waits before them is
    /// taken in first, because shutting resets them.
    fn shut_door(&mut self, waiting: Waiting) {
        if waiting == Waiting::TakenIn {
            self.acceptor.hurry();
            let most = usize::try_from(listener::backlog()).unwrap_or(0) * self.acceptor.doors();
            let _ = self.accept_at_most(most);
        }
        self.acceptor.shut(self.seat.poll.registry());
        self.report(News::DoorShut { connections: self.sockets.len() });
    }

    /// Phase: posts what the shard wrote to others.
    fn post_mail(&mut self) {
        self.letters_wait = false;
        let _ = self.shard.retry_mail();
        while let Some((to, mail)) = self.shard.poll_mail() {
            let parcel = Parcel::Mail { from: self.id, mail };
            match self.seat.peers[to.index()].try_send(parcel) {
                Ok(()) => {}
                Err(TrySendError::Full(Parcel::Mail { mail, .. })) => {
                    self.letters_wait = true;
                    self.shard.mail_refused(to, mail);
                }
                Err(TrySendError::Full(_)) => unreachable!("it was mail"),
                // The worker has stopped, and this one is about to be stopped too.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Phase: writes what the turn has produced, each connection's share in one call.
    fn flush(&mut self) -> Progress {
        let failed_before = self.failed.len();
        let mut progress = Progress::More;
        for _ in 0..self.write_budget {
            let Some(conn) = self.shard.poll_dirty() else {
                progress = Progress::Done;
                break;
            };
            self.write(conn);
        }
        // Who fails here leaves rooms, and the phases that tell the others of it are over.
        if self.failed.len() > failed_before { Progress::More } else { progress }
    }

    fn write(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.of(conn) else { return };
        let mut usual = [IoSlice::new(&[]); WRITE_SLICES_USUAL];
        let written = match self.shard.gather(conn, &mut usual) {
            0 => return,
            WRITE_SLICES_USUAL => {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                let count = self.shard.gather(conn, &mut slices);
                socket.write(&slices[..count])
            }
            count => socket.write(&usual[..count]),
        };
        match written {
            // If bytes remain the shard names the connection again, until the kernel has no room:
            // only then does the kernel tell when it has.
            Ok(bytes) => self.shard.sent(conn, bytes, self.now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.shard.blocked(conn, self.now);
            }
            Err(_) => self.fail(conn),
        }
    }

    /// The kernel has given up a connection.
    fn fail(&mut self, conn: ConnId) {
        let unacknowledged = self.unacknowledged_bytes(conn);
        self.shard.closed(conn, CloseReason::SocketError, unacknowledged, self.now);
        self.failed.push(conn);
    }

    fn unacknowledged_bytes(&mut self, conn: ConnId) -> usize {
        self.sockets.of(conn).map_or(0, |socket| socket.unacknowledged_bytes())
    }

    /// Phase, the last: carries out what the shard decided, and frees slots.
    fn close(&mut self) {
        let before = self.sockets.len();
        while let Some(verdict) = self.shard.poll_verdict() {
            match verdict {
                Verdict::Measure(conn) => {
                    let unacknowledged = self.unacknowledged_bytes(conn);
                    self.shard.measured(conn, unacknowledged, self.now);
                    // There may be letters and words of it, and the phases that take them out are
                    // over.
                    self.busy = true;
                }
                Verdict::LookAtReader(conn) => {
                    let unacknowledged = self.unacknowledged_bytes(conn);
                    self.shard.looked_at_reader(conn, unacknowledged, self.now);
                    self.busy = true;
                }
                Verdict::Resume(conn) => self.sockets.resume(conn),
                Verdict::ProbeHost(conn) => {
                    if let Some(socket) = self.sockets.of(conn) {
                        socket.probe_host();
                    }
                }
                Verdict::Shutdown(conn) => {
                    if let Some(socket) = self.sockets.of(conn) {
                        socket.shut_down_writing();
                    }
                    // What was left unread would turn the close into a reset, and a reset takes
                    // the last words away from the peer.
                    self.sockets.resume(conn);
                }
                Verdict::Close(conn, reason) => {
                    debug!("worker {}: {conn:?} closed: {}", self.id, reason.name());
                    self.drop_socket(conn);
                }
            }
        }
        // Only now, so that a failed socket could still be measured.
        for conn in std::mem::take(&mut self.failed) {
            self.drop_socket(conn);
        }
        if self.sockets.len() < before {
            self.acceptor.note_descriptor_freed();
        }
    }

    fn drop_socket(&mut self, conn: ConnId) {
        if self.sockets.remove(conn).is_some() {
            self.addresses.leave(conn.slot());
        }
    }

    fn tell_if_emptied(&mut self) {
        if self.life == Life::Draining && self.sockets.is_empty() {
            self.life = Life::Emptied;
            self.report(News::Emptied);
        }
    }

    /// Tells the steward, whose mailbox has room for all that it can have asked for. Where it is
    /// gone, nobody wants to know.
    fn report(&self, news: News) {
        let _ = self.seat.steward.try_send(Report { worker: self.id, news });
    }
}

/// The network that a peer comes from: the 24 bits of an IPv4 address, or the 48 of an IPv6 one,
/// that are usually one site's or one carrier's way out.
fn network_of(peer: IpAddr) -> Network {
    match peer.to_canonical() {
        IpAddr::V4(address) => Network(u64::from(address.to_bits() >> 8) | 1 << 63),
        IpAddr::V6(address) => Network((address.to_bits() >> 80) as u64),
    }
}
