//! What the threads of a run share.
//!
//! Owns the plan, the clock, the few numbers that threads publish while they run, and the notes
//! that the conductor and the threads send each other. Numbers of different threads never share a
//! cache line. Never decides anything.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::flight::Flights;
use super::measure::{Latencies, RunClock};
use super::plan::Plan;
use super::speech;
use crate::net::mailbox::Sender;

/// When messages flow, and when it is measured, in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// Traffic begins, and with it what comes and goes; slow readers stop reading.
    pub start: u64,
    /// What is planned from here on is measured.
    pub from: u64,
    /// What is planned from here on is not sent any more.
    pub until: u64,
}

/// What a thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Open the connections that stay.
    Ramp {
        /// From this instant on, at the pace of the plan.
        at: u64,
    },
    /// Let messages flow.
    Traffic(Timetable),
    /// Drop all connections and open them again.
    Storm {
        /// At this instant.
        at: u64,
    },
    /// All threads have dropped what the storm of that instant drops.
    Away {
        /// When it was to begin.
        storm_at: u64,
    },
    /// Drop once more what the storm dropped, and open as many connections that say hello and want
    /// nothing else.
    Bare {
        /// At this instant they are opened.
        at: u64,
    },
    /// Nothing is measured any more; send one message to each room.
    Prove,
    /// A message of this publisher, which lives on this thread, has reached everybody.
    Landed(u32),
    /// Nothing more is sent. Say when all has come, and read what slow readers left unread.
    Drain,
    /// Look at what is missing, reset all connections and end.
    Stop,
}

/// What a thread publishes while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Connections that are open.
    pub open: AtomicU32,
    /// Those that stay and are where they want to be.
    pub ready: AtomicU32,
    /// Those that are back after a storm.
    pub returned: AtomicU32,
    /// Bare connections that were welcomed.
    pub accepted: AtomicU32,
    /// Messages and echoes sent.
    pub sent: AtomicU64,
    /// Deliveries and echoes heard.
    pub delivered: AtomicU64,
    /// What the server must not do.
    pub violations: AtomicU64,
    /// After [`Note::Drain`]: all has come.
    pub settled: AtomicBool,
    /// The thread has ended.
    pub ended: AtomicBool,
    /// The thread as the kernel names it.
    pub thread_id: AtomicI32,
}

/// What the threads of a run share.
pub struct Shared {
    /// What is to be done.
    pub plan: Plan,
    /// The run's clock.
    pub clock: RunClock,
    /// The server.
    pub target: SocketAddr,
    /// How many threads there are.
    pub threads: u32,
    /// Threads do not sleep.
    pub spin: bool,
    /// Names of the rooms.
    pub room_names: Vec<String>,
    /// Messages that were sent to each room.
    pub published: Vec<AtomicU32>,
    /// The closed loop, if there is one.
    pub flights: Option<Flights>,
    /// Threads that have dropped what the storm drops.
    dropped: AtomicU32,
    /// What each thread publishes.
    pub progress: Vec<CachePadded<Progress>>,
    /// Everybody's mailboxes.
    pub posts: Vec<Sender<Note>>,
    /// Latencies since somebody last looked, for the live line and the course of the run.
    pub recent: Mutex<Latencies>,
}

impl Shared {
    /// For a run of `plan` against `target`.
    pub fn new(
        plan: Plan,
        clock: RunClock,
        target: SocketAddr,
        posts: Vec<Sender<Note>>,
        spin: bool,
    ) -> Shared {
        let threads = posts.len() as u32;
        let (run, rooms) = (plan.config().run, plan.config().rooms);
        Shared {
            clock,
            target,
            threads,
            spin,
            room_names: (0..rooms).map(|room| speech::room_name(run, room)).collect(),
            published: (0..rooms).map(|_| AtomicU32::new(0)).collect(),
            flights: Flights::new(&plan, threads),
            dropped: AtomicU32::new(0),
            progress: (0..threads).map(|_| CachePadded::default()).collect(),
            posts,
            recent: Mutex::new(Latencies::new(2)),
            plan,
        }
    }

    /// Tells all threads. Their mailboxes have room for all that the conductor says.
    pub fn tell(&self, note: Note) {
        for post in &self.posts {
            // A thread that has ended needs to know nothing.
            let _ = post.try_send(note);
        }
    }

    /// A thread has dropped what the storm drops. Whether it was the last one.
    pub fn is_last_to_drop(&self) -> bool {
        self.dropped.fetch_add(1, Ordering::AcqRel) + 1 == self.threads
    }

    /// Adds up a number of all threads.
    pub fn sum(&self, number: impl Fn(&Progress) -> u64) -> u64 {
        self.progress.iter().map(|progress| number(progress)).sum()
    }

    /// Connections that stay and are where they want to be.
    pub fn ready(&self) -> u64 {
        self.sum(|progress| u64::from(progress.ready.load(Ordering::Relaxed)))
    }

    /// Connections that are back after a storm.
    pub fn returned(&self) -> u64 {
        self.sum(|progress| u64::from(progress.returned.load(Ordering::Relaxed)))
    }

    /// Bare connections that were welcomed.
    pub fn accepted(&self) -> u64 {
        self.sum(|progress| u64::from(progress.accepted.load(Ordering::Relaxed)))
    }

    /// Whether a thread has ended, which none does before it is told to unless it failed.
    pub fn any_ended(&self) -> bool {
        self.progress.iter().any(|progress| progress.ended.load(Ordering::Acquire))
    }
}
