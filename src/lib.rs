//! corebeat keeps very many long-lived connections alive and carries messages between them: a chat
//! and push gateway, one thread per core, on raw mio.
//!
//! # The walk of a byte
//!
//! A client's PUBLISH arrives on a socket. Its worker's poll returns ([`engine::worker`], phase
//! *events*), one read takes the bytes into the worker's scratch buffer, and [`Shard::receive`]
//! gets them. [`chat::intake`] finds the frame ([`wire::native::frame`]), decodes the request
//! without copying it, and [`chat::requests`] checks names, bounds and the ref. The room's name
//! hashes to its *home* shard. If that is another worker, a [`Mail::Publish`] waits in the postbag
//! and the phase *post* puts it into that worker's mailbox. The home ([`chat::homes`]) gives the
//! message its place in the room's one order and encodes it once, into the batch of this turn.
//! When the phase *fan-out* begins the batch is closed: each shard with members gets one count of
//! it. There [`chat::fan_out`] renders it at most once per dialect and puts a pointer into every
//! member's outbox, and the phase *flush* gathers each outbox into one vectored write.
//!
//! # The layers
//!
//! A folder is a layer and uses only those above it:
//!
//! - [`base`] — ids, time, bounds, the timing wheel, counters
//! - [`wire`] — bytes to messages and back
//! - [`web`] — the files that a browser is given
//! - [`chat`] — the heart: sessions, rooms, heartbeats, queues, behind one seam, [`Shard`]
//! - [`store`] — what outlives the process: an embedded engine, on a thread of its own
//! - [`net`] — mio begins here: listener, sockets, mailboxes, file tables
//! - [`engine`] — threads: the worker's loop, the steward, the server
//! - [`client`] — the client library
//! - `load` — the load generator, with the feature `bench`
//! - `terminal` — the chat in a terminal, with the feature `terminal`
//! - [`cli`] — options, help, exit codes
//!
//! The first three (but for `base::clock`) are pure: they know no socket, thread, channel, clock,
//! file, random source or log. A test enforces it.
//!
//! # What always holds
//!
//! - Nothing is shared between workers but mailboxes; there is no lock.
//! - A slab slot is given again only after the close phase, and with another generation: a stale
//!   event or a late timer meets nobody.
//! - Letters between two shards keep their order; every promise about join seams rests on that.
//! - A member's place in its room does not move while news is queued for the room.
//! - Life touches no timer: it is a store to the session, and the timer finds out.
//! - Every queue has a bound, and every bound a name in [`base::limits`].
//!
//! [`Shard`]: chat::shard::Shard
//! [`Shard::receive`]: chat::shard::Shard::receive
//! [`Mail::Publish`]: chat::mail::Mail::Publish

pub mod base;
pub mod chat;
pub mod cli;
pub mod client;
pub mod engine;
#[cfg(feature = "bench")]
pub mod load;
pub mod net;
pub mod store;
#[cfg(feature = "terminal")]
pub mod terminal;
pub mod web;
pub mod wire;
