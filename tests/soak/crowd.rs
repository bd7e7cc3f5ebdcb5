//! Honest clients, who talk all the time and must notice nothing.
//!
//! Owns clients of every dialect in rooms of several workers, on one thread: some talk, some only
//! listen and so live by their heartbeats. Each holds what it hears against what was said: every
//! message once, in the order of its room and of its sender. Never attacks anybody; a
//! [`stage`](super::stage) asks it whether all is well.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::common::web::{BINARY, FIN, Heard as WebHeard, TEXT, Web, frame as web_frame};
use super::common::{self, GUARD, Native, OK, Text};
use super::speech::{Dialect, Heard};

/// Where they talk; several, so that they have homes on all workers.
const ROOMS: [&str; 3] = ["square", "market", "bridge"];
/// Who is there, by what they speak. Of each dialect the last one only listens; text clients have
/// no heartbeat to live by, and so all talk.
const CLIENTS: [(Dialect, bool); 11] = [
    (Dialect::Native, true),
    (Dialect::Native, true),
    (Dialect::Native, false),
    (Dialect::Text, true),
    (Dialect::Text, true),
    (Dialect::Json, true),
    (Dialect::Json, true),
    (Dialect::Json, false),
    (Dialect::Binary, true),
    (Dialect::Binary, true),
    (Dialect::Binary, false),
];
/// Every so often one of them says something.
const PACE: Duration = Duration::from_millis(10);
/// Every so many words of a client are for one other alone.
const DIRECT_EVERY: u64 = 5;
/// A client with so many requests unanswered says nothing more before it is answered.
const UNANSWERED_MAX: usize = 100;

/// What they noticed since they were asked last.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What should not have been.
    pub(crate) troubles: Vec<String>,
    /// What was heard in rooms and from others alone.
    pub(crate) heard: u64,
    /// PINGs answered.
    pub(crate) pings: u64,
    /// The longest time from a word to an ear, or from a request to its answer.
    pub(crate) worst_delay: Duration,
}

/// The crowd. Dropping it sends everybody home.
pub(crate) struct Crowd {
    asks: Option<Sender<Sender<Report>>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// How many connections they have.
    pub(crate) const CONNECTIONS: u64 = CLIENTS.len() as u64;

    /// Everybody is there and in all rooms when this returns.
    pub(crate) fn gather(address: SocketAddr) -> Crowd {
        let (asks, asked) = channel();
        let mut conversation = Conversation::begin(address, asked);
        let thread = thread::spawn(move || conversation.go_on());
        Crowd { asks: Some(asks), thread: Some(thread) }
    }

