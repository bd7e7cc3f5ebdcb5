//! The record of one connection that ended.
//!
//! Owns what is kept of it, from the heart and from the kernel, in a form small enough to keep ten
//! thousand; and the form in which it is told, a line of JSON. Never decides why a connection ends:
//! the heart does. The worker writes records into its
//! [`CloseJournal`](super::close_journal::CloseJournal).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::base::counters::CloseReason;
use crate::base::name::Name;
use crate::base::time::{Now, TICK_MS, Tick};
use crate::chat::closing::{Closing, Speech};
use crate::net::tcp_info::TcpInfo;

/// What is kept of one connection that ended. Everything is as it was when its end was decided.
#[derive(Clone, Debug)]
pub struct CloseRecord {
    closed_ms: u64,
    user: Option<Name>,
    tcp: Option<TcpInfo>,
    address: IpAddr,
    port: u16,
    heartbeat_ms: Option<u16>,
    age: Tick,
    silent_ms: u32,
    queued: u32,
    reason: CloseReason,
    speech: Speech,
}

const _: () = assert!(size_of::<CloseRecord>() <= 112, "docs/operations.md says what they take");

impl CloseRecord {
    /// The record of `closing`, whose socket came from `peer` at `opened`, and of which the kernel
    /// says `tcp`.
    pub fn new(
        closing: Closing,
        peer: SocketAddr,
        opened: Tick,
        tcp: Option<TcpInfo>,
        now: Now,
    ) -> CloseRecord {
        CloseRecord {
            closed_ms: now.wall_ms,
            user: closing.user,
            tcp,
            address: peer.ip(),
            port: peer.port(),
            heartbeat_ms: closing.heartbeat_ms,
            age: Tick(now.mono.tick().0.saturating_sub(opened.0)),
            silent_ms: u32::try_from(closing.silent_ms).unwrap_or(u32::MAX),
            queued: u32::try_from(closing.queued).unwrap_or(u32::MAX),
            reason: closing.reason,
            speech: closing.speech,
        }
    }

    /// Why it ended.
    pub fn reason(&self) -> CloseReason {
        self.reason
    }

    /// Its user.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// When it ended, in milliseconds since 1970 (UTC).
    pub fn closed_ms(&self) -> u64 {
        self.closed_ms
    }

    /// As it is told: the `number`th close of `worker`.
    pub fn tell(&self, worker: u16, number: u64) -> CloseLine {
        let tcp = self.tcp.as_ref();
        CloseLine {
            time_ms: self.closed_ms,
            worker,
            number,
            reason: self.reason.name().into(),
            peer: SocketAddr::new(self.address, self.port),
            user: self.user().map(str::to_owned),
            speech: self.speech.name().into(),
            age_ms: self.age_ms(),
            bytes_in: tcp.map(|tcp| tcp.bytes_received),
            bytes_out: tcp.map(|tcp| tcp.bytes_acknowledged),
            queued: self.queued,
            send_queue: tcp.map(|tcp| tcp.send_queue),
            unacknowledged: tcp.map(|tcp| tcp.unacknowledged_segments),
            silent_ms: self.silent_ms,
            round_trip_us: tcp.map(|tcp| tcp.round_trip_us),
            heartbeat_ms: self.heartbeat_ms,
            retransmits: tcp.map(|tcp| tcp.retransmits),
            peer_window: tcp.and_then(|tcp| tcp.peer_window),
        }
    }

    fn age_ms(&self) -> u64 {
        u64::from(self.age.0) * TICK_MS
    }
}

