//! `corebeat closes`: why connections ended, asked of the real program.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use common::process::{Corebeat, command, run};
use common::{ERROR, Native, Text, eventually, hello, publish};
use corebeat::engine::close_record::CloseLine;

/// Where commands are taken; its folder goes with it.
struct Socket(PathBuf);

impl Socket {
    fn new() -> Socket {
        let name = format!("corebeat-closes-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Socket(folder.join("socket"))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The records that match.
    fn closes(&self, chosen: &[&str]) -> Vec<CloseLine> {
        let output = run(&[&["closes", "--json", "--admin", self.path()], chosen].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn start(socket: &Socket, options: &[&str]) -> Corebeat {
    Corebeat::start(&[&["--workers", "2", "--admin", socket.path()], options].concat())
}

#[test]
fn every_end_is_told_with_its_reason_and_what_was_known() {
    let socket = Socket::new();
    let server = start(&socket, &["--heartbeat", "1s", "--timeout", "2s"]);
    let began = Instant::now();
    let mut quits = Text::greet(server.address, "quits");
    quits.say("/quit");
    assert_eq!(quits.next().unwrap(), "* bye");
    drop(quits);
    Native::greet(server.address, "resets").reset();
    let mut breaks = Native::greet(server.address, "breaks");
    breaks.send(&[0x2A; 100]);
    breaks.expect(ERROR);
    drop(breaks);
    let mut asks = TcpStream::connect(server.address).unwrap();
    asks.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    asks.read_to_end(&mut Vec::new()).unwrap();
    let silent = Native::greet(server.address, "silent");
    let ends = Native::greet(server.address, "ends");
    let ends_address = ends.stream.local_addr().unwrap();
    ends.stream.shutdown(std::net::Shutdown::Write).unwrap();

    let wanted = ["bye", "reset", "malformed", "served", "heartbeat_timeout", "peer_closed"];
    let wanted: BTreeSet<String> = wanted.map(str::to_owned).into();
    let mut closes = Vec::new();
    eventually("all are told", || {
        closes = socket.closes(&[]);
        closes.len() == wanted.len()
    });
    let reasons: BTreeSet<String> = closes.iter().map(|close| close.reason.clone()).collect();
    assert_eq!(reasons, wanted);
    assert!(closes.windows(2).all(|two| two[0].time_ms <= two[1].time_ms), "in order of time");
    for close in &closes {
        assert!(close.age_ms <= began.elapsed().as_millis() as u64 + 100, "{close:?}");
        assert!(close.peer.ip().is_loopback() && close.bytes_in > Some(0), "{close:?}");
    }
    let silent_one = socket.closes(&["--user", "silent"]);
    assert!(silent_one[0].silent_ms >= 2_000 && silent_one[0].bytes_out > Some(0));
    let by_reason = socket.closes(&["--reason", "peer_closed"]);
    assert_eq!(by_reason.len(), 1);
    assert_eq!((by_reason[0].peer, by_reason[0].speech.as_str()), (ends_address, "native"));
    assert_eq!(by_reason[0].bytes_in, Some(hello("ends").len() as u64));
    assert_eq!(socket.closes(&["--last", "2"]), closes[4..]);
    drop((silent, ends));
}

#[test]
fn a_reader_that_takes_nothing_is_given_up_by_the_kernel_when_a_heartbeat_would() {
    let socket = Socket::new();
    let server = start(&socket, &["--heartbeat", "1s", "--timeout", "2s"]);
    // Nobody pings a text client, and what waits for it fits into its outbox and the kernel.
    let stuck = Native::connect_narrow(server.address);
    (&stuck.stream).write_all(b"hello\n").unwrap();
    // It is in the room before anybody speaks there.
    let mut lines = BufReader::new(&stuck.stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("* you are in lobby")));
    let mut speaker = Text::greet(server.address, "speaker");
    let body = "x".repeat(1_000);
    for _ in 0..600 {
        speaker.say(&body);
    }
    let mut closes = Vec::new();
    eventually("the kernel loses patience", || {
        closes = socket.closes(&["--reason", "unacknowledged"]);
        !closes.is_empty()
    });
    let [close] = &closes[..] else { panic!("{closes:?}") };
    assert_eq!((close.speech.as_str(), close.peer), ("text", stuck.stream.local_addr().unwrap()));
    assert!(close.send_queue > Some(0) && close.peer_window == Some(0), "{close:?}");
}

#[test]
fn people_see_a_table_and_can_follow_what_happens() {
    let socket = Socket::new();
    let server = start(&socket, &[]);
    let empty = run(&["closes", "--admin", socket.path()]);
    let head = String::from_utf8(empty.stdout).unwrap();
    assert!(head.starts_with("TIME (UTC)  REASON  USER  ADDRESS  "), "{head}");
    assert_eq!(head.lines().count(), 1);

    Native::greet(server.address, "ann").reset();
    eventually("it is told", || !socket.closes(&[]).is_empty());
    let mut follower = command(&["closes", "--follow", "--admin", socket.path()]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("TIME (UTC) "));
    let ann = next();
    assert!(ann.contains("  reset   ann   127.0.0.1:"), "{ann}");
    Native::greet(server.address, "bob").reset();
    let bob = next();
    assert!(bob.contains("  reset   bob   127.0.0.1:"), "{bob}");
    follower.kill().unwrap();
    follower.wait().unwrap();

    let nobody = run(&["closes", "--admin", &format!("{}.not", socket.path())]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("no server takes commands"));
}

#[test]
fn the_log_tells_of_many_ends_in_one_line_a_second() {
    const MANY: usize = 300;
    let socket = Socket::new();
    let mut server = start(&socket, &[]);
    let began = Instant::now();
    for number in 0..MANY {
        Native::greet(server.address, &format!("n{number}")).reset();
    }
    let mut told = 0;
    let mut lines = 0;
    while told < MANY {
        let line = server.wait_for_line(" closed: reset");
        let count = line.split_whitespace().find_map(|word| word.parse::<usize>().ok());
        told += count.expect("it says how many");
        lines += 1;
        assert!(line.contains(" at 127.0.0.1:") && line.contains("(native, open "), "{line}");
    }
    assert_eq!(told, MANY);
    assert!(lines <= began.elapsed().as_secs() + 2, "{lines} lines");
    let mut last = Native::greet(server.address, "last");
    last.send(&publish(1, "den", b"hi"));
    server.signal(rustix::process::Signal::TERM);
    let line = server.wait_for_line(" closed: draining");
    assert!(line.contains("last at "), "also what ends with the server is told: {line}");
    drop(last);
    server.wait();
}
