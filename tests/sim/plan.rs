//! What one run is like.
//!
//! Owns the parameters that a seed draws: how many shards and clients, what they are like, how
//! tight the bounds are, how the time passes. Never changes during the run.

use std::sync::Arc;

use corebeat::base::limits::Limits;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::overflow::{Overflow, OverflowPolicies};
use corebeat::chat::record::Durability;

use super::dice::Dice;
use super::panics::{PanicPlan, draw_panics};
use super::store::End;
use super::visit::Keeping;

/// The rooms that clients use, the room `*` first.
pub(crate) const ROOMS: [&str; 6] = ["*", "lobby", "tea", "den", "attic", "日本"];
/// The index of the room `*`.
pub(crate) const EVERYONE: usize = 0;
/// The names that clients go by. Fewer than clients, so that some share one.
pub(crate) const USERS: [&str; 8] = ["ann", "bob", "cat", "dan", "eve", "fay", "gus", "Jürgen"];

/// Names of users who are written to and do not come.
pub(crate) const ABSENT: [&str; 2] = ["moe", "zoé"];

/// An age of messages that no run reaches while clients are there.
const LONG_MS: u64 = 240_000;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Native,
    NativeCrc,
    Text,
    Json,
    Bin,
    BinCrc,
}

impl Speech {
    /// Whether every frame is to have a checksum.
    pub(crate) fn has_crc(self) -> bool {
        matches!(self, Speech::NativeCrc | Speech::BinCrc)
    }

    /// Whether it is spoken on a WebSocket.
    pub(crate) fn is_web(self) -> bool {
        matches!(self, Speech::Json | Speech::Bin | Speech::BinCrc)
    }
}

/// How a client behaves. Chances are per mille and round.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    pub(crate) speech: Speech,
    /// To ask for something.
    pub(crate) wish: u32,
    /// Requests asked for in one go.
    pub(crate) pipeline: usize,
    /// Bytes written at once, at most.
    pub(crate) write_max: usize,
    /// Bytes read at once, at most.
    pub(crate) read_max: usize,
    /// To stop reading for a while.
    pub(crate) stop: u32,
    /// Longest such while.
    pub(crate) stop_ms: u64,
    /// To hang up, in one way or another.
    pub(crate) vanish: u32,
    /// To be cut off while an answer is under way.
    pub(crate) impatient: u32,
    /// To fall silent for good.
    pub(crate) mute: u32,
    /// To send what is not allowed.
    pub(crate) hostile: u32,
    /// Of a message to be told to its sender too.
    pub(crate) echo: u32,
    /// Of a request to carry a ref.
    pub(crate) reference: u32,
    /// Of a wish to be a leave that is followed by a join.
    pub(crate) hop: u32,
    /// Of a join to ask for what was said.
    pub(crate) recall: u32,
    /// Longest body.
    pub(crate) body_max: usize,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finale {
    /// The clients hang up one after the other, each in its way.
    Leave,
    /// The server drains while all is quiet.
    DrainAtRest,
    /// The server drains in the middle of the storm.
    DrainInStorm,
}

/// What there is of a store.
#[derive(Clone, Debug)]
pub(crate) struct StorePlan {
    pub(crate) durability: Durability,
    /// Of one more turn's records of a shard to be committed in a round, per mille.
    pub(crate) commit: u32,
    /// Of the disk to be waited for in a round.
    pub(crate) sync: u32,
    /// Of a commit to fail.
    pub(crate) fail: u32,
    /// The rounds of the storm in which the server ends, and how.
    pub(crate) ends: Vec<(u64, End)>,
    /// The commit behind which the server is killed.
    pub(crate) kill_at_commit: Option<u64>,
}

impl StorePlan {
    /// Whether nobody is told of anything that the process has not written.
    pub(crate) fn keeps_what_it_told(&self) -> bool {
        self.durability != Durability::None
    }

    /// Whether rooms may begin other epochs although somebody is in them or something is kept of
    /// them: where a commit failed, or what was told may be missing.
    pub(crate) fn may_renew_epochs(&self) -> bool {
        let may_tear = |(_, end): &(u64, End)| match self.durability {
            Durability::None => true,
            Durability::Batch => *end == End::PowerLost,
            Durability::Sync => false,
        };
        self.fail > 0 || self.ends.iter().any(may_tear)
    }
}

