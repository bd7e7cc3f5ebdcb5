//! HTTP heads and upgrades: the page's examples, every split, and the responses as an independent
//! reader sees them.

use corebeat::base::limits::{HTTP_FIELDS_MAX, HTTP_HEAD_BYTES};
use corebeat::wire::http::{
    Asset, ETag, Endpoint, Exchange, HttpError, Method, Origins, Refusal, Request, Response,
    Status, Subprotocol, accept_key, append_asset, append_body, append_error, append_options,
    append_refusal, append_response, append_switching, append_text, request, upgrade,
};

use super::{EVERY, PAGE};

/// 6 November 1994, 08:49:37 UTC, which RFC 9110 section 5.6.7 has as its example.
const NOW_MS: u64 = 784_111_777_000;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\
                         Sec-WebSocket-Version: 13\r\n";

/// The page's heads: the words of the title, and the bytes.
fn heads() -> Vec<(Vec<&'static str>, Vec<u8>)> {
    let (_, rest) = PAGE.split_once("```http-heads\n").expect("the page has the block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let mut heads: Vec<(Vec<&str>, Vec<u8>)> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("    ") {
            Some(field) => {
                let head = &mut heads.last_mut().expect("a title comes first").1;
                head.extend_from_slice(field.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            None => heads.push((line.split_whitespace().collect(), Vec::new())),
        }
    }
    for (title, head) in &mut heads {
        if title[0] != "(more)" {
            head.extend_from_slice(b"\r\n");
        }
    }
    heads
}

/// What a server without an allow-list and without compression answers.
fn answered(bytes: &[u8]) -> (String, String) {
    let request = match request(bytes, HTTP_HEAD_BYTES) {
        Ok(None) => return ("(more)".to_owned(), String::new()),
        Err(error) => return ((error.status() as u16).to_string(), String::new()),
        Ok(Some((request, used))) => {
            assert_eq!(used, bytes.len());
            request
        }
    };
    let Some(endpoint) = Endpoint::of(request.path) else {
        return ("200".to_owned(), String::new());
    };
    match upgrade(&request, endpoint, &Origins::same(), false) {
        Err(refusal) => ((refusal.status() as u16).to_string(), String::new()),
        Ok(upgrade) => {
            let chosen = upgrade.chosen.map_or("-", Subprotocol::name);
            ("101".to_owned(), chosen.to_owned())
        }
    }
}

fn parsed(text: &str) -> Request<'_> {
    request(text.as_bytes(), HTTP_HEAD_BYTES).expect("good").expect("whole").0
}

fn refused(text: &str) -> HttpError {
    request(text.as_bytes(), HTTP_HEAD_BYTES).expect_err("refused")
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A response, taken apart without the server's code: its status, its fields, and the rest.
struct Seen {
    status: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn of(bytes: &[u8]) -> Seen {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).expect("ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a field");
            assert!(!line.contains(['\r', '\n']));
            (name.to_owned(), value.to_owned())
        });
        Seen { status, fields: fields.collect(), body: bytes[end + 4..].to_vec() }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[test]
fn every_head_is_answered_as_the_page_has_it() {
    let heads = heads();
    assert!(heads.len() > 25, "the page has the block");
    for (title, head) in heads {
        let (status, chosen) = answered(&head);
        assert_eq!(status, title[0], "{title:?}");
        if status == "101" {
            assert_eq!(chosen, title[1], "{title:?}");
        }
    }
}

#[test]
fn a_head_asks_for_more_until_it_is_whole_and_takes_nothing_behind_it() {
    for (title, head) in heads() {
        let refused = !matches!(title[0], "101" | "426" | "403" | "405");
        for split in (0..head.len()).step_by(EVERY) {
            match request(&head[..split], HTTP_HEAD_BYTES) {
                Ok(None) => {}
                Err(_) if refused => {}
                other => panic!("{split} bytes of {title:?}: {other:?}"),
            }
        }
        let longer = [&head[..], b"GET / HTTP/1.1\r\n"].concat();
        let used = |bytes| request(bytes, HTTP_HEAD_BYTES).map(|found| found.map(|found| found.1));
        assert!(title[0] == "(more)" || used(&longer) == used(&head), "{title:?}");
    }
}

