//! Honest clients, who talk all the time and must notice nothing.
//!
//! Owns clients of every dialect in rooms of several workers, on one thread: some talk, some only
//! listen and so live by their heartbeats. Each holds what it hears against what was said: every
//! message once, in the order of its room and of its sender. Never attacks anybody; a
//! [`stage`](super::stage) asks it whether all is well.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::arrival::arrive;
use super::common::PATIENCE;
use super::places::Places;
use super::speech::{Dialect, Heard};

/// Where they talk; several, so that they have homes on all workers.
pub(crate) const ROOMS: [&str; 3] = ["square", "market", "bridge"];
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

/// A panic of a worker makes everybody who talks say so many words behind it: enough for each of
/// them to be heard in every room, and alone by somebody.
const WORDS_AFTER_PANIC: usize = 15;

/// What a [`stage`](super::stage) wants of them.
enum Ask {
    /// What they noticed, when all that was said has been heard.
    Report(Sender<Report>),
    /// From when all was heard on, silence.
    Hush(Sender<()>),
    /// Who was sent away meanwhile is to come back. It is told how many they were.
    ComeBack(Sender<u64>),
}

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
    asks: Option<Sender<Ask>>,
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
        self.ask(Ask::Report)
    }

    /// Has them fall silent while a worker panics, because what is said meanwhile may be lost. Then
    /// those who were sent away, and only they, come back into all rooms, and everybody is heard by
    /// everybody. Returns how many were sent away.
    pub(crate) fn bear_panic(&self, panic: impl FnOnce()) -> u64 {
        self.ask(Ask::Hush);
        panic();
        self.ask(Ask::ComeBack)
    }

    fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> T {
        let (reply, answer) = channel();
        self.asks.as_ref().expect("the crowd is there").send(ask(reply)).expect("the crowd lives");
        answer.recv().expect("the crowd answers")
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
    places: Places,
    /// The last number heard from each sender in each room; of direct messages, in no room.
    numbers: BTreeMap<(String, String), u64>,
    /// A worker panics: if it was this client's, that may send it away, and if it was the home of a
    /// room, that room may begin another epoch behind a GAP.
    bears_panic: bool,
    /// Last words to it.
    parting: Vec<Heard>,
    /// What it asked to come back has not.
    is_probing: bool,
    ended: bool,
}

/// All of them, on their thread.
struct Conversation {
    address: SocketAddr,
    poll: Poll,
    clients: Vec<Client>,
    asked: Receiver<Ask>,
    began: Instant,
    /// How many words each sender has said in each room; of direct messages, to each name.
    said: BTreeMap<(String, String), u64>,
    report: Report,
}

/// The streams of the clients with these numbers, in all rooms. They come at the same time, because
/// nobody answers their PINGs until all are there.
fn enter(address: SocketAddr, numbers: &[usize], poll: &Poll) -> Vec<TcpStream> {
    let come =
        |number: usize| move || arrive(address, CLIENTS[number].0, &format!("honest-{number}"));
    let streams: Vec<std::net::TcpStream> = thread::scope(|scope| {
        let coming: Vec<_> = numbers.iter().map(|&number| scope.spawn(come(number))).collect();
        coming.into_iter().map(|one| one.join().expect("it is let in")).collect()
    });
    let register = |(number, stream): (&usize, std::net::TcpStream)| {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(*number), both).unwrap();
        stream
    };
    numbers.iter().zip(streams).map(register).collect()
}

