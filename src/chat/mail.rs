//! What one shard tells another.
//!
//! Owns [`Mail`]. Never sends: letters wait in the [`postbag`](super::postbag), and the worker puts
//! them into the other worker's mailbox. What a shard has to tell itself never becomes a letter.

use std::sync::Arc;

use crate::base::counters::CloseReason;
use crate::base::ids::{Address, ConnId, Epoch, Position, Ref, Seq, SessionId};
use crate::base::name::Name;
use crate::wire::message::Code;

use super::batch::Batch;
use super::catch_up::Round;
use super::direct::Direct;
use super::excess::Purpose;
use super::history::Missing;
use super::kept::Kept;
use super::lives::LifeMail;
use super::membership::Stay;
use super::reader::{Coming, Missing as MissingDirects};
use super::room::Presence;
use super::stats::ShardStats;
use super::whereabouts::Whereabouts;

/// A letter. Between two shards letters arrive in the order in which they were posted; everything
/// that is said of join seams rests on that.
#[derive(Debug)]
pub enum Mail {
    /// To a room's home: this connection joins, or (`again`) asks to be told the head once more.
    Join {
        /// The room.
        room: Name,
        /// The member's user.
        user: Name,
        /// The member.
        member: Address,
        /// The request's number.
        reference: Ref,
        /// The stay that begins.
        stay: Stay,
        /// It is a member already; nothing begins.
        again: bool,
        /// It was a member before, and its user is in the roster still.
        returns: bool,
        /// What it is to get of the past.
        since: Since,
    },
    /// To a room's home: a member whose replay has not reached the head asks for its next page.
    NextPage {
        /// The room.
        room: Name,
        /// The member.
        member: Address,
        /// Its replay.
        round: Round,
        /// What the replay came to.
        after: Position,
    },
    /// To a room's home: what was said?
    History {
        /// The room.
        room: Name,
        /// Who asks.
        origin: Address,
        /// The request's number.
        reference: Ref,
        /// How much of it.
        extent: Extent,
    },
    /// To a room's home: a connection of the sending shard left. Every join is followed by one
    /// leave, also a join that the home refuses: the leave may be under way already.
    Leave {
        /// The room.
        room: Name,
        /// The user that it had.
        user: Name,
        /// The stay that ends.
        stay: Stay,
    },
    /// To a room's home: a member changed its name.
    Rename {
        /// The room.
        room: Name,
        /// The old name.
        from: Name,
        /// The new one.
        to: Name,
        /// The member.
        member: Address,
        /// The stay in which it is.
        stay: Stay,
    },
    /// To a room's home: a message.
    Publish {
        /// The room.
        room: Name,
        /// The sender's user.
        from: Name,
        /// The sender.
        origin: Address,
        /// The request's number.
        reference: Ref,
        /// The sender wants it too.
        echo: bool,
        /// What is said.
        body: Box<[u8]>,
    },
    /// To a room's home: who is there?
    Who {
        /// The room.
        room: Name,
        /// Who asks.
        origin: Address,
        /// The request's number.
        reference: Ref,
    },
    /// To a room's home: a member lost its connection and may come back. Its stay ends, and its
    /// user stays in the roster.
    Suspend {
        /// The room.
        room: Name,
        /// The stay that ends.
        stay: Stay,
    },
    /// To a room's home: a suspended member did not come back in time. Its user leaves the roster.
    Absent {
        /// The room.
        room: Name,
        /// The user.
        user: Name,
    },
    /// To a user's home: is there room for another session of the user? If so it begins, as by
    /// [`Mail::Online`].
    Ask {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
        /// What the session wants.
        purpose: Purpose,
    },
    /// The answer to that.
    Answer {
        /// The session's connection.
        conn: ConnId,
        /// The user.
        user: Name,
        /// What the session wanted.
        purpose: Purpose,
        /// Whether it has it.
        has_room: bool,
    },
    /// To a user's home: a session began, or was resumed on a new connection.
    Online {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
        /// Which session it is, whatever its connection.
        identity: SessionId,
        /// What it was told before.
        coming: Coming,
    },
    /// To a user's home: a session lost its connection, or ended with it.
    Offline {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
        /// Which session it is, whatever its connection.
        identity: SessionId,
        /// What becomes of the session.
        ending: Ending,
    },
    /// To a user's home: a session whose [`Mail::Offline`] said [`Ending::Kept`] was not resumed in
    /// time and never will be.
    Expired {
        /// The user.
        user: Name,
        /// The session.
        identity: SessionId,
    },
    /// To a user's home: the grace of a session that lost its connection is over.
    Away {
        /// The user.
        user: Name,
        /// The connection that it lost, of which [`Mail::Offline`] may be under way still.
        session: Address,
        /// Its rooms.
        rooms: Arc<[Name]>,
    },
    /// To a user's home: a session whose grace was over was resumed. Behind its [`Mail::Online`].
    Back {
        /// The user.
        user: Name,
        /// The session's new connection.
        session: Address,
        /// Its rooms.
        rooms: Arc<[Name]>,
    },
    /// To every shard, from a user's home: the user has no live session any more, or has one again.
    Whereabouts(Arc<Whereabouts>),
    /// To a session's birth shard: it lost its connection, and all that was under way for it has
    /// arrived.
    Deposit(Box<Kept>),
    /// To a session's birth shard: it ended for good, away from there.
    Ended {
        /// The session.
        session: SessionId,
    },
    /// To a session's birth shard: a connection asks to resume it, with its key.
    Claim {
        /// The session.
        session: SessionId,
        /// Who asks.
        claimer: Address,
        /// Whose session the client takes it for, unless it does not say.
        user: Option<Name>,
    },
    /// To the shard where a session lives: another connection claims it. Where it is gone, its
    /// [`Mail::Deposit`] or [`Mail::Ended`] is under way.
    Evict {
        /// The session.
        session: SessionId,
        /// Where it lives.
        conn: ConnId,
        /// Whose it has to be, unless that was not said.
        user: Option<Name>,
    },
    /// To a session's birth shard, which asked for its eviction: it is somebody else's and stays.
    Stays {
        /// The session.
        session: SessionId,
    },
    /// From a session's birth shard: it is the claimer's now.
    Granted {
        /// The claimer.
        conn: ConnId,
        /// The session.
        kept: Box<Kept>,
    },
    /// From a session's birth shard: there is no such session for the claimer.
    Denied {
        /// The claimer.
        conn: ConnId,
    },
    /// To a user's home: a message for that user.
    Direct {
        /// To whom.
        user: Name,
        /// From whom.
        from: Name,
        /// The sender.
        origin: Address,
        /// The request's number.
        reference: Ref,
        /// What is said.
        body: Box<[u8]>,
    },
    /// To a user's home: a session of the user acknowledged all direct messages up to `id`.
    Ack {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
        /// The last one's number.
        id: u64,
    },
    /// To a user's home: a session has been handed a page of direct messages and can take another.
    NextDirects {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
    },
    /// To a user's home: direct messages came too late for a session, which had left.
    DirectsMissed {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
        /// The number of the first one.
        from: u64,
        /// The number of the last one.
        to: u64,
    },
    /// To a user's home, the answer to [`Mail::LastDirects`]: what came too late has been told.
    DirectsEnded {
        /// The user.
        user: Name,
        /// The session's connection.
        session: Address,
    },
    /// Because one of the shards has begun anew.
    Life(LifeMail),
    /// To every shard: what are your numbers?
    AskStats,
    /// The answer to that.
    Stats(Box<ShardStats>),
    /// From a room's home: the join is done; live messages follow `seq`.
    Joined {
        /// The room.
        room: Name,
        /// The member.
        conn: ConnId,
        /// The request's number.
        reference: Ref,
        /// The stay that is meant.
        stay: Stay,
        /// The room's epoch.
        epoch: Epoch,
        /// The room's last message before the stay.
        seq: Seq,
        /// Members of the room now.
        total: u32,
        /// The beginning of the replay, where one was asked for. If it does not come to the head,
        /// the stay begins behind a later page.
        replay: Option<Box<Replay>>,
    },
    /// From a room's home: how the replay goes on. Where it comes to the head, the stay begins.
    Page {
        /// The room.
        room: Name,
        /// The member.
        conn: ConnId,
        /// Its replay.
        round: Round,
        /// Members of the room now.
        total: u32,
        /// The page.
        replay: Box<Replay>,
    },
    /// From a room's home: what was said.
    Listed {
        /// Who asked.
        conn: ConnId,
        /// The room.
        room: Name,
        /// The request's number.
        reference: Ref,
        /// The room's last message.
        head: Position,
        /// The messages, and what is missing before them.
        replay: Box<Replay>,
    },
    /// From a room's home: the message has its place.
    Published {
        /// The sender.
        conn: ConnId,
        /// The request's number.
        reference: Ref,
        /// The room's epoch.
        epoch: Epoch,
        /// The message's place.
        seq: Seq,
    },
    /// From a room's home: messages for the members of the receiving shard.
    Deliver(Arc<Batch>),
    /// From a room's home: these messages were not sent to the receiving shard.
    Gap {
        /// The room.
        room: Name,
        /// The epoch.
        epoch: Epoch,
        /// The first one missing.
        from: Seq,
        /// The last one missing.
        to: Seq,
    },
    /// From a room's home: somebody came or went.
    Presence {
        /// The room.
        room: Name,
        /// What happened.
        presence: Presence,
    },
    /// From a room's home: who is there.
    Roster {
        /// Who asked.
        conn: ConnId,
        /// The room.
        room: Name,
        /// The request's number.
        reference: Ref,
        /// Members of the room now.
        total: u32,
        /// Some or all of their names, encoded as [`Names`](crate::wire::message::Names).
        names: Box<[u8]>,
    },
    /// From a user's home: a message for one of the user's sessions.
    DirectTo {
        /// The session's connection.
        conn: ConnId,
        /// The user.
        user: Name,
        /// The message.
        direct: Direct,
    },
    /// From a user's home: messages that were kept for the user.
    Directs(Box<DirectPage>),
    /// From a user's home: no more messages follow to a session that has left.
    LastDirects {
        /// The session's connection.
        conn: ConnId,
        /// The user.
        user: Name,
    },
    /// From a user's home: the direct message is on its way to the user's sessions, or kept.
    DirectDone {
        /// The sender.
        conn: ConnId,
        /// The request's number.
        reference: Ref,
        /// The message's number.
        id: u64,
        /// The user, where the message is kept until there is a session.
        queued_for: Option<Name>,
    },
    /// From a home: the request cannot be done.
    Refused {
        /// Who asked.
        conn: ConnId,
        /// The request's number.
        reference: Ref,
        /// What was asked.
        request: Asked,
        /// Why, as a number.
        code: Code,
        /// Why, in words.
        text: &'static str,
    },
}

