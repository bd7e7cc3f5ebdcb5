//! The life of the store's thread.
//!
//! Owns the order in which it becomes one: its own file table, then the data directory, then the
//! news of what is in it, then its work until all workers have hung up. Never knows what a record
//! is. The server starts it before the workers and waits for its end behind theirs.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender as ChannelSender, TrySendError, bounded};

use super::config::{FileTables, StartError};
use super::parcel::Parcel;
use crate::base::limits::{STORE_CHANNEL_CAPACITY, STORE_LOST_PAUSE_MS, STORE_LOST_TRIES_MAX};
use crate::chat::record::Durability;
use crate::net::kernel;
use crate::net::mailbox::Sender;
use crate::store::OpenError;
use crate::store::intake::{self, Intake, Submitter};
use crate::store::keeper::{Errand, Keeper, KeeperConfig, Post};
use crate::store::load::Loaded;

/// What the thread needs.
pub(super) struct StoreThread {
    pub(super) data: PathBuf,
    pub(super) durability: Durability,
    pub(super) tables: FileTables,
    /// Whether the server is all there is in this process.
    pub(super) alone: bool,
    /// Descriptors of the main thread that the store has no use for.
    pub(super) elsewhere: Vec<RawFd>,
    /// The mailboxes of all workers, by shard.
    pub(super) workers: Vec<Sender<Parcel>>,
}

/// A store at its work. Dropping it waits for its end, which comes when all workers are gone.
pub(super) struct RunningStore {
    thread: Option<JoinHandle<()>>,
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It has logged whatever went wrong.
            let _ = thread.join();
        }
    }
}

impl StoreThread {
    /// Starts the thread and waits until everything is read. Workers hand their records over by the
    /// submitter.
    pub(super) fn start(self) -> Result<(RunningStore, Submitter<Errand>, Loaded), StartError> {
        let (submit, submissions) = intake::bounded(STORE_CHANNEL_CAPACITY);
        let (tell, told) = bounded(1);
        let builder = thread::Builder::new().name("cb-store".into());
        let thread = builder
            .spawn(move || self.run(submissions, &tell))
            .map_err(|cause| StartError::Machine { what: "start a thread", cause })?;
        let store = RunningStore { thread: Some(thread) };
        let loaded = told.recv().map_err(|_| StartError::StorePanicked)?;
        Ok((store, submit, loaded.map_err(StartError::Store)?))
    }

    fn run(self, submissions: Intake<Errand>, tell: &ChannelSender<Result<Loaded, OpenError>>) {
        self.take_table();
        // Dropped behind the store, so that whoever hears of it can hand nothing over any more.
        let _alarm = Alarm { workers: self.workers.clone() };
        let config = KeeperConfig {
            durability: self.durability,
            shards: u16::try_from(self.workers.len()).expect("shards are counted by 16 bits"),
            submissions,
            post: post_to(self.workers),
        };
        match Keeper::open(Path::new(&self.data), config) {
            Ok((keeper, loaded)) => {
                let _ = tell.send(Ok(loaded));
                keeper.run();
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    }

    /// So the engine's files are in no worker's table, where a copy would keep the space of deleted
    /// ones. Threads that the engine starts share this one.
    fn take_table(&self) {
        if self.tables == FileTables::Private
            && let Ok(table) = kernel::make_private_table()
        {
            if self.alone {
                self.elsewhere.iter().for_each(|&number| table.close_copy(number));
            } else {
                table.close_strangers(&[]);
            }
        }
    }
}

/// Tells the workers where the thread panics: what they have handed over is never answered, and
/// nobody has to hand over more to find out.
struct Alarm {
    workers: Vec<Sender<Parcel>>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for worker in &self.workers {
            // A mailbox that stays full for so long belongs to a worker that does not turn.
            for _ in 0..STORE_LOST_TRIES_MAX {
                match worker.try_send(Parcel::StoreLost) {
                    Err(TrySendError::Full(_)) => {
                        thread::sleep(Duration::from_millis(STORE_LOST_PAUSE_MS))
                    }
                    Ok(()) | Err(TrySendError::Disconnected(_)) => break,
                }
            }
        }
    }
}

fn post_to(workers: Vec<Sender<Parcel>>) -> Post {
    Box::new(move |shard, outcome, numbers| {
        let parcel = Parcel::Stored { outcome, numbers };
        let posted = workers[shard.index()].try_send(parcel);
        // A worker that is gone wants to know no more.
        !matches!(posted, Err(TrySendError::Full(_)))
    })
}
