//! HTTP: routes, refusals, and how long a connection lives.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::{HTTP_HEAD_BYTES, LINGER_MS};
use corebeat::base::time::TICK_MS;
use corebeat::wire::http::Asset;

use super::ear::{JSON, get, upgrade};
use super::world::{Client, Fate, World};

const TIMEOUT_MS: u64 = 10_000;
const BIG: &[u8] = &[b'x'; 200 << 10];
const ASSETS: &[Asset] = &[
    Asset { path: "/", content_type: "text/html; charset=utf-8", bytes: b"<!doctype html>" },
    Asset { path: "/big.js", content_type: "text/javascript", bytes: BIG },
];

fn site() -> World {
    World::with(|config| config.web.assets = ASSETS)
}

fn ask(world: &mut World, client: Client, request: &str) -> (u16, String) {
    world.send(client, request.as_bytes());
    let mut replies = world.responses(client);
    assert_eq!(replies.len(), 1, "{request:?}: {replies:?}");
    let reply = replies.remove(0);
    (reply.status, reply.text().to_owned())
}

#[test]
fn every_route_has_its_answer_on_one_connection() {
    let mut world = site();
    let ann = world.browser(0);
    assert_eq!(ask(&mut world, ann, &get("/healthz")), (200, "ok\n".to_owned()));
    assert_eq!(ask(&mut world, ann, &get("/")), (200, "<!doctype html>".to_owned()));
    assert_eq!(ask(&mut world, ann, &get("/?tab=2")).0, 200);
    assert_eq!(ask(&mut world, ann, &get("/big.js")).1.len(), BIG.len());
    assert_eq!(ask(&mut world, ann, &get("/nowhere")), (404, "not found\n".to_owned()));
    assert_eq!(ask(&mut world, ann, &get("/stats")).0, 404, "the numbers are switched off");
    let options = "OPTIONS / HTTP/1.1\r\nHost: chat.example\r\n\r\n";
    assert_eq!(ask(&mut world, ann, options), (204, String::new()));
    let head = "HEAD /big.js HTTP/1.1\r\nHost: chat.example\r\n\r\n";
    world.send(ann, head.as_bytes());
    let raw = String::from_utf8(world.raw(ann)).unwrap();
    assert!(raw.contains("\r\nContent-Length: 204800\r\n") && raw.ends_with("\r\n\r\n"), "{raw}");
    assert_eq!(world.fate(ann), Fate::Open);
    assert_eq!((world.counters().http_served, world.counters().http_refused), (6, 2));
    world.send(ann, head.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx").as_bytes());
    let raw = String::from_utf8(world.raw(ann)).unwrap();
    assert!(raw.starts_with("HTTP/1.1 413 ") && raw.ends_with("\r\n\r\n"), "no body: {raw}");
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let mut world = site();
    let ann = world.browser(0);
    world.send(ann, get("/").as_bytes());
    let first = world.responses(ann).remove(0);
    assert_eq!(first.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(first.field("Content-Security-Policy").unwrap().starts_with("default-src 'self'"));
    let etag = first.field("ETag").expect("a tag");
    let again = format!("GET / HTTP/1.1\r\nHost: chat.example\r\nIf-None-Match: {etag}\r\n\r\n");
    assert_eq!(ask(&mut world, ann, &again), (304, String::new()));
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let request = get("/healthz");
    for cut in 1..request.len() {
        let mut world = site();
        let ann = world.browser(0);
        world.send(ann, &request.as_bytes()[..cut]);
        assert!(world.responses(ann).is_empty());
        assert_eq!(ask(&mut world, ann, &request[cut..]).0, 200, "cut at {cut}");
    }
}

#[test]
fn requests_that_come_at_once_are_answered_in_their_order() {
    for shard in [0, 1, 2] {
        let mut world = World::with(|config| {
            config.web.assets = ASSETS;
            config.web.numbers = true;
        });
        let ann = world.browser(shard);
        let paths = ["/healthz", "/stats", "/", "/stats", "/nowhere", "/healthz"];
        let requests: String = paths.iter().map(|path| get(path)).collect();
        world.send(ann, requests.as_bytes());
        let replies = world.responses(ann);
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 404, 200]);
        assert!(replies[1].text().starts_with("{\"version\":"), "{}", replies[1].text());
        assert!(replies.iter().all(|reply| !reply.is_last()));
        assert_eq!(world.fate(ann), Fate::Open);
    }
}

