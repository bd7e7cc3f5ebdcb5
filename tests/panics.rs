//! Workers that panic, in the real program: a drill over the admin socket, which only a debug build
//! knows.

#![cfg(debug_assertions)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use common::process::{Corebeat, run};
use common::{ERROR, Frame, GOAWAY, MESSAGE, Native, OK, PONG, WELCOME};
use common::{eventually, frame, join, publish};
use rustix::process::Signal;

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("corebeat-panics-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// What the server answers to a request of an operator.
    fn ask(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.path("admin")).unwrap();
        writeln!(stream, "{request}").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        BufReader::new(stream).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")
    }

    /// A counter of all workers together.
    fn counter(&self, name: &str) -> u64 {
        let counters = self.ask("counters");
        let all = counters.lines().find(|line| line.contains(r#""worker":"all""#)).unwrap();
        let all: serde_json::Value = serde_json::from_str(all).unwrap();
        all[name].as_u64().unwrap()
    }

    fn start(&self, workers: &str, options: &[&str]) -> Corebeat {
        let admin = self.path("admin");
        Corebeat::start(&[&["--workers", workers, "--admin", &admin], options].concat())
    }

    /// A worker panics, and has begun anew when this returns.
    fn panic(&self, server: &Corebeat, worker: usize) -> String {
        self.ask(&format!("panic {worker}"));
        let line = server.wait_for_line(&format!("worker {worker} panicked: "));
        server.wait_for_line(&format!("worker {worker} has begun anew"));
        line
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a client was told to come back, and its connection ended in order.
fn is_sent_away(client: &mut Native) -> bool {
    let _ = client.stream.write_all(&frame(common::PING, &[0; 17]));
    loop {
        let Some(next) = client.try_next() else { panic!("it ended without a word") };
        match next.kind {
            ERROR => {
                assert_eq!(next.error_code(), 503);
                let goaway = client.try_next().expect("when to come back");
                assert_eq!(goaway.kind, GOAWAY);
                let after_ms = u32::from_be_bytes(goaway.payload[..4].try_into().unwrap());
                assert!((2_000..=10_000).contains(&after_ms), "{after_ms}");
                assert_eq!(client.try_next(), None);
                return true;
            }
            PONG => return false,
            // What is told of rooms.
            _ => {}
        }
    }
}

/// Asks again and again until it is done. What was on its way to a worker when that panicked, or
/// was said to it before its own worker had heard that it has begun anew, is refused.
fn insist(client: &mut Native, request: impl Fn(u32) -> Vec<u8>) -> Frame {
    static REFERENCE: AtomicU32 = AtomicU32::new(100);
    let mut answer = None;
    eventually("it is done", || {
        client.send(&request(REFERENCE.fetch_add(1, Ordering::Relaxed)));
        answer = std::iter::from_fn(|| client.next_but_pings())
            .find(|frame| matches!(frame.kind, OK | ERROR));
        let answer = answer.as_ref().expect("an answer before the end");
        assert!(answer.kind == OK || answer.error_code() == 503, "{answer:?}");
        answer.kind == OK
    });
    answer.expect("it is done")
}

/// A client in each of the rooms `a` to `h`, which have their homes on either worker.
fn enter_all(server: &Corebeat, user: &str) -> Native {
    let mut client = Native::greet(server.address, user);
    for room in ROOMS {
        insist(&mut client, |reference| join(reference, room));
    }
    client
}

const ROOMS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Says something in each room, and waits until somebody has heard it there.
fn all_rooms_work(speaker: &mut Native, listener: &mut Native) {
    for room in ROOMS {
        insist(speaker, |reference| publish(reference, room, b"still here"));
        let heard = loop {
            let next = listener.next_but_pings().expect("a message before the end");
            if next.kind == MESSAGE {
                break next;
            }
        };
        assert_eq!(heard.message().2, b"still here", "{room}");
    }
}

#[test]
fn the_others_go_on_and_those_of_the_worker_come_back_to_as_many_workers() {
    let folder = Folder::new();
    let server = folder.start("2", &[]);
    let crowd = |round: usize| -> Vec<Native> {
        (0..32).map(|number| enter_all(&server, &format!("u{round}-{number}"))).collect()
    };
    let descriptors = |server: &Corebeat| -> usize {
        let tables = server.workers().into_iter().map(|path| path.join("fd"));
        tables.map(|path| std::fs::read_dir(path).unwrap().count()).sum()
    };
    let before = descriptors(&server);
    let mut gone_so_far = 0;
    for round in 0..4 {
        let mut clients = crowd(round);
        let line = folder.panic(&server, round % 2);
        assert!(line.contains("an operator wants to see it (src/engine/"), "{line}");
        let (mut gone, mut others) = (Vec::new(), Vec::new());
        for mut client in clients.drain(..) {
            match is_sent_away(&mut client) {
                true => gone.push(client),
                false => others.push(client),
            }
        }
        assert!(!gone.is_empty() && others.len() > 1, "the kernel spreads them");
        let (speaker, listeners) = others.split_first_mut().unwrap();
        all_rooms_work(speaker, &mut listeners[0]);
        let mut comer = enter_all(&server, "comer");
        all_rooms_work(speaker, &mut comer);
        assert_eq!(folder.counter("worker_panics"), round as u64 + 1);
        let reason = ["--reason", "worker_panicked", "--last", "1000"];
        let output =
            run(&[&["closes", "--json", "--admin", &folder.path("admin")], &reason[..]].concat());
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.lines().count() > gone_so_far, "each has its record: {told}");
        gone_so_far += gone.len();
        assert_eq!(told.lines().count(), gone_so_far);
        drop((gone, others, comer));
        eventually("all descriptors are given back", || descriptors(&server) == before);
    }
    assert_eq!(server.workers().len(), 2);
}

#[test]
fn a_session_of_the_worker_begins_anew_and_its_rooms_are_served_again() {
    let folder = Folder::new();
    let server = folder.start("1", &[]);
    let mut ann = Native::connect(server.address);
    ann.send(&common::hello("ann"));
    let (session, _) = ann.expect(WELCOME).session();
    folder.panic(&server, 0);
    assert!(is_sent_away(&mut ann));
    let mut again = Native::connect(server.address);
    again.send(&common::resume("ann", &session));
    let (other, is_resumed) = again.expect(WELCOME).session();
    assert!(!is_resumed && other != session);
    let mut bob = Native::enter(server.address, "bob", "tea");
    again.send(&publish(1, "tea", b"hi"));
    again.expect(OK);
    assert_eq!(bob.expect(MESSAGE).message().0, 1);
}

#[test]
fn what_is_stored_comes_back() {
    let folder = Folder::new();
    let server = folder.start("2", &["--data", &folder.path("data")]);
    let mut speaker = enter_all(&server, "speaker");
    for room in ROOMS {
        speaker.send(&publish(7, room, b"kept"));
        speaker.send(&publish(0, room, b"too"));
    }
    for _ in ROOMS {
        speaker.expect(OK);
    }
    eventually("all is stored", || folder.counter("stored") >= 8);
    for worker in [0, 1] {
        folder.panic(&server, worker);
    }
    let mut comer = Native::greet(server.address, "comer");
    for room in ROOMS {
        let head = insist(&mut comer, |reference| join(reference, room));
        let seq = u64::from_be_bytes(head.payload[9..17].try_into().unwrap());
        assert!(seq >= 1, "{room}: what was said before is counted");
        comer.send(&publish(0, room, b"more"));
    }
    comer.echo(b"served");
}

#[test]
fn a_worker_that_panics_again_and_again_ends_the_server_with_one_line() {
    let folder = Folder::new();
    let mut server = folder.start("2", &[]);
    for _ in 0..5 {
        folder.panic(&server, 1);
    }
    folder.ask("panic 1");
    server.wait_for_line("the server has ended: worker 1 cannot go on: it panicked 6 times");
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_store_that_panics_ends_the_server_with_one_line() {
    let folder = Folder::new();
    let mut server = folder.start("2", &["--data", &folder.path("data")]);
    let mut client = Native::enter(server.address, "ann", "tea");
    // Handed over before the panic or behind it, or never: nobody waits for its answer.
    let _ = client.stream.write_all(&publish(1, "tea", b"x"));
    folder.ask("panic store");
    server.wait_for_line("the server has ended: worker ");
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_drain_and_a_take_over_end_as_ever_behind_a_panic() {
    let folder = Folder::new();
    let mut first = folder.start("2", &[]);
    folder.panic(&first, 0);
    folder.panic(&first, 1);
    let mut client = enter_all(&first, "ann");
    let (address, admin) = (first.address, folder.path("admin"));
    let mut second =
        Corebeat::start_on(address, &["--workers", "2", "--admin", &admin, "--take-over"]);
    while client.next_but_pings().is_some() {}
    assert_eq!(first.wait().code(), Some(0));
    let mut again = enter_all(&second, "ann");
    folder.panic(&second, 0);
    let _ = is_sent_away(&mut again);
    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(0));
}

/// What `/readyz` says to somebody who comes for it.
fn readiness(server: &Corebeat) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    answer.lines().last().unwrap_or_default().to_owned()
}

/// Takes descriptors away until the only worker is overloaded.
fn overload(server: &Corebeat, witness: &mut Native) {
    server.limit_descriptors(Some(server.descriptors().len() as u64 * 10 / 9));
    // It looks at the limit a few times a second, and while it is awake.
    let mut overloaded = false;
    while !overloaded {
        witness.echo(b"it turns");
        overloaded = server.lines_so_far().iter().any(|line| line.contains("is overloaded: "));
    }
}

#[test]
fn a_worker_that_panics_while_it_is_overloaded_opens_its_doors_again() {
    let folder = Folder::new();
    let server = folder.start("1", &["--overload-descriptors", "40%,60%,80%"]);
    // With those that take the descriptors, the pressure goes as well.
    let mut crowd: Vec<Native> =
        (0..100).map(|number| Native::greet(server.address, &format!("u{number}"))).collect();
    overload(&server, &mut crowd[0]);
    let mut late = Native::connect(server.address);
    late.send(&common::hello("late"));
    folder.panic(&server, 0);
    late.expect(WELCOME);
    assert_eq!(readiness(&server), "ready");
    drop(crowd);

    // Nobody is there whose going would free anything.
    overload(&server, &mut late);
    folder.panic(&server, 0);
    let mut later = Native::connect(server.address);
    later.send(&common::hello("later"));
    server.limit_descriptors(None);
    later.expect(WELCOME);
    assert_eq!(readiness(&server), "ready");
    assert_eq!(folder.counter("overloaded_now"), 0);
}

#[test]
fn a_worker_that_panics_while_it_drains_ends_all_the_same() {
    let folder = Folder::new();
    let mut server = folder.start("1", &["--drain", "1h", "--drain-rate", "1"]);
    let clients: Vec<Native> =
        (0..6).map(|number| Native::greet(server.address, &format!("u{number}"))).collect();
    server.signal(Signal::TERM);
    server.wait_for_line("draining 6 connections");
    folder.panic(&server, 0);
    assert_eq!(server.wait().code(), Some(0));
    drop(clients);
}
