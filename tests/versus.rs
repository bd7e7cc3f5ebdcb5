//! The twins under `benches/versus` hold the same conversations as corebeat, so that a comparison
//! of the three compares equal things. Every test runs against each of them, as a real process.

mod common;
#[path = "versus/web.rs"]
mod web;
#[path = "versus/web_client.rs"]
mod web_client;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{ECHO, ERROR, GOAWAY, JOIN, MESSAGE, Native, OK, PING, PONG, Text, WELCOME};
use common::{eventually, frame, hello, join, publish};
use rustix::process::{Pid, Signal, kill_process};

const LEAVE: u8 = 0x11;
const WHO: u8 = 0x16;
const PRESENCE: u8 = 0x94;
const ROSTER: u8 = 0x95;

const FLAG_CRC: u8 = 1;
const FLAG_ECHO: u8 = 2;
const FLAG_NOTIFY: u8 = 4;

/// Who is tested.
#[derive(Clone, Copy)]
enum Contestant {
    Corebeat,
    Plain,
    Tuned,
}

impl Contestant {
    fn program(self) -> PathBuf {
        match self {
            Contestant::Corebeat => env!("CARGO_BIN_EXE_corebeat").into(),
            Contestant::Plain => examples().join("tokio_plain"),
            Contestant::Tuned => examples().join("tokio_tuned"),
        }
    }

    /// What makes it behave as all of them do: the twins keep no sessions, so that whoever is cut
    /// off has left at once, and they let in whoever comes, however late they are themselves.
    fn options(self) -> &'static [&'static str] {
        match self {
            Contestant::Corebeat => &["--resume-window", "0s", "--overload-lag", "off"],
            Contestant::Plain | Contestant::Tuned => &[],
        }
    }
}

/// The directory of the built examples. `cargo test --test versus` does not build them by itself.
fn examples() -> &'static PathBuf {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let test = std::env::current_exe().expect("this test is a file");
        let directory = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--profile", profile])
            .args(["--example", "tokio_plain", "--example", "tokio_tuned"])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(directory.parent().expect("target/PROFILE"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the twins are built");
        directory.join("examples")
    })
}

