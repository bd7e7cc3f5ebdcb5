//! What the two ends agree on before they compress (RFC 7692 sections 5 and 7.1).
//!
//! Owns the grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1), the choice among a
//! client's offers, and the answer. Never agrees to a window that is kept from message to message,
//! for then a context would belong to a connection. Called when a request is upgraded.

/// The one extension that is known.
const NAME: &[u8] = b"permessage-deflate";

/// The exponents that a window may have, and the largest one, which is meant where none is told.
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=WINDOW_BITS_MAX;
const WINDOW_BITS_MAX: u8 = 15;

/// What was agreed on, beside that neither end keeps its window from one message to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The window that the client asks the server to keep to, if it does.
    server_max_window_bits: Option<u8>,
}

/// The header is not what its grammar allows: the request is to be refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedExtensions;

impl Parameters {
    /// Whether a message of so many bytes may be sent compressed. A client with a smaller window
    /// can read what reaches back no farther, and a message that is no longer than the window never
    /// does. So one compressor, and one compressed copy of a message, serve every agreement.
    pub fn may_compress(&self, message_bytes: usize) -> bool {
        match self.server_max_window_bits {
            None | Some(WINDOW_BITS_MAX) => true,
            Some(bits) => message_bytes <= 1 << bits,
        }
    }

    /// Appends the value of the answer's `Sec-WebSocket-Extensions`. It names both
    /// `no_context_takeover`, which a server may do unasked (RFC 7692 section 7.1.1), and leaves
    /// the client's window to the client.
    pub fn append_answer(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME);
        out.extend_from_slice(b"; server_no_context_takeover; client_no_context_takeover");
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
    let mut chosen = None;
    for value in values {
        let mut list = Cursor { rest: value };
        list.skip_space();
        while !list.rest.is_empty() {
            // A list may have empty elements (RFC 9110 section 5.6.1.2).
            if list.skip(b',') {
                continue;
            }
            let offer = list.extension()?;
            chosen = chosen.or(offer
                .map(|Offer { server_max_window_bits, .. }| Parameters { server_max_window_bits }));
            if !list.rest.is_empty() && !list.skip(b',') {
                return Err(MalformedExtensions);
            }
        }
    }
    Ok(chosen)
}

/// One offer of permessage-deflate, as far as it has been read.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Offer {
    /// The offer with one parameter more; none where it cannot be met: a parameter that is unknown,
    /// comes twice, or has a value that it must not have (RFC 7692 section 7.1).
    fn with(mut self, name: &[u8], value: Option<Value<'_>>) -> Option<Offer> {
        let bits = value.as_ref().map(Value::window_bits);
        let again = match (name, bits) {
            (b"server_no_context_takeover", None) => {
                std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            (b"client_no_context_takeover", None) => {
                std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            (b"server_max_window_bits", Some(Some(bits))) => {
                self.server_max_window_bits.replace(bits).is_some()
            }
            // The client's own window may be of any size, since the server keeps the largest.
            (b"client_max_window_bits", None | Some(Some(_))) => {
                std::mem::replace(&mut self.client_max_window_bits, true)
            }
            _ => return None,
        };
        (!again).then_some(self)
    }
}

/// The value of a parameter, as it was written between quotes or without.
struct Value<'a> {
    written: &'a [u8],
}

impl Value<'_> {
    /// The bytes that are meant: behind a backslash any byte means itself.
    fn bytes(&self) -> impl Iterator<Item = u8> {
        let mut written = self.written.iter().copied();
        std::iter::from_fn(move || match written.next()? {
            b'\\' => written.next(),
            byte => Some(byte),
        })
    }

    /// The exponent of a window: a decimal number without leading zeros.
    fn window_bits(&self) -> Option<u8> {
        let bits = self.bytes().try_fold(0_u8, |number, digit| match digit {
            b'0' if number == 0 => None,
            b'0'..=b'9' => number.checked_mul(10)?.checked_add(digit - b'0'),
            _ => None,
        })?;
        WINDOW_BITS.contains(&bits).then_some(bits)
    }
}

