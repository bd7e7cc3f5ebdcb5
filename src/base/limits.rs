//! Every bound of the server, by name, in one place.
//!
//! Owns two kinds: constants, which the contract or the data layout fixes, and [`Limits`], which an
//! operator sets (each field is an option of `corebeat serve`). Const assertions state how they
//! relate. Never enforces a bound; whoever holds the bounded thing does.

use super::pressure::Watermarks;

/// Longest name of a user or a room, in bytes (wire contract).
pub const NAME_MAX: usize = 64;
/// Most names in one ROSTER frame (wire contract).
pub const ROSTER_MAX: usize = 1_000;
/// How many of a session's last non-zero refs are remembered against repetition (wire contract).
pub const REF_WINDOW: usize = 1_024;

/// Bytes of a native frame before its payload: magic, type, flags, length.
pub const FRAME_HEADER: usize = 8;
/// Bytes of the checksum behind a payload.
pub const FRAME_CRC: usize = 4;
/// Most bytes in the payload of a WebSocket control frame (RFC 6455 section 5.5).
pub const WEBSOCKET_CONTROL_MAX: usize = 125;

/// Smallest and largest frame payload that an operator may configure.
pub const MAX_FRAME_RANGE: (usize, usize) = (1 << 10, 16 << 20);
/// Longest head of an HTTP request: its first line and its header fields, in bytes.
pub const HTTP_HEAD_BYTES: usize = 8 << 10;
/// Most header fields of an HTTP request.
pub const HTTP_FIELDS_MAX: usize = 64;
/// Bytes that one read may take from a socket: the scratch buffer of a worker. A connection is read
/// once a turn and continued next turn, so this is also the read budget of a connection.
pub const READ_CHUNK: usize = 64 << 10;
/// Slices that most writes need. A table of them is set up for every write, which is not free.
pub const WRITE_SLICES_USUAL: usize = 4;
/// Slices handed to one vectored write at most. Linux takes 1,024; beyond some dozens nothing is
/// gained.
pub const WRITE_SLICES: usize = 64;

/// Mail taken from the mailbox in one turn.
pub const MAIL_BUDGET: usize = 4_096;
/// Places in a worker's mailbox.
pub const MAILBOX_CAPACITY: usize = 4_096;
/// Bytes of one batch of messages, above which it is closed and the next one begun.
pub const BATCH_BYTES: usize = 64 << 10;
/// Places of members who left a room while its news was being delivered, above which nobody joins
/// before the delivery has caught up.
pub const HOLES_MAX: usize = 65_536;
/// Records of one worker on their way to the disk, above which requests that have to be written are
/// refused.
pub const RECORDS_PENDING_MAX: usize = 65_536;
/// Bytes of them, likewise.
pub const RECORD_BYTES_PENDING: usize = 16 << 20;
/// Where so many times as much is pending, direct messages to users who are there are refused too.
/// They need not be written at once; but what a session does not acknowledge is written when it
/// ends, and struck when it is acknowledged at last. So what is pending is bounded by this, and by
/// three records for each message that is kept for a user already.
pub const PENDING_BEFORE_LIVE_REFUSED: usize = 2;
/// Places in the channel to the store. A worker hands over once a turn.
pub const STORE_CHANNEL_CAPACITY: usize = 1_024;
/// How often a worker whose mailbox is full is told that the store is lost.
pub const STORE_LOST_TRIES_MAX: usize = 1_000;
/// The pause between two of these.
pub const STORE_LOST_PAUSE_MS: u64 = 1;
/// Bytes of records that are committed together, unless one turn has more.
pub const COMMIT_BYTES: usize = 4 << 20;
/// Bytes of bundles, beside twice those of what is live in them, above which the oldest ones are
/// cleaned.
pub const BUNDLE_SLACK_BYTES: u64 = 16 << 20;
/// Bytes of old bundles that are cleaned with one commit, or four times its own.
pub const BUNDLE_CLEAN_BYTES: usize = 64 << 10;
/// Bundles that are dropped with one commit.
pub const BUNDLES_DROPPED_MAX: usize = 1_024;
/// Where answers do not wait for the disk itself, it is waited for this long after a commit at the
/// latest.
pub const STORE_SYNC_PERIOD_MS: u64 = 1_000;
/// Or sooner, when so many bytes have been committed since.
pub const STORE_SYNC_BYTES: usize = 4 << 20;
/// Members served in one visit of the fan-out to a room, before the next room has its turn.
pub const FAN_OUT_SLICE: usize = 1_024;
/// Connections for which a worker reserves its tables at start. The memory is touched as they come;
/// with more, the tables grow.
pub const CONNECTIONS_RESERVED: usize = 1 << 20;
/// Connections accepted in one turn. Few: whoever is connected waits for the end of the turn, and a
/// new connection's first bytes are read before its state has left the cache.
pub const ACCEPT_BUDGET: usize = 32;
/// Connections taken in one turn from workers that had too many.
pub const HATCH_BUDGET: usize = 32;
/// A worker that has so many per cent of the connections of the emptiest one hands it new ones.
pub const SKEW_MAX_PERCENT: usize = 130;
/// So few connections more than the emptiest worker has are no skew.
pub const SKEW_IGNORED: usize = 64;
/// Kernel events taken in one turn.
pub const EVENTS_PER_TURN: usize = 1_024;

