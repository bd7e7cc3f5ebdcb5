//! One shard and the turn that a worker takes with it.
//!
//! Owns the slab of sockets, which reuses slots last in, first out, and the generations. Does what
//! the shell does and nothing else: it reads the clock once, serves sockets, mail and timers,
//! posts, flushes and closes last. It sleeps unless it has a reason not to, so that a deadline or a
//! connection that the heart forgets to mention stays forgotten.

use std::io::IoSlice;
use std::sync::Arc;

use corebeat::base::counters::{CloseReason, Counters};
use corebeat::base::ids::{ConnId, NodeId, ShardId};
use corebeat::base::limits::STARVED_MS;
use corebeat::base::pressure::{Pressure, Readings};
use corebeat::base::time::{Mono, Now};
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::drain::DrainPlan;
use corebeat::chat::record::{Record, StoreNumbers, Ticket};
use corebeat::chat::shard::{Progress, Shard, Verdict};
use corebeat::store::keeper::Outcome;
use corebeat::wire::http::{Asset, Origins};
use slab::Slab;

use super::dice::Dice;
use super::mailroom::Mailroom;
use super::network::{Arrived, LinkId, Network};
use super::plan::Plan;
use super::store::Store;

/// A turn after more than this long is one of a worker that was held up.
const HELD_UP_MS: u64 = 400;

pub(super) struct Socket {
    pub(super) conn: ConnId,
    pub(super) link: LinkId,
    /// The heart does not want its input.
    paused: bool,
    /// The kernel took no more.
    blocked: bool,
    /// It failed; the slot is given back in the last phase.
    failed: bool,
    /// Why it is to end, once that was decided.
    pub(super) closing: Option<CloseReason>,
    opened: Mono,
    /// Bytes that were read of it.
    read: u64,
}

impl Socket {
    /// Judges that it is read only when it has paid for what was read before.
    fn judge_rate(&self, (rate, burst): (u64, u64), now: Mono) {
        let paid = burst + rate * (now.since_ms(self.opened) + 1) / 1_000;
        let owes = rate > 0 && self.closing.is_none() && self.read > paid;
        assert!(!owes, "{:?} is read, and of {} bytes {paid} are paid for", self.conn, self.read);
    }
}

/// What a turn works with.
pub(crate) struct Surroundings<'a> {
    pub(crate) network: &'a mut Network,
    pub(crate) mailroom: &'a mut Mailroom,
    pub(crate) store: Option<&'a mut Store>,
    pub(crate) dice: &'a mut Dice,
    pub(crate) round: u64,
    pub(crate) now: Now,
}

/// What a turn is made of, in its order.
const PHASES: [fn(&mut Worker, &mut Surroundings<'_>); 12] = [
    Worker::retry_mail,
    Worker::accept_unless_pressed,
    Worker::serve_sockets,
    Worker::call_the_dead,
    Worker::take_mail,
    Worker::hear_store,
    Worker::expire,
    Worker::fan_out,
    Worker::post,
    Worker::hand_over_records,
    Worker::flush,
    Worker::close,
];
/// How many phases a turn has.
pub(crate) const PHASES_COUNT: usize = PHASES.len();

/// One shard and its sockets.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    /// How the shard was set up.
    pub(super) config: ShardConfig,
    pub(super) id: usize,
    pub(super) sockets: Slab<Socket>,
    generation: u32,
    /// Connections that are gone, for calls that come too late.
    pub(super) past: Vec<ConnId>,
    stale_call: u32,
    /// Bytes that a connection may send in a second, and at once.
    byte_rate: (u64, u64),
    /// Records that the store had no room for, handed out when it had failed so often.
    pub(super) refused_records: Option<(u32, (Ticket, Vec<Record>))>,
    /// The last turn left something for the next one.
    pub(super) busy: bool,
    last_turn: Mono,
    /// It once had no turn for so long behind a deadline that the server must have been away.
    pub(crate) was_starved: bool,
    /// When it was last held up.
    pub(crate) disturbed_at: Mono,
    /// When it may have its next turn.
    pub(crate) starved_until: Mono,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) opened: u64,
    pub(super) pressure: Pressure,
    /// By which connections are sent on, once they are.
    pub(super) drain: Option<Arc<DrainPlan>>,
    /// Behind how many phases of its next turn it panics, if it does.
    pub(crate) panics_behind: Option<usize>,
}

