//! The heart: all that decides, as plain data and functions.
//!
//! Owns sessions, rooms, heartbeats, limits and queues. Never sees a socket, a clock, a thread, a
//! channel, a file, a log or a source of randomness: bytes, mail and the time come in through the
//! seam of [`shard::Shard`], and bytes, mail and verdicts go out through it. The worker calls it,
//! and so do the simulation, the fuzz targets and the instruction counts.
//!
//! One shard's work, by file:
//!
//! | file | what it does |
//! | --- | --- |
//! | [`shard`] | the seam: what goes in, what comes out |
//! | [`intake`] | received bytes to requests, in any dialect |
//! | [`egress`] | words to one connection, and how it ends |
//! | [`closing`] | what is known of a connection when its end is decided |
//! | [`requests`] | what a client may ask, and the refusals |
//! | [`text`] | the commands of a text client |
//! | [`homes`] | the rooms and users whose home this shard is: order, rosters |
//! | [`presence`] | what homes say of who comes and goes |
//! | [`recovery`] | what members get of the past: replays, listings, how much is kept |
//! | [`catch_up`] | replays on their way to the members of this shard |
//! | [`directs`], [`direct_feed`] | direct messages, at the user's home and at the connections |
//! | [`letters`] | mail from other shards |
//! | [`storing`] | what waits for the disk, and what came back from it |
//! | [`fan_out`] | news to the members of this shard |
//! | [`detach`] | sessions that lose their connections |
//! | [`resume`] | and are claimed by others, or given up |
//! | [`whereabouts`] | who is there at all: online and offline |
//! | [`meters`] | how fast connections may send |
//! | [`excess`] | connections and sessions beyond a limit, and what they are told |
//! | [`shedding`] | who is let in, and what is left out, under pressure |
//! | [`timers`], [`patience`] | heartbeats, time-outs; frames and readers that hang |
//! | [`drain`] | how connections are sent on when the server ends |
//! | [`lives`], [`parting`], [`census`] | what shards do when one of them has begun anew |
//!
//! and the nouns they work on: [`awaited`], [`session`], [`room`], [`home`], [`history`],
//! [`roster`], [`directory`], [`inboxes`], [`inbox`], [`queue`], [`readers`], [`reader`],
//! [`direct`], [`changes`], [`batch`], [`pulse`], [`outbox`], [`refs`], [`mail`], [`postbag`],
//! [`agenda`], [`heartbeat`], [`hash`], [`holdings`], [`kept`], [`record`], [`journal`],
//! [`config`].

pub mod agenda;
pub mod awaited;
pub mod batch;
pub mod catch_up;
pub mod census;
pub mod changes;
pub mod closing;
pub mod config;
pub mod detach;
pub mod dialect;
pub mod direct;
pub mod direct_feed;
pub mod directory;
pub mod directs;
pub mod drain;
pub mod egress;
pub mod excess;
pub mod fan_out;
pub mod hash;
pub mod heartbeat;
pub mod history;
pub mod holdings;
pub mod home;
pub mod homes;
pub mod http;
pub mod inbox;
pub mod inboxes;
pub mod input;
pub mod intake;
pub mod journal;
pub mod kept;
pub mod letters;
pub mod lives;
pub mod mail;
pub mod membership;
pub mod meters;
pub mod outbox;
pub mod overflow;
pub mod parting;
pub mod patience;
pub mod postbag;
pub mod presence;
pub mod press;
pub mod pulse;
pub mod queue;
pub mod reader;
pub mod readers;
pub mod record;
pub mod recovery;
pub mod refs;
pub mod relief;
pub mod requests;
pub mod resume;
pub mod room;
pub mod roster;
pub mod session;
pub mod shard;
pub mod shedding;
pub mod stats;
pub mod storing;
pub mod text;
pub mod timers;
pub mod web;
pub mod whereabouts;
