//! What is asked of the kernel below the types of Rust.
//!
//! Owns the limit on open files, the private descriptor table of a worker, the questions what of a
//! socket's bytes is still with the kernel and what else it knows of the connection, and the return
//! of memory that is free. Never opens or owns a descriptor. The only file with `unsafe`: the
//! kernel offers these calls on bare numbers, and no type of Rust says in which table a number is
//! meant, or what a call on it writes where; and the allocator is C. The server raises the limit;
//! each worker makes its table private and gives memory back; sockets ask.
//!
//! Why a table of one's own: the kernel counts references on every use of a descriptor in a shared
//! table and none in a private one, accepting does not contend with other cores, and the limit on
//! open files holds for each table.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::thread;

use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::tcp_info::{TCP_INFO_BYTES, TcpInfo};

/// The number of the request, in linux/sockios.h; the same on every architecture but MIPS, PowerPC
/// and SPARC, where the kernel would refuse it.
const SIOCOUTQ: Opcode = 0x5411;

/// Raises the soft limit on open files to the hard one, as far as the kernel agrees.
///
/// Returns how many descriptors one table may hold now. Never fails: where the kernel refuses, the
/// limit is what it was.
pub fn raise_open_file_limit() -> u64 {
    let found = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: found.maximum, maximum: found.maximum };
    let limit = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => found.maximum,
        Err(_) => found.current,
    };
    limit.unwrap_or(u64::MAX)
}

/// How many descriptors one table may hold now. Somebody else may have changed it (`prlimit`).
pub fn open_file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many descriptors this thread's table holds.
///
/// # Errors
/// What the kernel says to the reading of `/proc`.
pub fn open_descriptors() -> io::Result<usize> {
    // The listing's own descriptor is in the list.
    Ok(fs::read_dir("/proc/thread-self/fd")?.count().saturating_sub(1))
}

/// Bytes written to a TCP socket that its peer's kernel has not acknowledged, as Linux counts them
/// (`SIOCOUTQ`, tcp(7)), also after a reset.
///
/// [`tcp_info`] says the same where the kernel is new enough. Whether a session loses messages must
/// not hang on that, so this is asked for by itself: every kernel knows it.
///
/// # Errors
/// What the kernel says to `ioctl`, to anything but a TCP socket that is or was connected.
pub(super) fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: the kernel answers this request on a socket by writing one `int` and nothing else,
    // and on anything that is no socket either does the same (a terminal) or fails; `Getter` gives
    // it the room of one `c_int`, which any value is valid for, and reads it only where the call
    // succeeded. The descriptor is open as long as it is borrowed.
    let bytes: c_int = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// What the kernel knows of a TCP connection (`TCP_INFO`, tcp(7)), also after a reset. None where
/// the kernel is too old to say it.
///
/// # Errors
/// What the kernel says to `getsockopt`, to anything but a TCP socket.
pub(super) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<Option<TcpInfo>> {
    let mut answer = [0_u8; TCP_INFO_BYTES];
    let mut length = TCP_INFO_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes behind the first pointer, for any option of
    // any socket, and so many belong to `answer`, of which every byte may have every value. Behind
    // the second it writes one `socklen_t`, which `length` is. Neither is kept beyond the call, and
    // the descriptor is open as long as it is borrowed.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            answer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::try_from(length).unwrap_or(0).min(TCP_INFO_BYTES);
    Ok(TcpInfo::parse(&answer[..written]))
}

/// Gives the memory back to the kernel that is free: all that this thread has freed and did not
/// take again, and what others did, as far as their part of the allocator agrees.
///
/// Takes as long as it takes to look at each page of this thread's heap, of 64 KiB at least.
pub fn give_back_memory() {
    // SAFETY: the call has no argument that could be wrong. It looks at nothing but the heap of
    // the thread that calls, which no other thread uses, and the arenas, which the allocator itself
    // guards, and no block that is in use is moved or changed. Where this allocator is linked and
    // another one installed, there is nothing in its heap.
    #[cfg(feature = "mimalloc")]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
    // SAFETY: any argument is right, the number of bytes to keep at the end of the heap; glibc
    // locks each of its arenas, and touches only what is free (malloc_trim(3)).
    #[cfg(all(not(feature = "mimalloc"), target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether this process may give its threads tables of their own.
///
/// Tried on a thread that ends at once, because there is no way back. Container runtimes are known
/// to forbid the call.
///
/// # Errors
/// What the kernel says to `unshare`, or to the making of a thread.
pub fn try_private_table() -> io::Result<()> {
    let trial = thread::Builder::new().name("cb-trial".into());
    trial
        .spawn(|| make_private_table().map(drop))?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("panic")))
}

