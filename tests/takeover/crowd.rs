//! Clients that come, talk and go all the time.
//!
//! Owns their threads and what they saw: connections that were refused, and messages that were
//! acknowledged and are missing. Each client goes on wherever it is told to; it waits for nothing
//! but the server.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::common::{
    ERROR, Frame, GOAWAY, GUARD, MESSAGE, Native, OK, PING, PONG, WELCOME, eventually, frame,
    hello, publish,
};

const ROOM: &str = "square";
/// Said when all else has been said.
const THE_END: &[u8] = b"the end";
/// Clients of each kind.
const VISITORS: usize = 3;
const SPEAKERS: usize = 3;
const LISTENERS: usize = 3;

/// What outlives a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Nothing: each epoch of a room is one server's.
    Memory,
    /// What was said.
    Disk,
}

/// Epoch and seq of a message.
type Place = (u32, u64);

/// What a crowd saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: u64,
    pub(crate) refused: Vec<String>,
    pub(crate) acknowledged: usize,
    /// The longest time from a connect to its WELCOME.
    pub(crate) longest_wait_ms: u64,
    pub(crate) lost: Vec<String>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Speakers have stopped, and listeners go when they have heard all.
    silent: AtomicBool,
    connected: AtomicU64,
    acknowledged: AtomicU64,
    longest_wait_ms: AtomicU64,
}

/// What one client has to tell.
#[derive(Default)]
struct Account {
    refused: Vec<String>,
    lost: Vec<String>,
    /// What was said and acknowledged, whether that was before a GOAWAY, and when.
    said: Vec<(Place, Vec<u8>, bool, Instant)>,
    /// What was heard.
    heard: BTreeMap<Place, Vec<u8>>,
    /// The epochs in which it was a member, and what was said in each before it came.
    first: BTreeMap<u32, u64>,
    /// When it saw the end of its connection in each epoch.
    ended: BTreeMap<u32, Instant>,
}

pub(crate) struct Crowd {
    address: SocketAddr,
    shared: Arc<Shared>,
    keeping: Keeping,
    visitors: Vec<JoinHandle<Account>>,
    speakers: Vec<JoinHandle<Account>>,
    listeners: Vec<JoinHandle<Account>>,
}

impl Crowd {
    /// Everybody is there when this returns.
    pub(crate) fn gather(address: SocketAddr, keeping: Keeping) -> Crowd {
        let shared = Arc::new(Shared::default());
        let spawn = |count: usize, live: fn(Client) -> Account| -> Vec<JoinHandle<Account>> {
            (0..count)
                .map(|number| {
                    let client = Client { address, number, shared: Arc::clone(&shared), keeping };
                    thread::spawn(move || live(client))
                })
                .collect()
        };
        let listeners = spawn(LISTENERS, Client::listen);
        let there = || shared.connected.load(Ordering::Relaxed) >= LISTENERS as u64;
        eventually("the listeners are there", there);
        let speakers = spawn(SPEAKERS, Client::speak);
        let visitors = spawn(VISITORS, Client::visit);
        Crowd { address, shared, keeping, visitors, speakers, listeners }
    }

    /// Until the crowd has got a good deal further.
    pub(crate) fn talk_for_a_while(&self) {
        let counts = || {
            let Shared { connected, acknowledged, .. } = &*self.shared;
            (connected.load(Ordering::Relaxed), acknowledged.load(Ordering::Relaxed))
        };
        let (connected, acknowledged) = counts();
        eventually("the crowd goes on", || {
            let (come, said) = counts();
            come > connected + 30 && said > acknowledged + 30
        });
    }

    /// Sends everybody home and adds up what they saw.
    pub(crate) fn disperse(self) -> Seen {
        self.shared.silent.store(true, Ordering::Relaxed);
        let join = |threads: Vec<JoinHandle<Account>>| -> Vec<Account> {
            threads.into_iter().map(|thread| thread.join().expect("a client panicked")).collect()
        };
        let speakers = join(self.speakers);
        self.shared.over.store(true, Ordering::Relaxed);
        let mut last = Native::greet(self.address, "last");
        last.send(&publish(1, ROOM, THE_END));
        last.expect(OK);
        let (visitors, listeners) = (join(self.visitors), join(self.listeners));
        let mut seen = Seen {
            connected: self.shared.connected.load(Ordering::Relaxed),
            longest_wait_ms: self.shared.longest_wait_ms.load(Ordering::Relaxed),
            acknowledged: speakers.iter().map(|speaker| speaker.said.len()).sum(),
            ..Seen::default()
        };
        for account in speakers.iter().chain(&visitors).chain(&listeners) {
            seen.refused.extend_from_slice(&account.refused);
            seen.lost.extend_from_slice(&account.lost);
        }
        for (number, listener) in listeners.iter().enumerate() {
            for (place, body, before_goaway, at) in speakers.iter().flat_map(|it| &it.said) {
                let first = listener.first.get(&place.0);
                let is_later = first.is_some_and(|first| place.1 > *first);
                // In memory, whoever had gone on already was a member elsewhere, also where another
                // worker had not begun to send its speakers on.
                let was_there = listener.ended.get(&place.0).is_none_or(|ended| at < ended);
                let is_live = *before_goaway && was_there;
                let is_owed = is_later && (is_live || self.keeping == Keeping::Disk);
                let heard = listener.heard.get(place);
                if is_owed && heard != Some(body) {
                    seen.lost.push(format!("{place:?} to listener {number}: {heard:?}"));
                }
            }
        }
        seen
    }
}