/// What browsers fetch. Larger than many an outbox.
const PAGES: &[Asset] =
    &[Asset { path: "/page", content_type: "text/plain", bytes: &[b'p'; 3_000] }];

/// What hashes and keys are made from: each process has a secret of its own.
pub(crate) fn secret(plan: &Plan, life: u64) -> [u64; 2] {
    [plan.seed ^ life << 40, !plan.seed]
}

impl Worker {
    /// A worker of `plan` without connections, in one of the lives of the server.
    pub(crate) fn new(plan: &Plan, id: u16, life: u64, now: Now) -> Worker {
        let config = ShardConfig {
            shard: ShardId(id),
            shards: plan.shards,
            node: NodeId(7),
            limits: plan.limits,
            heartbeat: plan.policy,
            seed: plan.seed.wrapping_mul(31).wrapping_add(u64::from(id)).wrapping_add(life << 32),
            secret: secret(plan, life),
            publish_everyone: plan.publish_everyone,
            overflow: Arc::clone(&plan.overflow),
            durability: plan.store.as_ref().map(|store| store.durability),
            web: WebConfig {
                assets: PAGES,
                numbers: true,
                origins: Origins::same(),
                deflate: plan.deflate,
            },
        };
        Worker {
            shard: Shard::new(config.clone(), now),
            config,
            id: usize::from(id),
            sockets: Slab::new(),
            generation: 0,
            past: Vec::new(),
            stale_call: plan.stale_call,
            byte_rate: (plan.limits.byte_rate as u64, plan.limits.byte_burst as u64),
            refused_records: None,
            busy: false,
            last_turn: now.mono,
            was_starved: false,
            disturbed_at: now.mono,
            starved_until: Mono(0),
            bytes_read: 0,
            bytes_written: 0,
            opened: 0,
            pressure: Pressure::default(),
            drain: None,
            panics_behind: None,
        }
    }

    /// Whether it has a reason to wake up.
    pub(crate) fn is_awake(
        &self,
        network: &Network,
        mailroom: &Mailroom,
        store: Option<&Store>,
        round: u64,
        now: Now,
    ) -> bool {
        self.busy
            || store.is_some_and(|store| store.has_outcome(self.id))
            || !self.pressure.pauses_accepting() && !network.backlogs[self.id].is_empty()
            || mailroom.has_mail(self.id, round)
            || self.shard.next_deadline().is_some_and(|deadline| deadline <= now.mono)
            || self.sockets.iter().any(|(_, socket)| {
                let link = &network.links[socket.link];
                (!socket.paused && link.readable()) || (socket.blocked && link.writable())
            })
    }

    /// Whether it had its turns in time lately.
    pub(crate) fn is_attentive(&self, now: Now) -> bool {
        now.mono.since_ms(self.last_turn) <= HELD_UP_MS || !self.may_be_late(now)
    }

    fn may_be_late(&self, now: Now) -> bool {
        self.shard.next_deadline().is_some_and(|deadline| deadline <= now.mono)
    }

    /// Whether nothing but time can wake it.
    pub(crate) fn is_quiet(&self, network: &Network, mailroom: &Mailroom, now: Now) -> bool {
        // Whoever is left unread for a while has something unread.
        !self.is_awake(network, mailroom, None, u64::MAX, now) && self.shard.holdings().slowed == 0
    }

    /// What keeps it awake.
    pub(crate) fn unrest(&self) -> String {
        let (deadline, holdings) = (self.shard.next_deadline(), self.shard.holdings());
        format!("busy: {}, {deadline:?}, {holdings:?} {}", self.busy, self.shard.counters())
    }

