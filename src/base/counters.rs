//! What a worker counts.
//!
//! Owns one plain block of numbers per shard, written by its worker alone and read by copying it.
//! Never shared while it is written: whoever wants to know asks the worker by mail.

use std::fmt;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The client said BYE or `/quit`.
    Bye,
    /// The peer closed its side.
    PeerClosed,
    /// The kernel reported an error on the socket that is neither of the next two.
    SocketError,
    /// The peer's kernel reset the connection: its program crashed, or closed it without reading.
    Reset,
    /// The kernel gave it up: what was sent was not taken within the heartbeat's timeout.
    Unacknowledged,
    /// The bytes were not what the dialect allows.
    Malformed,
    /// A frame or line was longer than the limit.
    TooLarge,
    /// Silent beyond the heartbeat timeout.
    HeartbeatTimeout,
    /// The hello did not come in time.
    HandshakeTimeout,
    /// A text client did not write for too long.
    TextIdle,
    /// The reader is too slow: its outbound queue was full.
    SlowReader,
    /// The server is draining.
    Draining,
    /// The dialect is not served here.
    UnservedDialect,
    /// Its session was resumed on another connection.
    Superseded,
    /// The request was refused in a way that ends the connection.
    Refused,
    /// An HTTP client got the last response that it wanted.
    Served,
    /// An HTTP client asked for nothing more for too long.
    HttpIdle,
    /// There are as many connections, or sessions of its user, as a limit allows.
    OverLimit,
    /// A frame began and did not complete in time.
    FrameTimeout,
    /// The reader took nothing of what waited for it for too long.
    StalledReader,
    /// It wanted a new session while its worker was under pressure.
    Overloaded,
    /// It was still there when the time to drain was over, or the server was stopped at once.
    Cut,
    /// Its worker panicked, and began anew without it.
    WorkerPanicked,
}

impl CloseReason {
    /// Every reason, in the order of their counters.
    pub const ALL: [CloseReason; 23] = [
        CloseReason::Bye,
        CloseReason::PeerClosed,
        CloseReason::SocketError,
        CloseReason::Reset,
        CloseReason::Unacknowledged,
        CloseReason::Malformed,
        CloseReason::TooLarge,
        CloseReason::HeartbeatTimeout,
        CloseReason::HandshakeTimeout,
        CloseReason::TextIdle,
        CloseReason::SlowReader,
        CloseReason::Draining,
        CloseReason::UnservedDialect,
        CloseReason::Superseded,
        CloseReason::Refused,
        CloseReason::Served,
        CloseReason::HttpIdle,
        CloseReason::OverLimit,
        CloseReason::FrameTimeout,
        CloseReason::StalledReader,
        CloseReason::Overloaded,
        CloseReason::Cut,
        CloseReason::WorkerPanicked,
    ];

    /// The reason's name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::Bye => "bye",
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::SocketError => "socket_error",
            CloseReason::Reset => "reset",
            CloseReason::Unacknowledged => "unacknowledged",
            CloseReason::Malformed => "malformed",
            CloseReason::TooLarge => "too_large",
            CloseReason::HeartbeatTimeout => "heartbeat_timeout",
            CloseReason::HandshakeTimeout => "handshake_timeout",
            CloseReason::TextIdle => "text_idle",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::Draining => "draining",
            CloseReason::UnservedDialect => "unserved_dialect",
            CloseReason::Superseded => "superseded",
            CloseReason::Refused => "refused",
            CloseReason::Served => "served",
            CloseReason::HttpIdle => "http_idle",
            CloseReason::OverLimit => "over_limit",
            CloseReason::FrameTimeout => "frame_timeout",
            CloseReason::StalledReader => "stalled_reader",
            CloseReason::Overloaded => "overloaded",
            CloseReason::Cut => "cut",
            CloseReason::WorkerPanicked => "worker_panicked",
        }
    }

    /// The reason of this [`CloseReason::name`].
    pub fn from_name(name: &str) -> Option<CloseReason> {
        CloseReason::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The numbers of one shard since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections closed, by [`CloseReason`].
            pub closed: [u64; CloseReason::ALL.len()],
        }

        impl Counters {
            /// Adds the numbers of another shard.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
                for (mine, theirs) in self.closed.iter_mut().zip(other.closed) {
                    *mine += theirs;
                }
            }
        }

        impl Counters {
            /// Tells every number with its name, in the order of declaration.
            pub fn each(&self, mut tell: impl FnMut(&str, u64)) {
                $(tell(stringify!($name), self.$name);)*
                for reason in CloseReason::ALL {
                    tell(&format!("closed_{}", reason.name()), self.closed[reason as usize]);
                }
            }
        }
    };
}

