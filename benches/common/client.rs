//! A small native client over one nonblocking socket.
//!
//! Owns the socket and the bytes of a frame whose end has not come. Never waits: who uses it polls
//! or spins.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use corebeat::base::ids::{Epoch, Ref, Seq};
use corebeat::wire::message::{Event, Hello, Request};
use corebeat::wire::native;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Source addresses to connect from, 127.0.0.1 and up. The kernel gives out some 28,000 ports for
/// each, less what other programs hold.
const SOURCES: u8 = 16;

/// Whether a connection is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    Closed,
}

/// A connection that speaks native frames.
#[derive(Debug)]
pub(crate) struct Client {
    /// The socket, to be registered with a poll.
    pub(crate) stream: TcpStream,
    partial: Vec<u8>,
}

impl Client {
    /// Connects to `server`, from the first source address that has a port left.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn connect(server: SocketAddr) -> io::Result<Client> {
        let mut result = connect_from(None, server);
        for source in 2..=SOURCES {
            match result {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    result = connect_from(Some(source), server);
                }
                other => return other,
            }
        }
        result
    }

    /// Says hello as `user`.
    pub(crate) fn hello(&mut self, user: &str) {
        let hello = Hello { version: native::VERSION, user, ..Hello::default() };
        self.request(&Request::Hello(hello));
    }

    /// Asks to become a member of `room`, without presence.
    pub(crate) fn join(&mut self, room: &str) {
        let (epoch, since) = (Epoch::default(), Seq::default());
        self.request(&Request::Join { reference: Ref(1), epoch, since, room, notify: false });
    }

    /// Sends a request.
    pub(crate) fn request(&mut self, request: &Request<'_>) {
        let mut bytes = Vec::with_capacity(128);
        native::encode_request(&mut bytes, request, false);
        self.send(&bytes);
    }

    /// Sends bytes, few enough for the kernel to take them at once. To a peer that has hung up they
    /// go nowhere; the next read tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self.stream.write(bytes) {
            Ok(count) => assert_eq!(count, bytes.len(), "the kernel takes a few frames at once"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("the server does not read")
            }
            Err(_) => {}
        }
    }

    /// Reads until nothing is left, and hands every event to `hear`.
    pub(crate) fn read(&mut self, scratch: &mut [u8], mut hear: impl FnMut(Event<'_>)) -> Line {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Line::Closed,
                Ok(count) => {
                    self.take(&scratch[..count], &mut hear);
                    if count < scratch.len() {
                        return Line::Open;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Line::Open,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Line::Closed,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], hear: &mut impl FnMut(Event<'_>)) {
        if self.partial.is_empty() {
            let used = each_event(bytes, hear);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let used = each_event(&self.partial, hear);
            self.partial.drain(..used);
        }
    }
}

/// Connects from the loopback address that ends in `source`, or from the usual one.
fn connect_from(source: Option<u8>, server: SocketAddr) -> io::Result<Client> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if let Some(last) = source {
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        // Asked for a port before the peer is known, the kernel gives only one that nobody uses,
        // and it says so as of a port in use.
        socket.bind(&SockAddr::from(source)).map_err(|_| io::ErrorKind::AddrNotAvailable)?;
    }
    socket.connect(&SockAddr::from(server))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(Client { stream: TcpStream::from_std(socket.into()), partial: Vec::new() })
}

/// Hands the events of all whole frames to `hear`; returns how many bytes those were.
fn each_event(bytes: &[u8], hear: &mut impl FnMut(Event<'_>)) -> usize {
    let mut used = 0;
    while let Some((frame, length)) =
        native::frame(&bytes[used..], usize::MAX).expect("the server sends valid frames")
    {
        if let Some(event) = native::event(&frame).expect("the server sends valid events") {
            hear(event);
        }
        used += length;
    }
    used
}
