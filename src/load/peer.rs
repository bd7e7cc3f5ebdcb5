//! What the generator remembers of one connection.
//!
//! Owns how far the connection has come and how far its room's messages have been heard, in 16
//! bytes, since there may be a million of them. Pure: bytes are taken apart before they come here
//! ([`speech`](super::speech)), and time is handed in. Never looks into a body: the
//! [`Ledger`](super::ledger::Ledger) does.

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It is not open.
    Absent,
    /// The kernel is connecting it.
    Connecting,
    /// It has asked for a WebSocket.
    Upgrading,
    /// It has said hello.
    Greeting,
    /// It was welcomed and waits to be let into its room.
    Joining,
    /// It is where it wants to be.
    Ready,
    /// It ended in a way that was not planned, and stays away.
    Lost,
}

/// What a message means to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It is the next one.
    Next,
    /// So many before it did not come.
    Missing(u32),
    /// It came before, or comes too late.
    Again,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The number of the last message heard, or of the last one before the join.
    heard: u32,
    /// Own messages among those numbers, which are not sent back.
    skipped: u32,
    /// When the connection was asked for, in microseconds; wraps after an hour.
    asked_us: u32,
    /// How far it has come.
    stage: Stage,
    /// The room's last number at the join is not known: the first message tells.
    adrift: bool,
}

const _: () = assert!(size_of::<Peer>() == 16);

impl Default for Peer {
    fn default() -> Peer {
        Peer { heard: 0, skipped: 0, asked_us: 0, stage: Stage::Absent, adrift: false }
    }
}

impl Peer {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The number of the last message heard.
    pub fn heard(&self) -> u32 {
        self.heard
    }

    /// Own messages that were passed over.
    pub fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Whether it is open, as far as is known.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Absent | Stage::Lost)
    }

    /// Whether anything was said.
    pub fn is_greeted(&self) -> bool {
        self.is_open() && self.stage != Stage::Connecting
    }

    /// The connection is asked for, at `now_ns`.
    pub fn ask(&mut self, now_ns: u64) {
        *self = Peer { asked_us: (now_ns / 1_000) as u32, stage: Stage::Connecting, ..*self };
    }

    /// The kernel has connected it, and its request for a WebSocket was made.
    pub fn upgrade(&mut self) {
        self.stage = Stage::Upgrading;
    }

    /// It can be spoken to, and its hello was said.
    pub fn greet(&mut self) {
        self.stage = Stage::Greeting;
    }

    /// It was welcomed. Whether it was waiting for that.
    pub fn welcome(&mut self, wants_room: bool) -> bool {
        let expected = self.stage == Stage::Greeting;
        self.stage = if wants_room { Stage::Joining } else { Stage::Ready };
        expected
    }

    /// It was let into its room, whose last message so far was `head`, where that is known.
    pub fn join(&mut self, head: Option<u32>) -> bool {
        let expected = self.stage == Stage::Joining;
        (self.heard, self.skipped) = (head.unwrap_or(0), 0);
        self.adrift = head.is_none();
        self.stage = Stage::Ready;
        expected
    }

    /// Its session was resumed and it has heard all that it missed: it is in its room again.
    pub fn catch_up(&mut self) {
        self.stage = Stage::Ready;
    }

    /// It is gone: by plan, or `lost`.
    pub fn leave(&mut self, lost: bool) {
        self.stage = if lost { Stage::Lost } else { Stage::Absent };
    }

    /// How long ago it was asked for, in nanoseconds.
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        u64::from(((now_ns / 1_000) as u32).wrapping_sub(self.asked_us)) * 1_000
    }

    /// Message `seq` of its room has come. `own` is how many messages it sent to the room itself:
    /// so many numbers may be passed over.
    pub fn hear(&mut self, seq: u32, own: u32) -> Hearing {
        if self.adrift {
            self.adrift = false;
            self.heard = seq;
            return Hearing::Next;
        }
        if seq <= self.heard {
            return Hearing::Again;
        }
        let between = seq - self.heard - 1;
        self.heard = seq;
        let passed = between.min(own.saturating_sub(self.skipped));
        self.skipped += passed;
        match between - passed {
            0 => Hearing::Next,
            missing => Hearing::Missing(missing),
        }
    }

    /// The server said that so many messages are not coming.
    pub fn pass_over(&mut self, count: u32) {
        self.heard = self.heard.saturating_add(count);
    }

    /// How many of the `last` messages of its room have not come, `own` of which are its own.
    pub fn missing(&self, last: u32, own: u32) -> u32 {
        if self.adrift {
            return last.saturating_sub(own);
        }
        last.saturating_sub(self.heard).saturating_sub(own.saturating_sub(self.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(head: Option<u32>) -> Peer {
        let mut peer = Peer::default();
        peer.ask(5_000);
        peer.greet();
        assert!(peer.welcome(true));
        assert!(peer.join(head));
        assert_eq!(peer.stage(), Stage::Ready);
        peer
    }

    #[test]
    fn messages_follow_the_head_of_the_join() {
        let mut peer = joined(Some(41));
        assert_eq!(peer.hear(42, 0), Hearing::Next);
        assert_eq!(peer.hear(43, 0), Hearing::Next);
        assert_eq!(peer.hear(43, 0), Hearing::Again);
        assert_eq!(peer.hear(46, 0), Hearing::Missing(2));
        assert_eq!(peer.hear(45, 0), Hearing::Again, "too late is as bad as twice");
        assert_eq!(peer.hear(47, 0), Hearing::Next);
        assert_eq!(peer.missing(50, 0), 3);
    }

    #[test]
    fn own_messages_may_be_passed_over_and_no_others() {
        let mut peer = joined(Some(0));
        assert_eq!(peer.hear(1, 0), Hearing::Next);
        assert_eq!(peer.hear(4, 2), Hearing::Next, "2 and 3 are its own");
        assert_eq!(peer.hear(6, 2), Hearing::Missing(1), "both were passed over already");
        assert_eq!(peer.missing(8, 4), 0, "7 and 8 are its own");
        assert_eq!(peer.missing(9, 4), 1);
    }

    #[test]
    fn who_does_not_know_the_head_learns_it_from_the_first_message() {
        let mut peer = joined(None);
        assert_eq!(peer.missing(3, 0), 3, "it heard none at all");
        assert_eq!(peer.hear(9, 0), Hearing::Next);
        assert_eq!(peer.hear(11, 0), Hearing::Missing(1));
    }

    #[test]
    fn what_the_server_says_it_left_out_is_not_missing_a_second_time() {
        let mut peer = joined(Some(10));
        peer.pass_over(5);
        assert_eq!(peer.hear(16, 0), Hearing::Next);
    }

    #[test]
    fn a_welcome_that_nobody_waits_for_is_noticed() {
        let mut peer = Peer::default();
        peer.ask(0);
        peer.greet();
        assert!(peer.welcome(false));
        assert_eq!(peer.stage(), Stage::Ready);
        assert!(!peer.welcome(false));
    }

    #[test]
    fn ages_survive_the_wrap_of_the_clock() {
        let mut peer = Peer::default();
        let late = (u64::from(u32::MAX) - 1) * 1_000;
        peer.ask(late);
        assert_eq!(peer.age_ns(late + 5_000_000), 5_000_000);
    }
}
