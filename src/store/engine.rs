//! The embedded engine.
//!
//! Owns what the store asks of an engine ([`Engine`]) and the one that is used, fjall: of the
//! engines that were measured the one that takes groups of small records with the least processor
//! time. Never knows what a key means. The keeper calls it, on the store's thread.

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

/// An ordered map on a disk that changes in whole groups.
///
/// After an error nothing is known of the group, and nothing more is asked of the engine: it is
/// dropped and opened anew.
pub trait Engine {
    /// Applies all changes or none.
    ///
    /// # Errors
    /// What the disk says.
    fn commit(&mut self, changes: Vec<Change>, reach: Reach) -> io::Result<()>;

    /// Waits until the disk has all that was committed.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;

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
    use std::io;
    use std::path::Path;

    use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

    use super::{Change, Engine, Reach};

    /// All records are read once, at the start: there is nothing to cache.
    const CACHE_BYTES: u64 = 4 << 20;
    /// Records in memory before they are sorted into a file.
    const MEMTABLE_BYTES: u64 = 16 << 20;
    /// Journals that precede what was sorted into files; the least that the engine allows.
    const JOURNAL_BYTES: u64 = 64 << 20;

    struct Fjall {
        database: Database,
        records: Keyspace,
    }

    pub(super) fn open(path: &Path) -> io::Result<Box<dyn Engine>> {
        let builder = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1);
        let database = builder.open().map_err(to_io)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let records = database.keyspace("records", options).map_err(to_io)?;
        Ok(Box::new(Fjall { database, records }))
    }

    impl Engine for Fjall {
        fn commit(&mut self, changes: Vec<Change>, reach: Reach) -> io::Result<()> {
            let mode = match reach {
                Reach::System => PersistMode::Buffer,
                Reach::Disk => PersistMode::SyncData,
            };
            let mut batch = self.database.batch().durability(Some(mode));
            for change in changes {
                match change {
                    Change::Put { key, value } => batch.insert(&self.records, key, value),
                    Change::Strike { key } => batch.remove(&self.records, key),
                }
            }
            batch.commit().map_err(to_io)
        }

        fn sync(&mut self) -> io::Result<()> {
            self.database.persist(PersistMode::SyncData).map_err(to_io)
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
