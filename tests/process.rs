//! The real program: its help, its exit codes, its signals, and what the kernel says of its
//! threads.

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::process::{Corebeat, PROGRAM, command, run};
use common::{ECHO, GAP, GOAWAY, MESSAGE, Native, OK, PING, PONG, Text, WELCOME};
use common::{eventually, frame, hello, join, publish, resume};
use rustix::process::Signal;

/// What a refused start prints: one line, with the program's name before it.
fn refusal(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    told.strip_prefix("corebeat: ").expect("the program's name").trim_end().to_owned()
}

#[test]
fn help_and_version_are_printed_and_nothing_is_wrong() {
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        for words in
            ["--listen", "--heartbeat-profile", "--drain", "Examples:", "COREBEAT_MAX_FRAME"]
        {
            assert!(help.contains(words), "{words} is missing from {help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100));
        assert!(output.stderr.is_empty());
    }
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let version = concat!("corebeat ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[test]
fn a_reader_of_the_help_may_hang_up() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&["--help"]).stdout(Stdio::from(writer)).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_wrong_option_is_refused_in_one_line_that_names_it() {
    let told = refusal(&run(&["--wrkers", "2"]));
    assert!(told.contains("'--wrkers'") && told.contains("'--workers'"), "{told}");
    let told = refusal(&run(&["serve", "--max-frame", "huge"]));
    assert!(told.contains("--max-frame") && told.contains("64KiB"), "{told}");
    let told = refusal(&run(&["--heartbeat", "5m"]));
    assert!(told.contains("--heartbeat 300s") && told.contains("--timeout 900s"), "{told}");
    let told = refusal(&run(&["--listen", "192.0.2.1:8080"]));
    assert!(told.contains("--listen 192.0.2.1:8080"), "{told}");
}

#[test]
fn options_are_taken_from_the_environment() {
    let mut command = command(&[]);
    let told = refusal(&command.env("COREBEAT_MAX_FRAME", "17MiB").output().unwrap());
    assert!(told.contains("--max-frame 17MiB"), "{told}");
}

#[test]
fn a_busy_port_is_refused_whoever_holds_it() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = Corebeat::start(&["--workers", "2"]);
    for address in [plain.local_addr().unwrap(), first.address] {
        let told = refusal(&run(&["--listen", &address.to_string()]));
        let expected = format!("--listen {address}: the port is in use; choose another");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn too_low_a_limit_on_open_files_is_refused() {
    let script = format!("ulimit -n 40; exec '{PROGRAM}' --listen 127.0.0.1:0");
    let told = refusal(&Command::new("sh").args(["-c", &script]).output().unwrap());
    assert!(told.contains("limit on open files is 40") && told.contains("ulimit -n"), "{told}");
    let told = refusal(&run(&["--listen", "127.0.0.1:0", "--max-connections", "4000000000"]));
    assert!(told.starts_with("--max-connections 4000000000: the limit on open files"), "{told}");
}

#[test]
fn the_first_signal_says_goodbye_to_every_client_and_the_exit_code_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Corebeat::start(&["--workers", "2"]);
        let mut native = Native::enter(program.address, "ann", "lobby");
        let mut text = Text::greet(program.address, "bob");
        let silent = TcpStream::connect(program.address).unwrap();
        program.signal(signal);
        native.expect(GOAWAY);
        native.expect_end();
        // One of the two may be sent on, and be gone, before the other one is.
        let lines: Vec<String> = std::iter::from_fn(|| text.next()).collect();
        let (left, goodbye): (Vec<_>, Vec<_>) =
            lines.iter().partition(|line| *line == "* ann left lobby");
        assert!(left.len() <= 1 && goodbye.len() == 1, "{lines:?}");
        assert!(goodbye[0].starts_with("* the server is going away"), "{lines:?}");
        drop((native, text, silent));
        assert_eq!(program.wait().code(), Some(0));
        program.wait_for_line("draining 3 connections, at most 10s");
        let last = program.wait_for_line("stopped after");
        assert!(last.contains(" 0 connections cut") && last.contains("opened=3"), "{last}");
    }
}

/// Descriptors in the tables of all workers.
fn open_files(program: &Corebeat) -> usize {
    let count = |path: &std::path::PathBuf| std::fs::read_dir(path.join("fd")).unwrap().count();
    program.workers().iter().map(count).sum()
}

/// Makes a client that has asked for more than it reads, so that bytes wait for it in the server.
fn stuck(program: &Corebeat) -> Native {
    let mut client = Native::connect_narrow(program.address);
    client.send(&common::hello("stuck"));
    client.expect(common::WELCOME);
    let alone = open_files(program);
    // The server stops reading once it holds enough for this client. That shows here when the
    // kernel takes no more although the worker turns: it answers others, whichever it is.
    let mut others: Vec<Native> =
        (0..8).map(|number| Native::greet(program.address, &format!("other-{number}"))).collect();
    client.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let echo = vec![7; 60_000];
    let (echo, mut taken) = (frame(ECHO, &echo), 0);
    loop {
        let before = taken;
        while let Ok(count @ 1..) = client.stream.write(&echo[taken % echo.len()..]) {
            taken += count;
        }
        if taken == before {
            break;
        }
        others.iter_mut().for_each(|other| other.echo(b"it turns"));
    }
    drop(others);
    eventually("the others are gone", || open_files(program) == alone);
    client
}

#[test]
fn a_second_signal_stops_at_once_while_a_peer_does_not_read() {
    let mut program = Corebeat::start(&["--workers", "1", "--drain", "1h"]);
    let _stuck = stuck(&program);
    program.signal(Signal::TERM);
    program.wait_for_line("draining 1 connection, at most 3600s");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    program.wait_for_line("a second signal");
    program.wait_for_line("stopped after");
}

#[test]
fn a_drain_ends_at_its_time_even_if_a_peer_does_not_read() {
    let mut program = Corebeat::start(&["--workers", "1", "--drain", "200ms"]);
    let _stuck = stuck(&program);
    program.signal(Signal::TERM);
    program.wait_for_line("the time to drain is over");
    program.wait_for_line("1 connection closed: cut: ");
    let last = program.wait_for_line("stopped after");
    assert!(last.contains(" 1 connection cut") && last.contains("closed_cut=1"), "{last}");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_killed_server_leaves_its_port_free() {
    let mut program = Corebeat::start(&["--workers", "2"]);
    let _client = Native::enter(program.address, "ann", "lobby");
    program.signal(Signal::KILL);
    assert_eq!(program.wait().code(), None);
    let next = Corebeat::start_on(program.address, &[]);
    Native::enter(next.address, "ann", "lobby").echo(b"again");
}

#[test]
fn sigusr1_logs_the_counters_of_each_worker_and_their_sum() {
    let program = Corebeat::start(&["--workers", "2"]);
    for round in 1..=2 {
        Native::greet(program.address, "ann").echo(b"counted");
        program.signal(Signal::USR1);
        program.wait_for_line("worker 0: ");
        program.wait_for_line("worker 1: ");
        let total = program.wait_for_line("all workers: ");
        assert!(total.contains(&format!("welcomed={round} ")), "{total}");
    }
}

#[test]
fn a_suspended_server_gives_its_clients_a_fresh_chance() {
    let program = Corebeat::start(&["--workers", "1", "--heartbeat", "1s", "--timeout", "3s"]);
    let mut client = Native::greet(program.address, "ann");
    program.signal(Signal::STOP);
    // Longer than the timeout. Nothing comes: this read is the wait.
    client.stream.set_read_timeout(Some(Duration::from_millis(4_500))).unwrap();
    let asleep = Instant::now();
    while asleep.elapsed() < Duration::from_millis(3_500) {
        let mut byte = [0; 1];
        // A PING from before the stop may still arrive; unanswered it does no harm.
        let _ = client.stream.peek(&mut byte).map(|_| client.next());
    }
    program.signal(Signal::CONT);
    client.stream.set_read_timeout(Some(common::GUARD)).unwrap();
    // It is asked whether it is still there, not thrown out.
    let ping = client.next().expect("the connection lives");
    assert_eq!(ping.kind, PING, "{ping:?}");
    client.send(&frame(PONG, &ping.payload));
    client.echo(b"still here");
    program.signal(Signal::USR1);
    let total = program.wait_for_line("all workers: ");
    assert!(total.contains("amnesties="), "{total}");
    assert!(!total.contains("closed_heartbeat_timeout"), "{total}");
}

#[test]
fn a_silent_client_is_given_up_at_the_timeout() {
    let program = Corebeat::start(&["--workers", "1", "--heartbeat", "1s", "--timeout", "2s"]);
    let mut client = Native::greet(program.address, "ann");
    let mut last = client.next().unwrap();
    while last.kind == PING {
        last = client.next().expect("an ERROR before the end");
    }
    assert_eq!(last.error_code(), 408);
    assert_eq!(client.next(), None);
}

#[test]
fn a_server_with_nothing_to_do_uses_no_processor_time() {
    let program = Corebeat::start(&["--workers", "2"]);
    let _stuck = stuck(&program);
    let mut bob = Text::greet(program.address, "bob");
    let ann = Text::greet(program.address, "ann");
    ann.hang_up();
    bob.wait_for("* ann left lobby");
    let before = program.used_hundredths();
    // Nothing comes: this read is the wait.
    bob.stay_silent(Duration::from_secs(1));
    let spent = program.used_hundredths() - before;
    assert!(spent < 20, "{spent} hundredths of a second in one second: a loop spins");
}

#[test]
fn each_worker_stays_on_its_core() {
    let allowed = |status: &std::path::Path| {
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let cores: Vec<String> = expand(&allowed("/proc/self/status".as_ref()));
    let pinned = Corebeat::start(&["--workers", "3"]);
    for (worker, path) in pinned.workers().iter().enumerate() {
        assert_eq!(allowed(&path.join("status")), cores[worker % cores.len()]);
    }
    let free = Corebeat::start(&["--workers", "3", "--no-pin"]);
    let workers = free.workers();
    assert_eq!(workers.len(), 3);
    for path in workers {
        assert_eq!(expand(&allowed(&path.join("status"))), cores);
    }
}

/// The cores of a list such as `0-2,5`.
fn expand(list: &str) -> Vec<String> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
    };
    list.split(',').flat_map(range).map(|core| core.to_string()).collect()
}

#[test]
fn descriptors_return_to_their_level_when_clients_leave() {
    let program = Corebeat::start(&["--workers", "2"]);
    let open = || open_files(&program);
    let before = open();
    for crowd in 0..5 {
        let clients: Vec<Native> = (0..100)
            .map(|number| Native::enter(program.address, &format!("c{crowd}-{number}"), "lobby"))
            .collect();
        assert!(open() >= before + clients.len(), "each worker has its own, or all share one");
        for (number, client) in clients.into_iter().enumerate() {
            if number % 2 == 0 { client.reset() } else { drop(client) }
        }
    }
    eventually("all descriptors are closed", || open() == before);
}

/// How a client loses its connection.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Reset,
    Closed,
    /// Nobody tells the server, which still holds the connection when the client comes back.
    HalfOpen,
}

