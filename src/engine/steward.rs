//! The main thread of a server: it waits.
//!
//! Owns the signals, the mailboxes by which workers are told to count, to drain and to stop, and
//! their threads. Never touches a connection. [`Server`](super::server::Server) makes one and runs
//! it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use log::{error, info, warn};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook_mio::v1_0::Signals;

use super::close_watch::CloseWatch;
use super::config::DrainConfig;
use super::desk::Desk;
use super::inquiries::Curious;
use super::parcel::{Command, News, Parcel, Report, Waiting};
use super::succession::{Identity, Successor};
use super::worker_thread::{Departure, Tally};
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::net::admin_socket::AdminSocket;
use crate::net::listener::Listeners;
use crate::net::mailbox::{Receiver, Sender};

/// What clients are told when the server ends.
const FAREWELL: &str = "shutting down";
const SIGNALS: Token = Token(0);
/// A worker whose mailbox was full is asked again after this long.
const RETRY: Duration = Duration::from_millis(10);

/// The signals that a server acts on.
///
/// # Errors
/// What the kernel says to the handlers or their pipe.
pub(super) fn signals() -> io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGXFSZ])
}

/// How a server ended.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// The numbers of all workers together.
    pub counters: Counters,
    /// Connections that were cut because they did not end in time.
    pub cut: usize,
    /// How long the server ran.
    pub ran: Duration,
}

/// A worker ended that was not told to.
#[derive(Debug)]
pub struct WorkerLost {
    worker: ShardId,
    /// What the kernel said; none after a panic.
    cause: Option<io::Error>,
}

impl fmt::Display for WorkerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "worker {} cannot go on: {cause}", self.worker),
            None => write!(f, "worker {} panicked", self.worker),
        }
    }
}

impl std::error::Error for WorkerLost {}

/// How far the stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// It serves as ever until then, while `/readyz` sends clients elsewhere.
    Leaving {
        until: Mono,
    },
    /// The workers have been told to take in nobody any more.
    Shutting {
        deadline: Mono,
    },
    /// Connections are sent on.
    Draining {
        deadline: Mono,
    },
    Stopping,
}

/// What the steward knows of one worker.
pub(super) struct Employee {
    mailbox: Sender<Parcel>,
    /// Commands that did not fit into its mailbox yet.
    commands: VecDeque<Command>,
    thread: Option<JoinHandle<Departure>>,
    /// Whether it is pinned; none until it has started.
    pinned: Option<bool>,
    /// Its connections when it shut its door.
    shut: Option<usize>,
    emptied: bool,
    /// Its answer to the last count; none while one is awaited.
    counted: Option<Counters>,
}

/// Waits for workers, signals and deadlines.
pub(super) struct Steward {
    pub(super) poll: Poll,
    reports: Receiver<Report>,
    signals: Option<Signals>,
    /// One of them has told it to end.
    signalled: bool,
    /// Where commands are taken; none before the workers have started, and where none are.
    pub(super) desk: Option<Desk>,
    /// Who the server is.
    pub(super) identity: Identity,
    /// The process that is about to take over, or has.
    pub(super) successor: Option<Successor>,
    /// The listeners; none before the workers have been given theirs, and once they are let go.
    /// Behind them, so that no worker lets go of the last reference.
    pub(super) listeners: Option<Arc<Listeners>>,
    pub(super) clock: Clock,
    drain: DrainConfig,
    pub(super) stage: Stage,
    /// Who waits for the numbers that the workers were asked for.
    curious: Vec<Curious>,
    pub(super) employees: Vec<Employee>,
    /// What is to be told of connections that ended.
    pub(super) watch: CloseWatch,
    tally: Tally,
    lost: Option<WorkerLost>,
}

impl Steward {
    /// A steward of workers that read `mailboxes`, in the order of their shards.
    ///
    /// # Errors
    /// What the kernel says to the registration of the signals' pipe.
    pub(super) fn new(
        poll: Poll,
        reports: Receiver<Report>,
        mailboxes: Vec<Sender<Parcel>>,
        mut signals: Option<Signals>,
        (identity, drain): (Identity, DrainConfig),
        clock: Clock,
    ) -> io::Result<Steward> {
        if let Some(signals) = &mut signals {
            poll.registry().register(signals, SIGNALS, Interest::READABLE)?;
        }
        let employees = mailboxes.into_iter().map(Employee::new).collect();
        Ok(Steward {
            poll,
            reports,
            signals,
            signalled: false,
            desk: None,
            identity,
            successor: None,
            listeners: None,
            clock,
            drain,
            stage: Stage::Serving,
            curious: Vec::new(),
            employees,
            watch: CloseWatch::default(),
            tally: Tally::default(),
            lost: None,
        })
    }

