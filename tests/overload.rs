//! The real program with nothing left: no descriptor, no memory, no time. Those who are there talk
//! on, those who come are told or wait, no loop spins, and it recovers by itself.

mod common;

#[path = "overload/accept.rs"]
mod accept;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::process::Corebeat;
use common::{ECHO, ERROR, GOAWAY, GUARD, MESSAGE, Native, OK, PONG, WELCOME};
use common::{eventually, frame, hello, publish, resume};
use rustix::process::Signal;

/// Hundredths of a second that a worker may use in a second in which it has nothing to do.
const IDLE_HUNDREDTHS: u64 = 20;

/// Clients that wait in the kernel until they are accepted.
const CROWD: usize = 100;

/// A client that has said hello.
fn knock(address: SocketAddr, user: &str) -> Native {
    let mut client = Native::connect(address);
    client.send(&hello(user));
    client
}

/// Whether a newcomer is welcomed; else its connection has ended.
fn is_welcome(address: SocketAddr) -> bool {
    let mut client = Native::connect(address);
    // One that is closed at once may be reset under this write.
    let said = client.stream.write_all(&hello("next"));
    said.is_ok() && client.try_next().is_some_and(|frame| frame.kind == WELCOME)
}

/// Lets a second pass in which nobody is answered, and measures what the server uses meanwhile.
fn idle_hundredths(program: &Corebeat, waiting: &Native) -> u64 {
    let before = program.used_hundredths();
    // Nothing comes: this read is the wait.
    waiting.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let error = waiting.stream.peek(&mut [0]).expect_err("it waits in the kernel");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    waiting.stream.set_read_timeout(Some(GUARD)).unwrap();
    program.used_hundredths() - before
}

/// Both are members of the lobby: what one says the other hears.
fn talk(ann: &mut Native, bob: &mut Native, body: &[u8]) {
    ann.send(&publish(0, "lobby", body));
    assert_eq!(bob.expect(MESSAGE).message().2, body);
}

/// The number of that counter in the last line of a log.
fn count(last: &str, name: &str) -> u32 {
    let (_, number) = last.split_once(&format!(" {name}=")).expect("it was counted");
    number.split(' ').next().unwrap().parse().unwrap()
}

/// A connection over which HTTP requests are made one after the other.
struct Browser(BufReader<TcpStream>);

impl Browser {
    fn connect(address: SocketAddr) -> Browser {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        Browser(BufReader::new(stream))
    }

    /// The first line and the body of the answer.
    fn get(&mut self, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut first, mut length) = (String::new(), 0);
        self.0.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(bytes) = line.strip_prefix("Content-Length: ") {
                length = bytes.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (first.trim_end().to_owned(), String::from_utf8(body).unwrap())
    }
}

#[test]
fn without_a_descriptor_whoever_comes_is_let_go_and_the_others_talk_on() {
    let program = Corebeat::start(&["--workers", "1", "--overload-descriptors", "off"]);
    let mut ann = Native::enter(program.address, "ann", "lobby");
    let mut bob = Native::enter(program.address, "bob", "lobby");
    let highest = program.descriptors().into_iter().max().unwrap();
    program.limit_descriptors(Some(highest + 1));
    // There may be places between the lower numbers.
    let mut crowd = Vec::new();
    loop {
        let mut client = Native::connect(program.address);
        let said = client.stream.write_all(&hello("crowd"));
        match client.try_next().filter(|_| said.is_ok()) {
            Some(welcome) => assert_eq!(welcome.kind, WELCOME),
            None => break,
        }
        crowd.push(client);
    }
    assert!(!is_welcome(program.address), "and so is the next one: it can be done again");
    program.wait_for_line("Too many open files");
    talk(&mut ann, &mut bob, b"still here");
    // They are let go one after the other, and it rests between them.
    let waiting: Vec<Native> = (0..30).map(|_| Native::connect(program.address)).collect();
    let before = program.used_hundredths();
    let began = Instant::now();
    bob.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    while began.elapsed() < Duration::from_secs(1) {
        // Nothing comes but a PING perhaps: this read is the wait.
        if bob.stream.peek(&mut [0]).is_ok() {
            let ping = bob.next().expect("the connection lives");
            bob.send(&frame(PONG, &ping.payload));
        }
    }
    bob.stream.set_read_timeout(Some(GUARD)).unwrap();
    let spent = program.used_hundredths() - before;
    println!("no descriptor, 30 wait: {spent} hundredths of a second used in one");
    assert!(spent < IDLE_HUNDREDTHS, "{spent} hundredths of a second: a loop spins");
    talk(&mut bob, &mut ann, b"still here");
    drop(waiting);
    program.limit_descriptors(None);
    eventually("newcomers are let in again", || is_welcome(program.address));
    talk(&mut ann, &mut bob, b"all the time");
    program.signal(Signal::TERM);
    drop((ann, bob, crowd));
    let last = program.wait_for_line("stopped after");
    let (failures, closed) = (count(&last, "accept_failures"), count(&last, "accept_closed"));
    // Ten a second at most, and one behind each connection that ends.
    assert!((2..2_000).contains(&failures) && closed >= 2, "{failures} and {closed}");
}

