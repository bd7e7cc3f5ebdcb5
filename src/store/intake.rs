//! What workers hand to the store's thread.
//!
//! Owns a bounded queue with many senders and one receiver. A sender never waits: a full queue
//! refuses. The receiver sleeps until something comes, without looking again and again, because its
//! processor is one that a worker could use; and it takes all that is there at once, so that
//! senders meet it once a commit. Called by the workers' hand-over and by the
//! [`keeper`](super::keeper).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// A queue for at most `capacity` things, besides those that the receiver took last.
pub fn bounded<T>(capacity: usize) -> (Submitter<T>, Intake<T>) {
    let state = State { waiting: VecDeque::new(), senders: 1, open: true, asleep: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), stirred: Condvar::new(), capacity });
    (Submitter(Arc::clone(&shared)), Intake { shared })
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something came, the last sender left, or the receiver took all or left.
    stirred: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    senders: usize,
    /// The receiver is there.
    open: bool,
    /// Somebody waits to be stirred.
    asleep: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nobody panics while it holds the queue")
    }

    fn stir(&self, mut state: MutexGuard<'_, State<T>>) {
        if std::mem::take(&mut state.asleep) {
            drop(state);
            self.stirred.notify_all();
        }
    }
}

/// Why something was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// There is no room; here it is back.
    Full(T),
    /// The receiver is gone.
    Closed,
}

/// A sender. The receiver learns when the last one is dropped.
#[derive(Debug)]
pub struct Submitter<T>(Arc<Shared<T>>);

impl<T> Submitter<T> {
    /// Hands over without waiting.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn submit(&self, thing: T) -> Result<(), Refused<T>> {
        let mut state = self.0.lock();
        if !state.open {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= self.0.capacity {
            return Err(Refused::Full(thing));
        }
        state.waiting.push_back(thing);
        self.0.stir(state);
        Ok(())
    }

    /// Waits until all that was handed over has been taken, or the receiver is gone.
    pub fn wait_until_taken(&self) {
        let mut state = self.0.lock();
        while state.open && !state.waiting.is_empty() {
            state.asleep = true;
            state = self.0.stirred.wait(state).expect("nobody panics while it holds the queue");
        }
    }
}

impl<T> Clone for Submitter<T> {
    fn clone(&self) -> Submitter<T> {
        self.0.lock().senders += 1;
        Submitter(Arc::clone(&self.0))
    }
}

impl<T> Drop for Submitter<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        self.0.stir(state);
    }
}

/// What the receiver found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Something was taken.
    Some,
    /// Nothing came in time.
    Nothing,
    /// Nothing is left, and nobody is there who could send.
    End,
}

/// The receiver.
#[derive(Debug)]
pub struct Intake<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Intake<T> {
    /// Takes all that is there into `taken`, which must be empty. Sleeps until something is there,
    /// at most until `deadline`.
    pub fn take(&self, taken: &mut VecDeque<T>, deadline: Option<Instant>) -> Found {
        let mut state = self.shared.lock();
        while state.waiting.is_empty() {
            if state.senders == 0 {
                return Found::End;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state.asleep = true;
            state = match left {
                Some(left) if left.is_zero() => return Found::Nothing,
                Some(left) => {
                    let woken = self.shared.stirred.wait_timeout(state, left);
                    woken.expect("nobody panics while it holds the queue").0
                }
                None => {
                    let woken = self.shared.stirred.wait(state);
                    woken.expect("nobody panics while it holds the queue")
                }
            };
        }
        std::mem::swap(taken, &mut state.waiting);
        self.shared.stir(state);
        Found::Some
    }
}

impl<T> Drop for Intake<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open = false;
        state.waiting.clear();
        self.shared.stir(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_full_queue_refuses_until_it_is_taken() {
        let (submitter, intake) = bounded(2);
        assert_eq!((submitter.submit(1), submitter.submit(2)), (Ok(()), Ok(())));
        assert_eq!(submitter.submit(3), Err(Refused::Full(3)));
        let mut taken = VecDeque::new();
        assert_eq!(intake.take(&mut taken, None), Found::Some);
        assert_eq!(taken, [1, 2]);
        assert_eq!(submitter.submit(3), Ok(()));
        taken.clear();
        assert_eq!(intake.take(&mut taken, Some(Instant::now())), Found::Some);
        taken.clear();
        assert_eq!(intake.take(&mut taken, Some(Instant::now())), Found::Nothing);
    }

    #[test]
    fn each_side_learns_that_the_other_is_gone() {
        let (submitter, intake) = bounded(2);
        let other = submitter.clone();
        drop(submitter);
        assert_eq!(other.submit(1), Ok(()));
        drop(other);
        let mut taken = VecDeque::new();
        assert_eq!(intake.take(&mut taken, None), Found::Some, "what was sent before the end");
        taken.clear();
        assert_eq!(intake.take(&mut taken, None), Found::End);
        let (submitter, intake) = bounded(2);
        submitter.submit(1).unwrap();
        drop(intake);
        assert_eq!(submitter.submit(2), Err(Refused::Closed));
        submitter.wait_until_taken();
    }

    #[test]
    fn whoever_sleeps_is_woken() {
        const COUNT: usize = 10_000;
        let (submitter, intake) = bounded(3);
        let other = submitter.clone();
        let send = |submitter: Submitter<usize>| {
            for mut number in 0..COUNT {
                while let Err(Refused::Full(back)) = submitter.submit(number) {
                    number = back;
                    submitter.wait_until_taken();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(move || send(submitter));
            scope.spawn(move || send(other));
            let (mut taken, mut came) = (VecDeque::new(), 0);
            while intake.take(&mut taken, None) == Found::Some {
                came += taken.drain(..).count();
            }
            assert_eq!(came, 2 * COUNT);
        });
    }
}
