//! Very many native clients who live by their heartbeats, and hear what is said in their rooms.
//!
//! Owns their connections and a thread that hears them all: PINGs are answered, places in rooms
//! must follow one another, and who is told to go must be told all. Never decides whether somebody
//! should have been told to go; a scenario does, which asks for a [`Tally`].

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use super::common::{Native, OK, WELCOME, hello, join};
use super::peer::{connect, each};
use super::places::Places;
use super::speech::{Dialect, Heard};

/// Rooms, each with as many of them; so many that they have homes on all workers.
pub(crate) const ROOMS: [&str; 8] = ["ash", "birch", "cedar", "elm", "fir", "larch", "oak", "yew"];
/// Those with the lowest numbers talk when they are to. They are in all rooms and on all workers.
const SPEAKERS: usize = 32;
/// How long their thread waits for one of them before it looks whether it is still wanted.
const NAP: Duration = Duration::from_millis(50);

/// How long a speaker waits at least behind an answer.
const BREATH: Duration = Duration::from_millis(1);

/// Says that something is over, also where it panics.
struct OnDrop<'flag>(&'flag AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// See the [module](self). Dropping it hangs up.
pub(crate) struct Population {
    address: SocketAddr,
    registry: Registry,
    residents: Arc<Mutex<Vec<Resident>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How they are.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Whoever has a connection.
    pub(crate) there: usize,
    /// Whoever was told that its worker panicked and when to come back, and was closed.
    pub(crate) sent_away: usize,
    /// Of those who are there: the PINGs that were answered by the one that answered the fewest
    /// since all were counted anew.
    pub(crate) fewest_pings: u64,
    /// Those who are there and whose request is not answered.
    pub(crate) unanswered: usize,
    /// Requests that were refused with 503, ever.
    pub(crate) refused: u64,
    /// Those who are there and have not heard what [`Population::call_roll`] said last.
    pub(crate) deaf: usize,
    /// What should not have been.
    pub(crate) troubles: Vec<String>,
}

/// One of them.
struct Resident {
    stream: TcpStream,
    room: &'static str,
    received: Vec<u8>,
    places: Places,
    /// The number of its last request, and whether an answer to it is due.
    reference: u32,
    is_unanswered: bool,
    pings: u64,
    refused: u64,
    /// The last roll call that it heard.
    roll: u32,
    parting: Vec<Heard>,
    trouble: Option<String>,
    is_there: bool,
}

impl Population {
    /// Everybody is there and in a room when this returns.
    pub(crate) fn settle(address: SocketAddr, count: usize) -> Population {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let residents = Arc::new(Mutex::new(Vec::with_capacity(count)));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&residents), Arc::clone(&is_over));
        let thread = Some(thread::spawn(move || hear_all(poll, &shared, &over)));
        let population = Population { address, registry, residents, is_over, thread };
        population.admit(&(0..count).collect::<Vec<_>>());
        population
    }

    fn residents(&self) -> MutexGuard<'_, Vec<Resident>> {
        self.residents.lock().expect("their thread lives")
    }

    /// Those with these numbers come, by several hands, and are heard from then on.
    fn admit(&self, numbers: &[usize]) {
        // The first ones need their heartbeats while the last ones come.
        for part in numbers.chunks(50) {
            let streams = each(part.len(), |at| (part[at], enter(part[at], self.address)));
            let mut residents = self.residents();
            for (number, stream) in BTreeMap::from_iter(streams) {
                let mut stream = TcpStream::from_std(stream);
                let token = Token(number);
                self.registry.register(&mut stream, token, Interest::READABLE).unwrap();
                let resident = Resident::new(number, stream);
                match number == residents.len() {
                    true => residents.push(resident),
                    false => {
                        let refused = residents[number].refused;
                        residents[number] = Resident { refused, ..resident };
                    }
                }
            }
        }
    }

    /// Those who were sent away come back, as new ones.
    pub(crate) fn come_back(&self) {
        let is_away = |(number, resident): (usize, &Resident)| {
            (!resident.is_there && resident.is_sent_away()).then_some(number)
        };
        let away: Vec<usize> = self.residents().iter().enumerate().filter_map(is_away).collect();
        self.admit(&away);
    }

    /// Some of them talk all the time, each as soon as it was answered, while `act` goes on.
    pub(crate) fn talk_while(&self, act: impl FnOnce()) {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    let mut residents = self.residents();
                    let speakers = residents.iter_mut().take(SPEAKERS);
                    for speaker in speakers.filter(|it| it.is_there && !it.is_unanswered) {
                        speaker.publish("a word");
                    }
                    drop(residents);
                    thread::park_timeout(BREATH);
                }
            });
            // Told to the other thread in any case, which the scope waits for.
            let _ends = OnDrop(&is_done);
            act();
        });
    }

    /// One of them in each room says this number, which the others are to hear.
    pub(crate) fn call_roll(&self, roll: u32) {
        for resident in self.residents().iter_mut().take(ROOMS.len()) {
            resident.publish(&roll.to_string());
        }
    }

    /// Counts PINGs anew.
    pub(crate) fn count_anew(&self) {
        self.residents().iter_mut().for_each(|resident| resident.pings = 0);
    }

    /// How they are, when `roll` was called last.
    pub(crate) fn tally(&self, roll: u32) -> Tally {
        let mut tally = Tally { fewest_pings: u64::MAX, ..Tally::default() };
        for (number, resident) in self.residents().iter().enumerate() {
            tally.refused += resident.refused;
            let trouble = resident.trouble.iter();
            tally.troubles.extend(trouble.map(|trouble| format!("resident {number} {trouble}")));
            if !resident.is_there {
                tally.sent_away += usize::from(resident.is_sent_away());
                continue;
            }
            tally.there += 1;
            tally.fewest_pings = tally.fewest_pings.min(resident.pings);
            tally.unanswered += usize::from(resident.is_unanswered);
            tally.deaf += usize::from(resident.roll != roll);
        }
        tally
    }
}