    /// Takes commands at `socket` from now on.
    ///
    /// # Errors
    /// What the kernel says to the registration.
    pub(super) fn open_desk(&mut self, socket: AdminSocket) -> io::Result<()> {
        self.desk = Some(Desk::new(socket, self.poll.registry())?);
        Ok(())
    }

    /// Takes charge of the next worker's thread, in the order of their shards.
    pub(super) fn employ(&mut self, thread: JoinHandle<Departure>) {
        let vacancy = self.employees.iter_mut().find(|employee| employee.thread.is_none());
        vacancy.expect("one thread for each mailbox").thread = Some(thread);
    }

    /// Waits until all workers listen. Returns whether all that asked for it are pinned.
    ///
    /// # Errors
    /// Why the first one that failed did. The others are stopped when the steward is dropped.
    pub(super) fn wait_for_start(&mut self) -> io::Result<bool> {
        while self.employees.iter().any(|employee| employee.pinned.is_none()) {
            self.turn();
            if let Some(lost) = self.lost.take() {
                return Err(lost.cause.unwrap_or_else(|| io::Error::other("it panicked")));
            }
        }
        Ok(self.employees.iter().all(|employee| employee.pinned == Some(true)))
    }

    /// Whether a signal has come that ends the server, before it has started.
    pub(super) fn is_told_to_stop(&mut self) -> bool {
        self.heed_signals();
        self.stage != Stage::Serving
    }

    /// Waits until all workers have ended.
    ///
    /// # Errors
    /// [`WorkerLost`] for the first one that ended without having been told to.
    pub(super) fn run(&mut self) -> Result<Stopped, WorkerLost> {
        while self.employees.iter().any(|employee| employee.thread.is_some()) {
            self.turn();
        }
        self.watch.log_the_rest();
        match self.lost.take() {
            Some(lost) => Err(lost),
            None => Ok(Stopped {
                counters: self.tally.counters,
                cut: self.tally.cut,
                ran: Duration::from_millis(self.clock.now().mono.0),
            }),
        }
    }

    /// Lets the workers take clients in, through the listeners that they were given. The kernel
    /// gives up those who take nothing for as long as the server's own heartbeat would.
    ///
    /// # Errors
    /// What the kernel says to the listeners.
    pub(super) fn open_doors(&mut self, patience: Duration) -> io::Result<()> {
        if matches!(self.stage, Stage::Shutting { .. } | Stage::Draining { .. } | Stage::Stopping) {
            // A signal came before.
            return Ok(());
        }
        self.listeners.as_ref().map_or(Ok(()), |listeners| listeners.listen(patience))?;
        self.command(&Command::OpenDoor);
        Ok(())
    }

    /// Begins to drain, unless it does already: first of all `/readyz` says so.
    pub(super) fn drain(&mut self) {
        if self.stage == Stage::Serving {
            self.command(&Command::BeUnready);
            let delay_ms = self.drain.delay.as_millis() as u64;
            if delay_ms == 0 {
                return self.shut_doors(Waiting::TakenIn);
            }
            let delay_s = self.drain.delay.as_secs_f64();
            info!("/readyz says no; draining in {delay_s}s; a second signal stops at once");
            self.stage = Stage::Leaving { until: self.clock.now().mono + delay_ms };
        }
    }

    /// Tells all workers to take in nobody any more. What follows waits for their answers.
    pub(super) fn shut_doors(&mut self, waiting: Waiting) {
        let deadline = self.clock.now().mono + self.drain.within.as_millis() as u64;
        self.stage = Stage::Shutting { deadline };
        let have_started = self.employees.iter().all(|employee| employee.pinned.is_some());
        if waiting == Waiting::TakenIn && have_started {
            // The workers' own are the last then, and none waits behind an original that nobody
            // takes in. One that is about to start may still let go of them, in another table.
            self.listeners = None;
        }
        self.command(&Command::ShutDoor(waiting));
    }

