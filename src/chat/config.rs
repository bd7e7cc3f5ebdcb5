//! How a shard is set up.
//!
//! Owns the plain data that the shell fills in before it makes a [`Shard`](super::shard::Shard).

use std::sync::Arc;

use crate::base::ids::{NodeId, ShardId};
use crate::base::limits::Limits;
use crate::wire::http::{Asset, Origins};

use super::heartbeat::HeartbeatPolicy;
use super::overflow::OverflowPolicies;
use super::record::Durability;

/// Everything a shard is told at its birth.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This shard.
    pub shard: ShardId,
    /// How many shards the process has.
    pub shards: u16,
    /// This process, as clients see it.
    pub node: NodeId,
    /// The bounds.
    pub limits: Limits,
    /// When to ping and when to give up.
    pub heartbeat: HeartbeatPolicy,
    /// Seeds every pseudo-random choice of the shard (jitter, levelling); another one per shard.
    pub seed: u64,
    /// Secret of the process, the same in every shard: it keys the hashes of names, which choose
    /// homes, and the resume keys.
    pub secret: [u64; 2],
    /// Whether clients may publish to the room `*`.
    pub publish_everyone: bool,
    /// What gives way in which room when a member does not read.
    pub overflow: Arc<OverflowPolicies>,
    /// When requests are answered that have to be written; none where all is in memory.
    pub durability: Option<Durability>,
    /// What HTTP clients and WebSockets get.
    pub web: WebConfig,
}

/// What HTTP clients and WebSockets get.
#[derive(Clone, Debug, Default)]
pub struct WebConfig {
    /// The files that are served as they are.
    pub assets: &'static [Asset],
    /// Whether `/stats` tells the server's numbers.
    pub numbers: bool,
    /// The pages of other origins that may open a WebSocket.
    pub origins: Origins,
    /// Whether WebSockets may agree on compression.
    pub deflate: bool,
}
