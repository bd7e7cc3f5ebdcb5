//! Clients that publish and send until the server is gone.
//!
//! Owns the load and the questions that are put to a server that has come back. Never judges: the
//! ledger does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::common::{ERROR, Frame, GUARD, MESSAGE, Native, OK, frame, hello, join, publish};
use super::ledger::{Ledger, Place, Said};

/// Rooms that are spoken in; enough that every worker has some.
pub(crate) const ROOMS: [&str; 6] = ["tea", "den", "lobby", "garden", "roof", "attic"];
/// Users that are away while they are written to.
const AWAY: [&str; 4] = ["ghost-0", "ghost-1", "ghost-2", "ghost-3"];
/// Requests that each client has under way.
const WINDOW: u32 = 16;

const DIRECT: u8 = 0x13;
const ACK: u8 = 0x14;
const HISTORY: u8 = 0x15;
const DIRECT_TO: u8 = 0x93;

/// Epoch and sequence number of an OK.
pub(crate) fn place(ok: &Frame) -> Place {
    assert_eq!(ok.kind, OK, "{ok:?}");
    let epoch = u32::from_be_bytes(ok.payload[5..9].try_into().unwrap());
    (epoch, u64::from_be_bytes(ok.payload[9..17].try_into().unwrap()))
}

fn message(frame: &Frame) -> (Place, Vec<u8>) {
    let epoch = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
    let (seq, _, body) = frame.message();
    ((epoch, seq), body)
}

fn to_user(reference: u32, user: &str, body: &[u8]) -> Vec<u8> {
    let mut payload = reference.to_be_bytes().to_vec();
    payload.push(user.len() as u8);
    payload.extend_from_slice(user.as_bytes());
    payload.extend_from_slice(body);
    frame(DIRECT, &payload)
}

/// All that a room keeps.
pub(crate) fn history(address: SocketAddr, room: &str) -> Said {
    let mut reader = Native::greet(address, "reader");
    // A room that nobody knows has no history; whoever joins makes it.
    reader.send(&join(1, room));
    let (epoch, seq) = place(&reader.expect(OK));
    let mut said = Said { epoch, seq, messages: Vec::new() };
    loop {
        let since = match said.messages.last() {
            Some(((last_epoch, last), _)) if *last_epoch == epoch => *last,
            Some(_) => break,
            None => 0,
        };
        let mut payload = 2_u32.to_be_bytes().to_vec();
        payload.push(room.len() as u8);
        payload.extend_from_slice(room.as_bytes());
        payload.extend_from_slice(&since.to_be_bytes());
        payload.extend_from_slice(&[0, 0]);
        reader.send(&frame(HISTORY, &payload));
        let before = said.messages.len();
        loop {
            let next = reader.next_but_pings().expect("an answer");
            match next.kind {
                MESSAGE => said.messages.push(message(&next)),
                _ => break assert_eq!(place(&next), (epoch, seq)),
            }
        }
        if said.messages.len() == before || seq == 0 {
            break;
        }
    }
    said
}

/// Lets the users that were away come, hear what was sent to them, and acknowledge half of it.
pub(crate) fn check_directs(address: SocketAddr, ledger: &Ledger) {
    for user in AWAY {
        let mut away = Native::greet(address, user);
        let mut told = Vec::new();
        let mut last = 0;
        // What is kept comes in pages, and a message to oneself behind all of them.
        let end = format!("the end of {}", ledger.acknowledged());
        away.send(&to_user(0, user, end.as_bytes()));
        loop {
            let next = away.next_but_pings().expect("a frame");
            if next.kind != DIRECT_TO {
                continue;
            }
            let id = u64::from_be_bytes(next.payload[..8].try_into().unwrap());
            let from_len = usize::from(next.payload[16]);
            let body = next.payload[17 + from_len..].to_vec();
            assert!(id > last, "in order");
            last = id;
            if body == end.as_bytes() {
                break;
            }
            told.push((id, body));
        }
        let ack = told.get(told.len() / 2).map_or(0, |(id, _)| *id);
        away.send(&frame(ACK, &ack.to_be_bytes()));
        away.echo(b"the ACK has been read");
        ledger.check_directs(user, &told, ack);
    }
    // The strikes are handed over before these, whatever worker they live on.
    let mut witness = Native::greet(address, "witness");
    for (room, reference) in ROOMS.iter().zip(1..) {
        let body = format!("witness {} {room}", ledger.acknowledged());
        witness.send(&publish(reference, room, body.as_bytes()));
        ledger.acknowledge(room, place(&witness.expect(OK)), body.as_bytes());
    }
}

