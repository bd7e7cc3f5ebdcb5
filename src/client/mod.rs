//! A client of corebeat, as a library: native frames over TCP, on mio, without an async runtime.
//!
//! It keeps its promises through lost connections: it comes back by itself (back-off with full
//! jitter, several addresses, GOAWAY), resumes its session, joins its rooms again from where it
//! was, and repeats what was not answered, so that nothing is missing and nothing comes twice, or
//! else the program is told what is missing ([`Event::Gap`]) or uncertain
//! ([`RequestError::Uncertain`]).
//!
//! There are three ways to use it, thin around one another:
//!
//! - [`blocking::Client`]: calls that wait for their answer,
//! - [`evented::Client`]: to be driven by the [`mio::Poll`] of a program,
//! - [`core::Core`]: a state machine without socket and clock, for programs that have both of
//!   their own, and for tests.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use corebeat::client::{Config, Event, blocking::Client};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut config = Config::new("10.0.0.1:8080, 10.0.0.2:8080", "robot")?;
//!     config.ping_every = Duration::from_secs(30);
//!     let mut client = Client::connect(config)?;
//!     client.join("lobby")?;
//!     while let Some(event) = client.next_event(Duration::from_secs(3600))? {
//!         match event {
//!             Event::Message(message) if message.body.starts_with(b"ping") => {
//!                 client.publish(&message.room, b"pong")?;
//!             }
//!             Event::Gap(gap) => eprintln!("missed {} to {}", gap.from.0, gap.to.0),
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What is promised
//!
//! - A message of a room is told once, in the room's order. What is missing is told as a gap,
//!   before what follows it.
//! - A direct message is told once, and acknowledged when it was taken, or by hand.
//! - A publish or direct message is delivered once. Unanswered, it is repeated with its ref in the
//!   session that goes on, which knows it again. Where the session is gone, as after a restart of
//!   the server, it is uncertain, or with [`Resend::Always`] sent again.
//! - Own messages are not told, unless they were published so that one hears them, and unless the
//!   answer to them was lost for ever: then they come back as the room's history has them.
//! - Every queue has a bound, and what exceeds it is refused ([`RequestError::QueueFull`]) or not
//!   read before room was made.
//!
//! Tokens and messages travel as they are: there is no TLS.

pub mod asking;
pub mod backoff;
pub mod blocking;
pub mod config;
mod connecting;
pub mod core;
pub mod event;
pub mod evented;
mod hearing;
pub mod membership;
pub mod pulse;
pub mod requests;
pub mod seen;

pub use asking::JoinOptions;
pub use config::{Acknowledge, Config, ConfigError, Endpoint, Resend};
pub use event::{
    Answer, Direct, Event, Gap, GapReason, History, Message, Place, Receipt, Refusal, RequestError,
    Roster, State, Ticket,
};
pub use pulse::RoundTrip;

pub use crate::base::ids::{Epoch, Seq};
pub use crate::wire::message::{Code, PresenceKind};
