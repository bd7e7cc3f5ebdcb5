//! Heartbeats that adapt, behind a translator of addresses that forgets who is silent.

use std::io::IoSlice;

use corebeat::base::ids::{ConnId, NodeId, ShardId};
use corebeat::base::limits::{Limits, WRITE_SLICES};
use corebeat::base::time::{Mono, Now};
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::pulse::Network;
use corebeat::chat::shard::{Shard, Verdict};
use corebeat::wire::message::{Event, Heartbeat, Hello, Request};
use corebeat::wire::native;

/// A client behind a translator, and the shard that it is connected to.
struct Nat {
    shard: Shard,
    conn: ConnId,
    now: Now,
    /// Silence in both directions after which nothing comes in before something went out.
    cut_off_ms: u64,
    last_packet: Mono,
    /// What the server sent and the translator did not let through. The kernel sends it again.
    in_flight: Vec<u8>,
    heard: Mono,
    /// The heartbeat that the client was told.
    heartbeat_s: u16,
    /// Every heartbeat it was told, in order.
    told: Vec<u16>,
    /// PINGs that the server has sent.
    pings: usize,
    /// How many of them there were when the heartbeat last changed.
    settled_at: usize,
    is_closed: bool,
    /// After how long the kernel gives the connection up.
    patience_s: u16,
}

impl Nat {
    fn new(policy: HeartbeatPolicy, cut_off_s: u64) -> Nat {
        let now = Now { mono: Mono(5_000), wall_ms: 1_790_000_000_000 };
        let config = ShardConfig {
            shard: ShardId(0),
            shards: 1,
            node: NodeId(1),
            limits: Limits { max_connections: 16, ..Limits::default() },
            heartbeat: policy,
            seed: cut_off_s,
            secret: [1, 2],
            publish_everyone: true,
            overflow: Default::default(),
            durability: None,
            web: WebConfig::default(),
        };
        let mut nat = Nat {
            shard: Shard::new(config, now),
            conn: ConnId::new(0, 0),
            now,
            cut_off_ms: cut_off_s * 1_000,
            last_packet: now.mono,
            in_flight: Vec::new(),
            heard: now.mono,
            heartbeat_s: 0,
            told: Vec::new(),
            pings: 0,
            settled_at: 0,
            is_closed: false,
            patience_s: 0,
        };
        nat.connect();
        nat
    }

    fn connect(&mut self) {
        self.shard.open(self.conn, self.now);
        self.shard.note_network(self.conn, Network(9));
        self.say(&Request::Hello(Hello { version: 1, user: "ann", ..Hello::default() }));
        self.turn();
        assert_eq!(self.told, [self.heartbeat_s], "the welcome tells the first");
    }

    /// The client sends, which the translator always lets out, and remembers.
    fn say(&mut self, request: &Request<'_>) {
        let mut bytes = Vec::new();
        native::encode_request(&mut bytes, request, false);
        self.last_packet = self.now.mono;
        self.shard.receive(self.conn, &bytes, self.now);
    }

    fn turn(&mut self) {
        let _ = self.shard.expire(self.now);
        let _ = self.shard.fan_out(self.now);
        while let Some(conn) = self.shard.poll_dirty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let count = self.shard.gather(conn, &mut slices);
            let bytes: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            self.shard.sent(conn, bytes.len(), self.now);
            self.in_flight.extend(bytes);
        }
        while let Some(verdict) = self.shard.poll_verdict() {
            self.is_closed |= matches!(verdict, Verdict::Close(..) | Verdict::Shutdown(_));
            if let Verdict::GiveUpAfter(_, timeout_s) = verdict {
                self.patience_s = timeout_s;
            }
        }
        self.deliver();
    }

    /// What the server sent comes in, if the translator remembers the connection.
    fn deliver(&mut self) {
        if self.now.mono.since_ms(self.last_packet) >= self.cut_off_ms || self.in_flight.is_empty()
        {
            return;
        }
        (self.last_packet, self.heard) = (self.now.mono, self.now.mono);
        let bytes = std::mem::take(&mut self.in_flight);
        let mut rest = &bytes[..];
        while let Some((frame, used)) = native::frame(rest, 1 << 20).expect("frames are whole") {
            let event = native::event(&frame).expect("known").expect("known");
            self.hear(&event);
            rest = &rest[used..];
        }
        self.turn();
    }

    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Welcome(welcome) => self.be_told(welcome.heartbeat_s),
            Event::Tempo { heartbeat_s, .. } => self.be_told(*heartbeat_s),
            Event::Ping(ping) => self.say(&Request::Pong(Heartbeat { status: 0, ..*ping })),
            Event::Pong(_) => {}
            other => panic!("{other:?} was not expected"),
        }
    }

    fn be_told(&mut self, heartbeat_s: u16) {
        self.heartbeat_s = heartbeat_s;
        self.told.push(heartbeat_s);
        self.settled_at = self.shard.counters().pings as usize;
    }

    /// When the client misses the PING that it was promised, and asks by its own.
    fn watch(&self) -> Mono {
        self.heard + u64::from(self.heartbeat_s) * 1_250
    }

    fn pass_s(&mut self, seconds: u64) {
        let end = self.now.mono + seconds * 1_000;
        while !self.is_closed {
            let due = self.shard.next_deadline().unwrap_or(end).max(self.now.mono);
            let next = due.min(self.watch()).min(end);
            let ms = next.since_ms(self.now.mono);
            self.now = Now { mono: next, wall_ms: self.now.wall_ms + ms };
            if next == self.watch() {
                self.heard = next;
                self.say(&Request::Ping(Heartbeat::default()));
            }
            self.turn();
            if next == end {
                break;
            }
        }
        self.pings = self.shard.counters().pings as usize;
    }
}

