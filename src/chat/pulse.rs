//! How a connection's heartbeat adapts to its network.
//!
//! Owns what is known of each connection's link (round trip, the longest silence it survived) and
//! of the networks that connections come from, and decides from it whether an interval should grow
//! or shrink. Never sends, arms or reads a clock: the shard's timers tell it of pings, answers and
//! losses, and announce what it decides.
//!
//! A middlebox forgets a connection that was silent in both directions for longer than its cut-off,
//! which nobody announces. So an interval grows by steps of a half, each taken only after the last
//! one was seen to be survived, up to a multiple of what was granted. Once a silence failed on a
//! network, no connection of that network is left silent for longer than what was survived. A lost
//! PING closes nothing: two probes follow it, and a client that misses the PING which it was
//! promised (TEMPO) asks by its own. The averaging of round trips is that of Jacobson's "Congestion
//! Avoidance and Control" (1988), with the weight 0.8 for what was known.

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::NETWORKS_KEPT;
use crate::base::time::Mono;

use super::heartbeat::HeartbeatPolicy;

/// Steady answers before an interval grows to what its network is not known to survive.
const STEADY_BEFORE_TRIAL: u8 = 2;
/// Losses in a row, after silences that were survived before, that show an unsteady link.
const LOSSES_BEFORE_RETREAT: u8 = 2;
/// A round trip is unsteady beyond this many times the smoothed one, and [`JITTER_MS`] more.
const JITTER_FACTOR: u64 = 3;
/// A PING answered later than this, and out of proportion to those before, had to be sent again by
/// the kernel: it counts as lost.
const RESENT_MS: u64 = 3_000;
/// Milliseconds by which any round trip may vary.
const JITTER_MS: u64 = 200;

/// Where connections come from that share a way: an address prefix. 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(pub u64);

impl Network {
    /// The network that a peer comes from: the 24 bits of an IPv4 address, or the 48 of an IPv6
    /// one, that are usually one site's or one carrier's way out.
    pub fn of(peer: IpAddr) -> Network {
        match peer.to_canonical() {
            IpAddr::V4(address) => Network(u64::from(address.to_bits() >> 8) | 1 << 63),
            IpAddr::V6(address) => Network((address.to_bits() >> 80) as u64),
        }
    }
}

/// What was seen of silences on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The longest silence, in seconds, after which a PING was answered.
    pub survived_s: u16,
    /// The shortest one, in seconds, after which a PING was lost; 0 while none was.
    pub failed_s: u16,
}

impl Seen {
    fn survive(&mut self, quiet_s: u16) {
        self.survived_s = self.survived_s.max(quiet_s);
        if self.failed_s != 0 && self.failed_s <= quiet_s {
            // What was lost there was lost to something else than a cut-off.
            self.failed_s = 0;
        }
    }

    fn fail(&mut self, quiet_s: u16) {
        if quiet_s > self.survived_s && (self.failed_s == 0 || quiet_s < self.failed_s) {
            self.failed_s = quiet_s;
        }
    }

    /// The longest interval up to `wanted_s` that may be tried: where a longer silence failed, none
    /// beyond what was survived.
    fn allow(&self, wanted_s: u16) -> u16 {
        if self.failed_s == 0 { wanted_s } else { wanted_s.min(self.survived_s) }
    }
}

/// What is known of one connection's link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    network: Network,
    /// When it was last sent anything, as [`Mono::low`].
    last_sent: u32,
    /// When the first PING of those that are unanswered went out, as [`Mono::low`].
    pinged_at: u32,
    /// The silence in both directions before that PING.
    quiet_ms: u32,
    /// The interval that its hello was granted.
    granted_s: u16,
    /// Smoothed; 0 before the first.
    round_trip_ms: u16,
    /// PINGs since the last answer.
    unanswered: u8,
    /// Answers in a row that were neither late nor lost.
    steady: u8,
    /// Answers in a row that were late or lost.
    unsteady: u8,
}

const _: () = assert!(size_of::<Pulse>() == 32, "what an adaptive heartbeat costs a connection");

impl Pulse {
    /// Smooths the round trip; returns whether this one was like those before.
    fn smooth(&mut self, round_trip_ms: u64) -> bool {
        let before = u64::from(self.round_trip_ms);
        let smoothed = if before == 0 { round_trip_ms } else { (4 * before + round_trip_ms) / 5 };
        self.round_trip_ms = u16::try_from(smoothed.max(1)).unwrap_or(u16::MAX);
        before == 0 || round_trip_ms <= JITTER_FACTOR * before + JITTER_MS
    }