/// Bob hears some messages, is cut off, and comes back for the others.
fn is_cut_off_and_resumes(program: &Corebeat, cut: Cut, turn: u32) {
    let room = format!("{cut:?}-{turn}");
    let mut ann = Native::enter(program.address, "ann", &room);
    let mut say = |said: std::ops::Range<u64>| {
        for number in said {
            ann.send(&publish(number as u32, &room, &number.to_be_bytes()));
            ann.expect(OK);
        }
    };
    let mut bob = Native::connect(program.address);
    bob.send(&hello("bob"));
    let (session, _) = bob.expect(WELCOME).session();
    bob.send(&join(1, &room));
    bob.expect(OK);
    say(1..4);
    for expected in 1..4 {
        assert_eq!(bob.expect(MESSAGE).message().0, expected);
    }
    bob.acknowledge();
    let half_open = match cut {
        Cut::Reset => {
            bob.reset();
            None
        }
        Cut::Closed => {
            bob.close();
            None
        }
        Cut::HalfOpen => {
            bob.cut_the_wire();
            Some(bob)
        }
    };
    say(4..7);

    let mut bob = Native::connect(program.address);
    bob.send(&resume("bob", &session));
    let (same, resumed) = bob.expect(WELCOME).session();
    assert!(resumed && same == session, "{cut:?}");
    for expected in 4..7 {
        let frame = bob.expect(MESSAGE);
        assert!(frame.is_replay(), "{cut:?}");
        assert_eq!(frame.message().0, expected, "{cut:?}: what it missed, and nothing twice");
    }
    say(7..9);
    for expected in 7..9 {
        let frame = bob.expect(MESSAGE);
        assert!(!frame.is_replay(), "{cut:?}");
        assert_eq!(frame.message().0, expected, "{cut:?}");
    }
    drop(half_open);
}