fn policy(interval_s: u16) -> HeartbeatPolicy {
    let timeout_s = 3 * interval_s;
    HeartbeatPolicy { interval_s, timeout_s, stretch: 4, ..HeartbeatPolicy::default() }
}

#[test]
fn behind_every_cut_off_it_settles_within_8_probes_and_closes_nobody() {
    for cut_off_s in [90, 240, 300] {
        for interval_s in [15, 30, 60, 90, 120] {
            let mut nat = Nat::new(policy(interval_s), cut_off_s);
            nat.pass_s(4 * 3_600);
            let case = format!("cut-off {cut_off_s}, interval {interval_s}: {:?}", nat.told);
            assert!(!nat.is_closed, "{case}");
            assert!(nat.settled_at <= 8, "{case}: after {} pings", nat.settled_at);
            assert!(nat.pings >= 20, "{case}: {} pings in all", nat.pings);
            assert!(u64::from(nat.heartbeat_s) <= cut_off_s, "{case}");
            let most_s = (4 * u64::from(interval_s)).min(cut_off_s);
            assert!(2 * u64::from(nat.heartbeat_s) >= most_s, "{case}: it could be longer");
        }
    }
}

#[test]
fn a_network_that_forgets_nobody_is_stretched_to_the_multiple_and_no_further() {
    let mut nat = Nat::new(policy(30), 1_000_000);
    nat.pass_s(3_600);
    assert_eq!(nat.told, [30, 45, 67, 100, 120]);
    assert_eq!(nat.patience_s, 360, "the kernel waits as long as the heartbeat");
    assert_eq!(nat.shard.counters().heartbeats_stretched, 4);
    assert_eq!(nat.shard.counters().probes, 0);
}

#[test]
fn a_cut_off_below_the_granted_interval_shortens_it() {
    let mut nat = Nat::new(policy(30), 20);
    nat.pass_s(3_600);
    assert!(!nat.is_closed, "{:?}", nat.told);
    assert!(nat.heartbeat_s < 20 && nat.heartbeat_s >= 10, "{:?}", nat.told);
    assert!(nat.settled_at <= 8, "{:?} after {} pings", nat.told, nat.settled_at);
}

#[test]
fn a_second_connection_of_the_network_does_not_fail_again() {
    let mut nat = Nat::new(policy(30), 90);
    nat.pass_s(3_600);
    let shortened = nat.shard.counters().heartbeats_shortened;
    assert!(shortened > 0);
    let settled_s = nat.heartbeat_s;
    nat.say(&Request::Bye { code: 0, reason: "" });
    nat.turn();
    nat.shard.end_of_input(nat.conn, nat.now);
    nat.turn();
    nat.conn = ConnId::new(0, 1);
    (nat.is_closed, nat.told, nat.heard) = (false, Vec::new(), nat.now.mono);
    nat.connect();
    nat.pass_s(3_600);
    assert!(!nat.is_closed);
    assert_eq!(nat.shard.counters().heartbeats_shortened, shortened, "{:?} {settled_s}", nat.told);
    assert!(nat.heartbeat_s <= settled_s, "{:?}", nat.told);
}

#[test]
fn where_it_is_off_every_interval_stays_as_it_was_granted() {
    let steady = HeartbeatPolicy { stretch: 1, ..policy(30) };
    let mut nat = Nat::new(steady, 1_000_000);
    nat.pass_s(3_600);
    assert_eq!(nat.told, [30]);
    assert!(!nat.shard.heartbeats_adapt());
}