    /// Has them fall silent until all was heard by all who should, and tell what they noticed.
    /// Then they go on.
    pub(crate) fn report(&self) -> Report {
        let (reply, report) = channel();
        self.asks.as_ref().expect("the crowd is there").send(reply).expect("the crowd lives");
        report.recv().expect("the crowd answers")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.asks = None;
        // Where it panicked, its words are in the log, and the reports are missing.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One client.
struct Client {
    name: String,
    dialect: Dialect,
    talks: bool,
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// How often it said something.
    words: u64,
    /// When those requests were made that are not answered.
    unanswered: BTreeMap<u32, Instant>,
    /// The last place heard of, in each room.
    places: BTreeMap<String, (u32, u64)>,
    /// The last number heard from each sender in each room; of direct messages, in no room.
    numbers: BTreeMap<(String, String), u64>,
    ended: bool,
}

/// All of them, on their thread.
struct Conversation {
    poll: Poll,
    clients: Vec<Client>,
    asked: Receiver<Sender<Report>>,
    began: Instant,
    /// How many words each sender has said in each room; of direct messages, to each name.
    said: BTreeMap<(String, String), u64>,
    report: Report,
}

/// The blocking stream of a client who has said hello and joined every room.
fn arrive(address: SocketAddr, dialect: Dialect, name: &str) -> std::net::TcpStream {
    match dialect {
        Dialect::Native => {
            let mut client = Native::greet(address, name);
            for room in ROOMS {
                client.send(&common::join(1, room));
                client.expect(OK);
            }
            client.stream
        }
        Dialect::Text => {
            let mut client = Text::greet(address, name);
            client.say("/leave");
            for room in ROOMS {
                client.say(&format!("/join {room}"));
                let joined = format!("* you are in {room}");
                while !client.next().expect("an answer").starts_with(&joined) {}
            }
            client.into_stream()
        }
        Dialect::Json => {
            let mut client = Web::open(address, "/ws", "");
            let mut say = |text: &str, answer: &str| {
                client.send(&web_frame(FIN | TEXT, text.as_bytes()));
                let told = match client.next() {
                    WebHeard::Text(told) => String::from_utf8(told).unwrap(),
                    other => panic!("{other:?}"),
                };
                assert!(told.contains(answer), "{told}");
            };
            say(&format!(r#"{{"op":"hello","user":"{name}"}}"#), "welcome");
            for room in ROOMS {
                say(&format!(r#"{{"op":"join","ref":1,"room":"{room}"}}"#), "ok");
            }
            client.stream
        }
        Dialect::Binary => {
            let protocol = "Sec-WebSocket-Protocol: corebeat.v1.bin\r\n";
            let mut client = Web::open(address, "/ws", protocol);
            let joins = ROOMS.map(|room| common::join(1, room));
            for request in [common::hello(name)].iter().chain(&joins) {
                client.send(&web_frame(FIN | BINARY, request));
                assert!(matches!(client.next(), WebHeard::Binary(_)));
            }
            client.stream
        }
    }
}

impl Conversation {
    fn begin(address: SocketAddr, asked: Receiver<Sender<Report>>) -> Conversation {
        let poll = Poll::new().unwrap();
        let clients = CLIENTS.iter().enumerate().map(|(number, &(dialect, talks))| {
            let name = format!("honest-{number}");
            let stream = arrive(address, dialect, &name);
            stream.set_nonblocking(true).unwrap();
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(number), both).unwrap();
            Client {
                name,
                dialect,
                talks,
                stream,
                received: Vec::new(),
                unsent: Vec::new(),
                words: 0,
                unanswered: BTreeMap::new(),
                places: BTreeMap::new(),
                numbers: BTreeMap::new(),
                ended: false,
            }
        });
        let clients = clients.collect();
        let (said, report) = (BTreeMap::new(), Report::default());
        Conversation { poll, clients, asked, began: Instant::now(), said, report }
    }

    /// Talks until nobody asks any more.
    fn go_on(&mut self) {
        let mut due = Instant::now();
        for turn in 0.. {
            due = due.max(Instant::now()) + PACE;
            self.say_something(turn % self.clients.len());
            while Instant::now() < due {
                self.hear(due.saturating_duration_since(Instant::now()));
            }
            match self.asked.try_recv() {
                Ok(reply) => self.answer(&reply),
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, reply: &Sender<Report>) {
        let asked = Instant::now();
        while let Some(missing) = self.missing() {
            if asked.elapsed() > GUARD {
                self.report.troubles.push(missing);
                break;
            }
            self.hear(PACE);
        }
        let _ = reply.send(std::mem::take(&mut self.report));
    }

    /// What somebody has not heard yet.
    fn missing(&self) -> Option<String> {
        let late = self.clients.iter().find(|client| {
            !client.ended && client.dialect.is_answered() && !client.unanswered.is_empty()
        });
        if let Some(late) = late {
            return Some(format!("{}: {} unanswered", late.name, late.unanswered.len()));
        }
        self.said.iter().find_map(|((from, place), words)| {
            let hears = |client: &&Client| match ROOMS.contains(&place.as_str()) {
                true => client.dialect != Dialect::Text || client.name != *from,
                false => client.name == *place,
            };
            let behind =
                |client: &&Client| !client.ended && client.last_number(from, place) < *words;
            let client = self.clients.iter().filter(hears).find(behind)?;
            let heard = client.last_number(from, place);
            Some(format!("{} heard {heard} of {words} from {from} at {place}", client.name))
        })
    }

    fn say_something(&mut self, speaker: usize) {
        let names: Vec<String> = self.clients.iter().map(|client| client.name.clone()).collect();
        let now_us = self.began.elapsed().as_micros();
        let client = &mut self.clients[speaker];
        if !client.talks || client.ended || client.unanswered.len() > UNANSWERED_MAX {
            return;
        }
        client.words += 1;
        let reference = client.words as u32;
        let dialect = client.dialect;
        let is_direct = client.words.is_multiple_of(DIRECT_EVERY);
        let place = match dialect {
            _ if is_direct => &names[(speaker + client.words as usize) % names.len()],
            // A person talks in one room, the last that was joined.
            Dialect::Text => ROOMS[ROOMS.len() - 1],
            _ => ROOMS[client.words as usize % ROOMS.len()],
        };
        if *place == client.name {
            return;
        }
        let number = self.said.entry((client.name.clone(), place.to_owned())).or_default();
        *number += 1;
        let body = format!("{number} {now_us}");
        let request = match is_direct {
            true => dialect.direct(reference, place, &body),
            false => dialect.publish(reference, place, &body),
        };
        if dialect.is_answered() {
            client.unanswered.insert(reference, Instant::now());
        }
        client.send(&request);
    }

    /// Hears what comes, for so long at most.
    fn hear(&mut self, patience: Duration) {
        let mut events = Events::with_capacity(64);
        match self.poll.poll(&mut events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            outcome => outcome.unwrap(),
        }
        let now_us = self.began.elapsed().as_micros() as u64;
        for event in &events {
            let client = &mut self.clients[event.token().0];
            client.send(&[]);
            client.receive(&mut self.report);
            while let Some(pieces) = client.dialect.hear(&mut client.received) {
                for heard in pieces {
                    client.take(heard, now_us, &mut self.report);
                }
            }
        }
    }
}

impl Client {
    fn last_number(&self, from: &str, place: &str) -> u64 {
        let room = if ROOMS.contains(&place) { place } else { "" };
        self.numbers.get(&(from.to_owned(), room.to_owned())).copied().unwrap_or_default()
    }

    /// Sends this behind what could not be sent yet, as far as the kernel takes it.
    fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No room; or an end, of which the next read tells.
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, report: &mut Report) {
        let mut chunk = [0; 16 << 10];
        while !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    report.troubles.push(format!("{} was closed", self.name));
                }
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.ended = true;
                    report.troubles.push(format!("{} was cut off: {error}", self.name));
                }
            }
        }
    }

    fn take(&mut self, heard: Heard, now_us: u64, report: &mut Report) {
        match heard {
            Heard::Message { room, from, place, body } if ROOMS.contains(&room.as_str()) => {
                self.take_place(&room, place, report);
                self.take_number(from, room, &body, now_us, report);
            }
            Heard::Direct { from, id, body } => {
                self.take_number(from, String::new(), &body, now_us, report);
                let answer = id.map(|id| self.dialect.acknowledge(id));
                self.send(&answer.unwrap_or_default());
            }
            Heard::Done { reference } => match self.unanswered.remove(&reference) {
                Some(asked) => report.worst_delay = report.worst_delay.max(asked.elapsed()),
                None => report.troubles.push(format!("{}: answered twice", self.name)),
            },
            Heard::Asked { answer } => {
                report.pings += 1;
                self.send(&answer);
            }
            Heard::Trouble(what) => report.troubles.push(format!("{} heard {what}", self.name)),
            Heard::Message { .. } | Heard::Other => {}
        }
    }

    /// The next message of a room must have the next place.
    fn take_place(&mut self, room: &str, place: Option<(u32, u64)>, report: &mut Report) {
        let Some((epoch, seq)) = place else { return };
        let last = self.places.insert(room.to_owned(), (epoch, seq));
        if last.is_some_and(|last| (epoch, seq) != (last.0, last.1 + 1)) {
            let told = format!("{}: {epoch}/{seq} behind {last:?} in {room}", self.name);
            report.troubles.push(told);
        }
    }

    /// The next message of a sender must have the next number.
    fn take_number(
        &mut self,
        from: String,
        room: String,
        body: &str,
        now_us: u64,
        report: &mut Report,
    ) {
        let numbers: Vec<u64> = body.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [number, said_us] = numbers[..] else {
            // Of strangers, who talk as they like.
            return;
        };
        report.heard += 1;
        let delay = Duration::from_micros(now_us.saturating_sub(said_us));
        report.worst_delay = report.worst_delay.max(delay);
        let last = self.numbers.entry((from, room)).or_default();
        if number != *last + 1 {
            let told = format!("{} heard number {number} behind {last}", self.name);
            report.troubles.push(told);
        }
        *last = number;
    }
}
