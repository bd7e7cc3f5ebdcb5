//! The plan of a run: who connects from where, joins what, and sends when.
//!
//! Owns all of it as functions of a [`LoadConfig`], so that a plan of a million connections takes
//! no memory and two runs with one seed do the same. Pure: instants are nanoseconds since a start
//! that somebody else chooses. Drivers follow it; nothing that a server does changes it.
//!
//! Connections are numbered: members first, then echoers, then those that come and go. Member `i`
//! is in room `i % rooms`, so the first `rooms × publishers` members are the publishers, dealt
//! evenly over the rooms, and a publisher's number is its connection's.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use super::config::{Arrivals, CONNECTIONS_PER_SOURCE, Churn, LoadConfig, SECOND_NS, Traffic};

/// The first address, and the first port, of connections for which the kernel finds no port.
const FIRST_SPARE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const FIRST_PORT: u16 = 32_768;

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of a room, or of none.
    Member,
    /// Sends bytes and wants them back.
    Echoer,
    /// Comes and goes, and is a member of a room meanwhile.
    Churner,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its address, if not any.
    pub address: Option<Ipv4Addr>,
    /// An address and port of its own, for a machine whose ports other programs have bound: to a
    /// connection that leaves the choice to it the kernel gives no such port, on any address.
    pub spare: SocketAddrV4,
}

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    config: LoadConfig,
    members: u32,
    churners: u32,
    shuffle: Shuffle,
}

impl Plan {
    /// The plan that follows from `config`, which was checked.
    pub fn new(config: LoadConfig) -> Plan {
        let members = config.members();
        let churners = config.churn.map_or(0, |churn| {
            let stay_s = churn.lifetime_ns as f64 / SECOND_NS as f64;
            (churn.rate * stay_s).ceil().max(1.0) as u32
        });
        let mut plan = Plan { members, churners, shuffle: Shuffle::new(1, 0), config };
        plan.shuffle = Shuffle::new(plan.senders(), plan.config.seed);
        plan
    }

    /// What the plan was made from.
    pub fn config(&self) -> &LoadConfig {
        &self.config
    }

    /// All connections, those that come and go included.
    pub fn len(&self) -> u32 {
        self.config.connections + self.churners
    }

    /// Whether there is no connection at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that stay for the whole run.
    pub fn staying(&self) -> u32 {
        self.config.connections
    }

    /// Places for connections that come and go: so many are there at a time.
    pub fn churners(&self) -> u32 {
        self.churners
    }

    /// Members of rooms that stay.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// What connection `index` is there for.
    pub fn role(&self, index: u32) -> Role {
        match index {
            index if index < self.members => Role::Member,
            index if index < self.config.connections => Role::Echoer,
            _ => Role::Churner,
        }
    }

    /// The room that connection `index` joins.
    pub fn room(&self, index: u32) -> Option<u32> {
        let rooms = self.config.rooms;
        (rooms > 0 && self.role(index) != Role::Echoer).then(|| index % rooms)
    }

    /// Members of `room` that stay.
    pub fn members_of(&self, room: u32) -> u32 {
        let rooms = self.config.rooms;
        self.members / rooms + u32::from(room < self.members % rooms)
    }

    /// Publishers in rooms. Their numbers begin with 0.
    pub fn publishers(&self) -> u32 {
        self.config.rooms * self.config.publishers
    }

    /// Whether connection `index` publishes to its room.
    pub fn publishes(&self, index: u32) -> bool {
        index < self.publishers() && index < self.members
    }

    /// Whether connection `index` is spared by a storm. Where sessions are resumed, the first
    /// publisher of each room is, and speaks while the others are away.
    pub fn is_spared(&self, index: u32) -> bool {
        self.config.resume && index < self.config.rooms && self.publishes(index)
    }

    /// Connections that a storm drops.
    pub fn dropped(&self) -> u32 {
        let spared = if self.config.resume { self.config.rooms.min(self.members) } else { 0 };
        self.config.connections - spared
    }

    /// Whether connection `index` sends anything.
    pub fn sends(&self, index: u32) -> bool {
        self.publishes(index) || self.role(index) == Role::Echoer
    }

    /// All that send: publishers and echoers.
    pub fn senders(&self) -> u32 {
        self.publishers().min(self.members) + self.config.echoers()
    }

    /// Whether connection `index` stops reading. Exactly the share asked for does, spread evenly.
    pub fn is_slow(&self, index: u32) -> bool {
        let share = self.config.slow_share;
        if share <= 0.0 || self.role(index) != Role::Member || self.publishes(index) {
            return false;
        }
        // Publishers go on reading, so the others stand in for them.
        let silent = self.members - self.publishers();
        let share = (share * f64::from(self.members) / f64::from(silent)).min(1.0);
        let step = |nth: u32| (f64::from(nth) * share + 1e-9).floor();
        let nth = index - self.publishers();
        step(nth + 1) > step(nth)
    }

