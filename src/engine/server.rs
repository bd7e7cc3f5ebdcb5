//! A whole server: the order in which it starts, and the handle by which it is stopped.
//!
//! Owns the start: file limits, the reserved port, polls and mailboxes, secrets, and the threads
//! of the workers. Never turns a loop itself: the workers do, and the steward waits for them.
//! The command line runs one with signals, tests run many without.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use log::{debug, info, warn};
use mio::Poll;
use rustix::rand::{GetRandomFlags, getrandom};
use signal_hook_mio::v1_0::Signals;

use super::balance::Balance;
use super::config::{FileTables, ServerConfig, StartError, connections_per_worker};
use super::parcel::{Parcel, REPORTS_PER_WORKER};
use super::predecessor::{Predecessor, canonical};
use super::seat::Seat;
use super::steering::Steering;
use super::steward::{self, Steward, Stopped, WorkerLost};
use super::store_thread::{RunningStore, StoreThread};
use super::succession::Identity;
use super::worker::{BELL, HATCH};
use super::worker_thread::WorkerThread;
use crate::base::clock::Clock;
use crate::base::ids::{SHARDS_MAX, ShardId};
use crate::base::limits::MAILBOX_CAPACITY;
use crate::chat::config::ShardConfig;
use crate::chat::hash::{self, NameHasher};
use crate::chat::record::Recovered;
use crate::net::admin_socket::{AdminSocket, Place};
use crate::net::hatch::{Slot, hatch};
use crate::net::kernel;
use crate::net::listener::{self, Listeners, Reservation};
use crate::net::mailbox::{Receiver, Sender, mailbox};
use crate::store::OpenError;

/// How long a predecessor that was killed may still hold its store, and how often that is tried.
const UNLOCK_PATIENCE: Duration = Duration::from_secs(10);
const UNLOCK_LOOK: Duration = Duration::from_millis(20);

/// What a started server found and chose, for the start-up lines.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Where it listens.
    pub address: SocketAddr,
    /// The process whose place it took.
    pub took_over_from: Option<u32>,
    /// How many workers turn.
    pub workers: u16,
    /// How many cores they may use.
    pub cores: usize,
    /// Whether each stays on its core.
    pub pinned: bool,
    /// Whether each has a table of descriptors of its own.
    pub tables: FileTables,
    /// The limit on open files of one table.
    pub open_files: u64,
    /// The connections that one worker may hold.
    pub connections_per_worker: usize,
    /// What was found in the store; none where all is in memory.
    pub stored: Option<StoreFacts>,
}

/// What was found in a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreFacts {
    /// Rooms.
    pub rooms: usize,
    /// Their messages.
    pub messages: u64,
    /// Direct messages that wait.
    pub directs: u64,
    /// How long it took to read.
    pub took: Duration,
    /// Whether messages that clients have seen may be missing, so that epochs began anew.
    pub torn: bool,
}

/// A running server. Dropping it stops it at once.
pub struct Server {
    steward: Steward,
    /// Behind the steward: it ends when the workers have.
    store: Option<RunningStore>,
    facts: Facts,
}

impl Server {
    /// Starts a server inside a larger process: it leaves signals alone.
    ///
    /// Returns when all workers listen.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub fn start(config: ServerConfig) -> Result<Server, StartError> {
        Start::new(config, None)?.run()
    }

    /// Starts the server of this process: `SIGTERM` and `SIGINT` drain it and a second one stops it
    /// at once; `SIGUSR1` logs its numbers.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub fn start_with_signals(config: ServerConfig) -> Result<Server, StartError> {
        // The signals' pipe must be in every table, since the handler may run on any thread.
        let signals = steward::signals().map_err(machine("handle signals"))?;
        Start::new(config, Some(signals))?.run()
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.facts.address
    }

    /// What the server found and chose at its start.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Begins to drain. [`Server::join`] waits for the end of it.
    pub fn stop(&mut self) {
        self.steward.drain();
    }

    /// Waits until the server has stopped: after [`Server::stop`], or by a signal.
    ///
    /// # Errors
    /// [`WorkerLost`] where a worker panicked or lost its poll; the others are stopped then.
    pub fn join(self) -> Result<Stopped, WorkerLost> {
        let Server { mut steward, store, .. } = self;
        let outcome = steward.run();
        // Whoever takes over hears by the end of its conversation that all is closed.
        let desk = steward.desk.take();
        drop((steward, store));
        drop(desk);
        outcome
    }
}

