//! The client for programs with a loop of their own.
//!
//! Owns the socket, the clock and the resolving of names, around a [`Core`] that decides. Registers
//! itself with the program's poll; never waits, but for the system's resolver where an address is
//! a host's name.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::asking::JoinOptions;
use super::config::{Config, ConfigError, Endpoint};
use super::core::{Command, Core, Moment};
use super::event::{Answer, Event, RequestError, State, Ticket};
use crate::base::clock::Clock;
use crate::base::ids::Seq;
use crate::base::limits::READ_CHUNK;

/// A client that one drives from one's own [`mio::Poll`].
///
/// After [`Client::start`], and then in every turn of the program's loop:
///
/// 1. poll with a timeout of at most [`Client::timeout`],
/// 2. call [`Client::turn`], whether or not the poll named the client's token,
/// 3. take what [`Client::poll_event`] has, until it has nothing.
///
/// ```no_run
/// use corebeat::client::{Config, Event, JoinOptions, evented::Client};
/// use mio::{Events, Poll, Token};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(64);
/// let mut client = Client::new(Config::new("127.0.0.1:8080", "ann")?)?;
/// client.start(poll.registry(), Token(0))?;
/// client.join("lobby", JoinOptions::default())?;
/// client.publish("lobby", b"good evening")?;
/// loop {
///     poll.poll(&mut events, client.timeout())?;
///     client.turn();
///     while let Some(event) = client.poll_event() {
///         if let Event::Message(message) = event {
///             println!("{}: {}", message.from, String::from_utf8_lossy(&message.body));
///         }
///     }
/// }
/// # }
/// ```
pub struct Client {
    core: Core,
    clock: Clock,
    wiring: Option<Wiring>,
    socket: Option<Socket>,
    /// Addresses of the endpoint that were not tried yet.
    candidates: VecDeque<SocketAddr>,
    scratch: Box<[u8]>,
}

/// Where sockets are registered.
struct Wiring {
    registry: Registry,
    token: Token,
}

struct Socket {
    stream: TcpStream,
    /// The kernel has connected it.
    open: bool,
}

impl Client {
    /// A client that was not started.
    ///
    /// # Errors
    /// What is wrong with `config`.
    pub fn new(config: Config) -> Result<Client, ConfigError> {
        Ok(Client {
            core: Core::new(config, fastrand::u64(..))?,
            clock: Clock::start(),
            wiring: None,
            socket: None,
            candidates: VecDeque::new(),
            scratch: vec![0; READ_CHUNK].into_boxed_slice(),
        })
    }

    /// Connects, and from then on comes back by itself. Its sockets are registered with `registry`
    /// under `token`, which belongs to the client alone.
    ///
    /// # Errors
    /// Where the registry cannot be kept.
    pub fn start(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.wiring = Some(Wiring { registry: registry.try_clone()?, token });
        self.core.start(self.now());
        self.carry_out();
        Ok(())
    }

    /// Does what can be done: reads, writes, and what is due.
    pub fn turn(&mut self) {
        self.read();
        let now = self.now();
        if self.core.deadline_us().is_some_and(|due| due <= now.us) {
            self.core.expire(now);
        }
        self.carry_out();
    }

    /// How long the next poll may sleep; none if nothing is due at any time.
    ///
    /// Rounded up to milliseconds, as a poll counts, so that it does not wake up just before.
    pub fn timeout(&self) -> Option<Duration> {
        let due = self.core.deadline_us()?;
        let us = due.saturating_sub(self.now().us);
        Some(Duration::from_millis(us.div_ceil(1_000)))
    }

    /// What the client has to tell. Direct messages count as arrived once they are taken here,
    /// unless the program acknowledges them by hand.
    pub fn poll_event(&mut self) -> Option<Event> {
        let was_full = self.core.is_full();
        let event = self.core.poll_event(self.now());
        if was_full && !self.core.is_full() {
            // The kernel has told already that there is something to read, and will not again.
            self.read();
        }
        if event.is_none() {
            self.carry_out();
        }
        event
    }

    /// What came of one request, if that waits to be told, ahead of all else that does.
    pub fn poll_answer(&mut self, ticket: Ticket) -> Option<Result<Answer, RequestError>> {
        let was_full = self.core.is_full();
        let answer = self.core.poll_answer(ticket, self.now());
        if was_full && !self.core.is_full() {
            self.read();
        }
        answer
    }

    /// Says goodbye and closes. What still waits is told as closed.
    pub fn close(&mut self) {
        self.core.close();
        self.carry_out();
    }

    /// Tries again at once where it waits to; where it is online, looks whether it still is.
    pub fn wake(&mut self) {
        self.core.wake(self.now());
        self.carry_out();
    }

    // What can be asked for.

