//! One thread of the generator.
//!
//! Owns one poll, its connections, and the turn: sleep until something comes or is due, read the
//! clock, events, mail, what is due, what may be sent. Children own its parts: `coming` opens and
//! ends connections, `sending` sends, `hearing` reads. Never judges the run: the conductor
//! does. An event or a due task is handled as soon as it is seen, and how long a turn took is
//! measured, because that is how late the generator itself may be.

mod coming;
mod hearing;
mod sending;
mod storm;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use core_affinity::CoreId;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::collections::{HashMap, HashSet};

use self::coming::Pump;
use self::sending::Sender;
use super::agenda::{Agenda, Task};
use super::config::{SECOND_NS, Traffic};
use super::flight::Landings;
use super::ledger::Ledger;
use super::links::Links;
use super::measure::{Latencies, Measures};
use super::plan::{Plan, Role};
use super::shared::{Note, Progress, Shared, Timetable};
use super::speech::{Voice, Welcomed};
use super::violation::Violation;
use crate::net::kernel;
use crate::net::mailbox::Receiver;

/// The bell's token, and the timer's. Connections are counted from 0.
pub const BELL: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Kernel events taken in one turn.
const EVENTS_PER_TURN: usize = 4_096;
/// Bytes that one read takes.
const READ_BYTES: usize = 256 << 10;
/// Tasks done in one turn before sockets are looked at again.
const TASKS_PER_TURN: usize = 256;
/// How often latencies are handed to the live line.
const SHARE_PERIOD_NS: u64 = SECOND_NS / 5;

/// What a thread brings with it. It was opened before file tables became private.
pub struct Seat {
    /// Its poll.
    pub poll: Poll,
    /// Its mailbox.
    pub mailbox: Receiver<Note>,
}

/// What a thread needs to become a driver.
pub struct DriverThread {
    /// Its number.
    pub id: u32,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Where it runs, unless anywhere.
    pub core: Option<CoreId>,
    /// Whether it takes a file table of its own.
    pub private_table: bool,
    /// Its poll and mailbox.
    pub seat: Seat,
}

/// What a thread has to show.
pub struct Departure {
    /// What it measured, or why it could not go on.
    pub outcome: Result<Measures, String>,
    /// To be closed where it was opened.
    pub seat: Seat,
}

impl DriverThread {
    /// Drives until it is told to stop.
    pub fn run(self) -> Departure {
        let shared = Arc::clone(&self.shared);
        let progress = &shared.progress[self.id as usize];
        let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        progress.thread_id.store(thread_id, Ordering::Relaxed);
        if let Some(core) = self.core {
            core_affinity::set_for_current(core);
        }
        let departure = self.drive();
        progress.ended.store(true, Ordering::Release);
        departure
    }

    fn drive(self) -> Departure {
        if self.private_table
            && let Err(error) = kernel::make_private_table()
        {
            let outcome = Err(format!("a thread got no file table of its own: {error}"));
            return Departure { outcome, seat: self.seat };
        }
        let timer = match timer(&self.seat.poll) {
            Ok(timer) => timer,
            Err(error) => {
                return Departure { outcome: Err(format!("no timer: {error}")), seat: self.seat };
            }
        };
        let mut driver = Driver::new(self.id, self.shared, self.seat, timer);
        let outcome = driver.run();
        Departure { outcome: outcome.map(|()| driver.measures), seat: driver.seat }
    }
}

/// A timer finer than the milliseconds of a poll's own.
fn timer(poll: &Poll) -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
    Ok(timer)
}

/// Whether a connection is still there after what it said.
type Alive = bool;

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// Nothing more is sent; what is on its way is heard.
    Draining,
    Stopped,
}

