//! How long a peer is waited for in the midst of something.
//!
//! Owns two lists: frames that have begun and not completed, and readers that take nothing of what
//! waits for them. Never touches a connection that is at neither: what is over is found out when
//! its entry comes up, or when so many entries are stale that they are swept. Called by the
//! [`intake`](super::intake), by the shell's [`Shard::blocked`] and by the timers.
//!
//! A text client's line is not timed here: people type. It has `--text-idle-timeout`, and a request
//! that is no hello yet has `--handshake-timeout`.
//!
//! A reader is not given up for what the kernel does not write: the kernel's buffers are large, and
//! a slow link may take a minute for what makes the kernel say that there is room. So the kernel
//! is asked how much the peer has acknowledged, and only where that stood still the whole time
//! the reader is closed.

use std::collections::VecDeque;

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Ref};
use crate::base::limits::STALL_LOOKS;
use crate::base::time::{Mono, Now};
use crate::wire::message::{Code, Event};

use super::batch::Dialect;
use super::session::{Marks, Session, SessionTable, State};
use super::shard::{Shard, Verdict};

/// Entries that a list may have beyond those of the living before the stale ones are swept.
const STALE_MAX: usize = 1_024;

/// Somebody who is waited for since an instant, as [`Mono::low`].
#[derive(Clone, Copy, Debug)]
struct Wait {
    conn: ConnId,
    began: u32,
    due: Mono,
}

/// How far a reader has come since it was found to take nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// When the kernel had no room for it, as [`Mono::low`].
    pub began: u32,
    /// When it is looked at next, likewise; none while a look is under way. It may be found several
    /// times in one instant, and is looked at once.
    look_at: Option<u32>,
    /// Bytes that its kernel had not acknowledged at the last look.
    unacknowledged: Option<usize>,
    /// Looks since then at which they were the same.
    looks: u64,
}

/// The two lists. What is added to one is always due the same time later.
#[derive(Debug, Default)]
pub struct Patience {
    frames: VecDeque<Wait>,
    readers: VecDeque<Wait>,
}