    fn quiet_s(&self) -> u16 {
        u16::try_from(self.quiet_ms / 1_000).unwrap_or(u16::MAX)
    }

    /// The next longer interval than `heartbeat_s`, as far as it may grow.
    fn grow(&self, heartbeat_s: u16, seen: Seen, policy: &HeartbeatPolicy) -> u16 {
        let most_s = if heartbeat_s < self.granted_s {
            self.granted_s
        } else {
            let stretched_s = self.granted_s.saturating_mul(policy.stretch);
            stretched_s.min(policy.allowed_s().1).max(self.granted_s)
        };
        let step_s = heartbeat_s.saturating_add((heartbeat_s / 2).max(1)).min(most_s);
        seen.allow(step_s).max(heartbeat_s)
    }

    /// The next shorter interval than `heartbeat_s`, after a PING was lost.
    fn shrink(&self, heartbeat_s: u16, seen: Seen, policy: &HeartbeatPolicy) -> u16 {
        let least_s = policy.allowed_s().0.min(self.granted_s);
        let halved_s = if heartbeat_s > self.granted_s { self.granted_s } else { heartbeat_s / 2 };
        let survived_s = if seen.survived_s < heartbeat_s { seen.survived_s } else { 0 };
        halved_s.max(survived_s).max(least_s).min(heartbeat_s)
    }
}

/// What is known of networks, the latest of them.
#[derive(Debug, Default)]
struct Networks {
    seen: BTreeMap<Network, Seen>,
    order: VecDeque<Network>,
}

impl Networks {
    fn get(&self, network: Network) -> Seen {
        self.seen.get(&network).copied().unwrap_or_default()
    }

    fn note(&mut self, network: Network, change: impl FnOnce(&mut Seen)) {
        if !self.seen.contains_key(&network) {
            if self.order.len() == NETWORKS_KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
            self.order.push_back(network);
        }
        change(self.seen.entry(network).or_default());
    }
}

/// The pulses of one shard's connections, by slot, where heartbeats adapt.
#[derive(Debug)]
pub struct Pulses {
    policy: HeartbeatPolicy,
    pulses: Vec<Pulse>,
    networks: Networks,
}

impl Pulses {
    /// No pulses yet, under `policy`.
    pub fn new(policy: HeartbeatPolicy) -> Pulses {
        Pulses { policy, pulses: Vec::new(), networks: Networks::default() }
    }

    /// A connection from `network` began in `slot`.
    pub fn open(&mut self, slot: usize, network: Network) {
        if slot >= self.pulses.len() {
            self.pulses.resize(slot + 1, Pulse::default());
        }
        self.pulses[slot] = Pulse { network, ..Pulse::default() };
    }

    /// Its smoothed round trip, once one was measured.
    pub fn round_trip_ms(&self, slot: usize) -> Option<u16> {
        self.pulses.get(slot).map(|pulse| pulse.round_trip_ms).filter(|&ms| ms > 0)
    }

    /// Its hello was granted this interval.
    pub fn granted(&mut self, slot: usize, heartbeat_s: u16, now: Mono) {
        if let Some(pulse) = self.pulses.get_mut(slot) {
            (pulse.granted_s, pulse.last_sent) = (heartbeat_s, now.low());
        }
    }

    /// It was sent something.
    pub fn sent(&mut self, slot: usize, now: Mono) {
        if let Some(pulse) = self.pulses.get_mut(slot) {
            pulse.last_sent = now.low();
        }
    }

    /// It was sent a PING after it had not been heard for `silent_ms`.
    pub fn pinged(&mut self, slot: usize, silent_ms: u64, now: Mono) {
        let Some(pulse) = self.pulses.get_mut(slot) else {
            return;
        };
        if pulse.unanswered == 0 {
            let quiet_ms = silent_ms.min(now.since_low_ms(pulse.last_sent));
            pulse.quiet_ms = u32::try_from(quiet_ms).unwrap_or(u32::MAX);
            pulse.pinged_at = now.low();
        }
        pulse.unanswered = pulse.unanswered.saturating_add(1);
    }

