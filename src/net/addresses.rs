//! How many connections each address has.
//!
//! Owns the count of one worker's connections by where they come from, and which addresses are
//! exempt. Never refuses: the worker does. A connection is counted from its accept to its close.
//!
//! The kernel deals connections out to workers by a hash of their addresses and ports, and no
//! worker asks another. So each enforces its share of the limit, with some to spare, since the
//! shares come out uneven: see [`share_of`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::str::FromStr;

/// Where a connection comes from: an IPv4 address, or the /64 of an IPv6 one, which is the least
/// that a customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(NonZeroU64);

impl Source {
    /// Where `address` is.
    pub fn of(address: IpAddr) -> Source {
        let bits = match address.to_canonical() {
            // In the numbers of IPv6 prefixes this one is reserved, so that the two do not meet.
            IpAddr::V4(address) => 0xFFFF << 32 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        Source(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    /// As an IPv6 address, into which those of IPv4 are mapped.
    first: u128,
    /// Leading bits that count, of 128.
    bits: u32,
}

/// Not a block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockError;

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no address; write it like 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32")
    }
}

impl FromStr for AddressBlock {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<AddressBlock, BlockError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BlockError)?;
        let (most, ahead) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or(BlockError)?,
        };
        Ok(AddressBlock { first: mapped(address), bits: ahead + bits })
    }
}

impl AddressBlock {
    /// The machine's own addresses: a proxy may run there, or whoever tries the server out.
    pub const LOOPBACK: [AddressBlock; 2] = [
        AddressBlock { first: 0xFFFF_7F00_0000, bits: 96 + 8 },
        AddressBlock { first: 1, bits: 128 },
    ];

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = self.first ^ mapped(address.to_canonical());
        self.bits == 0 || differing >> (128 - self.bits) == 0
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => Ipv6Addr::to_bits(address),
    }
}

/// What one of `workers` enforces of a `limit`.
///
/// Of n connections that are dealt out by chance a worker gets n/w, give or take the root of that.
/// With three times as much to spare, one address in some hundreds that is at its limit is refused
/// a connection too early; and none has more than this times the workers.
pub fn share_of(limit: usize, workers: u16) -> usize {
    let even = limit.div_ceil(usize::from(workers.max(1)));
    if workers <= 1 { limit } else { limit.min(even + 3 * even.isqrt()) }
}

/// The connections of one worker, by where they come from.
#[derive(Debug)]
pub struct Addresses {
    /// 0: nobody is counted.
    most: usize,
    exempt: Vec<AddressBlock>,
    counts: BTreeMap<Source, u32>,
    /// Where the connection in each slot comes from, if it is counted.
    of_slot: Vec<Option<Source>>,
}

impl Addresses {
    /// Nobody yet, and at most so many of each; `exempt` are not counted.
    pub fn new(most: usize, exempt: Vec<AddressBlock>) -> Addresses {
        Addresses { most, exempt, counts: BTreeMap::new(), of_slot: Vec::new() }
    }

    /// Where a connection from `address` comes from, if it is to be counted.
    pub fn source(&self, address: IpAddr) -> Option<Source> {
        let is_exempt = || self.exempt.iter().any(|block| block.contains(address));
        (self.most > 0 && !is_exempt()).then(|| Source::of(address))
    }

    /// Whether there is room for another connection from there.
    pub fn has_room(&self, source: Option<Source>) -> bool {
        let count = source.and_then(|source| self.counts.get(&source));
        count.is_none_or(|count| (*count as usize) < self.most)
    }

    /// The connection in `slot` comes from there.
    pub fn enter(&mut self, slot: usize, source: Option<Source>) {
        let Some(source) = source else {
            return;
        };
        if slot >= self.of_slot.len() {
            self.of_slot.resize(slot + 1, None);
        }
        self.of_slot[slot] = Some(source);
        *self.counts.entry(source).or_default() += 1;
    }

    /// The connection in `slot` is closed.
    pub fn leave(&mut self, slot: usize) {
        let Some(source) = self.of_slot.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let count = self.counts.get_mut(&source).expect("who leaves was counted");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&source);
        }
    }

    /// How many addresses have connections.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn an_address_of_ipv6_counts_with_its_64_neighbourhood_and_one_of_ipv4_alone() {
        assert_eq!(source("2001:db8:1:2::7"), source("2001:db8:1:2:ffff::1"));
        assert_ne!(source("2001:db8:1:2::7"), source("2001:db8:1:3::7"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("::"));
    }

    #[test]
    fn connections_are_counted_from_enter_to_leave() {
        let mut addresses = Addresses::new(2, Vec::new());
        let (one, other) = (Some(source("192.0.2.1")), Some(source("192.0.2.2")));
        for slot in [0, 5] {
            assert!(addresses.has_room(one));
            addresses.enter(slot, one);
        }
        assert!(!addresses.has_room(one));
        assert!(addresses.has_room(other) && addresses.has_room(None));
        addresses.leave(5);
        assert!(addresses.has_room(one));
        addresses.leave(5);
        addresses.leave(17);
        addresses.leave(0);
        assert!(addresses.is_empty());
    }

    #[test]
    fn the_machine_itself_and_whoever_is_exempt_is_not_counted() {
        let exempt = ["10.0.0.0/8", "2001:db8::/32", "203.0.113.9"];
        let exempt = exempt.map(|block| block.parse().unwrap());
        let addresses = Addresses::new(1, [&exempt[..], &AddressBlock::LOOPBACK].concat());
        let is_counted = |address: &str| addresses.source(address.parse().unwrap()).is_some();
        for address in
            ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "10.200.0.1", "203.0.113.9"]
        {
            assert!(!is_counted(address), "{address}");
        }
        assert!(!is_counted("::ffff:10.0.0.1") && !is_counted("2001:db8:9::1"));
        assert!(is_counted("128.0.0.1") && is_counted("::2"));
        assert!(is_counted("11.0.0.1") && is_counted("203.0.113.8") && is_counted("2001:db9::1"));
        let off = Addresses::new(0, Vec::new());
        assert!(off.source("192.0.2.1".parse().unwrap()).is_none());
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "host"] {
            assert_eq!(text.parse::<AddressBlock>(), Err(BlockError), "{text}");
        }
        let all: AddressBlock = "::/0".parse().unwrap();
        assert!(all.contains("192.0.2.1".parse().unwrap()));
        let all_v4: AddressBlock = "0.0.0.0/0".parse().unwrap();
        assert!(all_v4.contains("192.0.2.1".parse().unwrap()));
        assert!(!all_v4.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_share_is_the_limit_alone_and_an_uneven_part_of_it_among_several() {
        assert_eq!(share_of(1_000, 1), 1_000);
        assert_eq!(share_of(1_000, 2), 500 + 3 * 22);
        assert_eq!(share_of(16, 8), 2 + 3);
        assert_eq!(share_of(2, 8), 2);
        assert_eq!(share_of(0, 8), 0);
    }
}
