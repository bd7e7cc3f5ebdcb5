//! The server that is measured.
//!
//! Owns its process where the generator starts it: its own executable, or any command that says
//! where it listens. Never sends it anything but the signal to stop. The conductor starts one
//! before a run and drops it after.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::process::{Pid, Signal, kill_process};

/// The words in front of the address, in a server's first lines.
const LISTENING: &str = "listening on ";
/// How long a server may take to say where it listens.
const START: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(5);
/// What would bite where one connection speaks for many, where the last descriptors are to be used
/// up too, or where servers run side by side. It is switched off in the environment, so that an
/// option for the server still wins.
const SWITCHED_OFF: [(&str, &str); 5] = [
    ("COREBEAT_ACCEPT_RATE", "0"),
    ("COREBEAT_MESSAGE_RATE", "0"),
    ("COREBEAT_BYTE_RATE", "0"),
    ("COREBEAT_OVERLOAD_DESCRIPTORS", "off"),
    ("COREBEAT_ADMIN", "off"),
];
/// Its last lines that are kept, to be shown if it dies.
const LINES_KEPT: usize = 8;

/// Which server is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// This executable's own.
    Own {
        /// Worker threads; by the machine where not said.
        workers: Option<u16>,
        /// Further options of `corebeat serve`.
        options: Vec<String>,
    },
    /// What this command starts.
    Command(Vec<String>),
    /// One that runs already.
    Running {
        /// Where it listens.
        address: SocketAddr,
        /// Its process, to be sampled.
        pid: Option<u32>,
    },
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// A server that runs. Dropping it stops what was started.
#[derive(Debug)]
pub struct ServerProcess {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, where that is known.
    pub pid: Option<u32>,
    /// What it is, in words.
    pub name: String,
    child: Option<Child>,
    lines: Lines,
}

impl ServerProcess {
    /// Starts the server, or takes the one that runs.
    ///
    /// # Errors
    /// One line about what went wrong.
    pub fn start(choice: &ServerChoice, workers: u16) -> Result<ServerProcess, String> {
        match choice {
            ServerChoice::Running { address, pid } => Ok(ServerProcess {
                address: *address,
                pid: *pid,
                name: format!("the server on {address}"),
                child: None,
                lines: Lines::default(),
            }),
            ServerChoice::Own { options, .. } => {
                let program = std::env::current_exe()
                    .map_err(|error| format!("cannot find this executable: {error}"))?;
                let mut command = Command::new(program);
                command.args(["serve", "--listen", "127.0.0.1:0", "--workers"]);
                command.arg(workers.to_string()).args(options);
                let unset = |(name, _): &&(&str, &str)| std::env::var_os(name).is_none();
                command.envs(SWITCHED_OFF.iter().filter(unset).copied());
                let name = match options.as_slice() {
                    [] => format!("corebeat serve --workers {workers}"),
                    more => format!("corebeat serve --workers {workers} {}", more.join(" ")),
                };
                ServerProcess::spawn(command, name)
            }
            ServerChoice::Command(words) => {
                let (program, arguments) =
                    words.split_first().ok_or("--server-command is empty")?;
                let mut command = Command::new(program);
                command.args(arguments);
                ServerProcess::spawn(command, words.join(" "))
            }
        }
    }

