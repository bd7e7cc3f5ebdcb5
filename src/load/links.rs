//! The sockets of one thread.
//!
//! Owns each connection's stream beside its [`Peer`], and the few bytes that wait: of requests that
//! the kernel did not take, and of frames that have come in part. A connection with neither owns no
//! buffer. Never understands a byte. The driver calls it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::HashMap;

use super::peer::Peer;
use super::plan::Source;

/// Bytes that may wait for one connection before what it has to say is dropped and counted.
const BACKLOG_MAX: usize = 4 << 20;
/// The receive buffer of a connection that will not read: the least that Linux gives.
const SLOW_RECEIVE_BUFFER: usize = 2_304;
/// And of one that did not read and does now.
const WIDE_RECEIVE_BUFFER: usize = 1 << 20;

/// One connection.
#[derive(Debug, Default)]
struct Link {
    stream: Option<TcpStream>,
    peer: Peer,
}

// One per connection. In debug builds mio adds an identity for its own checks.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Link>() <= 24);

/// What became of bytes to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has them, or will get them before all later ones.
    Taken,
    /// The connection is not there yet.
    TooEarly,
    /// Too many bytes wait already. These were dropped.
    Full,
    /// The connection is gone.
    Broken,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// So many bytes lie at the head of the buffer. The socket may hold more where `more` is set.
    Bytes {
        /// How many, those of an earlier read included.
        len: usize,
        /// The buffer was filled.
        more: bool,
    },
    /// No bytes now.
    Nothing,
    /// The peer has closed its side.
    End,
    /// The kernel gave the connection up, and says why.
    Failure(io::ErrorKind),
}

/// All connections of one thread, by their place there.
#[derive(Debug)]
pub struct Links {
    target: SocketAddr,
    links: Vec<Link>,
    backlogs: HashMap<u32, Vec<u8>>,
    partials: HashMap<u32, Vec<u8>>,
}

impl Links {
    /// `count` connections to `target`, none of them open.
    pub fn new(target: SocketAddr, count: u32) -> Links {
        let mut links = Vec::new();
        links.resize_with(count as usize, Link::default);
        Links { target, links, backlogs: HashMap::new(), partials: HashMap::new() }
    }