struct Client {
    address: SocketAddr,
    number: usize,
    shared: Arc<Shared>,
    keeping: Keeping,
}

impl Client {
    /// Connects and is welcomed; where it is not, that is a refusal.
    fn enter(&self, name: &str, account: &mut Account) -> Option<Native> {
        let began = Instant::now();
        let entered = self.try_enter(name);
        let waited_ms = began.elapsed().as_millis() as u64;
        self.shared.longest_wait_ms.fetch_max(waited_ms, Ordering::Relaxed);
        match entered {
            Ok(native) => {
                self.shared.connected.fetch_add(1, Ordering::Relaxed);
                Some(native)
            }
            Err(why) => {
                account.refused.push(format!("{name}: {why}"));
                None
            }
        }
    }

    fn try_enter(&self, name: &str) -> Result<Native, String> {
        let stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        let mut native = Native { stream };
        native.stream.write_all(&hello(name)).map_err(|error| error.to_string())?;
        match next(&mut native) {
            Some(frame) if frame.kind == WELCOME => Ok(native),
            other => Err(format!("no WELCOME but {other:?}")),
        }
    }

    fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed)
    }

    /// Comes and goes.
    fn visit(self) -> Account {
        let mut account = Account::default();
        let name = format!("visitor-{}", self.number);
        while !self.is_over() && account.refused.is_empty() {
            if let Some(mut native) = self.enter(&name, &mut account) {
                let _ = native.stream.write_all(&super::bye());
                // What is unread would make a reset of the close.
                while next(&mut native).is_some() {}
            }
        }
        account
    }

    /// Says one thing after the other, each when the one before was acknowledged.
    fn speak(self) -> Account {
        let mut account = Account::default();
        let name = format!("speaker-{}", self.number);
        let mut number = 0_u32;
        while !self.shared.silent.load(Ordering::Relaxed) && account.refused.is_empty() {
            let Some(mut native) = self.enter(&name, &mut account) else { continue };
            let mut goes = false;
            while !self.shared.silent.load(Ordering::Relaxed) {
                number += 1;
                let body = format!("{name} says {number}").into_bytes();
                if native.stream.write_all(&publish(number, ROOM, &body)).is_err() {
                    break;
                }
                let answer = loop {
                    match next(&mut native) {
                        Some(frame) if frame.kind == GOAWAY => goes = true,
                        other => break other,
                    }
                };
                match answer {
                    Some(frame) if frame.kind == OK => {
                        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                        let place = place_of(&frame.payload[5..]);
                        account.said.push((place, body, !goes, Instant::now()));
                    }
                    Some(frame) if frame.kind == ERROR => {
                        account.lost.push(format!("{name}: {frame:?}"));
                    }
                    Some(frame) => panic!("{name}: {frame:?}"),
                    None => break,
                }
            }
        }
        account
    }

    /// Hears what is said, and joins again behind what it has heard.
    fn listen(self) -> Account {
        let mut account = Account::default();
        let name = format!("listener-{}", self.number);
        let mut since: Place = (0, 0);
        while account.refused.is_empty() {
            let Some(mut native) = self.enter(&name, &mut account) else { continue };
            let _ = native.stream.write_all(&join_since(since));
            while let Some(frame) = next(&mut native) {
                match frame.kind {
                    OK => {
                        let head = place_of(&frame.payload[5..]);
                        let gap = frame.payload[4] & 1 == 1;
                        if gap && self.keeping == Keeping::Disk && since.0 != 0 {
                            account.lost.push(format!("{name}: a gap behind {since:?}"));
                        }
                        if since.0 != head.0 {
                            account.first.insert(head.0, head.1);
                            since = (head.0, if since.0 == 0 { head.1 } else { 0 });
                        }
                    }
                    MESSAGE => {
                        let place = place_of(&frame.payload);
                        if place.0 == since.0 && since.1 != 0 && place.1 != since.1 + 1 {
                            account.lost.push(format!("{name}: {place:?} behind {since:?}"));
                        }
                        since = place;
                        let body = frame.message().2;
                        if body == THE_END {
                            return account;
                        }
                        account.heard.insert(place, body);
                    }
                    GOAWAY => {}
                    _ => panic!("{name}: {frame:?}"),
                }
            }
            account.ended.insert(since.0, Instant::now());
        }
        account
    }
}

/// The next frame that is no PING; none at the end, or where the connection was reset.
fn next(native: &mut Native) -> Option<Frame> {
    loop {
        let frame = native.try_next()?;
        if frame.kind != PING {
            return Some(frame);
        }
        let _ = native.stream.write_all(&super::frame(PONG, &frame.payload));
    }
}

/// Epoch and seq at the head of `bytes`.
fn place_of(bytes: &[u8]) -> Place {
    let epoch = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    (epoch, u64::from_be_bytes(bytes[4..12].try_into().unwrap()))
}

/// JOIN of the room behind a place.
fn join_since((epoch, seq): Place) -> Vec<u8> {
    let mut payload = 1_u32.to_be_bytes().to_vec();
    payload.extend_from_slice(&epoch.to_be_bytes());
    payload.extend_from_slice(&seq.to_be_bytes());
    payload.push(ROOM.len() as u8);
    payload.extend_from_slice(ROOM.as_bytes());
    frame(0x10, &payload)
}
