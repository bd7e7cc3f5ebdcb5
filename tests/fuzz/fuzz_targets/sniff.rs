//! Arbitrary bytes as the beginning of a connection: decided after four bytes at the latest, and
//! what is decided stays so whatever follows.
#![no_main]

use corebeat::wire::sniff::{Sniffed, sniff};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut decided = Sniffed::Undecided;
    for length in 0..=bytes.len().min(16) {
        let found = sniff(&bytes[..length]);
        if decided == Sniffed::Undecided {
            decided = found;
        }
        assert_eq!(found, decided);
        assert!(length < 4 || found != Sniffed::Undecided);
    }
    assert_eq!(sniff(bytes) == Sniffed::Native, bytes.first() == Some(&0xFB));
    if sniff(bytes) == Sniffed::Undecided {
        assert!(!bytes.contains(&b'\n'), "a line was sent and nobody reads it");
    }
});
