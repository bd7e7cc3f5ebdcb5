//! The mask of a client's frames (RFC 6455 section 5.3).
//!
//! Owns the exclusive or, in strides that the compiler turns into vector instructions. Never keeps
//! a mask: the caller goes on with what it is given back. Called for what was received and, on a
//! client, for what is sent.

/// Bytes of a stride: several vector registers, and a multiple of the mask.
const STRIDE: usize = 64;

/// Masks `payload` in place, or takes the mask off, which is the same. Gives back the mask that the
/// next bytes of the same frame begin with, so that a payload can be worked on in any pieces.
#[must_use = "the rest of the frame begins with another byte of the mask"]
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let wide: [u8; STRIDE] = std::array::from_fn(|at| mask[at % 4]);
    let (strides, rest) = payload.as_chunks_mut::<STRIDE>();
    for stride in strides {
        for (byte, mask) in stride.iter_mut().zip(&wide) {
            *byte ^= mask;
        }
    }
    // A whole number of masks has gone by, so that the rest begins with the mask's first byte.
    for (byte, mask) in rest.iter_mut().zip(&wide) {
        *byte ^= mask;
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    /// Enough for all the ways in which a word of the machine and what surrounds it can lie.
    const LENGTH: usize = if cfg!(miri) { 48 } else { 400 };

    fn plainly(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]).collect()
    }

    #[test]
    fn each_byte_meets_its_byte_of_the_mask_at_every_length_and_alignment() {
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at * 31 % 251) as u8).collect();
        for start in 0..9 {
            for end in start..bytes.len() {
                let mut masked = bytes[..end].to_vec();
                let _ = apply_mask(&mut masked[start..], MASK);
                assert_eq!(masked[start..], plainly(&bytes[start..end]), "{start}..{end}");
            }
        }
    }

    #[test]
    fn pieces_of_any_length_go_on_where_the_last_one_ended() {
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at * 7 % 256) as u8).collect();
        for first in 0..=bytes.len() {
            let mut masked = bytes.clone();
            let (head, tail) = masked.split_at_mut(first);
            let next = apply_mask(head, MASK);
            let _ = apply_mask(tail, next);
            assert_eq!(masked, plainly(&bytes), "split at {first}");
        }
        let mut masked = bytes.clone();
        masked.chunks_mut(1).fold(MASK, |mask, byte| apply_mask(byte, mask));
        assert_eq!(masked, plainly(&bytes));
    }
}