#[test]
fn a_wrong_head_never_becomes_right_by_more_bytes() {
    for (title, head) in heads() {
        let mut first = None;
        for split in (0..=head.len()).step_by(EVERY) {
            let outcome = request(&head[..split], HTTP_HEAD_BYTES).err();
            assert!(first.is_none() || first == outcome, "{split} bytes of {title:?}");
            first = first.or(outcome);
        }
    }
}

#[test]
fn the_accept_key_is_that_of_the_standard() {
    assert_eq!(&accept_key("dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let handshake = format!("{HANDSHAKE}\r\n");
    let request = parsed(&handshake);
    let upgrade = upgrade(&request, Endpoint::Chat, &Origins::same(), false).unwrap();
    assert_eq!(upgrade.subprotocol(), Subprotocol::Json);
    let mut out = Vec::new();
    append_switching(&mut out, &upgrade);
    let seen = Seen::of(&out);
    assert_eq!(seen.status, "101 Switching Protocols");
    assert_eq!(seen.field("Upgrade"), Some("websocket"));
    assert_eq!(seen.field("Connection"), Some("Upgrade"));
    assert_eq!(seen.field("Sec-WebSocket-Accept"), Some("C/0nmHhBztSRGR1CwL6Tf4ZjwpY="));
    assert_eq!(seen.field("Sec-WebSocket-Protocol"), None, "none was asked for");
    assert_eq!(seen.field("Sec-WebSocket-Extensions"), None);
    assert!(seen.body.is_empty());
}

#[test]
fn the_chosen_subprotocol_is_named() {
    for chosen in [Subprotocol::Json, Subprotocol::Bin] {
        let name = chosen.name();
        let handshake = format!("{HANDSHAKE}Sec-WebSocket-Protocol: x,\t{name} ,y\r\n\r\n");
        let request = parsed(&handshake);
        let upgrade = upgrade(&request, Endpoint::Chat, &Origins::same(), false).unwrap();
        assert_eq!(upgrade.subprotocol(), chosen);
        let mut out = Vec::new();
        append_switching(&mut out, &upgrade);
        assert_eq!(Seen::of(&out).field("Sec-WebSocket-Protocol"), Some(name));
    }
}

#[test]
fn extensions_are_looked_at_only_where_they_may_be_agreed_upon() {
    let handshake = format!("{HANDSHAKE}Sec-WebSocket-Extensions: ;;;\r\n\r\n");
    let request = parsed(&handshake);
    assert!(upgrade(&request, Endpoint::Chat, &Origins::same(), false).is_ok());
    let handshake = format!("{HANDSHAKE}Sec-WebSocket-Extensions: x-unknown; a=1\r\n\r\n");
    let request = parsed(&handshake);
    let agreed = upgrade(&request, Endpoint::Chat, &Origins::same(), true).unwrap();
    assert_eq!(agreed.deflate, None);
}

#[test]
fn every_refusal_is_a_whole_response_that_ends_the_connection() {
    for refusal in [
        Refusal::NotAsked,
        Refusal::Method,
        Refusal::HttpVersion,
        Refusal::Version,
        Refusal::Key,
        Refusal::Origin,
        Refusal::Subprotocol,
        Refusal::Extensions,
    ] {
        let mut out = Vec::new();
        append_refusal(&mut out, refusal, Exchange::last(NOW_MS));
        let seen = Seen::of(&out);
        let status = refusal.status();
        assert_eq!(seen.status, format!("{} {}", status as u16, status.phrase()));
        assert_eq!(seen.body, refusal.text().as_bytes());
        assert_eq!(seen.field("Content-Length"), Some(&seen.body.len().to_string()[..]));
        let closes = |(name, value): &(String, String)| name == "Connection" && value == "close";
        assert!(seen.fields.iter().any(closes));
        let version = (status == Status::UpgradeRequired).then_some("13");
        assert_eq!(seen.field("Sec-WebSocket-Version"), version);
        assert_eq!(seen.field("Allow"), (refusal == Refusal::Method).then_some("GET"));
        if refusal == Refusal::Subprotocol {
            assert!(refusal.text().contains(Subprotocol::Json.name()));
            assert!(refusal.text().contains(Subprotocol::Bin.name()));
        }
    }
}

#[test]
fn every_error_is_a_whole_response_that_ends_the_connection() {
    for (error, status) in [
        (HttpError::Malformed, 400),
        (HttpError::Target, 400),
        (HttpError::Host, 400),
        (HttpError::Length, 400),
        (HttpError::Method, 405),
        (HttpError::Body, 413),
        (HttpError::TargetTooLong, 414),
        (HttpError::HeadTooLarge, 431),
        (HttpError::UnknownMethod, 501),
        (HttpError::TransferEncoding, 501),
        (HttpError::Version, 505),
    ] {
        let mut out = Vec::new();
        append_error(&mut out, error, Exchange::last(NOW_MS));
        let seen = Seen::of(&out);
        assert!(seen.status.starts_with(&format!("{status} ")), "{}", seen.status);
        assert_eq!(seen.body, error.text().as_bytes());
        assert_eq!(seen.body.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        assert_eq!(seen.field("Content-Length"), Some(&seen.body.len().to_string()[..]));
        assert_eq!(seen.field("Connection"), Some("close"));
        assert_eq!(seen.field("Date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        let allow = (error == HttpError::Method).then_some("GET, HEAD, OPTIONS");
        assert_eq!(seen.field("Allow"), allow);
    }
}

#[test]
fn a_head_that_is_refused_is_answered_without_a_body() {
    let last = Exchange::last(NOW_MS);
    for (bytes, head_only) in [
        (&b"HEAD / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"[..], true),
        (b"\r\n\r\nHEAD / HTTP/2.0\r\n\r\n", true),
        (b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", false),
        (b"HEADER / HTTP/1.1\r\n\r\n", false),
        (b"\r\n", false),
        (b"", false),
    ] {
        assert_eq!(Exchange::last_to(bytes, NOW_MS), Exchange { head_only, ..last });
    }
    let mut out = Vec::new();
    append_error(&mut out, HttpError::Body, Exchange { head_only: true, ..last });
    append_refusal(&mut out, Refusal::Method, Exchange { head_only: true, ..last });
    let heads = String::from_utf8(out).unwrap();
    let all: Vec<&str> = heads.split_terminator("\r\n\r\n").collect();
    assert_eq!(all.len(), 2, "{heads}");
    for (head, text) in all.iter().zip([HttpError::Body.text(), Refusal::Method.text()]) {
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", text.len())), "{head}");
    }
}

#[test]
fn a_head_of_the_limit_is_taken_and_a_byte_more_is_not() {
    let head = |bytes: usize| {
        let rest = get("A: \r\n").len();
        get(&format!("A: {}\r\n", "a".repeat(bytes - rest)))
    };
    let exact = head(HTTP_HEAD_BYTES);
    assert_eq!(exact.len(), HTTP_HEAD_BYTES);
    assert_eq!(request(exact.as_bytes(), HTTP_HEAD_BYTES).unwrap().unwrap().1, HTTP_HEAD_BYTES);
    let longer = head(HTTP_HEAD_BYTES + 1);
    assert_eq!(refused(&longer), HttpError::HeadTooLarge);
    assert_eq!(refused(&longer[..HTTP_HEAD_BYTES]), HttpError::HeadTooLarge, "told in time");
    let target = format!("GET /{}", "a".repeat(HTTP_HEAD_BYTES));
    assert_eq!(refused(&target), HttpError::TargetTooLong);
    assert_eq!(refused(&format!("\r\n{target}")), HttpError::TargetTooLong);
    assert_eq!(refused(&"\r\n".repeat(HTTP_HEAD_BYTES)), HttpError::HeadTooLarge);
}

#[test]
fn as_many_fields_as_the_limit_are_taken_and_one_more_is_not() {
    let fields = |count: usize| get(&"A: b\r\n".repeat(count));
    assert_eq!(parsed(&fields(HTTP_FIELDS_MAX - 1)).values("a").count(), HTTP_FIELDS_MAX - 1);
    assert_eq!(refused(&fields(HTTP_FIELDS_MAX)), HttpError::HeadTooLarge);
}

#[test]
fn a_target_is_taken_apart_in_all_its_forms() {
    let target = |method: &str, target: &str| {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a:1\r\n\r\n");
        request(text.as_bytes(), HTTP_HEAD_BYTES).map(|found| {
            let request = found.expect("whole").0;
            let parts = [Some(request.path), request.query, request.authority];
            parts.map(|part| part.unwrap_or("-").to_owned())
        })
    };
    let is = |found: Result<[String; 3], HttpError>, parts: [&str; 3]| {
        assert_eq!(found.unwrap(), parts);
    };
    is(target("GET", "/"), ["/", "-", "a:1"]);
    is(target("GET", "/a/b?c=d?e"), ["/a/b", "c=d?e", "a:1"]);
    is(target("GET", "/?"), ["/", "", "a:1"]);
    is(target("GET", "http://B.example/ws?x"), ["/ws", "x", "B.example"]);
    is(target("GET", "HTTPS://b:443"), ["/", "-", "b:443"]);
    is(target("GET", "http://b?x"), ["/", "x", "b"]);
    is(target("OPTIONS", "*"), ["*", "-", "a:1"]);
    for wrong in ["*", "a", "/a#b", "http://", "http:///a", "ftp://a/", "//\u{7F}"] {
        assert!(target("GET", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn keep_alive_is_what_the_version_and_the_client_say() {
    let keeps = |version: &str, connection: &str| {
        parsed(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n")).keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(keeps("1.1", "Connection: Upgrade\r\n"));
    assert!(!keeps("1.1", "Connection: Close\r\n"));
    assert!(!keeps("1.1", "Connection: x, close\r\nConnection: keep-alive\r\n"));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
    assert!(!parsed("GET / HTTP/1.0\r\n\r\n").is_1_1);
    assert_eq!(parsed("GET / HTTP/1.0\r\n\r\n").authority, None);
}

#[test]
fn fields_are_found_without_regard_to_case_and_lists_over_several_lines() {
    let text = get("X-List: a ,\tb\r\nx-LIST: ,, c\r\nX-Other: d\r\nX-Bytes: \u{e9}\r\n");
    let request = parsed(&text);
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.list("x-list").collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(request.values("X-LIST").count(), 2);
    assert_eq!(request.sole("x-list"), None);
    assert_eq!(request.sole("x-other"), Some("d"));
    assert_eq!(request.sole("x-none"), None);
    assert_eq!(request.values_of_bytes("x-bytes").next(), Some("\u{e9}".as_bytes()));
}

#[test]
fn an_origin_is_let_in_where_it_is_the_servers_own_or_on_the_list() {
    let same = Origins::same();
    let own = |origin: &str, host: &str| same.admits(Some(origin), Some(host));
    assert!(same.admits(None, Some("a")), "no browser");
    assert!(own("http://a", "a") && own("http://a:80", "a") && own("http://a", "a:80"));
    assert!(own("https://a", "a") && own("https://a", "a:443") && own("HTTPS://A:443", "a"));
    assert!(own("http://127.0.0.1:8080", "127.0.0.1:8080"));
    assert!(own("http://[::1]:8080", "[::1]:8080"));
    assert!(!own("http://a", "a:443") && !own("https://a", "a:80") && !own("http://a:8080", "a"));
    assert!(!own("http://a.evil", "a") && !own("http://evil", "a") && !own("http://a@evil", "a"));
    assert!(!own("null", "a") && !own("", "") && !own("http://", "") && !own("a", "a"));
    assert!(!own("http://a:99999", "a:99999") && !own("http://a/", "a"));
    assert!(!same.admits(Some("http://a"), None));

    let mut listed = Origins::same();
    listed.allow("https://Chat.example").unwrap();
    listed.allow("http://b:8080").unwrap();
    let lets = |origin| listed.admits(Some(origin), Some("a"));
    assert!(lets("https://chat.example") && lets("https://chat.example:443") && lets("http://a"));
    assert!(lets("http://b:8080") && !lets("http://b") && !lets("https://b:8080"));
    assert!(!lets("http://chat.example") && !lets("https://x.chat.example") && !lets("null"));
    listed.allow("null").unwrap();
    assert!(listed.admits(Some("null"), Some("a")));
    for wrong in ["", "chat.example", "https://", "https://a/path", "https://a:b", "https://a b"] {
        assert!(listed.allow(wrong).is_err(), "{wrong}");
    }
    listed.allow("*").unwrap();
    assert!(listed.admits(Some("http://anywhere"), None) && listed.admits(Some("null"), None));
}

#[test]
fn two_origins_are_no_origin() {
    let twice = format!("{HANDSHAKE}Origin: http://a\r\nOrigin: http://a\r\n\r\n");
    let outcome = upgrade(&parsed(&twice), Endpoint::Chat, &Origins::same(), false);
    assert_eq!(outcome, Err(Refusal::Origin));
    let bytes = [HANDSHAKE.as_bytes(), b"Origin: \xFF\r\n\r\n"].concat();
    let (request, _) = request(&bytes, HTTP_HEAD_BYTES).unwrap().unwrap();
    let outcome = upgrade(&request, Endpoint::Chat, &Origins::same(), false);
    assert_eq!(outcome, Err(Refusal::Origin), "an origin that is not UTF-8 is one");
}

const ASSET: Asset = Asset { path: "/page.js", content_type: "text/javascript", bytes: b"let a;" };

fn fetched(text: &str) -> (Seen, bool) {
    let request = parsed(text);
    let mut out = Vec::new();
    let follows = append_asset(&mut out, &request, &ASSET, Exchange::of(&request, NOW_MS));
    (Seen::of(&out), follows)
}

#[test]
fn an_asset_is_sent_once_and_then_known_by_its_tag() {
    let (seen, follows) = fetched(&get(""));
    assert!(follows);
    assert_eq!(seen.status, "200 OK");
    assert_eq!(seen.field("Content-Type"), Some(ASSET.content_type));
    assert_eq!(seen.field("Content-Length"), Some("6"));
    assert_eq!(seen.field("Connection"), None, "it goes on");
    assert_eq!(seen.field("X-Content-Type-Options"), Some("nosniff"));
    let policy = seen.field("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"));
    let tag = seen.field("ETag").unwrap();
    assert_eq!(tag, ETag::of(ASSET.bytes).as_str());
    assert_ne!(tag, ETag::of(b"let b;").as_str());

    for known in [tag, &format!("W/{tag}"), &format!("\"x\" , {tag}"), "*"] {
        let (seen, follows) = fetched(&get(&format!("If-None-Match: {known}\r\n")));
        assert!(!follows);
        assert_eq!(seen.status, "304 Not Modified");
        assert_eq!(seen.field("ETag"), Some(tag));
        assert_eq!(seen.field("Content-Length"), None);
        assert!(seen.body.is_empty());
    }
    for unknown in ["\"x\"", &tag[1..], ""] {
        let (seen, follows) = fetched(&get(&format!("If-None-Match: {unknown}\r\n")));
        assert!(follows && seen.status == "200 OK", "{unknown}");
    }
    let (seen, follows) = fetched("HEAD /page.js HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!follows, "HEAD");
    assert_eq!(seen.field("Content-Length"), Some("6"));
}

#[test]
fn a_response_to_head_has_the_length_and_not_the_body() {
    let head = parsed("HEAD / HTTP/1.0\r\n\r\n");
    let exchange = Exchange::of(&head, NOW_MS);
    let mut out = Vec::new();
    append_text(&mut out, Status::Ok, "ok\n", exchange);
    let seen = Seen::of(&out);
    assert_eq!(seen.field("Content-Length"), Some("3"));
    assert_eq!(seen.field("Cache-Control"), Some("no-store"));
    assert_eq!(seen.field("Connection"), Some("close"), "HTTP/1.0");
    assert!(seen.body.is_empty());

    let mut out = Vec::new();
    let exchange = Exchange { head_only: false, keep_alive: true, ..exchange };
    append_body(&mut out, Status::Ok, "application/json", b"{}", exchange);
    let seen = Seen::of(&out);
    assert_eq!(seen.body, b"{}");
    assert_eq!(seen.field("Connection"), None);
}

#[test]
fn options_tells_what_can_be_done_and_has_no_body() {
    let mut out = Vec::new();
    let request = parsed("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    append_options(&mut out, Exchange::of(&request, NOW_MS));
    let seen = Seen::of(&out);
    assert_eq!(seen.status, "204 No Content");
    assert_eq!(seen.field("Allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(seen.field("Content-Length"), None);
}

#[test]
fn dates_are_right_in_leap_years_and_centuries() {
    for (seconds, date) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
        (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
        (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
    ] {
        let mut out = Vec::new();
        let response = Response { status: Status::Ok, content_type: "", length: 0, fields: &[] };
        append_response(&mut out, &response, Exchange::last(seconds * 1_000 + 999));
        assert_eq!(Seen::of(&out).field("Date"), Some(date));
    }
}
