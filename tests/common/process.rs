//! The real program, as a child process.
//!
//! Owns starting it, reading its log, sending it signals, and making sure that it does not outlive
//! its test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::{PATIENCE, eventually};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_corebeat");

/// Another program to test in its place, which was built before: the environment's `COREBEAT`.
fn program() -> String {
    std::env::var("COREBEAT").unwrap_or_else(|_| PROGRAM.to_owned())
}

/// A command for the program, deaf to this process's environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = deaf(Command::new(program()));
    command.args(arguments);
    command
}

fn deaf(mut command: Command) -> Command {
    command.stdin(Stdio::null()).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    // Servers that are killed would leave their sockets behind.
    command.env("COREBEAT_ADMIN", "off");
    // Where other programs take the processors away, a server would refuse whoever comes.
    command.env("COREBEAT_OVERLOAD_LAG", "off");
    command
}

/// Runs the program to its end, which must not need a signal.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program runs")
}

/// A serving program.
pub struct Corebeat {
    child: Child,
    log: Receiver<String>,
    pub address: SocketAddr,
}

impl Corebeat {
    /// Starts it on any free port and waits until it listens.
    pub fn start(arguments: &[&str]) -> Corebeat {
        Corebeat::start_on("127.0.0.1:0".parse().unwrap(), arguments)
    }

    /// Starts it, or `other` in its place, on any free port, with more in its environment, and with
    /// so much memory at most.
    pub fn start_within(
        other: Option<&str>,
        arguments: &[&str],
        environment: &[(&str, PathBuf)],
        memory_kib: Option<u64>,
    ) -> Corebeat {
        let address = "127.0.0.1:0".parse().unwrap();
        let program = other.map_or_else(program, ToOwned::to_owned);
        let mut command = match memory_kib {
            None => deaf(Command::new(program)),
            Some(kib) => {
                let script = format!("ulimit -d {kib}; exec \"$0\" \"$@\"");
                let mut command = deaf(Command::new("sh"));
                command.args(["-c", &script, &program]);
                command
            }
        };
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.envs(environment.iter().cloned());
        Corebeat::spawn(command, address, arguments)
    }

    /// Starts it on `address`.
    pub fn start_on(address: SocketAddr, arguments: &[&str]) -> Corebeat {
        let command = command(&["serve", "--listen", &address.to_string()]);
        Corebeat::spawn(command, address, arguments)
    }

    fn spawn(mut command: Command, address: SocketAddr, arguments: &[&str]) -> Corebeat {
        let child = command.args(arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program starts");
        let log = lines(child.stderr.take().unwrap());
        let mut program = Corebeat { child, log, address };
        let line = program.wait_for_line(" listening on ");
        program.address = line.rsplit(' ').next().unwrap().parse().expect("an address");
        program
    }

    /// Reads the log until a line with `words`.
    pub fn wait_for_line(&self, words: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with `{words}` in the log"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The lines of the log that have come and were not read yet.
    pub fn lines_so_far(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the program is there");
    }

    /// Lets its files grow to `bytes` at most, or without a limit.
    pub fn limit_files(&self, bytes: Option<u64>) {
        self.limit(Resource::Fsize, bytes);
    }

    /// Lets it have so much of something, or all that there is, and returns what it could have.
    pub fn limit(&self, resource: Resource, current: Option<u64>) -> Option<u64> {
        // The most that it may have is what this process may: it was born with that.
        let maximum = getrlimit(resource).maximum;
        let limit = Rlimit { current: current.or(maximum), maximum };
        prlimit(Some(self.pid()), resource, limit).expect("the program is there").current
    }

    /// Its number among the system's processes.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Lets each of its tables hold so many descriptors at most, or as many as at its start.
    pub fn limit_descriptors(&self, most: Option<u64>) {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: most.or(maximum), maximum };
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("the program is there");
    }

    /// The numbers of the descriptors in its first worker's table.
    pub fn descriptors(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(self.workers()[0].join("fd")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// Processor time of its workers so far, in hundredths of a second.
    pub fn used_hundredths(&self) -> u64 {
        let ticks = |path: &std::path::PathBuf| -> u64 {
            let stat = std::fs::read_to_string(path.join("stat")).unwrap();
            let fields = stat.rsplit(") ").next().unwrap().split(' ');
            fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
        };
        self.workers().iter().map(ticks).sum()
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Directories of `/proc` of its workers' threads, by worker.
    pub fn workers(&self) -> Vec<std::path::PathBuf> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut workers: Vec<(String, std::path::PathBuf)> = std::fs::read_dir(tasks)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (std::fs::read_to_string(path.join("comm")).unwrap(), path))
            .filter(|(name, _)| name.starts_with("cb-worker-"))
            .collect();
        workers.sort();
        workers.into_iter().map(|(_, path)| path).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Corebeat {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a log, read by a thread so that a full pipe never stops the program.
fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