    /// It answered a PING. Returns the interval that it is to have instead of `heartbeat_s`.
    pub fn answered(&mut self, slot: usize, round_trip_ms: u64, heartbeat_s: u16) -> Option<u16> {
        let pulse = self.pulses.get_mut(slot)?;
        match std::mem::take(&mut pulse.unanswered) {
            0 => return None,
            1 => {}
            // The first of them, at least, was lost.
            _ => return self.lost(slot, heartbeat_s),
        }
        let quiet_s = pulse.quiet_s();
        let was_quiet = u32::from(heartbeat_s) * 750 <= pulse.quiet_ms;
        if !pulse.smooth(round_trip_ms) {
            let was_resent = round_trip_ms > RESENT_MS;
            return if was_resent {
                self.lost(slot, heartbeat_s)
            } else {
                self.was_late(slot, heartbeat_s)
            };
        }
        pulse.unsteady = 0;
        pulse.steady = pulse.steady.saturating_add(1);
        self.networks.note(pulse.network, |seen| seen.survive(quiet_s));
        let seen = self.networks.get(pulse.network);
        let next_s = pulse.grow(heartbeat_s, seen, &self.policy);
        let is_known = next_s <= seen.survived_s;
        let may_try = was_quiet && pulse.steady >= STEADY_BEFORE_TRIAL;
        (next_s > heartbeat_s && (is_known || may_try)).then_some(next_s)
    }

    /// A look at a connection that was heard `silent_ms` ago. Where that was after a PING which it
    /// has not answered, the PING was lost; returns the interval that it is to have instead.
    pub fn looked_at(
        &mut self,
        slot: usize,
        silent_ms: u64,
        heartbeat_s: u16,
        now: Mono,
    ) -> Option<u16> {
        let pulse = self.pulses.get_mut(slot)?;
        if pulse.unanswered == 0 || now.since_low_ms(pulse.pinged_at) <= silent_ms {
            return None;
        }
        pulse.unanswered = 0;
        self.lost(slot, heartbeat_s)
    }

    fn lost(&mut self, slot: usize, heartbeat_s: u16) -> Option<u16> {
        let pulse = &mut self.pulses[slot];
        let quiet_s = pulse.quiet_s();
        pulse.steady = 0;
        pulse.unsteady = pulse.unsteady.saturating_add(1);
        let before = self.networks.get(pulse.network);
        let by_chance = quiet_s <= before.survived_s;
        if by_chance && pulse.unsteady < LOSSES_BEFORE_RETREAT {
            return None;
        }
        self.networks.note(pulse.network, |seen| seen.fail(quiet_s));
        let pulse = &mut self.pulses[slot];
        pulse.unsteady = 0;
        let seen = if by_chance { Seen::default() } else { before };
        let next_s = pulse.shrink(heartbeat_s, seen, &self.policy);
        (next_s < heartbeat_s).then_some(next_s)
    }

