//! What a server tells of itself, and what the kernel tells of it.
//!
//! Owns the questions: counters over the admin socket, `/stats`, descriptors of all file tables,
//! resident memory. Never judges an answer; a [`stage`](super::stage) does.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use super::common::{GUARD, eventually};

/// What must be as it was when an attack is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Open connections.
    pub(crate) connections: u64,
    /// Open files in the tables of all threads.
    pub(crate) descriptors: usize,
    /// Sessions that live, and those that are kept without a connection.
    pub(crate) sessions: (u64, u64),
    /// Users of whom some worker keeps the sessions.
    pub(crate) users: u64,
}

/// Counters of all workers together, by name.
#[derive(Clone, Debug)]
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(crate) fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_else(|| panic!("{name} is no counter"))
    }

    /// What was counted since.
    pub(crate) fn since(&self, earlier: &Counters) -> Counters {
        let grown = self.0.iter().map(|(name, &count)| (name.clone(), count - earlier.of(name)));
        Counters(grown.collect())
    }

    /// Those that are not zero and whose names begin so, by the rest of their names.
    pub(crate) fn beginning(&self, prefix: &str) -> BTreeMap<&str, u64> {
        let named =
            self.0.iter().filter_map(|(name, &count)| Some((name.strip_prefix(prefix)?, count)));
        named.filter(|(_, count)| *count > 0).collect()
    }

    /// Connections that ended.
    pub(crate) fn closed(&self) -> u64 {
        self.beginning("closed_").values().sum()
    }
}

/// See the [module](self).
pub(crate) struct Gauge {
    address: SocketAddr,
    process: u32,
    admin: PathBuf,
    /// How often `/stats` was asked for, each over a connection of its own.
    asked: Cell<u64>,
}

impl Gauge {
    pub(crate) fn new(address: SocketAddr, process: u32, admin: PathBuf) -> Gauge {
        Gauge { address, process, admin, asked: Cell::new(0) }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// What the server answers to an operator, line by line.
    pub(crate) fn ask(&self, request: &str) -> Vec<String> {
        let mut stream = UnixStream::connect(&self.admin).expect("the server takes commands");
        stream.set_read_timeout(Some(GUARD)).unwrap();
        writeln!(stream, "{request}").unwrap();
        let lines = BufReader::new(stream).lines().map(|line| line.expect("an answer in time"));
        lines.take_while(|line| !line.is_empty()).collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        let lines = self.ask("counters");
        let total: Value = serde_json::from_str(lines.last().expect("a line for all")).unwrap();
        assert_eq!(total["worker"], "all", "{total}");
        let numbers = total.as_object().unwrap().iter();
        let number = |(name, value): (&String, &Value)| Some((name.clone(), value.as_u64()?));
        Counters(numbers.filter_map(number).collect())
    }

    /// What `/stats` says now, or as soon as the server is in a mood to tell.
    pub(crate) fn stats(&self) -> Value {
        let mut told = None;
        eventually("the server tells its numbers", || {
            self.asked.set(self.asked.get() + 1);
            let mut stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(GUARD)).unwrap();
            stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            told = serde_json::from_str(body).ok();
            told.is_some()
        });
        told.expect("it told")
    }

    /// The level as of now.
    pub(crate) fn level(&self) -> Level {
        let stats = self.stats();
        let sum = |name: &str| -> u64 {
            let workers = stats["workers"].as_array().unwrap().iter();
            workers.map(|worker| worker[name].as_u64().unwrap()).sum()
        };
        let live = sum("native") + sum("text") + sum("websocket");
        let (kept, users) = (sum("kept_sessions"), sum("users"));
        // The connection that asked is given up before long.
        let mut connections = 0;
        eventually("the question's own connection is closed", || {
            let counters = self.counters();
            connections = counters.of("opened") - counters.closed();
            connections < sum("connections")
        });
        let descriptors = self.descriptors();
        Level { connections, descriptors, sessions: (live, kept), users }
    }

    /// Open files: each thread's table is counted, whether or not it is its own.
    pub(crate) fn descriptors(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process)).unwrap();
        let open = |thread: fs::DirEntry| fs::read_dir(thread.path().join("fd")).unwrap().count();
        threads.map(|thread| open(thread.unwrap())).sum()
    }

    /// Resident memory, exactly, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let rollup = format!("/proc/{}/smaps_rollup", self.process);
        self.kib_of(&rollup, "Rss:") << 10
    }

    /// The most resident memory since [`Gauge::forget_peak`], in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.kib_of(&format!("/proc/{}/status", self.process), "VmHWM:") << 10
    }

    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process), "5").unwrap();
    }

    fn kib_of(&self, path: &str, name: &str) -> u64 {
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