/// A store that was opened; nothing where all is in memory.
#[derive(Default)]
struct Opened {
    store: Option<RunningStore>,
    /// What was kept for each shard.
    parts: Vec<Recovered>,
    stored: Option<StoreFacts>,
}

/// Everything a start needs, gathered before the first thread.
struct Start {
    config: ServerConfig,
    clock: Clock,
    /// Where it listens.
    address: SocketAddr,
    /// What holds the port until the workers listen; none where it was taken over.
    reservation: Option<Reservation>,
    /// Whose place it takes.
    predecessor: Option<Predecessor>,
    /// Where its predecessor takes commands.
    replaced: Option<PathBuf>,
    /// The descriptor of the socket for commands.
    desk: Option<RawFd>,
    signals: Option<Signals>,
    /// Whether the server is all there is in this process.
    alone: bool,
    cores: Vec<CoreId>,
    tables: FileTables,
    /// Why tables are shared.
    no_private_tables: Option<io::Error>,
    open_files: u64,
    secret: [u64; 2],
    seeds: fastrand::Rng,
}

impl Start {
    fn new(mut config: ServerConfig, signals: Option<Signals>) -> Result<Start, StartError> {
        let open_files = kernel::raise_open_file_limit();
        let no_private_tables = kernel::try_private_table().err();
        let tables = match no_private_tables {
            None => FileTables::Private,
            Some(_) => FileTables::Shared,
        };
        let workers = config.workers.max(1);
        config.workers = workers;
        config.limits.max_connections =
            connections_per_worker(open_files, tables, workers, config.max_connections)?;
        let subscriptions = &mut config.limits.max_subscriptions;
        *subscriptions = subscriptions.div_ceil(usize::from(workers));
        let offline = &mut config.limits.offline_memory;
        *offline = offline.div_ceil(usize::from(workers));
        let memory = &mut config.limits.history_memory;
        *memory = memory.div_ceil(usize::from(workers));
        let sessions = &mut config.limits.max_kept_sessions;
        *sessions = sessions.div_ceil(usize::from(workers));
        let predecessor = Predecessor::ask(&config)?;
        let reservation = match predecessor {
            Some(_) => None,
            None => Some(
                listener::reserve(config.listen)
                    .map_err(|cause| StartError::Listen { address: config.listen, cause })?,
            ),
        };
        let address = match (&predecessor, &reservation) {
            (Some(predecessor), _) => predecessor.address(),
            (None, reserved) => reserved.as_ref().expect("one of the two").address(),
        };
        let [first, second, seed] = random_words().map_err(machine("read random numbers"))?;
        Ok(Start {
            clock: Clock::start(),
            cores: cores(),
            secret: [first, second],
            seeds: fastrand::Rng::with_seed(seed),
            config,
            address,
            reservation,
            replaced: predecessor.as_ref().map(|it| it.path().to_owned()),
            predecessor,
            desk: None,
            alone: signals.is_some(),
            signals,
            tables,
            no_private_tables,
            open_files,
        })
    }

    fn run(mut self) -> Result<Server, StartError> {
        let (mut seats, mut steward) = self.furnish().map_err(machine("set up the workers"))?;
        if self.predecessor.is_none() {
            self.open_desk(&mut steward)?;
        }
        let given = match &mut self.predecessor {
            Some(predecessor) => predecessor.take_listeners()?,
            None => Vec::new(),
        };
        let took_over_from = self.predecessor.as_ref().map(Predecessor::pid);
        if self.config.data.is_some() {
            // Its store has to be closed before this one can open it.
            self.succeed(&mut steward)?;
        }
        let Opened { store, parts, stored } = self.open_store(&mut seats, &given)?;
        let listeners = Listeners::open(given, self.address, seats.len());
        steward.listeners = Some(Arc::new(listeners.map_err(|cause| self.refusal(cause))?));
        let pinned = self.employ(&mut steward, seats, parts)?;
        self.succeed(&mut steward)?;
        let patience = Duration::from_secs(self.config.heartbeat.timeout_s.into());
        steward.open_doors(patience).map_err(|cause| self.refusal(cause))?;
        // Only now: a start that is refused is told in one line.
        if let Some(error) = &self.no_private_tables {
            warn!("workers share one file table: the system forbids private ones ({error})");
        }
        if self.config.pin && !pinned {
            warn!("the system does not let workers be pinned to cores; they run unpinned");
        }
        let facts = Facts {
            address: self.address,
            took_over_from,
            workers: self.config.workers,
            cores: self.cores.len(),
            pinned,
            tables: self.tables,
            open_files: self.open_files,
            connections_per_worker: self.config.limits.max_connections,
            stored,
        };
        Ok(Server { steward, store, facts })
    }