/// A running server.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(contestant: Contestant, options: &[&str]) -> Server {
        let mut child = Command::new(contestant.program())
            .args(["--listen", "127.0.0.1:0"])
            .args(contestant.options())
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut first_line = String::new();
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        log.read_line(&mut first_line).expect("a line");
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        let (_, address) = first_line.trim().split_once("listening on ").expect(&first_line);
        Server { address: address.parse().expect("an address"), child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn flagged(mut frame: Vec<u8>, flag: u8) -> Vec<u8> {
    frame[3] |= flag;
    frame
}

fn named(kind: u8, reference: u32, room: &str) -> Vec<u8> {
    let mut payload = reference.to_be_bytes().to_vec();
    payload.push(room.len() as u8);
    payload.extend_from_slice(room.as_bytes());
    frame(kind, &payload)
}

/// `PRESENCE`: kind, total and user.
fn presence(client: &mut Native) -> (u8, u32, String) {
    let payload = client.expect(PRESENCE).payload;
    let total = u32::from_be_bytes(payload[1..5].try_into().unwrap());
    let user = &payload[6 + usize::from(payload[5])..];
    (payload[0], total, String::from_utf8(user[1..].to_vec()).unwrap())
}

/// `ROSTER`: total and names, sorted.
fn roster(client: &mut Native, room: &str) -> (u32, Vec<String>) {
    client.send(&named(WHO, 9, room));
    let payload = client.expect(ROSTER).payload;
    assert_eq!(payload[..4], 9_u32.to_be_bytes());
    let total = u32::from_be_bytes(payload[4..8].try_into().unwrap());
    let mut names = Vec::new();
    let mut rest = &payload[10..];
    while let Some((&length, tail)) = rest.split_first() {
        let (name, tail) = tail.split_at(usize::from(length));
        names.push(String::from_utf8(name.to_vec()).unwrap());
        rest = tail;
    }
    names.sort();
    (total, names)
}

/// `OK`: ref, flags and seq.
fn ok(client: &mut Native) -> (u32, u8, u64) {
    let payload = client.expect(OK).payload;
    let reference = u32::from_be_bytes(payload[..4].try_into().unwrap());
    (reference, payload[4], u64::from_be_bytes(payload[9..17].try_into().unwrap()))
}

fn two_members_talk(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "2"]);
    let mut ann = Native::greet(server.address, "ann");
    ann.send(&join(1, "tea"));
    assert_eq!(ok(&mut ann), (1, 0, 0));
    let mut bob = Native::enter(server.address, "bob", "tea");
    ann.send(&publish(2, "tea", b"one"));
    assert_eq!(ok(&mut ann), (2, 0, 1));
    assert_eq!(bob.expect(MESSAGE).message(), (1, "ann".into(), b"one".to_vec()));
    bob.send(&publish(0, "tea", b"two"));
    assert_eq!(ann.expect(MESSAGE).message(), (2, "bob".into(), b"two".to_vec()));
    bob.echo(b"neither an echo of its own message nor an answer to ref 0 came before this");
    bob.send(&flagged(publish(3, "tea", b"three"), FLAG_ECHO));
    let own = [bob.next_but_pings().unwrap(), bob.next_but_pings().unwrap()];
    let message = own.iter().find(|frame| frame.kind == MESSAGE).expect("its own message");
    assert_eq!(message.message(), (3, "bob".into(), b"three".to_vec()));
    assert!(own.iter().any(|frame| frame.kind == OK));
    assert_eq!(ann.expect(MESSAGE).message().0, 3);
    ann.send(&publish(2, "tea", b"one"));
    assert_eq!(ok(&mut ann), (2, 4, 1), "a repetition is not done twice");
    ann.send(&named(LEAVE, 4, "tea"));
    assert_eq!(ok(&mut ann).0, 4);
    bob.send(&publish(5, "tea", b"four"));
    assert_eq!(ok(&mut bob), (5, 0, 4));
    ann.echo(b"who left hears no more");
    ann.send(&join(6, "tea"));
    assert_eq!(ok(&mut ann), (6, 0, 4), "the seam tells the head");
    ann.send(&named(LEAVE, 7, "nowhere"));
    assert_eq!(ann.expect(ERROR).error_code(), 404);
    ann.send(&publish(8, "$tea", b""));
    assert_eq!(ann.expect(ERROR).error_code(), 403);
}

fn members_of_all_workers_see_one_order(contestant: Contestant) {
    const MEMBERS: usize = 8;
    const EACH: usize = 50;
    let server = Server::start(contestant, &["--workers", "2"]);
    let mut observer = Native::enter(server.address, "observer", "tea");
    let mut members: Vec<Native> = (0..MEMBERS)
        .map(|n| Native::enter(server.address, &format!("member-{n}"), "tea"))
        .collect();
    for round in 0..EACH {
        for member in &mut members {
            member.send(&publish(0, "tea", format!("round {round}").as_bytes()));
        }
    }
    let order: Vec<(u64, String, Vec<u8>)> = (1..=(MEMBERS * EACH) as u64)
        .map(|seq| {
            let message = observer.expect(MESSAGE).message();
            assert_eq!(message.0, seq, "no gap, no repetition");
            message
        })
        .collect();
    for (n, member) in members.iter_mut().enumerate() {
        let name = format!("member-{n}");
        for expected in order.iter().filter(|(_, from, _)| *from != name) {
            assert_eq!(member.expect(MESSAGE).message(), *expected);
        }
    }
}

