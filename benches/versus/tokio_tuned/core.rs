//! One core: all its connections and rooms, served by one task.
//!
//! Owns everything of its core, so nothing is locked. A turn is one poll of the task: letters,
//! newcomers, ready sockets, timers, then what the turn has produced: batches, letters, writes.
//! Never knows what a request means ([`intake`](super::intake)) or how a room is kept in order
//! ([`homes`](super::homes)).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use corebeat::base::ids::{ConnId, ShardId};
use corebeat::base::limits::{ACCEPT_BUDGET, LINGER_MS, MAIL_BUDGET, READ_CHUNK};
use corebeat::base::name::Name;
use corebeat::base::time::{Mono, Now, Tick};
use corebeat::base::wheel::Wheel;
use corebeat::chat::hash;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Sleep, sleep};

use super::bell::{ReadyList, bell};
use super::common::service::Service;
use super::common::websocket::GOING_AWAY;
use super::connection::{Connection, Connections, State};
use super::mail::{Mail, Mailbox, Post};
use super::outbox::Outbox;
use super::room::{HomeKey, Homes, Rooms};
use super::web::Assembler;

/// While another core's mailbox is full, requests rest for so long.
const REST_MS: u64 = 1;
/// After the kernel had no descriptor to give, accepting rests for so long.
const DOOR_REST_MS: u64 = 100;

/// A farewell that is under way.
#[derive(Debug)]
struct Drain {
    /// Who is left then is cut.
    until: Mono,
}

/// One core.
pub struct Core {
    pub(super) id: ShardId,
    pub(super) service: Service,
    pub(super) now: Now,
    pub(super) connections: Connections,
    pub(super) rooms: Rooms,
    pub(super) homes: Homes,
    pub(super) open_homes: Vec<HomeKey>,
    pub(super) totals: VecDeque<(Mono, Name)>,
    pub(super) swept: Mono,
    pub(super) wheel: Wheel,
    pub(super) dice: fastrand::Rng,
    pub(super) last_stay: u32,
    pub(super) last_epoch: u32,
    pub(super) guests: u64,
    pub(super) pings: u32,

    listener: Option<TcpListener>,
    pub(super) door_rests_until: Mono,
    pub(super) mailboxes: Vec<Mailbox>,
    letters: Vec<Vec<Mail>>,
    post: UnboundedReceiver<Post>,
    pub(super) ready: Arc<ReadyList>,
    serving: Vec<ConnId>,
    scratch: Vec<u8>,
    /// Takes the messages of all WebSockets, but for those that come in fragments.
    pub(super) assembler: Option<Assembler>,
    pub(super) dirty: Vec<ConnId>,
    pub(super) doomed: Vec<ConnId>,
    // Boxed, because a connection holds its outbox by one word.
    #[expect(clippy::vec_box)]
    pub(super) outboxes: Vec<Box<Outbox>>,
    /// Connections whose outboxes grew beyond their bound in the fan-out.
    pub(super) overflowed: Vec<ConnId>,
    sleep: Pin<Box<Sleep>>,
    sleeps_until: Mono,
    drain: Option<Drain>,
    drain_ms: u64,
}

/// What a core is made of.
pub struct Parts {
    /// Which one it is.
    pub id: ShardId,
    /// Limits, clocks and the like.
    pub service: Service,
    /// Its share of the port.
    pub listener: TcpListener,
    /// The way to every core.
    pub mailboxes: Vec<Mailbox>,
    /// Its own post.
    pub post: UnboundedReceiver<Post>,
    /// How long a farewell may take.
    pub drain: Duration,
}