    /// Joins a room, and stays a member through reconnects.
    ///
    /// # Errors
    /// What makes the request impossible; nothing was asked then. All else comes as
    /// [`Event::Answered`] with the same ticket.
    pub fn join(&mut self, room: &str, options: JoinOptions) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.join(room, options, now).inspect(|_| self.carry_out())
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn leave(&mut self, room: &str) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.leave(room, now).inspect(|_| self.carry_out())
    }

    /// Says something in a room.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn publish(&mut self, room: &str, body: &[u8]) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.publish(room, body, false, now).inspect(|_| self.carry_out())
    }

    /// Says something in a room, and hears it too, in the room's order.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn publish_and_hear(&mut self, room: &str, body: &[u8]) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.publish(room, body, true, now).inspect(|_| self.carry_out())
    }

    /// Says something to one user.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn direct(&mut self, user: &str, body: &[u8]) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.direct(user, body, now).inspect(|_| self.carry_out())
    }

    /// Asks who is in a room.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn who(&mut self, room: &str) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.who(room, now).inspect(|_| self.carry_out())
    }

    /// Asks what was said in a room behind `since`, oldest first; 0 is from the oldest on. At most
    /// `limit` messages come, where that is not 0, and at most 1,000 and 64 KiB in one answer:
    /// whoever has not reached its `head` asks again, from the last message on.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn history(&mut self, room: &str, since: Seq, limit: u16) -> Result<Ticket, RequestError> {
        let now = self.now();
        self.core.history(room, since, limit, now).inspect(|_| self.carry_out())
    }

    /// Every direct message up to `id` has arrived. Only with
    /// [`Acknowledge::ByHand`](super::Acknowledge::ByHand).
    pub fn acknowledge(&mut self, id: u64) {
        self.core.acknowledge(id);
        self.carry_out();
    }

    // What it is at.

    /// What it is doing.
    pub fn state(&self) -> &State {
        self.core.state()
    }

    /// The name it goes by, as the server said last.
    pub fn user(&self) -> &str {
        self.core.user()
    }

    /// The smoothed round trip of this connection; none before its first.
    pub fn round_trip(&self) -> Option<Duration> {
        self.core.round_trip_us().map(Duration::from_micros)
    }

    /// How many requests wait for their answer.
    pub fn waiting(&self) -> usize {
        self.core.waiting()
    }

    /// The rooms that are joined, or will be with the next connection.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.core.rooms()
    }

    /// So many events wait that nothing is read before some are taken.
    pub fn is_full(&self) -> bool {
        self.core.is_full()
    }

    /// The client's clock, in which [`State::Waiting`] names an instant.
    pub fn now_us(&self) -> u64 {
        self.now().us
    }

    // The machine.

    fn now(&self) -> Moment {
        let (now, us) = self.clock.now_and_us();
        Moment { us, wall_ms: now.wall_ms }
    }

    /// Does what the core wants done, and writes what it has to say.
    fn carry_out(&mut self) {
        self.write();
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Dial(endpoint) => self.dial(&endpoint),
                Command::HangUp => {
                    self.write();
                    self.socket = None;
                    self.candidates.clear();
                }
            }
        }
        self.write();
    }

    fn dial(&mut self, endpoint: &Endpoint) {
        self.socket = None;
        match (endpoint.host(), endpoint.port()).to_socket_addrs() {
            Ok(addresses) => {
                self.candidates = addresses.collect();
                self.dial_next("the name has no address");
            }
            Err(error) => {
                let now = self.now();
                self.core.disconnected(&format!("{endpoint} cannot be resolved: {error}"), now);
            }
        }
    }

    /// Tries the next address of the endpoint; without one, the endpoint has failed.
    fn dial_next(&mut self, reason: &str) {
        let mut reason = reason.to_owned();
        while let Some(address) = self.candidates.pop_front() {
            match self.open(address) {
                Ok(stream) => {
                    self.socket = Some(Socket { stream, open: false });
                    return;
                }
                Err(error) => reason = said(&error),
            }
        }
        let now = self.now();
        self.core.disconnected(&reason, now);
    }

    fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let Some(wiring) = &self.wiring else {
            return Err(ErrorKind::NotConnected.into());
        };
        let mut stream = TcpStream::connect(address)?;
        // Small frames go out when they are written. One that cannot be told so still works.
        let _ = stream.set_nodelay(true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        wiring.registry.register(&mut stream, wiring.token, interest)?;
        Ok(stream)
    }

    /// Looks whether a connection that was opened has become one.
    fn settle(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        if socket.open {
            return true;
        }
        let outcome = match socket.stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => socket.stream.peer_addr().map(drop),
        };
        match outcome {
            Ok(()) => {
                socket.open = true;
                let now = self.now();
                self.core.connected(now);
                true
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => false,
            Err(error) => {
                self.socket = None;
                self.dial_next(&said(&error));
                false
            }
        }
    }

    fn read(&mut self) {
        while self.settle() && !self.core.is_full() {
            let Some(socket) = &mut self.socket else {
                return;
            };
            match socket.stream.read(&mut self.scratch) {
                Ok(0) => return self.lost("the server closed the connection"),
                Ok(count) => {
                    let now = self.now();
                    self.core.receive(&self.scratch[..count], now);
                    self.carry_out();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lost(&said(&error)),
            }
        }
    }

    fn write(&mut self) {
        while let Some(socket) = &mut self.socket {
            if !socket.open {
                return;
            }
            let bytes = self.core.outgoing();
            if bytes.is_empty() {
                return;
            }
            match socket.stream.write(bytes) {
                Ok(count) => self.core.wrote(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the server said last may still be there to be read, and ends with the end.
                Err(_) => return,
            }
        }
    }

    fn lost(&mut self, reason: &str) {
        self.socket = None;
        let now = self.now();
        self.core.disconnected(reason, now);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("core", &self.core).finish_non_exhaustive()
    }
}

/// An error of the machine in words for people.
fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there".into(),
        ErrorKind::ConnectionReset => "the connection was reset".into(),
        ErrorKind::TimedOut => "the server cannot be reached".into(),
        _ => error.to_string(),
    }
}
