//! What HTTP requests get.
//!
//! Owns the routes: `/ws` and `/echo` become WebSockets, `/healthz`, `/readyz`, `/stats` and the
//! built-in files are answered; how one connection asks for several things; and when it is closed.
//! Never reads or writes HTTP itself ([`wire::http`](mod@crate::wire::http) does). Called by the
//! [`intake`](super::intake).
//!
//! Requests of one connection are answered in their order. One that asks for all shards' numbers
//! leaves those behind it unread until it is answered, and one that becomes a WebSocket waits until
//! the responses before it are out, because from then on urgent frames overtake what waits.

use crate::base::counters::CloseReason;
use crate::base::gcra::TooFast;
use crate::base::ids::{ConnId, ShardId};
use crate::base::limits::{HTTP_HEAD_BYTES, REFUSED_PAUSE_MS, STATS_ASKERS_MAX};
use crate::base::time::{Now, Tick};
use crate::wire::http::{
    self, Endpoint, Exchange, HttpError, Method, Refusal, Request, Status, Subprotocol, Upgrade,
    append_retry,
};

use super::dialect::Dialect;
use super::drain::Readiness;
use super::intake::Step;
use super::session::{Compression, Marks, State};
use super::shard::Shard;

const HEALTH_PATH: &str = "/healthz";
const READY_PATH: &str = "/readyz";
const STATS_PATH: &str = "/stats";

impl Shard {
    /// Answers the request at the head of `bytes`.
    #[inline(never)]
    pub(super) fn step_request(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let (request, used) = match http::request(bytes, HTTP_HEAD_BYTES) {
            Ok(None) => return Step::Wait,
            Ok(Some(found)) => found,
            Err(error) => return self.refuse_unseen(conn, bytes, error, now),
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Over;
        };
        let endpoint = Endpoint::of(request.path);
        if endpoint.is_some() && session.outbox.is_some() {
            session.marks.set(Marks::PAUSED);
            return Step::Wait;
        }
        session.heard(now.mono);
        if session.state == State::AwaitingRequest {
            session.state = State::Browsing;
            self.arm_at(conn, now, now.mono + self.limits.handshake_timeout_ms);
        }
        let is_probe = [HEALTH_PATH, READY_PATH].contains(&request.path);
        if !is_probe && self.refuses_request(conn, &request, endpoint, now) {
            return Step::Over;
        }
        let too_fast = self.pay_message(conn, now).err();
        match (endpoint, too_fast) {
            (Some(endpoint), _) => self.open_websocket(conn, &request, endpoint, now),
            (None, Some(too_fast)) => self.answer_later(conn, &request, too_fast, now),
            (None, None) => self.answer(conn, &request, now),
        }
        Step::Used(used)
    }

    /// Answers a request that came too early, and leaves those behind it unread for a while.
    #[cold]
    fn answer_later(&mut self, conn: ConnId, request: &Request<'_>, too_fast: TooFast, now: Now) {
        let exchange = self.exchange(conn, request, now);
        let text = self.hasty_text(too_fast.wait_ms) + "\n";
        self.counters.limited_messages += 1;
        self.counters.http_refused += 1;
        let (status, after_ms) = (Status::TooManyRequests, too_fast.wait_ms);
        let refusal = |out: &mut Vec<u8>| append_retry(out, status, &text, after_ms, exchange);
        self.respond(conn, exchange, refusal);
        self.slow_down(conn, after_ms.min(REFUSED_PAUSE_MS), now);
    }

    /// What a response owes to its request. Whoever is held to be refused gets one.
    fn exchange(&self, conn: ConnId, request: &Request<'_>, now: Now) -> Exchange {
        let mut exchange = Exchange::of(request, now.wall_ms);
        let is_held = !self.sessions.held.is_empty() && self.sessions.held.contains_key(&conn);
        exchange.keep_alive &= request.is_1_1 && self.drain.is_none() && !is_held;
        exchange
    }

    fn answer(&mut self, conn: ConnId, request: &Request<'_>, now: Now) {
        let exchange = self.exchange(conn, request, now);
        let asset = self.web.assets.iter().find(|asset| asset.path == request.path);
        match (request.method, request.path, asset) {
            (Method::Options, ..) => {
                self.respond(conn, exchange, |out| http::append_options(out, exchange));
                self.counters.http_served += 1;
            }
            (_, HEALTH_PATH, _) => self.respond_text(conn, Status::Ok, "ok\n", exchange),
            (_, READY_PATH, _) => self.tell_readiness(conn, exchange),
            (_, STATS_PATH, _) if self.web.numbers => self.ask_stats(conn, exchange, now),
            (_, _, Some(asset)) => {
                let mut sends_body = false;
                self.respond(conn, exchange, |out| {
                    sends_body = http::append_asset(out, request, asset, exchange);
                });
                let outbox = self.sessions.get_mut(conn).and_then(|s| s.outbox.as_mut());
                if let Some(outbox) = outbox.filter(|_| sends_body) {
                    outbox.push_static(asset.bytes);
                }
                self.counters.http_served += 1;
            }
            _ => self.respond_text(conn, Status::NotFound, "not found\n", exchange),
        }
    }