    /// Starts the workers' threads. Returns whether all that asked for it are pinned.
    fn employ(
        &mut self,
        steward: &mut Steward,
        seats: Vec<Seat>,
        parts: Vec<Recovered>,
    ) -> Result<bool, StartError> {
        let listeners = steward.listeners.clone().expect("they were just opened");
        let mut parts = parts.into_iter();
        for (seat, number) in seats.into_iter().zip(0..) {
            let worker = self.thread(ShardId(number), seat, &listeners, parts.next());
            let builder = thread::Builder::new().name(format!("cb-worker-{number}"));
            let handle = builder.spawn(move || worker.run()).map_err(machine("start a thread"))?;
            steward.employ(handle);
        }
        drop(listeners);
        steward.wait_for_start().map_err(|cause| self.refusal(cause))
    }

    /// Takes the predecessor's place, where there still is one. With a store, waits until it is
    /// closed; clients wait in the kernel meanwhile.
    fn succeed(&mut self, steward: &mut Steward) -> Result<(), StartError> {
        let Some(mut predecessor) = self.predecessor.take() else { return Ok(()) };
        let told_to_stop =
            || Err(StartError::TakeOver("told to stop before it had started".into()));
        if steward.is_told_to_stop() {
            // Nothing has happened yet: the one that runs goes on.
            return told_to_stop();
        }
        predecessor.tell_ready()?;
        if let Err(error) = self.open_desk(steward) {
            // There is no way back, and clients need this less than a server.
            warn!("no commands are taken: {error}");
        }
        if self.config.data.is_some() {
            info!("waiting for process {} to close its store", predecessor.pid());
            if !predecessor.wait_for_end(|| !steward.is_told_to_stop()) {
                return told_to_stop();
            }
        }
        Ok(())
    }

    /// Descriptors of the main thread that no other has a use for.
    fn elsewhere(&self) -> Vec<RawFd> {
        let reserved = self.reservation.as_ref().map(Reservation::descriptor);
        let predecessor = self.predecessor.as_ref().map(Predecessor::descriptor);
        reserved.into_iter().chain(predecessor).chain(self.desk).collect()
    }

    /// Lets the steward take commands. Where only the usual place was asked for, and cannot be had,
    /// the server does without.
    fn open_desk(&mut self, steward: &mut Steward) -> Result<(), StartError> {
        let replaced = self.replaced.as_deref();
        let opened = match &self.config.admin {
            Place::Off => return Ok(()),
            Place::At(path) => AdminSocket::open(path, replaced).map_err(StartError::Admin)?,
            Place::Usual => match AdminSocket::open_usual(self.address.port(), replaced) {
                Ok(opened) => opened,
                Err(error) => {
                    warn!("no commands are taken: {error}");
                    return Ok(());
                }
            },
        };
        debug!("commands are taken at {}", opened.path().display());
        self.desk = Some(opened.descriptor());
        steward.open_desk(opened).map_err(machine("take commands"))
    }

    /// Starts the store, where there is to be one, and gives every seat its end of the channel.
    fn open_store(&self, seats: &mut [Seat], given: &[TcpListener]) -> Result<Opened, StartError> {
        let Some(data) = self.config.data.clone() else { return Ok(Opened::default()) };
        let began = Instant::now();
        let (store, submit, loaded) = loop {
            let thread = StoreThread {
                data: data.clone(),
                durability: self.config.durability,
                tables: self.tables,
                alone: self.alone,
                elsewhere: given.iter().map(AsRawFd::as_raw_fd).chain(self.elsewhere()).collect(),
                workers: seats[0].peers.clone(),
            };
            match thread.start() {
                // A process that is killed hangs up a moment before it lets go of its store.
                Err(StartError::Store(OpenError::Locked { .. }))
                    if self.replaced.is_some() && began.elapsed() < UNLOCK_PATIENCE =>
                {
                    thread::sleep(UNLOCK_LOOK);
                }
                other => break other?,
            }
        };
        let stored = StoreFacts {
            rooms: loaded.rooms.len(),
            messages: loaded.messages,
            directs: loaded.directs,
            took: began.elapsed(),
            torn: loaded.renew_epochs,
        };
        for seat in seats {
            seat.store = Some(submit.clone());
        }
        let (hasher, shards) = (NameHasher::new(self.secret), self.config.workers);
        let parts = loaded.divide(shards, |name| hash::home(hasher.hash(name), shards));
        Ok(Opened { store: Some(store), parts, stored: Some(stored) })
    }

