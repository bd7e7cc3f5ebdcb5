//! The kernel's floor: what the same load costs where nothing but system calls is left.
//!
//! Owns a program that greets the load generator's clients, lets them into rooms, and then does
//! nothing but `send` the same bytes over as many sockets: one write for each delivery where a read
//! brought one message, one write for each member and turn where it brought several. For idle
//! connections it sends a PING to each in turn and receives the PONG 10 ms later, without a
//! poll. It keeps no queue, no presence, no timeout and no bound, and must not be used as a server.
//!
//! With a shared file table it has a second thread that sleeps: from then on the kernel counts
//! references on each use of a descriptor.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use corebeat::base::ids::{Epoch, NodeId, Seq};
use corebeat::net::{kernel, listener};
use corebeat::wire::message::{Event, Heartbeat, OkFlags, Request, Welcome};
use corebeat::wire::native;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
/// How finely heartbeats are spread, as the contestants spread theirs.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_SECOND: usize = 10;
/// Time for the answers to the pings of a tick.
const ANSWER: Duration = Duration::from_millis(10);
/// The first connections stay in the poll when there are heartbeats: one of them publishes in the
/// end. The generator opens so many at a time, so its first is among them.
const POLLED: usize = 256;
const EPOCH: Epoch = Epoch(1);

/// Serves until the process is ended.
///
/// # Errors
/// What the kernel says.
pub(crate) fn run(tables: &str) -> io::Result<()> {
    kernel::raise_open_file_limit();
    if tables == "shared" {
        thread::Builder::new().name("floor-sleeper".into()).spawn(|| {
            loop {
                thread::park();
            }
        })?;
    }
    let reservation = listener::reserve(([127, 0, 0, 1], 0).into())?;
    let listener = listener::open(reservation.address())?;
    let mut floor = Floor::new(TcpListener::from_std(listener))?;
    writeln!(io::stderr(), "listening on {}", reservation.address())?;
    loop {
        floor.turn()?;
    }
}

/// A client.
struct Peer {
    stream: TcpStream,
    /// The name it came by; its room, once it is in one.
    user: String,
    room: Option<usize>,
    /// Bytes of a frame whose end has not come.
    partial: Vec<u8>,
}

/// The members of a room, and what this turn sends to them.
#[derive(Default)]
struct Room {
    name: String,
    members: Vec<usize>,
    seq: u64,
    batch: Vec<u8>,
    publisher: usize,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    rooms: Vec<Room>,
    room_of: HashMap<String, usize>,
    /// Ticks between two pings of a connection; 0 for none.
    interval: usize,
    tick: usize,
    next_tick: Instant,
    scratch: Vec<u8>,
    ping: Vec<u8>,
}

