//! Numbers as people write them.
//!
//! Owns the digits that the text dialects share. Never allocates but what the buffer grows by.

/// Appends a number in decimal digits.
pub(super) fn append_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