/// What has not been read of a header's value.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        let space = self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.rest = &self.rest[space..];
    }

    /// Reads over this byte and the space behind it, if it comes next.
    fn skip(&mut self, byte: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[byte]) else { return false };
        self.rest = rest;
        self.skip_space();
        true
    }

    /// Reads an extension with its parameters: an offer, if it is one that can be met.
    fn extension(&mut self) -> Result<Option<Offer>, MalformedExtensions> {
        let mut offer = (self.token()? == NAME).then(Offer::default);
        while self.skip(b';') {
            let name = self.token()?;
            let value = if self.skip(b'=') { Some(self.value()?) } else { None };
            offer = offer.and_then(|offer| offer.with(name, value));
        }
        Ok(offer)
    }

    /// Reads a token (RFC 9110 section 5.6.2) and the space behind it.
    fn token(&mut self) -> Result<&'a [u8], MalformedExtensions> {
        let length = self.rest.iter().take_while(|&&byte| is_token(byte)).count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.skip_space();
        if token.is_empty() { Err(MalformedExtensions) } else { Ok(token) }
    }

    /// Reads a token, with or without quotes, and the space behind it.
    fn value(&mut self) -> Result<Value<'a>, MalformedExtensions> {
        let Some(quoted) = self.rest.strip_prefix(b"\"") else {
            return self.token().map(|written| Value { written });
        };
        let mut escaped = false;
        let length = quoted.iter().position(|&byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (written, rest) = quoted.split_at(length.ok_or(MalformedExtensions)?);
        self.rest = &rest[1..];
        self.skip_space();
        let value = Value { written };
        let is_good = !written.is_empty() && value.bytes().all(is_token);
        if is_good { Ok(value) } else { Err(MalformedExtensions) }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(values: &[&str]) -> Result<Option<String>, MalformedExtensions> {
        let parameters = negotiate(values.iter().map(|value| value.as_bytes()))?;
        Ok(parameters.map(|parameters| {
            let mut answer = Vec::new();
            parameters.append_answer(&mut answer);
            String::from_utf8(answer).unwrap()
        }))
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn what_browsers_and_libraries_offer_is_taken() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=9",
            "permessage-deflate;client_no_context_takeover;server_no_context_takeover",
            "  permessage-deflate \t;  client_max_window_bits  =  15 ",
            ", ,permessage-deflate,",
            "x-webkit-deflate-frame, permessage-deflate",
            "permessage-bzip2; level=\"9\"; x, permessage-deflate",
        ] {
            assert_eq!(agreed(&[offer]).unwrap().as_deref(), Some(PLAIN), "{offer}");
        }
    }

    #[test]
    fn a_smaller_window_is_answered_and_kept_to() {
        let answer = agreed(&["permessage-deflate; server_max_window_bits=\"1\\0\""]).unwrap();
        assert_eq!(answer.unwrap(), format!("{PLAIN}; server_max_window_bits=10"));
        for bits in 8..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let answer = agreed(&[&offer]).unwrap().unwrap();
            assert_eq!(answer, format!("{PLAIN}; server_max_window_bits={bits}"));
            let parameters = negotiate([offer.as_bytes()]).unwrap().unwrap();
            assert!(parameters.may_compress(1 << bits));
            assert_eq!(parameters.may_compress((1 << bits) + 1), bits == 15);
        }
        let parameters = negotiate([&b"permessage-deflate"[..]]).unwrap().unwrap();
        assert!(parameters.may_compress(usize::MAX));
    }

    #[test]
    fn an_offer_that_cannot_be_met_is_passed_over_for_the_next() {
        let bad = [
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=266",
            "permessage-deflate; server_max_window_bits=99999999999999999999",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=1x",
            "permessage-deflate; server_no_context_takeover=15",
            "permessage-deflate; client_no_context_takeover=\"15\"",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate; unknown",
            "Permessage-Deflate2",
            "",
        ];
        for offer in bad {
            assert_eq!(agreed(&[offer]), Ok(None), "{offer}");
            let both = format!("{offer}, permessage-deflate; server_max_window_bits=12");
            let answer = format!("{PLAIN}; server_max_window_bits=12");
            assert_eq!(agreed(&[&both]).unwrap().unwrap(), answer, "{both}");
            assert_eq!(agreed(&[offer, "permessage-deflate"]).unwrap().unwrap(), PLAIN);
        }
        assert_eq!(agreed(&[]), Ok(None));
    }

    #[test]
    fn a_value_that_breaks_the_grammar_is_malformed_whatever_else_is_offered() {
        for value in [
            ";",
            "permessage-deflate;",
            "permessage-deflate; =9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"",
            "permessage-deflate; client_max_window_bits=\"15",
            "permessage-deflate; client_max_window_bits=\"15\\\"",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"1 5\"",
            "permessage-deflate; client_max_window_bits=\"15\\",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate, @",
            "permess\u{e4}ge-deflate",
            "\u{1}",
        ] {
            assert_eq!(agreed(&[value]), Err(MalformedExtensions), "{value}");
            assert_eq!(agreed(&["permessage-deflate", value]), Err(MalformedExtensions));
        }
    }
}
