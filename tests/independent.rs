//! The real server and clients that share no line with it: Python, written from the contract alone.

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::process::Corebeat;
use common::{ERROR, GUARD, Native, Text};

/// A heartbeat short enough to wait for its timeout.
const QUICK: [&str; 4] = ["--heartbeat", "2s", "--timeout", "5s"];

/// A command that runs one of the repository's Python scripts against the server.
fn python(script: &str, address: SocketAddr) -> Command {
    let found = Command::new("python3").arg("--version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "this test needs python3 on the PATH: install it (Debian: apt-get install python3), \
         or run scripts/test.sh, which does"
    );
    let mut command = Command::new("python3");
    // -B: leave no compiled files in the source tree.
    command.args(["-B", script, &address.ip().to_string(), &address.port().to_string()]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// A script that runs until it is dropped, and the lines that it prints.
struct Script {
    child: Child,
    printed: Receiver<String>,
}

impl Script {
    fn start(script: &str, address: SocketAddr, user: &str) -> Script {
        let mut command = python(script, address);
        let child = command.arg(user).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("python3 starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, printed) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Script { child, printed }
    }

    fn next_line(&self) -> String {
        self.printed.recv_timeout(GUARD).expect("a line before long")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the server has given up a client that answers no ping: whoever is there afterwards
/// has answered its own.
fn outlast_a_silent_client(address: SocketAddr) {
    let mut silent = Native::greet(address, "silent");
    let last = std::iter::from_fn(|| silent.next()).last().expect("a last word");
    assert_eq!((last.kind, last.error_code()), (ERROR, 408));
}

fn hold_a_conversation(workers: &str) {
    let server = Corebeat::start(&[&["--workers", workers][..], &QUICK].concat());
    let mut command = python("tests/clients/conversation.py", server.address);
    let output = command.output().expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"the server kept the contract\n");
}

#[test]
fn independent_clients_find_the_contract_kept_by_one_worker() {
    hold_a_conversation("1");
}

#[test]
fn independent_clients_find_the_contract_kept_across_workers() {
    hold_a_conversation("3");
}

#[test]
fn the_readme_example_speaks_native() {
    let source = include_str!("../docs/examples/native.py");
    assert!(source.lines().count() < 30, "the README promises less than 30 lines");
    let server = Corebeat::start(&[&["--workers", "2"][..], &QUICK].concat());
    let mut terminal = Text::greet(server.address, "terminal");
    let example = Script::start("docs/examples/native.py", server.address, "python");
    assert_eq!(terminal.next().as_deref(), Some("* python joined lobby"));
    assert_eq!(terminal.next().as_deref(), Some("[lobby] python: hello from Python"));
    terminal.say("hello python");
    assert_eq!(example.next_line(), "terminal says hello python");
    outlast_a_silent_client(server.address);
    terminal.say("grüße");
    assert_eq!(example.next_line(), "terminal says grüße");
}

#[test]
fn the_python_client_runs_as_a_program() {
    let server = Corebeat::start(&[&["--workers", "2"][..], &QUICK].concat());
    let mut terminal = Text::greet(server.address, "terminal");
    let client = Script::start("tests/clients/native.py", server.address, "python");
    assert_eq!(client.next_line(), "welcome python");
    assert_eq!(terminal.next().as_deref(), Some("* python joined lobby"));
    outlast_a_silent_client(server.address);
    terminal.say("hello");
    let line = std::iter::from_fn(|| Some(client.next_line())).find(|line| line.starts_with('['));
    assert_eq!(line.as_deref(), Some("[lobby] terminal: hello"));
}

#[test]
#[cfg(feature = "terminal")]
fn the_terminal_chat_draws_what_it_should_and_leaves_the_terminal_as_it_was() {
    let server = Corebeat::start(&[]);
    let mut script = python("tests/clients/terminal.py", server.address);
    let output = script.arg(common::process::PROGRAM).output().expect("python3 starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}
