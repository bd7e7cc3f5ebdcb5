//! The kernel between clients and workers.
//!
//! Owns the bytes under way in both directions, each bounded, and how each side ended. Never
//! understands a byte. It also notes what an observer outside of the server can know of a
//! connection: when its last whole message was read, and how the server let it go.

use std::collections::VecDeque;
use std::io::IoSlice;

use corebeat::base::counters::CloseReason;
use corebeat::base::time::Mono;

use super::dice::Dice;

/// A connection, by its place in [`Network::links`].
pub(crate) type LinkId = usize;

/// What the client's side of a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    Open,
    /// It will send no more, but reads.
    Finished,
    /// It is gone: whoever writes gets an error.
    Reset,
}

/// What the server's side of a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerEnd {
    /// In the backlog, or open.
    Open,
    /// All bytes were sent, and then the end.
    Finished,
    /// The socket was dropped.
    Gone,
}

/// What a read of the server brought.
pub(crate) enum Arrived {
    Bytes(Vec<u8>),
    End,
    Reset,
    Nothing,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) worker: usize,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    up_capacity: usize,
    down_capacity: usize,
    pub(crate) client: ClientEnd,
    pub(crate) server: ServerEnd,
    /// When the server was told of the end of input.
    pub(crate) ended_at: Option<Mono>,
    /// When the server dropped the socket.
    pub(crate) dropped_at: Option<Mono>,
    /// The client does not care for what still comes.
    abandoned: bool,
    /// Bytes were lost with the connection.
    pub(crate) cut: bool,
    /// Bytes that the server wrote and the client had not read when it went away.
    lost: usize,
    /// The client is gone, and its host says nothing of it.
    is_dead: bool,
    pub(crate) opened_at: Mono,
    /// Where, in the client's stream, whole messages end that the server has not read.
    message_ends: VecDeque<u64>,
    read: u64,
    /// When the server read the end of the first message.
    pub(crate) first_heard_at: Option<Mono>,
    /// When the server last read the end of a message, or had another reason to think it alive.
    pub(crate) heard_at: Mono,
    /// A piece of a message is a sign of life, too.
    pub(crate) every_byte_counts: bool,
    /// It fetches pages: that it reads is a sign of life.
    pub(crate) fetches: bool,
    /// Whether the server sent all and then the end.
    pub(crate) shut_down: bool,
    /// It ended by a reset, at the instant at which the server was told.
    pub(crate) failed: bool,
    /// Why the server let it go.
    pub(crate) fate: Option<CloseReason>,
    /// The server ended, and the connection with it.
    pub(crate) crashed: bool,
}

impl Link {
    /// The client writes; returns how much fitted.
    pub(crate) fn client_write(&mut self, bytes: &[u8]) -> usize {
        if self.server == ServerEnd::Gone {
            return bytes.len();
        }
        let count = bytes.len().min(self.up_capacity - self.up.len());
        self.up.extend(&bytes[..count]);
        count
    }

    /// Notes that a whole message ends at `offset` of the client's stream.
    pub(crate) fn expect_message_end(&mut self, offset: u64) {
        self.message_ends.push_back(offset);
    }