    /// Once all workers have shut their doors: sends the connections on.
    fn send_on_when_shut(&mut self) {
        let Stage::Shutting { deadline } = self.stage else { return };
        let connections: Option<usize> = self.employees.iter().map(|employee| employee.shut).sum();
        let Some(connections) = connections else { return };
        self.listeners = None;
        self.announce_drain(connections);
        let has_store = self.successor.is_some() && self.identity.data.is_some();
        let plan = self.drain.plan(FAREWELL, connections, has_store);
        self.stage = Stage::Draining { deadline };
        self.command(&Command::Drain(Arc::new(plan)));
    }

    /// Tells all workers to leave their loops.
    fn stop(&mut self) {
        if self.stage != Stage::Stopping {
            self.stage = Stage::Stopping;
            self.command(&Command::Stop);
        }
    }

    /// Tells one worker something. False where there is none of that number.
    #[cfg(debug_assertions)]
    pub(super) fn command_one(&mut self, worker: usize, command: Command) -> bool {
        let Some(employee) = self.employees.get_mut(worker) else { return false };
        employee.order(command);
        self.deliver();
        true
    }

    pub(super) fn command(&mut self, command: &Command) {
        for employee in &mut self.employees {
            employee.order(command.clone());
        }
        self.deliver();
    }

