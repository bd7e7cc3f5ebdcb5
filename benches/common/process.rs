//! What the kernel counts of a process and its threads.
//!
//! Owns the readers of `/proc`. Times are nanoseconds of processor time, memory is in bytes.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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

/// For each TCP connection of process `pid` over IPv4: its peer, and the thread that has it in its
/// file table. Of threads that share a table, any one.
pub(crate) fn threads_by_peer(pid: u32) -> HashMap<SocketAddr, u32> {
    let mut peers: HashMap<u64, SocketAddr> = HashMap::new();
    for line in read(&process(pid).join("net/tcp")).lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, peer, ..] = words[..]
            && let Some(inode) = words.get(9).and_then(|inode| inode.parse().ok())
        {
            peers.insert(inode, address(peer));
        }
    }
    let mut found = HashMap::new();
    for thread in threads(pid) {
        let id = thread.file_name().and_then(|name| name.to_str()?.parse().ok());
        let id = id.expect("a thread's folder is its number");
        for file in fs::read_dir(thread.join("fd")).expect("the thread runs").flatten() {
            let link = fs::read_link(file.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:["));
            let inode = inode.and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            if let Some(peer) = inode.and_then(|inode: u64| peers.get(&inode)) {
                found.insert(*peer, id);
            }
        }
    }
    found
}

/// An address as the kernel prints it: the bytes in the order of the machine, all in hexadecimal.
fn address(text: &str) -> SocketAddr {
    let (host, port) = text.split_once(':').expect("a colon parts host and port");
    let host = u32::from_str_radix(host, 16).expect("a host in hexadecimal").to_ne_bytes();
    let port = u16::from_str_radix(port, 16).expect("a port in hexadecimal");
    SocketAddr::from((host, port))
}

/// A thread of this process.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    /// Its number.
    pub(crate) id: i32,
    folder: PathBuf,
}

impl Thread {
    /// The thread of this process that is called `name`.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn named(name: &str) -> Thread {
        let folder = threads(std::process::id())
            .into_iter()
            .find(|thread| read(&thread.join("comm")).trim_end() == name)
            .unwrap_or_else(|| panic!("no thread is called {name}"));
        let id = folder.file_name().expect("a thread's folder is its number").to_string_lossy();
        Thread { id: id.parse().expect("a thread's folder is its number"), folder }
    }

    /// Processor time that it has used, once it sleeps: the kernel adds up at every switch, so the
    /// figure of a thread that runs is that of its last one.
    pub(crate) fn run_time_ns(&self) -> u64 {
        while !self.sleeps() {
            std::hint::spin_loop();
        }
        schedstat(&self.folder)
    }

    /// The numbers of the descriptors in its table.
    pub(crate) fn descriptors(&self) -> Vec<i32> {
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