    /// Its answer came, but much later than others before.
    fn was_late(&mut self, slot: usize, heartbeat_s: u16) -> Option<u16> {
        let pulse = &mut self.pulses[slot];
        pulse.steady = 0;
        pulse.unsteady = pulse.unsteady.saturating_add(1);
        if pulse.unsteady < LOSSES_BEFORE_RETREAT {
            return None;
        }
        pulse.unsteady = 0;
        let next_s = pulse.shrink(heartbeat_s, Seen::default(), &self.policy);
        (next_s < heartbeat_s).then_some(next_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Network = Network(7);

    fn pulses() -> Pulses {
        let policy = HeartbeatPolicy { stretch: 4, ..HeartbeatPolicy::default() };
        let mut pulses = Pulses::new(policy);
        pulses.open(0, HOME);
        pulses.granted(0, 30, Mono(0));
        pulses
    }

    /// A PING after `quiet_s` of silence and its answer.
    fn beat(pulses: &mut Pulses, at_s: &mut u64, quiet_s: u64, heartbeat_s: u16) -> Option<u16> {
        *at_s += quiet_s;
        let now = Mono(*at_s * 1_000);
        pulses.pinged(0, quiet_s * 1_000, now);
        pulses.sent(0, now);
        pulses.answered(0, 50, heartbeat_s)
    }

    #[test]
    fn a_stable_link_stretches_step_by_step_to_the_multiple() {
        let (mut pulses, mut at_s, mut heartbeat_s) = (pulses(), 0, 30);
        let mut steps = Vec::new();
        for _ in 0..8 {
            let quiet_s = u64::from(heartbeat_s);
            if let Some(next_s) = beat(&mut pulses, &mut at_s, quiet_s, heartbeat_s) {
                heartbeat_s = next_s;
                steps.push(next_s);
            }
        }
        assert_eq!(steps, [45, 67, 100, 120]);
    }

    #[test]
    fn a_busy_link_shows_nothing_about_silence() {
        let (mut pulses, mut at_s) = (pulses(), 0);
        for _ in 0..8 {
            pulses.sent(0, Mono((at_s + 25) * 1_000));
            assert_eq!(beat(&mut pulses, &mut at_s, 30, 30), None);
        }
    }

    #[test]
    fn what_failed_is_tried_by_nobody_of_that_network_again() {
        let (mut pulses, mut at_s) = (pulses(), 0);
        assert_eq!(beat(&mut pulses, &mut at_s, 30, 30), None);
        assert_eq!(beat(&mut pulses, &mut at_s, 30, 30), Some(45));
        assert_eq!(beat(&mut pulses, &mut at_s, 45, 45), Some(67));
        at_s += 67;
        pulses.pinged(0, 67_000, Mono(at_s * 1_000));
        at_s += 20;
        assert_eq!(pulses.looked_at(0, 0, 67, Mono(at_s * 1_000)), Some(45));
        for _ in 0..8 {
            assert_eq!(beat(&mut pulses, &mut at_s, 45, 45), None);
        }
        pulses.open(0, HOME);
        pulses.granted(0, 30, Mono(at_s * 1_000));
        assert_eq!(beat(&mut pulses, &mut at_s, 30, 30), Some(45), "known to be survived");
        for _ in 0..8 {
            assert_eq!(beat(&mut pulses, &mut at_s, 45, 45), None);
        }
    }

    #[test]
    fn an_unsteady_link_shortens_to_the_minimum_and_recovers() {
        let (mut pulses, mut at_s, mut heartbeat_s) = (pulses(), 0, 30);
        for expected in [15, 7, 5] {
            at_s += u64::from(heartbeat_s);
            pulses.pinged(0, u64::from(heartbeat_s) * 1_000, Mono(at_s * 1_000));
            at_s += 2;
            let next_s = pulses.looked_at(0, 0, heartbeat_s, Mono(at_s * 1_000));
            assert_eq!(next_s, Some(expected));
            heartbeat_s = expected;
        }
        for _ in 0..4 {
            let quiet_s = u64::from(heartbeat_s);
            heartbeat_s = beat(&mut pulses, &mut at_s, quiet_s, heartbeat_s).unwrap_or(heartbeat_s);
        }
        assert!(heartbeat_s <= 7, "what failed at 7 s is not tried again: {heartbeat_s}");
    }

    #[test]
    fn one_loss_after_a_silence_that_was_survived_before_is_chance() {
        let (mut pulses, mut at_s) = (pulses(), 0);
        beat(&mut pulses, &mut at_s, 30, 30);
        let lose = |pulses: &mut Pulses, at_s: &mut u64| {
            *at_s += 30;
            pulses.pinged(0, 30_000, Mono(*at_s * 1_000));
            *at_s += 2;
            pulses.looked_at(0, 0, 30, Mono(*at_s * 1_000))
        };
        assert_eq!(lose(&mut pulses, &mut at_s), None);
        assert_eq!(lose(&mut pulses, &mut at_s), Some(15));
    }

    #[test]
    fn answers_that_come_later_and_later_shorten_too() {
        let mut pulses = pulses();
        let mut answer = |round_trip_ms| {
            pulses.pinged(0, 1_000, Mono(30_000));
            pulses.answered(0, round_trip_ms, 30)
        };
        assert_eq!(answer(50), None);
        assert_eq!(answer(900), None);
        assert_eq!(answer(5_000), Some(15));
    }

    #[test]
    fn an_answer_to_no_question_changes_nothing() {
        assert_eq!(pulses().answered(0, 1, 30), None);
        assert_eq!(pulses().answered(5, 1, 30), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it fills the whole table, and takes hours")]
    fn as_many_networks_are_remembered_as_the_limit_says() {
        let mut networks = Networks::default();
        for network in 0..NETWORKS_KEPT as u64 + 5 {
            networks.note(Network(network), |seen| seen.survive(9));
        }
        assert_eq!(networks.seen.len(), NETWORKS_KEPT);
        assert_eq!(networks.get(Network(4)), Seen::default());
        assert_eq!(networks.get(Network(5)).survived_s, 9);
    }
}