#[test]
fn a_flood_of_requests_is_read_as_fast_as_its_answers_are() {
    let mut world = World::with(|config| {
        config.web.assets = ASSETS;
        config.limits.max_outbound = 64 << 10;
    });
    let ann = world.browser(0);
    world.stops_reading(ann);
    world.send(ann, get("/big.js").repeat(40).as_bytes());
    assert!(!world.wants_input(ann));
    assert_eq!(world.fate(ann), Fate::Open, "what it asked for may be larger than the outbox");
    let mut whole = 0;
    for _ in 0..2_000 {
        world.reads(ann, 5_000);
        whole += world.responses(ann).len();
    }
    assert_eq!(whole, 40);
    assert!(world.wants_input(ann));
}

#[test]
fn who_wants_one_answer_gets_it_and_the_end() {
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let mut world = site();
        let ann = world.browser(0);
        world.send(ann, format!("{request}{}", get("/")).as_bytes());
        let replies = world.responses(ann);
        assert_eq!(replies.len(), 1, "what follows the last request is not read");
        assert!(replies[0].is_last());
        assert_eq!(world.fate(ann), Fate::HalfClosed);
        world.half_closes(ann);
        assert_eq!(world.fate(ann), Fate::Closed(CloseReason::Served));
    }
}

#[test]
fn a_large_last_answer_may_be_read_at_leisure() {
    for ends in [false, true] {
        let mut world = site();
        let ann = world.browser(0);
        world.stops_reading(ann);
        if ends {
            world.send_and_half_close(ann, get("/big.js").as_bytes());
        } else {
            world.send(ann, b"GET /big.js HTTP/1.0\r\n\r\n");
        }
        for _ in 0..50 {
            world.pass_ms(LINGER_MS);
            world.reads(ann, 5_000);
        }
        assert_eq!(world.responses(ann)[0].body.len(), BIG.len());
        let reason = if ends { CloseReason::PeerClosed } else { CloseReason::Served };
        assert_eq!(world.fate(ann), Fate::Closed(reason));
    }
}

#[test]
fn what_is_no_good_request_is_refused_and_ends_the_connection() {
    let host = "Host: chat.example\r\n";
    let long = format!("GET / HTTP/1.1\r\n{host}X: {}", "x".repeat(HTTP_HEAD_BYTES));
    let long_line = format!("GET /{}", "x".repeat(HTTP_HEAD_BYTES));
    let many: String = (0..70).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\n{host}{many}\r\n");
    let cases: [(&str, u16, CloseReason); 9] = [
        ("GET / HTTP/1.1\r\n\r\n", 400, CloseReason::Malformed),
        ("GET nowhere HTTP/1.1\r\nHost:\r\n\r\n", 400, CloseReason::Malformed),
        ("GET / HTTP/1.1\r\nHost:\r\nno field\r\n\r\n", 400, CloseReason::Malformed),
        ("POST / HTTP/1.1\r\nHost:\r\n\r\n", 405, CloseReason::Refused),
        ("GET / HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\n\r\nabc", 413, CloseReason::TooLarge),
        ("GET / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: x\r\n\r\n", 501, CloseReason::Refused),
        (&long, 431, CloseReason::TooLarge),
        (&many, 431, CloseReason::TooLarge),
        (&long_line, 414, CloseReason::TooLarge),
    ];
    for (request, status, reason) in cases {
        let mut world = site();
        let ann = world.browser(0);
        world.send(ann, request.as_bytes());
        let replies = world.responses(ann);
        assert_eq!(replies.len(), 1, "{request}");
        assert_eq!(replies[0].status, status, "{request}");
        assert!(replies[0].is_last());
        assert_eq!(replies[0].field("Allow").is_some(), status == 405);
        assert_eq!(world.fate(ann), Fate::HalfClosed);
        assert_eq!(world.counters().closed_for(reason), 1, "{request}");
        assert_eq!(world.counters().http_refused, 1);
    }
}

#[test]
fn a_request_that_comes_too_late_is_told_so() {
    let mut world = site();
    let ann = world.browser(0);
    world.send(ann, b"GET / HTTP/1.1\r\nHost: ");
    world.pass_ms(TIMEOUT_MS - 1);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(TICK_MS + 1);
    assert_eq!(world.responses(ann)[0].status, 408);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    assert_eq!(world.counters().closed_for(CloseReason::HandshakeTimeout), 1);
}