    /// The client reads at most `most` bytes.
    pub(crate) fn client_read(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.down.len());
        self.down.drain(..count).collect()
    }

    /// Whether the client has read all that will ever come.
    pub(crate) fn at_end(&self) -> bool {
        self.server != ServerEnd::Open && self.down.is_empty()
    }

    /// The client will send no more.
    pub(crate) fn client_finish(&mut self) {
        if self.client == ClientEnd::Open {
            self.client = ClientEnd::Finished;
        }
    }

    /// The client drops whatever comes from now on.
    pub(crate) fn client_abandon(&mut self) {
        self.abandoned = true;
        self.down.clear();
    }

    /// Whether the client dropped what came.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// The client goes away, and the server is not told.
    pub(crate) fn client_dies(&mut self) {
        self.is_dead = true;
    }

    /// Whether the client went away and the server was not told.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead && self.client != ClientEnd::Reset
    }

    /// Bytes that the server wrote and that did not arrive.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.lost + self.down.len()
    }

    /// The client goes away at once.
    pub(crate) fn client_reset(&mut self) {
        self.client = ClientEnd::Reset;
        self.lost += self.down.len();
        self.up.clear();
        self.down.clear();
    }

    /// Whether a read of the server would bring anything.
    pub(crate) fn readable(&self) -> bool {
        match self.client {
            ClientEnd::Reset => true,
            ClientEnd::Finished => !self.up.is_empty() || self.ended_at.is_none(),
            ClientEnd::Open => !self.up.is_empty(),
        }
    }

    /// The server reads at most `most` bytes.
    pub(crate) fn server_read(&mut self, most: usize, now: Mono) -> Arrived {
        if self.client == ClientEnd::Reset {
            return Arrived::Reset;
        }
        if self.up.is_empty() {
            if self.client == ClientEnd::Finished && self.ended_at.is_none() {
                self.ended_at = Some(now);
                return Arrived::End;
            }
            return Arrived::Nothing;
        }
        let count = most.min(self.up.len());
        self.read += count as u64;
        while self.message_ends.front().is_some_and(|end| *end <= self.read) {
            self.message_ends.pop_front();
            self.first_heard_at.get_or_insert(now);
            self.heard_at = now;
        }
        if self.every_byte_counts {
            self.heard_at = now;
        }
        Arrived::Bytes(self.up.drain(..count).collect())
    }

    /// Whether a write of the server would take anything, or fail.
    pub(crate) fn writable(&self) -> bool {
        self.abandoned || self.client == ClientEnd::Reset || self.down.len() < self.down_capacity
    }

    /// The server writes; returns how much fitted, `None` for a client that is gone.
    pub(crate) fn server_write(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        assert_eq!(self.server, ServerEnd::Open, "bytes were written after the end was sent");
        if self.client == ClientEnd::Reset {
            return None;
        }
        if self.abandoned {
            return Some(slices.iter().map(|slice| slice.len()).sum());
        }
        let before = self.down.len();
        for slice in slices {
            let count = slice.len().min(self.down_capacity - self.down.len());
            self.down.extend(&slice[..count]);
        }
        Some(self.down.len() - before)
    }

    /// The server sends the end.
    pub(crate) fn server_finish(&mut self) {
        assert_eq!(self.server, ServerEnd::Open, "the end is sent once, while the socket is open");
        self.server = ServerEnd::Finished;
        self.shut_down = true;
    }

    /// The server drops the socket. Unread input makes that a reset, which may overtake bytes.
    pub(crate) fn server_drop(&mut self, reason: CloseReason, now: Mono, dice: &mut Dice) {
        assert_ne!(self.server, ServerEnd::Gone, "a socket is dropped once");
        self.server = ServerEnd::Gone;
        self.fate = Some(reason);
        self.failed = reason == CloseReason::SocketError && !self.shut_down;
        self.dropped_at = Some(now);
        if !self.up.is_empty() && dice.chance(500) {
            self.cut |= !self.down.is_empty();
            self.down.clear();
        }
    }

    /// The worker panicked: it says its last words, as far as the kernel takes them, and drops the
    /// socket, of which nothing is left unread.
    pub(super) fn server_panics(
        &mut self,
        words: &[u8],
        reason: CloseReason,
        now: Mono,
        dice: &mut Dice,
    ) {
        self.up.clear();
        // What it was to be told because its end was decided before goes with the shard.
        let was_closing = reason != CloseReason::WorkerPanicked;
        self.cut |= was_closing && self.server == ServerEnd::Open;
        if !words.is_empty() && self.client != ClientEnd::Reset {
            let taken = self.server_write(&[IoSlice::new(words)]);
            self.cut |= taken.is_some_and(|taken| taken < words.len());
        }
        if self.server == ServerEnd::Open && self.client != ClientEnd::Reset {
            self.server_finish();
        }
        self.server_drop(reason, now, dice);
    }

    /// The server's process is gone: what the kernel has to send may arrive, or a part of it.
    fn server_crashes(&mut self, now: Mono, dice: &mut Dice) {
        if self.server == ServerEnd::Gone {
            return;
        }
        self.server = ServerEnd::Gone;
        self.crashed = true;
        self.dropped_at.get_or_insert(now);
        let some = dice.within(0..=self.down.len());
        let arrives = dice.pick(&[0, some, self.down.len()]);
        self.cut |= arrives < self.down.len();
        self.down.truncate(arrives);
    }

    /// Whether nothing is under way on it.
    pub(crate) fn is_quiet(&self) -> bool {
        let server_done = self.server == ServerEnd::Gone || !self.readable();
        server_done && (self.down.is_empty() || self.is_dead)
    }
}

/// All connections there ever were, and those that nobody has accepted yet.
pub(crate) struct Network {
    pub(crate) links: Vec<Link>,
    pub(crate) backlogs: Vec<VecDeque<LinkId>>,
    kernel_bytes: (usize, usize),
    /// All that clients read, condensed: two runs of one seed must agree on it.
    pub(crate) fingerprint: u64,
}

impl Network {
    /// No connection to any of `workers`.
    pub(crate) fn new(workers: usize, kernel_bytes: (usize, usize)) -> Network {
        let backlogs = std::iter::repeat_with(VecDeque::new).take(workers).collect();
        Network { links: Vec::new(), backlogs, kernel_bytes, fingerprint: 0xCBF2_9CE4_8422_2325 }
    }

    /// A client connects to `worker`.
    pub(crate) fn connect(&mut self, worker: usize, now: Mono, dice: &mut Dice) -> LinkId {
        let (least, most) = self.kernel_bytes;
        let link = self.links.len();
        self.links.push(Link {
            worker,
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_capacity: dice.within(least..=most),
            down_capacity: dice.within(least..=most),
            client: ClientEnd::Open,
            server: ServerEnd::Open,
            ended_at: None,
            dropped_at: None,
            abandoned: false,
            cut: false,
            lost: 0,
            is_dead: false,
            opened_at: now,
            message_ends: VecDeque::new(),
            read: 0,
            first_heard_at: None,
            heard_at: now,
            every_byte_counts: false,
            fetches: false,
            shut_down: false,
            failed: false,
            fate: None,
            crashed: false,
        });
        self.backlogs[worker].push_back(link);
        link
    }

    /// The server's process is gone, with all connections and those that nobody accepted.
    pub(crate) fn server_crashes(&mut self, now: Mono, dice: &mut Dice) {
        self.backlogs.iter_mut().for_each(VecDeque::clear);
        self.links.iter_mut().for_each(|link| link.server_crashes(now, dice));
    }

    /// A client reads; what it reads becomes part of the fingerprint.
    pub(crate) fn client_read(&mut self, link: LinkId, most: usize) -> Vec<u8> {
        let bytes = self.links[link].client_read(most);
        for byte in &bytes {
            self.fingerprint = (self.fingerprint ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
        bytes
    }
}
