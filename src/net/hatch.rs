//! A way for connections from one worker to another.
//!
//! Owns the pair of sockets through which the kernel carries a descriptor from one private file
//! table into another ([`descriptors`]). Never waits, and never decides who is handed over:
//! the engine's steering does. A worker reads its own [`Hatch`]; all have the [`Slot`] of each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use mio::event::Source;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::descriptors;

/// The side into which connections are put. It may be used from several threads, and in every
/// file table that it was opened in or copied to.
#[derive(Debug)]
pub struct Slot(OwnedFd);

/// The side from which they are taken.
#[derive(Debug)]
pub struct Hatch(OwnedFd);

/// What came out of a hatch.
#[derive(Debug)]
pub enum Handed {
    /// A connection.
    Connection(TcpStream),
    /// One that the kernel dropped under way, because no descriptor was free.
    Lost,
    /// Nothing more has come.
    Nothing,
}

/// A hatch, whose readiness gives `poll` an event for `token`.
///
/// # Errors
/// What the kernel says to the sockets and their registration.
pub fn hatch(poll: &Poll, token: Token) -> io::Result<(Slot, Hatch)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // With records, so that each message has its own descriptor, whoever else writes.
    let (slot, hatch) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    SourceFd(&hatch.as_raw_fd()).register(poll.registry(), token, Interest::READABLE)?;
    Ok((Slot(slot), Hatch(hatch)))
}

impl Slot {
    /// Hands a connection over. What of it was not read yet goes with it.
    ///
    /// # Errors
    /// The connection itself, where the hatch is full: it was not handed over.
    pub fn put(&self, stream: TcpStream) -> Result<(), TcpStream> {
        let sent = descriptors::send(&self.0, &[0], &[stream.as_fd()]);
        // Ours is closed here: from now on it is open where it is going.
        if sent.is_ok() { Ok(()) } else { Err(stream) }
    }

    /// The descriptor's number, the same in every table.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Hatch {
    /// The next connection.
    pub fn take(&self) -> Handed {
        let mut came = Vec::with_capacity(1);
        match descriptors::receive(&self.0, &mut [0], &mut came) {
            Ok(0) => Handed::Nothing,
            Ok(_) => came.pop().map_or(Handed::Lost, |descriptor| {
                Handed::Connection(TcpStream::from_std(descriptor.into()))
            }),
            Err(error) if descriptors::were_lost(&error) => Handed::Lost,
            Err(_) => Handed::Nothing,
        }
    }

    /// The descriptor's number, the same in every table.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use mio::Events;

    use super::*;
    use crate::net::kernel;

    const TOKEN: Token = Token(7);

    fn connection(listener: &TcpListener) -> (std::net::TcpStream, TcpStream) {
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (taken, _) = listener.accept().unwrap();
        taken.set_nonblocking(true).unwrap();
        (peer, TcpStream::from_std(taken))
    }

    #[test]
    fn a_connection_goes_from_one_private_table_into_another() {
        let mut poll = Poll::new().unwrap();
        let (slot, hatch) = hatch(&poll, TOKEN).unwrap();
        let giver = thread::spawn(move || {
            // Where private tables are forbidden, the shared one must do as well.
            let _table = kernel::make_private_table();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (mut peer, taken) = connection(&listener);
            peer.write_all(b"said before").unwrap();
            slot.put(taken).unwrap();
            let mut answer = [0; 6];
            peer.read_exact(&mut answer).unwrap();
            answer
        });
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        assert!(events.iter().any(|event| event.token() == TOKEN));
        let Handed::Connection(stream) = hatch.take() else { panic!("it was handed over") };
        assert!(matches!(hatch.take(), Handed::Nothing));
        let mut stream = std::net::TcpStream::from(OwnedFd::from(stream));
        stream.set_nonblocking(false).unwrap();
        let mut heard = [0; 11];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"said before");
        stream.write_all(b"answer").unwrap();
        assert_eq!(&giver.join().unwrap(), b"answer");
    }

    #[test]
    fn a_full_hatch_gives_the_connection_back() {
        let poll = Poll::new().unwrap();
        let (slot, hatch) = hatch(&poll, TOKEN).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut peers, mut put) = (Vec::new(), 0);
        let kept = loop {
            let (peer, taken) = connection(&listener);
            peers.push(peer);
            match slot.put(taken) {
                Ok(()) => put += 1,
                Err(stream) => break stream,
            }
        };
        assert!(put > 1, "{put} fitted");
        assert!(kept.peer_addr().is_ok(), "it is open");
        let taken = std::iter::from_fn(|| match hatch.take() {
            Handed::Connection(stream) => Some(stream),
            _ => None,
        });
        assert_eq!(taken.count(), put);
    }
}
