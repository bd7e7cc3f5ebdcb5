//! Mail between threads that sleep in a poll.
//!
//! Owns a bounded channel and the bell beside it: a mio waker that is rung only when the receiver
//! has said that it sleeps. Never blocks, on either side: a full mailbox is the sender's to deal
//! with. Workers and the steward each read one; workers write to all.
//!
//! All that threads share here comes from `primitives`, so that a test can
//! compile this very file over others and try every interleaving.

use std::io;

use super::primitives::channel::{self, TrySendError};
use super::primitives::{Arc, AtomicBool, CachePadded, Ordering, Poll, Token, Waker, fence};

/// What wakes one receiver.
///
/// The flag has a cache line to itself: every sender reads it after every letter, and the waker's
/// descriptor beside it never changes.
struct Bell {
    waker: Waker,
    asleep: CachePadded<AtomicBool>,
}

/// The side that posts. Clones post to the same mailbox.
pub struct Sender<T> {
    letters: channel::Sender<T>,
    bell: Arc<Bell>,
}

/// The side that reads.
pub struct Receiver<T> {
    letters: channel::Receiver<T>,
    bell: Arc<Bell>,
}

/// A mailbox of `capacity` letters, whose bell gives `poll` an event for `token`.
///
/// # Errors
/// What the kernel says to the making of the waker.
pub fn mailbox<T>(
    capacity: usize,
    poll: &Poll,
    token: Token,
) -> io::Result<(Sender<T>, Receiver<T>)> {
    let waker = Waker::new(poll.registry(), token)?;
    let bell = Arc::new(Bell { waker, asleep: CachePadded::new(AtomicBool::new(false)) });
    let (sender, receiver) = channel::bounded(capacity);
    let sender = Sender { letters: sender, bell: Arc::clone(&bell) };
    Ok((sender, Receiver { letters: receiver, bell }))
}

impl<T> Sender<T> {
    /// Posts a letter and wakes the receiver if it sleeps.
    ///
    /// The sender writes the channel and then reads the flag; the receiver writes the flag and
    /// then reads the channel. Without the two sequentially consistent fences, each could read
    /// what was there before the other's write, and a letter would lie before a sleeper. With
    /// them, at least one of the two sees the other. Of several senders one takes the flag down
    /// and rings; a wake-up costs a system call, and a receiver at work costs none.
    ///
    /// # Errors
    /// The letter itself, where the mailbox is full or its reader is gone.
    pub fn try_send(&self, letter: T) -> Result<(), TrySendError<T>> {
        self.letters.try_send(letter)?;
        fence(Ordering::SeqCst);
        let asleep = &self.bell.asleep;
        if asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::Relaxed) {
            // An event descriptor takes 2^64 - 2 rings before it refuses one, and mio resets it.
            let _ = self.bell.waker.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { letters: self.letters.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<T> Receiver<T> {
    /// The next letter, if there is one.
    pub fn try_receive(&self) -> Option<T> {
        self.letters.try_recv().ok()
    }

    /// Announces sleep. False when a letter has come meanwhile: then do not sleep.
    ///
    /// To be followed by [`Receiver::woke`] in either case, after the poll.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        self.bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.letters.is_empty()
    }

    /// Ends what [`Receiver::may_sleep`] announced: letters need no bell until the next sleep.
    pub fn woke(&self) {
        self.bell.asleep.store(false, Ordering::Relaxed);
    }
}
