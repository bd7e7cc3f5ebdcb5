//! What clients say and hear, short enough to be read in a test.
//!
//! Owns the constructors of requests and the words that an event is put into. Never touches a
//! shard.

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::wire::message::{Event, Heartbeat, Hello, PresenceKind, Request};
use corebeat::wire::native;

pub(crate) fn hello(user: &str) -> Hello<'_> {
    Hello { version: native::VERSION, user, ..Hello::default() }
}

pub(crate) fn join(reference: u32, room: &str) -> Request<'_> {
    let (reference, epoch, since) = (Ref(reference), Epoch(0), Seq(0));
    Request::Join { reference, epoch, since, room, notify: false }
}

pub(crate) fn join_notify(reference: u32, room: &str) -> Request<'_> {
    let (reference, epoch, since) = (Ref(reference), Epoch(0), Seq(0));
    Request::Join { reference, epoch, since, room, notify: true }
}

/// A join that asks for what follows `since`, in the epoch of the last join where that is 0.
pub(crate) fn join_since(reference: u32, room: &str, epoch: u32, since: u64) -> Request<'_> {
    let (reference, epoch, since) = (Ref(reference), Epoch(epoch), Seq(since));
    Request::Join { reference, epoch, since, room, notify: false }
}

pub(crate) fn history(reference: u32, room: &str, since: u64, limit: u16) -> Request<'_> {
    Request::History { reference: Ref(reference), room, since: Seq(since), limit }
}

pub(crate) fn leave(reference: u32, room: &str) -> Request<'_> {
    Request::Leave { reference: Ref(reference), room }
}

pub(crate) fn publish<'a>(reference: u32, room: &'a str, body: &'a str) -> Request<'a> {
    let (reference, body) = (Ref(reference), body.as_bytes());
    Request::Publish { reference, room, body, echo: false }
}

pub(crate) fn publish_echo<'a>(reference: u32, room: &'a str, body: &'a str) -> Request<'a> {
    let (reference, body) = (Ref(reference), body.as_bytes());
    Request::Publish { reference, room, body, echo: true }
}

pub(crate) fn who(reference: u32, room: &str) -> Request<'_> {
    Request::Who { reference: Ref(reference), room }
}

pub(crate) fn direct<'a>(reference: u32, user: &'a str, body: &'a str) -> Request<'a> {
    Request::Direct { reference: Ref(reference), user, body: body.as_bytes() }
}

/// All direct messages up to this one, counted from the world's beginning, have arrived.
pub(crate) fn ack(direct: u64) -> Request<'static> {
    Request::Ack { id: DIRECTS_BEGIN + direct }
}

pub(crate) fn ping(seq: u32, time_ms: u64) -> Request<'static> {
    Request::Ping(Heartbeat { node: NodeId(0), time_ms, status: 0, seq })
}

/// Requests as one run of plain frames, the way a client that pipelines sends them.
pub(crate) fn frames(requests: &[Request<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        native::encode_request(&mut bytes, request, false);
    }
    bytes
}

/// A frame of any type, flags and payload, right or wrong.
pub(crate) fn frame(kind: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![native::MAGIC, kind];
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The number of the world's first direct message, less one.
pub(crate) const DIRECTS_BEGIN: u64 = super::world::BEGINNING_MS << 10;

/// A place in words; numbers of direct messages are counted from the world's beginning.
fn place(seq: u64) -> String {
    match seq.checked_sub(DIRECTS_BEGIN) {
        Some(direct) => format!("#{direct}"),
        None => seq.to_string(),
    }
}

/// An event in words. Times and epochs are left out; the tests that are about them read the event.
pub(crate) fn words(event: &Event<'_>) -> String {
    let text = String::from_utf8_lossy;
    match *event {
        Event::Welcome(welcome) if welcome.resumed => format!("resumed {}", welcome.user),
        Event::Welcome(welcome) => format!("welcome {}", welcome.user),
        Event::Ping(_) => "ping".to_owned(),
        Event::Pong(pong) => format!("pong {} of {}", pong.seq, pong.time_ms),
        Event::Bye { code, .. } => format!("bye {code}"),
        Event::Echo(body) => format!("echo {}", text(body)),
        Event::Ok { reference, flags, seq, .. } => {
            let duplicate = if flags.duplicate { " duplicate" } else { "" };
            let gap = if flags.gap { " gap" } else { "" };
            let queued = if flags.queued { " queued" } else { "" };
            format!("ok {}: {}{duplicate}{gap}{queued}", reference.0, place(seq.0))
        }
        Event::Error { reference, code, .. } => format!("error {}: {}", reference.0, code as u16),
        Event::Message { seq, room, from, body, replay, .. } => {
            let again = if replay { "again " } else { "" };
            format!("{again}[{room} {}] {from}: {}", seq.0, text(body))
        }
        Event::Direct { from, body, replay, .. } => {
            let again = if replay { "again " } else { "" };
            format!("{again}[{from} -> you] {}", text(body))
        }
        Event::Presence { kind, total, room, user } => match kind {
            PresenceKind::Joined => format!("{user} joined {room}, now {total}"),
            PresenceKind::Left => format!("{user} left {room}, now {total}"),
            PresenceKind::Many => format!("{user}many in {room}, now {total}"),
            PresenceKind::Online | PresenceKind::Offline => format!("{user} {kind:?}"),
        },
        Event::Roster { reference, total, users, .. } => {
            let mut names: Vec<&str> = users.iter().collect();
            names.sort_unstable();
            format!("roster {} of {total}: {}", reference.0, names.join(" "))
        }
        Event::GoAway { .. } => "goaway".to_owned(),
        Event::Gap { from, to, room, .. } => {
            format!("gap in {room}: {} to {}", place(from.0), place(to.0))
        }
        Event::Tempo { heartbeat_s, timeout_s } => format!("tempo {heartbeat_s} {timeout_s}"),
    }
}