counters! {
    /// Connections opened.
    opened,
    /// Connections accepted, and handed to a worker that had far fewer.
    handed_over,
    /// Connections over a limit that were closed at once, because so many others were being told.
    turned_away,
    /// Connections refused because there were as many as `--max-connections` allows.
    limited_connections,
    /// Connections refused because their address had as many as it may.
    limited_addresses,
    /// Hellos and new names refused because the user had as many sessions as it may.
    limited_sessions,
    /// Times that accepting paused because connections came faster than `--accept-rate`.
    limited_accepts,
    /// Requests refused because their connections sent messages too fast.
    limited_messages,
    /// Times that a connection was left unread because it sent messages or bytes too fast.
    limited_reads,
    /// Joins refused because the session was in as many rooms as it may.
    limited_rooms,
    /// Joins refused because the room had as many members as it may.
    limited_members,
    /// Joins refused because the worker had as many memberships as it may.
    limited_subscriptions,
    /// Workers that are strained now, or overloaded: 0 or 1, and their number in a sum.
    strained_now,
    /// Workers that are overloaded now.
    overloaded_now,
    /// Times that accepting paused because the worker was overloaded.
    overload_pauses,
    /// Hellos for new sessions that were refused because the worker was strained or overloaded.
    overload_refused,
    /// Sessions that were resumed meanwhile, a part of the resumed ones.
    overload_resumed,
    /// Times that the kernel had no descriptor or no memory for a connection, and accepting rested.
    accept_failures,
    /// Connections closed at once because no descriptor was free.
    accept_closed,
    /// Comings and goings, and totals, that were not told because of pressure, or told later as
    /// totals.
    shed_presence,
    /// Questions who is in a room that were refused because of pressure.
    shed_rosters,
    /// Questions for the numbers of all workers that were refused because of pressure.
    shed_statistics,
    /// Hellos answered: native WELCOMEs and text greetings.
    welcomed,
    /// Sessions that went on on another connection, a part of the answered hellos.
    resumed,
    /// Hellos with the key of a session that could not be resumed: it had ended, or was another
    /// user's.
    resumes_denied,
    /// Kept sessions that were not resumed in time, or had to give way to younger ones.
    sessions_expired,
    /// Bytes received.
    bytes_in,
    /// Bytes that the kernel took.
    bytes_out,
    /// Complete inbound frames, lines and WebSocket messages. In `bin`, each frame in a message.
    messages_in,
    /// PUBLISH requests accepted.
    published,
    /// Repeated requests answered as duplicates.
    duplicates,
    /// Copies of room messages put into outboxes.
    delivered,
    /// Direct messages put into outboxes, replayed ones included.
    directs,
    /// Direct messages queued for users who were offline when they were sent.
    directs_queued,
    /// Direct messages refused because they could not be kept for users who were offline.
    directs_refused,
    /// Queued direct messages struck by an ACK.
    directs_acked,
    /// Queued direct messages dropped because later ones took their room; their users saw a GAP.
    directs_dropped,
    /// Queued direct messages dropped because they were too old; their users saw a GAP.
    directs_expired,
    /// Requests refused with an ERROR that left the connection alive.
    refused,
    /// GOAWAYs sent: clients told to leave and when to come back.
    goaways,
    /// PINGs sent, the further ones included.
    pings,
    /// Further PINGs, sent because the first was not answered.
    probes,
    /// PONGs received.
    pongs,
    /// Times that a connection's heartbeat interval became longer, because its link was stable.
    heartbeats_stretched,
    /// Times that a connection's heartbeat interval became shorter: PINGs were lost or late.
    heartbeats_shortened,
    /// PINGs of clients answered.
    pings_answered,
    /// Sum of the round-trip times told by PONGs, in milliseconds.
    round_trip_ms,
    /// Times that silence was forgiven because the server itself had been suspended or starved.
    amnesties,
    /// Mail posted to other shards.
    mail_out,
    /// Mail taken from other shards.
    mail_in,
    /// Messages from histories and offline queues put into outboxes: for joins, for HISTORY, and at
    /// hellos.
    replayed,
    /// Joins that asked for what was said since.
    rejoined,
    /// HISTORY requests answered.
    histories_asked,
    /// Answers to either that had to say that part is no longer kept.
    history_gaps,
    /// Histories of rooms dropped because all together took too much memory.
    histories_dropped,
    /// Rooms without members forgotten early because there were too many rooms.
    rooms_evicted,
    /// Room messages shed because a mailbox or a room's queue was full; their members saw a GAP.
    shed,
    /// Connections closed because more waited for them than may, and too little of it was to be
    /// dropped.
    overflow_disconnect,
    /// Copies of room messages dropped because their members did not read: the oldest of a room.
    overflow_drop_oldest,
    /// The same: the newest of a room.
    overflow_drop_newest,
    /// The same: all of a room but the latest.
    overflow_latest_only,
    /// Single presence events that were folded into totals.
    presence_folded,
    /// Timer entries that had lost their meaning when they fired.
    stale_timers,
    /// HTTP requests answered with what was asked for (2xx and 304), upgrades not counted.
    http_served,
    /// HTTP requests answered with an error of the client or the server (4xx and 5xx).
    http_refused,
    /// WebSockets opened.
    upgrades,
    /// Requests for a WebSocket that were refused, a part of the refused requests.
    upgrades_refused,
    /// Close frames that WebSocket peers sent first.
    websocket_closes,
    /// Messages returned by `/echo`.
    echoes,
    /// Records that the store has written.
    stored,
    /// Records that the store could not write; those that had to be are tried again.
    store_failures,
    /// Times that a room began another epoch because what it had said could not be stored.
    epochs_renewed,
    /// Times that the worker panicked and began anew.
    worker_panics,
    /// Turns of the worker's loop.
    turns,
    /// Time that the loop was not asleep, in microseconds.
    busy_us,
}