    /// It is under this pressure from now on.
    pub(crate) fn is_pressed(&mut self, pressure: Pressure) {
        self.pressure = pressure;
        self.shard.note_pressure(pressure, Readings::default());
        self.shard.note_overload_somewhere(pressure.pauses_accepting());
    }

    /// Starts the drain. A listener is emptied before it is closed.
    pub(crate) fn drain(&mut self, plan: Arc<DrainPlan>, around: &mut Surroundings<'_>) {
        while !around.network.backlogs[self.id].is_empty() {
            self.accept(around);
        }
        self.busy = true;
        self.drain = Some(Arc::clone(&plan));
        self.shard.drain(plan, around.now);
    }

    /// One turn.
    pub(crate) fn turn(&mut self, around: &mut Surroundings<'_>) {
        self.begin_turn(PHASES_COUNT, around);
    }

    /// One turn, or so many of its phases.
    pub(super) fn begin_turn(&mut self, phases: usize, around: &mut Surroundings<'_>) {
        let now = around.now;
        let away_ms = now.mono.since_ms(self.last_turn);
        if away_ms > HELD_UP_MS {
            self.disturbed_at = now.mono;
        }
        let overdue_ms = self.shard.next_deadline().map_or(0, |due| now.mono.since_ms(due));
        self.was_starved |= away_ms.min(overdue_ms) > STARVED_MS;
        self.last_turn = now.mono;
        let before = *self.shard.counters();
        for phase in &PHASES[..phases] {
            phase(self, around);
        }
        self.judge_shedding(&before);
    }

    fn retry_mail(&mut self, _: &mut Surroundings<'_>) {
        self.busy = self.shard.retry_mail() == Progress::More;
    }

    fn accept_unless_pressed(&mut self, around: &mut Surroundings<'_>) {
        if !self.pressure.pauses_accepting() {
            self.accept(around);
        }
    }

    fn expire(&mut self, around: &mut Surroundings<'_>) {
        self.busy |= self.shard.expire(around.now) == Progress::More;
    }

    fn fan_out(&mut self, around: &mut Surroundings<'_>) {
        self.busy |= self.shard.fan_out(around.now) == Progress::More;
    }

    /// Nothing is left out without need.
    fn judge_shedding(&self, before: &Counters) {
        let (after, pressure) = (self.shard.counters(), self.pressure);
        let grew = |number: fn(&Counters) -> u64| number(after) > number(before);
        assert!(!grew(|it| it.overload_refused) || pressure.refuses_newcomers());
        assert!(!grew(|it| it.shed_presence) || pressure.folds_presence());
        assert!(!grew(|it| it.shed_rosters) || pressure.refuses_rosters());
        assert!(!grew(|it| it.shed_statistics) || pressure.thins_statistics());
    }

    fn accept(&mut self, around: &mut Surroundings<'_>) {
        while let Some(link) = around.network.backlogs[self.id].pop_front() {
            let entry = self.sockets.vacant_entry();
            self.generation += 1;
            let conn = ConnId::new(entry.key(), self.generation);
            entry.insert(Socket {
                conn,
                link,
                paused: false,
                blocked: false,
                failed: false,
                closing: None,
                opened: around.now.mono,
                read: 0,
            });
            self.opened += 1;
            around.network.links[link].opened_at = around.now.mono;
            around.network.links[link].heard_at = around.now.mono;
            self.shard.open(conn, around.now);
            if around.dice.chance(300) {
                break;
            }
        }
    }