    /// Tells a load balancer whether to send clients here.
    fn tell_readiness(&mut self, conn: ConnId, exchange: Exchange) {
        let (status, text) = match self.readiness {
            Readiness::Ready if self.strain.somewhere => {
                (Status::ServiceUnavailable, "overloaded\n")
            }
            Readiness::Ready => (Status::Ok, "ready\n"),
            Readiness::Starting => (Status::ServiceUnavailable, "starting\n"),
            Readiness::Draining => (Status::ServiceUnavailable, "draining\n"),
        };
        self.respond_text(conn, status, text, exchange);
    }

    fn respond_text(&mut self, conn: ConnId, status: Status, text: &str, exchange: Exchange) {
        match status {
            Status::Ok => self.counters.http_served += 1,
            _ => self.counters.http_refused += 1,
        }
        self.respond(conn, exchange, |out| http::append_text(out, status, text, exchange));
    }

    /// Queues a response, or its head. What waits for one connection needs no bound here: the next
    /// request is not looked at before most of it is out, and a built-in file takes no memory.
    fn respond(&mut self, conn: ConnId, exchange: Exchange, response: impl FnOnce(&mut Vec<u8>)) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.outbox(&mut self.outboxes).push_own(&mut self.outboxes, response);
        session.marks.set(Marks::FETCHING);
        if !exchange.keep_alive {
            session.marks.set(Marks::LEAVING);
        }
        self.mark_dirty(conn);
    }

    /// All responses so far are with the kernel.
    pub(super) fn all_fetched(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.marks.clear(Marks::FETCHING);
        if session.state != State::Browsing {
            return;
        }
        if session.marks.has(Marks::LEAVING) {
            self.close(conn, CloseReason::Served, None, now);
        } else if session.marks.has(Marks::ENDED) {
            self.close(conn, CloseReason::PeerClosed, None, now);
        }
    }

    /// Asks all shards for their numbers. Until they have come, nothing more is read.
    fn ask_stats(&mut self, conn: ConnId, exchange: Exchange, now: Now) {
        let overloaded = (0..self.shards).any(|shard| self.is_overloaded(ShardId(shard)));
        if overloaded || self.gathering.waiting() >= STATS_ASKERS_MAX {
            return self.respond_text(conn, Status::ServiceUnavailable, "overloaded\n", exchange);
        }
        if self.gathering.waiting() == 0
            && let Some(after_ms) = self.withholds_statistics(now)
        {
            let text = "overloaded: the numbers are told less often\n";
            let status = Status::ServiceUnavailable;
            self.counters.http_refused += 1;
            let refusal = |out: &mut Vec<u8>| append_retry(out, status, text, after_ms, exchange);
            return self.respond(conn, exchange, refusal);
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.state = State::AwaitingNumbers;
        session.marks.set(Marks::RESUMING);
        if !exchange.keep_alive {
            session.marks.set(Marks::LEAVING);
        }
        self.gather_stats(conn, exchange.head_only, now);
    }

    /// The numbers have come: answers, and goes on with what the connection asked behind it.
    pub(super) fn serve_stats(&mut self, conn: ConnId, body: &[u8], head_only: bool, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.state != State::AwaitingNumbers {
            return;
        }
        session.state = State::Browsing;
        session.heard(now.mono);
        let ends = session.marks.has(Marks::LEAVING) || session.marks.has(Marks::ENDED);
        let exchange = Exchange { head_only, keep_alive: !ends, now_ms: now.wall_ms };
        let kind = "application/json";
        let whole = |out: &mut Vec<u8>| http::append_body(out, Status::Ok, kind, body, exchange);
        self.respond(conn, exchange, whole);
        self.counters.http_served += 1;
        self.go_on_after_answer(conn);
    }

    /// A request that cannot be understood. Where the next one would begin is not known.
    fn refuse_unseen(&mut self, conn: ConnId, bytes: &[u8], error: HttpError, now: Now) -> Step {
        let reason = match error.status() {
            Status::BadRequest => CloseReason::Malformed,
            Status::ContentTooLarge | Status::UriTooLong | Status::HeaderFieldsTooLarge => {
                CloseReason::TooLarge
            }
            _ => CloseReason::Refused,
        };
        let exchange = Exchange::last_to(bytes, now.wall_ms);
        self.end_with(conn, reason, |out| http::append_error(out, error, exchange), now);
        Step::Over
    }

    /// The time for a request is over, with a part of it there or nothing.
    pub(super) fn time_out_request(&mut self, conn: ConnId, reason: CloseReason, now: Now) {
        let exchange = Exchange::last(now.wall_ms);
        let text = "the request came too late\n";
        let late = |out: &mut Vec<u8>| {
            http::append_text(out, Status::RequestTimeout, text, exchange);
        };
        self.end_with(conn, reason, late, now);
    }

    /// Ends a connection with a response to what was no good request.
    pub(super) fn end_with(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        response: impl FnOnce(&mut Vec<u8>),
        now: Now,
    ) {
        self.counters.http_refused += 1;
        self.respond(conn, Exchange::last(now.wall_ms), response);
        self.close(conn, reason, None, now);
    }

    /// The timer of an HTTP connection fired that was silent, neither asking nor reading, for so
    /// long.
    pub(super) fn expire_browsing(&mut self, conn: ConnId, silent_ms: u64, now: Now) {
        let timeout_ms = self.limits.handshake_timeout_ms;
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let left_ms = timeout_ms.saturating_sub(silent_ms);
        if left_ms > 0 {
            self.arm_at(conn, now, now.mono + left_ms);
        } else if session.state == State::AwaitingNumbers {
            self.arm_at(conn, now, now.mono + timeout_ms);
        } else if session.outbox.is_some() {
            self.close(conn, CloseReason::SlowReader, None, now);
        } else if session.input.is_some() {
            self.time_out_request(conn, CloseReason::HandshakeTimeout, now);
        } else {
            self.close(conn, CloseReason::HttpIdle, None, now);
        }
    }

    /// Makes a WebSocket of a connection that asks for one, or refuses.
    fn open_websocket(
        &mut self,
        conn: ConnId,
        request: &Request<'_>,
        endpoint: Endpoint,
        now: Now,
    ) {
        if request.method == Method::Options {
            return self.answer(conn, request, now);
        }
        match http::upgrade(request, endpoint, &self.web.origins, self.web.deflate) {
            Ok(upgrade) => self.switch(conn, upgrade, now),
            Err(refusal) => self.refuse_upgrade(conn, request, refusal, now),
        }
    }

    fn refuse_upgrade(&mut self, conn: ConnId, request: &Request<'_>, refusal: Refusal, now: Now) {
        self.counters.upgrades_refused += 1;
        let exchange = Exchange { keep_alive: false, ..Exchange::of(request, now.wall_ms) };
        let response = |out: &mut Vec<u8>| http::append_refusal(out, refusal, exchange);
        self.end_with(conn, CloseReason::Refused, response, now);
    }

    pub(super) fn switch(&mut self, conn: ConnId, mut upgrade: Upgrade, now: Now) {
        // What goes to many is compressed once, for the usual window: a client that reads with a
        // smaller one is not compressed for. To an echo nothing is sent compressed.
        upgrade.deflate = upgrade
            .deflate
            .filter(|agreed| upgrade.endpoint == Endpoint::Echo || agreed.may_compress(usize::MAX));
        let compression = match upgrade.deflate {
            Some(_) => Compression::Deflate,
            None => Compression::Off,
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.state = match (upgrade.endpoint, upgrade.subprotocol(), compression) {
            (Endpoint::Echo, ..) => State::Echo(compression),
            (_, Subprotocol::Json, Compression::Off) => State::AwaitingHello(Dialect::Json),
            (_, Subprotocol::Json, _) => State::AwaitingHello(Dialect::JsonDeflate),
            (_, Subprotocol::Bin, Compression::Off) => State::AwaitingHello(Dialect::Bin),
            (_, Subprotocol::Bin, _) => State::AwaitingHello(Dialect::BinDeflate),
        };
        // Its entry in the wheel was for the next request, which never comes.
        session.armed = Tick(0);
        session.heard(now.mono);
        let outbox = session.outbox(&mut self.outboxes);
        outbox.push_own(&mut self.outboxes, |out| http::append_switching(out, &upgrade));
        self.mark_dirty(conn);
        self.counters.upgrades += 1;
        match upgrade.endpoint {
            Endpoint::Chat => {
                let due = now.mono + self.limits.handshake_timeout_ms;
                self.agenda.await_hello(conn, now.mono, due);
            }
            Endpoint::Echo => {
                let tempo = self.policy.grant(0);
                self.sessions.get_mut(conn).expect("it was just there").tempo = tempo;
                self.level_first_ping(conn, now);
            }
        }
    }
}