/// Longest message that `/echo` returns. It is returned piece by piece as it arrives, so that no
/// buffer has its length. A compressed one is returned whole, and may be as long as what waits for
/// a connection before it is no longer read ([`Limits::pause_reading_above`]).
pub const ECHO_MESSAGE_MAX: usize = 16 << 20;

/// WebSocket messages to many that are shorter are not compressed: there is nothing to gain.
pub const COMPRESSED_MESSAGE_MIN: usize = 64;
/// Connections that may wait at a time for one gathering of `/stats`; more are told 503.
pub const STATS_ASKERS_MAX: usize = 1_024;

/// Connections that ended of which a worker keeps the record.
pub const CLOSES_KEPT: usize = 10_000;

/// Networks of which a worker remembers which silences connections survived.
pub const NETWORKS_KEPT: usize = 16_384;

/// How long a connection that is being closed may take to read its last bytes and hang up.
pub const LINGER_MS: u64 = 2_000;
/// A timer late by more than this shows that the server itself was suspended or starved; silence
/// measured across such a gap is not held against anybody.
pub const STARVED_MS: u64 = 1_000;
/// Users of whom a shard may be about to tell its members that they went or came back; of more it
/// is not told.
pub const WHEREABOUTS_MAX: usize = 4_096;
/// How many times longer than its compressed form a message can be at most (RFC 1951: a match of
/// 258 bytes for two bits).
pub const DEFLATE_RATIO_MAX: usize = 1_032;
/// Bytes of the shortest MESSAGE, as a plain native frame: header, epoch, seq, time, two names of
/// one byte.
pub const MESSAGE_FRAME_MIN: usize = FRAME_HEADER + 20 + 2 + 2;
/// Gaps of a room that are fewer messages apart count as one where a member may have lost what
/// surrounds them.
pub const GAPS_APART: u64 = 1 << 18;
/// Bytes that are taken for lost with a connection whose kernel does not say how many are.
pub const UNACKNOWLEDGED_BYTES_GUESS: usize = 64 << 10;
/// Rooms without members are forgotten after this long without a message.
pub const ROOM_IDLE_MS: u64 = 60_000;
/// Messages that one HISTORY is answered with at most.
pub const HISTORY_ANSWER_MAX: usize = 1_000;
/// Listings of what was said that one connection may have under way: their pages fit its outbox.
pub const LISTINGS_MAX: u32 = 8;
/// Messages that `/history` shows where it is not told how many.
pub const TEXT_HISTORY: u16 = 20;
/// Earlier epochs of which a room's history remembers where they ended.
pub const PAST_EPOCHS_MAX: usize = 4;
/// Rooms looked at for one whose history gives way where all histories together are too much.
pub const HISTORY_LOOKS: usize = 64;
/// Rooms looked at for one without members that gives way where there are too many rooms.
pub const IDLE_ROOM_LOOKS: usize = 16;
/// Letters staged for a shard above which joins are answered without a first page: pages are large,
/// and are asked for as they can be taken.
pub const REPLAYS_STAGED_MAX: usize = 64;
/// Pages of replays that one shard has asked for and not got, at most.
pub const PAGES_ASKED_MAX: usize = 64;
/// Members that one turn looks at for whether their replay can go on.
pub const CATCH_UP_BUDGET: usize = 256;
/// How often a crowded room tells its new total at most (wire contract).
pub const PRESENCE_PERIOD_MS: u64 = 1_000;

