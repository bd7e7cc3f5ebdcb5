//! The server as users run it: the real program in a process of its own.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

/// Rates would bite where one connection speaks for many, and all descriptors are to be used.
const SWITCHED_OFF: [(&str, &str); 4] = [
    ("COREBEAT_ACCEPT_RATE", "0"),
    ("COREBEAT_MESSAGE_RATE", "0"),
    ("COREBEAT_BYTE_RATE", "0"),
    ("COREBEAT_OVERLOAD_DESCRIPTORS", "off"),
];

/// A running `corebeat serve` on a free port of the loopback address. Dropping it kills it.
pub(crate) struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts the server with `options` and waits until it listens.
    ///
    /// # Panics
    /// If it does not start; its own words are in the message.
    pub(crate) fn start(options: &[&str]) -> ServerProcess {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corebeat"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(options)
            .env("RUST_LOG", "info")
            .envs(SWITCHED_OFF)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server was built beside this bench");
        let stderr = child.stderr.take().expect("it was asked for");
        let mut lines = BufReader::new(stderr).lines();
        let address = find_address(&mut lines);
        // What it says later is read, so that it never waits for a full pipe, and shown where it
        // is a warning.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let unusual = line.contains(" WARN ") || line.contains(" ERROR ");
                if unusual || line.contains("all workers: ") {
                    eprintln!("server: {line}");
                }
            }
        });
        ServerProcess { child, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it tell its counters, which appear on standard error.
    pub(crate) fn tell_counters(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::USR1).expect("a process may signal its child");
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_address(lines: &mut Lines<BufReader<ChildStderr>>) -> SocketAddr {
    let mut said = String::new();
    for line in lines.map_while(Result::ok) {
        if let Some((_, address)) = line.split_once(" listening on ") {
            return address.trim().parse().expect("the server names its address");
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("the server did not start: {said}");
}
