//! What becomes of a worker that panics.
//!
//! Owns the one place where an unwinding is caught: behind a worker's turns. Everything that
//! decides is thrown away and made anew on the same thread, with the same core, file table, doors
//! and mailbox; its connections are told to come back, and closed. Never mends what a panic left
//! behind, and never goes on for ever: a worker that panics again and again ends the server,
//! because whatever watches over the process has more to try. The worker's thread calls it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::Ordering;

use log::{error, info};

use super::close_record::CloseRecord;
use super::freed_memory::FreedMemory;
use super::parcel::Parcel;
use super::worker::{Life, Worker};
use crate::base::counters::{CloseReason, Counters};
use crate::base::ids::ConnId;
use crate::base::limits::{
    CONNECTIONS_RESERVED, LAST_READS_MAX, READ_CHUNK, REFUSED_RECONNECT_AFTER_MS,
    WORKER_PANICS_MAX, WORKER_PANICS_PERIOD_MS,
};
use crate::base::time::Mono;
use crate::chat::closing::{Closing, Speech};
use crate::chat::config::ShardConfig;
use crate::chat::lives::Life as ShardLife;
use crate::chat::record::Recovered;
use crate::chat::shard::Shard;
use crate::net::socket::Arrival;

thread_local! {
    /// Whether panics of this thread are caught.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    /// What the last one said, and where.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}
static HOOK: Once = Once::new();

/// Has panics of this thread told where they are caught, and not by the hook of the process, which
/// alone knows the place. Panics of other threads are told as ever.
fn watch_this_thread() {
    HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_WATCHED.get() {
                return earlier(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let text = format!("{} ({place})", text_of(info.payload()));
            LAST_PANIC.with_borrow_mut(|last| *last = Some(text));
        }));
    });
    IS_WATCHED.set(true);
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Has the worker turn until it is told to stop, through panics. Returns the worker that turned
/// last, and how it went.
///
/// # Errors
/// What the kernel says to the poll, what keeps the store from giving back what it kept, and that
/// there were too many panics.
pub(super) fn supervise(
    mut worker: Worker,
    config: &ShardConfig,
) -> (Worker, io::Result<Counters>) {
    watch_this_thread();
    let mut panics = VecDeque::new();
    loop {
        // What the closure leaves half changed is the worker, and `begin_anew` drops all of it that
        // decides anything: the heart, the budgets, the marks of a turn. It takes over what the
        // kernel gave (poll, doors, bells), the readings of the machine, which are judged anew at
        // the next turn, and lists that hold no promise of the turn to another part: the mailbox,
        // and the records of those who left. Of sockets and heart it reads what is needed for last
        // words, and catches what comes of that, too.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| worker.run()));
        let Err(payload) = outcome else {
            return (worker, outcome.unwrap_or_else(|_| unreachable!("it did not unwind")));
        };
        let text = LAST_PANIC.take().unwrap_or_else(|| text_of(&*payload).to_owned());
        let count = worker.connections();
        error!(
            "worker {} panicked: {text}; {count} of its connections are told to come back, and it \
             begins anew",
            worker.id
        );
        let failure;
        (worker, failure) = worker.begin_anew(config.clone());
        if let Err(cause) = failure.and_then(|()| bound(&mut panics, worker.now.mono)) {
            return (worker, Err(cause));
        }
    }
}

/// Whether there are not too many panics.
fn bound(panics: &mut VecDeque<Mono>, now: Mono) -> io::Result<()> {
    panics.push_back(now);
    while panics.front().is_some_and(|first| now.since_ms(*first) > WORKER_PANICS_PERIOD_MS) {
        panics.pop_front();
    }
    if panics.len() <= WORKER_PANICS_MAX {
        return Ok(());
    }
    let (count, seconds) = (panics.len(), WORKER_PANICS_PERIOD_MS / 1_000);
    Err(io::Error::other(format!("it panicked {count} times within {seconds}s")))
}

impl Worker {
    /// Tells everybody to come back, and makes another worker of what the kernel gave this one.
    ///
    /// The second value says what keeps the new one from turning.
    fn begin_anew(mut self, mut config: ShardConfig) -> (Worker, io::Result<()>) {
        (self.now, _) = self.clock.now_and_us();
        // Whose end was decided in the turn that panicked has its reason, and is told of no more.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| self.note_closings()));
        let mut counted = *self.shard.counters();
        counted.worker_panics += 1;
        let mut dice = fastrand::Rng::with_seed(config.seed ^ counted.worker_panics);
        for conn in self.sockets.conns() {
            self.send_away(conn, &mut dice, &mut counted);
        }
        let lives = &self.seat.lives;
        lives[self.id.index()].fetch_add(1, Ordering::SeqCst);
        let lives: Vec<ShardLife> = lives.iter().map(|life| life.load(Ordering::SeqCst)).collect();
        config.seed = dice.u64(..);
        let recovered = self.reload(&config);
        let shard = Shard::begin_anew(config.clone(), lives, counted, self.now);
        let mut anew = self.succeeded_by(config, shard);
        let failure = recovered.map(|recovered| {
            if let Some(recovered) = recovered {
                anew.recover(recovered);
            }
        });
        anew.take_up_its_life();
        (anew, failure)
    }