/// Direct messages that were told to live sessions and are kept until they are acknowledged, for
/// each user; and their bytes. Older ones are forgotten.
pub const TOLD_MAX: usize = 128;
/// Bytes of such messages, for each user.
pub const TOLD_BYTES: usize = 256 << 10;
/// How much longer than a session can be resumed its user's home remembers how far it had come: its
/// birth shard, which knows of delays that the home does not, says when it is over.
pub const SETTLE_MAX_MS: u64 = 600_000;
/// What a kept direct message is taken to cost besides its frame: its place in the queue, its
/// age and counts, and what the allocator rounds up.
pub const DIRECT_OVERHEAD_BYTES: usize = 40;
/// What a user with kept direct messages is taken to cost besides them.
pub const INBOX_BYTES: usize = 384;

/// Connections over a limit that one worker holds until their first bytes tell how to refuse them.
/// Those beyond are closed without a word.
pub const REFUSALS_HELD_MAX: usize = 16;
/// Earliest and latest time after which such a connection is asked to come back.
pub const REFUSED_RECONNECT_AFTER_MS: (u32, u32) = (2_000, 10_000);
/// Panics of one worker within [`WORKER_PANICS_PERIOD_MS`] behind each of which it begins anew. One
/// more ends the server: a supervisor above it has more to try.
pub const WORKER_PANICS_MAX: usize = 5;
/// See [`WORKER_PANICS_MAX`].
pub const WORKER_PANICS_PERIOD_MS: u64 = 60_000;
/// Times that unread bytes of a connection are read and thrown away before its last words, when its
/// worker has panicked.
pub const LAST_READS_MAX: usize = 8;
/// A connection that was too fast is left unread for so long at most before it is looked at again.
pub const SLOWED_MS: u64 = 1_000;
/// One whose request was refused for that is left unread for so long at most: a client that does
/// not wait costs as many refusals as fit into one read, in this time.
pub const REFUSED_PAUSE_MS: u64 = 100;
/// Under pressure the numbers of all workers are gathered no more often than this.
pub const STATS_PERIOD_STRAINED_MS: u64 = 5_000;
/// Earliest and latest time after which a request is to be tried again that was left out under
/// pressure.
pub const SHED_RETRY_AFTER_MS: (u32, u32) = (1_000, 5_000);
/// So long after a worker freed memory it has the allocator give back what nobody took.
pub const GIVE_BACK_MS: u64 = 1_000;
/// How often a worker that is awake looks at the memory and the limit on open files.
pub const MEMORY_LOOK_MS: u64 = 250;
/// How often a worker under pressure wakes up to see whether it has passed.
pub const PRESSURE_LOOK_MS: u64 = 100;
/// Looks at a reader that takes nothing, within the time that it may do so.
pub const STALL_LOOKS: u64 = 2;

/// How often a worker gives back what its pools did not need.
pub const TRIM_PERIOD_MS: u64 = 1_000;
/// Outboxes kept for reuse by a worker; more are allocated when more connections have bytes
/// waiting.
pub const OUTBOXES_KEPT: usize = 2_048;
/// Message batches kept for reuse by a worker.
pub const BATCHES_KEPT: usize = 64;
/// How long a draining server goes on delivering what it had accepted before it hangs up.
pub const DRAIN_SETTLE_MS: u64 = 300;
/// How long it waits for hellos that are on their way when everybody else was told.
pub const DRAIN_HELLO_MS: u64 = 2_000;
/// Earliest and latest time that GOAWAY asks clients to wait before they come back, where all are
/// told at once; a drain that takes longer has them come back over as much time as it takes.
pub const RECONNECT_AFTER_MS: (u32, u32) = (500, 5_000);