impl Conversation {
    fn begin(address: SocketAddr, asked: Receiver<Ask>) -> Conversation {
        let poll = Poll::new().unwrap();
        let numbers: Vec<usize> = (0..CLIENTS.len()).collect();
        let streams = enter(address, &numbers, &poll);
        let comers = CLIENTS.iter().zip(streams).enumerate();
        let clients = comers.map(|(number, (&(dialect, talks), stream))| Client {
            name: format!("honest-{number}"),
            dialect,
            talks,
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            words: 0,
            unanswered: BTreeMap::new(),
            places: Places::default(),
            numbers: BTreeMap::new(),
            bears_panic: false,
            parting: Vec::new(),
            is_probing: false,
            ended: false,
        });
        let clients = clients.collect();
        let (said, report) = (BTreeMap::new(), Report::default());
        Conversation { address, poll, clients, asked, began: Instant::now(), said, report }
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
                Ok(Ask::Report(reply)) => {
                    self.settle();
                    let _ = reply.send(std::mem::take(&mut self.report));
                }
                Ok(Ask::Hush(reply)) => self.hush(&reply),
                Ok(Ask::ComeBack(_)) => unreachable!("nobody was hushed"),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Hears until all was heard by all who should.
    fn settle(&mut self) {
        let began = Instant::now();
        while let Some(missing) = self.missing() {
            if began.elapsed() > PATIENCE {
                self.report.troubles.push(missing);
                break;
            }
            self.hear(PACE);
        }
    }

    /// Everybody who is there asks for an answer, and has it, or has been sent away, when this
    /// returns: what was said to them before has arrived, and so has what they acknowledged.
    fn probe(&mut self) {
        for client in self.clients.iter_mut().filter(|client| !client.ended) {
            client.is_probing = true;
            client.send(&client.dialect.probe());
        }
        self.settle();
    }

    /// Silent until those who are sent away meanwhile are to come back.
    fn hush(&mut self, reply: &Sender<()>) {
        self.settle();
        self.probe();
        self.clients.iter_mut().for_each(|client| client.bears_panic = true);
        let _ = reply.send(());
        let reply = loop {
            self.hear(PACE);
            match self.asked.try_recv() {
                Ok(Ask::ComeBack(reply)) => break reply,
                Ok(_) => unreachable!("they were hushed"),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
        };
        self.probe();
        let count = self.come_back();
        for turn in 0..WORDS_AFTER_PANIC * self.clients.len() {
            self.say_something(turn % self.clients.len());
        }
        self.settle();
        for client in &mut self.clients {
            // Whoever was sent away in time has come back, and forgotten that.
            if !client.parting.is_empty() {
                let told = format!("{} heard {:?}", client.name, client.parting);
                self.report.troubles.push(told);
            }
            client.bears_panic = false;
        }
        let _ = reply.send(count);
    }

    /// Those who were sent away come back. They do not wait for as long as they were told: all at
    /// once is harder for the server.
    fn come_back(&mut self) -> u64 {
        let is_away = |client: &Client| client.ended && client.is_sent_away();
        let away: Vec<usize> =
            (0..self.clients.len()).filter(|&number| is_away(&self.clients[number])).collect();
        let streams = enter(self.address, &away, &self.poll);
        for (&number, stream) in away.iter().zip(streams) {
            let client = &mut self.clients[number];
            // What it has heard, and was heard to say, goes on where it was: all of that was before
            // the silence. Places in rooms may be others.
            client.stream = stream;
            client.received.clear();
            client.unsent.clear();
            client.places = Places::default();
            client.parting.clear();
            client.is_probing = false;
            client.ended = false;
        }
        away.len() as u64
    }

    /// What somebody has not heard yet.
    fn missing(&self) -> Option<String> {
        let late = self.clients.iter().find(|client| {
            !client.ended && client.dialect.is_answered() && !client.unanswered.is_empty()
        });
        if let Some(late) = late {
            return Some(format!("{}: {} unanswered", late.name, late.unanswered.len()));
        }
        if let Some(late) = self.clients.iter().find(|client| !client.ended && client.is_probing) {
            return Some(format!("{}: its probe does not come back", late.name));
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
            let end = client.receive();
            while let Some(pieces) = client.dialect.hear(&mut client.received) {
                for heard in pieces {
                    client.take(heard, now_us, &mut self.report);
                }
            }
            // Judged behind what came before it.
            if let Some(how) = end
                && !(client.bears_panic && client.is_sent_away())
            {
                let (name, words) = (&client.name, &client.parting);
                self.report.troubles.push(format!("{name} was {how} behind {words:?}"));
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

    /// Reads what there is; how it ended, if it did.
    fn receive(&mut self) -> Option<String> {
        let mut chunk = [0; 16 << 10];
        while !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    return Some("closed".to_owned());
                }
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => {
                    self.ended = true;
                    return Some(format!("cut off ({error})"));
                }
            }
        }
        None
    }

    /// Whether it was told that its worker panicked and when to come back.
    fn is_sent_away(&self) -> bool {
        self.dialect.is_sent_away(&self.parting)
    }

    fn take(&mut self, heard: Heard, now_us: u64, report: &mut Report) {
        match heard {
            Heard::Message { room, from, place, body, is_replay }
                if ROOMS.contains(&room.as_str()) =>
            {
                self.take_replay(is_replay, report);
                let follows = place.map_or(Ok(()), |place| self.places.take(&room, place));
                report.troubles.extend(follows.err().map(|how| format!("{}: {how}", self.name)));
                self.take_number(from, room, &body, now_us, report);
            }
            Heard::Direct { from, id, body, is_replay } => {
                self.take_replay(is_replay, report);
                self.take_number(from, String::new(), &body, now_us, report);
                let answer = id.map(|id| self.dialect.acknowledge(id));
                self.send(&answer.unwrap_or_default());
            }
            Heard::Done { reference } => match self.unanswered.remove(&reference) {
                Some(asked) => report.worst_delay = report.worst_delay.max(asked.elapsed()),
                None => report.troubles.push(format!("{}: answered twice", self.name)),
            },
            Heard::Probed => self.is_probing = false,
            Heard::Missed { room, from } if self.bears_panic => {
                let ends = self.places.end_epoch(&room, from);
                report.troubles.extend(ends.err().map(|how| format!("{}: {how}", self.name)));
            }
            // Whether these may be is judged where the connection ends.
            Heard::Refused { .. } | Heard::GoAway { .. } | Heard::Closing { .. }
                if self.bears_panic =>
            {
                self.parting.push(heard);
            }
            Heard::Asked { answer } => {
                report.pings += 1;
                self.send(&answer);
            }
            Heard::Trouble(what) => report.troubles.push(format!("{} heard {what}", self.name)),
            Heard::Missed { .. }
            | Heard::Refused { .. }
            | Heard::GoAway { .. }
            | Heard::Closing { .. } => {
                report.troubles.push(format!("{} heard {heard:?}", self.name));
            }
            Heard::Message { .. } | Heard::Other => {}
        }
    }

    /// Behind a panic, another worker may hear what is said in a room or to a user before it hears
    /// who is in that room, or that the user is there: then it keeps that, and tells it as soon as
    /// it knows. It comes once and in its order all the same. Otherwise nobody here is ever away.
    fn take_replay(&self, is_replay: bool, report: &mut Report) {
        if is_replay && !self.bears_panic {
            report.troubles.push(format!("{} heard a replay", self.name));
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