impl fmt::Display for Counters {
    /// Every number that is not zero, as `name=value`, in the order of declaration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut space, mut outcome) = ("", Ok(()));
        self.each(|name, number| {
            if number != 0 && outcome.is_ok() {
                outcome = write!(f, "{space}{name}={number}");
                space = " ";
            }
        });
        outcome?;
        if space.is_empty() { f.write_str("nothing counted") } else { Ok(()) }
    }
}

impl Counters {
    /// Counts one closed connection.
    pub fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }

    /// What was refused, paused or left unread because of a limit on clients, by name.
    pub fn limited(&self) -> [(&'static str, u64); 9] {
        [
            ("connections", self.limited_connections),
            ("addresses", self.limited_addresses),
            ("sessions", self.limited_sessions),
            ("accepts", self.limited_accepts),
            ("messages", self.limited_messages),
            ("reads", self.limited_reads),
            ("rooms", self.limited_rooms),
            ("members", self.limited_members),
            ("subscriptions", self.limited_subscriptions),
        ]
    }

    /// How many connections ended for `reason`.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_own_counter() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn what_is_zero_is_not_printed() {
        let mut counters = Counters::default();
        assert_eq!(counters.to_string(), "nothing counted");
        counters.pings = 3;
        counters.count_close(CloseReason::Bye);
        assert_eq!(counters.to_string(), "pings=3 closed_bye=1");
        let copy = counters;
        counters.add(&copy);
        assert_eq!(counters.closed_for(CloseReason::Bye), 2);
    }
}
