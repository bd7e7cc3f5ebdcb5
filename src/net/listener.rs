//! Listening sockets.
//!
//! Owns how a port is reserved at start, how a listener on it is opened for each worker, and who
//! has which. Never accepts: the worker's acceptor does. The server opens them, each worker takes
//! its share.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
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

/// A listener on the reserved `address` by itself, with the options of the workers' own.
///
/// # Errors
/// What the kernel says to `socket`, `setsockopt`, `bind` or `listen`.
pub fn open(address: SocketAddr) -> io::Result<StdListener> {
    let listener = prepare(address)?;
    SockRef::from(&listener).listen(backlog())?;
    Ok(listener)
}

/// A listener-to-be on the reserved `address`, in the kernel's group for that port. Nobody can
/// connect to it yet.
///
/// Options are set here once; accepted sockets inherit all of them.
fn prepare(address: SocketAddr) -> io::Result<StdListener> {
    let socket = bound(address, Sharing::Group)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// All listeners of a server, as the main thread has them.
///
/// They are opened before the workers' file tables part. A worker makes descriptors of its own of
/// its share, and closes what its table has of the others; so a listener lives until both its
/// worker and the main thread, or another process that was given it, have closed it. Workers must
/// have let go of their reference before the main thread lets go of the last.
#[derive(Debug)]
pub struct Listeners {
    originals: Vec<StdListener>,
    /// How many of them, from the first, listened before they came here.
    given: usize,
}

impl Listeners {
    /// At least `count` on `address`: those that are `given`, and new ones, which do not listen
    /// before [`Listeners::listen`].
    ///
    /// # Errors
    /// What the kernel says to `socket`, `setsockopt` or `bind`.
    pub fn open(given: Vec<StdListener>, address: SocketAddr, count: usize) -> io::Result<Self> {
        let (given, mut originals) = (given.len(), given);
        while originals.len() < count {
            originals.push(prepare(address)?);
        }
        Ok(Listeners { originals, given })
    }

    /// Lets clients connect to the new ones, and has the kernel give up connections of all when
    /// what was sent is not taken for so long (`TCP_USER_TIMEOUT`, tcp(7)): accepted sockets
    /// inherit it, so it costs no call for each.
    ///
    /// To be called when nothing can go wrong any more: whom the kernel leads to a new one, nobody
    /// else can take in, and those that were given are another process's until then.
    ///
    /// # Errors
    /// What the kernel says to `setsockopt` and `listen`.
    pub fn listen(&self, patience: Duration) -> io::Result<()> {
        for (number, listener) in self.originals.iter().enumerate() {
            let listener = SockRef::from(listener);
            listener.set_tcp_user_timeout(Some(patience))?;
            if number >= self.given {
                listener.listen(backlog())?;
            }
        }
        Ok(())
    }

    /// Those of worker `number` of `workers`, with descriptors of their own. Together the workers
    /// have all: behind a listener that is nobody's, clients would wait for ever.
    ///
    /// # Errors
    /// What the kernel says to the copying of descriptors.
    pub fn share_of(&self, number: usize, workers: usize) -> io::Result<Vec<TcpListener>> {
        let own = self.originals.iter().skip(number).step_by(workers);
        own.map(|listener| listener.try_clone().map(TcpListener::from_std)).collect()
    }

    /// The descriptors, to be closed in tables that have copies.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.originals.iter().map(AsRawFd::as_raw_fd)
    }

    /// Copies of all, to be sent to another process.
    ///
    /// # Errors
    /// What the kernel says to the copying of descriptors.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.originals.iter().map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }
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

    const PATIENCE: Duration = Duration::from_secs(90);

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn listening(address: SocketAddr) -> TcpListener {
        TcpListener::from_std(open(address).unwrap())
    }

    #[test]
    fn a_reserved_port_takes_several_listeners_and_no_second_reservation() {
        let reservation = reserve(any_port()).unwrap();
        let address = reservation.address();
        assert_ne!(address.port(), 0);
        let listeners = Listeners::open(Vec::new(), address, 2).unwrap();
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens yet");
        listeners.listen(PATIENCE).unwrap();
        assert_eq!(reserve(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(reservation);
        assert_eq!(reserve(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn listeners_that_were_given_are_as_their_owner_left_them_until_they_are_needed() {
        let reservation = reserve(any_port()).unwrap();
        let before = Listeners::open(Vec::new(), reservation.address(), 1).unwrap();
        before.listen(PATIENCE).unwrap();
        let patience = || SockRef::from(&before.originals[0]).tcp_user_timeout().unwrap();
        let given = vec![before.originals[0].try_clone().unwrap()];
        let listeners = Listeners::open(given, reservation.address(), 2).unwrap();
        let _doors = listeners.share_of(0, 2).unwrap();
        assert_eq!(patience(), Some(PATIENCE), "whoever was given it may yet fail");
        listeners.listen(2 * PATIENCE).unwrap();
        assert_eq!(patience(), Some(2 * PATIENCE));
    }

    #[test]
    fn somebody_waits_until_accepted() {
        let reservation = reserve(any_port()).unwrap();
        let listener = listening(reservation.address());
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
        drop((listening(address), reservation));
        // A thread of another test, with a file table of its own, may have them for a moment.
        let again = (0..1_000).find_map(|_| {
            std::thread::park_timeout(Duration::from_millis(5));
            reserve(address).ok()
        });
        assert_eq!(again.expect("nobody has the port").address(), address);
    }

    #[test]
    fn the_workers_have_every_listener_between_them() {
        for (given, workers) in [(0, 3), (2, 3), (3, 3), (5, 3), (7, 1)] {
            let reservation = reserve(any_port()).unwrap();
            let address = reservation.address();
            let before = Listeners::open(Vec::new(), address, given).unwrap();
            before.listen(PATIENCE).unwrap();
            let expected = given.max(workers);
            let listeners = Listeners::open(before.originals, address, workers).unwrap();
            listeners.listen(PATIENCE).unwrap();
            let shares: Vec<_> =
                (0..workers).map(|number| listeners.share_of(number, workers).unwrap()).collect();
            assert!(shares.iter().all(|share| !share.is_empty()), "nobody is idle");
            assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), expected);
            drop(reservation);
            // Whichever the kernel chooses, somebody can take the client in.
            drop(listeners);
            for _ in 0..20 {
                let _client = std::net::TcpStream::connect(address).unwrap();
                let mut taken_in = 0;
                for listener in shares.iter().flatten().filter(|it| somebody_waits(it)) {
                    let _stream = listener.accept().unwrap();
                    taken_in += 1;
                }
                assert_eq!(taken_in, 1);
            }
        }
    }
}