    /// Members that stop reading.
    pub fn slow_members(&self) -> u32 {
        (0..self.members).filter(|&index| self.is_slow(index)).count() as u32
    }

    /// When connection `index` of those that stay is opened, since the start of the ramp.
    pub fn connect_at_ns(&self, index: u32) -> u64 {
        (f64::from(index) / self.config.ramp_rate * SECOND_NS as f64) as u64
    }

    /// Where connection `index` comes from, on the machine of the server. The first
    /// [`CONNECTIONS_PER_SOURCE`] are left to the kernel, the next come from 127.0.0.2, and so on.
    pub fn source(&self, index: u32) -> Source {
        let nth = index / CONNECTIONS_PER_SOURCE;
        let above = |base: Ipv4Addr| Ipv4Addr::from(u32::from(base) + nth);
        let port = FIRST_PORT + (index % CONNECTIONS_PER_SOURCE) as u16;
        Source {
            address: (nth > 0).then(|| above(Ipv4Addr::LOCALHOST)),
            spare: SocketAddrV4::new(above(FIRST_SPARE), port),
        }
    }

    /// When a sender sends, since the start of traffic: ever later instants, without end. Empty
    /// unless the loop is open.
    pub fn schedule(&self, index: u32) -> Schedule {
        let Traffic::Open { rate, arrivals } = self.config.traffic else {
            return Schedule { next_ns: f64::INFINITY, pause: Pause::Even(0.0) };
        };
        let senders = self.senders();
        let mean = f64::from(senders) / rate * SECOND_NS as f64;
        // Publishers and echoers are numbered without the silent members between them.
        let nth = if self.publishes(index) {
            index
        } else {
            index - self.members + self.publishers().min(self.members)
        };
        match arrivals {
            Arrivals::Steady => {
                // All senders together are as even as each is.
                let phase = (f64::from(self.shuffle.place(nth)) + 0.5) / f64::from(senders);
                Schedule { next_ns: phase * mean, pause: Pause::Even(mean) }
            }
            Arrivals::Poisson => {
                let mut dice = Dice::new(self.config.seed, u64::from(nth));
                let first = dice.exponential(mean);
                Schedule { next_ns: first, pause: Pause::Random { mean, dice } }
            }
        }
    }

    /// When the `life`th connection at the place of churner `index` comes and goes, since the
    /// start of traffic. All places together open one connection every `1 / rate`.
    pub fn life(&self, index: u32, life: u32) -> Range<u64> {
        let Churn { rate, lifetime_ns } = self.config.churn.expect("churners are planned");
        let place = index - self.config.connections;
        let nth = f64::from(place) + f64::from(life) * f64::from(self.churners);
        let begin = nth / rate * SECOND_NS as f64;
        // The place is free a little before the next one comes.
        let stay = (f64::from(self.churners) / rate * SECOND_NS as f64).min(lifetime_ns as f64);
        begin as u64..(begin + 0.95 * stay) as u64
    }
}

/// The instants at which one sender sends, in nanoseconds since the start of traffic. They are
/// whole microseconds, as bodies carry them.
#[derive(Clone, Debug)]
pub struct Schedule {
    next_ns: f64,
    pause: Pause,
}

#[derive(Clone, Debug)]
enum Pause {
    Even(f64),
    Random { mean: f64, dice: Dice },
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if !self.next_ns.is_finite() {
            return None;
        }
        let at = self.next_ns;
        self.next_ns += match &mut self.pause {
            Pause::Even(pause) => *pause,
            Pause::Random { mean, dice } => dice.exponential(*mean),
        };
        Some(at as u64 / 1_000 * 1_000)
    }
}

/// A seeded order of the numbers below a count.
#[derive(Clone, Copy, Debug)]
struct Shuffle {
    count: u64,
    factor: u64,
    offset: u64,
}

impl Shuffle {
    fn new(count: u32, seed: u64) -> Shuffle {
        let count = u64::from(count.max(1));
        let mut dice = Dice::new(seed, u64::MAX);
        let offset = dice.word() % count;
        // Near the golden ratio of the count, neighbours come to lie far apart.
        let golden = (count as f64 * 0.618_033_988_75) as u64 + dice.word() % 16;
        let factor = (golden.max(1)..).find(|factor| common_divisor(*factor, count) == 1);
        Shuffle { count, factor: factor.expect("the first prime will do"), offset }
    }

