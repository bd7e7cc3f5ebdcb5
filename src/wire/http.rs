//! The answer to a connection that speaks HTTP.
//!
//! Owns the one response of a server that serves the native and the text dialect. Never reads the
//! request: the first four bytes have told the dialect, and the answer is the same for all.

/// Why, in one line, for whoever pointed a browser here.
const BODY: &str = "This corebeat serves native frames and text lines, not HTTP.\n";

/// Appends a whole `501 Not Implemented` response (RFC 9110 section 15.6.2) that announces the end
/// of the connection.
///
/// A `HEAD` request gets the same bytes. Its client reads no body and the connection ends behind
/// it, so nothing can be mistaken for a further response.
pub fn encode_not_served(out: &mut Vec<u8>) {
    const LENGTH: [u8; 2] = [b'0' + (BODY.len() / 10) as u8, b'0' + (BODY.len() % 10) as u8];
    const { assert!(BODY.len() >= 10 && BODY.len() < 100, "the length is written in two digits") };
    out.extend_from_slice(b"HTTP/1.1 501 Not Implemented\r\n");
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(&LENGTH);
    out.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
    out.extend_from_slice(BODY.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_is_whole_and_its_length_is_true() {
        let mut out = Vec::new();
        encode_not_served(&mut out);
        let text = std::str::from_utf8(&out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("HTTP/1.1 501 Not Implemented"));
        let length = lines.clone().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), body.len());
        assert!(lines.any(|line| line == "Connection: close"));
        assert_eq!(body.find('\n'), Some(body.len() - 1), "one line");
    }
}