/// A thread at its turns.
struct Driver {
    id: u32,
    shared: Arc<Shared>,
    seat: Seat,
    timer: OwnedFd,
    /// What the timer is set to.
    timer_ns: u64,
    life: Life,
    links: Links,
    ledger: Ledger,
    agenda: Agenda,
    landings: Option<Landings>,
    senders: HashMap<u32, Sender>,
    /// Senders of a closed loop that may send.
    eager: Vec<u32>,
    pump: Option<Pump>,
    timetable: Option<Timetable>,
    storm_at: Option<u64>,
    /// When bare connections were to be opened.
    bare_at: Option<u64>,
    /// What each connection was welcomed with, where sessions are to be resumed.
    welcomed: Vec<Welcomed>,
    /// The life that each place of those that come and go is in.
    lives: HashMap<u32, u32>,
    /// Slow readers that the server ended or told of gaps.
    dealt_with: HashSet<u32>,
    measures: Measures,
    recent: Latencies,
    shared_ns: u64,
    /// Connections that stay and are ready.
    ready: u32,
    /// Connections that are back after a storm.
    returned: u32,
    /// Bare connections that were welcomed.
    accepted: u32,
    /// Connections that are on their way in.
    half_open: u32,
    open: u32,
    /// Deliveries to members that stay and read.
    due_delivered: u64,
    /// Members that stay and read, by room.
    readers: Vec<u32>,
    voice: Voice,
    /// Where reads go, and where writes are put together.
    scratch: Box<[u8]>,
    out: Vec<u8>,
    body: Vec<u8>,
    /// Why the thread cannot go on.
    broken: Option<String>,
}

impl Driver {
    fn new(id: u32, shared: Arc<Shared>, seat: Seat, timer: OwnedFd) -> Driver {
        let plan = &shared.plan;
        let config = plan.config();
        let count = places(plan.len(), id, shared.threads);
        let mut readers = vec![0; config.rooms as usize];
        for index in (id..plan.members()).step_by(shared.threads as usize) {
            if let Some(room) = plan.room(index).filter(|_| !plan.is_slow(index)) {
                readers[room as usize] += 1;
            }
        }
        let in_flight = match config.traffic {
            Traffic::Closed { in_flight } => in_flight,
            _ => 0,
        };
        let dialect = config.dialect;
        let ledger = Ledger::new(config.run, config.rooms, plan.publishers(), in_flight);
        Driver {
            id,
            timer,
            timer_ns: 0,
            life: Life::Running,
            links: Links::new(shared.target, count),
            ledger,
            agenda: Agenda::default(),
            landings: shared.flights.as_ref().map(|flights| Landings::new(flights, id)),
            senders: HashMap::new(),
            eager: Vec::new(),
            pump: None,
            timetable: None,
            storm_at: None,
            bare_at: None,
            welcomed: vec![Welcomed::default(); if config.resume { count as usize } else { 0 }],
            lives: HashMap::new(),
            dealt_with: HashSet::new(),
            measures: Measures::default(),
            recent: Latencies::new(2),
            shared_ns: 0,
            ready: 0,
            returned: 0,
            accepted: 0,
            half_open: 0,
            open: 0,
            due_delivered: 0,
            readers,
            voice: Voice::new(dialect),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            out: Vec::new(),
            body: Vec::new(),
            broken: None,
            seat,
            shared,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while self.life != Life::Stopped {
            self.sleep(&mut events)?;
            let began = self.now();
            let worked = self.turn(&events, began);
            self.account(began, worked);
            if let Some(reason) = self.broken.take() {
                self.reset_all();
                return Err(reason);
            }
        }
        Ok(())
    }

    /// All that a turn does. Whether there was anything to do.
    fn turn(&mut self, events: &Events, now: u64) -> bool {
        let mut worked = false;
        for event in events {
            match event.token() {
                BELL | TIMER => {}
                Token(local) => {
                    worked = true;
                    self.link_event(local as u32, event);
                }
            }
        }
        worked |= self.pump_connections(now);
        worked |= self.do_tasks(now);
        while let Some(note) = self.seat.mailbox.try_receive() {
            worked = true;
            self.obey(note);
        }
        worked |= self.send_eagerly();
        if self.life == Life::Draining {
            self.tell_if_settled();
        }
        worked
    }

    fn obey(&mut self, note: Note) {
        match note {
            Note::Ramp { at } => self.begin_ramp(at),
            Note::Traffic(timetable) => self.begin_traffic(timetable),
            Note::Storm { at } => {
                self.timetable = Some(Timetable { start: at, from: at, until: u64::MAX });
                self.agenda.add(at, 0, Task::Storm);
            }
            Note::Away { storm_at } => self.speak_to_rooms(storm_at),
            Note::Bare { at } => self.make_way(at),
            Note::Prove => self.prove(),
            Note::Landed(publisher) => self.owe(publisher / self.shared.threads),
            Note::Drain => {
                self.life = Life::Draining;
                self.agenda.clear();
                self.eager.clear();
                self.read_slow_ones();
            }
            Note::Stop => {
                self.life = Life::Stopped;
                self.conclude();
                self.reset_all();
            }
        }
    }

    fn do_tasks(&mut self, now: u64) -> bool {
        let mut worked = false;
        for _ in 0..TASKS_PER_TURN {
            let Some((at, local, task)) = self.agenda.pop_due(now) else { break };
            worked = true;
            match task {
                Task::Send => self.send_planned(local, at),
                Task::Come(life) => self.come(local, life, at),
                Task::Go(life) => self.go(local, life),
                Task::Storm => self.begin_storm(at),
                Task::Bare => self.open_bare(),
            }
        }
        worked
    }

    /// Waits for an event, a letter or what is due next.
    fn sleep(&mut self, events: &mut Events) -> Result<(), String> {
        let due = self.next_due();
        let awake = self.shared.spin
            || !self.eager.is_empty()
            || due.is_some_and(|due| due <= self.now())
            || !self.seat.mailbox.may_sleep();
        if !awake {
            self.set_timer(due);
        }
        // Whoever waits for deliveries of others looks after them a little later.
        let drowsy = (self.life == Life::Draining).then_some(Duration::from_millis(5));
        let timeout = if awake { Some(Duration::ZERO) } else { drowsy };
        let polled = self.seat.poll.poll(events, timeout);
        self.seat.mailbox.woke();
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            Err(error) => Err(format!("cannot wait for events: {error}")),
            Ok(()) => Ok(()),
        }
    }