/// Proof that the current thread has a descriptor table of its own.
#[derive(Debug)]
pub struct PrivateTable {
    /// The proof does not hold on another thread, so it cannot be sent there.
    here: PhantomData<*const ()>,
}

/// Gives the current thread its own copy of the descriptor table.
///
/// From here on a descriptor opened by this thread exists for no other, and the other way round;
/// what was open before exists in both. So: whatever several threads use (wakers, the signals'
/// pipe, standard error) must be open before, and nothing that owns a descriptor may be sent to or
/// from this thread afterwards, except what was open before.
///
/// # Errors
/// What the kernel says to `unshare(CLONE_FILES)`.
pub(crate) fn make_private_table() -> io::Result<PrivateTable> {
    // SAFETY: the danger of the call is that a number opened in one table is used in another,
    // where it names nothing or a stranger. Both that call this keep to the rule above (the trial's
    // thread ends at once). A worker owns its listener and sockets from their opening to their
    // closing, mail between workers carries no descriptor (a connection that is handed over is
    // closed in one table and opened in the other by the kernel), and its poll, all wakers and all
    // hatches were opened before, hence are the same files under the same numbers in every table,
    // and are owned by who opened them: the worker gives them back. A thread of the load
    // generator owns its sockets likewise; its poll and its bell were opened before, and what it
    // tells others carries no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
    Ok(PrivateTable { here: PhantomData })
}

impl PrivateTable {
    /// Closes this table's copy of a descriptor that another thread owns in its own table.
    pub fn close_copy(&self, descriptor: RawFd) {
        // SAFETY: the table belongs to this thread alone, so no other thread can lose the
        // descriptor; and this thread owns nothing under that number, since the caller names one
        // that was opened, and is owned, elsewhere.
        unsafe { rustix::io::close(descriptor) };
    }

    /// Closes this table's copies of all sockets, pipes and files but the standard streams and
    /// those to be `kept`.
    ///
    /// For a server inside a larger process: a copy of a stranger's socket would keep that
    /// connection open after its owner has closed it. Polls and wakers stay. Must be called before
    /// this thread opens anything of its own.
    pub fn close_strangers(&self, kept: &[RawFd]) {
        let Ok(entries) = fs::read_dir("/proc/thread-self/fd") else { return };
        let numbers: Vec<RawFd> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|number| *number > 2 && !kept.contains(number))
            .collect();
        for number in numbers {
            // The listing's own descriptor is in the list and closed by now: it has no link.
            let link = fs::read_link(format!("/proc/thread-self/fd/{number}"));
            if link
                .is_ok_and(|link| !link.as_os_str().as_encoded_bytes().starts_with(b"anon_inode:"))
            {
                self.close_copy(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use socket2::SockRef;

    use super::*;

    #[test]
    fn raising_the_limit_twice_changes_nothing_more() {
        let limit = raise_open_file_limit();
        assert!(limit > 0);
        assert_eq!(raise_open_file_limit(), limit);
    }

    /// Writes until the kernel takes no more; returns how much it took.
    fn fill(stream: &mut TcpStream) -> usize {
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        loop {
            match stream.write(&[0; 64 << 10]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return written,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_a_peer_has_no_room_for_is_not_acknowledged_even_after_its_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged_bytes(stream.as_fd()).unwrap(), 0);
        let written = fill(&mut stream);
        let before = unacknowledged_bytes(stream.as_fd()).unwrap();
        assert!(before > 0 && before <= written, "{before} of {written}");
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let mut until_error = [PollFd::new(&stream, PollFlags::empty())];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut until_error, Some(&patience)).unwrap(), 1);
        let after = unacknowledged_bytes(stream.as_fd()).unwrap();
        assert!(after > 0 && after <= before, "{after} of {before}");
        assert!(unacknowledged_bytes(listener.as_fd()).is_err());
    }

    #[test]
    fn a_private_table_without_strangers_keeps_no_connection_of_others_alive() {
        if try_private_table().is_err() {
            return; // Nothing to prove where the kernel forbids private tables.
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (ready, is_ready) = crossbeam_channel::bounded::<()>(0);
        let (finish, finished) = crossbeam_channel::bounded::<()>(0);
        let thread = thread::spawn(move || {
            make_private_table().unwrap().close_strangers(&[]);
            ready.send(()).unwrap();
            finished.recv().unwrap();
        });
        is_ready.recv().unwrap();
        drop(ours);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the peer hears of the close at once");
        finish.send(()).unwrap();
        thread.join().unwrap();
    }
}