fn a_joiner_misses_nothing_behind_its_seam(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "2"]);
    let mut speaker = Native::enter(server.address, "speaker", "tea");
    for stay in 0..20 {
        for _ in 0..10 {
            speaker.send(&publish(0, "tea", b"x"));
        }
        let mut joiner = Native::greet(server.address, &format!("joiner-{stay}"));
        joiner.send(&join(1, "tea"));
        speaker.send(&publish(0, "tea", b"x"));
        let (_, _, head) = ok(&mut joiner);
        speaker.send(&publish(0, "tea", b"last"));
        let mut expected = head + 1;
        loop {
            let (seq, _, body) = joiner.expect(MESSAGE).message();
            assert_eq!(seq, expected);
            expected += 1;
            if body == b"last" {
                break;
            }
        }
        assert_eq!(expected - 1, (stay + 1) * 12);
    }
}

fn presence_and_rosters_tell_who_is_there(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "2", "--presence-max", "3"]);
    let mut ann = Native::greet(server.address, "ann");
    ann.send(&flagged(join(1, "tea"), FLAG_NOTIFY));
    assert_eq!(ok(&mut ann).0, 1);
    let mut bob = Native::enter(server.address, "bob", "tea");
    assert_eq!(presence(&mut ann), (1, 2, "bob".into()));
    let also_bob = Native::enter(server.address, "bob", "tea");
    assert_eq!(roster(&mut ann, "tea"), (2, vec!["ann".into(), "bob".into()]));
    drop(also_bob);
    bob.send(&named(LEAVE, 2, "tea"));
    assert_eq!(ok(&mut bob).0, 2);
    assert_eq!(presence(&mut ann), (2, 1, "bob".into()), "the user left with its last session");
    assert_eq!(roster(&mut bob, "tea"), (1, vec!["ann".into()]));
    let _crowd: Vec<Native> = (0..5)
        .map(|n| Native::enter(server.address, &format!("guest {n}").replace(' ', "-"), "tea"))
        .collect();
    assert_eq!(presence(&mut ann).1, 2);
    assert_eq!(presence(&mut ann).1, 3);
    // One total, or several where it takes them long to come.
    let totals = std::iter::from_fn(|| Some(presence(&mut ann)));
    let last = totals.inspect(|(kind, _, user)| assert_eq!((*kind, user.as_str()), (5, "")));
    assert_eq!(last.map(|(_, total, _)| total).find(|total| *total > 5), Some(6));
    ann.send(&named(WHO, 3, "nowhere"));
    assert_eq!(ann.expect(ERROR).error_code(), 404);
}

fn echo_ping_and_checksums_are_answered(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "1", "--max-frame", "4096"]);
    let mut ann = Native::greet(server.address, "ann");
    ann.echo(&[7; 4_096]);
    let mut ping = vec![0; 17];
    ping[4..12].copy_from_slice(&77_u64.to_be_bytes());
    ping[13..17].copy_from_slice(&5_u32.to_be_bytes());
    ann.send(&frame(PING, &ping));
    let pong = ann.expect(PONG).payload;
    assert_eq!((&pong[..4], &pong[4..12]), (&1_u32.to_be_bytes()[..], &ping[4..12]));
    assert_eq!(pong[13..17], ping[13..17]);
    let mut sealed = flagged(hello("bob"), FLAG_CRC);
    sealed.extend_from_slice(&crc32fast::hash(&sealed).to_be_bytes());
    let mut bob = Native::connect(server.address);
    bob.send(&sealed);
    let mut answer = [0; 8];
    std::io::Read::read_exact(&mut bob.stream, &mut answer).unwrap();
    assert_eq!((answer[1], answer[3] & FLAG_CRC), (WELCOME, FLAG_CRC));
    let length = u32::from_be_bytes(answer[4..8].try_into().unwrap()) as usize;
    let mut rest = vec![0; length + 4];
    std::io::Read::read_exact(&mut bob.stream, &mut rest).unwrap();
    let (payload, checksum) = rest.split_at(length);
    let expected = crc32fast::hash(&[&answer[..], payload].concat());
    assert_eq!(checksum, expected.to_be_bytes());
}

