//! Arbitrary bytes as native frames, from a client and from a server: no panic, and what was
//! understood is written and understood again as the same.
#![no_main]

use corebeat::wire::native::{self, Flags, Frame};
use libfuzzer_sys::fuzz_target;

const MAX_FRAME: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((frame, length))) = native::frame(rest, MAX_FRAME) {
        assert!(length > frame.payload.len() && length <= rest.len());
        check_prefixes(&rest[..length]);
        check_request(&frame);
        check_event(&frame);
        rest = &rest[length..];
    }
    // Payloads that the search for a good header would seldom reach.
    if let [kind, flags, payload @ ..] = bytes {
        let frame = Frame { kind: *kind, flags: Flags(u16::from(*flags)), payload };
        check_request(&frame);
        check_event(&frame);
    }
});

/// A frame that was taken was not one a byte earlier, nor was it refused then.
fn check_prefixes(bytes: &[u8]) {
    for length in [0, 1, 7, 8, bytes.len() - 1] {
        if length < bytes.len() {
            assert_eq!(native::frame(&bytes[..length], MAX_FRAME), Ok(None));
        }
    }
}

fn check_request(frame: &Frame<'_>) {
    let Ok(Some(request)) = native::request(frame) else { return };
    let mut plain = Vec::new();
    native::encode_request(&mut plain, &request, false);
    assert_eq!(native::request(&whole(&plain)), Ok(Some(request)));
}

fn check_event(frame: &Frame<'_>) {
    let Ok(Some(event)) = native::event(frame) else { return };
    let (mut plain, mut sealed, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    native::encode_event(&mut plain, &event, false);
    native::encode_event(&mut sealed, &event, true);
    assert_eq!(native::event(&whole(&plain)), Ok(Some(event)));
    assert_eq!(native::event(&whole(&sealed)), Ok(Some(event)));
    native::append_with_crc(&mut copied, &plain);
    assert_eq!(copied, sealed);
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    let (frame, length) = native::frame(bytes, usize::MAX).expect("ours").expect("whole");
    assert_eq!(length, bytes.len());
    frame
}
