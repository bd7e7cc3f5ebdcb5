//! The client library and the real program: conversations, refusals, cut connections, a server that
//! is killed and comes back.

mod common;

#[path = "client/lines.rs"]
mod lines;
#[path = "client/played.rs"]
mod played;
#[path = "client/proxy.rs"]
mod proxy;
#[path = "client/waiting.rs"]
mod waiting;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::GUARD;
use common::process::{Corebeat, command};
use corebeat::client::blocking::{Client, Error};
use corebeat::client::{
    Answer, Code, Config, Event, GapReason, Message, PresenceKind, RequestError, Seq, State, Ticket,
};
use proxy::Proxy;
use rustix::process::Signal;

/// A client that is impatient enough for a test.
fn config(addresses: &str, user: &str) -> Config {
    let mut config = Config::new(addresses, user).unwrap();
    config.backoff_first = Duration::from_millis(5);
    config.backoff_longest = Duration::from_millis(50);
    config.backoff_tries = 10_000;
    config
}

fn connect(server: &Corebeat, user: &str) -> Client {
    Client::connect_within(config(&server.address.to_string(), user), GUARD).unwrap()
}

/// The next event that `wanted` makes something of.
fn wait_for<T>(client: &mut Client, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let end = Instant::now() + GUARD;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let event = client.next_event(left).unwrap().expect("the event before long");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

fn message(event: Event) -> Option<Message> {
    match event {
        Event::Message(message) => Some(message),
        _ => None,
    }
}

#[test]
fn two_clients_talk() {
    let server = Corebeat::start(&[]);
    let (mut ann, mut bob) = (connect(&server, "ann"), connect(&server, "bob"));
    let head = ann.join("den").unwrap();
    bob.join("den").unwrap();
    let came = wait_for(&mut ann, |event| match event {
        Event::Presence { kind: PresenceKind::Joined, total, user, .. } => Some((total, user)),
        _ => None,
    });
    assert_eq!(came, (2, "bob".to_owned()));
    let receipt = ann.publish("den", b"good evening").unwrap();
    assert_eq!((receipt.place.epoch, receipt.place.seq), (head.epoch, Seq(head.seq.0 + 1)));
    let heard = wait_for(&mut bob, message);
    assert_eq!((heard.from.as_str(), heard.body.as_slice()), ("ann", &b"good evening"[..]));
    assert_eq!(heard.place, receipt.place);
    let roster = bob.who("den").unwrap();
    assert_eq!((roster.total, roster.users), (2, vec!["ann".to_owned(), "bob".to_owned()]));
    bob.inner().publish_and_hear("den", b"I hear myself").unwrap();
    assert_eq!(wait_for(&mut bob, message).from, "bob");
    assert!(ann.inner().round_trip().is_some(), "the first ping was answered meanwhile");
    bob.leave("den").unwrap();
    bob.leave("den").unwrap();
    bob.close();
}

#[test]
fn refusals_are_values() {
    let server = Corebeat::start(&["--publish-everyone", "off", "--max-frame", "1KiB"]);
    let mut ann = connect(&server, "ann");
    let refused = |error: Error| match error {
        Error::Request(RequestError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(ann.publish("*", b"all of you").unwrap_err()), Code::Forbidden);
    assert_eq!(refused(ann.who("nowhere").unwrap_err()), Code::NotFound);
    let long = ann.publish("den", &[b'x'; 2_000]).unwrap_err();
    assert!(matches!(long, Error::Request(RequestError::TooLong { max_frame: 1_024 })), "{long}");
    let name = ann.join("a b").unwrap_err();
    assert!(matches!(name, Error::Request(RequestError::Name(_))), "{name}");
    assert!(matches!(ann.inner().state(), State::Online { .. }), "none of it ends the connection");
}

#[test]
fn nobody_there_is_told_in_time() {
    let refused = Client::connect_within(config("127.0.0.1:1", "ann"), Duration::from_millis(100));
    assert!(matches!(refused.unwrap_err(), Error::Unreachable(_)));
}

#[test]
fn the_next_address_is_tried_where_one_fails() {
    let server = Corebeat::start(&[]);
    // Nobody listens on a port that was given back.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config(&format!("{gone}, {}", server.address), "ann");
    let mut ann = Client::connect_within(config, GUARD).unwrap();
    ann.publish("den", b"found").unwrap();
}

#[test]
fn a_server_that_is_killed_and_started_again_is_found_again() {
    let server = Corebeat::start(&[]);
    let address = server.address;
    let mut ann = connect(&server, "ann");
    ann.join("den").unwrap();
    ann.publish("den", b"before").unwrap();
    drop(server);
    wait_for(&mut ann, |event| match event {
        Event::State(State::Waiting { .. }) => Some(()),
        _ => None,
    });
    // What is said meanwhile waits, and is sent once there is somebody to send it to.
    let ticket = ann.inner().publish("den", b"meanwhile").unwrap();
    let server = Corebeat::start_on(address, &[]);
    let mut gap = None;
    let answer = wait_for(&mut ann, |event| match event {
        Event::Answered(answered, answer) if answered == ticket => Some(answer),
        Event::Gap(told) => {
            gap = Some(told.reason);
            None
        }
        _ => None,
    });
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(gap, Some(GapReason::NewEpoch), "the room began anew");
    let mut bob = connect(&server, "bob");
    bob.join("den").unwrap();
    bob.publish("den", b"hello again").unwrap();
    assert_eq!(wait_for(&mut ann, message).body, b"hello again");
}

#[test]
fn a_server_that_stops_says_when_to_come_back() {
    let server = Corebeat::start(&[]);
    let mut ann = connect(&server, "ann");
    ann.join("den").unwrap();
    server.signal(Signal::TERM);
    let after_ms = wait_for(&mut ann, |event| match event {
        Event::GoAway { reconnect_after_ms, .. } => Some(reconnect_after_ms),
        _ => None,
    });
    assert!(after_ms > 0, "clients shall not all come back at once");
    wait_for(&mut ann, |event| match event {
        Event::State(State::Waiting { attempt: 0, .. }) => Some(()),
        _ => None,
    });
}

#[test]
fn a_script_says_what_comes_in_and_hears_what_is_said() {
    let server = Corebeat::start(&[]);
    let address = server.address.to_string();
    let mut ann = connect(&server, "ann");
    ann.join("den").unwrap();
    let mut script = command(&["chat", "--user", "bot", "--room", "den", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = script.stdin.take().unwrap();
    input.write_all(b"hi\n//not a command\n").unwrap();
    assert_eq!(wait_for(&mut ann, message).body, b"hi");
    assert_eq!(wait_for(&mut ann, message).body, b"/not a command");
    ann.publish("den", b"one\ntwo\x1b[2J").unwrap();
    input.write_all(b"/who\n/history 2\n").unwrap();
    drop(input);
    let output = script.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let heard = String::from_utf8(output.stdout).unwrap();
    for line in
        ["[den] ann: one", "[den] ann: two [2J", "* den (2): ann, bot", "[den] bot: /not a command"]
    {
        assert!(heard.lines().any(|heard| heard == line), "{line} is not in {heard}");
    }
    assert!(!heard.contains("[den] bot: hi"), "that is not among the last two: {heard}");
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8(output.stderr));
}

#[test]
fn a_script_that_could_not_say_it_ends_with_a_code_and_a_line() {
    let server = Corebeat::start(&["--publish-everyone", "off"]);
    let address = server.address.to_string();
    let run = |arguments: &[&str], input: &str| {
        let mut child = command(&[&["chat"], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that has ended already does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run(&["--room", "*", &address], "all of you\n");
    assert_eq!(code, Some(1));
    assert!(told.contains("joining *: 403") && told.contains("message: 403"), "{told}");
    let (code, told) = run(&[&address], "/dance\n");
    assert_eq!(code, Some(1));
    assert!(told.contains("/dance is no command; /help lists them"), "{told}");
    let (code, told) = run(&["--patience", "200ms", "127.0.0.1:1"], "x\n");
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with("corebeat: the server is not there: nobody listens there"), "{told}");
    let (code, told) = run(&["http://localhost"], "x\n");
    assert_eq!((code, told.lines().count()), (Some(2), 1), "{told}");
}

/// What one side of a talk over a bad line has heard and said.
#[derive(Default)]
struct Notebook {
    heard: BTreeMap<u64, String>,
    gaps: Vec<(u64, u64)>,
    said: BTreeMap<String, Option<u64>>,
    uncertain: usize,
    directs: Vec<String>,
}

impl Notebook {
    fn note(&mut self, event: Event, asked: &mut BTreeMap<Ticket, String>) {
        match event {
            Event::Message(message) => {
                let seq = message.place.seq.0;
                let last = self.heard.last_key_value().map_or(0, |(seq, _)| *seq);
                assert!(seq > last, "{seq} comes behind {last}");
                self.heard.insert(seq, String::from_utf8(message.body).unwrap());
            }
            Event::Gap(gap) => self.gaps.push((gap.from.0, gap.to.0)),
            Event::Direct(direct) => self.directs.push(String::from_utf8(direct.body).unwrap()),
            Event::DirectsDropped { from, to } => panic!("directs {from} to {to} were dropped"),
            Event::Answered(ticket, answer) => {
                let Some(body) = asked.remove(&ticket) else {
                    return;
                };
                match answer {
                    Ok(Answer::Sent(receipt)) => {
                        self.said.insert(body, Some(receipt.place.seq.0));
                    }
                    Err(RequestError::Uncertain) => self.uncertain += 1,
                    other => panic!("{body}: {other:?}"),
                }
            }
            _ => {}
        }
    }
}

/// Two clients talk through a proxy that loses connections and bytes, a third one listens in peace.
fn talk_over_a_bad_line(server: &Corebeat, seed: u64, messages: usize) -> (Notebook, usize) {
    let proxy = Proxy::before(server.address, seed, 3_000);
    let mut witness = connect(server, "witness");
    witness.join("den").unwrap();
    let mut truth = BTreeMap::new();
    let address = proxy.address.to_string();
    let mut ann = Client::connect_within(config(&address, "ann"), GUARD).unwrap();
    ann.join("den").unwrap();
    let mut bob = connect(server, "bob");
    let (mut notebook, mut asked) = (Notebook::default(), BTreeMap::new());
    for number in 0..messages {
        bob.publish("den", format!("bob {number}").as_bytes()).unwrap();
        bob.direct("ann", format!("psst {number}").as_bytes()).unwrap();
        let body = format!("ann {number}");
        let ticket = ann.inner().publish("den", body.as_bytes()).expect("the queue has room");
        asked.insert(ticket, body);
        while let Some(event) = ann.next_event(Duration::from_millis(1)).unwrap() {
            notebook.note(event, &mut asked);
        }
        while ann.inner().waiting() > 100 {
            let event = ann.next_event(GUARD).unwrap().expect("an answer before long");
            notebook.note(event, &mut asked);
        }
    }
    proxy.calm_down();
    let end = Instant::now() + GUARD;
    while !asked.is_empty() {
        assert!(Instant::now() < end, "unanswered: {asked:?}");
        let event = ann.next_event(GUARD).unwrap().expect("all is answered before long");
        notebook.note(event, &mut asked);
    }
    bob.publish("den", b"the end").unwrap();
    let heard_the_end = |notebook: &Notebook| notebook.heard.values().any(|body| body == "the end");
    while !heard_the_end(&notebook) || notebook.directs.len() < messages {
        assert!(Instant::now() < end, "heard: {:?}, {:?}", notebook.heard, notebook.directs);
        let event = ann.next_event(GUARD).unwrap().expect("the end before long");
        notebook.note(event, &mut asked);
    }
    ann.close();
    // Whoever was never cut off knows what was said.
    let all = wait_for(&mut witness, |event| {
        let message = message(event)?;
        let body = String::from_utf8(message.body).unwrap();
        let is_end = body == "the end";
        truth.insert(message.place.seq.0, body);
        is_end.then(|| std::mem::take(&mut truth))
    });
    check_against(&notebook, &all);
    let directs: Vec<String> = (0..messages).map(|number| format!("psst {number}")).collect();
    assert_eq!(notebook.directs, directs, "each once and in order");
    (notebook, proxy.cuts())
}

fn check_against(notebook: &Notebook, truth: &BTreeMap<u64, String>) {
    for (seq, body) in truth {
        let times = truth.values().filter(|said| *said == body).count();
        assert_eq!(times, 1, "{body} was said {times} times");
        match notebook.heard.get(seq) {
            Some(heard) => assert_eq!(heard, body),
            None => {
                let own = notebook.said.get(body) == Some(&Some(*seq));
                let told = notebook.gaps.iter().any(|(from, to)| (*from..=*to).contains(seq));
                assert!(own || told, "{seq} is missing: {body}");
            }
        }
        let own = notebook.said.contains_key(body);
        assert!(!(own && notebook.heard.contains_key(seq)), "{body} was told to its author");
    }
    for (body, seq) in &notebook.said {
        let seq = seq.expect("a place");
        assert_eq!(truth.get(&seq), Some(body), "what was acknowledged is in the room");
    }
}

/// Runs over a bad line. Each is another ten or so connections that are cut.
const SEEDS: u64 = 6;

#[test]
fn a_line_that_is_cut_anywhere_loses_nothing_and_doubles_nothing() {
    let server = Corebeat::start(&[]);
    let mut cuts = 0;
    for seed in 0..SEEDS {
        let (notebook, counted) = talk_over_a_bad_line(&server, seed, 100);
        assert_eq!(notebook.gaps, [], "the room's history has all of it");
        assert_eq!(notebook.uncertain, 0, "the session knows its refs");
        cuts += counted;
    }
    assert!(cuts > 30, "{cuts} connections were cut");
}

/// A folder for one test's data, gone when it ends.
#[cfg(feature = "store")]
struct Folder(std::path::PathBuf);

#[cfg(feature = "store")]
impl Folder {
    fn new(name: &str) -> Folder {
        let folder = format!("corebeat-{name}-{}", std::process::id());
        Folder(std::env::temp_dir().join(folder))
    }
}

#[cfg(feature = "store")]
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
#[cfg(feature = "store")]
fn a_server_with_storage_that_is_killed_under_load_loses_nothing_it_acknowledged() {
    let folder = Folder::new("client-kill");
    let data = folder.0.to_str().unwrap();
    let options = ["--data", data, "--durability", "batch"];
    let mut server = Corebeat::start(&options);
    let address = server.address;
    let (mut ann, mut bob) = (connect(&server, "ann"), connect(&server, "bob"));
    ann.join("den").unwrap();
    bob.join("den").unwrap();
    let (mut notebook, mut asked) = (Notebook::default(), BTreeMap::new());
    let mut heard = Notebook::default();
    for round in 0..6 {
        for number in 0..60 {
            let body = format!("ann {round} {number}");
            let ticket = ann.inner().publish("den", body.as_bytes()).expect("the queue has room");
            asked.insert(ticket, body);
            while let Some(event) = ann.next_event(Duration::from_millis(1)).unwrap() {
                notebook.note(event, &mut asked);
            }
            while let Some(event) = bob.next_event(Duration::ZERO).unwrap() {
                heard.note(event, &mut BTreeMap::new());
            }
        }
        // Killed, while messages are on their way.
        drop(server);
        server = Corebeat::start_on(address, &options);
        let end = Instant::now() + GUARD;
        while !asked.is_empty() {
            assert!(Instant::now() < end, "unanswered: {asked:?}");
            let event = ann.next_event(Duration::from_millis(100)).unwrap();
            event.into_iter().for_each(|event| notebook.note(event, &mut asked));
        }
    }
    let mut reader = connect(&server, "reader");
    let history = reader.history("den", Seq(0), 0).unwrap();
    assert!(!history.gap, "all of it was kept");
    let truth: BTreeMap<u64, String> = history
        .messages
        .into_iter()
        .map(|message| (message.place.seq.0, String::from_utf8(message.body).unwrap()))
        .collect();
    let end = Instant::now() + GUARD;
    while heard.heard.last_key_value() != truth.last_key_value() {
        assert!(Instant::now() < end, "heard {:?}", heard.heard.last_key_value());
        let event = bob.next_event(Duration::from_millis(100)).unwrap();
        event.into_iter().for_each(|event| heard.note(event, &mut BTreeMap::new()));
    }
    assert_eq!(heard.heard, truth, "who only listens hears each message once and in order");
    assert_eq!((heard.gaps.len(), notebook.gaps.len()), (0, 0), "the epoch goes on");
    for (body, seq) in &notebook.said {
        assert_eq!(truth.get(&seq.unwrap()), Some(body), "what was acknowledged is there");
    }
    for body in truth.values() {
        let times = truth.values().filter(|said| *said == body).count();
        assert_eq!(times, 1, "{body} was said {times} times");
    }
    assert!(notebook.said.len() > 100, "{} were acknowledged", notebook.said.len());
}
