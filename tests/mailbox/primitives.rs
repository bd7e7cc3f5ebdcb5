//! What the mailbox is compiled over here instead of `src/net/primitives.rs`: loom's atomics and
//! threads, a bell that is a flag under a lock, and a channel after crossbeam's.
//!
//! Loom does not see into crossbeam, so [`channel`] does the same loads and stores on its head, its
//! tail and its stamps, in the same order and with orderings that are no stronger. That matters:
//! over a channel with a lock, which orders more, a mailbox without its fences would pass.

use std::io;
use std::ops::Deref;
use std::sync::Arc as StdArc;

use loom::sync::{Condvar, Mutex};

pub(super) use loom::sync::Arc;
pub(super) use loom::sync::atomic::{Ordering, fence};

/// A flag whose stores are swaps.
///
/// Loom knows the order of modifications only as far as threads have seen it: a store behind
/// another thread's swap would not be ordered behind it, although the swap read what the store
/// replaced. The memory model orders them (an atomic change is next to what it read), and so does
/// loom where both are swaps. A load may still see any value that was not known to be replaced.
pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(super) fn new(value: bool) -> AtomicBool {
        AtomicBool(loom::sync::atomic::AtomicBool::new(value))
    }

    pub(super) fn load(&self, ordering: Ordering) -> bool {
        self.0.load(ordering)
    }

    pub(super) fn store(&self, value: bool, ordering: Ordering) {
        self.0.swap(value, ordering);
    }

    pub(super) fn swap(&self, value: bool, ordering: Ordering) -> bool {
        self.0.swap(value, ordering)
    }
}

/// Loom knows no cache lines.
pub(super) struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub(super) fn new(inner: T) -> CachePadded<T> {
        CachePadded(inner)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Token;

/// A poll in which nothing happens but its bell.
#[derive(Default)]
pub(super) struct Poll(StdArc<Bell>);

#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    /// Nobody has woken up by it yet.
    pending: bool,
    rings: usize,
}

impl Poll {
    /// Who makes a waker.
    pub(super) fn registry(&self) -> &Poll {
        self
    }

    /// Sleeps until the bell rings, unless it has since the last sleep. Whoever sleeps for ever is
    /// found by loom.
    pub(super) fn sleep(&self) {
        let mut state = self.0.state.lock().unwrap();
        while !state.pending {
            state = self.0.rung.wait(state).unwrap();
        }
        state.pending = false;
    }

    pub(super) fn rings(&self) -> usize {
        self.0.state.lock().unwrap().rings
    }
}

pub(super) struct Waker(StdArc<Bell>);

impl Waker {
    pub(super) fn new(poll: &Poll, _token: Token) -> io::Result<Waker> {
        Ok(Waker(StdArc::clone(&poll.0)))
    }

    pub(super) fn wake(&self) -> io::Result<()> {
        let mut state = self.0.state.lock().unwrap();
        state.pending = true;
        state.rings += 1;
        self.0.rung.notify_one();
        Ok(())
    }
}

/// The channel of crossbeam with an array of slots, as far as the mailbox asks of it. A slot's
/// stamp is twice its position when it may be written, one more when it may be read. Positions grow
/// for ever here, where crossbeam counts laps, and a bit of the tail says that the reader is gone.
pub(super) mod channel {
    use std::sync::Mutex;

    pub(crate) use crossbeam_channel::TrySendError;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering, fence};
    use loom::thread::yield_now;

    /// The bit of the tail.
    const CLOSED: usize = 1 << 32;

    struct Slot<T> {
        stamp: AtomicUsize,
        /// Not loom's: the stamps alone have to keep sender and receiver apart, and do, or the lock
        /// would be taken.
        letter: Mutex<Option<T>>,
    }

    struct Channel<T> {
        slots: Vec<Slot<T>>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    pub(crate) struct Sender<T>(Arc<Channel<T>>);
    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let slot = |at| Slot { stamp: AtomicUsize::new(2 * at), letter: Mutex::new(None) };
        let channel = Arc::new(Channel {
            slots: (0..capacity).map(slot).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        });
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Channel<T> {
        fn slot(&self, position: usize) -> &Slot<T> {
            &self.slots[position % self.slots.len()]
        }

        /// The position of the slot that is ours to write; the error says whether all are full.
        fn start_send(&self) -> Result<usize, bool> {
            let mut tail = self.tail.load(Ordering::Relaxed);
            loop {
                if tail & CLOSED != 0 {
                    return Err(false);
                }
                let stamp = self.slot(tail).stamp.load(Ordering::Acquire);
                if stamp == 2 * tail {
                    let next = tail + 1;
                    match self.tail.compare_exchange(
                        tail,
                        next,
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return Ok(tail),
                        Err(found) => tail = found,
                    }
                    continue;
                }
                if stamp + 2 * self.slots.len() == 2 * tail + 1 {
                    fence(Ordering::SeqCst);
                    if self.head.load(Ordering::Relaxed) + self.slots.len() == tail {
                        return Err(true);
                    }
                }
                yield_now();
                tail = self.tail.load(Ordering::Relaxed);
            }
        }

        /// The position of the slot that is ours to read.
        fn start_receive(&self) -> Option<usize> {
            let mut head = self.head.load(Ordering::Relaxed);
            loop {
                let stamp = self.slot(head).stamp.load(Ordering::Acquire);
                if stamp == 2 * head + 1 {
                    let next = head + 1;
                    match self.head.compare_exchange(
                        head,
                        next,
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return Some(head),
                        Err(found) => head = found,
                    }
                    continue;
                }
                if stamp == 2 * head {
                    fence(Ordering::SeqCst);
                    if self.tail.load(Ordering::Relaxed) & !CLOSED == head {
                        return None;
                    }
                }
                yield_now();
                head = self.head.load(Ordering::Relaxed);
            }
        }
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, letter: T) -> Result<(), TrySendError<T>> {
            match self.0.start_send() {
                Ok(position) => {
                    let slot = self.0.slot(position);
                    *slot.letter.try_lock().expect("nobody else has it") = Some(letter);
                    slot.stamp.store(2 * position + 1, Ordering::Release);
                    Ok(())
                }
                Err(true) => Err(TrySendError::Full(letter)),
                Err(false) => Err(TrySendError::Disconnected(letter)),
            }
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Sender<T> {
            Sender(Arc::clone(&self.0))
        }
    }

    impl<T> Receiver<T> {
        /// The error says nothing of who is gone: the mailbox does not ask.
        pub(crate) fn try_recv(&self) -> Result<T, ()> {
            let position = self.0.start_receive().ok_or(())?;
            let slot = self.0.slot(position);
            let letter = slot.letter.try_lock().expect("nobody else has it").take();
            slot.stamp.store(2 * (position + self.0.slots.len()), Ordering::Release);
            Ok(letter.expect("its stamp says that it is there"))
        }

        pub(crate) fn is_empty(&self) -> bool {
            let head = self.0.head.load(Ordering::SeqCst);
            let tail = self.0.tail.load(Ordering::SeqCst);
            tail & !CLOSED == head
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.tail.fetch_or(CLOSED, Ordering::SeqCst);
            while self.try_recv().is_ok() {}
        }
    }
}