    /// Opens what must be in every file table: all polls, and all bells.
    fn furnish(&mut self) -> io::Result<(Vec<Seat>, Steward)> {
        let workers = usize::from(self.config.workers);
        let poll = Poll::new()?;
        let (to_steward, reports) = mailbox(workers * REPORTS_PER_WORKER, &poll, BELL)?;
        let mut desks: Vec<(Poll, Receiver<Parcel>)> = Vec::with_capacity(workers);
        let mut peers: Vec<Sender<Parcel>> = Vec::with_capacity(workers);
        let (mut slots, mut hatches) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let poll = Poll::new()?;
            let (sender, receiver) = mailbox(MAILBOX_CAPACITY, &poll, BELL)?;
            let (slot, hatch) = hatch(&poll, HATCH)?;
            desks.push((poll, receiver));
            peers.push(sender);
            slots.push(slot);
            hatches.push(hatch);
        }
        let slots: Arc<[Slot]> = slots.into();
        let balance = Arc::new(Balance::new(self.config.workers));
        let lives: Arc<[AtomicU32]> = (0..workers).map(|_| AtomicU32::new(0)).collect();
        let seats = desks
            .into_iter()
            .zip(hatches)
            .map(|((poll, mailbox), hatch)| {
                let (slots, balance) = (Arc::clone(&slots), Arc::clone(&balance));
                let steering = Steering { hatch, slots, balance };
                let (peers, steward) = (peers.clone(), to_steward.clone());
                let (exempt, lives) = (self.config.exempt.clone(), Arc::clone(&lives));
                let tables = self.tables;
                Seat { poll, mailbox, peers, steward, steering, store: None, exempt, tables, lives }
            })
            .collect();
        let signals = self.signals.take();
        let identity = Identity {
            address: self.address,
            node: self.config.node.0,
            data: self.config.data.as_deref().map(canonical),
        };
        let ways = (identity, self.config.drain.clone());
        let steward = Steward::new(poll, reports, peers, signals, ways, self.clock)?;
        Ok((seats, steward))
    }

    fn thread(
        &mut self,
        shard: ShardId,
        seat: Seat,
        listeners: &Arc<Listeners>,
        recovered: Option<Recovered>,
    ) -> WorkerThread {
        let core = match self.cores.len() {
            count if count > 0 && self.config.pin => Some(self.cores[shard.index() % count]),
            _ => None,
        };
        WorkerThread {
            core,
            tables: self.tables,
            alone: self.alone,
            elsewhere: self.elsewhere(),
            listeners: Arc::clone(listeners),
            clock: self.clock,
            seat,
            recovered,
            config: ShardConfig {
                shard,
                shards: self.config.workers,
                node: self.config.node,
                limits: self.config.limits,
                heartbeat: self.config.heartbeat,
                seed: self.seeds.u64(..),
                secret: self.secret,
                publish_everyone: self.config.publish_everyone,
                overflow: Arc::clone(&self.config.overflow),
                durability: self.config.data.as_ref().map(|_| self.config.durability),
                web: self.config.web.clone(),
            },
        }
    }

    /// A worker could not start.
    fn refusal(&self, cause: io::Error) -> StartError {
        match cause.kind() {
            io::ErrorKind::AddrInUse => StartError::Listen { address: self.config.listen, cause },
            _ => StartError::Machine { what: "start a worker", cause },
        }
    }
}

/// As many workers as there are cores to use: those that the process may run on, or fewer where a
/// quota grants less processor time than that.
pub fn default_workers() -> u16 {
    let quota = thread::available_parallelism().map_or(1, NonZero::get);
    let count = match cores().len() {
        0 => quota,
        cores => cores.min(quota),
    };
    u16::try_from(count).unwrap_or(u16::MAX).min(SHARDS_MAX as u16)
}

fn cores() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

fn machine(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |cause| StartError::Machine { what, cause }
}

/// Three words from the kernel's random source.
fn random_words() -> io::Result<[u64; 3]> {
    let mut bytes = [0; 24];
    let filled = getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    // The kernel fills requests of up to 256 bytes whole.
    assert_eq!(filled, bytes.len());
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Ok([word(0), word(8), word(16)])
}