    fn serve_sockets(&mut self, around: &mut Surroundings<'_>) {
        let slots: Vec<usize> = self.sockets.iter().map(|(slot, _)| slot).collect();
        for index in around.dice.order(slots.len()) {
            let socket = &mut self.sockets[slots[index]];
            let link = &mut around.network.links[socket.link];
            if socket.blocked && link.writable() {
                socket.blocked = false;
                self.shard.writable(socket.conn);
            }
            if socket.paused && link.client != super::network::ClientEnd::Reset {
                continue;
            }
            let most = if around.dice.chance(200) { around.dice.within(1..=50) } else { 65_536 };
            match link.server_read(most, around.now.mono) {
                Arrived::Nothing => {}
                Arrived::Bytes(bytes) => {
                    socket.judge_rate(self.byte_rate, around.now.mono);
                    socket.read += bytes.len() as u64;
                    self.bytes_read += bytes.len() as u64;
                    self.shard.receive(socket.conn, &bytes, around.now);
                    socket.paused = !self.shard.wants_input(socket.conn);
                }
                Arrived::End => self.shard.end_of_input(socket.conn, around.now),
                Arrived::Reset => {
                    socket.failed = true;
                    let lost = link.unacknowledged();
                    self.shard.closed(socket.conn, CloseReason::SocketError, lost, around.now);
                }
            }
        }
    }

    /// A shell may be late with calls, and then they must meet nobody.
    fn call_the_dead(&mut self, around: &mut Surroundings<'_>) {
        if self.past.is_empty() || !around.dice.chance(self.stale_call) {
            return;
        }
        let conn = around.dice.pick(&self.past);
        match around.dice.within(0..=5) {
            0 => self.shard.writable(conn),
            1 => self.shard.blocked(conn, around.now),
            2 => self.shard.sent(conn, 1, around.now),
            3 => self.shard.closed(conn, CloseReason::SocketError, 0, around.now),
            4 => self.shard.end_of_input(conn, around.now),
            _ => {
                self.bytes_read += 3;
                self.shard.receive(conn, b"hi\n", around.now);
            }
        }
        assert!(!self.shard.wants_input(conn), "nobody wants the input of who is gone");
    }

    fn take_mail(&mut self, around: &mut Surroundings<'_>) {
        while let Some((from, mail)) = around.mailroom.take(self.id, around.round, around.dice) {
            self.shard.mail(from, mail, around.now);
            if around.dice.chance(50) {
                break;
            }
        }
    }

    fn hear_store(&mut self, around: &mut Surroundings<'_>) {
        let Some(store) = around.store.as_deref_mut() else { return };
        while let Some(outcome) = store.next_outcome(self.id) {
            match outcome {
                Outcome::Written(through) => {
                    self.shard.written(through, StoreNumbers::default(), around.now);
                }
                Outcome::Failed => self.shard.write_failed(StoreNumbers::default(), around.now),
            }
            if around.dice.chance(200) {
                break;
            }
        }
    }

    /// Hands what is to be kept to the store, all of the turn at once, now and then too late.
    fn hand_over_records(&mut self, around: &mut Surroundings<'_>) {
        let Some(store) = around.store.as_deref_mut() else { return };
        let generation = self.shard.store_generation();
        let refused = self.refused_records.take();
        // What was refused goes first, and what came since in the next turn.
        self.busy |= refused.is_some();
        let refused = refused.filter(|refused| refused.0 == generation);
        let records = refused.map(|refused| refused.1).or_else(|| self.records());
        let Some(records) = records else { return };
        if around.dice.chance(50) {
            self.busy = true;
            self.refused_records = Some((generation, records));
            return;
        }
        store.hand(self.id, generation, records);
    }

    /// What is to be kept, and the ticket of the last of it; none where nothing is.
    fn records(&mut self) -> Option<(Ticket, Vec<Record>)> {
        let (mut records, mut last) = (Vec::new(), None);
        while let Some((ticket, record)) = self.shard.poll_write() {
            records.push(record);
            last = Some(ticket);
        }
        last.map(|last| (last, records))
    }

    fn post(&mut self, around: &mut Surroundings<'_>) {
        while let Some((to, mail)) = self.shard.poll_mail() {
            let posted = around.mailroom.post(self.id, to, mail, around.round, around.dice);
            if let Err(mail) = posted {
                self.shard.mail_refused(to, mail);
                self.busy = true;
            }
        }
    }

