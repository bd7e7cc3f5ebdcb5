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

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use log::debug;
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Token};

use super::acceptor::{Acceptor, Troubles};
use super::close_log::CloseTally;
use super::closings::CloseNotes;
use super::freed_memory::FreedMemory;
use super::overload::Watch;
use super::parcel::{Command, News, Parcel, Report, Waiting};
use super::seat::Seat;
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::gcra::Rate;
use crate::base::ids::{ConnId, SHARDS_MAX, ShardId};
use crate::base::limits::{
    CONNECTIONS_RESERVED, EVENTS_PER_TURN, MAIL_BUDGET, READ_CHUNK, WRITE_SLICES,
    WRITE_SLICES_USUAL,
};
use crate::base::time::{Mono, Now};
use crate::chat::config::ShardConfig;
use crate::chat::drain::{DrainPlan, Readiness};
use crate::chat::shard::{Progress, Shard, Verdict};
use crate::net::addresses::{Addresses, share_of};
use crate::net::listener;
use crate::net::socket::{self, Arrival, Input};
use crate::net::socket_table::SocketTable;
use crate::store::keeper::Submission;

/// The bell's token, and the door's. Connection ids have 52 bits, so these name no connection.
pub const BELL: Token = Token(usize::MAX);
const FIRST_DOOR: usize = usize::MAX - 1;
const LAST_DOOR: usize = FIRST_DOOR - SHARDS_MAX;
/// The token of what other workers hand over.
pub const HATCH: Token = Token(LAST_DOOR - 1);
const _: () = assert!(LAST_DOOR as u64 - 1 > ConnId::BITS_MAX, "neither names a connection");
const _: () = assert!(usize::BITS == 64, "a mio token holds a connection id");

/// While letters wait for a full mailbox, a worker sleeps no longer than this.
const RETRY_MAIL: Duration = Duration::from_millis(1);

/// Whether the worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
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
    pub(super) clock: Clock,
    pub(super) now: Now,
    pub(super) life: Life,
    pub(super) seat: Seat,
    pub(super) sockets: SocketTable,
    pub(super) notes: CloseNotes,
    pub(super) acceptor: Acceptor,
    pub(super) addresses: Addresses,
    /// Where reads go before the shard sees them.
    pub(super) scratch: Box<[u8]>,
    /// Sockets that failed in this turn, to be dropped in its close phase.
    pub(super) failed: Vec<ConnId>,
    pub(super) max_connections: usize,
    /// Others may have handed connections over.
    pub(super) hatch_waits: bool,
    /// How long the turn before this one took, in microseconds.
    pub(super) last_turn_us: u64,
    /// When this turn began, as the clock counts microseconds.
    pub(super) woke_us: u64,
    /// What it can bear.
    pub(super) watch: Watch,
    /// What it does not need any more.
    pub(super) freed: FreedMemory,
    pub(super) read_budget: usize,
    pub(super) write_budget: usize,
    /// Some phase has work left: the next turn does not sleep.
    pub(super) busy: bool,
    /// Letters wait for a full mailbox.
    pub(super) letters_wait: bool,
    /// Records that found no room in the store's channel.
    pub(super) refused_records: Option<Submission>,
    /// The store's thread is not there any more.
    pub(super) store_is_lost: bool,
    /// What `/readyz` is to say.
    pub(super) readiness: Readiness,
    /// By which connections are sent on, once they are.
    pub(super) drain: Option<Arc<DrainPlan>>,
    /// Parcels from before a new beginning.
    pub(super) set_aside: VecDeque<Parcel>,
}

