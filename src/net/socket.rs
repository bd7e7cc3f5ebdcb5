//! One connected socket as a worker remembers it.
//!
//! Owns the stream, the generation that tells it from earlier tenants of its slot, when it was
//! opened, how far its input has been read, and what an error of the kernel means. Never keeps
//! bytes. The worker holds all of them in a [`SocketTable`](super::socket_table::SocketTable).

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::kernel::{tcp_info, unacknowledged_bytes};
use super::tcp_info::TcpInfo;
use crate::base::counters::CloseReason;
use crate::base::limits::UNACKNOWLEDGED_BYTES_GUESS;
use crate::base::time::Tick;

/// First TCP keepalive probe after this long without a segment, and the pace of further ones. When
/// the host is given up is for [`Socket::give_up_after`] to say, or its listener.
///
/// A text client has no PONG to send, so the kernel finds out whether its host is still there.
/// Nobody else needs it: heartbeats do the same and more, and a million connections would be probed
/// by the kernel in herds.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// How far a socket's input has been read.
///
/// Readiness is edge-triggered: the kernel tells once that bytes have come. Whoever stops before
/// all of them are read must remember having done so, and this is the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// All that the kernel has told of is read. The next bytes bring an event.
    Drained,
    /// Bytes may wait; the socket stands in the queue of those to be read.
    Ready,
    /// Bytes may wait; the heart wants them left in the kernel until it says otherwise.
    Paused,
    /// The peer will send no more, or the socket failed. Never read again.
    Ended,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// So many bytes.
    Bytes(usize),
    /// No bytes now.
    Nothing,
    /// The peer has closed its side.
    End,
    /// The kernel reported an error; the connection is gone, for this reason.
    Failure(CloseReason),
}

/// A connected socket: one entry of a worker's slab.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    generation: u32,
    opened: Tick,
    input: Input,
    /// An event has told that the peer closed its side: there will be no further one.
    peer_closed: bool,
}

// One per connection. In debug builds mio adds an identity for its own checks.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<SlabEntry>() == 16, "the slab's own word fits into the padding");

/// As the slab lays its entries out.
#[cfg(not(debug_assertions))]
#[expect(dead_code, reason = "only its size matters")]
enum SlabEntry {
    Vacant(usize),
    Occupied(Socket),
}

impl Socket {
    /// A newly accepted stream. Nothing is known of its input until the first event.
    pub fn new(stream: TcpStream, generation: u32, opened: Tick) -> Socket {
        Socket { stream, generation, opened, input: Input::Drained, peer_closed: false }
    }

    /// The number that tells this connection from others that had the same slot.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// When it was accepted.
    pub fn opened(&self) -> Tick {
        self.opened
    }

    /// How far its input has been read.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Says that the queue of sockets to be read holds it, or does not any more.
    pub(super) fn set_input(&mut self, input: Input) {
        self.input = input;
    }

    /// The kernel has told that the peer closed its side.
    pub(super) fn note_peer_closed(&mut self) {
        self.peer_closed = true;
    }

    /// Reads once, and notes whether more may wait.
    ///
    /// A read that does not fill `buffer` has emptied the socket, and the next byte brings an
    /// event; unless the peer has closed, for then the only thing that follows is the read of
    /// zero bytes, of which no event tells.
    pub fn read(&mut self, buffer: &mut [u8]) -> Arrival {
        match self.stream.read(buffer) {
            Ok(0) => {
                self.input = Input::Ended;
                Arrival::End
            }
            Ok(count) => {
                let more = count == buffer.len() || self.peer_closed;
                self.input = if more { Input::Ready } else { Input::Drained };
                Arrival::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.input = Input::Drained;
                Arrival::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.input = Input::Ready;
                Arrival::Nothing
            }
            Err(error) => {
                self.input = Input::Ended;
                Arrival::Failure(reason_of(&error))
            }
        }
    }

    /// Why the socket failed, where an event told that it did.
    pub fn failure(&self) -> CloseReason {
        match self.stream.take_error() {
            Ok(Some(error)) | Err(error) => reason_of(&error),
            Ok(None) => CloseReason::SocketError,
        }
    }

    /// Hands `slices` to the kernel in one call. Returns how many bytes it took.
    ///
    /// # Errors
    /// What the kernel says; [`io::ErrorKind::WouldBlock`] when it has no room.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            // One slice is the common case, and `send` is cheaper than `writev`.
            let written = match slices {
                [only] => self.stream.write(only),
                several => self.stream.write_vectored(several),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Bytes that the kernel took and the peer's kernel has not acknowledged: all that may be lost
    /// with the connection, but for what the peer did not read of what its kernel acknowledged.
    ///
    /// Where the kernel does not say it is taken for [`UNACKNOWLEDGED_BYTES_GUESS`].
    pub fn unacknowledged_bytes(&self) -> usize {
        let asked = unacknowledged_bytes(self.stream.as_fd());
        asked.unwrap_or(UNACKNOWLEDGED_BYTES_GUESS)
    }

    /// What the kernel knows of the connection; none where it does not say.
    pub fn tcp_info(&self) -> Option<TcpInfo> {
        tcp_info(self.stream.as_fd()).ok().flatten()
    }

    /// Has the kernel give the connection up when what was sent is not taken for so long
    /// (`TCP_USER_TIMEOUT`, tcp(7)): not acknowledged by the peer's host, or without room there.
    ///
    /// A socket that has failed meanwhile has no use for it.
    pub fn give_up_after(&self, timeout: Duration) {
        let _ = SockRef::from(&self.stream).set_tcp_user_timeout(Some(timeout));
    }

    /// After how long the kernel gives it up; none where only retries are counted.
    #[cfg(test)]
    pub(crate) fn user_timeout(&self) -> io::Result<Option<Duration>> {
        SockRef::from(&self.stream).tcp_user_timeout()
    }

    /// Has the kernel probe the peer's host while nothing is said.
    ///
    /// A socket that has failed meanwhile cannot be probed; its next read says so.
    pub fn probe_host(&self) {
        let _ = SockRef::from(&self.stream).set_tcp_keepalive(&KEEPALIVE);
    }

    /// Tells the peer that no more will come.
    ///
    /// A socket that has failed meanwhile cannot be told; its next read says so.
    pub fn shut_down_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Why a connection ended of which the kernel says this.
pub fn reason_of(error: &io::Error) -> CloseReason {
    match error.kind() {
        // A reset that meets a half-closed connection is told as a broken pipe.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
        // What a router said of the host is told in place of the timeout.
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => CloseReason::Unacknowledged,
        _ => CloseReason::SocketError,
    }
}