fn malformed_bytes_end_the_connection(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "1"]);
    let wrong_checksum = [flagged(frame(JOIN, b""), FLAG_CRC), vec![0; 4]].concat();
    let too_long = [&[0xFB, ECHO, 0, 0][..], &(65_537_u32).to_be_bytes()].concat();
    for (bytes, code) in [
        (frame(0x7F, b""), 400),
        (b"what".to_vec(), 400),
        (wrong_checksum, 400),
        (too_long, 413),
        (hello("again"), 400),
    ] {
        let mut client = Native::greet(server.address, "ann");
        client.send(&bytes);
        assert_eq!(client.expect(ERROR).error_code(), code, "{bytes:02X?}");
        client.expect_end();
    }
    let mut client = Native::connect(server.address);
    client.send(&join(1, "tea"));
    assert_eq!(client.expect(ERROR).error_code(), 400, "before HELLO");
    client.expect_end();
}

fn a_silent_peer_is_pinged_and_reaped_and_one_that_answers_is_not(contestant: Contestant) {
    let options = ["--workers", "1", "--heartbeat", "1s", "--timeout", "3s"];
    let server = Server::start(contestant, &options);
    let mut answering = Native::enter(server.address, "ann", "tea");
    let answering = std::thread::spawn(move || answering.next_but_pings().map(|frame| frame.kind));
    let before = Instant::now();
    let mut silent = Native::greet(server.address, "bob");
    let mut pings = 0;
    let last = loop {
        match silent.next().expect("a last word before the end") {
            ping if ping.kind == PING => pings += 1,
            other => break other,
        }
    };
    assert_eq!(last.error_code(), 408);
    assert_eq!(silent.next(), None);
    assert!(before.elapsed() >= Duration::from_secs(3), "not before the timeout");
    assert!(pings >= 3, "{pings} pings");
    let mut speaker = Native::greet(server.address, "speaker");
    speaker.send(&publish(0, "tea", b"are you there"));
    assert_eq!(answering.join().unwrap(), Some(MESSAGE), "who answers is never closed");
}

fn a_reader_that_does_not_read_is_closed(contestant: Contestant) {
    let options = ["--workers", "1", "--max-outbound", "128KiB"];
    let server = Server::start(contestant, &options);
    let mut slow = Native::connect_narrow(server.address);
    slow.send(&hello("slow"));
    slow.expect(WELCOME);
    slow.send(&join(1, "tea"));
    slow.expect(OK);
    let mut fast = Native::greet(server.address, "fast");
    fast.send(&flagged(join(1, "tea"), FLAG_NOTIFY));
    fast.expect(OK);
    let body = [7; 30_000];
    for reference in 2.. {
        fast.send(&publish(reference, "tea", &body));
        let answer = fast.next_but_pings().expect("the fast one lives");
        if answer.kind == PRESENCE {
            break;
        }
        assert_eq!(answer.kind, OK);
    }
    let last = loop {
        let frame = slow.next_but_pings().expect("a last word before the end");
        if frame.kind != MESSAGE {
            break frame;
        }
    };
    assert_eq!(last.error_code(), 431);
    slow.expect_end();
}

fn who_asks_faster_than_it_reads_is_slowed_down(contestant: Contestant) {
    let options = ["--workers", "1", "--max-outbound", "128KiB"];
    let server = Server::start(contestant, &options);
    let client = Native::greet(server.address, "ann");
    let mut writer = client.stream.try_clone().unwrap();
    const COUNT: usize = 2_000;
    let asking = std::thread::spawn(move || {
        for number in 0..COUNT {
            let mut body = vec![0; 8_000];
            body[..8].copy_from_slice(&(number as u64).to_be_bytes());
            writer.write_all(&frame(ECHO, &body)).expect("the server reads on");
        }
    });
    let mut client = client;
    for number in 0..COUNT {
        let body = client.expect(ECHO).payload;
        assert_eq!(body[..8], (number as u64).to_be_bytes());
    }
    asking.join().unwrap();
}