const _: () = assert!(size_of::<Mail>() <= 64, "mailboxes are sized for small letters");

/// Direct messages that were kept for a user, on their way to one of the user's sessions.
#[derive(Debug)]
pub struct DirectPage {
    /// The session's connection.
    pub conn: ConnId,
    /// The messages, each with the flag `REPLAY`. The room of the batch is the user's name. Without
    /// any, nothing is left to be told: what follows is live.
    pub batch: Arc<Batch>,
    /// What is no longer kept, to be told ahead of them.
    pub missing: Option<MissingDirects>,
    /// Whether the session's shard asked for it.
    pub asked: bool,
}

/// What becomes of a session that has lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended for good, at its client's wish or by its fault.
    Orderly,
    /// It is kept: it will be resumed, or [`Mail::Expired`] says that it was not.
    Kept,
    /// It was cut off, and there is no way to resume it.
    Cut,
}

impl Ending {
    /// The ending of a session that is not kept, whose connection ended for `reason`.
    pub fn of(reason: CloseReason) -> Ending {
        match reason {
            CloseReason::PeerClosed
            | CloseReason::SocketError
            | CloseReason::Reset
            | CloseReason::Unacknowledged
            | CloseReason::HeartbeatTimeout
            | CloseReason::SlowReader
            | CloseReason::StalledReader
            | CloseReason::FrameTimeout
            | CloseReason::Superseded
            | CloseReason::Draining => Ending::Cut,
            _ => Ending::Orderly,
        }
    }
}