    /// How many there are, open or not.
    pub fn len(&self) -> u32 {
        self.links.len() as u32
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// What is known of one.
    pub fn peer(&self, local: u32) -> &Peer {
        &self.links[local as usize].peer
    }

    /// What is known of one, to be changed.
    pub fn peer_mut(&mut self, local: u32) -> &mut Peer {
        &mut self.links[local as usize].peer
    }

    /// Begins to connect one. It is registered once, for both directions, edge-triggered.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(
        &mut self,
        registry: &Registry,
        local: u32,
        source: Source,
        slow: bool,
    ) -> io::Result<()> {
        // Elsewhere than on 127.0.0.0/8 this machine has the addresses that it has.
        let on_loopback = self.target.is_ipv4() && self.target.ip().is_loopback();
        let address = source.address.filter(|_| on_loopback);
        let from = address.map(|address| SocketAddrV4::new(address, 0));
        let socket = match connect(self.target, from, slow) {
            Err(error) if on_loopback && error.kind() == io::ErrorKind::AddrNotAvailable => {
                connect(self.target, Some(source.spare), slow)
            }
            other => other,
        }?;
        let mut stream = TcpStream::from_std(socket.into());
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(local as usize), both)?;
        self.links[local as usize].stream = Some(stream);
        Ok(())
    }

    /// Ends one by a reset, so that no port is left in `TIME_WAIT`.
    pub fn reset(&mut self, local: u32) {
        self.backlogs.remove(&local);
        self.partials.remove(&local);
        if let Some(stream) = self.links[local as usize].stream.take() {
            // Where the kernel refuses, the connection ends in the usual way.
            let _ = SockRef::from(&stream.as_fd()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Gives one that did not read a buffer of a usual size, so that it can catch up.
    pub fn widen(&self, local: u32) {
        if let Some(stream) = &self.links[local as usize].stream {
            // Where the kernel refuses, it takes longer.
            let _ = SockRef::from(&stream.as_fd()).set_recv_buffer_size(WIDE_RECEIVE_BUFFER);
        }
    }

    /// Writes `bytes`, behind all that waits already.
    pub fn send(&mut self, local: u32, bytes: &[u8]) -> Sent {
        if let Some(backlog) = self.backlogs.get_mut(&local) {
            if backlog.len() + bytes.len() > BACKLOG_MAX {
                return Sent::Full;
            }
            backlog.extend_from_slice(bytes);
            return Sent::Taken;
        }
        let Some(stream) = &mut self.links[local as usize].stream else { return Sent::Broken };
        match write_some(stream, bytes) {
            Ok(count) if count == bytes.len() => Sent::Taken,
            Ok(0) if !self.links[local as usize].peer.is_greeted() => Sent::TooEarly,
            Ok(count) => {
                self.backlogs.insert(local, bytes[count..].to_vec());
                Sent::Taken
            }
            Err(_) => Sent::Broken,
        }
    }

    /// The kernel has room again: writes what waits.
    pub fn flush(&mut self, local: u32) -> Sent {
        let Some(backlog) = self.backlogs.get_mut(&local) else { return Sent::Taken };
        let Some(stream) = &mut self.links[local as usize].stream else { return Sent::Broken };
        match write_some(stream, backlog) {
            Ok(count) if count == backlog.len() => {
                self.backlogs.remove(&local);
                Sent::Taken
            }
            Ok(count) => {
                backlog.drain(..count);
                Sent::Taken
            }
            Err(_) => Sent::Broken,
        }
    }

    /// Whether bytes wait to be written.
    pub fn is_blocked(&self, local: u32) -> bool {
        !self.backlogs.is_empty() && self.backlogs.contains_key(&local)
    }

    /// Reads once, behind what an earlier read left over.
    pub fn read(&mut self, local: u32, buffer: &mut [u8]) -> Arrival {
        let Some(stream) = &mut self.links[local as usize].stream else { return Arrival::Nothing };
        let mut kept = 0;
        if !self.partials.is_empty()
            && let Some(partial) = self.partials.get(&local)
        {
            kept = partial.len();
            buffer[..kept].copy_from_slice(partial);
        }
        loop {
            return match stream.read(&mut buffer[kept..]) {
                Ok(0) => Arrival::End,
                Ok(count) => {
                    Arrival::Bytes { len: kept + count, more: kept + count == buffer.len() }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Arrival::Nothing,
                Err(error) => Arrival::Failure(error.kind()),
            };
        }
    }

    /// Keeps the part of a frame that has come, for the next read.
    pub fn keep(&mut self, local: u32, part: &[u8]) {
        if part.is_empty() {
            if !self.partials.is_empty() {
                self.partials.remove(&local);
            }
            return;
        }
        let partial = self.partials.entry(local).or_default();
        partial.clear();
        partial.extend_from_slice(part);
    }
}

/// Begins to connect, from a certain address or any. Port 0 leaves the port to the kernel.
fn connect(target: SocketAddr, from: Option<SocketAddrV4>, slow: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if slow {
        socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER)?;
    }
    if let Some(from) = from {
        match from.port() {
            // The port is chosen when it connects: one that `bind` chooses would be taken away
            // from all other connections of this machine.
            0 => setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?,
            _ => socket.set_reuse_address(true)?,
        }
        socket.bind(&SockAddr::from(from))?;
    }
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

/// Writes as much as the kernel takes now.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::{Events, Poll};

    use super::*;

    const ANYWHERE: Source =
        Source { address: None, spare: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0) };

    struct Bench {
        poll: Poll,
        links: Links,
    }

    fn bench(source: Source) -> (Bench, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        let mut links = Links::new(listener.local_addr().unwrap(), 1);
        links.open(poll.registry(), 0, source, false).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let mut bench = Bench { poll, links };
        bench.links.peer_mut(0).ask(0);
        bench.links.peer_mut(0).greet();
        (bench, theirs)
    }

    fn wait(poll: &mut Poll) {
        poll.poll(&mut Events::with_capacity(8), None).unwrap();
    }

    #[test]
    fn a_connection_comes_from_where_the_plan_says() {
        let address = Some("127.0.0.3".parse().unwrap());
        let (_bench, theirs) = bench(Source { address, ..ANYWHERE });
        assert_eq!(theirs.peer_addr().unwrap().ip().to_string(), "127.0.0.3");
    }

    #[test]
    fn a_connection_can_bring_its_own_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.1.0.9:0").unwrap().local_addr().unwrap().port();
        let from = SocketAddrV4::new("127.1.0.9".parse().unwrap(), free);
        let _ours = connect(listener.local_addr().unwrap(), Some(from), false).unwrap();
        let (_theirs, peer) = listener.accept().unwrap();
        assert_eq!(peer, SocketAddr::from(from));
    }

    #[test]
    fn a_part_of_a_frame_comes_again_with_the_next_read() {
        let (mut bench, mut theirs) = bench(ANYWHERE);
        let mut buffer = [0; 8];
        assert_eq!(bench.links.read(0, &mut buffer), Arrival::Nothing);
        theirs.write_all(b"abc").unwrap();
        wait(&mut bench.poll);
        while bench.links.read(0, &mut buffer) != (Arrival::Bytes { len: 3, more: false }) {
            wait(&mut bench.poll);
        }
        bench.links.keep(0, b"bc");
        theirs.write_all(b"d").unwrap();
        while bench.links.read(0, &mut buffer) != (Arrival::Bytes { len: 3, more: false }) {
            wait(&mut bench.poll);
        }
        assert_eq!(&buffer[..3], b"bcd");
        bench.links.keep(0, b"");
        drop(theirs);
        wait(&mut bench.poll);
        assert_eq!(bench.links.read(0, &mut buffer), Arrival::End);
    }

    #[test]
    fn what_the_kernel_does_not_take_waits_in_order_and_within_bounds() {
        let (mut bench, mut theirs) = bench(ANYWHERE);
        let chunk = vec![7; 1 << 20];
        let sent = (0..64).take_while(|_| bench.links.send(0, &chunk) == Sent::Taken).count();
        assert!(bench.links.is_blocked(0));
        assert!(sent < 64, "a bound holds");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all.len()).unwrap_or(all.len())
        });
        while bench.links.is_blocked(0) {
            wait(&mut bench.poll);
            assert_eq!(bench.links.flush(0), Sent::Taken);
        }
        bench.links.links.clear();
        assert_eq!(reader.join().unwrap(), sent << 20);
    }

    #[test]
    fn a_reset_leaves_the_peer_with_an_error() {
        let (mut bench, mut theirs) = bench(ANYWHERE);
        bench.links.reset(0);
        let error = theirs.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(bench.links.send(0, b"x"), Sent::Broken);
    }
}
