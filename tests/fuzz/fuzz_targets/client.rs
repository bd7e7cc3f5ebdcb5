//! Arbitrary bytes and frames as what a server says to the client library, between whatever its
//! program does: no panic, the same however the bytes arrive, whole requests that a server
//! understands, each message of a room once and in order, and every bound kept.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::base::limits::{CLIENT_EVENTS_MAX, FRAME_CRC, FRAME_HEADER, MAX_FRAME_RANGE};
use corebeat::client::core::{Command, Core, Moment};
use corebeat::client::{Config, Event, GapReason, JoinOptions, Place, PresenceKind, RequestError};
use corebeat::wire::message::{Code, Event as Said, Heartbeat, OkFlags, Welcome};
use corebeat::wire::native;
use libfuzzer_sys::fuzz_target;

/// Requests that may wait.
const QUEUE: usize = 8;
const NAMES: [&str; 3] = ["den", "tea", "*"];

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut rest = bytes;
    while let [order, operand, tail @ ..] = rest {
        rest = world.obey(*order, *operand, tail);
        world.settle();
    }
    world.close();
});

/// A client, and what its shell knows.
struct Client {
    core: Core,
    commands: Vec<Command>,
    /// What it has said and no frame was made of yet.
    said: Vec<u8>,
}

/// Two clients that are told the same, one of them in pieces.
struct World {
    whole: Client,
    pieces: Client,
    piece: usize,
    now: Moment,
    online: bool,
    /// The last place that was told, by room and epoch, since the room was last joined.
    places: BTreeMap<(Arc<str>, Epoch), Seq>,
}

impl Client {
    fn new(now: Moment) -> Client {
        let mut config = Config::new("one,two:9", "ann").unwrap();
        config.queue_limit = QUEUE;
        let mut core = Core::new(config, 7).unwrap();
        core.start(now);
        Client { core, commands: Vec::new(), said: Vec::new() }
    }

    /// Takes out what it wants done. Whether it hung up.
    fn take_commands(&mut self) -> bool {
        let before = self.commands.len();
        self.commands.extend(std::iter::from_fn(|| self.core.poll_command()));
        self.commands[before..].contains(&Command::HangUp)
    }

    /// Writes all that it says. Frames are whole and understood.
    fn write(&mut self) {
        let count = self.core.outgoing().len();
        let bytes = self.core.outgoing().to_vec();
        self.core.wrote(count);
        self.said.extend_from_slice(&bytes);
        let mut at = 0;
        while let Some((frame, length)) = native::frame(&self.said[at..], 1 << 20).expect("frames")
        {
            native::request(&frame).expect("good").expect("of this version");
            at += length;
        }
        self.said.drain(..at);
        assert!(self.said.is_empty(), "half a frame");
    }
}

impl World {
    fn new() -> World {
        let now = Moment { us: 1, wall_ms: 1_790_000_000_000 };
        let mut world = World {
            whole: Client::new(now),
            pieces: Client::new(now),
            piece: 1,
            now,
            online: false,
            places: BTreeMap::new(),
        };
        world.settle();
        world
    }

    fn both(&mut self, call: impl Fn(&mut Core, Moment)) {
        call(&mut self.whole.core, self.now);
        call(&mut self.pieces.core, self.now);
    }