impl Core {
    /// A core without connections. To be called within its runtime.
    pub fn new(parts: Parts) -> Core {
        let Parts { id, service, listener, mailboxes, post, drain } = parts;
        let now = service.clock.now();
        Core {
            id,
            now,
            connections: Connections::with_capacity(service.limits.max_connections),
            rooms: Rooms::new(service.hasher),
            homes: Homes::new(service.hasher),
            open_homes: Vec::new(),
            totals: VecDeque::new(),
            swept: now.mono,
            wheel: Wheel::new(now.mono),
            dice: fastrand::Rng::new(),
            last_stay: 0,
            last_epoch: 0,
            guests: 0,
            pings: 0,
            listener: Some(listener),
            door_rests_until: Mono(0),
            letters: mailboxes.iter().map(|_| Vec::new()).collect(),
            mailboxes,
            post,
            ready: Arc::default(),
            serving: Vec::new(),
            scratch: vec![0; READ_CHUNK],
            assembler: None,
            dirty: Vec::new(),
            doomed: Vec::new(),
            outboxes: Vec::new(),
            overflowed: Vec::new(),
            sleep: Box::pin(sleep(Duration::ZERO)),
            sleeps_until: now.mono,
            drain: None,
            drain_ms: drain.as_millis() as u64,
            service,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.now = self.service.clock.now();
        self.ready.attend(cx.waker());
        let mut more = self.read_post(cx);
        more |= self.accept(cx);
        let rests = self.mailboxes.iter().any(Mailbox::is_full);
        if !rests {
            self.serve_ready();
        }
        self.expire();
        self.close_batches();
        self.send_post();
        self.flush();
        self.reap();
        // Who failed in the flush left rooms elsewhere.
        self.send_post();
        if let Some(drain) = &self.drain
            && (self.connections.len() == 0 || self.now.mono >= drain.until)
        {
            return Poll::Ready(());
        }
        // ... and rooms here, whose members are to be told.
        more |= !self.open_homes.is_empty() || !self.dirty.is_empty();
        if more {
            cx.waker().wake_by_ref();
        }
        self.sleep_until_due(cx, rests);
        Poll::Pending
    }

    fn read_post(&mut self, cx: &mut Context<'_>) -> bool {
        let mut read = 0;
        while read < MAIL_BUDGET {
            let Poll::Ready(Some(Post { from, letters })) = self.post.poll_recv(cx) else {
                return false;
            };
            read += letters.len();
            self.mailboxes[self.id.index()].note_read(letters.len());
            for letter in letters {
                self.take_letter(from, letter);
            }
        }
        true
    }

    fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        if self.now.mono < self.door_rests_until {
            return false;
        }
        for _ in 0..ACCEPT_BUDGET {
            let Some(listener) = &self.listener else {
                return false;
            };
            match listener.poll_accept(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok((stream, _))) => {
                    // One more than that is closed at once: it knows more than one left hanging.
                    if self.connections.len() < self.service.limits.max_connections {
                        self.open(stream);
                    }
                }
                Poll::Ready(Err(_)) => {
                    self.door_rests_until = self.now.mono + DOOR_REST_MS;
                    return false;
                }
            }
        }
        true
    }

    fn open(&mut self, stream: TcpStream) {
        let conn = self.connections.next_id();
        let bell = bell(conn, &self.ready);
        self.connections.insert(Connection::new(stream, bell, conn.generation(), self.now.mono));
        self.arm_at(conn, self.now.mono + self.service.limits.handshake_timeout_ms);
        // The first poll of the socket asks the reactor to ring the bell.
        self.ready.push(conn);
    }

    fn serve_ready(&mut self) {
        let mut serving = std::mem::take(&mut self.serving);
        let mut scratch = std::mem::take(&mut self.scratch);
        self.ready.take(&mut serving);
        for conn in serving.drain(..) {
            self.serve(conn, &mut scratch);
        }
        self.serving = serving;
        self.scratch = scratch;
    }

    /// Reads a connection until the kernel has no more for it, at most one scratch full in a turn.
    fn serve(&mut self, conn: ConnId, scratch: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.marks.blocked {
            connection.marks.blocked = false;
            self.mark_dirty(conn);
        }
        self.resume_input(conn);
        loop {
            let Some(connection) = self.connections.get_mut(conn) else {
                return;
            };
            if connection.marks.paused || connection.marks.ended || connection.marks.doomed {
                return;
            }
            // `poll_read` and not `try_read`: after a read that did not fill the buffer it knows
            // that the socket is empty, and saves the call that would say so.
            let mut buffer = ReadBuf::new(scratch);
            let cx = &mut Context::from_waker(&connection.bell);
            match Pin::new(&mut connection.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => return self.fail(conn),
                Poll::Ready(Ok(())) => {
                    let filled = buffer.filled().len();
                    if filled == 0 {
                        return self.end_of_input(conn);
                    }
                    self.receive(conn, &scratch[..filled]);
                    if filled == scratch.len() {
                        return self.ready.push(conn);
                    }
                }
            }
        }
    }

    fn end_of_input(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.marks.ended = true;
        if connection.state == State::Closing && connection.outbox.is_none() {
            return self.doom(conn);
        }
        if connection.awaits_answers() {
            // They come from other cores before the timer fires.
            self.arm_at(conn, self.now.mono + LINGER_MS);
        } else {
            self.close(conn);
        }
    }

    /// Phase: hands this turn's batches to the cores that have members.
    pub(super) fn close_batches(&mut self) {
        while let Some(key) = self.open_homes.pop() {
            self.close_batch(key);
        }
    }
}

/// The ways between cores, the farewell, and the sleep.
impl Core {
    /// Sends a letter, or takes it at once where it is for this core.
    pub(super) fn send(&mut self, to: ShardId, letter: Mail) {
        if to == self.id {
            self.take_letter(to, letter);
        } else {
            self.letters[to.index()].push(letter);
        }
    }

    /// Phase: posts the letters of this turn.
    fn send_post(&mut self) {
        for (mailbox, letters) in self.mailboxes.iter().zip(&mut self.letters) {
            if !letters.is_empty() {
                mailbox.send(Post { from: self.id, letters: std::mem::take(letters) });
            }
        }
    }

    /// The home of what hashes to `hash`.
    pub(super) fn home_of(&self, hash: u64) -> ShardId {
        hash::home(hash, self.mailboxes.len() as u16)
    }

    /// How many cores there are.
    pub(super) fn cores(&self) -> u64 {
        self.mailboxes.len() as u64
    }

    /// Begins the farewell.
    pub(super) fn stop(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain { until: self.now.mono + self.drain_ms });
        self.listener = None;
        for slot in 0..self.connections.slots() {
            if let Some((conn, _)) = self.connections.in_slot(slot) {
                self.say_goodbye(conn);
                self.close_with(conn, GOING_AWAY);
            }
        }
    }

    fn sleep_until_due(&mut self, cx: &mut Context<'_>, rests: bool) {
        let now = self.now.mono;
        let due = [
            self.wheel.next_due().map(Tick::starts_at),
            self.totals.front().map(|(due, _)| *due),
            self.drain.as_ref().map(|drain| drain.until),
            rests.then_some(now + REST_MS),
            (self.door_rests_until > now).then_some(self.door_rests_until),
        ];
        let Some(due) = due.into_iter().flatten().min() else {
            return;
        };
        if due != self.sleeps_until || self.sleep.is_elapsed() {
            self.sleeps_until = due;
            let wait = Duration::from_millis(due.since_ms(now));
            self.sleep.as_mut().reset(Instant::now() + wait);
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Future for Core {
    type Output = ();

    fn poll(self: Pin<&mut Core>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().turn(cx)
    }
}
