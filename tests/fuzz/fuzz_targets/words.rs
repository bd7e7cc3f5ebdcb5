//! Arbitrary text as the words of operators: durations, sizes, addresses, origins, requests of the
//! admin socket. No panic; what was understood is written and understood again as the same; blocks
//! of addresses are those that bits of the text's own address say.
#![no_main]

use std::net::{IpAddr, Ipv6Addr};

use corebeat::base::limits::CLOSES_KEPT;
use corebeat::cli::units;
use corebeat::client::Endpoint;
use corebeat::engine::close_journal::CloseQuery;
use corebeat::net::addresses::AddressBlock;
use corebeat::wire::http::Origins;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    check_units(text);
    check_endpoint(text);
    check_block(text);
    check_origin(text);
    check_request(text);
});

fn check_units(text: &str) {
    if let Ok(duration) = units::duration(text) {
        assert_eq!(units::duration(&units::show_duration(duration)), Ok(duration));
    }
    if let Ok(size) = units::size(text) {
        assert_eq!(units::size(&units::show_size(size)), Ok(size));
    }
}

fn check_endpoint(text: &str) {
    if let Ok(endpoint) = Endpoint::parse(text) {
        assert!(endpoint.port() != 0 && !endpoint.host().is_empty());
        assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
    }
}

/// The addresses around the edges of the block: an address is in it as long as its first bits are.
fn check_block(text: &str) {
    let Ok(block) = text.parse::<AddressBlock>() else { return };
    let (address, bits) = text.split_once('/').unwrap_or((text, "128"));
    let address: IpAddr = address.parse().expect("of an address");
    let (own, ahead) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96),
        IpAddr::V6(address) => (address.to_bits(), 0),
    };
    let bits = bits.parse::<u32>().expect("of a number");
    let bits = if text.contains('/') { ahead + bits } else { 128 };
    assert!(bits <= 128 && block.contains(address));
    for bit in 0..128 {
        let other = IpAddr::V6(Ipv6Addr::from_bits(own ^ 1 << (127 - bit)));
        assert_eq!(block.contains(other), bit >= bits, "bit {bit} of {text}");
    }
}

/// A listed origin is let in, and listing one lets in no other.
fn check_origin(text: &str) {
    let mut origins = Origins::same();
    if origins.allow(text).is_ok() {
        assert!(origins.admits(Some(text), None));
        let others = origins.admits(Some("https://elsewhere.example"), None);
        assert!(!others || text == "*" || text.to_lowercase().starts_with("https://elsewhere."));
    }
    assert!(!Origins::same().admits(Some(text), None));
}

fn check_request(text: &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let Ok(query) = CloseQuery::read(&words) else { return };
    assert!(query.last <= CLOSES_KEPT);
    let mut again = vec![query.last.to_string()];
    again.extend(query.reason.map(|reason| format!("reason={}", reason.name())));
    again.extend(query.user.as_deref().map(|user| format!("user={user}")));
    let after: Vec<String> = query.after.iter().map(u64::to_string).collect();
    if !after.is_empty() {
        again.push(format!("after={}", after.join(",")));
    }
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    assert_eq!(CloseQuery::read(&again), Ok(query));
}