    /// Waits once, and deals with all that has happened.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(8);
        let timeout = self.longest_sleep();
        let timeout = if self.reports.may_sleep() { timeout } else { Some(Duration::ZERO) };
        // An interrupted poll has no events, and a poll that fails otherwise is not one of ours.
        if let Err(error) = self.poll.poll(&mut events, timeout) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
        }
        self.reports.woke();
        self.heed_signals();
        while let Some(report) = self.reports.try_receive() {
            self.hear(report);
        }
        // Behind the reports: who was answered by one may have asked for more already.
        self.serve_desk();
        self.watch_closes();
        self.proceed();
        self.deliver();
    }

    fn longest_sleep(&self) -> Option<Duration> {
        let retry = self.employees.iter().any(|employee| !employee.commands.is_empty());
        let deadline = match self.stage {
            Stage::Leaving { until: deadline }
            | Stage::Shutting { deadline }
            | Stage::Draining { deadline } => {
                Some(Duration::from_millis(deadline.since_ms(self.clock.now().mono)))
            }
            Stage::Serving | Stage::Stopping => None,
        };
        let desk = self.desk.as_ref().and_then(Desk::deadline);
        let until = |at: Mono| Duration::from_millis(at.since_ms(self.clock.now().mono));
        let (desk, closes) = (desk.map(until), self.watch.deadline().map(until));
        [deadline, desk, closes, retry.then_some(RETRY)].into_iter().flatten().min()
    }

    fn heed_signals(&mut self) {
        let Some(signals) = &mut self.signals else { return };
        let pending: Vec<i32> = signals.pending().collect();
        for signal in pending {
            match (signal, self.stage) {
                (SIGUSR1, _) => self.count(Curious::Log),
                // A file of the store may grow no more. The write fails, which is dealt with there.
                (SIGXFSZ, _) => {}
                _ => self.heed_stop(),
            }
        }
    }

    /// A signal ends the server: in order the first time, whether or not that has begun already,
    /// because another process took over.
    fn heed_stop(&mut self) {
        let is_first = !std::mem::replace(&mut self.signalled, true);
        match self.stage {
            Stage::Serving => self.drain(),
            Stage::Leaving { .. } | Stage::Shutting { .. } | Stage::Draining { .. } if is_first => {
                info!("it drains already; a second signal stops at once");
            }
            Stage::Leaving { .. } | Stage::Shutting { .. } | Stage::Draining { .. } => {
                info!("a second signal: stopping at once");
                self.stop();
            }
            Stage::Stopping => {}
        }
    }

    /// Asks all workers for their numbers, unless an earlier question is still open: its answer
    /// serves both.
    pub(super) fn count(&mut self, curious: Curious) {
        if self.stage == Stage::Stopping {
            return;
        }
        let asked = !self.curious.is_empty();
        if !self.curious.contains(&curious) {
            self.curious.push(curious);
        }
        if !asked {
            self.employees.iter_mut().for_each(|employee| employee.counted = None);
            self.command(&Command::Count);
        }
    }

    fn hear(&mut self, report: Report) {
        let employee = &mut self.employees[report.worker.index()];
        match report.news {
            News::Started { pinned } => employee.pinned = Some(pinned),
            News::DoorShut { connections } => {
                employee.shut = Some(connections);
                self.send_on_when_shut();
            }
            News::Emptied => employee.emptied = true,
            News::Counted(counters) => {
                employee.counted = Some(*counters);
                self.announce_count();
            }
            News::Closed(tally) => self.hear_closed(report.worker, tally),
            News::FoundCloses(answer) => self.hear_closes(report.worker, answer),
            News::Gone => self.see_off(report.worker),
        }
    }

    fn announce_drain(&self, connections: usize) {
        let within_s = self.drain.within.as_secs_f64();
        let noun = if connections == 1 { "connection" } else { "connections" };
        info!("draining {connections} {noun}, at most {within_s}s; a second signal stops at once");
        let paced_ms = self.drain.paced_ms(connections);
        if paced_ms > self.drain.telling_ms() {
            warn!(
                "at --drain-rate {} that takes {}s, longer than --drain {within_s}s allows: they \
                 are told faster",
                self.drain.rate_per_s,
                paced_ms.div_ceil(1_000),
            );
        }
    }

    /// Once all workers have answered: their numbers, and the sum of them.
    fn announce_count(&mut self) {
        let Some(counted) =
            self.employees.iter().map(|employee| employee.counted).collect::<Option<Vec<_>>>()
        else {
            return;
        };
        let mut total = Counters::default();
        counted.iter().for_each(|counters| total.add(counters));
        for curious in std::mem::take(&mut self.curious) {
            match curious {
                Curious::Command(asker) => self.answer_count(asker, &counted, &total),
                Curious::Log => {
                    for (worker, counters) in counted.iter().enumerate() {
                        info!("worker {worker}: {counters}");
                    }
                    info!("all workers: {total}");
                }
            }
        }
    }

    /// A worker's thread ends: takes what it leaves behind.
    fn see_off(&mut self, worker: ShardId) {
        let Some(thread) = self.employees[worker.index()].thread.take() else { return };
        let told = self.stage == Stage::Stopping;
        let cause = match thread.join() {
            Ok(Departure { outcome: Ok(tally), seat }) => {
                // Closes here what was opened here.
                drop(seat);
                self.tally.counters.add(&tally.counters);
                self.tally.cut += tally.cut;
                self.watch.inherit(tally.closes);
                debug_assert!(told, "a worker leaves its loop when it is told to");
                return;
            }
            Ok(Departure { outcome: Err(cause), .. }) => Some(cause),
            Err(_) => None,
        };
        let lost = WorkerLost { worker, cause };
        error!("{lost}; the other workers are stopped");
        self.lost.get_or_insert(lost);
        self.stop();
    }

    /// Moves a drain on: stops the workers when all are empty, or when the time is over.
    fn proceed(&mut self) {
        let now = self.clock.now().mono;
        match self.stage {
            Stage::Serving | Stage::Stopping => {}
            Stage::Leaving { until } if now >= until => self.shut_doors(Waiting::TakenIn),
            Stage::Leaving { .. } => {}
            Stage::Draining { .. } if self.employees.iter().all(|employee| employee.emptied) => {
                self.stop();
            }
            Stage::Shutting { deadline } | Stage::Draining { deadline } => {
                if now >= deadline {
                    warn!("the time to drain is over; what is left is cut");
                    self.stop();
                }
            }
        }
    }

    /// Posts commands that wait, as far as mailboxes have room.
    fn deliver(&mut self) {
        for employee in &mut self.employees {
            while let Some(command) = employee.commands.front() {
                match employee.mailbox.try_send(Parcel::Command(command.clone())) {
                    Err(TrySendError::Full(_)) => break,
                    // Whoever is gone needs no command.
                    Ok(()) | Err(TrySendError::Disconnected(_)) => {
                        employee.commands.pop_front();
                    }
                }
            }
        }
    }
}