impl Worker {
    /// A worker before its first turn. To be called on its own thread.
    pub fn new(config: ShardConfig, clock: Clock, seat: Seat) -> Worker {
        let now = clock.now();
        let limits = config.limits;
        let id = config.shard;
        let rate = Rate::new(limits.accept_rate, limits.accept_rate);
        let tables = seat.tables;
        let of_address = share_of(limits.max_connections_per_address, config.shards);
        Worker {
            id,
            clock,
            now,
            life: Life::Serving,
            addresses: Addresses::new(of_address, seat.exempt.clone()),
            seat,
            sockets: SocketTable::with_capacity(limits.max_connections.min(CONNECTIONS_RESERVED)),
            notes: CloseNotes::default(),
            acceptor: Acceptor::new(id, rate),
            scratch: vec![0; READ_CHUNK].into_boxed_slice(),
            failed: Vec::new(),
            max_connections: limits.max_connections,
            hatch_waits: false,
            last_turn_us: 0,
            woke_us: 0,
            watch: Watch::new(limits, tables),
            freed: FreedMemory::default(),
            read_budget: limits.read_budget,
            write_budget: limits.write_budget,
            busy: false,
            letters_wait: false,
            refused_records: None,
            store_is_lost: false,
            readiness: Readiness::Starting,
            drain: None,
            set_aside: VecDeque::new(),
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
        let mut ended_us = self.clock.us();
        while self.life != Life::Stopped {
            self.sleep(&mut events)?;
            let (now, woke_us) = self.clock.now_and_us();
            self.now = now;
            self.take_events(&events);
            self.woke_us = woke_us;
            let slept_us = woke_us.saturating_sub(ended_us);
            self.turn();
            ended_us = self.clock.us();
            self.last_turn_us = ended_us.saturating_sub(woke_us);
            self.watch.note_turn(slept_us, self.last_turn_us);
            self.shard.note_turn(self.last_turn_us);
            if self.store_is_lost {
                return Err(io::Error::other("the store has ended"));
            }
        }
        self.note_the_rest();
        self.hand_over_the_rest();
        Ok(*self.shard.counters())
    }

    /// The connections that are open.
    pub fn connections(&self) -> usize {
        self.sockets.len()
    }

    /// Closes everything that was opened on this thread, and gives back what was not, and which
    /// connections ended that the steward has not heard of.
    pub fn leave(self) -> (Seat, CloseTally) {
        (self.seat, self.notes.into_untold())
    }

    /// All phases of a turn but the first.
    fn turn(&mut self) {
        self.watch_pressure();
        let phases = [
            self.read_sockets(),
            self.accept_connections(),
            self.take_handed(),
            self.take_mail(),
            self.shard.expire(self.now),
            self.shard.fan_out(self.now),
        ];
        self.post_mail();
        self.hand_over_records();
        // Before last words are sent and count as unacknowledged.
        self.note_closings();
        let flushed = self.flush();
        self.busy = phases.contains(&Progress::More) || flushed == Progress::More;
        self.close();
        self.give_back_memory();
        self.tell_of_closes();
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
            self.watch.deadline().map(until),
            self.freed.deadline().map(until),
            (self.letters_wait || self.refused_records.is_some()).then_some(RETRY_MAIL),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Phase: notes what the kernel tells. Nothing is read or written yet.
    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                BELL => {}
                HATCH => self.hatch_waits = true,
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
            let reason = socket.failure();
            self.fail(conn, reason);
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
            Arrival::Failure(reason) => self.fail(conn, reason),
        }
        self.sockets.requeue(conn);
    }

    pub(super) fn accept_at_most(&mut self, budget: usize) -> Progress {
        for _ in 0..budget {
            let Some((stream, peer)) = self.acceptor.accept(self.now.mono) else {
                self.shard.note_accept_pauses(self.acceptor.take_pauses());
                self.note_troubles();
                return Progress::Done;
            };
            if let Some(stream) = self.steer(stream) {
                self.admit(stream, peer);
            }
        }
        Progress::More
    }

    fn note_troubles(&mut self) {
        let Troubles { failures, closed } = self.acceptor.take_troubles();
        if failures + closed > 0 {
            self.shard.note_accept_failures(failures, closed);
        }
    }

