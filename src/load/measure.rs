//! What a thread measures.
//!
//! Owns the histograms and counts of one thread and how those of several become one: by adding the
//! histograms, never by averaging percentiles. Never reads a clock.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::violation::Violations;

/// Latencies are told apart down to half a microsecond and up to so many nanoseconds: ten minutes.
const LATENCY_MAX_NS: u64 = 600_000_000_000;
const LATENCY_MIN_NS: u64 = 1_000;

/// The clock of a run: nanoseconds since its origin. Copies share the origin.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    origin: Instant,
}

impl RunClock {
    /// A clock that starts here.
    pub fn start() -> RunClock {
        RunClock { origin: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// Latencies of one kind, with three significant digits. Takes memory with the first one.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    histogram: Option<Histogram<u64>>,
    digits: u8,
}

impl Latencies {
    /// None yet; `digits` significant ones are kept.
    pub fn new(digits: u8) -> Latencies {
        Latencies { histogram: None, digits }
    }

    /// Records one.
    pub fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Records `count` equal ones.
    pub fn record_many(&mut self, ns: u64, count: u64) {
        let digits = self.digits.max(1);
        let histogram = self.histogram.get_or_insert_with(|| empty(digits));
        histogram.saturating_record_n(ns, count);
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Latencies) {
        let Some(theirs) = &other.histogram else { return };
        let digits = self.digits.max(other.digits).max(1);
        let mine = self.histogram.get_or_insert_with(|| empty(digits));
        mine.add(theirs).expect("all histograms have the same range");
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        if let Some(histogram) = &mut self.histogram {
            histogram.reset();
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The latency that the share `quantile` of them does not exceed, in nanoseconds.
    pub fn at(&self, quantile: f64) -> u64 {
        self.histogram.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile))
    }

    /// The longest, to the precision kept.
    pub fn max(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::max)
    }

    /// The mean, in nanoseconds.
    pub fn mean(&self) -> f64 {
        self.histogram.as_ref().map_or(0.0, Histogram::mean)
    }
}

fn empty(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, digits)
        .expect("the bounds are in order")
}

/// What is measured between two instants.
#[derive(Clone, Debug)]
pub struct Measures {
    /// From the planned instant of a message to each delivery of it.
    pub delivery: Latencies,
    /// From the planned instant of an echo to its answer.
    pub echo: Latencies,
    /// From the planned instant of a connection to its WELCOME.
    pub welcome: Latencies,
    /// From the planned instant of a connection until it is in its room.
    pub joined: Latencies,
    /// From the planned instant of a bare connection to its WELCOME.
    pub bare: Latencies,
    /// From the call to connect to WELCOME: without the generator's own queue.
    pub answer: Latencies,
    /// How late the generator itself was at what it had planned.
    pub lateness: Latencies,
    /// How long its turns were, each counted once for every microsecond it took: how long an event
    /// that came at any time had to wait at most.
    pub turns: Latencies,
    /// All that happened.
    pub counts: Counts,
}

impl Default for Measures {
    fn default() -> Measures {
        let exact = || Latencies::new(3);
        Measures {
            delivery: exact(),
            echo: exact(),
            welcome: exact(),
            joined: exact(),
            bare: exact(),
            answer: exact(),
            lateness: Latencies::new(2),
            turns: Latencies::new(2),
            counts: Counts::default(),
        }
    }
}

impl Measures {
    /// Adds those of another thread.
    pub fn add(&mut self, other: &Measures) {
        self.delivery.add(&other.delivery);
        self.echo.add(&other.echo);
        self.welcome.add(&other.welcome);
        self.joined.add(&other.joined);
        self.bare.add(&other.bare);
        self.answer.add(&other.answer);
        self.lateness.add(&other.lateness);
        self.turns.add(&other.turns);
        self.counts.add(&other.counts);
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The numbers of one thread.
        #[derive(Clone, Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
            /// How long the busiest thread had work to do in the measured time, in nanoseconds.
            pub busiest_ns: u64,
            /// When the first connection of a storm was asked for, and when the last was.
            pub storm_asked_ns: Option<(u64, u64)>,
            /// When the last connection of a storm was where it wanted to be.
            pub storm_done_ns: Option<u64>,
            /// What the server must not do.
            pub violations: Violations,
        }

        impl Counts {
            /// Adds those of another thread.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
                self.busiest_ns = self.busiest_ns.max(other.busiest_ns);
                self.storm_asked_ns = match (self.storm_asked_ns, other.storm_asked_ns) {
                    (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                    (a, b) => a.or(b),
                };
                self.storm_done_ns = self.storm_done_ns.max(other.storm_done_ns);
                self.violations.add(&other.violations);
            }
        }
    };
}

counts! {
    /// Messages and echoes sent in the whole run.
    sent,
    /// Those sent in the measured time.
    sent_measured,
    /// Calls that wrote them, in the measured time.
    writes_measured,
    /// Deliveries to members, and echoes heard, in the whole run.
    delivered,
    /// Those heard in the measured time.
    delivered_measured,
    /// Calls that read them, in the measured time.
    reads_measured,
    /// Bytes read in the measured time.
    bytes_in_measured,
    /// Deliveries that were due to members that stay and read.
    due,
    /// Those of them that came.
    due_delivered,
    /// PINGs answered.
    pings,
    /// Connections opened after the ramp: those that come and go, and those of a storm.
    reconnects,
    /// Those of them that were not where they wanted to be before their time was up.
    unfinished,
    /// Sessions that were resumed.
    resumed,
    /// Messages that those were sent again because they had missed them.
    replayed,
    /// Messages that those were sent again and had heard before they were cut off.
    repeated,
    /// Members that stopped reading.
    slow,
    /// Those of them that the server ended or told of gaps.
    slow_dealt_with,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_threads_are_added_and_not_averaged() {
        let mut quick = Latencies::new(3);
        quick.record_many(1_000_000, 99);
        let mut slow = Latencies::new(3);
        slow.record(500_000_000);
        quick.add(&slow);
        assert_eq!(quick.count(), 100);
        assert!(quick.at(0.99).abs_diff(1_000_000) < 2_000);
        assert!(quick.max().abs_diff(500_000_000) < 1_000_000);
        quick.add(&Latencies::default());
        assert_eq!(quick.count(), 100);
    }

    #[test]
    fn what_is_beyond_the_range_counts_as_its_end() {
        let mut latencies = Latencies::new(2);
        latencies.record(u64::MAX);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.max() >= LATENCY_MAX_NS);
    }

    #[test]
    fn counts_of_threads_are_added_and_their_extremes_kept() {
        let mut a = Counts { sent: 2, busiest_ns: 5, ..Counts::default() };
        let b = Counts {
            sent: 3,
            busiest_ns: 9,
            storm_asked_ns: Some((4, 8)),
            storm_done_ns: Some(11),
            ..Counts::default()
        };
        a.add(&b);
        a.add(&Counts { storm_asked_ns: Some((3, 5)), ..Counts::default() });
        assert_eq!((a.sent, a.busiest_ns), (5, 9));
        assert_eq!((a.storm_asked_ns, a.storm_done_ns), (Some((3, 8)), Some(11)));
    }
}