/// What a member that joins is to get of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Nothing: what follows the present head.
    Live,
    /// What follows this message. Epoch 0 is whatever the present one is.
    After(Position),
    /// What a session that goes on may not have got.
    Resumed {
        /// The last message that was on its way to it.
        last: Position,
        /// Bytes of messages up to that one, as plain native frames, that may not have arrived.
        undelivered_bytes: u32,
    },
}

/// How much of a room's history somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// At most `limit` messages that follow `since`; 0 stands for the oldest one, and for as many
    /// as there are.
    Following {
        /// A place in the present epoch.
        since: Seq,
        /// How many.
        limit: u16,
    },
    /// The last ones, at most so many.
    Latest(u16),
}

/// A page of what was said.
#[derive(Debug)]
pub struct Replay {
    /// The messages, each with the flag `REPLAY`; several epochs may be in it. Absent where there
    /// is none.
    pub page: Option<Arc<Batch>>,
    /// The last message that it holds or leaves out for good: what follows it is not told yet.
    pub last: Position,
    /// Nothing follows it.
    pub is_head: bool,
    /// Part of what was asked for is no longer kept.
    pub gap: bool,
    /// What of it is to be told as a GAP, ahead of the page.
    pub missing: Option<Missing>,
}

/// Which kind of request a refusal answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A join, whose stay so never begins.
    Join {
        /// The stay.
        stay: Stay,
    },
    /// A message, whose ref may be used again.
    Publish,
    /// A question.
    Who,
    /// A question about the past.
    History,
    /// A direct message.
    Direct,
}
