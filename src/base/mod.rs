//! The floor of the house: identities, time, bounds, the timing wheel and the counters.
//!
//! Owns the words that every other layer speaks. Never opens a socket, starts a thread or logs; the
//! one file that may read a clock is [`clock`]. Every other layer builds on it, and it builds on
//! none of them.

pub mod clock;
pub mod counters;
pub mod gcra;
pub mod ids;
pub mod limits;
pub mod name;
pub mod pressure;
pub mod time;
pub mod wheel;
