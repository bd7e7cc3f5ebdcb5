//! What the kernel counts of a process and its threads.
//!
//! Owns the readers of `/proc`. Times are nanoseconds of processor time, memory is in bytes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// How much memory a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// `Rss` of `smaps_rollup`: every resident page, counted exactly.
    pub(crate) resident: u64,
    /// `Private_Dirty` of the same: the pages that only this process has written to.
    pub(crate) private_dirty: u64,
    /// `VmRSS` of `status`, which the kernel keeps in batches for each thread, hence a little off.
    pub(crate) vm_rss: u64,
}

/// The memory of process `pid`.
pub(crate) fn memory(pid: u32) -> Memory {
    let rollup = read(&process(pid).join("smaps_rollup"));
    let status = read(&process(pid).join("status"));
    Memory {
        resident: field(&rollup, "Rss:") << 10,
        private_dirty: field(&rollup, "Private_Dirty:") << 10,
        vm_rss: field(&status, "VmRSS:") << 10,
    }
}

/// How often the threads of process `pid` went to sleep by themselves: each sleep of a server ends
/// in one wake-up.
pub(crate) fn sleeps(pid: u32) -> u64 {
    threads(pid)
        .iter()
        .map(|thread| field(&read(&thread.join("status")), "voluntary_ctxt_switches:"))
        .sum()
}

/// Processor time that the threads of process `pid` have used.
pub(crate) fn run_time_ns(pid: u32) -> u64 {
    threads(pid).iter().map(|thread| schedstat(thread)).sum()
}

/// A thread of a process that may be looked into, such as this one and its children.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    /// Its number.
    pub(crate) id: i32,
    folder: PathBuf,
}

impl Thread {
    /// The threads of process `pid`.
    pub(crate) fn all(pid: u32) -> Vec<Thread> {
        threads(pid)
            .into_iter()
            .map(|folder| {
                let name = folder.file_name().expect("a thread's folder is its number");
                let id = name.to_string_lossy().parse().expect("a thread's folder is its number");
                Thread { id, folder }
            })
            .collect()
    }

    /// The thread of this process that is called `name`.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn named(name: &str) -> Thread {
        Thread::all(std::process::id())
            .into_iter()
            .find(|thread| read(&thread.folder.join("comm")).trim_end() == name)
            .unwrap_or_else(|| panic!("no thread is called {name}"))
    }

    /// Processor time that it has used, once it sleeps: the kernel adds up at every switch, so the
    /// figure of a thread that runs is that of its last one.
    pub(crate) fn run_time_ns(&self) -> u64 {
        while !self.sleeps() {
            std::hint::spin_loop();
        }
        schedstat(&self.folder)
    }

    /// The TCP connections in its file table, which may be its own alone: each one's peer, and a
    /// duplicate of the socket. The thread goes on using its own descriptors.
    ///
    /// # Panics
    /// If the kernel, older than Linux 6.9, has no descriptors of threads.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (SocketAddr, TcpStream)> {
        /// `PIDFD_THREAD`: the descriptor names a thread instead of a process.
        const OF_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(0o200);
        let pid = Pid::from_raw(self.id).expect("a thread's number is not zero");
        let thread = pidfd_open(pid, OF_THREAD).expect("Linux 6.9 or later");
        self.descriptors().into_iter().filter_map(move |number| {
            let foreign = number as ForeignRawFd;
            let file = pidfd_getfd(&thread, foreign, PidfdGetfdFlags::empty()).ok()?;
            // Of what is no connected socket, nobody is the peer.
            let socket = TcpStream::from(file);
            Some((socket.peer_addr().ok()?, socket))
        })
    }

    /// The numbers of the descriptors in its table.
    fn descriptors(&self) -> Vec<i32> {
        fs::read_dir(self.folder.join("fd"))
            .expect("a process may list its own descriptors")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect()
    }

    fn sleeps(&self) -> bool {
        // The name stands in parentheses and may hold anything; the state is the word behind it.
        let stat = read(&self.folder.join("stat"));
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    }
}

fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn threads(pid: u32) -> Vec<PathBuf> {
    fs::read_dir(process(pid).join("task"))
        .expect("the process runs")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn schedstat(thread: &Path) -> u64 {
    let text = read(&thread.join("schedstat"));
    let first = text.split_whitespace().next().expect("schedstat begins with the run time");
    first.parse().expect("the run time is a number")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The number behind `name`.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("the kernel says nothing of {name}"))
}