    fn flush(&mut self, around: &mut Surroundings<'_>) {
        while let Some(conn) = self.shard.poll_dirty() {
            let socket = &mut self.sockets[conn.slot()];
            assert_eq!(socket.conn, conn, "a connection that is gone has bytes to send");
            let link = &mut around.network.links[socket.link];
            let mut slices = [IoSlice::new(&[]); 64];
            let most = if around.dice.chance(200) { 1 } else { slices.len() };
            let filled = self.shard.gather(conn, &mut slices[..most]);
            assert!(filled > 0, "{conn:?} was to be written to and has nothing to send");
            let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            let Some(taken) = link.server_write(&slices[..filled]) else {
                socket.failed = true;
                self.busy = true;
                let lost = link.unacknowledged();
                self.shard.closed(conn, CloseReason::SocketError, lost, around.now);
                continue;
            };
            self.bytes_written += taken as u64;
            if taken > 0 {
                if socket.paused || link.fetches {
                    link.heard_at = around.now.mono;
                }
                self.shard.sent(conn, taken, around.now);
            }
            if taken < offered {
                socket.blocked = true;
                self.shard.blocked(conn, around.now);
            }
            if around.dice.chance(20) {
                self.busy = true;
                break;
            }
        }
    }

    /// Every end is told of once, while the socket is still there.
    pub(super) fn note_closings(&mut self) {
        while let Some(closing) = self.shard.poll_closing() {
            let socket = self.sockets.get_mut(closing.conn.slot());
            let socket = socket.filter(|socket| socket.conn == closing.conn);
            let socket = socket.expect("whose end is decided has a socket");
            let before = socket.closing.replace(closing.reason);
            assert_eq!(before, None, "{:?} was to end twice", closing.conn);
        }
    }

    fn close(&mut self, around: &mut Surroundings<'_>) {
        self.note_closings();
        while let Some(verdict) = self.shard.poll_verdict() {
            let conn = verdict.conn();
            let socket = self.sockets.get_mut(conn.slot());
            let Some(socket) = socket.filter(|socket| socket.conn == conn) else {
                continue;
            };
            if socket.failed && !matches!(verdict, Verdict::Measure(_)) {
                continue;
            }
            let link = &mut around.network.links[socket.link];
            match verdict {
                Verdict::Shutdown(_) => link.server_finish(),
                Verdict::ProbeHost(_) | Verdict::GiveUpAfter(..) => {}
                Verdict::Measure(_) => {
                    self.shard.measured(conn, link.unacknowledged(), around.now);
                    self.busy = true;
                }
                Verdict::LookAtReader(_) => {
                    self.shard.looked_at_reader(conn, link.unacknowledged(), around.now);
                    self.busy = true;
                }
                Verdict::Resume(_) => {
                    socket.paused = false;
                    link.heard_at = around.now.mono;
                }
                Verdict::Close(_, reason) => {
                    assert_eq!(socket.closing, Some(reason), "{conn:?} was closed otherwise");
                    link.server_drop(reason, around.now.mono, around.dice);
                    self.past.push(conn);
                    self.sockets.remove(conn.slot());
                }
            }
        }
        self.drop_failed(around);
        assert_eq!(self.shard.connections(), self.sockets.len(), "a connection was lost");
        for (_, socket) in &self.sockets {
            let wanted = self.shard.wants_input(socket.conn);
            assert_eq!(socket.paused, !wanted, "{:?} was not resumed", socket.conn);
            if socket.paused && self.shard.is_slowed(socket.conn) {
                // It was too fast, and is not expected to be heard.
                around.network.links[socket.link].heard_at = around.now.mono;
            }
        }
    }

    fn drop_failed(&mut self, around: &mut Surroundings<'_>) {
        let failed: Vec<usize> =
            self.sockets.iter().filter(|(_, socket)| socket.failed).map(|(slot, _)| slot).collect();
        for slot in failed {
            let socket = self.sockets.remove(slot);
            assert!(socket.closing.is_some(), "{:?} ended without a reason", socket.conn);
            let link = &mut around.network.links[socket.link];
            link.server_drop(CloseReason::SocketError, around.now.mono, around.dice);
            // Where its end was decided before, the server did not learn of it now.
            link.failed &= socket.closing == Some(CloseReason::SocketError);
            self.past.push(socket.conn);
        }
    }
}