/// Commands that the admin socket serves at a time; more are told to try again.
pub const ADMIN_CLIENTS_MAX: usize = 16;
/// Longest request of such a command: one for the closes behind a number of each worker.
pub const ADMIN_REQUEST_BYTES: usize = 128 << 10;
/// Bytes of a request that are read at a time.
pub const ADMIN_READ_BYTES: usize = 1 << 10;
/// Bytes of an answer above which the rest of it is left out.
pub const ADMIN_ANSWER_BYTES: usize = 64 << 20;
/// A command that neither asks nor reads its answer is dropped after this long.
pub const ADMIN_PATIENCE_MS: u64 = 10_000;
/// Where the kernel had nothing to accept a command with, it is asked again after this long.
pub const ADMIN_ACCEPT_REST_MS: u64 = 100;

/// A process that takes over and is not ready after this long has lost its chance.
pub const TAKE_OVER_PATIENCE_MS: u64 = 30_000;
/// Bytes of one answer to such a process. It names a path, which JSON may write six times as long.
pub const TAKE_OVER_ANSWER_BYTES: usize = 64 << 10;
/// Descriptors that travel together from one process to another; the kernel allows 253.
pub const DESCRIPTORS_AT_ONCE: usize = 64;

/// Requests of one client of [`client`](crate::client) that may wait for an answer. Fewer than the
/// server remembers, so that all of them can be repeated.
pub const CLIENT_QUEUE_LIMIT_MAX: usize = 1_000;
/// Bytes that such a client's requests may hold while they wait.
pub const CLIENT_QUEUE_BYTES: usize = 16 << 20;
/// Events that may wait for the program before such a client reads no more.
pub const CLIENT_EVENTS_MAX: usize = 16_384;
/// Bytes of messages among those events.
pub const CLIENT_EVENT_BYTES: usize = 16 << 20;
/// Own messages that such a client remembers in a room until what is before them has come.
pub const CLIENT_OWN_KEPT: usize = 1_024;
/// Messages of its own user that such a client holds until it knows whether it repeats them.
pub const CLIENT_HELD_MAX: usize = 1_024;
/// Epochs of a room that such a client remembers its place in.
pub const CLIENT_EPOCHS_KEPT: usize = 8;
/// Direct messages that such a client remembers, so that none is told twice.
pub const CLIENT_DIRECTS_KEPT: usize = 4_096;

/// Bytes that are kept free for what is told in place of messages that were dropped.
pub const NOTICE_BYTES: usize = 512;
/// Pieces of an outbox that are looked at for a notice to which further dropped messages are added.
pub const FOLD_LOOKS: usize = 64;
/// Largest buffer that is kept for reuse; larger ones are given back to the allocator.
pub const BUFFER_KEPT_BYTES: usize = 4 << 10;
/// Bytes said to one connection alone that are kept in one piece. What is urgent overtakes all but
/// the first piece, so this is what a heartbeat may have to wait for.
pub const OWN_PIECE_BYTES: usize = 2 << 10;

const _: () = assert!(READ_CHUNK >= FRAME_HEADER + FRAME_CRC);
const _: () = assert!(MAIL_BUDGET >= MAILBOX_CAPACITY, "a turn empties a mailbox");
const _: () = assert!(MAX_FRAME_RANGE.0 > 2 * (NAME_MAX + 1) + 64, "every fixed frame fits");
const _: () = assert!(OWN_PIECE_BYTES <= BUFFER_KEPT_BYTES, "pieces of small frames are reused");
const _: () = assert!(RECONNECT_AFTER_MS.0 as u64 > DRAIN_SETTLE_MS, "closed before they go");
const _: () = assert!(LINGER_MS >= 10 * super::time::TICK_MS);