#[test]
fn a_client_that_is_cut_off_in_any_way_resumes_and_gets_exactly_what_it_missed() {
    let program = Corebeat::start(&["--workers", "2"]);
    for cut in [Cut::Reset, Cut::Closed, Cut::HalfOpen] {
        for turn in 0..4 {
            is_cut_off_and_resumes(&program, cut, turn);
        }
    }
}

#[test]
fn where_an_option_says_so_messages_give_way_and_a_gap_names_them() {
    let options = ["--overflow-room", "den-*=drop-oldest", "--max-outbound", "128KiB"];
    let program = Corebeat::start(&options);
    let mut slow = Native::connect_narrow(program.address);
    slow.send(&common::hello("slow"));
    slow.expect(WELCOME);
    slow.send(&join(1, "den-1"));
    slow.expect(OK);
    let mut speaker = Native::greet(program.address, "speaker");
    // More than a kernel buffers for a connection.
    let body = [7; 30_000];
    for _ in 0..400 {
        speaker.send(&publish(0, "den-1", &body));
    }
    speaker.echo(b"all is taken");
    speaker.send(&publish(0, "den-1", b"the end"));
    let (mut due, mut missing) = (1, 0);
    while due <= 401 {
        let told = slow.next_but_pings().expect("a slow member is not closed");
        let place = |at: usize| u64::from_be_bytes(told.payload[at..at + 8].try_into().unwrap());
        let (from, to) = match told.kind {
            MESSAGE => (place(4), place(4)),
            GAP => (place(4), place(12)),
            other => panic!("{other} is neither a message nor a gap"),
        };
        assert!(from == due && to >= from, "{from} to {to} where {due} was due");
        due = to + 1;
        missing += if told.kind == GAP { to + 1 - from } else { 0 };
    }
    assert!(missing > 100, "{missing} were dropped");
    program.signal(Signal::TERM);
    let last = program.wait_for_line("stopped after");
    assert!(last.contains(&format!("overflow_drop_oldest={missing}")), "{last}");
}
