//! corebeat keeps very many long-lived connections alive and carries messages between them.

pub mod base;
pub mod chat;
pub mod cli;
pub mod engine;
pub mod net;
pub mod wire;