    fn place(&self, nth: u32) -> u32 {
        let place = u64::from(nth) * self.factor % self.count + self.offset;
        (place % self.count) as u32
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Random numbers of one stream of a seed: `SplitMix64` (G. Steele et al., "Fast splittable
/// pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug)]
struct Dice {
    state: u64,
}

impl Dice {
    fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice { state: seed };
        dice.state = dice.word() ^ stream.wrapping_mul(0xA24B_AED4_963E_E407);
        dice
    }

    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        // 53 random bits in (0, 1].
        let unit = ((self.word() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -unit.ln() * mean
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::super::config::Scenario;
    use super::*;

    fn plan(scenario: Scenario, change: impl Fn(&mut LoadConfig)) -> Plan {
        let mut config = LoadConfig::of(scenario);
        change(&mut config);
        config.check().unwrap();
        Plan::new(config)
    }

    #[test]
    fn members_are_dealt_evenly_and_every_room_has_its_publishers() {
        let plan = plan(Scenario::Broadcast, |c| {
            (c.connections, c.rooms, c.publishers) = (1_003, 10, 3);
        });
        let mut members = [0; 10];
        let mut publishers = [0; 10];
        for index in 0..plan.members() {
            let room = plan.room(index).unwrap() as usize;
            members[room] += 1;
            publishers[room] += u32::from(plan.publishes(index));
        }
        assert_eq!(
            members.map(|count| count as u32),
            std::array::from_fn(|room| { plan.members_of(room as u32) })
        );
        assert_eq!(members, [101, 101, 101, 100, 100, 100, 100, 100, 100, 100]);
        assert_eq!(publishers, [3; 10]);
        assert_eq!(plan.senders(), 30);
    }

    #[test]
    fn a_mixed_plan_has_every_role_and_the_share_of_slow_readers_asked_for() {
        let plan = plan(Scenario::Mixed, |_| {});
        assert_eq!((plan.members(), plan.staying()), (1_600, 2_000));
        assert_eq!(plan.role(1_599), Role::Member);
        assert_eq!(plan.role(1_600), Role::Echoer);
        assert_eq!(plan.role(2_000), Role::Churner);
        assert_eq!(plan.room(1_600), None);
        assert!(plan.room(2_000).is_some());
        assert_eq!(plan.churners(), 100, "50 a second that stay 2 s");
        assert_eq!(plan.slow_members(), 32);
        assert!((0..plan.publishers()).all(|index| !plan.is_slow(index)));
    }

    #[test]
    fn no_source_has_more_connections_than_ports() {
        let plan = plan(Scenario::Idle, |c| c.connections = 100_000);
        let mut per_source: HashMap<Option<Ipv4Addr>, u32> = HashMap::new();
        let mut spares = HashSet::new();
        for index in 0..plan.len() {
            *per_source.entry(plan.source(index).address).or_default() += 1;
            assert!(spares.insert(plan.source(index).spare), "each has a port of its own to spare");
        }
        assert_eq!(per_source.len(), 8);
        assert!(per_source.values().all(|count| *count <= CONNECTIONS_PER_SOURCE));
        assert_eq!(plan.source(13_999).address, None);
        assert_eq!(plan.source(14_000).address, Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(plan.source(99_999).address, Some(Ipv4Addr::new(127, 0, 0, 8)));
    }

    #[test]
    fn steady_senders_are_even_together_and_each_by_itself() {
        let plan = plan(Scenario::Broadcast, |c| c.rooms = 50);
        let mut instants: Vec<u64> = (0..plan.senders())
            .flat_map(|index| plan.schedule(index).take_while(|&at| at < 10 * SECOND_NS))
            .collect();
        instants.sort_unstable();
        assert_eq!(instants.len(), 5_000, "500 a second for 10 s");
        for pair in instants.windows(2) {
            assert!((1_999_000..=2_001_000).contains(&(pair[1] - pair[0])), "{pair:?}");
        }
        let own: Vec<u64> = plan.schedule(7).take(100).collect();
        assert!(
            own.windows(2).all(|pair| (99_999_000..=100_001_000).contains(&(pair[1] - pair[0])))
        );
    }

    #[test]
    fn random_senders_keep_the_rate_and_the_seed() {
        let poisson = |seed| {
            let plan = plan(Scenario::Broadcast, |c| {
                c.seed = seed;
                c.traffic = Traffic::Open { rate: 1_000.0, arrivals: Arrivals::Poisson };
            });
            let all: Vec<Vec<u64>> = (0..plan.senders())
                .map(|index| plan.schedule(index).take_while(|&at| at < 20 * SECOND_NS).collect())
                .collect();
            all
        };
        let count = poisson(1).iter().map(Vec::len).sum::<usize>() as f64;
        assert!((count - 20_000.0).abs() < 4.0 * 20_000f64.sqrt(), "{count}");
        assert_eq!(poisson(1), poisson(1));
        assert_ne!(poisson(1), poisson(2));
    }

    #[test]
    fn those_that_come_and_go_come_at_the_rate_and_are_gone_before_their_place_is_taken() {
        let plan = plan(Scenario::Churn, |_| {});
        assert_eq!(plan.churners(), 400);
        let first = plan.staying();
        let mut begins: Vec<u64> = (first..plan.len())
            .flat_map(|index| (0..3).map(move |life| (index, life)))
            .map(|(index, life)| plan.life(index, life).start)
            .collect();
        begins.sort_unstable();
        assert_eq!(begins.len(), 1_200);
        assert!(begins.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(5_000_000) <= 1));
        for life in 0..3 {
            assert!(plan.life(first, life).end < plan.life(first, life + 1).start);
        }
    }
}
