//! Descriptors on their way from one process to another.
//!
//! Owns how they travel over a Unix socket, beside bytes (`SCM_RIGHTS`, unix(7)). Never knows what
//! they are. The engine sends a server's listeners by it, and receives them; workers hand each
//! other connections ([`hatch`](super::hatch)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::base::limits::DESCRIPTORS_AT_ONCE;

/// Sends bytes, at least one, with at most [`DESCRIPTORS_AT_ONCE`] descriptors. Returns how many
/// bytes were taken; the descriptors go with the first.
///
/// # Errors
/// What the kernel says to `sendmsg`. Nothing was sent then.
pub fn send(stream: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    assert!(descriptors.len() <= DESCRIPTORS_AT_ONCE && !bytes.is_empty());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let has_room = control.push(SendAncillaryMessage::ScmRights(descriptors));
    assert!(has_room, "the space is as large as the most");
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes, and adds the descriptors that came with them to `into`. Returns how many bytes
/// came; 0 at the end.
///
/// # Errors
/// What the kernel says to `recvmsg`, and where it had to drop descriptors because this process
/// may hold no more.
pub fn receive(stream: impl AsFd, buffer: &mut [u8], into: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            into.extend(descriptors);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("descriptors were lost: the limit on open files is too low"));
    }
    Ok(received.bytes)
}

/// Whether [`receive`] failed because the kernel had to drop descriptors. The bytes were taken.
pub fn were_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_byte_and_works() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert_eq!(send(&here, b"x", &[writer.as_fd()]).unwrap(), 1);
        (&here).write_all(b"yz").unwrap();
        drop((here, writer));
        let (mut bytes, mut arrived) = (Vec::new(), Vec::new());
        let mut buffer = [0; 2];
        loop {
            match receive(&there, &mut buffer, &mut arrived).unwrap() {
                0 => break,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(bytes, b"xyz");
        let mut pipe = std::fs::File::from(arrived.pop().unwrap());
        assert!(arrived.is_empty());
        pipe.write_all(b"through").unwrap();
        drop(pipe);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "through");
    }

    #[test]
    fn as_many_as_go_at_once_arrive_and_close_with_the_process() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let many = [writer.as_fd(); DESCRIPTORS_AT_ONCE];
        send(&here, b"x", &many).unwrap();
        let mut arrived = Vec::new();
        receive(&there, &mut [0; 8], &mut arrived).unwrap();
        assert_eq!(arrived.len(), DESCRIPTORS_AT_ONCE);
        drop((writer, arrived));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "none is left open");
    }
}