    fn spawn(mut command: Command, name: String) -> Result<ServerProcess, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Where the log is off, nobody learns the address.
        command.env("RUST_LOG", "info");
        let mut child =
            command.spawn().map_err(|error| format!("cannot start `{name}`: {error}"))?;
        let (found, address) = crossbeam_channel::unbounded();
        let lines = Lines::default();
        if let Some(output) = child.stdout.take() {
            follow(output, Arc::clone(&lines), found.clone());
        }
        if let Some(output) = child.stderr.take() {
            follow(output, Arc::clone(&lines), found);
        }
        let pid = Some(child.id());
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = ServerProcess { address: unknown, pid, name, child: Some(child), lines };
        server.address = server.wait_for_address(&address)?;
        Ok(server)
    }

    fn wait_for_address(&mut self, address: &Receiver<SocketAddr>) -> Result<SocketAddr, String> {
        let reason = match address.recv_timeout(START) {
            Ok(address) => return Ok(reachable(address)),
            Err(RecvTimeoutError::Timeout) => {
                format!("did not say `{LISTENING}HOST:PORT` within {} s", START.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => "ended at once".into(),
        };
        Err(format!("`{}` {reason}{}", self.name, self.last_words()))
    }

    /// Whether it has ended by itself, and what it said last.
    pub fn has_died(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("`{}` has ended ({status}){}", self.name, self.last_words()))
    }

    fn last_words(&self) -> String {
        let lines = self.lines.lock().map(|lines| lines.iter().cloned().collect::<Vec<_>>());
        match lines.unwrap_or_default().as_slice() {
            [] => String::new(),
            lines => format!("; its last words: {}", lines.join(" | ")),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        if let Some(pid) = Pid::from_raw(child.id() as i32)
            && child.try_wait().is_ok_and(|status| status.is_none())
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP;
        while child.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Reads what a server prints, so that it never waits for a reader, and looks for the address.
fn follow(output: impl Read + Send + 'static, lines: Lines, found: Sender<SocketAddr>) {
    let read = move || {
        let mut found = Some(found);
        let mut reader = BufReader::new(output);
        let mut line = String::new();
        while read_line(&mut reader, &mut line).is_ok_and(|count| count > 0) {
            if let Some(address) = address_in(&line)
                && let Some(found) = found.take()
            {
                let _ = found.send(address);
            }
            if let Ok(mut lines) = lines.lock() {
                lines.push_back(line.trim_end().into());
                if lines.len() > LINES_KEPT {
                    lines.pop_front();
                }
            }
            line.clear();
        }
    };
    // Without the thread there is no address, which is told in its place.
    let _ = thread::Builder::new().name("cb-server-log".into()).spawn(read);
}

/// Reads a line, at most so long that a server cannot fill the memory with one.
fn read_line(reader: &mut impl BufRead, line: &mut String) -> io::Result<usize> {
    let mut bytes = Vec::new();
    let count = reader.take(64 << 10).read_until(b'\n', &mut bytes)?;
    line.push_str(&String::from_utf8_lossy(&bytes));
    Ok(count)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once(LISTENING)?;
    let address = address.split_whitespace().next()?;
    let address = address.trim_end_matches([',', ';', '.']);
    address.to_socket_addrs().ok()?.next()
}

/// An address under which a client on this machine reaches a server.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_line() {
        let found = |line| address_in(line).map(|address| address.to_string());
        let line = "2026-01-01T00:00:00Z INFO  corebeat 0.1.0 listening on 127.0.0.1:4321\n";
        assert_eq!(found(line).unwrap(), "127.0.0.1:4321");
        assert_eq!(found("listening on 0.0.0.0:80, 2 workers").unwrap(), "0.0.0.0:80");
        assert_eq!(found("listening on"), None);
        assert_eq!(found("ready"), None);
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
    }

    #[test]
    fn a_command_that_ends_is_told_with_its_last_words() {
        let words = ["sh", "-c", "echo no port >&2"].map(String::from).to_vec();
        let refusal = ServerProcess::start(&ServerChoice::Command(words), 1).unwrap_err();
        assert!(refusal.contains("ended at once"), "{refusal}");
        assert!(refusal.contains("no port"), "{refusal}");
        let words = vec!["/nonexistent/server".to_string()];
        let refusal = ServerProcess::start(&ServerChoice::Command(words), 1).unwrap_err();
        assert!(refusal.starts_with("cannot start `/nonexistent/server`"), "{refusal}");
    }

    #[test]
    fn a_command_that_says_where_it_listens_is_stopped_with_its_owner() {
        let script = "echo listening on 127.0.0.1:9; exec sleep 60";
        let words = ["sh", "-c", script].map(String::from).to_vec();
        let mut server = ServerProcess::start(&ServerChoice::Command(words), 1).unwrap();
        assert_eq!(server.address.port(), 9);
        assert_eq!(server.has_died(), None);
        let pid = server.pid.unwrap();
        drop(server);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
