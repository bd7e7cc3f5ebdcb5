//! How much memory is in use, of how much there is.
//!
//! Owns the files in which the kernel tells both, opened once, so that a look needs no descriptor
//! when there is none. Never allocates while it looks, and never judges: the engine's watch does,
//! some times a second.
//!
//! What counts is what would get the process killed. In a control group that is the group's memory,
//! sockets and all, without the pages of files, which the kernel takes back when it needs to
//! (cgroups(7), `memory.stat`). Where the operator named a limit, or where nothing but the machine
//! bounds the process, it is the resident memory of the process alone (proc(5), `statm`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::param::page_size;

/// Longest of the kernel's files that is read.
const FILE_BYTES: usize = 8 << 10;
/// Limits from here on are none: version 1 writes the largest number of pages that there is.
const NO_LIMIT: u64 = 1 << 60;

/// The files of one control group.
#[derive(Debug)]
struct Group {
    usage: File,
    limit: File,
    stat: File,
    /// The members of `stat` that count pages of files.
    reclaimable: &'static [&'static str],
}

#[derive(Debug)]
enum Source {
    Process { statm: File, limit: u64 },
    Group(Group),
}

/// Tells how much of the memory is in use.
#[derive(Debug)]
pub struct MemoryGauge {
    source: Source,
    buffer: Box<[u8]>,
}

impl MemoryGauge {
    /// A gauge of the resident memory against `limit` bytes, or, where none is named, against what
    /// the control group or the machine has. None where nothing is known, or the limit is 0.
    pub fn open(limit: Option<u64>) -> Option<MemoryGauge> {
        let source = match limit {
            Some(0) => return None,
            Some(limit) => process(limit)?,
            None => group().map(Source::Group).or_else(|| process(machine_bytes()?))?,
        };
        Some(MemoryGauge { source, buffer: vec![0; FILE_BYTES].into_boxed_slice() })
    }

    /// The memory in use, in per cent of the limit.
    ///
    /// # Errors
    /// What the kernel says to the reading of its files, and where it writes something else in them
    /// than is expected.
    pub fn percent(&mut self) -> io::Result<u64> {
        let buffer = &mut self.buffer;
        let (used, limit) = match &self.source {
            Source::Process { statm, limit } => {
                let pages = nth_number(read(statm, buffer)?, 1)?;
                (pages * page_size() as u64, *limit)
            }
            Source::Group(group) => {
                let limit = nth_number(read(&group.limit, buffer)?, 0).unwrap_or(u64::MAX);
                let used = nth_number(read(&group.usage, buffer)?, 0)?;
                let stat = read(&group.stat, buffer)?;
                let files = group.reclaimable.iter().map(|name| member(stat, name)).sum();
                (used.saturating_sub(files), limit)
            }
        };
        Ok((u128::from(used) * 100 / u128::from(limit.max(1))) as u64)
    }
}

/// Reads a whole file of the kernel, from its beginning.
fn read<'a>(file: &File, buffer: &'a mut [u8]) -> io::Result<&'a str> {
    let count = file.read_at(buffer, 0)?;
    std::str::from_utf8(&buffer[..count]).map_err(io::Error::other)
}

fn nth_number(text: &str, index: usize) -> io::Result<u64> {
    let word = text.split_ascii_whitespace().nth(index);
    word.and_then(|word| word.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The number behind `name` on a line of its own, 0 where there is none.
fn member(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|line| line.0 == name).and_then(|line| line.1.trim().parse().ok()).unwrap_or(0)
}

fn process(limit: u64) -> Option<Source> {
    Some(Source::Process { statm: File::open("/proc/self/statm").ok()?, limit })
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(nth_number(line, 0).ok()? << 10)
}

/// The control group of this process that has the lowest limit, of its own one and those that it is
/// in.
fn group() -> Option<Group> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_first_version = controllers.split(',').any(|name| name == "memory");
        match (is_first_version, controllers) {
            (true, _) => tightest(Path::new("/sys/fs/cgroup/memory"), path, &FIRST_VERSION),
            (false, "") => tightest(Path::new("/sys/fs/cgroup"), path, &SECOND_VERSION),
            _ => None,
        }
    })
}