#[test]
fn a_connection_that_asks_for_nothing_more_is_closed_after_a_while() {
    let mut world = site();
    let (ann, bob) = (world.browser(0), world.browser(0));
    for _ in 0..3 {
        ask(&mut world, ann, &get("/"));
        ask(&mut world, bob, &get("/"));
        world.pass_ms(TIMEOUT_MS - TICK_MS);
    }
    world.send(bob, b"GET / HTTP/1.1\r\nHo");
    world.pass_ms(2 * TICK_MS);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    assert!(world.responses(ann).is_empty());
    assert_eq!(world.counters().closed_for(CloseReason::HttpIdle), 1);
    assert_eq!(world.responses(bob)[0].status, 408, "half a request does not count");
    assert_eq!(world.counters().closed_for(CloseReason::HandshakeTimeout), 1);
}

#[test]
fn a_reader_may_be_slow_but_must_read() {
    let mut world = site();
    let (slow, dead) = (world.browser(0), world.browser(0));
    for client in [slow, dead] {
        world.stops_reading(client);
        world.send(client, get("/big.js").as_bytes());
    }
    for _ in 0..30 {
        world.pass_ms(TIMEOUT_MS / 2);
        world.reads(slow, 7_000);
    }
    assert_eq!(world.responses(slow)[0].body.len(), BIG.len());
    assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
    assert_eq!(world.fate(dead), Fate::Closed(CloseReason::SlowReader));
}

#[test]
fn an_upgrade_is_refused_with_the_reason() {
    let mut world = World::with(|config| {
        config.web.origins.allow("https://friends.example").unwrap();
    });
    let whole = upgrade("/ws", JSON, "");
    let strange = |origin: &str| upgrade("/ws", "", &format!("Origin: {origin}\r\n"));
    let cases = [
        (get("/ws"), 426),
        (get("/echo"), 426),
        (whole.replace("Version: 13", "Version: 8"), 426),
        (whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (upgrade("/ws", "corebeat.v9", ""), 400),
        (strange("https://strangers.example"), 403),
        (strange("null"), 403),
    ];
    for (refused, (request, status)) in (1..).zip(cases) {
        let ann = world.browser(0);
        world.send(ann, request.as_bytes());
        let replies = world.responses(ann);
        assert_eq!(replies[0].status, status, "{request}");
        let version = replies[0].field("Sec-WebSocket-Version");
        assert_eq!(version, (status == 426).then_some("13"));
        assert_eq!(world.fate(ann), Fate::HalfClosed);
        assert_eq!(world.counters().upgrades_refused, refused);
    }
    let ann = world.browser(0);
    world.send(ann, whole.replace("GET", "HEAD").as_bytes());
    let raw = String::from_utf8(world.raw(ann)).unwrap();
    assert!(raw.starts_with("HTTP/1.1 405 ") && raw.ends_with("\r\n\r\n"), "no body: {raw}");
    for origin in ["http://chat.example", "https://friends.example"] {
        let ann = world.browser(0);
        world.send(ann, strange(origin).as_bytes());
        assert_eq!(world.responses(ann)[0].status, 101, "{origin}");
    }
    assert_eq!(world.counters().upgrades, 2);
}

#[test]
fn an_upgrade_waits_until_the_answers_before_it_are_out() {
    let mut world = site();
    let ann = world.browser(0);
    world.stops_reading(ann);
    world.send(ann, format!("{}{}", get("/big.js"), upgrade("/ws", JSON, "")).as_bytes());
    assert_eq!(world.counters().upgrades, 0);
    world.reads(ann, BIG.len() / 2);
    assert_eq!(world.counters().upgrades, 0);
    world.reads(ann, usize::MAX);
    let replies = world.responses(ann);
    assert_eq!((replies[0].status, replies[1].status), (200, 101));
    assert_eq!(replies[0].body.len(), BIG.len());
}

#[test]
fn a_draining_server_answers_and_hangs_up() {
    let mut world = site();
    let (ann, bob) = (world.browser(0), world.browser(0));
    ask(&mut world, ann, &get("/"));
    world.drain("maintenance");
    world.send(bob, get("/healthz").as_bytes());
    let last = world.responses(bob);
    assert_eq!(last[0].status, 200);
    assert!(last[0].is_last());
    assert_eq!(world.fate(bob), Fate::HalfClosed);
    world.pass_ms(1_000);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    assert_eq!(world.counters().closed_for(CloseReason::Draining), 1);
}