impl Drop for Population {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Where it panicked, its words are in the log, and the lock is poisoned.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The stream of one who has joined its room.
fn enter(number: usize, address: SocketAddr) -> std::net::TcpStream {
    let mut client = Native { stream: connect(number, address) };
    client.send(&hello(&format!("resident-{number}")));
    client.expect(WELCOME);
    client.send(&join(1, ROOMS[number % ROOMS.len()]));
    client.expect(OK);
    client.stream.set_nonblocking(true).unwrap();
    client.stream
}

fn hear_all(mut poll: Poll, residents: &Mutex<Vec<Resident>>, is_over: &AtomicBool) {
    let mut events = Events::with_capacity(256);
    while !is_over.load(Ordering::SeqCst) {
        match poll.poll(&mut events, Some(NAP)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome.unwrap(),
        }
        let mut residents = residents.lock().expect("nobody panics with them");
        for event in &events {
            residents[event.token().0].hear();
        }
    }
}

impl Resident {
    fn new(number: usize, stream: TcpStream) -> Resident {
        Resident {
            stream,
            room: ROOMS[number % ROOMS.len()],
            received: Vec::new(),
            places: Places::default(),
            reference: 1,
            is_unanswered: false,
            pings: 0,
            refused: 0,
            roll: 0,
            parting: Vec::new(),
            trouble: None,
            is_there: true,
        }
    }

    fn publish(&mut self, body: &str) {
        self.reference += 1;
        self.is_unanswered = true;
        self.send(&Dialect::Native.publish(self.reference, self.room, body));
    }

    /// What they say is so little that the kernel always takes it.
    fn send(&self, bytes: &[u8]) {
        let _ = (&self.stream).write(bytes);
    }

    fn is_sent_away(&self) -> bool {
        Dialect::Native.is_sent_away(&self.parting)
    }

    fn hear(&mut self) {
        let mut chunk = [0; 16 << 10];
        while self.is_there {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.is_there = false,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_there = false,
            }
        }
        while let Some(pieces) = Dialect::Native.hear(&mut self.received) {
            pieces.into_iter().for_each(|heard| self.take(heard));
        }
        if !self.is_there && !self.is_sent_away() {
            self.complain(format!("was closed behind {:?}", self.parting));
        }
    }

    /// Keeps the first trouble only: others may come of it.
    fn complain(&mut self, trouble: String) {
        self.trouble.get_or_insert(trouble);
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Message { room, place, body, .. } => {
                // Of one's own, or of a new home that lets one in again, and so in its place too.
                let follows = place.map_or(Ok(()), |place| self.places.take(&room, place));
                follows.unwrap_or_else(|how| self.complain(how));
                self.roll = body.parse().unwrap_or(self.roll);
            }
            Heard::Missed { room, from } => {
                let ends = self.places.end_epoch(&room, from);
                ends.unwrap_or_else(|how| self.complain(how));
            }
            Heard::Done { reference } if reference == self.reference && self.is_unanswered => {
                self.is_unanswered = false;
            }
            Heard::Refused { reference, code: 503, .. }
                if reference == self.reference && self.is_unanswered =>
            {
                self.is_unanswered = false;
                self.refused += 1;
            }
            Heard::Asked { answer } => {
                self.pings += 1;
                self.send(&answer);
            }
            Heard::Refused { reference: 0, .. } | Heard::GoAway { .. } => self.parting.push(heard),
            Heard::Other => {}
            other => self.complain(format!("heard {other:?}")),
        }
    }
}
