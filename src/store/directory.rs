//! The data directory, and how the last run in it ended.
//!
//! Owns three small files beside the engine's: `format`, which says whose directory it is; `lock`,
//! which one process holds; and `run`, the mark of the present or last run. Never reads what is
//! stored. Called when the store is opened and when it is closed.
//!
//! ```text
//! format    corebeat store 2
//! run       boot=0f3c…  durability=batch  lock=4711.1795284301.52  state=running
//!           or at its end  state=clean commits=912
//! ```
//!
//! The mark decides whether rooms may go on counting in their epochs. They may not if something
//! that clients saw could be missing: after a crash that the durability does not cover, and where
//! the directory is a copy, since the original may have gone on. A copy is known by its `lock`: by
//! the inode, and by the time at which the inode last changed, which nobody can set. The number
//! alone does not do, because a file system gives that of a deleted file to the next one. A run
//! that finds the last one torn is called so itself until its rooms have begun other epochs, and
//! that is written: [`renewal`](super::renewal).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::chat::record::Durability;

/// What the file `format` holds.
pub const FORMAT: &str = "corebeat store 2\n";
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A data directory that this process holds.
#[derive(Debug)]
pub struct Directory {
    data: PathBuf,
    /// The lock lasts until this is closed.
    lock: File,
    boot: String,
    last: LastRun,
}

/// How the last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// There was none.
    None,
    /// It was stopped, and had written all by that commit.
    Clean {
        /// The number of its last commit.
        commits: u64,
    },
    /// Only the process ended, or the disk was asked for every answer: nothing is missing.
    Whole,
    /// What was told last may be missing.
    Torn,
}

impl Directory {
    /// Takes the directory `data`, made if there is none.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn take(data: &Path) -> Result<Directory, OpenError> {
        let system =
            |what| move |cause| OpenError::System { data: data.to_path_buf(), what, cause };
        fs::create_dir_all(data).map_err(system("make the directory"))?;
        check_format(data)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(data.join("lock"));
        let lock = lock.map_err(system("open the lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { data: data.to_path_buf() });
            }
            Err(TryLockError::Error(cause)) => return Err(system("take the lock")(cause)),
        }
        replace(data, "format", FORMAT).map_err(system("write to the directory"))?;
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let identity = identity(&lock).map_err(system("look at the lock"))?;
        let last = match fs::read_to_string(data.join("run")) {
            Ok(mark) => judge(&mark, &boot, &identity),
            // Whoever restores a backup may leave the mark out.
            Err(_) if engine_path(data).exists() => LastRun::Torn,
            Err(_) => LastRun::None,
        };
        Ok(Directory { data: data.to_path_buf(), lock, boot, last })
    }

    /// The directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the engine keeps its files.
    pub fn engine(&self) -> PathBuf {
        engine_path(&self.data)
    }

    /// How the last run ended.
    pub fn last_run(&self) -> &LastRun {
        &self.last
    }

    /// Marks that a run has begun.
    ///
    /// # Errors
    /// What the file system says.
    pub fn mark_running(&self, durability: Durability) -> io::Result<()> {
        self.mark(durability, "running")
    }

    /// Marks that the run has ended with all written by `commits`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn mark_clean(&self, durability: Durability, commits: u64) -> io::Result<()> {
        self.mark(durability, &format!("clean commits={commits}"))
    }

    /// Marks that the run has ended and what it told last may be missing, whatever the durability.
    ///
    /// # Errors
    /// What the file system says.
    pub fn mark_torn(&self, durability: Durability) -> io::Result<()> {
        self.mark(durability, "torn")
    }

    fn mark(&self, durability: Durability, state: &str) -> io::Result<()> {
        let (boot, identity) = (&self.boot, identity(&self.lock)?);
        let durability = durability.name();
        let mark = format!("boot={boot} durability={durability} lock={identity} state={state}\n");
        replace(&self.data, "run", &mark)
    }
}

/// What no copy of the lock has in common with it. It does not change while a store is used.
fn identity(lock: &File) -> io::Result<String> {
    let found = lock.metadata()?;
    Ok(format!("{}.{}.{}", found.ino(), found.ctime(), found.ctime_nsec()))
}

fn engine_path(data: &Path) -> PathBuf {
    data.join("engine")
}

/// Whether the directory is empty or a store of this format.
fn check_format(data: &Path) -> Result<(), OpenError> {
    let path = || data.to_path_buf();
    match fs::read_to_string(data.join("format")) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => {
            Err(OpenError::Version { data: path(), found: found.trim().chars().take(40).collect() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let read = fs::read_dir(data);
            let entries = read.map_err(|cause| OpenError::System {
                data: path(),
                what: "read the directory",
                cause,
            })?;
            // A start that was cut short leaves its lock; a file system of its own has lost+found.
            let ours = |name: &str| ["lock", "format.new", "lost+found"].contains(&name);
            let foreign = entries
                .filter_map(Result::ok)
                .any(|entry| !entry.file_name().to_str().is_some_and(ours));
            if foreign { Err(OpenError::Foreign { data: path() }) } else { Ok(()) }
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(OpenError::Foreign { data: path() })
        }
        Err(cause) => Err(OpenError::System { data: path(), what: "read the format", cause }),
    }
}

/// What the mark of the last run says to this boot and this lock.
fn judge(mark: &str, boot: &str, identity: &str) -> LastRun {
    let field = |name: &str| {
        mark.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    if field("lock") != Some(identity) {
        return LastRun::Torn;
    }
    let same_boot = !boot.is_empty() && field("boot") == Some(boot);
    match (field("state"), field("durability")) {
        (Some("clean"), _) => match field("commits").and_then(|commits| commits.parse().ok()) {
            Some(commits) => LastRun::Clean { commits },
            None => LastRun::Torn,
        },
        (Some("running"), Some("sync")) => LastRun::Whole,
        (Some("running"), Some("batch")) if same_boot => LastRun::Whole,
        _ => LastRun::Torn,
    }
}

/// Replaces a small file, so that a crash leaves the old one or the new one.
fn replace(data: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = data.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, data.join(name))?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(durability: &str, state: &str) -> String {
        format!("boot=b1 durability={durability} lock=7 state={state}\n")
    }

    #[test]
    fn a_crash_tears_what_the_durability_does_not_cover() {
        for (durability, same_boot, other_boot) in [
            ("none", LastRun::Torn, LastRun::Torn),
            ("batch", LastRun::Whole, LastRun::Torn),
            ("sync", LastRun::Whole, LastRun::Whole),
        ] {
            let mark = mark(durability, "running");
            assert_eq!(judge(&mark, "b1", "7"), same_boot, "{durability}");
            assert_eq!(judge(&mark, "b2", "7"), other_boot, "{durability}");
            assert_eq!(judge(&mark, "b1", "8"), LastRun::Torn, "a copy");
        }
    }

    #[test]
    fn a_clean_end_covers_all_but_a_copy() {
        let mark = mark("none", "clean commits=912");
        assert_eq!(judge(&mark, "b2", "7"), LastRun::Clean { commits: 912 });
        assert_eq!(judge(&mark, "b1", "8"), LastRun::Torn);
        assert_eq!(judge("garbage", "b1", "7"), LastRun::Torn);
        assert_eq!(judge(&mark.replace("912", "?"), "b1", "7"), LastRun::Torn);
    }
}
