//! Which dialect a connection speaks, told by its first bytes.
//!
//! Owns the table of the wire contract. Never consumes a byte: the dialect's own decoder reads them
//! again. The heart calls it until it is decided.

use super::native;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// More bytes are needed.
    Undecided,
    /// Native frames.
    Native,
    /// A TLS record.
    Tls,
    /// An HTTP request.
    Http,
    /// Text lines.
    Text,
}

/// The first byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// How the HTTP requests begin that are told from text lines.
const HTTP: [&[u8; 4]; 4] = [b"GET ", b"HEAD", b"POST", b"OPTI"];

/// Tells the dialect of a connection that sent `bytes` so far. At most four bytes decide.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes.first() {
        None => return Sniffed::Undecided,
        Some(&native::MAGIC) => return Sniffed::Native,
        Some(&TLS_HANDSHAKE) => return Sniffed::Tls,
        Some(_) => {}
    }
    if HTTP.iter().any(|method| bytes.starts_with(*method)) {
        Sniffed::Http
    } else if HTTP.iter().any(|method| method.starts_with(bytes)) {
        Sniffed::Undecided
    } else {
        Sniffed::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_tells_native_and_tls_from_the_rest() {
        assert_eq!(sniff(b""), Sniffed::Undecided);
        assert_eq!(sniff(&[0xFB]), Sniffed::Native);
        assert_eq!(sniff(&[0xFB, 0x00, 0xFF]), Sniffed::Native);
        assert_eq!(sniff(&[0x16, 0x03, 0x01]), Sniffed::Tls);
    }

    #[test]
    fn an_http_method_is_known_by_its_four_bytes_and_undecided_before() {
        for method in [&b"GET / HTTP/1.1\r\n"[..], b"HEAD /", b"POST /", b"OPTIONS *"] {
            for length in 0..4 {
                assert_eq!(sniff(&method[..length]), Sniffed::Undecided);
            }
            for length in 4..=method.len() {
                assert_eq!(sniff(&method[..length]), Sniffed::Http);
            }
        }
    }

    #[test]
    fn anything_else_is_text_as_soon_as_it_cannot_be_a_method() {
        for text in [&b"h"[..], b"\n", b"/", b"G\n", b"GETS", b"GE\r\n", b"get ", b"PUT ", b"\xFF"]
        {
            assert_eq!(sniff(text), Sniffed::Text, "{text:?}");
        }
        assert_eq!(sniff(b"OPT"), Sniffed::Undecided);
        assert_eq!(sniff(b"OPTS"), Sniffed::Text);
    }
}
