//! What one shard tells another.

/// A letter between shards. `Send`; about 64 bytes.
#[derive(Debug)]
pub enum Mail {
    /// Placeholder while the heart is being written.
    Nothing,
}