impl Patience {
    /// When the first entry is due.
    pub fn next(&self) -> Option<Mono> {
        let first = |list: &VecDeque<Wait>| list.front().map(|wait| wait.due);
        [first(&self.frames), first(&self.readers)].into_iter().flatten().min()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.frames.len() + self.readers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Adds an entry, and sweeps the list where most of it must be stale.
fn enlist(
    list: &mut VecDeque<Wait>,
    wait: Wait,
    sessions: &SessionTable,
    is_live: impl Fn(&Session, &Wait) -> bool,
) {
    if list.len() >= 2 * sessions.len() + STALE_MAX {
        list.retain(|wait| sessions.get(wait.conn).is_some_and(|session| is_live(session, wait)));
    }
    list.push_back(wait);
}

fn waits_for_frame(session: &Session, wait: &Wait) -> bool {
    let Some(input) = &session.input else {
        return false;
    };
    let half = input.half.as_ref().and_then(|half| half.since);
    input.since == Some(wait.began) || half == Some(wait.began)
}

fn waits_for_reader(session: &Session, wait: &Wait) -> bool {
    let stall = session.outbox.as_ref().and_then(|outbox| outbox.stall);
    let is_its = |stall: Stall| (stall.began, stall.look_at) == (wait.began, Some(wait.due.low()));
    stall.is_some_and(is_its) && session.marks.has(Marks::BLOCKED)
}

fn stall_of(session: &mut Session) -> Option<&mut Stall> {
    session.outbox.as_mut()?.stall.as_mut()
}

impl Shard {
    /// A frame or message of a connection has begun and not completed. Returns since when it is
    /// waited for, as [`Mono::low`], if it is.
    pub(super) fn await_frame(&mut self, conn: ConnId, now: Now) -> Option<u32> {
        let timeout_ms = self.limits.frame_timeout_ms;
        let is_timed = match self.sessions.get(conn)?.state {
            State::Live(dialect) => dialect != Dialect::Text,
            State::Echo(_) => true,
            _ => false,
        };
        if !is_timed || timeout_ms == 0 {
            return None;
        }
        let began = now.mono.low();
        let wait = Wait { conn, began, due: now.mono + timeout_ms };
        enlist(&mut self.patience.frames, wait, &self.sessions, waits_for_frame);
        Some(began)
    }

    /// The kernel took nothing more of what waits for a connection.
    pub(super) fn time_reader(&mut self, conn: ConnId, now: Now) {
        let timeout_ms = self.limits.write_timeout_ms;
        let Some(session) = self.sessions.get_mut(conn).filter(|_| timeout_ms > 0) else {
            return;
        };
        if matches!(session.state, State::Closing(_)) {
            return;
        }
        let Some(outbox) = session.outbox.as_mut() else {
            return;
        };
        let began = now.mono.low();
        outbox.stall = Some(Stall { began, ..Stall::default() });
        self.look_at_reader_later(conn, began, now);
    }

    fn look_at_reader_later(&mut self, conn: ConnId, began: u32, now: Now) {
        let due = now.mono + (self.limits.write_timeout_ms / STALL_LOOKS).max(1);
        let session = self.sessions.get_mut(conn);
        if let Some(stall) = session.and_then(stall_of) {
            stall.look_at = Some(due.low());
        }
        let wait = Wait { conn, began, due };
        enlist(&mut self.patience.readers, wait, &self.sessions, waits_for_reader);
    }

    /// Closes those who were waited for in vain, as far as the budget goes.
    pub(super) fn expire_patience(&mut self, budget: &mut usize, now: Now) {
        while *budget > 0
            && let Some(wait) = self.patience.frames.pop_front_if(|wait| wait.due <= now.mono)
        {
            *budget -= 1;
            self.expire_frame(&wait, now);
        }
        while *budget > 0
            && let Some(wait) = self.patience.readers.pop_front_if(|wait| wait.due <= now.mono)
        {
            *budget -= 1;
            let session = self.sessions.get_mut(wait.conn);
            let waiting = session.filter(|session| waits_for_reader(session, &wait));
            if let Some(stall) = waiting.and_then(stall_of) {
                stall.look_at = None;
                self.verdicts.push_back(Verdict::LookAtReader(wait.conn));
            }
        }
        self.forget_over();
    }

    /// Forgets the entries at the head of the lists that are over, so that nobody is woken for
    /// them.
    fn forget_over(&mut self) {
        let Patience { frames, readers } = &mut self.patience;
        let sessions = &self.sessions;
        let is_over = |wait: &Wait, is_live: fn(&Session, &Wait) -> bool| {
            !sessions.get(wait.conn).is_some_and(|session| is_live(session, wait))
        };
        while frames.pop_front_if(|wait| is_over(wait, waits_for_frame)).is_some() {}
        while readers.pop_front_if(|wait| is_over(wait, waits_for_reader)).is_some() {}
    }

    fn expire_frame(&mut self, wait: &Wait, now: Now) {
        let conn = wait.conn;
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if !waits_for_frame(session, wait) || matches!(session.state, State::Closing(_)) {
            return;
        }
        let is_held_back = session.marks.has(Marks::HELD_BACK);
        let timeout_ms = self.limits.frame_timeout_ms;
        let was_starved =
            now.mono.since_ms(self.amnesty_at) < timeout_ms && self.amnesty_at > Mono(0);
        if is_held_back || was_starved {
            // The rest of it may lie unread here.
            let again = self.await_frame(conn, now);
            let input = self.sessions.get_mut(conn).and_then(|session| session.input.as_mut());
            if let Some(since) = input.and_then(|input| input.since(wait.began)) {
                *since = again;
            }
            return;
        }
        let last = Event::Error {
            reference: Ref::NONE,
            code: Code::Timeout,
            text: "a frame began and did not complete in time (--frame-timeout)",
        };
        self.close(conn, CloseReason::FrameTimeout, Some(&last), now);
    }

    /// The answer to [`Verdict::LookAtReader`]: so many bytes its peer's kernel has not
    /// acknowledged.
    pub fn looked_at_reader(&mut self, conn: ConnId, unacknowledged: usize, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if !session.marks.has(Marks::BLOCKED) || matches!(session.state, State::Closing(_)) {
            return;
        }
        let Some(stall) = stall_of(session) else {
            return;
        };
        let timeout_ms = self.limits.write_timeout_ms;
        let was_starved =
            now.mono.since_ms(self.amnesty_at) < timeout_ms && self.amnesty_at > Mono(0);
        stall.looks = match stall.unacknowledged {
            Some(before) if before == unacknowledged && !was_starved => stall.looks + 1,
            _ => 0,
        };
        stall.unacknowledged = Some(unacknowledged);
        let (began, looks) = (stall.began, stall.looks);
        if looks < STALL_LOOKS {
            return self.look_at_reader_later(conn, began, now);
        }
        self.close_stalled_reader(conn, now);
    }

    fn close_stalled_reader(&mut self, conn: ConnId, now: Now) {
        let text = "nothing of what waits was read for too long (--write-timeout)";
        self.close_unread(conn, CloseReason::StalledReader, text, now);
    }
}
