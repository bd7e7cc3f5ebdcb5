//! Where the connections of one worker come from.
//!
//! Owns the addresses of peers, by slot: eight bytes each, and 24 more for one of IPv6. They are
//! kept because the kernel forgets a peer's address with the connection, which is when people ask
//! for it. Only the [`SocketTable`](super::socket_table::SocketTable) calls it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use slab::Slab;

/// Marks an entry whose low bits say where in the table of longer addresses it stands.
const LONG: u64 = 1 << 63;

/// The addresses of one worker's peers.
#[derive(Debug)]
pub(super) struct PeerTable {
    /// IPv4 address and port, or a place among the longer ones.
    packed: Vec<u64>,
    long: Slab<(Ipv6Addr, u16)>,
}

impl PeerTable {
    /// A table with room for `capacity` slots; it moves when there are more.
    pub(super) fn with_capacity(capacity: usize) -> PeerTable {
        PeerTable { packed: Vec::with_capacity(capacity), long: Slab::new() }
    }

    /// Notes the peer of `slot`, which has none: an IPv4 address that was mapped into IPv6 as
    /// itself.
    pub(super) fn insert(&mut self, slot: usize, peer: SocketAddr) {
        let packed = match peer.ip().to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()) << 16 | u64::from(peer.port()),
            IpAddr::V6(address) => self.long.insert((address, peer.port())) as u64 | LONG,
        };
        if slot >= self.packed.len() {
            self.packed.resize(slot + 1, 0);
        }
        self.packed[slot] = packed;
    }

    /// The peer of `slot`, which has one.
    pub(super) fn of(&self, slot: usize) -> SocketAddr {
        let packed = self.packed[slot];
        if packed & LONG == 0 {
            let address = Ipv4Addr::from_bits((packed >> 16) as u32);
            return SocketAddr::new(address.into(), packed as u16);
        }
        let (address, port) = self.long[(packed & !LONG) as usize];
        SocketAddr::new(address.into(), port)
    }

    /// Forgets the peer of `slot`.
    pub(super) fn remove(&mut self, slot: usize) {
        let packed = std::mem::take(&mut self.packed[slot]);
        if packed & LONG != 0 {
            self.long.remove((packed & !LONG) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were_and_longer_ones_leave_nothing_behind() {
        let mut table = PeerTable::with_capacity(2);
        let told = ["255.1.2.3:65535", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:7", "[::1]:0"];
        let kept = ["255.1.2.3:65535", "[2001:db8::1]:443", "10.0.0.1:7", "[::1]:0"];
        for (slot, address) in told.into_iter().enumerate() {
            table.insert(slot, address.parse().unwrap());
        }
        for (slot, address) in kept.into_iter().enumerate() {
            assert_eq!(table.of(slot), address.parse().unwrap());
        }
        assert_eq!(table.long.len(), 2);
        for slot in 0..told.len() {
            table.remove(slot);
        }
        assert!(table.long.is_empty());
        table.insert(1, "10.0.0.2:8".parse().unwrap());
        assert_eq!(table.of(1), "10.0.0.2:8".parse().unwrap());
    }
}
