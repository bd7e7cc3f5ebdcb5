//! Storage: what outlives the process.
//!
//! Owns the data directory, the embedded engine in it, and the thread's work that writes what the
//! shards hand over and tells them by watermarks how far it has come. Never decides what is kept:
//! the heart does ([`record`](crate::chat::record)). Never waits for a worker, and no worker waits
//! for it. The engine's store thread runs it.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`directory`] | the data directory: format, lock, how the last run ended |
//! | [`codec`] | records to keys and values, and back |
//! | [`bundles`] | the changes of a group as one value of the engine |
//! | [`engine`] | what an engine must do, and the one that does it |
//! | [`load`] | all of it back into rooms and users |
//! | [`intake`] | what workers hand over |
//! | [`renewal`] | rooms that are to begin other epochs after a run that may have lost something |
//! | [`syncer`] | waits for the disk beside the commits |
//! | [`keeper`] | groups of records, commits, failures, watermarks |

pub mod bundles;
pub mod codec;
pub mod directory;
pub mod engine;
pub mod intake;
pub mod keeper;
pub mod load;
pub mod renewal;
pub mod syncer;

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a store was not opened. Each prints as one line that names the directory and the remedy.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses the directory.
    Locked {
        /// The directory.
        data: PathBuf,
    },
    /// The directory holds something else.
    Foreign {
        /// The directory.
        data: PathBuf,
    },
    /// The directory was written by a version that this one does not know.
    Version {
        /// The directory.
        data: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// What is stored contradicts itself.
    Corrupt {
        /// The directory.
        data: PathBuf,
        /// What was found.
        what: String,
    },
    /// The system refused something.
    System {
        /// The directory.
        data: PathBuf,
        /// What was being done, as in "cannot ...".
        what: &'static str,
        /// What it said.
        cause: io::Error,
    },
    /// This build has no storage.
    NotBuilt,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { data } => write!(
                f,
                "--data {}: another process uses this directory; stop it or choose another \
                 directory",
                data.display()
            ),
            OpenError::Foreign { data } => write!(
                f,
                "--data {}: the directory is not empty and not a store of corebeat; choose an \
                 empty or a new one",
                data.display()
            ),
            OpenError::Version { data, found } => write!(
                f,
                "--data {}: the store has the format {found:?}, and this version knows {:?}; run \
                 the version that wrote it, or begin in a new directory",
                data.display(),
                directory::FORMAT.trim_end()
            ),
            OpenError::Corrupt { data, what } => write!(
                f,
                "--data {}: the store is corrupt ({what}); restore a backup, or move the \
                 directory away and begin anew",
                data.display()
            ),
            OpenError::System { data, what, cause } => write!(
                f,
                "--data {}: cannot {what} ({cause}); the directory must exist or be one that can \
                 be made, on a writable disk with space",
                data.display()
            ),
            OpenError::NotBuilt => f.write_str(
                "--data: this build has no storage; leave the option out, or build with the \
                 feature `store`",
            ),
        }
    }
}

impl std::error::Error for OpenError {}
