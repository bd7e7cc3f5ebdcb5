//! One process taking the place of another, on the real program and under load: nobody is refused,
//! nothing that was acknowledged is lost, and where it cannot be done the server that runs goes on.

mod common;

#[path = "takeover/crowd.rs"]
mod crowd;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::process::{Corebeat, command, run};
use common::{GOAWAY, Native, Text, eventually, frame};
use crowd::{Crowd, Keeping};
use rustix::process::{Pid, Signal, kill_process};

/// A folder of the test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("corebeat-takeover-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `corebeat admin` prints, or its refusal.
fn ask(socket: &str, request: &str) -> Result<String, String> {
    let output = run(&["admin", "--admin", socket, request]);
    let told = String::from_utf8(output.stdout).unwrap();
    match output.status.code() {
        Some(0) => Ok(told),
        _ => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// The one line in which a start is refused.
fn refusal(address: SocketAddr, arguments: &[&str]) -> String {
    let address = address.to_string();
    let output = run(&[&["--listen", &address], arguments].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("corebeat: ")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    lines[0].to_owned()
}

/// One server after the other takes over, with these numbers of workers, while a crowd comes, goes
/// and talks.
fn restart_under_load(workers: &[u16], keeping: Keeping) {
    let folder = Folder::new();
    let (admin, data) = (folder.path("admin.sock"), folder.path("data"));
    let options = |workers: u16| {
        let mut options = vec!["--workers".into(), workers.to_string(), "--admin".into()];
        options.extend([admin.clone(), "--history-count".into(), "100000".into()]);
        options.extend(["--history-bytes".into(), "64MiB".into()]);
        // What a worker that does not get a core for a while sheds is another matter.
        options.extend(["--max-room-queue".into(), "1000000".into()]);
        options.extend(["--max-mail-staged".into(), "1000000".into()]);
        if keeping == Keeping::Disk {
            options.extend(["--data".into(), data.clone()]);
        }
        options
    };
    let start = |address: &str, workers: u16, more: &[&str]| {
        let options = options(workers);
        let mut arguments: Vec<&str> = options.iter().map(String::as_str).collect();
        arguments.extend(more);
        Corebeat::start_on(address.parse().unwrap(), &arguments)
    };
    let mut running = start("127.0.0.1:0", workers[0], &[]);
    let address = running.address.to_string();
    let crowd = Crowd::gather(running.address, keeping);
    for &workers in &workers[1..] {
        crowd.talk_for_a_while();
        let next = start(&address, workers, &["--take-over"]);
        assert_eq!(running.wait().code(), Some(0));
        let last = running.wait_for_line("stopped after");
        assert!(last.contains(" 0 connections cut"), "{last}");
        running = next;
    }
    crowd.talk_for_a_while();
    let seen = crowd.disperse();
    eprintln!(
        "{keeping:?}: {} connections, {} messages acknowledged, longest wait {} ms",
        seen.connected, seen.acknowledged, seen.longest_wait_ms
    );
    assert_eq!(seen.refused, Vec::<String>::new(), "of {} connections", seen.connected);
    assert_eq!(seen.lost, Vec::<String>::new(), "of {} messages", seen.acknowledged);
    assert!(seen.connected > 50 && seen.acknowledged > 50, "{seen:?}");
    assert!(ask(&admin, "ping").unwrap().contains("\"stage\":\"serving\""));
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
    assert!(!std::path::Path::new(&admin).exists(), "the last one takes its socket away");
}

#[test]
fn nobody_is_refused_and_nothing_lost_while_servers_in_memory_take_over() {
    restart_under_load(&[2, 3, 1, 2, 2], Keeping::Memory);
}

#[test]
fn nobody_is_refused_and_nothing_lost_while_servers_with_a_store_take_over() {
    restart_under_load(&[2, 1, 3, 2], Keeping::Disk);
}

#[test]
fn what_does_not_agree_is_refused_in_one_line_and_the_server_goes_on() {
    let folder = Folder::new();
    let (admin, data) = (folder.path("admin.sock"), folder.path("data"));
    let program = Corebeat::start(&["--workers", "1", "--admin", &admin, "--node", "7"]);
    let mut ann = Native::enter(program.address, "ann", "lobby");
    let take_over = ["--take-over", &admin, "--admin", "off"];
    let told = refusal(program.address, &take_over);
    assert!(told.contains("--node 1: process ") && told.contains("has 7"), "{told}");
    let with = |more: &[&'static str]| [&take_over, more].concat();
    let told =
        refusal(program.address, &[&with(&["--node", "7", "--data"])[..], &[&data]].concat());
    assert!(told.contains("--data ") && told.contains("has none"), "{told}");
    let elsewhere = "127.0.0.1:9".parse().unwrap();
    let told = refusal(elsewhere, &with(&["--node", "7"]));
    assert!(told.contains("--listen 127.0.0.1:9: process "), "{told}");
    ann.echo(b"as ever");
    Native::enter(program.address, "bob", "lobby").echo(b"as ever");
}

#[test]
fn where_nobody_is_there_it_says_so_or_starts_afresh() {
    let folder = Folder::new();
    let nowhere = folder.path("nobody.sock");
    let any = "127.0.0.1:0".parse().unwrap();
    let told = refusal(any, &["--take-over", &nowhere]);
    assert!(told.contains(&nowhere) && told.contains("--take-over=auto"), "{told}");
    let program = Corebeat::start(&["--admin", &nowhere, "--take-over=auto"]);
    let address = program.address;
    Native::enter(address, "ann", "lobby").echo(b"afresh");
    let told = refusal(address, &[]);
    assert!(told.contains("the port is in use") && told.contains("--take-over"), "{told}");
    let mut before = program;
    let after = Corebeat::start_on(address, &["--admin", &nowhere, "--take-over=auto"]);
    assert_eq!(before.wait().code(), Some(0));
    Native::enter(after.address, "ann", "lobby").echo(b"taken over");
}

/// A process that asks to take over, and what it is told.
fn asks_to_take_over(admin: &str) -> (BufReader<UnixStream>, String) {
    let mut stream = BufReader::new(UnixStream::connect(admin).unwrap());
    stream.get_ref().set_read_timeout(Some(common::GUARD)).unwrap();
    stream.get_mut().write_all(b"take-over 1\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    (stream, line)
}

#[test]
fn a_successor_that_dies_before_it_is_ready_has_changed_nothing() {
    let folder = Folder::new();
    let admin = folder.path("admin.sock");
    let program = Corebeat::start(&["--workers", "2", "--admin", &admin]);
    let mut ann = Native::enter(program.address, "ann", "lobby");
    let (successor, offer) = asks_to_take_over(&admin);
    assert!(offer.contains("\"listeners\":2"), "{offer}");
    let told = refusal(program.address, &["--admin", &admin, "--take-over"]);
    assert!(told.contains("process 1 is taking over already"), "{told}");
    let (_, told) = asks_to_take_over(&admin);
    assert!(told.contains("already"), "{told}");
    drop(successor);
    program.wait_for_line("process 1 does not take over after all; serving on");
    ann.echo(b"as ever");
    Native::enter(program.address, "bob", "lobby").echo(b"as ever");
    let mut before = program;
    let after = Corebeat::start_on(before.address, &["--admin", &admin, "--take-over"]);
    ann.expect(GOAWAY);
    ann.expect_end();
    drop(ann);
    assert_eq!(before.wait().code(), Some(0));
    Native::enter(after.address, "ann", "lobby").echo(b"taken over");
}

#[test]
fn who_was_not_offered_anything_cannot_be_ready() {
    let folder = Folder::new();
    let admin = folder.path("admin.sock");
    let program = Corebeat::start(&["--workers", "1", "--admin", &admin]);
    let told = ask(&admin, "ready").unwrap_err();
    assert!(told.contains("nothing was offered"), "{told}");
    let told = ask(&admin, "nonsense").unwrap_err();
    assert!(told.contains("no such request"), "{told}");
    Native::enter(program.address, "ann", "lobby").echo(b"as ever");
    program.signal(Signal::TERM);
}

#[test]
fn who_says_more_than_any_server_would_is_none() {
    const FAR_TOO_MUCH: usize = 16 << 20;
    let folder = Folder::new();
    let admin = folder.path("admin.sock");
    let door = UnixListener::bind(&admin).unwrap();
    let babbler = thread::spawn(move || {
        let (mut stream, _) = door.accept().unwrap();
        let piece = [b'x'; 4 << 10];
        (0..FAR_TOO_MUCH / piece.len()).take_while(|_| stream.write_all(&piece).is_ok()).count()
    });
    let told = refusal("127.0.0.1:0".parse().unwrap(), &["--take-over", &admin]);
    assert!(told.contains("it says too much"), "{told}");
    babbler.join().unwrap();
}

#[test]
fn the_successor_has_the_port_where_the_server_dies_on_the_way() {
    let folder = Folder::new();
    let (admin, data) = (folder.path("admin.sock"), folder.path("data"));
    let options = ["--workers", "2", "--admin", &admin, "--data", &data, "--drain", "1h"];
    let mut before = Corebeat::start(&options);
    let address = before.address;
    // It does not hang up, so that the drain goes on until it is given up.
    let ann = Native::enter(address, "ann", "lobby");
    let silent = std::net::TcpStream::connect(address).unwrap();
    let after = thread::spawn(move || {
        let folder = folder;
        let (admin, data) = (folder.path("admin.sock"), folder.path("data"));
        let options = ["--workers", "1", "--admin", &admin, "--data", &data, "--take-over"];
        (Corebeat::start_on(address, &options), folder)
    });
    before.wait_for_line("draining 2 connections");
    // Nobody takes it in, and nobody refuses it.
    let mut waits = Native::connect(address);
    waits.send(&common::hello("bob"));
    before.signal(Signal::KILL);
    assert_eq!(before.wait().code(), None);
    waits.expect(common::WELCOME);
    waits.echo(b"taken in");
    drop((ann, silent));
    let (mut after, _folder) = after.join().unwrap();
    let mut ann = Native::enter(after.address, "ann", "lobby");
    ann.echo(b"here too");
    // No thread of the successor has kept a listener beyond its time.
    after.signal(Signal::TERM);
    after.wait_for_line("draining 2 connections");
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is closed");
    drop((ann, waits));
    assert_eq!(after.wait().code(), Some(0));
}

#[test]
fn the_first_signal_to_a_server_that_was_replaced_cuts_nobody() {
    let folder = Folder::new();
    let admin = folder.path("admin.sock");
    let options = ["--workers", "1", "--admin", &admin, "--drain", "1h", "--drain-rate", "2"];
    let mut before = Corebeat::start(&options);
    let mut clients: Vec<Native> =
        (0..12).map(|number| Native::greet(before.address, &format!("c{number}"))).collect();
    let after = Corebeat::start_on(before.address, &["--admin", &admin, "--take-over"]);
    before.wait_for_line("draining 12 connections");
    // Whatever supervises it stops it, because the other one is there.
    before.signal(Signal::TERM);
    before.wait_for_line("it drains already; a second signal stops at once");
    for client in &mut clients[..4] {
        client.expect(GOAWAY);
        client.expect_end();
    }
    before.signal(Signal::TERM);
    before.wait_for_line("a second signal: stopping at once");
    assert_eq!(before.wait().code(), Some(0));
    Native::greet(after.address, "ann").echo(b"taken over");
}

#[test]
fn a_server_that_is_told_to_stop_while_its_successor_starts_leaves_it_the_place() {
    for delay in ["0", "1h"] {
        let folder = Folder::new();
        let admin = folder.path("admin.sock");
        let mut program = Corebeat::start(&["--admin", &admin, "--drain-delay", delay]);
        let mut ann = Native::enter(program.address, "ann", "lobby");
        let (mut successor, offer) = asks_to_take_over(&admin);
        assert!(offer.contains("\"listeners\""), "{offer}");
        assert_eq!(successor.by_ref_lines(1), [""]);
        program.signal(Signal::TERM);
        program.wait_for_line("draining ");
        successor.get_mut().write_all(b"ready\n").unwrap();
        assert_eq!(successor.by_ref_lines(1), [r#"{"handed_over":true}"#]);
        ann.expect(GOAWAY);
        ann.expect_end();
        drop(ann);
        assert_eq!(successor.by_ref_lines(1), [""], "the end of it is the end of the server");
        assert_eq!(program.wait().code(), Some(0));
    }
}

/// Whether a process acts on SIGTERM by itself already.
fn heeds_signals(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    caught >> (Signal::TERM.as_raw() - 1) & 1 == 1
}

#[test]
fn a_successor_that_is_told_to_stop_before_it_is_ready_has_changed_nothing() {
    let folder = Folder::new();
    let (admin, data) = (folder.path("admin.sock"), folder.path("data"));
    for keeping in [&[][..], &["--data", &data]] {
        let mut before = Corebeat::start(&[&["--admin", &admin], keeping].concat());
        let mut ann = Native::enter(before.address, "ann", "lobby");
        // It answers nobody, so that its successor waits for it.
        before.signal(Signal::STOP);
        let address = before.address.to_string();
        let take_over = ["serve", "--listen", &address, "--admin", &admin, "--take-over"];
        let after = command(&[&take_over, keeping].concat()).stderr(Stdio::null()).spawn();
        let mut after = after.expect("the program starts");
        eventually("the successor heeds signals", || heeds_signals(after.id()));
        kill_process(Pid::from_child(&after), Signal::TERM).unwrap();
        before.signal(Signal::CONT);
        eventually("the successor ends", || after.try_wait().unwrap().is_some());
        assert_eq!(after.wait().unwrap().code(), Some(2));
        before.wait_for_line("does not take over after all; serving on");
        ann.echo(b"as ever");
        Native::enter(before.address, "bob", "lobby").echo(b"as ever");
        drop(ann);
        before.signal(Signal::TERM);
        assert_eq!(before.wait().code(), Some(0));
    }
}

#[test]
fn load_balancers_are_told_first_and_clients_where_to_go() {
    let folder = Folder::new();
    let admin = folder.path("admin.sock");
    let options = ["--drain-delay", "1h", "--drain-address", "10.9.8.7:8080", "--admin", &admin];
    let mut program = Corebeat::start(&options);
    let is_ready = || {
        let mut stream = std::net::TcpStream::connect(program.address).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let told = std::io::read_to_string(stream).unwrap();
        (told.starts_with("HTTP/1.1 200 "), told)
    };
    eventually("it is ready", || is_ready().0);
    let mut ann = Native::enter(program.address, "ann", "lobby");
    program.signal(Signal::TERM);
    program.wait_for_line("/readyz says no; draining in 3600s");
    eventually("it says no", || {
        let (ready, told) = is_ready();
        assert!(ready || told.ends_with("draining\n"), "{told}");
        !ready
    });
    ann.echo(b"still served");
    Text::greet(program.address, "bob").say("still let in");
    assert!(ask(&admin, "ping").unwrap().contains("\"stage\":\"draining\""));
    let told = refusal(program.address, &["--admin", &admin, "--take-over"]);
    assert!(told.contains("the server is ending already"), "{told}");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));

    let mut program = Corebeat::start(&["--drain-address", "10.9.8.7:8080"]);
    let mut ann = Native::enter(program.address, "ann", "lobby");
    program.signal(Signal::TERM);
    let goaway = ann.expect(GOAWAY);
    assert!(goaway.payload.ends_with(b"\x00\x0d10.9.8.7:8080"), "{goaway:?}");
    ann.expect_end();
    drop(ann);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_rate_that_takes_too_long_gives_way() {
    let mut program =
        Corebeat::start(&["--workers", "2", "--drain-rate", "1", "--drain", "2500ms"]);
    let mut clients: Vec<Native> =
        (0..20).map(|number| Native::greet(program.address, &format!("c{number}"))).collect();
    program.signal(Signal::TERM);
    let told = program.wait_for_line("at --drain-rate 1 that takes 20s");
    assert!(told.contains("longer than --drain 2.5s allows"), "{told}");
    for client in &mut clients {
        client.expect(GOAWAY);
        client.expect_end();
    }
    drop(clients);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn commands_are_answered_by_a_server_that_listens_to_them() {
    let folder = Folder::new();
    let admin = folder.path("admin.sock");
    let program = Corebeat::start(&["--workers", "2", "--admin", &admin]);
    Native::greet(program.address, "ann").echo(b"counted");
    let told = ask(&admin, "ping").unwrap();
    let address = format!("\"address\":\"{}\"", program.address);
    assert!(told.contains(&address) && told.contains("\"workers\":2"), "{told}");
    let told = ask(&admin, "counters").unwrap();
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(told.lines().last().unwrap().contains("\"worker\":\"all\""), "{told}");
    assert!(told.contains("\"welcomed\":1"), "{told}");
    let told = refusal("127.0.0.1:0".parse().unwrap(), &["--admin", &admin]);
    assert!(told.contains("another server answers there; choose another path"), "{told}");
    // Several requests of one conversation, and one that is too long.
    let mut stream = BufReader::new(UnixStream::connect(&admin).unwrap());
    stream.get_mut().write_all(b"counters\nping\n").unwrap();
    let lines = stream.by_ref_lines(6);
    assert!(lines[3].is_empty() && lines[4].contains("\"pid\"") && lines[5].is_empty());
    stream.get_mut().write_all(&[b'x'; 130 << 10]).unwrap();
    assert!(stream.by_ref_lines(1)[0].contains("too long"));
    let told = ask("/nowhere/at/all.sock", "ping").unwrap_err();
    assert!(told.contains("no server takes commands at"), "{told}");
}

trait Lines {
    fn by_ref_lines(&mut self, count: usize) -> Vec<String>;
}

impl Lines for BufReader<UnixStream> {
    fn by_ref_lines(&mut self, count: usize) -> Vec<String> {
        self.get_ref().set_read_timeout(Some(common::GUARD)).unwrap();
        let mut next = || {
            let mut line = String::new();
            self.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        (0..count).map(|_| next()).collect()
    }
}

/// BYE with a code and no reason.
pub(crate) fn bye() -> Vec<u8> {
    frame(0x04, &[0, 0, 0, 0])
}