#[test]
fn where_descriptors_run_short_newcomers_wait_in_the_kernel_and_are_taken_in_afterwards() {
    let program = Corebeat::start(&["--workers", "1", "--overload-descriptors", "40%,60%,80%"]);
    let mut browser = Browser::connect(program.address);
    assert_eq!(browser.get("/readyz").1, "ready\n");
    let mut ann = Native::enter(program.address, "ann", "lobby");
    let mut bob = Native::enter(program.address, "bob", "lobby");
    // Nine tenths of them are in use.
    program.limit_descriptors(Some(program.descriptors().len() as u64 * 10 / 9));
    let overloaded = || {
        ann.echo(b"it turns");
        browser.get("/readyz") == ("HTTP/1.1 503 Service Unavailable".into(), "overloaded\n".into())
    };
    eventually("it is overloaded", overloaded);
    let told = program.wait_for_line("worker 0 is overloaded: descriptors ");
    assert!(told.ends_with(": nobody is accepted"), "{told}");
    let mut crowd: Vec<Native> = (0..CROWD).map(|_| knock(program.address, "late")).collect();
    let spent = idle_hundredths(&program, &crowd[0]);
    assert!(spent < IDLE_HUNDREDTHS, "{spent} hundredths of a second: a loop spins");
    talk(&mut ann, &mut bob, b"messages go on");
    program.limit_descriptors(None);
    let raised = Instant::now();
    for late in &mut crowd {
        late.expect(WELCOME);
    }
    let took_ms = raised.elapsed().as_millis();
    println!("{CROWD} wait: {spent} hundredths of a second used in one, welcomed in {took_ms} ms");
    program.wait_for_line("worker 0 is calm again");
    assert_eq!(browser.get("/readyz").1, "ready\n");
    program.signal(Signal::TERM);
    drop((ann, bob, crowd, browser));
    let last = program.wait_for_line("stopped after");
    assert!(last.contains(" overload_pauses=1 "), "{last}");
    assert!(!last.contains("accept_failures"), "none was missing: {last}");
}

#[test]
fn where_descriptors_run_short_sessions_go_on_and_newcomers_are_told_when_to_come_back() {
    let program = Corebeat::start(&["--workers", "1", "--overload-descriptors", "20%,40%,95%"]);
    let mut ann = Native::connect(program.address);
    ann.send(&hello("ann"));
    let (session, _) = ann.expect(WELCOME).session();
    let mut browser = Browser::connect(program.address);
    // Half of them are in use.
    program.limit_descriptors(Some(program.descriptors().len() as u64 * 2));
    eventually("newcomers are refused", || {
        let mut late = knock(program.address, "late");
        let first = late.next().expect("an answer");
        if first.kind == WELCOME {
            return false;
        }
        assert_eq!((first.kind, first.error_code()), (ERROR, 503));
        let after_ms = u32::from_be_bytes(late.expect(GOAWAY).payload[..4].try_into().unwrap());
        assert!((2_000..=10_000).contains(&after_ms), "{after_ms}");
        late.expect_end();
        true
    });
    let told = program.wait_for_line("worker 0 is strained: descriptors ");
    assert!(told.ends_with("new sessions are refused, resumed ones are not"), "{told}");
    assert_eq!(browser.get("/readyz").1, "ready\n");
    drop(ann);
    let mut again = Native::connect(program.address);
    again.send(&resume("ann", &session));
    assert_eq!(again.expect(WELCOME).session(), (session, true));
    let mut person = TcpStream::connect(program.address).unwrap();
    person.set_read_timeout(Some(GUARD)).unwrap();
    person.write_all(b"hello?\n").unwrap();
    let mut answer = String::new();
    person.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("! 503 overloaded: ") && answer.lines().count() == 1, "{answer}");
    program.limit_descriptors(None);
    eventually("newcomers are let in again", || is_welcome(program.address));
    let told = program.wait_for_line("worker 0 is calm again");
    assert!(told.contains(" and 1 resumed"), "{told}");
    again.echo(b"all the time");
}