impl fmt::Display for CloseRecord {
    /// For a line of the log: who it was, and what points to the cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user() {
            write!(f, "{user} at ")?;
        }
        let peer = SocketAddr::new(self.address, self.port);
        let (age_s, silent_s) = (tenths(self.age_ms()), tenths(u64::from(self.silent_ms)));
        write!(f, "{peer} ({}, open {age_s}s, silent {silent_s}s", self.speech.name())?;
        if self.queued > 0 {
            write!(f, ", {} B queued", self.queued)?;
        }
        if let Some(tcp) = &self.tcp {
            if tcp.send_queue > 0 {
                write!(f, ", {} B unacknowledged", tcp.send_queue)?;
            }
            if tcp.retransmits > 0 {
                write!(f, ", {} retransmits", tcp.retransmits)?;
            }
            write!(f, ", rtt {}ms", tenths(u64::from(tcp.round_trip_us)))?;
        }
        f.write_str(")")
    }
}

/// A number of thousandths, to the tenth.
fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 1_000, thousandths % 1_000 / 100)
}

/// A record as it is told: one line of JSON. Numbers of the kernel are null where it did not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseLine {
    /// When it ended, in milliseconds since 1970 (UTC).
    pub time_ms: u64,
    /// The worker that it was connected to.
    pub worker: u16,
    /// Which of that worker's closes it was, from 1.
    pub number: u64,
    /// [`CloseReason::name`].
    pub reason: String,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Its user.
    pub user: Option<String>,
    /// [`Speech::name`].
    pub speech: String,
    /// How long it had been open, to a tenth of a second.
    pub age_ms: u64,
    /// Bytes received.
    pub bytes_in: Option<u64>,
    /// Bytes that the peer's kernel had acknowledged.
    pub bytes_out: Option<u64>,
    /// Bytes that waited in the server.
    pub queued: u32,
    /// Bytes that the kernel held for it: sent and not acknowledged, or not sent.
    pub send_queue: Option<u32>,
    /// Segments on their way.
    pub unacknowledged: Option<u32>,
    /// How long it had said nothing.
    pub silent_ms: u32,
    /// The kernel's smoothed round trip.
    pub round_trip_us: Option<u32>,
    /// The heartbeats' smoothed round trip, where heartbeats adapt.
    pub heartbeat_ms: Option<u16>,
    /// Segments that were sent again.
    pub retransmits: Option<u32>,
    /// Bytes that the peer's kernel had room for.
    pub peer_window: Option<u32>,
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::base::ids::ConnId;
    use crate::base::time::Mono;

    /// A connection of `user` that ended for `reason`.
    pub(crate) fn record(reason: CloseReason, user: &str) -> CloseRecord {
        let closing = Closing {
            conn: ConnId::new(1, 1),
            reason,
            speech: Speech::Native,
            user: Some(Name::new(user)),
            queued: 70,
            silent_ms: 90_123,
            heartbeat_ms: None,
        };
        let tcp = TcpInfo {
            bytes_received: 1_000,
            bytes_acknowledged: 2_000,
            send_queue: 33,
            unacknowledged_segments: 2,
            retransmits: 7,
            round_trip_us: 1_260,
            peer_window: Some(65_536),
            peer_finished: false,
        };
        let now = Now { mono: Mono(200_050), wall_ms: 1_800_000_000_000 };
        let peer = "192.0.2.1:4000".parse().unwrap();
        CloseRecord::new(closing, peer, Tick(1_000), Some(tcp), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_in_words_and_as_json_that_is_read_back() {
        let record = samples::record(CloseReason::HeartbeatTimeout, "ann");
        assert_eq!(
            record.to_string(),
            "ann at 192.0.2.1:4000 (native, open 100.0s, silent 90.1s, 70 B queued, \
             33 B unacknowledged, 7 retransmits, rtt 1.2ms)"
        );
        let line = record.tell(3, 17);
        assert_eq!((line.worker, line.number, line.age_ms), (3, 17, 100_000));
        let json = serde_json::to_string(&line).unwrap();
        assert!(json.contains(r#""reason":"heartbeat_timeout","peer":"192.0.2.1:4000""#), "{json}");
        assert_eq!(serde_json::from_str::<CloseLine>(&json).unwrap(), line);
    }
}