/// Bounds that an operator sets. Every field is an option of `corebeat serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of a native frame, and longest text line, in bytes (`--max-frame`).
    pub max_frame: usize,
    /// Bytes that may wait for one connection before it is closed with 431 (`--max-outbound`).
    pub max_outbound: usize,
    /// Rooms that one connection may be in; 0: any number (`--max-rooms-per-connection`).
    pub max_rooms_per_connection: usize,
    /// Rooms that one worker keeps the order of (`--max-rooms`).
    pub max_rooms: usize,
    /// Members of a room above which presence is told as totals only (`--presence-max`).
    pub presence_max: usize,
    /// Connections that one worker holds (`--max-connections`, divided by the workers).
    pub max_connections: usize,
    /// Connections of one address, or of one /64 of IPv6, in all; 0: any number
    /// (`--max-connections-per-address`).
    pub max_connections_per_address: usize,
    /// Live sessions of one user; 0: any number (`--max-sessions-per-user`).
    pub max_sessions_per_user: usize,
    /// Connections that one worker accepts in a second; 0: any number (`--accept-rate`).
    pub accept_rate: u64,
    /// Open descriptors of a worker's table, in per cent of the limit on open files
    /// (`--overload-descriptors`).
    pub overload_descriptors: Watermarks,
    /// Memory, in per cent of what may be used (`--overload-memory`).
    pub overload_memory: Watermarks,
    /// Bytes of memory that the process may take; 0: any number; none: what its control group or
    /// the machine has (`--memory-limit`).
    pub memory_limit: Option<u64>,
    /// How long what arrives has to wait for the loop, in microseconds (`--overload-lag`).
    pub overload_lag: Watermarks,
    /// Messages that one connection may send in a second; 0: any number (`--message-rate`).
    pub message_rate: u64,
    /// Messages that it may send at once (`--message-burst`).
    pub message_burst: u64,
    /// Bytes that one connection may send in a second; 0: any number (`--byte-rate`).
    pub byte_rate: usize,
    /// Bytes that it may send at once (`--byte-burst`).
    pub byte_burst: usize,
    /// Sessions that one room may have as members; 0: any number (`--max-members-per-room`).
    pub max_members_per_room: usize,
    /// Memberships of one worker's sessions in all; 0: any number (`--max-subscriptions`, divided
    /// by the workers).
    pub max_subscriptions: usize,
    /// Time for a frame, once it has begun, to complete; 0: any (`--frame-timeout`).
    pub frame_timeout_ms: u64,
    /// Time for a reader to take the next byte of what waits for it; 0: any (`--write-timeout`).
    pub write_timeout_ms: u64,
    /// Time to complete the hello (`--handshake-timeout`).
    pub handshake_timeout_ms: u64,
    /// A text client is closed after this long without a line (`--text-idle-timeout`).
    pub text_idle_timeout_ms: u64,
    /// Sockets with unread bytes served in one turn (`--read-budget`).
    pub read_budget: usize,
    /// Members to whom one turn hands a batch of messages (`--fan-out-budget`).
    pub fan_out_budget: usize,
    /// Connections written to in one turn (`--write-budget`).
    pub write_budget: usize,
    /// Timers handled in one turn (`--timer-budget`).
    pub timer_budget: usize,
    /// Mail staged for one full mailbox before deliveries are shed and requests refused
    /// (`--max-mail-staged`). What must not be lost (joins, leaves, answers) is staged beyond it,
    /// and is bounded by the connections.
    pub max_mail_staged: usize,
    /// Batches that may wait for fan-out in one room of one worker before further ones are shed
    /// (`--max-room-queue`).
    pub max_room_queue: usize,
    /// How long a session is kept that has lost its connection; 0: not at all
    /// (`--resume-window`).
    pub resume_window_ms: u64,
    /// Sessions without a connection that one worker keeps (`--max-kept-sessions`, divided by the
    /// workers); the oldest give way.
    pub max_kept_sessions: usize,
    /// How long a session may be away before its rooms are told that it left
    /// (`--presence-grace`).
    pub presence_grace_ms: u64,
    /// Direct messages kept for one user who is offline (`--offline-count`); 0: none. The oldest
    /// give way.
    pub offline_count: usize,
    /// Bytes of such messages for one user (`--offline-bytes`); the oldest give way.
    pub offline_bytes: usize,
    /// How long they are kept (`--offline-age`).
    pub offline_age_ms: u64,
    /// Bytes of direct messages that one worker keeps in all (`--offline-memory`, divided by the
    /// workers); above that further ones are refused.
    pub offline_memory: usize,
    /// Messages that a room's history keeps (`--history-count`); 0 keeps none.
    pub history_count: usize,
    /// Bytes of messages that a room's history keeps (`--history-bytes`).
    pub history_bytes: usize,
    /// How long a message is kept (`--history-age`).
    pub history_age_ms: u64,
    /// Memory that the histories of one worker's rooms may take together (`--history-memory`,
    /// divided by the workers).
    pub history_memory: usize,
}