impl Employee {
    /// Has it told when its mailbox has room.
    pub(super) fn order(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    fn new(mailbox: Sender<Parcel>) -> Employee {
        Employee {
            mailbox,
            commands: VecDeque::new(),
            thread: None,
            pinned: None,
            shut: None,
            emptied: false,
            counted: None,
        }
    }
}

impl Drop for Steward {
    /// Leaves no thread behind.
    fn drop(&mut self) {
        self.stop();
        let _ = self.run();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::super::balance::Balance;
    use super::super::config::FileTables;
    use super::super::parcel::REPORTS_PER_WORKER;
    use super::super::seat::Seat;
    use super::super::steering::Steering;
    use super::super::worker::{BELL, HATCH};
    use super::super::worker_thread::Farewell;
    use super::*;
    use crate::net::hatch::hatch;
    use crate::net::mailbox::mailbox;

    /// A steward and the seats of its workers, whose mailboxes hold one letter.
    fn house(workers: u16) -> (Steward, Vec<Seat>) {
        let poll = Poll::new().unwrap();
        let room = usize::from(workers) * REPORTS_PER_WORKER;
        let (steward, reports) = mailbox(room, &poll, BELL).unwrap();
        let mut mailboxes = Vec::new();
        let seat = |_| {
            let poll = Poll::new().unwrap();
            let (sender, mailbox) = mailbox(1, &poll, BELL).unwrap();
            mailboxes.push(sender);
            let (slot, hatch) = hatch(&poll, HATCH).unwrap();
            let balance = Arc::new(Balance::new(workers));
            let steering = Steering { hatch, slots: Arc::new([slot]), balance };
            Seat {
                poll,
                mailbox,
                peers: Vec::new(),
                steward: steward.clone(),
                steering,
                store: None,
                exempt: Vec::new(),
                tables: FileTables::Shared,
                lives: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            }
        };
        let seats = (0..workers).map(seat).collect();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let identity = Identity { address, node: 1, data: None };
        let ways = (identity, DrainConfig::default());
        let steward = Steward::new(poll, reports, mailboxes, None, ways, Clock::start()).unwrap();
        (steward, seats)
    }

    /// A worker that does `work` and leaves.
    fn worker(
        number: u16,
        seat: Seat,
        work: impl FnOnce(&Seat) -> io::Result<Tally> + Send + 'static,
    ) -> JoinHandle<Departure> {
        thread::spawn(move || {
            let (worker, steward) = (ShardId(number), seat.steward.clone());
            let _farewell = Farewell { worker, steward };
            Departure { outcome: work(&seat), seat }
        })
    }

    /// Waits for a command, as a worker would in its loop.
    fn next_command(seat: &Seat) -> Command {
        loop {
            match seat.mailbox.try_receive() {
                Some(Parcel::Command(command)) => return command,
                Some(_) => panic!("nobody writes mail here"),
                None => thread::yield_now(),
            }
        }
    }

    fn obedient(seat: &Seat) -> io::Result<Tally> {
        while next_command(seat) != Command::Stop {}
        Ok(Tally { cut: 1, ..Tally::default() })
    }

    #[test]
    fn a_worker_that_panics_is_missed_and_the_others_are_stopped() {
        let (mut steward, mut seats) = house(2);
        steward.employ(worker(0, seats.remove(0), obedient));
        steward.employ(worker(1, seats.remove(0), |_| panic!("meant to be")));
        assert_eq!(steward.run().unwrap_err().to_string(), "worker 1 panicked");
    }

    #[test]
    fn a_worker_that_fails_to_start_tells_why() {
        let (mut steward, mut seats) = house(2);
        steward.employ(worker(0, seats.remove(0), obedient));
        steward.employ(worker(1, seats.remove(0), |_| Err(io::ErrorKind::AddrInUse.into())));
        assert_eq!(steward.wait_for_start().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn workers_are_stopped_when_all_are_empty_and_their_numbers_are_added() {
        let (mut steward, mut seats) = house(2);
        for number in 0..2 {
            steward.employ(worker(number, seats.remove(0), move |seat| {
                let report = |news| {
                    let report = Report { worker: ShardId(number), news };
                    seat.steward.try_send(report).expect("there is room for all of these");
                };
                report(News::Started { pinned: number == 0 });
                assert_eq!(next_command(seat), Command::BeUnready);
                assert_eq!(next_command(seat), Command::ShutDoor(Waiting::TakenIn));
                report(News::DoorShut { connections: 1 });
                assert!(matches!(next_command(seat), Command::Drain(_)));
                report(News::Emptied);
                obedient(seat)
            }));
        }
        assert!(!steward.wait_for_start().unwrap(), "one is not pinned");
        steward.drain();
        steward.drain();
        let stopped = steward.run().unwrap();
        assert_eq!(stopped.cut, 2);
    }

    #[test]
    fn a_command_waits_while_a_mailbox_is_full() {
        let (mut steward, mut seats) = house(1);
        let seat = seats.remove(0);
        steward.drain();
        steward.stop();
        assert_eq!(next_command(&seat), Command::BeUnready);
        assert!(seat.mailbox.try_receive().is_none(), "there was no room for a second one");
        steward.deliver();
        assert_eq!(next_command(&seat), Command::ShutDoor(Waiting::TakenIn));
        steward.deliver();
        assert_eq!(next_command(&seat), Command::Stop);
    }
}