    /// Does one thing; returns what is left of the input.
    fn obey<'a>(&mut self, order: u8, operand: u8, tail: &'a [u8]) -> &'a [u8] {
        let name = NAMES[usize::from(operand) % NAMES.len()];
        let count = usize::from(operand);
        match order % 16 {
            0..=2 => {
                let (bytes, tail) = tail.split_at(tail.len().min(count));
                self.piece = usize::from(order / 16) + 1;
                self.hear(bytes);
                return tail;
            }
            3..=8 => {
                let (bytes, tail) = tail.split_at(tail.len().min(3));
                let numbers: [u8; 3] = std::array::from_fn(|at| bytes.get(at).map_or(0, |b| *b));
                self.piece = usize::from(order / 16) + 1;
                let frame = frame(order % 16 - 3, operand, numbers);
                self.hear(&frame);
                return tail;
            }
            9 => self.join(name, count),
            10 => {
                self.whole.core.leave(name, self.now).ok();
                self.pieces.core.leave(name, self.now).ok();
                self.places.retain(|(room, _), _| **room != *name);
            }
            11 => self.both(|core, now| {
                let _ = core.publish(name, &[operand; 3], count > 127, now);
            }),
            12 => self.both(|core, now| {
                let _ = match count / 3 % 3 {
                    0 => core.direct(name, b"psst", now),
                    1 => core.who(name, now),
                    _ => core.history(name, Seq(u64::from(order / 16)), 5, now),
                };
            }),
            13 => {
                self.now.us += u64::from(operand) * u64::from(operand) * 1_000;
                let now = self.now.us;
                if self.whole.core.deadline_us().is_some_and(|due| due <= now) {
                    self.both(Core::expire);
                }
            }
            14 if self.online => {
                self.online = false;
                self.both(|core, now| core.disconnected("cut", now));
            }
            14 => self.both(Core::wake),
            _ => self.take_events(count + 1),
        }
        tail
    }

    fn join(&mut self, name: &str, count: usize) {
        let since = (count > 199).then_some(Place { epoch: Epoch(1), seq: Seq(count as u64 % 4) });
        let options = JoinOptions { notify: count > 127, since };
        self.whole.core.join(name, options, self.now).ok();
        self.pieces.core.join(name, options, self.now).ok();
        self.places.retain(|(room, _), _| **room != *name);
    }

    /// Both hear the bytes; one whole and the other in pieces, until it hangs up.
    fn hear(&mut self, bytes: &[u8]) {
        if !self.online {
            return;
        }
        self.whole.core.receive(bytes, self.now);
        for piece in bytes.chunks(self.piece) {
            self.pieces.core.receive(piece, self.now);
            if self.pieces.take_commands() {
                break;
            }
        }
    }

    /// Does what the clients want done, and compares them.
    fn settle(&mut self) {
        let hung_up = self.whole.take_commands();
        self.pieces.take_commands();
        assert_eq!(self.whole.commands, self.pieces.commands);
        assert_eq!(self.whole.core.state(), self.pieces.core.state());
        assert_eq!(self.whole.core.deadline_us(), self.pieces.core.deadline_us());
        if hung_up {
            self.online = false;
        }
        self.whole.write();
        self.pieces.write();
        let dials = self.whole.commands.drain(..).any(|it| matches!(it, Command::Dial(_)));
        self.pieces.commands.clear();
        if dials {
            self.online = true;
            self.both(Core::connected);
        }
        assert!(self.whole.core.waiting() <= 2 * QUEUE, "its own joins come on top");
    }

    fn take_events(&mut self, most: usize) {
        for _ in 0..most {
            let event = self.whole.core.poll_event(self.now);
            assert_eq!(event, self.pieces.core.poll_event(self.now));
            match event {
                None => break,
                Some(event) => self.judge(event),
            }
        }
    }

    fn judge(&mut self, event: Event) {
        match event {
            // Those of `*` come as the server says them: nobody joins it.
            Event::Message(message) if *message.room == *"*" => {}
            Event::Message(message) => {
                let place = message.place;
                let last = self.places.insert((message.room, place.epoch), place.seq);
                assert!(last.is_none_or(|last| last < place.seq), "{place:?} behind {last:?}");
            }
            // A room that began anew may have said nothing yet.
            Event::Gap(gap) => {
                assert!(gap.from <= gap.to || gap.reason == GapReason::NewEpoch, "{gap:?}");
            }
            Event::Answered(_, Err(RequestError::TooLong { max_frame })) => {
                assert!(max_frame < MAX_FRAME_RANGE.1 + FRAME_HEADER + FRAME_CRC);
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        self.both(|core, _| core.close());
        self.settle();
        self.take_events(CLIENT_EVENTS_MAX + 1_000);
        assert_eq!(self.whole.core.waiting(), 0, "all that waits is told");
    }
}

/// A frame that a server could say.
fn frame(kind: u8, operand: u8, [one, two, three]: [u8; 3]) -> Vec<u8> {
    let number = |byte: u8| if byte > 250 { u64::MAX - u64::from(255 - byte) } else { byte.into() };
    let room = NAMES[usize::from(operand) % NAMES.len()];
    let flag = |bit: u8| operand >> bit & 1 == 1;
    let (reference, epoch, seq) = (Ref(one.into()), Epoch((two % 4).into()), Seq(number(three)));
    let event = match kind {
        0 => Said::Welcome(Welcome {
            version: 1,
            node: NodeId(1),
            session: number(one),
            resume_key: 6,
            heartbeat_s: two.into(),
            timeout_s: 90,
            max_frame: if flag(1) { 1 << 16 } else { u32::from(three) },
            resumed: flag(0),
            user: "ann",
        }),
        1 => {
            let flags = OkFlags { gap: flag(5), queued: flag(6), duplicate: flag(7) };
            Said::Ok { reference, flags, epoch, seq }
        }
        2 | 3 => Said::Message {
            epoch,
            seq,
            time_ms: 1,
            room,
            from: if flag(6) { "ann" } else { "bob" },
            body: &[one; 3],
            replay: flag(7),
        },
        4 => Said::Direct {
            id: number(one),
            time_ms: two.into(),
            from: "bob",
            body: b"x",
            replay: flag(7),
        },
        _ => return rarer(operand, room, [one, two, three]),
    };
    encoded(&event)
}

fn rarer(operand: u8, room: &str, [one, two, three]: [u8; 3]) -> Vec<u8> {
    let (epoch, reference) = (Epoch((two % 4).into()), Ref(one.into()));
    let beat = Heartbeat { seq: one.into(), time_ms: two.into(), ..Heartbeat::default() };
    encoded(&match operand / 3 % 8 {
        0 => Said::Gap { epoch, from: Seq(one.into()), to: Seq(three.into()), room },
        1 => {
            Said::Error { reference, code: Code::of_number(400 + u16::from(two) % 104), text: "no" }
        }
        2 => Said::Ping(beat),
        3 => Said::Pong(beat),
        4 => Said::GoAway {
            reconnect_after_ms: two.into(),
            reason: "",
            address: ["", "three:9", "?"][usize::from(three) % 3],
        },
        5 => Said::Tempo { heartbeat_s: one.into(), timeout_s: two.into() },
        6 => Said::Presence { kind: PresenceKind::Online, total: 1, room: "", user: "bob" },
        _ => Said::Presence { kind: PresenceKind::Joined, total: one.into(), room, user: "bob" },
    })
}

fn encoded(event: &Said<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    native::encode_event(&mut out, event, false);
    out
}