/// The parameters of one run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    pub(crate) clients: Vec<Character>,
    /// How many of [`ROOMS`] are used.
    pub(crate) rooms: usize,
    pub(crate) limits: Limits,
    pub(crate) policy: HeartbeatPolicy,
    pub(crate) publish_everyone: bool,
    /// What gives way in which room when a member does not read.
    pub(crate) overflow: Arc<OverflowPolicies>,
    /// Whether WebSockets may agree on compression.
    pub(crate) deflate: bool,
    /// Letters that fit between two shards.
    pub(crate) mailbox_capacity: usize,
    /// Of a letter to be held up on its way.
    pub(crate) slow_mail: u32,
    /// Rounds that it is held up at most.
    pub(crate) slow_mail_rounds: u64,
    /// Bytes of each direction that the kernel holds, at least and at most.
    pub(crate) kernel_bytes: (usize, usize),
    /// Of a shard that has something to do to have its turn in a round.
    pub(crate) turn: u32,
    /// Of a shard that has nothing to do to have one all the same.
    pub(crate) spurious_turn: u32,
    /// Of a shard to be held up for a while.
    pub(crate) starve: u32,
    /// Of the clock to jump, and how far.
    pub(crate) jump: u32,
    pub(crate) jump_ms: u64,
    /// Of a call that names a connection which is gone.
    pub(crate) stale_call: u32,
    /// Of a worker to come under another pressure in a round of the storm.
    pub(crate) pressure: u32,
    /// Rounds of the storm.
    pub(crate) rounds: u64,
    pub(crate) finale: Finale,
    /// Time over which a drain tells the clients; 0: at once.
    pub(crate) drain_over_ms: u64,
    /// What outlives the server, where anything does.
    pub(crate) store: Option<StorePlan>,
    /// The workers that panic in the storm.
    pub(crate) panics: Vec<PanicPlan>,
}

impl Plan {
    /// The plan of `seed`.
    pub(crate) fn draw(seed: u64) -> Plan {
        let mut dice = Dice::new(seed ^ 0x5EED_0F0A_11D1_CE5A);
        let dice = &mut dice;
        let policy = draw_policy(dice);
        let limits = draw_limits(dice);
        let count = dice.within(4..=18);
        let calm = dice.chance(250);
        let kernel_bytes = dice.pick(&[(1, 64), (16, 512), (256, 4_096), (8_192, 65_536)]);
        let body_max = longest_body(&limits, kernel_bytes.0);
        let clients = (0..count).map(|_| draw_character(dice, &policy, body_max, calm)).collect();
        let slow = dice.chance(500);
        let mut plan = Plan {
            seed,
            shards: dice.pick(&[1, 2, 2, 2, 3, 3, 4, 5]),
            clients,
            rooms: dice.within(2..=ROOMS.len()),
            limits,
            policy,
            publish_everyone: dice.chance(700),
            overflow: Arc::new(draw_overflow(seed)),
            deflate: dice.chance(500),
            mailbox_capacity: dice.pick(&[1, 2, 4, 4, 16, 4_096, 4_096, 4_096]),
            slow_mail: if slow { dice.pick(&[20, 200, 500]) } else { 0 },
            slow_mail_rounds: dice.pick(&[5, 20, 60]),
            kernel_bytes,
            turn: dice.pick(&[300, 600, 900, 1_000]),
            spurious_turn: dice.pick(&[0, 0, 50, 500]),
            starve: dice.pick(&[0, 0, 0, 2]),
            jump: dice.pick(&[0, 0, 2]),
            jump_ms: dice.pick(&[2_000, 20_000, 200_000]),
            stale_call: dice.pick(&[0, 20, 200]),
            pressure: draw_pressure(seed),
            rounds: dice.number(200..=900),
            finale: dice.pick(&[
                Finale::Leave,
                Finale::Leave,
                Finale::Leave,
                Finale::DrainAtRest,
                Finale::DrainInStorm,
            ]),
            drain_over_ms: [0, 0, 300, 4_000][(seed % 4) as usize],
            store: draw_store(seed),
            panics: Vec::new(),
        };
        plan.panics = draw_panics(seed, plan.shards, plan.rounds);
        plan
    }

    /// The plan of `seed` with a short storm and a store, which is killed with the server behind
    /// this commit.
    pub(crate) fn killed_behind(seed: u64, commit: u64) -> Plan {
        let mut plan = Plan::draw(seed);
        plan.rounds = plan.rounds.min(120);
        plan.finale = Finale::Leave;
        plan.panics = Vec::new();
        plan.store = Some(StorePlan {
            durability: Durability::Batch,
            commit: 300,
            sync: 100,
            fail: 0,
            ends: Vec::new(),
            kill_at_commit: Some(commit),
        });
        plan
    }

    /// Whether rooms may begin other epochs although something is kept of them.
    pub(crate) fn may_renew_epochs(&self) -> bool {
        self.store.as_ref().is_some_and(StorePlan::may_renew_epochs)
    }