    /// Says the last words to a connection, as far as they can be said at once, writes down that it
    /// ended, and drops its socket.
    fn send_away(&mut self, conn: ConnId, dice: &mut fastrand::Rng, counted: &mut Counters) {
        let (earliest, latest) = REFUSED_RECONNECT_AFTER_MS;
        let after_ms = dice.u32(earliest..=latest);
        let (shard, now) = (&self.shard, self.now);
        let reason = CloseReason::WorkerPanicked;
        // The heart is only read here, and dropped behind this: whatever it is like, nobody relies
        // on it.
        let known = panic::catch_unwind(AssertUnwindSafe(|| {
            (shard.last_words(conn, after_ms, now), shard.closing_of(conn, reason, now))
        }));
        let (words, closing) = known.unwrap_or_else(|_| (Vec::new(), Some(unknown(conn))));
        let Some(peer) = self.sockets.peer_of(conn) else { return };
        let Some(mut socket) = self.sockets.remove(conn) else { return };
        // What is left unread would turn the close into a reset, which takes the last words away.
        let mut unread = [0; READ_CHUNK / 4];
        for _ in 0..LAST_READS_MAX {
            if !matches!(socket.read(&mut unread), Arrival::Bytes(_)) {
                break;
            }
        }
        if !words.is_empty() {
            let _ = socket.write(&[IoSlice::new(&words)]);
        }
        socket.shut_down_writing();
        if let Some(closing) = closing {
            counted.count_close(reason);
            let record = CloseRecord::new(closing, peer, socket.opened(), socket.tcp_info(), now);
            self.notes.take(record);
        }
    }

    /// What the store has of the shard, as it is at this instant: all that was handed over is
    /// written first. None where all is in memory.
    fn reload(&mut self, config: &ShardConfig) -> io::Result<Option<Recovered>> {
        let Some(store) = &self.seat.store else { return Ok(None) };
        let recovered = super::hand_over::reload(store, config)?;
        // What is left in the mailbox of the store's is about the former life's records.
        self.set_mail_aside();
        Ok(Some(recovered))
    }

    /// Another worker with the same seat, doors and records, and `shard` instead of its own.
    fn succeeded_by(self, config: ShardConfig, shard: Shard) -> Worker {
        let capacity = config.limits.max_connections.min(CONNECTIONS_RESERVED);
        let mut acceptor = self.acceptor;
        acceptor.note_all_waiting();
        // All that the old heart held is free as soon as it is dropped, and nobody may come.
        let mut freed = FreedMemory::default();
        freed.note(self.now.mono);
        Worker {
            shard,
            now: self.now,
            life: self.life,
            sockets: self.sockets.successor(capacity),
            notes: self.notes,
            acceptor,
            // The doors are paused by what it found, and the other workers were told of it: one
            // that begins calm would never take that back.
            watch: self.watch,
            freed,
            readiness: self.readiness,
            drain: self.drain,
            set_aside: self.set_aside,
            // Nobody tells again of what this one was told and had not looked at.
            hatch_waits: true,
            busy: true,
            ..Worker::new(config, self.clock, self.seat)
        }
    }

    /// Takes the mailbox out, but for what the store wrote.
    fn set_mail_aside(&mut self) {
        let parcels = std::iter::from_fn(|| self.seat.mailbox.try_receive());
        let kept = parcels.filter(|parcel| !matches!(parcel, Parcel::Stored { .. }));
        self.set_aside.extend(kept);
    }

    pub(super) fn next_parcel(&mut self) -> Option<Parcel> {
        self.set_aside.pop_front().or_else(|| self.seat.mailbox.try_receive())
    }

    /// Goes on where the server is: serving, or on its way to its end.
    fn take_up_its_life(&mut self) {
        let readiness = self.readiness;
        self.shard.note_readiness(readiness);
        if self.life != Life::Serving
            && let Some(plan) = self.drain.clone()
        {
            self.shard.drain(plan, self.now);
        }
        info!("worker {} has begun anew", self.id);
    }
}

/// What is known of a connection where the heart cannot be asked.
fn unknown(conn: ConnId) -> Closing {
    Closing {
        conn,
        reason: CloseReason::WorkerPanicked,
        speech: Speech::Nothing,
        user: None,
        queued: 0,
        silent_ms: 0,
        heartbeat_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_now_and_then_are_survived_and_many_at_once_are_not() {
        let mut panics = VecDeque::new();
        for round in 0..100 {
            let now = Mono(round * (WORKER_PANICS_PERIOD_MS / WORKER_PANICS_MAX as u64 + 1));
            assert!(bound(&mut panics, now).is_ok(), "round {round}");
        }
        let now = Mono(1 << 40);
        for _ in 0..WORKER_PANICS_MAX {
            assert!(bound(&mut panics, now).is_ok());
        }
        let error = bound(&mut panics, now).unwrap_err();
        assert_eq!(error.to_string(), "it panicked 6 times within 60s");
    }
}