#[test]
fn beyond_its_memory_nobody_is_accepted_and_a_stop_still_takes_in_who_waits() {
    let mut program = Corebeat::start(&["--workers", "1", "--memory-limit", "1MiB"]);
    let mut late = knock(program.address, "late");
    let spent = idle_hundredths(&program, &late);
    assert!(spent < IDLE_HUNDREDTHS, "{spent} hundredths of a second: a loop spins");
    program.signal(Signal::USR1);
    let counted = program.wait_for_line("all workers: ");
    assert!(counted.contains("overloaded_now=1 overload_pauses=1"), "{counted}");
    program.signal(Signal::TERM);
    let mut heard = Vec::new();
    late.stream.read_to_end(&mut heard).unwrap();
    assert!(!heard.is_empty(), "it is told, and not reset");
    drop(late);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn behind_a_rush_its_memory_comes_back_and_newcomers_are_let_in() {
    let marks = ["--memory-limit", "64MiB", "--overload-memory", "50%,60%,70%"];
    // They say no more, and are to stay for as long as it takes until it is overloaded.
    let patience = ["--workers", "1", "--handshake-timeout", "1m"];
    let program = Corebeat::start(&[&patience[..], &marks].concat());
    let mut browser = Browser::connect(program.address);
    // Each has the server hold the beginning of a line.
    let mut rush = Vec::new();
    eventually("it is overloaded", || {
        for _ in 0..50 {
            let mut person = TcpStream::connect(program.address).unwrap();
            let _ = person.write_all(&[b'x'; 60_000]);
            rush.push(person);
        }
        browser.get("/readyz").1 == "overloaded\n"
    });
    let told = program.wait_for_line("worker 0 is overloaded: ");
    assert!(told.contains("memory ") && told.contains("nobody is accepted"), "{told}");
    drop(rush);
    // Nobody can come and free anything but itself.
    program.wait_for_line("worker 0 is calm again");
    assert!(is_welcome(program.address));
    assert_eq!(browser.get("/readyz").1, "ready\n");
}

/// A direct message to `user`.
fn direct(reference: u32, user: &str, body: &[u8]) -> Vec<u8> {
    let name = [&[user.len() as u8], user.as_bytes()].concat();
    frame(0x13, &[&reference.to_be_bytes(), &name[..], body].concat())
}

/// Says more than the server may keep until it is overloaded, and then nothing more.
fn fill(program: &Corebeat, say: impl Fn(u32) -> Vec<u8>) {
    let mut ann = Native::greet(program.address, "ann");
    let mut browser = Browser::connect(program.address);
    let mut said = 0;
    eventually("it is overloaded", || {
        // Many at a time, so that the first ones are not old before the last ones come.
        for _ in 0..50 {
            said += 1;
            ann.send(&say(said));
        }
        (0..50).for_each(|_| drop(ann.expect(OK)));
        browser.get("/readyz").1 == "overloaded\n"
    });
}

#[test]
fn what_was_kept_and_grew_old_gives_its_memory_back_though_nobody_says_anything_more() {
    let body = [b'x'; 50_000];
    let marks = ["--memory-limit", "64MiB", "--overload-memory", "50%,60%,70%"];
    let keeps = ["--history-bytes", "8MiB", "--offline-bytes", "8MiB"];
    let ages = ["--history-age", "5s", "--offline-age", "5s"];
    let options = [&["--workers", "2"][..], &marks, &keeps, &ages].concat();
    let rooms = |number: u32| publish(number, &format!("room-{}", number % 8), &body);
    let users = |number: u32| direct(number, &format!("absent-{}", number % 8), &body);
    for say in [&rooms as &dyn Fn(u32) -> Vec<u8>, &users] {
        let program = Corebeat::start(&options);
        fill(&program, say);
        program.wait_for_line("is calm again");
        eventually("newcomers are let in again", || is_welcome(program.address));
        let mut browser = Browser::connect(program.address);
        eventually("all are ready", || browser.get("/readyz").1 == "ready\n");
    }
}

#[test]
fn near_the_end_of_its_memory_newcomers_are_refused() {
    let marks = ["--memory-limit", "1MiB", "--overload-memory", "1%,2%,1000000%"];
    let program = Corebeat::start(&marks);
    let mut late = knock(program.address, "late");
    assert_eq!(late.expect(ERROR).error_code(), 503);
    late.expect(GOAWAY);
    late.expect_end();
    program.signal(Signal::USR1);
    let counted = program.wait_for_line("all workers: ");
    assert!(
        counted.contains("strained_now=") && counted.contains("overload_refused=1"),
        "{counted}"
    );
    assert!(!counted.contains("overloaded_now="), "{counted}");
}

#[test]
fn a_loop_that_lags_refuses_newcomers_until_it_has_caught_up() {
    let options = ["--workers", "1", "--overload-lag", "20us,40us,1h"];
    let program = Corebeat::start(&options);
    // Where others have the processor, it may lag before anybody comes.
    let mut loud = None;
    eventually("it does not lag", || {
        let mut comer = knock(program.address, "loud");
        let is_welcome = comer.next().expect("an answer").kind == WELCOME;
        loud = is_welcome.then_some(comer);
        is_welcome
    });
    let mut loud = loud.expect("it is welcome");
    program.lines_so_far();
    let echo = frame(ECHO, &[7; 60_000]);
    eventually("it lags", || {
        for _ in 0..20 {
            loud.send(&echo);
            loud.expect(ECHO);
        }
        let mut late = knock(program.address, "late");
        late.next().expect("an answer").kind == ERROR
    });
    let told = program.wait_for_line("worker 0 is strained: ");
    assert!(told.contains(" ms (strained): new sessions are refused"), "{told}");
    // It wakes up by itself to see that it has.
    program.wait_for_line("worker 0 is calm again");
    loud.echo(b"all the time");
}
