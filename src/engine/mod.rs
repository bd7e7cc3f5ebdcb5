//! Threads: one worker a core, and the steward who starts and stops them.
//!
//! Owns the loop that turns around a [`Shard`](crate::chat::shard::Shard), the order of start and
//! stop, and the signals. Never decides anything about a session, a room or a message. The command
//! line and the tests call [`Server`](server::Server).

pub mod acceptor;
mod admission;
pub mod balance;
pub mod close_journal;
pub mod close_log;
pub mod close_record;
mod close_watch;
mod closings;
pub mod config;
pub mod desk;
mod freed_memory;
pub mod hand_over;
pub mod inquiries;
mod overload;
pub mod parcel;
pub mod predecessor;
pub mod seat;
pub mod server;
pub mod steering;
pub mod steward;
pub mod store_thread;
pub mod succession;
mod supervisor;
pub mod worker;
pub mod worker_thread;