    /// Phase: reads the mailbox.
    fn take_mail(&mut self) -> Progress {
        for _ in 0..MAIL_BUDGET {
            match self.next_parcel() {
                Some(Parcel::Mail { from, mail }) => self.shard.mail(from, mail, self.now),
                Some(Parcel::Stored { outcome, numbers }) => self.hear_store(outcome, numbers),
                Some(Parcel::StoreLost) => self.lose_store(),
                Some(Parcel::Command(command)) => self.obey(command),
                None => return Progress::Done,
            }
        }
        Progress::More
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::FindCloses(query) => self.find_closes(&query),
            Command::TellOfCloses => self.may_tell_of_closes(),
            Command::OpenDoor => {
                self.acceptor.open();
                self.be(Readiness::Ready);
            }
            Command::BeUnready => self.be(Readiness::Draining),
            Command::ShutDoor(waiting) => self.shut_door(waiting),
            Command::Drain(plan) => {
                self.empty_hatch();
                self.life = Life::Draining;
                self.drain = Some(Arc::clone(&plan));
                self.shard.drain(plan, self.now);
            }
            #[cfg(debug_assertions)]
            Command::Panic => panic!("an operator wants to see it"),
            #[cfg(debug_assertions)]
            Command::PanicStore => self.have_store_panic(),
            Command::Count => self.report(News::Counted(Box::new(*self.shard.counters()))),
            Command::Stop => self.life = Life::Stopped,
        }
    }

    fn be(&mut self, readiness: Readiness) {
        self.readiness = readiness;
        self.shard.note_readiness(readiness);
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
            Err(error) => self.fail(conn, socket::reason_of(&error)),
        }
    }

    /// Phase, the last: carries out what the shard decided, and frees slots.
    fn close(&mut self) {
        self.note_closings();
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
                Verdict::GiveUpAfter(conn, seconds) => {
                    if let Some(socket) = self.sockets.of(conn) {
                        socket.give_up_after(Duration::from_secs(seconds.into()));
                    }
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
            self.freed.note(self.now.mono);
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
    pub(super) fn report(&self, news: News) {
        let _ = self.seat.steward.try_send(Report { worker: self.id, news });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream as Client};
    use std::sync::atomic::AtomicU32;

    use mio::Poll;
    use socket2::SockRef;

    use super::super::balance::Balance;
    use super::super::close_journal::CloseQuery;
    use super::super::close_record::CloseLine;
    use super::super::config::FileTables;
    use super::super::parcel::Report;
    use super::super::steering::Steering;
    use super::*;
    use crate::base::ids::NodeId;
    use crate::base::limits::Limits;
    use crate::chat::config::WebConfig;
    use crate::chat::heartbeat::HeartbeatPolicy;
    use crate::net::hatch::hatch;
    use crate::net::listener::Listeners;
    use crate::net::mailbox::{Receiver, mailbox};
    use crate::wire::message::{Hello, Request};
    use crate::wire::native;

    /// A worker at its door, on this thread, and what it reports.
    struct Workshop {
        worker: Worker,
        reports: Receiver<Report>,
        address: SocketAddr,
        events: Events,
    }

    /// The frame of the first words.
    fn hello(heartbeat_s: u16) -> Vec<u8> {
        let hello = Hello { version: 1, heartbeat_s, user: "ann", ..Hello::default() };
        let mut bytes = Vec::new();
        native::encode_request(&mut bytes, &Request::Hello(hello), false);
        bytes
    }

    impl Workshop {
        fn open() -> Workshop {
            let poll = Poll::new().unwrap();
            let (steward, reports) = mailbox(8, &Poll::new().unwrap(), BELL).unwrap();
            let (_, letters) = mailbox(1, &poll, BELL).unwrap();
            let (slot, hatch) = hatch(&poll, HATCH).unwrap();
            let balance = Arc::new(Balance::new(1));
            let seat = Seat {
                poll,
                mailbox: letters,
                peers: Vec::new(),
                steward,
                steering: Steering { hatch, slots: Arc::new([slot]), balance },
                store: None,
                exempt: Vec::new(),
                tables: FileTables::Shared,
                lives: Arc::new([AtomicU32::new(0)]),
            };
            let config = ShardConfig {
                shard: ShardId(0),
                shards: 1,
                node: NodeId(1),
                limits: Limits::default(),
                heartbeat: HeartbeatPolicy::default(),
                seed: 1,
                secret: [1, 2],
                publish_everyone: true,
                overflow: Default::default(),
                durability: None,
                web: WebConfig::default(),
            };
            let reserved = listener::reserve("127.0.0.1:0".parse().unwrap()).unwrap();
            let mut worker = Worker::new(config, Clock::start(), seat);
            let listeners = Listeners::open(Vec::new(), reserved.address(), 1).unwrap();
            worker.add_doors(listeners.share_of(0, 1).unwrap()).unwrap();
            listeners.listen(Duration::from_secs(90)).unwrap();
            worker.obey(Command::OpenDoor);
            let events = Events::with_capacity(16);
            Workshop { worker, reports, address: reserved.address(), events }
        }

        /// Turns until it is so.
        fn turn_until(&mut self, is_so: impl Fn(&Worker) -> bool) {
            while !is_so(&self.worker) {
                self.worker.sleep(&mut self.events).unwrap();
                (self.worker.now, _) = self.worker.clock.now_and_us();
                self.worker.take_events(&self.events);
                self.worker.turn();
            }
        }

        /// A client that was welcomed with this heartbeat, and its connection.
        fn welcome(&mut self, heartbeat_s: u16) -> (Client, ConnId) {
            let mut client = Client::connect(self.address).unwrap();
            let conn = self.worker.sockets.next_id();
            client.write_all(&hello(heartbeat_s)).unwrap();
            let welcomed = self.worker.shard.counters().welcomed;
            self.turn_until(|worker| worker.shard.counters().welcomed > welcomed);
            (client, conn)
        }

        /// The record of the only connection that ended.
        fn close(&mut self) -> CloseLine {
            self.turn_until(|worker| worker.sockets.is_empty());
            let query = CloseQuery { last: 2, reason: None, user: None, after: Vec::new() };
            self.worker.obey(Command::FindCloses(Arc::new(query)));
            let news = std::iter::from_fn(|| self.reports.try_receive()).map(|report| report.news);
            let found = news.filter_map(|news| match news {
                News::FoundCloses(answer) => Some(answer.found),
                _ => None,
            });
            let mut found: Vec<_> = found.flatten().collect();
            assert_eq!(found.len(), 1, "{found:?}");
            let (number, record) = found.remove(0);
            record.tell(0, number)
        }
    }

    #[test]
    fn the_kernel_loses_patience_when_the_heartbeat_does() {
        let mut shop = Workshop::open();
        let timeout_of = |shop: &mut Workshop, conn| {
            shop.worker.sockets.of(conn).unwrap().user_timeout().unwrap()
        };
        let (_usual, conn) = shop.welcome(0);
        let inherited = timeout_of(&mut shop, conn);
        assert_eq!(inherited, Some(Duration::from_secs(90)), "as the listener has it");
        let (_quick, conn) = shop.welcome(10);
        let own = timeout_of(&mut shop, conn);
        assert_eq!(own, Some(Duration::from_secs(30)), "in the proportion of the server's own");
    }

    #[test]
    fn a_reset_is_recorded_with_what_the_kernel_knew() {
        let mut shop = Workshop::open();
        let (mut client, _) = shop.welcome(0);
        let address = client.local_addr().unwrap();
        let mut head = [0; 8];
        client.read_exact(&mut head).unwrap();
        let payload = u32::from_be_bytes(head[4..].try_into().unwrap());
        client.read_exact(&mut vec![0; payload as usize]).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let close = shop.close();
        assert_eq!((close.number, close.reason.as_str()), (1, "reset"));
        assert_eq!((close.peer, close.user.as_deref()), (address, Some("ann")));
        assert_eq!(close.bytes_in, Some(hello(0).len() as u64));
        assert_eq!(close.bytes_out, Some(8 + u64::from(payload)));
        assert!(close.round_trip_us > Some(0), "{close:?}");
        assert_eq!((close.queued, close.send_queue, close.retransmits), (0, Some(0), Some(0)));
    }

    #[test]
    fn an_end_of_the_stream_is_no_byte_of_it() {
        let mut shop = Workshop::open();
        let (client, _) = shop.welcome(0);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let close = shop.close();
        assert_eq!(close.reason, "peer_closed");
        assert_eq!(close.bytes_in, Some(hello(0).len() as u64));
    }
}