fn text_clients_chat_with_native_ones(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "2"]);
    let mut ann = Text::greet(server.address, "ann");
    let mut bob = Native::enter(server.address, "bob", "lobby");
    assert_eq!(ann.next().unwrap(), "* bob joined lobby");
    ann.say("good morning");
    assert_eq!(bob.expect(MESSAGE).message(), (1, "ann".into(), b"good morning".to_vec()));
    bob.send(&publish(0, "lobby", b"morning"));
    assert_eq!(ann.next().unwrap(), "[lobby] bob: morning");
    ann.say("/who");
    let who = ann.next().unwrap();
    assert!(who.starts_with("* lobby (2): ") && who.contains("ann"), "{who}");
    ann.say("/join den");
    assert_eq!(ann.next().unwrap(), "* you are in den, alone so far");
    ann.say("/leave");
    assert_eq!(ann.next().unwrap(), "* you left den; your lines go to lobby");
    ann.say("/nonsense");
    assert_eq!(ann.next().unwrap(), "! 400 /nonsense is no command; /help lists them");
    ann.say("/quit");
    assert_eq!(ann.next().unwrap(), "* bye");
    assert_eq!(ann.next(), None);
}

fn a_signal_says_goodbye_and_the_exit_code_is_0(contestant: Contestant) {
    let mut server = Server::start(contestant, &["--workers", "2"]);
    let mut ann = Native::enter(server.address, "ann", "tea");
    let mut bob = Text::greet(server.address, "bob");
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    ann.expect(GOAWAY);
    ann.expect_end();
    let goodbye = bob.next().unwrap();
    assert!(goodbye.starts_with("* the server is going away"), "{goodbye}");
    assert_eq!(bob.next(), None);
    drop((ann, bob));
    let mut status = None;
    eventually("the program ends", || {
        status = server.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

/// One test of each conversation for one contestant.
macro_rules! conversations {
    (
        $module:ident,
        $contestant:expr,
        [$($conversation:ident),+ $(,)?],
        [$($web:ident),+ $(,)?]
    ) => {
        mod $module {
            $(
                #[test]
                fn $conversation() {
                    super::$conversation($contestant);
                }
            )+

            mod web {
                $(
                    #[test]
                    fn $web() {
                        crate::web::$web($contestant);
                    }
                )+
            }
        }
    };
}

macro_rules! contestants {
    ($conversations:tt, $web:tt) => {
        conversations!(corebeat, crate::Contestant::Corebeat, $conversations, $web);
        conversations!(tokio_plain, crate::Contestant::Plain, $conversations, $web);
        conversations!(tokio_tuned, crate::Contestant::Tuned, $conversations, $web);
    };
}

contestants!(
    [
        two_members_talk,
        members_of_all_workers_see_one_order,
        a_joiner_misses_nothing_behind_its_seam,
        presence_and_rosters_tell_who_is_there,
        echo_ping_and_checksums_are_answered,
        malformed_bytes_end_the_connection,
        a_silent_peer_is_pinged_and_reaped_and_one_that_answers_is_not,
        a_reader_that_does_not_read_is_closed,
        who_asks_faster_than_it_reads_is_slowed_down,
        text_clients_chat_with_native_ones,
        a_signal_says_goodbye_and_the_exit_code_is_0,
    ],
    [
        two_members_talk,
        members_of_all_dialects_hear_one_order,
        a_joiner_misses_nothing_behind_its_seam,
        presence_is_told,
        pings_fragments_and_many_frames_are_understood,
        mistakes_have_their_close_codes,
        a_silent_peer_is_pinged_and_reaped_and_one_that_answers_is_not,
        a_reader_that_does_not_read_is_closed,
        closes_are_answered,
        what_is_no_upgrade_is_refused,
        a_signal_says_goodbye,
    ]
);
