//! The life of a worker's thread, from its core to its farewell.
//!
//! Owns the order in which a thread becomes a worker. Never turns: [`Worker`] does. The server
//! starts these threads, the steward joins them.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use core_affinity::CoreId;
use mio::net::TcpListener;

use super::close_log::CloseTally;
use super::config::FileTables;
use super::parcel::{News, Report};
use super::seat::Seat;
use super::supervisor::supervise;
use super::worker::Worker;
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::ids::ShardId;
use crate::chat::config::ShardConfig;
use crate::chat::record::Recovered;
use crate::net::kernel;
use crate::net::listener::Listeners;
use crate::net::mailbox::Sender;

/// What a thread needs to become a worker.
pub(super) struct WorkerThread {
    pub(super) core: Option<CoreId>,
    pub(super) tables: FileTables,
    /// Whether the server is all there is in this process: every open descriptor is its own then.
    pub(super) alone: bool,
    /// Descriptors of the main thread that no worker has a use for.
    pub(super) elsewhere: Vec<RawFd>,
    /// All listeners of the server.
    pub(super) listeners: Arc<Listeners>,
    pub(super) clock: Clock,
    pub(super) seat: Seat,
    pub(super) config: ShardConfig,
    /// What was kept of the shard; none where all is in memory.
    pub(super) recovered: Option<Recovered>,
}

/// What is left of a worker when its thread has ended.
pub(super) struct Departure {
    /// How it went.
    pub(super) outcome: io::Result<Tally>,
    /// Opened before file tables became private, and to be closed in the table in which it was
    /// opened: the thread's own copies go with its table.
    pub(super) seat: Seat,
}

/// What a worker has to show for itself.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counters: Counters,
    /// Connections that were still open when it left its loop.
    pub(super) cut: usize,
    /// Connections that ended and of which the steward has not heard.
    pub(super) closes: CloseTally,
}

/// Tells the steward that the thread ends, however it ends.
pub(super) struct Farewell {
    pub(super) worker: ShardId,
    pub(super) steward: Sender<Report>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self.steward.try_send(Report { worker: self.worker, news: News::Gone });
    }
}

impl WorkerThread {
    /// Becomes a worker, turns until told to stop, and closes all that was opened here.
    pub(super) fn run(self) -> Departure {
        let id = self.config.shard;
        let steward = self.seat.steward.clone();
        let _farewell = Farewell { worker: id, steward: steward.clone() };
        let pinned = self.core.is_some_and(core_affinity::set_for_current);
        // Before anything else is opened on this thread.
        let doors = match self.take_table() {
            Ok(doors) => doors,
            Err(error) => return Departure { outcome: Err(error), seat: self.seat },
        };
        // The main thread alone decides from here on when the originals are closed.
        drop(self.listeners);
        let config = self.config;
        let mut worker = Worker::new(config.clone(), self.clock, self.seat);
        if let Some(recovered) = self.recovered {
            worker.recover(recovered);
        }
        let outcome = worker.add_doors(doors).map(|()| {
            let _ = steward.try_send(Report { worker: id, news: News::Started { pinned } });
        });
        let (worker, outcome) = match outcome {
            Ok(()) => supervise(worker, &config),
            Err(error) => (worker, Err(error)),
        };
        let cut = worker.connections();
        let (seat, closes) = worker.leave();
        Departure { outcome: outcome.map(|counters| Tally { counters, cut, closes }), seat }
    }

    /// Makes the thread's table its own, where it may have one, and takes the worker's listeners.
    fn take_table(&self) -> io::Result<Vec<TcpListener>> {
        let (number, workers) = (self.config.shard.index(), usize::from(self.config.shards));
        if self.tables == FileTables::Shared {
            return self.listeners.share_of(number, workers);
        }
        let table = kernel::make_private_table()?;
        let originals: Vec<RawFd> = self.listeners.descriptors().collect();
        if self.alone {
            // All else is meant to be here, the signals' pipe above all.
            self.elsewhere.iter().for_each(|&number| table.close_copy(number));
        } else {
            let hatches = self.seat.steering.descriptors();
            table
                .close_strangers(&originals.iter().copied().chain(hatches).collect::<Vec<RawFd>>());
        }
        let doors = self.listeners.share_of(number, workers)?;
        originals.into_iter().for_each(|number| table.close_copy(number));
        Ok(doors)
    }
}