impl Floor {
    fn new(mut listener: TcpListener) -> io::Result<Floor> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut ping = Vec::new();
        native::encode_event(&mut ping, &Event::Ping(Heartbeat::default()), false);
        Ok(Floor {
            poll,
            listener,
            peers: Vec::new(),
            rooms: Vec::new(),
            room_of: HashMap::new(),
            interval: 0,
            tick: 0,
            next_tick: Instant::now(),
            scratch: vec![0; 64 << 10],
            ping,
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        let timeout =
            (self.interval > 0).then(|| self.next_tick.saturating_duration_since(Instant::now()));
        let mut events = Events::with_capacity(1_024);
        loop {
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                polled => break polled?,
            }
        }
        for event in &events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(index) => self.read(index),
            }
        }
        for room in &mut self.rooms {
            room.send(&mut self.peers);
        }
        if self.interval > 0 && Instant::now() >= self.next_tick {
            self.next_tick += TICK;
            self.beat();
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.peers.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            let (user, partial) = (String::new(), Vec::new());
            self.peers.push(Some(Peer { stream, user, room: None, partial }));
        }
    }

    /// Reads once: what comes is less than the scratch holds.
    fn read(&mut self, index: usize) {
        let Some(peer) = &mut self.peers[index] else { return };
        match peer.stream.read(&mut self.scratch) {
            Ok(count) if count > 0 => {
                peer.partial.extend_from_slice(&self.scratch[..count]);
                self.serve(index);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.peers[index] = None,
        }
    }

    /// Does what the whole frames of a peer ask for.
    fn serve(&mut self, index: usize) {
        let Some(peer) = &mut self.peers[index] else { return };
        let bytes = std::mem::take(&mut peer.partial);
        let mut used = 0;
        while let Ok(Some((frame, length))) = native::frame(&bytes[used..], usize::MAX) {
            if let Ok(Some(request)) = native::request(&frame) {
                self.obey(index, &request);
            }
            used += length;
        }
        if let Some(peer) = &mut self.peers[index] {
            peer.partial = bytes;
            peer.partial.drain(..used);
        }
    }

    fn obey(&mut self, index: usize, request: &Request<'_>) {
        let Some(peer) = &mut self.peers[index] else { return };
        match *request {
            Request::Hello(hello) => {
                peer.user = hello.user.into();
                peer.tell(&welcome(hello.user, hello.heartbeat_s));
                if hello.heartbeat_s > 0 && self.interval == 0 {
                    self.interval = usize::from(hello.heartbeat_s) * TICKS_PER_SECOND;
                    self.next_tick = Instant::now() + TICK;
                }
            }
            Request::Join { reference, room, .. } => {
                let number = *self.room_of.entry(room.into()).or_insert_with(|| {
                    self.rooms.push(Room { name: room.into(), ..Room::default() });
                    self.rooms.len() - 1
                });
                let joined = &mut self.rooms[number];
                joined.members.push(index);
                peer.room = Some(number);
                let (flags, seq) = (OkFlags::default(), Seq(joined.seq));
                peer.tell(&Event::Ok { reference, flags, epoch: EPOCH, seq });
                let polled = POLLED.next_multiple_of(self.interval.max(1));
                if self.interval > 0 && index >= polled {
                    let _ = self.poll.registry().deregister(&mut peer.stream);
                }
            }
            Request::Publish { room, body, .. } => {
                let Some(&number) = self.room_of.get(room) else { return };
                self.rooms[number].take(index, &peer.user, body);
            }
            _ => {}
        }
    }

    /// Sends the pings of this tick, and receives the answers a little later, while the sockets are
    /// as warm as they are for a server that is woken up by an answer.
    fn beat(&mut self) {
        let first = self.tick % self.interval;
        self.tick += 1;
        for index in (first..self.peers.len()).step_by(self.interval) {
            if let Some(peer) = self.peers[index].as_mut().filter(|peer| peer.room.is_some()) {
                peer.send(&self.ping);
            }
        }
        thread::sleep(ANSWER);
        // Those in the poll are read when they have something to say.
        let polled = POLLED.next_multiple_of(self.interval);
        for index in (first + polled..self.peers.len()).step_by(self.interval) {
            if let Some(peer) = self.peers[index].as_mut().filter(|peer| peer.room.is_some()) {
                let _ = peer.stream.read(&mut self.scratch);
            }
        }
    }
}

impl Room {
    fn take(&mut self, publisher: usize, from: &str, body: &[u8]) {
        self.seq += 1;
        self.publisher = publisher;
        let message = Event::Message {
            epoch: EPOCH,
            seq: Seq(self.seq),
            time_ms: 0,
            room: &self.name,
            from,
            body,
            replay: false,
        };
        native::encode_event(&mut self.batch, &message, false);
    }

    /// One write for each member but the publisher.
    fn send(&mut self, peers: &mut [Option<Peer>]) {
        if self.batch.is_empty() {
            return;
        }
        for &member in &self.members {
            if let Some(peer) = peers[member].as_mut().filter(|_| member != self.publisher) {
                peer.send(&self.batch);
            }
        }
        self.batch.clear();
    }
}

impl Peer {
    fn tell(&mut self, event: &Event<'_>) {
        let mut bytes = Vec::new();
        native::encode_event(&mut bytes, event, false);
        self.send(&bytes);
    }

    /// A peer that has gone away is noticed when it is read.
    fn send(&mut self, bytes: &[u8]) {
        if let Ok(count) = self.stream.write(bytes) {
            assert_eq!(count, bytes.len(), "a closed loop never fills a socket");
        }
    }
}

fn welcome(user: &str, heartbeat_s: u16) -> Event<'_> {
    Event::Welcome(Welcome {
        version: native::VERSION,
        node: NodeId(1),
        session: 1,
        resume_key: 1,
        heartbeat_s,
        timeout_s: heartbeat_s.saturating_mul(3),
        max_frame: 64 << 10,
        resumed: false,
        user,
    })
}
