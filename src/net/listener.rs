//! Listening sockets.
//!
//! Owns how a port is reserved at start and how each worker opens its own listener on it. Never
//! accepts: the worker's acceptor does. The server calls [`reserve`] once, each worker [`open`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use mio::net::TcpListener;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// The backlog asked for where the system's limit cannot be read.
const BACKLOG_FALLBACK: i32 = 4_096;

/// A port held for the workers until all of them listen on it.
///
/// It is bound and does not listen, so no connection waits in it and none is reset when it goes.
/// While it is held, nobody who asks the kernel for any free port is given this one.
#[derive(Debug)]
pub struct Reservation {
    socket: Socket,
    address: SocketAddr,
}

impl Reservation {
    /// The address that is held, with a real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The descriptor, for a worker that closes the copy in its own file table.
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Holds `address` for listeners that [`open`] will make.
///
/// The socket is bound without `SO_REUSEPORT`: with it, a second server of the same user could
/// join the first one's port, and the kernel would deal out clients between the two.
///
/// # Errors
/// What `bind` says: [`io::ErrorKind::AddrInUse`] where anybody listens there already.
pub fn reserve(address: SocketAddr) -> io::Result<Reservation> {
    let socket = bound(address, Sharing::Alone)?;
    let address = local_address(&socket)?;
    Ok(Reservation { socket, address })
}

/// A listener of one worker on the reserved `address`, in the kernel's group for that port.
///
/// Options are set here once; accepted sockets inherit all of them.
///
/// # Errors
/// What the kernel says to `socket`, `setsockopt`, `bind` or `listen`.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, Sharing::Group)?;
    socket.set_tcp_nodelay(true)?;
    socket.listen(backlog())?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Has the kernel give up connections of this listener when what was sent is not taken for so long
/// (`TCP_USER_TIMEOUT`, tcp(7)). Accepted sockets inherit it, so it costs no call for each.
///
/// # Errors
/// What the kernel says to `setsockopt`.
pub fn give_up_after(listener: &TcpListener, timeout: Duration) -> io::Result<()> {
    SockRef::from(listener).set_tcp_user_timeout(Some(timeout))
}

/// Whether a connection waits to be accepted.
///
/// An `accept` that finds nobody is no cheap way to learn that: Linux makes the new socket's inode
/// and file before it looks, and throws them away again. Asking costs a twelfth of it.
pub fn somebody_waits(listener: &TcpListener) -> bool {
    let mut asked = [PollFd::new(listener, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Whatever keeps the kernel from answering, `accept` will tell.
    poll(&mut asked, Some(&at_once)).map_or(true, |ready| ready > 0)
}

/// How many connections may wait to be accepted: the most that the system allows.
pub fn backlog() -> i32 {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(BACKLOG_FALLBACK)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Group,
}

fn bound(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        // `[::]` serves both families, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // A port whose last connections are still in TIME_WAIT can be listened on again.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel bound the listener to no internet address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_reserved_port_takes_several_listeners_and_no_second_reservation() {
        let reservation = reserve(any_port()).unwrap();
        let address = reservation.address();
        assert_ne!(address.port(), 0);
        let _first = open(address).unwrap();
        let _second = open(address).unwrap();
        assert_eq!(reserve(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(reservation);
        assert_eq!(reserve(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn somebody_waits_until_accepted() {
        let reservation = reserve(any_port()).unwrap();
        let listener = open(reservation.address()).unwrap();
        assert!(!somebody_waits(&listener));
        let _peer = std::net::TcpStream::connect(reservation.address()).unwrap();
        assert!(somebody_waits(&listener));
        let _stream = listener.accept().unwrap();
        assert!(!somebody_waits(&listener));
    }

    #[test]
    fn a_plain_listener_makes_the_port_busy() {
        let plain = std::net::TcpListener::bind(any_port()).unwrap();
        let error = reserve(plain.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_is_free_again_once_its_listeners_are_gone() {
        let reservation = reserve(any_port()).unwrap();
        let address = reservation.address();
        drop((open(address).unwrap(), reservation));
        assert_eq!(reserve(address).unwrap().address(), address);
    }
}
