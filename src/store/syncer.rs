//! Waiting for the disk beside the commits.
//!
//! Owns a thread that does nothing else, for a store whose answers do not wait for the disk itself:
//! the next commit need not wait either. Never commits. Started by the [`keeper`](super::keeper)
//! for each engine that it opens.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::engine::Syncing;
use super::intake::{Found, Intake, Refused, Submitter, bounded};

/// A thread that waits for the disk when it is asked to. Dropping it waits for its end.
#[derive(Debug)]
pub struct Syncer {
    /// Taken when it is to end.
    requests: Option<Submitter<()>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Syncer {
    /// Starts the thread. It shares the file table of the one that calls.
    ///
    /// # Errors
    /// What the system says to a thread.
    pub fn start(syncing: Syncing) -> io::Result<Syncer> {
        let (requests, intake) = bounded(1);
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        let builder = thread::Builder::new().name("cb-store-sync".into());
        let thread = builder.spawn(move || run(syncing, &intake, &told))?;
        Ok(Syncer { requests: Some(requests), thread: Some(thread), failure })
    }

    /// Asks that the disk be waited for. One that is still to begin covers this request too.
    pub fn request(&self) {
        let requests = self.requests.as_ref().expect("it has not ended");
        match requests.submit(()) {
            Ok(()) | Err(Refused::Full(()) | Refused::Closed) => {}
        }
    }

    /// What the disk said, if it has failed since the last call.
    pub fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the thread, and says what the disk said last, if it has failed.
    pub fn end(mut self) -> Option<io::Error> {
        self.join();
        self.failure()
    }

    fn join(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.join();
    }
}

fn run(mut syncing: Syncing, intake: &Intake<()>, told: &Mutex<Option<io::Error>>) {
    let mut taken = VecDeque::new();
    while intake.take(&mut taken, None) == Found::Some {
        taken.clear();
        if let Err(cause) = syncing() {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_request_is_served_before_the_end_and_its_failure_told() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let syncer = Syncer::start(Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(io::ErrorKind::StorageFull.into())
        }));
        let syncer = syncer.unwrap();
        assert!(syncer.failure().is_none());
        syncer.request();
        let told = syncer.end();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(told.map(|cause| cause.kind()), Some(io::ErrorKind::StorageFull));
    }
}
