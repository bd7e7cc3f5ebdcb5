//! What the kernel knows of a TCP connection.
//!
//! Owns which of the kernel's many numbers are worth keeping when a connection ends, and where they
//! lie in its answer (`struct tcp_info` of linux/tcp.h, which only ever grows at its end). Never
//! asks: a [`Socket`](super::socket::Socket) does.

/// Bytes of the kernel's answer that are looked at. A newer kernel has more to say.
pub(super) const TCP_INFO_BYTES: usize = 232;

/// The numbers of one connection, as the kernel has them at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that came from the peer, the end of its stream not counted.
    pub bytes_received: u64,
    /// Bytes that the peer's kernel has acknowledged.
    pub bytes_acknowledged: u64,
    /// Bytes that it has not: sent or yet to be sent.
    pub send_queue: u32,
    /// Segments on their way to the peer. 0 after a reset: the kernel has forgotten them.
    pub unacknowledged_segments: u32,
    /// Segments that were sent again, in the life of the connection.
    pub retransmits: u32,
    /// The kernel's smoothed round trip, in microseconds.
    pub round_trip_us: u32,
    /// Bytes that the peer's kernel said it had room for: 0 for a peer that does not read. None
    /// before Linux 5.4.
    pub peer_window: Option<u32>,
    /// The peer has closed its side.
    pub peer_finished: bool,
}

// States of TCP in which the peer's FIN has come, as linux/tcp_states.h numbers them.
const TIME_WAIT: u8 = 6;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

impl TcpInfo {
    /// Reads the kernel's answer, of which so many bytes came; none where it is shorter than a
    /// kernel has given since Linux 4.19.
    pub(super) fn parse(answer: &[u8]) -> Option<TcpInfo> {
        let state = *answer.first()?;
        let peer_finished = matches!(state, TIME_WAIT | CLOSE_WAIT | LAST_ACK | CLOSING);
        let sent = long(answer, 200)?.saturating_sub(long(answer, 208)?);
        let bytes_acknowledged = long(answer, 120)?;
        let in_flight = sent.saturating_sub(bytes_acknowledged);
        let unsent = u64::from(word(answer, 144)?);
        Some(TcpInfo {
            // The kernel counts the FIN as one byte.
            bytes_received: long(answer, 128)?.saturating_sub(u64::from(peer_finished)),
            bytes_acknowledged,
            send_queue: u32::try_from(in_flight + unsent).unwrap_or(u32::MAX),
            unacknowledged_segments: word(answer, 24)?,
            retransmits: word(answer, 100)?,
            round_trip_us: word(answer, 68)?,
            peer_window: word(answer, 228),
            peer_finished,
        })
    }
}

fn word(answer: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?))
}

fn long(answer: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*answer.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use socket2::SockRef;

    use super::super::kernel::{tcp_info, unacknowledged_bytes};
    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, peer)
    }

    fn ask(stream: &TcpStream) -> TcpInfo {
        tcp_info(stream.as_fd()).unwrap().expect("this kernel is newer than 4.19")
    }

    fn wait_for(stream: &TcpStream, what: PollFlags) {
        let mut awaited = [PollFd::new(stream, what)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut awaited, Some(&patience)).unwrap(), 1);
    }

    #[test]
    fn bytes_are_counted_in_both_directions_and_ends_of_streams_are_not() {
        let (mut stream, mut peer) = pair();
        peer.write_all(b"to the server").unwrap();
        stream.write_all(b"and back").unwrap();
        peer.read_exact(&mut [0; 8]).unwrap();
        stream.read_exact(&mut [0; 13]).unwrap();
        let before = ask(&stream);
        assert_eq!((before.bytes_received, before.bytes_acknowledged), (13, 8));
        assert_eq!((before.send_queue, before.unacknowledged_segments), (0, 0));
        assert!(before.round_trip_us > 0 && before.peer_window > Some(0) && !before.peer_finished);
        peer.shutdown(Shutdown::Write).unwrap();
        wait_for(&stream, PollFlags::RDHUP);
        let after = ask(&stream);
        assert!(after.peer_finished);
        assert_eq!(after.bytes_received, 13);
    }

    #[test]
    fn what_a_peer_does_not_read_stands_in_the_send_queue_even_after_its_reset() {
        let (mut stream, peer) = pair();
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        loop {
            match stream.write(&[0; 64 << 10]) {
                Ok(count) => written += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let full = ask(&stream);
        assert_eq!(full.bytes_acknowledged + u64::from(full.send_queue), written);
        assert!(full.send_queue > 0);
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        wait_for(&stream, PollFlags::empty());
        let reset = ask(&stream);
        assert_eq!(reset.send_queue as usize, unacknowledged_bytes(stream.as_fd()).unwrap());
        assert!(reset.send_queue > 0);
    }

    #[test]
    fn a_short_answer_is_none_and_one_of_an_older_kernel_lacks_the_window() {
        assert_eq!(TcpInfo::parse(&[1; 104]), None);
        let answer = [1; 216];
        assert_eq!(TcpInfo::parse(&answer).unwrap().peer_window, None);
    }
}
