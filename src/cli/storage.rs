//! The options of storage.
//!
//! Owns where things are kept and how soon they are, as an operator writes it. Never opens
//! anything. [`ServeOptions`](super::options::ServeOptions) takes it in.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::chat::record::Durability;

const STORAGE: &str = "Storage";

/// When answers are given, as an operator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DurabilityName {
    /// At once.
    None,
    /// When the operating system has it.
    Batch,
    /// When the disk has it.
    Sync,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Durability {
        match name {
            DurabilityName::None => Durability::None,
            DurabilityName::Batch => Durability::Batch,
            DurabilityName::Sync => Durability::Sync,
        }
    }
}

/// What is kept where.
#[derive(Args, Clone, Debug)]
pub struct StorageOptions {
    /// Keep histories, epochs and the messages that wait for offline users in this directory,
    /// through restarts and crashes [default: keep all in memory]
    #[arg(long, value_name = "DIR")]
    #[arg(env = "COREBEAT_DATA", hide_env = true, help_heading = STORAGE)]
    pub data: Option<PathBuf>,

    /// When a message is acknowledged and delivered, with --data: none at once, batch when the
    /// operating system has it (outlives a crash of the server), sync when the disk has it
    #[arg(long, value_name = "MODE", default_value = "batch")]
    #[arg(hide_possible_values = true)]
    #[arg(env = "COREBEAT_DURABILITY", hide_env = true, help_heading = STORAGE)]
    pub durability: DurabilityName,
}