/// What the files of a control group are called.
struct Names {
    usage: &'static str,
    limit: &'static str,
    reclaimable: &'static [&'static str],
}

const FIRST_VERSION: Names = Names {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    reclaimable: &["total_inactive_file", "total_active_file"],
};
const SECOND_VERSION: Names = Names {
    usage: "memory.current",
    limit: "memory.max",
    reclaimable: &["inactive_file", "active_file", "slab_reclaimable"],
};

/// The group with the lowest limit between `path`, as the process sees it, and the root. In a
/// container the root is its own group.
fn tightest(root: &Path, path: &str, names: &Names) -> Option<Group> {
    let mut folder: PathBuf = root.join(path.trim_start_matches('/'));
    let mut found: Option<(u64, PathBuf)> = None;
    while folder.starts_with(root) {
        let limit = fs::read_to_string(folder.join(names.limit)).ok();
        let limit = limit.and_then(|text| nth_number(&text, 0).ok());
        if let Some(limit) = limit.filter(|limit| *limit < NO_LIMIT)
            && found.as_ref().is_none_or(|(lowest, _)| limit < *lowest)
        {
            found = Some((limit, folder.clone()));
        }
        folder.pop();
    }
    let (_, folder) = found?;
    let open = |name| File::open(folder.join(name)).ok();
    Some(Group {
        usage: open(names.usage)?,
        limit: open(names.limit)?,
        stat: open("memory.stat")?,
        reclaimable: names.reclaimable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_process_is_told_against_the_limit() {
        let mut narrow = MemoryGauge::open(Some(64 << 10)).unwrap();
        assert!(narrow.percent().unwrap() > 100, "a process takes more than 64 KiB");
        let mut wide = MemoryGauge::open(Some(1 << 50)).unwrap();
        assert_eq!(wide.percent().unwrap(), 0);
        assert!(MemoryGauge::open(Some(0)).is_none());
    }

    #[test]
    fn a_look_sees_what_was_taken_since_the_last() {
        let limit = 1 << 30;
        let mut gauge = MemoryGauge::open(Some(limit)).unwrap();
        let before = gauge.percent().unwrap();
        let taken = vec![1_u8; limit as usize / 4];
        let after = gauge.percent().unwrap();
        assert!((before + 23..=before + 60).contains(&after), "{before} and {after}");
        assert_eq!(taken[limit as usize / 4 - 1], 1);
    }

    #[test]
    fn the_lowest_limit_above_a_group_counts_and_pages_of_files_do_not() {
        for (names, none) in [(&FIRST_VERSION, "9223372036854771712"), (&SECOND_VERSION, "max")] {
            let root = std::env::temp_dir().join(format!("cb-group-{}", fastrand::u64(..)));
            let leaf = root.join("a/b");
            fs::create_dir_all(&leaf).unwrap();
            let write = |folder: &Path, name: &str, text: &str| {
                fs::write(folder.join(name), text).unwrap();
            };
            for (folder, limit) in [(&leaf, none), (&root.join("a"), "1000\n"), (&root, "5000\n")] {
                write(folder, names.limit, limit);
                write(folder, names.usage, "800\n");
                let stat =
                    format!("anon 1\n{} 200\n{} 100\n", names.reclaimable[0], names.reclaimable[1]);
                write(folder, "memory.stat", &stat);
            }
            let found = tightest(&root, "/a/b", names).unwrap();
            let mut gauge =
                MemoryGauge { source: Source::Group(found), buffer: vec![0; FILE_BYTES].into() };
            assert_eq!(gauge.percent().unwrap(), 50);
            write(&root.join("a"), names.limit, "2000\n");
            assert_eq!(gauge.percent().unwrap(), 25, "a limit that is raised counts at once");
            assert!(tightest(&root.join("none"), "/", names).is_none());
            fs::remove_dir_all(root).unwrap();
        }
    }
}
