//! The one hash of names.
//!
//! Owns the keyed hash that chooses homes and places names in tables. The key is the process's
//! secret, so that no client can choose names that collide; it is the same in every shard, so that
//! all agree on every home.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::base::ids::ShardId;

/// Hashes names with the process's secret.
#[derive(Clone, Copy, Debug)]
pub struct NameHasher {
    key: [u64; 2],
}

impl NameHasher {
    /// A hasher keyed with `key`.
    pub fn new(key: [u64; 2]) -> NameHasher {
        NameHasher { key }
    }

    /// The hash of `name`.
    pub fn hash(&self, name: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    /// An unguessable number for `number`, for what must not be forged.
    pub fn seal(&self, number: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(!self.key[1], self.key[0]);
        hasher.write_u64(number);
        hasher.finish()
    }
}

/// The home, among `shards`, of what hashes to `hash`.
///
/// The high half chooses the shard; tables use all bits, so one shard's names stay well spread.
pub fn home(hash: u64, shards: u16) -> ShardId {
    ShardId((((hash >> 32) * u64::from(shards)) >> 32) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn homes_are_spread_and_within_bounds() {
        let hasher = NameHasher::new([3, 4]);
        let mut counts = [0; 7];
        for number in 0..7_000 {
            counts[home(hasher.hash(&format!("room-{number}")), 7).index()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(home(u64::MAX, 7), ShardId(6));
    }
}