impl Limits {
    /// Above this many waiting bytes a connection's own requests are no longer read, so that a
    /// client that asks faster than it reads is slowed down before it is closed.
    pub fn pause_reading_above(&self) -> usize {
        self.max_outbound / 2
    }

    /// A replay goes on while fewer bytes than this wait for a connection, which leaves room for
    /// answers and for what other rooms say.
    pub fn replay_below(&self) -> usize {
        self.max_outbound / 4
    }

    /// The same without rates: for measurements in which one connection speaks for many.
    #[must_use]
    pub fn without_rates(self) -> Limits {
        Limits { accept_rate: 0, message_rate: 0, byte_rate: 0, ..self }
    }

    /// How often a room's history is looked at for messages that are too old to be kept. They are
    /// not told anyhow; this is for their memory.
    pub fn history_period_ms(&self) -> u64 {
        (self.history_age_ms / 4).max(1_000)
    }

    /// Bytes of one page of a replay, as native frames; a longer message is a page of its own. As
    /// JSON a page may take six times as much, and must fit even so.
    pub fn replay_page_bytes(&self) -> usize {
        BATCH_BYTES.min(self.max_outbound / 16)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_frame: 64 << 10,
            max_outbound: 1 << 20,
            max_rooms_per_connection: 128,
            max_rooms: 1 << 20,
            presence_max: 256,
            max_connections: super::ids::SLOTS_PER_SHARD,
            max_connections_per_address: 1_000,
            max_sessions_per_user: 0,
            accept_rate: 20_000,
            overload_descriptors: Watermarks { low: 96, soft: 98, high: 99 },
            overload_memory: Watermarks { low: 85, soft: 90, high: 95 },
            memory_limit: None,
            overload_lag: Watermarks { low: 100_000, soft: 250_000, high: 1_000_000 },
            message_rate: 5_000,
            message_burst: 50_000,
            byte_rate: 32 << 20,
            byte_burst: 128 << 20,
            max_members_per_room: 0,
            max_subscriptions: 8 << 20,
            frame_timeout_ms: 120_000,
            write_timeout_ms: 120_000,
            handshake_timeout_ms: 10_000,
            text_idle_timeout_ms: 300_000,
            read_budget: 2_048,
            fan_out_budget: 8_192,
            write_budget: 8_192,
            timer_budget: 8_192,
            max_mail_staged: 8_192,
            max_room_queue: 256,
            resume_window_ms: 120_000,
            max_kept_sessions: 1_000_000,
            presence_grace_ms: 3_000,
            offline_count: 1_000,
            offline_bytes: 1 << 20,
            offline_age_ms: 7 * 24 * 3_600_000,
            offline_memory: 256 << 20,
            history_count: 1_000,
            history_bytes: 256 << 10,
            history_age_ms: 24 * 3_600_000,
            history_memory: 256 << 20,
        }
    }
}
