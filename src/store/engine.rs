//! The embedded engine.
//!
//! Owns what the store asks of an engine ([`Engine`]) and the one that is used, fjall: of the
//! engines that were measured the one that takes groups of records with the least processor time.
//! Never knows what a key means. [`bundles`](super::bundles) call it, on the store's thread.

use std::io;
use std::path::Path;

use super::codec::Change;

/// How far a commit goes before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The operating system has it.
    System,
    /// The disk has it.
    Disk,
}

/// Waits until the disk has all that was committed before the call, on a thread of its own and
/// while the engine goes on.
pub type Syncing = Box<dyn FnMut() -> io::Result<()> + Send>;

/// An ordered map on a disk that changes in whole groups.
///
/// After an error nothing is known of the group, and nothing more is asked of the engine: it is
/// dropped and opened anew.
pub trait Engine {
    /// Adds a change to the group.
    fn stage(&mut self, change: Change<'_>);

    /// Applies all changes of the group or none, and begins another one.
    ///
    /// # Errors
    /// What the disk says.
    fn commit(&mut self, reach: Reach) -> io::Result<()>;

    /// A way to wait for the disk without holding up the next commit.
    fn syncing(&self) -> Syncing;

    /// Waits until the disk has all that was committed.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;

    /// The value of a key, as it was committed.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] for what was damaged.
    fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Shows every key with its value, in the order of the keys, until `each` returns false.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] for what was damaged.
    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()>;
}

/// Opens the engine whose files are at `path`, made if there are none.
///
/// # Errors
/// What the disk says, and [`io::ErrorKind::InvalidData`] for what was damaged.
#[cfg(feature = "store")]
pub fn open(path: &Path) -> io::Result<Box<dyn Engine>> {
    fjall_engine::open(path)
}

/// Without the feature `store` there is no engine.
///
/// # Errors
/// Always.
#[cfg(not(feature = "store"))]
pub fn open(_path: &Path) -> io::Result<Box<dyn Engine>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(feature = "store")]
mod fjall_engine {
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    use fjall::config::{BlockSizePolicy, FilterPolicy};
    use fjall::{
        Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, UserValue,
    };

    use super::{Change, Engine, Reach, Syncing};

    /// All is read once, at the start, and then only what is cleaned: there is nothing to cache.
    const CACHE_BYTES: u64 = 4 << 20;
    /// Bundles in memory before they are sorted into a file. Most are dropped before that, and are
    /// never sorted. The engine holds up commits while it begins a file, so they should be few.
    const MEMTABLE_BYTES: u64 = 32 << 20;
    /// Journals that precede what was sorted into files; the least that the engine allows.
    const JOURNAL_BYTES: u64 = 64 << 20;
    /// Bundles that are sorted and checked together. They are read in their order and all at once.
    const BLOCK_BYTES: u32 = 32 << 10;

    struct Fjall {
        database: Database,
        records: Keyspace,
        group: OwnedWriteBatch,
        path: PathBuf,
    }

    pub(super) fn open(path: &Path) -> io::Result<Box<dyn Engine>> {
        let builder = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1);
        let database = builder.open().map_err(to_io)?;
        // What is looked for is there, so filters would be of no use.
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                .filter_policy(FilterPolicy::disabled())
        };
        let records = database.keyspace("records", options).map_err(to_io)?;
        let group = database.batch();
        Ok(Box::new(Fjall { database, records, group, path: path.to_path_buf() }))
    }

    impl Engine for Fjall {
        fn stage(&mut self, change: Change<'_>) {
            match change {
                // The only copy of a message that is made here: the engine keeps it.
                Change::Put { key, value } => {
                    self.group.insert(&self.records, key, UserValue::from(value));
                }
                Change::Strike { key } => self.group.remove(&self.records, key),
            }
        }

        fn commit(&mut self, reach: Reach) -> io::Result<()> {
            let mode = match reach {
                Reach::System => PersistMode::Buffer,
                Reach::Disk => PersistMode::SyncData,
            };
            let next = OwnedWriteBatch::with_capacity(self.database.clone(), self.group.len());
            let group = std::mem::replace(&mut self.group, next);
            group.durability(Some(mode)).commit().map_err(to_io)
        }

        /// The engine's own way keeps commits out while it waits. The disk does not care through
        /// which descriptor it is asked, and the engine itself waits for the journals that it
        /// closes; so it is enough to wait for the newest one.
        fn syncing(&self) -> Syncing {
            let path = self.path.clone();
            Box::new(move || match newest_journal(&path)? {
                Some(journal) => File::open(journal)?.sync_data(),
                None => Err(io::Error::other("the engine has no journal")),
            })
        }

        fn sync(&mut self) -> io::Result<()> {
            self.database.persist(PersistMode::SyncData).map_err(to_io)
        }

        fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
            let value = self.records.get(key).map_err(to_io)?;
            Ok(value.map(|value| value.to_vec()))
        }

        fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
            for guard in self.records.iter() {
                let (key, value) = guard.into_inner().map_err(to_io)?;
                if !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        }
    }

    /// The journal that the engine writes to: the one with the highest number.
    fn newest_journal(path: &Path) -> io::Result<Option<PathBuf>> {
        let mut newest = None;
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse().ok());
            newest = newest.max(number);
        }
        Ok(newest.map(|number: u64| path.join(format!("{number}.jnl"))))
    }

    /// An error of the system as it is; all others say that something was damaged.
    fn to_io(error: fjall::Error) -> io::Error {
        match error {
            fjall::Error::Io(error) => error,
            fjall::Error::Locked => io::ErrorKind::ResourceBusy.into(),
            // A background thread failed, and has said why in the engine's own log.
            fjall::Error::Poisoned => io::Error::other("the engine gave up"),
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}