    /// Whether `character` gets a ping in time and answers it: nothing slow lies on the way.
    pub(crate) fn is_prompt(&self, character: &Character) -> bool {
        self.kernel_bytes.0 >= 256 && character.read_max >= 1_000
    }

    /// Whether nobody's outbox can grow to its bound, unless its owner stops reading.
    pub(crate) fn is_roomy(&self) -> bool {
        let fast =
            |character: &Character| character.read_max >= 100_000 && character.body_max <= 300;
        self.limits.max_outbound == Limits::default().max_outbound
            && self.kernel_bytes.0 >= 8_192
            && self.clients.iter().all(fast)
    }

    /// What can be known of how much rooms keep.
    pub(crate) fn keeping(&self) -> Keeping {
        let Limits { history_count, history_bytes, history_age_ms, history_memory, .. } =
            self.limits;
        let is_long = self.jump == 0 && history_age_ms == LONG_MS;
        let is_large = history_bytes == Limits::default().history_bytes
            && history_memory == Limits::default().history_memory
            && self.clients.iter().all(|client| client.body_max <= 300);
        // A thousand messages of that length do not fill the ring; fewer than that are said.
        let forgets = !self.panics.is_empty() && !self.keeps_through_panics();
        let exactly = is_long && is_large && history_count < 500 && !self.may_renew_epochs();
        Keeping { exactly: (exactly && !forgets).then_some(history_count as u64) }
    }

    /// Whether the clock never jumps and no shard is held up.
    pub(crate) fn steady(&self) -> bool {
        self.jump == 0 && self.starve == 0
    }
}

/// As long as the most patient heartbeat gives a peer that does not answer.
const PATIENCE_MS: u64 = 60_000;
/// What gives way where. It has dice of its own.
fn draw_overflow(seed: u64) -> OverflowPolicies {
    let mut dice = Dice::new(seed ^ 0x0F0F_10FF_EE10_0F0F);
    let mut policies = OverflowPolicies::default();
    if dice.chance(600) {
        policies = OverflowPolicies::new(dice.pick(&Overflow::ALL));
        for room in ROOMS {
            if dice.chance(500) {
                policies.set(room, dice.pick(&Overflow::ALL));
            }
        }
    }
    policies
}

/// How often pressure changes, in some of the runs. It has dice of its own.
fn draw_pressure(seed: u64) -> u32 {
    if !matches!(seed % 7, 3 | 6) {
        return 0;
    }
    Dice::new(seed ^ 0x9E55_0000_9E55).pick(&[5, 20, 60])
}

/// What outlives the server: in two of five runs something does, and most often the server ends in
/// the storm. It has dice of its own.
fn draw_store(seed: u64) -> Option<StorePlan> {
    let mut dice = Dice::new(seed ^ 0xD15C_D15C_0C0C_5AFE);
    if !dice.chance(400) {
        return None;
    }
    let durability =
        dice.pick(&[Durability::None, Durability::Batch, Durability::Batch, Durability::Sync]);
    let count = dice.pick(&[0, 1, 1, 2, 4]);
    let mut end = |_| {
        let end = if dice.chance(200) { End::PowerLost } else { End::Killed };
        (dice.number(20..=700), end)
    };
    let ends: Vec<(u64, End)> = (0..count).map(&mut end).collect();
    Some(StorePlan {
        durability,
        commit: dice.pick(&[100, 500, 900]),
        sync: dice.pick(&[10, 200]),
        fail: dice.pick(&[0, 0, 3, 30]),
        ends,
        kill_at_commit: None,
    })
}

fn draw_policy(dice: &mut Dice) -> HeartbeatPolicy {
    let (interval_s, timeout_s) = dice.pick(&[(2, 6), (3, 9), (5, 10), (30, 90)]);
    let stretch = if dice.chance(333) { 4 } else { 1 };
    HeartbeatPolicy { interval_s, timeout_s, shortest_s: 2, longest_s: 60, stretch }
}