/// The clients of one round: two that publish, one that sends to users who are away, one that
/// listens. Each ends when the server does.
pub(crate) struct Crew {
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Starts them.
    pub(crate) fn start(address: SocketAddr, round: u32, ledger: &Arc<Ledger>) -> Crew {
        let spawn = |work: fn(SocketAddr, &str, &Ledger), name: String| {
            let ledger = Arc::clone(ledger);
            thread::spawn(move || work(address, &name, &ledger))
        };
        let threads = vec![
            spawn(speak, format!("ann-{round}")),
            spawn(speak, format!("bob-{round}")),
            spawn(write, format!("carl-{round}")),
            spawn(listen, format!("dora-{round}")),
        ];
        Crew { threads }
    }

    /// Waits until all have seen the end.
    pub(crate) fn join(self) {
        for thread in self.threads {
            thread.join().expect("nobody was told two things");
        }
    }
}

/// A client whose server may vanish at any time.
struct Fragile {
    stream: TcpStream,
}

impl Fragile {
    fn greet(address: SocketAddr, user: &str) -> Option<Fragile> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(GUARD)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut client = Fragile { stream };
        client.send(&hello(user))?;
        client.next()?;
        Some(client)
    }

    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    /// The next whole frame; none where the server is gone, also in the middle of a frame.
    fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes(header[4..8].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame { kind: header[1], flags: u16::from_be_bytes([header[2], header[3]]), payload })
    }
}

/// Sends requests, a window of them under way, until the server is gone. `told` hears each OK.
fn ask(
    address: SocketAddr,
    user: &str,
    request: impl Fn(u32) -> Vec<u8>,
    told: impl Fn(u32, &Frame),
) {
    let Some(mut client) = Fragile::greet(address, user) else { return };
    let mut asked = 0;
    let mut answered = 0;
    loop {
        while asked - answered < WINDOW {
            asked += 1;
            if client.send(&request(asked)).is_none() {
                break;
            }
        }
        let Some(next) = client.next() else { return };
        let reference = u32::from_be_bytes(next.payload[..4].try_into().unwrap());
        match next.kind {
            OK => told(reference, &next),
            ERROR => assert_eq!(next.error_code(), 503, "{next:?}"),
            _ => continue,
        }
        answered += 1;
    }
}

fn speak(address: SocketAddr, user: &str, ledger: &Ledger) {
    let room = |number: u32| ROOMS[number as usize % ROOMS.len()];
    let body = |number: u32| format!("{user} says {number}").into_bytes();
    ask(
        address,
        user,
        |number| publish(number, room(number), &body(number)),
        |number, ok| ledger.acknowledge(room(number), place(ok), &body(number)),
    );
}

fn write(address: SocketAddr, user: &str, ledger: &Ledger) {
    let to = |number: u32| AWAY[number as usize % AWAY.len()];
    let body = |number: u32| format!("{user} writes {number}").into_bytes();
    ask(
        address,
        user,
        |number| to_user(number, to(number), &body(number)),
        |number, ok| {
            const QUEUED: u8 = 2;
            if ok.payload[4] & QUEUED != 0 {
                ledger.queue(to(number), place(ok).1, &body(number));
            }
        },
    );
}

fn listen(address: SocketAddr, user: &str, ledger: &Ledger) {
    let Some(mut client) = Fragile::greet(address, user) else { return };
    for (room, reference) in ROOMS.iter().zip(1..) {
        if client.send(&join(reference, room)).is_none() {
            return;
        }
    }
    while let Some(next) = client.next() {
        if next.kind == MESSAGE {
            let (place, body) = message(&next);
            let room_len = usize::from(next.payload[20]);
            let room = std::str::from_utf8(&next.payload[21..21 + room_len]).unwrap();
            ledger.saw(room, place, &body);
        }
    }
}
