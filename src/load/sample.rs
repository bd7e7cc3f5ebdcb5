//! What the kernel tells of processes and sockets.
//!
//! Owns the reading of `/proc` (proc(5)). Never averages or judges. The conductor takes a sample a
//! few times a second, and at both ends of the measured time.

use std::fs;
use std::io;

use rustix::param::{clock_ticks_per_second, page_size};

/// Caches of the kernel from which an open TCP socket takes its parts: the socket itself, its inode
/// and its name, the open file, and its entry in a poll.
const SOCKET_CACHES: [&str; 5] = ["TCP", "sock_inode_cache", "dentry", "filp", "eventpoll_epi"];

/// A process at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSample {
    /// Processor time spent in the program itself, in microseconds, since it began.
    pub user_us: u64,
    /// Processor time that the kernel spent for it.
    pub system_us: u64,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessSample {
    /// Takes one of process `pid`.
    ///
    /// # Errors
    /// Where there is no such process, or it cannot be read.
    pub fn take(pid: u32) -> io::Result<ProcessSample> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        parse_stat(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is unclear")))
    }

    /// Takes one of this process.
    pub fn of_this_process() -> ProcessSample {
        ProcessSample::take(std::process::id()).unwrap_or_default()
    }

    /// Processor time in all, in microseconds.
    pub fn processor_us(&self) -> u64 {
        self.user_us + self.system_us
    }
}

/// The name in brackets may hold anything, a bracket too; the fields follow the last one.
fn parse_stat(text: &str) -> Option<ProcessSample> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let tick_us = 1_000_000 / clock_ticks_per_second();
    Some(ProcessSample {
        user_us: number(11)? * tick_us,
        system_us: number(12)? * tick_us,
        threads: number(17)?,
        resident: number(21)? * page_size() as u64,
    })
}

/// Processor time of a process in nanoseconds, finer than the ticks of a [`ProcessSample`]: the sum
/// over the threads that it has now, where the kernel counts it.
pub fn processor_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// How often a process's threads gave up a processor, since they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Because they had to wait for something.
    pub voluntary: u64,
    /// Because another was given it.
    pub involuntary: u64,
}

impl Switches {
    /// Adds up all threads of process `pid`.
    pub fn take(pid: u32) -> Option<Switches> {
        let mut sum = Switches::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            // A thread that has ended meanwhile takes its count with it.
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("status")) else { continue };
            sum.voluntary += field(&text, "voluntary_ctxt_switches:").unwrap_or(0);
            sum.involuntary += field(&text, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(sum)
    }
}

/// The first number of the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How long a thread of this process waited for a processor although it could have run, in
/// nanoseconds, where the kernel counts it.
pub fn waited_ns(thread_id: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread_id}/schedstat")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What the kernel keeps for TCP at an instant, on the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelSample {
    /// TCP sockets.
    pub sockets: u64,
    /// Bytes in their buffers.
    pub buffers: u64,
    /// Bytes of the caches that sockets live in, where they may be read.
    pub slab: Option<u64>,
}

impl KernelSample {
    /// Takes one, where the kernel tells.
    pub fn take() -> Option<KernelSample> {
        let (sockets, pages) = parse_sockstat(&fs::read_to_string("/proc/net/sockstat").ok()?)?;
        let slab = fs::read_to_string("/proc/slabinfo").ok().map(|text| parse_slab(&text));
        Some(KernelSample { sockets, buffers: pages * page_size() as u64, slab })
    }
}

fn parse_sockstat(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let value = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    Some((value("alloc")?, value("mem")?))
}

fn parse_slab(text: &str) -> u64 {
    let cache = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|name| SOCKET_CACHES.contains(name))?;
        let objects: u64 = words.next()?.parse().ok()?;
        let size: u64 = words.nth(1)?.parse().ok()?;
        Some(objects * size)
    };
    text.lines().filter_map(cache).sum()
}

/// The machine, for the head of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Memory in bytes.
    pub memory: u64,
}

impl Machine {
    /// This one.
    pub fn look() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']));
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            processor: processor.into(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) << 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let text = "77 (a) b) R 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 3 0 99 1000 25 0 0";
        let sample = parse_stat(text).unwrap();
        let tick_us = 1_000_000 / clock_ticks_per_second();
        assert_eq!((sample.user_us, sample.system_us), (250 * tick_us, 50 * tick_us));
        assert_eq!(sample.threads, 3);
        assert_eq!(sample.resident, 25 * page_size() as u64);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn this_process_can_be_sampled() {
        let pid = std::process::id();
        let sample = ProcessSample::take(pid).unwrap();
        assert!(sample.resident > 0 && sample.threads > 0);
        assert!(Switches::take(pid).is_some());
        if let Some(before) = processor_ns(pid) {
            // What threads of other tests used is no longer counted when they end.
            let grows = |_| {
                let busy: u64 = (0..200_000u64).map(std::hint::black_box).sum();
                busy > 0 && processor_ns(pid).is_some_and(|after| after > before)
            };
            assert!((0..1_000).any(grows));
        }
        assert!(ProcessSample::take(u32::MAX - 1).is_err());
    }

    #[test]
    fn sockets_and_their_caches_are_counted() {
        let text = "sockets: used 34\nTCP: inuse 17 orphan 0 tw 46 alloc 18 mem 170\nUDP: inuse 0";
        assert_eq!(parse_sockstat(text), Some((18, 170)));
        let slab = "# name\nTCP 100 143 2368 13 8 : tunables\nTCPv6 13 13 2496 13 8 :\n\
                    filp 10 20 192 21 1 :\n";
        assert_eq!(parse_slab(slab), 100 * 2_368 + 10 * 192);
    }
}
