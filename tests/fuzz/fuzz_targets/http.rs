//! Arbitrary bytes as the head of a request and what may become of it: no panic, a head is the same
//! however its bytes arrive, no error goes away by more bytes, and a response is a whole head of
//! its own.
#![no_main]

use corebeat::wire::http::{self, Endpoint, Exchange, Origins, Request};
use libfuzzer_sys::fuzz_target;

const MAX_HEAD: usize = 256;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((request, used))) = http::request(rest, MAX_HEAD) {
        assert!(used > 0 && used <= rest.len().min(MAX_HEAD));
        check_splits(&rest[..used]);
        check_request(&request);
        rest = &rest[used..];
    }
    match http::request(rest, MAX_HEAD) {
        Ok(None) => assert!(rest.len() < MAX_HEAD),
        Err(error) => {
            let longer = [rest, b"\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(http::request(&longer, MAX_HEAD).err(), Some(error));
            let mut out = Vec::new();
            http::append_error(&mut out, error, Exchange::last(0));
            check_response(&out);
        }
        Ok(Some(_)) => unreachable!("the loop took it"),
    }
});

fn check_splits(head: &[u8]) {
    for split in 0..head.len() {
        assert!(matches!(http::request(&head[..split], MAX_HEAD), Ok(None)));
    }
}

fn check_request(request: &Request<'_>) {
    assert!(request.path.starts_with('/') || request.path == "*");
    let mut out = Vec::new();
    let exchange = Exchange::of(request, 0);
    let asset = http::Asset { path: "/", content_type: "text/html", bytes: b"page" };
    let follows = http::append_asset(&mut out, request, &asset, exchange);
    check_response(&out);
    assert!(!(follows && exchange.head_only));
    let mut listed = Origins::same();
    for origin in request.values("origin") {
        let _ = listed.allow(origin);
    }
    for (endpoint, origins, may_deflate) in
        [(Endpoint::Chat, Origins::same(), true), (Endpoint::Echo, listed, false)]
    {
        let mut out = Vec::new();
        match http::upgrade(request, endpoint, &origins, may_deflate) {
            Ok(upgrade) => http::append_switching(&mut out, &upgrade),
            Err(refusal) => http::append_refusal(&mut out, refusal, Exchange::last(0)),
        }
        check_response(&out);
    }
}

/// Nothing that a client sent may end a field of a response and begin another.
fn check_response(out: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let head = response.parse(out).expect("good").unwrap();
    assert!(response.headers.iter().all(|field| !field.name.eq_ignore_ascii_case("x-injected")));
    let whole = std::str::from_utf8(&out[..head]).expect("ASCII");
    assert_eq!(whole.matches("\r\n\r\n").count(), 1);
}
