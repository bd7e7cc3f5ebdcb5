//! Clients that are slow on purpose, and clients that are not there any more.

use std::net::{SocketAddr, TcpStream};

use super::common::web::{BINARY, FIN, Heard, TEXT, Web, frame as web_frame, header as web_header};
use super::common::{Native, PUBLISH, cut_the_wire, frame, hello};
use super::peer::{connect, drip, each, pour};
use super::stage::{Outcome, Scenario, Stage};

/// Connections that begin and never complete what they began: it is their time that ends them,
/// however busily they drip.
pub(crate) const SLOWLORIS: Scenario =
    Scenario { name: "slowloris", server: Default::default, run: slowloris };
/// Clients whose hosts vanished without a word.
pub(crate) const HALF_OPEN: Scenario =
    Scenario { name: "half-open", server: Default::default, run: half_open };

/// A payload that a frame announces and that does not come.
const ANNOUNCED: usize = 60_000;

fn slowloris(stage: &Stage) -> Outcome {
    let each_kind = stage.size.of(40, 700);
    let address = stage.server.address;
    let before_hello = each(each_kind, |number| {
        let begun = [
            &frame(1, &[0; ANNOUNCED])[..8],
            b"GET /ws HTTP/1.1\r\nHost: here\r\nX-Slow: ",
            b"/nick sl",
        ];
        begun.map(|bytes| {
            let stream = connect(number, address);
            pour(&stream, bytes);
            stream
        })
    });
    let upgraded = each(each_kind, |_| {
        let web = Web::open(address, "/ws", "");
        // Under a mask of zeros, so that what comes drop by drop is text.
        let header = [&web_header(FIN | TEXT, ANNOUNCED)[..4], &[0; 4]].concat();
        pour(&web.stream, &header);
        web.stream
    });
    let greeted = each(each_kind, |number| {
        let native = Native::greet(address, &format!("slow-{number}")).stream;
        pour(&native, &frame(PUBLISH, &[0; ANNOUNCED])[..8]);
        let web = greeted_web(address, &format!("slow-web-{number}"));
        pour(&web, &web_header(FIN | BINARY, ANNOUNCED));
        [native, web]
    });
    let before_hello = before_hello.into_iter().flatten();
    drip(before_hello.chain(upgraded).chain(greeted.into_iter().flatten()).collect());
    let kinds = |kinds: u64| kinds * each_kind as u64;
    Outcome {
        ends: vec![
            (kinds(3), vec!["handshake_timeout"]),
            // Both clocks run; which is first is a matter of a tick.
            (kinds(1), vec!["handshake_timeout", "frame_timeout"]),
            (kinds(2), vec!["frame_timeout"]),
        ],
        ..Outcome::default()
    }
}

/// A binary WebSocket that was welcomed.
pub(crate) fn greeted_web(address: SocketAddr, user: &str) -> TcpStream {
    let mut web = Web::open(address, "/ws", "Sec-WebSocket-Protocol: corebeat.v1.bin\r\n");
    web.send(&web_frame(FIN | BINARY, &hello(user)));
    assert!(matches!(web.next(), Heard::Binary(_)));
    web.stream
}

fn half_open(stage: &Stage) -> Outcome {
    let each_kind = stage.size.of(30, 1_000);
    let address = stage.server.address;
    let counters = stage.gauge.counters();
    let gone = each(each_kind, |number| {
        let native = Native::greet(address, &format!("gone-{number}")).stream;
        let web = greeted_web(address, &format!("gone-web-{number}"));
        // Nobody pings a person; but this one is in a room where people talk.
        let text = connect(number, address);
        pour(&text, b"/nick nobody\n/join square\n");
        text.peek(&mut [0]).expect("a welcome");
        let gone = [native, web, text];
        gone.iter().for_each(cut_the_wire);
        gone
    });
    let count = (3 * each_kind) as u64;
    stage.expect_ends(&counters, count);
    drop(gone);
    Outcome {
        ends: vec![(count, vec!["heartbeat_timeout", "unacknowledged"])],
        ..Outcome::default()
    }
}