    fn next_due(&self) -> Option<u64> {
        let pump = self.pump.as_ref().and_then(|pump| self.pump_due(pump));
        [self.agenda.next_due(), pump].into_iter().flatten().min()
    }

    fn set_timer(&mut self, due: Option<u64>) {
        let Some(due) = due.filter(|due| *due != self.timer_ns) else { return };
        // A timer set to no time at all is switched off.
        let wait = due.saturating_sub(self.now()).max(1);
        let value =
            Timespec { tv_sec: (wait / SECOND_NS) as i64, tv_nsec: (wait % SECOND_NS) as i64 };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: never, it_value: value };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting).is_ok() {
            self.timer_ns = due;
        }
    }

    /// Measures the turn that is over, and publishes what others want to know.
    fn account(&mut self, began: u64, worked: bool) {
        if !worked {
            return;
        }
        let now = self.now();
        if self.is_measured(began) {
            let took = now - began;
            self.measures.counts.busiest_ns += took;
            self.measures.turns.record_many(took, took / 1_000 + 1);
        }
        let progress: &Progress = &self.shared.progress[self.id as usize];
        let counts = &self.measures.counts;
        progress.open.store(self.open, Ordering::Relaxed);
        progress.ready.store(self.ready, Ordering::Relaxed);
        progress.returned.store(self.returned, Ordering::Relaxed);
        progress.accepted.store(self.accepted, Ordering::Relaxed);
        progress.sent.store(counts.sent, Ordering::Relaxed);
        progress.delivered.store(counts.delivered, Ordering::Relaxed);
        progress.violations.store(counts.violations.total(), Ordering::Relaxed);
        if now - self.shared_ns > SHARE_PERIOD_NS && self.recent.count() > 0 {
            self.shared_ns = now;
            if let Ok(mut recent) = self.shared.recent.lock() {
                recent.add(&self.recent);
            }
            self.recent.clear();
        }
    }

    /// Whether what is planned for, or happens at, this instant is measured.
    fn is_measured(&self, at: u64) -> bool {
        self.timetable.is_some_and(|timetable| (timetable.from..timetable.until).contains(&at))
    }

    fn now(&self) -> u64 {
        self.shared.clock.now_ns()
    }

    /// The number in the plan of this thread's connection `local`.
    fn index(&self, local: u32) -> u32 {
        local * self.shared.threads + self.id
    }

    fn role(&self, local: u32) -> Role {
        self.shared.plan.role(self.index(local))
    }

    /// The room that a connection wants to be in.
    fn room(&self, local: u32) -> Option<u32> {
        self.shared.plan.room(self.index(local))
    }

    /// This thread's connections that stay: the first of all.
    fn staying(&self) -> u32 {
        places(self.shared.plan.staying(), self.id, self.shared.threads)
    }

    fn is_slow(&self, local: u32) -> bool {
        self.shared.plan.is_slow(self.index(local))
    }

    fn violation(&mut self, kind: Violation, count: u32, words: impl FnOnce() -> String) {
        self.measures.counts.violations.count(kind, u64::from(count), words);
    }

    /// Deliveries to members that stay and read that are due by now.
    fn due(&self) -> u64 {
        let rooms = self.shared.published.iter().zip(&self.readers);
        let all: u64 = rooms
            .map(|(count, readers)| u64::from(count.load(Ordering::Acquire)) * u64::from(*readers))
            .sum();
        // Nobody gets what it said itself.
        let own = |(local, sender): (&u32, &Sender)| {
            self.room(*local).map_or(0, |_| u64::from(sender.index()))
        };
        all - self.senders.iter().map(own).sum::<u64>().min(all)
    }

    fn tell_if_settled(&mut self) {
        let echoes: u64 = self.senders.values().map(Sender::outstanding).sum();
        let settled =
            echoes == 0 && self.due_delivered >= self.due() && self.slow_ones_are_through();
        let progress = &self.shared.progress[self.id as usize];
        progress.settled.store(settled, Ordering::Release);
    }

    /// The run is over: what has not come is lost.
    fn conclude(&mut self) {
        for local in 0..self.staying() {
            let slow = self.is_slow(local);
            self.measures.counts.slow += u64::from(slow);
            if let Some(room) = self.room(local)
                && !slow
                && self.links.peer(local).stage() == super::peer::Stage::Ready
            {
                let last = self.shared.published[room as usize].load(Ordering::Acquire);
                let own = self.senders.get(&local).map_or(0, Sender::index);
                let missing = self.links.peer(local).missing(last, own);
                let index = self.index(local);
                self.violation(Violation::Lost, missing, || {
                    format!("connection {index}: the last {missing} of {last} did not come")
                });
            }
        }
        let unheard: u64 = self.senders.values().map(Sender::outstanding).sum();
        self.violation(Violation::Lost, unheard as u32, || "echoes did not come back".into());
        self.measures.counts.due = self.due();
        self.measures.counts.due_delivered = self.due_delivered;
        self.measures.counts.slow_dealt_with = self.dealt_with.len() as u64;
    }

    fn reset_all(&mut self) {
        for local in 0..self.links.len() {
            self.links.reset(local);
        }
    }
}

/// How many of `count` connections live on thread `id`.
fn places(count: u32, id: u32, threads: u32) -> u32 {
    count.saturating_sub(id).div_ceil(threads)
}

/// The largest number of connections that any thread has.
pub fn most_places(plan: &Plan, threads: u32) -> u32 {
    places(plan.len(), 0, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_lives_on_one_thread() {
        for (count, threads) in [(0, 3), (1, 3), (7, 3), (9, 3), (10, 1)] {
            let all: u32 = (0..threads).map(|id| places(count, id, threads)).sum();
            assert_eq!(all, count);
        }
    }
}
