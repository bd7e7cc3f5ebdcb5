//! The chat in a terminal, `corebeat chat`.
//!
//! Owns what a person sees and types, on a whole screen or line by line. Never speaks to a server:
//! the [`client`](crate::client) does. `command`, `completion`, `conversation`, `drawing`,
//! `editor`, `keys`, `paint`, `past` and `talk` are pure: they know no terminal, clock or socket.

pub mod command;
pub mod completion;
pub mod conversation;
pub mod drawing;
pub mod editor;
pub mod face;
pub mod keys;
pub mod lines;
pub mod paint;
pub mod past;
pub mod screen;
pub mod talk;
pub mod tty;