fn draw_limits(dice: &mut Dice) -> Limits {
    let default = Limits::default();
    let mut limits = Limits {
        max_connections: 64,
        handshake_timeout_ms: dice.pick(&[3_000, 10_000]),
        text_idle_timeout_ms: dice.pick(&[4_000, 300_000]),
        max_frame: dice.pick(&[1_024, 4_096, 65_536]),
        history_age_ms: dice.pick(&[2_000, 20_000, LONG_MS, LONG_MS]),
        offline_age_ms: dice.pick(&[2_000, 20_000, LONG_MS, LONG_MS, LONG_MS]),
        resume_window_ms: dice.pick(&[0, 1_000, 20_000, 120_000]),
        presence_grace_ms: dice.pick(&[0, 100, 500]),
        ..default
    };
    let mut tighten = |limit: &mut usize, choices: &[usize]| {
        if dice.chance(350) {
            *limit = dice.pick(choices);
        }
    };
    tighten(&mut limits.max_outbound, &[2_048, 4_096, 16_384]);
    tighten(&mut limits.fan_out_budget, &[4, 7, 20, 50]);
    tighten(&mut limits.timer_budget, &[1, 2, 5]);
    tighten(&mut limits.max_mail_staged, &[1, 4, 16]);
    tighten(&mut limits.max_room_queue, &[1, 3, 8]);
    tighten(&mut limits.offline_count, &[0, 1, 3]);
    tighten(&mut limits.presence_max, &[1, 3, 5]);
    tighten(&mut limits.max_rooms_per_connection, &[1, 2, 3]);
    tighten(&mut limits.max_rooms, &[2, 3]);
    tighten(&mut limits.max_kept_sessions, &[0, 1, 3]);
    tighten(&mut limits.history_count, &[0, 1, 5, 20, 100]);
    tighten(&mut limits.history_bytes, &[60, 400, 2_000]);
    tighten(&mut limits.history_memory, &[0, 1_000, 4_000]);
    draw_rates(dice, &mut limits);
    limits
}

/// Limits of what one user, one room and one connection may do, and of patience.
fn draw_rates(dice: &mut Dice, limits: &mut Limits) {
    if dice.chance(200) {
        limits.message_rate = dice.pick(&[20, 100]);
        limits.message_burst = dice.pick(&[3, 10]);
    }
    if dice.chance(200) {
        limits.byte_rate = dice.pick(&[5_000, 20_000]);
        limits.byte_burst = dice.pick(&[300, 5_000]);
    }
    let mut tighten = |limit: &mut usize, choices: &[usize]| {
        if dice.chance(150) {
            *limit = dice.pick(choices);
        }
    };
    tighten(&mut limits.max_members_per_room, &[1, 2, 4]);
    tighten(&mut limits.max_subscriptions, &[1, 3, 8]);
    tighten(&mut limits.max_sessions_per_user, &[1, 2]);
    if dice.chance(200) {
        limits.frame_timeout_ms = dice.pick(&[0, PATIENCE_MS]);
        limits.write_timeout_ms = dice.pick(&[0, PATIENCE_MS]);
    }
}

fn draw_character(
    dice: &mut Dice,
    policy: &HeartbeatPolicy,
    longest_body: usize,
    calm: bool,
) -> Character {
    // Whoever stops reading answers no ping. It must not be long enough for a time-out.
    let spare_ms = u64::from(policy.timeout_s - policy.interval_s) * 1_000 / 4;
    let dribbles = dice.chance(250);
    let body_max = if dribbles { 24 } else { dice.pick(&[8, 40, 300, longest_body]) };
    let sometimes = |dice: &mut Dice, share: u32, value: u32| {
        if !calm && dice.chance(share) { value } else { 0 }
    };
    Character {
        speech: dice.pick(&[
            Speech::Native,
            Speech::Native,
            Speech::Native,
            Speech::NativeCrc,
            Speech::Text,
            Speech::Text,
            Speech::Json,
            Speech::Json,
            Speech::Bin,
            Speech::BinCrc,
        ]),
        wish: dice.pick(&[5, 30, 100, 200]),
        pipeline: dice.pick(&[1, 2, 8]),
        write_max: if dribbles { dice.pick(&[1, 3]) } else { 100_000 },
        read_max: dice.pick(&[40, 1_000, 100_000, 100_000]),
        stop: sometimes(dice, 300, 10),
        stop_ms: spare_ms,
        vanish: sometimes(dice, 500, 8),
        impatient: sometimes(dice, 300, 60),
        mute: sometimes(dice, 150, 4),
        hostile: sometimes(dice, 150, 6),
        echo: dice.pick(&[0, 200, 1_000]),
        reference: dice.pick(&[1_000, 900, 500]),
        hop: dice.pick(&[20, 100, 300]),
        recall: dice.pick(&[0, 200, 700]),
        body_max: body_max.min(longest_body),
    }
}

/// The longest body worth sending: a longer one would not be through before the time-out, or
/// would overflow the outbox of every member at once.
fn longest_body(limits: &Limits, kernel_bytes: usize) -> usize {
    let through = match kernel_bytes {
        ..16 => 24,
        16..8_192 => 300,
        8_192.. => usize::MAX,
    };
    through.min(limits.max_frame).min(limits.max_outbound / 3)
}
