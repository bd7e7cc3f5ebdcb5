//! What a shard does for its clients, counted.

use corebeat::base::ids::Ref;
use corebeat::base::limits::Limits;
use corebeat::chat::shard::Progress;
use corebeat::wire::message::Request;
use corebeat::wire::native::kind;

use super::hall::{Hall, client, encode};
use super::measured;

const WARM_UP_ROUNDS: usize = 10;
const ROUNDS: usize = 20;
const MEMBERS: usize = 1_000;
const BODY: &[u8] = b"sixty-four bytes of a message, as people are used to writing it.";

/// One PUBLISH received, decoded and taken to a room that has no members and keeps nothing.
pub(crate) fn receive() -> usize {
    publish_unheard(Limits { history_count: 0, ..Limits::default() })
}

/// The same in a room that keeps its messages, and has as many as it may.
pub(crate) fn keep() -> usize {
    publish_unheard(Limits { history_count: 100, ..Limits::default() })
}

fn publish_unheard(limits: Limits) -> usize {
    const FRAMES_A_TURN: usize = 50;
    let mut hall = Hall::with_limits(1, limits);
    let frame = publish("empty");
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        counted_if(round >= WARM_UP_ROUNDS, || {
            for _ in 0..FRAMES_A_TURN {
                hall.shard.receive(client(0), &frame, hall.now);
            }
        });
        hall.settle();
    }
    let published = (WARM_UP_ROUNDS + ROUNDS) * FRAMES_A_TURN;
    assert_eq!(hall.shard.counters().published, published as u64);
    ROUNDS * FRAMES_A_TURN
}

/// One message published to 1,000 members, from its frame to their outboxes.
pub(crate) fn publish_1000() -> usize {
    let (mut hall, frame) = full_room();
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        counted_if(round >= WARM_UP_ROUNDS, || {
            hall.shard.receive(client(MEMBERS), &frame, hall.now);
            hall.fan_out();
        });
        hall.settle();
    }
    assert_delivered(&hall);
    ROUNDS
}

/// One member's bytes gathered for the kernel and taken by it.
pub(crate) fn deliver() -> usize {
    let (mut hall, frame) = full_room();
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        hall.shard.receive(client(MEMBERS), &frame, hall.now);
        hall.fan_out();
        let sends = counted_if(round >= WARM_UP_ROUNDS, || {
            std::iter::from_fn(|| hall.send_to_next()).count()
        });
        assert_eq!(sends, MEMBERS);
        hall.settle();
    }
    assert_delivered(&hall);
    ROUNDS * MEMBERS
}

/// One heartbeat of a silent connection: its timer fires, a PING is queued and armed for, the PONG
/// is received, the timer finds that out and is armed for the next.
pub(crate) fn heartbeat() -> usize {
    const CLIENTS: u64 = 1_000;
    let mut hall = Hall::with_clients(CLIENTS as usize);
    while hall.shard.counters().pings < 2 * CLIENTS {
        beat(&mut hall, false);
    }
    let before = hall.shard.counters().pings;
    while hall.shard.counters().pings < before + 2 * CLIENTS {
        beat(&mut hall, true);
    }
    let counters = hall.shard.counters();
    assert_eq!((counters.pongs, counters.probes), (counters.pings, 0));
    (counters.pings - before) as usize
}

/// Lets time go on to the next deadline, and every client answer its PING.
fn beat(hall: &mut Hall, counted: bool) {
    let deadline = hall.shard.next_deadline().expect("a connection has a timer");
    let now = hall.now.plus_ms(deadline.since_ms(hall.now.mono));
    hall.now = now;
    counted_if(counted, || while hall.shard.expire(now) == Progress::More {});
    let mut pongs = Vec::new();
    while let Some((conn, bytes)) = hall.take_next() {
        pongs.push((conn, pong(bytes)));
    }
    counted_if(counted, || {
        for (conn, bytes) in &pongs {
            hall.shard.receive(*conn, bytes, now);
        }
    });
    hall.settle();
}

/// The PONG for a PING.
fn pong(mut frame: Vec<u8>) -> Vec<u8> {
    assert_eq!((frame[1], frame.len()), (kind::PING, 8 + 17), "nothing but a PING was sent");
    frame[1] = kind::PONG;
    frame[8..12].fill(0);
    frame
}

/// A room with 1,000 members, and the frame of a message to them from a client beside them.
fn full_room() -> (Hall, Vec<u8>) {
    let mut hall = Hall::with_clients(MEMBERS + 1);
    hall.join(0..MEMBERS, "full");
    (hall, publish("full"))
}

fn publish(room: &str) -> Vec<u8> {
    encode(&Request::Publish { reference: Ref::NONE, room, body: BODY, echo: false })
}

fn assert_delivered(hall: &Hall) {
    let delivered = (WARM_UP_ROUNDS + ROUNDS) * MEMBERS;
    assert_eq!(hall.shard.counters().delivered, delivered as u64);
}

/// Does the work, and counts it once the warm-up is over.
fn counted_if<R>(counted: bool, work: impl FnOnce() -> R) -> R {
    if counted { measured(work) } else { work() }
}
