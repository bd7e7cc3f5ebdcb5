//! Storage through the real program: it is killed under load and started again, its directory is
//! damaged, held by another and filled up, and clients judge what it says.

mod common;
#[path = "storage/ledger.rs"]
mod ledger;
#[path = "storage/load.rs"]
mod load;
#[path = "storage/small_disk.rs"]
mod small_disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::process::{Corebeat, run};
use common::{ERROR, Native, OK, eventually, publish};
use ledger::Ledger;
use load::{Crew, ROOMS, check_directs, history};
use rustix::process::Signal;
use small_disk::SmallDisk;

/// A directory that goes when the test ends.
struct Data(PathBuf);

impl Data {
    fn new() -> Data {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("data-{}-{number}", std::process::id());
        Data(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(data: &Data, more: &[&str]) -> Corebeat {
    let mut arguments = vec!["--data", data.path(), "--history-bytes", "64MiB"];
    arguments.extend_from_slice(&["--offline-count", "1000000", "--offline-bytes", "64MiB"]);
    if !more.contains(&"--history-count") {
        arguments.extend_from_slice(&["--history-count", "1000000"]);
    }
    arguments.extend_from_slice(more);
    Corebeat::start(&arguments)
}

/// Kills the server under load, again and again, and holds what it says afterwards against all that
/// it said before.
fn kill_in_a_loop(durability: &str) {
    let rounds = std::env::var("CB_KILLS").map_or(5_u32, |rounds| rounds.parse().unwrap());
    let data = Data::new();
    let ledger = Arc::new(Ledger::default());
    for round in 0..rounds {
        let workers = if round % 2 == 0 { "2" } else { "1" };
        let server = start(&data, &["--durability", durability, "--workers", workers]);
        for room in ROOMS {
            let said = history(server.address, room);
            ledger.check_history(room, &said, durability != "none");
        }
        if durability != "none" {
            check_directs(server.address, &ledger);
        }
        let before = ledger.acknowledged();
        let crew = Crew::start(server.address, round, &ledger);
        // However slow the disk is, the load goes on.
        for share in 1..=6 {
            eventually("the load goes on", || ledger.acknowledged() > before + 100 * share);
        }
        server.signal(Signal::KILL);
        crew.join();
        drop(server);
    }
    assert!(ledger.acknowledged() > 600 * rounds as usize);
}

#[test]
fn a_killed_server_keeps_what_it_acknowledged() {
    kill_in_a_loop("batch");
}

#[test]
fn so_does_one_that_waits_for_the_disk() {
    kill_in_a_loop("sync");
}

#[test]
fn one_that_does_not_wait_begins_new_epochs() {
    kill_in_a_loop("none");
}

#[test]
fn a_stopped_server_goes_on_where_it_was() {
    for durability in ["none", "batch", "sync"] {
        let data = Data::new();
        let mut last = (0, 0);
        for round in 1..=3 {
            let mut server = start(&data, &["--durability", durability, "--workers", "2"]);
            let said = history(server.address, "tea");
            assert_eq!(said.messages.len(), round - 1);
            assert!(round == 1 || (said.epoch, said.seq) == last, "{durability}: {said:?}");
            let mut ann = Native::greet(server.address, "ann");
            ann.send(&publish(1, "tea", format!("round {round}").as_bytes()));
            let ok = ann.expect(OK);
            last = load::place(&ok);
            assert_eq!(last.1, round as u64);
            server.signal(Signal::TERM);
            assert!(server.wait().success());
        }
    }
}

#[test]
fn a_copy_begins_new_epochs_and_keeps_its_messages() {
    let (data, copy) = (Data::new(), Data::new());
    let mut server = start(&data, &[]);
    let mut ann = Native::greet(server.address, "ann");
    ann.send(&publish(1, "tea", b"one"));
    let place = load::place(&ann.expect(OK));
    server.signal(Signal::TERM);
    server.wait();
    let copied = std::process::Command::new("cp").arg("-a").args([&data.0, &copy.0]).status();
    assert!(copied.unwrap().success());
    let server = start(&copy, &[]);
    server.wait_for_line("rooms begin new epochs");
    let said = history(server.address, "tea");
    assert_eq!(said.messages, [(place, b"one".to_vec())]);
    assert_ne!(said.epoch, place.0);
    assert_eq!(said.seq, 0);
}

#[test]
fn a_backup_in_the_place_of_the_directory_is_a_copy_too() {
    let (data, backup) = (Data::new(), Data::new());
    let copy = |from: &Data, to: &Data| {
        let copied = std::process::Command::new("cp").arg("-a").args([&from.0, &to.0]).status();
        assert!(copied.unwrap().success());
    };
    let publish_one = |body: &[u8]| {
        let mut server = start(&data, &[]);
        let mut ann = Native::greet(server.address, "ann");
        ann.send(&publish(1, "tea", body));
        let place = load::place(&ann.expect(OK));
        server.signal(Signal::TERM);
        server.wait();
        place
    };
    publish_one(b"one");
    copy(&data, &backup);
    let lost = publish_one(b"two");
    // The file system may give the copy's files the numbers of those that are deleted here.
    fs::remove_dir_all(&data.0).unwrap();
    copy(&backup, &data);
    let other = publish_one(b"another two");
    assert_ne!(other.0, lost.0, "a place names one message");
}

fn refusal(data: &str) -> String {
    let output = run(&["--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    told
}

#[test]
fn what_is_not_ours_is_refused() {
    let data = Data::new();
    fs::create_dir_all(&data.0).unwrap();
    fs::write(data.0.join("letters.txt"), "dear").unwrap();
    assert!(refusal(data.path()).contains("not a store of corebeat"));
    assert_eq!(fs::read_dir(&data.0).unwrap().count(), 1, "nothing was added");
    fs::remove_file(data.0.join("letters.txt")).unwrap();
    let server = start(&data, &[]);
    assert!(refusal(data.path()).contains("another process uses this directory"));
    drop(server);
    fs::write(data.0.join("format"), "corebeat store 9\n").unwrap();
    assert!(refusal(data.path()).contains("corebeat store 9"));
}

/// Files of the engine that hold something, the largest first.
fn engine_files(data: &Data) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![data.0.join("engine")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                found if found.is_dir() => folders.push(entry.path()),
                found if found.len() > 0 => files.push((found.len(), entry.path())),
                _ => {}
            }
        }
    }
    files.sort();
    files.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn a_damaged_store_is_refused_with_what_to_do() {
    let data = Data::new();
    let mut server = start(&data, &[]);
    let mut ann = Native::greet(server.address, "ann");
    for reference in 1..=200 {
        ann.send(&publish(reference, "tea", b"there is always time for another cup of it"));
        ann.expect(OK);
    }
    server.signal(Signal::TERM);
    server.wait();
    let journal = engine_files(&data).into_iter().find(|path| path.extension().is_some());
    let journal = journal.expect("a journal");
    let whole = fs::read(&journal).unwrap();
    let middle = whole.windows(14).position(|bytes| bytes == b"there is alway").unwrap();
    let mut damaged = whole.clone();
    damaged[middle] ^= 0x20;
    fs::write(&journal, &damaged).unwrap();
    let told = refusal(data.path());
    assert!(told.contains("the store is corrupt") && told.contains("restore a backup"), "{told}");
    fs::write(&journal, &whole).unwrap();
    assert_eq!(history(start(&data, &[]).address, "tea").messages.len(), 200);
}

#[test]
fn a_full_disk_is_an_error_to_the_client_and_not_to_the_server() {
    let data = Data::new();
    // The limit on the size of a file stands for the disk's end.
    let server = start(&data, &["--workers", "1"]);
    let mut ann = Native::greet(server.address, "ann");
    ann.send(&publish(1, "tea", b"one"));
    let (epoch, _) = load::place(&ann.expect(OK));
    server.limit_files(Some(0));
    ann.send(&publish(2, "tea", b"two"));
    let refused = ann.expect(ERROR);
    assert_eq!(refused.error_code(), 503);
    server.limit_files(None);
    let mut again = 3;
    let mut answer = refused;
    eventually("it recovers", || {
        ann.send(&publish(again, "tea", b"two"));
        again += 1;
        answer = ann.next_but_pings().expect("an answer");
        answer.kind == OK
    });
    let (other, seq) = load::place(&answer);
    assert_ne!(other, epoch, "the place of what was refused is not given again");
    assert_eq!(seq, 1);
    drop(server);
    let said = history(start(&data, &[]).address, "tea");
    let bodies: Vec<&[u8]> = said.messages.iter().map(|(_, body)| &body[..]).collect();
    assert_eq!(bodies, [&b"one"[..], b"two"]);
}

/// Publishes until an answer is of `kind`, and notes what was acknowledged.
fn publish_until(
    ann: &mut Native,
    kind: u8,
    sent: &mut u32,
    acknowledged: &mut Vec<((u32, u64), Vec<u8>)>,
) {
    eventually("another answer", || {
        *sent += 1;
        let mut body = format!("message {sent} ").into_bytes();
        body.resize(1_000, b'.');
        ann.send(&publish(*sent, "tea", &body));
        let answer = ann.next_but_pings().expect("an answer");
        match answer.kind {
            OK => acknowledged.push((load::place(&answer), body)),
            _ => assert_eq!(answer.error_code(), 503),
        }
        answer.kind == kind
    });
}

#[test]
fn a_disk_that_is_really_full_costs_nobody_what_was_acknowledged() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let data = disk.root().join("data");
    let arguments = ["--data", data.to_str().unwrap(), "--workers", "1"];
    let server = Corebeat::start(&arguments);
    let mut ann = Native::enter(server.address, "ann", "lobby");
    let (mut sent, mut acknowledged) = (0, Vec::new());
    for _ in 0..2 {
        publish_until(&mut ann, OK, &mut sent, &mut acknowledged);
        disk.fill();
        publish_until(&mut ann, ERROR, &mut sent, &mut acknowledged);
        server.wait_for_line("what must be stored is refused until it can");
        // All that needs no disk goes on.
        let mut bob = Native::enter(server.address, "bob", "lobby");
        bob.echo(b"still there");
        disk.relieve();
        publish_until(&mut ann, OK, &mut sent, &mut acknowledged);
    }
    server.signal(Signal::USR1);
    let counters = server.wait_for_line("store_failures");
    let failures = counters.split("store_failures").nth(1).unwrap();
    let failures = failures.trim_start_matches(|c: char| !c.is_ascii_digit());
    assert!(!failures.starts_with('0'), "they are counted: {counters}");
    server.signal(Signal::KILL);
    drop(server);
    let said = history(Corebeat::start(&arguments).address, "tea");
    assert_eq!(said.messages, acknowledged);
}

#[test]
fn what_is_no_longer_kept_leaves_the_disk() {
    let data = Data::new();
    let mut server = start(&data, &["--history-count", "10", "--workers", "1"]);
    let mut ann = Native::greet(server.address, "ann");
    for reference in 1..=300 {
        ann.send(&publish(reference, "tea", b"a secret that is forgotten"));
        ann.expect(OK);
    }
    server.signal(Signal::TERM);
    server.wait();
    let server = start(&data, &["--workers", "1"]);
    assert_eq!(history(server.address, "tea").messages.len(), 10);
    drop(server);
}
