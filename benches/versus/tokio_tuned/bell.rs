//! How tokio's reactor tells a core which of its sockets are ready, without a task for each.
//!
//! Owns one waker per connection, whose whole work is to put the connection's number on a list, and
//! that list. Never polls a socket. One task then serves all that are on the list in one go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use corebeat::base::ids::ConnId;

/// The connections of one core whose sockets may be ready.
///
/// The reactor runs on the core's own thread, so the lock is never waited for; it is there because
/// a waker may be sent anywhere.
#[derive(Debug, Default)]
pub struct ReadyList {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<ConnId>,
    task: Option<Waker>,
}

impl ReadyList {
    /// Says whom to wake when the list ceases to be empty.
    pub fn attend(&self, task: &Waker) {
        let mut state = self.lock();
        if !state.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            state.task = Some(task.clone());
        }
    }

    /// Puts a connection on the list. It may stand there twice.
    pub fn push(&self, conn: ConnId) {
        let mut state = self.lock();
        state.ready.push(conn);
        if state.ready.len() == 1
            && let Some(task) = &state.task
        {
            task.wake_by_ref();
        }
    }

    /// Exchanges the list for `emptied`.
    pub fn take(&self, emptied: &mut Vec<ConnId>) {
        debug_assert!(emptied.is_empty());
        std::mem::swap(&mut self.lock().ready, emptied);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of one connection.
#[derive(Debug)]
struct Bell {
    conn: ConnId,
    list: Arc<ReadyList>,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.list.push(self.conn);
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        self.list.push(self.conn);
    }
}

/// A waker that puts `conn` on `list`.
pub fn bell(conn: ConnId, list: &Arc<ReadyList>) -> Waker {
    Waker::from(Arc::new(Bell { conn, list: Arc::clone(list) }))
}
